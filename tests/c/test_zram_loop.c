/* test_zram_loop.c -- real block devices: a zram device and a loop device of this test's own; and
 * stores on the zram as it gets full.
 *
 * The devices are made by one process and used by a child, so that they are taken away whatever
 * happens to the tests. Needs root; exits with 77 (skipped) where neither kind can be made.
 *
 * Depends on: check.h, cached_parts.h, store_fixture.h, test_block_device_contract.h; losetup,
 * mkfs.ext4.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "tests/c/cached_parts.h"
#include "tests/c/check.h"
#include "tests/c/store_fixture.h"
#include "tests/c/test_block_device_contract.h"

enum {
    PATH_BYTES = 512,
    COMMAND_BYTES = 2048,
    DEVICE_BYTES = 64 * 1024 * 1024,
    DEVICE_BLOCKS = DEVICE_BYTES / CUBBY_BLOCK_BYTES,
    EXIT_SKIPPED = 77,
    LIMIT_BYTES = 8 * 1024 * 1024, /* set as mem_limit: a good part of what the device could take */
    PAIR_BYTES = 400,
};

static char directory[PATH_BYTES - 64]; /* of this run */
static pid_t main_process;
static int zram_number = -1;
static char zram_path[64];
static char loop_path[64];
static char message[CUBBY_MESSAGE_BYTES];

/* Write a text into a file of sysfs. Returns 0 or an errno. */
static int write_sysfs(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int status = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno;
    close(fd);
    return status;
}

static int set_zram(const char *attribute, const char *text)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/sys/block/zram%d/%s", zram_number, attribute);
    return write_sysfs(path, text);
}

/* Run a command of the shell quietly. Returns whether it succeeded. */
static bool run_command(const char *format, const char *first, const char *second)
{
    char command[COMMAND_BYTES];
    int size = snprintf(command, sizeof command, "PATH=$PATH:/usr/sbin:/sbin; ");
    snprintf(command + size, sizeof command - (size_t)size, format, first, second);
    return system(command) == 0;
}

static void remove_zram(void)
{
    char number[16];
    snprintf(number, sizeof number, "%d", zram_number);
    /* A ring that has just been closed may hold the device for a moment. */
    int status = EBUSY;
    for (int i = 0; i < 100 && status == EBUSY; i++) {
        status = write_sysfs("/sys/class/zram-control/hot_remove", number);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (status != 0) {
        fprintf(stderr, "%s is left behind: %s\n", zram_path, cubby_status_text(status));
    }
    zram_number = -1;
}

static void clean_up(void)
{
    if (getpid() != main_process) {
        return;
    }
    char mount_point[PATH_BYTES];
    snprintf(mount_point, sizeof mount_point, "%s/mount", directory);
    umount2(mount_point, MNT_DETACH);
    if (zram_number >= 0) {
        remove_zram();
    }
    if (loop_path[0] != '\0') {
        run_command("losetup -d '%s'%s", loop_path, "");
    }
    run_command("rm -rf '%s'%s", directory, "");
}

static void stop_on_signal(int number)
{
    exit(128 + number); /* the main process only waits, so this is safe enough for a test */
}

static void make_directory(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/cubby-test-XXXXXX", parent != NULL ? parent : "/tmp");
    CHECK(mkdtemp(directory) != NULL);
    main_process = getpid();
    CHECK_EQUAL(atexit(clean_up), 0);
    CHECK(signal(SIGTERM, stop_on_signal) != SIG_ERR);
    CHECK(signal(SIGINT, stop_on_signal) != SIG_ERR);
}

/* Set zram_path to a device of 64 MiB, or print why there is none. */
static bool make_zram(void)
{
    FILE *control = fopen("/sys/class/zram-control/hot_add", "re");
    if (control == NULL || fscanf(control, "%d", &zram_number) != 1) {
        printf("zram: skipped, no device can be added: %s\n", cubby_status_text(errno));
        zram_number = -1;
    }
    if (control != NULL) {
        fclose(control);
    }
    if (zram_number < 0) {
        return false;
    }
    snprintf(zram_path, sizeof zram_path, "/dev/zram%d", zram_number);
    int status = set_zram("disksize", "64M");
    if (status != 0 || access(zram_path, F_OK) != 0) {
        printf("zram: skipped, %s cannot be set up\n", zram_path);
        return false;
    }
    return true;
}

/* Set loop_path to a device over a file of 64 MiB, or print why there is none. */
static bool make_loop(void)
{
    char command[COMMAND_BYTES];
    char file[PATH_BYTES];
    snprintf(file, sizeof file, "%s/loop", directory);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, DEVICE_BYTES), 0);
    close(fd);
    snprintf(command, sizeof command,
             "PATH=$PATH:/usr/sbin:/sbin losetup --find --show --sector-size 4096 --direct-io=on "
             "'%s' 2>&1",
             file);
    FILE *output = popen(command, "re");
    CHECK(output != NULL);
    char line[sizeof loop_path] = "";
    bool made = fgets(line, sizeof line, output) != NULL && strncmp(line, "/dev/loop", 9) == 0;
    line[strcspn(line, "\n")] = '\0';
    if (pclose(output) != 0 || !made) {
        printf("loop: skipped, losetup says: %s\n", line);
        return false;
    }
    memcpy(loop_path, line, sizeof loop_path);
    return true;
}

