/* test_store_power.c -- what a power cut leaves: every synced pair that was not changed since.
 *
 * The store runs on a device with a volatile cache: what was not flushed survives a cut block by
 * block, at random. The superblocks are then marked as of another run of the machine, as they would
 * be.
 *
 * Depends on: store_fixture.h.
 */
#include <errno.h>

#include "blockdev/block_device.h"
#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/store/disk_format.h"
#include "engine/store/store.h"
#include "tests/c/store_fixture.h"

enum {
    BLOCKS = 8192,
    ROUNDS = 40,
};

/* What reads see, what is durable, and which blocks differ. The store does not own it. */
struct volatile_device {
    struct block_device device;
    uint8_t *seen;
    uint8_t *durable;
    uint8_t dirty[BLOCKS];
};

static struct volatile_device *volatile_of(struct block_device *device)
{
    return (struct volatile_device *)(void *)device;
}

static int cached_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    CHECK(lba + count <= BLOCKS);
    memcpy(buffer, volatile_of(device)->seen + lba * BLOCK_BYTES, count * BLOCK_BYTES);
    return 0;
}

static int cached_write(struct block_device *device, uint64_t lba, size_t count, const void *buffer)
{
    CHECK(lba + count <= BLOCKS);
    memcpy(volatile_of(device)->seen + lba * BLOCK_BYTES, buffer, count * BLOCK_BYTES);
    memset(volatile_of(device)->dirty + lba, 1, count);
    return 0;
}

static int cached_flush(struct block_device *device)
{
    struct volatile_device *cached = volatile_of(device);
    memcpy(cached->durable, cached->seen, (size_t)BLOCKS * BLOCK_BYTES);
    memset(cached->dirty, 0, BLOCKS);
    return 0;
}

static int cached_discard(struct block_device *device, uint64_t lba, uint64_t count)
{
    (void)device;
    (void)lba;
    (void)count;
    return EOPNOTSUPP;
}

static int cached_resize(struct block_device *device, uint64_t count)
{
    (void)device;
    (void)count;
    return EINVAL;
}

static int cached_usage(struct block_device *device, struct block_usage *usage)
{
    (void)device;
    *usage = (struct block_usage){.source = "none"};
    return 0;
}

static void cached_close(struct block_device *device)
{
    (void)device;
}

static void make_device(struct volatile_device *cached)
{
    static const struct block_device_ops ops = {
        .read = cached_read,
        .write = cached_write,
        .flush = cached_flush,
        .discard = cached_discard,
        .resize = cached_resize,
        .usage = cached_usage,
        .queue_open = blocking_queue_open,
        .close = cached_close,
    };
    *cached = (struct volatile_device){.device = {.ops = &ops}};
    cached->device.geometry =
        (struct block_geometry){.block_count = BLOCKS, .atomic_write_bytes = BLOCK_BYTES};
    cached->seen = calloc(BLOCKS, BLOCK_BYTES);
    cached->durable = calloc(BLOCKS, BLOCK_BYTES);
    CHECK(cached->seen != NULL && cached->durable != NULL);
}

static void free_device(struct volatile_device *cached)
{
    free(cached->seen);
    free(cached->durable);
}

/* The machine that opens the store next has been started since. */
static void start_anew(struct volatile_device *cached)
{
    for (uint64_t lba = 0; lba < SUPERBLOCK_COUNT; lba++) {
        uint8_t *block = cached->seen + lba * BLOCK_BYTES;
        if (memcmp(block + 8, SUPERBLOCK_MAGIC, 8) == 0) {
            block[SUPERBLOCK_BOOT_ID_OFFSET] ^= 0xff;
            store_u64(block, checksum_of(block + 8, BLOCK_BYTES - 8, lba, 0));
        }
    }
}

/* Each block that was not flushed survives with percent of chance. */
static void cut_power(struct volatile_device *to, const struct volatile_device *from,
                      unsigned percent, uint64_t *random)
{
    memcpy(to->seen, from->durable, (size_t)BLOCKS * BLOCK_BYTES);
    for (size_t i = 0; i < BLOCKS; i++) {
        if (from->dirty[i] && random_next(random) % 100 < percent) {
            memcpy(to->seen + i * BLOCK_BYTES, from->seen + i * BLOCK_BYTES, BLOCK_BYTES);
        }
    }
    start_anew(to);
    cached_flush(&to->device);
}

static void open_on(struct volatile_device *cached, uint32_t flags, struct fixture *fixture)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = flags;
    *fixture = (struct fixture){0};
    int status = store_open_device(&cached->device, "volatile", &options, &fixture->store,
                                   fixture->message, sizeof fixture->message);
    if (status != CUBBY_OK) {
        fprintf(stderr, "opening after a power cut: %s\n", fixture->message);
        exit(1);
    }
    CHECK_EQUAL(cubby_session_open(fixture->store, &fixture->session), CUBBY_OK);
}

static size_t size_of(uint64_t number)
{
    return number % 50 == 0 ? 3000 : 100 + number * 7 % 400;
}

static void expect_synced(struct fixture *fixture, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        expect_number(fixture, i, 0, size_of(i));
    }
}

/* Sync count pairs, change others, cut, and open what is left; then again, after a plain crash. */
static void run_round(struct volatile_device *before, struct volatile_device *after,
                      uint64_t *random)
{
    struct fixture fixture;
    struct fixture reopened;
    open_on(before, CUBBY_NEW | CUBBY_FORCE, &fixture);
    uint64_t count = 1000 + random_next(random) % 3000;
    for (uint64_t i = 0; i < count; i++) {
        put_number(&fixture, i, 0, size_of(i));
    }
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    uint64_t more = 100 + random_next(random) % 1500;
    for (uint64_t i = count; i < count + more; i++) {
        put_number(&fixture, i, 0, 100 + i * 7 % 400);
    }
    cut_power(after, before, 10 + (unsigned)(random_next(random) % 80), random);
    open_on(after, CUBBY_READ_ONLY_OPEN, &reopened);
    expect_synced(&reopened, count);
    fixture_close(&reopened);
    open_on(after, 0, &reopened);
    CHECK_EQUAL(read_stat(&reopened).recovered, 1);
    expect_synced(&reopened, count);
    fixture_check(&reopened);
    /* Go on writing; then the process dies, on the same run of the machine. */
    for (uint64_t i = count; i < count + more; i++) {
        put_number(&reopened, i, 1, 50 + i * 3 % 500);
    }
    struct volatile_device crashed;
    make_device(&crashed);
    memcpy(crashed.seen, after->seen, (size_t)BLOCKS * BLOCK_BYTES);
    struct fixture last;
    open_on(&crashed, 0, &last);
    expect_synced(&last, count);
    for (uint64_t i = count; i < count + more; i++) {
        expect_number(&last, i, 1, 50 + i * 3 % 500);
    }
    fixture_check(&last);
    fixture_close(&last);
    free_device(&crashed);
    fixture_close(&reopened);
    fixture_close(&fixture);
}

static void test_a_power_cut_after_sync_keeps_every_synced_pair(void)
{
    uint64_t random = 7;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct volatile_device before;
        struct volatile_device after;
        make_device(&before);
        make_device(&after);
        run_round(&before, &after, &random);
        free_device(&before);
        free_device(&after);
    }
}

int main(void)
{
    RUN(test_a_power_cut_after_sync_keeps_every_synced_pair);
    return 0;
}
