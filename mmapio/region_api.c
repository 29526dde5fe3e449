/* region_api.c -- regions for tools: the cubby_region_* functions of cubby_region.h.
 *
 * What region.h leaves to its callers is done here: a device of its own, opened by name; places in
 * bytes, which need not be those of pages; statuses of the public interface in place of errnos, and
 * a sentence for each failure. A region that was carried through a fork() is refused in the child.
 *
 * Depends on: region_request.h, region.h, blockdev.   Used by: Python.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockdev/block_range.h"
#include "blockdev/device_message.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/memory.h"
#include "engine/cubby.h"
#include "engine/cubby_region.h"
#include "mmapio/region_request.h"

enum {
    PIN_PAGES = 256,    /* pinned by one call */
    COPY_PAGES = 16,    /* pinned at a time for a copy */
    BOUNCE_PAGES = 256, /* 1 MiB: copied to or from an aligned buffer at a time */
    PINS_MAX = 1024,    /* of cubby_region_pin_many */
    CACHE_BYTES_DEFAULT = 64 << 20,
};

_Static_assert((int)CUBBY_REGION_READ == (int)MMAPIO_READ, "one numbering");
_Static_assert((int)CUBBY_REGION_WRITE == (int)MMAPIO_WRITE, "one numbering");
_Static_assert((int)CUBBY_REGION_NORMAL == (int)MMAPIO_NORMAL, "one numbering");
_Static_assert((int)CUBBY_REGION_RANDOM == (int)MMAPIO_RANDOM, "one numbering");
_Static_assert((int)CUBBY_REGION_WILLNEED == (int)MMAPIO_WILLNEED, "one numbering");
_Static_assert((int)CUBBY_REGION_DONTNEED == (int)MMAPIO_DONTNEED, "one numbering");

/* Life -------------------------------------------------------------------------------------------
 */

static int check_options(const char *name, const struct cubby_region_options *options,
                         struct device_message message)
{
    if (options->first_byte % PAGE_BYTES != 0 || options->size_bytes % PAGE_BYTES != 0) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "%s: a region begins at a multiple of %d bytes and has a "
                                  "multiple of them, not %" PRIu64 " and %" PRIu64,
                                  name, (int)PAGE_BYTES, options->first_byte, options->size_bytes);
    }
    if (options->has_views != 0 && options->pins_only != 0) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "%s: a region with pins only has no views", name);
    }
    return 0;
}

/* Map an open device. */
static int map(cubby_region *region, const struct cubby_region_options *options,
               struct device_message message)
{
    uint64_t total = block_range_total(region->device);
    region->first_lba = options->first_byte / PAGE_BYTES;
    uint64_t count = options->size_bytes / PAGE_BYTES;
    if (count == 0 && region->first_lba < total) {
        count = total - region->first_lba;
    }
    if (count == 0 || region->first_lba > total || count > total - region->first_lba) {
        return device_message_set(
            message, CUBBY_BAD_ARGUMENT,
            "%s has %" PRIu64 " bytes; a region of %" PRIu64 " from %" PRIu64 " on is not inside",
            region->name, total * PAGE_BYTES, count * PAGE_BYTES, options->first_byte);
    }
    uint64_t cache_bytes = options->cache_bytes != 0 ? options->cache_bytes : CACHE_BYTES_DEFAULT;
    region->size_bytes = count * PAGE_BYTES;
    region->pins_max = cache_bytes / PAGE_BYTES / 2;
    region->is_read_only = options->read_only != 0;
    const struct mmapio_options inner = {
        .pins_only = options->pins_only != 0,
        .read_only = region->is_read_only,
        .has_views = options->has_views != 0,
    };
    char reason[CUBBY_MESSAGE_BYTES];
    int status = mmapio_open(region->device, region->first_lba, count, cache_bytes, &inner,
                             &region->mapped, reason, sizeof reason);
    status = device_message_public(status);
    if (reason[0] == '\0' && status != 0) {
        return device_message_set(message, status, "%s: mapping it: %s", region->name,
                                  cubby_status_text(status));
    }
    if (reason[0] != '\0') {
        device_message_set(message, status, "%s: %s", region->name, reason);
    }
    return status;
}

