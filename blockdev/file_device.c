/* file_device.c -- a regular file or a block device, read and written past the page cache.
 *
 * Opening, in order: what kind of file is it; open, with O_DIRECT where the file system takes it;
 * lock; ask for the geometry, and who tells the usage. To write a block device it is opened with
 * O_EXCL, which the kernel refuses while a file system on it is mounted.
 *
 * Cached writes go through a second descriptor, without O_DIRECT, of the same inode, so that both
 * share one page cache. The kernel keeps it and what moves past it together: a direct read first
 * writes back what is dirty in its range; a discard drops it; fdatasync of either descriptor writes
 * back all of it. An error of that, also of what the kernel wrote back by itself before, is told to
 * one caller, once, and the pages count as clean from then on. So, after cached writes, flushes go
 * one at a time, and none succeeds after one that failed.
 *
 * A cached write of whole blocks is a call, one of parts of blocks a store to a mapping, where that
 * is safe (cached_window.h). To all of the above a stored page is as a written one.
 *
 * Depends on: block_device.h, usage_probe.h, cached_window.h and the other file_*.h.   Used by:
 * open.c, tests.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/block_range.h"
#include "blockdev/cached_window.h"
#include "blockdev/device_message.h"
#include "blockdev/file_lock.h"
#include "blockdev/file_probe.h"
#include "blockdev/file_queue.h"
#include "blockdev/transfer.h"
#include "blockdev/usage_probe.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    FILE_MODE = 0644,
    LINK_BYTES = 32, /* of /proc/self/fd/N */
};

struct file_device {
    struct block_device device;
    int fd;
    int cached_fd; /* of the same inode, through the page cache; is fd where that is; -1: none */
    bool writable;
    bool is_block_device;
    bool is_direct;             /* past the page cache, in whole blocks */
    pid_t opener;               /* the process whose lock it is */
    atomic_bool cached_written; /* since the device was opened */
    bool cached_lost;           /* a flush failed after that; under flush_lock */
    pthread_mutex_t flush_lock;
    struct cached_windows windows; /* on cached_fd */
    struct usage_probe usage;
    struct queue_choice choice;
};

static int file_read(struct block_device *device, uint64_t lba, size_t block_count, void *buffer)
{
    struct file_device *file = (struct file_device *)device;
    CUBBY_ASSERT(block_range_is_aligned(buffer));
    int status = block_range_check(device, lba, block_count);
    if (status != 0) {
        return status;
    }
    struct transfer transfer = {.block_count = block_count};
    ssize_t answer;
    do {
        uint8_t *to = (uint8_t *)buffer + transfer.done_blocks * CUBBY_BLOCK_BYTES;
        off_t offset = (off_t)((lba + transfer.done_blocks) * CUBBY_BLOCK_BYTES);
        answer = pread(file->fd, to, transfer_next_bytes(&transfer), offset);
    } while (!transfer_advance(&transfer, answer < 0 ? -errno : answer, &status));
    return status;
}

/* Whether the kernel's answer to a call for bytes ends it: with *status, or with all done. */
static bool bytes_have_moved(ssize_t answer, size_t size, size_t *done, int *status)
{
    if (answer > 0) {
        *done += (size_t)answer;
        *status = 0;
        return *done == size;
    }
    *status = answer < 0 ? errno : EIO;
    return *status != EINTR;
}

static int file_read_bytes(struct block_device *device, uint64_t offset, size_t size, void *buffer)
{
    struct file_device *file = (struct file_device *)device;
    int status = file->is_direct ? EOPNOTSUPP : 0;
    size_t done = 0;
    while (status == 0 || status == EINTR) {
        ssize_t answer =
            pread(file->fd, (uint8_t *)buffer + done, size - done, (off_t)(offset + done));
        if (bytes_have_moved(answer, size, &done, &status)) {
            break;
        }
    }
    return status;
}

static int write_all_bytes(int fd, uint64_t offset, size_t size, const void *buffer)
{
    size_t done = 0;
    ssize_t answer;
    int status = 0;
    do {
        answer = pwrite(fd, (const uint8_t *)buffer + done, size - done, (off_t)(offset + done));
    } while (!bytes_have_moved(answer, size, &done, &status));
    return status;
}

static int file_write_bytes(struct block_device *device, uint64_t offset, size_t size,
                            const void *buffer)
{
    struct file_device *file = (struct file_device *)device;
    int status = file->is_direct ? EOPNOTSUPP : file->writable ? 0 : EROFS;
    return status != 0 ? status : write_all_bytes(file->fd, offset, size, buffer);
}

