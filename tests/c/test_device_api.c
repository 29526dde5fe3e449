/* test_device_api.c -- devices for tools: any address, public statuses, sentences, and forks.
 *
 * Depends on: check.h, cubby.h.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/cubby.h"
#include "tests/c/check.h"

enum {
    BLOCKS = 700, /* more than two pieces of what is copied at a time */
    SHIFT = 13,   /* bytes that an address is beside a block's */
    THREADS = 4,
};

static char message[CUBBY_MESSAGE_BYTES];

static cubby_device *open_device(const char *name)
{
    cubby_device *device = NULL;
    CHECK_EQUAL(cubby_device_open(name, 0, &device, message, sizeof message), CUBBY_OK);
    return device;
}

static void check_said(const char *text)
{
    if (strstr(message, text) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", text, message);
        exit(1);
    }
    message[0] = '\0';
}

static int read_device(cubby_device *device, uint64_t lba, uint64_t count, uint8_t *buffer)
{
    return cubby_device_read(device, lba, count, buffer, message, sizeof message);
}

static int write_device(cubby_device *device, uint64_t lba, uint64_t count, const uint8_t *buffer)
{
    return cubby_device_write(device, lba, count, buffer, message, sizeof message);
}

static void fill_with_noise(uint8_t *memory, size_t size)
{
    uint64_t state = 1;
    for (size_t i = 0; i < size; i++) {
        state = state * UINT64_C(6364136223846793005) + 1;
        memory[i] = (uint8_t)(state >> 56);
    }
}

/* Blocks at an address that is no block's, of noise. */
static uint8_t *make_blocks(void)
{
    uint8_t *memory = aligned_alloc(CUBBY_BLOCK_BYTES, (BLOCKS + 1) * CUBBY_BLOCK_BYTES);
    CHECK(memory != NULL);
    fill_with_noise(memory + SHIFT, BLOCKS * CUBBY_BLOCK_BYTES);
    return memory;
}

