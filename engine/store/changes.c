/* changes.c -- see changes.h. */
#include "engine/store/changes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/dirty.h"
#include "engine/store/log.h"
#include "engine/store/publish.h"
#include "engine/store/simulator.h"

void changes_clear(struct change_list *list)
{
    list->count = 0;
    list->byte_count = 0;
    list->blob_count = 0;
}

void changes_free(struct change_list *list)
{
    free(list->items);
    free(list->bytes);
    free(list->blobs);
    *list = (struct change_list){0};
}

struct collecting {
    cubby_session *session;
    const struct change_filter *filter;
    struct change_list *list;
};

static int copy_blobs(struct change_list *list, const struct dirty_entry *entry)
{
    for (const struct dirty_blob *blob = entry->blobs; blob != NULL;
         blob = dirty_blobs_older(blob)) {
        struct block_pair *grown = growing_array_reserve(list->blobs, &list->blob_capacity,
                                                         list->blob_count + 1, sizeof *grown);
        if (grown == NULL) {
            return ENOMEM;
        }
        list->blobs = grown;
        grown[list->blob_count++] = (struct block_pair){
            .hash = entry->hash,
            .is_blob = true,
            .key_size = blob->key_size,
            .value_size = blob->value_size,
            .blob_lba = blob->lba,
            .blob_checksum = blob->checksum,
        };
    }
    return CUBBY_OK;
}

static int copy_entry(struct change_list *list, const struct dirty_entry *entry)
{
    struct change *items =
        growing_array_reserve(list->items, &list->capacity, list->count + 1, sizeof *items);
    if (items == NULL) {
        return ENOMEM;
    }
    list->items = items;
    uint8_t *bytes = growing_array_reserve(list->bytes, &list->byte_capacity,
                                           list->byte_count + entry->encoded_size, 1);
    if (bytes == NULL) {
        return ENOMEM;
    }
    list->bytes = bytes;
    memcpy(bytes + list->byte_count, entry->encoded, entry->encoded_size);
    struct change *change = &items[list->count++];
    *change = (struct change){
        .hash = entry->hash,
        .lsn = entry->lsn,
        .offset = list->byte_count,
        .encoded_size = entry->encoded_size,
        .is_tombstone = entry->is_tombstone,
        .first_blob = list->blob_count,
    };
    list->byte_count += entry->encoded_size;
    int status = copy_blobs(list, entry);
    change->blob_count = list->blob_count - change->first_blob;
    return status;
}

/* Log an entry anew, so that its old record no longer keeps the log from moving on. Its shard is
 * locked. Returns whether that was done. */
static bool log_again(cubby_session *session, struct dirty_entry *entry, enum log_user user)
{
    cubby_store *store = session->store;
    struct log_record record = {
        .type = entry->is_tombstone ? LOG_DELETE : LOG_PUT,
        .body_size = entry->encoded_size,
        .body = entry->encoded,
    };
    uint64_t room = log_room_for(entry->encoded_size, 1);
    /* Replaced blobs are known from the records that named them. */
    if (entry->blobs != NULL || !log_reserve(&store->log, room, user)) {
        return false;
    }
    uint64_t lsn;
    uint64_t end;
    int status = log_append(session, &record, 1, &lsn, &end);
    log_unreserve(&store->log, room);
    if (status == CUBBY_OK) {
        dirty_renew_locked(&store->dirty, entry, lsn);
        atomic_fetch_add(&store->writeback.logged_again, 1);
        SIMULATOR_POINT(LOG_AGAIN);
    }
    return status == CUBBY_OK;
}

static int visit_entry(struct dirty_entry *entry, void *state)
{
    struct collecting *collecting = state;
    const struct change_filter *filter = collecting->filter;
    if (entry->lsn >= filter->before_lsn) {
        return CUBBY_OK;
    }
    bool is_hot = entry->is_hot;
    entry->is_hot = false;
    if (((filter->logs_hot_again && is_hot) || filter->logs_all_again) &&
        log_again(collecting->session, entry,
                  filter->logs_all_again ? LOG_BY_RECOVERY : LOG_BY_WRITE_BACK)) {
        return CUBBY_OK;
    }
    return copy_entry(collecting->list, entry);
}

