/* test_store_watermarks.c -- what a store does as its device gets physically full.
 *
 * Depends on: gauged_device.h, store_fixture.h.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/store/space.h"
#include "tests/c/gauged_device.h"
#include "tests/c/store_fixture.h"

enum {
    VALUE_BYTES = 400,
    BLOB_BYTES = 3000000,
    THREADS = 4,
};

static int try_open(struct fixture *fixture, struct gauged_device *gauged,
                    struct cubby_options *options)
{
    *fixture = (struct fixture){0};
    options->flags |= CUBBY_CREATE;
    options->environment = repeatable_environment();
    return store_open_device(&gauged->device, "gauged", options, &fixture->store, fixture->message,
                             sizeof fixture->message);
}

static void open_with(struct fixture *fixture, struct gauged_device *gauged,
                      struct cubby_options options)
{
    CHECK_EQUAL(try_open(fixture, gauged, &options), CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture->store, &fixture->session), CUBBY_OK);
}

static struct gauged_device *open_gauged(struct fixture *fixture)
{
    struct gauged_device *gauged = gauged_make("test");
    open_with(fixture, gauged, (struct cubby_options){0});
    return gauged;
}

static void close_gauged(struct fixture *fixture, struct gauged_device *gauged)
{
    fixture_check(fixture);
    fixture_close(fixture);
    gauged_free(gauged);
}

/* Let the device tell so many thousandths of its capacity, and the store ask. */
static void tell(struct fixture *fixture, struct gauged_device *gauged, uint64_t thousandths)
{
    atomic_store(&gauged->physical_bytes,
                 (uint64_t)GAUGED_CAPACITY_BYTES / 1000 * thousandths + 1000);
    space_ask(fixture->store);
}

static int try_put(struct fixture *fixture, uint64_t number, uint64_t version, size_t value_size)
{
    static uint8_t value[BLOB_BYTES + 8];
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    fill_value(number, version, value, value_size);
    return cubby_put(fixture->session, key, key_size, value, value_size);
}

static void expect_refused(struct fixture *fixture, uint64_t number, size_t value_size,
                           const char *text)
{
    CHECK_EQUAL(try_put(fixture, number, 9, value_size), CUBBY_PHYSICAL_FULL);
    const char *message = cubby_session_message(fixture->session);
    if (strstr(message, text) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", text, message);
        exit(1);
    }
}

static void delete_number(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    CHECK_STATUS(fixture->session, cubby_delete(fixture->session, key, key_size), CUBBY_OK);
    expect_absent(fixture, number);
}

static void test_each_mark_refuses_what_it_says(void)
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    put_number(&fixture, 1, 0, VALUE_BYTES);
    put_number(&fixture, 2, 0, BLOB_BYTES);
    put_number(&fixture, 3, 0, VALUE_BYTES);
    put_number(&fixture, 4, 0, 5000);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_NONE);
    tell(&fixture, gauged, 849);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_NONE);
    tell(&fixture, gauged, 850);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_WARN);
    put_number(&fixture, 5, 0, VALUE_BYTES);
    put_number(&fixture, 6, 0, BLOB_BYTES);

    tell(&fixture, gauged, 920);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_NO_GROWTH);
    expect_refused(&fixture, 7, VALUE_BYTES, "no pair may be added or grow");
    expect_refused(&fixture, 7, 5000, "from 92 % on");
    expect_refused(&fixture, 7, BLOB_BYTES, "raise no_growth_percent");
    expect_refused(&fixture, 1, VALUE_BYTES + 1, "of 64.0 MiB");
    expect_refused(&fixture, 1, 5000, "delete pairs and sync");
    expect_refused(&fixture, 2, BLOB_BYTES + 1, "says test");
    expect_absent(&fixture, 7);
    expect_number(&fixture, 1, 0, VALUE_BYTES);
    expect_number(&fixture, 2, 0, BLOB_BYTES);
    put_number(&fixture, 1, 1, VALUE_BYTES);
    put_number(&fixture, 2, 1, BLOB_BYTES);
    put_number(&fixture, 4, 1, 4000);
    put_number(&fixture, 3, 1, 10);
    expect_number(&fixture, 1, 1, VALUE_BYTES);
    expect_number(&fixture, 2, 1, BLOB_BYTES);
    expect_number(&fixture, 3, 1, 10);
    delete_number(&fixture, 5);

    tell(&fixture, gauged, 950);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_READ_DELETE);
    expect_refused(&fixture, 7, VALUE_BYTES, "pairs can only be read and deleted");
    expect_refused(&fixture, 1, VALUE_BYTES, "raise read_delete_percent");
    expect_refused(&fixture, 2, BLOB_BYTES, "(95.0 %");
    expect_refused(&fixture, 3, 0, "from 95 % on");
    expect_number(&fixture, 1, 1, VALUE_BYTES);
    expect_number(&fixture, 2, 1, BLOB_BYTES);
    delete_number(&fixture, 3);
    delete_number(&fixture, 2);
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);

    /* The refusal itself asks again: no stale figure keeps a pair out. */
    atomic_store(&gauged->physical_bytes, GAUGED_CAPACITY_BYTES / 2);
    put_number(&fixture, 7, 0, BLOB_BYTES);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_NONE);
    close_gauged(&fixture, gauged);
}

