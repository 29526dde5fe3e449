/* test_dirty.c -- the buffer of dirty pairs against an array that knows what should be in it.
 *
 * Depends on: check.h, fuzz.h, dirty.h.
 */
#include "engine/store/dirty.h"

#include <pthread.h>

#include "engine/cubby.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    KEYS = 400,
    LONG_KEYS = 40, /* of these, in no home block: known by their hash alone */
    LONG_KEY_BYTES = 300,
    STEPS = 60000,
    BLOBS_MAX = 64,
    LIMIT_BYTES = 1 << 20,
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
    uint64_t first_lsn;
    uint64_t lba; /* of its blob; 0: it is none */
    uint32_t encoded_size;
    bool is_hot;
    size_t blob_count;
    struct replaced blobs[BLOBS_MAX];
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
    struct key_hash hash = {.low = random_next(&state), .high = number};
    hash.low = number % 4 == 0 ? hash.low & 0xff : hash.low;
    return hash;
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
    struct dirty_entry *entry = dirty_entry_new(hash, encoded, size, is_tombstone);
    struct dirty_blob *blob = malloc(sizeof *blob);
    CHECK(entry != NULL && blob != NULL);
    struct dirty_shard *shard = dirty_lock(&model->dirty, hash);
    dirty_insert_locked(&model->dirty, shard, entry, model->lsn, blob);
    dirty_unlock(shard);
    known->is_hot = known->state != DIRTY_NOT;
    if (known->lba != 0) {
        CHECK(known->blob_count < BLOBS_MAX);
        known->blobs[known->blob_count++] = (struct replaced){known->lsn, known->lba};
    }
    known->first_lsn = known->blob_count > 0 ? known->first_lsn : model->lsn;
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
    uint8_t key[LONG_KEY_BYTES];
    size_t key_size = key_of(number, key);
    const uint8_t *in_block = number < LONG_KEYS ? NULL : key;
    dirty_clean(&model->dirty, hash_of(number), in_block, key_size, lsn);
    if (known->state == DIRTY_NOT) {
        return;
    }
    if (known->lsn == lsn) {
        forget(known);
        return;
    }
    size_t kept = 0;
    known->first_lsn = known->lsn;
    for (size_t i = 0; i < known->blob_count; i++) {
        if (known->blobs[i].lsn > lsn) {
            uint64_t blob_lsn = known->blobs[i].lsn;
            known->first_lsn = blob_lsn < known->first_lsn ? blob_lsn : known->first_lsn;
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
    uint8_t key[LONG_KEY_BYTES];
    size_t key_size = key_of(number, key);
    model->lsn += 64;
    struct dirty_shard *shard = dirty_lock(&model->dirty, hash_of(number));
    struct dirty_entry *entry = dirty_peek_locked(&model->dirty, key, key_size, hash_of(number));
    CHECK(entry != NULL && entry->lsn == known->lsn);
    dirty_renew_locked(shard, entry, model->lsn);
    dirty_unlock(shard);
    known->lsn = model->lsn;
    known->first_lsn = model->lsn;
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
    uint8_t buffer[PAIR_INLINE_BYTES_MAX];
    struct block_pair pair;
    size_t key_size = key_of(number, key);
    struct key_hash hash = hash_of(number);
    CHECK_EQUAL(dirty_find(&model->dirty, key, key_size, hash, buffer, &pair), known->state);
    CHECK_EQUAL(dirty_find(&model->dirty, NULL, key_size, hash, buffer, &pair), known->state);
    if (known->state == DIRTY_NOT) {
        return;
    }
    CHECK_EQUAL(pair.encoded_size, known->encoded_size);
    CHECK(pair.encoded == buffer);
    CHECK_EQUAL(pair.is_blob && known->state == DIRTY_PAIR ? pair.blob_lba : 0, known->lba);
    struct dirty_shard *shard = dirty_lock(&model->dirty, hash);
    const struct dirty_entry *entry = dirty_peek_locked(&model->dirty, key, key_size, hash);
    CHECK(entry->lsn == known->lsn && entry->is_hot == known->is_hot);
    CHECK(entry->first_lsn <= known->first_lsn); /* a forgotten blob may leave it too old */
    size_t count = 0;
    for (const struct dirty_blob *blob = entry->blobs; blob != NULL; blob = blob->next) {
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
    CHECK_EQUAL(visits->model->known[entry->hash.high].lsn, entry->lsn);
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

static void check_sums(struct model *model)
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
            oldest = known->first_lsn < oldest ? known->first_lsn : oldest;
        }
    }
    CHECK_EQUAL(atomic_load(&model->dirty.count), count);
    CHECK_EQUAL(atomic_load(&model->dirty.bytes), bytes);
    CHECK_EQUAL(atomic_load(&model->dirty.put_bytes), put_bytes);
    CHECK(dirty_oldest_lsn(&model->dirty, UINT64_MAX) <= oldest);
    CHECK_EQUAL(dirty_oldest_lsn(&model->dirty, 1), 1);
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
    for (size_t round = 0; round < 3; round++) {
        uint64_t random = round;
        memset(&model.known, 0, sizeof model.known);
        model.lsn = 0;
        CHECK_EQUAL(dirty_open(&model.dirty, limits[round]), CUBBY_OK);
        for (unsigned i = 0; i < STEPS; i++) {
            step(&model, &random);
            if (i % 500 == 0) {
                check_sums(&model);
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

/* A split parts a segment's range of buckets: nothing is in both halves, or in none. */
static void test_the_halves_of_a_segment_have_what_it_had(void)
{
    static struct model model;
    uint64_t random = 7;
    CHECK_EQUAL(dirty_open(&model.dirty, LIMIT_BYTES), CUBBY_OK);
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
        struct dirty_entry *entry = dirty_entry_new(hash, encoded, size, false);
        CHECK(entry != NULL);
        struct dirty_shard *shard = dirty_lock(worker->dirty, hash);
        uint64_t lsn = atomic_fetch_add(worker->lsn, 8) + 8;
        dirty_insert_locked(worker->dirty, shard, entry, lsn, NULL);
        dirty_unlock(shard);
        uint8_t buffer[PAIR_INLINE_BYTES_MAX];
        struct block_pair pair;
        size_t key_size = key_of(number, key);
        CHECK_EQUAL(dirty_find(worker->dirty, key, key_size, hash, buffer, &pair), DIRTY_PAIR);
        CHECK_EQUAL(pair.value_size, i % 300);
        CHECK(dirty_oldest_lsn(worker->dirty, UINT64_MAX) <= lsn);
        if (i % 3 != 0) {
            dirty_clean(worker->dirty, hash, key, key_size, lsn);
            CHECK_EQUAL(dirty_find(worker->dirty, key, key_size, hash, buffer, &pair), DIRTY_NOT);
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
    CHECK_EQUAL(dirty_open(&dirty, LIMIT_BYTES), CUBBY_OK);
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

int main(void)
{
    RUN(test_random_calls_do_what_an_array_does);
    RUN(test_the_halves_of_a_segment_have_what_it_had);
    RUN(test_threads_put_and_clean_at_once);
    return 0;
}
