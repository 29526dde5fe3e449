/* test_store_growth.c -- a store that grows from nothing and shrinks again, and what that costs.
 *
 * The counts of device reads, DRAM and rewritten bytes do not depend on the machine, so they are
 * asserted here. Under a sanitizer fewer pairs do.
 *
 * Depends on: store_fixture.h, engine/store/store.h.
 */
#include "engine/store/store.h"
#include "tests/c/store_fixture.h"

#ifdef CUBBY_SANITIZED
static const uint64_t pair_count = 30000;
#else
static const uint64_t pair_count = 300000;
#endif

enum {
    KEY_BYTES = 16,
};

static void open_with_fill(struct fixture *fixture, uint32_t fill_percent)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.fill_percent = fill_percent;
    options.environment = repeatable_environment();
    fixture_open(fixture, "mem:4G", &options);
}

/* Reads per get of every present key and of as many absent ones. */
static void check_reads(struct fixture *fixture, size_t value_size, double present_max)
{
    struct cubby_stat before = read_stat(fixture);
    for (uint64_t i = 0; i < pair_count; i++) {
        expect_number(fixture, i, 0, value_size);
    }
    struct cubby_stat present = read_stat(fixture);
    double gets = (double)(present.gets - before.gets);
    double reads =
        (double)(present.get_home_reads + present.get_spill_reads + present.get_retry_reads -
                 before.get_home_reads - before.get_spill_reads - before.get_retry_reads);
    CHECK_EQUAL(present.get_home_reads - before.get_home_reads, pair_count);
    CHECK(reads / gets <= present_max);
    for (uint64_t i = 0; i < pair_count; i++) {
        expect_absent(fixture, pair_count + i);
    }
    struct cubby_stat absent = read_stat(fixture);
    CHECK_EQUAL(absent.get_misses - present.get_misses, pair_count);
    CHECK((double)(absent.get_home_reads + absent.get_spill_reads - present.get_home_reads -
                   present.get_spill_reads) /
              (double)pair_count <=
          1.01);
}

static void grow(struct fixture *fixture, size_t value_size)
{
    for (uint64_t i = 0; i < pair_count; i++) {
        put_number(fixture, i, 0, value_size);
    }
    CHECK_EQUAL(count_pairs(fixture), pair_count);
    fixture_rest(fixture);
}

static void shrink(struct fixture *fixture)
{
    for (uint64_t i = 0; i < pair_count; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        CHECK_STATUS(fixture->session, cubby_delete(fixture->session, key, key_size), CUBBY_OK);
    }
    CHECK_EQUAL(count_pairs(fixture), 0);
    fixture_rest(fixture);
}

/* The figures of the store's design at one pair size and fill target. */
static void check_counts(size_t pair_size, uint32_t fill_percent, double reads_max,
                         double rebuilt_max, double dram_max)
{
    struct fixture fixture;
    open_with_fill(&fixture, fill_percent);
    size_t value_size = pair_size - KEY_BYTES;
    grow(&fixture, value_size);
    struct cubby_stat stat = read_stat(&fixture);
    double rebuilt = (double)stat.rebuilt_bytes / (double)stat.inserted_bytes;
    double dram = (double)(stat.directory_bytes + stat.bitmap_bytes) / (double)stat.pairs;
    printf("  %zu B at %u %%: %.2f B rebuilt per B, %.4f B of DRAM per pair\n", pair_size,
           fill_percent, rebuilt, dram);
    CHECK(rebuilt <= rebuilt_max);
    CHECK(dram <= dram_max);
    check_reads(&fixture, value_size, reads_max);
    fixture_check(&fixture);
    shrink(&fixture);
    fixture_check(&fixture);
    struct cubby_stat empty = read_stat(&fixture);
    CHECK_EQUAL(empty.pair_bytes, 0);
    /* Never merged, but each is as small as can be. Splits go ahead of what is dirty, deletes too.
     */
    uint64_t ahead = stat.dirty_limit_bytes * 100 / fill_percent / HOME_PAIR_BYTES;
    CHECK(empty.segments >= stat.segments);
    CHECK(empty.segments <= stat.segments + ahead / SEGMENT_HOME_MEAN + 1);
    CHECK_EQUAL(empty.home_blocks + empty.spill_blocks, empty.segments * 16);
    fixture_close(&fixture);
}

static void test_growth_and_shrinking_at_400_bytes_keep_to_the_figures(void)
{
    check_counts(400, 40, 1.02, 3.5, 0.05);
}

static void test_growth_at_fill_50_keeps_to_the_figures(void)
{
    check_counts(400, 50, 1.02, 3.5, 0.05);
}

