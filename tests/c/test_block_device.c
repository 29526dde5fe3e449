/* test_block_device.c -- memory and files; locks and refusals.
 *
 * Needs no privilege. Block devices are in test_zram_loop.c, names in test_device_names.c.
 *
 * Depends on: check.h, test_block_device_contract.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "blockdev/transfer.h"
#include "tests/c/check.h"
#include "tests/c/own_directory.h"
#include "tests/c/test_block_device_contract.h"

enum {
    PATH_BYTES = 512,
    FILE_BLOCKS = 300,
};

static char message[CUBBY_MESSAGE_BYTES];

/* The path of a name in this run's directory, where there is nothing by that name now. */
static const char *fresh_path(const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    unlink(path);
    return path;
}

static struct block_device *open_device(const char *name, unsigned flags)
{
    struct block_device *device = NULL;
    int status = block_device_open(name, flags, &device, message, sizeof message);
    if (status != 0) {
        fprintf(stderr, "%s: %s\n", name, message);
    }
    CHECK_EQUAL(status, 0);
    return device;
}

static struct block_device *create_file(const char *path)
{
    struct block_device *device = open_device(path, BLOCK_DEVICE_CREATE);
    CHECK_EQUAL(device->ops->resize(device, FILE_BLOCKS), 0);
    return device;
}

/* Opening fails with this status, and the message holds this text. */
static void check_refused(const char *name, unsigned flags, int status, const char *text)
{
    struct block_device *device = NULL;
    message[0] = '\0';
    CHECK_EQUAL(block_device_open(name, flags, &device, message, sizeof message), status);
    CHECK(device == NULL);
    if (strstr(message, text) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", text, message);
        exit(1);
    }
    CHECK_EQUAL(block_device_open(name, flags, &device, NULL, 0), status);
}

/* Run a test in a process of its own, so that what it does to itself ends with it. */
static void run_in_child(void (*test)(void))
{
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        test();
        exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

static void test_memory_keeps_the_contract(void)
{
    contract_of_device("mem", open_device("mem:16M", 0));
}

static void test_file_keeps_the_contract(void)
{
    contract_of_device("file", create_file(fresh_path("contract")));
}

static void test_cached_writes_of_a_file_survive_its_process(void)
{
    const char *path = fresh_path("cached");
    struct block_device *device = create_file(path);
    CHECK(has_cached_writes(device));
    device->ops->close(device);
    check_cached_writes_survive_their_process(path);
}

static void test_unarmed_fault_keeps_the_contract(void)
{
    struct block_device *device;
    CHECK_EQUAL(fault_device_open(create_file(fresh_path("fault")), &device), 0);
    contract_of_device("fault", device);
}

static void test_blocking_queue_keeps_the_contract(void)
{
    struct block_device *device = create_file(fresh_path("blocking"));
    struct block_queue *queue;
    CHECK_EQUAL(blocking_queue_open(device, CONTRACT_DEPTH, &queue), 0);
    contract_of_queue("blocking queue", device, queue);
    device->ops->close(device);
}

static void test_ring_queue_keeps_the_contract(void)
{
    const char *path = fresh_path("ring");
    struct block_device *device = create_file(path);
    int fd;
    struct block_queue *queue = open_ring_queue(device, path, &fd);
    if (queue != NULL) {
        contract_of_queue("ring queue", device, queue);
        close(fd);
    }
    device->ops->close(device);
}

static void test_queue_of_depth_one_works(void)
{
    struct block_device *device = create_file(fresh_path("one"));
    struct block_queue *queue;
    CHECK_EQUAL(device->ops->queue_open(device, 1, &queue), 0);
    struct block_request requests[1];
    uint8_t *buffer = blocks_of(1, 1);
    submit_all(queue, requests, 1, BLOCK_WRITE, 3, buffer);
    CHECK_EQUAL(queue->ops->submit(queue, requests), EAGAIN);
    reap_all(queue, 1, 1, 0);
    CHECK(block_is(device, 3, 1));
    queue->ops->close(queue);
    device->ops->close(device);
    free(buffer);
}

static void test_queue_is_chosen_by_measuring_data(void)
{
    struct block_device *device = create_file(fresh_path("measured"));
    for (uint64_t lba = 50; lba < 150; lba++) {
        write_block_of(device, lba, 1);
    }
    for (int i = 0; i < 3; i++) {
        struct block_queue *queue;
        CHECK_EQUAL(device->ops->queue_open(device, CONTRACT_DEPTH, &queue), 0);
        contract_of_queue("measured queue", device, queue);
    }
    device->ops->close(device);
}

/* Make io_uring_setup answer EPERM from now on, as a container's policy does. */
static void refuse_rings(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
    CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQUAL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void open_queue_without_rings(void)
{
    refuse_rings();
    struct block_device *device = create_file(fresh_path("refused"));
    struct block_queue *queue;
    CHECK_EQUAL(device->ops->queue_open(device, CONTRACT_DEPTH, &queue), 0);
    queue->ops->close(queue);
    device->ops->close(device);
    test_queue_is_chosen_by_measuring_data();
    test_file_keeps_the_contract();
}

static void test_queue_falls_back_where_rings_are_refused(void)
{
    run_in_child(open_queue_without_rings);
}

/* Put /dev/null in the place of this process's ring, so that the kernel refuses to enter it. */
static void break_ring(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(null >= 0);
    for (int fd = 3; fd < 64; fd++) {
        char link[64];
        char target[64] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, target, sizeof target - 1) > 0 && strstr(target, "io_uring") != NULL) {
            CHECK_EQUAL(dup3(null, fd, O_CLOEXEC), fd);
        }
    }
    close(null);
}

