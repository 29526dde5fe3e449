/* replay_parts.h -- what recovery does with single records, blocks and sweeps.
 *
 * Depends on: store.h, log_read.h.   Used by: replay.c, replay_apply.c, replay_blocks.c.
 */
#ifndef CUBBY_REPLAY_PARTS_H
#define CUBBY_REPLAY_PARTS_H

#include "engine/store/log_read.h"

/* An entry of a sweep record. */
struct replayed_entry {
    uint32_t segment;
    uint32_t block_index;
    uint64_t lsn; /* that the block then has */
    struct sums sums;
};

/* A sweep whose end has not been seen yet. */
struct replayed_sweep {
    uint64_t lsn; /* of its group */
    size_t first_entry;
    size_t entry_count;
};

/* A blob that was freed by a sweep whose end has not been seen, or by a group whose other records
 * have not. */
struct replayed_free {
    uint64_t lsn; /* of its group */
    struct block_pair pair;
};

struct replay {
    cubby_session *session;
    bool pairs_only;
    uint64_t group_lsn; /* of the record that is applied */
    struct replayed_sweep *sweeps;
    size_t sweep_count;
    size_t sweep_capacity;
    struct replayed_entry *entries;
    size_t entry_count;
    size_t entry_capacity;
    struct replayed_free *frees;
    size_t free_count;
    size_t free_capacity;
};

void replay_free(struct replay *replay);

/* Apply one record. Returns CUBBY_OK, CUBBY_CORRUPT with a message, ENOMEM or an errno. */
int replay_apply(struct replay *replay, const struct log_found *found);

/* Add what an entry says to the sums. */
void replay_count_entry(struct replay *replay, const struct replayed_entry *entry);

/* A blob is free, or, if it is_live, was not freed after all. */
int replay_settle_free(struct replay *replay, const struct replayed_free *freed, bool is_live);

/* Whether a key's pair on the device names a blob (of which hash and blob_lba are looked at): in
 * its home block, or in a spill block that the home lists for its fingerprint. Damaged ones do not.
 */
int replay_device_names(cubby_session *session, const struct block_pair *blob, bool *names);

/* Restore blocks that were torn, from their images. */
int replay_restore_images(struct replay *replay);

/* Count those blocks of sweeps under way that have been written, and free what these no longer
 * name. */
int replay_settle_sweeps(struct replay *replay);

/* Forget dirty pairs that are older than what their home blocks have: the records between are lost.
 */
int replay_drop_regressions(struct replay *replay);

/* What logging the dirty pairs anew collects. */
struct anew {
    cubby_session *session;
    uint64_t end;
    struct block_pair *blobs; /* replaced ones */
    size_t blob_count;
    size_t blob_capacity;
};

int replay_note_replaced(struct anew *anew, const struct dirty_entry *entry);

/* Free those that nothing names. One that had been written back before it was replaced is still
 * named by its home block: what replaces it there frees it. */
int replay_free_replaced(struct anew *anew);

#endif
