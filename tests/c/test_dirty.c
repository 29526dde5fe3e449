/* test_dirty.c -- the buffer of dirty pairs against an array that knows what should be in it.
 *
 * Depends on: check.h, fuzz.h, dirty.h.
 */
#include "engine/store/dirty.h"

#include <pthread.h>

#include "engine/cubby.h"
#include "engine/nibble/nibble.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    KEYS = 400,
    LONG_KEYS = 40, /* of these, in no home block: known by their hash alone */
    LONG_KEY_BYTES = 300,
    STEPS = 60000,
    BLOBS_MAX = 64,
    LIMIT_BYTES = 1 << 20,
    MEMORY_BYTES = 32 << 20,
    LOG_BYTES = 50 << 20, /* more than what is needed ever spans; parts round it up */
    PART_BYTES = LOG_BYTES / 512,
    THREADS = 4,
};

/* A blob that was replaced, newest last. */
struct replaced {
    uint64_t lsn;
    uint64_t lba;
};

/* What should be known of a key. */
struct known {
    enum dirty_state state;
    uint64_t lsn;
    uint64_t lba; /* of its blob; 0: it is none */
    uint32_t encoded_size;
    bool is_hot;
    size_t blob_count;
    struct replaced blobs[BLOBS_MAX];
    uint32_t clean_size; /* encoded, of what is kept where it is not dirty; or 0 */
};

struct model {
    struct dirty dirty;
    struct known known[KEYS];
    uint64_t lsn; /* of the last record */
};

static size_t key_of(uint64_t number, uint8_t *key)
{
    if (number < LONG_KEYS) {
        memset(key, 'a' + (int)(number % 26), LONG_KEY_BYTES);
        memcpy(key, &number, sizeof number);
        return LONG_KEY_BYTES;
    }
    return (size_t)snprintf((char *)key, 32, "key %llu", (unsigned long long)number);
}

/* Not a hash of the key, so that segments fill evenly and some share most bits. */
static struct key_hash hash_of(uint64_t number)
{
    uint64_t state = number / 2 + 1;
    struct key_hash hash = {.low = random_next(&state)};
    hash.high = (number % 3 == 0 ? 0 : random_next(&state) << 16) | number;
    hash.low = number % 4 == 0 ? hash.low & 0xff : hash.low;
    return hash;
}

static uint64_t number_of(struct key_hash hash)
{
    return hash.high & 0xffff;
}

static uint64_t checksum_of_blob(uint64_t lba)
{
    return lba * 1000003;
}

/* The encoding of a pair, with a blob at lba or in line, or of a tombstone. */
static uint32_t encode(uint64_t number, uint64_t lba, bool is_tombstone, size_t value_size,
                       uint8_t *encoded)
{
    uint8_t key[LONG_KEY_BYTES];
    uint8_t value[512];
    memset(value, (int)(number + value_size), sizeof value);
    struct pair_content content = {
        .key = key,
        .key_size = (uint32_t)key_of(number, key),
        .value = value,
        .value_size = is_tombstone ? 0 : (uint32_t)value_size,
        .hash = hash_of(number),
        .is_blob = lba != 0 || number < LONG_KEYS,
        .blob_lba = lba,
        .blob_checksum = checksum_of_blob(lba),
    };
    if (content.is_blob && lba != 0) {
        content.value_size = 5000;
    }
    pair_encode(&content, encoded);
    return (uint32_t)pair_encoded_size(&content);
}

/* Mark the place, and insert, as one step. */
static void insert(struct dirty *dirty, const struct dirty_new *new_pair, uint64_t lsn)
{
    struct dirty_shard *shard = dirty_lock(dirty, new_pair->hash);
    CHECK_EQUAL(dirty_mark_locked(dirty, new_pair->hash), CUBBY_OK);
    dirty_insert_locked(dirty, new_pair, lsn);
    dirty_unlock(shard);
}

