/* merge.c -- see merge.h. */
#include "engine/store/merge.h"

#include <errno.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/lookup.h"

/* The displaced list as the device has it. */
struct listed {
    uint32_t count;
    uint16_t fingerprints[BLOCK_DISPLACED_MAX];
    uint16_t spills[BLOCK_DISPLACED_MAX];
};

static void copy_list(const uint8_t *home, struct listed *listed)
{
    listed->count = block_displaced_count(home);
    for (uint32_t i = 0; i < listed->count; i++) {
        listed->fingerprints[i] = block_displaced_fingerprint(home, i);
        listed->spills[i] = block_displaced_spill(home, i);
    }
}

static bool lists(const struct listed *listed, uint16_t fingerprint, uint32_t spill_index)
{
    for (uint32_t i = 0; i < listed->count; i++) {
        if (listed->fingerprints[i] == fingerprint && listed->spills[i] == spill_index) {
            return true;
        }
    }
    return false;
}

static uint32_t spill_count_of(const struct merge *merge)
{
    return segment_block_count(merge->view.place.home_count) - merge->view.place.home_count;
}

/* Find a spill block of the segment in the cache, or read it. */
static int load_spill(struct merge *merge, uint32_t spill_index, size_t *found)
{
    struct spill_cache *spills = merge->spills;
    for (size_t i = merge->first_spill; i < spills->count; i++) {
        if (spills->blocks[i].spill_index == spill_index) {
            *found = i;
            return CUBBY_OK;
        }
    }
    if (spill_index >= spill_count_of(merge)) {
        return session_fail(merge->session, CUBBY_CORRUPT,
                            "segment %llu is damaged: a home block lists a spill block that is not "
                            "there",
                            (unsigned long long)merge->view.number);
    }
    struct spill_block *blocks =
        growing_array_reserve(spills->blocks, &spills->capacity, spills->count + 1, sizeof *blocks);
    if (blocks == NULL) {
        return ENOMEM;
    }
    spills->blocks = blocks;
    size_t used = spills->count * BLOCK_BYTES;
    int status = CUBBY_OK;
    if (used + BLOCK_BYTES > spills->memory.capacity) {
        status = aligned_buffer_extend(&spills->memory, used, 2 * used + BLOCK_BYTES);
    }
    if (status == CUBBY_OK) {
        status = lookup_read_block(merge->session, merge->view,
                                   merge->view.place.home_count + spill_index,
                                   spill_memory(spills, spills->count));
    }
    if (status == CUBBY_OK) {
        blocks[spills->count] = (struct spill_block){
            .segment_number = merge->view.number,
            .spill_index = spill_index,
            .entry = NO_ENTRY,
        };
        *found = spills->count++;
    }
    return status;
}

/* What a change says, and where the pair is that it replaces. */
struct merging {
    struct merge *merge;
    const struct listed *listed;
    const struct change *change;
    struct block_pair new_pair;
    uint16_t fingerprint;
    bool existed;
    int displaced_index; /* entry of the home's list that names the old pair, or -1 */
    size_t spill;        /* in the cache; with displaced_index */
    bool stays_in_spill; /* set: the new pair took the old one's place there */
    struct sums sums;    /* of this change */
    struct block_pair old;
};

/* Find a change's key in a block, by its hash alone where the change does not have the key itself:
 * the pair there may have it. Returns as block_find. */
static int find_in_block(const struct merging *merging, const uint8_t *block,
                         struct block_pair *found)
{
    const struct block_pair *new_pair = &merging->new_pair;
    struct key_hash hash = merging->change->hash;
    if (new_pair->key != NULL) {
        return block_find(block, new_pair->key, new_pair->key_size, hash, found);
    }
    return block_find_by_hash(block, new_pair->key_size, hash,
                              merging->merge->session->store->hash_seed, found);
}

/* Find the pair that a change replaces. */
static int find_old(struct merging *merging)
{
    struct merge *merge = merging->merge;
    merging->displaced_index = -1;
    merging->existed = false;
    int status = find_in_block(merging, merge->home, &merging->old);
    for (uint32_t i = 0; status == CUBBY_NOT_FOUND && i < block_displaced_count(merge->home); i++) {
        if (block_displaced_fingerprint(merge->home, i) != merging->fingerprint) {
            continue;
        }
        status = load_spill(merge, block_displaced_spill(merge->home, i), &merging->spill);
        if (status == CUBBY_OK) {
            status =
                find_in_block(merging, spill_memory(merge->spills, merging->spill), &merging->old);
            merging->displaced_index = status == CUBBY_OK ? (int)i : -1;
        }
    }
    merging->existed = status == CUBBY_OK;
    if (status == CUBBY_CORRUPT && merge->session->message[0] == '\0') {
        session_fail(merge->session, status,
                     "block %u of segment %llu is damaged: a pair in it does not fit",
                     merge->home_index, (unsigned long long)merge->view.number);
    }
    return status == CUBBY_NOT_FOUND ? CUBBY_OK : status;
}

