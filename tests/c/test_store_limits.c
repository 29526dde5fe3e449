/* test_store_limits.c -- a full device, a failing device, wrong arguments, and handles out of
 * place.
 *
 * Depends on: store_fixture.h.
 */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "engine/store/store.h"
#include "tests/c/store_fixture.h"

/* Put until the store is full; returns how many pairs it took. */
static uint64_t fill_up(struct fixture *fixture, uint64_t first, size_t value_size)
{
    uint8_t value[4096] = {0};
    for (uint64_t i = first;; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        fill_value(i, 0, value, value_size);
        int status = cubby_put(fixture->session, key, key_size, value, value_size);
        if (status != CUBBY_OK) {
            CHECK_STATUS(fixture->session, status, CUBBY_FULL);
            CHECK(strlen(cubby_session_message(fixture->session)) > 0);
            return i - first;
        }
        CHECK(i < 1000000);
    }
}

/* 8 MiB of memory, which a power cut may tear, or not: then blocks that are written in place have
 * images in the log's room. */
static struct block_device *open_small_memory(bool may_tear)
{
    struct block_device *memory;
    CHECK_EQUAL(mem_device_open(2048, &memory), 0);
    memory->geometry.atomic_write_bytes = may_tear ? 512 : BLOCK_BYTES;
    return memory;
}

