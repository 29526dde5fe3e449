/* csd_compare.c -- cubby-csd: what an emulated drive costs beside doing the same by hand.
 *
 *   read    a random block of the drive             a random frame by pread, expanded by zstd
 *   write   a random block to the drive             a block compressed by zstd, and pwrite
 *   two     the same by two threads at once, each with its own random order
 *
 * Blocks are half random, half zeros. Times are of CPU, per thread and operation, so that other
 * programs disturb them less. Everything runs in turn, round after round; one JSON object per
 * round.
 *
 * Depends on: csd.h, libzstd.   Used by: bench/compare_csd.py.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "blockdev/csd.h"
#include "engine/base/bytes.h"
#include "engine/cubby.h"

enum {
    SAMPLES = 1024,    /* different blocks */
    SLOT_BYTES = 2176, /* of the plain file: a frame, and to spare */
    THREADS = 2,
    LOAD_BLOCKS = 32,
    LEVEL = 1,
};

/* One of the four things that are timed. */
struct bench;
struct task {
    const char *name;
    void (*run)(struct bench *bench, uint64_t seed, uint64_t operations);
};

struct bench {
    const char *drive_path;
    const char *plain_path;
    uint64_t block_count;
    uint64_t operations;
    uint64_t rounds;
    struct block_device *drive;
    int plain_fd;
    uint8_t *samples;      /* SAMPLES blocks */
    uint16_t *frame_bytes; /* one per block */
};

static void fail(const char *what, int status)
{
    fprintf(stderr, "cubby-csd: %s: %s\n", what, cubby_status_text(status));
    exit(1);
}

static void check(const char *what, int status)
{
    if (status != 0) {
        fail(what, status);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t mixed = (*state ^ *state >> 33) * UINT64_C(0xff51afd7ed558ccd);
    return mixed ^ mixed >> 33;
}

static uint64_t thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint8_t *allocate(size_t bytes)
{
    uint8_t *memory = aligned_alloc(CUBBY_BLOCK_BYTES, bytes);
    if (memory == NULL) {
        fail("memory", ENOMEM);
    }
    return memory;
}

static const uint8_t *sample(const struct bench *bench, uint64_t number)
{
    return bench->samples + number % SAMPLES * CUBBY_BLOCK_BYTES;
}

static ZSTD_CCtx *make_compressor(void)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (context == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, LEVEL))) {
        fail("zstd", ENOMEM);
    }
    return context;
}

static void write_frame(struct bench *bench, ZSTD_CCtx *context, uint64_t lba, uint64_t number)
{
    uint8_t frame[SLOT_BYTES];
    size_t size =
        ZSTD_compress2(context, frame, sizeof frame, sample(bench, number), CUBBY_BLOCK_BYTES);
    if (ZSTD_isError(size) ||
        pwrite(bench->plain_fd, frame, size, (off_t)(lba * SLOT_BYTES)) != (ssize_t)size) {
        fail(bench->plain_path, EIO);
    }
    __atomic_store_n(&bench->frame_bytes[lba], (uint16_t)size, __ATOMIC_RELAXED);
}

static void write_plain(struct bench *bench, uint64_t seed, uint64_t operations)
{
    ZSTD_CCtx *context = make_compressor();
    for (uint64_t i = 0; i < operations; i++) {
        write_frame(bench, context, next_random(&seed) % bench->block_count, i);
    }
    ZSTD_freeCCtx(context);
}

static void read_plain(struct bench *bench, uint64_t seed, uint64_t operations)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    uint8_t frame[SLOT_BYTES];
    uint8_t block[CUBBY_BLOCK_BYTES];
    for (uint64_t i = 0; i < operations; i++) {
        uint64_t lba = next_random(&seed) % bench->block_count;
        size_t size = __atomic_load_n(&bench->frame_bytes[lba], __ATOMIC_RELAXED);
        if (pread(bench->plain_fd, frame, size, (off_t)(lba * SLOT_BYTES)) != (ssize_t)size ||
            ZSTD_decompressDCtx(context, block, sizeof block, frame, size) != sizeof block) {
            fail(bench->plain_path, EIO);
        }
    }
    ZSTD_freeDCtx(context);
}

static void write_drive(struct bench *bench, uint64_t seed, uint64_t operations)
{
    for (uint64_t i = 0; i < operations; i++) {
        uint64_t lba = next_random(&seed) % bench->block_count;
        check(bench->drive_path, bench->drive->ops->write(bench->drive, lba, 1, sample(bench, i)));
    }
}

static void read_drive(struct bench *bench, uint64_t seed, uint64_t operations)
{
    uint8_t *block = allocate(CUBBY_BLOCK_BYTES);
    for (uint64_t i = 0; i < operations; i++) {
        uint64_t lba = next_random(&seed) % bench->block_count;
        check(bench->drive_path, bench->drive->ops->read(bench->drive, lba, 1, block));
    }
    free(block);
}

static const struct task TASKS[] = {
    {"read_plain", read_plain},
    {"read_drive", read_drive},
    {"write_plain", write_plain},
    {"write_drive", write_drive},
};

struct thread {
    pthread_t handle;
    struct bench *bench;
    const struct task *task;
    uint64_t seed;
    uint64_t cpu_ns;
};

