/* csd_log.c -- the log: appending fragments, and the coming and going of segments.
 *
 * A stream appends at its heads. What a call brings is laid out behind the head's last, partial
 * block, written with one write, and only then entered into the map. The partial block is written
 * again with the next call: its earlier bytes stay the same, so tearing it harms none of them.
 *
 * Depends on: csd_state.h.   Used by: csd_device.c, csd_clean.c, csd_checkpoint.c, csd_recovery.c.
 */
#include <errno.h>
#include <string.h>

#include "blockdev/csd_state.h"
#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"

enum {
    REPORT_BYTES = 64 << 10, /* seldom enough that threads do not fight for the counters */
};

/* What is laid out in a worker's image and goes to the device with one write. */
struct group {
    uint8_t *image;
    size_t member_count;
    size_t members[CSD_BATCH_BLOCKS]; /* which of the appends */
    uint64_t entries[CSD_BATCH_BLOCKS];
    int64_t taken_bytes[CSD_BATCH_BLOCKS];
    uint32_t image_start; /* in the segment: where the image begins, a whole block */
    uint32_t end;         /* in the segment: behind the last fragment */
};

static void seal(struct csd_device *csd, struct csd_head *head)
{
    struct csd_segment *segment = &csd->segments[head->segment];
    pthread_mutex_lock(&csd->segments_lock);
    CUBBY_ASSERT(segment->state == CSD_OPEN);
    segment->state = CSD_SEALED;
    segment->sealed_checkpoint = atomic_load(&csd->captured);
    pthread_mutex_unlock(&csd->segments_lock);
    head->segment = CSD_NO_SEGMENT;
}

/* After a failed write: part of it may be on the device, as valid fragments that recovery would
 * take up if something else ended where they begin. So nothing is written to this segment any more.
 */
static void abandon(struct csd_device *csd, struct csd_head *head)
{
    if (head->position_bytes > 0) {
        seal(csd, head);
        return;
    }
    /* Nothing else is in it: it can be had again, under another generation. */
    pthread_mutex_lock(&csd->segments_lock);
    csd->segments[head->segment].state = CSD_FREE;
    atomic_fetch_add(&csd->free_count, 1);
    pthread_mutex_unlock(&csd->segments_lock);
    head->segment = CSD_NO_SEGMENT;
}

/* A free segment for a head. EAGAIN if none is left that this kind may take. */
static int open_segment(struct csd_device *csd, struct csd_head *head, enum csd_head_kind kind)
{
    uint32_t spared = kind == CSD_COLD ? 0 : csd->reserve_segments;
    pthread_mutex_lock(&csd->segments_lock);
    if (atomic_load(&csd->free_count) <= spared) {
        pthread_mutex_unlock(&csd->segments_lock);
        return EAGAIN;
    }
    uint32_t index = csd->next_search;
    while (csd->segments[index].state != CSD_FREE) {
        index = index + 1 == csd->super.segment_count ? 0 : index + 1;
    }
    struct csd_segment *segment = &csd->segments[index];
    CUBBY_ASSERT(atomic_load(&segment->live_bytes) == 0);
    segment->state = CSD_OPEN;
    atomic_store(&segment->generation, csd->next_generation++);
    atomic_fetch_sub(&csd->free_count, 1);
    csd->next_search = index;
    pthread_mutex_unlock(&csd->segments_lock);
    head->segment = index;
    head->generation = atomic_load(&segment->generation);
    head->position_bytes = 0;
    return 0;
}

/* Begin an image behind what the head has written. */
static void begin_group(struct csd_device *csd, struct csd_stream *stream, struct csd_head *head,
                        struct group *group)
{
    group->member_count = 0;
    group->image_start = head->position_bytes & ~(uint32_t)(CUBBY_BLOCK_BYTES - 1);
    group->end = head->position_bytes;
    memcpy(group->image, head->tail, head->position_bytes - group->image_start);
    if (head->position_bytes == 0) {
        struct csd_segment_header header = {
            .generation = head->generation,
            .stream = (uint32_t)(stream - csd->streams),
        };
        group->end = csd_format_first_bytes(&csd->super);
        memset(group->image, 0, group->end);
        csd_format_encode_segment(&csd->super, (uint32_t)head->segment, header, group->image);
    }
}

/* What the map would give back if a fragment were in force. */
static uint64_t replaced_bytes(const struct csd_device *csd, const struct csd_append *append)
{
    if (append->fragment.kind != CSD_FRAGMENT_NOTHING) {
        return csd_entry_bytes(csd, csd_map_get(csd, append->fragment.lba));
    }
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < append->nothing_count; i++) {
        bytes += csd_entry_bytes(csd, csd_map_get(csd, append->fragment.lba + i));
    }
    return bytes;
}

