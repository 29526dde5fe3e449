/* fault_device.c -- counting operations, and what befalls them.
 *
 * An operation is counted, then fails, or is done by the cache or, where that is off, by the inner
 * device, without a lock. With the cache on, one lock makes operations one at a time, so that what
 * a seed decides depends on their order alone.
 *
 * Depends on: block_device.h, fault_cache.h, wait.h.   Used by: open.c, tests.
 */
#include "blockdev/fault_device.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "blockdev/block_range.h"
#include "blockdev/fault_cache.h"
#include "blockdev/fault_random.h"
#include "blockdev/wait.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

#define CACHE_BYTES_DEFAULT (UINT64_C(64) << 20)

enum {
    NS_PER_US = 1000,
    BLOCK_BITS = CUBBY_BLOCK_BYTES * 8,
    NO_KIND = FAULT_KIND_COUNT, /* an operation that cannot be armed */
};

struct fault_device {
    struct block_device device;
    struct block_device *inner;
    struct fault_plan plan;
    _Atomic uint64_t kind_operations[FAULT_KIND_COUNT];
    _Atomic uint64_t first_failure[FAULT_KIND_COUNT]; /* of kind_operations; 0: never */
    atomic_bool fails_once[FAULT_KIND_COUNT];
    _Atomic uint64_t operations;
    _Atomic uint64_t blocks_read;
    atomic_bool power_is_off;
    pthread_mutex_t lock;
    struct fault_cache *cache; /* NULL: off; guarded by lock */
};

static void lock_cache(struct fault_device *fault)
{
    if (fault->cache != NULL) {
        pthread_mutex_lock(&fault->lock);
    }
}

static void unlock_cache(struct fault_device *fault)
{
    if (fault->cache != NULL) {
        pthread_mutex_unlock(&fault->lock);
    }
}

/* Count one operation of a kind and return its fate: 0 or EIO. */
static int count_kind(struct fault_device *fault, unsigned kind)
{
    if (kind == NO_KIND) {
        return 0;
    }
    uint64_t operation = atomic_fetch_add(&fault->kind_operations[kind], 1) + 1;
    uint64_t first_failure = atomic_load(&fault->first_failure[kind]);
    if (first_failure == 0 || operation < first_failure) {
        return 0;
    }
    return operation == first_failure || !atomic_load(&fault->fails_once[kind]) ? EIO : 0;
}

/* Begin an operation; leave() ends it. *cut: power goes during it. */
static int enter(struct fault_device *fault, unsigned kind, bool *cut)
{
    if (fault->plan.delay_us > 0) {
        wait_until_ns(wait_now_ns() + (uint64_t)fault->plan.delay_us * NS_PER_US);
    }
    lock_cache(fault);
    uint64_t operation = atomic_fetch_add(&fault->operations, 1) + 1;
    *cut = false;
    if (atomic_load(&fault->power_is_off)) {
        return EIO;
    }
    *cut = operation == fault->plan.cut_at;
    return count_kind(fault, kind);
}

static void turn_power_off(struct fault_device *fault)
{
    bool was_off = atomic_exchange(&fault->power_is_off, true);
    if (!was_off && fault->cache != NULL) {
        fault_cache_cut(fault->cache, fault->plan.tear);
    }
}

static int leave(struct fault_device *fault, bool cut, int status)
{
    if (cut) {
        turn_power_off(fault);
        status = EIO;
    }
    unlock_cache(fault);
    return status;
}

/* 0, or why a cached write or discard would be refused by the inner device. */
static int check_change(const struct fault_device *fault, uint64_t lba, uint64_t block_count)
{
    return fault->plan.read_only ? EROFS : block_range_check(&fault->device, lba, block_count);
}

/* Turn a bit of the one block that the plan names, if it is among those just read. */
static void flip_if_planned(struct fault_device *fault, size_t block_count, uint8_t *buffer)
{
    uint64_t before = atomic_fetch_add(&fault->blocks_read, block_count);
    uint64_t flip_at = fault->plan.flip_at;
    if (flip_at <= before || flip_at - before > block_count) {
        return;
    }
    uint64_t state = fault->plan.seed ^ flip_at;
    uint64_t bit = fault_random_below(&state, BLOCK_BITS);
    buffer[(flip_at - before - 1) * CUBBY_BLOCK_BYTES + bit / 8] ^= (uint8_t)(1U << bit % 8);
}

static int read_blocks(struct fault_device *fault, uint64_t lba, size_t block_count, void *buffer)
{
    if (fault->cache == NULL) {
        return fault->inner->ops->read(fault->inner, lba, block_count, buffer);
    }
    CUBBY_ASSERT(block_range_is_aligned(buffer));
    int status = block_range_check(&fault->device, lba, block_count);
    return status != 0 ? status : fault_cache_read(fault->cache, lba, block_count, buffer);
}

