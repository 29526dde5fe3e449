/* file_probe.c -- sizes from ioctl and stat, the rest from statx and from sysfs:
 *
 *   /sys/dev/block/MAJOR:MINOR/queue/logical_block_size, atomic_write_unit_max_bytes,
 *                              queue/discard_granularity, discard_max_bytes
 *
 * A partition has no queue of its own; its parent directory does.
 *
 * Depends on: file_probe.h, kernel_compat.h.   Used by: file_device.c, usage_probe.c.
 */
#include "blockdev/file_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/major.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/kernel_compat.h"
#include "engine/cubby.h"

enum {
    SYSFS_TEXT_BYTES = 256,
};

void file_probe_attribute_path(dev_t device, const char *attribute,
                               char path[FILE_PROBE_PATH_BYTES])
{
    snprintf(path, FILE_PROBE_PATH_BYTES, "/sys/dev/block/%u:%u/%s", major(device), minor(device),
             attribute);
}

bool file_probe_attribute(dev_t device, const char *attribute, char *text, size_t text_size)
{
    CUBBY_ASSERT(text_size > 1);
    char path[FILE_PROBE_PATH_BYTES];
    file_probe_attribute_path(device, attribute, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t size = read(fd, text, text_size - 1);
    close(fd);
    if (size <= 0) {
        return false;
    }
    text[size] = '\0';
    return true;
}

/* Read a number of a block device's queue. Returns 0 if it does not tell. */
static uint64_t read_queue_number(dev_t device, const char *name)
{
    char attribute[64];
    char text[SYSFS_TEXT_BYTES];
    uint64_t number = 0;
    snprintf(attribute, sizeof attribute, "queue/%s", name);
    bool found = file_probe_attribute(device, attribute, text, sizeof text);
    if (!found) {
        snprintf(attribute, sizeof attribute, "../queue/%s", name);
        found = file_probe_attribute(device, attribute, text, sizeof text);
    }
    if (!found || sscanf(text, "%" SCNu64, &number) != 1) {
        return 0;
    }
    return number;
}

/* Does this device promise that aligned blocks of 4 KiB do not tear? Two ways: its sectors are that
 * large, or it says so. A loop device's sector size is a setting, and no promise of the file. */
static bool device_writes_blocks_whole(dev_t device)
{
    if (major(device) == LOOP_MAJOR) {
        return false;
    }
    return read_queue_number(device, "logical_block_size") >= CUBBY_BLOCK_BYTES ||
           read_queue_number(device, "atomic_write_unit_max_bytes") >= CUBBY_BLOCK_BYTES;
}

/* What a power cut cannot tear. More than one block is never promised: the kernel may split larger
 * writes on their way. */
static uint32_t probe_atomic_write_bytes(int fd, const struct stat *info)
{
    struct kernel_statx extended = {0};
    int status = kernel_compat_statx(fd, KERNEL_STATX_WRITE_ATOMIC, &extended);
    bool told = status == 0 && (extended.mask & KERNEL_STATX_WRITE_ATOMIC) != 0;
    if (told && extended.atomic_write_unit_min > 0 &&
        extended.atomic_write_unit_min <= CUBBY_BLOCK_BYTES &&
        extended.atomic_write_unit_max >= CUBBY_BLOCK_BYTES) {
        return CUBBY_BLOCK_BYTES;
    }
    dev_t below = S_ISBLK(info->st_mode) ? info->st_rdev : info->st_dev;
    return device_writes_blocks_whole(below) ? CUBBY_BLOCK_BYTES : 0;
}

static uint32_t granularity_blocks(uint64_t granularity_bytes)
{
    uint64_t blocks = divide_up(granularity_bytes, CUBBY_BLOCK_BYTES);
    return blocks == 0 ? 1 : blocks > UINT32_MAX ? UINT32_MAX : (uint32_t)blocks;
}

static int probe_block_device(int fd, const char *path, const struct stat *info, bool writable,
                              struct block_geometry *geometry, struct device_message message)
{
    uint64_t size_bytes = 0;
    int logical_block_bytes = 0;
    if (ioctl(fd, BLKGETSIZE64, &size_bytes) != 0 || ioctl(fd, BLKSSZGET, &logical_block_bytes)) {
        int status = errno;
        return device_message_set(message, status, "the size of %s cannot be read: %s", path,
                                  cubby_status_text(status));
    }
    if (logical_block_bytes > CUBBY_BLOCK_BYTES) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "%s has logical blocks of %d bytes; at most %d can be used", path,
                                  logical_block_bytes, CUBBY_BLOCK_BYTES);
    }
    if (size_bytes < CUBBY_BLOCK_BYTES) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "%s has no size yet; give it a medium or a size first", path);
    }
    geometry->block_count = size_bytes / CUBBY_BLOCK_BYTES;
    if (writable && read_queue_number(info->st_rdev, "discard_max_bytes") > 0) {
        uint64_t bytes = read_queue_number(info->st_rdev, "discard_granularity");
        geometry->discard_granularity_blocks = granularity_blocks(bytes);
    }
    return 0;
}

static int probe_regular_file(int fd, const struct stat *info, bool writable,
                              struct block_geometry *geometry)
{
    geometry->block_count = (uint64_t)info->st_size / CUBBY_BLOCK_BYTES;
    geometry->partial_tail = info->st_size % CUBBY_BLOCK_BYTES != 0;
    geometry->resizable = writable;
    if (writable) {
        /* A hole behind the end changes nothing, and tells whether holes can be punched. */
        off_t end =
            (off_t)(divide_up((uint64_t)info->st_size, CUBBY_BLOCK_BYTES) * CUBBY_BLOCK_BYTES);
        int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        if (fallocate(fd, mode, end, CUBBY_BLOCK_BYTES) == 0) {
            geometry->discard_granularity_blocks = granularity_blocks((uint64_t)info->st_blksize);
            geometry->discard_zeroes = true;
        }
    }
    return 0;
}

int file_probe_geometry(int fd, const char *path, const struct stat *info, bool writable,
                        struct block_geometry *geometry, struct device_message message)
{
    CUBBY_ASSERT(path != NULL);
    CUBBY_ASSERT(info != NULL);
    CUBBY_ASSERT(S_ISREG(info->st_mode) || S_ISBLK(info->st_mode));
    struct block_geometry found = {0};
    int status = S_ISBLK(info->st_mode)
                     ? probe_block_device(fd, path, info, writable, &found, message)
                     : probe_regular_file(fd, info, writable, &found);
    if (status != 0) {
        return status;
    }
    found.atomic_write_bytes = probe_atomic_write_bytes(fd, info);
    *geometry = found;
    return 0;
}

bool file_probe_takes_direct_io(int fd)
{
    /* tmpfs takes the flag, but has nothing below its page cache. /dev is one too: what counts
     * there is the device. */
    struct stat info;
    struct statfs file_system;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && fstatfs(fd, &file_system) == 0 &&
        file_system.f_type == TMPFS_MAGIC) {
        return false;
    }
    struct kernel_statx extended = {0};
    int status = kernel_compat_statx(fd, KERNEL_STATX_DIO_ALIGN, &extended);
    if (status != 0 || (extended.mask & KERNEL_STATX_DIO_ALIGN) == 0) {
        return true;
    }
    return extended.dio_offset_align > 0 && extended.dio_offset_align <= CUBBY_BLOCK_BYTES &&
           extended.dio_memory_align <= CUBBY_BLOCK_BYTES;
}
