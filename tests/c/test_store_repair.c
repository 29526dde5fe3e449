/* test_store_repair.c -- damage that comes over a store while it is open, and damage of its log.
 *
 * Depends on: damaged_store.h, store.h.
 */
#include <pthread.h>
#include <sys/wait.h>

#include "engine/store/store.h"
#include "tests/c/damaged_store.h"

/* A sample store, open to write, and in use. */
static const char *open_sample(struct fixture *fixture, const char *name)
{
    const char *path = fixture_path(name);
    sample_make(path);
    fixture_open_flags(fixture, path, 0);
    put_number(fixture, 0, 0, sample_size(0));
    CHECK_STATUS(fixture->session, cubby_sync(fixture->session), CUBBY_OK);
    fixture_check(fixture); /* nothing is dirty now */
    return path;
}

/* Everything is as it was, now and after reopening. */
static void expect_all(struct fixture *fixture, const char *path)
{
    fixture_check(fixture);
    CHECK_EQUAL(sample_count_readable(fixture), SAMPLE_PAIRS);
    put_number(fixture, 5, 0, sample_size(5));
    fixture_close(fixture);
    fixture_open_flags(fixture, path, 0);
    fixture_check(fixture);
    CHECK_EQUAL(sample_count_readable(fixture), SAMPLE_PAIRS);
    fixture_close(fixture);
}

static void test_either_superblock_is_written_anew_from_memory(void)
{
    for (unsigned damaged = 1; damaged <= 3; damaged++) {
        struct fixture fixture;
        const char *path = open_sample(&fixture, "superblock.cubby");
        for (uint64_t lba = 0; lba < SUPERBLOCK_COUNT; lba++) {
            if ((damaged >> lba & 1) != 0) {
                flip_bit(path, lba, 300);
            }
        }
        uint64_t lba = damaged == 2 ? 1 : 0;
        CHECK_EQUAL(expect_damage(&fixture, lba, "checksum"), damaged == 3 ? 2 : 1);
        expect_repair(&fixture,
                      lba == 1 ? "superblock 1 was written anew" : "superblock 0 was written anew");
        expect_all(&fixture, path);
    }
}

static void test_a_superblock_that_was_not_written_is_named_and_written(void)
{
    struct fixture fixture;
    const char *path = open_sample(&fixture, "lost.cubby");
    struct image before;
    image_read(&before, path);
    uint64_t lba = fixture.store->super.generation % SUPERBLOCK_COUNT;
    uint8_t *block = image_at(&before, lba);
    store_u64(block + 136, load_u64(block + 136) + 8);
    image_seal_superblock(&before, lba);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(pwrite(fd, block, BLOCK_BYTES, (off_t)(lba * BLOCK_BYTES)), BLOCK_BYTES);
    CHECK_EQUAL(close(fd), 0);
    free(before.bytes);
    CHECK_EQUAL(expect_damage(&fixture, lba, "written last"), 1);
    expect_repair(&fixture, "was written anew");
    expect_all(&fixture, path);
}

static void test_a_damaged_checkpoint_is_replaced(void)
{
    struct fixture fixture;
    const char *path = open_sample(&fixture, "checkpoint.cubby");
    const struct superblock *super = &fixture.store->super;
    uint64_t lba = extent_lba(&fixture.store->extents, super->runs[0].first_extent);
    flip_bit(path, lba, 300);
    CHECK_EQUAL(expect_damage(&fixture, lba, "checkpoint block 0"), 1);
    expect_repair(&fixture, "new checkpoint");
    expect_all(&fixture, path);
}

static void test_counts_are_corrected(void)
{
    struct fixture fixture;
    const char *path = open_sample(&fixture, "counts.cubby");
    atomic_fetch_add(&fixture.store->pair_count, 5);
    atomic_fetch_add(&fixture.store->blob_count, 1);
    directory_set_payload(&fixture.store->directory, 1, 7);
    CHECK_EQUAL(expect_damage(&fixture, 0, "but counts 425"), 2);
    expect_repair(&fixture, "now counts 420");
    CHECK_EQUAL(count_pairs(&fixture), SAMPLE_PAIRS);
    expect_all(&fixture, path);
}

