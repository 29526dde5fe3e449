/* csd_format.c -- see csd_format.h. */
#define XXH_INLINE_ALL
#include "blockdev/csd_format.h"

#include <string.h>
#include <xxhash.h>

#include "blockdev/csd.h"
#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"

static const char SUPER_MAGIC[8] = {'C', 'u', 'b', 'b', 'y', 'C', 'S', 'D'};
static const char SEGMENT_MAGIC[8] = {'C', 'u', 'b', 'b', 'y', 'S', 'E', 'G'};

enum {
    HEADS_OFFSET = 96,
    HEAD_BYTES = 16,
    SEQUENCES_OFFSET = 352,
    COUNTERS_OFFSET = 416,
    GROUPS_OFFSET = 1024,
    GROUPS_BYTES = CSD_GROUPS / 8,
    PAGE_HEADER_BYTES = 32,
    LBA_BITS = 44,
    KIND_BITS = 4,
    SIZE_SHIFT = LBA_BITS + KIND_BITS,
    COUNT_BITS = 62, /* of numbers that only ever grow by one: they never get there */
};
_Static_assert(HEADS_OFFSET + HEAD_BYTES * CSD_STREAMS_MAX * CSD_HEADS_PER_STREAM ==
                   SEQUENCES_OFFSET,
               "");
_Static_assert(SEQUENCES_OFFSET + 8 * CSD_STREAMS_MAX == COUNTERS_OFFSET, "");
_Static_assert(COUNTERS_OFFSET + 8 * CSD_COUNTERS <= GROUPS_OFFSET, "");
_Static_assert(GROUPS_OFFSET + GROUPS_BYTES <= CUBBY_BLOCK_BYTES, "");
_Static_assert(PAGE_HEADER_BYTES + 8 * CSD_MAP_ENTRIES == CUBBY_BLOCK_BYTES, "");

/* All but the superblock's checksum depend on the drive. */
static uint64_t seed_of(const struct csd_super *super, uint64_t when, uint64_t where)
{
    uint64_t parts[3] = {super->drive_id, when, where};
    return XXH3_64bits(parts, sizeof parts);
}

uint64_t csd_format_map_pages(const struct csd_super *super)
{
    return divide_up(super->logical_blocks, CSD_MAP_ENTRIES);
}

uint64_t csd_format_map_lba(uint64_t page, unsigned slot)
{
    return CSD_SUPERBLOCK_COUNT + page * CSD_MAP_SLOTS + slot;
}

uint64_t csd_format_segment_lba(const struct csd_super *super, uint32_t segment)
{
    uint64_t log_lba = csd_format_map_lba(csd_format_map_pages(super), 0);
    return log_lba + (uint64_t)segment * super->segment_blocks;
}

uint64_t csd_format_block_count(const struct csd_super *super)
{
    return csd_format_segment_lba(super, super->segment_count);
}

uint64_t csd_format_pages_per_group(const struct csd_super *super)
{
    return divide_up(csd_format_map_pages(super), CSD_GROUPS);
}

uint64_t csd_format_group(const struct csd_super *super, uint64_t page)
{
    return page / csd_format_pages_per_group(super);
}

void csd_format_encode_super(const struct csd_super *super, uint64_t lba, uint8_t *block)
{
    memset(block, 0, CUBBY_BLOCK_BYTES);
    memcpy(block + 8, SUPER_MAGIC, sizeof SUPER_MAGIC);
    store_u32(block + 16, CSD_FORMAT_VERSION);
    store_u32(block + 20, super->unit_bytes);
    store_u32(block + 24, (uint32_t)super->level);
    store_u32(block + 28, super->throttle_disabled);
    store_u64(block + 32, super->drive_id);
    store_u64(block + 40, super->physical_bytes);
    store_u64(block + 48, super->logical_blocks);
    store_u32(block + 56, super->segment_blocks);
    store_u32(block + 60, super->segment_count);
    store_u32(block + 64, super->stream_count);
    store_u64(block + 72, super->checkpoint);
    store_u64(block + 80, super->next_generation);
    store_u64(block + 88, super->map_digest);
    for (size_t i = 0; i < CSD_STREAMS_MAX * CSD_HEADS_PER_STREAM; i++) {
        uint8_t *head = block + HEADS_OFFSET + i * HEAD_BYTES;
        store_u64(head, super->heads[i].generation);
        store_u32(head + 8, super->heads[i].segment);
        store_u32(head + 12, super->heads[i].position_bytes);
    }
    for (size_t i = 0; i < CSD_STREAMS_MAX; i++) {
        store_u64(block + SEQUENCES_OFFSET + i * 8, super->sequences[i]);
    }
    for (size_t i = 0; i < CSD_COUNTERS; i++) {
        store_u64(block + COUNTERS_OFFSET + i * 8, super->counters[i]);
    }
    memcpy(block + GROUPS_OFFSET, super->written_groups, GROUPS_BYTES);
    store_u64(block, XXH3_64bits_withSeed(block + 8, CUBBY_BLOCK_BYTES - 8, lba));
}

