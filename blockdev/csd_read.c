/* csd_read.c -- reading blocks back, without a lock.
 *
 * An entry says where the fragment was a moment ago. What is read there is checked against the
 * block, the place and the segment's generation; if it fails because the block has moved meanwhile,
 * its new place is tried. Only what fails while the block cannot move is damage.
 *
 * Depends on: csd_state.h.   Used by: csd_device.c, csd_queue.c.
 */
#include <errno.h>
#include <string.h>

#include "blockdev/csd_state.h"
#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"

enum {
    TRIES = 8, /* without the lock */
};

/* A stretch of blocks whose fragments stand one behind the other. */
struct stretch {
    size_t block_count;
    uint64_t entries[CSD_BATCH_BLOCKS];
    uint64_t byte_count;
};

int csd_read_check(struct csd_device *csd, struct csd_worker *worker, uint64_t lba, uint64_t entry,
                   const uint8_t *bytes, uint8_t *block)
{
    uint32_t segment = csd_entry_segment(csd, entry);
    uint64_t generation =
        atomic_load_explicit(&csd->segments[segment].generation, memory_order_relaxed);
    struct csd_fragment fragment;
    if (!csd_format_decode_fragment(&csd->super, generation, csd_format_entry_place(entry), bytes,
                                    csd_entry_bytes(csd, entry), &fragment) ||
        fragment.lba != lba || fragment.kind == CSD_FRAGMENT_NOTHING) {
        return CUBBY_CORRUPT;
    }
    return csd_block_expand(worker, &fragment, bytes + CSD_FRAGMENT_HEADER_BYTES, block);
}

void csd_read_locate(const struct csd_device *csd, uint64_t place, uint64_t byte_count,
                     struct csd_location *location)
{
    uint64_t begin =
        csd_format_segment_lba(&csd->super, 0) * CUBBY_BLOCK_BYTES + place * csd->super.unit_bytes;
    location->lba = begin / CUBBY_BLOCK_BYTES;
    location->offset = begin % CUBBY_BLOCK_BYTES;
    location->block_count = (uint32_t)divide_up(location->offset + byte_count, CUBBY_BLOCK_BYTES);
}

/* Whether an entry names a place inside the log: what comes from a device is not trusted. */
bool csd_read_is_inside(const struct csd_device *csd, uint64_t entry)
{
    uint64_t place = csd_format_entry_place(entry);
    uint32_t count = csd_format_entry_units(entry);
    uint32_t largest =
        csd_format_fragment_bytes(csd->super.unit_bytes, CUBBY_BLOCK_BYTES) / csd->super.unit_bytes;
    uint64_t units = (uint64_t)csd->units_per_segment * csd->super.segment_count;
    return count > 0 && count <= largest && place < units &&
           count <= csd->units_per_segment - place % csd->units_per_segment;
}

/* What an entry answers without a read: 0 for zeros, or CUBBY_CORRUPT. Else EAGAIN. */
int csd_read_entry(const struct csd_device *csd, uint64_t entry, uint8_t *block)
{
    if (entry == CSD_ENTRY_NOTHING) {
        memset(block, 0, CUBBY_BLOCK_BYTES);
        return 0;
    }
    return csd_read_is_inside(csd, entry) ? EAGAIN : CUBBY_CORRUPT;
}

/* Read byte_count bytes of the log, from a place on, into the worker's buffer. */
static int read_log(struct csd_device *csd, struct csd_worker *worker, uint64_t place,
                    uint64_t byte_count, const uint8_t **bytes)
{
    struct block_device *inner = csd->inner;
    struct csd_location location;
    csd_read_locate(csd, place, byte_count, &location);
    int status =
        aligned_buffer_reserve(&worker->buffer, (size_t)location.block_count * CUBBY_BLOCK_BYTES);
    if (status != 0) {
        return status;
    }
    *bytes = worker->buffer.data + (csd->moves_bytes ? 0 : location.offset);
    return csd->moves_bytes
               ? inner->ops->read_bytes(inner, location.lba * CUBBY_BLOCK_BYTES + location.offset,
                                        byte_count, worker->buffer.data)
               : inner->ops->read(inner, location.lba, location.block_count, worker->buffer.data);
}

