/* region_kinds.c -- the kinds that are regions of mmapio; see kinds.h. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/mapped/kinds.h"
#include "mmapio/region.h"

enum { VIEWS = 2 };

static int close_region(void *opened);

struct opened_region {
    struct block_device *device;
    struct mmapio_region *region;
    struct mmapio_view *views[VIEWS]; /* of the kind views */
};

static int open_region(const struct mapped_options *options, const struct mmapio_options *chosen,
                       void **opened, char *message)
{
    struct opened_region *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ENOMEM;
    }
    int status = block_device_open(options->path, 0, &self->device, message, KINDS_MESSAGE_BYTES);
    if (status == 0) {
        status = mmapio_open(self->device, 0, options->page_count, options->cache_bytes, chosen,
                             &self->region, message, KINDS_MESSAGE_BYTES);
    }
    if (status == 0) {
        struct mmapio_stat stat;
        mmapio_stat(self->region, &stat);
        status = chosen->pins_only || stat.has_pointers ? 0 : EOPNOTSUPP;
    }
    if (status == 0 && !options->is_scan) {
        status = mmapio_advise(self->region, 0, options->page_count, MMAPIO_RANDOM);
    }
    if (status != 0) {
        mmapio_abandon(self->region);
        if (self->device != NULL) {
            self->device->ops->close(self->device);
        }
        free(self);
        return status;
    }
    *opened = self;
    return 0;
}

static int open_pins(const struct mapped_options *options, void **opened, char *message)
{
    const struct mmapio_options chosen = {.pins_only = true};
    return open_region(options, &chosen, opened, message);
}

static int open_armed(const struct mapped_options *options, void **opened, char *message)
{
    const struct mmapio_options chosen = {0};
    return open_region(options, &chosen, opened, message);
}

static int open_views(const struct mapped_options *options, void **opened, char *message)
{
    const struct mmapio_options chosen = {.has_views = true};
    int status = open_region(options, &chosen, opened, message);
    struct opened_region *self = status == 0 ? *opened : NULL;
    for (unsigned i = 0; i < VIEWS && status == 0; i++) {
        status =
            mmapio_view_open(self->region, 0, options->page_count, MMAPIO_WRITE, &self->views[i]);
    }
    if (status != 0 && self != NULL) {
        close_region(self);
    }
    return status;
}

static int run_pins(void *opened, const access_code *codes, size_t count, ledger_entry *ledger)
{
    struct mmapio_region *region = ((struct opened_region *)opened)->region;
    bool is_right = true;
    for (size_t i = 0; i < count; i++) {
        enum mmapio_access access = (codes[i] & 1) != 0 ? MMAPIO_WRITE : MMAPIO_READ;
        uint64_t number = codes[i] >> 1;
        uint8_t *address;
        int status = mmapio_pin(region, number, access, &address);
        if (status != 0) {
            return status;
        }
        is_right &= pages_access((struct page *)(void *)address, codes[i], ledger);
        mmapio_unpin(region, number, access);
    }
    return is_right ? 0 : EILSEQ;
}

static int run_pointers(void *opened, const access_code *codes, size_t count, ledger_entry *ledger)
{
    const struct opened_region *self = opened;
    return kinds_run_plain(mmapio_base(self->region), codes, count, ledger);
}

static int run_views(void *opened, const access_code *codes, size_t count, ledger_entry *ledger)
{
    const struct opened_region *self = opened;
    bool is_right = true;
    for (size_t i = 0; i < count; i++) {
        uint8_t *base = mmapio_view_base(self->views[i % VIEWS]);
        uint8_t *address = base + (size_t)(codes[i] >> 1) * PAGES_BYTES;
        is_right &= pages_access((struct page *)(void *)address, codes[i], ledger);
    }
    return is_right ? 0 : EILSEQ;
}

static int sync_region(void *opened)
{
    struct mmapio_region *region = ((struct opened_region *)opened)->region;
    return mmapio_sync(region, 0, mmapio_page_count(region));
}

static void count_region(void *opened, struct mapped_counts *counts)
{
    struct mmapio_stat stat;
    mmapio_stat(((struct opened_region *)opened)->region, &stat);
    *counts = (struct mapped_counts){
        .loads = stat.loads,
        .evictions = stat.evictions,
        .eviction_calls = stat.eviction_calls,
        .writes = stat.writes,
        .write_calls = stat.write_calls,
        .pointer_faults = stat.pointer_faults,
    };
}

static int close_region(void *opened)
{
    struct opened_region *self = opened;
    for (unsigned i = 0; i < VIEWS; i++) {
        mmapio_view_close(self->views[i]);
    }
    int status = sync_region(self);
    status = status == 0 ? mmapio_close(self->region) : status;
    if (status != 0) {
        mmapio_abandon(self->region);
    }
    self->device->ops->close(self->device);
    free(self);
    return status;
}

const struct mapped_kind pins_kind = {
    .name = "pins",
    .open = open_pins,
    .run = run_pins,
    .sync = sync_region,
    .count = count_region,
    .close = close_region,
};

const struct mapped_kind pins_armed_kind = {
    .name = "pins-armed",
    .open = open_armed,
    .run = run_pins,
    .sync = sync_region,
    .count = count_region,
    .close = close_region,
};

const struct mapped_kind pointers_kind = {
    .name = "pointers",
    .open = open_armed,
    .run = run_pointers,
    .sync = sync_region,
    .count = count_region,
    .close = close_region,
};

const struct mapped_kind views_kind = {
    .name = "views",
    .open = open_views,
    .run = run_views,
    .sync = sync_region,
    .count = count_region,
    .close = close_region,
};
