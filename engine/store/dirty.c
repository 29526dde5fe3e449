/* dirty.c -- see dirty.h. */
#include "engine/store/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/nibble/nibble.h"
#include "engine/store/dirty_places.h"
#include "engine/store/simulator.h"

enum {
    INDEX_BYTES = 24, /* of a pair, in pages that have just been split */
    /* Of the memory, what dirty pairs may take whatever happens, and what they take usually: the
     * rest is for tables, chunks that are being filled, and for compaction to find segments that
     * are worth it. */
    CAPACITY_QUARTERS = 3,
    LIMIT_THIRDS = 2,
};

static struct nibble_key key_of(const struct key_hash *hash)
{
    return (struct nibble_key){(const uint8_t *)hash, sizeof *hash, *hash};
}

static uint64_t capacity_of(const struct dirty_memory *memory)
{
    return (memory->nibble->memory_bytes - (uint64_t)DIRTY_MARKS_BYTES) / 4 * CAPACITY_QUARTERS;
}

/* Opening ----------------------------------------------------------------------------------------
 */

static void close_parts(struct dirty *dirty)
{
    dirty_marks_close(&dirty->marks);
    dirty_memory_close(&dirty->memory);
    dirty_blobs_close(&dirty->blobs);
    free(dirty->shards);
    *dirty = (struct dirty){0};
}

int dirty_open(struct dirty *dirty, uint64_t limit_bytes, uint64_t memory_bytes,
               uint64_t log_capacity)
{
    const uint64_t marks_bytes = (uint64_t)DIRTY_MARKS_BYTES;
    *dirty = (struct dirty){.keeps_clean = memory_bytes != 0};
    if (memory_bytes == 0) {
        uint64_t needed = limit_bytes + limit_bytes / 2 + 2;
        memory_bytes =
            marks_bytes +
            (needed > (uint64_t)NIBBLE_MEMORY_MIN ? needed : (uint64_t)NIBBLE_MEMORY_MIN);
    }
    uint64_t most = (memory_bytes - marks_bytes) / 3 * LIMIT_THIRDS;
    dirty->memory_bytes = memory_bytes;
    dirty->limit_bytes = limit_bytes < most ? limit_bytes : most;
    lsn_counts_open(&dirty->lsns, log_capacity);
    dirty->shards = aligned_alloc(64, DIRTY_SHARDS * sizeof *dirty->shards);
    int status = dirty->shards != NULL ? CUBBY_OK : ENOMEM;
    if (status == CUBBY_OK) {
        status = dirty_blobs_open(&dirty->blobs, &dirty->lsns, log_capacity);
    }
    if (status == CUBBY_OK) {
        status = dirty_memory_open(&dirty->memory, memory_bytes, dirty->keeps_clean);
    }
    if (status == CUBBY_OK) {
        status = dirty_marks_open(&dirty->marks, &dirty->memory);
    }
    if (status != CUBBY_OK) {
        close_parts(dirty);
        return ENOMEM;
    }
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        dirty->shards[i] = (struct dirty_shard){0};
        pthread_mutex_init(&dirty->shards[i].lock, NULL);
    }
    dirty->capacity_bytes = capacity_of(&dirty->memory);
    return CUBBY_OK;
}

void dirty_close(struct dirty *dirty)
{
    if (dirty->shards == NULL) {
        return;
    }
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        pthread_mutex_destroy(&dirty->shards[i].lock);
    }
    close_parts(dirty);
}

static struct dirty_shard *shard_of(const struct dirty *dirty, struct key_hash hash)
{
    return &dirty->shards[dirty_shard_number(dirty_place_of(hash))];
}

/* Pairs and their tails -------------------------------------------------------------------------
 */

/* What follows a dirty pair. */
struct tail {
    uint8_t bytes[DIRTY_TAIL_BYTES];
};

static struct tail tail_of(const struct dirty_entry *entry)
{
    struct tail tail;
    store_u64(tail.bytes, entry->lsn << 3 | (uint64_t)(entry->blobs != NULL) << 2 |
                              (uint64_t)entry->is_hot << 1 | entry->is_tombstone);
    store_u64(tail.bytes + 8, entry->next_high);
    return tail;
}

