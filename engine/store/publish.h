/* publish.h -- append records to the log and change what a checkpoint holds, as of one moment.
 *
 * A checkpoint is taken under extents.lock; so is all this. Whatever it holds is what the records
 * before its LSN say, no more and no less.
 *
 * Depends on: store.h, blob.h, expiry.h.   Used by: put.c, batch.c, sweep.c, rebuild.c, compact.c.
 */
#ifndef CUBBY_PUBLISH_H
#define CUBBY_PUBLISH_H

#include "engine/store/blob.h"
#include "engine/store/expiry.h"

/* Blobs that nothing will need any more, with their blocks; all zeros: none. */
struct freed_blob {
    struct block_pair pair; /* its sizes and place, and the hash of its key */
    struct blob_runs runs;
};

struct freed_blobs {
    struct freed_blob *blobs;
    size_t count;
    size_t capacity;
};

void freed_blobs_free(struct freed_blobs *freed);

/* Add a blob, with the hash of its key set, if it is what the pair says: what a pair from a device
 * names may be another's by now. What is not freed is lost space. Reads its index, or all of one
 * without. Returns CUBBY_OK or ENOMEM. Overwrites session->value, leaves its message alone. */
int freed_blobs_add(cubby_session *session, struct freed_blobs *freed,
                    const struct block_pair *pair);

/* Bytes of their blocks. */
uint64_t freed_blobs_bytes(const struct freed_blobs *freed);

/* A group to be appended. */
struct publication {
    const struct freed_blobs *freed; /* each becomes a record, and its blocks go into quarantine */
    const struct log_record *records;
    size_t record_count;
    size_t hold_count; /* entries that publish adds to the quarantine */
    /* Called under extents.lock once the group has its LSN; may be NULL. */
    void (*publish)(cubby_session *session, uint64_t lsn, void *state);
    void *state;
    uint64_t lsn; /* set: of the group */
    uint64_t end; /* set: what is to be committed */
};

/* Room that the group takes in the log, to be reserved before. */
uint64_t publication_room(const struct publication *publication);

/* Append it. Returns CUBBY_OK, ENOMEM, or as log_append; then nothing has happened. */
int publication_append(cubby_session *session, struct publication *publication);

#endif
