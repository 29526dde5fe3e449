/* cached_window.c -- see cached_window.h.
 *
 * Depends on: cached_window.h, kernel_compat.h.   Used by: file_device.c, tests.
 */
#include "blockdev/cached_window.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/kernel_compat.h"

_Static_assert(CACHED_WINDOW_BLOCKS % CACHED_WORD_BITS == 0, "each bit is of a block");

/* Does a store to a page whose blocks are allocated need no space? Larger pages span several
 * blocks, of which some may not be allocated. */
static bool is_overwritten_in_place(int fd)
{
    struct stat info;
    struct statfs system;
    if (fd < 0 || sysconf(_SC_PAGESIZE) != CUBBY_BLOCK_BYTES || fstat(fd, &info) != 0) {
        return false;
    }
    if (S_ISBLK(info.st_mode)) {
        return true;
    }
    return S_ISREG(info.st_mode) && fstatfs(fd, &system) == 0 &&
           (system.f_type == EXT4_SUPER_MAGIC || system.f_type == XFS_SUPER_MAGIC ||
            system.f_type == TMPFS_MAGIC);
}

void cached_window_init(struct cached_windows *windows, int fd, uint64_t size_bytes)
{
    CUBBY_ASSERT(windows != NULL);
    memset(windows, 0, sizeof *windows);
    windows->fd = fd;
    windows->limit_bytes = size_bytes;
    atomic_init(&windows->may_map, is_overwritten_in_place(fd));
    /* Many who store must not keep the one out who maps. */
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&windows->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

size_t cached_window_piece(uint64_t offset, size_t size)
{
    CUBBY_ASSERT(size > 0);
    size_t room = CACHED_WINDOW_BYTES - (size_t)(offset % CACHED_WINDOW_BYTES);
    return size < room ? size : room;
}

/* The blocks of a window that a piece touches. */
struct block_span {
    size_t first;
    size_t end;
};

static struct block_span span_of(uint64_t offset, size_t size)
{
    size_t start = (size_t)(offset % CACHED_WINDOW_BYTES);
    CUBBY_ASSERT(size > 0);
    CUBBY_ASSERT(size <= CACHED_WINDOW_BYTES - start);
    return (struct block_span){.first = start / CUBBY_BLOCK_BYTES,
                               .end = (start + size - 1) / CUBBY_BLOCK_BYTES + 1};
}

static bool is_ready(const struct cached_window *window, struct block_span span)
{
    for (size_t block = span.first; block < span.end; block++) {
        uint64_t bits = atomic_load_explicit(&window->ready_bits[block / CACHED_WORD_BITS],
                                             memory_order_relaxed);
        if ((bits >> block % CACHED_WORD_BITS & 1) == 0) {
            return false;
        }
    }
    return true;
}

static void set_ready(struct cached_window *window, struct block_span span)
{
    for (size_t block = span.first; block < span.end; block++) {
        atomic_fetch_or_explicit(&window->ready_bits[block / CACHED_WORD_BITS],
                                 UINT64_C(1) << block % CACHED_WORD_BITS, memory_order_relaxed);
    }
}

static void set_unready(struct cached_window *window)
{
    for (size_t i = 0; i < CACHED_WINDOW_WORDS; i++) {
        atomic_store_explicit(&window->ready_bits[i], 0, memory_order_relaxed);
    }
}

/* With the lock, or NULL. What it finds counts as used. */
static struct cached_window *find_window(struct cached_windows *windows, uint64_t window_number)
{
    for (size_t i = 0; i < CACHED_WINDOWS_MAX; i++) {
        struct cached_window *window = &windows->windows[i];
        if (window->bytes != NULL && window->window_number == window_number) {
            uint64_t now = atomic_load_explicit(&windows->clock, memory_order_relaxed);
            if (atomic_load_explicit(&window->used_at, memory_order_relaxed) != now) {
                atomic_store_explicit(&window->used_at, now, memory_order_relaxed);
            }
            return window;
        }
    }
    return NULL;
}

/* With the lock: a place without a window, or of the window that was not used for longest. */
static struct cached_window *least_used(struct cached_windows *windows)
{
    struct cached_window *least = &windows->windows[0];
    for (size_t i = 0; i < CACHED_WINDOWS_MAX; i++) {
        struct cached_window *window = &windows->windows[i];
        if (window->bytes == NULL) {
            return window;
        }
        if (atomic_load(&window->used_at) < atomic_load(&least->used_at)) {
            least = window;
        }
    }
    return least;
}

/* Map a window, in the place of another. System calls are made without the lock. */
static void map_window(struct cached_windows *windows, uint64_t window_number)
{
    uint8_t *unused = mmap(NULL, CACHED_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                           windows->fd, (off_t)(window_number * CACHED_WINDOW_BYTES));
    if (unused == MAP_FAILED) {
        return;
    }
    pthread_rwlock_wrlock(&windows->lock);
    if (find_window(windows, window_number) == NULL) {
        struct cached_window *window = least_used(windows);
        uint8_t *mapped = unused;
        unused = window->bytes;
        window->bytes = mapped;
        window->window_number = window_number;
        set_unready(window);
        atomic_store(&window->used_at, atomic_fetch_add(&windows->clock, 1) + 1);
    }
    pthread_rwlock_unlock(&windows->lock);
    if (unused != NULL) {
        munmap(unused, CACHED_WINDOW_BYTES);
    }
}

bool cached_window_store(struct cached_windows *windows, uint64_t offset, size_t size,
                         const void *buffer)
{
    CUBBY_ASSERT(windows != NULL);
    CUBBY_ASSERT(buffer != NULL);
    struct block_span span = span_of(offset, size);
    pthread_rwlock_rdlock(&windows->lock);
    struct cached_window *window = find_window(windows, offset / CACHED_WINDOW_BYTES);
    bool stored = window != NULL && is_ready(window, span);
    if (stored) {
        memcpy(window->bytes + offset % CACHED_WINDOW_BYTES, buffer, size);
    }
    pthread_rwlock_unlock(&windows->lock);
    return stored;
}

/* With the lock: make the blocks' pages writable, and say so. */
static void prepare_blocks(struct cached_windows *windows, struct cached_window *window,
                           struct block_span span)
{
    uint64_t start = window->window_number * CACHED_WINDOW_BYTES;
    if (start + span.end * CUBBY_BLOCK_BYTES > windows->limit_bytes) {
        return;
    }
    uint8_t *first = window->bytes + span.first * CUBBY_BLOCK_BYTES;
    size_t size = (span.end - span.first) * CUBBY_BLOCK_BYTES;
    if (madvise(first, size, KERNEL_MADV_POPULATE_WRITE) == 0) {
        set_ready(window, span);
    } else if (errno == EINVAL) {
        atomic_store(&windows->may_map, false); /* a kernel without it: never ask again */
    }
}

static void prepare_piece(struct cached_windows *windows, uint64_t offset, size_t size)
{
    uint64_t window_number = offset / CACHED_WINDOW_BYTES;
    bool found = false;
    for (int attempt = 0; attempt < 2 && !found; attempt++) {
        if (attempt == 1) {
            map_window(windows, window_number);
        }
        pthread_rwlock_rdlock(&windows->lock);
        struct cached_window *window = find_window(windows, window_number);
        found = window != NULL;
        if (found) {
            prepare_blocks(windows, window, span_of(offset, size));
        }
        pthread_rwlock_unlock(&windows->lock);
    }
}

void cached_window_prepare(struct cached_windows *windows, uint64_t offset, size_t size)
{
    CUBBY_ASSERT(windows != NULL);
    if (size > CACHED_WINDOW_BYTES || !atomic_load(&windows->may_map)) {
        return;
    }
    for (size_t done = 0; done < size;) {
        size_t piece = cached_window_piece(offset + done, size - done);
        prepare_piece(windows, offset + done, piece);
        done += piece;
    }
}

void cached_window_forget(struct cached_windows *windows, uint64_t offset, uint64_t size)
{
    CUBBY_ASSERT(windows != NULL);
    CUBBY_ASSERT(size > 0);
    uint64_t first = offset / CACHED_WINDOW_BYTES;
    uint64_t last = (offset + size - 1) / CACHED_WINDOW_BYTES;
    pthread_rwlock_wrlock(&windows->lock);
    for (size_t i = 0; i < CACHED_WINDOWS_MAX; i++) {
        struct cached_window *window = &windows->windows[i];
        if (window->bytes != NULL && window->window_number >= first &&
            window->window_number <= last) {
            set_unready(window);
        }
    }
    pthread_rwlock_unlock(&windows->lock);
}

static void unmap_all(struct cached_windows *windows)
{
    for (size_t i = 0; i < CACHED_WINDOWS_MAX; i++) {
        struct cached_window *window = &windows->windows[i];
        if (window->bytes != NULL) {
            munmap(window->bytes, CACHED_WINDOW_BYTES);
            window->bytes = NULL;
        }
    }
}

void cached_window_set_size(struct cached_windows *windows, uint64_t size_bytes)
{
    CUBBY_ASSERT(windows != NULL);
    pthread_rwlock_wrlock(&windows->lock);
    if (size_bytes < windows->limit_bytes) {
        unmap_all(windows);
    }
    windows->limit_bytes = size_bytes;
    pthread_rwlock_unlock(&windows->lock);
}

void cached_window_close(struct cached_windows *windows)
{
    CUBBY_ASSERT(windows != NULL);
    unmap_all(windows);
    pthread_rwlock_destroy(&windows->lock);
}
