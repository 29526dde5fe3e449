/* nbdkit_cubby.c -- any device as a network block device: a plugin for nbdkit.
 *
 *   nbdkit ./nbdkit-cubby-plugin.so device=csd:drive.csd
 *
 *   device=NAME     required: what cubby_device_open takes
 *   readonly=BOOL   open it to be read only (nbdkit's own -r still opens it for writing)
 *   ready=LINE      written to standard output once the device is open and clients may connect
 *   remove=PATH     a file to remove at the end: the server's socket
 *
 * Requests in whole blocks go straight to the device, many at a time. Clients are told that blocks
 * have 4 KiB; for those that do not listen, a request with parts of blocks reads what it needs, and
 * changes it with no other write under way.
 *
 * The device is opened when nbdkit has gone to the background, because its lock is a process's.
 *
 * Depends on: cubby.h, nbdkit-plugin.h.   Used by: nbdkit.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
    REQUEST_BYTES_MAX = 32 << 20, /* what clients are told */
};

/* One process serves one device. */
static struct {
    const char *name;  /* belongs to nbdkit, as the next one */
    const char *ready; /* NULL: nothing is written */
    int ready_fd;      /* standard output, before nbdkit closed it */
    char *remove;      /* NULL: nothing is removed */
    bool read_only;
    bool discard_zeroes; /* what was discarded reads as zeros */
    bool can_discard;
    uint64_t size_bytes;
    cubby_device *device;
    /* Taken for writing by requests that change a part of a block, for reading by all others that
     * change something. */
    pthread_rwlock_t partial_lock;
} served = {.ready_fd = -1, .partial_lock = PTHREAD_RWLOCK_INITIALIZER};

/* Say what went wrong, and tell the client in an errno that NBD knows. Returns -1. */
static int fail(int status, const char *message)
{
    nbdkit_error("%s", message);
    int error = status > 0                      ? status
                : status == CUBBY_PHYSICAL_FULL ? ENOSPC
                : status == CUBBY_READ_ONLY     ? EROFS
                : status == CUBBY_BAD_ARGUMENT  ? EINVAL
                                                : EIO;
    nbdkit_set_error(error);
    return -1;
}

/* Setting up ------------------------------------------------------------------------------------
 */

static int set_ready(const char *line)
{
    if (served.ready != NULL || !nbdkit_stdio_safe()) {
        nbdkit_error("ready is given twice, or together with nbdkit's -s");
        return -1;
    }
    served.ready = line;
    served.ready_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    return 0;
}

static int plugin_config(const char *key, const char *value)
{
    if (strcmp(key, "device") == 0) {
        served.name = value;
    } else if (strcmp(key, "ready") == 0) {
        return set_ready(value);
    } else if (strcmp(key, "remove") == 0) {
        served.remove = nbdkit_absolute_path(value);
        return served.remove != NULL ? 0 : -1;
    } else if (strcmp(key, "readonly") == 0) {
        int answer = nbdkit_parse_bool(value);
        served.read_only = answer == 1;
        return answer < 0 ? -1 : 0;
    } else {
        nbdkit_error("unknown parameter %s: there are device, readonly, ready and remove", key);
        return -1;
    }
    return 0;
}

static int plugin_config_complete(void)
{
    if (served.name == NULL) {
        nbdkit_error("which device? say device=NAME, as in device=csd:drive.csd");
        return -1;
    }
    return 0;
}

static int learn_geometry(void)
{
    struct cubby_device_stat stat;
    int status = cubby_device_stat(served.device, &stat);
    if (status != 0) {
        return fail(status, cubby_status_text(status));
    }
    served.size_bytes = stat.block_count * CUBBY_BLOCK_BYTES;
    served.can_discard = stat.discard_granularity_blocks != 0;
    served.discard_zeroes = stat.discard_zeroes != 0;
    return 0;
}

