/* region.h -- memory that is a device: each page of a range of blocks has an address, and a cache
 * of a fixed size holds those that are used.
 *
 * After FastMap (its poster, and its code as read; README.md says what differs and why). A page is
 * one block of CUBBY_BLOCK_BYTES, counted from the region's first one. There are two ways in:
 *
 *   pins      mmapio_pin returns a page's address and holds the page in memory until mmapio_unpin.
 *             It never faults, and reports every error. Where there are pins alone a page is
 *             elsewhere each time, and costs the kernel nothing.
 *   pointers  any load or store at mmapio_base + offset works, resolved by the thread that does it
 *             in a SIGBUS handler, where the system has userfaultfd and the options did not ask for
 *             pins alone. What cannot be read or written then is a SIGBUS to the program.
 *
 * What is written is written back later, whole dirty extents of 2 MiB in the device's order, or by
 * mmapio_sync, after which it survives a power cut. A page that is pinned for writing is not
 * written before it is unpinned, so what changes under one pin reaches the device as one.
 *
 * Where a page cannot be written back it stays dirty, and the region is read-only, until a sync has
 * written everything: nothing is lost in silence.
 *
 * A load or store that has to wait for its page takes up to 32 KiB of its thread's stack.
 *
 * A system call that is given an address within the region fails with EFAULT where the page is not
 * in memory, or, if the call would write it, not dirty: pin it before. A child process has not got
 * the region (its memory is not copied): it is killed where it touches it, and each call returns
 * CUBBY_FORKED. Every call is thread-safe, but for closing.
 *
 * Depends on: blockdev.   Used by: engine/store (page_io_region.c), Python, bench.
 */
#ifndef CUBBY_MMAPIO_REGION_H
#define CUBBY_MMAPIO_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blockdev/block_device.h"

struct mmapio_region;

enum {
    MMAPIO_EXTENT_PAGES = 512, /* 2 MiB: what is written back together */
    MMAPIO_CACHE_PAGES_MIN = 64,
};

/* All zeros: the defaults. */
struct mmapio_options {
    bool pins_only; /* no plain pointers: a write pin need not lift a page's protection then */
    bool read_only; /* no write pins, and no stores */
    bool has_views; /* views have addresses of their own: dearer to evict, see mmapio_view_open */
    bool has_no_cleaner; /* no thread that writes back: whoever needs room does, and sync */
};

enum mmapio_access {
    MMAPIO_READ,
    MMAPIO_WRITE, /* all of the page may be changed, and is dirty from now on */
};

enum mmapio_advice {
    MMAPIO_NORMAL,   /* read ahead where pages are missed one after the other; the default */
    MMAPIO_RANDOM,   /* never; of the whole region, as the one before, whatever the range */
    MMAPIO_WILLNEED, /* read now what of the range is not in memory, up to half of the cache */
    MMAPIO_DONTNEED, /* give up what of the range is in memory, neither dirty nor pinned */
};

/* Gauges are of now, counters run from the opening. Pages unless the name says else. */
struct mmapio_stat {
    uint64_t cache_pages;
    uint64_t resident_pages;
    uint64_t dirty_pages;
    /* counters */
    uint64_t loads; /* pages read from the device */
    uint64_t pointer_faults;
    uint64_t evictions;
    uint64_t eviction_calls; /* of the system, each for a batch */
    uint64_t writes;         /* pages written back */
    uint64_t write_calls;    /* of the device */
    bool has_pointers;       /* plain pointers work */
    bool is_read_only;       /* by its options, or as a write failed */
    int write_error;         /* that made it so; 0: none */
    uint64_t write_error_page;
};

/* Map page_count blocks of a device from first_lba on, with a cache of cache_bytes (a multiple of a
 * page, at least MMAPIO_CACHE_PAGES_MIN of them; as much memory is taken when it is needed, and 8
 * bytes besides for each page of an extent that has ever been touched). The device must outlive the
 * region, and nobody else may write to the range meanwhile but by mmapio_write. Where pointers are
 * refused by the system the region has pins alone, which mmapio_stat tells, and message too.
 *
 * message, message_size: room for one sentence (may be NULL, 0).
 * Returns 0, CUBBY_BAD_ARGUMENT (a range outside the device, a cache that is too small), EBUSY
 * (another region has some of the blocks, and one of the two is written to), ENOMEM, or another
 * errno. */
int mmapio_open(struct block_device *device, uint64_t first_lba, uint64_t page_count,
                uint64_t cache_bytes, const struct mmapio_options *options,
                struct mmapio_region **region, char *message, size_t message_size);

/* Write back what is dirty, without a flush, and end the region. Returns 0, or EBUSY where pages
 * are pinned, or views open, and nothing was done; or what writing failed with: then the region
 * stays, so that sync can be tried again; mmapio_abandon gives it up. */
int mmapio_close(struct mmapio_region *region);

/* End it with whatever has not been written back. No page may be pinned. NULL is allowed. */
void mmapio_abandon(struct mmapio_region *region);

