/* test_store_cache.c -- a store with a cache: what is read again costs no read, and what has
 * changed is never found as it was.
 */
#include <errno.h>

#include "blockdev/block_device.h"
#include "engine/nibble/nibble.h"
#include "engine/store/store.h"
#include "tests/c/store_fixture.h"

enum {
    MIB = 1 << 20,
    PAIRS = 2000,
};

static void open_cached(struct fixture *fixture, const char *path)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.size_bytes = 64 * MIB;
    options.memory_bytes = 24 * MIB;
    options.environment = repeatable_environment();
    fixture_open(fixture, path, &options);
}

static void fill(struct fixture *fixture, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        put_number(fixture, i, 0, 300);
    }
    fixture_rest(fixture);
}

/* Have a clean pair no longer in memory, as if it had been evicted. */
static void evict_number(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    struct key_hash hash = key_hash_of(key, key_size, fixture->store->hash_seed);
    const struct nibble_key nibble_key = {(const uint8_t *)&hash, sizeof hash, hash};
    nibble_forget(fixture->store->dirty.memory.nibble, &nibble_key);
}

/* What a get of each pair costs, of device reads. */
static uint64_t reads_of_all(struct fixture *fixture, uint64_t count, uint64_t version)
{
    uint64_t before = read_stat(fixture).get_home_reads;
    for (uint64_t i = 0; i < count; i++) {
        expect_number(fixture, i, version, 300);
    }
    return read_stat(fixture).get_home_reads - before;
}

