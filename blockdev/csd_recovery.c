/* csd_recovery.c -- from what the inner device holds to a running drive.
 *
 *   superblock -> map pages -> headers of all segments -> what the log holds beyond the checkpoint
 *
 * Segments begun after the checkpoint, and those that were open then, are read from the captured
 * place on, fragment by fragment, up to the first that is not valid: a stream writes one after the
 * other, so what was flushed has nothing missing before it. All that is found is applied in the
 * order of its sequence. Damage to the map is told from a checkpoint that was cut off by the
 * digest.
 *
 * Depends on: csd_state.h.   Used by: csd_device.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockdev/csd_state.h"
#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"

enum {
    PAGES_PER_READ = 64,
};

/* One fragment found in the log. */
struct record {
    uint64_t sequence;
    uint64_t generation;
    uint64_t lba;
    uint64_t entry;         /* CSD_ENTRY_NOTHING: */
    uint64_t nothing_count; /* so many blocks */
    uint32_t stream;
};

struct recovery {
    struct csd_device *csd;
    const char *name;
    struct device_message message;
    struct record *records;
    size_t record_count;
    size_t record_capacity;
    uint64_t *suspects; /* map pages of which a slot is neither valid nor empty */
    size_t suspect_count;
    size_t suspect_capacity;
    uint64_t orphan_count; /* map pages of a checkpoint that was not completed */
    uint64_t last_generation;
    struct aligned_buffer buffer;
};

static int read_inner(struct recovery *recovery, uint64_t lba, size_t block_count, uint8_t *to)
{
    struct block_device *inner = recovery->csd->inner;
    int status = inner->ops->read(inner, lba, block_count, to);
    return status == 0 ? 0
                       : device_message_set(recovery->message, status,
                                            "%s: reading LBA %llu of what is under it failed: %s",
                                            recovery->name, (unsigned long long)lba,
                                            cubby_status_text(status));
}

static int say_no_memory(const struct recovery *recovery)
{
    return device_message_set(recovery->message, ENOMEM, "there is no memory to open %s",
                              recovery->name);
}

/* The newer of the two superblocks that are valid. */
static int read_super(struct recovery *recovery)
{
    struct csd_device *csd = recovery->csd;
    uint64_t available = csd->inner->geometry.block_count;
    int best = CUBBY_BAD_ARGUMENT;
    struct csd_super found;
    for (uint64_t lba = 0; lba < CSD_SUPERBLOCK_COUNT && lba < available; lba++) {
        int status = read_inner(recovery, lba, 1, recovery->buffer.data);
        if (status != 0) {
            return status;
        }
        status = csd_format_decode_super(recovery->buffer.data, lba, &found);
        if (status == 0 && (best != 0 || found.checkpoint > csd->super.checkpoint)) {
            csd->super = found;
        }
        /* A valid one wins, then a newer version, then a damaged one. */
        if (best != 0 && (status == 0 || best == CUBBY_BAD_ARGUMENT ||
                          (best == CUBBY_CORRUPT && status == CUBBY_FORMAT_VERSION))) {
            best = status;
        }
    }
    if (best == 0 && csd_format_block_count(&csd->super) > available) {
        return device_message_set(recovery->message, CUBBY_CORRUPT,
                                  "%s is truncated: it has %llu blocks of 4 KiB and should have "
                                  "%llu; restore it from a copy",
                                  recovery->name, (unsigned long long)available,
                                  (unsigned long long)csd_format_block_count(&csd->super));
    }
    switch (best) {
    case 0:
        csd->written = csd->super;
        return 0;
    case CUBBY_CORRUPT:
        return device_message_set(recovery->message, best,
                                  "%s: both superblocks (LBA 0 and 1 of what is under it) are "
                                  "damaged; restore it from a copy",
                                  recovery->name);
    case CUBBY_FORMAT_VERSION:
        return device_message_set(recovery->message, best,
                                  "%s was made by a newer CubbyDB than this %s", recovery->name,
                                  cubby_version());
    default:
        return device_message_set(recovery->message, best,
                                  "%s is not an emulated drive; cubby device create makes one",
                                  recovery->name);
    }
}

static int open_array(struct reserved_array *array, uint64_t count, size_t element_bytes)
{
    if (count > SIZE_MAX / element_bytes) {
        return ENOMEM;
    }
    int status = reserved_array_open(array, (size_t)count * element_bytes);
    return status == 0 ? reserved_array_grow(array, (size_t)count * element_bytes) : status;
}

