/* check_segment.c -- the part of cubby_check that reads the segments and all that is in them.
 *
 * While one segment is being checked the next ones are being read. Each block is judged by itself,
 * so that every damage is named: a damaged block does not hide what the others hold.
 *
 * Depends on: check.h, segment.h, dirty.h.   Used by: check.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/check.h"
#include "engine/store/segment.h"

enum {
    AHEAD_SEGMENTS = 8,
    AHEAD_BYTES = 8 << 20,
    REASON_BYTES = 120,
};

/* A segment that is being read. */
struct slot {
    struct check_read read;
    struct segment_view view;
    struct aligned_buffer image;
    uint32_t block_count;
};

/* Segments [checked, begun) are in slots of their numbers, modulo AHEAD_SEGMENTS. */
struct ahead {
    struct slot slots[AHEAD_SEGMENTS];
    uint64_t segment_count;
    uint64_t begun;
    uint64_t checked;
    size_t bytes;
};

/* A segment that has been read. */
struct inspection {
    struct check *check;
    struct segment_view view;
    uint64_t lba;
    const uint8_t *image;
    uint32_t block_count;
    bool *is_damaged;           /* per block */
    bool is_sound;              /* nothing is wrong so far */
    struct segment_pairs spill; /* all records of its spill blocks */
    size_t *first_of_spill;     /* of each spill block in spill; one more at the end */
    struct segment_pairs home;  /* pairs of one home; spill_index is the block that has the pair */
    uint64_t payload_bytes;
};

static const uint8_t *block_at(const struct inspection *inspection, uint32_t block_index)
{
    return inspection->image + (size_t)block_index * BLOCK_BYTES;
}

/* Name a damage of a block; the sums of the segment are not known any more. */
static void report_block(struct inspection *inspection, uint32_t block_index, const char *reason)
{
    struct check *check = inspection->check;
    check_report(&check->found, inspection->lba + block_index, inspection->view.number,
                 "block %u of segment %llu is damaged: %s", block_index,
                 (unsigned long long)inspection->view.number, reason);
    inspection->is_sound = false;
    check->is_uncounted = true;
}

/* What a sound block says that it is, where that is not what it should be. */
static void describe_identity(struct block_identity found, struct block_identity wanted,
                              char *reason)
{
    if (found.segment_number != wanted.segment_number) {
        snprintf(reason, REASON_BYTES, "it belongs to segment %u", found.segment_number);
    } else if (found.home_count != wanted.home_count) {
        snprintf(reason, REASON_BYTES, "it is of a state with %u home blocks, not %u",
                 found.home_count, wanted.home_count);
    } else if (found.epoch != wanted.epoch) {
        snprintf(reason, REASON_BYTES, "it is of epoch %u, not %u", found.epoch, wanted.epoch);
    } else if (found.depth != wanted.depth) {
        snprintf(reason, REASON_BYTES, "it is of depth %u, not %u", found.depth, wanted.depth);
    } else {
        snprintf(reason, REASON_BYTES, "it is block %u", found.block_index);
    }
}

/* Whether a block is sound for the place where the directory has what its header says: then it was
 * written to a wrong one. */
static bool is_misdirected(const cubby_store *store, const uint8_t *block, uint64_t *lba)
{
    struct block_identity identity = block_identity_of(block);
    if (identity.segment_number >= atomic_load(&store->directory.segment_count)) {
        return false;
    }
    struct segment_place place = directory_get(&store->directory, identity.segment_number);
    *lba = segment_lba(store, place) + identity.block_index;
    return block_check(block, *lba, store->secret) == NULL;
}

/* Judge one block (I2, I4). Returns false, with a reason, if it is damaged. */
static bool judge_block(const struct inspection *inspection, uint32_t block_index, char *reason)
{
    const cubby_store *store = inspection->check->session->store;
    const uint8_t *block = block_at(inspection, block_index);
    uint64_t written_for;
    const char *damage = block_check(block, inspection->lba + block_index, store->secret);
    if (damage == NULL) {
        struct block_identity wanted = segment_identity(inspection->view, block_index);
        if (!block_identity_equal(block_identity_of(block), wanted)) {
            describe_identity(block_identity_of(block), wanted, reason);
            return false;
        }
        damage = block_check_pairs(block);
    } else if (is_misdirected(store, block, &written_for)) {
        snprintf(reason, REASON_BYTES, "it was written for LBA %llu",
                 (unsigned long long)written_for);
        return false;
    }
    snprintf(reason, REASON_BYTES, "%s", damage != NULL ? damage : "");
    return damage == NULL;
}