static void fill_and_reopen(bool may_tear)
{
    struct block_device *memory = open_small_memory(may_tear);
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    struct fixture fixture;
    fixture_open_faulty_on(&fixture, memory, &options);
    uint64_t count = fill_up(&fixture, 0, 400);
    CHECK(count > 5000);                   /* 8 MiB logical, 400 B each, at half fill and better */
    for (uint64_t i = 0; i < count; i++) { /* some of them are dirty yet, or may be */
        expect_number(&fixture, i, 0, 400);
    }
    for (int round = 0; round < 3; round++) {
        CHECK_EQUAL(count_pairs(&fixture), count);
        for (uint64_t i = 0; i < count; i++) {
            expect_number(&fixture, i, 0, 400);
        }
        fixture_check(&fixture);
        CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
        fixture_close(&fixture);
        fixture_open_faulty_on(&fixture, memory, &options);
    }
    /* What is deleted makes room again. */
    for (uint64_t i = 0; i < count / 2; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        CHECK_STATUS(fixture.session, cubby_delete(fixture.session, key, key_size), CUBBY_OK);
    }
    for (uint64_t i = 0; i < count / 4; i++) {
        put_number(&fixture, i, 0, 400);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
    memory->ops->close(memory);
}

static void test_a_full_store_says_so_and_keeps_all_it_has(void)
{
    fill_and_reopen(false);
    fill_and_reopen(true);
}

static void test_a_store_full_of_blobs_takes_new_ones_when_old_ones_go(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:16M", CUBBY_CREATE);
    uint64_t count = fill_up(&fixture, 0, 3000);
    CHECK(count > 2000);
    for (uint64_t round = 0; round < 4; round++) {
        for (uint64_t i = 0; i < count; i += 2) {
            uint8_t key[32];
            size_t key_size = format_key(i, key);
            CHECK_STATUS(fixture.session, cubby_delete(fixture.session, key, key_size), CUBBY_OK);
        }
        for (uint64_t i = 0; i < count; i += 2) {
            put_number(&fixture, i, 0, 3000);
        }
        fixture_check(&fixture);
    }
    for (uint64_t i = 0; i < count; i++) {
        expect_number(&fixture, i, 0, 3000);
    }
    fixture_close(&fixture);
}

static void test_a_large_value_that_does_not_fit_leaves_nothing_behind(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:16M", CUBBY_CREATE);
    put_number(&fixture, 1, 0, 100);
    fixture_rest(&fixture);
    uint64_t used = read_stat(&fixture).used_bytes;
    uint8_t *value = calloc(1, 64 << 20);
    CHECK_STATUS(fixture.session,
                 cubby_put(fixture.session, (const uint8_t *)"large", 5, value, 64 << 20),
                 CUBBY_FULL);
    CHECK_EQUAL(read_stat(&fixture).used_bytes, used);
    CHECK_STATUS(fixture.session,
                 cubby_put(fixture.session, (const uint8_t *)"large", 5, value, 8 << 20), CUBBY_OK);
    CHECK_STATUS(fixture.session,
                 cubby_put(fixture.session, (const uint8_t *)"large", 5, value, 64 << 20),
                 CUBBY_FULL);
    struct cubby_slice found;
    CHECK_STATUS(fixture.session, cubby_get(fixture.session, (const uint8_t *)"large", 5, &found),
                 CUBBY_OK);
    CHECK_EQUAL(found.size, 8 << 20);
    fixture_check(&fixture);
    free(value);
    fixture_close(&fixture);
}

static void test_a_read_error_is_reported_and_passes(void)
{
    struct fixture fixture;
    struct block_device *device = fixture_open_faulty(&fixture);
    put_number(&fixture, 1, 0, 100);
    fixture_rest(&fixture);
    uint8_t key[32];
    size_t key_size = format_key(1, key);
    uint32_t key_sizes[] = {(uint32_t)key_size};
    size_t value_sizes[1];
    struct cubby_slice value;
    fault_device_arm(device, FAULT_READ, 1);
    CHECK_EQUAL(cubby_get(fixture.session, key, key_size, &value), EIO);
    CHECK(strstr(cubby_session_message(fixture.session), "LBA") != NULL);
    CHECK_EQUAL(cubby_get_many(fixture.session, 1, key, key_sizes, &value, value_sizes), EIO);
    CHECK_EQUAL(
        put_on_condition(fixture.session, key, key_size, key, 10, CUBBY_IF_PRESENT, NULL, 0), EIO);
    CHECK_EQUAL(cubby_take(fixture.session, key, key_size, &value), EIO);
    CHECK_EQUAL(cubby_delete(fixture.session, key, key_size), EIO);
    /* A put reads nothing; that it cannot be written back is said by who asks for that. */
    put_number(&fixture, 2, 0, 100);
    expect_number(&fixture, 2, 0, 100);
    int did_work;
    CHECK_EQUAL(cubby_step(fixture.session, &did_work), EIO);
    put_number(&fixture, 3, 0, 100);
    fault_device_arm(device, FAULT_READ, 0);
    expect_number(&fixture, 1, 0, 100);
    fixture_rest(&fixture);
    expect_number(&fixture, 2, 0, 100);
    expect_number(&fixture, 3, 0, 100);
    CHECK_EQUAL(read_stat(&fixture).degraded, 0);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* Mostly small pairs, and some blobs. */
static size_t mixed_size(uint64_t number)
{
    return number >= 30 && number % 5 == 0 ? 1500 : 500;
}

/* Put until one put fails, or there are many; returns the number of the next. */
static uint64_t put_until_failure(struct fixture *fixture, uint64_t number, int *status)
{
    for (*status = CUBBY_OK; number < 400; number++) {
        uint8_t key[32];
        uint8_t value[1500];
        size_t key_size = format_key(number, key);
        fill_value(number, 0, value, mixed_size(number));
        *status = cubby_put(fixture->session, key, key_size, value, mixed_size(number));
        if (*status != CUBBY_OK) {
            CHECK(strlen(cubby_session_message(fixture->session)) > 0);
            break;
        }
    }
    return number;
}

static void expect_mixed(struct fixture *fixture, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        expect_number(fixture, i, 0, mixed_size(i));
    }
}

/* Fail the nth write of a run of puts, and all later ones or that one only. What was acknowledged
 * stays to be read, and after reopening all of it is there. A single failure may have hit a write
 * that was tried again, as of new extents. */
static void check_failing_write(uint64_t nth, bool once, uint64_t *in_place)
{
    struct block_device *memory;
    CHECK_EQUAL(mem_device_open(16384, &memory), 0);
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.dirty_bytes = 32 << 10; /* so that home blocks are written, too */
    struct fixture fixture;
    struct block_device *device = fixture_open_faulty_on(&fixture, memory, &options);
    for (uint64_t i = 0; i < 30; i++) {
        put_number(&fixture, i, 0, 500);
    }
    if (once) {
        fault_device_arm_once(device, FAULT_WRITE, nth);
    } else {
        fault_device_arm(device, FAULT_WRITE, nth);
    }
    int status;
    uint64_t failed = put_until_failure(&fixture, 30, &status);
    CHECK(status == EIO || status == CUBBY_POISONED || status == CUBBY_DEGRADED ||
          (once && status == CUBBY_OK));
    if (status == CUBBY_DEGRADED) {
        CHECK(strstr(cubby_session_message(fixture.session), "writing LBA") != NULL);
        CHECK_EQUAL(read_stat(&fixture).degraded, 1);
        (*in_place)++;
    }
    fault_device_arm(device, FAULT_WRITE, 0);
    expect_mixed(&fixture, failed);
    int closing = fixture_try_close(&fixture);
    CHECK(closing == CUBBY_OK || closing == CUBBY_POISONED || closing == CUBBY_DEGRADED);
    options.flags = 0;
    fixture_open_faulty_on(&fixture, memory, &options);
    expect_mixed(&fixture, failed);
    fixture_check(&fixture);
    put_number(&fixture, failed, 0, mixed_size(failed));
    expect_mixed(&fixture, failed + 1);
    CHECK_EQUAL(count_pairs(&fixture), failed + 1);
    fixture_check(&fixture);
    fixture_close(&fixture);
    memory->ops->close(memory);
}

static void test_a_write_error_anywhere_loses_no_other_pair(void)
{
    uint64_t in_place = 0;
    for (uint64_t nth = 1; nth < 200; nth += 2) {
        check_failing_write(nth, false, &in_place);
        check_failing_write(nth, true, &in_place);
    }
    /* Some five are met; which ones depends on when blocks are written back. */
    CHECK(in_place > 0);
}

static void test_the_first_failed_flush_ends_writing_but_not_reading(void)
{
    struct fixture fixture;
    struct block_device *device = fixture_open_faulty(&fixture);
    put_number(&fixture, 1, 0, 100);
    fault_device_arm(device, FAULT_FLUSH, 1);
    CHECK_EQUAL(cubby_sync(fixture.session), EIO);
    fault_device_arm(device, FAULT_FLUSH, 0);
    CHECK_EQUAL(cubby_sync(fixture.session), CUBBY_POISONED);
    CHECK_EQUAL(cubby_put(fixture.session, (const uint8_t *)"k", 1, NULL, 0), CUBBY_POISONED);
    expect_number(&fixture, 1, 0, 100);
    cubby_session_close(fixture.session);
    CHECK_EQUAL(cubby_close(fixture.store), CUBBY_POISONED);
}

static void test_wrong_arguments_are_named(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:16M", CUBBY_CREATE);
    static uint8_t key[65536];
    struct cubby_slice value;
    CHECK_EQUAL(cubby_get(fixture.session, key, 0, &value), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_put(fixture.session, key, sizeof key, NULL, 0), CUBBY_BAD_ARGUMENT);
    CHECK(strstr(cubby_session_message(fixture.session), "65536") != NULL);
    CHECK_EQUAL(cubby_put(fixture.session, key, 1, key, (size_t)CUBBY_VALUE_BYTES_MAX + 1),
                CUBBY_BAD_ARGUMENT);
    CHECK_STATUS(fixture.session, cubby_put(fixture.session, key, 65535, NULL, 0), CUBBY_OK);
    CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, 65535, &value), CUBBY_OK);
    CHECK_EQUAL(value.size, 0);
    CHECK_STATUS(fixture.session, cubby_get_many(fixture.session, 0, NULL, NULL, &value, NULL),
                 CUBBY_OK);
    uint8_t cursor[CUBBY_CURSOR_BYTES] = {0};
    cubby_scan *scan;
    CHECK_EQUAL(cubby_scan_open(fixture.session, NULL, 0, cursor, &scan), CUBBY_BAD_ARGUMENT);
    fixture_close(&fixture);
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.fill_percent = 90;
    CHECK_EQUAL(fixture_try_open(&fixture, "mem:16M", &options), CUBBY_BAD_ARGUMENT);
    options.fill_percent = 0;
    options.size_bytes = 1000;
    CHECK_EQUAL(fixture_try_open(&fixture, "mem:16M", &options), CUBBY_BAD_ARGUMENT);
    options.size_bytes = 0;
    CHECK_EQUAL(fixture_try_open(&fixture, "mem:64K", &options), CUBBY_FULL);
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_EQUAL(fwrite(bytes, 1, size, file), size);
    CHECK_EQUAL(fclose(file), 0);
}