static void test_what_the_device_says_of_itself_counts_as_a_mark(void)
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    put_number(&fixture, 1, 0, VALUE_BYTES);
    for (int state = BLOCK_SPACE_NORMAL; state <= BLOCK_SPACE_REJECTING; state++) {
        atomic_store(&gauged->state, state);
        space_ask(fixture.store);
        CHECK_EQUAL(read_stat(&fixture).space_mark, state);
    }
    expect_refused(&fixture, 1, VALUE_BYTES, "it says that it refuses writes");
    atomic_store(&gauged->state, BLOCK_SPACE_THROTTLED);
    expect_refused(&fixture, 2, VALUE_BYTES, "it says that it slows down writes");
    put_number(&fixture, 1, 1, VALUE_BYTES);
    atomic_store(&gauged->state, BLOCK_SPACE_WARNING);
    put_number(&fixture, 2, 0, VALUE_BYTES);
    close_gauged(&fixture, gauged);
}

static void test_the_marks_are_options(void)
{
    struct fixture fixture;
    struct gauged_device *gauged = gauged_make("test");
    open_with(&fixture, gauged,
              (struct cubby_options){
                  .warn_percent = 20, .no_growth_percent = 30, .read_delete_percent = 40});
    static const unsigned marks[][2] = {{199, 0}, {200, 1}, {300, 2}, {399, 2}, {400, 3}};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        tell(&fixture, gauged, marks[i][0]);
        CHECK_EQUAL(read_stat(&fixture).space_mark, marks[i][1]);
    }
    expect_refused(&fixture, 1, VALUE_BYTES, "from 40 % on");
    fixture_close(&fixture);
    open_with(&fixture, gauged,
              (struct cubby_options){.warn_percent = CUBBY_PERCENT_NEVER,
                                     .no_growth_percent = CUBBY_PERCENT_NEVER,
                                     .read_delete_percent = CUBBY_PERCENT_NEVER});
    atomic_store(&gauged->state, BLOCK_SPACE_REJECTING);
    tell(&fixture, gauged, 1100);
    put_number(&fixture, 1, 0, VALUE_BYTES);
    put_number(&fixture, 2, 0, BLOB_BYTES);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_NONE);
    close_gauged(&fixture, gauged);
}

static void test_marks_that_do_not_ascend_are_bad_arguments(void)
{
    static const uint32_t wrong[][3] = {
        {90, 80, 95}, {86, 96, 0}, {93, 0, 0}, {0, 0, 91}, {102, 102, 102}, {0, 0, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct fixture fixture;
        struct gauged_device *gauged = gauged_make("test");
        struct cubby_options options = {.warn_percent = wrong[i][0],
                                        .no_growth_percent = wrong[i][1],
                                        .read_delete_percent = wrong[i][2]};
        CHECK_EQUAL(try_open(&fixture, gauged, &options), CUBBY_BAD_ARGUMENT);
        CHECK(strstr(fixture.message, "the marks of physical space are 1 to 100 percent") != NULL);
        gauged_free(gauged);
    }
}

static void test_no_capacity_and_no_device_of_its_own_have_no_marks(void)
{
    static const char *const sources[] = {"test", "st_blocks", "memory", "none"};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct fixture fixture;
        struct gauged_device *gauged = gauged_make(sources[i]);
        atomic_store(&gauged->capacity_bytes, i == 0 ? 0 : GAUGED_CAPACITY_BYTES);
        open_with(&fixture, gauged, (struct cubby_options){0});
        tell(&fixture, gauged, 999);
        put_number(&fixture, 1, 0, VALUE_BYTES);
        put_number(&fixture, 2, 0, BLOB_BYTES);
        struct cubby_stat stat = read_stat(&fixture);
        CHECK_EQUAL(stat.space_mark, CUBBY_MARK_NONE);
        CHECK_EQUAL(stat.device_capacity_bytes, i == 0 ? 0 : GAUGED_CAPACITY_BYTES);
        CHECK_EQUAL(stat.device_physical_bytes, atomic_load(&gauged->physical_bytes));
        CHECK_EQUAL(stat.device_logical_bytes, gauged_real_bytes(gauged));
        CHECK(strcmp(stat.device_source, sources[i]) == 0);
        close_gauged(&fixture, gauged);
    }
}

