/* memory.c -- see memory.h. */
#include "engine/base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    GROWTH_STEP_BYTES = 65536,
};

static size_t round_up(size_t bytes, size_t step)
{
    return (bytes + step - 1) / step * step;
}

int reserved_array_open(struct reserved_array *array, size_t bytes)
{
    bytes = round_up(bytes, GROWTH_STEP_BYTES);
    void *data = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        return ENOMEM;
    }
    *array = (struct reserved_array){.data = data, .reserved_bytes = bytes};
    return 0;
}

int reserved_array_grow(struct reserved_array *array, size_t bytes)
{
    if (bytes <= array->usable_bytes) {
        return 0;
    }
    if (bytes > array->reserved_bytes) {
        return ENOMEM;
    }
    bytes = round_up(bytes, GROWTH_STEP_BYTES);
    if (mprotect(array->data, bytes, PROT_READ | PROT_WRITE) != 0) {
        return ENOMEM;
    }
    array->usable_bytes = bytes;
    return 0;
}

void reserved_array_close(struct reserved_array *array)
{
    if (array->data != NULL) {
        int status = munmap(array->data, array->reserved_bytes);
        CUBBY_ASSERT(status == 0);
    }
    *array = (struct reserved_array){0};
}

int aligned_buffer_extend(struct aligned_buffer *buffer, size_t kept_bytes, size_t bytes)
{
    CUBBY_ASSERT(kept_bytes <= buffer->capacity);
    if (bytes <= buffer->capacity) {
        return 0;
    }
    /* Doubling what is kept makes a buffer that grows piece by piece cost linear time. */
    bytes = round_up(bytes > 2 * kept_bytes ? bytes : 2 * kept_bytes, CUBBY_BLOCK_BYTES);
    uint8_t *data = aligned_alloc(CUBBY_BLOCK_BYTES, bytes);
    if (data == NULL) {
        return ENOMEM;
    }
    if (kept_bytes > 0) {
        memcpy(data, buffer->data, kept_bytes);
    }
    free(buffer->data);
    *buffer = (struct aligned_buffer){.data = data, .capacity = bytes};
    return 0;
}

int aligned_buffer_reserve(struct aligned_buffer *buffer, size_t bytes)
{
    return aligned_buffer_extend(buffer, 0, bytes);
}

void aligned_buffer_free(struct aligned_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct aligned_buffer){0};
}

void *growing_array_reserve(void *array, size_t *capacity, size_t count, size_t element_bytes)
{
    CUBBY_ASSERT(count > 0);
    if (count <= *capacity) {
        return array;
    }
    size_t larger_capacity = 2 * *capacity > count ? 2 * *capacity : count + 8;
    void *larger = realloc(array, larger_capacity * element_bytes);
    if (larger != NULL) {
        *capacity = larger_capacity;
    }
    return larger;
}