/* The address of page 0; of others behind it, in order. Constant. NULL: plain pointers do not work.
 */
uint8_t *mmapio_base(const struct mmapio_region *region);
uint64_t mmapio_page_count(const struct mmapio_region *region);

/* Where a page is that the caller has pinned. */
uint8_t *mmapio_address(const struct mmapio_region *region, uint64_t page);

/* Have a page in memory and keep it there. A thread may hold many pins, also of one page. Returns
 * 0, EINVAL (outside), what reading it failed with (the next pin tries again), EROFS (a write pin,
 * and the region is read-only), ENOBUFS (all of the cache is pinned, or dirty and not to be
 * written), or EAGAIN (too many pins of the page: 65,535, or 511 to write). */
int mmapio_pin(struct mmapio_region *region, uint64_t page, enum mmapio_access access,
               uint8_t **address);

/* Pin several at once, each page's read overlapping the others'. Returns 0, or the first error, and
 * then none is pinned. count is at most 1,024. */
int mmapio_pin_many(struct mmapio_region *region, size_t count, const uint64_t *pages,
                    enum mmapio_access access, uint8_t **addresses);

/* Once for each pin, as it was pinned. */
void mmapio_unpin(struct mmapio_region *region, uint64_t page, enum mmapio_access access);

/* Copy pages out. Those that are not in memory are read into the buffer, which is aligned to a
 * page, and take no room in the cache, unless they were read not long ago; so are those that
 * somebody else is just bringing into memory, writing or evicting: the device has them as they are.
 * Returns as mmapio_pin. */
int mmapio_read(struct mmapio_region *region, uint64_t page, size_t page_count, void *buffer);

/* Copy out those pages that are in memory, up to the first that is not, or is on its way. Reads
 * nothing from the device, and waits for nobody. All of them are within the region. Returns how
 * many they are. */
size_t mmapio_try_read(struct mmapio_region *region, uint64_t page, size_t page_count,
                       void *buffer);

/* Write pages to the device now, and change those that are in memory alike. When it has returned
 * the pages survive the process. The buffer is aligned to a page. Returns 0 or what the device
 * returned: then the pages are either as before or as in the buffer, and those in memory as on the
 * device. Who reads a page meanwhile, or has it pinned, may see it half old and half new. */
int mmapio_write(struct mmapio_region *region, uint64_t page, size_t page_count,
                 const void *buffer);

/* The same in two halves, for a caller who has the device write them, by a queue say: between them
 * nobody else brings the pages into memory, changes or evicts them, and who would waits for the
 * end. So the caller does nothing else with them, and nobody else writes any of them meanwhile, or
 * both might wait for each other.
 *
 * words: room for page_count, to be handed to the end. status: what writing the buffer has come to;
 * ECANCELED: it was not tried. Returns 0, EINVAL, or EROFS; then there is nothing to be ended. */
int mmapio_write_begin(struct mmapio_region *region, uint64_t page, size_t page_count,
                       uint32_t *words);
void mmapio_write_end(struct mmapio_region *region, uint64_t page, size_t page_count,
                      const uint32_t *words, const void *buffer, int status);

/* Write back what is dirty of a range, and flush the device. Waits for write pins to be given back:
 * not to be called with one held. Returns 0: everything stored there before survives a power cut;
 * or an error. An error of the cleaner's that nobody has been told of yet is returned too, once. */
int mmapio_sync(struct mmapio_region *region, uint64_t page, uint64_t page_count);

/* Returns 0, EINVAL, or what reading failed with. */
int mmapio_advise(struct mmapio_region *region, uint64_t page, uint64_t page_count,
                  enum mmapio_advice advice);

/* A view: a part of a region's pages with a range of addresses and a protection of its own. */
struct mmapio_view;

/* Open a view of some pages, to be read, or written, too. In a region that has views (options) it
 * has new addresses, at which the same memory is to be seen: what is stored by one is loaded by
 * all. Up to 31 of them. In others it is a window of the region's own addresses, and read-only only
 * if the region is. Returns 0, EINVAL (outside), EROFS (to be written, and the region is
 * read-only), ENOSPC (too many), EOPNOTSUPP (the system does not allow plain pointers; or to be
 * written, and it is older than Linux 6.4), or another errno. */
int mmapio_view_open(struct mmapio_region *region, uint64_t page, uint64_t page_count,
                     enum mmapio_access access, struct mmapio_view **view);

/* Nobody may use its addresses any more. What was stored stays. NULL is allowed. */
void mmapio_view_close(struct mmapio_view *view);

uint8_t *mmapio_view_base(const struct mmapio_view *view);

/* Why the calling thread's last load or store failed that got a SIGBUS. */
struct mmapio_fault {
    int status; /* as mmapio_pin's; 0: none has failed */
    uint64_t page;
};
struct mmapio_fault mmapio_last_fault(void);

void mmapio_stat(struct mmapio_region *region, struct mmapio_stat *stat);

#endif
