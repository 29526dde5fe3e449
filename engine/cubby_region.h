/* cubby_region.h -- memory that is a device: the part of the public C interface that maps one.
 *
 * Each byte of a range of a device has an address, and a cache of a fixed size holds the pages (of
 * CUBBY_BLOCK_BYTES) that are in use. There are three ways in:
 *
 *   pins      cubby_region_pin returns an address and holds its pages in memory until
 *             cubby_region_unpin. Every error is returned.
 *   copies    cubby_region_load and cubby_region_store do it for the time of a memcpy; _read and
 *             _write move whole pages past the cache.
 *   pointers  any load or store at cubby_region_base + offset works, where the system has
 *             userfaultfd: see cubby_region_stat.has_pointers. What the device fails then is a
 *             SIGBUS. Without them nothing may be touched that is not pinned. A view is a part of
 *             the region with a protection, and if wanted addresses, of its own.
 *
 * What is stored is in memory, and reaches the device later, at the latest by cubby_region_close;
 * after cubby_region_sync it survives a power cut. A process that ends without either loses it.
 *
 * A system call that is given such an address fails with EFAULT where the page is not in memory,
 * or, if the call would store there, not dirty: pin it before. A SIGBUS handler is put in front of
 * the one that was there; who sets another one later must pass on to it. It runs on the stack of
 * the thread that touched the page, and takes up to 32 KiB of it. A forked child has none of the
 * memory, and its calls return CUBBY_FORKED.
 *
 * All calls but closing are thread-safe. offset and size are bytes from the region's first one; out
 * of it they are CUBBY_BAD_ARGUMENT. message, message_size: room for one sentence that says why a
 * call failed (may be NULL, 0). Statuses are those of cubby.h.
 */
#ifndef CUBBY_REGION_H
#define CUBBY_REGION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cdef:begin */

typedef struct cubby_region cubby_region;

/* All zeros: the defaults. */
struct cubby_region_options {
    uint64_t first_byte;  /* of the device, where the region begins; a multiple of a page */
    uint64_t size_bytes;  /* a multiple of a page; default: all blocks from there on */
    uint64_t cache_bytes; /* a multiple of a page, 256 KiB or more; default: 64 MiB */
    uint32_t read_only;   /* 1: neither stores nor pins to write */
    uint32_t pins_only;   /* 1: no pointers, even where the system has them */
    uint32_t has_views;   /* 1: each view has addresses of its own, at which a store is refused that
                             it is not for; pages are dearer to load and to evict then */
};

typedef struct cubby_region_view cubby_region_view;

enum { CUBBY_REGION_VIEWS_MAX = 31 };

enum cubby_region_access {
    CUBBY_REGION_READ = 0,
    CUBBY_REGION_WRITE = 1,
};

enum cubby_region_advice {
    CUBBY_REGION_NORMAL = 0, /* of all of the region: read ahead where pages are missed in order */
    CUBBY_REGION_RANDOM = 1, /* of all of the region: never */
    CUBBY_REGION_WILLNEED = 2, /* read now what is not in memory, up to half of the cache */
    CUBBY_REGION_DONTNEED = 3, /* give up what is in memory, neither dirty nor pinned */
};

/* Pages, unless the name says else. */
struct cubby_region_stat {
    uint64_t cache_pages;
    uint64_t resident_pages; /* in memory */
    uint64_t dirty_pages;    /* of those, stored to and not written back */
    uint64_t pinned_pages;   /* by cubby_region_pin; a page counts once for each pin */
    uint64_t loads;          /* read from the device, since the opening, as what follows */
    uint64_t pointer_faults; /* loads and stores that had to wait for a page */
    uint64_t evictions;
    uint64_t eviction_calls; /* of the system, each for many pages */
    uint64_t writes;         /* written back */
    uint64_t write_calls;    /* of the device */
    uint64_t has_pointers;   /* 1 or 0 */
    uint64_t is_read_only;   /* 1: opened so, or writing back has failed and no sync succeeded */
    int64_t write_error;     /* what it failed with; 0: it has not */
    uint64_t write_error_lba;
};

/* Map a device, by any name that cubby_open takes; it is locked as cubby_open does. Where the
 * system refuses pointers the region is opened without, and message says why. options may be NULL.
 * Returns CUBBY_OK, CUBBY_LOCKED, CUBBY_BAD_ARGUMENT, ENOMEM, or else as cubby_device_open. */
int cubby_region_open(const char *name, const struct cubby_region_options *options,
                      cubby_region **region, char *message, size_t message_size);

/* Write back what is dirty, and end the region; no other call may be under way. On failure it stays
 * open: EBUSY (pages are pinned, or views open), CUBBY_PHYSICAL_FULL, CUBBY_FORKED, or what writing
 * failed with.
 */
int cubby_region_close(cubby_region *region, char *message, size_t message_size);

/* End it with whatever is dirty. No page may be pinned, and no view open. NULL is allowed. In a
 * forked child it does nothing. */
