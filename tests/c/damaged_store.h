/* damaged_store.h -- the bytes of a closed store, in which damage is planted, sealed or not.
 *
 * Depends on: store_fixture.h, block.h, directory.h.   Used by: test_store_check.c,
 * test_store_repair.c.
 */
#ifndef CUBBY_DAMAGED_STORE_H
#define CUBBY_DAMAGED_STORE_H

#include <fcntl.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/store/block.h"
#include "engine/store/directory.h"
#include "tests/c/store_fixture.h"

enum {
    DAMAGES_MAX = 64,
    SAMPLE_PAIRS = 420,
    TWIN_BLOB_BYTES = 5000, /* numbers 10 and 20: blobs of one size */
    LARGE_BLOB_BYTES = 200000,
};

/* Sizes of values by number: most are inline, some blobs, one with an index. */
static inline size_t sample_size(uint64_t number)
{
    if (number == 30) {
        return LARGE_BLOB_BYTES;
    }
    return number % 100 == 10 || number % 100 == 20 ? TWIN_BLOB_BYTES : 100 + number * 7 % 800;
}

/* A small store of a few segments, with blobs and displaced pairs, in a file. */
static inline void sample_make(const char *path)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.size_bytes = 2 << 20;
    options.fill_percent = 75;
    options.environment = repeatable_environment();
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    for (uint64_t i = 0; i < SAMPLE_PAIRS; i++) {
        put_number(&fixture, i, 0, sample_size(i));
    }
    fixture_close(&fixture);
}

/* How many pairs are there as they were put; the others are damaged or gone. */
static inline uint64_t sample_count_readable(struct fixture *fixture)
{
    static uint8_t expected[LARGE_BLOB_BYTES];
    uint64_t count = 0;
    for (uint64_t i = 0; i < SAMPLE_PAIRS; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        struct cubby_slice value;
        int status = cubby_get(fixture->session, key, key_size, &value);
        CHECK(status == CUBBY_OK || status == CUBBY_CORRUPT || status == CUBBY_NOT_FOUND);
        if (status == CUBBY_OK) {
            fill_value(i, 0, expected, sample_size(i));
            CHECK_EQUAL(value.size, sample_size(i));
            count += memcmp(value.data, expected, value.size) == 0;
        }
    }
    return count;
}

/* Check, and look for a report of this LBA; with text NULL for none. Returns how many there are. */
static inline int expect_damage(struct fixture *fixture, uint64_t lba, const char *text)
{
    static struct cubby_damage damages[DAMAGES_MAX];
    size_t count;
    CHECK_STATUS(fixture->session, cubby_check(fixture->session, damages, DAMAGES_MAX, &count),
                 CUBBY_OK);
    bool is_found = text == NULL;
    for (size_t i = 0; i < count && i < DAMAGES_MAX && !is_found; i++) {
        is_found = damages[i].lba == lba && strstr(damages[i].text, text) != NULL;
    }
    for (size_t i = 0; i < count && i < DAMAGES_MAX && !is_found; i++) {
        fprintf(stderr, "LBA %llu: %s\n", (unsigned long long)damages[i].lba, damages[i].text);
    }
    if (!is_found) {
        fprintf(stderr, "LBA %llu is not named: \"%s\"\n", (unsigned long long)lba, text);
        exit(1);
    }
    return (int)count;
}

/* Repair, and look for a report; with text NULL there is none at all. */
static inline void expect_repair(struct fixture *fixture, const char *text)
{
    struct cubby_damage repairs[DAMAGES_MAX];
    size_t count;
    CHECK_STATUS(fixture->session, cubby_repair(fixture->session, repairs, DAMAGES_MAX, &count),
                 CUBBY_OK);
    bool is_found = text == NULL && count == 0;
    for (size_t i = 0; i < count && text != NULL; i++) {
        is_found = is_found || strstr(repairs[i].text, text) != NULL;
    }
    for (size_t i = 0; i < count && !is_found; i++) {
        fprintf(stderr, "LBA %llu: %s\n", (unsigned long long)repairs[i].lba, repairs[i].text);
    }
    CHECK(is_found);
}

/* A store's file in memory. */
struct image {
    uint8_t *bytes;
    size_t size;
    uint64_t current_lba; /* of the newer superblock */
    uint64_t secret;
    uint64_t hash_seed;
    uint64_t extents_lba;
    uint64_t segment_count;
    uint64_t checkpoint_lba;
};

static inline uint8_t *image_at(const struct image *image, uint64_t lba)
{
    CHECK((lba + 1) * BLOCK_BYTES <= image->size);
    return image->bytes + lba * BLOCK_BYTES;
}

