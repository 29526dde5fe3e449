/* region_request.c -- see region_request.h. */
#include "mmapio/region_request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct pages request_pages(uint64_t offset, uint64_t size)
{
    uint64_t first = offset / PAGE_BYTES;
    uint64_t end = size == 0 ? first : (offset + size - 1) / PAGE_BYTES + 1;
    return (struct pages){.first = first, .count = end - first};
}

bool request_is_forked(const cubby_region *region)
{
    return region->opener != getpid();
}

uint64_t request_lba(const cubby_region *region, uint64_t page)
{
    return region->first_lba + page;
}

struct place {
    char text[56]; /* two numbers of 20 digits, and words */
};

/* "LBA 5", or "LBAs 5 to 9". */
static struct place place_of(const struct request *request)
{
    struct place place;
    struct pages pages = request_pages(request->offset, request->size);
    uint64_t first = request_lba(request->owner, pages.first);
    if (pages.count <= 1) {
        snprintf(place.text, sizeof place.text, "LBA %" PRIu64, first);
    } else {
        snprintf(place.text, sizeof place.text, "LBAs %" PRIu64 " to %" PRIu64, first,
                 first + pages.count - 1);
    }
    return place;
}

/* It takes no stores: as it was opened so, or as writing back has failed. */
static int say_read_only(const struct request *request)
{
    const cubby_region *region = request->owner;
    if (region->is_read_only) {
        return device_message_set(request->message, CUBBY_READ_ONLY, "%s is open for reading only",
                                  region->name);
    }
    struct mmapio_stat stat;
    mmapio_stat(region->mapped, &stat);
    return device_message_set(request->message, CUBBY_DEGRADED,
                              "%s: writing LBA %" PRIu64
                              " back has failed (%s): nothing can be stored until a sync succeeds",
                              region->name, request_lba(region, stat.write_error_page),
                              cubby_status_text(stat.write_error));
}

int request_failure(const struct request *request, int status)
{
    if (status == 0) {
        return CUBBY_OK;
    }
    const char *name = request->owner->name;
    struct place place = place_of(request);
    switch (status) {
    case EROFS:
        return say_read_only(request);
    case CUBBY_CORRUPT:
        return device_message_set(request->message, status,
                                  "%s of %s is damaged: what is stored there fails its check",
                                  place.text, name);
    case ENOBUFS:
        return device_message_set(request->message, status,
                                  "%s: no room in the cache %s %s: it is pinned, or dirty and not "
                                  "to be written; unpin some, or open it with a larger cache_bytes",
                                  name, request->verb, place.text);
    case EAGAIN:
        return device_message_set(request->message, status,
                                  "%s: %s is pinned too many times; unpin it first", name,
                                  place.text);
    case ENOSPC:
    case EDQUOT:
        return device_message_set(request->message, CUBBY_PHYSICAL_FULL,
                                  "%s is physically full: what it refused is kept in memory; make "
                                  "room on it, and sync",
                                  name);
    default:
        status = device_message_public(status);
        return device_message_set(request->message, status, "%s failed %s %s: %s", name,
                                  request->verb, place.text, cubby_status_text(status));
    }
}

int request_forked(const cubby_region *region, struct device_message message)
{
    return device_message_set(message, CUBBY_FORKED,
                              "%s was opened by the parent process; open it anew in this one",
                              region->name);
}

int request_check(const struct request *request)
{
    const cubby_region *region = request->owner;
    if (request_is_forked(region)) {
        return request_forked(region, request->message);
    }
    if (request->offset > region->size_bytes ||
        request->size > region->size_bytes - request->offset) {
        return device_message_set(request->message, CUBBY_BAD_ARGUMENT,
                                  "%s is mapped with %" PRIu64 " bytes; %s %" PRIu64
                                  " bytes from %" PRIu64 " on is outside",
                                  region->name, region->size_bytes, request->verb, request->size,
                                  request->offset);
    }
    return 0;
}

/* Some page of a request cannot be had: narrow it to the first for which that is so. */
static void narrow(struct request *request)
{
    struct pages pages = request_pages(request->offset, request->size);
    struct mmapio_region *mapped = request->owner->mapped;
    for (uint64_t i = 0; i < pages.count; i++) {
        uint8_t *address;
        if (mmapio_pin(mapped, pages.first + i, MMAPIO_READ, &address) != 0) {
            request->offset = (pages.first + i) * PAGE_BYTES;
            request->size = 1;
            return;
        }
        mmapio_unpin(mapped, pages.first + i, MMAPIO_READ);
    }
}

int request_pin_failure(struct request request, int status)
{
    if (status != 0 && status != ENOBUFS && status != EAGAIN && status != EROFS) {
        narrow(&request);
    }
    return request_failure(&request, status);
}