static void decode(const uint8_t *encoded, uint32_t encoded_size, struct block_pair *pair)
{
    bool decoded = block_pair_decode(encoded, encoded_size, pair);
    CUBBY_ASSERT(decoded);
}

static void put_dirty(struct dirty_memory *memory, struct key_hash hash, const uint8_t *encoded,
                      uint32_t encoded_size, struct tail tail)
{
    uint8_t value[DIRTY_BUFFER_BYTES];
    CUBBY_ASSERT(encoded_size <= PAIR_INLINE_BYTES_MAX);
    memcpy(value, encoded, encoded_size);
    memcpy(value + encoded_size, tail.bytes, sizeof tail.bytes);
    dirty_memory_put(memory, hash, value, encoded_size + DIRTY_TAIL_BYTES);
}

static int move_entry(struct dirty_entry *entry, void *state)
{
    put_dirty(state, entry->hash, entry->encoded, entry->encoded_size, tail_of(entry));
    return CUBBY_OK;
}

int dirty_resize(struct dirty *dirty, uint64_t capacity_bytes)
{
    uint64_t taken = atomic_load(&dirty->bytes);
    uint64_t capacity = capacity_bytes > taken ? capacity_bytes : taken;
    /* Of which it is CAPACITY_QUARTERS. */
    uint64_t memory_bytes = (uint64_t)DIRTY_MARKS_BYTES + capacity + capacity / 3 + 4;
    memory_bytes = memory_bytes > dirty->memory_bytes ? memory_bytes : dirty->memory_bytes;
    if (memory_bytes == dirty->memory.nibble->memory_bytes) {
        return CUBBY_OK;
    }
    struct dirty_memory other;
    int status = dirty_memory_open(&other, memory_bytes, dirty->keeps_clean);
    if (status != CUBBY_OK) {
        return status;
    }
    status = dirty_marks_move(&dirty->marks, &other);
    if (status != CUBBY_OK) {
        dirty_memory_close(&other);
        return status;
    }
    status = dirty_each(dirty, move_entry, &other);
    CUBBY_ASSERT(status == CUBBY_OK);
    dirty_memory_close(&dirty->memory);
    dirty->memory = other;
    dirty->capacity_bytes = capacity_of(&other);
    return CUBBY_OK;
}

uint64_t dirty_entry_bytes(uint32_t encoded_size)
{
    size_t value_size = encoded_size + DIRTY_TAIL_BYTES;
    return object_units_for(sizeof(struct key_hash), value_size) * OBJECT_UNIT_BYTES + INDEX_BYTES +
           DIRTY_MARK_BYTES;
}

bool dirty_reserve(struct dirty *dirty, uint64_t bytes, bool is_emergency)
{
    uint64_t reserved = atomic_load(&dirty->reserved);
    for (;;) {
        uint64_t taken = atomic_load(&dirty->bytes) + reserved;
        uint64_t most = is_emergency || taken == 0 ? dirty->capacity_bytes : dirty->limit_bytes;
        if (taken + bytes > most) {
            return false;
        }
        if (atomic_compare_exchange_weak(&dirty->reserved, &reserved, reserved + bytes)) {
            return true;
        }
    }
}

void dirty_unreserve(struct dirty *dirty, uint64_t bytes)
{
    uint64_t before = atomic_fetch_sub(&dirty->reserved, bytes);
    CUBBY_ASSERT(before >= bytes);
}

struct dirty_shard *dirty_lock(const struct dirty *dirty, struct key_hash hash)
{
    struct dirty_shard *shard = shard_of(dirty, hash);
    pthread_mutex_lock(&shard->lock);
    return shard;
}

void dirty_unlock(struct dirty_shard *shard)
{
    pthread_mutex_unlock(&shard->lock);
}

uint64_t dirty_shard_bit(struct key_hash hash)
{
    return UINT64_C(1) << dirty_shard_number(dirty_place_of(hash));
}