/* A call finds the space, which a store could not. */
static int write_cached_by_call(struct file_device *file, uint64_t offset, size_t size,
                                const void *buffer)
{
    int status = write_all_bytes(file->cached_fd, offset, size, buffer);
    if (status == 0) {
        cached_window_prepare(&file->windows, offset, size);
    }
    return status;
}

static int file_write_cached(struct block_device *device, uint64_t offset, size_t size,
                             const void *buffer)
{
    struct file_device *file = (struct file_device *)device;
    if (file->cached_fd < 0) {
        return file->writable ? EOPNOTSUPP : EROFS;
    }
    int status = block_range_check_bytes(device, offset, size);
    if (status != 0) {
        return status;
    }
    atomic_store(&file->cached_written, true);
    if (offset % CUBBY_BLOCK_BYTES == 0 && size % CUBBY_BLOCK_BYTES == 0) {
        return write_cached_by_call(file, offset, size, buffer);
    }
    for (size_t done = 0; done < size && status == 0;) {
        const uint8_t *from = (const uint8_t *)buffer + done;
        size_t piece = cached_window_piece(offset + done, size - done);
        if (!cached_window_store(&file->windows, offset + done, piece, from)) {
            status = write_cached_by_call(file, offset + done, piece, from);
        }
        done += piece;
    }
    return status;
}

static int file_write(struct block_device *device, uint64_t lba, size_t block_count,
                      const void *buffer)
{
    struct file_device *file = (struct file_device *)device;
    CUBBY_ASSERT(block_range_is_aligned(buffer));
    int status = file->writable ? block_range_check(device, lba, block_count) : EROFS;
    if (status != 0) {
        return status;
    }
    struct transfer transfer = {.block_count = block_count};
    ssize_t answer;
    do {
        const uint8_t *from = (const uint8_t *)buffer + transfer.done_blocks * CUBBY_BLOCK_BYTES;
        off_t offset = (off_t)((lba + transfer.done_blocks) * CUBBY_BLOCK_BYTES);
        answer = pwrite(file->fd, from, transfer_next_bytes(&transfer), offset);
    } while (!transfer_advance(&transfer, answer < 0 ? -errno : answer, &status));
    return status;
}

static int file_flush(struct block_device *device)
{
    struct file_device *file = (struct file_device *)device;
    if (!file->writable) {
        return 0;
    }
    if (!atomic_load(&file->cached_written)) {
        return fdatasync(file->fd) == 0 ? 0 : errno;
    }
    pthread_mutex_lock(&file->flush_lock);
    int status = file->cached_lost ? EIO : fdatasync(file->fd) == 0 ? 0 : errno;
    file->cached_lost = status != 0;
    pthread_mutex_unlock(&file->flush_lock);
    return status;
}

static int file_discard(struct block_device *device, uint64_t lba, uint64_t block_count)
{
    struct file_device *file = (struct file_device *)device;
    int status = file->writable ? block_range_check(device, lba, block_count) : EROFS;
    if (status != 0) {
        return status;
    }
    uint64_t range[2] = {lba * CUBBY_BLOCK_BYTES, block_count * CUBBY_BLOCK_BYTES};
    cached_window_forget(&file->windows, range[0], range[1]);
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int answer = file->is_block_device
                     ? ioctl(file->fd, BLKDISCARD, range)
                     : fallocate(file->fd, mode, (off_t)range[0], (off_t)range[1]);
    if (answer == 0) {
        return 0;
    }
    return errno == ENOTTY || errno == ENOSYS ? EOPNOTSUPP : errno;
}

/* A block device has the size it has; only take note if that has grown since it was opened. */
static int follow_growth(struct file_device *file, uint64_t block_count)
{
    uint64_t size_bytes = 0;
    if (ioctl(file->fd, BLKGETSIZE64, &size_bytes) != 0) {
        return errno;
    }
    uint64_t present_count = size_bytes / CUBBY_BLOCK_BYTES;
    if (present_count > block_range_total(&file->device)) {
        block_range_resize(&file->device, present_count);
        cached_window_set_size(&file->windows, present_count * CUBBY_BLOCK_BYTES);
    }
    return block_count == present_count ? 0 : EINVAL;
}

