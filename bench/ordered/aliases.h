/* aliases.h -- many virtual pages on one physical page, made by the kernel: one mmap for each, as
 * far as it goes.
 *
 * ALIASES_PER_PAGE neighbours in address space share a page of a memfd, as the table's entries of a
 * page's bucket do. The kernel keeps a record (VMA) for almost every one, and allows
 * vm.max_map_count of them; beyond that no mmap of the process succeeds, nor a large malloc. So a
 * child process does it.
 *
 * Depends on: nothing.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_ALIASES_H
#define CUBBY_BENCH_ALIASES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    ALIASES_PER_PAGE = 16,
};

struct aliases {
    uint64_t pages_mapped;
    uint64_t areas;       /* VMAs of the process then */
    uint64_t areas_limit; /* vm.max_map_count; 0: not told */
    int error;            /* of the mmap that failed; 0: none did */
    bool malloc_fails;    /* of 64 MiB, then */
    double first_ns;      /* processor time of a mapping: of the first thousand, */
    double last_ns;       /* of the last thousand, */
    double mean_ns;       /* and of all */
    double remap_ns;      /* of giving one of them another physical page */
    double unmap_ns;      /* of a page, when all are unmapped at once */
};

/* Map up to pages_max pages. Returns 0 or an errno. */
int aliases_run(uint64_t pages_max, struct aliases *aliases);

void aliases_print(const struct aliases *aliases, FILE *out);
void aliases_write_json(const struct aliases *aliases, FILE *out);

#endif