static void test_buffers_may_be_at_any_address(void)
{
    cubby_device *device = open_device("mem:4M");
    uint8_t *written = make_blocks();
    uint8_t *found = make_blocks();
    CHECK_EQUAL(write_device(device, 100, BLOCKS, written + SHIFT), CUBBY_OK);
    memset(found, 0, (BLOCKS + 1) * CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(read_device(device, 100, BLOCKS, found + SHIFT), CUBBY_OK);
    CHECK(memcmp(found + SHIFT, written + SHIFT, BLOCKS * CUBBY_BLOCK_BYTES) == 0);
    CHECK_EQUAL(found[SHIFT - 1], 0);
    CHECK_EQUAL(found[SHIFT + BLOCKS * CUBBY_BLOCK_BYTES], 0);
    CHECK_EQUAL(read_device(device, 100, BLOCKS, found), CUBBY_OK);
    CHECK(memcmp(found, written + SHIFT, BLOCKS * CUBBY_BLOCK_BYTES) == 0);
    free(found);
    free(written);
    cubby_device_close(device);
}

static void test_a_failure_in_a_later_piece_is_told_with_its_place(void)
{
    uint8_t *blocks = make_blocks();
    cubby_device *device = open_device("fault:read=2,write=3:mem:4M");
    CHECK_EQUAL(write_device(device, 0, BLOCKS, blocks + SHIFT), EIO);
    check_said("failed writing LBAs 512 to 699: Input/output error");
    CHECK_EQUAL(read_device(device, 0, BLOCKS, blocks + SHIFT), EIO);
    check_said("failed reading LBAs 256 to 511: Input/output error");
    cubby_device_close(device);
    free(blocks);
}

static void test_what_is_outside_is_a_bad_argument(void)
{
    cubby_device *device = open_device("mem:64K");
    uint8_t *blocks = make_blocks();
    CHECK_EQUAL(read_device(device, 16, 1, blocks), CUBBY_BAD_ARGUMENT);
    check_said("mem:64K has 16 blocks; reading LBA 16 is outside");
    CHECK_EQUAL(write_device(device, 15, 2, blocks), CUBBY_BAD_ARGUMENT);
    check_said("writing LBAs 15 to 16 is outside");
    CHECK_EQUAL(read_device(device, 3, UINT64_MAX, blocks), CUBBY_BAD_ARGUMENT);
    check_said("reading LBAs 3 to 18446744073709551615 is outside");
    CHECK_EQUAL(write_device(device, 0, 0, blocks), CUBBY_BAD_ARGUMENT);
    check_said("at least one block");
    CHECK_EQUAL(cubby_device_discard(device, 10, 7, NULL, 0), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_device_resize(device, 5, message, sizeof message), CUBBY_BAD_ARGUMENT);
    check_said("only the size of a file can be changed");
    CHECK_EQUAL(cubby_device_discard(device, 10, 6, message, sizeof message), CUBBY_OK);
    CHECK_EQUAL(cubby_device_flush(device, message, sizeof message), CUBBY_OK);
    free(blocks);
    cubby_device_close(device);
    cubby_device_close(NULL);
}

static void test_flags_of_stores_are_refused(void)
{
    cubby_device *device = NULL;
    int status = cubby_device_open("mem:1M", CUBBY_NEW, &device, message, sizeof message);
    CHECK_EQUAL(status, CUBBY_BAD_ARGUMENT);
    check_said("CUBBY_CREATE and CUBBY_READ_ONLY_OPEN alone");
    CHECK(device == NULL);
}

/* Change one byte of the first place in a file where these bytes stand. */
static void damage_file(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(path, "r+");
    CHECK(file != NULL);
    CHECK_EQUAL(fseek(file, 0, SEEK_END), 0);
    long end = ftell(file);
    uint8_t *content = malloc((size_t)end);
    CHECK(content != NULL);
    rewind(file);
    CHECK_EQUAL(fread(content, 1, (size_t)end, file), end);
    uint8_t *place = memmem(content, (size_t)end, bytes, size);
    CHECK(place != NULL);
    CHECK_EQUAL(fseek(file, place - content, SEEK_SET), 0);
    CHECK_EQUAL(fputc(bytes[0] ^ 1, file), bytes[0] ^ 1);
    CHECK_EQUAL(fclose(file), 0);
    free(content);
}

static void test_a_damaged_block_is_named_and_the_others_are_read(void)
{
    char name[] = "csd:/tmp/cubby-test-XXXXXX";
    const char *path = name + strlen("csd:");
    int fd = mkstemp(name + strlen("csd:"));
    CHECK(fd >= 0);
    close(fd);
    struct cubby_device_options options = {.physical_bytes = 8 << 20, .force = 1};
    CHECK_EQUAL(cubby_device_create(name, &options, message, sizeof message), CUBBY_OK);
    uint8_t *blocks = make_blocks();
    cubby_device *device = open_device(name);
    CHECK_EQUAL(write_device(device, 100, BLOCKS, blocks + SHIFT), CUBBY_OK);
    cubby_device_close(device);
    damage_file(path, blocks + SHIFT + 321 * CUBBY_BLOCK_BYTES, 64);

    device = open_device(name);
    for (int shift = 0; shift <= SHIFT; shift += SHIFT) {
        CHECK_EQUAL(read_device(device, 100, BLOCKS, blocks + shift), CUBBY_CORRUPT);
        check_said("LBA 421 of csd:/tmp/cubby-test-");
        CHECK_EQUAL(read_device(device, 421, 1, blocks + shift), CUBBY_CORRUPT);
        check_said("LBA 421 of csd:/tmp/cubby-test-");
        CHECK_EQUAL(read_device(device, 100, 321, blocks + shift), CUBBY_OK);
        CHECK_EQUAL(read_device(device, 422, BLOCKS - 322, blocks + shift), CUBBY_OK);
    }
    cubby_device_close(device);
    CHECK_EQUAL(unlink(path), 0);
    free(blocks);
}

static void test_a_drive_tells_its_figures(void)
{
    cubby_device *device = NULL;
    int status = cubby_device_open("csd:mem:32M", CUBBY_CREATE, &device, message, sizeof message);
    CHECK_EQUAL(status, CUBBY_OK);
    uint8_t *blocks = make_blocks();
    CHECK_EQUAL(write_device(device, 5, 10, blocks), CUBBY_OK);
    struct cubby_device_stat stat;
    CHECK_EQUAL(cubby_device_stat(device, &stat), CUBBY_OK);
    CHECK(strcmp(stat.kind, "csd") == 0 && strcmp(stat.source, "csd") == 0);
    CHECK_EQUAL(stat.host_writes, 10);
    CHECK_EQUAL(stat.logical_bytes, 10 * CUBBY_BLOCK_BYTES);
    CHECK(stat.physical_bytes > stat.logical_bytes); /* noise, and headers */
    CHECK_EQUAL(stat.raw_writes, 10);
    CHECK_EQUAL(stat.unit_bytes, 64);
    CHECK_EQUAL(stat.space_state, CUBBY_SPACE_NORMAL);
    free(blocks);
    cubby_device_close(device);
}

static void test_stored_bytes_of_zeros_text_and_noise(void)
{
    static uint8_t block[CUBBY_BLOCK_BYTES];
    CHECK_EQUAL(cubby_device_stored_bytes(block, 0, 0), 0);
    memset(block, 'x', sizeof block);
    CHECK_EQUAL(cubby_device_stored_bytes(block, 0, 0), 64);
    CHECK_EQUAL(cubby_device_stored_bytes(block, 512, 3), 512);
    uint64_t payload_bytes = cubby_device_stored_bytes(block, 1, 1);
    CHECK(payload_bytes > 0 && payload_bytes <= 40);
    fill_with_noise(block, sizeof block);
    CHECK_EQUAL(cubby_device_stored_bytes(block, 0, 0), CUBBY_BLOCK_BYTES + 64);
    CHECK_EQUAL(cubby_device_stored_bytes(block, 1, 0), CUBBY_BLOCK_BYTES);
}

static void test_a_forked_child_is_refused(void)
{
    cubby_device *device = open_device("mem:1M");
    static uint8_t block[CUBBY_BLOCK_BYTES];
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct cubby_device_stat stat;
        bool refused = read_device(device, 0, 1, block) == CUBBY_FORKED &&
                       write_device(device, 0, 1, block) == CUBBY_FORKED &&
                       cubby_device_discard(device, 0, 1, NULL, 0) == CUBBY_FORKED &&
                       cubby_device_flush(device, NULL, 0) == CUBBY_FORKED &&
                       cubby_device_resize(device, 1, NULL, 0) == CUBBY_FORKED &&
                       cubby_device_stat(device, &stat) == CUBBY_FORKED;
        cubby_device_close(device);
        _exit(refused ? 0 : 1);
    }
    int ended;
    CHECK_EQUAL(waitpid(child, &ended, 0), child);
    CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    CHECK_EQUAL(read_device(device, 0, 1, block), CUBBY_OK);
    cubby_device_close(device);
}

