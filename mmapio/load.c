/* load.c -- bringing pages into memory.
 *
 * Where plain pointers work a page is read into a buffer and put in its place at once, protected
 * from stores, so that nobody sees it half read. Where there are pins alone it is read into its
 * frame: nobody may look there yet.
 *
 * Depends on: pfd.h, frames.h, uffd.h.   Used by: pin.c, fault.c.
 */
#include <errno.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "mmapio/frames.h"
#include "mmapio/pfd.h"
#include "mmapio/uffd.h"

/* One page --------------------------------------------------------------------------------------
 */

static page_word *word_of(struct mmapio_region *region, uint64_t page)
{
    return &region->words[page];
}

/* A page that was claimed is there. pin: WORD_READER, WORD_WRITER or 0. */
static void finish(struct mmapio_region *region, const struct page_load *load,
                   enum mmapio_access access, uint32_t pin)
{
    uint32_t stamp = load->from >> WORD_STAMP_SHIFT;
    bool was_here = stamp != 0 && evict_was_here(region, stamp);
    bool is_write = access == MMAPIO_WRITE;
    if (region->ppr != NULL) {
        atomic_store(&region->ppr[load->page], 1); /* it was put at view 0's address */
    }
    uint32_t is_protected = region->has_pointers && !is_write ? WORD_PROTECTED : 0;
    word_set(word_of(region, load->page),
             (uint32_t)(is_write ? PAGE_DIRTY : PAGE_CLEAN) | is_protected | pin);
    if (is_write) {
        clean_note_dirty(region, load->page);
    }
    evict_queue(region, load->page, was_here);
}

/* A page that was claimed is not there. */
static void fail(struct mmapio_region *region, struct page_load *load, int status)
{
    load->status = status;
    word_set(word_of(region, load->page), load->from & ~(uint32_t)WORD_WAITED);
}

static uint32_t pin_of(enum mmapio_access access)
{
    return access == MMAPIO_WRITE ? WORD_WRITER : WORD_READER;
}

/* A run, with what follows ------------------------------------------------------------------------
 */

/* How many pages to read for a miss: as long as each is the one that the last did not read, more
 * and more; on any other one, one. */
static unsigned note_stream(const struct mmapio_region *region, struct mmapio_slot *slot,
                            uint64_t page)
{
    bool goes_on = slot->stream_next == page;
    unsigned pages = !goes_on || slot->stream_pages == 0 ? 1 : 2 * slot->stream_pages;
    pages = pages > BOUNCE_PAGES ? BOUNCE_PAGES : pages;
    const struct mmapio_shard *shard = shard_of(region, page);
    uint64_t left = shard->first_page + shard->page_count - page;
    pages = pages > left ? (unsigned)left : pages;
    slot->stream_pages = pages;
    slot->stream_next = page + pages;
    return pages;
}

/* Claim what follows a page, as long as it is absent and there is room that is free already. */
static unsigned claim_following(struct mmapio_region *region, struct page_load *loads,
                                unsigned count)
{
    unsigned claimed = 1;
    for (; claimed < count; claimed++) {
        struct page_load *load = &loads[claimed];
        load->page = loads[0].page + claimed;
        load->from = atomic_load(word_of(region, load->page));
        if (word_state(load->from) != PAGE_ABSENT ||
            !load_claim(word_of(region, load->page), load->from)) {
            break;
        }
    }
    return claimed;
}

/* Put what was read in its place, in a region that has plain pointers. */
static int map_run(struct mmapio_region *region, uint64_t page, const uint8_t *buffer,
                   unsigned count, bool is_protected)
{
    size_t copied;
    struct mmapio_shard *shard = shard_of(region, page);
    if (!is_protected) {
        pthread_rwlock_rdlock(&shard->lifting);
    }
    int status = uffd_copy(shard->uffd, page_address(region, page), buffer,
                           count * (size_t)PAGE_BYTES, is_protected, &copied);
    CUBBY_ASSERT(status == 0 || copied == 0); /* or pages are there that nobody knows of */
    if (!is_protected) {
        for (unsigned i = 0; i < count; i++) { /* LOADING, as one that takes stores */
            atomic_fetch_or(word_of(region, page + i), WORD_WRITER);
        }
        pthread_rwlock_unlock(&shard->lifting);
    }
    return status;
}

static int read_run(struct mmapio_region *region, struct mmapio_slot *slot, uint64_t page,
                    unsigned count, bool is_protected)
{
    struct block_device *device = region->device;
    for (unsigned i = 0; i < count && region->frames != NULL; i++) {
        frames_take(region, page + i);
    }
    bool is_in_place = region->frames != NULL && count == 1;
    uint8_t *buffer = is_in_place ? page_address(region, page) : slot->bounce;
    int status = device->ops->read(device, region->first_lba + page, count, buffer);
    pfd_count(&slot->loads, count);
    if (status == 0 && region->has_pointers) {
        status = map_run(region, page, buffer, count, is_protected);
    }
    for (unsigned i = 0; i < count && region->frames != NULL; i++) {
        if (status != 0) {
            frames_give(region, page + i);
        } else if (!is_in_place) {
            memcpy(page_address(region, page + i), buffer + i * (size_t)PAGE_BYTES, PAGE_BYTES);
        }
    }
    return status;
}

