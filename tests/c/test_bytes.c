/* test_bytes.c -- numbers at any address, varints, rounding, reversed bits.
 *
 * Depends on: check.h, fuzz.h, engine/base.
 */
#include "engine/base/bytes.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    ROUNDS = 100000,
};

static void test_numbers_are_little_endian_at_any_address(void)
{
    uint8_t bytes[24];
    for (size_t at = 0; at < 8; at++) {
        memset(bytes, 0xaa, sizeof bytes);
        store_u64(bytes + at, 0x0807060504030201);
        for (size_t i = 0; i < 8; i++) {
            CHECK_EQUAL(bytes[at + i], i + 1);
        }
        CHECK_EQUAL(bytes[at + 8], 0xaa);
        CHECK_EQUAL(load_u64(bytes + at), 0x0807060504030201);
        CHECK_EQUAL(load_u32(bytes + at), 0x04030201);
        CHECK_EQUAL(load_u16(bytes + at), 0x0201);
        store_u32(bytes + at, UINT32_MAX);
        store_u16(bytes + at, 0);
        CHECK_EQUAL(load_u64(bytes + at), 0x08070605ffff0000);
    }
}

/* Store a number in as many bytes as it says it takes, and read it back with what is there. */
static void check_varint(uint32_t number, size_t size)
{
    uint8_t *bytes = exact_bytes(size);
    uint32_t read = ~number;
    CHECK_EQUAL(varint_size(number), size);
    CHECK_EQUAL(varint_store(bytes, number), size);
    CHECK_EQUAL(varint_load(bytes, size, &read), size);
    CHECK_EQUAL(read, number);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = exact_bytes(cut);
        memcpy(part, bytes, cut);
        CHECK_EQUAL(varint_load(part, cut, &read), 0);
        free(part);
    }
    free(bytes);
}

static void test_varint_takes_a_byte_for_seven_bits(void)
{
    for (size_t size = 1; size <= VARINT_BYTES_MAX; size++) {
        uint32_t least = size == 1 ? 0 : UINT32_C(1) << 7 * (size - 1);
        uint32_t most = size == 5 ? UINT32_MAX : (UINT32_C(1) << 7 * size) - 1;
        check_varint(least, size);
        check_varint(least + 1, size);
        check_varint(most - 1, size);
        check_varint(most, size);
    }
}

static void test_random_varints_survive_a_round_trip(void)
{
    uint64_t state = 1;
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t number = (uint32_t)(random_next(&state) >> (32 + random_below(&state, 32)));
        check_varint(number, varint_size(number));
    }
}

static void test_varint_of_more_than_32_bits_is_refused(void)
{
    uint32_t number;
    const uint8_t largest[] = {0xff, 0xff, 0xff, 0xff, 0x0f};
    const uint8_t larger[] = {0xff, 0xff, 0xff, 0xff, 0x10};
    const uint8_t just_larger[] = {0x80, 0x80, 0x80, 0x80, 0x10};
    const uint8_t endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    CHECK_EQUAL(varint_load(largest, sizeof largest, &number), 5);
    CHECK_EQUAL(number, UINT32_MAX);
    CHECK_EQUAL(varint_load(larger, sizeof larger, &number), 0);
    CHECK_EQUAL(varint_load(just_larger, sizeof just_larger, &number), 0);
    CHECK_EQUAL(varint_load(endless, sizeof endless, &number), 0);
}

/* The same number by other means: no loop over bits shared with the code. Returns the size. */
static size_t expected_varint(const uint8_t *bytes, size_t available, uint64_t *number)
{
    size_t size = 0;
    while (size < available && size < VARINT_BYTES_MAX && bytes[size] >= 128) {
        size++;
    }
    if (size == available || size == VARINT_BYTES_MAX) {
        return 0;
    }
    *number = 0;
    for (size_t i = size + 1; i > 0; i--) {
        *number = *number * 128 + bytes[i - 1] % 128;
    }
    return *number >> 32 == 0 ? size + 1 : 0;
}

static void test_varint_of_random_bytes_is_read_as_documented(void)
{
    uint64_t state = 2;
    for (int i = 0; i < ROUNDS; i++) {
        size_t available = random_below(&state, 8);
        uint8_t *bytes = exact_bytes(available);
        random_fill(&state, bytes, available);
        for (size_t at = 0; at < available; at++) {
            bytes[at] |= random_below(&state, 4) != 0 ? 128 : 0; /* long ones, too */
        }
        uint32_t actual = 0;
        uint64_t expected = 0;
        size_t size = expected_varint(bytes, available, &expected);
        CHECK_EQUAL(varint_load(bytes, available, &actual), size);
        CHECK(size == 0 || actual == expected);
        free(bytes);
    }
}

static void test_division_rounds_up_without_overflow(void)
{
    CHECK_EQUAL(divide_up(0, 7), 0);
    CHECK_EQUAL(divide_up(1, 7), 1);
    CHECK_EQUAL(divide_up(7, 7), 1);
    CHECK_EQUAL(divide_up(8, 7), 2);
    CHECK_EQUAL(divide_up(9, 1), 9);
    CHECK(divide_up(UINT64_MAX, 1) == UINT64_MAX);
    CHECK(divide_up(UINT64_MAX, 2) == UINT64_C(1) << 63);
    CHECK(divide_up(UINT64_MAX, UINT64_MAX) == 1);
    CHECK(divide_up(UINT64_MAX - 1, UINT64_MAX) == 1);
}

static void test_reversed_bits_stand_in_the_other_order(void)
{
    for (int bit = 0; bit < 64; bit++) {
        CHECK(bit_reverse(UINT64_C(1) << bit) == UINT64_C(1) << (63 - bit));
    }
    uint64_t state = 3;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t a = random_next(&state);
        uint64_t b = random_next(&state);
        CHECK(bit_reverse(bit_reverse(a)) == a);
        CHECK(bit_reverse(a ^ b) == (bit_reverse(a) ^ bit_reverse(b)));
    }
}

int main(void)
{
    RUN(test_numbers_are_little_endian_at_any_address);
    RUN(test_varint_takes_a_byte_for_seven_bits);
    RUN(test_random_varints_survive_a_round_trip);
    RUN(test_varint_of_more_than_32_bits_is_refused);
    RUN(test_varint_of_random_bytes_is_read_as_documented);
    RUN(test_division_rounds_up_without_overflow);
    RUN(test_reversed_bits_stand_in_the_other_order);
    return 0;
}
