/* test_block.c -- one block: sealing, pairs, the displaced list, and what a device may hand us.
 *
 * Depends on: check.h, fuzz.h, pair_sample.h, engine/store/block.h.
 */
#include "engine/store/block.h"

#include "engine/cubby.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"
#include "tests/c/pair_sample.h"

enum {
    PAIRS_MAX = 1400,
    FUZZ_ROUNDS = 12000,
};

static const uint64_t LBA = 123456789;
static const uint64_t SECRET = 0xfedcba9876543210;

static const struct block_identity HOME = {
    .segment_number = 5, .block_index = 2, .home_count = 15, .epoch = 9, .depth = 3};
static const struct block_identity SPILL = {
    .segment_number = 5, .block_index = 15, .home_count = 15, .epoch = 9, .depth = 3};

/* A block on the heap, empty and unsealed. */
static uint8_t *new_block(struct block_identity identity)
{
    uint8_t *block = exact_bytes(BLOCK_BYTES);
    block_init(block, identity);
    return block;
}

static void seal(uint8_t *block)
{
    block_seal(block, 42, LBA, SECRET);
}

/* What block_check says of a block is this text, or nothing if that is NULL. */
static void check_reason(const uint8_t *block, const char *expected)
{
    const char *reason = block_check(block, LBA, SECRET);
    if ((reason == NULL) != (expected == NULL) ||
        (reason != NULL && strstr(reason, expected) == NULL)) {
        fprintf(stderr, "\"%s\" is not \"%s\"\n", reason != NULL ? reason : "nothing",
                expected != NULL ? expected : "nothing");
        exit(1);
    }
}

static void test_new_block_is_empty_and_sound(void)
{
    const struct block_identity identities[] = {HOME, SPILL};
    for (int i = 0; i < 2; i++) {
        uint8_t *block = new_block(identities[i]);
        seal(block);
        check_reason(block, NULL);
        CHECK(block_identity_equal(block_identity_of(block), identities[i]));
        CHECK_EQUAL(block_lsn(block), 42);
        CHECK_EQUAL(block_is_home(block), i == 0);
        CHECK_EQUAL(block_pair_count(block), 0);
        CHECK_EQUAL(block_displaced_count(block), 0);
        CHECK_EQUAL(block_room(block, false), i == 0 ? HOME_PAIR_BYTES : SPILL_PAIR_BYTES);
        CHECK(block_tail_is_zero(block));
        size_t offset = 0;
        struct block_pair pair;
        CHECK_EQUAL(block_next(block, &offset, &pair), CUBBY_NOT_FOUND);
        free(block);
    }
}

static void test_identities_differ_in_each_field(void)
{
    for (int field = 0; field < 5; field++) {
        struct block_identity other = HOME;
        other.segment_number += field == 0;
        other.block_index += field == 1;
        other.home_count = (uint16_t)(other.home_count + (field == 2));
        other.epoch = (uint16_t)(other.epoch + (field == 3));
        other.depth = (uint8_t)(other.depth + (field == 4));
        CHECK(!block_identity_equal(HOME, other));
        CHECK(block_identity_equal(other, other));
    }
}