/* Lay one fragment out behind the others. Its room has been checked. Returns 0 or ENOSPC. */
static int add_to_group(struct csd_device *csd, struct csd_stream *stream,
                        const struct csd_head *head, struct group *group, struct csd_append *append,
                        size_t index, bool copy)
{
    uint32_t bytes =
        csd_format_fragment_bytes(csd->super.unit_bytes, append->fragment.payload_bytes);
    bool stays = append->fragment.kind != CSD_FRAGMENT_NOTHING;
    int64_t taken_bytes = (stays ? (int64_t)bytes : 0) - (int64_t)replaced_bytes(csd, append);
    int status = csd_space_take(csd, taken_bytes);
    if (status != 0) {
        return status;
    }
    if (!copy) {
        append->fragment.sequence = ++stream->sequence;
    }
    uint64_t place =
        (uint64_t)head->segment * csd->units_per_segment + group->end / csd->super.unit_bytes;
    uint8_t *to = group->image + (group->end - group->image_start);
    csd_format_encode_fragment(&csd->super, head->generation, place, &append->fragment,
                               append->payload_hash, to);
    memcpy(to + CSD_FRAGMENT_HEADER_BYTES, append->payload, append->fragment.payload_bytes);
    size_t used = CSD_FRAGMENT_HEADER_BYTES + append->fragment.payload_bytes;
    memset(to + used, 0, bytes - used);
    group->members[group->member_count] = index;
    group->entries[group->member_count] =
        stays ? csd_format_entry(place, bytes / csd->super.unit_bytes) : CSD_ENTRY_NOTHING;
    group->taken_bytes[group->member_count] = taken_bytes;
    group->member_count++;
    group->end += bytes;
    return 0;
}

void csd_log_report(struct csd_device *csd, struct csd_stream *stream)
{
    csd_count(csd, CSD_MEDIA_WRITES, stream->unreported_bytes);
    atomic_fetch_add_explicit(&csd->logged_bytes, stream->unreported_bytes, memory_order_relaxed);
    stream->unreported_bytes = 0;
}

/* Write an image, and make its fragments the ones in force. */
static int write_group(struct csd_device *csd, struct csd_stream *stream, struct csd_head *head,
                       const struct group *group, const struct csd_append *appends)
{
    uint32_t image_bytes = group->end - group->image_start;
    uint32_t block_count = (uint32_t)divide_up(image_bytes, CUBBY_BLOCK_BYTES);
    uint8_t *image = group->image;
    memset(image + image_bytes, 0, (size_t)block_count * CUBBY_BLOCK_BYTES - image_bytes);
    uint64_t lba = csd_format_segment_lba(&csd->super, (uint32_t)head->segment) +
                   group->image_start / CUBBY_BLOCK_BYTES;
    uint32_t old_bytes = head->position_bytes - group->image_start;
    int status = csd->moves_bytes
                     ? csd->inner->ops->write_bytes(csd->inner, lba * CUBBY_BLOCK_BYTES + old_bytes,
                                                    image_bytes - old_bytes, image + old_bytes)
                     : csd->inner->ops->write(csd->inner, lba, block_count, image);
    for (size_t i = 0; i < group->member_count; i++) {
        const struct csd_append *append = &appends[group->members[i]];
        if (status != 0) {
            atomic_fetch_sub(&csd->stored_bytes, (uint64_t)group->taken_bytes[i]);
        } else if (append->fragment.kind == CSD_FRAGMENT_NOTHING) {
            csd_map_set_nothing(csd, append->fragment.lba, append->nothing_count);
        } else {
            csd_map_set(csd, append->fragment.lba, group->entries[i]);
        }
    }
    if (status != 0) {
        abandon(csd, head);
        return status;
    }
    uint32_t written_bytes = group->end - head->position_bytes;
    stream->unreported_bytes += written_bytes;
    if (stream->unreported_bytes >= REPORT_BYTES) {
        csd_log_report(csd, stream);
    }
    head->position_bytes = group->end;
    uint32_t tail_bytes = group->end % CUBBY_BLOCK_BYTES;
    memcpy(head->tail, image + image_bytes - tail_bytes, tail_bytes);
    return 0;
}