static int read_entry(struct csd_device *csd, struct csd_worker *worker, uint64_t lba,
                      uint64_t entry, uint8_t *block)
{
    int status = csd_read_entry(csd, entry, block);
    if (status != EAGAIN) {
        return status;
    }
    const uint8_t *bytes;
    status =
        read_log(csd, worker, csd_format_entry_place(entry), csd_entry_bytes(csd, entry), &bytes);
    return status == 0 ? csd_read_check(csd, worker, lba, entry, bytes, block) : status;
}

int csd_read_one(struct csd_device *csd, struct csd_worker *worker, uint64_t lba, uint8_t *block)
{
    int status = CUBBY_CORRUPT;
    for (int i = 0; i < TRIES && status == CUBBY_CORRUPT; i++) {
        status = read_entry(csd, worker, lba, csd_map_get(csd, lba), block);
    }
    if (status == CUBBY_CORRUPT) {
        /* Once more, while the block stays where it is. */
        struct csd_stream *stream = csd_stream_of(csd, csd_page_of(lba));
        pthread_mutex_lock(&stream->lock);
        status = read_entry(csd, worker, lba, csd_map_get(csd, lba), block);
        pthread_mutex_unlock(&stream->lock);
    }
    return status;
}

/* Collect entries from a block on, as long as one read gets them all. */
static void find_stretch(const struct csd_device *csd, uint64_t lba, size_t block_count,
                         struct stretch *stretch)
{
    stretch->block_count = 0;
    stretch->byte_count = 0;
    uint64_t next_place = 0;
    size_t limit = block_count < CSD_BATCH_BLOCKS ? block_count : CSD_BATCH_BLOCKS;
    for (size_t i = 0; i < limit; i++) {
        uint64_t entry = csd_map_get(csd, lba + i);
        if (!csd_read_is_inside(csd, entry) ||
            (i > 0 && csd_format_entry_place(entry) != next_place)) {
            return;
        }
        stretch->entries[stretch->block_count++] = entry;
        stretch->byte_count += csd_entry_bytes(csd, entry);
        next_place = csd_format_entry_place(entry) + csd_format_entry_units(entry);
    }
}

/* Read a stretch with one read; blocks that fail are read one by one. */
static int read_stretch(struct csd_device *csd, struct csd_worker *worker, uint64_t lba,
                        const struct stretch *stretch, uint8_t *buffer)
{
    const uint8_t *bytes;
    int status = read_log(csd, worker, csd_format_entry_place(stretch->entries[0]),
                          stretch->byte_count, &bytes);
    bool moved[CSD_BATCH_BLOCKS] = {false};
    for (size_t i = 0; i < stretch->block_count && status == 0; i++) {
        status = csd_read_check(csd, worker, lba + i, stretch->entries[i], bytes,
                                buffer + i * CUBBY_BLOCK_BYTES);
        moved[i] = status == CUBBY_CORRUPT;
        status = moved[i] ? 0 : status;
        bytes += csd_entry_bytes(csd, stretch->entries[i]);
    }
    /* Last, since that uses the same buffer. */
    for (size_t i = 0; i < stretch->block_count && status == 0; i++) {
        if (moved[i]) {
            status = csd_read_one(csd, worker, lba + i, buffer + i * CUBBY_BLOCK_BYTES);
        }
    }
    return status;
}

int csd_read_blocks(struct csd_device *csd, uint64_t lba, size_t block_count, uint8_t *buffer)
{
    struct csd_worker *worker = csd_worker_take(csd);
    int status = 0;
    size_t done = 0;
    while (done < block_count && status == 0) {
        struct stretch stretch;
        find_stretch(csd, lba + done, block_count - done, &stretch);
        uint8_t *to = buffer + done * CUBBY_BLOCK_BYTES;
        if (stretch.block_count > 0) {
            status = read_stretch(csd, worker, lba + done, &stretch, to);
            done += stretch.block_count;
        } else {
            status = csd_read_one(csd, worker, lba + done, to);
            done++;
        }
    }
    csd_count_often(worker, CSD_HOST_READS, block_count);
    csd_worker_give(worker);
    return status;
}