static void test_what_is_not_a_store_is_neither_opened_nor_overwritten(void)
{
    struct fixture fixture;
    struct cubby_options options;
    cubby_options_init(&options);
    const char *path = fixture_path("letter.txt");
    static char letter[100000];
    memset(letter, 'x', sizeof letter);
    write_file(path, letter, sizeof letter);
    CHECK_EQUAL(fixture_try_open(&fixture, path, &options), CUBBY_NOT_A_STORE);
    CHECK(strstr(fixture.message, path) != NULL);
    options.flags = CUBBY_CREATE;
    CHECK_EQUAL(fixture_try_open(&fixture, path, &options), CUBBY_NOT_EMPTY);
    options.flags = CUBBY_NEW;
    CHECK_EQUAL(fixture_try_open(&fixture, path, &options), CUBBY_NOT_EMPTY);
    options.flags = CUBBY_NEW | CUBBY_FORCE;
    options.size_bytes = 1 << 20;
    fixture_open(&fixture, path, &options);
    put_number(&fixture, 1, 0, 100);
    fixture_close(&fixture);
    options.flags = CUBBY_CREATE | CUBBY_EXCLUSIVE;
    CHECK_EQUAL(fixture_try_open(&fixture, path, &options), CUBBY_NOT_EMPTY);
    options.flags = 0;
    CHECK_EQUAL(fixture_try_open(&fixture, fixture_path("absent"), &options), ENOENT);
    write_file(fixture_path("empty"), "", 0);
    CHECK_EQUAL(fixture_try_open(&fixture, fixture_path("empty"), &options), CUBBY_NOT_A_STORE);
}

