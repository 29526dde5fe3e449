/* mem_device.c -- a device in memory, for tests and to measure the overhead of all above it.
 *
 * Sparse: a block takes memory from its first write to its discard. One state byte per block:
 *
 *   UNTOUCHED  --write-->  WRITTEN  --discard-->  DISCARDED  --write-->  WRITTEN
 *   reads as zeros         as written             as 0xDB bytes: nobody may rely on zeros
 *
 * A block and its state are guarded by the lock of its stripe, so each block is read and written
 * whole. A discard takes all stripes, in order, and gives the range back in one system call.
 *
 * Depends on: block_device.h.   Used by: open.c, tests.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "blockdev/block_device.h"
#include "blockdev/block_range.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    STRIPE_COUNT = 32,
    STRIPE_BYTES = 64, /* one cache line each */
    DISCARDED_BYTE = 0xdb,
};

enum block_state {
    UNTOUCHED = 0, /* what fresh memory holds */
    WRITTEN,
    DISCARDED,
};

struct stripe {
    _Alignas(STRIPE_BYTES) pthread_mutex_t lock;
};

struct mem_device {
    struct block_device device;
    size_t block_count;
    uint8_t *blocks;
    uint8_t *states;         /* enum block_state, one per block */
    uint64_t written_blocks; /* atomic */
    struct stripe stripes[STRIPE_COUNT];
};

static void read_block(struct mem_device *mem, uint64_t lba, uint8_t *buffer)
{
    pthread_mutex_t *lock = &mem->stripes[lba % STRIPE_COUNT].lock;
    pthread_mutex_lock(lock);
    switch ((enum block_state)mem->states[lba]) {
    case UNTOUCHED:
        memset(buffer, 0, CUBBY_BLOCK_BYTES);
        break;
    case WRITTEN:
        memcpy(buffer, mem->blocks + lba * CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES);
        break;
    case DISCARDED:
        memset(buffer, DISCARDED_BYTE, CUBBY_BLOCK_BYTES);
        break;
    }
    pthread_mutex_unlock(lock);
}

static void write_part(struct mem_device *mem, struct block_part part, const uint8_t *buffer)
{
    pthread_mutex_t *lock = &mem->stripes[part.lba % STRIPE_COUNT].lock;
    uint8_t *block = mem->blocks + part.lba * CUBBY_BLOCK_BYTES;
    pthread_mutex_lock(lock);
    if (mem->states[part.lba] == DISCARDED && part.size < CUBBY_BLOCK_BYTES) {
        /* The rest stays what read has shown of it. */
        memset(block, DISCARDED_BYTE, CUBBY_BLOCK_BYTES);
    }
    if (mem->states[part.lba] != WRITTEN) {
        mem->states[part.lba] = WRITTEN;
        __atomic_fetch_add(&mem->written_blocks, 1, __ATOMIC_RELAXED);
    }
    memcpy(block + part.start, buffer, part.size);
    pthread_mutex_unlock(lock);
}

static int mem_read(struct block_device *device, uint64_t lba, size_t block_count, void *buffer)
{
    struct mem_device *mem = (struct mem_device *)device;
    CUBBY_ASSERT(block_range_is_aligned(buffer));
    int status = block_range_check(device, lba, block_count);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < block_count; i++) {
        read_block(mem, lba + i, (uint8_t *)buffer + i * CUBBY_BLOCK_BYTES);
    }
    return 0;
}

static int mem_write(struct block_device *device, uint64_t lba, size_t block_count,
                     const void *buffer)
{
    struct mem_device *mem = (struct mem_device *)device;
    CUBBY_ASSERT(block_range_is_aligned(buffer));
    int status = block_range_check(device, lba, block_count);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < block_count; i++) {
        struct block_part whole = {.lba = lba + i, .size = CUBBY_BLOCK_BYTES};
        write_part(mem, whole, (const uint8_t *)buffer + i * CUBBY_BLOCK_BYTES);
    }
    return 0;
}

static int mem_write_cached(struct block_device *device, uint64_t offset, size_t size,
                            const void *buffer)
{
    struct mem_device *mem = (struct mem_device *)device;
    int status = block_range_check_bytes(device, offset, size);
    if (status != 0) {
        return status;
    }
    for (size_t done = 0; done < size;) {
        struct block_part part = block_range_first_part(offset + done, size - done);
        write_part(mem, part, (const uint8_t *)buffer + done);
        done += part.size;
    }
    return 0;
}