static void put(struct model *model, uint64_t number, uint64_t *random)
{
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    struct known *known = &model->known[number];
    bool is_tombstone = random_below(random, 4) == 0;
    bool is_blob = !is_tombstone && (number < LONG_KEYS || random_below(random, 3) == 0);
    model->lsn += 8 + random_below(random, 100) * 8;
    uint64_t lba = is_blob ? model->lsn : 0; /* one of its own */
    uint32_t size = encode(number, lba, is_tombstone, random_below(random, 400), encoded);
    struct key_hash hash = hash_of(number);
    const struct dirty_new new_pair = {
        .hash = hash,
        .encoded = encoded,
        .encoded_size = size,
        .is_tombstone = is_tombstone,
        .is_replayed = random_below(random, 8) == 0,
        .blob = malloc(sizeof *new_pair.blob),
    };
    CHECK(new_pair.blob != NULL);
    insert(&model->dirty, &new_pair, model->lsn);
    known->is_hot = known->state != DIRTY_NOT && !new_pair.is_replayed;
    known->clean_size = 0;
    if (known->lba != 0) {
        CHECK(known->blob_count < BLOBS_MAX);
        known->blobs[known->blob_count++] = (struct replaced){known->lsn, known->lba};
    }
    known->state = is_tombstone ? DIRTY_TOMBSTONE : DIRTY_PAIR;
    known->lsn = model->lsn;
    known->lba = lba;
    known->encoded_size = size;
}

static void forget(struct known *known)
{
    *known = (struct known){0};
}

/* What was written with some LSN is in its place. */
static void clean(struct model *model, uint64_t number, uint64_t lsn)
{
    struct known *known = &model->known[number];
    dirty_clean(&model->dirty, hash_of(number), lsn);
    if (known->state == DIRTY_NOT) {
        return;
    }
    if (known->lsn == lsn) {
        bool is_kept = model->dirty.keeps_clean && known->state == DIRTY_PAIR && known->lba == 0 &&
                       number >= LONG_KEYS;
        uint32_t clean_size = is_kept ? known->encoded_size : 0;
        forget(known);
        known->clean_size = clean_size;
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < known->blob_count; i++) {
        if (known->blobs[i].lsn > lsn) {
            known->blobs[kept++] = known->blobs[i];
        }
    }
    known->blob_count = kept;
}

static void renew(struct model *model, uint64_t number)
{
    struct known *known = &model->known[number];
    if (known->state == DIRTY_NOT) {
        return;
    }
    model->lsn += 64;
    struct dirty_entry entry;
    struct dirty_shard *shard = dirty_lock(&model->dirty, hash_of(number));
    CHECK(dirty_peek_locked(&model->dirty, hash_of(number), &entry));
    CHECK_EQUAL(entry.lsn, known->lsn);
    dirty_renew_locked(&model->dirty, &entry, model->lsn);
    CHECK(entry.lsn == model->lsn && entry.blobs == NULL);
    dirty_unlock(shard);
    known->lsn = model->lsn;
    known->blob_count = 0;
}

static void forget_blob(struct model *model, uint64_t number, uint64_t *random)
{
    struct known *known = &model->known[number];
    uint64_t lba = 12345; /* of nobody */
    size_t choice = random_below(random, (uint32_t)known->blob_count + 2);
    if (choice < known->blob_count) {
        lba = known->blobs[choice].lba;
    } else if (choice == known->blob_count && known->lba != 0) {
        lba = known->lba;
    }
    dirty_forget_blob(&model->dirty, hash_of(number), lba, checksum_of_blob(lba));
    if (known->state != DIRTY_NOT && known->lba == lba) {
        forget(known);
    } else if (choice < known->blob_count) {
        memmove(known->blobs + choice, known->blobs + choice + 1,
                (known->blob_count - choice - 1) * sizeof *known->blobs);
        known->blob_count--;
    }
}