void cubby_region_abandon(cubby_region *region);

/* Where the region is, and how many bytes it has. Constant. NULL: there are no pointers. */
uint8_t *cubby_region_base(const cubby_region *region);
uint64_t cubby_region_size(const cubby_region *region);

/* Hold the pages that have some of these bytes, at least one, in memory, and return the address of
 * the first byte. access: enum cubby_region_access; with CUBBY_REGION_WRITE they are dirty, and not
 * written back before they are unpinned. Pins may have half of the cache, so that pointers have
 * room. Without pointers pages do not lie side by side, and the bytes must be on one. Unpin each
 * range, by any thread, as it was pinned.
 * Returns CUBBY_OK, CUBBY_BAD_ARGUMENT, CUBBY_CORRUPT, CUBBY_READ_ONLY, CUBBY_DEGRADED (writing
 * back has failed: nothing may be stored until a sync succeeds), ENOBUFS (no room), EAGAIN (too
 * many pins of one page), CUBBY_FORKED, or what reading failed with. */
int cubby_region_pin(cubby_region *region, uint64_t offset, uint64_t size, uint32_t access,
                     uint8_t **address, char *message, size_t message_size);
void cubby_region_unpin(cubby_region *region, uint64_t offset, uint64_t size, uint32_t access);

/* The same of the pages that single bytes are on, at most 1,024 of them, read at once. Unpin each
 * with size 1. */
int cubby_region_pin_many(cubby_region *region, size_t count, const uint64_t *offsets,
                          uint32_t access, uint8_t **addresses, char *message, size_t message_size);

/* Copy any bytes out of the region, or into it. Returns as cubby_region_pin; what a failed call has
 * copied is not defined. */
int cubby_region_load(cubby_region *region, uint64_t offset, uint64_t size, uint8_t *buffer,
                      char *message, size_t message_size);
int cubby_region_store(cubby_region *region, uint64_t offset, uint64_t size, const uint8_t *buffer,
                       char *message, size_t message_size);

/* Read whole pages, those not in memory past the cache; or write some to the device now: when the
 * call has returned they survive the process. Returns as cubby_device_read and cubby_device_write.
 */
int cubby_region_read(cubby_region *region, uint64_t offset, uint64_t size, uint8_t *buffer,
                      char *message, size_t message_size);
int cubby_region_write(cubby_region *region, uint64_t offset, uint64_t size, const uint8_t *buffer,
                       char *message, size_t message_size);

/* Write back what is dirty of these bytes, and flush the device. Waits for pins to write, so it is
 * not to be called with one held. What an earlier writing back has failed with, by itself, is
 * returned once, too.
 * Returns CUBBY_OK (all stores before survive a power cut), CUBBY_PHYSICAL_FULL, CUBBY_FORKED, or
 * what the device returned: then all that was not written is still in memory, dirty. */
int cubby_region_sync(cubby_region *region, uint64_t offset, uint64_t size, char *message,
                      size_t message_size);

/* Say how bytes will be used: enum cubby_region_advice. Returns CUBBY_OK, CUBBY_FORKED, or what
 * reading failed with. */
int cubby_region_advise(cubby_region *region, uint64_t offset, uint64_t size, uint32_t advice,
                        char *message, size_t message_size);

/* Have some bytes, at least one, as a view, to be read, or written, too (enum cubby_region_access).
 * In a region that has views it has addresses of its own, at which the same memory is to be seen:
 * what is stored by one is loaded by all, at once. A store by a view to be read is a SIGSEGV. In
 * other regions a view is a window of the region's own addresses, which protects nothing. Up to
 * CUBBY_REGION_VIEWS_MAX of them; all are closed before the region is.
 * Returns CUBBY_OK, CUBBY_BAD_ARGUMENT, CUBBY_READ_ONLY (to be written, and the region is not),
 * EAGAIN (too many), EOPNOTSUPP (the region has no pointers; or to be written, with addresses of
 * its own, and the system is older than Linux 6.4), ENOMEM, CUBBY_FORKED, or another errno. */
int cubby_region_view_open(cubby_region *region, uint64_t offset, uint64_t size, uint32_t access,
                           cubby_region_view **view, char *message, size_t message_size);

/* Nobody may use its addresses any more. What was stored stays. NULL is allowed. */
void cubby_region_view_close(cubby_region_view *view);

/* Where its first byte is. Constant. */
uint8_t *cubby_region_view_base(const cubby_region_view *view);

/* Why the calling thread's last SIGBUS was one, for a handler that does not return: a status as of
 * cubby_region_pin, and the page's first byte in its region. Returns CUBBY_OK: there was none. */
int cubby_region_last_fault(uint64_t *offset);

/* Gather the figures above. Returns CUBBY_OK or CUBBY_FORKED. */
int cubby_region_stat(cubby_region *region, struct cubby_region_stat *stat);

/* cdef:end */

#ifdef __cplusplus
}
#endif

#endif
