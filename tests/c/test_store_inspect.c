/* test_store_inspect.c -- what blocks, segments and keys are said to be, and what they are.
 *
 * Depends on: store_fixture.h, fuzz.h.
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/store/store.h"
#include "tests/c/fuzz.h"
#include "tests/c/store_fixture.h"

enum {
    MIB = 1 << 20,
    PAIRS = 3000,
    KINDS = CUBBY_BLOCK_FREE + 1,
    WRITER_ROUNDS = 3,
};

static size_t size_of(uint64_t number)
{
    static const size_t large[] = {1200, 5000, 65000, 70000, 300000};
    return number % 100 == 7 ? large[number / 100 % 5] : 200 + number * 13 % 500;
}

static void fill(struct fixture *fixture)
{
    for (uint64_t i = 0; i < PAIRS; i++) {
        put_number(fixture, i, 0, size_of(i));
    }
    fixture_rest(fixture);
}

static struct cubby_block_info read_info(struct fixture *fixture, uint64_t lba, uint8_t *block)
{
    struct cubby_block_info info;
    CHECK_STATUS(fixture->session, cubby_read_block(fixture->session, lba, block, &info), CUBBY_OK);
    CHECK_EQUAL(info.lba, lba);
    CHECK_EQUAL(info.is_damaged, info.damage[0] != '\0');
    return info;
}

static struct cubby_location locate(struct fixture *fixture, const uint8_t *key, size_t key_size)
{
    struct cubby_location location;
    CHECK_STATUS(fixture->session, cubby_locate(fixture->session, key, key_size, &location),
                 CUBBY_OK);
    return location;
}

static uint64_t get_reads(struct fixture *fixture)
{
    struct cubby_stat stat = read_stat(fixture);
    return stat.get_home_reads + stat.get_spill_reads + stat.get_blob_reads + stat.get_retry_reads;
}

/* The pair that a block has at an offset. */
static struct cubby_block_pair pair_at(const uint8_t *block, uint64_t wanted)
{
    uint64_t offset = 0;
    struct cubby_block_pair pair;
    do {
        CHECK_EQUAL(cubby_block_next_pair(block, &offset, &pair), CUBBY_OK);
    } while (pair.offset != wanted);
    return pair;
}

/* A pair stands where it is said to stand, and a get makes as many reads as it is said to. */
static struct cubby_location check_location(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    struct cubby_location location = locate(fixture, key, key_size);
    CHECK(location.is_found);
    CHECK_EQUAL(location.key_size, key_size);
    CHECK_EQUAL(location.value_size, size_of(number));
    uint8_t block[BLOCK_BYTES];
    struct cubby_block_info info = read_info(fixture, location.lba, block);
    CHECK(!info.is_damaged);
    CHECK_EQUAL(info.segment, location.segment);
    CHECK_EQUAL(info.kind, location.is_displaced ? CUBBY_BLOCK_SPILL : CUBBY_BLOCK_HOME);
    CHECK_EQUAL(info.home_count, location.home_count);
    CHECK_EQUAL(info.block_index, location.is_displaced ? location.home_count + location.spill_block
                                                        : location.home_block);
    struct cubby_block_pair pair = pair_at(block, location.pair_offset);
    CHECK_EQUAL(pair.encoded_size, location.encoded_size);
    CHECK_EQUAL(pair.value_size, location.value_size);
    CHECK(pair.key.size == key_size && memcmp(pair.key.data, key, key_size) == 0);
    CHECK_EQUAL(pair.is_blob, location.is_blob);
    CHECK_EQUAL(pair.value.size, location.is_blob ? 0 : size_of(number));
    if (location.is_blob) {
        CHECK(pair.blob_lba == location.blob_lba && pair.blob_checksum == location.blob_checksum);
        uint64_t content = (key_size + size_of(number) + BLOCK_BYTES - 1) / BLOCK_BYTES;
        CHECK_EQUAL(location.blob_blocks, content + (content > EXTENT_BLOCKS));
        info = read_info(fixture, location.blob_lba, block);
        CHECK_EQUAL(info.kind, content > EXTENT_BLOCKS ? CUBBY_BLOCK_BLOB_INDEX : CUBBY_BLOCK_BLOB);
        CHECK(info.granules != 0);
    }
    uint64_t before = get_reads(fixture);
    expect_number(fixture, number, 0, size_of(number));
    CHECK_EQUAL(get_reads(fixture) - before, location.device_reads);
    return location;
}

