/* publish.c -- see publish.h. */
#include "engine/store/publish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/simulator.h"

void freed_blobs_free(struct freed_blobs *freed)
{
    for (size_t i = 0; i < freed->count; i++) {
        blob_runs_free(&freed->blobs[i].runs);
    }
    free(freed->blobs);
    *freed = (struct freed_blobs){0};
}

int freed_blobs_add(cubby_session *session, struct freed_blobs *freed,
                    const struct block_pair *pair)
{
    CUBBY_ASSERT(pair->is_blob);
    struct freed_blob *grown =
        growing_array_reserve(freed->blobs, &freed->capacity, freed->count + 1, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    freed->blobs = grown;
    struct freed_blob *blob = &grown[freed->count];
    *blob = (struct freed_blob){.pair = *pair};
    if (blob_own(session, pair, &blob->runs)) {
        freed->count++;
    } else {
        blob_runs_free(&blob->runs);
    }
    return CUBBY_OK;
}

uint64_t freed_blobs_bytes(const struct freed_blobs *freed)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < freed->count; i++) {
        for (size_t r = 0; r < freed->blobs[i].runs.count; r++) {
            bytes += blob_run_blocks(&freed->blobs[i].runs.runs[r]) * BLOCK_BYTES;
        }
    }
    return bytes;
}

static size_t count_of(const struct freed_blobs *freed)
{
    return freed != NULL ? freed->count : 0;
}

uint64_t publication_room(const struct publication *publication)
{
    uint64_t bytes = (uint64_t)count_of(publication->freed) * LOG_FREE_BYTES;
    for (size_t i = 0; i < publication->record_count; i++) {
        bytes += publication->records[i].body_size;
    }
    return log_room_for(bytes, count_of(publication->freed) + publication->record_count);
}

static void encode_free(const struct block_pair *pair, uint8_t *body)
{
    store_u64(body, pair->hash.low);
    store_u64(body + 8, pair->hash.high);
    store_u64(body + 16, pair->blob_lba);
    store_u64(body + 24, pair->blob_checksum);
    store_u32(body + 32, pair->key_size);
    store_u32(body + 36, pair->value_size);
}

/* The quarantine of blobs whose record is in the log; extents.lock is held. A run that is not live
 * any more has been freed already. */
static void hold_freed_locked(cubby_store *store, const struct freed_blobs *freed, uint64_t lsn)
{
    for (size_t i = 0; i < count_of(freed); i++) {
        const struct blob_runs *runs = &freed->blobs[i].runs;
        for (size_t r = 0; r < runs->count; r++) {
            uint64_t blocks = blob_run_blocks(&runs->runs[r]);
            if (PLANTED(BUG_REUSE_AT_ONCE)) {
                (void)extents_unmark_run(&store->extents, runs->runs[r].lba, blocks);
                continue;
            }
            (void)extents_hold_granules_locked(&store->extents, runs->runs[r].lba, blocks, lsn);
        }
    }
}

static int append_locked(cubby_session *session, struct publication *publication,
                         const struct log_record *records, size_t count)
{
    cubby_store *store = session->store;
    size_t holds = publication->hold_count;
    for (size_t i = 0; i < count_of(publication->freed); i++) {
        holds += publication->freed->blobs[i].runs.count;
    }
    int status = extents_reserve_hold_locked(&store->extents, holds);
    if (status == CUBBY_OK) {
        status = log_append(session, records, count, &publication->lsn, &publication->end);
    }
    if (status == CUBBY_OK) {
        hold_freed_locked(store, publication->freed, publication->lsn);
        if (publication->publish != NULL) {
            publication->publish(session, publication->lsn, publication->state);
        }
    }
    return status;
}

int publication_append(cubby_session *session, struct publication *publication)
{
    cubby_store *store = session->store;
    size_t freed_count = count_of(publication->freed);
    size_t count = freed_count + publication->record_count;
    CUBBY_ASSERT(count > 0);
    struct log_record *records = malloc(count * (sizeof *records + LOG_FREE_BYTES));
    if (records == NULL) {
        return ENOMEM;
    }
    uint8_t *bodies = (uint8_t *)(records + count);
    for (size_t i = 0; i < freed_count; i++) {
        encode_free(&publication->freed->blobs[i].pair, bodies + i * LOG_FREE_BYTES);
        records[i] = (struct log_record){LOG_FREE, LOG_FREE_BYTES, bodies + i * LOG_FREE_BYTES};
    }
    memcpy(records + freed_count, publication->records,
           publication->record_count * sizeof *records);
    pthread_mutex_lock(&store->extents.lock);
    int status = append_locked(session, publication, records, count);
    pthread_mutex_unlock(&store->extents.lock);
    free(records);
    return status;
}
