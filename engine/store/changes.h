/* changes.h -- dirty pairs, copied out of the buffer to be written back.
 *
 * The copies are what is written; the buffer goes on changing. An entry that has been replaced
 * meanwhile stays dirty (dirty_clean compares LSNs).
 *
 * Depends on: dirty.h, expiry.h.   Used by: sweep.c, merge.c, rebuild.c, scan.c.
 */
#ifndef CUBBY_CHANGES_H
#define CUBBY_CHANGES_H

#include "engine/store/expiry.h"

/* One dirty pair, or tombstone. */
struct change {
    struct key_hash hash;
    uint64_t lsn;
    size_t offset; /* of its encoding, in bytes of the list */
    uint32_t encoded_size;
    uint32_t home; /* its home block; set by whoever needs it */
    bool is_tombstone;
    size_t first_blob; /* that it has replaced, in blobs of the list */
    size_t blob_count;
};

struct change_list {
    struct change *items;
    size_t count;
    size_t capacity;
    uint8_t *bytes;
    size_t byte_count;
    size_t byte_capacity;
    struct block_pair *blobs; /* sizes, places and hashes of their keys; no pointers */
    size_t blob_count;
    size_t blob_capacity;
};

void changes_free(struct change_list *list);
void changes_clear(struct change_list *list);

/* Which entries of a segment are to be copied. */
struct change_filter {
    uint64_t before_lsn; /* whose records begin before it */
    bool logs_hot_again; /* hot ones are logged anew in place of it, where the log has room */
    bool logs_all_again; /* all are, also in the room that recovery has */
};

/* Add copies of a segment's dirty pairs, whose lock is held (so that none of them becomes clean).
 * Returns CUBBY_OK, ENOMEM, or as log_append. */
int changes_collect(cubby_session *session, struct segment_view view,
                    const struct change_filter *filter, struct change_list *list);

static inline const uint8_t *change_encoded(const struct change_list *list,
                                            const struct change *change)
{
    return list->bytes + change->offset;
}

/* Take a change's encoding apart. */
void change_decode(const struct change_list *list, const struct change *change,
                   struct block_pair *pair);

/* Put the changes of a list, from first on, or up to end, into ascending order of home block, and
 * of hash. */
void changes_sort_by_home(struct change_list *list, size_t first);
void changes_sort_range_by_home(struct change_list *list, size_t first, size_t end);
void changes_sort_by_hash(struct change_list *list, size_t first);

/* The change, from first on in a list sorted by hash, of a pair's key, or NULL. */
struct change *changes_find(const struct change_list *list, size_t first, struct key_hash hash,
                            const struct block_pair *pair);

/* The changes from first on have been written, and flushed: what is still the same is clean. */
void changes_clean(struct dirty *dirty, const struct change_list *list, size_t first);

/* List the blobs that are no longer needed once the changes from first on are in their place: those
 * of the pairs that are gone, and those that the changes had replaced before. Returns CUBBY_OK or
 * ENOMEM. Overwrites session->value. */
struct freed_blobs;
int changes_free_blobs(cubby_session *session, const struct change_list *list, size_t first,
                       const struct dropped_pairs *gone, struct freed_blobs *freed);

/* Whether a pair is the one with the key of a change. */
bool change_is_of_pair(const struct change_list *list, const struct change *change,
                       const struct block_pair *pair);

#endif
