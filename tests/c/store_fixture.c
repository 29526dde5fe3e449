/* store_fixture.c -- see store_fixture.h. */
#include "tests/c/store_fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <time.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "engine/store/store.h"

enum {
    DAMAGES_SHOWN = 16,
    STEPS_MAX = 1000000,
};

int fixture_try_open(struct fixture *fixture, const char *path, const struct cubby_options *options)
{
    *fixture = (struct fixture){0};
    return cubby_open(path, options, &fixture->store, fixture->message, sizeof fixture->message);
}

void fixture_open(struct fixture *fixture, const char *path, const struct cubby_options *options)
{
    int status = fixture_try_open(fixture, path, options);
    if (status != CUBBY_OK) {
        fprintf(stderr, "opening %s: %d: %s\n", path, status, fixture->message);
        exit(1);
    }
    CHECK_EQUAL(cubby_session_open(fixture->store, &fixture->session), CUBBY_OK);
}

void fixture_open_flags(struct fixture *fixture, const char *path, uint32_t flags)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = flags;
    fixture_open(fixture, path, &options);
}

void fixture_close(struct fixture *fixture)
{
    cubby_session_close(fixture->session);
    CHECK_EQUAL(cubby_close(fixture->store), CUBBY_OK);
    *fixture = (struct fixture){0};
}

int fixture_try_close(struct fixture *fixture)
{
    cubby_session_close(fixture->session);
    int status = cubby_close(fixture->store);
    *fixture = (struct fixture){0};
    return status;
}

void fixture_create(struct fixture *fixture, const char *path, uint64_t size_bytes)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.size_bytes = size_bytes;
    options.environment = repeatable_environment();
    fixture_open(fixture, path, &options);
}

static struct block_device *open_faulty(struct fixture *fixture, struct block_device *inner,
                                        const struct fault_plan *plan,
                                        const struct cubby_options *options)
{
    struct block_device *faulty;
    CHECK_EQUAL(fault_device_open_with(inner, plan, &faulty), 0);
    *fixture = (struct fixture){0};
    int status = store_open_device(faulty, "faulty", options, &fixture->store, fixture->message,
                                   sizeof fixture->message);
    if (status != CUBBY_OK) {
        fprintf(stderr, "opening a faulty device: %d: %s\n", status, fixture->message);
        exit(1);
    }
    CHECK_EQUAL(cubby_session_open(fixture->store, &fixture->session), CUBBY_OK);
    return faulty;
}

struct block_device *fixture_open_faulty(struct fixture *fixture)
{
    struct block_device *memory;
    CHECK_EQUAL(mem_device_open(65536, &memory), 0);
    const struct fault_plan plan = {0};
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    return open_faulty(fixture, memory, &plan, &options);
}

struct block_device *fixture_open_faulty_on(struct fixture *fixture, struct block_device *inner,
                                            const struct cubby_options *options)
{
    const struct fault_plan plan = {.borrow_inner = true};
    return open_faulty(fixture, inner, &plan, options);
}

void flip_bit(const char *path, uint64_t lba, unsigned offset)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    uint8_t byte;
    off_t place = (off_t)(lba * BLOCK_BYTES + offset);
    CHECK_EQUAL(pread(fd, &byte, 1, place), 1);
    byte ^= 0x10;
    CHECK_EQUAL(pwrite(fd, &byte, 1, place), 1);
    CHECK_EQUAL(close(fd), 0);
}

void fixture_rest(struct fixture *fixture)
{
    int did_work = 1;
    for (unsigned steps = 0; did_work != 0; steps++) {
        CHECK(steps < STEPS_MAX);
        CHECK_STATUS(fixture->session, cubby_step(fixture->session, &did_work), CUBBY_OK);
    }
}

void fixture_check(struct fixture *fixture)
{
    struct cubby_damage damages[DAMAGES_SHOWN];
    size_t count;
    CHECK_STATUS(fixture->session, cubby_check(fixture->session, damages, DAMAGES_SHOWN, &count),
                 CUBBY_OK);
    for (size_t i = 0; i < count && i < DAMAGES_SHOWN; i++) {
        fprintf(stderr, "damage at LBA %llu: %s\n", (unsigned long long)damages[i].lba,
                damages[i].text);
    }
    CHECK_EQUAL(count, 0);
}