/* Put new pairs until one is refused; returns the number after the last. */
static uint64_t fill_up(struct fixture *fixture, uint64_t number, size_t value_size)
{
    int status;
    while ((status = try_put(fixture, number, 0, value_size)) == CUBBY_OK) {
        number++;
        CHECK(number < 1000000);
    }
    CHECK_STATUS(fixture->session, status, CUBBY_PHYSICAL_FULL);
    CHECK(strstr(cubby_session_message(fixture->session), "no pair may be added") != NULL);
    return number;
}

/* Less than a pair under the mark, or less than a hundredth of the capacity over it. */
static void expect_at_mark(struct fixture *fixture, struct gauged_device *gauged, size_t value_size)
{
    CHECK(read_stat(fixture).quarantined_bytes < GAUGED_CAPACITY_BYTES / 256);
    uint64_t physical = gauged_real_bytes(gauged);
    CHECK(physical + value_size >= (uint64_t)GAUGED_CAPACITY_BYTES / 100 * 92);
    CHECK(physical <= (uint64_t)GAUGED_CAPACITY_BYTES / 100 * 93);
}

static void check_growth_stops_and_resumes(size_t value_size)
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    uint64_t count = fill_up(&fixture, 0, value_size);
    expect_at_mark(&fixture, gauged, value_size);
    CHECK_EQUAL(count_pairs(&fixture), count);
    for (uint64_t i = 0; i < count; i++) {
        expect_number(&fixture, i, 0, value_size);
    }
    for (uint64_t i = 0; i < count; i++) {
        if (i % 4 != 0) {
            delete_number(&fixture, i);
        }
    }
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    uint64_t more = fill_up(&fixture, count, value_size) - count;
    CHECK(more > count / 2);
    expect_at_mark(&fixture, gauged, value_size);
    for (uint64_t i = 0; i < count; i += 4) {
        expect_number(&fixture, i, 0, value_size);
    }
    close_gauged(&fixture, gauged);
}

static void test_growth_stops_at_the_mark_and_resumes_after_deletes(void)
{
    check_growth_stops_and_resumes(VALUE_BYTES);
}

static void test_growth_by_small_blobs_stops_and_resumes(void)
{
    check_growth_stops_and_resumes(20000);
}

static void test_growth_by_large_blobs_stops_and_resumes(void)
{
    check_growth_stops_and_resumes(BLOB_BYTES);
}

static void *fill_from_a_thread(void *argument)
{
    static _Atomic uint64_t next_number;
    struct fixture fixture = {.store = argument};
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    int status = CUBBY_OK;
    while (status == CUBBY_OK) {
        uint8_t key[32];
        uint8_t value[VALUE_BYTES];
        uint64_t number = atomic_fetch_add(&next_number, 1);
        fill_value(number, 0, value, sizeof value);
        status = cubby_put(fixture.session, key, format_key(number, key), value, sizeof value);
    }
    CHECK_STATUS(fixture.session, status, CUBBY_PHYSICAL_FULL);
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_threads_stop_at_the_mark_together(void)
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, fill_from_a_thread, fixture.store), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    uint64_t physical = gauged_real_bytes(gauged);
    CHECK(physical >=
          (uint64_t)GAUGED_CAPACITY_BYTES / 100 * 90); /* who came last may have ended quarantine */
    CHECK(physical <= (uint64_t)GAUGED_CAPACITY_BYTES / 100 * 95);
    close_gauged(&fixture, gauged);
}

/* Keys and values for put_many. */
struct many {
    size_t count;
    size_t key_bytes;
    size_t value_bytes;
    uint8_t keys[1024 * 32];
    uint32_t key_sizes[1024];
    uint8_t values[1 << 20];
    size_t value_sizes[1024];
};