static void test_growth_at_100_bytes_keeps_to_the_figures(void)
{
    check_counts(100, 40, 1.02, 3.5, 0.02); /* 0.01 from a million pairs on */
}

static void test_growth_at_50_bytes_keeps_to_the_figures(void)
{
    check_counts(50, 40, 1.02, 3.5, 0.02);
}

static void test_growth_at_1000_bytes_keeps_to_the_figures(void)
{
    check_counts(1000, 40, 1.03, 6.0, 0.10);
}

/* Keys in the scan's own order all fall into one segment for a long time. */
static void test_a_load_in_hash_order_finds_room_for_all(void)
{
    const uint64_t count = pair_count / 10;
    struct fixture source;
    struct fixture target;
    open_with_fill(&source, 40);
    open_with_fill(&target, 40); /* the same seed: the worst case */
    for (uint64_t i = 0; i < count; i++) {
        put_number(&source, i, 0, 200);
    }
    cubby_scan *scan;
    struct cubby_slice key;
    struct cubby_slice value;
    CHECK_EQUAL(cubby_scan_open(source.session, NULL, 0, NULL, &scan), CUBBY_OK);
    while (cubby_scan_next(scan, &key, &value) == CUBBY_OK) {
        CHECK_STATUS(target.session,
                     cubby_put(target.session, key.data, key.size, value.data, value.size),
                     CUBBY_OK);
    }
    cubby_scan_close(scan);
    CHECK_EQUAL(count_pairs(&target), count);
    for (uint64_t i = 0; i < count; i++) {
        expect_number(&target, i, 0, 200);
    }
    fixture_check(&target);
    fixture_close(&source);
    fixture_close(&target);
}

/* Each segment in turn outgrows the mean twenty times over before the next is touched. */
static void test_a_scan_that_makes_every_value_20_times_larger_sees_each_key_once(void)
{
    const uint64_t count = pair_count / 10;
    struct fixture fixture;
    open_with_fill(&fixture, 40);
    for (uint64_t i = 0; i < count; i++) {
        put_number(&fixture, i, 0, 48);
    }
    uint8_t *seen = calloc(count, 1);
    cubby_scan *scan;
    struct cubby_slice key;
    struct cubby_slice value;
    CHECK_EQUAL(cubby_scan_open(fixture.session, NULL, 0, NULL, &scan), CUBBY_OK);
    while (cubby_scan_next(scan, &key, &value) == CUBBY_OK) {
        uint64_t number = parse_key(key);
        CHECK(number < count);
        CHECK_EQUAL(seen[number]++, 0);
        CHECK_EQUAL(value.size, 48);
        put_number(&fixture, number, 1, 960);
    }
    cubby_scan_close(scan);
    for (uint64_t i = 0; i < count; i++) {
        CHECK_EQUAL(seen[i], 1);
        expect_number(&fixture, i, 1, 960);
    }
    free(seen);
    fixture_check(&fixture);
    fixture_rest(&fixture);
    struct cubby_stat stat = read_stat(&fixture);
    CHECK(stat.home_blocks <= 2 * 96 * stat.segments); /* splits have caught up */
    fixture_close(&fixture);
}

static void test_a_scan_goes_on_from_its_cursor_while_the_store_grows(void)
{
    const uint64_t count = 3000;
    struct fixture fixture;
    open_with_fill(&fixture, 40);
    for (uint64_t i = 0; i < count; i++) {
        put_number(&fixture, i, 0, 400);
    }
    uint8_t *seen = calloc(count, 1);
    uint8_t cursor[CUBBY_CURSOR_BYTES];
    bool begun = false;
    uint64_t added = count;
    int status = CUBBY_OK;
    while (status == CUBBY_OK) {
        cubby_scan *scan;
        struct cubby_slice key;
        struct cubby_slice value;
        CHECK_EQUAL(cubby_scan_open(fixture.session, NULL, 0, begun ? cursor : NULL, &scan),
                    CUBBY_OK);
        for (int i = 0; i < 7 && (status = cubby_scan_next(scan, &key, &value)) == CUBBY_OK; i++) {
            uint64_t number = parse_key(key);
            if (number < count) {
                CHECK_EQUAL(seen[number]++, 0);
            }
        }
        cubby_scan_cursor(scan, cursor);
        cubby_scan_close(scan);
        begun = true;
        for (int i = 0; i < 10 && added < 4 * count; i++) {
            put_number(&fixture, added++, 0, 400);
        }
    }
    CHECK_EQUAL(status, CUBBY_NOT_FOUND);
    for (uint64_t i = 0; i < count; i++) {
        CHECK_EQUAL(seen[i], 1);
    }
    free(seen);
    fixture_close(&fixture);
}

