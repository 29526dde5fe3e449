/* memory.h -- arrays that grow without moving, and arrays and aligned buffers that grow by moving.
 *
 * Depends on: cubby_assert.h.   Used by: engine/store.
 */
#ifndef CUBBY_MEMORY_H
#define CUBBY_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* An array whose address never changes, so that readers follow it without a lock. Address space is
 * reserved for the largest size; memory is made usable in steps and taken, zeroed, on first touch.
 */
struct reserved_array {
    void *data;
    size_t reserved_bytes;
    size_t usable_bytes; /* [0, usable_bytes) may be touched; guarded by the owner */
};

/* Reserve room for bytes (rounded up to pages), none of it usable yet. Returns 0 or ENOMEM. */
int reserved_array_open(struct reserved_array *array, size_t bytes);

/* Make at least bytes usable. Returns 0, or ENOMEM (also beyond what was reserved). */
int reserved_array_grow(struct reserved_array *array, size_t bytes);

/* Allowed on a zeroed struct. */
void reserved_array_close(struct reserved_array *array);

/* A buffer aligned to CUBBY_BLOCK_BYTES for direct I/O. */
struct aligned_buffer {
    uint8_t *data;
    size_t capacity; /* bytes */
};

/* Make room for at least bytes; the content is lost if it has to grow. Returns 0 or ENOMEM, and
 * then the old buffer stays. */
int aligned_buffer_reserve(struct aligned_buffer *buffer, size_t bytes);

/* As aligned_buffer_reserve, but the first kept_bytes stay as they are. */
int aligned_buffer_extend(struct aligned_buffer *buffer, size_t kept_bytes, size_t bytes);

/* Give memory back, to be used again or not. */
void aligned_buffer_free(struct aligned_buffer *buffer);

/* Make room in an array that malloc made (NULL at first, *capacity 0) for at least count elements;
 * it grows by doubling. Returns the array, which may have moved, or NULL if memory ran out: then
 * the old one stays. */
void *growing_array_reserve(void *array, size_t *capacity, size_t count, size_t element_bytes);

#endif
