/* dirty_blobs.c -- see dirty_blobs.h. */
#include "engine/store/dirty_blobs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/base/bytes.h"

enum {
    LIST_BITS_MIN = 12, /* not fewer than shards have */
    LIST_BITS_MAX = 20,
    LOG_BYTES_PER_LIST = 4096,
};

int dirty_blobs_open(struct dirty_blobs *blobs, struct lsn_counts *lsns, uint64_t log_capacity)
{
    blobs->list_bits = LIST_BITS_MIN;
    while (blobs->list_bits < LIST_BITS_MAX &&
           log_capacity >> blobs->list_bits > LOG_BYTES_PER_LIST) {
        blobs->list_bits++;
    }
    blobs->lists = calloc((size_t)1 << blobs->list_bits, sizeof *blobs->lists);
    blobs->lsns = lsns;
    return blobs->lists != NULL ? 0 : ENOMEM;
}

void dirty_blobs_close(struct dirty_blobs *blobs)
{
    for (size_t i = 0; blobs->lists != NULL && i < (size_t)1 << blobs->list_bits; i++) {
        struct dirty_blob *blob = blobs->lists[i];
        while (blob != NULL) {
            struct dirty_blob *next = blob->next;
            free(blob);
            blob = next;
        }
    }
    free(blobs->lists);
    blobs->lists = NULL;
}

/* The list that those of a key are in, among others. */
static struct dirty_blob **list_of(const struct dirty_blobs *blobs, struct key_hash hash)
{
    return &blobs->lists[bit_reverse(hash.low) >> (64 - blobs->list_bits)];
}

static bool is_of_key(const struct dirty_blob *blob, struct key_hash hash)
{
    return blob->hash.low == hash.low && blob->hash.high == hash.high;
}

static const struct dirty_blob *first_of_key(const struct dirty_blob *blob, struct key_hash hash)
{
    while (blob != NULL && !is_of_key(blob, hash)) {
        blob = blob->next;
    }
    return blob;
}

const struct dirty_blob *dirty_blobs_newest(const struct dirty_blobs *blobs, struct key_hash hash)
{
    return first_of_key(*list_of(blobs, hash), hash);
}

const struct dirty_blob *dirty_blobs_older(const struct dirty_blob *blob)
{
    return first_of_key(blob->next, blob->hash);
}

void dirty_blobs_add(struct dirty_blobs *blobs, struct dirty_blob *blob)
{
    struct dirty_blob **list = list_of(blobs, blob->hash);
    blob->next = *list;
    *list = blob;
    lsn_counts_add(blobs->lsns, blob->lsn);
}

/* Forget the one that a link leads to. */
static void drop(struct dirty_blobs *blobs, struct dirty_blob **link)
{
    struct dirty_blob *blob = *link;
    lsn_counts_remove(blobs->lsns, blob->lsn);
    *link = blob->next;
    free(blob);
}

void dirty_blobs_drop(struct dirty_blobs *blobs, struct key_hash hash, uint64_t lsn)
{
    struct dirty_blob **link = list_of(blobs, hash);
    while (*link != NULL) {
        if (is_of_key(*link, hash) && (*link)->lsn <= lsn) {
            drop(blobs, link);
        } else {
            link = &(*link)->next;
        }
    }
}

void dirty_blobs_forget(struct dirty_blobs *blobs, struct key_hash hash, uint64_t lba,
                        uint64_t checksum)
{
    struct dirty_blob **link = list_of(blobs, hash);
    while (*link != NULL) {
        if (is_of_key(*link, hash) && (*link)->lba == lba && (*link)->checksum == checksum) {
            drop(blobs, link);
        } else {
            link = &(*link)->next;
        }
    }
}