static void remove_it(struct model *model, uint64_t number, uint64_t lsn)
{
    struct known *known = &model->known[number];
    bool is_there = known->state != DIRTY_NOT && known->lsn == lsn;
    CHECK_EQUAL(dirty_remove(&model->dirty, hash_of(number), lsn), is_there);
    if (is_there) {
        forget(known);
    }
}

static void check_key(struct model *model, uint64_t number)
{
    const struct known *known = &model->known[number];
    uint8_t key[LONG_KEY_BYTES];
    uint8_t buffer[DIRTY_BUFFER_BYTES];
    struct block_pair pair;
    dirty_token token;
    size_t key_size = key_of(number, key);
    struct key_hash hash = hash_of(number);
    enum dirty_state state = known->clean_size != 0 ? DIRTY_CLEAN : known->state;
    CHECK_EQUAL(dirty_find(&model->dirty, key, key_size, hash, buffer, &pair, &token), state);
    CHECK_EQUAL(dirty_find(&model->dirty, NULL, key_size, hash, buffer, &pair, &token), state);
    struct dirty_entry entry;
    if (known->state == DIRTY_NOT) {
        CHECK(known->clean_size == 0 || pair.encoded_size == known->clean_size);
        struct dirty_shard *shard = dirty_lock(&model->dirty, hash);
        CHECK(!dirty_peek_locked(&model->dirty, hash, &entry));
        dirty_unlock(shard);
        return;
    }
    CHECK_EQUAL(pair.encoded_size, known->encoded_size);
    CHECK(pair.encoded == buffer);
    CHECK_EQUAL(pair.is_blob && known->state == DIRTY_PAIR ? pair.blob_lba : 0, known->lba);
    struct dirty_shard *shard = dirty_lock(&model->dirty, hash);
    CHECK(dirty_peek_locked(&model->dirty, hash, &entry));
    CHECK(entry.lsn == known->lsn && entry.is_hot == known->is_hot);
    CHECK_EQUAL(entry.is_tombstone, state == DIRTY_TOMBSTONE);
    size_t count = 0;
    for (const struct dirty_blob *blob = entry.blobs; blob != NULL;
         blob = dirty_blobs_older(blob)) {
        count++;
        CHECK(count <= known->blob_count);
        const struct replaced *replaced = &known->blobs[known->blob_count - count];
        CHECK(blob->lba == replaced->lba && blob->lsn == replaced->lsn);
        CHECK(blob->checksum == checksum_of_blob(blob->lba));
    }
    CHECK_EQUAL(count, known->blob_count);
    dirty_unlock(shard);
}

struct visits {
    struct model *model;
    uint64_t number; /* of the segment */
    unsigned depth;
    uint64_t seen;
    uint64_t stop_at;
};

static int visit(struct dirty_entry *entry, void *state)
{
    struct visits *visits = state;
    uint64_t mask = (UINT64_C(1) << visits->depth) - 1;
    CHECK((entry->hash.low & mask) == visits->number);
    CHECK_EQUAL(visits->model->known[number_of(entry->hash)].lsn, entry->lsn);
    visits->seen++;
    return visits->seen == visits->stop_at ? CUBBY_EXISTS : CUBBY_OK;
}

/* A segment has the entries of its keys, each once, at any depth. */
static void check_segment(struct model *model, uint64_t number, unsigned depth)
{
    struct visits visits = {.model = model, .number = number, .depth = depth};
    uint64_t mask = (UINT64_C(1) << depth) - 1;
    uint64_t expected = 0;
    for (uint64_t i = 0; i < KEYS; i++) {
        expected += model->known[i].state != DIRTY_NOT && (hash_of(i).low & mask) == number;
    }
    CHECK_EQUAL(dirty_each_of_segment(&model->dirty, number, depth, visit, &visits), CUBBY_OK);
    CHECK_EQUAL(visits.seen, expected);
    if (expected > 1) {
        visits = (struct visits){
            .model = model, .number = number, .depth = depth, .stop_at = expected / 2};
        CHECK_EQUAL(dirty_each_of_segment(&model->dirty, number, depth, visit, &visits),
                    CUBBY_EXISTS);
        CHECK_EQUAL(visits.seen, expected / 2);
    }
}

