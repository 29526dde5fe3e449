/* blob.h -- pairs too large for a home block, in runs of blocks of their own.
 *
 * A blob is written once, before anything names it, and never changed; freed by quarantine. The
 * layout is drawn in disk_format.h.
 *
 * Depends on: store.h.   Used by: get.c, put.c, expiry.c, condition.c, scan.c, check.c,
 * recovery.c.
 */
#ifndef CUBBY_BLOB_H
#define CUBBY_BLOB_H

#include "engine/base/bytes.h"
#include "engine/store/store.h"

/* One run of a blob, or one of its index blocks. */
struct blob_run {
    uint64_t lba;
    uint64_t checksum;   /* of its bytes; unused for an index block */
    uint64_t byte_count; /* without padding; BLOCK_BYTES for an index block */
};

/* All blocks of a blob. */
struct blob_runs {
    struct blob_run *runs; /* data first, in order, then index blocks */
    size_t count;
    size_t data_count;
    size_t capacity;
};

void blob_runs_free(struct blob_runs *runs);

/* Write key and value of content as a blob and set its blob_lba and blob_checksum. Uses
 * session->work. On failure nothing stays taken. runs, which is empty, is set to its blocks, which
 * are taken and not named; to be freed.
 * grows: whether the pair takes more than what it replaces; space_admit is asked between runs.
 * No segment's lock may be held. */
int blob_write(cubby_session *session, struct pair_content *content, bool grows,
               struct blob_runs *runs);

/* A record in the log names the blob from now on: checkpoints count its blocks as in use.
 * extents.lock is held. */
void blob_name_locked(cubby_store *store, const struct blob_runs *runs);

/* Undo blob_write, as long as the blob is not named. Frees runs. */
void blob_untake(cubby_session *session, struct blob_runs *runs);

/* Read key and value of a blob into session->value, checked. The value begins key_size bytes in. */
int blob_read(cubby_session *session, const struct block_pair *pair);

/* Compare a key with that of a blob whose key is not in the home block. Returns CUBBY_OK if equal,
 * CUBBY_NOT_FOUND if not, or a failure. Overwrites session->value. */
int blob_compare_key(cubby_session *session, const struct block_pair *pair, const uint8_t *key,
                     size_t key_size);

/* List the blocks of a blob, reading its index; no data is read. runs is to be freed whatever is
 * returned. */
int blob_list(cubby_session *session, uint64_t lba, uint64_t byte_count, uint64_t checksum,
              struct blob_runs *runs);

/* List the blocks of a pair's blob if it is the pair's: a pair comes from a device, and what it
 * names may be another's by now. Its index carries its checksum; of a blob without one the bytes
 * are read, into session->value. runs is to be freed whatever is returned. Leaves the session's
 * message alone.
 */
bool blob_own(cubby_session *session, const struct block_pair *pair, struct blob_runs *runs);

/* Of a blob in one run, what has to be read, checked to lie where blobs lie. Returns false for a
 * larger one, which has an index, and for one that cannot be. */
bool blob_single_run(const cubby_store *store, const struct block_pair *pair, struct blob_run *run);

static inline uint64_t blob_run_blocks(const struct blob_run *run)
{
    return divide_up(run->byte_count, BLOCK_BYTES);
}

/* Whether these are the bytes of a data run. */
bool blob_run_is_sound(const cubby_store *store, const struct blob_run *run, const uint8_t *bytes);

static inline uint64_t blob_bytes(const struct block_pair *pair)
{
    return (uint64_t)pair->key_size + pair->value_size;
}

#endif