static struct block_device *open_device(const char *name, unsigned flags)
{
    struct block_device *device = NULL;
    int status = block_device_open(name, flags, &device, message, sizeof message);
    if (status != 0) {
        fprintf(stderr, "%s\n", message);
    }
    CHECK_EQUAL(status, 0);
    return device;
}

static void check_refused(const char *name, unsigned flags, int status, const char *text)
{
    struct block_device *device = NULL;
    CHECK_EQUAL(block_device_open(name, flags, &device, message, sizeof message), status);
    if (strstr(message, text) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", text, message);
        exit(1);
    }
}

static void test_zram_keeps_the_contract(void)
{
    struct block_device *device = open_device(zram_path, 0);
    CHECK_EQUAL(device->geometry.block_count, DEVICE_BLOCKS);
    CHECK_EQUAL(device->geometry.atomic_write_bytes, CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(device->geometry.discard_granularity_blocks, 1);
    CHECK(device->geometry.compresses);
    CHECK(!device->geometry.resizable);
    contract_of_device("zram", device);
}

static void test_loop_keeps_the_contract(void)
{
    struct block_device *device = open_device(loop_path, BLOCK_DEVICE_CREATE);
    CHECK_EQUAL(device->geometry.block_count, DEVICE_BLOCKS);
    CHECK_EQUAL(device->geometry.atomic_write_bytes, 0);
    CHECK(!device->geometry.compresses);
    contract_of_device("loop", device);
}

static void test_cached_writes_to_zram_survive_their_process(void)
{
    check_cached_writes_survive_their_process(zram_path);
    check_cached_parts(zram_path, true);
}

static void test_cached_writes_to_a_loop_survive_their_process(void)
{
    check_cached_writes_survive_their_process(loop_path);
    check_cached_parts(loop_path, true);
}

/* Bytes that do not compress, from a xorshift generator. */
static void fill_with_noise(uint8_t *bytes, size_t size)
{
    static uint64_t state = 88172645463325252;
    for (size_t i = 0; i < size; i += sizeof state) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(bytes + i, &state, sizeof state);
    }
}

static uint64_t physical_bytes_of(struct block_device *device)
{
    struct block_usage usage;
    CHECK_EQUAL(device->ops->usage(device, &usage), 0);
    return usage.physical_bytes;
}

