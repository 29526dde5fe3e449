/* test_store_recovery.c -- what is found after a process died, and after damage.
 *
 * A child process changes a store in a file and is killed; the parent opens what is left. As long
 * as the machine runs, everything a call has returned OK for must be there.
 *
 * Depends on: store_fixture.h.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/store/disk_format.h"
#include "tests/c/store_fixture.h"

enum {
    SMALL_PAIRS = 25,
};

/* Shared by parent and child: the number of puts that have returned. */
static volatile uint64_t *acknowledged;

static void share_counter(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    acknowledged = page;
}

static struct cubby_options options_of(uint32_t flags, uint64_t size_bytes)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = flags;
    options.size_bytes = size_bytes;
    return options;
}

static size_t value_size_of(uint64_t number)
{
    static const size_t sizes[] = {0, 7, 100, 400, 990, 1100, 5000, 70000, 1200000};
    /* Large ones are rare. */
    return number % 97 == 0 ? sizes[number / 97 % 9] : 50 + number % 700;
}

/* Puts number 0, 1, 2, ..., overwriting every third and deleting every seventh on the way. */
static void work_until_killed(const char *path, bool with_sync)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, path, 0);
    for (uint64_t i = 0;; i++) {
        put_number(&fixture, i, i % 3 == 0 ? 7 : 0, value_size_of(i));
        if (i % 3 == 0) {
            put_number(&fixture, i, 0, value_size_of(i));
        }
        if (i % 7 == 6) {
            uint8_t key[32];
            size_t key_size = format_key(i, key);
            CHECK_STATUS(fixture.session, cubby_delete(fixture.session, key, key_size), CUBBY_OK);
        }
        *acknowledged = i + 1;
        if (with_sync && i % 500 == 499) {
            CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
        }
    }
}

static void run_and_kill(const char *path, unsigned delay_us, bool with_sync)
{
    *acknowledged = 0;
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        work_until_killed(path, with_sync);
        _exit(1);
    }
    while (*acknowledged < 50) {
        CHECK_EQUAL(waitpid(child, NULL, WNOHANG), 0);
        usleep(500);
    }
    usleep(delay_us);
    kill(child, SIGKILL);
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
}

static void expect_acknowledged(struct fixture *fixture)
{
    uint64_t count = *acknowledged;
    for (uint64_t i = 0; i < count; i++) {
        if (i % 7 == 6) {
            expect_absent(fixture, i);
        } else {
            expect_number(fixture, i, 0, value_size_of(i));
        }
    }
}

static void test_a_killed_process_loses_nothing_it_was_told_is_stored(void)
{
    for (unsigned round = 0; round < 12; round++) {
        const char *path = fixture_path("killed.cubby");
        struct cubby_options options = options_of(CUBBY_NEW, 64 << 20);
        struct fixture fixture;
        unlink(path);
        fixture_open(&fixture, path, &options);
        fixture_close(&fixture);
        run_and_kill(path, 20000 * round + 1000, round % 2 == 0);
        fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
        CHECK_EQUAL(read_stat(&fixture).recovered, 1);
        expect_acknowledged(&fixture);
        fixture_check(&fixture);
        fixture_close(&fixture);
        fixture_open_flags(&fixture, path, 0);
        CHECK_EQUAL(read_stat(&fixture).recovered, 1);
        expect_acknowledged(&fixture);
        fixture_check(&fixture);
        put_number(&fixture, 1 << 30, 0, 100);
        fixture_close(&fixture);
        fixture_open_flags(&fixture, path, 0);
        CHECK_EQUAL(read_stat(&fixture).recovered, 0);
        expect_acknowledged(&fixture);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

static void test_recovery_can_itself_be_killed_and_repeated(void)
{
    const char *path = fixture_path("again.cubby");
    struct cubby_options options = options_of(CUBBY_NEW, 64 << 20);
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    fixture_close(&fixture);
    run_and_kill(path, 200000, false);
    for (unsigned i = 0; i < 8; i++) {
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            struct fixture own;
            fixture_open_flags(&own, path, 0);
            pause();
            _exit(1);
        }
        usleep(2000 * i);
        kill(child, SIGKILL);
        CHECK_EQUAL(waitpid(child, NULL, 0), child);
    }
    fixture_open_flags(&fixture, path, 0);
    expect_acknowledged(&fixture);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_clean_store_is_not_written_by_opening_and_reading_it(void)
{
    const char *path = fixture_path("clean.cubby");
    struct fixture fixture;
    fixture_open_flags(&fixture, path, CUBBY_CREATE);
    put_number(&fixture, 1, 0, 100);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, 0);
    expect_number(&fixture, 1, 0, 100);
    CHECK_EQUAL(read_stat(&fixture).blocks_written, 0);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, 0);
    CHECK_EQUAL(read_stat(&fixture).recovered, 0);
    fixture_close(&fixture);
}

