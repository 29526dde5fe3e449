/* csd_checkpoint.c -- the map on the device: what recovery begins with.
 *
 *   capture heads; copy and write changed map pages; flush; superblock 0; flush; superblock 1
 *
 * A page goes to the one of its two slots that the last checkpoint does not use, so that a
 * checkpoint which is cut off has changed nothing. Writers go on meanwhile: what they add is behind
 * the captured heads, and recovery takes it from the log (invariant 5).
 *
 * Depends on: csd_state.h.   Used by: csd_device.c, csd_clean.c, csd_recovery.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockdev/csd_state.h"
#include "engine/base/cubby_assert.h"

enum {
    DUE_BYTES = 16 << 20,  /* of log, at least, between two checkpoints */
    DUE_PER_MAP_BYTE = 16, /* of log: so the map costs a sixteenth at most */
    DUE_SHARE_OF_LOG = 8,  /* but sooner than when this part of the whole log is waiting */
};

/* One checkpoint on its way. */
struct checkpoint {
    struct csd_super super; /* as it will be */
    uint64_t *pages;        /* captured ones */
    size_t page_count;
    size_t page_capacity;
    uint8_t *block;
};

/* Where recovery has to read on, and from when on entries may be copied. */
static void capture_heads(struct csd_device *csd, struct checkpoint *checkpoint)
{
    struct csd_super *super = &checkpoint->super;
    for (uint32_t i = 0; i < super->stream_count; i++) {
        pthread_mutex_lock(&csd->streams[i].lock);
    }
    for (uint32_t i = 0; i < super->stream_count; i++) {
        struct csd_stream *stream = &csd->streams[i];
        csd_log_report(csd, stream);
        super->sequences[i] = stream->sequence;
        for (size_t j = 0; j < CSD_HEADS_PER_STREAM; j++) {
            const struct csd_head *head = &stream->heads[j];
            super->heads[i * CSD_HEADS_PER_STREAM + j] =
                head->segment == CSD_NO_SEGMENT
                    ? (struct csd_head_mark){0}
                    : (struct csd_head_mark){
                          .generation = head->generation,
                          .segment = (uint32_t)head->segment,
                          .position_bytes = head->position_bytes != 0
                                                ? head->position_bytes
                                                : csd_format_first_bytes(super),
                      };
        }
    }
    pthread_mutex_lock(&csd->segments_lock);
    super->next_generation = csd->next_generation;
    pthread_mutex_unlock(&csd->segments_lock);
    super->checkpoint = atomic_fetch_add(&csd->captured, 1) + 1;
    atomic_store(&csd->logged_bytes, 0);
    for (uint32_t i = super->stream_count; i > 0; i--) {
        pthread_mutex_unlock(&csd->streams[i - 1].lock);
    }
}

/* Copy one page as it is now. Returns false if it has not changed, unless it is wanted anyway. */
static bool capture_page(struct csd_device *csd, uint64_t page, bool wanted, uint64_t *entries)
{
    struct csd_stream *stream = csd_stream_of(csd, page);
    pthread_mutex_lock(&stream->lock);
    bool changed = atomic_load(&csd->page_changed[page]);
    if (changed) {
        atomic_store(&csd->page_changed[page], false);
        atomic_fetch_sub(&csd->changed_pages, 1);
    }
    if (changed || wanted) {
        uint64_t first = page * CSD_MAP_ENTRIES;
        for (uint64_t i = 0; i < CSD_MAP_ENTRIES; i++) {
            entries[i] = first + i < csd->super.logical_blocks ? csd_map_get(csd, first + i) : 0;
        }
    }
    pthread_mutex_unlock(&stream->lock);
    return changed || wanted;
}

static int write_block(struct csd_device *csd, uint64_t lba, const uint8_t *block)
{
    csd_count(csd, CSD_MEDIA_WRITES, CUBBY_BLOCK_BYTES);
    csd_count(csd, CSD_MAP_WRITES, CUBBY_BLOCK_BYTES);
    return csd->inner->ops->write(csd->inner, lba, 1, block);
}