static void add_pair(struct many *many, uint64_t number, uint64_t version, size_t value_size)
{
    CHECK(many->count < 1024 && many->value_bytes + value_size + 8 < sizeof many->values);
    size_t key_size = format_key(number, many->keys + many->key_bytes);
    fill_value(number, version, many->values + many->value_bytes, value_size);
    many->key_sizes[many->count] = (uint32_t)key_size;
    many->value_sizes[many->count++] = value_size;
    many->key_bytes += key_size;
    many->value_bytes += value_size;
}

static int put_all(struct fixture *fixture, const struct many *many, size_t *put_count)
{
    return cubby_put_many(fixture->session, many->count, many->keys, many->key_sizes, many->values,
                          many->value_sizes, 0, put_count);
}

static void test_put_many_refuses_pairs_by_themselves(void)
{
    static struct many many;
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    for (uint64_t i = 0; i < 40; i++) {
        put_number(&fixture, i, 0, i % 4 == 3 ? 5000 : VALUE_BYTES);
    }
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    uint64_t used_bytes = read_stat(&fixture).used_bytes;
    /* One window: a third exist and stay as large, the others are new or grow. */
    for (uint64_t i = 0; i < 16; i++) {
        add_pair(&many, i, 1, i % 4 == 3 ? 5000 : VALUE_BYTES);
        add_pair(&many, 16 + i, 1, i % 4 == 3 ? 5001 : VALUE_BYTES + 1);
        add_pair(&many, 1000 + i, 1, VALUE_BYTES);
    }
    tell(&fixture, gauged, 930);
    size_t put_count = 99;
    CHECK_EQUAL(put_all(&fixture, &many, &put_count), CUBBY_PHYSICAL_FULL);
    CHECK(strstr(cubby_session_message(fixture.session), "no pair may be added or grow") != NULL);
    /* A blob that may not grow ends the window where it stands. */
    CHECK(put_count >= 4 && put_count <= 16);
    size_t stored = 0;
    for (uint64_t i = 0; i < 16; i++) {
        size_t value_size = i % 4 == 3 ? 5000 : VALUE_BYTES;
        struct cubby_slice found;
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        static uint8_t value[8192];
        fill_value(i, 1, value, value_size);
        CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, key_size, &found), CUBBY_OK);
        bool is_new = found.size == value_size && memcmp(found.data, value, value_size) == 0;
        stored += is_new;
        if (!is_new) {
            expect_number(&fixture, i, 0, value_size);
        }
        expect_number(&fixture, 16 + i, 0, value_size);
        expect_absent(&fixture, 1000 + i);
    }
    CHECK_EQUAL(stored, put_count);
    CHECK_EQUAL(count_pairs(&fixture), 40);
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    CHECK_EQUAL(read_stat(&fixture).used_bytes, used_bytes);
    tell(&fixture, gauged, 500);
    CHECK_STATUS(fixture.session, put_all(&fixture, &many, &put_count), CUBBY_OK);
    CHECK_EQUAL(put_count, many.count);
    close_gauged(&fixture, gauged);
}

static void test_put_many_stores_what_does_not_grow(void)
{
    static struct many many;
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    for (uint64_t i = 0; i < 25; i++) {
        put_number(&fixture, i, 0, VALUE_BYTES);
        add_pair(&many, 100 + i, 1, VALUE_BYTES);
        add_pair(&many, i, 1, VALUE_BYTES);
    }
    tell(&fixture, gauged, 930);
    size_t put_count;
    CHECK_EQUAL(put_all(&fixture, &many, &put_count), CUBBY_PHYSICAL_FULL);
    CHECK_EQUAL(put_count, 25);
    for (uint64_t i = 0; i < 25; i++) {
        expect_number(&fixture, i, 1, VALUE_BYTES);
        expect_absent(&fixture, 100 + i);
    }
    tell(&fixture, gauged, 970);
    CHECK_EQUAL(put_all(&fixture, &many, &put_count), CUBBY_PHYSICAL_FULL);
    CHECK_EQUAL(put_count, 0);
    close_gauged(&fixture, gauged);
}

/* Rebuild segments until a checkpoint would release enough to be worth it. */
static void fill_quarantine(struct fixture *fixture)
{
    for (uint64_t i = 1000; read_stat(fixture).quarantined_bytes < GAUGED_CAPACITY_BYTES / 128;
         i++) {
        put_number(fixture, i, 0, VALUE_BYTES);
    }
}