/* Returns how many pairs there are, after a look at every key, and at every value if asked to. */
static uint64_t scan_all(struct fixture *fixture, bool with_values)
{
    cubby_scan *scan;
    struct cubby_slice key;
    struct cubby_slice value;
    uint64_t count = 0;
    uint64_t sum = 0;
    CHECK_EQUAL(cubby_scan_open(fixture->session, NULL, 0, NULL, &scan), CUBBY_OK);
    while (cubby_scan_next(scan, &key, with_values ? &value : NULL) == CUBBY_OK) {
        sum += key.size < 32 ? parse_key(key) : 0;
        count++;
    }
    cubby_scan_close(scan);
    CHECK_EQUAL(sum, 99 * 100 / 2);
    return count;
}

static void test_a_scan_without_values_gives_all_keys_and_reads_no_blobs(void)
{
    struct fixture fixture;
    open_with_fill(&fixture, 40);
    for (uint64_t i = 0; i < 100; i++) {
        put_number(&fixture, i, 0, i % 2 == 0 ? 100 : 20000);
    }
    uint8_t long_key[5000]; /* in no home block: its blob has to be read */
    memset(long_key, 'k', sizeof long_key);
    CHECK_STATUS(fixture.session,
                 cubby_put(fixture.session, long_key, sizeof long_key, long_key, 10), CUBBY_OK);
    fixture_rest(&fixture);
    uint64_t before = read_stat(&fixture).blocks_read;
    CHECK_EQUAL(scan_all(&fixture, false), 101);
    uint64_t between = read_stat(&fixture).blocks_read;
    CHECK_EQUAL(scan_all(&fixture, true), 101);
    uint64_t after = read_stat(&fixture).blocks_read;
    const uint64_t blob_blocks = 50 * (20000 / CUBBY_BLOCK_BYTES + 1);
    CHECK((after - between) - (between - before) >= blob_blocks);
    fixture_close(&fixture);
}

/* Damage that a block's checksum does not tell: its list names a spill block that is not there. */
static void break_list(const cubby_store *store, uint64_t segment, bool of_last_home)
{
    struct block_device *device = store->device;
    struct segment_place place = directory_get(&store->directory, segment);
    uint64_t lba = segment_lba(store, place) + (of_last_home ? place.home_count - 1u : 0);
    uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    CHECK(block != NULL);
    CHECK_EQUAL(device->ops->read(device, lba, 1, block), 0);
    block_displaced_add(block, 1, UINT16_MAX);
    block_seal(block, block_lsn(block), lba, store->secret);
    CHECK_EQUAL(device->ops->write(device, lba, 1, block), 0);
    free(block);
}

static void test_a_scan_that_fails_in_a_segment_fails_there_again(void)
{
    for (int last = 0; last < 2; last++) {
        struct fixture fixture;
        fixture_open_flags(&fixture, "mem:256M", CUBBY_CREATE);
        for (uint64_t i = 0; i < 4000; i++) {
            put_number(&fixture, i, 0, 300);
        }
        fixture_rest(&fixture);
        CHECK(read_stat(&fixture).segments > 2);
        break_list(fixture.store, 1, last == 1);
        cubby_scan *scan;
        struct cubby_slice key;
        struct cubby_slice value;
        int status;
        CHECK_EQUAL(cubby_scan_open(fixture.session, NULL, 0, NULL, &scan), CUBBY_OK);
        while ((status = cubby_scan_next(scan, &key, &value)) == CUBBY_OK) {
            CHECK(parse_key(key) < 4000);
        }
        for (int i = 0; i < 3; i++) {
            CHECK_STATUS(fixture.session, status, CUBBY_CORRUPT);
            status = cubby_scan_next(scan, &key, &value);
        }
        cubby_scan_close(scan);
        fixture_close(&fixture);
    }
}

int main(void)
{
    RUN(test_growth_and_shrinking_at_400_bytes_keep_to_the_figures);
    RUN(test_growth_at_fill_50_keeps_to_the_figures);
    RUN(test_growth_at_100_bytes_keeps_to_the_figures);
    RUN(test_growth_at_50_bytes_keeps_to_the_figures);
    RUN(test_growth_at_1000_bytes_keeps_to_the_figures);
    RUN(test_a_load_in_hash_order_finds_room_for_all);
    RUN(test_a_scan_that_makes_every_value_20_times_larger_sees_each_key_once);
    RUN(test_a_scan_goes_on_from_its_cursor_while_the_store_grows);
    RUN(test_a_scan_without_values_gives_all_keys_and_reads_no_blobs);
    RUN(test_a_scan_that_fails_in_a_segment_fails_there_again);
    return 0;
}