static void test_space_that_nothing_uses_is_free_again(void)
{
    struct fixture fixture;
    const char *path = open_sample(&fixture, "orphans.cubby");
    struct extents *extents = &fixture.store->extents;
    struct extents_usage usage;
    uint64_t extent;
    uint64_t lba;
    expect_repair(&fixture, NULL);
    CHECK_EQUAL(extents_take(extents, 2, 0, &extent), CUBBY_OK);
    CHECK_EQUAL(extents_take_granules(extents, 3, 0, &lba), CUBBY_OK);
    expect_damage(&fixture, extent_lba(extents, extent), "nothing uses it");
    pthread_mutex_lock(&extents->lock);
    extents_name_run_locked(extents, lba, 3);
    pthread_mutex_unlock(&extents->lock);
    expect_damage(&fixture, lba, "nothing uses it");
    expect_repair(&fixture, "35 blocks that nothing uses are free again");
    extents_usage(extents, &usage);
    CHECK_EQUAL(usage.held_blocks, 0);
    expect_all(&fixture, path);
}

static void test_space_of_an_open_batch_is_no_orphan(void)
{
    struct fixture fixture;
    const char *path = open_sample(&fixture, "batch.cubby");
    cubby_batch *batch;
    uint8_t key[32];
    static uint8_t value[TWIN_BLOB_BYTES];
    size_t key_size = format_key(10, key);
    fill_value(10, 0, value, sizeof value);
    CHECK_EQUAL(cubby_batch_open(fixture.session, &batch), CUBBY_OK);
    CHECK_STATUS(fixture.session, cubby_batch_put(batch, key, key_size, value, sizeof value, 0),
                 CUBBY_OK);
    fixture_check(&fixture);
    atomic_fetch_add(&fixture.store->pair_count, 5); /* so that there is something to do */
    expect_repair(&fixture, "now counts 420");
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    cubby_batch_close(batch);
    expect_all(&fixture, path);
}

static void test_a_segment_marked_as_free_is_marked_again(void)
{
    struct fixture fixture;
    const char *path = open_sample(&fixture, "free.cubby");
    struct segment_place place = directory_get(&fixture.store->directory, 1);
    extents_untake(&fixture.store->extents, place.base_extent, 2);
    CHECK_EQUAL(expect_damage(&fixture, segment_lba(fixture.store, place), "marked as free"), 1);
    expect_repair(&fixture, "32 blocks that pairs use");
    expect_all(&fixture, path);
}

static void test_an_extent_of_two_segments_is_named_and_left(void)
{
    struct fixture fixture;
    const char *path = open_sample(&fixture, "twice.cubby");
    cubby_store *store = fixture.store;
    struct segment_place own = directory_get(&store->directory, 1);
    struct segment_place other = directory_get(&store->directory, 0);
    directory_set(&store->directory, 1, other);
    expect_damage(&fixture, segment_lba(store, other), "something else too");
    expect_damage(&fixture, segment_lba(store, other), "belongs to segment 0");
    expect_repair(&fixture, NULL);
    directory_set(&store->directory, 1, own);
    expect_all(&fixture, path);
}

static void test_a_sound_store_is_not_written_by_repair(void)
{
    const char *path = fixture_path("sound.cubby");
    struct fixture fixture;
    sample_make(path);
    fixture_open_flags(&fixture, path, 0);
    expect_repair(&fixture, NULL);
    CHECK_EQUAL(read_stat(&fixture).blocks_written, 0);
    fixture_close(&fixture);
}

/* The log -------------------------------------------------------------------------------------- */

/* LBAs of the log's blocks that a recovery reads now, by LSN. Returns how many. */
static size_t log_blocks(const char *path, uint64_t *lbas, size_t capacity)
{
    struct image image;
    image_read(&image, path);
    const uint8_t *super = image_at(&image, image.current_lba);
    uint64_t run = load_u64(super + SUPERBLOCK_LOG_OFFSET);
    uint64_t lsn = load_u64(super + SUPERBLOCK_LOG_OFFSET + 8) / BLOCK_BYTES * BLOCK_BYTES;
    uint64_t first = load_u64(super + 96);
    size_t count = 0;
    for (bool is_found = true; is_found && count < capacity; lsn += BLOCK_BYTES) {
        is_found = false;
        for (uint64_t i = 0; i < load_u64(super + 104) && !is_found; i++) {
            const uint8_t *block = image_at(&image, first + i);
            is_found = load_u32(block + 8) == LOG_MAGIC && load_u64(block + 16) == run &&
                       load_u64(block + 24) == lsn;
            if (is_found) {
                lbas[count++] = first + i;
            }
        }
    }
    free(image.bytes);
    return count;
}

enum {
    LOGGED_PAIRS = 60,
    LOG_BLOCKS_MAX = 64,
};