static int allocate(struct recovery *recovery)
{
    struct csd_device *csd = recovery->csd;
    csd->page_count = csd_format_map_pages(&csd->super);
    csd->segment_bytes = csd->super.segment_blocks * CUBBY_BLOCK_BYTES;
    csd->units_per_segment = csd->segment_bytes / csd->super.unit_bytes;
    const struct {
        struct reserved_array *array;
        uint64_t count;
        size_t element_bytes;
    } arrays[] = {
        {&csd->arrays[0], csd->super.logical_blocks, sizeof *csd->entries},
        {&csd->arrays[1], csd->page_count, sizeof *csd->page_changed},
        {&csd->arrays[2], csd->page_count, sizeof *csd->page_mapped},
        {&csd->arrays[3], csd->page_count, sizeof *csd->page_written},
        {&csd->arrays[4], csd->super.segment_count, sizeof *csd->segments},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        if (open_array(arrays[i].array, arrays[i].count, arrays[i].element_bytes) != 0) {
            return device_message_set(recovery->message, ENOMEM,
                                      "%s: there is no memory for the map of %llu logical blocks",
                                      recovery->name,
                                      (unsigned long long)csd->super.logical_blocks);
        }
    }
    csd->entries = csd->arrays[0].data;
    csd->page_changed = csd->arrays[1].data;
    csd->page_mapped = csd->arrays[2].data;
    csd->page_written = csd->arrays[3].data;
    csd->segments = csd->arrays[4].data;
    return 0;
}

static int suspect(struct recovery *recovery, uint64_t page)
{
    uint64_t *suspects =
        growing_array_reserve(recovery->suspects, &recovery->suspect_capacity,
                              recovery->suspect_count + 1, sizeof *recovery->suspects);
    if (suspects == NULL) {
        return say_no_memory(recovery);
    }
    recovery->suspects = suspects;
    suspects[recovery->suspect_count++] = page;
    return 0;
}

/* Whether an entry names a place in the log that has not been given away already. A drive writes no
 * other; but bytes from a device are not trusted, whatever their checksums. */
static bool fits(const struct csd_device *csd, uint64_t entry)
{
    if (!csd_read_is_inside(csd, entry)) {
        return false;
    }
    const struct csd_segment *segment = &csd->segments[csd_entry_segment(csd, entry)];
    return atomic_load(&segment->live_bytes) <= csd->segment_bytes - csd_entry_bytes(csd, entry);
}

/* Take over the newest valid one of a page's slots that the checkpoint covers. */
static int load_page(struct recovery *recovery, uint64_t page, const uint8_t *slots)
{
    struct csd_device *csd = recovery->csd;
    uint64_t newest = 0;
    unsigned newest_slot = 0;
    bool suspicious = false;
    bool orphaned = false;
    for (unsigned slot = 0; slot < CSD_MAP_SLOTS; slot++) {
        const uint8_t *block = slots + (size_t)slot * CUBBY_BLOCK_BYTES;
        uint64_t checkpoint;
        if (!csd_format_decode_page(&csd->super, page, slot, block, &checkpoint)) {
            suspicious |= !csd_block_is_zero(block);
        } else if (checkpoint > csd->super.checkpoint) {
            orphaned = true;
        } else if (checkpoint > newest) {
            newest = checkpoint;
            newest_slot = slot;
        }
    }
    if (newest != 0) {
        const uint8_t *entries =
            csd_format_page_entries(slots + (size_t)newest_slot * CUBBY_BLOCK_BYTES);
        csd->page_written[page] = newest << 1 | newest_slot;
        for (uint64_t i = 0; i < CSD_MAP_ENTRIES; i++) {
            uint64_t lba = page * CSD_MAP_ENTRIES + i;
            uint64_t entry = load_u64(entries + i * 8);
            if (entry != CSD_ENTRY_NOTHING && lba < csd->super.logical_blocks) {
                csd_map_set(csd, lba, fits(csd, entry) ? entry : CSD_ENTRY_DAMAGED);
            }
        }
    }
    /* What a checkpoint that was cut off has left would pass for newer than the page in force as
     * soon as a later one is complete: that one has to write over it. */
    atomic_store(&csd->page_changed[page], orphaned);
    recovery->orphan_count += orphaned;
    return suspicious ? suspect(recovery, page) : 0;
}

/* Some map page is not what the checkpoint says: those that may be it are given up, block by block,
 * so that reading them is an error and writing them makes them whole. */
static int give_up_suspects(struct recovery *recovery)
{
    struct csd_device *csd = recovery->csd;
    if (recovery->suspect_count == 0) {
        return device_message_set(recovery->message, CUBBY_CORRUPT,
                                  "%s: a page of its map is missing, and nothing tells which; "
                                  "restore it from a copy",
                                  recovery->name);
    }
    for (size_t i = 0; i < recovery->suspect_count; i++) {
        uint64_t first = recovery->suspects[i] * CSD_MAP_ENTRIES;
        for (uint64_t j = 0; j < CSD_MAP_ENTRIES && first + j < csd->super.logical_blocks; j++) {
            csd_map_set(csd, first + j, CSD_ENTRY_DAMAGED);
        }
    }
    return 0;
}

