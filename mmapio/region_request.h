/* region_request.h -- what the functions of cubby_region.h have in common: a region as its users
 * know it, what a call was about, and the sentence that says why it failed.
 *
 * Depends on: region.h, blockdev.   Used by: region_api.c, view_api.c.
 */
#ifndef CUBBY_MMAPIO_REGION_REQUEST_H
#define CUBBY_MMAPIO_REGION_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "blockdev/device_message.h"
#include "engine/cubby.h"
#include "engine/cubby_region.h"
#include "mmapio/region.h"

enum { PAGE_BYTES = CUBBY_BLOCK_BYTES };

struct cubby_region {
    struct mmapio_region *mapped;
    struct block_device *device;
    uint64_t first_lba;
    uint64_t size_bytes;
    uint64_t pins_max; /* pages */
    _Atomic uint64_t pinned_pages;
    pid_t opener;
    bool is_read_only; /* as opened */
    char name[];       /* as opened, for messages */
};

/* What a call was about, to say so where it fails. */
struct request {
    cubby_region *owner;
    const char *verb; /* "reading" */
    uint64_t offset;
    uint64_t size;
    struct device_message message;
};

/* The pages that have some of a request's bytes. */
struct pages {
    uint64_t first;
    uint64_t count;
};

struct pages request_pages(uint64_t offset, uint64_t size);

/* Whether the region is that of a parent process. */
bool request_is_forked(const cubby_region *region);

/* The device's LBA of a page. */
uint64_t request_lba(const cubby_region *region, uint64_t page);

/* What every call on bytes checks first. Returns 0, CUBBY_FORKED or CUBBY_BAD_ARGUMENT. */
int request_check(const struct request *request);

/* Put a failure into words. Returns its public status. */
int request_failure(const struct request *request, int status);

/* The same for pages that could not be pinned. */
int request_pin_failure(struct request request, int status);

int request_forked(const cubby_region *region, struct device_message message);

#endif