static void test_every_pair_is_where_it_is_said_to_be(void)
{
    struct fixture fixture;
    fixture_create(&fixture, "mem:64M", 16 * MIB);
    fill(&fixture);
    uint64_t displaced = 0;
    uint64_t blobs = 0;
    for (uint64_t i = 0; i < PAIRS; i++) {
        struct cubby_location location = check_location(&fixture, i);
        displaced += location.is_displaced;
        blobs += location.is_blob;
        if (location.is_displaced) { /* its home lists it */
            uint8_t block[BLOCK_BYTES];
            read_info(&fixture, location.home_lba, block);
            uint64_t fingerprint;
            uint64_t spill_block;
            bool listed = false;
            for (uint64_t e = 0;
                 cubby_block_displaced(block, e, &fingerprint, &spill_block) == CUBBY_OK; e++) {
                listed = listed || (fingerprint == location.fingerprint &&
                                    spill_block == location.spill_block);
            }
            CHECK(listed);
        }
    }
    CHECK(displaced > 0);
    CHECK_EQUAL(blobs, PAIRS / 100);
    fixture_close(&fixture);
}

static void test_looking_counts_no_gets_and_writes_nothing(void)
{
    struct fixture fixture;
    fixture_create(&fixture, "mem:64M", 16 * MIB);
    fill(&fixture);
    struct cubby_stat before = read_stat(&fixture);
    uint8_t block[BLOCK_BYTES];
    struct cubby_segment_info segment;
    for (uint64_t i = 0; i < 100; i++) {
        uint8_t key[32];
        locate(&fixture, key, format_key(i, key));
        read_info(&fixture, i * 7, block);
    }
    CHECK_STATUS(fixture.session, cubby_segment_info(fixture.session, 0, &segment, NULL, 0),
                 CUBBY_OK);
    struct cubby_stat after = read_stat(&fixture);
    CHECK_EQUAL(after.gets, before.gets);
    CHECK_EQUAL(after.get_home_reads, before.get_home_reads);
    CHECK_EQUAL(after.get_blob_reads, before.get_blob_reads);
    CHECK_EQUAL(after.blocks_written, before.blocks_written);
    fixture_close(&fixture);
}

static void test_an_absent_key_has_a_place_too(void)
{
    struct fixture fixture;
    fixture_create(&fixture, "mem:64M", 16 * MIB);
    fill(&fixture);
    for (uint64_t i = PAIRS; i < PAIRS + 500; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        struct cubby_location location = locate(&fixture, key, key_size);
        CHECK(!location.is_found);
        CHECK_EQUAL(location.lba, location.home_lba);
        uint64_t before = get_reads(&fixture);
        expect_absent(&fixture, i);
        CHECK_EQUAL(get_reads(&fixture) - before, location.device_reads);
        CHECK_EQUAL(cubby_put(fixture.session, key, key_size, NULL, 0), CUBBY_OK);
        fixture_rest(&fixture);
        struct cubby_location found = locate(&fixture, key, key_size);
        CHECK(found.is_found && found.value_size == 0);
        CHECK(found.hash_low == location.hash_low && found.hash_high == location.hash_high);
    }
    fixture_close(&fixture);
}

static void test_keys_that_only_a_blob_has_are_found(void)
{
    struct fixture fixture;
    fixture_create(&fixture, "mem:64M", 16 * MIB);
    static const size_t key_sizes[] = {129, 1000, 65535, 65535, 40000};
    static const size_t value_sizes[] = {900, 200, 0, 300000, 40000};
    static uint8_t key[65535];
    static uint8_t value[300000];
    for (size_t i = 0; i < 5; i++) {
        memset(key, 'a' + (int)i, sizeof key);
        CHECK_STATUS(fixture.session,
                     cubby_put(fixture.session, key, key_sizes[i], value, value_sizes[i]),
                     CUBBY_OK);
        fixture_rest(&fixture);
        struct cubby_location location = locate(&fixture, key, key_sizes[i]);
        CHECK(location.is_found && location.is_blob);
        uint8_t block[BLOCK_BYTES];
        read_info(&fixture, location.lba, block);
        struct cubby_block_pair pair = pair_at(block, location.pair_offset);
        CHECK(pair.key.data == NULL && pair.key.size == 0 && pair.key_size == key_sizes[i]);
        CHECK(pair.hash_low == location.hash_low && pair.hash_high == location.hash_high);
        uint64_t before = get_reads(&fixture);
        struct cubby_slice found;
        CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, key_sizes[i], &found),
                     CUBBY_OK);
        CHECK_EQUAL(get_reads(&fixture) - before, location.device_reads);
    }
    fixture_close(&fixture);
}