int cubby_region_open(const char *name, const struct cubby_region_options *options,
                      cubby_region **region, char *message, size_t message_size)
{
    CUBBY_ASSERT(name != NULL);
    CUBBY_ASSERT(region != NULL);
    static const struct cubby_region_options defaults;
    const struct cubby_region_options *wanted = options != NULL ? options : &defaults;
    struct device_message sentence = {.text = message, .size = message_size};
    device_message_set(sentence, 0, "%s", "");
    int status = check_options(name, wanted, sentence);
    if (status != 0) {
        return status;
    }
    size_t name_bytes = strlen(name) + 1;
    cubby_region *opened = calloc(1, sizeof *opened + name_bytes);
    if (opened == NULL) {
        return device_message_set(sentence, ENOMEM, "there is no memory to open %s", name);
    }
    memcpy(opened->name, name, name_bytes);
    opened->opener = getpid();
    unsigned flags = wanted->read_only != 0 ? BLOCK_DEVICE_READ_ONLY : 0;
    status = block_device_open(name, flags, &opened->device, message, message_size);
    if (status != 0) {
        free(opened);
        return device_message_public(status);
    }
    status = map(opened, wanted, sentence);
    if (status != 0) {
        opened->device->ops->close(opened->device);
        free(opened);
        return status;
    }
    *region = opened;
    return CUBBY_OK;
}

static void end(cubby_region *region)
{
    region->device->ops->close(region->device);
    free(region);
}

int cubby_region_close(cubby_region *region, char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    struct request request = {
        region, "writing back", 0, region->size_bytes, {message, message_size}};
    if (request_is_forked(region)) {
        return request_forked(region, request.message);
    }
    int status = mmapio_close(region->mapped);
    if (status == EBUSY) {
        return device_message_set(request.message, status,
                                  "%s has pages that are pinned, or views that are open; unpin and "
                                  "close them before",
                                  region->name);
    }
    if (status != 0) {
        return request_failure(&request, status);
    }
    end(region);
    return CUBBY_OK;
}

void cubby_region_abandon(cubby_region *region)
{
    if (region == NULL || request_is_forked(region)) {
        return; /* all of it is the parent's; its memory here goes with the process */
    }
    CUBBY_ASSERT(atomic_load(&region->pinned_pages) == 0);
    mmapio_abandon(region->mapped);
    end(region);
}

uint8_t *cubby_region_base(const cubby_region *region)
{
    CUBBY_ASSERT(region != NULL);
    return mmapio_base(region->mapped);
}

uint64_t cubby_region_size(const cubby_region *region)
{
    CUBBY_ASSERT(region != NULL);
    return region->size_bytes;
}

/* Pins -------------------------------------------------------------------------------------------
 */

static void unpin(cubby_region *region, struct pages pages, enum mmapio_access access)
{
    for (uint64_t i = 0; i < pages.count; i++) {
        mmapio_unpin(region->mapped, pages.first + i, access);
    }
}

/* Pin pages that follow each other, at most PIN_PAGES. */
static int pin_some(cubby_region *region, struct pages pages, enum mmapio_access access)
{
    CUBBY_ASSERT(pages.count <= PIN_PAGES);
    uint64_t numbers[PIN_PAGES];
    uint8_t *addresses[PIN_PAGES];
    if (pages.count == 1) {
        return mmapio_pin(region->mapped, pages.first, access, addresses); /* reads ahead */
    }
    for (uint64_t i = 0; i < pages.count; i++) {
        numbers[i] = pages.first + i;
    }
    return mmapio_pin_many(region->mapped, (size_t)pages.count, numbers, access, addresses);
}

static int pin(cubby_region *region, struct pages pages, enum mmapio_access access)
{
    for (uint64_t done = 0; done < pages.count;) {
        uint64_t left = pages.count - done;
        struct pages some = {pages.first + done, left < PIN_PAGES ? left : (uint64_t)PIN_PAGES};
        int status = pin_some(region, some, access);
        if (status != 0) {
            unpin(region, (struct pages){pages.first, done}, access);
            return status;
        }
        done += some.count;
    }
    return 0;
}