int csd_log_append(struct csd_device *csd, struct csd_worker *worker, struct csd_stream *stream,
                   enum csd_head_kind kind, struct csd_append *appends, size_t count, size_t *done)
{
    CUBBY_ASSERT(count <= CSD_BATCH_BLOCKS);
    struct csd_head *head = &stream->heads[kind];
    int status = aligned_buffer_reserve(&worker->image, csd->image_bytes);
    *done = 0;
    while (*done < count && status == 0) {
        uint32_t needed =
            csd_format_fragment_bytes(csd->super.unit_bytes, appends[*done].fragment.payload_bytes);
        if (head->segment != CSD_NO_SEGMENT && needed > csd->segment_bytes - head->position_bytes) {
            seal(csd, head);
        }
        if (head->segment == CSD_NO_SEGMENT) {
            status = open_segment(csd, head, kind);
            if (status != 0) {
                return status;
            }
        }
        struct group group = {.image = worker->image.data};
        begin_group(csd, stream, head, &group);
        size_t next = *done;
        for (; next < count; next++) {
            struct csd_append *append = &appends[next];
            if (csd_format_fragment_bytes(csd->super.unit_bytes, append->fragment.payload_bytes) >
                csd->segment_bytes - group.end) {
                break;
            }
            if (kind == CSD_COLD &&
                csd_map_get(csd, append->fragment.lba) != append->expected_entry) {
                continue; /* written anew meanwhile: nothing to save */
            }
            status = add_to_group(csd, stream, head, &group, append, next, kind == CSD_COLD);
            if (status != 0) {
                break;
            }
        }
        if (group.member_count > 0) {
            int write_status = write_group(csd, stream, head, &group, appends);
            if (write_status != 0) {
                return write_status;
            }
        }
        *done = next;
    }
    return status;
}

/* If a segment is in this state and nothing in it is live, make it PENDING. Called with
 * segments_lock. */
static bool release(struct csd_device *csd, struct csd_segment *segment,
                    enum csd_segment_state state)
{
    if (segment->state != state || atomic_load(&segment->live_bytes) > 0) {
        return false;
    }
    segment->state = CSD_PENDING;
    segment->freed_flush = atomic_load(&csd->flushes_begun);
    atomic_fetch_add(&csd->pending_count, 1);
    return true;
}

bool csd_log_release_cleaned(struct csd_device *csd, uint32_t segment)
{
    pthread_mutex_lock(&csd->segments_lock);
    bool released = release(csd, &csd->segments[segment], CSD_CLEANING);
    pthread_mutex_unlock(&csd->segments_lock);
    return released;
}

void csd_log_release_dead(struct csd_device *csd)
{
    uint64_t completed = atomic_load(&csd->completed);
    pthread_mutex_lock(&csd->segments_lock);
    for (uint32_t i = 0; i < csd->super.segment_count; i++) {
        struct csd_segment *segment = &csd->segments[i];
        if (segment->sealed_checkpoint < completed) { /* invariant 2 */
            (void)release(csd, segment, CSD_SEALED);
            (void)release(csd, segment, CSD_DAMAGED); /* all in it has been written anew */
        }
    }
    pthread_mutex_unlock(&csd->segments_lock);
}

/* Make PENDING segments FREE that were so before a flush began which has succeeded (invariant 3).
 * While there are many free ones, their bytes are given back to the inner device too. */
static void free_pending(struct csd_device *csd, uint64_t flush)
{
    const struct block_geometry *inner = &csd->inner->geometry;
    pthread_mutex_lock(&csd->segments_lock);
    for (uint32_t i = 0; i < csd->super.segment_count && atomic_load(&csd->pending_count) > 0;
         i++) {
        struct csd_segment *segment = &csd->segments[i];
        if (segment->state != CSD_PENDING || segment->freed_flush >= flush) {
            continue;
        }
        if (inner->discard_granularity_blocks > 0 &&
            atomic_load(&csd->free_count) > 2 * csd->clean_below) {
            /* Under the lock: nobody may begin to write it meanwhile. Nothing relies on success. */
            (void)csd->inner->ops->discard(csd->inner, csd_format_segment_lba(&csd->super, i),
                                           csd->super.segment_blocks);
        }
        segment->state = CSD_FREE;
        if (i < csd->next_search) {
            csd->next_search = i; /* low ones first: the file stays short */
        }
        atomic_fetch_sub(&csd->pending_count, 1);
        atomic_fetch_add(&csd->free_count, 1);
    }
    pthread_mutex_unlock(&csd->segments_lock);
}

int csd_flush_inner(struct csd_device *csd)
{
    if (atomic_load(&csd->failed)) {
        return EIO;
    }
    uint64_t flush = atomic_fetch_add(&csd->flushes_begun, 1) + 1;
    int status = csd->inner->ops->flush(csd->inner);
    if (status != 0) {
        /* What was written before may be lost, and a later flush would not tell. */
        atomic_store(&csd->failed, true);
        return status;
    }
    if (atomic_load(&csd->pending_count) > 0) {
        free_pending(csd, flush);
    }
    return 0;
}