/* A block of the device as it is now. */
static void read_block(const char *path, uint64_t lba, uint8_t *block)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(pread(fd, block, BLOCK_BYTES, (off_t)(lba * BLOCK_BYTES)), BLOCK_BYTES);
    CHECK_EQUAL(close(fd), 0);
}

enum planted {
    PLANTED_HOME,
    PLANTED_SPILL,
    PLANTED_EMPTY_HOME,
    PLANTED_KINDS,
};

/* The LBA of a block of a live segment that fits, by looking at every block of the file. */
static uint64_t find_block(const char *path, const struct cubby_stat *stat, enum planted kind)
{
    uint8_t block[BLOCK_BYTES];
    for (uint64_t lba = 0; lba < stat->logical_bytes / BLOCK_BYTES; lba++) {
        read_block(path, lba, block);
        if (load_u32(block + 24) != BLOCK_MAGIC) {
            continue;
        }
        bool is_spill = block[36] == BLOCK_ROLE_SPILL;
        bool is_empty = load_u16(block + 32) == 0;
        if ((kind == PLANTED_HOME && !is_spill && !is_empty) ||
            (kind == PLANTED_SPILL && is_spill) ||
            (kind == PLANTED_EMPTY_HOME && !is_spill && is_empty)) {
            return lba;
        }
    }
    fprintf(stderr, "no such block\n");
    exit(1);
}

/* A small store of one segment, in a file. */
static struct cubby_stat make_small(const char *path)
{
    struct cubby_options options = options_of(CUBBY_NEW, 1 << 20);
    options.environment = repeatable_environment(); /* some homes stay empty */
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    for (uint64_t i = 0; i < SMALL_PAIRS; i++) {
        put_number(&fixture, i, 0, 200);
    }
    put_number(&fixture, 1000, 0, 5000);
    put_number(&fixture, 1001, 0, 200000);
    struct cubby_stat stat = read_stat(&fixture);
    fixture_close(&fixture);
    return stat;
}

/* Open read-only, check, and return how many damages there are; the first one's LBA is compared. */
static size_t count_damages(const char *path, uint64_t lba)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    struct cubby_damage damages[4];
    size_t count;
    CHECK_STATUS(fixture.session, cubby_check(fixture.session, damages, 4, &count), CUBBY_OK);
    if (count > 0) {
        CHECK_EQUAL(damages[0].lba, lba);
        CHECK(strlen(damages[0].text) > 0);
    }
    fixture_close(&fixture);
    return count;
}

static void test_check_names_a_flipped_bit_in_every_kind_of_segment_block(void)
{
    const char *path = fixture_path("segment.cubby");
    struct cubby_stat stat = make_small(path);
    for (enum planted kind = 0; kind < PLANTED_KINDS; kind++) {
        uint64_t lba = find_block(path, &stat, kind);
        const unsigned offsets[] = {0, 9, 17, 21, 29, 31, 33, 35, 36, 37, 38, 39, 41, 4095};
        for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
            flip_bit(path, lba, offsets[i]);
            CHECK_EQUAL(count_damages(path, lba), 1);
            flip_bit(path, lba, offsets[i]);
        }
    }
    CHECK_EQUAL(count_damages(path, 0), 0);
}

