/* store_fixture.h -- open stores, pairs that describe themselves, and a repeatable random sequence.
 *
 * Depends on: check.h, cubby.h, fault_device.h, store.h.   Used by: tests/c/test_store_*.c.
 */
#ifndef CUBBY_STORE_FIXTURE_H
#define CUBBY_STORE_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cubby.h"
#include "tests/c/check.h"

/* An open store with one session, and the message of the last failed open. */
struct fixture {
    cubby_store *store;
    cubby_session *session;
    char message[CUBBY_MESSAGE_BYTES];
};

/* Check a status; print the session's message if it is not the expected one. */
#define CHECK_STATUS(session, actual, expected)                                                    \
    do {                                                                                           \
        int check_status = (actual);                                                               \
        if (check_status != (expected)) {                                                          \
            fprintf(stderr, "%s:%d: %s is %d (%s): %s\n", __FILE__, __LINE__, #actual,             \
                    check_status, cubby_status_text(check_status),                                 \
                    cubby_session_message(session));                                               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Open and expect success. */
void fixture_open(struct fixture *fixture, const char *path, const struct cubby_options *options);
void fixture_open_flags(struct fixture *fixture, const char *path, uint32_t flags);

/* Open and return the status; the message is in fixture->message. */
int fixture_try_open(struct fixture *fixture, const char *path,
                     const struct cubby_options *options);
void fixture_close(struct fixture *fixture);

/* A new store of this size whose pairs have the same places each time. */
void fixture_create(struct fixture *fixture, const char *path, uint64_t size_bytes);

/* A new store on memory, through a device that can be told to fail (fault_device.h): that one. */
struct block_device;
struct block_device *fixture_open_faulty(struct fixture *fixture);

/* Open, or create, a store on a device that stays open and its owner's, through one that can be
 * told to fail: that one. */
struct block_device *fixture_open_faulty_on(struct fixture *fixture, struct block_device *inner,
                                            const struct cubby_options *options);

/* Close, whatever comes of it: a store that could not write says so. */
int fixture_try_close(struct fixture *fixture);

/* Change a bit of a file: bit 4 of the byte at offset in this block. */
void flip_bit(const char *path, uint64_t lba, unsigned offset);

/* Wait until the store is at rest: nothing is dirty, no split is owed, nothing is in quarantine. */
void fixture_rest(struct fixture *fixture);

/* Everything is sound. */
void fixture_check(struct fixture *fixture);

/* A path in a fresh directory that goes away at exit; name is a file in it. */
const char *fixture_path(const char *name);

/* splitmix64: the next of a repeatable sequence. */
uint64_t random_next(uint64_t *state);

/* Bytes that follow from number and version, half random, half zero. */
void fill_value(uint64_t number, uint64_t version, uint8_t *value, size_t size);

/* "key" and the number, in decimal; returns the size. buffer: 32 bytes. */
size_t format_key(uint64_t number, uint8_t *buffer);

/* The number of a key that format_key made. */
uint64_t parse_key(struct cubby_slice key);

void put_number(struct fixture *fixture, uint64_t number, uint64_t version, size_t value_size);
void expect_number(struct fixture *fixture, uint64_t number, uint64_t version, size_t value_size);
void expect_absent(struct fixture *fixture, uint64_t number);
uint64_t count_pairs(struct fixture *fixture);
struct cubby_stat read_stat(struct fixture *fixture);

/* cubby_put_with on a condition, without an expiry. */
int put_on_condition(cubby_session *session, const uint8_t *key, size_t key_size,
                     const uint8_t *value, size_t value_size, enum cubby_condition condition,
                     const uint8_t *expected, size_t expected_size);

/* An environment whose randomness is the same each time, so that placement is too. */
const struct cubby_environment *repeatable_environment(void);

#endif