static void test_zram_tells_what_data_take_and_discard_frees_it(void)
{
    struct block_device *device = open_device(zram_path, 0);
    uint8_t *noise = blocks_of(1024, 0);
    fill_with_noise(noise, (size_t)1024 * CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(device->ops->discard(device, 0, DEVICE_BLOCKS), 0);
    uint64_t before = physical_bytes_of(device);
    CHECK_EQUAL(device->ops->write(device, 1000, 1024, noise), 0);
    CHECK_EQUAL(device->ops->flush(device), 0);
    CHECK(physical_bytes_of(device) >= before + (uint64_t)1024 * CUBBY_BLOCK_BYTES);
    for (size_t i = 0; i < 1024; i++) {
        memset(noise + i * CUBBY_BLOCK_BYTES + 512, 0, CUBBY_BLOCK_BYTES - 512);
    }
    CHECK_EQUAL(device->ops->write(device, 1000, 1024, noise), 0);
    CHECK_EQUAL(device->ops->flush(device), 0);
    uint64_t compressed = physical_bytes_of(device);
    CHECK(compressed > before && compressed < before + (uint64_t)512 * CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(device->ops->discard(device, 1000, 1024), 0);
    CHECK(physical_bytes_of(device) <= before + (uint64_t)64 * CUBBY_BLOCK_BYTES);
    device->ops->close(device);
    free(noise);
}

static void test_full_zram_is_an_error_of_calls_and_of_queues(void)
{
    struct block_device *device = open_device(zram_path, 0);
    struct block_queue *queue;
    uint8_t *noise = blocks_of(CONTRACT_DEPTH, 0);
    CHECK_EQUAL(device->ops->discard(device, 0, DEVICE_BLOCKS), 0);
    CHECK_EQUAL(set_zram("mem_limit", "1M"), 0);
    int status = 0;
    uint64_t lba = 0;
    for (; lba < 1024 && status == 0; lba++) {
        fill_with_noise(noise, CUBBY_BLOCK_BYTES);
        status = device->ops->write(device, lba, 1, noise);
    }
    CHECK(status == EIO || status == ENOSPC || status == ENOMEM);
    CHECK(lba > 100);
    CHECK_EQUAL(device->ops->queue_open(device, CONTRACT_DEPTH, &queue), 0);
    struct block_request requests[CONTRACT_DEPTH];
    fill_with_noise(noise, (size_t)CONTRACT_DEPTH * CUBBY_BLOCK_BYTES);
    submit_all(queue, requests, CONTRACT_DEPTH, BLOCK_WRITE, 2000, noise);
    reap_all(queue, CONTRACT_DEPTH, CONTRACT_DEPTH, status);
    queue->ops->close(queue);
    int fd;
    queue = open_ring_queue(device, zram_path, &fd);
    if (queue != NULL) {
        submit_all(queue, requests, CONTRACT_DEPTH, BLOCK_WRITE, 2000, noise);
        reap_all(queue, CONTRACT_DEPTH, CONTRACT_DEPTH, status);
        queue->ops->close(queue);
        close(fd);
    }
    CHECK_EQUAL(set_zram("mem_limit", "0"), 0);
    CHECK_EQUAL(device->ops->discard(device, 0, DEVICE_BLOCKS), 0);
    device->ops->close(device);
    free(noise);
}

/* A thin device tells only when the page cache is written back; and as that tells once only, the
 * device repeats it. */
static void test_full_zram_fails_the_flush_of_cached_writes(void)
{
    struct block_device *device = open_device(zram_path, 0);
    uint8_t *noise = blocks_of(1024, 0);
    fill_with_noise(noise, (size_t)1024 * CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(device->ops->discard(device, 0, DEVICE_BLOCKS), 0);
    CHECK_EQUAL(set_zram("mem_limit", "1M"), 0);
    CHECK_EQUAL(device->ops->write_cached(device, 0, (size_t)1024 * CUBBY_BLOCK_BYTES, noise), 0);
    int status = device->ops->flush(device);
    CHECK(status == EIO || status == ENOSPC || status == ENOMEM);
    CHECK_EQUAL(set_zram("mem_limit", "0"), 0);
    CHECK_EQUAL(device->ops->flush(device), EIO);
    write_block_of(device, 2000, 1);
    CHECK_EQUAL(device->ops->flush(device), EIO);
    CHECK_EQUAL(device->ops->discard(device, 0, DEVICE_BLOCKS), 0);
    device->ops->close(device);
    device = open_device(zram_path, 0);
    CHECK_EQUAL(device->ops->write_cached(device, 0, 5, noise), 0);
    CHECK_EQUAL(device->ops->flush(device), 0);
    device->ops->close(device);
    free(noise);
}

/* mm_stat's own figures: data before compression, and memory taken in all. */
static void read_mm_stat(uint64_t *logical, uint64_t *physical)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/sys/block/zram%d/mm_stat", zram_number);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    CHECK_EQUAL(fscanf(file, "%" SCNu64 " %*u %" SCNu64, logical, physical), 2);
    fclose(file);
}

static bool is_within_a_hundredth(uint64_t bytes, uint64_t expected)
{
    return bytes * 100 >= expected * 99 && bytes * 100 <= expected * 101;
}

static void test_zram_usage_is_that_of_mm_stat(void)
{
    enum { COUNT = 1000 };
    struct block_device *device = open_device(zram_path, 0);
    CHECK_EQUAL(device->ops->discard(device, 0, DEVICE_BLOCKS), 0);
    uint8_t *blocks = blocks_of(COUNT, 0);
    fill_with_noise(blocks, (size_t)COUNT * CUBBY_BLOCK_BYTES);
    for (size_t i = 0; i < COUNT; i++) {
        memset(blocks + i * CUBBY_BLOCK_BYTES + 2048, 0, 2048);
    }
    CHECK_EQUAL(device->ops->write(device, 0, COUNT, blocks), 0);
    CHECK_EQUAL(device->ops->flush(device), 0);
    uint64_t logical, physical;
    struct block_usage usage;
    read_mm_stat(&logical, &physical);
    CHECK_EQUAL(device->ops->usage(device, &usage), 0);
    CHECK(strcmp(usage.source, "zram") == 0);
    CHECK(is_within_a_hundredth(usage.physical_bytes, physical));
    CHECK(is_within_a_hundredth(usage.logical_bytes, logical));
    CHECK(logical >= (uint64_t)COUNT * CUBBY_BLOCK_BYTES);
    CHECK(physical >= logical / 2 && physical < logical / 4 * 3);
    CHECK_EQUAL(usage.capacity_bytes, 0);
    CHECK_EQUAL(set_zram("mem_limit", "8M"), 0);
    CHECK_EQUAL(device->ops->usage(device, &usage), 0);
    CHECK_EQUAL(usage.capacity_bytes, LIMIT_BYTES);
    CHECK_EQUAL(set_zram("mem_limit", "0"), 0);
    CHECK_EQUAL(device->ops->discard(device, 0, DEVICE_BLOCKS), 0);
    device->ops->close(device);
    free(blocks);
}

/* A new store on the zram, of which only so much may be used. */
static void open_store(struct fixture *fixture, uint32_t percent)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW | CUBBY_FORCE;
    options.warn_percent = percent;
    options.no_growth_percent = percent;
    options.read_delete_percent = percent;
    fixture_open(fixture, zram_path, &options);
    CHECK_EQUAL(set_zram("mem_limit", "8M"), 0);
    CHECK_EQUAL(set_zram("mem_used_max", "0"), 0); /* the peak starts here */
}

/* Put pairs until one is refused; returns the number after the last. */
static uint64_t put_until_full(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    uint8_t value[PAIR_BYTES];
    int status = CUBBY_OK;
    for (; status == CUBBY_OK; number++) {
        fill_value(number, 0, value, sizeof value);
        status = cubby_put(fixture->session, key, format_key(number, key), value, sizeof value);
    }
    CHECK_STATUS(fixture->session, status, CUBBY_PHYSICAL_FULL);
    return number - 1;
}

static void expect_numbers(struct fixture *fixture, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        expect_number(fixture, i, 0, PAIR_BYTES);
    }
}

