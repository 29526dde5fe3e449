/* sparse.h -- memory reserved in address space, taken from the system where it is touched, counted.
 *
 * It reads as zeros until it is written. The system takes memory for it page by page, and for its
 * own page table, 4 KiB for each 2 MiB of addresses in use, and again 4 KiB for each GiB. Whoever
 * writes to a piece says so first, once per piece is enough; so that what it takes is known without
 * asking the system. Huge pages are off, or one pair would take 2 MiB.
 *
 * Depends on: cubby_assert.h.   Used by: bitmap.h, array.h.
 */
#ifndef CUBBY_VOLIMAP_SPARSE_H
#define CUBBY_VOLIMAP_SPARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SPARSE_PAGE_BYTES = 4096,
    SPARSE_FANOUT = 512, /* how many entries each node of the system's page table has */
    SPARSE_REGION_BYTES = SPARSE_FANOUT * SPARSE_PAGE_BYTES, /* what one table of pages maps */
    SPARSE_MARK_PAGES_MAX = 256,                             /* pages of marks: of 2^23 pieces */
};

/* Marks and groups are guarded by the owner, who calls one function at a time. A group is
 * SPARSE_FANOUT pieces; bit n of groups: a piece of group n has been marked, ever. One word of
 * groups is for one page of marks. */
struct sparse {
    void *data;      /* NULL: closed. At a multiple of SPARSE_REGION_BYTES */
    uint64_t *marks; /* a bit per piece */
    void *mapping;   /* both of them */
    size_t mapping_bytes;
    size_t piece_bytes; /* SPARSE_PAGE_BYTES or SPARSE_REGION_BYTES */
    uint64_t groups[SPARSE_MARK_PAGES_MAX];
    _Atomic uint64_t piece_count; /* that are marked */
    _Atomic uint64_t group_count; /* that have a bit */
    _Atomic uint64_t mark_page_count;
};

/* Reserve bytes, 1 to 2^23 pieces. Returns 0, or ENOMEM if the system does not allow it. */
int sparse_open(struct sparse *sparse, size_t bytes, size_t piece_bytes);

/* Allowed on a zeroed struct. */
void sparse_close(struct sparse *sparse);

/* The byte at this offset is about to be written. */
void sparse_mark(struct sparse *sparse, size_t offset);

/* Give the memory of a range back, so that it reads as zeros; whole pages, and, if it is one piece,
 * the mark of it. Returns 0 or an errno (it is locked, say): then it may be as it
 * was. */
int sparse_release(struct sparse *sparse, size_t offset, size_t bytes);

#endif