/* Whether all that sizes and divisors are computed from is in its range. */
static bool super_is_sane(const struct csd_super *super)
{
    uint32_t unit = super->unit_bytes;
    if (unit < 16 || unit > CUBBY_BLOCK_BYTES || (unit & (unit - 1)) != 0 ||
        super->stream_count == 0 || super->stream_count > CSD_STREAMS_MAX ||
        super->segment_blocks < 4 || super->segment_blocks > (1U << 18) ||
        super->segment_count == 0 || super->logical_blocks == 0 ||
        super->logical_blocks > CSD_LOGICAL_BLOCKS_MAX || super->checkpoint == 0 ||
        super->checkpoint >> COUNT_BITS != 0 || super->next_generation >> COUNT_BITS != 0) {
        return false;
    }
    for (size_t i = 0; i < CSD_STREAMS_MAX; i++) {
        if (super->sequences[i] >> COUNT_BITS != 0) {
            return false;
        }
    }
    for (size_t i = 0; i < CSD_STREAMS_MAX * CSD_HEADS_PER_STREAM; i++) {
        const struct csd_head_mark *head = &super->heads[i];
        if (head->generation != 0 &&
            (head->segment >= super->segment_count ||
             head->position_bytes > super->segment_blocks * (uint64_t)CUBBY_BLOCK_BYTES ||
             head->position_bytes % unit != 0)) {
            return false;
        }
    }
    return true;
}

int csd_format_decode_super(const uint8_t *block, uint64_t lba, struct csd_super *super)
{
    if (memcmp(block + 8, SUPER_MAGIC, sizeof SUPER_MAGIC) != 0) {
        return CUBBY_BAD_ARGUMENT;
    }
    if (load_u64(block) != XXH3_64bits_withSeed(block + 8, CUBBY_BLOCK_BYTES - 8, lba)) {
        return CUBBY_CORRUPT;
    }
    if (load_u32(block + 16) != CSD_FORMAT_VERSION) {
        return CUBBY_FORMAT_VERSION;
    }
    struct csd_super found = {
        .unit_bytes = load_u32(block + 20),
        .level = (int32_t)load_u32(block + 24),
        .throttle_disabled = load_u32(block + 28) != 0,
        .drive_id = load_u64(block + 32),
        .physical_bytes = load_u64(block + 40),
        .logical_blocks = load_u64(block + 48),
        .segment_blocks = load_u32(block + 56),
        .segment_count = load_u32(block + 60),
        .stream_count = load_u32(block + 64),
        .checkpoint = load_u64(block + 72),
        .next_generation = load_u64(block + 80),
        .map_digest = load_u64(block + 88),
    };
    for (size_t i = 0; i < CSD_STREAMS_MAX * CSD_HEADS_PER_STREAM; i++) {
        const uint8_t *head = block + HEADS_OFFSET + i * HEAD_BYTES;
        found.heads[i] = (struct csd_head_mark){
            .generation = load_u64(head),
            .segment = load_u32(head + 8),
            .position_bytes = load_u32(head + 12),
        };
    }
    for (size_t i = 0; i < CSD_STREAMS_MAX; i++) {
        found.sequences[i] = load_u64(block + SEQUENCES_OFFSET + i * 8);
    }
    for (size_t i = 0; i < CSD_COUNTERS; i++) {
        found.counters[i] = load_u64(block + COUNTERS_OFFSET + i * 8);
    }
    memcpy(found.written_groups, block + GROUPS_OFFSET, GROUPS_BYTES);
    if (!super_is_sane(&found)) {
        return CUBBY_CORRUPT;
    }
    *super = found;
    return 0;
}

void csd_format_encode_page(const struct csd_super *super, uint64_t page, unsigned slot,
                            uint64_t checkpoint, const uint64_t *entries, uint8_t *block)
{
    store_u64(block + 8, checkpoint);
    store_u64(block + 16, page);
    store_u64(block + 24, 0);
    memcpy(block + PAGE_HEADER_BYTES, entries, 8 * CSD_MAP_ENTRIES);
    uint64_t seed = seed_of(super, 0, csd_format_map_lba(page, slot));
    store_u64(block, XXH3_64bits_withSeed(block + 8, CUBBY_BLOCK_BYTES - 8, seed));
}