static void test_check_names_either_damaged_superblock(void)
{
    const char *path = fixture_path("superblock.cubby");
    make_small(path);
    for (uint64_t lba = 0; lba < 2; lba++) {
        flip_bit(path, lba, 60);
        CHECK_EQUAL(count_damages(path, lba), 1);
        flip_bit(path, lba, 60);
    }
    CHECK_EQUAL(count_damages(path, 0), 0);
}

static void test_two_damaged_superblocks_are_refused_by_name(void)
{
    const char *path = fixture_path("superblocks.cubby");
    make_small(path);
    flip_bit(path, 0, 60);
    flip_bit(path, 1, 60);
    struct fixture fixture;
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_CORRUPT);
    CHECK(strstr(fixture.message, path) != NULL);
    CHECK(strstr(fixture.message, "superblock") != NULL);
}

static uint64_t find_magic(const char *path, const struct cubby_stat *stat, size_t offset,
                           uint32_t magic)
{
    uint8_t block[BLOCK_BYTES];
    uint64_t found = 0;
    for (uint64_t lba = 2; lba < stat->logical_bytes / BLOCK_BYTES; lba++) {
        read_block(path, lba, block);
        if (load_u32(block + offset) == magic) {
            found = lba;
        }
    }
    CHECK(found != 0);
    return found;
}

static void test_a_damaged_checkpoint_is_named_and_recovery_gets_round_it(void)
{
    const char *path = fixture_path("checkpoint.cubby");
    make_small(path);
    uint8_t super[BLOCK_BYTES];
    uint8_t other[BLOCK_BYTES];
    read_block(path, 0, super);
    read_block(path, 1, other);
    const uint8_t *newer = load_u64(super + 48) > load_u64(other + 48) ? super : other;
    uint64_t lba = load_u64(newer + 112) + EXTENT_BLOCKS * load_u64(newer + SUPERBLOCK_RUNS_OFFSET);
    flip_bit(path, lba, 30);
    struct fixture fixture;
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_CORRUPT);
    char named[32];
    snprintf(named, sizeof named, "LBA %llu", (unsigned long long)lba);
    CHECK(strstr(fixture.message, named) != NULL);
    fixture_open_flags(&fixture, path, CUBBY_RECOVER);
    for (uint64_t i = 0; i < SMALL_PAIRS; i++) {
        expect_number(&fixture, i, 0, 200);
    }
    expect_number(&fixture, 1001, 0, 200000);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_damaged_blob_is_named_by_check_and_by_get(void)
{
    const char *path = fixture_path("blob.cubby");
    struct cubby_stat stat = make_small(path);
    uint64_t index_lba = find_magic(path, &stat, 16, BLOB_INDEX_MAGIC);
    uint8_t index[BLOCK_BYTES];
    read_block(path, index_lba, index);
    uint64_t data_lba = load_u64(index + BLOB_INDEX_HEADER_BYTES);
    const uint64_t lbas[] = {index_lba, data_lba};
    for (size_t i = 0; i < 2; i++) {
        flip_bit(path, lbas[i], 100);
        CHECK_EQUAL(count_damages(path, lbas[i]), 1);
        struct fixture fixture;
        fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
        uint8_t key[32];
        size_t key_size = format_key(1001, key);
        struct cubby_slice value;
        CHECK_EQUAL(cubby_get(fixture.session, key, key_size, &value), CUBBY_CORRUPT);
        char named[32];
        snprintf(named, sizeof named, "LBA %llu", (unsigned long long)lbas[i]);
        CHECK(strstr(cubby_session_message(fixture.session), named) != NULL);
        fixture_close(&fixture);
        flip_bit(path, lbas[i], 100);
    }
}

static void test_a_damaged_pair_is_reported_by_get_and_the_others_stay_readable(void)
{
    const char *path = fixture_path("home.cubby");
    struct cubby_stat stat = make_small(path);
    flip_bit(path, find_block(path, &stat, PLANTED_HOME), 100);
    struct fixture fixture;
    fixture_open_flags(&fixture, path, 0);
    size_t damaged = 0;
    for (uint64_t i = 0; i < SMALL_PAIRS; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        struct cubby_slice value;
        int status = cubby_get(fixture.session, key, key_size, &value);
        CHECK(status == CUBBY_OK || status == CUBBY_CORRUPT);
        damaged += status == CUBBY_CORRUPT;
    }
    CHECK(damaged >= 1);
    CHECK(damaged < SMALL_PAIRS / 2);
    fixture_close(&fixture);
}