void dirty_lock_shards(const struct dirty *dirty, uint64_t shards)
{
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        if ((shards >> i & 1) != 0) {
            pthread_mutex_lock(&dirty->shards[i].lock);
        }
    }
}

void dirty_unlock_shards(const struct dirty *dirty, uint64_t shards)
{
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        if ((shards >> i & 1) != 0) {
            pthread_mutex_unlock(&dirty->shards[i].lock);
        }
    }
}

enum dirty_state dirty_find(const struct dirty *dirty, const uint8_t *key, size_t key_size,
                            struct key_hash hash, uint8_t *buffer, struct block_pair *pair,
                            dirty_token *token)
{
    struct nibble_key wanted = key_of(&hash);
    struct nibble_read read;
    *token = 0;
    if (nibble_read(dirty->memory.nibble, &wanted, buffer, DIRTY_BUFFER_BYTES, true, &read) !=
        CUBBY_OK) {
        *token = read.version;
        return DIRTY_NOT;
    }
    size_t size = read.value_size;
    enum dirty_state state = DIRTY_CLEAN;
    if (read.is_dirty) {
        size -= DIRTY_TAIL_BYTES;
        state = (load_u64(buffer + size) & 1) != 0 ? DIRTY_TOMBSTONE : DIRTY_PAIR;
    }
    decode(buffer, (uint32_t)size, pair);
    /* Another key of the same hash is as if there were none. */
    bool is_other = key != NULL && pair->key != NULL &&
                    (pair->key_size != key_size || memcmp(pair->key, key, key_size) != 0);
    return is_other ? DIRTY_NOT : state;
}

void dirty_admit(struct dirty *dirty, struct key_hash hash, const struct block_pair *pair,
                 dirty_token token)
{
    struct dirty_shard *shard = shard_of(dirty, hash);
    if (!dirty->keeps_clean || token == 0 || pair->is_blob ||
        !nibble_admits(dirty->memory.nibble, hash) || pthread_mutex_trylock(&shard->lock) != 0) {
        return; /* who has the lock is not waited for: another get will find it */
    }
    dirty_memory_admit(&dirty->memory, hash, pair->encoded, pair->encoded_size, token);
    dirty_unlock(shard);
}

/* Replaced blobs --------------------------------------------------------------------------------
 */

/* Whether a dirty pair's value is this blob. */
static bool is_blob(const struct dirty_entry *entry, uint64_t lba, uint64_t checksum)
{
    struct block_pair pair;
    decode(entry->encoded, entry->encoded_size, &pair);
    return !entry->is_tombstone && pair.is_blob && pair.blob_lba == lba &&
           pair.blob_checksum == checksum;
}

/* Forget the blobs that an entry has replaced, up to an LSN. */
static void drop_blobs(struct dirty *dirty, const struct dirty_entry *entry, uint64_t lsn)
{
    if (entry->blobs != NULL) {
        dirty_blobs_drop(&dirty->blobs, entry->hash, lsn);
    }
}

/* Remember the blob of a dirty pair that is replaced, in blob, or free that. */
static void keep_blob(struct dirty *dirty, struct dirty_entry *old,
                      const struct dirty_new *new_pair)
{
    struct dirty_blob *blob = new_pair->blob;
    struct block_pair pair;
    struct block_pair own;
    decode(old->encoded, old->encoded_size, &pair);
    decode(new_pair->encoded, new_pair->encoded_size, &own);
    /* A pair that was logged again has the same. */
    bool is_same =
        !new_pair->is_tombstone && own.is_blob && is_blob(old, own.blob_lba, own.blob_checksum);
    if (old->is_tombstone || !pair.is_blob || is_same) {
        free(blob);
        return;
    }
    CUBBY_ASSERT(blob != NULL);
    *blob = (struct dirty_blob){
        .hash = old->hash,
        .lsn = old->lsn,
        .lba = pair.blob_lba,
        .checksum = pair.blob_checksum,
        .key_size = pair.key_size,
        .value_size = pair.value_size,
    };
    dirty_blobs_add(&dirty->blobs, blob);
    old->blobs = blob;
}

