/* test_csd_kill.c -- an emulated drive on a file, whose process is killed 100 times with SIGKILL.
 *
 * What a write has returned for survives its process, flushed or not: the child notes in shared
 * memory what it is about to write and what it has written, the parent kills it and looks.
 *
 * Depends on: csd_fixture.h.
 */
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/c/csd_fixture.h"

enum {
    KILLS = 50, /* in each place */
    BLOCKS = 1024,
    CALL_BLOCKS_MAX = 16,
    PATH_BYTES = 64,
};

/* Of each block, in memory that parent and child share. A version of 0 is a block of zeros. */
struct notes {
    _Atomic uint64_t begun[BLOCKS]; /* the last version whose writing began */
    _Atomic uint64_t done[BLOCKS];  /* and the last that was done */
    _Atomic uint64_t last_version;
    _Atomic uint64_t operations;
};

static char path[PATH_BYTES];

static struct block_device *open_drive(bool make)
{
    char text[CUBBY_MESSAGE_BYTES];
    struct device_message message = {.text = text, .size = sizeof text};
    struct block_device *file;
    CHECK_EQUAL(file_device_open(path, BLOCK_DEVICE_CREATE, &file, text, sizeof text), 0);
    struct csd_options options = {
        .physical_bytes = 4 << 20, .logical_bytes = 6 << 20, .throttle_disabled = true};
    if (make) {
        CHECK_EQUAL(csd_device_format(file, &options, message), 0);
    }
    struct block_device *drive;
    int status = csd_device_open(file, 0, path, &drive, message);
    if (status != 0) {
        fprintf(stderr, "%s\n", text);
    }
    CHECK_EQUAL(status, 0);
    return drive;
}

/* Write until killed. */
static void work(struct notes *notes, uint64_t seed)
{
    struct block_device *drive = open_drive(false);
    uint8_t *blocks = csd_blocks(CALL_BLOCKS_MAX);
    uint64_t random = seed;
    for (;;) {
        uint64_t lba = next_random(&random) % (BLOCKS - CALL_BLOCKS_MAX);
        uint64_t count = 1 + next_random(&random) % CALL_BLOCKS_MAX;
        uint64_t choice = next_random(&random) % 32;
        uint64_t versions[CALL_BLOCKS_MAX] = {0};
        for (uint64_t i = 0; i < count; i++) {
            versions[i] = atomic_fetch_add(&notes->last_version, 1) + 1;
            atomic_store(&notes->begun[lba + i], versions[i]);
            csd_fill_block(blocks + i * CUBBY_BLOCK_BYTES, lba + i, versions[i]);
        }
        int status = choice == 0 ? drive->ops->flush(drive) : 0;
        if (status == 0) {
            status = drive->ops->write(drive, lba, count, blocks);
        }
        for (uint64_t i = 0; i < count && status == 0; i++) {
            atomic_store(&notes->done[lba + i], versions[i]);
        }
        CHECK_EQUAL(status, 0);
        atomic_fetch_add(&notes->operations, 1);
    }
}

static void look(struct notes *notes)
{
    struct block_device *drive = open_drive(false);
    uint8_t *block = csd_blocks(1);
    for (uint64_t lba = 0; lba < BLOCKS; lba++) {
        CHECK_EQUAL(drive->ops->read(drive, lba, 1, block), 0);
        uint64_t version = csd_block_version(block, lba);
        CHECK(version >= atomic_load(&notes->done[lba]));
        CHECK(version <= atomic_load(&notes->begun[lba]));
        atomic_store(&notes->done[lba], version);
        atomic_store(&notes->begun[lba], version);
    }
    free(block);
    drive->ops->close(drive);
}

static void survive_kills(const char *folder)
{
    struct notes *notes =
        mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(notes != MAP_FAILED);
    snprintf(path, sizeof path, "%s/cubby-csd-kill-%d", folder, (int)getpid());
    struct block_device *drive = open_drive(true);
    drive->ops->close(drive);
    uint64_t random = 42;
    uint64_t operations = 0;
    for (uint64_t i = 0; i < KILLS; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            work(notes, i);
        }
        /* At random, from its opening on. */
        usleep((unsigned)(next_random(&random) % 30000));
        CHECK_EQUAL(kill(child, SIGKILL), 0);
        int state;
        CHECK_EQUAL(waitpid(child, &state, 0), child);
        CHECK(WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL);
        look(notes);
        operations = atomic_load(&notes->operations);
    }
    printf("killed %d times in %llu writes\n", KILLS, (unsigned long long)operations);
    CHECK(operations > 0);
    CHECK_EQUAL(unlink(path), 0);
    munmap(notes, sizeof *notes);
}

/* Through O_DIRECT, whole blocks; and byte by byte, where a file system has no such thing. */
static void test_kills_lose_nothing_that_was_written(void)
{
    survive_kills("/tmp");
    survive_kills(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

int main(void)
{
    RUN(test_kills_lose_nothing_that_was_written);
    return 0;
}