static int file_resize(struct block_device *device, uint64_t block_count)
{
    struct file_device *file = (struct file_device *)device;
    if (!file->writable) {
        return EROFS;
    }
    if (file->is_block_device) {
        return follow_growth(file, block_count);
    }
    if (block_count > INT64_MAX / CUBBY_BLOCK_BYTES) {
        return EINVAL;
    }
    uint64_t present_count = block_range_total(device);
    if (block_count < present_count) {
        cached_window_set_size(&file->windows, block_count * CUBBY_BLOCK_BYTES);
    }
    int status = ftruncate(file->fd, (off_t)(block_count * CUBBY_BLOCK_BYTES)) == 0 ? 0 : errno;
    if (status == 0) {
        block_range_resize(device, block_count);
    }
    cached_window_set_size(&file->windows, block_range_total(device) * CUBBY_BLOCK_BYTES);
    return status;
}

static int file_usage(struct block_device *device, struct block_usage *usage)
{
    struct file_device *file = (struct file_device *)device;
    return usage_probe_ask(&file->usage, usage);
}

static int open_queue(struct block_device *device, unsigned depth, struct block_queue **queue)
{
    struct file_device *file = (struct file_device *)device;
    return file_queue_open(&file->choice, device, file->fd, file->writable, depth, queue);
}

static void file_close(struct block_device *device)
{
    struct file_device *file = (struct file_device *)device;
    cached_window_close(&file->windows);
    if (file->cached_fd >= 0 && file->cached_fd != file->fd) {
        close(file->cached_fd);
    }
    if (file->opener == getpid()) {
        file_lock_release(file->fd);
    }
    usage_probe_close(&file->usage);
    close(file->fd);
    pthread_mutex_destroy(&file->choice.lock);
    pthread_mutex_destroy(&file->flush_lock);
    free(file);
}

static const struct block_device_ops file_ops = {
    .read = file_read,
    .read_bytes = file_read_bytes,
    .write_bytes = file_write_bytes,
    .write_cached = file_write_cached,
    .write = file_write,
    .flush = file_flush,
    .discard = file_discard,
    .resize = file_resize,
    .usage = file_usage,
    .queue_open = open_queue,
    .close = file_close,
};

/* Is it something with blocks? Returns 0, or CUBBY_BAD_ARGUMENT with a message. */
static int check_kind(const char *path, mode_t mode, struct device_message message)
{
    if (S_ISREG(mode) || S_ISBLK(mode)) {
        return 0;
    }
    const char *kind = S_ISDIR(mode)    ? "a directory"
                       : S_ISCHR(mode)  ? "a character device"
                       : S_ISFIFO(mode) ? "a pipe"
                       : S_ISSOCK(mode) ? "a socket"
                                        : "something else";
    return device_message_set(message, CUBBY_BAD_ARGUMENT,
                              "%s is %s; name a file or a block device", path, kind);
}

/* A name under /dev that is missing is a device that is missing: a file there would be memory. */
static bool is_device_name(const char *path)
{
    return strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0;
}

static int say_missing(const char *path, unsigned flags, struct device_message message)
{
    if (is_device_name(path)) {
        return device_message_set(message, ENOENT, "%s does not exist; there is no such device",
                                  path);
    }
    if ((flags & BLOCK_DEVICE_CREATE) != 0) {
        return device_message_set(message, ENOENT,
                                  "%s cannot be created; its directory does not exist", path);
    }
    return device_message_set(message, ENOENT, "%s does not exist; create it first", path);
}

static int say_refused(const char *path, unsigned flags, int status, struct device_message message)
{
    if (status == ENOENT) {
        return say_missing(path, flags, message);
    }
    if (status == EBUSY) {
        return device_message_set(message, status,
                                  "%s is mounted or in use otherwise; release it first", path);
    }
    return device_message_set(message, status, "%s cannot be opened for %s: %s", path,
                              (flags & BLOCK_DEVICE_READ_ONLY) != 0 ? "reading" : "writing",
                              cubby_status_text(status));
}

/* Open past the page cache if the file system lets us. Returns a descriptor or a negative errno. */
static int open_direct(const char *path, int open_flags)
{
    int fd = open(path, open_flags | O_DIRECT | O_CLOEXEC, FILE_MODE);
    if (fd < 0 && errno == EINVAL) {
        fd = open(path, open_flags | O_CLOEXEC, FILE_MODE);
    }
    if (fd < 0) {
        return -errno;
    }
    if (!file_probe_takes_direct_io(fd)) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT);
    }
    return fd;
}

/* Another way to an open file, through the page cache. By its descriptor: its path may lead to
 * another file by now. Returns a descriptor, or -1 where it cannot be had: no /proc, or a mode that
 * kept even its creator out. */