/* Whether any page of this one's group was ever part of a completed checkpoint. */
static bool is_written(const struct csd_super *super, uint64_t page)
{
    uint64_t group = csd_format_group(super, page);
    return (super->written_groups[group / 8] >> group % 8 & 1) != 0;
}

static int load_map(struct recovery *recovery)
{
    struct csd_device *csd = recovery->csd;
    uint64_t page = 0;
    while (page < csd->page_count) {
        /* Never a page of another group: what a cut-off checkpoint has left there does not count.
         */
        uint64_t count = 0;
        while (count < PAGES_PER_READ && page + count < csd->page_count &&
               is_written(&csd->super, page + count)) {
            count++;
        }
        if (count == 0) {
            page++;
            continue;
        }
        uint8_t *blocks = recovery->buffer.data;
        int status = read_inner(recovery, csd_format_map_lba(page, 0),
                                (size_t)count * CSD_MAP_SLOTS, blocks);
        for (uint64_t i = 0; i < count && status == 0; i++) {
            status = load_page(recovery, page + i,
                               blocks + (size_t)i * CSD_MAP_SLOTS * CUBBY_BLOCK_BYTES);
        }
        if (status != 0) {
            return status;
        }
        page += count;
    }
    uint64_t digest = 0;
    for (page = 0; page < csd->page_count; page++) {
        if (csd->page_written[page] != 0) {
            digest += csd_format_digest(page, csd->page_written[page] >> 1);
        }
    }
    csd->written.map_digest = digest;
    atomic_store(&csd->changed_pages, recovery->orphan_count);
    return digest == csd->super.map_digest ? 0 : give_up_suspects(recovery);
}

static int add_record(struct recovery *recovery, const struct record *record)
{
    struct record *records =
        growing_array_reserve(recovery->records, &recovery->record_capacity,
                              recovery->record_count + 1, sizeof *recovery->records);
    if (records == NULL) {
        return say_no_memory(recovery);
    }
    recovery->records = records;
    records[recovery->record_count++] = *record;
    return 0;
}

/* Gather the fragments of a segment from position on. */
static int read_segment(struct recovery *recovery, uint32_t segment,
                        struct csd_segment_header header, uint32_t position_bytes)
{
    struct csd_device *csd = recovery->csd;
    uint32_t unit = csd->super.unit_bytes;
    int status = aligned_buffer_reserve(&csd->victim, csd->segment_bytes);
    if (status != 0) {
        say_no_memory(recovery);
    } else {
        status = read_inner(recovery, csd_format_segment_lba(&csd->super, segment),
                            csd->super.segment_blocks, csd->victim.data);
    }
    uint32_t offset = position_bytes;
    while (status == 0 && offset < csd->segment_bytes) {
        const uint8_t *bytes = csd->victim.data + offset;
        uint64_t place = (uint64_t)segment * csd->units_per_segment + offset / unit;
        struct csd_fragment fragment;
        if (!csd_format_decode_fragment(&csd->super, header.generation, place, bytes,
                                        csd->segment_bytes - offset, &fragment)) {
            break;
        }
        uint32_t fragment_bytes = csd_format_fragment_bytes(unit, fragment.payload_bytes);
        struct record record = {
            .sequence = fragment.sequence,
            .generation = header.generation,
            .lba = fragment.lba,
            .entry = csd_format_entry(place, fragment_bytes / unit),
            .stream = header.stream,
        };
        if (fragment.kind == CSD_FRAGMENT_NOTHING) {
            record.entry = CSD_ENTRY_NOTHING;
            record.nothing_count = load_u64(bytes + CSD_FRAGMENT_HEADER_BYTES);
        }
        status = add_record(recovery, &record);
        offset += fragment_bytes;
    }
    return status;
}

/* From where on a segment has what the map does not: 0: nowhere. */
static uint32_t replay_position(const struct csd_super *super, uint32_t segment,
                                uint64_t generation)
{
    if (generation >= super->next_generation) {
        return csd_format_first_bytes(super);
    }
    for (size_t i = 0; i < CSD_STREAMS_MAX * CSD_HEADS_PER_STREAM; i++) {
        const struct csd_head_mark *head = &super->heads[i];
        if (head->generation == generation && head->segment == segment) {
            return head->position_bytes;
        }
    }
    return 0;
}