/* A store whose process has died with some blocks of log that was flushed up to its last puts. */
static const char *make_unclean(const char *name)
{
    const char *path = fixture_path(name);
    sample_make(path);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct fixture own;
        fixture_open_flags(&own, path, 0);
        for (uint64_t i = 0; i < LOGGED_PAIRS; i++) {
            put_number(&own, i, 1, 300);
            if (i == LOGGED_PAIRS - 10) {
                CHECK_EQUAL(cubby_sync(own.session), CUBBY_OK);
            }
        }
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return path;
}

/* How many of the logged pairs have their new values; the others have their old ones. */
static uint64_t count_new(struct fixture *fixture)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < LOGGED_PAIRS; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        struct cubby_slice value;
        CHECK_STATUS(fixture->session, cubby_get(fixture->session, key, key_size, &value),
                     CUBBY_OK);
        uint8_t expected[300];
        fill_value(i, 1, expected, sizeof expected);
        if (value.size == 300 && memcmp(value.data, expected, 300) == 0) {
            count++;
        } else {
            expect_number(fixture, i, 0, sample_size(i));
        }
    }
    return count;
}

static void test_a_log_damaged_in_its_middle_is_refused_by_name_and_can_be_opened_with_loss(void)
{
    const char *path = make_unclean("log.cubby");
    uint64_t lbas[LOG_BLOCKS_MAX];
    size_t count = log_blocks(path, lbas, LOG_BLOCKS_MAX);
    CHECK(count >= 4);
    flip_bit(path, lbas[1], 1000);
    struct fixture fixture;
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_CORRUPT);
    char named[32];
    snprintf(named, sizeof named, "(LBA %llu)", (unsigned long long)lbas[1]);
    CHECK(strstr(fixture.message, named) != NULL);
    CHECK(strstr(fixture.message, "LSN") != NULL);
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN | CUBBY_ACCEPT_LOSS);
    expect_damage(&fixture, lbas[1], "a record in it is damaged");
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, CUBBY_ACCEPT_LOSS);
    uint64_t new_count = count_new(&fixture);
    CHECK(new_count >= LOGGED_PAIRS - 14 && new_count < LOGGED_PAIRS); /* but those of the block */
    fixture_check(&fixture);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, 0);
    CHECK_EQUAL(count_new(&fixture), new_count);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_torn_end_of_the_log_is_no_damage(void)
{
    const char *path = make_unclean("torn.cubby");
    uint64_t lbas[LOG_BLOCKS_MAX];
    size_t count = log_blocks(path, lbas, LOG_BLOCKS_MAX);
    CHECK(count >= 4 && count < LOG_BLOCKS_MAX);
    flip_bit(path, lbas[count - 1], 100);
    struct fixture fixture;
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    fixture_check(&fixture);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, 0);
    CHECK(count_new(&fixture) >= LOGGED_PAIRS - 10);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_unused_parts_of_the_log_do_not_matter(void)
{
    const char *path = make_unclean("unused.cubby");
    uint64_t lbas[LOG_BLOCKS_MAX];
    size_t count = log_blocks(path, lbas, LOG_BLOCKS_MAX);
    flip_bit(path, lbas[count - 1] + 3, 100);
    struct fixture fixture;
    fixture_open_flags(&fixture, path, 0);
    CHECK_EQUAL(count_new(&fixture), LOGGED_PAIRS);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* While the store is open memory has what the log has: it is begun anew. In every block of it, with
 * a damaged header, and with a damaged record. */
static void test_a_log_damaged_while_the_store_is_open_is_begun_anew(void)
{
    for (size_t block = 0; block < 6; block++) {
        struct fixture fixture;
        const char *path = fixture_path("begun.cubby");
        sample_make(path);
        fixture_open_flags(&fixture, path, 0);
        for (uint64_t i = 0; i < 40; i++) {
            put_number(&fixture, i, 0, sample_size(i));
        }
        CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
        uint64_t lbas[LOG_BLOCKS_MAX];
        size_t count = log_blocks(path, lbas, LOG_BLOCKS_MAX);
        CHECK(count >= 3);
        uint64_t lba = lbas[block / 2 == 0 ? 0 : block / 2 == 1 ? 1 : count - 1];
        flip_bit(path, lba, block % 2 == 0 ? 20 : 80);
        expect_damage(&fixture, lba, "the log's block");
        expect_repair(&fixture, "begun anew");
        expect_repair(&fixture, NULL);
        expect_all(&fixture, path);
    }
}

/* After a repair the store goes on as if it had been reopened, and survives its process. */
static void test_what_is_put_after_a_repair_survives(void)
{
    const char *path = fixture_path("after.cubby");
    sample_make(path);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct fixture own;
        fixture_open_flags(&own, path, 0);
        for (uint64_t i = 0; i < LOGGED_PAIRS; i++) {
            put_number(&own, i, 1, 300);
            if (i % 20 == 10) {
                atomic_fetch_add(&own.store->pair_count, 5);
                expect_repair(&own, "now counts 420");
            }
        }
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    struct fixture fixture;
    fixture_open_flags(&fixture, path, 0);
    CHECK_EQUAL(count_new(&fixture), LOGGED_PAIRS);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* Progress ------------------------------------------------------------------------------------- */

struct watcher {
    struct fixture *fixture;
    _Atomic bool is_over;
    uint64_t seen; /* how often a check was under way */
};

static void *watch(void *state)
{
    struct watcher *watcher = state;
    cubby_session *session;
    uint64_t last = 0;
    CHECK_EQUAL(cubby_session_open(watcher->fixture->store, &session), CUBBY_OK);
    while (!atomic_load(&watcher->is_over)) {
        uint64_t done;
        uint64_t total;
        CHECK_EQUAL(cubby_check_progress(session, &done, &total), CUBBY_OK);
        CHECK(done <= total);
        if (total > 0) {
            CHECK(done >= last);
            last = done;
            watcher->seen++;
        }
        usleep(1000);
    }
    cubby_session_close(session);
    return NULL;
}

static void test_progress_is_told_to_other_sessions(void)
{
    struct fixture fixture;
    const char *path = fixture_path("progress.cubby");
    sample_make(path);
    char name[600];
    snprintf(name, sizeof name, "fault:delay=5000:%s", path);
    fixture_open_flags(&fixture, name, CUBBY_READ_ONLY_OPEN);
    struct watcher watcher = {.fixture = &fixture};
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, watch, &watcher), 0);
    fixture_check(&fixture);
    atomic_store(&watcher.is_over, true);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK(watcher.seen > 0);
    uint64_t done;
    uint64_t total;
    CHECK_EQUAL(cubby_check_progress(fixture.session, &done, &total), CUBBY_OK);
    CHECK_EQUAL(total, 0);
    fixture_close(&fixture);
}

