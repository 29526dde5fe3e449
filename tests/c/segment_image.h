/* segment_image.h -- segments of random pairs, built in memory for an open store.
 *
 * Depends on: store_fixture.h, fuzz.h, segment.h.   Used by: test_segment.c.
 */
#ifndef CUBBY_SEGMENT_IMAGE_H
#define CUBBY_SEGMENT_IMAGE_H

#include "engine/store/segment.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    IMAGE_LBA = 4711,
    IMAGE_LSN = 99,
    BLOB_PAIR_BYTES = 2 + 3 + 16 + 16, /* key of 200 bytes, value of 20,000 to 2,097,151 */
};

/* Encoded pairs of any number; the bytes are freed with them. */
struct pair_set {
    struct segment_pairs pairs;
};

static inline void pair_set_free(struct pair_set *set)
{
    for (size_t i = 0; i < set->pairs.count; i++) {
        free((void *)(uintptr_t)set->pairs.pairs[i].encoded);
    }
    segment_pairs_free(&set->pairs);
}

static inline void pair_set_add(struct pair_set *set, struct key_hash hash, uint8_t *encoded,
                                size_t size)
{
    struct segment_pair pair = {
        .hash = hash, .encoded = encoded, .encoded_size = (uint32_t)size, .spill_index = 12345};
    CHECK_EQUAL(segment_pairs_add(&set->pairs, pair), CUBBY_OK);
}

/* A pair of this encoded size, 11 or more, whose key's hash belongs to the view's segment. */
static inline void pair_set_add_inline(struct pair_set *set, const cubby_store *store,
                                       struct segment_view view, uint64_t *state, uint32_t size)
{
    uint8_t key[8];
    uint8_t value[PAIR_INLINE_BYTES_MAX];
    struct pair_content content = {.key = key, .key_size = 8, .value = value};
    do {
        store_u64(key, random_next(state));
        content.hash = key_hash_of(key, 8, store->hash_seed);
    } while ((content.hash.low & ((UINT64_C(1) << view.depth) - 1)) != view.number);
    content.value_size = size - 8 - 2;
    if (pair_encoded_size(&content) > size) {
        content.value_size--; /* its size takes two bytes */
    }
    random_fill(state, value, content.value_size);
    size_t encoded_size = pair_encoded_size(&content);
    uint8_t *encoded = exact_bytes(encoded_size);
    pair_encode(&content, encoded);
    pair_set_add(set, content.hash, encoded, encoded_size);
}

/* A blob's pair, which can have any hash: its key is too long to stand beside it. */
static inline void pair_set_add_blob(struct pair_set *set, struct key_hash hash, uint64_t number)
{
    struct pair_content content = {.key_size = 200,
                                   .value_size = 20000 + (uint32_t)(number % 1000000),
                                   .hash = hash,
                                   .is_blob = true,
                                   .blob_lba = number,
                                   .blob_checksum = ~number};
    size_t size = pair_encoded_size(&content);
    CHECK_EQUAL(size, BLOB_PAIR_BYTES);
    uint8_t *encoded = exact_bytes(size);
    pair_encode(&content, encoded);
    pair_set_add(set, hash, encoded, size);
}

/* An image of planned pairs, in memory of exactly its size. */
static inline uint8_t *build_image(const cubby_store *store, const struct pair_set *set,
                                   struct segment_view view)
{
    size_t size = (size_t)segment_block_count(view.place.home_count) * BLOCK_BYTES;
    uint8_t *image = exact_bytes(size);
    memset(image, 0xee, size);
    segment_build(store, &set->pairs, view, IMAGE_LBA, IMAGE_LSN, image);
    return image;
}

static inline uint8_t *image_block(uint8_t *image, uint32_t block_index)
{
    return image + (size_t)block_index * BLOCK_BYTES;
}

/* Seal a block again after it has been changed. */
static inline void reseal(const cubby_store *store, uint8_t *image, uint32_t block_index)
{
    forge_checksum(image_block(image, block_index), IMAGE_LBA + block_index, store->secret);
}

static inline int compare_pairs(const void *a, const void *b)
{
    const struct segment_pair *left = a;
    const struct segment_pair *right = b;
    if (left->encoded_size != right->encoded_size) {
        return left->encoded_size < right->encoded_size ? -1 : 1;
    }
    return memcmp(left->encoded, right->encoded, left->encoded_size);
}

/* The same pairs, in any order; both are sorted. */
static inline void check_same_pairs(struct segment_pairs *actual, struct segment_pairs *expected)
{
    CHECK_EQUAL(actual->count, expected->count);
    CHECK_EQUAL(actual->bytes, expected->bytes);
    if (actual->count == 0) {
        return;
    }
    qsort(actual->pairs, actual->count, sizeof *actual->pairs, compare_pairs);
    qsort(expected->pairs, expected->count, sizeof *expected->pairs, compare_pairs);
    for (size_t i = 0; i < actual->count; i++) {
        CHECK_EQUAL(compare_pairs(&actual->pairs[i], &expected->pairs[i]), 0);
        CHECK(actual->pairs[i].hash.low == expected->pairs[i].hash.low);
        CHECK(actual->pairs[i].hash.high == expected->pairs[i].hash.high);
    }
}

/* Check and collect an image; both succeed and give these pairs. */
static inline void check_image(const cubby_store *store, const uint8_t *image,
                               struct segment_view view, struct pair_set *expected)
{
    struct segment_pairs collected = {0};
    struct segment_damage damage = {0};
    CHECK_EQUAL(segment_check_blocks(store, image, view, IMAGE_LBA, &damage), CUBBY_OK);
    CHECK_EQUAL(segment_collect(store, image, view, &collected, &damage), CUBBY_OK);
    check_same_pairs(&collected, &expected->pairs);
    segment_pairs_free(&collected);
}

/* Check and collect an image; one of them finds this block corrupt for this reason. */
static inline void check_damaged(const cubby_store *store, const uint8_t *image,
                                 struct segment_view view, uint32_t block_index, const char *reason)
{
    struct segment_pairs collected = {0};
    struct segment_damage damage = {0};
    int status = segment_check_blocks(store, image, view, IMAGE_LBA, &damage);
    if (status == CUBBY_OK) {
        status = segment_collect(store, image, view, &collected, &damage);
    }
    CHECK_EQUAL(status, CUBBY_CORRUPT);
    CHECK_EQUAL(damage.block_index, block_index);
    CHECK(damage.reason != NULL);
    if (strstr(damage.reason, reason) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", reason, damage.reason);
        exit(1);
    }
    segment_pairs_free(&collected);
}

#endif