int load_page(struct mmapio_region *region, struct page_load *load, enum mmapio_access access)
{
    struct page_load loads[BOUNCE_PAGES] = {*load};
    struct mmapio_slot *slot = pfd_take_slot(region);
    bool reads_ahead = access == MMAPIO_READ && atomic_load(&region->reads_ahead);
    unsigned wanted = reads_ahead ? note_stream(region, slot, load->page) : 1;
    pfd_give_slot(slot); /* there may be a wait for room */
    unsigned room = evict_take(region, wanted);
    if (room == 0) {
        fail(region, load, ENOBUFS);
        return load->status;
    }
    atomic_fetch_add(&region->loading, 1);
    unsigned count = claim_following(region, loads, room);
    evict_give(region, room - count);
    slot = pfd_take_slot(region);
    int status = read_run(region, slot, load->page, count, access == MMAPIO_READ);
    if (status != 0 && count > 1) { /* the page itself may be readable */
        for (unsigned i = 1; i < count; i++) {
            fail(region, &loads[i], status);
        }
        evict_give(region, count - 1);
        count = 1;
        status = read_run(region, slot, load->page, 1, access == MMAPIO_READ);
    }
    pfd_give_slot(slot);
    if (status != 0) {
        evict_give(region, 1);
        fail(region, load, status);
        count = 0;
    }
    for (unsigned i = 0; i < count; i++) {
        finish(region, &loads[i], i == 0 ? access : MMAPIO_READ, i == 0 ? pin_of(access) : 0);
    }
    atomic_fetch_sub(&region->loading, 1);
    load->status = status;
    return status;
}

/* Several ----------------------------------------------------------------------------------------
 */

static int need_queue(struct mmapio_region *region, struct mmapio_slot *slot)
{
    struct block_device *device = region->device;
    return slot->queue != NULL ? 0 : device->ops->queue_open(device, BOUNCE_PAGES, &slot->queue);
}

/* Read pages, each by a request of its own. */
static void read_each(struct mmapio_region *region, struct mmapio_slot *slot,
                      struct page_load *loads, size_t count)
{
    struct block_request requests[BOUNCE_PAGES];
    struct block_queue *queue = slot->queue;
    size_t in_flight = 0;
    for (size_t i = 0; i < count; i++) {
        if (region->frames != NULL) {
            frames_take(region, loads[i].page);
        }
        requests[i] = (struct block_request){
            .operation = BLOCK_READ,
            .block_count = 1,
            .lba = region->first_lba + loads[i].page,
            .buffer = region->frames != NULL ? page_address(region, loads[i].page)
                                             : slot->bounce + i * PAGE_BYTES,
        };
        int status = queue->ops->submit(queue, &requests[i]);
        requests[i].result = status;
        in_flight += status == 0;
    }
    while (in_flight > 0) {
        struct block_request *done[BOUNCE_PAGES];
        in_flight -= queue->ops->reap(queue, done, BOUNCE_PAGES);
    }
    for (size_t i = 0; i < count; i++) {
        loads[i].status = requests[i].result;
    }
    pfd_count(&slot->loads, count);
}

static void put_each(struct mmapio_region *region, struct mmapio_slot *slot,
                     struct page_load *loads, size_t count, enum mmapio_access access)
{
    for (size_t i = 0; i < count; i++) {
        struct page_load *load = &loads[i];
        if (load->status == 0 && region->has_pointers) {
            load->status = map_run(region, load->page, slot->bounce + i * PAGE_BYTES, 1,
                                   access == MMAPIO_READ);
        }
        if (load->status == 0) {
            finish(region, load, access, pin_of(access));
            continue;
        }
        if (region->frames != NULL) {
            frames_give(region, load->page);
        }
        evict_give(region, 1);
        fail(region, load, load->status);
    }
}

void load_pages(struct mmapio_region *region, struct page_load *loads, size_t count,
                enum mmapio_access access)
{
    for (size_t at = 0; at < count;) {
        size_t left = count - at;
        unsigned wanted = left < BOUNCE_PAGES ? (unsigned)left : (unsigned)BOUNCE_PAGES;
        unsigned room = evict_take(region, wanted);
        if (room == 0) {
            fail(region, &loads[at], ENOBUFS);
            at++;
            continue;
        }
        atomic_fetch_add(&region->loading, 1);
        struct mmapio_slot *slot = pfd_take_slot(region);
        int status = need_queue(region, slot);
        if (status == 0) {
            read_each(region, slot, &loads[at], room);
            put_each(region, slot, &loads[at], room, access);
        }
        pfd_give_slot(slot);
        for (unsigned i = 0; i < room && status != 0; i++) {
            fail(region, &loads[at + i], status);
        }
        evict_give(region, status != 0 ? room : 0);
        atomic_fetch_sub(&region->loading, 1);
        at += room;
    }
}