static int plugin_after_fork(void)
{
    char message[CUBBY_MESSAGE_BYTES];
    uint32_t flags = served.read_only ? CUBBY_READ_ONLY_OPEN : 0;
    int status = cubby_device_open(served.name, flags, &served.device, message, sizeof message);
    if (status != 0) {
        return fail(status, message);
    }
    if (learn_geometry() != 0) {
        return -1;
    }
    if (served.ready_fd >= 0) {
        dprintf(served.ready_fd, "%s\n", served.ready);
        close(served.ready_fd);
        served.ready_fd = -1;
    }
    return 0;
}

/* The last client is gone. */
static void plugin_cleanup(void)
{
    cubby_device_close(served.device);
    served.device = NULL;
    if (served.remove != NULL) {
        unlink(served.remove);
    }
}

static void plugin_unload(void)
{
    plugin_cleanup(); /* where the start failed */
    free(served.remove);
}

/* What there is ---------------------------------------------------------------------------------
 */

static void *plugin_open(int readonly)
{
    (void)readonly;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t plugin_get_size(void *handle)
{
    (void)handle;
    return (int64_t)served.size_bytes;
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                             uint32_t *maximum)
{
    (void)handle;
    *minimum = CUBBY_BLOCK_BYTES;
    *preferred = CUBBY_BLOCK_BYTES;
    *maximum = REQUEST_BYTES_MAX;
    return 0;
}

static int plugin_can_write(void *handle)
{
    (void)handle;
    return !served.read_only;
}

static int plugin_can_trim(void *handle)
{
    (void)handle;
    return served.can_discard && !served.read_only;
}

static int plugin_yes(void *handle)
{
    (void)handle;
    return 1;
}

static int plugin_no(void *handle)
{
    (void)handle;
    return 0;
}

static int plugin_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

/* Requests --------------------------------------------------------------------------------------
 */

static bool is_whole(uint32_t count, uint64_t offset)
{
    return count % CUBBY_BLOCK_BYTES == 0 && offset % CUBBY_BLOCK_BYTES == 0;
}

/* A range of bytes as blocks. */
struct cover {
    uint64_t lba;
    uint64_t block_count;
    size_t skip_bytes; /* before the range, in the first block */
};

/* The blocks that a range of bytes touches. */
static struct cover cover_of(uint32_t count, uint64_t offset)
{
    struct cover cover = {.lba = offset / CUBBY_BLOCK_BYTES,
                          .skip_bytes = offset % CUBBY_BLOCK_BYTES};
    uint64_t end = (offset + count + CUBBY_BLOCK_BYTES - 1) / CUBBY_BLOCK_BYTES;
    cover.block_count = end - cover.lba;
    return cover;
}

static int read_blocks(struct cover cover, uint8_t *buffer)
{
    char message[CUBBY_MESSAGE_BYTES];
    int status = cubby_device_read(served.device, cover.lba, cover.block_count, buffer, message,
                                   sizeof message);
    return status == 0 ? 0 : fail(status, message);
}

static int write_blocks(struct cover cover, const uint8_t *buffer)
{
    char message[CUBBY_MESSAGE_BYTES];
    int status = cubby_device_write(served.device, cover.lba, cover.block_count, buffer, message,
                                    sizeof message);
    return status == 0 ? 0 : fail(status, message);
}

static int plugin_flush(void *handle, uint32_t flags)
{
    (void)handle;
    (void)flags;
    char message[CUBBY_MESSAGE_BYTES];
    int status = cubby_device_flush(served.device, message, sizeof message);
    return status == 0 ? 0 : fail(status, message);
}

/* What a request that changed something does last. */
static int end_change(int result, uint32_t flags)
{
    if (result == 0 && (flags & NBDKIT_FLAG_FUA) != 0) {
        result = plugin_flush(NULL, 0);
    }
    return result;
}

static uint8_t *allocate_cover(struct cover cover)
{
    size_t size = (size_t)cover.block_count * CUBBY_BLOCK_BYTES;
    uint8_t *blocks = aligned_alloc(CUBBY_BLOCK_BYTES, size);
    if (blocks == NULL) {
        fail(ENOMEM, "there is no memory for a request");
    }
    return blocks;
}

static int plugin_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    struct cover cover = cover_of(count, offset);
    if (is_whole(count, offset)) {
        return read_blocks(cover, buffer);
    }
    uint8_t *blocks = allocate_cover(cover);
    if (blocks == NULL) {
        return -1;
    }
    int result = read_blocks(cover, blocks);
    if (result == 0) {
        memcpy(buffer, blocks + cover.skip_bytes, count);
    }
    free(blocks);
    return result;
}

