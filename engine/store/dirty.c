/* dirty.c -- see dirty.h. */
#include "engine/store/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/store/cache.h"
#include "engine/store/simulator.h"

enum {
    BYTES_PER_BUCKET = 512, /* of the limit: about one entry */
    BUCKET_BITS_MIN = DIRTY_SHARD_BITS,
    BUCKET_BITS_MAX = 24,
    MALLOC_BYTES = 16, /* that an allocation costs beside what was asked for */
};

int dirty_open(struct dirty *dirty, uint64_t limit_bytes)
{
    *dirty = (struct dirty){.limit_bytes = limit_bytes, .bucket_bits = BUCKET_BITS_MIN};
    while (dirty->bucket_bits < BUCKET_BITS_MAX &&
           limit_bytes >> dirty->bucket_bits > BYTES_PER_BUCKET) {
        dirty->bucket_bits++;
    }
    dirty->shards = aligned_alloc(64, DIRTY_SHARDS * sizeof *dirty->shards);
    dirty->buckets = calloc((size_t)1 << dirty->bucket_bits, sizeof(struct dirty_entry *));
    if (dirty->shards == NULL || dirty->buckets == NULL) {
        free(dirty->shards);
        free(dirty->buckets);
        *dirty = (struct dirty){0};
        return ENOMEM;
    }
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        dirty->shards[i] = (struct dirty_shard){0};
        pthread_mutex_init(&dirty->shards[i].lock, NULL);
    }
    return CUBBY_OK;
}

static void free_blobs(struct dirty_blob *blob)
{
    while (blob != NULL) {
        struct dirty_blob *next = blob->next;
        free(blob);
        blob = next;
    }
}

void dirty_entry_free(struct dirty_entry *entry)
{
    if (entry != NULL) {
        free_blobs(entry->blobs);
        free(entry);
    }
}

void dirty_close(struct dirty *dirty)
{
    for (size_t i = 0; dirty->shards != NULL && i < DIRTY_SHARDS; i++) {
        struct dirty_entry *entry = dirty->shards[i].oldest;
        while (entry != NULL) {
            struct dirty_entry *newer = entry->newer;
            dirty_entry_free(entry);
            entry = newer;
        }
        pthread_mutex_destroy(&dirty->shards[i].lock);
    }
    free(dirty->shards);
    free(dirty->buckets);
    *dirty = (struct dirty){0};
}

uint64_t dirty_entry_bytes(uint32_t encoded_size)
{
    return sizeof(struct dirty_entry) + encoded_size + MALLOC_BYTES;
}

struct dirty_entry *dirty_entry_new(struct key_hash hash, const uint8_t *encoded,
                                    uint32_t encoded_size, bool is_tombstone)
{
    CUBBY_ASSERT(encoded_size <= PAIR_INLINE_BYTES_MAX);
    struct dirty_entry *entry = malloc(sizeof *entry + encoded_size);
    if (entry != NULL) {
        *entry = (struct dirty_entry){
            .hash = hash,
            .encoded_size = encoded_size,
            .is_tombstone = is_tombstone,
        };
        memcpy(entry->encoded, encoded, encoded_size);
    }
    return entry;
}

static uint64_t bucket_of(const struct dirty *dirty, uint64_t low_hash)
{
    return bit_reverse(low_hash) >> (64 - dirty->bucket_bits);
}

static struct dirty_shard *shard_of_bucket(const struct dirty *dirty, uint64_t bucket)
{
    return &dirty->shards[bucket >> (dirty->bucket_bits - DIRTY_SHARD_BITS)];
}

struct dirty_shard *dirty_shard_of(const struct dirty *dirty, struct key_hash hash)
{
    return shard_of_bucket(dirty, bucket_of(dirty, hash.low));
}

struct dirty_shard *dirty_lock(struct dirty *dirty, struct key_hash hash)
{
    struct dirty_shard *shard = dirty_shard_of(dirty, hash);
    pthread_mutex_lock(&shard->lock);
    return shard;
}

void dirty_unlock(struct dirty_shard *shard)
{
    pthread_mutex_unlock(&shard->lock);
}