static uint64_t used_percent_tenths(void)
{
    uint64_t logical, physical;
    read_mm_stat(&logical, &physical);
    return physical * 1000 / LIMIT_BYTES;
}

/* mm_stat's fifth figure: the most memory ever taken, in bytes. */
static uint64_t read_peak(void)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/sys/block/zram%d/mm_stat", zram_number);
    FILE *file = fopen(path, "re");
    uint64_t peak = 0;
    CHECK(file != NULL && fscanf(file, "%*u %*u %*u %*u %" SCNu64, &peak) == 1);
    fclose(file);
    return peak;
}

static void test_store_on_zram_stops_growing_at_the_mark(void)
{
    struct fixture fixture;
    open_store(&fixture, 0);
    uint64_t count = put_until_full(&fixture, 0);
    CHECK(strstr(cubby_session_message(fixture.session), "no pair may be added") != NULL);
    CHECK(strstr(cubby_session_message(fixture.session), "of 8.0 MiB") != NULL);
    CHECK(used_percent_tenths() >= 910 && used_percent_tenths() < 940);
    struct cubby_stat stat = read_stat(&fixture);
    CHECK_EQUAL(stat.space_mark, CUBBY_MARK_NO_GROWTH);
    CHECK_EQUAL(stat.device_capacity_bytes, LIMIT_BYTES);
    CHECK(strcmp(stat.device_source, "zram") == 0);
    expect_numbers(&fixture, 0, count);
    for (uint64_t i = 0; i < count; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i, key);
        if (i < count / 2) {
            CHECK_STATUS(fixture.session, cubby_delete(fixture.session, key, key_size), CUBBY_OK);
        } else {
            put_number(&fixture, i, 0, PAIR_BYTES);
        }
    }
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    CHECK(used_percent_tenths() < 850);
    uint64_t end = put_until_full(&fixture, count);
    CHECK(end > count + count / 4);
    fixture_check(&fixture);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, zram_path, 0);
    CHECK_EQUAL(count_pairs(&fixture), end - count / 2);
    expect_numbers(&fixture, count / 2, end - count / 2);
    fixture_check(&fixture);
    fixture_close(&fixture);
    CHECK_EQUAL(set_zram("mem_limit", "0"), 0);
}