static int fault_read(struct block_device *device, uint64_t lba, size_t block_count, void *buffer)
{
    struct fault_device *fault = (struct fault_device *)device;
    bool cut;
    int status = enter(fault, FAULT_READ, &cut);
    if (status == 0) {
        status = read_blocks(fault, lba, block_count, buffer);
    }
    if (status == 0) {
        flip_if_planned(fault, block_count, buffer);
    }
    return leave(fault, cut, status);
}

static int write_blocks(struct fault_device *fault, uint64_t lba, size_t block_count,
                        const void *buffer)
{
    if (fault->cache == NULL) {
        return fault->inner->ops->write(fault->inner, lba, block_count, buffer);
    }
    CUBBY_ASSERT(block_range_is_aligned(buffer));
    int status = check_change(fault, lba, block_count);
    return status != 0 ? status : fault_cache_write(fault->cache, lba, block_count, buffer);
}

static int fault_write(struct block_device *device, uint64_t lba, size_t block_count,
                       const void *buffer)
{
    struct fault_device *fault = (struct fault_device *)device;
    bool cut;
    int status = enter(fault, FAULT_WRITE, &cut);
    if (status == 0) {
        status = write_blocks(fault, lba, block_count, buffer);
    }
    return leave(fault, cut, status);
}

static int write_bytes_cached(struct fault_device *fault, uint64_t offset, size_t size,
                              const void *buffer)
{
    if (fault->cache == NULL) {
        return fault->inner->ops->write_cached(fault->inner, offset, size, buffer);
    }
    int status =
        fault->plan.read_only ? EROFS : block_range_check_bytes(&fault->device, offset, size);
    return status != 0 ? status : fault_cache_write_bytes(fault->cache, offset, size, buffer);
}

static int fault_write_cached(struct block_device *device, uint64_t offset, size_t size,
                              const void *buffer)
{
    struct fault_device *fault = (struct fault_device *)device;
    if (fault->inner->ops->write_cached == NULL) {
        return EOPNOTSUPP; /* with the cache on, too: what is above does as without a fault */
    }
    bool cut;
    int status = enter(fault, FAULT_WRITE, &cut);
    if (status == 0) {
        status = write_bytes_cached(fault, offset, size, buffer);
    }
    return leave(fault, cut, status);
}

static int fault_flush(struct block_device *device)
{
    struct fault_device *fault = (struct fault_device *)device;
    bool cut;
    int status = enter(fault, FAULT_FLUSH, &cut);
    if (status == 0 && !cut && fault->cache != NULL) {
        status = fault_cache_drain(fault->cache);
    }
    if (status == 0 && !cut) {
        status = fault->inner->ops->flush(fault->inner);
    }
    return leave(fault, cut, status);
}

static int discard_blocks(struct fault_device *fault, uint64_t lba, uint64_t block_count)
{
    if (fault->cache == NULL || fault->device.geometry.discard_granularity_blocks == 0) {
        return fault->inner->ops->discard(fault->inner, lba, block_count);
    }
    int status = check_change(fault, lba, block_count);
    return status != 0 ? status : fault_cache_discard(fault->cache, lba, block_count);
}

static int fault_discard(struct block_device *device, uint64_t lba, uint64_t block_count)
{
    struct fault_device *fault = (struct fault_device *)device;
    bool cut;
    int status = enter(fault, NO_KIND, &cut);
    if (status == 0) {
        status = discard_blocks(fault, lba, block_count);
    }
    return leave(fault, cut, status);
}

static int fault_resize(struct block_device *device, uint64_t block_count)
{
    struct fault_device *fault = (struct fault_device *)device;
    struct block_device *inner = fault->inner;
    lock_cache(fault);
    int status = atomic_load(&fault->power_is_off) ? EIO : inner->ops->resize(inner, block_count);
    block_range_resize(device, block_range_total(inner));
    if (status == 0 && fault->cache != NULL) {
        fault_cache_truncate(fault->cache, block_count);
    }
    unlock_cache(fault);
    return status;
}

static int fault_usage(struct block_device *device, struct block_usage *usage)
{
    struct fault_device *fault = (struct fault_device *)device;
    if (atomic_load(&fault->power_is_off)) {
        return EIO;
    }
    return fault->inner->ops->usage(fault->inner, usage);
}

/* Free the fault alone. What is cached goes to the inner device: it survives the process. */
static struct block_device *dismantle(struct fault_device *fault)
{
    struct block_device *inner = fault->inner;
    if (fault->cache != NULL) {
        /* A close has no way to report a failure; one who must know has flushed. */
        (void)fault_cache_drain(fault->cache);
        fault_cache_destroy(fault->cache);
    }
    pthread_mutex_destroy(&fault->lock);
    free(fault);
    return inner;
}

static void fault_close(struct block_device *device)
{
    struct fault_device *fault = (struct fault_device *)device;
    bool borrowed = fault->plan.borrow_inner;
    struct block_device *inner = dismantle(fault);
    if (!borrowed) {
        inner->ops->close(inner);
    }
}

