/* test_store_invariants.c -- what the device must never see, whatever threads do.
 *
 * The store runs on a device that watches: no two writes of one block are under way at once (I9),
 * and no block is read after it was discarded and before it was written again (I8: neither by a
 * reader that is late, nor by the store itself). No block of a segment is written with an LSN up to
 * which the log has not been flushed (I5). The order of writes within one sweep is watched too, and
 * that no spill block loses a pair that a home on the device lists (I21).
 *
 * Depends on: expiry_fixture.h.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "blockdev/block_device.h"
#include "engine/base/bytes.h"
#include "engine/store/disk_format.h"
#include "engine/store/store.h"
#include "tests/c/expiry_fixture.h"

enum {
    BLOCKS = 65536,
    THREADS = 4,
    ROUNDS = 3000,
    LOG_MAX = 64,
};

struct watching_device {
    struct block_device device;
    struct block_device *memory;
    _Atomic uint8_t writing[BLOCKS];
    _Atomic uint8_t discarded[BLOCKS];
    _Atomic uint64_t discard_count;
    uint64_t hash_seed; /* of the store, once it is open */
    _Atomic uint64_t spill_checks;
    _Atomic uint64_t log_written; /* LSN up to which records have been written */
    _Atomic uint64_t log_flushed; /* as of the begin of the last flush that has ended */
    _Atomic uint64_t lsn_checks;
    bool logging;
    size_t log_count;
    uint8_t log[LOG_MAX]; /* roles of single blocks of segments, in the order written */
};

static struct watching_device *watching_of(struct block_device *device)
{
    return (struct watching_device *)(void *)device;
}

static int watch_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    struct watching_device *watching = watching_of(device);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(atomic_load(&watching->discarded[lba + i]), 0);
    }
    int status = watching->memory->ops->read(watching->memory, lba, count, buffer);
    sched_yield();
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(atomic_load(&watching->discarded[lba + i]), 0);
    }
    return status;
}

static bool spill_holds(const uint8_t *spill, uint32_t home_index, uint16_t fingerprint,
                        uint64_t hash_seed)
{
    uint32_t home_count = block_identity_of(spill).home_count;
    size_t offset = 0;
    struct block_pair pair;
    while (block_next(spill, &offset, &pair) == CUBBY_OK) {
        struct key_hash hash = block_pair_hash(&pair, hash_seed);
        if (key_hash_fingerprint(hash) == fingerprint &&
            key_hash_home(hash, home_count) == home_index) {
            return true;
        }
    }
    return false;
}

/* A spill block is about to be written: it has all that the homes on the device list of it. Its
 * writer has the segment's lock, so that they stay as they are. */
static void check_spill(struct watching_device *watching, uint64_t lba, const uint8_t *spill)
{
    struct block_identity identity = block_identity_of(spill);
    uint64_t first = lba - identity.block_index;
    uint8_t *home = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    CHECK(home != NULL);
    for (uint32_t i = 0; i < identity.home_count; i++) {
        CHECK_EQUAL(watching->memory->ops->read(watching->memory, first + i, 1, home), 0);
        for (uint32_t entry = 0; entry < block_displaced_count(home); entry++) {
            if (block_displaced_spill(home, entry) == identity.block_index - identity.home_count) {
                CHECK(spill_holds(spill, i, block_displaced_fingerprint(home, entry),
                                  watching->hash_seed));
                atomic_fetch_add(&watching->spill_checks, 1);
            }
        }
    }
    free(home);
}

static void raise_to(_Atomic uint64_t *value, uint64_t least)
{
    uint64_t now = atomic_load(value);
    while (now < least && !atomic_compare_exchange_weak(value, &now, least)) {
    }
}

/* The LSN behind a log block's last record. */
static uint64_t end_of_log_block(const uint8_t *block)
{
    uint64_t lsn = load_u64(block + 24);
    uint32_t offset = LOG_HEADER_BYTES;
    while (offset + LOG_RECORD_HEADER_BYTES <= BLOCK_BYTES && load_u16(block + offset + 8) != 0) {
        offset += load_u16(block + offset + 8);
    }
    return lsn + offset;
}

/* What is written has landed: is it the log, or does the log have it already? */
static void watch_lsn(struct watching_device *watching, const uint8_t *block, bool has_landed)
{
    if (load_u32(block + 8) == LOG_MAGIC && load_u32(block + 24) != BLOCK_MAGIC) {
        if (has_landed) {
            raise_to(&watching->log_written, end_of_log_block(block));
        }
    } else if (load_u32(block + 24) == BLOCK_MAGIC && !has_landed &&
               atomic_load(&watching->log_written) > 0) { /* a new store's segment precedes it */
        CHECK(block_lsn(block) <= atomic_load(&watching->log_flushed));
        atomic_fetch_add(&watching->lsn_checks, 1);
    }
}

