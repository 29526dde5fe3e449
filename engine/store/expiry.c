/* expiry.c -- see expiry.h. */
#include "engine/store/expiry.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"

int expiry_note(cubby_session *session, struct dropped_pairs *dropped,
                const struct block_pair *pair)
{
    if (pair->is_blob) {
        struct block_pair *grown = growing_array_reserve(dropped->blobs, &dropped->blob_capacity,
                                                         dropped->blob_count + 1, sizeof *grown);
        if (grown == NULL) {
            return ENOMEM;
        }
        dropped->blobs = grown;
        grown[dropped->blob_count] = *pair;
        grown[dropped->blob_count++].hash = block_pair_hash(pair, session->store->hash_seed);
    }
    dropped->count++;
    dropped->pair_bytes += blob_bytes(pair);
    dropped->encoded_bytes += pair->encoded_size;
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
                int status = expiry_note(session, dropped, &pair);
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
