/* expiry.c -- see expiry.h. */
#include "engine/store/expiry.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"

int expiry_note(struct dropped_pairs *dropped, const struct block_pair *pair)
{
    if (pair->is_blob) {
        struct block_pair *grown = growing_array_reserve(dropped->blobs, &dropped->blob_capacity,
                                                         dropped->blob_count + 1, sizeof *grown);
        if (grown == NULL) {
            return ENOMEM;
        }
        dropped->blobs = grown;
        dropped->blobs[dropped->blob_count++] = *pair;
    }
    dropped->count++;
    dropped->pair_bytes += blob_bytes(pair);
    dropped->encoded_bytes += pair->encoded_size;
    return CUBBY_OK;
}

int expiry_drop_from_block(cubby_session *session, uint8_t *block, struct dropped_pairs *dropped)
{
    size_t offset = 0;
    struct block_pair pair;
    /* What does not fit is for whoever looks for a pair there. */
    while (block_next(block, &offset, &pair) == CUBBY_OK) {
        if (!expiry_has_passed(session, &pair)) {
            continue;
        }
        int status = expiry_note(dropped, &pair);
        if (status != CUBBY_OK) {
            return status;
        }
        offset -= pair.encoded_size;
        block_remove(block, &pair);
    }
    return CUBBY_OK;
}

int expiry_drop_from_pairs(cubby_session *session, struct segment_pairs *pairs,
                           struct dropped_pairs *dropped)
{
    size_t kept = 0;
    for (size_t i = 0; i < pairs->count; i++) {
        const struct segment_pair *collected = &pairs->pairs[i];
        if (pair_has_expiry(collected->encoded)) {
            struct block_pair pair;
            bool decoded = block_pair_decode(collected->encoded, collected->encoded_size, &pair);
            CUBBY_ASSERT(decoded); /* segment_collect has checked it */
            if (expiry_has_passed(session, &pair)) {
                int status = expiry_note(dropped, &pair);
                if (status != CUBBY_OK) {
                    return status;
                }
                pairs->bytes -= collected->encoded_size;
                continue;
            }
        }
        pairs->pairs[kept++] = *collected;
    }
    pairs->count = kept;
    return CUBBY_OK;
}

int expiry_strike_displaced(cubby_session *session, struct segment_view view, uint32_t spill_index,
                            struct dropped_pairs *dropped)
{
    uint32_t home_index = block_identity_of(session->home).block_index;
    size_t offset = 0;
    struct block_pair pair;
    while (block_next(session->spill, &offset, &pair) == CUBBY_OK) {
        if (!expiry_has_passed(session, &pair)) {
            continue;
        }
        struct key_hash hash = block_pair_hash(&pair, session->store->hash_seed);
        int entry =
            block_displaced_find(session->home, key_hash_fingerprint(hash), (uint16_t)spill_index);
        if (entry < 0 || key_hash_home(hash, view.place.home_count) != home_index) {
            continue;
        }
        int status = expiry_note(dropped, &pair);
        if (status != CUBBY_OK) {
            return status;
        }
        block_displaced_remove(session->home, (uint32_t)entry);
    }
    return CUBBY_OK;
}

void expiry_go_back(struct dropped_pairs *dropped, const struct dropped_pairs *before)
{
    dropped->count = before->count;
    dropped->pair_bytes = before->pair_bytes;
    dropped->encoded_bytes = before->encoded_bytes;
    dropped->blob_count = before->blob_count;
}

void expiry_forget(struct dropped_pairs *dropped)
{
    free(dropped->blobs);
    *dropped = (struct dropped_pairs){0};
}

uint64_t expiry_settle(cubby_session *session, struct dropped_pairs *dropped)
{
    cubby_store *store = session->store;
    uint64_t freed_bytes = 0;
    if (dropped->count > 0) {
        atomic_fetch_sub(&store->pair_count, dropped->count);
        atomic_fetch_sub(&store->pair_bytes, dropped->pair_bytes);
        atomic_fetch_sub(&store->blob_count, dropped->blob_count);
    }
    for (size_t i = 0; i < dropped->blob_count; i++) {
        freed_bytes += blob_free(session, &dropped->blobs[i]);
    }
    expiry_forget(dropped);
    return freed_bytes;
}
