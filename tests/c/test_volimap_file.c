/* test_volimap_file.c -- a VoliMap in a file: what was saved is loaded, what is damaged is refused,
 * and what fails half-way leaves the old file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/cubby.h"
#include "engine/volimap/file.h"
#include "tests/c/check.h"
#include "tests/c/own_directory.h"

enum {
    PATH_BYTES = OWN_DIRECTORY_BYTES + 64,
    SMALL = 5, /* pairs: every byte of their file is tried */
};

struct opened {
    cubby_volimap *map;
    cubby_volimap_session *session;
};

static struct opened open_map(void)
{
    struct opened it;
    struct cubby_volimap_options options = {0};
    CHECK_EQUAL(cubby_volimap_open(&options, &it.map, NULL, 0), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_session_open(it.map, &it.session), CUBBY_OK);
    return it;
}

static void close_map(struct opened it)
{
    cubby_volimap_session_close(it.session);
    cubby_volimap_close(it.map);
}

/* Keys that ascend, from 0 to the greatest one, and are close to each other and far. */
static uint64_t key_of(uint64_t number, uint64_t count)
{
    return number == count - 1 && count > 1 ? UINT64_MAX : number * number * 3 + number / 7;
}

static void put_pairs(struct opened it, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        CHECK_EQUAL(cubby_volimap_put(it.session, key_of(i, count), ~i), CUBBY_OK);
    }
}

static void check_pairs(struct opened it, uint64_t count)
{
    CHECK_EQUAL(cubby_volimap_count(it.map), count);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t value = 0;
        CHECK_EQUAL(cubby_volimap_get(it.session, key_of(i, count), &value), CUBBY_OK);
        CHECK(value == ~i);
    }
}

static const char *path_of(const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

/* Save pairs of a map of their own. */
static void save_pairs(uint64_t count, const char *name)
{
    struct opened it = open_map();
    put_pairs(it, count);
    CHECK_EQUAL(cubby_volimap_save(it.session, path_of(name)), CUBBY_OK);
    close_map(it);
}

/* Load into a map of its own: what of the file is expected. */
static void check_file(const char *name, uint64_t count)
{
    struct opened it = open_map();
    CHECK_EQUAL(cubby_volimap_load(it.session, path_of(name)), CUBBY_OK);
    check_pairs(it, count);
    close_map(it);
}

static size_t read_file(const char *name, uint8_t **bytes)
{
    struct stat info;
    int fd = open(path_of(name), O_RDONLY);
    CHECK(fd >= 0);
    CHECK_EQUAL(fstat(fd, &info), 0);
    *bytes = malloc((size_t)info.st_size + 1);
    CHECK(*bytes != NULL);
    CHECK_EQUAL(read(fd, *bytes, (size_t)info.st_size), info.st_size);
    CHECK_EQUAL(close(fd), 0);
    return (size_t)info.st_size;
}

static void write_file(const char *name, const uint8_t *bytes, size_t size)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    CHECK(fd >= 0);
    CHECK_EQUAL(write(fd, bytes, size), (ssize_t)size);
    CHECK_EQUAL(close(fd), 0);
}

/* A file is refused for a reason that has these words in it, and nothing is put. */
static void check_refused(struct opened it, const char *name, int status, const char *words)
{
    CHECK_EQUAL(cubby_volimap_load(it.session, path_of(name)), status);
    const char *message = cubby_volimap_session_message(it.session);
    if (strstr(message, words) == NULL || strstr(message, name) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", words, message);
        exit(1);
    }
    CHECK_EQUAL(cubby_volimap_count(it.map), 0);
}

/* How many files the directory has, those that are being written too. */
static unsigned file_count(void)
{
    DIR *listing = opendir(directory);
    CHECK(listing != NULL);
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    CHECK_EQUAL(closedir(listing), 0);
    return count;
}

static void remove_files(void)
{
    char command[OWN_DIRECTORY_BYTES + 64];
    snprintf(command, sizeof command, "find '%s' -mindepth 1 -delete", directory);
    CHECK_EQUAL(system(command), 0);
}

static void test_what_was_saved_is_loaded(void)
{
    const uint64_t counts[] = {0,
                               1,
                               SMALL,
                               FILE_CHUNK_PAIRS - 1,
                               FILE_CHUNK_PAIRS,
                               FILE_CHUNK_PAIRS + 1,
                               2 * FILE_CHUNK_PAIRS + 1000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct stat info;
        save_pairs(counts[i], "map");
        check_file("map", counts[i]);
        CHECK_EQUAL(stat(path_of("map"), &info), 0);
        CHECK_EQUAL(info.st_size, file_bytes(counts[i]));
        CHECK_EQUAL(file_count(), 1);
    }
}