/* What a get says of a key that was put again: the newer version, or damage; never the older one.
 */
static bool is_damaged(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    struct cubby_slice value;
    int status = cubby_get(fixture->session, key, key_size, &value);
    if (status != CUBBY_CORRUPT) {
        expect_number(fixture, number, 5, 400);
    }
    return status == CUBBY_CORRUPT;
}

/* Put pairs until there have been so many splits, or, of none, one rebuild; put them all again, and
 * let the process die. Returns how many they are. Older copies of segments are left behind: what
 * has been freed waits for a checkpoint. */
static uint64_t change_and_die(const char *path, uint64_t splits)
{
    struct cubby_options options = options_of(CUBBY_NEW, 8 << 20);
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    fixture_close(&fixture);
    *acknowledged = 0;
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct fixture own;
        uint64_t count = 0;
        fixture_open_flags(&own, path, 0);
        while (read_stat(&own).splits < splits || read_stat(&own).rebuilds == 0) {
            put_number(&own, count++, 0, 400);
        }
        CHECK_EQUAL(count_pairs(&own), count); /* writes them back */
        for (uint64_t i = 0; i < count; i++) {
            put_number(&own, i, 5, 400); /* in place */
        }
        CHECK_EQUAL(count_pairs(&own), count);
        *acknowledged = count;
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    return *acknowledged;
}

/* A home block of a segment that has pairs. */
static uint64_t find_home(struct fixture *fixture, uint64_t segment, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint8_t key[32];
        struct cubby_location location;
        CHECK_STATUS(fixture->session,
                     cubby_locate(fixture->session, key, format_key(i, key), &location), CUBBY_OK);
        if (location.segment == segment && location.is_found && !location.is_displaced) {
            return location.home_lba;
        }
    }
    CHECK(false);
    return 0;
}

