/* dirty.c -- see dirty.h. */
#include "engine/store/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/nibble/nibble.h"
#include "engine/store/simulator.h"

enum {
    BYTES_PER_RANGE = 512, /* of the limit: about one pair */
    RANGE_BITS_MIN = DIRTY_SHARD_BITS,
    RANGE_BITS_MAX = 22,
    INDEX_BYTES = 40, /* of a pair: 24 in pages that have just been split, and in ranges */
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
    return memory->nibble->memory_bytes / 4 * CAPACITY_QUARTERS;
}

/* Opening ----------------------------------------------------------------------------------------
 */

int dirty_open(struct dirty *dirty, uint64_t limit_bytes, uint64_t memory_bytes,
               uint64_t log_capacity)
{
    *dirty = (struct dirty){.keeps_clean = memory_bytes != 0, .range_bits = RANGE_BITS_MIN};
    uint64_t needed = limit_bytes + limit_bytes / 2 + 2;
    if (memory_bytes == 0) {
        memory_bytes = needed > (uint64_t)NIBBLE_MEMORY_MIN ? needed : (uint64_t)NIBBLE_MEMORY_MIN;
    }
    uint64_t most = memory_bytes / 3 * LIMIT_THIRDS;
    dirty->memory_bytes = memory_bytes;
    dirty->limit_bytes = limit_bytes < most ? limit_bytes : most;
    while (dirty->range_bits < RANGE_BITS_MAX &&
           limit_bytes >> dirty->range_bits > BYTES_PER_RANGE) {
        dirty->range_bits++;
    }
    uint64_t table_bytes = sizeof *dirty->ranges << dirty->range_bits;
    dirty->nibble_bytes = memory_bytes - table_bytes > (uint64_t)NIBBLE_MEMORY_MIN
                              ? memory_bytes - table_bytes
                              : (uint64_t)NIBBLE_MEMORY_MIN;
    lsn_counts_open(&dirty->lsns, log_capacity);
    dirty->shards = aligned_alloc(64, DIRTY_SHARDS * sizeof *dirty->shards);
    dirty->ranges = calloc((size_t)1 << dirty->range_bits, sizeof *dirty->ranges);
    int status = dirty_blobs_open(&dirty->blobs, &dirty->lsns, log_capacity);
    if (dirty->shards == NULL || dirty->ranges == NULL || status != 0 ||
        dirty_memory_open(&dirty->memory, dirty->nibble_bytes, dirty->keeps_clean) != CUBBY_OK) {
        free(dirty->shards);
        free(dirty->ranges);
        dirty_blobs_close(&dirty->blobs);
        *dirty = (struct dirty){0};
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
    dirty_memory_close(&dirty->memory);
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        pthread_mutex_destroy(&dirty->shards[i].lock);
    }
    free(dirty->shards);
    free(dirty->ranges);
    dirty_blobs_close(&dirty->blobs);
    *dirty = (struct dirty){0};
}

static size_t shard_number(struct key_hash hash)
{
    return bit_reverse(hash.low) >> (64 - DIRTY_SHARD_BITS);
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
    store_u64(tail.bytes + 8, entry->next.low);
    store_u64(tail.bytes + 16, entry->next.high);
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
    uint64_t memory_bytes = capacity + capacity / 3 + 4; /* of which it is CAPACITY_QUARTERS */
    memory_bytes = memory_bytes > dirty->nibble_bytes ? memory_bytes : dirty->nibble_bytes;
    if (memory_bytes == dirty->memory.nibble->memory_bytes) {
        return CUBBY_OK;
    }
    struct dirty_memory other;
    int status = dirty_memory_open(&other, memory_bytes, dirty->keeps_clean);
    if (status == CUBBY_OK) {
        status = dirty_each(dirty, move_entry, &other);
        CUBBY_ASSERT(status == CUBBY_OK);
        dirty_memory_close(&dirty->memory);
        dirty->memory = other;
        dirty->capacity_bytes = capacity_of(&other);
    }
    return status;
}