static void test_store_on_zram_survives_its_limit(void)
{
    struct fixture fixture;
    open_store(&fixture, CUBBY_PERCENT_NEVER);
    uint64_t count = put_until_full(&fixture, 0);
    /* What the refused write took has been given back by now; the peak tells that it met the limit.
     */
    CHECK(read_peak() >= LIMIT_BYTES);
    CHECK(strlen(cubby_session_message(fixture.session)) > 20);
    CHECK_EQUAL(read_stat(&fixture).space_mark, CUBBY_MARK_NONE);
    expect_numbers(&fixture, 0, count);
    fixture_check(&fixture);
    CHECK_EQUAL(set_zram("mem_limit", "16M"), 0);
    for (uint64_t i = 0; i < 1000; i++) {
        put_number(&fixture, count + i, 0, PAIR_BYTES);
    }
    fixture_close(&fixture);
    fixture_open_flags(&fixture, zram_path, 0);
    CHECK_EQUAL(count_pairs(&fixture), count + 1000);
    expect_numbers(&fixture, 0, count + 1000);
    fixture_check(&fixture);
    fixture_close(&fixture);
    CHECK_EQUAL(set_zram("mem_limit", "0"), 0);
}

static void test_block_device_has_one_writer_or_many_readers(void)
{
    struct block_device *device = open_device(zram_path, 0);
    check_refused(zram_path, 0, CUBBY_LOCKED, "in use by this process");
    check_refused(zram_path, BLOCK_DEVICE_READ_ONLY, CUBBY_LOCKED, "in use by this process");
    device->ops->close(device);
    device = open_device(zram_path, BLOCK_DEVICE_READ_ONLY);
    struct block_device *second = open_device(zram_path, BLOCK_DEVICE_READ_ONLY);
    uint8_t *block = blocks_of(1, 1);
    CHECK_EQUAL(device->ops->write(device, 0, 1, block), EROFS);
    CHECK_EQUAL(device->ops->discard(device, 0, 1), EROFS);
    free(block);
    second->ops->close(second);
    device->ops->close(device);
}