/* After an unclean stop, damage of the live copy must not make an older copy pass for it. */
static void damage_after_a_crash(uint64_t splits)
{
    const char *path = fixture_path("older.cubby");
    uint64_t count = change_and_die(path, splits);
    struct fixture fixture;
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    CHECK_EQUAL(read_stat(&fixture).recovered, 1);
    for (uint64_t i = 0; i < count; i++) {
        expect_number(&fixture, i, 5, 400);
    }
    struct cubby_stat stat = read_stat(&fixture);
    CHECK_EQUAL(stat.segments, splits + 1);
    uint64_t lba = find_home(&fixture, stat.segments - 1, count);
    fixture_close(&fixture);
    flip_bit(path, lba, 100);
    CHECK_EQUAL(count_damages(path, lba), 1);
    fixture_open_flags(&fixture, path, 0);
    uint64_t damaged = 0;
    for (uint64_t i = 0; i < count; i++) {
        damaged += is_damaged(&fixture, i);
    }
    CHECK(damaged > 0 && damaged < 30);
    int closing = fixture_try_close(&fixture); /* what is dirty may belong there */
    CHECK(closing == CUBBY_OK || closing == CUBBY_CORRUPT);
    /* Only who asks for it is given an older copy, if there is one, and what the log still has. */
    struct cubby_options options = options_of(CUBBY_RECOVER, 0);
    int status = fixture_try_open(&fixture, path, &options);
    if (status != CUBBY_OK) {
        CHECK_EQUAL(status, CUBBY_CORRUPT);
        CHECK(strstr(fixture.message, "is missing") != NULL);
        CHECK(splits > 0);
        return;
    }
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    CHECK(count_pairs(&fixture) > count / 2);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_damage_after_a_crash_is_never_replaced_by_an_older_copy_unless_asked(void)
{
    damage_after_a_crash(0);
}

/* A split that was published must not pass for one that was not, because a child is damaged. */
static void test_damage_in_the_youngest_segment_is_not_taken_for_an_unfinished_split(void)
{
    damage_after_a_crash(2);
}

/* Of a store whose process died: blocks of the log's last run, in order. Returns how many. */
static size_t find_log_blocks(const char *path, uint64_t *lbas, size_t capacity)
{
    uint8_t super[BLOCK_BYTES];
    uint8_t other[BLOCK_BYTES];
    read_block(path, 0, super);
    read_block(path, 1, other);
    const uint8_t *newer = load_u64(super + 48) > load_u64(other + 48) ? super : other;
    uint64_t run = load_u64(newer + SUPERBLOCK_LOG_OFFSET);
    uint64_t first = load_u64(newer + 96);
    uint64_t end = first + load_u64(newer + 104);
    size_t count = 0;
    for (uint64_t lba = first; lba < end && count < capacity; lba++) {
        uint8_t block[BLOCK_BYTES];
        read_block(path, lba, block);
        if (load_u32(block + 8) == LOG_MAGIC && load_u64(block + 16) == run) {
            lbas[count++] = lba;
        }
    }
    return count;
}

/* Put pairs, each of them flushed now and then, and die. */
static void log_and_die(const char *path, uint64_t count)
{
    struct cubby_options options = options_of(CUBBY_NEW, 64 << 20);
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    fixture_close(&fixture);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct fixture own;
        fixture_open_flags(&own, path, 0);
        for (uint64_t i = 0; i < count; i++) {
            put_number(&own, i, 0, 400);
            if (i % 50 == 49) {
                CHECK_STATUS(own.session, cubby_sync(own.session), CUBBY_OK);
            }
        }
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

static void copy_file(const char *from, const char *to)
{
    char command[1200];
    snprintf(command, sizeof command, "cp --sparse=always '%s' '%s'", from, to);
    CHECK_EQUAL(system(command), 0);
}

/* Returns how many of the first count pairs are there, whole. */
static uint64_t count_present(struct fixture *fixture, uint64_t count)
{
    uint64_t present = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        int status = cubby_contains(fixture->session, key, key_size);
        if (status != CUBBY_NOT_FOUND) {
            expect_number(fixture, i, 0, 400);
            present++;
        }
    }
    return present;
}

/* What was flushed and is damaged is damage, with its place; what never was is a tail. */
static void test_a_flipped_bit_in_the_log_is_named_and_loss_is_accepted_only_if_asked(void)
{
    enum {
        PAIRS = 300,
    };
    const char *whole = fixture_path("log.cubby");
    const char *path = fixture_path("damaged.cubby");
    log_and_die(whole, PAIRS);
    uint64_t lbas[256];
    size_t blocks = find_log_blocks(whole, lbas, 256);
    CHECK(blocks > 20);
    static const unsigned offsets[] = {0, 9, 13, 17, 25, 41, 48, 57, 60, 200};
    /* That the last flush has been is written nowhere but before the next block. */
    for (size_t i = 0; i + 8 < blocks; i += 3) {
        struct fixture fixture;
        copy_file(whole, path);
        flip_bit(path, lbas[i], offsets[i / 3 % (sizeof offsets / sizeof *offsets)]);
        CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_CORRUPT);
        CHECK(strstr(fixture.message, "LSN") != NULL);
        CHECK(strstr(fixture.message, "log") != NULL);
        struct cubby_options options = options_of(CUBBY_RECOVER, 0);
        CHECK_EQUAL(fixture_try_open(&fixture, path, &options), CUBBY_CORRUPT);
        fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN | CUBBY_ACCEPT_LOSS);
        uint64_t present = count_present(&fixture, PAIRS);
        fixture_close(&fixture);
        fixture_open_flags(&fixture, path, CUBBY_ACCEPT_LOSS);
        CHECK_EQUAL(count_present(&fixture, PAIRS), present);
        CHECK(present >= PAIRS - 20 && present < PAIRS);
        fixture_check(&fixture);
        put_number(&fixture, PAIRS, 0, 400);
        fixture_close(&fixture);
        fixture_open_flags(&fixture, path, 0);
        CHECK_EQUAL(count_pairs(&fixture), present + 1);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

static void test_a_log_that_is_cut_off_ends_there(void)
{
    enum {
        PAIRS = 49, /* never flushed */
    };
    const char *whole = fixture_path("tail.cubby");
    const char *path = fixture_path("cut.cubby");
    log_and_die(whole, PAIRS);
    uint64_t lbas[256];
    size_t blocks = find_log_blocks(whole, lbas, 256);
    CHECK(blocks >= 4);
    uint64_t before = PAIRS;
    for (size_t i = blocks; i-- > 0;) {
        struct fixture fixture;
        copy_file(whole, path);
        flip_bit(path, lbas[i], 60); /* in the header of its first record */
        fixture_open_flags(&fixture, path, 0);
        uint64_t present = count_present(&fixture, PAIRS);
        CHECK(present < before);
        for (uint64_t k = 0; k < present; k++) {
            expect_number(&fixture, k, 0, 400);
        }
        before = present;
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
    CHECK_EQUAL(before, 0);
}

/* Change a field of both superblocks and seal them again. */
static void set_superblock_field(const char *path, size_t offset, uint64_t number, size_t size)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    for (uint64_t lba = 0; lba < SUPERBLOCK_COUNT; lba++) {
        uint8_t block[BLOCK_BYTES];
        off_t place = (off_t)(lba * BLOCK_BYTES);
        CHECK_EQUAL(pread(fd, block, BLOCK_BYTES, place), BLOCK_BYTES);
        memcpy(block + offset, &number, size);
        store_u64(block, checksum_of(block + 8, BLOCK_BYTES - 8, lba, 0));
        CHECK_EQUAL(pwrite(fd, block, BLOCK_BYTES, place), BLOCK_BYTES);
    }
    CHECK_EQUAL(close(fd), 0);
}

static void test_a_newer_format_is_refused_and_not_written(void)
{
    const char *path = fixture_path("newer.cubby");
    struct fixture fixture;
    make_small(path);
    set_superblock_field(path, 16, FORMAT_VERSION + 1, 4);
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_FORMAT_VERSION);
    CHECK(strstr(fixture.message, "newer CubbyDB") != NULL);
    struct cubby_options options = options_of(CUBBY_NEW, 1 << 20);
    CHECK_EQUAL(fixture_try_open(&fixture, path, &options), CUBBY_FORMAT_VERSION);
    set_superblock_field(path, 16, FORMAT_VERSION, 4);
    set_superblock_field(path, 40, FEATURE_LOG | 2, 8); /* an unknown incompatible feature */
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_FORMAT_VERSION);
    set_superblock_field(path, 40, FEATURE_LOG, 8);
    set_superblock_field(path, 32, 1, 8); /* one that allows reading */
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_FORMAT_VERSION);
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    expect_number(&fixture, 1, 0, 200);
    fixture_close(&fixture);
    set_superblock_field(path, 32, 0, 8);
    set_superblock_field(path, 24, 1, 8); /* one that does not matter */
    fixture_open_flags(&fixture, path, 0);
    expect_number(&fixture, 1, 0, 200);
    fixture_close(&fixture);
}

int main(void)
{
    share_counter();
    RUN(test_a_killed_process_loses_nothing_it_was_told_is_stored);
    RUN(test_recovery_can_itself_be_killed_and_repeated);
    RUN(test_a_clean_store_is_not_written_by_opening_and_reading_it);
    RUN(test_check_names_a_flipped_bit_in_every_kind_of_segment_block);
    RUN(test_check_names_either_damaged_superblock);
    RUN(test_two_damaged_superblocks_are_refused_by_name);
    RUN(test_a_damaged_checkpoint_is_named_and_recovery_gets_round_it);
    RUN(test_a_damaged_blob_is_named_by_check_and_by_get);
    RUN(test_a_damaged_pair_is_reported_by_get_and_the_others_stay_readable);
    RUN(test_damage_in_the_youngest_segment_is_not_taken_for_an_unfinished_split);
    RUN(test_a_newer_format_is_refused_and_not_written);
    RUN(test_damage_after_a_crash_is_never_replaced_by_an_older_copy_unless_asked);
    RUN(test_a_flipped_bit_in_the_log_is_named_and_loss_is_accepted_only_if_asked);
    RUN(test_a_log_that_is_cut_off_ends_there);
    return 0;
}
