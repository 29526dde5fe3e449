/* cached_window.h -- stores into the page cache of a file or block device, in place of write calls.
 *
 * A write call of some bytes costs microseconds, and waits for the inode's lock, which direct I/O
 * on the same file holds. A store to a shared mapping of the file has neither; but where the kernel
 * cannot make a page writable, for want of space say, it answers with SIGBUS. Therefore:
 *
 * 1. A block is stored to only after a write call wrote to it, which found the space or said
 *    ENOSPC, and madvise then made its page writable, which says so where it cannot.
 * 2. When the kernel has written a page back, the next store to it faults again. That takes no
 *    space where blocks are overwritten in place: only block devices are mapped, and files of the
 *    file systems known to do so, ext2 to ext4, xfs and tmpfs.
 * 3. Before a discard its windows are unready again; before the file gets smaller all are unmapped.
 *
 * What remains is SIGBUS for what happens behind the device's back: somebody truncates the file,
 * punches a hole into it, or shares its blocks (cp --reflink) on a full file system; the device is
 * gone, or cannot read a page that the kernel has dropped for want of memory; xfs has shut down.
 *
 * The mapping is made of aligned windows. A few are kept, the rest unmapped, least used first: a
 * log writes here and there near its end, then goes on. A process that is forked has them too, as
 * it has the descriptor.
 *
 * Thread-safe. Stores share the lock, so that no window goes while one is under way.
 *
 * Depends on: kernel_compat.h, cubby.h.   Used by: file_device.c, tests.
 */
#ifndef CUBBY_CACHED_WINDOW_H
#define CUBBY_CACHED_WINDOW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cubby.h"

enum {
    CACHED_WINDOW_BYTES = 4 << 20,
    CACHED_WINDOW_BLOCKS = CACHED_WINDOW_BYTES / CUBBY_BLOCK_BYTES,
    CACHED_WINDOWS_MAX = 4,
    CACHED_WORD_BITS = 64,
    CACHED_WINDOW_WORDS = CACHED_WINDOW_BLOCKS / CACHED_WORD_BITS,
};

struct cached_window {
    uint8_t *bytes; /* NULL: none */
    uint64_t window_number;
    atomic_uint_fast64_t used_at;                     /* by the clock below */
    _Atomic uint64_t ready_bits[CACHED_WINDOW_WORDS]; /* a bit for each block: may be stored to */
};

struct cached_windows {
    int fd;
    atomic_bool may_map;
    pthread_rwlock_t lock;      /* exclusive to change what is mapped, or limit_bytes */
    uint64_t limit_bytes;       /* nothing is stored from here on */
    atomic_uint_fast64_t clock; /* windows mapped until now */
    struct cached_window windows[CACHED_WINDOWS_MAX];
};

/* fd: open for reading and writing through the page cache, or -1: nothing is ever stored. */
void cached_window_init(struct cached_windows *windows, int fd, uint64_t size_bytes);

/* How many of some bytes, from the first on, are in one window: at least one. */
size_t cached_window_piece(uint64_t offset, size_t size);

/* Store bytes of one window. Returns whether that could be done; if not, nothing was. */
bool cached_window_store(struct cached_windows *windows, uint64_t offset, size_t size,
                         const void *buffer);

/* A write call has written these bytes: let their blocks be stored to from now on, if they can.
 * More than a window at once is not what a log does, and is left alone. */
void cached_window_prepare(struct cached_windows *windows, uint64_t offset, size_t size);

/* Before a discard. Of whole windows: a page may span blocks on both sides of the range's ends. */
void cached_window_forget(struct cached_windows *windows, uint64_t offset, uint64_t size);

/* Before the file gets smaller, and after it has grown. */
void cached_window_set_size(struct cached_windows *windows, uint64_t size_bytes);

/* The descriptor is left open. */
void cached_window_close(struct cached_windows *windows);

#endif