/* The slot of a page that is not in force. Called with checkpoint_lock. */
static unsigned next_slot(const struct csd_device *csd, uint64_t page)
{
    return csd->page_written[page] == 0 ? 0 : (csd->page_written[page] & 1) ^ 1;
}

static int write_page(struct csd_device *csd, struct checkpoint *checkpoint, uint64_t page,
                      const uint64_t *entries)
{
    unsigned slot = next_slot(csd, page);
    csd_format_encode_page(&csd->super, page, slot, checkpoint->super.checkpoint, entries,
                           checkpoint->block);
    return write_block(csd, csd_format_map_lba(page, slot), checkpoint->block);
}

/* A page that was captured for nothing has to be written another time. */
static void put_back(struct csd_device *csd, const struct checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->page_count; i++) {
        uint64_t page = checkpoint->pages[i];
        struct csd_stream *stream = csd_stream_of(csd, page);
        pthread_mutex_lock(&stream->lock);
        csd_map_mark_page(csd, page);
        pthread_mutex_unlock(&stream->lock);
    }
}

/* Write a page if it has changed, or is wanted anyway: for the first time. */
static int capture_and_write(struct csd_device *csd, struct checkpoint *checkpoint, uint64_t page,
                             bool wanted)
{
    uint64_t entries[CSD_MAP_ENTRIES];
    uint64_t *pages = growing_array_reserve(checkpoint->pages, &checkpoint->page_capacity,
                                            checkpoint->page_count + 1, sizeof *pages);
    if (pages == NULL) {
        return ENOMEM;
    }
    checkpoint->pages = pages;
    if (!capture_page(csd, page, wanted, entries)) {
        return 0;
    }
    pages[checkpoint->page_count++] = page;
    int status = write_page(csd, checkpoint, page, entries);
    if (status == 0 && wanted) {
        /* Its other slot holds whatever was there: recovery must not take that for damage. */
        memset(checkpoint->block, 0, CUBBY_BLOCK_BYTES);
        status = write_block(csd, csd_format_map_lba(page, 1), checkpoint->block);
    }
    return status;
}

/* Write the changed pages of a group; all, if it is the first time that any is written: recovery
 * has not looked at this group, where an older checkpoint that was cut off may have left pages. */
static int write_group(struct csd_device *csd, struct checkpoint *checkpoint, uint64_t first,
                       uint64_t end)
{
    uint64_t group = csd_format_group(&csd->super, first);
    bool is_new = (checkpoint->super.written_groups[group / 8] >> group % 8 & 1) == 0;
    bool changed = false;
    for (uint64_t page = first; page < end && !changed; page++) {
        /* Without the lock: a page that is being changed now is in the log. */
        changed = atomic_load_explicit(&csd->page_changed[page], memory_order_relaxed);
    }
    int status = 0;
    for (uint64_t page = first; page < end && changed && status == 0; page++) {
        status = capture_and_write(csd, checkpoint, page, is_new);
    }
    if (changed) {
        checkpoint->super.written_groups[group / 8] |= (uint8_t)(1 << group % 8);
    }
    return status;
}

static int write_pages(struct csd_device *csd, struct checkpoint *checkpoint)
{
    uint64_t pages_per_group = csd_format_pages_per_group(&csd->super);
    int status = 0;
    for (uint64_t first = 0; first < csd->page_count && status == 0; first += pages_per_group) {
        uint64_t left = csd->page_count - first;
        uint64_t count = left < pages_per_group ? left : pages_per_group;
        status = write_group(csd, checkpoint, first, first + count);
    }
    return status;
}