static char directory[256];
static pid_t owner;

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_directory(void)
{
    if (getpid() == owner) {
        nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    }
}

const char *fixture_path(const char *name)
{
    static char paths[8][512];
    static size_t next;
    if (directory[0] == '\0') {
        const char *base = getenv("TMPDIR");
        snprintf(directory, sizeof directory, "%s/cubby-test-XXXXXX", base != NULL ? base : "/tmp");
        CHECK(mkdtemp(directory) != NULL);
        owner = getpid();
        atexit(remove_directory);
    }
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

uint64_t random_next(uint64_t *state)
{
    uint64_t mixed = *state += 0x9E3779B97F4A7C15;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB;
    return mixed ^ mixed >> 31;
}

void fill_value(uint64_t number, uint64_t version, uint8_t *value, size_t size)
{
    uint64_t state = number * 1000003 + version;
    size_t half = size / 2;
    for (size_t i = 0; i < half; i += 8) {
        uint64_t random = random_next(&state);
        memcpy(value + i, &random, half - i < 8 ? half - i : 8);
    }
    memset(value + half, 0, size - half);
}

size_t format_key(uint64_t number, uint8_t *buffer)
{
    return (size_t)snprintf((char *)buffer, 32, "key%013llu", (unsigned long long)number);
}

uint64_t parse_key(struct cubby_slice key)
{
    char text[32];
    CHECK(key.size > 3 && key.size < sizeof text);
    memcpy(text, key.data, key.size);
    text[key.size] = '\0';
    return strtoull(text + 3, NULL, 10);
}

void put_number(struct fixture *fixture, uint64_t number, uint64_t version, size_t value_size)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    uint8_t *value = malloc(value_size + 1);
    CHECK(value != NULL);
    fill_value(number, version, value, value_size);
    CHECK_STATUS(fixture->session, cubby_put(fixture->session, key, key_size, value, value_size),
                 CUBBY_OK);
    free(value);
}

void expect_number(struct fixture *fixture, uint64_t number, uint64_t version, size_t value_size)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    struct cubby_slice found;
    CHECK_STATUS(fixture->session, cubby_get(fixture->session, key, key_size, &found), CUBBY_OK);
    CHECK_EQUAL(found.size, value_size);
    uint8_t *value = malloc(value_size + 1);
    CHECK(value != NULL);
    fill_value(number, version, value, value_size);
    CHECK(value_size == 0 || memcmp(found.data, value, value_size) == 0);
    free(value);
}

void expect_absent(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    struct cubby_slice found;
    CHECK_STATUS(fixture->session, cubby_get(fixture->session, key, key_size, &found),
                 CUBBY_NOT_FOUND);
}

uint64_t count_pairs(struct fixture *fixture)
{
    uint64_t count;
    CHECK_STATUS(fixture->session, cubby_count(fixture->session, &count), CUBBY_OK);
    return count;
}

struct cubby_stat read_stat(struct fixture *fixture)
{
    struct cubby_stat stat;
    CHECK_STATUS(fixture->session, cubby_stat(fixture->session, &stat), CUBBY_OK);
    return stat;
}

int put_on_condition(cubby_session *session, const uint8_t *key, size_t key_size,
                     const uint8_t *value, size_t value_size, enum cubby_condition condition,
                     const uint8_t *expected, size_t expected_size)
{
    const struct cubby_put_options options = {
        .condition = condition,
        .expected = expected,
        .expected_size = expected_size,
    };
    return cubby_put_with(session, key, key_size, value, value_size, &options);
}

static uint64_t now_ns(void *state)
{
    (void)state;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t wall_ms(void *state)
{
    (void)state;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int repeatable_bytes(void *state, void *buffer, size_t size)
{
    (void)state;
    uint64_t sequence = 42;
    uint8_t *to = buffer;
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)random_next(&sequence);
    }
    return 0;
}

const struct cubby_environment *repeatable_environment(void)
{
    static const struct cubby_environment environment = {
        .now_ns = now_ns,
        .random_bytes = repeatable_bytes,
        .wall_ms = wall_ms,
    };
    return &environment;
}
