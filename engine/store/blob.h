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
 * session->work. On failure nothing stays taken.
 * grows: whether the pair takes more than what it replaces; space_admit is asked between runs.
 * No segment's lock may be held. */
int blob_write(cubby_session *session, struct pair_content *content, bool grows);

/* Undo blob_write when its pair could not be stored. Best effort: at worst space is lost until the
 * next recovery. */
void blob_untake(cubby_session *session, const struct pair_content *content);

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

/* Put a listed blob into quarantine. */
void blob_hold(cubby_session *session, const struct blob_runs *runs);

/* Free the blob of a pair that has gone, if it is the pair's: a pair comes from a device, and what
 * it names may be another's by now. Its index carries its checksum; of a blob without one the bytes
 * are read, into session->value. What is not freed is lost space, until the next recovery. Leaves
 * the session's message alone. Returns the bytes of the blocks that were freed. */
uint64_t blob_free(cubby_session *session, const struct block_pair *pair);

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
