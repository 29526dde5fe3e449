/* csd_map.c -- the LBA map in memory, and the accounts that follow it.
 *
 * One entry of 8 bytes per logical block, in memory that is taken page by page as it is used; what
 * entries say of space is added up here and nowhere else.
 *
 * Depends on: csd_state.h.   Used by: csd_log.c, csd_recovery.c.
 */
#include "blockdev/csd_state.h"
#include "engine/base/cubby_assert.h"

void csd_map_mark_page(struct csd_device *csd, uint64_t page)
{
    if (!atomic_load_explicit(&csd->page_changed[page], memory_order_relaxed)) {
        atomic_store_explicit(&csd->page_changed[page], true, memory_order_relaxed);
        atomic_fetch_add_explicit(&csd->changed_pages, 1, memory_order_relaxed);
    }
}

/* Take a changed entry into the accounts of its page. Called with the stream's lock. */
static void account(struct csd_device *csd, uint64_t lba, uint64_t old, uint64_t entry)
{
    uint64_t page = csd_page_of(lba);
    csd_map_mark_page(csd, page);
    if ((old == CSD_ENTRY_NOTHING) != (entry == CSD_ENTRY_NOTHING)) {
        if (entry == CSD_ENTRY_NOTHING) {
            csd->page_mapped[page]--;
            atomic_fetch_sub_explicit(&csd->mapped_blocks, 1, memory_order_relaxed);
        } else {
            csd->page_mapped[page]++;
            atomic_fetch_add_explicit(&csd->mapped_blocks, 1, memory_order_relaxed);
        }
    }
}

void csd_map_set(struct csd_device *csd, uint64_t lba, uint64_t entry)
{
    uint64_t old = atomic_load_explicit(&csd->entries[lba], memory_order_relaxed);
    uint32_t old_bytes = csd_entry_bytes(csd, old);
    uint32_t bytes = csd_entry_bytes(csd, entry);
    if (old_bytes > 0) {
        atomic_fetch_sub(&csd->segments[csd_entry_segment(csd, old)].live_bytes, old_bytes);
    }
    if (bytes > 0) {
        atomic_fetch_add(&csd->segments[csd_entry_segment(csd, entry)].live_bytes, bytes);
    }
    account(csd, lba, old, entry);
    atomic_store_explicit(&csd->entries[lba], entry, memory_order_release);
}

void csd_map_set_nothing(struct csd_device *csd, uint64_t lba, uint64_t block_count)
{
    for (uint64_t i = 0; i < block_count; i++) {
        if (atomic_load_explicit(&csd->entries[lba + i], memory_order_relaxed) !=
            CSD_ENTRY_NOTHING) {
            csd_map_set(csd, lba + i, CSD_ENTRY_NOTHING);
        }
    }
}