static int mem_flush(struct block_device *device)
{
    (void)device;
    return 0;
}

static int mem_discard(struct block_device *device, uint64_t lba, uint64_t block_count)
{
    struct mem_device *mem = (struct mem_device *)device;
    int status = block_range_check(device, lba, block_count);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        pthread_mutex_lock(&mem->stripes[i].lock);
    }
    uint64_t freed_blocks = 0;
    for (uint64_t i = 0; i < block_count; i++) {
        freed_blocks += mem->states[lba + i] == WRITTEN;
    }
    memset(mem->states + lba, DISCARDED, block_count);
    madvise(mem->blocks + lba * CUBBY_BLOCK_BYTES, block_count * CUBBY_BLOCK_BYTES, MADV_DONTNEED);
    __atomic_fetch_sub(&mem->written_blocks, freed_blocks, __ATOMIC_RELAXED);
    for (size_t i = STRIPE_COUNT; i > 0; i--) {
        pthread_mutex_unlock(&mem->stripes[i - 1].lock);
    }
    return 0;
}

static int mem_resize(struct block_device *device, uint64_t block_count)
{
    (void)device;
    (void)block_count;
    return EINVAL;
}

static int mem_usage(struct block_device *device, struct block_usage *usage)
{
    struct mem_device *mem = (struct mem_device *)device;
    uint64_t bytes = __atomic_load_n(&mem->written_blocks, __ATOMIC_RELAXED) * CUBBY_BLOCK_BYTES;
    *usage = (struct block_usage){
        .source = "memory",
        .logical_bytes = bytes,
        .physical_bytes = bytes,
        .capacity_bytes = (uint64_t)mem->block_count * CUBBY_BLOCK_BYTES,
    };
    return 0;
}

static void mem_close(struct block_device *device)
{
    struct mem_device *mem = (struct mem_device *)device;
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        pthread_mutex_destroy(&mem->stripes[i].lock);
    }
    munmap(mem->states, mem->block_count);
    munmap(mem->blocks, mem->block_count * CUBBY_BLOCK_BYTES);
    free(mem);
}

static const struct block_device_ops mem_ops = {
    .read = mem_read,
    .write = mem_write,
    .write_cached = mem_write_cached,
    .flush = mem_flush,
    .discard = mem_discard,
    .resize = mem_resize,
    .usage = mem_usage,
    .queue_open = blocking_queue_open,
    .close = mem_close,
};

/* Memory that costs nothing before it is written. NULL if there is none. */
static uint8_t *map_sparse(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    /* A huge page would take 2 MiB for the first block written in it. */
    madvise(memory, size, MADV_NOHUGEPAGE);
    return memory;
}

int mem_device_open(uint64_t block_count, struct block_device **device)
{
    CUBBY_ASSERT(device != NULL);
    if (block_count == 0 || block_count > SIZE_MAX / CUBBY_BLOCK_BYTES) {
        return EINVAL;
    }
    struct mem_device *mem = aligned_alloc(STRIPE_BYTES, sizeof *mem);
    if (mem == NULL) {
        return ENOMEM;
    }
    memset(mem, 0, sizeof *mem);
    mem->block_count = (size_t)block_count;
    mem->blocks = map_sparse(mem->block_count * CUBBY_BLOCK_BYTES);
    if (mem->blocks == NULL) {
        goto free_device;
    }
    mem->states = map_sparse(mem->block_count);
    if (mem->states == NULL) {
        goto unmap_blocks;
    }
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        pthread_mutex_init(&mem->stripes[i].lock, NULL);
    }
    mem->device.ops = &mem_ops;
    mem->device.geometry = (struct block_geometry){
        .block_count = block_count,
        .atomic_write_bytes = CUBBY_BLOCK_BYTES,
        .discard_granularity_blocks = 1,
    };
    *device = &mem->device;
    return 0;

unmap_blocks:
    munmap(mem->blocks, mem->block_count * CUBBY_BLOCK_BYTES);
free_device:
    free(mem);
    return ENOMEM;
}