uint64_t dirty_entry_bytes(uint32_t encoded_size)
{
    size_t value_size = encoded_size + DIRTY_TAIL_BYTES;
    return object_units_for(sizeof(struct key_hash), value_size) * OBJECT_UNIT_BYTES + INDEX_BYTES;
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
    struct dirty_shard *shard = &dirty->shards[shard_number(hash)];
    pthread_mutex_lock(&shard->lock);
    return shard;
}

void dirty_unlock(struct dirty_shard *shard)
{
    pthread_mutex_unlock(&shard->lock);
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
    struct dirty_shard *shard = &dirty->shards[shard_number(hash)];
    if (!dirty->keeps_clean || token == 0 || pair->is_blob ||
        pthread_mutex_trylock(&shard->lock) != 0) {
        return; /* who has the lock is not waited for: another get will find it */
    }
    dirty_memory_admit(&dirty->memory, hash, pair->encoded, pair->encoded_size, token);
    dirty_unlock(shard);
}

/* Replaced blobs --------------------------------------------------------------------------------
 */

static bool same_hash(struct key_hash a, struct key_hash b)
{
    return a.low == b.low && a.high == b.high;
}

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
    entry->next.low = load_u64(entry->encoded + entry->encoded_size + 8);
    entry->next.high = load_u64(entry->encoded + entry->encoded_size + 16);
    bool has_blobs = (tail >> 2 & 1) != 0;
    entry->blobs = has_blobs ? dirty_blobs_newest(&dirty->blobs, hash) : NULL;
    return true;
}

/* Lists of ranges -------------------------------------------------------------------------------
 */

static bool is_none(struct key_hash hash)
{
    return hash.low == 0 && hash.high == 0;
}

static struct key_hash *range_of(const struct dirty *dirty, uint64_t low_hash)
{
    return &dirty->ranges[bit_reverse(low_hash) >> (64 - dirty->range_bits)];
}

/* Write an entry's tail anew. */
static void amend_tail(struct dirty *dirty, const struct dirty_entry *entry)
{
    struct nibble_key key = key_of(&entry->hash);
    struct tail tail = tail_of(entry);
    nibble_amend(dirty->memory.nibble, &key, 0, tail.bytes, sizeof tail.bytes, OBJECT_DIRTY);
}

/* Take an entry, which is still there and dirty, out of its list. */
static void leave_list(struct dirty *dirty, const struct dirty_entry *entry)
{
    struct key_hash *range = range_of(dirty, entry->hash.low);
    if (same_hash(*range, entry->hash)) {
        *range = entry->next;
        return;
    }
    struct dirty_entry before = {.next = *range};
    while (!same_hash(before.next, entry->hash)) {
        bool is_there = dirty_peek_locked(dirty, before.next, &before);
        CUBBY_ASSERT(is_there);
    }
    before.next = entry->next;
    amend_tail(dirty, &before);
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
    struct key_hash *range = range_of(dirty, new_pair->hash.low);
    struct dirty_entry entry; /* the old one, then the new one */
    bool replaces = dirty_peek_locked(dirty, new_pair->hash, &entry);
    count_pair(dirty, new_pair->encoded_size, new_pair->is_tombstone, lsn);
    if (replaces) {
        CUBBY_ASSERT(entry.lsn < lsn);
        keep_blob(dirty, &entry, new_pair); /* first: its record is needed all the time */
        uncount_entry(dirty, &entry);
    } else {
        entry.next = *range;
        entry.blobs = NULL;
        free(new_pair->blob);
    }
    entry.lsn = lsn;
    entry.is_hot = replaces && !new_pair->is_replayed;
    entry.is_tombstone = new_pair->is_tombstone;
    put_dirty(&dirty->memory, new_pair->hash, new_pair->encoded, new_pair->encoded_size,
              tail_of(&entry));
    if (!replaces) {
        *range = new_pair->hash;
    }
}

void dirty_renew_locked(struct dirty *dirty, struct dirty_entry *entry, uint64_t lsn)
{
    lsn_counts_add(&dirty->lsns, lsn); /* first: something is needed all the time */
    lsn_counts_remove(&dirty->lsns, entry->lsn);
    drop_blobs(dirty, entry, UINT64_MAX);
    entry->blobs = NULL;
    entry->lsn = lsn;
    amend_tail(dirty, entry);
}