static int watch_write(struct block_device *device, uint64_t lba, size_t count, const void *buffer)
{
    struct watching_device *watching = watching_of(device);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(atomic_exchange(&watching->writing[lba + i], 1), 0);
        atomic_store(&watching->discarded[lba + i], 0);
    }
    const uint8_t *block = buffer;
    if (count == 1 && load_u32(block + 24) == BLOCK_MAGIC && !block_is_home(block)) {
        check_spill(watching, lba, block);
    }
    if (watching->logging && count == 1 && load_u32(block + 24) == BLOCK_MAGIC) {
        CHECK(watching->log_count < LOG_MAX);
        watching->log[watching->log_count++] = block[36];
    }
    for (size_t i = 0; i < count; i++) {
        watch_lsn(watching, block + i * BLOCK_BYTES, false);
    }
    int status = watching->memory->ops->write(watching->memory, lba, count, buffer);
    sched_yield();
    for (size_t i = 0; i < count; i++) {
        watch_lsn(watching, block + i * BLOCK_BYTES, true);
        CHECK_EQUAL(atomic_exchange(&watching->writing[lba + i], 0), 1);
    }
    return status;
}

static int watch_flush(struct block_device *device)
{
    struct watching_device *watching = watching_of(device);
    uint64_t written = atomic_load(&watching->log_written);
    int status = watching->memory->ops->flush(watching->memory);
    sched_yield();
    raise_to(&watching->log_flushed, written);
    return status;
}

static int watch_discard(struct block_device *device, uint64_t lba, uint64_t count)
{
    struct watching_device *watching = watching_of(device);
    for (uint64_t i = 0; i < count; i++) {
        CHECK_EQUAL(atomic_load(&watching->writing[lba + i]), 0);
        atomic_store(&watching->discarded[lba + i], 1);
    }
    atomic_fetch_add(&watching->discard_count, count);
    return watching->memory->ops->discard(watching->memory, lba, count);
}

static int watch_resize(struct block_device *device, uint64_t count)
{
    struct watching_device *watching = watching_of(device);
    return watching->memory->ops->resize(watching->memory, count);
}

static int watch_usage(struct block_device *device, struct block_usage *usage)
{
    (void)device;
    *usage = (struct block_usage){.source = "none"};
    return 0;
}

static void watch_close(struct block_device *device)
{
    struct watching_device *watching = watching_of(device);
    watching->memory->ops->close(watching->memory);
    free(watching);
}

static struct watching_device *open_watched(struct fixture *fixture)
{
    static const struct block_device_ops ops = {
        .read = watch_read,
        .write = watch_write,
        .flush = watch_flush,
        .discard = watch_discard,
        .resize = watch_resize,
        .usage = watch_usage,
        .queue_open = blocking_queue_open,
        .close = watch_close,
    };
    struct watching_device *watching = calloc(1, sizeof *watching);
    CHECK(watching != NULL);
    CHECK_EQUAL(mem_device_open(BLOCKS, &watching->memory), 0);
    watching->device.ops = &ops;
    watching->device.geometry = watching->memory->geometry;
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.environment = clock_environment();
    options.dirty_bytes = 16 << 10; /* so that much is written back */
    *fixture = (struct fixture){0};
    CHECK_EQUAL(store_open_device(&watching->device, "watched", &options, &fixture->store,
                                  fixture->message, sizeof fixture->message),
                CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture->store, &fixture->session), CUBBY_OK);
    watching->hash_seed = fixture->store->hash_seed;
    /* What creating has discarded and recovery would read is no concern here. */
    for (size_t i = 0; i < BLOCKS; i++) {
        atomic_store(&watching->discarded[i], 0);
    }
    return watching;
}

static void *work(void *argument)
{
    struct fixture fixture = {.store = argument};
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    static _Atomic uint64_t next_seed;
    uint64_t random = atomic_fetch_add(&next_seed, 1);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t number = random_next(&random) % 3000;
        uint64_t choice = random_next(&random) % 100;
        uint8_t key[32];
        size_t key_size = format_key(number, key);
        struct cubby_slice value;
        if (choice < 50) {
            put_number(&fixture, number, 0, choice == 0 ? 20000 : number % 900);
        } else if (choice < 70) {
            int status = cubby_delete(fixture.session, key, key_size);
            CHECK(status == CUBBY_OK || status == CUBBY_NOT_FOUND);
        } else if (choice < 99) {
            int status = cubby_get(fixture.session, key, key_size, &value);
            CHECK(status == CUBBY_OK || status == CUBBY_NOT_FOUND);
        } else {
            CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
        }
    }
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_no_block_is_written_twice_at_once_or_read_after_its_discard(void)
{
    struct fixture fixture;
    struct watching_device *watching = open_watched(&fixture);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work, fixture.store), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    fixture_check(&fixture);
    fixture_rest(&fixture);
    CHECK(atomic_load(&watching->discard_count) > 0);
    CHECK(atomic_load(&watching->lsn_checks) > 1000);
    fixture_close(&fixture);
}

