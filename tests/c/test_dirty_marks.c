/* test_dirty_marks.c -- the places of dirty pairs: their memory stays within what was lent for it,
 * and where there is none a mark fails, and nothing else.
 *
 * Depends on: check.h, fuzz.h, refused_memory.h, dirty.h, volimap.h.
 */
#include <errno.h>
#include <stdatomic.h>

#include "engine/cubby.h"
#include "engine/store/dirty.h"
#include "engine/volimap/volimap.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"
#include "tests/c/refused_memory.h"

enum {
#ifdef CUBBY_SANITIZED
    PLACES = 40000,
    STEPS = 60000,
#else
    PLACES = 300000,
    STEPS = 600000,
#endif
    MEMORY_BYTES = 64 << 20,
    LENT_STEP = 128 << 10,
    KEYS = 6000,
    REFUSED_ONE_IN = 3,
};

/* Memory ----------------------------------------------------------------------------------------
 */

static bool is_short; /* some of what is asked for is refused */

static bool is_refused(void)
{
    static uint64_t random = 1;
    return is_short && random_below(&random, REFUSED_ONE_IN) == 0;
}

/* Tests -----------------------------------------------------------------------------------------
 */

static void check_memory(struct dirty_marks *marks)
{
    struct volimap_memory memory;
    volimap_memory(marks->map, &memory);
    uint64_t lent = atomic_load(&marks->lent_bytes);
    CHECK(memory.taken_bytes <= lent);
    CHECK(lent < (uint64_t)DIRTY_MARKS_BYTES + atomic_load(&marks->count) * DIRTY_MARK_BYTES +
                     UINT64_C(3) * LENT_STEP);
}

/* Places come and go: all over, or range by range, as write-back cleans them. */
static void use_places(struct dirty_marks *marks, struct dirty_memory *memory, uint64_t *places,
                       size_t count, uint64_t *random)
{
    uint64_t found;
    for (size_t i = 0; i < count; i++) {
        places[i] = random_next(random);
        CHECK_EQUAL(dirty_marks_add(marks, memory, places[i], i, &found), CUBBY_OK);
        if (i % 16 == 0) {
            check_memory(marks);
        }
    }
    for (size_t i = 0; i < 2 * count; i++) {
        size_t number = random_below(random, (uint32_t)count);
        dirty_marks_remove(marks, memory, places[number]);
        places[number] = random_next(random);
        CHECK_EQUAL(dirty_marks_add(marks, memory, places[number], number, &found), CUBBY_OK);
        CHECK_EQUAL(dirty_marks_add(marks, memory, places[number], 0, &found), CUBBY_OK);
        CHECK_EQUAL(found, number);
        if (i % 16 == 0) {
            check_memory(marks);
        }
    }
    uint64_t some_places[DIRTY_MARKS_PIECE];
    uint64_t highs[DIRTY_MARKS_PIECE];
    for (uint64_t range = 0; range < 256; range++) {
        uint64_t first = range << 56;
        size_t some;
        while ((some = dirty_marks_range(marks, first, first | UINT64_MAX >> 8, some_places,
                                         highs)) > 0) {
            for (size_t i = 0; i < some; i++) {
                CHECK_EQUAL(places[highs[i]], some_places[i]);
                dirty_marks_remove(marks, memory, some_places[i]);
            }
            check_memory(marks);
        }
    }
    CHECK_EQUAL(atomic_load(&marks->count), 0);
}

static void test_memory_stays_within_what_was_lent(void)
{
    struct dirty_memory memory;
    struct dirty_marks marks;
    uint64_t random = 5;
    uint64_t *places = malloc(PLACES * sizeof *places);
    CHECK(places != NULL);
    CHECK_EQUAL(dirty_memory_open(&memory, MEMORY_BYTES, false), CUBBY_OK);
    CHECK_EQUAL(dirty_marks_open(&marks, &memory), CUBBY_OK);
    for (size_t count = 10; count <= PLACES; count *= 3) {
        use_places(&marks, &memory, places, count, &random);
    }
    dirty_marks_close(&marks);
    dirty_marks_close(&marks); /* allowed once more */
    dirty_memory_close(&memory);
    free(places);
}