int changes_collect(cubby_session *session, struct segment_view view,
                    const struct change_filter *filter, struct change_list *list)
{
    struct collecting collecting = {session, filter, list};
    return dirty_each_of_segment(&session->store->dirty, view.number, view.depth, visit_entry,
                                 &collecting);
}

void change_decode(const struct change_list *list, const struct change *change,
                   struct block_pair *pair)
{
    bool decoded = block_pair_decode(change_encoded(list, change), change->encoded_size, pair);
    CUBBY_ASSERT(decoded);
}

static int compare_hashes(struct key_hash a, struct key_hash b)
{
    if (a.low != b.low) {
        return a.low < b.low ? -1 : 1;
    }
    return (a.high > b.high) - (a.high < b.high);
}

static int compare_by_hash(const void *a, const void *b)
{
    return compare_hashes(((const struct change *)a)->hash, ((const struct change *)b)->hash);
}

static int compare_by_home(const void *a, const void *b)
{
    const struct change *left = a;
    const struct change *right = b;
    if (left->home != right->home) {
        return left->home < right->home ? -1 : 1;
    }
    return compare_hashes(left->hash, right->hash);
}

void changes_sort_range_by_home(struct change_list *list, size_t first, size_t end)
{
    if (end > first) {
        qsort(list->items + first, end - first, sizeof *list->items, compare_by_home);
    }
}

void changes_sort_by_home(struct change_list *list, size_t first)
{
    changes_sort_range_by_home(list, first, list->count);
}

void changes_sort_by_hash(struct change_list *list, size_t first)
{
    if (list->count > first) {
        qsort(list->items + first, list->count - first, sizeof *list->items, compare_by_hash);
    }
}

bool change_is_of_pair(const struct change_list *list, const struct change *change,
                       const struct block_pair *pair)
{
    struct block_pair own;
    change_decode(list, change, &own);
    return own.key == NULL || pair->key == NULL ||
           (own.key_size == pair->key_size && memcmp(own.key, pair->key, own.key_size) == 0);
}

struct change *changes_find(const struct change_list *list, size_t first, struct key_hash hash,
                            const struct block_pair *pair)
{
    size_t low = first;
    size_t high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_hashes(list->items[middle].hash, hash) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < list->count && compare_hashes(list->items[low].hash, hash) == 0; low++) {
        if (change_is_of_pair(list, &list->items[low], pair)) {
            return &list->items[low];
        }
    }
    return NULL;
}

void changes_clean(struct dirty *dirty, const struct change_list *list, size_t first)
{
    for (size_t i = first; i < list->count; i++) {
        dirty_clean(dirty, list->items[i].hash, list->items[i].lsn);
    }
}

int changes_free_blobs(cubby_session *session, const struct change_list *list, size_t first,
                       const struct dropped_pairs *gone, struct freed_blobs *freed)
{
    int status = CUBBY_OK;
    for (size_t i = 0; i < gone->blob_count && status == CUBBY_OK; i++) {
        status = freed_blobs_add(session, freed, &gone->blobs[i]);
    }
    for (size_t i = first; i < list->count && status == CUBBY_OK; i++) {
        const struct change *change = &list->items[i];
        struct block_pair pair;
        change_decode(list, change, &pair);
        for (size_t b = 0; b < change->blob_count && status == CUBBY_OK; b++) {
            const struct block_pair *blob = &list->blobs[change->first_blob + b];
            bool is_own = pair.is_blob && !change->is_tombstone && pair.blob_lba == blob->blob_lba;
            if (!is_own) {
                status = freed_blobs_add(session, freed, blob);
            }
        }
    }
    return status;
}