static void test_a_refused_put_ends_the_quarantine_and_is_tried_again(void)
{
    for (unsigned i = 0; i < 3; i++) {
        static const size_t sizes[] = {VALUE_BYTES, 5000, BLOB_BYTES};
        struct fixture fixture;
        struct gauged_device *gauged = open_gauged(&fixture);
        fill_quarantine(&fixture);
        tell(&fixture, gauged, 930);
        atomic_store(&gauged->physical_after_discard, GAUGED_CAPACITY_BYTES / 2);
        put_number(&fixture, 1, 0, sizes[i]);
        expect_number(&fixture, 1, 0, sizes[i]);
        /* Less than there was, by all but the segment that has been rebuilt for this put. */
        CHECK(read_stat(&fixture).quarantined_bytes < GAUGED_CAPACITY_BYTES / 128);
        close_gauged(&fixture, gauged);
    }
}

static void test_put_many_tries_again_but_never_over_a_later_pair(void)
{
    static struct many many;
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    put_number(&fixture, 1, 0, VALUE_BYTES);
    put_number(&fixture, 2, 0, VALUE_BYTES);
    fill_quarantine(&fixture);
    add_pair(&many, 1, 1, VALUE_BYTES + 100);
    add_pair(&many, 2, 1, VALUE_BYTES + 100);
    add_pair(&many, 3, 1, VALUE_BYTES);
    add_pair(&many, 1, 2, VALUE_BYTES);
    tell(&fixture, gauged, 930);
    atomic_store(&gauged->physical_after_discard, GAUGED_CAPACITY_BYTES / 2);
    size_t put_count;
    CHECK_STATUS(fixture.session, put_all(&fixture, &many, &put_count), CUBBY_OK);
    CHECK_EQUAL(put_count, 4);
    expect_number(&fixture, 1, 2, VALUE_BYTES);
    expect_number(&fixture, 2, 1, VALUE_BYTES + 100);
    expect_number(&fixture, 3, 1, VALUE_BYTES);
    close_gauged(&fixture, gauged);
}

static void test_put_many_stops_at_the_mark(void)
{
    static struct many many;
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    uint64_t number = 0;
    int status = CUBBY_OK;
    while (status == CUBBY_OK) {
        many.count = many.key_bytes = many.value_bytes = 0;
        while (many.count < 1000) {
            add_pair(&many, number++, 0, VALUE_BYTES);
        }
        size_t put_count;
        status = put_all(&fixture, &many, &put_count);
        CHECK(status != CUBBY_OK || put_count == many.count);
    }
    CHECK_EQUAL(status, CUBBY_PHYSICAL_FULL);
    expect_at_mark(&fixture, gauged, VALUE_BYTES);
    close_gauged(&fixture, gauged);
}

/* Far from any mark the device is asked once per MiB; a store that is read, never. */
static void test_the_device_is_seldom_asked(void)
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    atomic_store(&gauged->capacity_bytes, UINT64_C(1) << 40);
    space_ask(fixture.store);
    uint64_t asked = atomic_load(&gauged->asked);
    uint64_t written = read_stat(&fixture).blocks_written;
    for (uint64_t i = 0; i < 20000; i++) {
        put_number(&fixture, i, 0, VALUE_BYTES);
    }
    struct cubby_stat stat = read_stat(&fixture);
    uint64_t mib = (stat.blocks_written - written) / 256;
    asked = atomic_load(&gauged->asked) - asked;
    CHECK(mib > 50);
    CHECK(asked <= mib + stat.checkpoints * 2 + 4);
    CHECK(asked > mib / 3); /* one large write may pass several steps at once */
    asked = atomic_load(&gauged->asked);
    for (uint64_t i = 0; i < 20000; i++) {
        expect_number(&fixture, i, 0, VALUE_BYTES);
    }
    CHECK_EQUAL(atomic_load(&gauged->asked), asked);
    close_gauged(&fixture, gauged);
}