/* Drop records of this home from a spill block that no list, neither the one on the device nor the
 * one that is to replace it, names. */
static int drop_dead_records(struct merging *merging, size_t spill)
{
    struct merge *merge = merging->merge;
    uint8_t *block = spill_memory(merge->spills, spill);
    uint32_t spill_index = merge->spills->blocks[spill].spill_index;
    size_t offset = 0;
    struct block_pair pair;
    int status;
    while ((status = block_next(block, &offset, &pair)) == CUBBY_OK) {
        struct key_hash hash = block_pair_hash(&pair, merge->session->store->hash_seed);
        uint16_t fingerprint = key_hash_fingerprint(hash);
        if (key_hash_home(hash, merge->view.place.home_count) == merge->home_index &&
            block_displaced_find(merge->home, fingerprint, (uint16_t)spill_index) < 0 &&
            !lists(merging->listed, fingerprint, spill_index)) {
            offset -= pair.encoded_size;
            block_remove(block, &pair);
        }
    }
    return status == CUBBY_CORRUPT
               ? session_fail(merge->session, status,
                              "spill block %u of segment %llu is damaged: a pair in it does not "
                              "fit",
                              spill_index, (unsigned long long)merge->view.number)
               : CUBBY_OK;
}

/* Put the pair into the first spill block that has room, and list it. Spill blocks are filled in
 * order, so that how far they are filled tells how much of the segment is displaced. Returns
 * CUBBY_NOT_FOUND if there is no room, or too much is displaced already. */
static int displace(struct merging *merging)
{
    struct merge *merge = merging->merge;
    const struct change *change = merging->change;
    if (block_displaced_count(merge->home) == BLOCK_DISPLACED_MAX ||
        block_room(merge->home, true) < 0) {
        return CUBBY_NOT_FOUND;
    }
    uint64_t limit = segment_displaced_limit(merge->payload, change->encoded_size);
    uint32_t spill_count = spill_count_of(merge);
    for (uint32_t i = 0; i < spill_count && i * (uint64_t)SPILL_PAIR_BYTES < limit; i++) {
        if (block_displaced_find(merge->home, merging->fingerprint, (uint16_t)i) >= 0 ||
            lists(merging->listed, merging->fingerprint, i)) {
            continue;
        }
        size_t spill;
        int status = load_spill(merge, i, &spill);
        if (status == CUBBY_OK) {
            status = drop_dead_records(merging, spill);
        }
        if (status != CUBBY_OK) {
            return status;
        }
        uint8_t *block = spill_memory(merge->spills, spill);
        int room = block_room(block, false);
        uint64_t displaced = i * (uint64_t)SPILL_PAIR_BYTES + (uint64_t)(SPILL_PAIR_BYTES - room) +
                             change->encoded_size;
        if (room < (int)change->encoded_size || displaced > limit) {
            continue;
        }
        block_append(block, change_encoded(merge->changes, change), change->encoded_size);
        merge->spills->blocks[spill].is_changed = true;
        block_displaced_add(merge->home, merging->fingerprint, (uint16_t)i);
        return CUBBY_OK;
    }
    return CUBBY_NOT_FOUND;
}

/* Put the new pair where it fits best; the old one, if it was at home, is gone already. */
static int place(struct merging *merging)
{
    struct merge *merge = merging->merge;
    const struct change *change = merging->change;
    const uint8_t *encoded = change_encoded(merge->changes, change);
    bool is_displaced = merging->displaced_index >= 0;
    if (block_room(merge->home, false) >= (int)change->encoded_size) {
        if (is_displaced) {
            block_displaced_remove(merge->home, (uint32_t)merging->displaced_index);
        }
        block_append(merge->home, encoded, change->encoded_size);
        return CUBBY_OK;
    }
    if (is_displaced) {
        uint8_t *block = spill_memory(merge->spills, merging->spill);
        int room = block_room(block, false) + (int)merging->old.encoded_size;
        if (room >= (int)change->encoded_size) {
            block_remove(block, &merging->old);
            block_append(block, encoded, change->encoded_size);
            merge->spills->blocks[merging->spill].is_changed = true;
            merging->stays_in_spill = true;
            return CUBBY_OK;
        }
        block_displaced_remove(merge->home, (uint32_t)merging->displaced_index);
    }
    return displace(merging);
}