static inline void image_read(struct image *image, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    off_t size = lseek(fd, 0, SEEK_END);
    *image = (struct image){.size = (size_t)size, .bytes = malloc((size_t)size)};
    CHECK(image->bytes != NULL);
    CHECK_EQUAL(pread(fd, image->bytes, image->size, 0), size);
    CHECK_EQUAL(close(fd), 0);
    image->current_lba = load_u64(image_at(image, 1) + 48) > load_u64(image->bytes + 48);
    const uint8_t *super = image_at(image, image->current_lba);
    image->hash_seed = load_u64(super + 72);
    image->secret = load_u64(super + 80);
    image->extents_lba = load_u64(super + 112);
    image->segment_count = load_u64(super + 144);
    image->checkpoint_lba =
        image->extents_lba + load_u64(super + SUPERBLOCK_RUNS_OFFSET) * EXTENT_BLOCKS;
}

static inline void image_write(const struct image *image, const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(pwrite(fd, image->bytes, image->size, 0), image->size);
    CHECK_EQUAL(close(fd), 0);
}

/* Seal a block of a segment, a checkpoint or an index after it has been changed. */
static inline void image_seal(const struct image *image, uint64_t lba)
{
    uint8_t *block = image_at(image, lba);
    store_u64(block, checksum_of(block + 8, BLOCK_BYTES - 8, lba, image->secret));
}

static inline void image_seal_superblock(const struct image *image, uint64_t lba)
{
    uint8_t *block = image_at(image, lba);
    store_u64(block, checksum_of(block + 8, BLOCK_BYTES - 8, lba, 0));
}

/* The stream of the checkpoint, which is one block here. */
static inline uint8_t *image_stream(const struct image *image)
{
    return image_at(image, image->checkpoint_lba) + CHECKPOINT_HEADER_BYTES;
}

static inline struct segment_place image_place(const struct image *image, uint64_t segment)
{
    return descriptor_unpack(load_u64(image_stream(image) + segment * DESCRIPTOR_BYTES));
}

static inline uint64_t image_lba(const struct image *image, uint64_t segment, uint32_t block_index)
{
    return image->extents_lba + image_place(image, segment).base_extent * EXTENT_BLOCKS +
           block_index;
}

/* Entries of blob extents in the stream. */
static inline uint8_t *image_blob_extents(const struct image *image)
{
    return image_stream(image) + image->segment_count * (DESCRIPTOR_BYTES + PAYLOAD_BYTES);
}

/* An extent that nothing uses: no block of it was ever written. */
static inline uint64_t image_free_extent(const struct image *image)
{
    static const uint8_t zeros[EXTENT_BYTES];
    uint64_t count = load_u64(image_at(image, image->current_lba) + 120);
    for (uint64_t i = count / 2; i < count; i++) {
        if (memcmp(image_at(image, image->extents_lba + i * EXTENT_BLOCKS), zeros, EXTENT_BYTES) ==
            0) {
            return i;
        }
    }
    CHECK(false && "there is a free extent");
    return 0;
}

/* Where a pair stands. */
struct standing {
    uint64_t segment;
    uint64_t lba;
    uint32_t block_index;
    uint32_t home_index;
    struct key_hash hash;
    struct block_pair pair;
};

/* Find the pair of a number in the blocks of the segments. */
static inline struct standing image_find(const struct image *image, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    struct standing found = {.hash = key_hash_of(key, key_size, image->hash_seed)};
    found.segment = directory_segment_of(found.hash.low, image->segment_count);
    struct segment_place place = image_place(image, found.segment);
    found.home_index = key_hash_home(found.hash, place.home_count);
    for (uint32_t i = 0; i < segment_block_count(place.home_count); i++) {
        found.lba = image_lba(image, found.segment, i);
        found.block_index = i;
        if (block_find(image_at(image, found.lba), key, key_size, found.hash, &found.pair) ==
            CUBBY_OK) {
            return found;
        }
    }
    fprintf(stderr, "pair %llu is in no block\n", (unsigned long long)number);
    exit(1);
}

/* A pair that is displaced, or one that is not, and is no blob, in a segment. */
static inline struct standing image_find_kind(const struct image *image, uint64_t segment,
                                              bool is_displaced)
{
    for (uint64_t i = 0; i < SAMPLE_PAIRS; i++) {
        struct standing found = image_find(image, i);
        if (found.segment == segment && !found.pair.is_blob &&
            (found.block_index != found.home_index) == is_displaced) {
            return found;
        }
    }
    fprintf(stderr, "no such pair in segment %llu\n", (unsigned long long)segment);
    exit(1);
}

#endif