static void test_failure_of_the_ring_itself_is_in_the_results(void)
{
    const char *path = fresh_path("broken");
    struct block_device *device = create_file(path);
    int fd;
    struct block_queue *queue = open_ring_queue(device, path, &fd);
    if (queue != NULL) {
        break_ring();
        struct block_request requests[CONTRACT_DEPTH];
        uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 0);
        for (int round = 0; round < 3; round++) {
            submit_all(queue, requests, CONTRACT_DEPTH, BLOCK_READ, 0, buffers);
            size_t done_count = 0;
            while (done_count < CONTRACT_DEPTH) {
                struct block_request *done[3];
                size_t count = queue->ops->reap(queue, done, 3);
                CHECK(count > 0 && done[0]->result > 0);
                done_count += count;
            }
        }
        queue->ops->close(queue);
        free(buffers);
        close(fd);
    }
    device->ops->close(device);
}

/* Two threads each write one byte value all over the same blocks; nobody ever sees a mixture. */
static void *fill_and_look(void *argument)
{
    struct contract_thread *self = argument;
    uint8_t *seen = blocks_of(2, 0);
    uint8_t *own = blocks_of(2, self->number + 1);
    for (int round = 0; round < 2000; round++) {
        CHECK_EQUAL(self->device->ops->write(self->device, 7, 2, own), 0);
        CHECK_EQUAL(self->device->ops->read(self->device, 7, 2, seen), 0);
        for (size_t i = 0; i < 2; i++) {
            const uint8_t *block = seen + i * CUBBY_BLOCK_BYTES;
            CHECK(all_bytes_are(block, CUBBY_BLOCK_BYTES, block[0]));
        }
        if (round % 100 == 0) {
            CHECK_EQUAL(self->device->ops->discard(self->device, 7, 2), 0);
        }
    }
    free(own);
    free(seen);
    return NULL;
}