/* Each block by itself, so that every damaged one is named; but where none is sound the directory
 * is more likely to be wrong than all of them. Returns whether any block can be looked into. */
static bool judge_blocks(struct inspection *inspection)
{
    struct check *check = inspection->check;
    char reason[REASON_BYTES];
    uint32_t damaged_count = 0;
    for (uint32_t i = 0; i < inspection->block_count; i++) {
        inspection->is_damaged[i] = !judge_block(inspection, i, reason);
        damaged_count += inspection->is_damaged[i];
    }
    if (damaged_count == 0) {
        return true;
    }
    inspection->is_sound = false;
    check->is_incomplete = true;
    check->is_uncounted = true;
    if (damaged_count == inspection->block_count) {
        judge_block(inspection, 0, reason);
        check_report(&check->found, inspection->lba, inspection->view.number,
                     "segment %llu is not where the directory has it: no block of it is there; of "
                     "the first: %s",
                     (unsigned long long)inspection->view.number,
                     check_block_reason(check, inspection->lba, reason));
        return false;
    }
    for (uint32_t i = 0; i < inspection->block_count; i++) {
        if (inspection->is_damaged[i]) {
            judge_block(inspection, i, reason);
            report_block(inspection, i, check_block_reason(check, inspection->lba + i, reason));
        }
    }
    return true;
}

/* Gather the records of the sound spill blocks. */
static int gather_spill(struct inspection *inspection)
{
    const cubby_store *store = inspection->check->session->store;
    uint32_t home_count = inspection->view.place.home_count;
    for (uint32_t i = home_count; i < inspection->block_count; i++) {
        size_t offset = 0;
        struct block_pair pair;
        inspection->first_of_spill[i - home_count] = inspection->spill.count;
        while (!inspection->is_damaged[i] &&
               block_next(block_at(inspection, i), &offset, &pair) == CUBBY_OK) {
            const struct segment_pair record = {
                .hash = block_pair_hash(&pair, store->hash_seed),
                .encoded = pair.encoded,
                .encoded_size = pair.encoded_size,
                .spill_index = i,
            };
            int status = segment_pairs_add(&inspection->spill, record);
            if (status != CUBBY_OK) {
                return status;
            }
        }
    }
    inspection->first_of_spill[inspection->block_count - home_count] = inspection->spill.count;
    return CUBBY_OK;
}

/* Whether a pair on the device is superseded by what is dirty. */
static bool is_superseded(struct check *check, struct key_hash hash)
{
    struct dirty *dirty = &check->session->store->dirty;
    struct dirty_entry entry;
    struct dirty_shard *shard = dirty_lock(dirty, hash);
    bool found = dirty_peek_locked(dirty, hash, &entry);
    dirty_unlock(shard);
    return found;
}

static bool same_key(const struct segment_pair *a, const struct block_pair *pair)
{
    struct block_pair other;
    if (!block_pair_decode(a->encoded, a->encoded_size, &other) ||
        other.key_size != pair->key_size) {
        return false;
    }
    return other.key == NULL || pair->key == NULL ||
           memcmp(other.key, pair->key, pair->key_size) == 0;
}

/* Take a live pair, which has been found in a block: its key is there once (I3), its blob is sound,
 * and it counts (I18). Two pairs of one key are of one home. */
static int take_pair(struct inspection *inspection, const struct segment_pair *found)
{
    struct check *check = inspection->check;
    struct block_pair pair;
    if (!block_pair_decode(found->encoded, found->encoded_size, &pair)) {
        return CUBBY_OK; /* it was decoded before */
    }
    for (size_t i = 0; i < inspection->home.count; i++) {
        const struct segment_pair *before = &inspection->home.pairs[i];
        if (before->hash.low == found->hash.low && before->hash.high == found->hash.high &&
            same_key(before, &pair)) {
            char reason[REASON_BYTES];
            snprintf(reason, sizeof reason, "a key of it is there twice, in block %u too",
                     before->spill_index);
            report_block(inspection, found->spill_index, reason);
        }
    }
    check->pair_count++;
    check->pair_bytes += blob_bytes(&pair);
    check->blob_count += pair.is_blob;
    inspection->payload_bytes += pair.encoded_size;
    int status = segment_pairs_add(&inspection->home, *found);
    if (status != CUBBY_OK || !pair.is_blob) {
        return status;
    }
    /* What it names may have been freed when something else took its place. */
    return is_superseded(check, found->hash)
               ? check_claim_dirty_blob(check, &pair)
               : check_blob_begin(check, &pair, found->hash, inspection->view.number);
}