static void test_a_truncated_store_is_refused(void)
{
    const char *path = fixture_path("truncated.cubby");
    struct fixture fixture;
    fixture_open_flags(&fixture, path, CUBBY_CREATE);
    fixture_close(&fixture);
    CHECK_EQUAL(truncate(path, 10 << 20), 0);
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_CORRUPT);
    CHECK(strstr(fixture.message, "truncated") != NULL);
    CHECK_EQUAL(truncate(path, 100), 0);
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_NOT_A_STORE);
}

static void test_a_second_opener_is_told_who_has_the_store(void)
{
    const char *path = fixture_path("locked.cubby");
    struct fixture fixture;
    struct fixture second;
    fixture_open_flags(&fixture, path, CUBBY_CREATE);
    CHECK_EQUAL(fixture_try_open(&second, path, NULL), CUBBY_LOCKED);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", (int)getppid());
        bool named = fixture_try_open(&second, path, NULL) == CUBBY_LOCKED &&
                     strstr(second.message, pid) != NULL;
        _exit(named ? 0 : 1);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    fixture_close(&fixture);
    struct fixture reader;
    fixture_open_flags(&reader, path, CUBBY_READ_ONLY_OPEN);
    fixture_open_flags(&second, path, CUBBY_READ_ONLY_OPEN);
    CHECK_EQUAL(cubby_put(reader.session, (const uint8_t *)"k", 1, NULL, 0), CUBBY_READ_ONLY);
    CHECK_EQUAL(cubby_sync(reader.session), CUBBY_READ_ONLY);
    fixture_close(&reader);
    fixture_close(&second);
}

static void test_a_handle_carried_through_fork_is_refused_and_harmless(void)
{
    const char *path = fixture_path("fork.cubby");
    struct fixture fixture;
    fixture_open_flags(&fixture, path, CUBBY_CREATE);
    put_number(&fixture, 1, 0, 100);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct cubby_slice value;
        cubby_session *session;
        bool refused =
            cubby_get(fixture.session, (const uint8_t *)"k", 1, &value) == CUBBY_FORKED &&
            cubby_put(fixture.session, (const uint8_t *)"k", 1, NULL, 0) == CUBBY_FORKED &&
            cubby_session_open(fixture.store, &session) == CUBBY_FORKED;
        cubby_session_close(fixture.session);
        _exit(refused && cubby_close(fixture.store) == CUBBY_FORKED ? 0 : 1);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    put_number(&fixture, 2, 0, 100);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, 0);
    CHECK_EQUAL(read_stat(&fixture).recovered, 0);
    expect_number(&fixture, 1, 0, 100);
    expect_number(&fixture, 2, 0, 100);
    fixture_close(&fixture);
}

