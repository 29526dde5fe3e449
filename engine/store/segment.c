/* segment.c -- see segment.h. */
#include "engine/store/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/simulator.h"

enum {
    PLAN_TRIES = 24,     /* sizes tried, each a sixteenth larger than the one before */
    PLAN_CANDIDATES = 4, /* home counts tried for each size */
    DISPLACED_PERCENT_MAX = 3,
};

void segment_pairs_free(struct segment_pairs *pairs)
{
    free(pairs->pairs);
    *pairs = (struct segment_pairs){0};
}

int segment_pairs_add(struct segment_pairs *pairs, struct segment_pair pair)
{
    struct segment_pair *grown =
        growing_array_reserve(pairs->pairs, &pairs->capacity, pairs->count + 1, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    pairs->pairs = grown;
    pairs->pairs[pairs->count++] = pair;
    pairs->bytes += pair.encoded_size;
    return CUBBY_OK;
}

int segment_check_blocks(const cubby_store *store, const uint8_t *image, struct segment_view view,
                         uint64_t lba, struct segment_damage *damage)
{
    uint32_t block_count = segment_block_count(view.place.home_count);
    for (uint32_t i = 0; i < block_count; i++) {
        const uint8_t *block = image + (size_t)i * BLOCK_BYTES;
        damage->block_index = i;
        damage->reason = block_check(block, lba + i, store->secret);
        if (damage->reason != NULL) {
            return CUBBY_CORRUPT;
        }
        if (!block_identity_equal(block_identity_of(block), segment_identity(view, i))) {
            damage->reason = "it belongs to another segment, or to another state of this one";
            return CUBBY_CORRUPT;
        }
    }
    return CUBBY_OK;
}

/* The spill records of an image, block by block. */
struct spill_records {
    struct segment_pairs records;
    size_t *first_of_block; /* spill count + 1 */
};

static int gather_spill(const cubby_store *store, const uint8_t *image, struct segment_view view,
                        struct spill_records *spill, struct segment_damage *damage)
{
    uint32_t spill_count = segment_block_count(view.place.home_count) - view.place.home_count;
    spill->first_of_block = calloc(spill_count + 1, sizeof *spill->first_of_block);
    if (spill->first_of_block == NULL) {
        return ENOMEM;
    }
    for (uint32_t i = 0; i < spill_count; i++) {
        damage->block_index = view.place.home_count + i;
        damage->reason = "a pair in it does not fit";
        const uint8_t *block = image + (size_t)damage->block_index * BLOCK_BYTES;
        size_t offset = 0;
        struct block_pair pair;
        int status;
        while ((status = block_next(block, &offset, &pair)) == CUBBY_OK) {
            struct segment_pair record = {
                .hash = block_pair_hash(&pair, store->hash_seed),
                .encoded = pair.encoded,
                .encoded_size = pair.encoded_size,
            };
            status = segment_pairs_add(&spill->records, record);
            if (status != CUBBY_OK) {
                return status;
            }
        }
        if (status != CUBBY_NOT_FOUND) {
            return status;
        }
        spill->first_of_block[i + 1] = spill->records.count;
    }
    return CUBBY_OK;
}

/* Whether a hash belongs to a segment. */
static bool hash_is_of(struct key_hash hash, struct segment_view view)
{
    return (hash.low & ((UINT64_C(1) << view.depth) - 1)) == view.number;
}

/* Add the pairs that a home block lists as displaced. */
static int collect_displaced(const uint8_t *block, uint32_t home_index, struct segment_view view,
                             bool tolerates_lost, const struct spill_records *spill,
                             struct segment_pairs *pairs, struct segment_damage *damage)
{
    uint32_t home_count = view.place.home_count;
    uint32_t spill_count = segment_block_count(home_count) - home_count;
    for (uint32_t i = 0; i < block_displaced_count(block); i++) {
        uint16_t fingerprint = block_displaced_fingerprint(block, i);
        uint32_t spill_index = block_displaced_spill(block, i);
        if (spill_index >= spill_count) {
            damage->reason = "it lists a spill block that is not there";
            return CUBBY_CORRUPT;
        }
        if (block_displaced_find(block, fingerprint, (uint16_t)spill_index) != (int)i) {
            damage->reason = "it lists a displaced pair twice";
            return CUBBY_CORRUPT;
        }
        const struct segment_pair *found = NULL;
        for (size_t r = spill->first_of_block[spill_index];
             r < spill->first_of_block[spill_index + 1]; r++) {
            const struct segment_pair *record = &spill->records.pairs[r];
            if (key_hash_fingerprint(record->hash) == fingerprint &&
                key_hash_home(record->hash, home_count) == home_index) {
                damage->reason = "one of its displaced pairs is in the spill block twice";
                if (found != NULL) {
                    return CUBBY_CORRUPT;
                }
                found = record;
            }
        }
        if (found == NULL && tolerates_lost) {
            continue;
        }
        if (found == NULL) {
            damage->reason = "one of its displaced pairs is not in the spill block";
            return CUBBY_CORRUPT;
        }
        if (!hash_is_of(found->hash, view)) {
            damage->reason = "one of its displaced pairs belongs to another segment";
            return CUBBY_CORRUPT;
        }
        int status = segment_pairs_add(pairs, *found);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    return CUBBY_OK;
}

static int collect_home(const cubby_store *store, const uint8_t *block, uint32_t home_index,
                        struct segment_view view, struct segment_pairs *pairs,
                        struct segment_damage *damage)
{
    size_t offset = 0;
    struct block_pair pair;
    int status;
    while ((status = block_next(block, &offset, &pair)) == CUBBY_OK) {
        struct segment_pair collected = {
            .hash = block_pair_hash(&pair, store->hash_seed),
            .encoded = pair.encoded,
            .encoded_size = pair.encoded_size,
        };
        if (!hash_is_of(collected.hash, view) ||
            key_hash_home(collected.hash, view.place.home_count) != home_index) {
            damage->reason = "it holds a pair that belongs elsewhere";
            return CUBBY_CORRUPT;
        }
        status = segment_pairs_add(pairs, collected);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    damage->reason = "a pair in it does not fit";
    return status == CUBBY_NOT_FOUND ? CUBBY_OK : status;
}

int segment_collect(const cubby_store *store, const uint8_t *image, struct segment_view view,
                    struct segment_pairs *pairs, struct segment_damage *damage)
{
    struct spill_records spill = {0};
    uint32_t home_count = view.place.home_count;
    pairs->count = 0;
    pairs->bytes = 0;
    int status = gather_spill(store, image, view, &spill, damage);
    for (uint32_t i = 0; status == CUBBY_OK && i < home_count; i++) {
        const uint8_t *block = image + (size_t)i * BLOCK_BYTES;
        damage->block_index = i;
        status = collect_home(store, block, i, view, pairs, damage);
        if (status == CUBBY_OK && !PLANTED(BUG_SPILL_READ_FLAT)) {
            status =
                collect_displaced(block, i, view, store->tolerates_lost, &spill, pairs, damage);
        }
    }
    for (size_t i = 0; PLANTED(BUG_SPILL_READ_FLAT) && i < spill.records.count; i++) {
        (void)segment_pairs_add(pairs, spill.records.pairs[i]);
    }
    segment_pairs_free(&spill.records);
    free(spill.first_of_block);
    return status;
}

uint64_t segment_displaced_limit(uint64_t payload_bytes, uint64_t pair_bytes)
{
    uint64_t share = payload_bytes * DISPLACED_PERCENT_MAX / 100;
    return share > 3 * pair_bytes ? share : 3 * pair_bytes;
}

/* How full each block is while pairs are being placed. */
struct plan_scratch {
    uint16_t *home_bytes;    /* pairs, per home block */
    uint8_t *home_displaced; /* entries, per home block */
    uint16_t *spill_bytes;   /* pairs, per spill block */
    size_t *displaced;       /* indices of pairs; as many as there are pairs, at most */
    size_t displaced_count;
};

static bool fits_home(const struct plan_scratch *scratch, uint32_t home, uint32_t size,
                      uint32_t displaced)
{
    uint32_t list = displaced * DISPLACED_BYTES;
    uint32_t reserved = list > DISPLACED_RESERVE_BYTES ? list : DISPLACED_RESERVE_BYTES;
    return scratch->home_bytes[home] + size + reserved <= BLOCK_BYTES - BLOCK_HEADER_BYTES;
}

/* Whether a pair displaced before has the same home, fingerprint and spill block. */
static bool clashes(const struct segment_pairs *pairs, const struct plan_scratch *scratch,
                    const struct segment_pair *own, uint32_t home_count, uint32_t spill_index)
{
    uint32_t home = key_hash_home(own->hash, home_count);
    if (scratch->home_displaced[home] == 0) {
        return false;
    }
    for (size_t i = 0; i < scratch->displaced_count; i++) {
        const struct segment_pair *pair = &pairs->pairs[scratch->displaced[i]];
        if (pair->spill_index == spill_index &&
            key_hash_fingerprint(pair->hash) == key_hash_fingerprint(own->hash) &&
            key_hash_home(pair->hash, home_count) == home) {
            return true;
        }
    }
    return false;
}

/* First fit among the spill blocks. Returns false if there is no room. */
static bool displace(struct segment_pairs *pairs, size_t index, uint32_t home_count,
                     uint32_t spill_count, struct plan_scratch *scratch)
{
    struct segment_pair *pair = &pairs->pairs[index];
    uint32_t home = key_hash_home(pair->hash, home_count);
    uint32_t entries = scratch->home_displaced[home] + 1U;
    if (entries > BLOCK_DISPLACED_MAX || !fits_home(scratch, home, 0, entries)) {
        return false;
    }
    for (uint32_t i = 0; i < spill_count; i++) {
        if (scratch->spill_bytes[i] + pair->encoded_size <= SPILL_PAIR_BYTES &&
            !clashes(pairs, scratch, pair, home_count, i)) {
            scratch->spill_bytes[i] = (uint16_t)(scratch->spill_bytes[i] + pair->encoded_size);
            scratch->home_displaced[home] = (uint8_t)entries;
            pair->spill_index = i;
            scratch->displaced[scratch->displaced_count++] = index;
            return true;
        }
    }
    return false;
}

/* Place all pairs in home_count homes and their spill. Returns whether they fit; *displaced_bytes
 * is set if so. */
static bool place_pairs(struct segment_pairs *pairs, uint32_t home_count,
                        struct plan_scratch *scratch, uint64_t *displaced_bytes)
{
    uint32_t spill_count = segment_block_count(home_count) - home_count;
    memset(scratch->home_bytes, 0, home_count * sizeof *scratch->home_bytes);
    memset(scratch->home_displaced, 0, home_count * sizeof *scratch->home_displaced);
    memset(scratch->spill_bytes, 0, spill_count * sizeof *scratch->spill_bytes);
    *displaced_bytes = 0;
    scratch->displaced_count = 0;
    for (size_t i = 0; i < pairs->count; i++) {
        struct segment_pair *pair = &pairs->pairs[i];
        uint32_t home = key_hash_home(pair->hash, home_count);
        if (fits_home(scratch, home, pair->encoded_size, scratch->home_displaced[home])) {
            scratch->home_bytes[home] = (uint16_t)(scratch->home_bytes[home] + pair->encoded_size);
            pair->spill_index = PAIR_AT_HOME;
            continue;
        }
        if (!displace(pairs, i, home_count, spill_count, scratch)) {
            return false;
        }
        *displaced_bytes += pair->encoded_size;
    }
    return true;
}

static int scratch_open(struct plan_scratch *scratch, uint32_t extent_count, size_t pair_count)
{
    /* One allocation, for the largest home count and spill count of so many extents. */
    size_t blocks = (size_t)extent_count * EXTENT_BLOCKS;
    uint8_t *memory = malloc(pair_count * sizeof *scratch->displaced + blocks * 5);
    if (memory == NULL) {
        return ENOMEM;
    }
    scratch->displaced = (size_t *)(void *)memory;
    scratch->home_bytes = (uint16_t *)(void *)(scratch->displaced + pair_count);
    scratch->spill_bytes = scratch->home_bytes + blocks;
    scratch->home_displaced = (uint8_t *)(scratch->spill_bytes + blocks);
    return CUBBY_OK;
}

/* The best of a few home counts that take extent_count extents; false if the pairs fit none. Fewer
 * homes leave more spill, so all candidates cost the same space. */
static bool best_candidate(struct segment_pairs *pairs, uint32_t extent_count,
                           struct plan_scratch *scratch, uint32_t *home_count,
                           uint64_t *displaced_bytes)
{
    uint32_t most = segment_home_count_max(extent_count);
    bool found = false;
    for (uint32_t i = 0; i < PLAN_CANDIDATES; i++) {
        uint64_t displaced;
        if (place_pairs(pairs, most - i, scratch, &displaced) &&
            (!found || displaced < *displaced_bytes)) {
            found = true;
            *home_count = most - i;
            *displaced_bytes = displaced;
        }
        if (found && *displaced_bytes == 0) {
            break;
        }
    }
    return found;
}

int segment_place(struct segment_pairs *pairs, uint32_t home_count)
{
    struct plan_scratch scratch;
    if (scratch_open(&scratch, segment_extent_count(home_count), pairs->count) != CUBBY_OK) {
        return ENOMEM;
    }
    uint64_t displaced_bytes;
    bool placed = place_pairs(pairs, home_count, &scratch, &displaced_bytes);
    free(scratch.displaced);
    return placed ? CUBBY_OK : CUBBY_UNPLACEABLE;
}

int segment_plan(struct segment_pairs *pairs, uint32_t fill_percent, uint32_t *home_count)
{
    uint64_t per_home = (uint64_t)HOME_PAIR_BYTES * fill_percent / 100;
    uint64_t wanted = divide_up(pairs->bytes, per_home);
    wanted = wanted < HOME_COUNT_MAX ? wanted : HOME_COUNT_MAX;
    uint32_t extents = segment_extent_count(wanted > 0 ? (uint32_t)wanted : 1);
    uint32_t largest = segment_extent_count(HOME_COUNT_MAX);
    /* Half of what would trigger the next rebuild, so that it does not come at once. */
    uint64_t acceptable = segment_displaced_limit(pairs->bytes, 0) / 2;
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < PLAN_TRIES && extents <= largest; i++) {
        struct plan_scratch scratch;
        if (scratch_open(&scratch, extents, pairs->count) != CUBBY_OK) {
            return ENOMEM;
        }
        uint32_t candidate = 0;
        uint64_t displaced = UINT64_MAX;
        if (best_candidate(pairs, extents, &scratch, &candidate, &displaced) && displaced < best) {
            best = displaced;
            *home_count = candidate;
        }
        free(scratch.displaced);
        if (best <= acceptable) {
            break;
        }
        extents += extents / 16 + 1;
    }
    if (best == UINT64_MAX) {
        return CUBBY_UNPLACEABLE;
    }
    /* Place them once more for the winner: a later candidate has written over its places. */
    int status = segment_place(pairs, *home_count);
    CUBBY_ASSERT(status != CUBBY_UNPLACEABLE);
    return status;
}

void segment_build(const cubby_store *store, const struct segment_pairs *pairs,
                   struct segment_view view, uint64_t lba, uint64_t lsn, uint8_t *image)
{
    uint32_t home_count = view.place.home_count;
    uint32_t block_count = segment_block_count(home_count);
    for (uint32_t i = 0; i < block_count; i++) {
        block_init(image + (size_t)i * BLOCK_BYTES, segment_identity(view, i));
    }
    for (size_t i = 0; i < pairs->count; i++) {
        const struct segment_pair *pair = &pairs->pairs[i];
        CUBBY_ASSERT(hash_is_of(pair->hash, view));
        uint32_t home = key_hash_home(pair->hash, home_count);
        uint8_t *block = image + (size_t)home * BLOCK_BYTES;
        if (pair->spill_index != PAIR_AT_HOME) {
            block_displaced_add(block, key_hash_fingerprint(pair->hash),
                                (uint16_t)pair->spill_index);
            block = image + (size_t)(home_count + pair->spill_index) * BLOCK_BYTES;
        }
        block_append(block, pair->encoded, pair->encoded_size);
    }
    for (uint32_t i = 0; i < block_count; i++) {
        block_seal(image + (size_t)i * BLOCK_BYTES, lsn, lba + i, store->secret);
    }
}