/* What cannot be read is named, and the rest is checked. */
static void test_a_device_that_fails_to_read_is_named(void)
{
    const char *path = fixture_path("unreadable.cubby");
    sample_make(path);
    struct fixture fixture;
    char name[600];
    size_t named = 0;
    for (unsigned nth = 3; nth < 40; nth++) {
        struct cubby_damage damages[8];
        size_t count;
        snprintf(name, sizeof name, "fault:read=%u:%s", nth, path);
        struct cubby_options options = {.flags = CUBBY_READ_ONLY_OPEN};
        if (fixture_try_open(&fixture, name, &options) != CUBBY_OK) {
            continue;
        }
        CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
        CHECK_STATUS(fixture.session, cubby_check(fixture.session, damages, 8, &count), CUBBY_OK);
        if (count > 0) {
            CHECK(strstr(damages[count < 8 ? count - 1 : 7].text, "nput/output error") != NULL);
            named++;
        }
        fixture_close(&fixture);
    }
    CHECK(named > 3);
}

int main(void)
{
    RUN(test_either_superblock_is_written_anew_from_memory);
    RUN(test_a_superblock_that_was_not_written_is_named_and_written);
    RUN(test_a_damaged_checkpoint_is_replaced);
    RUN(test_counts_are_corrected);
    RUN(test_space_that_nothing_uses_is_free_again);
    RUN(test_space_of_an_open_batch_is_no_orphan);
    RUN(test_a_segment_marked_as_free_is_marked_again);
    RUN(test_an_extent_of_two_segments_is_named_and_left);
    RUN(test_a_sound_store_is_not_written_by_repair);
    RUN(test_a_log_damaged_in_its_middle_is_refused_by_name_and_can_be_opened_with_loss);
    RUN(test_a_torn_end_of_the_log_is_no_damage);
    RUN(test_unused_parts_of_the_log_do_not_matter);
    RUN(test_a_log_damaged_while_the_store_is_open_is_begun_anew);
    RUN(test_what_is_put_after_a_repair_survives);
    RUN(test_progress_is_told_to_other_sessions);
    RUN(test_a_device_that_fails_to_read_is_named);
    return 0;
}