/* Make a file system on the zram and mount it, or print that it cannot be. */
static bool mount_zram(char mount_point[PATH_BYTES])
{
    snprintf(mount_point, PATH_BYTES, "%s/mount", directory);
    CHECK(mkdir(mount_point, 0700) == 0 || errno == EEXIST);
    if (run_command("mkfs.ext4 -q -F '%s' >'%s/log' 2>&1", zram_path, directory) &&
        mount(zram_path, mount_point, "ext4", 0, NULL) == 0) {
        return true;
    }
    printf("mounted device: skipped, no file system can be made and mounted\n");
    return false;
}

static void test_cached_write_into_a_full_file_system_is_enospc(void)
{
    char mount_point[PATH_BYTES];
    char path[PATH_BYTES + 8];
    if (!mount_zram(mount_point)) {
        return;
    }
    snprintf(path, sizeof path, "%s/file", mount_point);
    struct block_device *device = open_device(path, BLOCK_DEVICE_CREATE);
    CHECK_EQUAL(device->ops->resize(device, 2 * DEVICE_BLOCKS), 0);
    uint8_t *block = blocks_of(1, 7);
    uint64_t lba = 0;
    int status = 0;
    for (; lba < DEVICE_BLOCKS && status == 0; lba++) {
        status =
            device->ops->write_cached(device, lba * CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES, block);
    }
    CHECK_EQUAL(status, ENOSPC);
    CHECK(lba > DEVICE_BLOCKS / 2);
    for (uint64_t i = 0; i + 1 < 2 * lba; i++) { /* what is there has its room, flushed or not */
        uint64_t offset = i % (lba - 1) * CUBBY_BLOCK_BYTES + 1;
        CHECK_EQUAL(device->ops->write_cached(device, offset, 1, block), 0);
        CHECK_EQUAL(i == lba ? device->ops->flush(device) : 0, 0);
    }
    CHECK_EQUAL(device->ops->write_cached(device, lba * CUBBY_BLOCK_BYTES + 1, 1, block), ENOSPC);
    CHECK_EQUAL(device->ops->flush(device), 0);
    CHECK(block_is(device, 0, 7));
    CHECK(block_is(device, lba - 2, 7));
    device->ops->close(device);
    CHECK_EQUAL(umount(mount_point), 0);
    free(block);
}

static void test_mounted_device_is_refused(void)
{
    char mount_point[PATH_BYTES];
    if (!mount_zram(mount_point)) {
        return;
    }
    check_refused(zram_path, 0, EBUSY, "mounted");
    struct block_device *device = open_device(zram_path, BLOCK_DEVICE_READ_ONLY);
    device->ops->close(device);
    CHECK_EQUAL(umount(mount_point), 0);
    device = open_device(zram_path, 0);
    device->ops->close(device);
}

static void test_device_without_a_size_is_refused(void)
{
    CHECK_EQUAL(set_zram("reset", "1"), 0);
    check_refused(zram_path, 0, CUBBY_BAD_ARGUMENT, "has no size yet");
}

/* Both queues, whichever of them the device itself would choose. */
static void check_both_queues(const char *path)
{
    struct block_device *device = open_device(path, 0);
    struct block_queue *queue;
    CHECK_EQUAL(blocking_queue_open(device, CONTRACT_DEPTH, &queue), 0);
    contract_of_queue("blocking queue", device, queue);
    int fd;
    queue = open_ring_queue(device, path, &fd);
    if (queue != NULL) {
        contract_of_queue("ring queue", device, queue);
        close(fd);
    }
    device->ops->close(device);
}

static void test_queues_on_zram_keep_the_contract(void)
{
    check_both_queues(zram_path);
}

static void test_queues_on_loop_keep_the_contract(void)
{
    check_both_queues(loop_path);
}