bool csd_format_decode_page(const struct csd_super *super, uint64_t page, unsigned slot,
                            const uint8_t *block, uint64_t *checkpoint)
{
    uint64_t seed = seed_of(super, 0, csd_format_map_lba(page, slot));
    if (load_u64(block) != XXH3_64bits_withSeed(block + 8, CUBBY_BLOCK_BYTES - 8, seed) ||
        load_u64(block + 16) != page) {
        return false;
    }
    *checkpoint = load_u64(block + 8);
    return true;
}

uint64_t csd_format_digest(uint64_t page, uint64_t checkpoint)
{
    uint64_t parts[2] = {page, checkpoint};
    return XXH3_64bits(parts, sizeof parts);
}

void csd_format_encode_segment(const struct csd_super *super, uint32_t segment,
                               struct csd_segment_header header, uint8_t *bytes)
{
    memcpy(bytes + 8, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC);
    store_u64(bytes + 16, header.generation);
    store_u32(bytes + 24, header.stream);
    store_u32(bytes + 28, segment);
    uint64_t seed = seed_of(super, 0, csd_format_segment_lba(super, segment));
    store_u64(bytes, XXH3_64bits_withSeed(bytes + 8, CSD_SEGMENT_HEADER_BYTES - 8, seed));
}

bool csd_format_decode_segment(const struct csd_super *super, uint32_t segment,
                               const uint8_t *bytes, struct csd_segment_header *header)
{
    uint64_t seed = seed_of(super, 0, csd_format_segment_lba(super, segment));
    if (memcmp(bytes + 8, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC) != 0 ||
        load_u64(bytes) != XXH3_64bits_withSeed(bytes + 8, CSD_SEGMENT_HEADER_BYTES - 8, seed) ||
        load_u32(bytes + 24) >= super->stream_count || load_u32(bytes + 28) != segment) {
        return false;
    }
    header->generation = load_u64(bytes + 16);
    header->stream = load_u32(bytes + 24);
    return true;
}

uint64_t csd_format_payload_hash(const uint8_t *payload, size_t payload_bytes)
{
    return XXH3_64bits(payload, payload_bytes);
}

static uint64_t fragment_check(const struct csd_super *super, uint64_t generation, uint64_t place,
                               const uint8_t *bytes, uint64_t payload_hash)
{
    uint64_t parts[3] = {load_u64(bytes + 8), load_u64(bytes + 16), payload_hash};
    return XXH3_64bits_withSeed(parts, sizeof parts, seed_of(super, generation, place));
}

void csd_format_encode_fragment(const struct csd_super *super, uint64_t generation, uint64_t place,
                                const struct csd_fragment *fragment, uint64_t payload_hash,
                                uint8_t *bytes)
{
    CUBBY_ASSERT(fragment->lba < CSD_LOGICAL_BLOCKS_MAX);
    CUBBY_ASSERT(fragment->payload_bytes <= CUBBY_BLOCK_BYTES);
    store_u64(bytes + 8, fragment->lba | (uint64_t)fragment->kind << LBA_BITS |
                             (uint64_t)fragment->payload_bytes << SIZE_SHIFT);
    store_u64(bytes + 16, fragment->sequence);
    store_u64(bytes, fragment_check(super, generation, place, bytes, payload_hash));
}

bool csd_format_decode_fragment(const struct csd_super *super, uint64_t generation, uint64_t place,
                                const uint8_t *bytes, size_t available,
                                struct csd_fragment *fragment)
{
    if (available < CSD_FRAGMENT_HEADER_BYTES) {
        return false;
    }
    uint64_t word = load_u64(bytes + 8);
    uint32_t kind = (uint32_t)(word >> LBA_BITS) & ((1U << KIND_BITS) - 1);
    uint32_t payload_bytes = (uint32_t)(word >> SIZE_SHIFT);
    if (kind < CSD_FRAGMENT_ZSTD || kind > CSD_FRAGMENT_NOTHING ||
        payload_bytes > CUBBY_BLOCK_BYTES ||
        payload_bytes > available - CSD_FRAGMENT_HEADER_BYTES ||
        (kind == CSD_FRAGMENT_RAW && payload_bytes != CUBBY_BLOCK_BYTES) ||
        (kind == CSD_FRAGMENT_NOTHING && payload_bytes != CSD_NOTHING_BYTES)) {
        return false;
    }
    uint64_t payload_hash =
        csd_format_payload_hash(bytes + CSD_FRAGMENT_HEADER_BYTES, payload_bytes);
    if (load_u64(bytes) != fragment_check(super, generation, place, bytes, payload_hash)) {
        return false;
    }
    *fragment = (struct csd_fragment){
        .kind = (enum csd_fragment_kind)kind,
        .payload_bytes = payload_bytes,
        .lba = word & (CSD_LOGICAL_BLOCKS_MAX - 1),
        .sequence = load_u64(bytes + 16),
    };
    return true;
}