/* Whether a hash belongs to the segment. */
static bool is_of_segment(const struct inspection *inspection, struct key_hash hash)
{
    return (hash.low & ((UINT64_C(1) << inspection->view.depth) - 1)) == inspection->view.number;
}

/* The pairs that stand in a home block. */
static int take_home_pairs(struct inspection *inspection, uint32_t home_index)
{
    const cubby_store *store = inspection->check->session->store;
    size_t offset = 0;
    struct block_pair pair;
    int status = CUBBY_OK;
    while (status == CUBBY_OK &&
           block_next(block_at(inspection, home_index), &offset, &pair) == CUBBY_OK) {
        const struct segment_pair found = {
            .hash = block_pair_hash(&pair, store->hash_seed),
            .encoded = pair.encoded,
            .encoded_size = pair.encoded_size,
            .spill_index = home_index,
        };
        if (!is_of_segment(inspection, found.hash)) {
            report_block(inspection, home_index, "it holds a pair that belongs to another segment");
        } else if (key_hash_home(found.hash, inspection->view.place.home_count) != home_index) {
            report_block(inspection, home_index, "it holds a pair that belongs to another block");
        }
        status = take_pair(inspection, &found);
    }
    return status;
}

/* The records in a spill block that an entry of a home's list may mean. Returns how many. */
static size_t find_listed(const struct inspection *inspection, uint32_t home_index,
                          uint16_t fingerprint, uint32_t spill_index,
                          const struct segment_pair **found)
{
    uint32_t home_count = inspection->view.place.home_count;
    size_t count = 0;
    for (size_t i = inspection->first_of_spill[spill_index];
         i < inspection->first_of_spill[spill_index + 1]; i++) {
        const struct segment_pair *record = &inspection->spill.pairs[i];
        if (key_hash_fingerprint(record->hash) == fingerprint &&
            key_hash_home(record->hash, home_count) == home_index) {
            *found = record;
            count++;
        }
    }
    return count;
}

/* The pair of one entry of a home block's list. */
static int take_listed_pair(struct inspection *inspection, uint32_t home_index, uint32_t entry)
{
    const uint8_t *block = block_at(inspection, home_index);
    uint32_t home_count = inspection->view.place.home_count;
    uint16_t fingerprint = block_displaced_fingerprint(block, entry);
    uint16_t spill_index = block_displaced_spill(block, entry);
    const struct segment_pair *found = NULL;
    const char *reason = NULL;
    if (spill_index >= inspection->block_count - home_count) {
        reason = "it lists a spill block that is not there";
    } else if (block_displaced_find(block, fingerprint, spill_index) != (int)entry) {
        report_block(inspection, home_index, "it lists a displaced pair twice");
        return CUBBY_OK;
    } else if (inspection->is_damaged[home_count + spill_index]) {
        return CUBBY_OK; /* that has been named */
    } else {
        size_t count = find_listed(inspection, home_index, fingerprint, spill_index, &found);
        reason = count == 0   ? "one of its displaced pairs is not in the spill block"
                 : count == 1 ? NULL
                              : "one of its displaced pairs is in the spill block twice";
    }
    if (reason != NULL) {
        report_block(inspection, home_index, reason);
        inspection->check->is_incomplete = true; /* what blob it has is not known */
        return CUBBY_OK;
    }
    if (!is_of_segment(inspection, found->hash)) {
        report_block(inspection, home_index,
                     "one of its displaced pairs belongs to another segment");
    }
    return take_pair(inspection, found);
}

static int take_home(struct inspection *inspection, uint32_t home_index)
{
    const uint8_t *block = block_at(inspection, home_index);
    inspection->home.count = 0;
    int status = take_home_pairs(inspection, home_index);
    for (uint32_t i = 0; status == CUBBY_OK && i < block_displaced_count(block); i++) {
        status = take_listed_pair(inspection, home_index, i);
    }
    return status;
}

