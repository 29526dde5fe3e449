/* kinds.c -- the list of kinds, and those that are the kernel's; see kinds.h. */
#include "bench/mapped/kinds.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

const struct mapped_kind *kinds_at(size_t index)
{
    static const struct mapped_kind *const kinds[] = {
        &kernel_kind,   &kernel_default_kind, &pins_kind,  &pins_armed_kind,
        &pointers_kind, &views_kind,          &pread_kind,
    };
    return index < sizeof kinds / sizeof *kinds ? kinds[index] : NULL;
}

/* The kernel's mmap ------------------------------------------------------------------------------
 */

struct kernel_map {
    int fd;
    uint8_t *base;
    size_t bytes;
};

/* Have the page cache hold nothing of it. */
static void forget(int fd)
{
    (void)fsync(fd);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)ioctl(fd, BLKFLSBUF, 0);
}

static int open_map(const struct mapped_options *options, int advice, void **opened)
{
    struct kernel_map *map = calloc(1, sizeof *map);
    if (map == NULL) {
        return ENOMEM;
    }
    map->fd = open(options->path, O_RDWR | O_CLOEXEC);
    int status = map->fd < 0 ? errno : 0;
    if (status == 0) {
        forget(map->fd);
        map->bytes = options->page_count * PAGES_BYTES;
        map->base = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map->fd, 0);
        status = map->base == MAP_FAILED ? errno : 0;
    }
    if (status == 0 && madvise(map->base, map->bytes, advice) != 0) {
        status = errno;
    }
    if (status != 0) {
        if (map->fd >= 0) {
            close(map->fd);
        }
        free(map);
        return status;
    }
    *opened = map;
    return 0;
}

static int kernel_open(const struct mapped_options *options, void **opened, char *message)
{
    (void)message;
    return open_map(options, options->is_scan ? MADV_SEQUENTIAL : MADV_RANDOM, opened);
}

static int kernel_open_default(const struct mapped_options *options, void **opened, char *message)
{
    (void)message;
    return open_map(options, MADV_NORMAL, opened);
}

static int kernel_run(void *opened, const access_code *codes, size_t count, ledger_entry *ledger)
{
    const struct kernel_map *map = opened;
    return kinds_run_plain(map->base, codes, count, ledger);
}

static int kernel_sync(void *opened)
{
    const struct kernel_map *map = opened;
    return msync(map->base, map->bytes, MS_SYNC) == 0 ? 0 : errno;
}

static void count_nothing(void *opened, struct mapped_counts *counts)
{
    (void)opened;
    *counts = (struct mapped_counts){0};
}

static int kernel_close(void *opened)
{
    struct kernel_map *map = opened;
    int status = kernel_sync(map);
    munmap(map->base, map->bytes);
    forget(map->fd);
    close(map->fd);
    free(map);
    return status;
}

const struct mapped_kind kernel_kind = {
    .name = "kernel",
    .is_kernel = true,
    .open = kernel_open,
    .run = kernel_run,
    .sync = kernel_sync,
    .count = count_nothing,
    .close = kernel_close,
};

const struct mapped_kind kernel_default_kind = {
    .name = "kernel-default",
    .is_kernel = true,
    .open = kernel_open_default,
    .run = kernel_run,
    .sync = kernel_sync,
    .count = count_nothing,
    .close = kernel_close,
};

/* No cache at all --------------------------------------------------------------------------------
 */

enum { STRIPES = 1024 };

struct direct {
    int fd;
    pthread_mutex_t stripes[STRIPES]; /* of pages that are read and written back */
};

static int direct_open(const struct mapped_options *options, void **opened, char *message)
{
    (void)message;
    struct direct *direct = malloc(sizeof *direct);
    if (direct == NULL) {
        return ENOMEM;
    }
    direct->fd = open(options->path, O_RDWR | O_CLOEXEC | O_DIRECT);
    if (direct->fd < 0) {
        int status = errno == EINVAL ? EOPNOTSUPP : errno;
        free(direct);
        return status;
    }
    for (size_t i = 0; i < STRIPES; i++) {
        pthread_mutex_init(&direct->stripes[i], NULL);
    }
    *opened = direct;
    return 0;
}

static int direct_access(struct direct *direct, access_code code, ledger_entry *ledger)
{
    static __thread struct page buffer __attribute__((aligned(PAGES_BYTES)));
    off_t offset = (off_t)(code >> 1) * PAGES_BYTES;
    ledger_entry *entry = &ledger[code >> 1];
    uint32_t before = atomic_load(entry);
    ssize_t done = pread(direct->fd, &buffer, sizeof buffer, offset);
    if (done != (ssize_t)sizeof buffer) {
        return done < 0 ? errno : EIO;
    }
    bool is_right = pages_is_right(&buffer, code >> 1, (uint32_t)buffer.generation, before, entry);
    if ((code & 1) == 0) {
        return is_right ? 0 : EILSEQ;
    }
    buffer.generation++;
    done = pwrite(direct->fd, &buffer, sizeof buffer, offset);
    if (done != (ssize_t)sizeof buffer) {
        return done < 0 ? errno : EIO;
    }
    atomic_fetch_add(entry, 1); /* it counts what is on the device already */
    return is_right ? 0 : EILSEQ;
}

static int direct_run(void *opened, const access_code *codes, size_t count, ledger_entry *ledger)
{
    struct direct *direct = opened;
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        pthread_mutex_t *stripe = &direct->stripes[(codes[i] >> 1) % STRIPES];
        bool is_write = (codes[i] & 1) != 0;
        if (is_write) {
            pthread_mutex_lock(stripe);
        }
        status = direct_access(direct, codes[i], ledger);
        if (is_write) {
            pthread_mutex_unlock(stripe);
        }
    }
    return status;
}

static int direct_sync(void *opened)
{
    const struct direct *direct = opened;
    return fdatasync(direct->fd) == 0 ? 0 : errno;
}

static int direct_close(void *opened)
{
    struct direct *direct = opened;
    close(direct->fd);
    free(direct);
    return 0;
}

const struct mapped_kind pread_kind = {
    .name = "pread",
    .is_bare = true,
    .open = direct_open,
    .run = direct_run,
    .sync = direct_sync,
    .count = count_nothing,
    .close = direct_close,
};