int merge_note_gone(cubby_session *session, const struct change_list *changes,
                    const struct change *change, const struct block_pair *old,
                    struct dropped_pairs *gone, struct sums *sums)
{
    struct block_pair new_pair;
    change_decode(changes, change, &new_pair);
    struct block_pair noted = *old;
    bool is_same_blob = old->is_blob && new_pair.is_blob && !change->is_tombstone &&
                        old->blob_lba == new_pair.blob_lba &&
                        old->blob_checksum == new_pair.blob_checksum;
    noted.is_blob = old->is_blob && !is_same_blob;
    sums->pairs--;
    sums->pair_bytes -= (int64_t)blob_bytes(old);
    sums->blobs -= old->is_blob;
    sums->payload -= old->encoded_size;
    return expiry_note(session, gone, &noted);
}

void merge_note_new(const struct change_list *changes, const struct change *change,
                    struct sums *sums)
{
    struct block_pair new_pair;
    change_decode(changes, change, &new_pair);
    sums->pairs++;
    sums->pair_bytes += (int64_t)blob_bytes(&new_pair);
    sums->blobs += new_pair.is_blob;
    sums->payload += change->encoded_size;
}

static int merge_change(struct merge *merge, const struct change *change,
                        const struct listed *listed)
{
    struct merging merging = {
        .merge = merge,
        .listed = listed,
        .change = change,
        .fingerprint = key_hash_fingerprint(change->hash),
    };
    change_decode(merge->changes, change, &merging.new_pair);
    int status = find_old(&merging);
    if (status == CUBBY_OK && merging.existed) {
        status = merge_note_gone(merge->session, merge->changes, change, &merging.old, merge->gone,
                                 &merging.sums);
    }
    if (status != CUBBY_OK) {
        return status;
    }
    bool is_displaced = merging.displaced_index >= 0;
    if (merging.existed && !is_displaced) {
        block_remove(merge->home, &merging.old);
    }
    if (change->is_tombstone) {
        if (is_displaced) {
            block_displaced_remove(merge->home, (uint32_t)merging.displaced_index);
        }
        sums_add(&merge->sums, &merging.sums);
        return CUBBY_OK;
    }
    merge_note_new(merge->changes, change, &merging.sums);
    if (!merging.existed || expiry_has_passed(merge->session, &merging.old)) {
        session_count(&merge->session->counters.inserted_bytes, change->encoded_size);
    }
    status = place(&merging);
    sums_add(merging.stays_in_spill ? &merge->spills->blocks[merging.spill].sums : &merge->sums,
             &merging.sums);
    return status;
}

/* Whether a pair of the home block is about to be replaced, perhaps by itself. */
static bool is_changed(const struct merge *merge, const struct block_pair *pair)
{
    struct key_hash hash = block_pair_hash(pair, merge->session->store->hash_seed);
    for (size_t i = merge->first_change; i < merge->change_end; i++) {
        const struct change *change = &merge->changes->items[i];
        if (change->hash.low == hash.low && change->hash.high == hash.high) {
            return true;
        }
    }
    return false;
}

/* What is expired goes with every write of a home block. */
static int drop_expired(struct merge *merge)
{
    size_t offset = 0;
    struct block_pair pair;
    /* What does not fit is for whoever looks for a pair there. */
    while (block_next(merge->home, &offset, &pair) == CUBBY_OK) {
        if (!expiry_has_passed(merge->session, &pair) || is_changed(merge, &pair)) {
            continue;
        }
        int status = expiry_note(merge->session, merge->gone, &pair);
        if (status != CUBBY_OK) {
            return status;
        }
        offset -= pair.encoded_size;
        block_remove(merge->home, &pair);
    }
    return CUBBY_OK;
}

int merge_home(struct merge *merge)
{
    cubby_session *session = merge->session;
    const struct dropped_pairs before = *merge->gone;
    merge->sums = (struct sums){0};
    session->message[0] = '\0';
    struct listed listed;
    copy_list(merge->home, &listed);
    int status = drop_expired(merge);
    merge->expired = merge->gone->count - before.count;
    merge->sums.pairs -= (int64_t)merge->expired;
    merge->sums.pair_bytes -= (int64_t)(merge->gone->pair_bytes - before.pair_bytes);
    merge->sums.blobs -= (int64_t)(merge->gone->blob_count - before.blob_count);
    merge->sums.payload -= (int64_t)(merge->gone->encoded_bytes - before.encoded_bytes);
    for (size_t i = merge->first_change; i < merge->change_end && status == CUBBY_OK; i++) {
        status = merge_change(merge, &merge->changes->items[i], &listed);
    }
    return status;
}