static void test_held_space_is_discarded_only_by_a_checkpoint(void)
{
    struct fixture fixture;
    struct watching_device *watching = open_watched(&fixture);
    uint64_t before = atomic_load(&watching->discard_count);
    for (uint64_t i = 0; read_stat(&fixture).rebuilds < 3; i++) {
        put_number(&fixture, i, 0, 400);
    }
    CHECK(read_stat(&fixture).quarantined_bytes > 0);
    CHECK_EQUAL(atomic_load(&watching->discard_count), before);
    fixture_rest(&fixture);
    CHECK_EQUAL(read_stat(&fixture).quarantined_bytes, 0);
    CHECK(atomic_load(&watching->discard_count) > before);
    fixture_close(&fixture);
}

/* A pair that does not fit at home is in its spill block before its home lists it. */
static void test_a_displaced_pair_is_written_to_spill_before_home(void)
{
    struct fixture fixture;
    struct watching_device *watching = open_watched(&fixture);
    unsigned displaced = 0;
    for (uint64_t i = 0; displaced < 5; i++) {
        CHECK(i < 20000);
        watching->logging = true;
        watching->log_count = 0;
        put_number(&fixture, i, 0, 400);
        CHECK_EQUAL(count_pairs(&fixture), i + 1); /* writes it back */
        watching->logging = false;
        if (watching->log_count == 2) {
            CHECK_EQUAL(watching->log[0], BLOCK_ROLE_SPILL);
            CHECK_EQUAL(watching->log[1], BLOCK_ROLE_HOME);
            displaced++;
        } else {
            CHECK(watching->log_count <= 1); /* one write, or one rebuild */
        }
        expect_number(&fixture, i, 0, 400);
    }
    fixture_close(&fixture);
}

/* Displaced pairs are changed, moved and deleted like any other. */
static void test_displaced_pairs_can_be_replaced_and_deleted(void)
{
    struct fixture fixture;
    struct watching_device *watching = open_watched(&fixture);
    uint64_t displaced[20];
    size_t count = 0;
    uint64_t next = 0;
    for (; count < 20; next++) {
        watching->logging = true;
        watching->log_count = 0;
        put_number(&fixture, next, 0, 400);
        CHECK_EQUAL(count_pairs(&fixture), next + 1);
        watching->logging = false;
        if (watching->log_count == 2) {
            displaced[count++] = next;
        }
    }
    static const size_t sizes[] = {400, 10, 900, 0, 500, 2000, 30};
    for (size_t round = 0; round < sizeof sizes / sizeof *sizes; round++) {
        for (size_t i = 0; i < count; i++) {
            put_number(&fixture, displaced[i], round, sizes[round]);
            expect_number(&fixture, displaced[i], round, sizes[round]);
        }
        fixture_check(&fixture);
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t key[32];
        size_t key_size = format_key(displaced[i], key);
        CHECK_STATUS(fixture.session, cubby_delete(fixture.session, key, key_size), CUBBY_OK);
        expect_absent(&fixture, displaced[i]);
    }
    fixture_check(&fixture);
    CHECK_EQUAL(count_pairs(&fixture), next - count);
    fixture_close(&fixture);
}

static void test_expired_pairs_leave_a_spill_block_after_no_home_lists_them(void)
{
    struct fixture fixture;
    struct watching_device *watching = open_watched(&fixture);
    uint64_t random = 1;
    for (unsigned i = 0; i < 12000; i++) {
        uint64_t now = atomic_fetch_add(&wall_now_ms, 1);
        uint64_t expires_ms = i % 8 < 3 ? 0 : now + 1 + random_next(&random) % 1500;
        put_expiring(&fixture, random_next(&random) % 1500, i, 100 + random_next(&random) % 400,
                     expires_ms);
        if (i % 2000 == 0) {
            fixture_check(&fixture);
            compact_all(&fixture);
        }
    }
    CHECK(atomic_load(&watching->spill_checks) > 200);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

int main(void)
{
    RUN(test_expired_pairs_leave_a_spill_block_after_no_home_lists_them);
    RUN(test_no_block_is_written_twice_at_once_or_read_after_its_discard);
    RUN(test_held_space_is_discarded_only_by_a_checkpoint);
    RUN(test_a_displaced_pair_is_written_to_spill_before_home);
    RUN(test_displaced_pairs_can_be_replaced_and_deleted);
    return 0;
}