static int read_segments(struct recovery *recovery)
{
    struct csd_device *csd = recovery->csd;
    for (uint32_t i = 0; i < csd->super.segment_count; i++) {
        struct csd_segment *segment = &csd->segments[i];
        int status =
            read_inner(recovery, csd_format_segment_lba(&csd->super, i), 1, recovery->buffer.data);
        if (status != 0) {
            return status;
        }
        struct csd_segment_header header;
        if (!csd_format_decode_segment(&csd->super, i, recovery->buffer.data, &header)) {
            continue;
        }
        atomic_store(&segment->generation, header.generation);
        if (header.generation > recovery->last_generation) {
            recovery->last_generation = header.generation;
        }
        uint32_t position_bytes = replay_position(&csd->super, i, header.generation);
        if (position_bytes != 0) {
            segment->state = CSD_SEALED; /* even if nothing in it turns out to be live */
            status = read_segment(recovery, i, header, position_bytes);
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int compare_records(const void *left, const void *right)
{
    const struct record *a = left;
    const struct record *b = right;
    if (a->sequence != b->sequence) {
        return a->sequence < b->sequence ? -1 : 1;
    }
    /* A copy made by cleaning has the sequence of its original. */
    return a->generation < b->generation ? -1 : a->generation > b->generation;
}

static void apply_records(struct recovery *recovery)
{
    struct csd_device *csd = recovery->csd;
    if (recovery->record_count == 0) {
        return;
    }
    qsort(recovery->records, recovery->record_count, sizeof *recovery->records, compare_records);
    for (size_t i = 0; i < recovery->record_count; i++) {
        const struct record *record = &recovery->records[i];
        struct csd_stream *stream = &csd->streams[record->stream];
        if (record->sequence > stream->sequence) {
            stream->sequence = record->sequence;
        }
        uint64_t count = record->entry == CSD_ENTRY_NOTHING ? record->nothing_count : 1;
        if (count > csd->super.logical_blocks || record->lba > csd->super.logical_blocks - count) {
            continue; /* valid, and yet of no drive like this one */
        }
        if (record->entry == CSD_ENTRY_NOTHING) {
            csd_map_set_nothing(csd, record->lba, count);
        } else {
            csd_map_set(csd, record->lba, record->entry);
        }
    }
}

/* What each segment is now, and what all take up. */
static void settle(struct recovery *recovery)
{
    struct csd_device *csd = recovery->csd;
    uint32_t free_count = 0;
    uint64_t stored_bytes = 0;
    for (uint32_t i = 0; i < csd->super.segment_count; i++) {
        struct csd_segment *segment = &csd->segments[i];
        uint32_t live_bytes = atomic_load(&segment->live_bytes);
        stored_bytes += live_bytes;
        if (live_bytes > 0 || segment->state == CSD_SEALED) {
            segment->state = CSD_SEALED;
            segment->sealed_checkpoint = csd->super.checkpoint;
        } else {
            segment->state = CSD_FREE;
            free_count++;
        }
    }
    atomic_store(&csd->free_count, free_count);
    atomic_store(&csd->stored_bytes, stored_bytes);
    uint64_t next = csd->super.next_generation;
    if (recovery->last_generation >= next) {
        next = recovery->last_generation + 1;
    }
    /* Beyond all that a power cut may have wiped out: each segment at most once (invariant 6). */
    csd->next_generation = next + csd->super.segment_count;
    atomic_store(&csd->captured, csd->super.checkpoint);
    atomic_store(&csd->completed, csd->super.checkpoint);
    for (size_t i = 0; i < CSD_COUNTER_COUNT; i++) {
        atomic_store(&csd->counters[i], csd->super.counters[i]);
    }
}

int csd_recover(struct csd_device *csd, const char *name, struct device_message message)
{
    struct recovery recovery = {.csd = csd, .name = name, .message = message};
    size_t buffer_bytes = (size_t)PAGES_PER_READ * CSD_MAP_SLOTS * CUBBY_BLOCK_BYTES;
    int status = aligned_buffer_reserve(&recovery.buffer, buffer_bytes);
    if (status != 0) {
        return device_message_set(message, status, "there is no memory to open %s", name);
    }
    status = read_super(&recovery);
    if (status == 0) {
        status = allocate(&recovery);
    }
    if (status == 0) {
        status = load_map(&recovery);
    }
    if (status == 0) {
        for (uint32_t i = 0; i < csd->super.stream_count; i++) {
            csd->streams[i].sequence = csd->super.sequences[i];
        }
        status = read_segments(&recovery);
    }
    if (status == 0) {
        apply_records(&recovery);
        settle(&recovery);
    }
    free(recovery.records);
    free(recovery.suspects);
    aligned_buffer_free(&recovery.buffer);
    return status;
}
