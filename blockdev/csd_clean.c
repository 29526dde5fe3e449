/* csd_clean.c -- cleaning: live fragments are copied out of a segment, which is then free.
 *
 * Done by the threads that write, one at a time, when free segments run low: whole segments, the
 * one with the fewest live bytes first. Others wait only when nothing but the reserve is left.
 *
 * Depends on: csd_state.h.   Used by: csd_device.c.
 */
#include <errno.h>

#include "blockdev/csd_state.h"
#include "engine/base/cubby_assert.h"

enum {
    PENDING_PER_FLUSH = 4, /* segments: a flush is dear */
    READ_BLOCKS = 256,     /* at a time */
};

/* What there is to clean. */
struct choice {
    int64_t victim; /* or CSD_NO_SEGMENT */
    uint32_t victim_live_bytes;
    bool later; /* there are segments that the next checkpoint makes ready to be cleaned */
};

static struct choice choose_victim(struct csd_device *csd)
{
    struct choice choice = {.victim = CSD_NO_SEGMENT, .victim_live_bytes = UINT32_MAX};
    uint64_t completed = atomic_load(&csd->completed);
    pthread_mutex_lock(&csd->segments_lock);
    for (uint32_t i = 0; i < csd->super.segment_count; i++) {
        const struct csd_segment *segment = &csd->segments[i];
        if (segment->state != CSD_SEALED) {
            continue;
        }
        if (segment->sealed_checkpoint >= completed) { /* invariant 2 */
            choice.later = true;
            continue;
        }
        uint32_t live_bytes = atomic_load(&segment->live_bytes);
        if (live_bytes < choice.victim_live_bytes) {
            choice.victim = i;
            choice.victim_live_bytes = live_bytes;
        }
    }
    pthread_mutex_unlock(&csd->segments_lock);
    return choice;
}

/* Copy a batch of one stream's fragments to its cold head. */
static int copy_batch(struct csd_device *csd, struct csd_stream *stream, struct csd_append *batch,
                      size_t count)
{
    pthread_mutex_lock(&stream->lock);
    size_t done;
    int status = csd_log_append(csd, &csd->cleaner, stream, CSD_COLD, batch, count, &done);
    pthread_mutex_unlock(&stream->lock);
    return status;
}

/* Copy all that is live in the victim, whose bytes are in memory. */
static int copy_live(struct csd_device *csd, uint32_t victim)
{
    const uint8_t *bytes = csd->victim.data;
    uint32_t unit = csd->super.unit_bytes;
    uint64_t generation = atomic_load(&csd->segments[victim].generation);
    struct csd_append batch[CSD_BATCH_BLOCKS];
    size_t count = 0;
    struct csd_stream *stream = NULL; /* whose fragments are in the batch */
    int status = 0;
    uint32_t offset = 0;
    /* Unit by unit where nothing valid begins: in the header, behind the end, and behind damage. */
    while (offset < csd->segment_bytes && status == 0) {
        uint64_t place = (uint64_t)victim * csd->units_per_segment + offset / unit;
        struct csd_fragment fragment;
        if (!csd_format_decode_fragment(&csd->super, generation, place, bytes + offset,
                                        csd->segment_bytes - offset, &fragment)) {
            offset += unit;
            continue;
        }
        uint32_t fragment_bytes = csd_format_fragment_bytes(unit, fragment.payload_bytes);
        uint64_t entry = csd_format_entry(place, fragment_bytes / unit);
        if (fragment.kind != CSD_FRAGMENT_NOTHING && fragment.lba < csd->super.logical_blocks &&
            csd_map_get(csd, fragment.lba) == entry) {
            const uint8_t *payload = bytes + offset + CSD_FRAGMENT_HEADER_BYTES;
            struct csd_stream *own = csd_stream_of(csd, csd_page_of(fragment.lba));
            if (own != stream && count > 0) { /* never on a drive of our making */
                status = copy_batch(csd, stream, batch, count);
                count = 0;
            }
            stream = own;
            batch[count++] = (struct csd_append){
                .fragment = fragment,
                .payload_hash = csd_format_payload_hash(payload, fragment.payload_bytes),
                .payload = payload,
                .expected_entry = entry,
            };
        }
        offset += fragment_bytes;
        if (count == CSD_BATCH_BLOCKS) {
            status = copy_batch(csd, stream, batch, count);
            count = 0;
        }
    }
    return status == 0 && count > 0 ? copy_batch(csd, stream, batch, count) : status;
}