/* Forget an entry, and what it replaced. */
static void forget(struct dirty *dirty, const struct dirty_entry *entry)
{
    struct nibble_key key = key_of(&entry->hash);
    leave_list(dirty, entry);
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
    leave_list(dirty, entry);
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

/* All of a segment ------------------------------------------------------------------------------
 */

static int visit_nothing(struct dirty_entry *entry, void *state)
{
    (void)entry;
    (void)state;
    return CUBBY_OK;
}

/* Visit a dirty pair. *hash becomes the next of its list. */
static int visit_hash(struct dirty *dirty, struct key_hash *hash, dirty_visit *visit, void *state)
{
    struct dirty_entry entry;
    bool is_there = dirty_peek_locked(dirty, *hash, &entry);
    CUBBY_ASSERT(is_there);
    bool was_hot = entry.is_hot;
    int status = visit(&entry, state);
    if (entry.is_hot != was_hot) {
        amend_tail(dirty, &entry);
    }
    *hash = entry.next;
    return status;
}

int dirty_each_of_segment(struct dirty *dirty, uint64_t segment_number, unsigned depth,
                          dirty_visit *visit, void *state)
{
    if (atomic_load(&dirty->count) == 0) {
        return CUBBY_OK;
    }
    uint64_t mask = (UINT64_C(1) << depth) - 1;
    unsigned shard_shift = dirty->range_bits - DIRTY_SHARD_BITS;
    size_t range = (size_t)(range_of(dirty, segment_number) - dirty->ranges);
    size_t end = range + (depth < dirty->range_bits ? (size_t)1 << (dirty->range_bits - depth) : 1);
    int status = CUBBY_OK;
    while (range < end && status == CUBBY_OK) {
        struct dirty_shard *shard = &dirty->shards[range >> shard_shift];
        size_t shard_end = ((range >> shard_shift) + 1) << shard_shift;
        size_t upto = end < shard_end ? end : shard_end;
        pthread_mutex_lock(&shard->lock);
        for (; range < upto && status == CUBBY_OK; range++) {
            struct key_hash hash = dirty->ranges[range];
            while (!is_none(hash) && status == CUBBY_OK) {
                if ((hash.low & mask) == segment_number) {
                    status = visit_hash(dirty, &hash, visit, state);
                } else { /* of another segment, where these are smaller than ranges */
                    status = visit_hash(dirty, &hash, visit_nothing, NULL);
                }
            }
        }
        pthread_mutex_unlock(&shard->lock);
    }
    return status;
}

int dirty_each(struct dirty *dirty, dirty_visit *visit, void *state)
{
    return dirty_each_of_segment(dirty, 0, 0, visit, state);
}

int dirty_each_place(struct dirty *dirty, unsigned depth, dirty_place *visit, void *state)
{
    size_t shard_ranges = (size_t)1 << (dirty->range_bits - DIRTY_SHARD_BITS);
    int status = CUBBY_OK;
    for (size_t i = 0; i < DIRTY_SHARDS && status == CUBBY_OK; i++) {
        pthread_mutex_lock(&dirty->shards[i].lock);
        for (size_t range = i * shard_ranges; range < (i + 1) * shard_ranges && status == CUBBY_OK;
             range++) {
            struct dirty_entry entry = {.next = dirty->ranges[range]};
            while (!is_none(entry.next) && status == CUBBY_OK) {
                status = visit(entry.next.low, state);
                if (depth <= dirty->range_bits) {
                    break; /* the others of the list are of the same segment */
                }
                bool is_there = dirty_peek_locked(dirty, entry.next, &entry);
                CUBBY_ASSERT(is_there);
            }
        }
        pthread_mutex_unlock(&dirty->shards[i].lock);
    }
    return status;
}

static int find_any(struct dirty_entry *entry, void *state)
{
    (void)entry;
    (void)state;
    return CUBBY_EXISTS;
}

bool dirty_any_of_segment(struct dirty *dirty, uint64_t segment_number, unsigned depth)
{
    return dirty_each_of_segment(dirty, segment_number, depth, find_any, NULL) != CUBBY_OK;
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