static void check_sums(struct model *model, uint64_t *random)
{
    uint64_t count = 0;
    uint64_t bytes = 0;
    uint64_t put_bytes = 0;
    uint64_t oldest = UINT64_MAX;
    for (uint64_t i = 0; i < KEYS; i++) {
        const struct known *known = &model->known[i];
        if (known->state != DIRTY_NOT) {
            count++;
            bytes += dirty_entry_bytes(known->encoded_size);
            put_bytes += known->state == DIRTY_PAIR ? known->encoded_size : 0;
            oldest = known->lsn < oldest ? known->lsn : oldest;
            for (size_t b = 0; b < known->blob_count; b++) {
                oldest = known->blobs[b].lsn < oldest ? known->blobs[b].lsn : oldest;
            }
        }
    }
    CHECK_EQUAL(atomic_load(&model->dirty.count), count);
    CHECK_EQUAL(atomic_load(&model->dirty.bytes), bytes);
    CHECK_EQUAL(atomic_load(&model->dirty.put_bytes), put_bytes);
    uint64_t end = model->lsn + 8;
    uint64_t said = dirty_oldest_lsn(&model->dirty, 0, end);
    CHECK(said <= oldest && (said == end ? count == 0 : said + PART_BYTES > oldest));
    CHECK_EQUAL(dirty_oldest_lsn(&model->dirty, 0, 1), 1);
    for (int i = 0; i < 4; i++) {
        uint64_t lsn = i == 0 ? oldest : i == 1 ? oldest + 1 : random_next(random) % end;
        if (lsn <= end) {
            CHECK_EQUAL(dirty_needs_before(&model->dirty, 0, lsn), oldest < lsn);
        }
    }
}

static void step(struct model *model, uint64_t *random)
{
    uint64_t number = random_below(random, KEYS);
    struct known *known = &model->known[number];
    uint64_t choice = random_below(random, 100);
    if (choice < 55 && known->blob_count + 1 < BLOBS_MAX) {
        put(model, number, random);
    } else if (choice < 75) {
        clean(model, number, known->lsn); /* as it is, or not there */
    } else if (choice < 85) {             /* as it was */
        uint64_t lsn = known->blob_count > 0
                           ? known->blobs[random_below(random, (uint32_t)known->blob_count)].lsn
                           : known->lsn - 1;
        clean(model, number, lsn);
    } else if (choice < 90) {
        renew(model, number);
    } else if (choice < 95) {
        forget_blob(model, number, random);
    } else {
        remove_it(model, number, random_below(random, 2) == 0 ? known->lsn : known->lsn + 1);
    }
    check_key(model, number);
}

static void test_random_calls_do_what_an_array_does(void)
{
    static struct model model;
    static const uint64_t limits[] = {1, 1 << 16, LIMIT_BYTES};
    static const uint64_t memories[] = {0, MEMORY_BYTES, 0};
    for (size_t round = 0; round < 3; round++) {
        uint64_t random = round;
        memset(&model.known, 0, sizeof model.known);
        model.lsn = 0;
        CHECK_EQUAL(dirty_open(&model.dirty, limits[round], memories[round], LOG_BYTES), CUBBY_OK);
        for (unsigned i = 0; i < STEPS; i++) {
            step(&model, &random);
            if (i % 500 == 0) {
                check_sums(&model, &random);
                unsigned depth = (unsigned)random_below(&random, 33);
                uint64_t mask = (UINT64_C(1) << depth) - 1;
                check_segment(&model, hash_of(random_below(&random, KEYS)).low & mask, depth);
                check_segment(&model, 0, 0);
            }
        }
        for (uint64_t i = 0; i < KEYS; i++) {
            check_key(&model, i);
        }
        dirty_close(&model.dirty);
    }
    dirty_close(&model.dirty); /* allowed once more */
}

