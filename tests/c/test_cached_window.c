/* test_cached_window.c -- cached writes that are stores to a mapping, and where they are calls.
 *
 * On files; block devices are in test_zram_loop.c. The overlay needs root.
 *
 * Depends on: check.h, cached_parts.h.
 */
#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "blockdev/cached_window.h"
#include "tests/c/cached_parts.h"
#include "tests/c/check.h"
#include "tests/c/own_directory.h"

enum {
    PATH_BYTES = 512,
};

/* An empty file in a directory. */
static struct block_device *create_file(const char *parent, const char *name, char path[PATH_BYTES])
{
    struct block_device *device;
    snprintf(path, PATH_BYTES, "%s/%s", parent, name);
    unlink(path);
    CHECK_EQUAL(block_device_open(path, BLOCK_DEVICE_CREATE, &device, NULL, 0), 0);
    CHECK_EQUAL(device->ops->resize(device, PARTS_BLOCKS), 0);
    return device;
}

static bool may_be_mapped(const char *path)
{
    struct statfs system;
    CHECK_EQUAL(statfs(path, &system), 0);
    return sysconf(_SC_PAGESIZE) == CUBBY_BLOCK_BYTES &&
           (system.f_type == EXT4_SUPER_MAGIC || system.f_type == XFS_SUPER_MAGIC ||
            system.f_type == TMPFS_MAGIC);
}

static void test_parts_of_blocks_of_a_file(void)
{
    char path[PATH_BYTES];
    struct block_device *device = create_file(directory, "file", path);
    device->ops->close(device);
    check_cached_parts(path, may_be_mapped(path));
    CHECK_EQUAL(unlink(path), 0);
}

static void test_parts_of_blocks_of_a_file_in_memory(void)
{
    char path[PATH_BYTES];
    char name[64];
    if (access("/dev/shm", W_OK) != 0) {
        printf("tmpfs: skipped, there is no /dev/shm\n");
        return;
    }
    snprintf(name, sizeof name, "cubby-test-%d", (int)getpid());
    struct block_device *device = create_file("/dev/shm", name, path);
    device->ops->close(device);
    check_cached_parts(path, may_be_mapped(path));
    CHECK_EQUAL(unlink(path), 0);
}

/* A file system that may copy on write: all parts are calls. The mount is the child's alone. */
static void use_overlay(void)
{
    char options[4 * PATH_BYTES];
    char path[PATH_BYTES];
    const char *names[] = {"lower", "upper", "work", "merged"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        CHECK_EQUAL(mkdir(path, 0700), 0);
    }
    snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work",
             directory, directory, directory);
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("overlay", path, "overlay", 0, options) != 0) {
        printf("overlay: skipped, it cannot be mounted: %s\n", strerror(errno));
        return;
    }
    char parent[PATH_BYTES];
    memcpy(parent, path, sizeof parent);
    struct block_device *device = create_file(parent, "file", path);
    device->ops->close(device);
    CHECK(!may_be_mapped(path));
    check_cached_parts(path, false);
}