static void test_the_same_pairs_make_the_same_bytes(void)
{
    uint8_t *one, *other;
    save_pairs(1000, "one");
    check_file("one", 1000);
    struct opened it = open_map();
    for (uint64_t i = 1000; i > 0; i--) { /* in another order */
        CHECK_EQUAL(cubby_volimap_put(it.session, key_of(i - 1, 1000), ~(i - 1)), CUBBY_OK);
    }
    CHECK_EQUAL(cubby_volimap_save(it.session, path_of("other")), CUBBY_OK);
    close_map(it);
    size_t size = read_file("one", &one);
    CHECK_EQUAL(read_file("other", &other), size);
    CHECK(memcmp(one, other, size) == 0);
    free(one);
    free(other);
}

static void test_loading_puts_beside_and_over_what_is_there(void)
{
    save_pairs(SMALL, "map");
    struct opened it = open_map();
    uint64_t value;
    CHECK_EQUAL(cubby_volimap_put(it.session, key_of(1, SMALL), 7), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_put(it.session, 1000, 8), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_load(it.session, path_of("map")), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_remove(it.session, 1000, &value), CUBBY_OK);
    CHECK_EQUAL(value, 8);
    check_pairs(it, SMALL);
    close_map(it);
}

static void test_a_key_outside_the_map_is_refused(void)
{
    save_pairs(SMALL, "map");
    struct opened it;
    struct cubby_volimap_options options = {.low = 0, .high = 1000};
    CHECK_EQUAL(cubby_volimap_open(&options, &it.map, NULL, 0), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_session_open(it.map, &it.session), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_load(it.session, path_of("map")), CUBBY_BAD_ARGUMENT);
    CHECK(cubby_volimap_session_message(it.session)[0] != '\0');
    close_map(it);
}

static void test_every_flipped_byte_is_refused(void)
{
    uint8_t *bytes;
    struct opened it = open_map();
    save_pairs(SMALL, "whole");
    size_t size = read_file("whole", &bytes);
    for (size_t i = 0; i < size; i++) {
        for (unsigned bit = 1; bit < 256; bit = bit == 1 ? 128 : bit == 128 ? 255 : 256) {
            bytes[i] ^= (uint8_t)bit;
            write_file("damaged", bytes, size);
            check_refused(it, "damaged", CUBBY_CORRUPT, i < 8 ? "no VoliMap file" : "at byte");
            bytes[i] ^= (uint8_t)bit;
        }
    }
    close_map(it);
    free(bytes);
}

static void test_every_other_length_is_refused(void)
{
    uint8_t *bytes;
    struct opened it = open_map();
    save_pairs(SMALL, "whole");
    size_t size = read_file("whole", &bytes);
    for (size_t length = 0; length < size; length++) {
        write_file("damaged", bytes, length);
        check_refused(it, "damaged", CUBBY_CORRUPT, length < 8 ? "no VoliMap file" : "cut off");
    }
    bytes[size] = 0;
    write_file("damaged", bytes, size + 1);
    check_refused(it, "damaged", CUBBY_CORRUPT, "added to");
    close_map(it);
    free(bytes);
}

static void test_chunks_belong_to_their_place_and_file(void)
{
    const size_t chunk = (size_t)file_chunk_bytes(FILE_CHUNK_PAIRS);
    uint8_t *bytes, *other;
    struct opened it = open_map();
    save_pairs(2 * FILE_CHUNK_PAIRS, "whole");
    size_t size = read_file("whole", &bytes);
    CHECK_EQUAL(size, FILE_HEADER_BYTES + 2 * chunk + FILE_TRAILER_BYTES);

    /* The two, exchanged. */
    uint8_t *swapped = malloc(size);
    CHECK(swapped != NULL);
    memcpy(swapped, bytes, size);
    memcpy(swapped + FILE_HEADER_BYTES, bytes + FILE_HEADER_BYTES + chunk, chunk);
    memcpy(swapped + FILE_HEADER_BYTES + chunk, bytes + FILE_HEADER_BYTES, chunk);
    write_file("damaged", swapped, size);
    check_refused(it, "damaged", CUBBY_CORRUPT, "wrong checksum of the chunk at byte 64");

    /* The second one of another file, whose pairs have other values: damage after what is whole. */
    struct opened another = open_map();
    put_pairs(another, 2 * FILE_CHUNK_PAIRS);
    CHECK_EQUAL(cubby_volimap_put(another.session, UINT64_MAX, 1), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_save(another.session, path_of("other")), CUBBY_OK);
    close_map(another);
    CHECK_EQUAL(read_file("other", &other), size);
    memcpy(bytes + FILE_HEADER_BYTES + chunk, other + FILE_HEADER_BYTES + chunk, chunk);
    write_file("damaged", bytes, size);
    check_refused(it, "damaged", CUBBY_CORRUPT, "that of other pairs");
    close_map(it);
    free(bytes);
    free(other);
    free(swapped);
}