/* A split parts a segment's range of hashes: nothing is in both halves, or in none. */
static void test_the_halves_of_a_segment_have_what_it_had(void)
{
    static struct model model;
    uint64_t random = 7;
    CHECK_EQUAL(dirty_open(&model.dirty, LIMIT_BYTES, 0, LOG_BYTES), CUBBY_OK);
    for (uint64_t i = 0; i < KEYS; i++) {
        put(&model, i, &random);
    }
    for (unsigned depth = 0; depth < 12; depth++) {
        for (uint64_t number = 0; number < UINT64_C(1) << depth; number++) {
            struct visits whole = {.model = &model, .number = number, .depth = depth};
            struct visits low = {.model = &model, .number = number, .depth = depth + 1};
            struct visits high = low;
            high.number = number | UINT64_C(1) << depth;
            (void)dirty_each_of_segment(&model.dirty, number, depth, visit, &whole);
            (void)dirty_each_of_segment(&model.dirty, low.number, low.depth, visit, &low);
            (void)dirty_each_of_segment(&model.dirty, high.number, high.depth, visit, &high);
            CHECK_EQUAL(whole.seen, low.seen + high.seen);
        }
    }
    dirty_close(&model.dirty);
}

struct worker {
    struct dirty *dirty;
    uint64_t id;
    _Atomic uint64_t *lsn;
};

/* Put and clean keys of its own. */
static void *put_and_clean(void *argument)
{
    const struct worker *worker = argument;
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    uint8_t key[LONG_KEY_BYTES];
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t number = LONG_KEYS + (i % 80) * THREADS + worker->id;
        struct key_hash hash = hash_of(number);
        uint32_t size = encode(number, 0, false, i % 300, encoded);
        const struct dirty_new new_pair = {.hash = hash, .encoded = encoded, .encoded_size = size};
        struct dirty_shard *shard = dirty_lock(worker->dirty, hash);
        uint64_t lsn = atomic_fetch_add(worker->lsn, 8) + 8;
        CHECK_EQUAL(dirty_mark_locked(worker->dirty, hash), CUBBY_OK);
        dirty_insert_locked(worker->dirty, &new_pair, lsn);
        dirty_unlock(shard);
        uint8_t buffer[DIRTY_BUFFER_BYTES];
        struct block_pair pair;
        dirty_token token;
        size_t key_size = key_of(number, key);
        CHECK_EQUAL(dirty_find(worker->dirty, key, key_size, hash, buffer, &pair, &token),
                    DIRTY_PAIR);
        CHECK_EQUAL(pair.value_size, i % 300);
        CHECK(dirty_oldest_lsn(worker->dirty, 0, lsn + 8) <= lsn);
        if (i % 3 != 0) {
            dirty_clean(worker->dirty, hash, lsn);
            CHECK_EQUAL(dirty_find(worker->dirty, key, key_size, hash, buffer, &pair, &token),
                        DIRTY_NOT);
        }
    }
    return NULL;
}

static void test_threads_put_and_clean_at_once(void)
{
    struct dirty dirty;
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    _Atomic uint64_t lsn = 0;
    CHECK_EQUAL(dirty_open(&dirty, LIMIT_BYTES, 0, LOG_BYTES), CUBBY_OK);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){&dirty, i, &lsn};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, put_and_clean, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    CHECK(atomic_load(&dirty.count) < 80 * THREADS);
    dirty_close(&dirty);
}

/* A pair of some size, encoded, and its hash. */
static uint32_t encode_sized(uint64_t number, size_t value_size, uint8_t *encoded,
                             struct key_hash *hash)
{
    static const uint8_t zeros[PAIR_INLINE_BYTES_MAX];
    *hash = (struct key_hash){number * 0x9e3779b97f4a7c15, number * 0xd6e8feb86659fd93};
    struct pair_content content = {.key = (const uint8_t *)&number,
                                   .key_size = sizeof number,
                                   .value = zeros,
                                   .value_size = (uint32_t)value_size};
    pair_encode(&content, encoded);
    return (uint32_t)pair_encoded_size(&content);
}