/* Every block of a store, by kind. */
static void count_kinds(struct fixture *fixture, uint64_t counts[KINDS], uint64_t *pairs)
{
    uint64_t block_count = read_stat(fixture).logical_bytes / BLOCK_BYTES;
    memset(counts, 0, KINDS * sizeof *counts);
    *pairs = 0;
    for (uint64_t lba = 0; lba < block_count; lba++) {
        uint8_t block[BLOCK_BYTES];
        struct cubby_block_info info = read_info(fixture, lba, block);
        CHECK(info.kind > 0 && info.kind < KINDS);
        if (info.is_damaged) {
            fprintf(stderr, "LBA %llu: %s\n", (unsigned long long)lba, info.damage);
            exit(1);
        }
        counts[info.kind]++;
        *pairs += info.kind == CUBBY_BLOCK_HOME ? info.pair_count + info.displaced_count : 0;
    }
}

static void check_kinds(struct fixture *fixture)
{
    struct cubby_stat stat = read_stat(fixture);
    uint64_t counts[KINDS];
    uint64_t pairs;
    count_kinds(fixture, counts, &pairs);
    CHECK_EQUAL(counts[CUBBY_BLOCK_SUPERBLOCK], 2);
    CHECK_EQUAL(counts[CUBBY_BLOCK_LOG], fixture->store->super.wal_block_count);
    CHECK_EQUAL(counts[CUBBY_BLOCK_HOME], stat.home_blocks);
    CHECK_EQUAL(counts[CUBBY_BLOCK_SPILL], stat.spill_blocks);
    CHECK_EQUAL(counts[CUBBY_BLOCK_QUARANTINED] * BLOCK_BYTES, stat.quarantined_bytes);
    CHECK_EQUAL(pairs, stat.pairs);
    CHECK_EQUAL(counts[CUBBY_BLOCK_BLOB_INDEX], PAIRS / 100 / 5 * 2); /* 70,000 and 300,000 */
    uint64_t content = 0;
    for (uint64_t i = 7; i < PAIRS; i += 100) {
        content += (16 + size_of(i) + BLOCK_BYTES - 1) / BLOCK_BYTES;
    }
    CHECK_EQUAL(counts[CUBBY_BLOCK_BLOB], content);
}

static void test_every_block_is_what_it_is_said_to_be(void)
{
    const char *path = fixture_path("kinds.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, 8 * MIB);
    fill(&fixture);
    check_kinds(&fixture);
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    check_kinds(&fixture);
    uint64_t counts[KINDS];
    uint64_t pairs;
    count_kinds(&fixture, counts, &pairs);
    CHECK(counts[CUBBY_BLOCK_CHECKPOINT] >= EXTENT_BLOCKS);
    CHECK_EQUAL(counts[CUBBY_BLOCK_QUARANTINED], 0);
    uint8_t block[BLOCK_BYTES];
    struct cubby_block_info copies[] = {read_info(&fixture, 0, block),
                                        read_info(&fixture, 1, block)};
    CHECK_EQUAL(copies[0].is_current + copies[1].is_current, 1);
    uint64_t newer = copies[1].is_current;
    CHECK_EQUAL(copies[newer].generation, copies[1 - newer].generation + 1);
    CHECK_EQUAL(copies[newer].block_count * BLOCK_BYTES, read_stat(&fixture).logical_bytes);
    CHECK(!copies[newer].is_clean);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    check_kinds(&fixture);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN | CUBBY_RECOVER);
    check_kinds(&fixture); /* of the old checkpoint nothing is known, so no block is damaged */
    fixture_close(&fixture);
}