/* Give a header that has been changed its checksum. */
static void sign_header(uint8_t *bytes)
{
    store_u64(bytes + 56,
              checksum_of(bytes, FILE_HEADER_CHECKED_BYTES, FILE_HEADER_LBA, FILE_SECRET));
}

static void test_what_has_its_checksum_is_not_trusted_either(void)
{
    uint8_t *bytes;
    struct opened it = open_map();
    save_pairs(SMALL, "whole");
    size_t size = read_file("whole", &bytes);

    const uint64_t counts[] = {0, SMALL - 1, SMALL + 1, UINT64_C(1) << 59, UINT64_C(1) << 60,
                               /* 16 bytes for each of these is 16 * SMALL again, modulo 2^64 */
                               SMALL + (UINT64_C(1) << 60), UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        store_u64(bytes + 16, counts[i]);
        sign_header(bytes);
        write_file("forged", bytes, size);
        check_refused(it, "forged", CUBBY_CORRUPT, "bytes, which is not what");
    }
    store_u64(bytes + 16, SMALL);

    store_u32(bytes + 8, FILE_FORMAT_VERSION + 1);
    sign_header(bytes);
    write_file("forged", bytes, size);
    check_refused(it, "forged", CUBBY_FORMAT_VERSION, "version 2");
    store_u32(bytes + 8, FILE_FORMAT_VERSION);
    sign_header(bytes);

    /* Keys that are the same, and that descend. */
    uint8_t *chunk = bytes + FILE_HEADER_BYTES;
    for (unsigned step = 0; step < 2; step++) {
        store_u64(chunk + 8 + 16, load_u64(chunk + 8 + 8) - step);
        store_u64(chunk, checksum_of(chunk + 8, SMALL * 16, 0, FILE_SECRET));
        write_file("forged", bytes, size);
        check_refused(it, "forged", CUBBY_CORRUPT, "does not ascend at byte 88");
    }
    close_map(it);
    free(bytes);
}

static void test_what_is_no_file_is_refused_and_stays(void)
{
    struct opened it = open_map();
    check_refused(it, "none", ENOENT, "cannot be read");
    write_file("letter", (const uint8_t *)"Dear Sir or Madam, as agreed", 28);
    check_refused(it, "letter", CUBBY_CORRUPT, "is no VoliMap file");

    CHECK_EQUAL(mkdir(path_of("folder"), 0777), 0);
    CHECK_EQUAL(mkfifo(path_of("pipe"), 0666), 0);
    check_refused(it, "folder", EISDIR, "directory");
    check_refused(it, "pipe", CUBBY_CORRUPT, "is no VoliMap file"); /* at once */
    CHECK_EQUAL(cubby_volimap_save(it.session, path_of("folder")), EISDIR);
    CHECK_EQUAL(cubby_volimap_save(it.session, path_of("pipe")), EINVAL);
    CHECK_EQUAL(cubby_volimap_save(it.session, "/dev/full"), EINVAL);
    CHECK(strstr(cubby_volimap_session_message(it.session), "is no file, and stays") != NULL);
    CHECK_EQUAL(cubby_volimap_save(it.session, path_of("nowhere/map")), ENOENT);
    CHECK_EQUAL(cubby_volimap_save(it.session, path_of("letter/map")), ENOTDIR);
    CHECK_EQUAL(cubby_volimap_save(it.session, ""), ENOENT);
    CHECK_EQUAL(file_count(), 3);
    close_map(it);
    remove_files();
}

/* Run what leaves its process with a status of its own, or is killed. */
static int run_in_child(void (*work)(void))
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        work();
        _exit(0);
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status;
}

static void save_where_files_are_short(void)
{
    struct rlimit limit = {1000000, 1000000};
    struct opened it = open_map();
    put_pairs(it, 2 * FILE_CHUNK_PAIRS);
    CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int status = cubby_volimap_save(it.session, path_of("map"));
    CHECK_EQUAL(status, EFBIG);
    CHECK(strstr(cubby_volimap_session_message(it.session), "cannot be written") != NULL);
    close_map(it);
}

static void save_where_it_fails(void)
{
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    save_where_files_are_short();
}

static void save_where_it_kills(void)
{
    CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    save_where_files_are_short();
}

static void test_a_save_that_fails_leaves_the_old_file_and_no_other(void)
{
    save_pairs(SMALL, "map");
    CHECK_EQUAL(run_in_child(save_where_it_fails), 0);
    CHECK_EQUAL(file_count(), 1);
    check_file("map", SMALL);
}