static void test_parts_are_calls_where_blocks_may_be_copied_on_write(void)
{
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        use_overlay();
        exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

static void test_smaller_file_has_no_windows_and_grows_with_zeros(void)
{
    char path[PATH_BYTES];
    uint8_t *expected = blocks_of(PARTS_BATCH_BLOCKS, 0);
    struct block_device *device = create_file(directory, "resized", path);
    for (int round = 0; round < 5; round++) {
        append_parts(device, 0, expected, 1);
        CHECK((windows_of(path) > 0) == may_be_mapped(path));
        CHECK_EQUAL(device->ops->resize(device, 8), 0);
        CHECK_EQUAL(windows_of(path), 0);
        CHECK_EQUAL(device->ops->write_cached(device, 8 * CUBBY_BLOCK_BYTES - 1, 2, "ab"), EINVAL);
        CHECK_EQUAL(device->ops->write_cached(device, 8 * CUBBY_BLOCK_BYTES - 1, 1, "a"), 0);
        CHECK_EQUAL(device->ops->resize(device, PARTS_BLOCKS), 0);
        expected[8 * CUBBY_BLOCK_BYTES - 1] = 'a';
        memset(expected + 8 * CUBBY_BLOCK_BYTES, 0, (size_t)8 * CUBBY_BLOCK_BYTES);
        check_parts(device, 0, expected);
        append_parts(device, 0, expected, 2);
        check_parts(device, 0, expected);
    }
    device->ops->close(device);
    free(expected);
}

/* It closes what it has inherited, and the parent's windows are still the parent's. */
static void test_forked_process_stores_and_closes_as_its_parent(void)
{
    char path[PATH_BYTES];
    uint8_t *expected = blocks_of(PARTS_BATCH_BLOCKS, 0);
    struct block_device *device = create_file(directory, "forked", path);
    append_parts(device, 0, expected, 1);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_EQUAL(device->ops->write_cached(device, 10, 3, "abc"), 0);
        device->ops->close(device);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(device->ops->write_cached(device, 13, 3, "def"), 0);
    memcpy(expected + 10, "abcdef", 6);
    check_parts(device, 0, expected);
    device->ops->close(device);
    free(expected);
}

static bool store(struct cached_windows *windows, uint64_t offset, size_t size)
{
    return cached_window_store(windows, offset, size, "0123456789");
}

static void test_only_what_was_prepared_is_stored(void)
{
    char path[PATH_BYTES];
    struct block_device *device = create_file(directory, "unit", path);
    bool mapped = may_be_mapped(path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t *blocks = blocks_of(4, 1);
    struct cached_windows windows;
    CHECK(fd >= 0);
    cached_window_init(&windows, fd, 3 * CUBBY_BLOCK_BYTES);
    CHECK(!store(&windows, 0, 5));
    CHECK_EQUAL(pwrite(fd, blocks, 4 * CUBBY_BLOCK_BYTES, 0), 4 * CUBBY_BLOCK_BYTES);
    cached_window_prepare(&windows, CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES);
    CHECK(!store(&windows, 0, 5));
    CHECK(!store(&windows, CUBBY_BLOCK_BYTES - 1, 5));
    CHECK(!store(&windows, 2 * CUBBY_BLOCK_BYTES - 1, 5));
    CHECK_EQUAL(store(&windows, CUBBY_BLOCK_BYTES, 5), mapped);
    CHECK_EQUAL(store(&windows, 2 * CUBBY_BLOCK_BYTES - 5, 5), mapped);
    cached_window_prepare(&windows, 3 * CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES);
    CHECK(!store(&windows, 3 * CUBBY_BLOCK_BYTES, 5)); /* outside */
    cached_window_set_size(&windows, 4 * CUBBY_BLOCK_BYTES);
    cached_window_prepare(&windows, 3 * CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(store(&windows, 3 * CUBBY_BLOCK_BYTES, 5), mapped);
    cached_window_forget(&windows, 0, 1);
    CHECK(!store(&windows, 3 * CUBBY_BLOCK_BYTES, 5));
    cached_window_prepare(&windows, 1, 1);
    CHECK_EQUAL(store(&windows, 0, 5), mapped);
    cached_window_forget(&windows, CACHED_WINDOW_BYTES, CACHED_WINDOW_BYTES);
    CHECK_EQUAL(store(&windows, 0, 5), mapped);
    cached_window_set_size(&windows, 3 * CUBBY_BLOCK_BYTES);
    CHECK(!store(&windows, 0, 5));
    cached_window_close(&windows);
    CHECK_EQUAL(windows_of(path), 0);
    cached_window_init(&windows, -1, 3 * CUBBY_BLOCK_BYTES);
    cached_window_prepare(&windows, 0, CUBBY_BLOCK_BYTES);
    CHECK(!store(&windows, 0, 5));
    cached_window_close(&windows);
    device->ops->close(device);
    free(blocks);
    close(fd);
}

/* Beside threads that store, windows come and go. */
static void *append_own_parts(void *argument)
{
    struct contract_thread *self = argument;
    uint8_t *expected = blocks_of(PARTS_BATCH_BLOCKS, 0);
    for (uint64_t round = 0; round < 40; round++) {
        uint64_t place = round * 7 % (PARTS_BLOCKS / PARTS_BATCH_BLOCKS / CONTRACT_THREADS);
        uint64_t batch = place * CONTRACT_THREADS + (uint64_t)self->number;
        uint64_t offset = batch * PARTS_BATCH_BLOCKS * CUBBY_BLOCK_BYTES;
        append_parts(self->device, offset, expected, self->number * 40);
        check_parts(self->device, offset, expected);
        if (round % 10 == 5) {
            CHECK_EQUAL(self->device->ops->flush(self->device), 0);
        }
    }
    free(expected);
    return NULL;
}

static void test_threads_append_while_windows_come_and_go(void)
{
    char path[PATH_BYTES];
    struct contract_thread threads[CONTRACT_THREADS];
    struct block_device *device = create_file(directory, "threads", path);
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        threads[i] = (struct contract_thread){.device = device, .number = i};
        CHECK_EQUAL(pthread_create(&threads[i].thread, NULL, append_own_parts, &threads[i]), 0);
    }
    for (uint64_t i = 0; i < 20; i++) {
        CHECK_EQUAL(device->ops->resize(device, PARTS_BLOCKS + 20 - i), 0);
    }
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i].thread, NULL), 0);
    }
    device->ops->close(device);
}

int main(void)
{
    make_directory();
    RUN(test_only_what_was_prepared_is_stored);
    RUN(test_parts_of_blocks_of_a_file);
    RUN(test_parts_of_blocks_of_a_file_in_memory);
    RUN(test_parts_are_calls_where_blocks_may_be_copied_on_write);
    RUN(test_smaller_file_has_no_windows_and_grows_with_zeros);
    RUN(test_forked_process_stores_and_closes_as_its_parent);
    RUN(test_threads_append_while_windows_come_and_go);
    return 0;
}