static int open_cached(int fd)
{
    char link[LINK_BYTES];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return open(link, O_RDWR | O_CLOEXEC);
}

/* Who has a block device open for writing cannot be asked of the kernel, but who has it locked can:
 * look at the lock before O_EXCL is refused. Opened for reading only, because closing a descriptor
 * that may write makes udev look at the device, for which it locks it. */
static int check_device_lock(const char *path, struct device_message message)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0; /* the real open will say why */
    }
    int status = file_lock_take(fd, path, false, message);
    close(fd);
    return status;
}

/* The name of a new file must survive a power cut like its content. */
static int sync_directory_of(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL) {
        return ENOMEM;
    }
    int status = 0;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        /* Some file systems cannot sync a directory, and some directories may not be read. */
        status = errno == EINVAL || errno == EACCES ? 0 : errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    free(copy);
    return status;
}

/* Open and lock. *info is of the open file. Returns 0 and *fd, or a status with a message. */
static int open_locked(const char *path, unsigned flags, int *fd, struct stat *info,
                       struct device_message message)
{
    bool writable = (flags & BLOCK_DEVICE_READ_ONLY) == 0;
    int open_flags = writable ? O_RDWR : O_RDONLY;
    int status = 0;
    bool missing = stat(path, info) != 0;
    if (missing && errno != ENOENT) {
        return say_refused(path, flags, errno, message);
    }
    if (!missing) {
        status = check_kind(path, info->st_mode, message);
    } else if ((flags & BLOCK_DEVICE_CREATE) != 0 && !is_device_name(path)) {
        open_flags |= O_CREAT;
    }
    if (status == 0 && !missing && S_ISBLK(info->st_mode) && writable) {
        open_flags |= O_EXCL;
        status = check_device_lock(path, message);
    }
    if (status != 0) {
        return status;
    }

    int opened = open_direct(path, open_flags);
    if (opened < 0) {
        return say_refused(path, flags, -opened, message);
    }
    status = file_lock_take(opened, path, !writable, message);
    if (status != 0) {
        goto close_file;
    }
    if (missing) {
        status = sync_directory_of(path);
    }
    if (status == 0) {
        status = fstat(opened, info) == 0 ? 0 : errno;
    }
    if (status != 0) {
        say_refused(path, flags, status, message);
        goto close_file;
    }
    /* Again: it may be another file by now. */
    status = check_kind(path, info->st_mode, message);
    if (status != 0) {
        goto close_file;
    }
    *fd = opened;
    return 0;

close_file:
    close(opened);
    return status;
}

int file_device_open(const char *path, unsigned flags, struct block_device **device, char *message,
                     size_t message_size)
{
    CUBBY_ASSERT(path != NULL);
    CUBBY_ASSERT(device != NULL);
    struct device_message sentence = {.text = message, .size = message_size};
    if ((flags & BLOCK_DEVICE_READ_ONLY) != 0 && (flags & BLOCK_DEVICE_CREATE) != 0) {
        return device_message_set(sentence, CUBBY_BAD_ARGUMENT,
                                  "%s cannot be created and be read-only at once", path);
    }
    struct file_device *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return device_message_set(sentence, ENOMEM, "there is no memory to open %s", path);
    }
    struct stat info;
    int status = open_locked(path, flags, &file->fd, &info, sentence);
    if (status != 0) {
        goto free_file;
    }
    file->writable = (flags & BLOCK_DEVICE_READ_ONLY) == 0;
    file->is_block_device = S_ISBLK(info.st_mode);
    file->is_direct = (fcntl(file->fd, F_GETFL) & O_DIRECT) != 0;
    file->opener = getpid();
    status = file_probe_geometry(file->fd, path, &info, file->writable, &file->device.geometry,
                                 sentence);
    if (status != 0) {
        goto close_file;
    }
    file->device.geometry.compresses = usage_probe_open(&file->usage, file->fd, &info);
    pthread_mutex_init(&file->choice.lock, NULL);
    pthread_mutex_init(&file->flush_lock, NULL);
    file->cached_fd = !file->writable ? -1 : file->is_direct ? open_cached(file->fd) : file->fd;
    cached_window_init(&file->windows, file->cached_fd,
                       file->device.geometry.block_count * CUBBY_BLOCK_BYTES);
    file->device.ops = &file_ops;
    *device = &file->device;
    return 0;

close_file:
    close(file->fd);
free_file:
    free(file);
    return status;
}