static void test_a_save_that_is_killed_leaves_the_old_file(void)
{
    save_pairs(SMALL, "map");
    int status = run_in_child(save_where_it_kills);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
    CHECK_EQUAL(file_count(), 2); /* and what it has written so far */
    check_file("map", SMALL);
    save_pairs(3 * SMALL, "map");
    check_file("map", 3 * SMALL);
    remove_files();
}

static void test_other_files_are_left_alone(void)
{
    char name[64];
    for (int number = 0; number < 3; number++) { /* left by a process that had our number */
        snprintf(name, sizeof name, ".volimap-%ld-%d", (long)getpid(), number);
        write_file(name, (const uint8_t *)"x", 1);
    }
    save_pairs(SMALL, "map");
    check_file("map", SMALL);
    CHECK_EQUAL(file_count(), 4);
    uint8_t *bytes;
    CHECK_EQUAL(read_file(name, &bytes), 1);
    free(bytes);
    remove_files();
}

static mode_t mode_of(const char *name)
{
    struct stat info;
    CHECK_EQUAL(lstat(path_of(name), &info), 0);
    return info.st_mode;
}

static void test_permissions_are_kept_and_links_stay(void)
{
    char target[PATH_BYTES];
    mode_t before = umask(027);
    save_pairs(SMALL, "map");
    CHECK_EQUAL(mode_of("map") & 07777, 0640);
    CHECK_EQUAL(chmod(path_of("map"), 0604), 0);
    save_pairs(SMALL, "map");
    CHECK_EQUAL(mode_of("map") & 07777, 0604);
    umask(before);

    snprintf(target, sizeof target, "%s", path_of("map"));
    CHECK_EQUAL(symlink(target, path_of("link")), 0);
    save_pairs(3, "link");
    CHECK(S_ISLNK(mode_of("link")));
    check_file("map", 3);
    CHECK_EQUAL(file_count(), 2);
    remove_files();
}

static atomic_bool stop;

/* Puts and removes odd keys. */
static void *change_map(void *state)
{
    cubby_volimap_session *session;
    CHECK_EQUAL(cubby_volimap_session_open(state, &session), CUBBY_OK);
    for (uint64_t i = 0; !atomic_load(&stop); i++) {
        uint64_t key = (i * 7919 % 40000) | 1;
        CHECK_EQUAL(cubby_volimap_put(session, key, i), CUBBY_OK);
        int status = cubby_volimap_remove(session, (i * 104729 % 40000) | 1, NULL);
        CHECK(status == CUBBY_OK || status == CUBBY_NOT_FOUND);
    }
    cubby_volimap_session_close(session);
    return NULL;
}

static void test_a_map_is_saved_while_it_changes(void)
{
    pthread_t thread;
    struct opened it = open_map();
    for (uint64_t key = 0; key < 40000; key += 2) {
        CHECK_EQUAL(cubby_volimap_put(it.session, key, key + 5), CUBBY_OK);
    }
    CHECK_EQUAL(pthread_create(&thread, NULL, change_map, it.map), 0);
    for (unsigned round = 0; round < 20; round++) {
        struct opened copy = open_map();
        CHECK_EQUAL(cubby_volimap_save(it.session, path_of("map")), CUBBY_OK);
        CHECK_EQUAL(cubby_volimap_load(copy.session, path_of("map")), CUBBY_OK);
        for (uint64_t key = 0; key < 40000; key += 2) {
            uint64_t value;
            CHECK_EQUAL(cubby_volimap_get(copy.session, key, &value), CUBBY_OK);
            CHECK_EQUAL(value, key + 5);
        }
        close_map(copy);
    }
    atomic_store(&stop, true);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    close_map(it);
    remove_files();
}

int main(void)
{
    make_directory();
    RUN(test_what_was_saved_is_loaded);
    remove_files();
    RUN(test_the_same_pairs_make_the_same_bytes);
    RUN(test_loading_puts_beside_and_over_what_is_there);
    RUN(test_a_key_outside_the_map_is_refused);
    RUN(test_every_flipped_byte_is_refused);
    RUN(test_every_other_length_is_refused);
    RUN(test_chunks_belong_to_their_place_and_file);
    RUN(test_what_has_its_checksum_is_not_trusted_either);
    remove_files();
    RUN(test_what_is_no_file_is_refused_and_stays);
    RUN(test_a_save_that_fails_leaves_the_old_file_and_no_other);
    remove_files();
    RUN(test_a_save_that_is_killed_leaves_the_old_file);
    RUN(test_other_files_are_left_alone);
    RUN(test_permissions_are_kept_and_links_stay);
    RUN(test_a_map_is_saved_while_it_changes);
    return 0;
}
