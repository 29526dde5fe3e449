/* fault_device.c -- a device that fails when a test says so, and else passes on to the one inside.
 *
 * Each kind of operation is counted; from the armed count on it answers EIO and does not reach the
 * inner device. Its queues are blocking ones over itself, so that queued requests fail too.
 *
 * Depends on: block_device.h.   Used by: open.c, tests.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "blockdev/block_device.h"
#include "blockdev/block_range.h"
#include "engine/base/cubby_assert.h"

enum {
    FAULT_KIND_COUNT = FAULT_FLUSH + 1,
};

struct fault_device {
    struct block_device device;
    struct block_device *inner;
    _Atomic uint64_t operations[FAULT_KIND_COUNT];
    _Atomic uint64_t first_failure[FAULT_KIND_COUNT]; /* a count of operations; 0: never */
};

/* Count one operation and return its fate: 0 or EIO. */
static int count_operation(struct fault_device *fault, enum fault_kind kind)
{
    uint64_t operation = atomic_fetch_add(&fault->operations[kind], 1) + 1;
    uint64_t first_failure = atomic_load(&fault->first_failure[kind]);
    return first_failure != 0 && operation >= first_failure ? EIO : 0;
}

static int fault_read(struct block_device *device, uint64_t lba, size_t block_count, void *buffer)
{
    struct fault_device *fault = (struct fault_device *)device;
    int status = count_operation(fault, FAULT_READ);
    return status != 0 ? status : fault->inner->ops->read(fault->inner, lba, block_count, buffer);
}

static int fault_write(struct block_device *device, uint64_t lba, size_t block_count,
                       const void *buffer)
{
    struct fault_device *fault = (struct fault_device *)device;
    int status = count_operation(fault, FAULT_WRITE);
    return status != 0 ? status : fault->inner->ops->write(fault->inner, lba, block_count, buffer);
}

static int fault_flush(struct block_device *device)
{
    struct fault_device *fault = (struct fault_device *)device;
    int status = count_operation(fault, FAULT_FLUSH);
    return status != 0 ? status : fault->inner->ops->flush(fault->inner);
}

static int fault_discard(struct block_device *device, uint64_t lba, uint64_t block_count)
{
    struct block_device *inner = ((struct fault_device *)device)->inner;
    return inner->ops->discard(inner, lba, block_count);
}

static int fault_resize(struct block_device *device, uint64_t block_count)
{
    struct block_device *inner = ((struct fault_device *)device)->inner;
    int status = inner->ops->resize(inner, block_count);
    if (status == 0) {
        block_range_resize(device, block_count);
    }
    return status;
}

static int fault_usage(struct block_device *device, struct block_usage *usage)
{
    struct block_device *inner = ((struct fault_device *)device)->inner;
    return inner->ops->usage(inner, usage);
}

static void fault_close(struct block_device *device)
{
    struct fault_device *fault = (struct fault_device *)device;
    fault->inner->ops->close(fault->inner);
    free(fault);
}

static const struct block_device_ops fault_ops = {
    .read = fault_read,
    .write = fault_write,
    .flush = fault_flush,
    .discard = fault_discard,
    .resize = fault_resize,
    .usage = fault_usage,
    .queue_open = blocking_queue_open,
    .close = fault_close,
};

int fault_device_open(struct block_device *inner, struct block_device **device)
{
    CUBBY_ASSERT(inner != NULL);
    CUBBY_ASSERT(device != NULL);
    struct fault_device *fault = calloc(1, sizeof *fault);
    if (fault == NULL) {
        return ENOMEM;
    }
    fault->device.ops = &fault_ops;
    fault->device.geometry = inner->geometry;
    fault->inner = inner;
    *device = &fault->device;
    return 0;
}

void fault_device_arm(struct block_device *device, enum fault_kind kind, uint64_t nth)
{
    CUBBY_ASSERT(device != NULL);
    CUBBY_ASSERT(device->ops == &fault_ops);
    CUBBY_ASSERT((int)kind >= 0 && (int)kind < FAULT_KIND_COUNT);
    struct fault_device *fault = (struct fault_device *)device;
    uint64_t operations = atomic_load(&fault->operations[kind]);
    uint64_t last = UINT64_MAX - operations;
    atomic_store(&fault->first_failure[kind],
                 nth == 0 ? 0 : operations + (nth < last ? nth : last));
}