/* Write parts of blocks: read them, change them, write them, with nothing else being written. */
static int write_parts(const void *buffer, uint32_t count, uint64_t offset)
{
    struct cover cover = cover_of(count, offset);
    uint8_t *blocks = allocate_cover(cover);
    if (blocks == NULL) {
        return -1;
    }
    pthread_rwlock_wrlock(&served.partial_lock);
    int result = read_blocks(cover, blocks);
    if (result == 0) {
        memcpy(blocks + cover.skip_bytes, buffer, count);
        result = write_blocks(cover, blocks);
    }
    pthread_rwlock_unlock(&served.partial_lock);
    free(blocks);
    return result;
}

static int plugin_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset,
                         uint32_t flags)
{
    (void)handle;
    int result;
    if (is_whole(count, offset)) {
        pthread_rwlock_rdlock(&served.partial_lock);
        result = write_blocks(cover_of(count, offset), buffer);
        pthread_rwlock_unlock(&served.partial_lock);
    } else {
        result = write_parts(buffer, count, offset);
    }
    return end_change(result, flags);
}

/* Discard the blocks that lie wholly in a range. */
static int discard_inside(uint32_t count, uint64_t offset)
{
    uint64_t begin = (offset + CUBBY_BLOCK_BYTES - 1) / CUBBY_BLOCK_BYTES;
    uint64_t end = (offset + count) / CUBBY_BLOCK_BYTES;
    if (begin >= end) {
        return 0;
    }
    char message[CUBBY_MESSAGE_BYTES];
    pthread_rwlock_rdlock(&served.partial_lock);
    int status = cubby_device_discard(served.device, begin, end - begin, message, sizeof message);
    pthread_rwlock_unlock(&served.partial_lock);
    return status == 0 ? 0 : fail(status, message);
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    return end_change(discard_inside(count, offset), flags);
}

/* Zeros by a discard where that is the same; else nbdkit writes them, which a device that
 * compresses takes as well. */
static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    if ((flags & NBDKIT_FLAG_MAY_TRIM) == 0 || !served.discard_zeroes || !served.can_discard ||
        !is_whole(count, offset)) {
        nbdkit_set_error(EOPNOTSUPP);
        return -1;
    }
    return end_change(discard_inside(count, offset), flags);
}

static struct nbdkit_plugin plugin = {
    .name = "cubby",
    .longname = "CubbyDB devices",
    .version = CUBBY_VERSION,
    .description = "any device of CubbyDB, such as an emulated drive that compresses",
    .unload = plugin_unload,
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .config_help = "device=NAME    a path, csd:PATH, mem:SIZE, ...\n"
                   "readonly=BOOL  open it to be read only\n"
                   "ready=LINE     written to standard output when clients may connect\n"
                   "remove=PATH    a file to remove at the end",
    .magic_config_key = "device",
    .after_fork = plugin_after_fork,
    .cleanup = plugin_cleanup,
    .open = plugin_open,
    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_write = plugin_can_write,
    .can_flush = plugin_yes,
    .can_trim = plugin_can_trim,
    .can_fua = plugin_can_fua,
    .can_multi_conn = plugin_yes,
    .is_rotational = plugin_no,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
    .trim = plugin_trim,
    .zero = plugin_zero,
    .errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