/* Put a pair, if there is room for it. Returns whether there was. */
static bool put_sized(struct dirty *dirty, uint64_t number, size_t value_size, bool is_emergency,
                      uint64_t *lsn)
{
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    struct dirty_new new_pair = {.encoded = encoded};
    new_pair.encoded_size = encode_sized(number, value_size, encoded, &new_pair.hash);
    uint64_t bytes = dirty_entry_bytes(new_pair.encoded_size);
    if (!dirty_reserve(dirty, bytes, is_emergency)) {
        return false;
    }
    insert(dirty, &new_pair, *lsn += 8);
    dirty_unreserve(dirty, bytes);
    return true;
}

/* Look for a pair that is not there, and keep it as if the device had it. */
static void admit_sized(struct dirty *dirty, uint64_t number, size_t value_size)
{
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    uint8_t buffer[DIRTY_BUFFER_BYTES];
    struct key_hash hash;
    struct block_pair pair;
    struct block_pair found;
    dirty_token token;
    uint32_t size = encode_sized(number, value_size, encoded, &hash);
    CHECK(block_pair_decode(encoded, size, &pair));
    dirty_find(dirty, NULL, 0, hash, buffer, &found, &token);
    dirty_admit(dirty, hash, &pair, token);
}

/* What has been reserved has room, however much is put, in whatever order and sizes; also when it
 * moves to other memory. */
static void test_what_was_reserved_has_room(void)
{
    struct dirty dirty;
    CHECK_EQUAL(dirty_open(&dirty, LIMIT_BYTES, MEMORY_BYTES, LOG_BYTES), CUBBY_OK);
    CHECK(dirty.capacity_bytes > MEMORY_BYTES / 10 * 7);
    /* All writers may use all of it, also where the machine has several memory nodes. */
    CHECK_EQUAL(dirty.memory.nibble->segments.node_count, 1);
    CHECK(!dirty_reserve(&dirty, dirty.capacity_bytes + 1, true));
    CHECK(dirty_reserve(&dirty, LIMIT_BYTES + 1, false)); /* where there is nothing else */
    CHECK(!dirty_reserve(&dirty, 1, false));
    dirty_unreserve(&dirty, LIMIT_BYTES + 1);
    uint64_t lsn = 0;
    uint64_t random = 3;
    uint64_t refused = 0;
    for (uint64_t i = 0; i < 600000; i++) {
        /* Small pairs, then larger ones, then both. */
        uint64_t number = random_below(&random, 400000);
        size_t value_size = i < 200000 ? 8 : i < 300000 ? 700 : random_below(&random, 400);
        refused += !put_sized(&dirty, number, value_size, true, &lsn);
        if (i % 200000 == 199999) {
            CHECK_EQUAL(dirty_resize(&dirty, i == 199999 ? 2 * MEMORY_BYTES : 0), CUBBY_OK);
        }
    }
    CHECK(refused > 1000);
    CHECK(atomic_load(&dirty.bytes) > dirty.capacity_bytes / 10 * 9);
    dirty_close(&dirty);
}

/* One put of a large pair to nine looks for tiny ones that are not there; where the limit is
 * reached the oldest becomes clean. */
static void use_mixed(struct dirty *dirty, uint64_t count, uint64_t *lsn)
{
    enum { QUEUE = 1 << 17, NUMBERS = 3000000 };
    struct {
        uint64_t number;
        uint64_t lsn;
    } *queue = malloc(QUEUE * sizeof *queue);
    CHECK(queue != NULL);
    uint64_t first = 0;
    uint64_t end = 0;
    uint64_t random = 42;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = random_below(&random, NUMBERS);
        if (random_below(&random, 10) > 0) {
            admit_sized(dirty, number, 0);
            continue;
        }
        while (!put_sized(dirty, number, 980, false, lsn)) {
            uint8_t encoded[PAIR_INLINE_BYTES_MAX];
            struct key_hash hash;
            CHECK(first < end && end - first <= QUEUE);
            (void)encode_sized(queue[first % QUEUE].number, 0, encoded, &hash);
            dirty_clean(dirty, hash, queue[first % QUEUE].lsn);
            first++;
        }
        queue[end % QUEUE].number = number;
        queue[end % QUEUE].lsn = *lsn;
        end++;
    }
    free(queue);
}

