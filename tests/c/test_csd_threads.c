/* test_csd_threads.c -- an emulated drive under many threads: each block is always one whole
 * version of itself, never older than what its writer knows to be written, while cleaning and
 * checkpoints move everything about.
 *
 * Depends on: csd_fixture.h.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/c/csd_fixture.h"

enum {
    THREADS = 4,
    CROWD = 64, /* more than a drive has workers */
    BLOCKS = 4096,
    OPERATIONS = 40000, /* of all threads together */
    DEPTH = 8,
};

struct shared {
    struct block_device *drive;
    uint64_t thread_count;
    _Atomic uint64_t begun[BLOCKS]; /* only the block's own thread changes these */
    _Atomic uint64_t done[BLOCKS];
};

struct worker {
    pthread_t thread;
    struct shared *shared;
    uint64_t number;
};

/* Whether a block that was read in between is one that may be seen. */
static void check_seen(struct shared *shared, const uint8_t *block, uint64_t lba, uint64_t done)
{
    uint64_t version = csd_block_version(block, lba);
    CHECK(version >= done);
    CHECK(version <= atomic_load(&shared->begun[lba]));
}

static void read_one(struct shared *shared, uint64_t lba, uint8_t *block)
{
    uint64_t done = atomic_load(&shared->done[lba]);
    CHECK_EQUAL(shared->drive->ops->read(shared->drive, lba, 1, block), 0);
    check_seen(shared, block, lba, done);
}

static void read_queued(struct shared *shared, struct block_queue *queue, uint64_t *random,
                        uint8_t *blocks)
{
    struct block_request requests[DEPTH];
    uint64_t done_before[DEPTH];
    for (size_t i = 0; i < DEPTH; i++) {
        uint64_t lba = next_random(random) % BLOCKS;
        done_before[i] = atomic_load(&shared->done[lba]);
        requests[i] = (struct block_request){.operation = BLOCK_READ,
                                             .block_count = 1,
                                             .lba = lba,
                                             .buffer = blocks + i * CUBBY_BLOCK_BYTES};
        CHECK_EQUAL(queue->ops->submit(queue, &requests[i]), 0);
    }
    for (size_t reaped = 0; reaped < DEPTH;) {
        struct block_request *done[DEPTH];
        reaped += queue->ops->reap(queue, done, DEPTH);
    }
    for (size_t i = 0; i < DEPTH; i++) {
        CHECK_EQUAL(requests[i].result, 0);
        check_seen(shared, requests[i].buffer, requests[i].lba, done_before[i]);
    }
}

static void *work(void *argument)
{
    struct worker *self = argument;
    struct shared *shared = self->shared;
    struct block_device *drive = shared->drive;
    uint8_t *blocks = csd_blocks(DEPTH);
    struct block_queue *queue;
    CHECK_EQUAL(drive->ops->queue_open(drive, DEPTH, &queue), 0);
    uint64_t random = self->number;
    for (uint64_t i = 1; i <= OPERATIONS / shared->thread_count; i++) {
        uint64_t choice = next_random(&random) % 16;
        uint64_t own =
            next_random(&random) % (BLOCKS / shared->thread_count) * shared->thread_count +
            self->number;
        if (choice < 9) {
            atomic_store(&shared->begun[own], i);
            csd_fill_block(blocks, own, i);
            CHECK_EQUAL(drive->ops->write(drive, own, 1, blocks), 0);
            atomic_store(&shared->done[own], i);
        } else if (choice < 13) {
            read_one(shared, next_random(&random) % BLOCKS, blocks);
        } else if (choice < 15) {
            read_queued(shared, queue, &random, blocks);
        } else if (i % 64 == 0) {
            CHECK_EQUAL(drive->ops->flush(drive), 0);
        }
    }
    queue->ops->close(queue);
    free(blocks);
    return NULL;
}

static void run_threads(uint64_t thread_count, uint64_t physical_bytes, uint64_t logical_bytes)
{
    struct csd_options options = {.physical_bytes = physical_bytes,
                                  .logical_bytes = logical_bytes,
                                  .throttle_disabled = true};
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &options);
    csd_fixture_open(&fixture);
    CHECK(fixture.drive->geometry.block_count >= BLOCKS);
    struct shared *shared = calloc(1, sizeof *shared);
    CHECK(shared != NULL);
    shared->drive = fixture.drive;
    shared->thread_count = thread_count;
    static struct worker workers[CROWD];
    CHECK(thread_count <= CROWD);
    for (uint64_t i = 0; i < thread_count; i++) {
        workers[i] = (struct worker){.shared = shared, .number = i};
        CHECK_EQUAL(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < thread_count; i++) {
        CHECK_EQUAL(pthread_join(workers[i].thread, NULL), 0);
    }
    struct csd_stat stat;
    csd_device_stat(fixture.drive, &stat);
    printf("cleaned %llu segments, wrote %llu checkpoints\n",
           (unsigned long long)stat.cleaned_segments, (unsigned long long)stat.checkpoints);
    csd_fixture_close(&fixture);
    csd_fixture_open(&fixture);
    uint8_t *block = csd_blocks(1);
    for (uint64_t lba = 0; lba < BLOCKS; lba++) {
        CHECK_EQUAL(fixture.drive->ops->read(fixture.drive, lba, 1, block), 0);
        CHECK_EQUAL(csd_block_version(block, lba), atomic_load(&shared->done[lba]));
    }
    free(block);
    csd_fixture_close(&fixture);
    free(shared);
    csd_fixture_free(&fixture);
}

static void test_threads_share_a_nearly_full_drive_of_one_stream(void)
{
    run_threads(THREADS, (uint64_t)9 << 20, (uint64_t)16 << 20);
}

static void test_threads_share_a_drive_of_four_streams(void)
{
    run_threads(THREADS, (uint64_t)256 << 20, (uint64_t)1 << 30);
}

/* All of them wait for the one that cleans. */
static void test_a_crowd_shares_a_nearly_full_drive(void)
{
    run_threads(CROWD, (uint64_t)9 << 20, (uint64_t)16 << 20);
}

int main(void)
{
    RUN(test_threads_share_a_nearly_full_drive_of_one_stream);
    RUN(test_threads_share_a_drive_of_four_streams);
    RUN(test_a_crowd_shares_a_nearly_full_drive);
    return 0;
}