/* Account for pins, which may have half of the cache. Returns 0 or ENOBUFS. */
static int take_pins(const struct request *request, uint64_t count)
{
    cubby_region *region = request->owner;
    uint64_t pinned = atomic_load(&region->pinned_pages);
    do {
        if (count > region->pins_max || pinned > region->pins_max - count) {
            return device_message_set(request->message, ENOBUFS,
                                      "%s: no room to pin %" PRIu64 " pages beside %" PRIu64
                                      ": pins may have half of the cache, %" PRIu64
                                      " pages; unpin some, or open it with a larger cache_bytes",
                                      region->name, count, pinned, region->pins_max);
        }
    } while (!atomic_compare_exchange_weak(&region->pinned_pages, &pinned, pinned + count));
    return 0;
}

static int check_pin(const struct request *request, uint32_t access)
{
    int status = request_check(request);
    if (status == 0 && request->size == 0) {
        return device_message_set(request->message, CUBBY_BAD_ARGUMENT,
                                  "%s: %s takes at least one byte", request->owner->name,
                                  request->verb);
    }
    if (status == 0 && access > CUBBY_REGION_WRITE) {
        return device_message_set(request->message, CUBBY_BAD_ARGUMENT,
                                  "%s: access is to read (0) or to write (1), not %" PRIu32,
                                  request->owner->name, access);
    }
    return status;
}

int cubby_region_pin(cubby_region *region, uint64_t offset, uint64_t size, uint32_t access,
                     uint8_t **address, char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    CUBBY_ASSERT(address != NULL);
    struct request request = {region, "pinning", offset, size, {message, message_size}};
    struct pages pages = request_pages(offset, size);
    int status = check_pin(&request, access);
    if (status == 0 && pages.count > 1 && mmapio_base(region->mapped) == NULL) {
        return device_message_set(request.message, CUBBY_BAD_ARGUMENT,
                                  "%s: without pointers pages do not lie side by side, so a pin is "
                                  "of one; %" PRIu64 " bytes from %" PRIu64 " on are of %" PRIu64,
                                  region->name, size, offset, pages.count);
    }
    if (status != 0 || (status = take_pins(&request, pages.count)) != 0) {
        return status;
    }
    status = pin(region, pages, (enum mmapio_access)access);
    if (status != 0) {
        atomic_fetch_sub(&region->pinned_pages, pages.count);
        return request_pin_failure(request, status);
    }
    *address = mmapio_address(region->mapped, pages.first) + offset % PAGE_BYTES;
    return CUBBY_OK;
}

void cubby_region_unpin(cubby_region *region, uint64_t offset, uint64_t size, uint32_t access)
{
    CUBBY_ASSERT(region != NULL);
    if (request_is_forked(region)) {
        return;
    }
    struct pages pages = request_pages(offset, size);
    unpin(region, pages, (enum mmapio_access)access);
    uint64_t before = atomic_fetch_sub(&region->pinned_pages, pages.count);
    CUBBY_ASSERT(before >= pages.count);
}

int cubby_region_pin_many(cubby_region *region, size_t count, const uint64_t *offsets,
                          uint32_t access, uint8_t **addresses, char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    struct request request = {region, "pinning", 0, 1, {message, message_size}};
    if (count > PINS_MAX) {
        return device_message_set(request.message, CUBBY_BAD_ARGUMENT,
                                  "%s: at most %d pages are pinned by a call, not %zu",
                                  region->name, (int)PINS_MAX, count);
    }
    uint64_t pages[PINS_MAX];
    int status = request_is_forked(region) ? request_forked(region, request.message) : 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        request.offset = offsets[i];
        status = check_pin(&request, access);
        pages[i] = offsets[i] / PAGE_BYTES;
    }
    if (status != 0 || (status = take_pins(&request, count)) != 0) {
        return status;
    }
    status = mmapio_pin_many(region->mapped, count, pages, (enum mmapio_access)access, addresses);
    if (status != 0) {
        atomic_fetch_sub(&region->pinned_pages, count);
        return request_failure(&request, status);
    }
    for (size_t i = 0; i < count; i++) {
        addresses[i] += offsets[i] % PAGE_BYTES;
    }
    return CUBBY_OK;
}