struct keys {
    struct key_hash hashes[KEYS];
    uint64_t lsns[KEYS]; /* of dirty ones; 0: it is not */
    uint64_t dirty_count;
    uint64_t seen;
};

static int see(struct dirty_entry *entry, void *state)
{
    struct keys *keys = state;
    uint64_t number = entry->hash.high & 0xffff;
    CHECK(keys->lsns[number] != 0);
    CHECK_EQUAL(keys->lsns[number], entry->lsn);
    keys->seen++;
    return CUBBY_OK;
}

/* A visit meets all pairs. */
static void check_all(struct dirty *dirty, struct keys *keys)
{
    keys->seen = 0;
    CHECK_EQUAL(dirty_each(dirty, see, keys), CUBBY_OK);
    CHECK_EQUAL(keys->seen, keys->dirty_count);
    CHECK_EQUAL(atomic_load(&dirty->count), keys->dirty_count);
}

static bool put(struct dirty *dirty, struct keys *keys, uint64_t number, uint64_t lsn)
{
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    struct pair_content content = {
        .key = (const uint8_t *)&number,
        .key_size = sizeof number,
        .value = (const uint8_t *)"value",
        .value_size = 5,
        .hash = keys->hashes[number],
    };
    pair_encode(&content, encoded);
    const struct dirty_new new_pair = {
        .hash = keys->hashes[number],
        .encoded = encoded,
        .encoded_size = (uint32_t)pair_encoded_size(&content),
    };
    struct dirty_shard *shard = dirty_lock(dirty, new_pair.hash);
    is_short = true;
    int status = dirty_mark_locked(dirty, new_pair.hash);
    is_short = false;
    CHECK(status == CUBBY_OK || status == ENOMEM);
    if (status == CUBBY_OK && lsn % 16 == 0) {
        dirty_unmark_locked(dirty, new_pair.hash); /* the log has refused it */
        status = EIO;
    }
    if (status == CUBBY_OK) {
        dirty_insert_locked(dirty, &new_pair, lsn);
    }
    dirty_unlock(shard);
    return status == CUBBY_OK;
}

/* Where there is no memory a mark fails, or a place stays marked; no pair is lost, and what has
 * been left marked goes when there is memory again. */
static void test_where_there_is_no_memory_no_pair_is_lost(void)
{
    static struct keys keys;
    struct dirty dirty;
    uint64_t random = 11;
    uint64_t refused = 0;
    uint64_t bare = 0;
    CHECK_EQUAL(dirty_open(&dirty, 1 << 20, 0, 50 << 20), CUBBY_OK);
    for (uint64_t i = 0; i < KEYS; i++) {
        keys.hashes[i] = (struct key_hash){random_next(&random), random_next(&random) << 16 | i};
    }
    for (uint64_t step = 1; step <= STEPS; step++) {
        /* More and more, and then fewer and fewer. */
        bool grows = step / (10 * KEYS) % 2 == 0;
        uint64_t number = random_below(&random, KEYS);
        if (random_below(&random, 8) < (grows ? 6 : 2)) {
            bool done = put(&dirty, &keys, number, 8 * step);
            keys.dirty_count += done && keys.lsns[number] == 0;
            keys.lsns[number] = done ? 8 * step : keys.lsns[number];
            refused += !done && step % 2 != 0;
        } else if (keys.lsns[number] != 0) {
            is_short = true;
            dirty_clean(&dirty, keys.hashes[number], keys.lsns[number]);
            is_short = false;
            keys.lsns[number] = 0;
            keys.dirty_count--;
        }
        bare += atomic_load(&dirty.marks.count) > keys.dirty_count;
        if (step % 5000 == 0) {
            is_short = step % 10000 == 0;
            check_all(&dirty, &keys);
            is_short = false;
            CHECK(step % 10000 == 0 || atomic_load(&dirty.marks.count) == keys.dirty_count);
        }
    }
    CHECK(refused > 0 && bare > 0);
    dirty_close(&dirty);
}

int main(void)
{
    RUN(test_memory_stays_within_what_was_lent);
    RUN(test_where_there_is_no_memory_no_pair_is_lost);
    return 0;
}