static int read_victim(struct csd_device *csd, uint32_t victim)
{
    int status = aligned_buffer_reserve(&csd->victim, csd->segment_bytes);
    uint64_t lba = csd_format_segment_lba(&csd->super, victim);
    for (uint32_t i = 0; i < csd->super.segment_blocks && status == 0; i += READ_BLOCKS) {
        uint32_t left = csd->super.segment_blocks - i;
        status = csd->inner->ops->read(csd->inner, lba + i, left < READ_BLOCKS ? left : READ_BLOCKS,
                                       csd->victim.data + (size_t)i * CUBBY_BLOCK_BYTES);
    }
    return status;
}

static bool change_state(struct csd_device *csd, uint32_t segment, enum csd_segment_state from,
                         enum csd_segment_state to)
{
    pthread_mutex_lock(&csd->segments_lock);
    bool changed = csd->segments[segment].state == from;
    if (changed) {
        csd->segments[segment].state = to;
    }
    pthread_mutex_unlock(&csd->segments_lock);
    return changed;
}

static int clean_segment(struct csd_device *csd, uint32_t victim, uint32_t live_bytes)
{
    if (!change_state(csd, victim, CSD_SEALED, CSD_CLEANING)) {
        return 0; /* a checkpoint has found it empty meanwhile */
    }
    int status = live_bytes > 0 ? read_victim(csd, victim) : 0;
    if (status != 0 && status != ENOMEM) {
        /* There are others. Until the next open it is left alone. */
        change_state(csd, victim, CSD_CLEANING, CSD_DAMAGED);
        return 0;
    }
    if (status == 0 && live_bytes > 0) {
        status = copy_live(csd, victim);
    }
    if (status != 0) {
        change_state(csd, victim, CSD_CLEANING, CSD_SEALED);
        return status;
    }
    if (!csd_log_release_cleaned(csd, victim)) {
        /* Damage hides some fragments: leave all as it is, for reads to report. */
        change_state(csd, victim, CSD_CLEANING, CSD_DAMAGED);
        return 0;
    }
    csd_count(csd, CSD_CLEANED_SEGMENTS, 1);
    csd_count(csd, CSD_CLEANED_BYTES, live_bytes);
    return 0;
}

/* One step towards a free segment; *progress is false if there is none to take. Called with
 * cleaner_lock. */
static int clean_step(struct csd_device *csd, bool *progress)
{
    uint32_t pending = atomic_load(&csd->pending_count);
    uint32_t free_count = atomic_load(&csd->free_count);
    *progress = true;
    if (pending >= PENDING_PER_FLUSH || (pending > 0 && free_count <= csd->reserve_segments)) {
        return csd_flush_inner(csd);
    }
    struct choice choice = choose_victim(csd);
    /* Emptying a nearly full segment gains little: first see whether a checkpoint offers more. */
    uint32_t largest = csd_format_fragment_bytes(csd->super.unit_bytes, CUBBY_BLOCK_BYTES);
    uint32_t most = csd->segment_bytes - 2 * largest;
    uint32_t worthwhile = csd->segment_bytes - csd->segment_bytes / 16;
    worthwhile = worthwhile < most ? worthwhile : most;
    if (choice.later &&
        (choice.victim == CSD_NO_SEGMENT || choice.victim_live_bytes > worthwhile)) {
        return csd_checkpoint_write(csd);
    }
    if (choice.victim == CSD_NO_SEGMENT || choice.victim_live_bytes > most) {
        *progress = pending > 0;
        return pending > 0 ? csd_flush_inner(csd) : 0;
    }
    return clean_segment(csd, (uint32_t)choice.victim, choice.victim_live_bytes);
}

int csd_clean(struct csd_device *csd)
{
    if (atomic_load(&csd->free_count) >= csd->clean_below) {
        return 0;
    }
    bool urgent = atomic_load(&csd->free_count) <= csd->reserve_segments;
    if (urgent) {
        pthread_mutex_lock(&csd->cleaner_lock);
    } else if (pthread_mutex_trylock(&csd->cleaner_lock) != 0) {
        return 0;
    }
    int status = 0;
    bool progress = true;
    do {
        if (atomic_load(&csd->free_count) >= csd->clean_below) {
            break;
        }
        status = clean_step(csd, &progress);
    } while (status == 0 && progress && atomic_load(&csd->free_count) <= csd->reserve_segments);
    /* Not what is free by now: others may have taken what was won, and then it is cleaned again. */
    bool stuck = !progress && atomic_load(&csd->free_count) <= csd->reserve_segments;
    pthread_mutex_unlock(&csd->cleaner_lock);
    if (!urgent) {
        return 0; /* a failure that keeps nobody from writing is left to who is kept */
    }
    return status == 0 && stuck ? ENOSPC : status;
}
