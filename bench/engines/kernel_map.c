/* kernel_map.c -- see kernel_map.h. */
#include "bench/engines/kernel_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blockdev/block_range.h"
#include "engine/cubby.h"

struct kernel_map {
    struct block_device device;
    struct block_device_ops ops; /* without write_cached where the inner device has none */
    struct block_device *inner;
    uint8_t *base;
    size_t bytes;
};

static struct kernel_map *own_of(struct block_device *device)
{
    return (struct kernel_map *)device;
}

static int map_read(struct block_device *device, uint64_t lba, size_t block_count, void *buffer)
{
    int status = block_range_check(device, lba, block_count);
    if (status == 0) {
        const uint8_t *from = own_of(device)->base + lba * CUBBY_BLOCK_BYTES;
        memcpy(buffer, from, block_count * CUBBY_BLOCK_BYTES);
    }
    return status;
}

static int map_write(struct block_device *device, uint64_t lba, size_t block_count,
                     const void *buffer)
{
    int status = block_range_check(device, lba, block_count);
    if (status == 0) {
        uint8_t *to = own_of(device)->base + lba * CUBBY_BLOCK_BYTES;
        memcpy(to, buffer, block_count * CUBBY_BLOCK_BYTES);
    }
    return status;
}

static int map_write_cached(struct block_device *device, uint64_t offset, size_t size,
                            const void *buffer)
{
    struct block_device *inner = own_of(device)->inner;
    return inner->ops->write_cached(inner, offset, size, buffer);
}

static int map_flush(struct block_device *device)
{
    const struct kernel_map *map = own_of(device);
    int status = msync(map->base, map->bytes, MS_SYNC) == 0 ? 0 : errno;
    return status == 0 ? map->inner->ops->flush(map->inner) : status;
}

static int map_discard(struct block_device *device, uint64_t lba, uint64_t block_count)
{
    (void)device;
    (void)lba;
    (void)block_count;
    return EOPNOTSUPP;
}

static int map_resize(struct block_device *device, uint64_t block_count)
{
    (void)device;
    (void)block_count;
    return EINVAL;
}

static int map_usage(struct block_device *device, struct block_usage *usage)
{
    struct block_device *inner = own_of(device)->inner;
    return inner->ops->usage(inner, usage);
}

static void map_close(struct block_device *device)
{
    struct kernel_map *map = own_of(device);
    munmap(map->base, map->bytes);
    map->inner->ops->close(map->inner);
    free(map);
}

static const struct block_device_ops map_ops = {
    .read = map_read,
    .write = map_write,
    .write_cached = map_write_cached,
    .flush = map_flush,
    .discard = map_discard,
    .resize = map_resize,
    .usage = map_usage,
    .queue_open = blocking_queue_open,
    .close = map_close,
};

int kernel_map_open(struct block_device *inner, const char *path, struct block_device **device)
{
    struct kernel_map *map = calloc(1, sizeof *map);
    if (map == NULL) {
        return ENOMEM;
    }
    map->inner = inner;
    map->ops = map_ops;
    if (inner->ops->write_cached == NULL) {
        map->ops.write_cached = NULL;
    }
    map->device.geometry = inner->geometry;
    map->device.geometry.resizable = false;
    map->device.geometry.discard_granularity_blocks = 0;
    map->device.ops = &map->ops;
    map->bytes = inner->geometry.block_count * CUBBY_BLOCK_BYTES;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    int status = fd < 0 ? errno : 0;
    if (status == 0) {
        map->base = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        status = map->base == MAP_FAILED ? errno : 0;
        close(fd); /* the mapping stays */
    }
    if (status != 0) {
        free(map);
        return status;
    }
    (void)madvise(map->base, map->bytes, MADV_RANDOM);
    *device = &map->device;
    return 0;
}