bool dirty_peek_locked(const struct dirty *dirty, struct key_hash hash, struct dirty_entry *entry)
{
    struct nibble_key key = key_of(&hash);
    struct nibble_read read;
    if (nibble_read(dirty->memory.nibble, &key, entry->encoded, sizeof entry->encoded, false,
                    &read) != CUBBY_OK ||
        !read.is_dirty) {
        return false;
    }
    entry->hash = hash;
    entry->encoded_size = (uint32_t)read.value_size - DIRTY_TAIL_BYTES;
    uint64_t tail = load_u64(entry->encoded + entry->encoded_size);
    entry->lsn = tail >> 3;
    entry->is_hot = (tail >> 1 & 1) != 0;
    entry->is_tombstone = (tail & 1) != 0;
    entry->next_high = load_u64(entry->encoded + entry->encoded_size + 8);
    bool has_blobs = (tail >> 2 & 1) != 0;
    entry->blobs = has_blobs ? dirty_blobs_newest(&dirty->blobs, hash) : NULL;
    return true;
}

void dirty_amend_tail(struct dirty *dirty, const struct dirty_entry *entry)
{
    struct nibble_key key = key_of(&entry->hash);
    struct tail tail = tail_of(entry);
    nibble_amend(dirty->memory.nibble, &key, 0, tail.bytes, sizeof tail.bytes, OBJECT_DIRTY);
}

/* Changes ---------------------------------------------------------------------------------------
 */

static void count_pair(struct dirty *dirty, uint32_t encoded_size, bool is_tombstone, uint64_t lsn)
{
    atomic_fetch_add(&dirty->count, 1);
    atomic_fetch_add(&dirty->bytes, dirty_entry_bytes(encoded_size));
    atomic_fetch_add(&dirty->put_bytes, is_tombstone ? 0 : encoded_size);
    lsn_counts_add(&dirty->lsns, lsn);
}

static void uncount_entry(struct dirty *dirty, const struct dirty_entry *entry)
{
    atomic_fetch_sub(&dirty->count, 1);
    atomic_fetch_sub(&dirty->bytes, dirty_entry_bytes(entry->encoded_size));
    atomic_fetch_sub(&dirty->put_bytes, entry->is_tombstone ? 0 : entry->encoded_size);
    lsn_counts_remove(&dirty->lsns, entry->lsn);
}

void dirty_insert_locked(struct dirty *dirty, const struct dirty_new *new_pair, uint64_t lsn)
{
    struct dirty_entry entry; /* the old one, then the new one */
    bool replaces = dirty_peek_locked(dirty, new_pair->hash, &entry);
    count_pair(dirty, new_pair->encoded_size, new_pair->is_tombstone, lsn);
    if (replaces) {
        CUBBY_ASSERT(entry.lsn < lsn);
        keep_blob(dirty, &entry, new_pair); /* first: its record is needed all the time */
        uncount_entry(dirty, &entry);
    } else {
        dirty_join_place(dirty, &entry, new_pair->hash);
        entry.blobs = NULL;
        free(new_pair->blob);
    }
    entry.lsn = lsn;
    entry.is_hot = replaces && !new_pair->is_replayed;
    entry.is_tombstone = new_pair->is_tombstone;
    put_dirty(&dirty->memory, new_pair->hash, new_pair->encoded, new_pair->encoded_size,
              tail_of(&entry));
}

void dirty_renew_locked(struct dirty *dirty, struct dirty_entry *entry, uint64_t lsn)
{
    lsn_counts_add(&dirty->lsns, lsn); /* first: something is needed all the time */
    lsn_counts_remove(&dirty->lsns, entry->lsn);
    drop_blobs(dirty, entry, UINT64_MAX);
    entry->blobs = NULL;
    entry->lsn = lsn;
    dirty_amend_tail(dirty, entry);
}