static const struct block_device_ops fault_ops = {
    .read = fault_read,
    .write = fault_write,
    .write_cached = fault_write_cached,
    .flush = fault_flush,
    .discard = fault_discard,
    .resize = fault_resize,
    .usage = fault_usage,
    .queue_open = blocking_queue_open,
    .close = fault_close,
};

static struct fault_device *fault_of(struct block_device *device)
{
    CUBBY_ASSERT(device != NULL);
    CUBBY_ASSERT(device->ops == &fault_ops);
    return (struct fault_device *)device;
}

static void arm(struct block_device *device, enum fault_kind kind, uint64_t nth, bool once)
{
    struct fault_device *fault = fault_of(device);
    CUBBY_ASSERT((int)kind >= 0);
    CUBBY_ASSERT((int)kind < FAULT_KIND_COUNT);
    uint64_t operations = atomic_load(&fault->kind_operations[kind]);
    uint64_t last = UINT64_MAX - operations;
    atomic_store(&fault->fails_once[kind], once);
    atomic_store(&fault->first_failure[kind],
                 nth == 0 ? 0 : operations + (nth < last ? nth : last));
}

int fault_device_open_with(struct block_device *inner, const struct fault_plan *plan,
                           struct block_device **device)
{
    CUBBY_ASSERT(inner != NULL);
    CUBBY_ASSERT(plan != NULL);
    CUBBY_ASSERT(device != NULL);
    struct fault_device *fault = calloc(1, sizeof *fault);
    if (fault == NULL) {
        return ENOMEM;
    }
    if (plan->cache || plan->cut_at != 0 || plan->tear) {
        uint64_t bytes = plan->cache_bytes != 0 ? plan->cache_bytes : CACHE_BYTES_DEFAULT;
        int status = fault_cache_create(inner, bytes, plan->seed, &fault->cache);
        if (status != 0) {
            free(fault);
            return status;
        }
    }
    pthread_mutex_init(&fault->lock, NULL);
    fault->device.ops = &fault_ops;
    fault->device.geometry = inner->geometry;
    if (fault->cache != NULL) {
        fault->device.geometry.discard_zeroes = false; /* its cache answers anything */
    }
    if (plan->tear) {
        fault->device.geometry.atomic_write_bytes = 0;
    }
    fault->inner = inner;
    fault->plan = *plan;
    for (int kind = 0; kind < FAULT_KIND_COUNT; kind++) {
        arm(&fault->device, (enum fault_kind)kind, plan->nth_error[kind], plan->error_once);
    }
    *device = &fault->device;
    return 0;
}

int fault_device_open(struct block_device *inner, struct block_device **device)
{
    const struct fault_plan plan = {0};
    return fault_device_open_with(inner, &plan, device);
}

void fault_device_arm(struct block_device *device, enum fault_kind kind, uint64_t nth)
{
    arm(device, kind, nth, false);
}

void fault_device_arm_once(struct block_device *device, enum fault_kind kind, uint64_t nth)
{
    arm(device, kind, nth, true);
}

void fault_device_cut_power(struct block_device *device)
{
    struct fault_device *fault = fault_of(device);
    lock_cache(fault);
    turn_power_off(fault);
    unlock_cache(fault);
}

/* Change one bit of what the inner device holds. */
static int flip_inner_bit(struct block_device *inner, uint64_t lba, uint32_t bit)
{
    uint8_t *block = aligned_alloc(CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES);
    if (block == NULL) {
        return ENOMEM;
    }
    int status = inner->ops->read(inner, lba, 1, block);
    if (status == 0) {
        block[bit / 8] ^= (uint8_t)(1U << bit % 8);
        status = inner->ops->write(inner, lba, 1, block);
    }
    free(block);
    return status;
}

int fault_device_flip_bit(struct block_device *device, uint64_t lba, uint32_t bit)
{
    struct fault_device *fault = fault_of(device);
    CUBBY_ASSERT(bit < BLOCK_BITS);
    lock_cache(fault);
    int status = CUBBY_NOT_FOUND;
    if (fault->cache != NULL) {
        status = fault_cache_flip_bit(fault->cache, lba, bit);
    }
    if (status == CUBBY_NOT_FOUND) {
        status = flip_inner_bit(fault->inner, lba, bit);
    }
    unlock_cache(fault);
    return status;
}

void fault_device_stat(struct block_device *device, struct fault_stat *stat)
{
    struct fault_device *fault = fault_of(device);
    CUBBY_ASSERT(stat != NULL);
    lock_cache(fault);
    *stat = (struct fault_stat){
        .operations = atomic_load(&fault->operations),
        .cached_bytes = fault->cache != NULL ? fault_cache_bytes(fault->cache) : 0,
        .power_is_off = atomic_load(&fault->power_is_off),
    };
    unlock_cache(fault);
}

struct block_device *fault_device_release(struct block_device *device)
{
    return dismantle(fault_of(device));
}