static void test_segments_are_told_block_by_block(void)
{
    struct fixture fixture;
    fixture_create(&fixture, "mem:64M", 16 * MIB);
    fill(&fixture);
    uint64_t pairs = 0;
    struct cubby_segment_info info = {.segment_count = 1};
    static struct cubby_block_info blocks[4096];
    for (uint64_t number = 0; number < info.segment_count; number++) {
        CHECK_STATUS(fixture.session, cubby_segment_info(fixture.session, number, &info, NULL, 0),
                     CUBBY_OK);
        CHECK(info.block_count <= 4096 && info.home_count < info.block_count);
        CHECK_STATUS(fixture.session,
                     cubby_segment_info(fixture.session, number, &info, blocks, 4096), CUBBY_OK);
        uint64_t payload = 0;
        uint64_t displaced = 0;
        uint64_t listed = 0;
        for (uint64_t i = 0; i < info.block_count; i++) {
            bool is_home = i < info.home_count;
            CHECK_EQUAL(blocks[i].kind, is_home ? CUBBY_BLOCK_HOME : CUBBY_BLOCK_SPILL);
            CHECK_EQUAL(blocks[i].lba, info.lba + i);
            CHECK_EQUAL(blocks[i].block_index, i);
            CHECK(blocks[i].segment == number && blocks[i].depth == info.depth);
            CHECK(!blocks[i].is_damaged && blocks[i].lsn > 0);
            pairs += is_home ? blocks[i].pair_count + blocks[i].displaced_count : 0;
            displaced += is_home ? blocks[i].displaced_count : 0;
            listed += is_home ? 0 : blocks[i].displaced_count;
            CHECK(is_home || blocks[i].displaced_count <= blocks[i].pair_count);
            payload += blocks[i].used_bytes - BLOCK_HEADER_BYTES -
                       (is_home ? blocks[i].displaced_count * DISPLACED_BYTES : 0);
        }
        CHECK_EQUAL(displaced, listed);
        CHECK(payload >= info.payload_bytes); /* more where dead records stand in spill blocks */
        CHECK(payload < info.payload_bytes + 8192);
        CHECK_EQUAL(info.home_bytes, info.home_count * HOME_PAIR_BYTES);
        /* With less room, only the first are told. */
        memset(blocks, 0xff, 3 * sizeof *blocks);
        CHECK_STATUS(fixture.session, cubby_segment_info(fixture.session, number, &info, blocks, 2),
                     CUBBY_OK);
        CHECK_EQUAL(blocks[1].block_index, 1);
        CHECK(blocks[2].lba == UINT64_MAX);
    }
    CHECK_EQUAL(pairs, PAIRS);
    CHECK(info.segment_count > 1);
    fixture_close(&fixture);
}

static void test_what_is_not_there_is_named(void)
{
    struct fixture fixture;
    fixture_create(&fixture, "mem:64M", MIB);
    struct cubby_block_info info = {.lba = 17};
    uint8_t block[BLOCK_BYTES];
    static const uint64_t lbas[] = {1024, 1025, UINT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        CHECK_EQUAL(cubby_read_block(fixture.session, lbas[i], block, &info), CUBBY_BAD_ARGUMENT);
        CHECK(strstr(cubby_session_message(fixture.session), "0 to 1023") != NULL);
    }
    CHECK_EQUAL(info.lba, 17);
    read_info(&fixture, 1023, block);
    struct cubby_segment_info segment;
    static const uint64_t numbers[] = {1, UINT64_MAX};
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQUAL(cubby_segment_info(fixture.session, numbers[i], &segment, NULL, 0),
                    CUBBY_BAD_ARGUMENT);
        CHECK(strstr(cubby_session_message(fixture.session), "0 to 0") != NULL);
    }
    struct cubby_location location;
    CHECK_EQUAL(cubby_locate(fixture.session, block, 0, &location), CUBBY_BAD_ARGUMENT);
    fixture_close(&fixture);
}

