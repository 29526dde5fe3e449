/* test_store_compact.c -- taking back what expired pairs and deletes have left.
 *
 * Depends on: expiry_fixture.h, gauged_device.h.
 */
#include "engine/store/space.h"
#include "tests/c/expiry_fixture.h"
#include "tests/c/gauged_device.h"

static void delete_number(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    CHECK_STATUS(fixture->session, cubby_delete(fixture->session, key, key_size), CUBBY_OK);
}

static void test_an_empty_store_is_looked_at_and_left_alone(void)
{
    struct fixture fixture;
    clock_open(&fixture, "mem:64M", CUBBY_CREATE, 0);
    struct cubby_compaction totals = compact_all(&fixture);
    CHECK_EQUAL(totals.segments, 1);
    CHECK_EQUAL(totals.rebuilt, 0);
    CHECK_EQUAL(totals.freed_bytes, 0);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_expired_pairs_go_and_their_space_comes_back(void)
{
    enum {
        PAIRS = 8000,
    };
    struct fixture fixture;
    clock_open(&fixture, "mem:512M", CUBBY_CREATE, 0);
    for (uint64_t i = 0; i < PAIRS; i++) {
        size_t size = i % 100 == 0 ? 70000 : i % 10 == 0 ? 3000 : 400;
        put_expiring(&fixture, i, 0, size, i % 4 == 0 ? 0 : 2000 + i % 4);
    }
    fixture_rest(&fixture);
    struct cubby_stat before = read_stat(&fixture);
    CHECK(before.segments > 4);
    CHECK_EQUAL(compact_all(&fixture).dropped_pairs, 0);

    atomic_store(&wall_now_ms, 2002); /* half of the pairs are expired now */
    struct cubby_compaction totals = compact_all(&fixture);
    struct cubby_stat after = read_stat(&fixture);
    CHECK_EQUAL(totals.segments, before.segments);
    CHECK_EQUAL(totals.rebuilt, before.segments);
    CHECK_EQUAL(totals.dropped_pairs, PAIRS / 2);
    CHECK_EQUAL(after.pairs, PAIRS / 2);
    CHECK(totals.freed_bytes > 0);
    CHECK(after.used_bytes < before.used_bytes);
    CHECK_EQUAL(after.quarantined_bytes, 0);
    for (uint64_t i = 0; i < PAIRS; i++) {
        if (i % 4 == 1 || i % 4 == 2) {
            expect_absent(&fixture, i);
        } else {
            expect_number(&fixture, i, 0, i % 100 == 0 ? 70000 : i % 10 == 0 ? 3000 : 400);
        }
    }
    fixture_check(&fixture);
    /* A second time there is nothing to be gained. */
    totals = compact_all(&fixture);
    CHECK_EQUAL(totals.rebuilt, 0);
    CHECK_EQUAL(totals.freed_bytes, 0);
    fixture_close(&fixture);
}

static void test_space_of_deleted_pairs_comes_back(void)
{
    enum {
        PAIRS = 6000,
    };
    struct fixture fixture;
    clock_open(&fixture, "mem:256M", CUBBY_CREATE, 0);
    for (uint64_t i = 0; i < PAIRS; i++) {
        put_number(&fixture, i, 0, 400);
    }
    for (uint64_t i = 0; i < PAIRS; i++) {
        if (i % 5 < 2) { /* not so many that deletes shrink the segments themselves */
            delete_number(&fixture, i);
        }
    }
    fixture_rest(&fixture);
    struct cubby_stat before = read_stat(&fixture);
    struct cubby_compaction totals = compact_all(&fixture);
    struct cubby_stat after = read_stat(&fixture);
    CHECK_EQUAL(totals.dropped_pairs, 0);
    CHECK(totals.rebuilt > 0);
    CHECK_EQUAL(totals.freed_bytes, before.used_bytes - after.used_bytes);
    CHECK(after.home_blocks * 10 < before.home_blocks * 8);
    for (uint64_t i = 0; i < PAIRS; i++) {
        if (i % 5 < 2) {
            expect_absent(&fixture, i);
        } else {
            expect_number(&fixture, i, 0, 400);
        }
    }
    fixture_check(&fixture);
    CHECK_EQUAL(compact_all(&fixture).freed_bytes, 0);
    fixture_close(&fixture);
}

/* Where nothing can be had, the expired pairs go from where they are. */
static void test_a_full_store_is_compacted(void)
{
    struct fixture fixture;
    struct cubby_options options = clock_options(CUBBY_CREATE);
    options.size_bytes = 1 << 20;
    atomic_store(&wall_now_ms, 1000);
    fixture_open(&fixture, fixture_path("full.cubby"), &options);
    uint64_t count = 0;
    int status;
    do { /* a blob now and then: then the rest of the space */
        uint64_t expires_ms = count % 3 == 0 ? 2000 : 0;
        status = try_put_expiring(&fixture, count, 0, count % 8 == 0 ? 9000 : 500, expires_ms);
        count += status == CUBBY_OK;
    } while (status == CUBBY_OK);
    CHECK_STATUS(fixture.session, status, CUBBY_FULL);
    for (uint64_t i = 0; try_put_expiring(&fixture, 100000 + i, 0, 1100, 0) == CUBBY_OK; i++) {
        count++;
    }
    CHECK_EQUAL(count_pairs(&fixture), count);
    CHECK_EQUAL(compact_all(&fixture).dropped_pairs, 0);
    atomic_store(&wall_now_ms, 2000);
    struct cubby_compaction totals = compact_all(&fixture);
    CHECK(totals.dropped_pairs > count / 5);
    CHECK(totals.rebuilt < totals.segments);
    CHECK_EQUAL(count_pairs(&fixture), count - totals.dropped_pairs);
    fixture_check(&fixture);
    put_number(&fixture, 200000, 0, 9000);
    CHECK_EQUAL(compact_all(&fixture).dropped_pairs, 0);
    CHECK_EQUAL(count_pairs(&fixture), count - totals.dropped_pairs + 1);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* At the last mark, where no put is taken any more. */
static void test_a_device_that_is_nearly_full_is_relieved(void)
{
    struct fixture fixture = {0};
    struct gauged_device *gauged = gauged_make("test");
    struct cubby_options options = clock_options(CUBBY_CREATE);
    /* Rebuilding takes space before it gives any back. */
    options.no_growth_percent = 87;
    options.read_delete_percent = 90;
    atomic_store(&wall_now_ms, 1000);
    CHECK_EQUAL(store_open_device(&gauged->device, "gauged", &options, &fixture.store,
                                  fixture.message, sizeof fixture.message),
                CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    uint64_t count = 0;
    int status;
    do {
        status = try_put_expiring(&fixture, count, 0, count % 10 == 0 ? 9000 : 400, 2000);
        count += status == CUBBY_OK;
    } while (status == CUBBY_OK);
    CHECK_STATUS(fixture.session, status, CUBBY_PHYSICAL_FULL);
    fixture_rest(&fixture); /* what is written back drops what is expired, too */
    atomic_store(&gauged->capacity_bytes, gauged_real_bytes(gauged) / 91 * 100);
    space_ask(fixture.store);
    CHECK_EQUAL(try_put_expiring(&fixture, 0, 1, 9000, 2000), CUBBY_PHYSICAL_FULL);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_READ_DELETE);
    atomic_store(&gauged->fails_when_full, true);
    atomic_store(&wall_now_ms, 2000);
    CHECK_EQUAL(compact_all(&fixture).dropped_pairs, count);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_NONE);
    put_number(&fixture, 1, 0, 9000);
    CHECK_EQUAL(count_pairs(&fixture), 1);
    fixture_check(&fixture);
    fixture_close(&fixture);
    gauged_free(gauged);
}

static void test_compacting_says_where_it_must_not(void)
{
    struct fixture fixture;
    const char *path = fixture_path("read.cubby");
    struct cubby_compaction totals = {0};
    uint64_t segment = 0;
    clock_open(&fixture, path, CUBBY_NEW, 0);
    put_number(&fixture, 1, 0, 10);
    segment = UINT64_MAX;
    CHECK_EQUAL(cubby_compact(fixture.session, &segment, &totals), CUBBY_NOT_FOUND);
    CHECK(segment == UINT64_MAX);
    fixture_close(&fixture);
    clock_open(&fixture, path, CUBBY_READ_ONLY_OPEN, 0);
    segment = 0;
    CHECK_EQUAL(cubby_compact(fixture.session, &segment, &totals), CUBBY_READ_ONLY);
    CHECK_EQUAL(segment, 0);
    CHECK_EQUAL(totals.segments, 0);
    fixture_close(&fixture);
}

int main(void)
{
    RUN(test_an_empty_store_is_looked_at_and_left_alone);
    RUN(test_expired_pairs_go_and_their_space_comes_back);
    RUN(test_space_of_deleted_pairs_comes_back);
    RUN(test_a_full_store_is_compacted);
    RUN(test_a_device_that_is_nearly_full_is_relieved);
    RUN(test_compacting_says_where_it_must_not);
    return 0;
}