/* Copies -----------------------------------------------------------------------------------------
 */

/* The part of a copy that begins after done_bytes, of at most page_count pages. */
static struct request part_of(const struct request *request, uint64_t done_bytes,
                              uint64_t page_count)
{
    struct request part = *request;
    part.offset += done_bytes;
    part.size -= done_bytes;
    uint64_t room = page_count * PAGE_BYTES - part.offset % PAGE_BYTES;
    part.size = part.size < room ? part.size : room;
    return part;
}

/* Copy a request's bytes out of pinned pages, or into them. One of to and from is NULL. */
static int copy(const struct request *request, uint8_t *to, const uint8_t *from)
{
    cubby_region *region = request->owner;
    enum mmapio_access access = to != NULL ? MMAPIO_READ : MMAPIO_WRITE;
    int status = request_check(request);
    bool is_in_order = mmapio_base(region->mapped) != NULL;
    uint64_t page_count = is_in_order ? COPY_PAGES : 1;
    for (uint64_t done = 0; status == 0 && done < request->size;) {
        struct request part = part_of(request, done, page_count);
        struct pages pages = request_pages(part.offset, part.size);
        status = pin_some(region, pages, access);
        if (status == ENOBUFS && pages.count > 1) {
            page_count = 1; /* there may be room for one after the other */
            status = 0;
            continue;
        }
        if (status != 0) {
            return request_pin_failure(part, status);
        }
        uint8_t *memory = mmapio_address(region->mapped, pages.first) + part.offset % PAGE_BYTES;
        if (to != NULL) {
            memcpy(to + done, memory, (size_t)part.size);
        } else {
            memcpy(memory, from + done, (size_t)part.size);
        }
        unpin(region, pages, access);
        done += part.size;
    }
    return status;
}

int cubby_region_load(cubby_region *region, uint64_t offset, uint64_t size, uint8_t *buffer,
                      char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    CUBBY_ASSERT(buffer != NULL);
    struct request request = {region, "reading", offset, size, {message, message_size}};
    return copy(&request, buffer, NULL);
}

int cubby_region_store(cubby_region *region, uint64_t offset, uint64_t size, const uint8_t *buffer,
                       char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    CUBBY_ASSERT(buffer != NULL);
    struct request request = {region, "storing to", offset, size, {message, message_size}};
    return copy(&request, NULL, buffer);
}

/* Whole pages ------------------------------------------------------------------------------------
 */

static int check_whole(const struct request *request)
{
    int status = request_check(request);
    if (status == 0 && (request->offset % PAGE_BYTES != 0 || request->size % PAGE_BYTES != 0)) {
        return device_message_set(
            request->message, CUBBY_BAD_ARGUMENT,
            "%s: %s takes whole pages of %d bytes, not %" PRIu64 " bytes from %" PRIu64 " on",
            request->owner->name, request->verb, (int)PAGE_BYTES, request->size, request->offset);
    }
    return status;
}

/* One of to and from is NULL. */
static int move_aligned(const struct request *request, uint8_t *to, const uint8_t *from)
{
    struct mmapio_region *mapped = request->owner->mapped;
    struct pages pages = request_pages(request->offset, request->size);
    int status = to != NULL ? mmapio_read(mapped, pages.first, (size_t)pages.count, to)
                            : mmapio_write(mapped, pages.first, (size_t)pages.count, from);
    return to != NULL ? request_pin_failure(*request, status) : request_failure(request, status);
}