static void test_every_flipped_bit_is_detected(void)
{
    struct sample sample;
    make_sample(&sample, 1, 20, 500);
    uint8_t *block = new_block(HOME);
    block_append(block, sample.encoded, sample.encoded_size);
    block_displaced_add(block, 7, 0);
    seal(block);
    for (size_t bit = 0; bit < (size_t)BLOCK_BYTES * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1U << bit % 8);
        CHECK(block_check(block, LBA, SECRET) != NULL);
        block[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    check_reason(block, NULL);
    free(sample.encoded);
    free(block);
}

static void test_block_of_another_place_or_store_is_detected(void)
{
    uint8_t *block = new_block(HOME);
    seal(block);
    for (uint64_t i = 1; i < 10000; i++) {
        CHECK(block_check(block, LBA + i, SECRET) != NULL);
        CHECK(block_check(block, LBA - i, SECRET) != NULL);
        CHECK(block_check(block, LBA, SECRET + i) != NULL);
    }
    for (int bit = 0; bit < 64; bit++) {
        CHECK(block_check(block, LBA ^ UINT64_C(1) << bit, SECRET) != NULL);
        CHECK(block_check(block, LBA, SECRET ^ UINT64_C(1) << bit) != NULL);
    }
    free(block);
}

/* A header field of these bytes is refused for this reason although the checksum fits. */
static void check_field(struct block_identity identity, size_t offset, size_t size, uint64_t field,
                        const char *reason)
{
    uint8_t *block = new_block(identity);
    memcpy(block + offset, &field, size);
    forge_checksum(block, LBA, SECRET);
    check_reason(block, reason);
    free(block);
}

static void test_header_with_a_valid_checksum_is_still_checked(void)
{
    check_field(HOME, 24, 4, 0, "not a block of a segment");
    check_field(HOME, 28, 2, 0, "out of range");
    check_field(HOME, 30, 2, EPOCH_COUNT, "out of range");
    check_field(HOME, 30, 2, EPOCH_COUNT - 1, NULL);
    check_field(HOME, 37, 1, 33, "out of range");
    check_field(HOME, 37, 1, 32, NULL);
    check_field(HOME, 36, 1, BLOCK_ROLE_SPILL, "role");
    check_field(HOME, 36, 1, 0, "role");
    check_field(SPILL, 36, 1, BLOCK_ROLE_HOME, "role");
    check_field(HOME, 20, 4, 15, "role");
    check_field(SPILL, 20, 4, 14, "role");
    check_field(SPILL, 38, 1, 1, "lists displaced");
    check_field(HOME, 38, 1, 1, "used size");
    check_field(HOME, 34, 2, 0, "used size");
    check_field(HOME, 34, 2, BLOCK_HEADER_BYTES - 1, "used size");
    check_field(HOME, 34, 2, BLOCK_BYTES + 1, "used size");
    check_field(HOME, 34, 2, UINT16_MAX, "used size");
    check_field(HOME, 34, 2, BLOCK_BYTES, NULL);
}

static void test_pairs_of_all_sizes_survive_a_round_trip(void)
{
    static const uint32_t key_sizes[] = {1, 2, 31, 32, 127, 128, 129, SAMPLE_KEY_BYTES_MAX};
    static const uint32_t blob_sizes[] = {1 << 14, (1 << 14) - 1, 1 << 21, CUBBY_VALUE_BYTES_MAX};
    for (size_t i = 0; i < sizeof key_sizes / sizeof key_sizes[0]; i++) {
        for (uint32_t size = 0; size <= PAIR_INLINE_BYTES_MAX + 4; size++) {
            struct sample sample;
            struct block_pair pair;
            make_sample(&sample, size, key_sizes[i],
                        size <= PAIR_INLINE_BYTES_MAX
                            ? size
                            : blob_sizes[size - PAIR_INLINE_BYTES_MAX - 1]);
            CHECK(block_pair_decode(sample.encoded, sample.encoded_size, &pair));
            check_pair(&pair, &sample);
            free(sample.encoded);
        }
    }
}

static void test_pair_becomes_a_blob_exactly_above_the_inline_limit(void)
{
    for (uint32_t key_size = 1; key_size <= PAIR_INLINE_BYTES_MAX + 2; key_size += 1) {
        for (uint32_t value_size = 0; value_size <= PAIR_INLINE_BYTES_MAX + 2; value_size++) {
            struct pair_content content = {.key_size = key_size, .value_size = value_size};
            bool fits = pair_encoded_size(&content) <= PAIR_INLINE_BYTES_MAX;
            CHECK_EQUAL(pair_is_blob(key_size, value_size, false), !fits);
            content.expires_ms = 1;
            fits = pair_encoded_size(&content) <= PAIR_INLINE_BYTES_MAX;
            CHECK_EQUAL(pair_is_blob(key_size, value_size, true), !fits);
        }
    }
    CHECK(pair_is_blob(1, CUBBY_VALUE_BYTES_MAX, false));
    CHECK(pair_is_blob(CUBBY_KEY_BYTES_MAX, 0, false));
    CHECK(pair_is_blob(CUBBY_KEY_BYTES_MAX, CUBBY_VALUE_BYTES_MAX, false));
    /* The smallest pair: two sizes of a byte each, and the key. */
    struct pair_content smallest = {.key_size = 1};
    CHECK_EQUAL(pair_encoded_size(&smallest), 3);
}

static void test_blob_of_a_key_of_any_size_fits_inline(void)
{
    static uint8_t key[CUBBY_KEY_BYTES_MAX];
    for (uint32_t key_size = 1; key_size <= CUBBY_KEY_BYTES_MAX; key_size++) {
        struct pair_content content = {.key = key,
                                       .key_size = key_size,
                                       .value_size = CUBBY_VALUE_BYTES_MAX,
                                       .hash = {.low = key_size, .high = ~(uint64_t)key_size},
                                       .is_blob = true,
                                       .blob_lba = UINT64_MAX};
        uint8_t encoded[PAIR_INLINE_BYTES_MAX];
        struct block_pair pair;
        size_t size = pair_encoded_size(&content);
        CHECK(size <= 8 + 16 + BLOB_KEY_INLINE_BYTES_MAX);
        pair_encode(&content, encoded);
        CHECK(block_pair_decode(encoded, size, &pair));
        CHECK_EQUAL(pair.encoded_size, size);
        CHECK_EQUAL(pair.key_size, key_size);
        CHECK_EQUAL(pair.key != NULL, key_size <= BLOB_KEY_INLINE_BYTES_MAX);
        CHECK(pair.key != NULL || (pair.hash.low == key_size && pair.hash.high == ~pair.hash.low));
        CHECK(pair.blob_lba == UINT64_MAX);
    }
}

static void test_pair_that_is_cut_off_is_refused(void)
{
    static const uint32_t sizes[][2] = {{1, 0},   {8, 5},    {40, 900},
                                        {200, 0}, {9, 5000}, {200, 5000}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct sample sample;
        struct block_pair pair;
        make_sample(&sample, i, sizes[i][0], sizes[i][1]);
        for (size_t size = 0; size < sample.encoded_size; size++) {
            uint8_t *part = exact_bytes(size);
            memcpy(part, sample.encoded, size);
            CHECK(!block_pair_decode(part, size, &pair));
            free(part);
        }
        free(sample.encoded);
    }
}

/* Whether sizes as written, and an expiry behind them, make a pair, in a buffer that has room for
 * all that is allowed. */
static bool decodes_with(uint32_t key_word, uint32_t value_size, uint64_t expires_ms)
{
    uint8_t bytes[BLOCK_BYTES] = {0};
    struct block_pair pair;
    size_t size = varint_store(bytes, key_word);
    size += varint_store(bytes + size, value_size);
    store_u64(bytes + size, expires_ms);
    return block_pair_decode(bytes, sizeof bytes, &pair);
}

static bool decodes(uint32_t key_word, uint32_t value_size)
{
    return decodes_with(key_word, value_size, 0);
}

static void test_pair_of_impossible_sizes_is_refused(void)
{
    CHECK(decodes(1 << 2, 0));
    CHECK(!decodes(0, 0));          /* no key */
    CHECK(!decodes(1, 0));          /* a blob without a key */
    CHECK(!decodes(1 << 2 | 2, 0)); /* an expiry of 0 */
    CHECK(!decodes(1 << 2 | 3, 0));
    CHECK(decodes_with(1 << 2 | 2, 0, 1));
    CHECK(decodes_with(1 << 2 | 3, 0, UINT64_MAX - 1));
    CHECK(!decodes_with(1 << 2 | 2, 0, UINT64_MAX));
    CHECK(decodes_with(1 << 2 | 2, PAIR_INLINE_BYTES_MAX - 4 - PAIR_EXPIRY_BYTES, 1));
    CHECK(!decodes_with(1 << 2 | 2, PAIR_INLINE_BYTES_MAX - 3 - PAIR_EXPIRY_BYTES, 1));
    CHECK(decodes(1 << 2, PAIR_INLINE_BYTES_MAX - 4));
    CHECK(!decodes(1 << 2, PAIR_INLINE_BYTES_MAX - 3)); /* it should have been a blob */
    CHECK(decodes(CUBBY_KEY_BYTES_MAX << 2 | 1, CUBBY_VALUE_BYTES_MAX));
    CHECK(!decodes((CUBBY_KEY_BYTES_MAX + 1) << 2 | 1, 0));
    CHECK(!decodes(UINT32_MAX & ~2U, 0));
    CHECK(!decodes(1 << 2 | 1, CUBBY_VALUE_BYTES_MAX + 1));
    CHECK(!decodes(1 << 2, UINT32_MAX));
}

/* A block and what should be in it. */
struct model {
    uint8_t *block;
    struct sample pairs[PAIRS_MAX];
    size_t pair_count;
    uint32_t displaced[BLOCK_DISPLACED_MAX]; /* fingerprint << 16 | spill index */
    uint32_t displaced_count;
    uint64_t next_number;
};

/* Room for a pair by the words of disk_format.h. */
static int expected_room(const struct model *model, bool with_entry)
{
    int bytes = BLOCK_BYTES - BLOCK_HEADER_BYTES;
    for (size_t i = 0; i < model->pair_count; i++) {
        bytes -= (int)model->pairs[i].encoded_size;
    }
    if (!block_is_home(model->block)) {
        return bytes;
    }
    int list = 4 * ((int)model->displaced_count + with_entry);
    return bytes - (list > 24 ? list : 24);
}

static void check_model(const struct model *model)
{
    const uint8_t *block = model->block;
    struct block_pair pair;
    size_t offset = 0;
    for (size_t i = 0; i < model->pair_count; i++) {
        CHECK_EQUAL(block_next(block, &offset, &pair), CUBBY_OK);
        check_pair(&pair, &model->pairs[i]);
    }
    CHECK_EQUAL(block_next(block, &offset, &pair), CUBBY_NOT_FOUND);
    CHECK_EQUAL(offset, load_u16(block + 34));
    CHECK_EQUAL(block_pair_count(block), model->pair_count);
    CHECK_EQUAL(block_displaced_count(block), model->displaced_count);
    for (uint32_t i = 0; i < model->displaced_count; i++) {
        CHECK_EQUAL(block_displaced_fingerprint(block, i), model->displaced[i] >> 16);
        CHECK_EQUAL(block_displaced_spill(block, i), model->displaced[i] & 0xffff);
    }
    CHECK_EQUAL(block_room(block, false), expected_room(model, false));
    CHECK(block_tail_is_zero(block));
}

static void step_append(struct model *model, uint64_t *state)
{
    uint32_t key_size;
    uint32_t value_size;
    random_sizes(state, &key_size, &value_size);
    struct sample *sample = &model->pairs[model->pair_count];
    make_sample(sample, model->next_number++, key_size, value_size);
    if ((int)sample->encoded_size > block_room(model->block, false)) {
        free(sample->encoded);
        return;
    }
    block_append(model->block, sample->encoded, sample->encoded_size);
    model->pair_count++;
}

static void step_remove(struct model *model, uint64_t *state)
{
    if (model->pair_count == 0) {
        return;
    }
    size_t index = random_below(state, model->pair_count);
    struct sample *sample = &model->pairs[index];
    struct block_pair pair;
    CHECK_EQUAL(block_find(model->block, sample->content.key, sample->content.key_size,
                           sample->content.hash, &pair),
                CUBBY_OK);
    check_pair(&pair, sample);
    block_remove(model->block, &pair);
    CHECK_EQUAL(block_find(model->block, sample->content.key, sample->content.key_size,
                           sample->content.hash, &pair),
                CUBBY_NOT_FOUND);
    free(sample->encoded);
    model->pair_count--;
    for (size_t i = index; i < model->pair_count; i++) {
        model->pairs[i] = model->pairs[i + 1];
        model->pairs[i].content.key = model->pairs[i].key;
        model->pairs[i].content.value = model->pairs[i].value;
    }
}

static void step_displace(struct model *model, uint64_t *state)
{
    uint16_t fingerprint = (uint16_t)random_next(state);
    uint16_t spill_index = (uint16_t)random_next(state);
    if (!block_is_home(model->block) || model->displaced_count == BLOCK_DISPLACED_MAX) {
        return;
    }
    CHECK_EQUAL(block_room(model->block, true), expected_room(model, true));
    if (block_room(model->block, true) < 0) {
        return;
    }
    block_displaced_add(model->block, fingerprint, spill_index);
    model->displaced[model->displaced_count++] = (uint32_t)fingerprint << 16 | spill_index;
}

static void step_undisplace(struct model *model, uint64_t *state)
{
    if (model->displaced_count == 0) {
        return;
    }
    uint32_t entry = model->displaced[random_below(state, model->displaced_count)];
    int index = block_displaced_find(model->block, (uint16_t)(entry >> 16), (uint16_t)entry);
    CHECK(index >= 0 && model->displaced[index] == entry);
    block_displaced_remove(model->block, (uint32_t)index);
    model->displaced_count--;
    memmove(model->displaced + index, model->displaced + index + 1,
            (model->displaced_count - (uint32_t)index) * sizeof model->displaced[0]);
}

/* Blocks that grow, shrink and are sealed keep what a list keeps. */
static void check_against_model(struct block_identity identity, uint64_t state, int steps)
{
    static struct model model;
    model = (struct model){.block = new_block(identity), .next_number = state << 32};
    for (int step = 0; step < steps; step++) {
        /* Mostly growth for a while, then mostly the other way. */
        bool grow = random_below(&state, 10) < (step / 200 % 2 == 0 ? 8 : 2);
        bool pairs = random_below(&state, 10) < 6;
        void (*const change)(struct model *, uint64_t *) =
            pairs ? (grow ? step_append : step_remove) : (grow ? step_displace : step_undisplace);
        change(&model, &state);
        check_model(&model);
        if (step % 16 == 0) {
            seal(model.block);
            check_reason(model.block, NULL);
        }
    }
    while (model.pair_count > 0 || model.displaced_count > 0) {
        step_remove(&model, &state);
        step_undisplace(&model, &state);
    }
    check_model(&model);
    uint8_t *empty = new_block(identity);
    seal(empty);
    seal(model.block);
    CHECK(memcmp(model.block, empty, BLOCK_BYTES) == 0);
    free(empty);
    free(model.block);
}

static void test_home_block_keeps_what_a_list_keeps(void)
{
    for (uint64_t state = 1; state <= 8; state++) {
        check_against_model(HOME, state, 1500);
    }
}

static void test_spill_block_keeps_what_a_list_keeps(void)
{
    for (uint64_t state = 1; state <= 8; state++) {
        check_against_model(SPILL, state, 1500);
    }
}

/* Append pairs of three bytes until none fits; returns how many. */
static uint32_t fill_with_smallest_pairs(uint8_t *block)
{
    struct sample sample;
    uint32_t count = 0;
    make_sample(&sample, 0, 1, 0);
    CHECK_EQUAL(sample.encoded_size, 3);
    while (block_room(block, false) >= 3) {
        block_append(block, sample.encoded, sample.encoded_size);
        count++;
    }
    free(sample.encoded);
    return count;
}

static void test_full_home_block_keeps_its_reserve_for_six_displaced_pairs(void)
{
    uint8_t *block = new_block(HOME);
    CHECK_EQUAL(fill_with_smallest_pairs(block), HOME_PAIR_BYTES / 3);
    CHECK_EQUAL(block_room(block, false), 0);
    for (uint16_t i = 0; i < 6; i++) {
        CHECK_EQUAL(block_room(block, true), 0);
        block_displaced_add(block, i, (uint16_t)(100 + i));
        CHECK_EQUAL(block_room(block, false), 0);
    }
    CHECK_EQUAL(load_u16(block + 34), BLOCK_BYTES);
    CHECK(block_room(block, true) < 0);
    CHECK(block_tail_is_zero(block));
    seal(block);
    check_reason(block, NULL);
    CHECK_EQUAL(block_pair_count(block), HOME_PAIR_BYTES / 3);
    CHECK_EQUAL(block_displaced_find(block, 5, 105), 5);
    CHECK_EQUAL(block_displaced_find(block, 5, 104), -1);
    CHECK_EQUAL(block_displaced_find(block, 4, 105), -1);
    free(block);
}

static void test_full_spill_block_has_no_byte_left(void)
{
    uint8_t *block = new_block(SPILL);
    CHECK_EQUAL(fill_with_smallest_pairs(block), SPILL_PAIR_BYTES / 3);
    CHECK_EQUAL(block_room(block, false), SPILL_PAIR_BYTES % 3);
    seal(block);
    check_reason(block, NULL);
    free(block);
}

static void test_list_of_255_displaced_pairs_leaves_the_rest_to_pairs(void)
{
    uint8_t *block = new_block(HOME);
    for (uint16_t i = 0; i < BLOCK_DISPLACED_MAX; i++) {
        CHECK(block_room(block, true) >= 0);
        block_displaced_add(block, (uint16_t)(i * 257), i);
    }
    CHECK_EQUAL(block_displaced_count(block), BLOCK_DISPLACED_MAX);
    int room = BLOCK_BYTES - BLOCK_HEADER_BYTES - BLOCK_DISPLACED_MAX * DISPLACED_BYTES;
    CHECK_EQUAL(block_room(block, false), room);
    CHECK_EQUAL(fill_with_smallest_pairs(block), room / 3);
    for (uint16_t i = 0; i < BLOCK_DISPLACED_MAX; i++) {
        CHECK_EQUAL(block_displaced_find(block, (uint16_t)(i * 257), i), i);
    }
    seal(block);
    check_reason(block, NULL);
    free(block);
}

static void test_key_is_found_only_if_all_of_it_is_equal(void)
{
    uint8_t *block = new_block(HOME);
    struct sample samples[40];
    struct block_pair pair;
    for (uint32_t i = 0; i < 40; i++) {
        /* Each key is the beginning of the next. */
        make_sample(&samples[i], 9, i + 1, 30);
        memcpy(samples[i].key, "0123456789012345678901234567890123456789", i + 1);
        pair_encode(&samples[i].content, samples[i].encoded);
        block_append(block, samples[i].encoded, samples[i].encoded_size);
    }
    for (uint32_t i = 0; i < 40; i++) {
        struct pair_content *content = &samples[i].content;
        CHECK_EQUAL(block_find(block, content->key, i + 1, content->hash, &pair), CUBBY_OK);
        CHECK_EQUAL(pair.key_size, i + 1);
        samples[i].key[i] ^= 1;
        CHECK_EQUAL(block_find(block, content->key, i + 1, content->hash, &pair), CUBBY_NOT_FOUND);
        /* Without a key, not even one with this hash is meant. */
        CHECK_EQUAL(block_find(block, NULL, i + 1, content->hash, &pair), CUBBY_NOT_FOUND);
        free(samples[i].encoded);
    }
    free(block);
}

static void test_blob_of_a_long_key_is_found_by_both_halves_of_its_hash(void)
{
    uint8_t *block = new_block(HOME);
    struct block_pair pair;
    struct sample small;
    struct sample blob;
    make_sample(&small, 1, 20, 5000);
    make_sample(&blob, 2, 200, 5000);
    block_append(block, small.encoded, small.encoded_size);
    block_append(block, blob.encoded, blob.encoded_size);
    struct key_hash hash = blob.content.hash;
    CHECK_EQUAL(block_find(block, NULL, 200, hash, &pair), CUBBY_OK);
    check_pair(&pair, &blob);
    CHECK_EQUAL(block_find(block, blob.key, 200, hash, &pair), CUBBY_OK);
    CHECK_EQUAL(block_find(block, NULL, 201, hash, &pair), CUBBY_NOT_FOUND);
    hash.low ^= 1;
    CHECK_EQUAL(block_find(block, blob.key, 200, hash, &pair), CUBBY_NOT_FOUND);
    hash.low ^= 1;
    hash.high ^= UINT64_C(1) << 63;
    CHECK_EQUAL(block_find(block, blob.key, 200, hash, &pair), CUBBY_NOT_FOUND);
    CHECK_EQUAL(block_find(block, NULL, 20, small.content.hash, &pair), CUBBY_NOT_FOUND);
    CHECK_EQUAL(block_find(block, small.key, 20, small.content.hash, &pair), CUBBY_OK);
    check_pair(&pair, &small);
    free(small.encoded);
    free(blob.encoded);
    free(block);
}

static void test_bytes_behind_the_pairs_are_seen(void)
{
    uint8_t *block = new_block(HOME);
    struct sample sample;
    make_sample(&sample, 1, 20, 100);
    block_append(block, sample.encoded, sample.encoded_size);
    size_t used = BLOCK_HEADER_BYTES + sample.encoded_size;
    for (size_t at = used; at < BLOCK_BYTES; at++) {
        block[at] = 1;
        CHECK(!block_tail_is_zero(block));
        block[at] = 0;
    }
    CHECK(block_tail_is_zero(block));
    free(sample.encoded);
    free(block);
}

/* Do with a block that has passed its check what a put would. */
static void exercise(uint64_t *state, uint8_t *block)
{
    walk_block(block);
    (void)block_tail_is_zero(block);
    CHECK(block_room(block, false) <= SPILL_PAIR_BYTES);
    struct block_pair pair;
    size_t offset = 0;
    while (block_next(block, &offset, &pair) == CUBBY_OK) {
        if (random_below(state, 2) == 0) {
            offset -= pair.encoded_size;
            block_remove(block, &pair);
        }
    }
    if (block_displaced_count(block) > 0) {
        block_displaced_remove(block, (uint32_t)random_below(state, block_displaced_count(block)));
    }
    struct sample sample;
    make_sample(&sample, *state, 12, 100);
    if (block_room(block, false) >= (int)sample.encoded_size) {
        block_append(block, sample.encoded, sample.encoded_size);
    }
    if (block_is_home(block) && block_displaced_count(block) < BLOCK_DISPLACED_MAX &&
        block_room(block, true) >= 0) {
        block_displaced_add(block, 1, 2);
        CHECK(block_displaced_find(block, 1, 2) >= 0);
    }
    walk_block(block);
    seal(block);
    CHECK(block_check(block, LBA, SECRET) == NULL);
    free(sample.encoded);
}

static void test_garbage_with_a_valid_checksum_is_survived(void)
{
    uint64_t state = 11;
    uint32_t sound = 0;
    uint8_t *block = exact_bytes(BLOCK_BYTES);
    for (int i = 0; i < FUZZ_ROUNDS; i++) {
        random_fill(&state, block, 300);
        random_fill(&state, block + random_below(&state, 3700), 300);
        bool all = i % 4 == 0;
        if (!all) { /* a header that passes, so that what is behind it is looked at */
            bool home = random_below(&state, 4) != 0;
            struct block_identity identity = home ? HOME : SPILL;
            uint8_t kept[BLOCK_BYTES];
            memcpy(kept, block, BLOCK_BYTES);
            block_init(block, identity);
            memcpy(block + BLOCK_HEADER_BYTES, kept + BLOCK_HEADER_BYTES,
                   BLOCK_BYTES - BLOCK_HEADER_BYTES);
            block[38] = home ? kept[38] : 0;
            store_u16(block + 32, load_u16(kept + 32));
            store_u16(block + 34, (uint16_t)random_below(&state, BLOCK_BYTES + 8));
        }
        store_u32(block + 24, BLOCK_MAGIC);
        forge_checksum(block, LBA, SECRET);
        if (block_check(block, LBA, SECRET) == NULL) {
            sound++;
            exercise(&state, block);
        }
    }
    CHECK(sound > FUZZ_ROUNDS / 3);
    free(block);
}

static void test_damaged_block_with_a_valid_checksum_is_survived(void)
{
    uint64_t state = 12;
    uint32_t sound = 0;
    uint32_t corrupt = 0;
    uint8_t *whole = exact_bytes(BLOCK_BYTES);
    uint8_t *block = exact_bytes(BLOCK_BYTES);
    for (int i = 0; i < FUZZ_ROUNDS; i++) {
        if (i % 20 == 0) {
            block_init(whole, i % 80 == 0 ? SPILL : HOME);
            fill_block(&state, whole);
        }
        memcpy(block, whole, BLOCK_BYTES);
        damage_block(&state, block);
        forge_checksum(block, LBA, SECRET);
        if (block_check(block, LBA, SECRET) == NULL) {
            struct block_pair pair;
            size_t offset = 0;
            sound++;
            while (block_next(block, &offset, &pair) == CUBBY_OK) {
            }
            corrupt += block_next(block, &offset, &pair) == CUBBY_CORRUPT;
            exercise(&state, block);
        }
    }
    CHECK(sound > FUZZ_ROUNDS / 3);
    CHECK(corrupt > FUZZ_ROUNDS / 20);
    free(whole);
    free(block);
}

int main(void)
{
    RUN(test_new_block_is_empty_and_sound);
    RUN(test_identities_differ_in_each_field);
    RUN(test_every_flipped_bit_is_detected);
    RUN(test_block_of_another_place_or_store_is_detected);
    RUN(test_header_with_a_valid_checksum_is_still_checked);
    RUN(test_pairs_of_all_sizes_survive_a_round_trip);
    RUN(test_pair_becomes_a_blob_exactly_above_the_inline_limit);
    RUN(test_blob_of_a_key_of_any_size_fits_inline);
    RUN(test_pair_that_is_cut_off_is_refused);
    RUN(test_pair_of_impossible_sizes_is_refused);
    RUN(test_home_block_keeps_what_a_list_keeps);
    RUN(test_spill_block_keeps_what_a_list_keeps);
    RUN(test_full_home_block_keeps_its_reserve_for_six_displaced_pairs);
    RUN(test_full_spill_block_has_no_byte_left);
    RUN(test_list_of_255_displaced_pairs_leaves_the_rest_to_pairs);
    RUN(test_key_is_found_only_if_all_of_it_is_equal);
    RUN(test_blob_of_a_long_key_is_found_by_both_halves_of_its_hash);
    RUN(test_bytes_behind_the_pairs_are_seen);
    RUN(test_garbage_with_a_valid_checksum_is_survived);
    RUN(test_damaged_block_with_a_valid_checksum_is_survived);
    return 0;
}