/* A zram at its limit fails with EIO: the device is full then, not damaged. */
static void check_full_device(size_t value_size)
{
    struct fixture fixture;
    struct cubby_options never = {.warn_percent = CUBBY_PERCENT_NEVER,
                                  .no_growth_percent = CUBBY_PERCENT_NEVER,
                                  .read_delete_percent = CUBBY_PERCENT_NEVER};
    struct gauged_device *gauged = gauged_make("test");
    atomic_store(&gauged->capacity_bytes, GAUGED_CAPACITY_BYTES / 4);
    open_with(&fixture, gauged, never);
    atomic_store(&gauged->fails_when_full, true);
    uint64_t count = 0;
    int status;
    while ((status = try_put(&fixture, count, 0, value_size)) == CUBBY_OK) {
        count++;
    }
    CHECK_STATUS(fixture.session, status, CUBBY_PHYSICAL_FULL);
    CHECK(strlen(cubby_session_message(fixture.session)) > 20);
    for (uint64_t i = 0; i < 5; i++) {
        /* An old pair that cannot grow keeps its value. */
        CHECK_EQUAL(try_put(&fixture, i, 1, BLOB_BYTES), CUBBY_PHYSICAL_FULL);
        /* One that needs no new block may be stored. */
        status = try_put(&fixture, count, 0, value_size);
        CHECK(status == CUBBY_OK || status == CUBBY_PHYSICAL_FULL);
        count += status == CUBBY_OK;
    }
    for (uint64_t i = 0; i < count; i++) {
        expect_number(&fixture, i, 0, value_size);
    }
    fixture_check(&fixture);
    atomic_store(&gauged->capacity_bytes, GAUGED_CAPACITY_BYTES);
    put_number(&fixture, count, 0, value_size);
    fixture_check(&fixture);
    fixture_close(&fixture);
    open_with(&fixture, gauged, never);
    CHECK_EQUAL(count_pairs(&fixture), count + 1);
    for (uint64_t i = 0; i <= count; i++) {
        expect_number(&fixture, i, 0, value_size);
    }
    atomic_store(&gauged->fails_when_full, false);
    close_gauged(&fixture, gauged);
}

static void test_eio_of_a_full_device_is_physical_full_and_loses_nothing(void)
{
    check_full_device(VALUE_BYTES);
    check_full_device(20000);
    check_full_device(300000);
}

static int fail_write(struct block_device *device, uint64_t lba, size_t count, const void *buffer)
{
    (void)device;
    (void)lba;
    (void)count;
    (void)buffer;
    return EIO;
}

static void test_eio_of_a_device_with_room_stays_eio(void)
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    put_number(&fixture, 1, 0, VALUE_BYTES);
    const struct block_device_ops *whole = gauged->device.ops;
    struct block_device_ops failing = *whole;
    failing.write = fail_write;
    gauged->device.ops = &failing;
    CHECK_EQUAL(try_put(&fixture, 1, 1, 100), EIO); /* of the log */
    gauged->device.ops = whole;
    CHECK_EQUAL(try_put(&fixture, 1, 1, 100), CUBBY_POISONED);
    CHECK_EQUAL(fixture_try_close(&fixture), CUBBY_POISONED);
    open_with(&fixture, gauged, (struct cubby_options){0});
    expect_number(&fixture, 1, 0, VALUE_BYTES); /* or the new one: it never came to the device */
    put_number(&fixture, 1, 1, VALUE_BYTES);
    close_gauged(&fixture, gauged);
}

int main(void)
{
    RUN_ALONE(test_each_mark_refuses_what_it_says);
    RUN_ALONE(test_what_the_device_says_of_itself_counts_as_a_mark);
    RUN_ALONE(test_the_marks_are_options);
    RUN_ALONE(test_marks_that_do_not_ascend_are_bad_arguments);
    RUN_ALONE(test_no_capacity_and_no_device_of_its_own_have_no_marks);
    RUN_ALONE(test_growth_stops_at_the_mark_and_resumes_after_deletes);
    RUN_ALONE(test_growth_by_small_blobs_stops_and_resumes);
    RUN_ALONE(test_growth_by_large_blobs_stops_and_resumes);
    RUN(test_threads_stop_at_the_mark_together);
    RUN_ALONE(test_put_many_refuses_pairs_by_themselves);
    RUN_ALONE(test_put_many_stores_what_does_not_grow);
    RUN_ALONE(test_put_many_stops_at_the_mark);
    RUN_ALONE(test_a_refused_put_ends_the_quarantine_and_is_tried_again);
    RUN_ALONE(test_put_many_tries_again_but_never_over_a_later_pair);
    RUN_ALONE(test_the_device_is_seldom_asked);
    RUN_ALONE(test_eio_of_a_full_device_is_physical_full_and_loses_nothing);
    RUN_ALONE(test_eio_of_a_device_with_room_stays_eio);
    return 0;
}
