/* test_device_names.c -- what a name opens, what it makes, and what is said of a bad one.
 *
 * Depends on: check.h, test_block_device_contract.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/csd.h"
#include "blockdev/fault_device.h"
#include "tests/c/check.h"
#include "tests/c/own_directory.h"
#include "tests/c/test_block_device_contract.h"

enum {
    NAME_BYTES = 512,
};

#define SMALL_CSD ((struct csd_options){.physical_bytes = 8 << 20})

static char message[CUBBY_MESSAGE_BYTES];

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void make_file(const char *path, size_t bytes, int byte)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    for (size_t i = 0; i < bytes; i++) {
        CHECK_EQUAL(fputc(byte, file), byte);
    }
    CHECK_EQUAL(fclose(file), 0);
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

static void check_message(const char *text)
{
    if (strstr(message, text) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", text, message);
        exit(1);
    }
}

/* Opening fails with this status, and the message holds this text. */
static void check_refused(const char *name, unsigned flags, int status, const char *text)
{
    struct block_device *device = NULL;
    message[0] = '\0';
    CHECK_EQUAL(block_device_open(name, flags, &device, message, sizeof message), status);
    CHECK(device == NULL);
    check_message(text);
    CHECK_EQUAL(block_device_open(name, flags, &device, NULL, 0), status);
}

static int create_csd(const char *name, struct csd_options options, bool force)
{
    message[0] = '\0';
    return block_device_create_csd(name, &options, force, message, sizeof message);
}

static void test_size_of_memory_takes_suffixes(void)
{
    const char *names[] = {"mem:8192", "mem:8K", "mem:1M", "mem:1G"};
    const uint64_t counts[] = {2, 2, 256, 262144};
    for (size_t i = 0; i < 4; i++) {
        struct block_device *device = open_device(names[i], 0);
        CHECK_EQUAL(device->geometry.block_count, counts[i]);
        device->ops->close(device);
    }
}

static void test_bad_sizes_are_refused(void)
{
    const char *sizes[] = {"mem:",    "mem:x",  "mem:-4096", "mem:+4096",
                           "mem:4 K", "mem:4k", "mem:4KB",   "mem:99999999999999999999",
                           "mem:M",   "mem:1P", "mem: 4096", "mem:99999999999T"};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_refused(sizes[i], 0, CUBBY_BAD_ARGUMENT, sizes[i]);
    }
    check_refused("mem:0", 0, CUBBY_BAD_ARGUMENT, "multiple of 4096");
    check_refused("mem:4097", 0, CUBBY_BAD_ARGUMENT, "multiple of 4096");
    check_refused("mem:1M", BLOCK_DEVICE_READ_ONLY, CUBBY_BAD_ARGUMENT, "always new");
    check_refused("mem:4000000T", 0, ENOMEM, "ask for less");
}

static void test_bad_layers_are_refused(void)
{
    const char *names[] = {
        "fault:",
        "fault:read",
        "fault:read=1",
        "fault:read=0:mem:1M",
        "fault:read=-1:mem:1M",
        "fault:erase=1:mem:1M",
        "fault:read=:mem:1M",
        "fault:read=1:fault:read=2:mem:1M",
        "fault:read=1:fault:write=1:fault:flush=1:fault:flush=1:mem:1M",
        "fault::mem:1M",
        "fault:,:mem:1M",
        "fault:cut=1,:mem:1M",
        "fault:,cut=1:mem:1M",
        "fault:cut=0:mem:1M",
        "fault:cut=1,cut=1:mem:1M",
        "fault:tear=1:mem:1M",
        "fault:tear,tear:mem:1M",
        "fault:tears:mem:1M",
        "fault:once=1:mem:1M",
        "fault:seed=:mem:1M",
        "fault:seed=99999999999999999999:mem:1M",
        "fault:flip=0:mem:1M",
        "fault:delay=0:mem:1M",
        "fault:delay=60000001:mem:1M",
        "fault:delay=4294967297:mem:1M",
        "fault:cut=1;seed=2:mem:1M",
        "model:",
        "model:mem:1M",
        "model:csd-2000",
        "model:floppy:mem:1M",
        "model::mem:1M",
        "model:p4500:model:p4500:mem:1M",
        "model:p4500:fault:read=1:mem:1M",
        "csd:fault:read=0:mem:64M",
        "csd:model:floppy:mem:64M",
        "csd:csd:mem:64M",
        "csd:model:p4500:csd:mem:64M",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        check_refused(names[i], BLOCK_DEVICE_CREATE, CUBBY_BAD_ARGUMENT, names[i]);
    }
    check_refused("model:floppy:x", BLOCK_DEVICE_CREATE, CUBBY_BAD_ARGUMENT, "csd-2000, csd-3000");
    CHECK(!exists("x"));
    check_refused("csd:csd:x", BLOCK_DEVICE_CREATE, CUBBY_BAD_ARGUMENT, "a csd into a csd");
    check_refused("fault:read=1:mem:5", 0, CUBBY_BAD_ARGUMENT, "fault:read=1:mem:5");
}