static void *run_thread(void *argument)
{
    struct thread *thread = argument;
    uint64_t begin_ns = thread_ns();
    thread->task->run(thread->bench, thread->seed, thread->bench->operations);
    thread->cpu_ns = thread_ns() - begin_ns;
    return NULL;
}

/* CPU nanoseconds per operation and thread. */
static double time_task(struct bench *bench, const struct task *task, size_t thread_count,
                        uint64_t seed)
{
    struct thread threads[THREADS];
    uint64_t cpu_ns = 0;
    for (size_t i = 0; i < thread_count; i++) {
        threads[i] = (struct thread){.bench = bench, .task = task, .seed = seed * THREADS + i};
        check("thread", pthread_create(&threads[i].handle, NULL, run_thread, &threads[i]));
    }
    for (size_t i = 0; i < thread_count; i++) {
        check("thread", pthread_join(threads[i].handle, NULL));
        cpu_ns += threads[i].cpu_ns;
    }
    return (double)cpu_ns / (double)(bench->operations * thread_count);
}

static void prepare(struct bench *bench)
{
    char text[CUBBY_MESSAGE_BYTES];
    struct device_message message = {.text = text, .size = sizeof text};
    bench->samples = allocate((size_t)SAMPLES * CUBBY_BLOCK_BYTES);
    memset(bench->samples, 0, (size_t)SAMPLES * CUBBY_BLOCK_BYTES);
    uint64_t random = 1;
    for (size_t i = 0; i < SAMPLES; i++) {
        for (size_t j = 0; j < CUBBY_BLOCK_BYTES / 2; j += 8) {
            store_u64(bench->samples + i * CUBBY_BLOCK_BYTES + j, next_random(&random));
        }
    }
    struct block_device *file;
    int status = file_device_open(bench->drive_path, BLOCK_DEVICE_CREATE, &file, text, sizeof text);
    /* Twice what is written to it, so that cleaning is not what is measured. */
    struct csd_options options = {.physical_bytes = bench->block_count * CUBBY_BLOCK_BYTES * 2,
                                  .level = LEVEL};
    if (status == 0) {
        status = csd_device_format(file, &options, message);
    }
    if (status == 0) {
        status = csd_device_open(file, 0, bench->drive_path, &bench->drive, message);
    }
    if (status != 0) {
        fail(text, status);
    }
    for (uint64_t lba = 0; lba < bench->block_count; lba += LOAD_BLOCKS) {
        check(bench->drive_path,
              bench->drive->ops->write(bench->drive, lba, LOAD_BLOCKS, sample(bench, lba)));
    }
    bench->plain_fd = open(bench->plain_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bench->frame_bytes = calloc(bench->block_count, sizeof *bench->frame_bytes);
    if (bench->plain_fd < 0 || bench->frame_bytes == NULL) {
        fail(bench->plain_path, errno);
    }
    ZSTD_CCtx *context = make_compressor();
    for (uint64_t lba = 0; lba < bench->block_count; lba++) {
        write_frame(bench, context, lba, lba);
    }
    ZSTD_freeCCtx(context);
}

static void print_stat(struct bench *bench)
{
    struct csd_stat stat;
    csd_device_stat(bench->drive, &stat);
    printf("],\n\"host_writes\": %llu, \"media_writes\": %llu, \"map_writes\": %llu, "
           "\"cleaned_segments\": %llu, \"checkpoints\": %llu, \"stored_bytes\": %llu}\n",
           (unsigned long long)stat.host_writes, (unsigned long long)stat.media_writes,
           (unsigned long long)stat.map_writes, (unsigned long long)stat.cleaned_segments,
           (unsigned long long)stat.checkpoints, (unsigned long long)stat.stored_bytes);
}

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || value == 0) {
        fail(text, CUBBY_BAD_ARGUMENT);
    }
    return value;
}

int main(int count, char **arguments)
{
    if (count != 6) {
        fprintf(stderr, "usage: cubby-csd DRIVE-FILE PLAIN-FILE BLOCKS OPERATIONS ROUNDS\n"
                        "Both files are made, written over, and left. JSON on standard output.\n");
        return 2;
    }
    struct bench bench = {
        .drive_path = arguments[1],
        .plain_path = arguments[2],
        .block_count = (number(arguments[3]) + LOAD_BLOCKS - 1) / LOAD_BLOCKS * LOAD_BLOCKS,
        .operations = number(arguments[4]),
        .rounds = number(arguments[5]),
    };
    prepare(&bench);
    printf("{\"unit\": \"CPU ns per operation and thread\", \"rounds\": [");
    for (uint64_t round = 0; round < bench.rounds; round++) {
        printf("%s\n{", round == 0 ? "" : ",");
        for (size_t i = 0; i < sizeof TASKS / sizeof TASKS[0]; i++) {
            for (size_t threads = 1; threads <= THREADS; threads++) {
                double ns = time_task(&bench, &TASKS[i], threads, round + 1);
                printf("%s\"%s_%zu\": %.0f", i + threads == 1 ? "" : ", ", TASKS[i].name, threads,
                       ns);
            }
        }
        printf("}");
        fflush(stdout);
    }
    print_stat(&bench);
    bench.drive->ops->close(bench.drive);
    close(bench.plain_fd);
    free(bench.frame_bytes);
    free(bench.samples);
    return 0;
}