static void test_a_batch_with_a_bad_pair_stores_the_others_before_it(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:16M", CUBBY_CREATE);
    const uint32_t key_sizes[] = {1, 1, 0, 1};
    const size_t value_sizes[] = {1, 1, 1, 1};
    size_t put_count = 99;
    CHECK_EQUAL(cubby_put_many(fixture.session, 4, (const uint8_t *)"abc", key_sizes,
                               (const uint8_t *)"1234", value_sizes, 0, &put_count),
                CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(put_count, 2);
    CHECK_EQUAL(count_pairs(&fixture), 2);
    fixture_close(&fixture);
}

/* Add to b's home block a pair that names a's blob, with a checksum that is wrong by error. */
static void forge_pair(struct fixture *fixture, const char *a, const char *b, uint64_t error)
{
    const cubby_store *store = fixture->store;
    struct page_io *io = fixture->session->io;
    uint8_t *block = fixture->session->home;
    struct block_pair pair;
    struct key_hash hash = key_hash_of((const uint8_t *)a, strlen(a), store->hash_seed);
    struct segment_view view = store_find_segment(store, hash.low);
    uint64_t lba = segment_lba(store, view.place) + key_hash_home(hash, view.place.home_count);
    CHECK_EQUAL(io->ops->read(io, lba, 1, block), 0);
    CHECK_EQUAL(block_find(block, (const uint8_t *)a, strlen(a), hash, &pair), CUBBY_OK);
    struct pair_content content = {
        .key = (const uint8_t *)b,
        .key_size = (uint32_t)strlen(b),
        .value_size = pair.value_size,
        .is_blob = true,
        .blob_lba = pair.blob_lba,
        .blob_checksum = pair.blob_checksum + error,
    };
    uint8_t encoded[64];
    pair_encode(&content, encoded);
    hash = key_hash_of((const uint8_t *)b, strlen(b), store->hash_seed);
    lba = segment_lba(store, view.place) + key_hash_home(hash, view.place.home_count);
    CHECK_EQUAL(io->ops->read(io, lba, 1, block), 0);
    block_append(block, encoded, pair_encoded_size(&content));
    block_seal(block, block_lsn(block), lba, store->secret);
    CHECK_EQUAL(io->ops->write(io, lba, 1, block), 0);
}

/* What a pair names comes from a device: deleting it must not give away what is another's. */
static void test_deleting_a_pair_that_names_a_foreign_blob_leaves_the_blob_alone(void)
{
    for (uint64_t error = 0; error < 2; error++) {
        struct fixture fixture;
        fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
        static uint8_t value[3000];
        memset(value, 'a', sizeof value);
        CHECK_STATUS(fixture.session,
                     cubby_put(fixture.session, (const uint8_t *)"a", 1, value, sizeof value),
                     CUBBY_OK);
        fixture_rest(&fixture);
        forge_pair(&fixture, "a", "b", error);
        CHECK_STATUS(fixture.session, cubby_delete(fixture.session, (const uint8_t *)"b", 1),
                     CUBBY_OK);
        if (error == 0) { /* b's claim was as good as a's: a may be gone, but nothing stops */
            CHECK_STATUS(fixture.session, cubby_delete(fixture.session, (const uint8_t *)"a", 1),
                         CUBBY_OK);
        }
        fixture_rest(&fixture);
        for (uint64_t i = 0; i < 50; i++) {
            put_number(&fixture, i, 0, sizeof value);
        }
        fixture_rest(&fixture);
        struct cubby_slice found;
        int status = cubby_get(fixture.session, (const uint8_t *)"a", 1, &found);
        CHECK_EQUAL(status, error == 0 ? CUBBY_NOT_FOUND : CUBBY_OK);
        CHECK(status != CUBBY_OK || memcmp(found.data, value, sizeof value) == 0);
        fixture_close(&fixture);
    }
}

int main(void)
{
    RUN(test_a_full_store_says_so_and_keeps_all_it_has);
    RUN(test_a_store_full_of_blobs_takes_new_ones_when_old_ones_go);
    RUN(test_a_large_value_that_does_not_fit_leaves_nothing_behind);
    RUN(test_a_read_error_is_reported_and_passes);
    RUN(test_a_write_error_anywhere_loses_no_other_pair);
    RUN(test_the_first_failed_flush_ends_writing_but_not_reading);
    RUN(test_wrong_arguments_are_named);
    RUN(test_what_is_not_a_store_is_neither_opened_nor_overwritten);
    RUN(test_a_truncated_store_is_refused);
    RUN(test_a_second_opener_is_told_who_has_the_store);
    RUN(test_a_handle_carried_through_fork_is_refused_and_harmless);
    RUN(test_deleting_a_pair_that_names_a_foreign_blob_leaves_the_blob_alone);
    RUN(test_a_batch_with_a_bad_pair_stores_the_others_before_it);
    return 0;
}
