/* kinds.h -- the ways to memory that is a device, behind one face.
 *
 *   kernel          mmap(MAP_SHARED), MADV_RANDOM but for a scan; its page cache is limited by the
 *                   memory cgroup that driver.c puts the process into
 *   kernel-default  the same without advice
 *   pins            a region of mmapio with pins only
 *   pins-armed      pins of a region that has plain pointers, too
 *   pointers        plain pointers of such a region
 *   views           the same by two views with addresses of their own, in turn: each page is mapped
 *                   at the region's addresses and at those that it was touched at
 *   pread           one O_DIRECT request for each access, no cache: what the device takes
 *
 * Depends on: pages.h, mmapio.   Used by: work.c, driver.c.
 */
#ifndef CUBBY_BENCH_KINDS_H
#define CUBBY_BENCH_KINDS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/mapped/pages.h"

enum { KINDS_MESSAGE_BYTES = 200 };

struct mapped_options {
    const char *path;
    uint64_t page_count;  /* of the file or device */
    uint64_t cache_bytes; /* what a region may keep */
    bool is_scan;         /* from the first page to the last, not at random */
};

/* Of mmapio's own count; zeros where a kind has none. */
struct mapped_counts {
    uint64_t loads;
    uint64_t evictions;
    uint64_t eviction_calls;
    uint64_t writes;
    uint64_t write_calls;
    uint64_t pointer_faults;
};

struct mapped_kind {
    const char *name;
    bool is_kernel; /* its cache is the kernel's, so the process needs a limit */
    bool is_bare;   /* it has no cache */
    /* Returns 0 or a status; EOPNOTSUPP: it is not to be had here. Either way message may say why.
     */
    int (*open)(const struct mapped_options *options, void **opened, char *message);
    /* Do some accesses, by any thread. Returns 0, a status, or EILSEQ: a page was not right. */
    int (*run)(void *opened, const access_code *codes, size_t count, ledger_entry *ledger);
    /* Have all that was written survive a power cut. */
    int (*sync)(void *opened);
    void (*count)(void *opened, struct mapped_counts *counts);
    int (*close)(void *opened);
};

/* The kind at a place in the list; NULL behind the last one. */
const struct mapped_kind *kinds_at(size_t index);

extern const struct mapped_kind kernel_kind;
extern const struct mapped_kind kernel_default_kind;
extern const struct mapped_kind pins_kind;
extern const struct mapped_kind pins_armed_kind;
extern const struct mapped_kind pointers_kind;
extern const struct mapped_kind views_kind;
extern const struct mapped_kind pread_kind;

/* Accesses of pages at an address, as the processor does them. */
static inline int kinds_run_plain(uint8_t *base, const access_code *codes, size_t count,
                                  ledger_entry *ledger)
{
    bool is_right = true;
    for (size_t i = 0; i < count; i++) {
        uint8_t *address = base + (size_t)(codes[i] >> 1) * PAGES_BYTES;
        is_right &= pages_access((struct page *)(void *)address, codes[i], ledger);
    }
    return is_right ? 0 : EILSEQ;
}

#endif