static void test_names_of_nothing_are_refused(void)
{
    const char *names[] = {
        "", "fault:read=1:", "model:p4500:", "file:", "csd:", "csd:fault:tear:", "csd:file:"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        check_refused(names[i], BLOCK_DEVICE_CREATE, CUBBY_BAD_ARGUMENT, "names no device");
        check_message(names[i]);
    }
}

static void test_message_is_cut_to_its_room(void)
{
    char small[8];
    memset(small, 'x', sizeof small);
    struct block_device *device;
    CHECK_EQUAL(block_device_open("mem:x", 0, &device, small, 4), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(strlen(small), 3);
    CHECK_EQUAL(small[4], 'x');
}

static void test_layers_work_together(void)
{
    struct block_device *device =
        open_device("fault:cut=4,seed=7:fault:tear,flip=1,delay=1:model:p4800x:mem:1M", 0);
    CHECK_EQUAL(device->geometry.atomic_write_bytes, 0);
    CHECK_EQUAL(device->geometry.block_count, 256);
    uint8_t *block = blocks_of(1, 0);
    CHECK_EQUAL(device->ops->read(device, 0, 1, block), 0);
    CHECK(!all_bytes_are(block, CUBBY_BLOCK_BYTES, 0));
    CHECK_EQUAL(device->ops->write(device, 0, 1, block), 0);
    CHECK_EQUAL(device->ops->flush(device), 0);
    CHECK_EQUAL(device->ops->flush(device), EIO);
    device->ops->close(device);
    free(block);
    contract_of_device("layers", open_device("fault:seed=1,tear:model:p4800x:mem:1M", 0));
}

static void test_seed_alone_makes_writes_volatile(void)
{
    make_file("volatile", 8 * CUBBY_BLOCK_BYTES, 1);
    struct block_device *device = open_device("fault:seed=0:volatile", 0);
    write_block_of(device, 1, 2);
    struct fault_stat stat;
    fault_device_stat(device, &stat);
    CHECK(stat.cached_bytes > 0);
    device->ops->close(device);
    device = open_device("fault:seed=0:volatile", BLOCK_DEVICE_READ_ONLY);
    CHECK(block_is(device, 1, 2));
    uint8_t *block = blocks_of(1, 0);
    CHECK_EQUAL(device->ops->write(device, 1, 1, block), EROFS);
    device->ops->close(device);
    free(block);
}

static void test_file_prefix_reaches_any_path(void)
{
    const char *names[] = {"file:mem:1M", "file:csd:x", "file:fault:",
                           "file:file:y", "file:plain", "fault:read=9:file:model:z"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct block_device *device = open_device(names[i], BLOCK_DEVICE_CREATE);
        CHECK_EQUAL(device->geometry.block_count, 0);
        device->ops->close(device);
        CHECK(exists(strstr(names[i], "file:") + 5));
    }
    check_refused("file:absent", 0, ENOENT, "absent does not exist");
}

static void test_csd_in_memory_is_always_new(void)
{
    const char *names[] = {"csd:mem:64M", "csd:fault:seed=1:mem:64M",
                           "fault:read=1000:csd:model:p4800x:mem:64M"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct block_device *device = open_device(names[i], 0);
        CHECK(device->geometry.compresses);
        CHECK_EQUAL(csd_device_is(device), i < 2);
        CHECK(block_is(device, 7, 0));
        write_block_of(device, 7, 1);
        CHECK(block_is(device, 7, 1));
        device->ops->close(device);
    }
    check_refused("csd:mem:64M", BLOCK_DEVICE_READ_ONLY, CUBBY_BAD_ARGUMENT, "csd:mem:64M");
}

static void test_csd_is_made_in_a_new_or_empty_file_on_request(void)
{
    check_refused("csd:new", 0, ENOENT, "new does not exist");
    CHECK(!exists("new"));
    make_file("empty", 0, 0);
    check_refused("csd:empty", 0, CUBBY_BAD_ARGUMENT, "empty");
    const char *names[] = {"csd:new", "csd:file:empty"};
    for (size_t i = 0; i < 2; i++) {
        struct block_device *device = open_device(names[i], BLOCK_DEVICE_CREATE);
        write_block_of(device, 3, 3);
        device->ops->close(device);
        device = open_device(names[i], BLOCK_DEVICE_CREATE);
        CHECK(block_is(device, 3, 3));
        device->ops->close(device);
        device = open_device(names[i], BLOCK_DEVICE_READ_ONLY);
        CHECK(block_is(device, 3, 3));
        device->ops->close(device);
    }
    check_refused("csd:fresh", BLOCK_DEVICE_CREATE | BLOCK_DEVICE_READ_ONLY, CUBBY_BAD_ARGUMENT,
                  "at once");
    CHECK(!exists("fresh"));
}

static void test_what_is_not_a_csd_is_neither_opened_nor_overwritten(void)
{
    make_file("data", 300 * CUBBY_BLOCK_BYTES, 5);
    make_file("short", 100, 5);
    check_refused("csd:data", 0, CUBBY_BAD_ARGUMENT, "csd:data");
    check_refused("csd:data", BLOCK_DEVICE_CREATE, CUBBY_BAD_ARGUMENT, "csd:data");
    check_refused("csd:short", BLOCK_DEVICE_CREATE, CUBBY_BAD_ARGUMENT, "csd:short");
    struct block_device *device = open_device("data", 0);
    CHECK(block_is(device, 0, 5));
    device->ops->close(device);
    struct stat info;
    CHECK_EQUAL(stat("short", &info), 0);
    CHECK_EQUAL(info.st_size, 100);
}

static void test_csd_that_could_not_be_made_leaves_nothing(void)
{
    check_refused("csd:fault:write=2:half", BLOCK_DEVICE_CREATE, EIO, "half");
    CHECK(!exists("half"));
    make_file("hollow", 0, 0);
    check_refused("csd:fault:write=2:hollow", BLOCK_DEVICE_CREATE, EIO, "hollow");
    struct stat info;
    CHECK_EQUAL(stat("hollow", &info), 0);
    CHECK_EQUAL(info.st_size, 0);
    CHECK_EQUAL(create_csd("csd:fault:write=2:half", SMALL_CSD, false), EIO);
    check_message("half");
    CHECK(!exists("half"));
    CHECK_EQUAL(create_csd("csd:half", (struct csd_options){.unit_bytes = 17}, false),
                CUBBY_BAD_ARGUMENT);
    CHECK(message[0] != '\0');
    CHECK(!exists("half"));
}

static void test_created_csd_has_its_options(void)
{
    struct csd_options options = SMALL_CSD;
    options.logical_bytes = 16 << 20;
    options.unit_bytes = 128;
    CHECK_EQUAL(create_csd("csd:made", options, false), 0);
    struct block_device *device = open_device("csd:made", 0);
    CHECK_EQUAL(device->geometry.block_count, (16 << 20) / CUBBY_BLOCK_BYTES);
    struct csd_stat stat;
    csd_device_stat(device, &stat);
    CHECK_EQUAL(stat.options.unit_bytes, 128);
    CHECK_EQUAL(create_csd("csd:made", options, true), CUBBY_LOCKED);
    device->ops->close(device);
}

static void test_content_is_overwritten_only_by_force(void)
{
    CHECK_EQUAL(create_csd("csd:twice", SMALL_CSD, false), 0);
    struct block_device *device = open_device("csd:twice", 0);
    write_block_of(device, 3, 3);
    device->ops->close(device);
    make_file("tail", 100, 5);
    make_file("bytes", 65 * CUBBY_BLOCK_BYTES, 5);
    const char *names[] = {"csd:twice", "csd:tail", "csd:bytes"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CHECK_EQUAL(create_csd(names[i], SMALL_CSD, false), CUBBY_NOT_EMPTY);
        check_message("--force");
        check_message(names[i] + 4);
    }
    CHECK_EQUAL(create_csd("csd:twice", SMALL_CSD, true), 0);
    device = open_device("csd:twice", 0);
    CHECK(block_is(device, 3, 0));
    device->ops->close(device);
}

static void test_zeros_are_no_content(void)
{
    make_file("zeros", 16 << 20, 0);
    CHECK_EQUAL(create_csd("csd:zeros", SMALL_CSD, false), 0);
    struct block_device *device = open_device("csd:zeros", 0);
    device->ops->close(device);
}

static void test_only_a_csd_that_stays_can_be_created(void)
{
    const char *names[] = {"plain-file",  "mem:64M", "fault:read=1:csd:x",
                           "csd:mem:64M", "csd:",    "csd:csd:x"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CHECK_EQUAL(create_csd(names[i], SMALL_CSD, true), CUBBY_BAD_ARGUMENT);
        check_message(names[i]);
        const struct csd_options options = SMALL_CSD;
        CHECK_EQUAL(block_device_create_csd(names[i], &options, true, NULL, 0), CUBBY_BAD_ARGUMENT);
    }
    CHECK(!exists("plain-file"));
    CHECK_EQUAL(create_csd("csd:no/where", SMALL_CSD, true), ENOENT);
    check_message("no/where");
}

int main(void)
{
    make_directory();
    CHECK_EQUAL(chdir(directory), 0);
    RUN(test_size_of_memory_takes_suffixes);
    RUN(test_bad_sizes_are_refused);
    RUN(test_bad_layers_are_refused);
    RUN(test_names_of_nothing_are_refused);
    RUN(test_message_is_cut_to_its_room);
    RUN(test_layers_work_together);
    RUN(test_seed_alone_makes_writes_volatile);
    RUN(test_file_prefix_reaches_any_path);
    RUN(test_csd_in_memory_is_always_new);
    RUN(test_csd_is_made_in_a_new_or_empty_file_on_request);
    RUN(test_what_is_not_a_csd_is_neither_opened_nor_overwritten);
    RUN(test_csd_that_could_not_be_made_leaves_nothing);
    RUN(test_created_csd_has_its_options);
    RUN(test_content_is_overwritten_only_by_force);
    RUN(test_zeros_are_no_content);
    RUN(test_only_a_csd_that_stays_can_be_created);
    return 0;
}