static void decode(const struct dirty_entry *entry, const uint8_t *encoded, struct block_pair *pair)
{
    bool decoded = block_pair_decode(encoded, entry->encoded_size, pair);
    CUBBY_ASSERT(decoded);
}

/* Whether an entry is of a key: by hash, and by the key itself where both are known. */
static bool is_of_key(const struct dirty_entry *entry, const uint8_t *key, size_t key_size,
                      struct key_hash hash)
{
    if (entry->hash.low != hash.low || entry->hash.high != hash.high) {
        return false;
    }
    struct block_pair pair;
    decode(entry, entry->encoded, &pair);
    return key == NULL || pair.key == NULL ||
           (pair.key_size == key_size && memcmp(pair.key, key, key_size) == 0);
}

/* The link that leads to the entry of a key, or to NULL at the end of its bucket. */
static struct dirty_entry **link_of(const struct dirty *dirty, const uint8_t *key, size_t key_size,
                                    struct key_hash hash)
{
    struct dirty_entry **link = &dirty->buckets[bucket_of(dirty, hash.low)];
    while (*link != NULL && !is_of_key(*link, key, key_size, hash)) {
        link = &(*link)->next;
    }
    return link;
}

struct dirty_entry *dirty_peek_locked(const struct dirty *dirty, const uint8_t *key,
                                      size_t key_size, struct key_hash hash)
{
    return *link_of(dirty, key, key_size, hash);
}

enum dirty_state dirty_find(struct dirty *dirty, const uint8_t *key, size_t key_size,
                            struct key_hash hash, uint8_t *buffer, struct block_pair *pair)
{
    if (atomic_load(&dirty->count) == 0) {
        return DIRTY_NOT;
    }
    enum dirty_state state = DIRTY_NOT;
    struct dirty_shard *shard = dirty_lock(dirty, hash);
    const struct dirty_entry *entry = *link_of(dirty, key, key_size, hash);
    if (entry != NULL) {
        state = entry->is_tombstone ? DIRTY_TOMBSTONE : DIRTY_PAIR;
        memcpy(buffer, entry->encoded, entry->encoded_size);
        decode(entry, buffer, pair);
    }
    dirty_unlock(shard);
    return state;
}

/* Take an entry out of its shard's list. */
static void leave_list(struct dirty_shard *shard, struct dirty_entry *entry)
{
    *(entry->older != NULL ? &entry->older->newer : &shard->oldest) = entry->newer;
    *(entry->newer != NULL ? &entry->newer->older : &shard->newest) = entry->older;
}

/* Enter an entry into its shard's list where its first LSN belongs: mostly at the new end. */
static void enter_list(struct dirty_shard *shard, struct dirty_entry *entry)
{
    struct dirty_entry *older = shard->newest;
    while (older != NULL && older->first_lsn > entry->first_lsn) {
        older = older->older;
    }
    entry->older = older;
    entry->newer = older != NULL ? older->newer : shard->oldest;
    *(entry->older != NULL ? &entry->older->newer : &shard->oldest) = entry;
    *(entry->newer != NULL ? &entry->newer->older : &shard->newest) = entry;
}

static void count_entry(struct dirty *dirty, const struct dirty_entry *entry)
{
    atomic_fetch_add(&dirty->count, 1);
    atomic_fetch_add(&dirty->bytes, dirty_entry_bytes(entry->encoded_size));
    if (!entry->is_tombstone) {
        atomic_fetch_add(&dirty->put_bytes, entry->encoded_size);
    }
}

static void uncount_entry(struct dirty *dirty, const struct dirty_entry *entry)
{
    atomic_fetch_sub(&dirty->count, 1);
    atomic_fetch_sub(&dirty->bytes, dirty_entry_bytes(entry->encoded_size));
    if (!entry->is_tombstone) {
        atomic_fetch_sub(&dirty->put_bytes, entry->encoded_size);
    }
}

/* Take an entry out of everything, and count it no more. */
static void unlink_entry(struct dirty *dirty, struct dirty_shard *shard, struct dirty_entry **link)
{
    struct dirty_entry *entry = *link;
    *link = entry->next;
    leave_list(shard, entry);
    shard->count--;
    uncount_entry(dirty, entry);
}