/* The superblock as it will be, counters and digest included. */
static void describe(struct csd_device *csd, struct checkpoint *checkpoint)
{
    struct csd_super *super = &checkpoint->super;
    for (size_t i = 0; i < checkpoint->page_count; i++) {
        uint64_t page = checkpoint->pages[i];
        if (csd->page_written[page] != 0) {
            super->map_digest -= csd_format_digest(page, csd->page_written[page] >> 1);
        }
        super->map_digest += csd_format_digest(page, super->checkpoint);
    }
    csd_count(csd, CSD_CHECKPOINTS, 1);
    csd_worker_sum(csd, super->counters);
}

/* What is on the device now counts. Segments of which nothing lives need no cleaning. */
static void complete(struct csd_device *csd, const struct checkpoint *checkpoint)
{
    uint64_t number = checkpoint->super.checkpoint;
    csd->written = checkpoint->super;
    for (size_t i = 0; i < checkpoint->page_count; i++) {
        uint64_t page = checkpoint->pages[i];
        csd->page_written[page] = number << 1 | next_slot(csd, page);
    }
    atomic_store(&csd->completed, number);
    csd_log_release_dead(csd);
}

static int write_supers(struct csd_device *csd, struct checkpoint *checkpoint)
{
    int status = 0;
    for (uint64_t lba = 0; lba < CSD_SUPERBLOCK_COUNT; lba++) {
        /* Before the first: all that it names is durable. Before the second: the first is. */
        status = csd_flush_inner(csd);
        if (status != 0) {
            return status;
        }
        csd_format_encode_super(&checkpoint->super, lba, checkpoint->block);
        status = write_block(csd, lba, checkpoint->block);
        if (status != 0) {
            /* Which checkpoint is in force is not known any more: nothing may be changed. */
            atomic_store(&csd->failed, true);
            return status;
        }
    }
    return 0;
}

/* Called with checkpoint_lock. */
static int write_checkpoint(struct csd_device *csd)
{
    CUBBY_ASSERT(csd->writable);
    struct aligned_buffer block = {0};
    int status =
        atomic_load(&csd->failed) ? EIO : aligned_buffer_reserve(&block, CUBBY_BLOCK_BYTES);
    if (status != 0) {
        return status;
    }
    struct checkpoint checkpoint = {.super = csd->written, .block = block.data};
    capture_heads(csd, &checkpoint);
    status = write_pages(csd, &checkpoint);
    if (status == 0) {
        describe(csd, &checkpoint);
        status = write_supers(csd, &checkpoint);
    }
    if (status == 0) {
        complete(csd, &checkpoint);
    } else {
        put_back(csd, &checkpoint);
    }
    free(checkpoint.pages);
    aligned_buffer_free(&block);
    return status;
}

int csd_checkpoint_write(struct csd_device *csd)
{
    pthread_mutex_lock(&csd->checkpoint_lock);
    int status = write_checkpoint(csd);
    pthread_mutex_unlock(&csd->checkpoint_lock);
    return status;
}

int csd_checkpoint_if_due(struct csd_device *csd)
{
    uint64_t logged_bytes = atomic_load_explicit(&csd->logged_bytes, memory_order_relaxed);
    uint64_t map_bytes = atomic_load_explicit(&csd->changed_pages, memory_order_relaxed) *
                         (uint64_t)CUBBY_BLOCK_BYTES;
    uint64_t due_bytes =
        map_bytes * DUE_PER_MAP_BYTE > DUE_BYTES ? map_bytes * DUE_PER_MAP_BYTE : DUE_BYTES;
    uint64_t most_bytes =
        (uint64_t)csd->super.segment_count * csd->segment_bytes / DUE_SHARE_OF_LOG;
    if (logged_bytes < (due_bytes < most_bytes ? due_bytes : most_bytes) ||
        pthread_mutex_trylock(&csd->checkpoint_lock) != 0) {
        return 0;
    }
    int status = write_checkpoint(csd);
    pthread_mutex_unlock(&csd->checkpoint_lock);
    return status;
}
