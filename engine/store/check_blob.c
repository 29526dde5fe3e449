/* check_blob.c -- the part of cubby_check that reads blobs, many of their runs in flight.
 *
 * Depends on: check.h.   Used by: check_segment.c, check.c.
 */
#include <errno.h>

#include "engine/store/check.h"

enum {
    BUFFER_BYTES = 8 << 20,
    START_EVERY = 16, /* runs, so that one call starts several */
};
_Static_assert(BLOB_RUN_EXTENTS_MAX *EXTENT_BYTES <= BUFFER_BYTES, "each run fits the buffer");

static void report_part(struct check *check, const struct check_blob_part *part, const char *reason)
{
    check_report(&check->found, part->run.lba, part->segment, "the blob at LBA %llu is damaged: %s",
                 (unsigned long long)part->run.lba, reason);
}

/* Check a run that has been read. */
static void check_part(struct check *check, struct check_blob_part *part)
{
    cubby_session *session = check->session;
    int status = check_read_wait(session, &part->read);
    const uint8_t *bytes = part->read.request.buffer;
    check_note_done(check, blob_run_blocks(&part->run));
    if (status != 0) {
        report_part(check, part, cubby_status_text(status));
    } else if (!blob_run_is_sound(session->store, &part->run, bytes)) {
        report_part(check, part, "its checksum does not match");
    } else if (part->key_size > 0) {
        struct key_hash own = key_hash_of(bytes, part->key_size, session->store->hash_seed);
        if (own.low != part->hash.low || own.high != part->hash.high) {
            report_part(check, part, "it belongs to another key");
        }
    }
}

void check_blob_finish(struct check *check)
{
    for (size_t i = 0; i < check->blobs.count; i++) {
        check_part(check, &check->blobs.parts[i]);
    }
    check->blobs.count = 0;
    check->blobs.used_bytes = 0;
}

/* Begin to read a run; the buffer is there. */
static void begin_part(struct check *check, const struct check_blob_part *part)
{
    struct check_blobs *blobs = &check->blobs;
    uint32_t block_count = (uint32_t)blob_run_blocks(&part->run);
    size_t size = (size_t)block_count * BLOCK_BYTES;
    if (blobs->count == CHECK_BLOB_PARTS || size > BUFFER_BYTES - blobs->used_bytes) {
        check_blob_finish(check);
    }
    struct check_blob_part *own = &blobs->parts[blobs->count++];
    *own = *part;
    check_read_begin(check->session, &own->read, part->run.lba, block_count,
                     blobs->buffer.data + blobs->used_bytes);
    blobs->used_bytes += size;
    if (blobs->count % START_EVERY == 0) {
        check_read_start(check->session);
    }
}

static void claim_run(struct check *check, const struct blob_run *run, uint64_t segment)
{
    const struct extents *extents = &check->session->store->extents;
    uint64_t block_count = blob_run_blocks(run);
    if (!check_claim(check, run->lba, block_count, segment, "a blob")) {
        return;
    }
    for (uint64_t i = 0; i < block_count; i++) {
        uint64_t granule = run->lba + i - extents->first_lba;
        check->blob_claims[granule / EXTENT_BLOCKS] |= (uint16_t)(1U << granule % EXTENT_BLOCKS);
    }
}

int check_blob_begin(struct check *check, const struct block_pair *pair, struct key_hash hash,
                     uint64_t segment)
{
    struct blob_runs runs = {0};
    int status = aligned_buffer_reserve(&check->blobs.buffer, BUFFER_BYTES);
    if (status != CUBBY_OK) {
        return status;
    }
    status =
        blob_list(check->session, pair->blob_lba, blob_bytes(pair), pair->blob_checksum, &runs);
    for (size_t i = 0; status == CUBBY_OK && i < runs.count; i++) {
        claim_run(check, &runs.runs[i], segment);
        if (i >= runs.data_count) {
            check_note_done(check, 1); /* an index block: it has been read */
            continue;
        }
        /* The first run has the whole key: it is all of the blob, or an extent of it. */
        bool has_key = i == 0 && pair->key_size <= runs.runs[i].byte_count;
        const struct check_blob_part part = {
            .run = runs.runs[i],
            .segment = segment,
            .hash = hash,
            .key_size = has_key ? pair->key_size : 0,
        };
        begin_part(check, &part);
    }
    blob_runs_free(&runs);
    if (status == CUBBY_OK || status == ENOMEM) {
        return status;
    }
    bool has_index = blob_bytes(pair) > (uint64_t)BLOB_DIRECT_BLOCKS_MAX * BLOCK_BYTES;
    check_report(&check->found, pair->blob_lba, segment, "the blob at LBA %llu is damaged: %s",
                 (unsigned long long)pair->blob_lba,
                 status != CUBBY_CORRUPT ? cubby_status_text(status)
                 : has_index             ? "its index does not fit"
                                         : "it cannot be there");
    check->is_incomplete = true;
    return CUBBY_OK;
}