static int move_pages(const struct request *request, uint8_t *to, const uint8_t *from)
{
    int status = check_whole(request);
    if (status != 0 || request->size == 0) {
        return status;
    }
    if (block_range_is_aligned(to != NULL ? to : from)) {
        return move_aligned(request, to, from);
    }
    struct aligned_buffer bounce = {0};
    struct request part = part_of(request, 0, BOUNCE_PAGES);
    if (aligned_buffer_reserve(&bounce, (size_t)part.size) != 0) {
        return request_failure(request, ENOMEM);
    }
    for (uint64_t done = 0; status == 0 && done < request->size; done += part.size) {
        part = part_of(request, done, BOUNCE_PAGES);
        if (from != NULL) {
            memcpy(bounce.data, from + done, (size_t)part.size);
        }
        status = to != NULL ? move_aligned(&part, bounce.data, NULL)
                            : move_aligned(&part, NULL, bounce.data);
        if (status == 0 && to != NULL) {
            memcpy(to + done, bounce.data, (size_t)part.size);
        }
    }
    aligned_buffer_free(&bounce);
    return status;
}

int cubby_region_read(cubby_region *region, uint64_t offset, uint64_t size, uint8_t *buffer,
                      char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    CUBBY_ASSERT(buffer != NULL);
    struct request request = {region, "reading", offset, size, {message, message_size}};
    return move_pages(&request, buffer, NULL);
}

int cubby_region_write(cubby_region *region, uint64_t offset, uint64_t size, const uint8_t *buffer,
                       char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    CUBBY_ASSERT(buffer != NULL);
    struct request request = {region, "writing", offset, size, {message, message_size}};
    return move_pages(&request, NULL, buffer);
}

/* The region as a whole -------------------------------------------------------------------------
 */

int cubby_region_sync(cubby_region *region, uint64_t offset, uint64_t size, char *message,
                      size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    struct request request = {region, "syncing", offset, size, {message, message_size}};
    int status = request_check(&request);
    if (status != 0) {
        return status;
    }
    struct pages pages = request_pages(offset, size);
    return request_failure(&request, mmapio_sync(region->mapped, pages.first, pages.count));
}

int cubby_region_advise(cubby_region *region, uint64_t offset, uint64_t size, uint32_t advice,
                        char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    struct request request = {region, "reading ahead", offset, size, {message, message_size}};
    int status = request_check(&request);
    if (status == 0 && advice > CUBBY_REGION_DONTNEED) {
        return device_message_set(request.message, CUBBY_BAD_ARGUMENT,
                                  "%s: there is no advice %" PRIu32, region->name, advice);
    }
    if (status != 0) {
        return status;
    }
    struct pages pages = request_pages(offset, size);
    return request_failure(&request, mmapio_advise(region->mapped, pages.first, pages.count,
                                                   (enum mmapio_advice)advice));
}

int cubby_region_last_fault(uint64_t *offset)
{
    CUBBY_ASSERT(offset != NULL);
    struct mmapio_fault fault = mmapio_last_fault();
    *offset = fault.page * PAGE_BYTES;
    return device_message_public(fault.status);
}

int cubby_region_stat(cubby_region *region, struct cubby_region_stat *stat)
{
    CUBBY_ASSERT(region != NULL);
    CUBBY_ASSERT(stat != NULL);
    if (request_is_forked(region)) {
        return CUBBY_FORKED;
    }
    struct mmapio_stat inner;
    mmapio_stat(region->mapped, &inner);
    *stat = (struct cubby_region_stat){
        .cache_pages = inner.cache_pages,
        .resident_pages = inner.resident_pages,
        .dirty_pages = inner.dirty_pages,
        .pinned_pages = atomic_load(&region->pinned_pages),
        .loads = inner.loads,
        .pointer_faults = inner.pointer_faults,
        .evictions = inner.evictions,
        .eviction_calls = inner.eviction_calls,
        .writes = inner.writes,
        .write_calls = inner.write_calls,
        .has_pointers = inner.has_pointers,
        .is_read_only = inner.is_read_only,
        .write_error = device_message_public(inner.write_error),
        .write_error_lba = inner.write_error != 0 ? request_lba(region, inner.write_error_page) : 0,
    };
    return CUBBY_OK;
}