struct job {
    cubby_device *device;
    unsigned number;
};

static void *work(void *state)
{
    struct job *job = state;
    uint8_t *block = malloc(CUBBY_BLOCK_BYTES + SHIFT);
    CHECK(block != NULL);
    for (unsigned i = 0; i < 200; i++) {
        memset(block + SHIFT, (int)(job->number + 1), CUBBY_BLOCK_BYTES);
        CHECK_EQUAL(cubby_device_write(job->device, job->number, 1, block + SHIFT, NULL, 0), 0);
        memset(block + SHIFT, 0, CUBBY_BLOCK_BYTES);
        CHECK_EQUAL(cubby_device_read(job->device, job->number, 1, block + SHIFT, NULL, 0), 0);
        CHECK_EQUAL(block[SHIFT + CUBBY_BLOCK_BYTES - 1], job->number + 1);
        struct cubby_device_stat stat;
        CHECK_EQUAL(cubby_device_stat(job->device, &stat), 0);
    }
    free(block);
    return NULL;
}

static void test_threads_share_a_device(void)
{
    cubby_device *device = NULL;
    CHECK_EQUAL(cubby_device_open("csd:mem:32M", CUBBY_CREATE, &device, NULL, 0), CUBBY_OK);
    pthread_t threads[THREADS];
    struct job jobs[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){device, i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    cubby_device_close(device);
}

int main(void)
{
    RUN(test_buffers_may_be_at_any_address);
    RUN(test_a_failure_in_a_later_piece_is_told_with_its_place);
    RUN(test_what_is_outside_is_a_bad_argument);
    RUN(test_flags_of_stores_are_refused);
    RUN(test_a_damaged_block_is_named_and_the_others_are_read);
    RUN(test_a_drive_tells_its_figures);
    RUN(test_stored_bytes_of_zeros_text_and_noise);
    RUN(test_a_forked_child_is_refused);
    RUN(test_threads_share_a_device);
    return 0;
}
