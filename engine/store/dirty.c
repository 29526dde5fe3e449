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
    CHUNKS = 4096, /* that the memory has; each shard fills two or three at a time */
    CHUNK_BYTES_MIN = 4 << 10,
    CHUNK_BYTES_MAX = 64 << 10,
    INDEX_BYTES = 40, /* of a pair: 24 in pages that have just been split, and in ranges */
};

/* Of the memory, what dirty pairs may take whatever happens, and what they take usually: the rest
 * is for tables, chunks that are being filled, and for compaction to find segments that are worth
 * it. */
#define CAPACITY_SHARE 3 / 4
#define LIMIT_SHARE 2 / 3

static struct nibble_key key_of(const struct key_hash *hash)
{
    return (struct nibble_key){(const uint8_t *)hash, sizeof *hash, *hash};
}

/* The hash that Nibble is given stands in the key, too: it is the key. */
static struct key_hash hash_of_hash(const uint8_t *key, size_t key_size, uint64_t seed)
{
    struct key_hash hash;
    CUBBY_ASSERT(key_size == sizeof hash);
    (void)seed;
    memcpy(&hash, key, sizeof hash);
    return hash;
}

/* Opening ----------------------------------------------------------------------------------------
 */

/* A Nibble, and a session of it for each shard. */
static void close_memory(struct nibble *nibble, struct nibble_session **writers)
{
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        if (writers[i] != NULL) {
            nibble_session_close(writers[i]);
        }
    }
    if (nibble != NULL) {
        nibble_close(nibble);
    }
}

static int open_memory(uint64_t memory_bytes, bool keeps_clean, struct nibble **nibble,
                       struct nibble_session **writers)
{
    struct nibble_options options = {
        .memory_bytes = memory_bytes,
        .block_bytes = CHUNK_BYTES_MIN,
        .node_count = 1, /* a session appends to one node, whatever thread puts */
        .hash = hash_of_hash,
        .evicts = keeps_clean,
    };
    while (options.block_bytes < CHUNK_BYTES_MAX && options.block_bytes * CHUNKS < memory_bytes) {
        options.block_bytes *= 2;
    }
    char message[CUBBY_MESSAGE_BYTES];
    memset(writers, 0, DIRTY_SHARDS * sizeof *writers);
    *nibble = NULL;
    int status = nibble_open(&options, nibble, message, sizeof message);
    for (size_t i = 0; i < DIRTY_SHARDS && status == CUBBY_OK; i++) {
        status = nibble_session_open(*nibble, 0, &writers[i]);
    }
    if (status != CUBBY_OK) {
        close_memory(*nibble, writers);
        return ENOMEM;
    }
    return CUBBY_OK;
}

static void use_memory(struct dirty *dirty, struct nibble *nibble, struct nibble_session **writers)
{
    dirty->nibble = nibble;
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        dirty->shards[i].writer = writers[i];
    }
    dirty->capacity_bytes = nibble->memory_bytes * CAPACITY_SHARE;
}