/* ramfs takes no O_DIRECT and punches no holes. */
static void test_file_without_direct_io_keeps_the_contract(void)
{
    char mount_point[PATH_BYTES];
    char file[PATH_BYTES + 8];
    snprintf(mount_point, sizeof mount_point, "%s/mount", directory);
    snprintf(file, sizeof file, "%s/file", mount_point);
    if ((mkdir(mount_point, 0700) != 0 && errno != EEXIST) ||
        mount("cubby", mount_point, "ramfs", 0, NULL) != 0) {
        printf("file without direct I/O: skipped, ramfs cannot be mounted\n");
        return;
    }
    struct block_device *device = open_device(file, BLOCK_DEVICE_CREATE);
    CHECK_EQUAL(device->geometry.discard_granularity_blocks, 0);
    CHECK_EQUAL(device->ops->resize(device, CONTRACT_BLOCKS), 0);
    contract_of_device("ramfs", device);
    CHECK_EQUAL(umount(mount_point), 0);
}

/* The last one on the loop device: its size stays changed. */
static void test_store_on_loop_follows_a_device_that_grows(void)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW | CUBBY_FORCE;
    struct fixture fixture;
    fixture_open(&fixture, loop_path, &options);
    put_number(&fixture, 1, 0, 100000);
    uint64_t logical_bytes;
    CHECK_STATUS(fixture.session, cubby_resize(fixture.session, 0, &logical_bytes), CUBBY_OK);
    CHECK_EQUAL(logical_bytes, DEVICE_BYTES);
    CHECK_STATUS(fixture.session, cubby_resize(fixture.session, DEVICE_BYTES, &logical_bytes),
                 CUBBY_BAD_ARGUMENT);
    char file[PATH_BYTES];
    snprintf(file, sizeof file, "%s/loop", directory);
    CHECK_EQUAL(truncate(file, 2 * (off_t)DEVICE_BYTES), 0);
    CHECK(run_command("losetup -c '%s'%s", loop_path, ""));
    CHECK_STATUS(fixture.session, cubby_resize(fixture.session, DEVICE_BYTES, &logical_bytes),
                 CUBBY_OK);
    CHECK_EQUAL(logical_bytes, 2 * (uint64_t)DEVICE_BYTES);
    put_number(&fixture, 2, 0, DEVICE_BYTES);
    fixture_check(&fixture);
    fixture_close(&fixture);
    fixture_open(&fixture, loop_path, NULL);
    expect_number(&fixture, 1, 0, 100000);
    expect_number(&fixture, 2, 0, DEVICE_BYTES);
    fixture_close(&fixture);
}

static void run_tests(bool have_zram, bool have_loop)
{
    if (have_zram) {
        RUN(test_zram_keeps_the_contract);
        RUN(test_queues_on_zram_keep_the_contract);
        RUN(test_cached_writes_to_zram_survive_their_process);
        RUN(test_zram_tells_what_data_take_and_discard_frees_it);
        RUN(test_full_zram_is_an_error_of_calls_and_of_queues);
        RUN(test_full_zram_fails_the_flush_of_cached_writes);
        RUN(test_zram_usage_is_that_of_mm_stat);
        RUN(test_store_on_zram_stops_growing_at_the_mark);
        RUN(test_store_on_zram_survives_its_limit);
        RUN(test_block_device_has_one_writer_or_many_readers);
        RUN(test_cached_write_into_a_full_file_system_is_enospc);
        RUN(test_mounted_device_is_refused);
        RUN(test_device_without_a_size_is_refused);
    }
    RUN(test_file_without_direct_io_keeps_the_contract);
    if (have_loop) {
        RUN(test_loop_keeps_the_contract);
        RUN(test_queues_on_loop_keep_the_contract);
        RUN(test_cached_writes_to_a_loop_survive_their_process);
        RUN(test_store_on_loop_follows_a_device_that_grows);
    }
}

int main(void)
{
    if (geteuid() != 0) {
        printf("skipped: making block devices needs root\n");
        return EXIT_SKIPPED;
    }
    make_directory();
    bool have_zram = make_zram();
    bool have_loop = make_loop();
    if (!have_zram && !have_loop) {
        return EXIT_SKIPPED;
    }
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run_tests(have_zram, have_loop);
        exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    return 0;
}
