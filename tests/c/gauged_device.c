/* gauged_device.c -- see gauged_device.h. */
#include "tests/c/gauged_device.h"

#include <errno.h>

#include "engine/cubby.h"
#include "tests/c/check.h"

static struct gauged_device *gauged_of(struct block_device *device)
{
    return (struct gauged_device *)(void *)device;
}

uint64_t gauged_real_bytes(struct gauged_device *gauged)
{
    struct block_usage usage;
    CHECK_EQUAL(gauged->memory->ops->usage(gauged->memory, &usage), 0);
    return usage.physical_bytes;
}

static int gauge_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    struct block_device *memory = gauged_of(device)->memory;
    return memory->ops->read(memory, lba, count, buffer);
}

static int gauge_write(struct block_device *device, uint64_t lba, size_t count, const void *buffer)
{
    struct gauged_device *gauged = gauged_of(device);
    struct block_device *memory = gauged->memory;
    bool fails = atomic_load(&gauged->fails_when_full);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *block = (const uint8_t *)buffer + i * CUBBY_BLOCK_BYTES;
        int status = memory->ops->write(memory, lba + i, 1, block);
        if (status == 0 && fails &&
            gauged_real_bytes(gauged) > atomic_load(&gauged->capacity_bytes)) {
            CHECK_EQUAL(memory->ops->discard(memory, lba + i, 1), 0); /* it was not there before */
            status = EIO;
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int gauge_flush(struct block_device *device)
{
    struct block_device *memory = gauged_of(device)->memory;
    return memory->ops->flush(memory);
}

static int gauge_discard(struct block_device *device, uint64_t lba, uint64_t count)
{
    struct gauged_device *gauged = gauged_of(device);
    uint64_t told = atomic_load(&gauged->physical_after_discard);
    if (told != 0) {
        atomic_store(&gauged->physical_bytes, told);
    }
    return gauged->memory->ops->discard(gauged->memory, lba, count);
}

static int gauge_resize(struct block_device *device, uint64_t count)
{
    struct block_device *memory = gauged_of(device)->memory;
    return memory->ops->resize(memory, count);
}

static int gauge_usage(struct block_device *device, struct block_usage *usage)
{
    struct gauged_device *gauged = gauged_of(device);
    uint64_t told = atomic_load(&gauged->physical_bytes);
    *usage = (struct block_usage){
        .source = gauged->source,
        .logical_bytes = gauged_real_bytes(gauged),
        .physical_bytes = told != 0 ? told : gauged_real_bytes(gauged),
        .capacity_bytes = atomic_load(&gauged->capacity_bytes),
        .state = (enum block_space_state)atomic_load(&gauged->state),
    };
    atomic_fetch_add(&gauged->asked, 1);
    return 0;
}

/* The memory stays, to be opened again. */
static void gauge_close(struct block_device *device)
{
    (void)device;
}

static const struct block_device_ops gauge_ops = {
    .read = gauge_read,
    .write = gauge_write,
    .flush = gauge_flush,
    .discard = gauge_discard,
    .resize = gauge_resize,
    .usage = gauge_usage,
    .queue_open = blocking_queue_open,
    .close = gauge_close,
};

struct gauged_device *gauged_make(const char *source)
{
    struct gauged_device *gauged = calloc(1, sizeof *gauged);
    CHECK(gauged != NULL);
    CHECK_EQUAL(mem_device_open(GAUGED_BLOCKS, &gauged->memory), 0);
    gauged->device.ops = &gauge_ops;
    gauged->device.geometry = gauged->memory->geometry;
    gauged->source = source;
    atomic_init(&gauged->capacity_bytes, GAUGED_CAPACITY_BYTES);
    return gauged;
}

void gauged_free(struct gauged_device *gauged)
{
    gauged->memory->ops->close(gauged->memory);
    free(gauged);
}