/* Forget an entry, and what it replaced. */
static void forget(struct dirty *dirty, const struct dirty_entry *entry)
{
    struct nibble_key key = key_of(&entry->hash);
    dirty_leave_place(dirty, entry);
    nibble_forget(dirty->memory.nibble, &key);
    drop_blobs(dirty, entry, UINT64_MAX);
    uncount_entry(dirty, entry);
}

/* It is as its block has it: keep it, if it may be read again. */
static void make_clean(struct dirty *dirty, const struct dirty_entry *entry)
{
    struct block_pair pair;
    decode(entry->encoded, entry->encoded_size, &pair);
    if (!dirty->keeps_clean || entry->is_tombstone || pair.is_blob) {
        forget(dirty, entry);
        return;
    }
    struct nibble_key key = key_of(&entry->hash);
    dirty_leave_place(dirty, entry);
    nibble_amend(dirty->memory.nibble, &key, DIRTY_TAIL_BYTES, (const uint8_t *)"", 0, 0);
    drop_blobs(dirty, entry, UINT64_MAX);
    uncount_entry(dirty, entry);
}

void dirty_clean(struct dirty *dirty, struct key_hash hash, uint64_t lsn)
{
    struct dirty_entry entry;
    struct dirty_shard *shard = dirty_lock(dirty, hash);
    if (dirty_peek_locked(dirty, hash, &entry)) {
        if (entry.lsn == lsn || PLANTED(BUG_CLEAN_WITHOUT_LSN)) {
            make_clean(dirty, &entry);
        } else {
            drop_blobs(dirty, &entry, lsn);
        }
    }
    dirty_unlock(shard);
}

bool dirty_remove(struct dirty *dirty, struct key_hash hash, uint64_t lsn)
{
    struct dirty_entry entry;
    struct dirty_shard *shard = dirty_lock(dirty, hash);
    bool found = dirty_peek_locked(dirty, hash, &entry) && entry.lsn == lsn;
    if (found) {
        forget(dirty, &entry);
    }
    dirty_unlock(shard);
    return found;
}

void dirty_forget_blob(struct dirty *dirty, struct key_hash hash, uint64_t lba, uint64_t checksum)
{
    struct dirty_entry entry;
    struct dirty_shard *shard = dirty_lock(dirty, hash);
    dirty_blobs_forget(&dirty->blobs, hash, lba, checksum);
    if (dirty_peek_locked(dirty, hash, &entry) && is_blob(&entry, lba, checksum)) {
        forget(dirty, &entry);
    }
    dirty_unlock(shard);
}

/* What is needed of the log ---------------------------------------------------------------------
 */

/* See to it that every record that is in the log by now is counted. */
static void wait_for_shards(struct dirty *dirty)
{
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        pthread_mutex_lock(&dirty->shards[i].lock);
        pthread_mutex_unlock(&dirty->shards[i].lock);
    }
}

uint64_t dirty_oldest_lsn(struct dirty *dirty, uint64_t start, uint64_t end)
{
    wait_for_shards(dirty);
    return lsn_counts_oldest(&dirty->lsns, start, end);
}

static int find_before(struct dirty_entry *entry, void *state)
{
    const uint64_t *lsn = state;
    for (const struct dirty_blob *blob = entry->blobs; blob != NULL;
         blob = dirty_blobs_older(blob)) {
        if (blob->lsn < *lsn) {
            return CUBBY_EXISTS;
        }
    }
    return entry->lsn < *lsn ? CUBBY_EXISTS : CUBBY_OK;
}

bool dirty_needs_before(struct dirty *dirty, uint64_t start, uint64_t lsn)
{
    uint64_t oldest = dirty_oldest_lsn(dirty, start, lsn);
    if (oldest >= lsn) {
        return false;
    }
    unsigned part_bits = dirty->lsns.part_bits;
    return oldest >> part_bits != lsn >> part_bits || /* else it may be something younger */
           dirty_each(dirty, find_before, &lsn) != CUBBY_OK;
}

bool dirty_tidy(struct dirty *dirty)
{
    return nibble_clean_ahead(dirty->memory.nibble);
}