/* Also where clean pairs of other sizes have had all of it: whether they fill the index, as tiny
 * ones do, or are a few in each segment. */
static void test_what_was_reserved_has_room_whatever_is_clean(void)
{
#ifdef CUBBY_SANITIZED
    static const uint64_t memories[] = {20 << 20};
#else
    static const uint64_t memories[] = {20 << 20, 40 << 20, 80 << 20};
#endif
    for (size_t round = 0; round < 2 * sizeof memories / sizeof memories[0]; round++) {
        struct dirty dirty;
        uint64_t memory = memories[round / 2];
        bool is_mixed = round % 2 == 1;
        uint64_t random = round;
        uint64_t lsn = 0;
        CHECK_EQUAL(dirty_open(&dirty, memory, memory, 16 * LOG_BYTES), CUBBY_OK);
        for (uint64_t i = 0; !is_mixed && i < memory / 60; i++) {
            admit_sized(&dirty, (1 << 30) + i, 4); /* more than there is room for */
        }
        if (is_mixed) {
            use_mixed(&dirty, memory / 30, &lsn);
        }
        uint64_t number = memory / 800;
        while (put_sized(&dirty, number, 900, true, &lsn)) {
            number++;
        }
        CHECK(atomic_load(&dirty.bytes) > dirty.capacity_bytes - 2000);
        for (uint64_t i = 0; i < number; i++) { /* and again, in other sizes */
            (void)put_sized(&dirty, random_below(&random, (uint32_t)number), 100 + i % 800, true,
                            &lsn);
        }
        dirty_close(&dirty);
    }
}

/* What was read from the device is kept only if its key has not changed since before that. */
static void test_only_what_has_not_changed_is_admitted(void)
{
    static struct model model;
    uint64_t random = 1;
    uint8_t key[LONG_KEY_BYTES];
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    uint8_t buffer[DIRTY_BUFFER_BYTES];
    struct block_pair pair;
    struct block_pair found;
    dirty_token token;
    CHECK_EQUAL(dirty_open(&model.dirty, LIMIT_BYTES, MEMORY_BYTES, LOG_BYTES), CUBBY_OK);
    for (uint64_t number = LONG_KEYS; number < KEYS; number++) {
        struct key_hash hash = hash_of(number);
        size_t key_size = key_of(number, key);
        uint32_t size = encode(number, 0, false, 100, encoded);
        CHECK(block_pair_decode(encoded, size, &pair));
        dirty_find(&model.dirty, key, key_size, hash, buffer, &found, &token);
        if (number % 2 == 0) {
            put(&model, number, &random);
            dirty_remove(&model.dirty, hash, model.lsn); /* it is as if nothing had been */
        }
        dirty_admit(&model.dirty, hash, &pair, token);
        CHECK_EQUAL(dirty_find(&model.dirty, key, key_size, hash, buffer, &found, &token),
                    number % 2 == 0 ? DIRTY_NOT : DIRTY_CLEAN);
    }
    dirty_close(&model.dirty);
}

int main(void)
{
    RUN(test_random_calls_do_what_an_array_does);
    RUN(test_the_halves_of_a_segment_have_what_it_had);
    RUN(test_threads_put_and_clean_at_once);
    RUN(test_what_was_reserved_has_room);
    RUN(test_what_was_reserved_has_room_whatever_is_clean);
    RUN(test_only_what_has_not_changed_is_admitted);
    return 0;
}
