/* crash_device.c -- see crash_device.h. */
#include "tests/c/crash_device.h"

#include <errno.h>
#include <stdlib.h>

#include "blockdev/fault_random.h"
#include "engine/base/checksum.h"
#include "engine/cubby.h"
#include "tests/c/check.h"

struct crash_device {
    struct block_device device;
    struct block_device *fault;
    struct crash_watch *watch;
};

enum operation {
    OPERATION_READ,
    OPERATION_WRITE,
    OPERATION_FLUSH,
    OPERATION_DISCARD,
};

static struct crash_device *crash_of(struct block_device *device)
{
    return (struct crash_device *)(void *)device;
}

void crash_device_crash(struct crash_watch *watch, enum crash_kind kind)
{
    CHECK(kind != CRASH_NONE);
    CHECK(watch->fault != NULL);
    if (watch->happened != CRASH_NONE) {
        return;
    }
    watch->happened = kind;
    if (kind == CRASH_POWER) {
        fault_device_cut_power(watch->fault);
    }
}

/* Count an operation. Returns whether the crash is to happen during it. */
static bool begin(struct crash_watch *watch, enum operation operation, uint64_t lba,
                  uint64_t block_count)
{
    watch->operations++;
    watch->changes += operation != OPERATION_READ;
    watch->trace = crash_mix(watch->trace, (uint64_t)operation << 60 | block_count << 32 | lba);
    return watch->happened == CRASH_NONE && watch->planned != CRASH_NONE &&
           watch->operations == watch->planned_operation;
}

/* Whether the process that would have done this is dead. */
static bool is_dead(const struct crash_watch *watch)
{
    return watch->happened == CRASH_KILL;
}

static int crash_read(struct block_device *device, uint64_t lba, size_t block_count, void *buffer)
{
    struct crash_device *crash = crash_of(device);
    if (begin(crash->watch, OPERATION_READ, lba, block_count)) {
        crash_device_crash(crash->watch, crash->watch->planned);
        return EIO;
    }
    return crash->fault->ops->read(crash->fault, lba, block_count, buffer);
}

static int crash_write(struct block_device *device, uint64_t lba, size_t block_count,
                       const void *buffer)
{
    struct crash_device *crash = crash_of(device);
    struct crash_watch *watch = crash->watch;
    bool is_last = begin(watch, OPERATION_WRITE, lba, block_count);
    if (is_dead(watch)) {
        return EIO;
    }
    watch->trace =
        crash_mix(watch->trace, checksum_of(buffer, block_count * CUBBY_BLOCK_BYTES, lba, 0));
    if (!is_last) {
        return crash->fault->ops->write(crash->fault, lba, block_count, buffer);
    }
    /* The power may take any of its blocks; a process has come as far as it has come. */
    size_t written_count = block_count;
    if (watch->planned == CRASH_KILL) {
        written_count = fault_random_below(&watch->random, block_count + 1);
    }
    if (written_count > 0) {
        (void)crash->fault->ops->write(crash->fault, lba, written_count, buffer);
    }
    crash_device_crash(watch, watch->planned);
    return EIO;
}

static int crash_flush(struct block_device *device)
{
    struct crash_device *crash = crash_of(device);
    if (begin(crash->watch, OPERATION_FLUSH, 0, 0)) {
        crash_device_crash(crash->watch, crash->watch->planned);
    }
    return is_dead(crash->watch) ? EIO : crash->fault->ops->flush(crash->fault);
}

static int crash_discard(struct block_device *device, uint64_t lba, uint64_t block_count)
{
    struct crash_device *crash = crash_of(device);
    struct crash_watch *watch = crash->watch;
    bool is_last = begin(watch, OPERATION_DISCARD, lba, block_count);
    if (is_dead(watch)) {
        return EIO;
    }
    int status = crash->fault->ops->discard(crash->fault, lba, block_count);
    if (is_last) {
        crash_device_crash(watch, watch->planned);
        status = EIO;
    }
    return status;
}

static int crash_resize(struct block_device *device, uint64_t block_count)
{
    struct crash_device *crash = crash_of(device);
    return crash->fault->ops->resize(crash->fault, block_count);
}

static int crash_usage(struct block_device *device, struct block_usage *usage)
{
    struct crash_device *crash = crash_of(device);
    return crash->fault->ops->usage(crash->fault, usage);
}

static void crash_close(struct block_device *device)
{
    struct crash_device *crash = crash_of(device);
    crash->fault->ops->close(crash->fault);
    crash->watch->fault = NULL;
    free(crash);
}

static const struct block_device_ops crash_ops = {
    .read = crash_read,
    .write = crash_write,
    .flush = crash_flush,
    .discard = crash_discard,
    .resize = crash_resize,
    .usage = crash_usage,
    .queue_open = blocking_queue_open,
    .close = crash_close,
};

int crash_device_open(struct block_device *memory, const struct fault_plan *plan,
                      struct crash_watch *watch, struct block_device **device)
{
    struct crash_device *crash = calloc(1, sizeof *crash);
    if (crash == NULL) {
        return ENOMEM;
    }
    int status = fault_device_open_with(memory, plan, &crash->fault);
    if (status != 0) {
        free(crash);
        return status;
    }
    *watch = (struct crash_watch){
        .trace = watch->trace,
        .random = watch->random,
        .fault = crash->fault,
    };
    crash->device.ops = &crash_ops;
    crash->device.geometry = crash->fault->geometry;
    crash->watch = watch;
    *device = &crash->device;
    return 0;
}