static void test_what_is_read_again_costs_no_read(void)
{
    struct fixture fixture;
    open_cached(&fixture, "mem:256M");
    fill(&fixture, PAIRS);
    CHECK_EQUAL(read_stat(&fixture).dirty_pairs, 0);
    CHECK_EQUAL(reads_of_all(&fixture, PAIRS, 0), 0); /* what was written back stays */
    for (uint64_t i = 0; i < PAIRS; i++) {
        evict_number(&fixture, i);
    }
    CHECK_EQUAL(reads_of_all(&fixture, PAIRS, 0), PAIRS);
    CHECK(reads_of_all(&fixture, PAIRS, 0) < PAIRS / 100);
    struct cubby_stat stat = read_stat(&fixture);
    CHECK(stat.cache_hits > PAIRS * 99 / 100);
    CHECK(stat.cache_pairs > PAIRS * 99 / 100);
    CHECK(stat.cache_bytes <= stat.cache_limit_bytes);
    CHECK_EQUAL(stat.cache_limit_bytes, 24 * MIB);
    /* A blob is not cached, and what is absent is not either. */
    put_number(&fixture, PAIRS, 0, 5000);
    fixture_rest(&fixture);
    for (int i = 0; i < 2; i++) {
        uint64_t before = read_stat(&fixture).blocks_read;
        expect_number(&fixture, PAIRS, 0, 5000);
        expect_absent(&fixture, PAIRS + 1);
        CHECK(read_stat(&fixture).blocks_read >= before + 3);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_without_memory_there_is_no_cache(void)
{
    struct fixture fixture;
    fixture_create(&fixture, "mem:256M", 64 * MIB);
    fill(&fixture, 100);
    CHECK_EQUAL(reads_of_all(&fixture, 100, 0), 100);
    CHECK_EQUAL(reads_of_all(&fixture, 100, 0), 100);
    CHECK_EQUAL(read_stat(&fixture).cache_limit_bytes, 0);
    fixture_close(&fixture);
}

static void test_memory_that_is_too_little_is_named(void)
{
    const struct {
        uint64_t memory_bytes;
        uint64_t dirty_bytes;
    } wrong[] = {{1, 0}, {16 * MIB, 0}, {64 * MIB, 64 * MIB}, {64 * MIB, 49 * MIB}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct cubby_options options;
        cubby_options_init(&options);
        options.flags = CUBBY_CREATE;
        options.memory_bytes = wrong[i].memory_bytes;
        options.dirty_bytes = wrong[i].dirty_bytes;
        struct fixture fixture;
        const char *path = fixture_path("small.cubby");
        CHECK_EQUAL(fixture_try_open(&fixture, path, &options), CUBBY_BAD_ARGUMENT);
        CHECK(strstr(fixture.message, "16 MiB for a cache") != NULL);
        options.memory_bytes = 0;
        options.flags = 0;
        CHECK_EQUAL(fixture_try_open(&fixture, path, &options), ENOENT); /* nothing was made */
    }
}

/* Whatever changes a pair, the next look finds it so: at once, and when it has its place. */
static void test_what_has_changed_is_not_found_as_it_was(void)
{
    struct fixture fixture;
    open_cached(&fixture, "mem:256M");
    fill(&fixture, PAIRS);
    reads_of_all(&fixture, PAIRS, 0);
    for (uint64_t i = 0; i < PAIRS; i++) {
        uint8_t key[32];
        uint8_t value[300];
        size_t key_size = format_key(i, key);
        struct cubby_slice taken;
        switch (i % 5) {
        case 0:
            put_number(&fixture, i, 1, 300);
            break;
        case 1:
            CHECK_EQUAL(cubby_delete(fixture.session, key, key_size), CUBBY_OK);
            break;
        case 2:
            put_number(&fixture, i, 1, 4000); /* a blob */
            break;
        case 3:
            fill_value(i, 1, value, sizeof value);
            CHECK_EQUAL(put_on_condition(fixture.session, key, key_size, value, sizeof value,
                                         CUBBY_IF_PRESENT, NULL, 0),
                        CUBBY_OK);
            break;
        default:
            CHECK_EQUAL(cubby_take(fixture.session, key, key_size, &taken), CUBBY_OK);
        }
    }
    for (int pass = 0; pass < 3; pass++) {
        for (uint64_t i = 0; i < PAIRS; i++) {
            if (i % 5 == 1 || i % 5 == 4) {
                expect_absent(&fixture, i);
            } else {
                expect_number(&fixture, i, 1, i % 5 == 2 ? 4000 : 300);
            }
        }
        fixture_rest(&fixture);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* A device that lets somebody act while a read is under way. */
struct watched_device {
    struct block_device device;
    struct block_device *inner;
    void (*during_read)(void *state); /* once */
    void *state;
};

static struct watched_device *watched_of(struct block_device *device)
{
    return (struct watched_device *)(void *)device;
}

static int watched_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    struct watched_device *watched = watched_of(device);
    int status = watched->inner->ops->read(watched->inner, lba, count, buffer);
    void (*act)(void *) = watched->during_read;
    watched->during_read = NULL;
    if (act != NULL) {
        act(watched->state);
    }
    return status;
}

static int watched_write(struct block_device *device, uint64_t lba, size_t count,
                         const void *buffer)
{
    struct block_device *inner = watched_of(device)->inner;
    return inner->ops->write(inner, lba, count, buffer);
}

static int watched_flush(struct block_device *device)
{
    struct block_device *inner = watched_of(device)->inner;
    return inner->ops->flush(inner);
}

static int watched_discard(struct block_device *device, uint64_t lba, uint64_t count)
{
    struct block_device *inner = watched_of(device)->inner;
    return inner->ops->discard(inner, lba, count);
}

static int watched_usage(struct block_device *device, struct block_usage *usage)
{
    struct block_device *inner = watched_of(device)->inner;
    return inner->ops->usage(inner, usage);
}

static void watched_close(struct block_device *device)
{
    struct block_device *inner = watched_of(device)->inner;
    inner->ops->close(inner);
}

static const struct block_device_ops watched_ops = {
    .read = watched_read,
    .write = watched_write,
    .flush = watched_flush,
    .discard = watched_discard,
    .usage = watched_usage,
    .queue_open = blocking_queue_open,
    .close = watched_close,
};

/* Another thread's session changes the pair, and has it written to its place. */
static void change_meanwhile(void *state)
{
    struct fixture *other = state;
    put_number(other, 7, 1, 300);
    fixture_rest(other);
}

static void test_a_pair_that_changes_while_it_is_read_is_not_kept(void)
{
    static struct watched_device watched = {.device.ops = &watched_ops};
    CHECK_EQUAL(mem_device_open(65536, &watched.inner), 0);
    watched.device.geometry = watched.inner->geometry;
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.memory_bytes = 24 * MIB;
    struct fixture fixture;
    CHECK_EQUAL(store_open_device(&watched.device, "watched", &options, &fixture.store,
                                  fixture.message, sizeof fixture.message),
                CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    struct fixture other = {.store = fixture.store};
    CHECK_EQUAL(cubby_session_open(fixture.store, &other.session), CUBBY_OK);
    fill(&fixture, 100);
    watched.state = &other;
    for (int many = 0; many < 2; many++) {
        uint8_t key[32];
        uint32_t key_size = (uint32_t)format_key(7, key);
        size_t value_size;
        struct cubby_slice value;
        put_number(&fixture, 7, 0, 300);
        fixture_rest(&fixture);
        evict_number(&fixture, 7);
        watched.during_read = change_meanwhile;
        if (many == 0) {
            CHECK_EQUAL(cubby_get(fixture.session, key, key_size, &value), CUBBY_OK);
        } else {
            CHECK_EQUAL(cubby_get_many(fixture.session, 1, key, &key_size, &value, &value_size),
                        CUBBY_OK);
        }
        CHECK(watched.during_read == NULL); /* it was read */
        expect_number(&fixture, 7, 1, 300);
        expect_number(&other, 7, 1, 300);
    }
    cubby_session_close(other.session);
    fixture_close(&fixture);
}

/* A clock that the test sets. */
static uint64_t test_wall_ms = 1000000;

static uint64_t test_wall(void *state)
{
    (void)state;
    return test_wall_ms;
}

static void test_what_expires_in_the_cache_is_not_there(void)
{
    struct cubby_environment environment = *repeatable_environment();
    environment.wall_ms = test_wall;
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.memory_bytes = 24 * MIB;
    options.environment = &environment;
    struct fixture fixture;
    fixture_open(&fixture, "mem:256M", &options);
    const uint8_t *key = (const uint8_t *)"key";
    const struct cubby_put_options soon = {.expires_ms = test_wall_ms + 10};
    CHECK_EQUAL(cubby_put_with(fixture.session, key, 3, key, 3, &soon), CUBBY_OK);
    fixture_rest(&fixture);
    struct cubby_slice value;
    uint32_t key_size = 3;
    size_t value_size;
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(cubby_get(fixture.session, key, 3, &value), CUBBY_OK);
        CHECK_EQUAL(cubby_get_many(fixture.session, 1, key, &key_size, &value, &value_size),
                    CUBBY_OK);
        CHECK_EQUAL(value_size, 3);
    }
    CHECK(read_stat(&fixture).cache_hits > 0);
    test_wall_ms += 10;
    CHECK_EQUAL(cubby_get(fixture.session, key, 3, &value), CUBBY_NOT_FOUND);
    CHECK_EQUAL(cubby_get_many(fixture.session, 1, key, &key_size, &value, &value_size), CUBBY_OK);
    CHECK(value_size == SIZE_MAX);
    CHECK_EQUAL(cubby_put(fixture.session, key, 3, key, 2), CUBBY_OK);
    CHECK_EQUAL(cubby_get(fixture.session, key, 3, &value), CUBBY_OK);
    CHECK_EQUAL(value.size, 2);
    fixture_close(&fixture);
}

static void test_more_than_it_holds_is_evicted(void)
{
    struct fixture fixture;
    open_cached(&fixture, "mem:1G");
    const uint64_t count = 80000; /* of 300 bytes: 27 MB with what goes with them */
    fill(&fixture, count);
    reads_of_all(&fixture, count, 0);
    for (int i = 0; i < 3; i++) {
        reads_of_all(&fixture, 1000, 0); /* these are popular */
    }
    reads_of_all(&fixture, count, 0);
    CHECK(reads_of_all(&fixture, 1000, 0) < 500);
    struct cubby_stat stat = read_stat(&fixture);
    CHECK(stat.cache_evicted > 0);
    CHECK(stat.cache_bytes <= stat.cache_limit_bytes);
    fixture_close(&fixture);
}

int main(void)
{
    RUN(test_what_is_read_again_costs_no_read);
    RUN(test_without_memory_there_is_no_cache);
    RUN(test_memory_that_is_too_little_is_named);
    RUN(test_what_has_changed_is_not_found_as_it_was);
    RUN(test_a_pair_that_changes_while_it_is_read_is_not_kept);
    RUN(test_what_expires_in_the_cache_is_not_there);
    RUN(test_more_than_it_holds_is_evicted);
    return 0;
}