/* What the directory says of a sound segment's payload (I18). */
static int compare_payload(struct inspection *inspection)
{
    struct check *check = inspection->check;
    uint64_t number = inspection->view.number;
    uint32_t told = directory_payload(&check->session->store->directory, number);
    if (!inspection->is_sound || told == inspection->payload_bytes) {
        return CUBBY_OK;
    }
    check_report(&check->found, inspection->lba, number,
                 "the segment holds %llu bytes of pairs, and the directory says %u",
                 (unsigned long long)inspection->payload_bytes, told);
    struct check_payload *grown = growing_array_reserve(check->payloads, &check->payload_capacity,
                                                        check->payload_count + 1, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    check->payloads = grown;
    check->payloads[check->payload_count++] =
        (struct check_payload){number, (uint32_t)inspection->payload_bytes};
    return CUBBY_OK;
}

static int inspect(struct inspection *inspection)
{
    uint32_t home_count = inspection->view.place.home_count;
    inspection->is_damaged = calloc(inspection->block_count, sizeof *inspection->is_damaged);
    inspection->first_of_spill =
        calloc(inspection->block_count - home_count + 1, sizeof *inspection->first_of_spill);
    int status = ENOMEM;
    if (inspection->is_damaged != NULL && inspection->first_of_spill != NULL) {
        status = CUBBY_OK;
        if (judge_blocks(inspection)) {
            status = gather_spill(inspection);
            for (uint32_t i = 0; status == CUBBY_OK && i < home_count; i++) {
                status = inspection->is_damaged[i] ? CUBBY_OK : take_home(inspection, i);
            }
        }
        if (status == CUBBY_OK) {
            status = compare_payload(inspection);
        }
    }
    free(inspection->is_damaged);
    free(inspection->first_of_spill);
    segment_pairs_free(&inspection->spill);
    segment_pairs_free(&inspection->home);
    return status;
}

/* Check the segment of a slot, which was read. */
static int check_slot(struct check *check, struct slot *slot)
{
    const cubby_store *store = check->session->store;
    uint64_t lba = segment_lba(store, slot->view.place);
    if (!check_claim(check, lba, slot->block_count, slot->view.number, "a segment")) {
        return CUBBY_OK;
    }
    if (check_read_wait(check->session, &slot->read) != 0) {
        check_read_each(check, lba, slot->block_count, slot->image.data);
    }
    struct inspection inspection = {
        .check = check,
        .view = slot->view,
        .lba = lba,
        .image = slot->image.data,
        .block_count = slot->block_count,
        .is_sound = true,
    };
    int status = inspect(&inspection);
    check_note_done(check, slot->block_count);
    return status;
}

/* Begin to read as many segments as there is room for, at least the next. */
static int read_ahead(struct check *check, struct ahead *ahead)
{
    const cubby_store *store = check->session->store;
    bool has_begun = false;
    while (ahead->begun < ahead->segment_count && ahead->begun - ahead->checked < AHEAD_SEGMENTS) {
        struct slot *slot = &ahead->slots[ahead->begun % AHEAD_SEGMENTS];
        slot->view = (struct segment_view){
            .number = ahead->begun,
            .depth = directory_depth_of(ahead->begun, ahead->segment_count),
            .place = directory_get(&store->directory, ahead->begun),
        };
        slot->block_count = segment_block_count(slot->view.place.home_count);
        size_t bytes = (size_t)slot->block_count * BLOCK_BYTES;
        if (ahead->begun > ahead->checked && ahead->bytes + bytes > AHEAD_BYTES) {
            break;
        }
        int status = aligned_buffer_reserve(&slot->image, bytes);
        if (status != CUBBY_OK) {
            return status;
        }
        check_read_begin(check->session, &slot->read, segment_lba(store, slot->view.place),
                         slot->block_count, slot->image.data);
        ahead->bytes += bytes;
        ahead->begun++;
        has_begun = true;
    }
    if (has_begun) {
        check_read_start(check->session);
    }
    return CUBBY_OK;
}

int check_segments(struct check *check)
{
    struct ahead ahead = {
        .segment_count = atomic_load(&check->session->store->directory.segment_count),
    };
    int status = CUBBY_OK;
    while (status == CUBBY_OK && ahead.checked < ahead.segment_count) {
        status = read_ahead(check, &ahead);
        if (status == CUBBY_OK) {
            struct slot *slot = &ahead.slots[ahead.checked % AHEAD_SEGMENTS];
            status = check_slot(check, slot);
            /* Where it has not been waited for, it was not looked at. */
            (void)check_read_wait(check->session, &slot->read);
            ahead.bytes -= (size_t)slot->block_count * BLOCK_BYTES;
            ahead.checked++;
        }
    }
    for (; ahead.checked < ahead.begun; ahead.checked++) {
        (void)check_read_wait(check->session, &ahead.slots[ahead.checked % AHEAD_SEGMENTS].read);
    }
    check_blob_finish(check);
    for (size_t i = 0; i < AHEAD_SEGMENTS; i++) {
        aligned_buffer_free(&ahead.slots[i].image);
    }
    return status;
}