/* Have entry remember the blob of the one that it replaces, and those that that one remembers. */
static void inherit_blobs(struct dirty_entry *entry, struct dirty_entry *old,
                          struct dirty_blob *blob)
{
    struct block_pair pair;
    struct block_pair own;
    decode(old, old->encoded, &pair);
    decode(entry, entry->encoded, &own);
    /* A pair that was logged again has the same. */
    bool is_same = !entry->is_tombstone && own.is_blob && pair.is_blob &&
                   own.blob_lba == pair.blob_lba && own.blob_checksum == pair.blob_checksum;
    entry->blobs = old->blobs;
    old->blobs = NULL;
    if (!old->is_tombstone && pair.is_blob && !is_same) {
        CUBBY_ASSERT(blob != NULL);
        *blob = (struct dirty_blob){
            .next = entry->blobs,
            .lsn = old->lsn,
            .lba = pair.blob_lba,
            .checksum = pair.blob_checksum,
            .key_size = pair.key_size,
            .value_size = pair.value_size,
        };
        entry->blobs = blob;
    } else {
        free(blob);
    }
    entry->first_lsn = entry->blobs != NULL ? old->first_lsn : entry->lsn;
}

void dirty_insert_locked(struct dirty *dirty, struct dirty_shard *shard, struct dirty_entry *entry,
                         uint64_t lsn, struct dirty_blob *blob)
{
    struct block_pair pair;
    decode(entry, entry->encoded, &pair);
    struct dirty_entry **link = link_of(dirty, pair.key, pair.key_size, entry->hash);
    struct dirty_entry *old = *link;
    entry->lsn = lsn;
    entry->first_lsn = lsn;
    cache_forget(dirty->cache, entry->hash);
    count_entry(dirty, entry); /* before the old one goes: a count of 0 lets nobody look here */
    if (old != NULL) {
        CUBBY_ASSERT(old->lsn < lsn);
        inherit_blobs(entry, old, blob);
        unlink_entry(dirty, shard, link);
        dirty_entry_free(old);
        entry->is_hot = true;
    } else {
        free(blob);
    }
    entry->next = *link;
    *link = entry;
    enter_list(shard, entry);
    shard->count++;
}

void dirty_renew_locked(struct dirty_shard *shard, struct dirty_entry *entry, uint64_t lsn)
{
    leave_list(shard, entry);
    free_blobs(entry->blobs);
    entry->blobs = NULL;
    entry->lsn = lsn;
    entry->first_lsn = lsn;
    enter_list(shard, entry);
}

/* Drop the replaced blobs whose records are not younger than lsn. */
static void drop_blobs(struct dirty_shard *shard, struct dirty_entry *entry, uint64_t lsn)
{
    uint64_t first_lsn = entry->lsn;
    struct dirty_blob **link = &entry->blobs;
    while (*link != NULL) {
        struct dirty_blob *blob = *link;
        if (blob->lsn > lsn) {
            first_lsn = blob->lsn < first_lsn ? blob->lsn : first_lsn;
            link = &blob->next;
            continue;
        }
        *link = blob->next;
        free(blob);
    }
    if (first_lsn != entry->first_lsn) {
        leave_list(shard, entry);
        entry->first_lsn = first_lsn;
        enter_list(shard, entry);
    }
}

void dirty_clean(struct dirty *dirty, struct key_hash hash, const uint8_t *key, size_t key_size,
                 uint64_t lsn)
{
    struct dirty_shard *shard = dirty_lock(dirty, hash);
    struct dirty_entry **link = link_of(dirty, key, key_size, hash);
    struct dirty_entry *entry = *link;
    if (entry != NULL && (entry->lsn == lsn || PLANTED(BUG_CLEAN_WITHOUT_LSN))) {
        unlink_entry(dirty, shard, link);
        dirty_entry_free(entry);
    } else if (entry != NULL) {
        drop_blobs(shard, entry, lsn);
    }
    dirty_unlock(shard);
}