static void test_memory_moves_each_block_whole(void)
{
    struct contract_thread threads[2];
    struct block_device *device = open_device("mem:1M", 0);
    for (int i = 0; i < 2; i++) {
        threads[i] = (struct contract_thread){.device = device, .number = i};
        CHECK_EQUAL(pthread_create(&threads[i].thread, NULL, fill_and_look, &threads[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(pthread_join(threads[i].thread, NULL), 0);
    }
    device->ops->close(device);
}

static void test_memory_is_sparse_and_discarded_blocks_are_not_zero(void)
{
    struct block_device *device = open_device("mem:64G", 0);
    struct block_usage usage;
    CHECK_EQUAL(device->geometry.block_count, 1ULL << 24);
    write_block_of(device, 1ULL << 23, 1);
    write_block_of(device, (1ULL << 23) + 1, 2);
    CHECK_EQUAL(device->ops->usage(device, &usage), 0);
    CHECK_EQUAL(usage.physical_bytes, 2 * CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(device->ops->discard(device, (1ULL << 23) - 1, 2), 0);
    CHECK(block_is(device, (1ULL << 23) - 1, 0xdb));
    CHECK(block_is(device, 1ULL << 23, 0xdb));
    CHECK(block_is(device, (1ULL << 23) + 1, 2));
    CHECK_EQUAL(device->ops->usage(device, &usage), 0);
    CHECK_EQUAL(usage.physical_bytes, CUBBY_BLOCK_BYTES);
    device->ops->close(device);
}

static void test_create_keeps_what_is_there(void)
{
    const char *path = fresh_path("kept");
    struct block_device *device = create_file(path);
    write_block_of(device, 2, 3);
    device->ops->close(device);
    struct stat info;
    CHECK_EQUAL(stat(path, &info), 0);
    mode_t mask = umask(0);
    umask(mask);
    CHECK_EQUAL(info.st_mode & 0777, 0644 & ~mask);
    device = open_device(path, BLOCK_DEVICE_CREATE);
    CHECK_EQUAL(device->geometry.block_count, FILE_BLOCKS);
    CHECK(device->geometry.resizable);
    CHECK(!device->geometry.compresses);
    CHECK(block_is(device, 2, 3));
    device->ops->close(device);
}

static void test_missing_file_is_named(void)
{
    check_refused(fresh_path("missing"), 0, ENOENT, "missing does not exist");
    check_refused(fresh_path("no/where"), BLOCK_DEVICE_CREATE, ENOENT, "no/where");
    check_refused("/dev/cubby-none", BLOCK_DEVICE_CREATE, ENOENT, "no such device");
    check_refused("/dev/null/x", 0, ENOTDIR, "/dev/null/x cannot be opened for writing: Not a dir");
    check_refused(fresh_path("both"), BLOCK_DEVICE_CREATE | BLOCK_DEVICE_READ_ONLY,
                  CUBBY_BAD_ARGUMENT, "at once");
    CHECK_EQUAL(access(fresh_path("both"), F_OK), -1);
}

static void test_what_has_no_blocks_is_refused(void)
{
    const char *path = fresh_path("pipe");
    CHECK_EQUAL(mkfifo(path, 0600), 0);
    check_refused(path, 0, CUBBY_BAD_ARGUMENT, "is a pipe");
    check_refused(path, BLOCK_DEVICE_READ_ONLY, CUBBY_BAD_ARGUMENT, "is a pipe");
    check_refused(directory, 0, CUBBY_BAD_ARGUMENT, "is a directory");
    check_refused("/dev/null", BLOCK_DEVICE_CREATE, CUBBY_BAD_ARGUMENT, "is a character device");
}

static void test_file_that_is_not_whole_blocks_counts_the_whole_ones(void)
{
    const char *path = fresh_path("odd");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, 5000), 0);
    close(fd);
    struct block_device *device = open_device(path, 0);
    CHECK_EQUAL(device->geometry.block_count, 1);
    CHECK(block_is(device, 0, 0));
    device->ops->close(device);
}

static void test_file_that_became_shorter_is_eio(void)
{
    const char *path = fresh_path("short");
    struct block_device *device = create_file(path);
    CHECK_EQUAL(truncate(path, 10 * CUBBY_BLOCK_BYTES + 1000), 0);
    uint8_t *blocks = blocks_of(8, 0);
    CHECK_EQUAL(device->ops->read(device, 8, 2, blocks), 0);
    CHECK_EQUAL(device->ops->read(device, 8, 3, blocks), EIO);
    CHECK_EQUAL(device->ops->read(device, 10, 1, blocks), EIO);
    CHECK_EQUAL(device->ops->read(device, 100, 8, blocks), EIO);

    int fd;
    struct block_queue *queue = open_ring_queue(device, path, &fd);
    if (queue != NULL) {
        struct block_request requests[3] = {
            {.block_count = 2, .lba = 8, .buffer = blocks},
            {.block_count = 3, .lba = 8, .buffer = blocks + 2 * CUBBY_BLOCK_BYTES},
            {.block_count = 1, .lba = 100, .buffer = blocks + 5 * CUBBY_BLOCK_BYTES},
        };
        for (size_t i = 0; i < 3; i++) {
            CHECK_EQUAL(queue->ops->submit(queue, &requests[i]), 0);
        }
        struct block_request *done[3];
        for (size_t count = 0; count < 3;) {
            count += queue->ops->reap(queue, done, 3);
        }
        CHECK_EQUAL(requests[0].result, 0);
        CHECK_EQUAL(requests[1].result, EIO);
        CHECK_EQUAL(requests[2].result, EIO);
        queue->ops->close(queue);
        close(fd);
    }
    device->ops->close(device);
    free(blocks);
}

static void test_transfer_goes_on_after_a_part_and_ends_after_stalls(void)
{
    struct transfer transfer = {.block_count = 4};
    int status = -1;
    CHECK_EQUAL(transfer_next_bytes(&transfer), 4 * CUBBY_BLOCK_BYTES);
    CHECK(!transfer_advance(&transfer, CUBBY_BLOCK_BYTES + 100, &status));
    CHECK_EQUAL(transfer_next_bytes(&transfer), 3 * CUBBY_BLOCK_BYTES);
    CHECK(!transfer_advance(&transfer, -EINTR, &status));
    CHECK(!transfer_advance(&transfer, -EAGAIN, &status));
    CHECK(transfer_advance(&transfer, 3 * CUBBY_BLOCK_BYTES, &status));
    CHECK_EQUAL(status, 0);
    transfer = (struct transfer){.block_count = 4};
    CHECK(transfer_advance(&transfer, -ENOSPC, &status));
    CHECK_EQUAL(status, ENOSPC);
    transfer = (struct transfer){.block_count = 4};
    int calls = 1;
    while (!transfer_advance(&transfer, 0, &status)) {
        calls++;
    }
    CHECK_EQUAL(status, EIO);
    CHECK_EQUAL(calls, TRANSFER_STALLS_MAX + 1);
    transfer = (struct transfer){.block_count = (size_t)TRANSFER_BLOCKS_MAX * 5};
    CHECK_EQUAL(transfer_next_bytes(&transfer), 1 << 30);
}

static void test_read_only_device_is_never_written(void)
{
    const char *path = fresh_path("readonly");
    struct block_device *device = create_file(path);
    write_block_of(device, 1, 1);
    device->ops->close(device);
    CHECK_EQUAL(chmod(path, 0444), 0);

    device = open_device(path, BLOCK_DEVICE_READ_ONLY);
    struct block_device *second = open_device(path, BLOCK_DEVICE_READ_ONLY);
    uint8_t *block = blocks_of(1, 2);
    CHECK_EQUAL(device->ops->write(device, 1, 1, block), EROFS);
    CHECK_EQUAL(device->ops->write_cached(device, 1, 1, block), EROFS);
    CHECK_EQUAL(device->ops->discard(device, 1, 1), EROFS);
    CHECK_EQUAL(device->ops->resize(device, 1), EROFS);
    CHECK_EQUAL(device->ops->flush(device), 0);
    CHECK_EQUAL(device->geometry.discard_granularity_blocks, 0);
    CHECK(!device->geometry.resizable);
    struct block_queue *queue;
    CHECK_EQUAL(device->ops->queue_open(device, CONTRACT_DEPTH, &queue), 0);
    struct block_request requests[1];
    submit_all(queue, requests, 1, BLOCK_WRITE, 1, block);
    reap_all(queue, 1, 1, EROFS);
    queue->ops->close(queue);
    CHECK(block_is(device, 1, 1));
    CHECK_EQUAL(chmod(path, 0644), 0);
    check_refused(path, 0, CUBBY_LOCKED, "in use by this process");
    second->ops->close(second);
    device->ops->close(device);
    free(block);
}

static void test_second_open_in_one_process_is_locked(void)
{
    const char *path = fresh_path("lock");
    struct block_device *device = create_file(path);
    check_refused(path, 0, CUBBY_LOCKED, "in use by this process");
    check_refused(path, BLOCK_DEVICE_READ_ONLY, CUBBY_LOCKED, "in use by this process");
    device->ops->close(device);
    device = open_device(path, 0);
    device->ops->close(device);
}

static void test_second_process_is_told_the_pid(void)
{
    /* Locks on other files of the file system, older and younger than that of the child. */
    struct block_device *older = create_file(fresh_path("older"));
    int ready[2];
    int stop[2];
    CHECK_EQUAL(pipe(ready), 0);
    CHECK_EQUAL(pipe(stop), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    char byte = 0;
    if (child == 0) {
        close(stop[1]);
        struct block_device *device = create_file(fresh_path("holder"));
        CHECK_EQUAL(write(ready[1], &byte, 1), 1);
        CHECK_EQUAL(read(stop[0], &byte, 1), 0);
        device->ops->close(device);
        exit(0);
    }
    char expected[64];
    snprintf(expected, sizeof expected, "holder is in use by process %d", (int)child);
    CHECK_EQUAL(read(ready[0], &byte, 1), 1);
    struct block_device *younger = create_file(fresh_path("younger"));
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/holder", directory);
    check_refused(path, 0, CUBBY_LOCKED, expected);
    close(stop[1]);
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    struct block_device *device = open_device(path, 0);
    device->ops->close(device);
    younger->ops->close(younger);
    older->ops->close(older);
    close(stop[0]);
    close(ready[0]);
    close(ready[1]);
}

static void test_forked_process_neither_keeps_nor_frees_the_lock(void)
{
    const char *path = fresh_path("forked");
    int stop[2];
    CHECK_EQUAL(pipe(stop), 0);
    struct block_device *device = create_file(path);
    fflush(stdout);
    pid_t closer = fork();
    CHECK(closer >= 0);
    if (closer == 0) {
        device->ops->close(device);
        exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(closer, &status, 0), closer);
    CHECK_EQUAL(status, 0);
    check_refused(path, 0, CUBBY_LOCKED, "in use by this process");

    pid_t keeper = fork();
    CHECK(keeper >= 0);
    if (keeper == 0) {
        char byte;
        close(stop[1]);
        ssize_t size = read(stop[0], &byte, 1);
        _exit(size == 0 ? 0 : 1);
    }
    device->ops->close(device);
    device = open_device(path, 0);
    device->ops->close(device);
    close(stop[1]);
    CHECK_EQUAL(waitpid(keeper, &status, 0), keeper);
    CHECK_EQUAL(status, 0);
    close(stop[0]);
}

int main(void)
{
    make_directory();
    RUN(test_memory_keeps_the_contract);
    RUN(test_file_keeps_the_contract);
    RUN(test_cached_writes_of_a_file_survive_its_process);
    RUN(test_unarmed_fault_keeps_the_contract);
    RUN(test_blocking_queue_keeps_the_contract);
    RUN(test_ring_queue_keeps_the_contract);
    RUN(test_queue_of_depth_one_works);
    RUN(test_queue_is_chosen_by_measuring_data);
    RUN(test_queue_falls_back_where_rings_are_refused);
    RUN(test_failure_of_the_ring_itself_is_in_the_results);
    RUN(test_memory_moves_each_block_whole);
    RUN(test_memory_is_sparse_and_discarded_blocks_are_not_zero);
    RUN(test_create_keeps_what_is_there);
    RUN(test_missing_file_is_named);
    RUN(test_what_has_no_blocks_is_refused);
    RUN(test_file_that_is_not_whole_blocks_counts_the_whole_ones);
    RUN(test_file_that_became_shorter_is_eio);
    RUN(test_transfer_goes_on_after_a_part_and_ends_after_stalls);
    RUN(test_read_only_device_is_never_written);
    RUN(test_second_open_in_one_process_is_locked);
    RUN(test_second_process_is_told_the_pid);
    RUN(test_forked_process_neither_keeps_nor_frees_the_lock);
    return 0;
}