static void test_a_damaged_block_is_described(void)
{
    const char *path = fixture_path("damage.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, 8 * MIB);
    fill(&fixture);
    uint64_t home_lba = check_location(&fixture, 0).lba;
    uint64_t segment = check_location(&fixture, 0).segment;
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    uint64_t checkpoint_lba =
        extent_lba(&fixture.store->extents, fixture.store->super.runs[0].first_extent);
    uint64_t older = 1 - fixture.store->super.generation % 2;
    const uint64_t lbas[] = {home_lba, checkpoint_lba, older};
    const uint64_t kinds[] = {CUBBY_BLOCK_HOME, CUBBY_BLOCK_CHECKPOINT, CUBBY_BLOCK_SUPERBLOCK};
    static const unsigned offsets[] = {0, 9, 25, 33, 34, 36, 38, 39, 200, 4095};
    for (size_t i = 0; i < 3; i++) {
        for (size_t o = 0; o < sizeof offsets / sizeof *offsets; o++) {
            uint8_t block[BLOCK_BYTES];
            flip_bit(path, lbas[i], offsets[o]);
            struct cubby_block_info info = read_info(&fixture, lbas[i], block);
            CHECK(info.is_damaged);
            CHECK_EQUAL(info.kind, kinds[i]);
            flip_bit(path, lbas[i], offsets[o]);
            CHECK(!read_info(&fixture, lbas[i], block).is_damaged);
        }
    }
    flip_bit(path, home_lba, 100);
    struct cubby_segment_info info;
    static struct cubby_block_info blocks[4096];
    CHECK_STATUS(fixture.session, cubby_segment_info(fixture.session, segment, &info, blocks, 4096),
                 CUBBY_OK);
    for (uint64_t i = 0; i < info.block_count; i++) {
        CHECK_EQUAL(blocks[i].is_damaged, info.lba + i == home_lba);
    }
    uint8_t key[32];
    size_t key_size = format_key(0, key);
    struct cubby_location location;
    CHECK_EQUAL(cubby_locate(fixture.session, key, key_size, &location), CUBBY_CORRUPT);
    CHECK(strstr(cubby_session_message(fixture.session), "its checksum does not match") != NULL);
    flip_bit(path, home_lba, 100);
    fixture_close(&fixture);
}

static void test_what_the_device_finds_damaged_is_described_too(void)
{
    const char *path = fixture_path("drive");
    char name[600];
    struct fixture fixture;
    snprintf(name, sizeof name, "csd:%s", path);
    const struct cubby_device_options drive = {.physical_bytes = 4 * MIB};
    CHECK_EQUAL(cubby_device_create(name, &drive, fixture.message, sizeof fixture.message),
                CUBBY_OK);
    fixture_create(&fixture, name, 4 * MIB);
    put_number(&fixture, 0, 0, 700);
    fixture_rest(&fixture);
    uint8_t key[32];
    size_t key_size = format_key(0, key);
    struct cubby_location location = locate(&fixture, key, key_size);
    uint8_t block[BLOCK_BYTES];
    read_info(&fixture, location.lba, block);
    fixture_close(&fixture);
    /* Damage what the pair's value has become: it is in the file, half of it as it was. */
    int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t end = lseek(fd, 0, SEEK_END);
    uint8_t *content = malloc((size_t)end);
    CHECK(content != NULL);
    CHECK_EQUAL(pread(fd, content, (size_t)end, 0), end);
    uint8_t value[700];
    fill_value(0, 0, value, sizeof value);
    unsigned found = 0;
    for (uint8_t *at = content; (at = memmem(at, (size_t)(content + end - at), value, 64)) != NULL;
         at++) {
        at[3] ^= 1;
        found++;
    }
    CHECK(found > 0);
    CHECK_EQUAL(pwrite(fd, content, (size_t)end, 0), end);
    CHECK_EQUAL(close(fd), 0);
    free(content);
    fixture_open_flags(&fixture, name, CUBBY_READ_ONLY_OPEN);
    struct cubby_block_info info = read_info(&fixture, location.lba, block);
    CHECK(info.is_damaged && info.kind == CUBBY_BLOCK_HOME);
    CHECK(block[0] == 0 && memcmp(block, block + 1, BLOCK_BYTES - 1) == 0);
    struct cubby_segment_info segment;
    static struct cubby_block_info blocks[64];
    CHECK_STATUS(fixture.session, cubby_segment_info(fixture.session, 0, &segment, blocks, 64),
                 CUBBY_OK);
    for (uint64_t i = 0; i < segment.block_count; i++) {
        CHECK_EQUAL(blocks[i].is_damaged, segment.lba + i == location.lba);
    }
    fixture_close(&fixture);
}

static void test_any_bytes_can_be_stepped_through(void)
{
    uint64_t state = 5;
    uint64_t pairs = 0;
    for (int i = 0; i < 20000; i++) {
        uint8_t *block = malloc(BLOCK_BYTES + 1);
        CHECK(block != NULL);
        uint8_t *bytes = block + i % 2; /* at any address */
        random_fill(&state, bytes, BLOCK_BYTES);
        if (i % 4 != 0) { /* sizes that might be */
            store_u16(bytes + 34, (uint16_t)random_below(&state, BLOCK_BYTES + 10));
            bytes[38] = (uint8_t)random_below(&state, 10);
        }
        uint64_t offset = 0;
        uint64_t last = 0;
        struct cubby_block_pair pair;
        int status;
        while ((status = cubby_block_next_pair(bytes, &offset, &pair)) == CUBBY_OK) {
            CHECK(offset > last && offset <= BLOCK_BYTES);
            CHECK(pair.offset + pair.encoded_size == offset);
            last = offset;
            pairs++;
        }
        CHECK(status == CUBBY_NOT_FOUND || status == CUBBY_CORRUPT);
        offset = random_next(&state) >> random_below(&state, 64);
        (void)cubby_block_next_pair(bytes, &offset, &pair);
        uint64_t fingerprint;
        uint64_t spill_block;
        uint64_t entries = 0;
        while (cubby_block_displaced(bytes, entries, &fingerprint, &spill_block) == CUBBY_OK) {
            entries++;
        }
        CHECK(entries == 0 || entries == bytes[38]);
        free(block);
    }
    CHECK(pairs > 100);
}

/* Threads that write, until they are told to stop. */
struct writer {
    struct fixture fixture;
    _Atomic bool *stop;
};

static void *write_on(void *argument)
{
    struct writer *writer = argument;
    for (uint64_t i = PAIRS; !atomic_load(writer->stop); i++) {
        put_number(&writer->fixture, i % (2 * PAIRS), i, size_of(i));
        if (i % 500 == 0) {
            CHECK_STATUS(writer->fixture.session, cubby_sync(writer->fixture.session), CUBBY_OK);
        }
    }
    return NULL;
}

static void test_looking_is_safe_while_others_write(void)
{
    struct fixture fixture;
    fixture_create(&fixture, "mem:64M", 16 * MIB);
    fill(&fixture);
    _Atomic bool stop = false;
    struct writer writer = {.fixture = {.store = fixture.store}, .stop = &stop};
    CHECK_EQUAL(cubby_session_open(fixture.store, &writer.fixture.session), CUBBY_OK);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, write_on, &writer), 0);
    static struct cubby_block_info blocks[4096];
    for (int round = 0; round < WRITER_ROUNDS; round++) {
        for (uint64_t i = 0; i < PAIRS; i += 2) {
            uint8_t key[32];
            struct cubby_location location = locate(&fixture, key, format_key(i, key));
            CHECK(location.is_found);
            uint8_t block[BLOCK_BYTES];
            CHECK(!read_info(&fixture, location.lba, block).is_damaged);
            CHECK(!read_info(&fixture, i * 5, block).is_damaged);
            struct cubby_segment_info info;
            if (i % 50 == 0) {
                CHECK_STATUS(
                    fixture.session,
                    cubby_segment_info(fixture.session, location.segment, &info, blocks, 4096),
                    CUBBY_OK);
                for (uint64_t b = 0; b < info.block_count; b++) {
                    CHECK(!blocks[b].is_damaged);
                }
            }
        }
    }
    atomic_store(&stop, true);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    cubby_session_close(writer.fixture.session);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

int main(void)
{
    RUN(test_every_pair_is_where_it_is_said_to_be);
    RUN(test_looking_counts_no_gets_and_writes_nothing);
    RUN(test_an_absent_key_has_a_place_too);
    RUN(test_keys_that_only_a_blob_has_are_found);
    RUN(test_every_block_is_what_it_is_said_to_be);
    RUN(test_segments_are_told_block_by_block);
    RUN(test_what_is_not_there_is_named);
    RUN(test_a_damaged_block_is_described);
    RUN(test_what_the_device_finds_damaged_is_described_too);
    RUN(test_any_bytes_can_be_stepped_through);
    RUN(test_looking_is_safe_while_others_write);
    return 0;
}