bool dirty_remove(struct dirty *dirty, struct key_hash hash, uint64_t lsn)
{
    struct dirty_shard *shard = dirty_lock(dirty, hash);
    struct dirty_entry **link = link_of(dirty, NULL, 0, hash);
    struct dirty_entry *entry = *link;
    bool found = entry != NULL && entry->lsn == lsn;
    if (found) {
        unlink_entry(dirty, shard, link);
        dirty_entry_free(entry);
    }
    dirty_unlock(shard);
    return found;
}

/* Whether an entry's own pair is this blob. */
static bool is_blob_of(const struct dirty_entry *entry, uint64_t lba, uint64_t checksum)
{
    struct block_pair pair;
    decode(entry, entry->encoded, &pair);
    return !entry->is_tombstone && pair.is_blob && pair.blob_lba == lba &&
           pair.blob_checksum == checksum;
}

void dirty_forget_blob(struct dirty *dirty, struct key_hash hash, uint64_t lba, uint64_t checksum)
{
    struct dirty_shard *shard = dirty_lock(dirty, hash);
    struct dirty_entry **entry_link = link_of(dirty, NULL, 0, hash);
    struct dirty_entry *entry = *entry_link;
    struct dirty_blob **link = entry != NULL ? &entry->blobs : NULL;
    while (link != NULL && *link != NULL) {
        struct dirty_blob *blob = *link;
        if (blob->lba == lba && blob->checksum == checksum) {
            *link = blob->next;
            free(blob);
        } else {
            link = &blob->next;
        }
    }
    if (entry != NULL && is_blob_of(entry, lba, checksum)) {
        unlink_entry(dirty, shard, entry_link);
        dirty_entry_free(entry);
    }
    dirty_unlock(shard);
}

/* Visit the entries of some buckets that are of a segment; all, with depth 0. */
static int each_of_buckets(struct dirty *dirty, uint64_t first, uint64_t end, uint64_t number,
                           unsigned depth, dirty_visit *visit, void *state)
{
    uint64_t mask = (UINT64_C(1) << depth) - 1;
    unsigned shard_shift = dirty->bucket_bits - DIRTY_SHARD_BITS;
    int status = CUBBY_OK;
    while (first < end && status == CUBBY_OK) {
        struct dirty_shard *shard = shard_of_bucket(dirty, first);
        uint64_t shard_end = ((first >> shard_shift) + 1) << shard_shift;
        uint64_t upto = end < shard_end ? end : shard_end;
        pthread_mutex_lock(&shard->lock);
        for (uint64_t i = first; shard->count > 0 && i < upto && status == CUBBY_OK; i++) {
            struct dirty_entry *entry = dirty->buckets[i];
            for (; entry != NULL && status == CUBBY_OK; entry = entry->next) {
                status = (entry->hash.low & mask) == number ? visit(entry, state) : CUBBY_OK;
            }
        }
        pthread_mutex_unlock(&shard->lock);
        first = upto;
    }
    return status;
}

int dirty_each_of_segment(struct dirty *dirty, uint64_t segment_number, unsigned depth,
                          dirty_visit *visit, void *state)
{
    if (atomic_load(&dirty->count) == 0) {
        return CUBBY_OK;
    }
    uint64_t first = bucket_of(dirty, segment_number);
    uint64_t count = depth < dirty->bucket_bits ? UINT64_C(1) << (dirty->bucket_bits - depth) : 1;
    return each_of_buckets(dirty, first, first + count, segment_number, depth, visit, state);
}

int dirty_each(struct dirty *dirty, dirty_visit *visit, void *state)
{
    return dirty_each_of_segment(dirty, 0, 0, visit, state);
}

uint64_t dirty_oldest_lsn(struct dirty *dirty, uint64_t limit)
{
    uint64_t oldest = limit;
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        struct dirty_shard *shard = &dirty->shards[i];
        pthread_mutex_lock(&shard->lock);
        if (shard->oldest != NULL && shard->oldest->first_lsn < oldest) {
            oldest = shard->oldest->first_lsn;
        }
        pthread_mutex_unlock(&shard->lock);
    }
    return oldest;
}