int dirty_open(struct dirty *dirty, uint64_t limit_bytes, uint64_t memory_bytes,
               uint64_t log_capacity)
{
    *dirty = (struct dirty){.keeps_clean = memory_bytes != 0, .range_bits = RANGE_BITS_MIN};
    uint64_t needed = limit_bytes + limit_bytes / 2 + 2;
    if (memory_bytes == 0) {
        memory_bytes = needed > (uint64_t)NIBBLE_MEMORY_MIN ? needed : (uint64_t)NIBBLE_MEMORY_MIN;
    }
    uint64_t most = memory_bytes * LIMIT_SHARE;
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
    struct nibble *nibble;
    struct nibble_session *writers[DIRTY_SHARDS];
    dirty->shards = aligned_alloc(64, DIRTY_SHARDS * sizeof *dirty->shards);
    dirty->ranges = calloc((size_t)1 << dirty->range_bits, sizeof *dirty->ranges);
    int status = dirty_blobs_open(&dirty->blobs, &dirty->lsns);
    if (dirty->shards == NULL || dirty->ranges == NULL || status != 0 ||
        open_memory(dirty->nibble_bytes, dirty->keeps_clean, &nibble, writers) != CUBBY_OK) {
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
    use_memory(dirty, nibble, writers);
    return CUBBY_OK;
}

static void close_own_memory(struct dirty *dirty)
{
    struct nibble_session *writers[DIRTY_SHARDS];
    for (size_t i = 0; i < DIRTY_SHARDS; i++) {
        writers[i] = dirty->shards[i].writer;
    }
    close_memory(dirty->nibble, writers);
}

void dirty_close(struct dirty *dirty)
{
    if (dirty->shards == NULL) {
        return;
    }
    close_own_memory(dirty);
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

static struct tail tail_of(uint64_t lsn, bool is_hot, bool is_tombstone, struct key_hash next)
{
    struct tail tail;
    store_u64(tail.bytes, lsn << 2 | (uint64_t)is_hot << 1 | is_tombstone);
    store_u64(tail.bytes + 8, next.low);
    store_u64(tail.bytes + 16, next.high);
    return tail;
}

static struct tail tail_of_entry(const struct dirty_entry *entry)
{
    return tail_of(entry->lsn, entry->is_hot, entry->is_tombstone, entry->next);
}

static void decode(const uint8_t *encoded, uint32_t encoded_size, struct block_pair *pair)
{
    bool decoded = block_pair_decode(encoded, encoded_size, pair);
    CUBBY_ASSERT(decoded);
}

/* Put what is dirty into a Nibble. There is room: it was reserved, and dirty pairs leave enough of
 * the memory for compaction to find it. */
static void put_dirty(struct nibble_session *writer, const struct key_hash *hash,
                      const uint8_t *encoded, uint32_t encoded_size, struct tail tail)
{
    uint8_t value[DIRTY_BUFFER_BYTES];
    struct nibble_key key = key_of(hash);
    CUBBY_ASSERT(encoded_size <= PAIR_INLINE_BYTES_MAX);
    memcpy(value, encoded, encoded_size);
    memcpy(value + encoded_size, tail.bytes, sizeof tail.bytes);
    int status = nibble_put(writer, &key, value, encoded_size + DIRTY_TAIL_BYTES, OBJECT_DIRTY,
                            NIBBLE_ALWAYS, 0);
    CUBBY_ASSERT(status == CUBBY_OK);
}

static int move_entry(struct dirty_entry *entry, void *state)
{
    struct nibble_session **writers = state;
    put_dirty(writers[shard_number(entry->hash)], &entry->hash, entry->encoded, entry->encoded_size,
              tail_of_entry(entry));
    return CUBBY_OK;
}

int dirty_resize(struct dirty *dirty, uint64_t capacity_bytes)
{
    uint64_t taken = atomic_load(&dirty->bytes);
    uint64_t capacity = capacity_bytes > taken ? capacity_bytes : taken;
    uint64_t memory_bytes = capacity + capacity / 3 + 4; /* of which it is a CAPACITY_SHARE */
    memory_bytes = memory_bytes > dirty->nibble_bytes ? memory_bytes : dirty->nibble_bytes;
    if (memory_bytes == dirty->nibble->memory_bytes) {
        return CUBBY_OK;
    }
    struct nibble *nibble;
    struct nibble_session *writers[DIRTY_SHARDS];
    int status = open_memory(memory_bytes, dirty->keeps_clean, &nibble, writers);
    if (status == CUBBY_OK) {
        status = dirty_each(dirty, move_entry, writers);
        close_own_memory(dirty);
        use_memory(dirty, nibble, writers);
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
    if (nibble_read(dirty->nibble, &wanted, buffer, DIRTY_BUFFER_BYTES, true, &read) != CUBBY_OK) {
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
    struct nibble_key key = key_of(&hash);
    (void)nibble_put(shard->writer, &key, pair->encoded, pair->encoded_size, 0, NIBBLE_IF_VERSION,
                     token);
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

/* Remember the blob of a dirty pair that is replaced, in blob, or free that. */
static void keep_blob(struct dirty *dirty, const struct dirty_entry *old,
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
}

bool dirty_peek_locked(const struct dirty *dirty, struct key_hash hash, struct dirty_entry *entry)
{
    struct nibble_key key = key_of(&hash);
    struct nibble_read read;
    if (nibble_read(dirty->nibble, &key, entry->encoded, sizeof entry->encoded, false, &read) !=
            CUBBY_OK ||
        !read.is_dirty) {
        return false;
    }
    entry->hash = hash;
    entry->encoded_size = (uint32_t)read.value_size - DIRTY_TAIL_BYTES;
    uint64_t tail = load_u64(entry->encoded + entry->encoded_size);
    entry->lsn = tail >> 2;
    entry->is_hot = (tail >> 1 & 1) != 0;
    entry->is_tombstone = (tail & 1) != 0;
    entry->next.low = load_u64(entry->encoded + entry->encoded_size + 8);
    entry->next.high = load_u64(entry->encoded + entry->encoded_size + 16);
    entry->blobs = dirty_blobs_newest(&dirty->blobs, hash);
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
    struct tail tail = tail_of_entry(entry);
    nibble_amend(dirty->nibble, &key, 0, tail.bytes, sizeof tail.bytes, OBJECT_DIRTY);
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
    struct dirty_entry old;
    bool replaces = dirty_peek_locked(dirty, new_pair->hash, &old);
    count_pair(dirty, new_pair->encoded_size, new_pair->is_tombstone, lsn);
    if (replaces) {
        CUBBY_ASSERT(old.lsn < lsn);
        keep_blob(dirty, &old, new_pair);
        uncount_entry(dirty, &old);
    } else {
        free(new_pair->blob);
    }
    bool is_hot = replaces && !new_pair->is_replayed;
    struct key_hash *range = range_of(dirty, new_pair->hash.low);
    struct key_hash next = replaces ? old.next : *range;
    put_dirty(dirty->shards[shard_number(new_pair->hash)].writer, &new_pair->hash,
              new_pair->encoded, new_pair->encoded_size,
              tail_of(lsn, is_hot, new_pair->is_tombstone, next));
    if (!replaces) {
        *range = new_pair->hash;
    }
}

void dirty_renew_locked(struct dirty *dirty, struct dirty_entry *entry, uint64_t lsn)
{
    lsn_counts_add(&dirty->lsns, lsn); /* first: something is needed all the time */
    lsn_counts_remove(&dirty->lsns, entry->lsn);
    dirty_blobs_drop(&dirty->blobs, entry->hash, UINT64_MAX);
    entry->blobs = NULL;
    entry->lsn = lsn;
    amend_tail(dirty, entry);
}

/* Forget an entry, and what it replaced. */
static void forget(struct dirty *dirty, const struct dirty_entry *entry)
{
    struct nibble_key key = key_of(&entry->hash);
    leave_list(dirty, entry);
    nibble_forget(dirty->nibble, &key);
    index_shrink(&dirty->nibble->index, entry->hash);
    dirty_blobs_drop(&dirty->blobs, entry->hash, UINT64_MAX);
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
    nibble_amend(dirty->nibble, &key, DIRTY_TAIL_BYTES, (const uint8_t *)"", 0, 0);
    dirty_blobs_drop(&dirty->blobs, entry->hash, UINT64_MAX);
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
            dirty_blobs_drop(&dirty->blobs, hash, lsn);
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
    return nibble_clean_ahead(dirty->nibble);
}
