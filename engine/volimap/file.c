/* file.c -- a VoliMap's pairs, written to a file and read back; file.h draws it.
 *
 * A file is written under another name in the same folder, flushed, and renamed: at any moment
 * there is the old one, whole, or the new one. What a crash can leave behind is a file of that
 * other name, .volimap-PID-NUMBER.
 *
 * A file is read twice: the first time all of it is checked, the second time it is put. What is
 * read the second time is checked, too, as anything else that was read.
 *
 * Depends on: cubby.h, api.h, file.h, checksum.h.   Used by: programs.
 */
#include "engine/volimap/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/volimap/api.h"

enum {
    TEMPORARY_NAMES_MAX = 10000, /* tried, before it is given up to find one that is free */
    TEMPORARY_NAME_BYTES = 64,
    MODE_BITS = 07777,
};

/* One chunk, and the file that it is of. */
struct pair_file {
    cubby_volimap_session *session;
    const char *path; /* as the caller wrote it */
    int fd;
    uint64_t offset; /* of the next byte that is read or written */
    uint64_t chunk_number;
    uint64_t pair_count; /* written so far; or in the file, as its header says */
    uint64_t digest;
    uint64_t chunk[1 + 2 * FILE_CHUNK_PAIRS]; /* as in the file */
};

_Static_assert(sizeof((struct pair_file *)0)->chunk ==
                   FILE_CHUNK_CHECKSUM_BYTES + (size_t)FILE_PAIR_BYTES * FILE_CHUNK_PAIRS,
               "a chunk is read and written as one piece");

/* Returns NULL where there is no memory, and the session says so. */
static struct pair_file *open_pair_file(cubby_volimap_session *session, const char *path)
{
    CUBBY_ASSERT(session != NULL && path != NULL);
    struct pair_file *file = malloc(sizeof *file);
    if (file == NULL) {
        volimap_explain(session, ENOMEM, "%.256s: no memory for a chunk of pairs", path);
        return NULL;
    }
    file->session = session;
    file->path = path;
    file->fd = -1;
    file->offset = file->chunk_number = file->pair_count = file->digest = 0;
    return file;
}

/* Say which call of the system has failed, and return its errno. */
static int fail(const struct pair_file *file, int status, const char *what)
{
    return volimap_explain(file->session, status, "%.256s %s: %s", file->path, what,
                           cubby_status_text(status));
}

static void add_to_digest(struct pair_file *file, uint64_t checksum)
{
    uint64_t both[2] = {file->digest, checksum};
    file->digest = checksum_of(both, sizeof both, FILE_DIGEST_LBA, FILE_SECRET);
}

/* To write ------------------------------------------------------------------------------------- */

static int write_bytes(struct pair_file *file, const void *bytes, size_t size, uint64_t offset)
{
    const uint8_t *from = bytes;
    while (size > 0) {
        ssize_t written = pwrite(file->fd, from, size, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return fail(file, written < 0 ? errno : EIO, "cannot be written");
        }
        from += written;
        size -= (size_t)written;
        offset += (uint64_t)written;
    }
    return CUBBY_OK;
}

static int append_bytes(struct pair_file *file, const void *bytes, size_t size)
{
    int status = write_bytes(file, bytes, size, file->offset);
    file->offset += size;
    return status;
}

static int append_chunk(struct pair_file *file, size_t count)
{
    uint64_t *keys = file->chunk + 1;
    for (size_t i = 1; i < count; i++) {
        CUBBY_ASSERT(keys[i - 1] < keys[i]);
    }
    size_t size = (size_t)file_chunk_bytes(count);
    file->chunk[0] =
        checksum_of(keys, size - FILE_CHUNK_CHECKSUM_BYTES, file->chunk_number, FILE_SECRET);
    add_to_digest(file, file->chunk[0]);
    file->chunk_number++;
    file->pair_count += count;
    return append_bytes(file, file->chunk, size);
}

static int append_chunks(struct pair_file *file)
{
    uint64_t *keys = file->chunk + 1;
    uint64_t first = 0;
    for (;;) {
        size_t count;
        int status = cubby_volimap_range(file->session, first, UINT64_MAX, 0, FILE_CHUNK_PAIRS,
                                         keys, keys + FILE_CHUNK_PAIRS, &count);
        if (status != CUBBY_OK || count == 0) {
            return status;
        }
        CUBBY_ASSERT(count <= FILE_CHUNK_PAIRS && keys[0] >= first);
        uint64_t last = keys[count - 1];
        memmove(keys + count, keys + FILE_CHUNK_PAIRS, count * sizeof *keys);
        status = append_chunk(file, count);
        if (status != CUBBY_OK || count < FILE_CHUNK_PAIRS || last == UINT64_MAX) {
            return status;
        }
        first = last + 1;
    }
}

/* The header comes last: how many pairs there are is known only when all have been met. */
static int write_pairs(struct pair_file *file)
{
    uint8_t header[FILE_HEADER_BYTES] = {0};
    uint8_t trailer[FILE_TRAILER_BYTES];
    int status = append_bytes(file, header, sizeof header);
    if (status == CUBBY_OK) {
        status = append_chunks(file);
    }
    if (status != CUBBY_OK) {
        return status;
    }
    memcpy(trailer, FILE_TRAILER_MAGIC, FILE_MAGIC_BYTES);
    store_u64(trailer + 8, file->pair_count);
    store_u64(trailer + 16, file->digest);
    store_u64(trailer + 24,
              checksum_of(trailer, FILE_TRAILER_CHECKED_BYTES, FILE_TRAILER_LBA, FILE_SECRET));
    status = append_bytes(file, trailer, sizeof trailer);
    CUBBY_ASSERT(status != CUBBY_OK || file->offset == file_bytes(file->pair_count));
    memcpy(header, FILE_MAGIC, FILE_MAGIC_BYTES);
    store_u32(header + 8, FILE_FORMAT_VERSION);
    store_u64(header + 16, file->pair_count);
    store_u64(header + 56,
              checksum_of(header, FILE_HEADER_CHECKED_BYTES, FILE_HEADER_LBA, FILE_SECRET));
    return status == CUBBY_OK ? write_bytes(file, header, sizeof header, 0) : status;
}

/* What is to be replaced: its own name, where path is a link to it, and whether there is one. */
struct target {
    char *name;
    char *folder;
    bool exists;
    struct stat info; /* if it exists */
};

static void forget_target(struct target *target)
{
    free(target->name);
    free(target->folder);
}

static int find_target(const struct pair_file *file, struct target *target)
{
    *target = (struct target){0};
    target->exists = stat(file->path, &target->info) == 0;
    if (!target->exists && errno != ENOENT) {
        return fail(file, errno, "cannot be written");
    }
    if (target->exists && !S_ISREG(target->info.st_mode)) {
        int status = S_ISDIR(target->info.st_mode) ? EISDIR : EINVAL;
        return volimap_explain(file->session, status, "%.256s is no file, and stays", file->path);
    }
    target->name = target->exists ? realpath(file->path, NULL) : strdup(file->path);
    if (target->name == NULL) {
        return fail(file, errno, "cannot be written");
    }
    char *copy = strdup(target->name);
    target->folder = copy == NULL ? NULL : strdup(dirname(copy));
    free(copy);
    if (target->folder == NULL) {
        return fail(file, ENOMEM, "cannot be written");
    }
    return CUBBY_OK;
}

/* Make a new file in the target's folder. Until it is renamed nobody may read it who might not read
 * the target. name: room for its name, size bytes. */
static int make_temporary(struct pair_file *file, const struct target *target, char *name,
                          size_t size)
{
    mode_t mode = target->exists ? 0600 : 0666;
    for (int number = 0; file->fd < 0 && number < TEMPORARY_NAMES_MAX; number++) {
        int length =
            snprintf(name, size, "%s/.volimap-%ld-%d", target->folder, (long)getpid(), number);
        CUBBY_ASSERT(length > 0 && (size_t)length < size);
        file->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (file->fd < 0 && errno != EEXIST && errno != EINTR) {
            break;
        }
    }
    return file->fd >= 0
               ? CUBBY_OK
               : fail(file, errno, "cannot be written, as there can be no file beside it");
}

/* The new file belongs to whom the old one does, as far as we may, and has its permissions. */
static int copy_permissions(const struct pair_file *file, const struct target *target)
{
    struct stat info;
    if (!target->exists) {
        return CUBBY_OK;
    }
    if (fstat(file->fd, &info) != 0) {
        return fail(file, errno, "cannot be written");
    }
    bool is_ours = info.st_uid == target->info.st_uid && info.st_gid == target->info.st_gid;
    if (!is_ours && fchown(file->fd, target->info.st_uid, target->info.st_gid) != 0 &&
        errno != EPERM) {
        return fail(file, errno, "cannot be given its owner");
    }
    if (fchmod(file->fd, target->info.st_mode & MODE_BITS) != 0) {
        return fail(file, errno, "cannot be given its permissions");
    }
    return CUBBY_OK;
}

/* The new name must survive a power cut like what it names. */
static int flush_folder(const struct pair_file *file, const char *folder)
{
    int status = CUBBY_OK;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        /* Some file systems cannot flush a folder, and some folders may not be read. */
        status = errno == EINVAL || errno == EACCES
                     ? CUBBY_OK
                     : fail(file, errno, "is written, but its folder cannot be flushed");
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

static int close_file(struct pair_file *file)
{
    int fd = file->fd;
    file->fd = -1;
    return close(fd) == 0 || errno == EINTR ? CUBBY_OK : fail(file, errno, "cannot be written");
}

/* Write a file, already open, that is called name until it has the target's name. */
static int save_as(struct pair_file *file, const struct target *target, const char *name)
{
    int status = write_pairs(file);
    if (status == CUBBY_OK) {
        status = copy_permissions(file, target);
    }
    if (status == CUBBY_OK && fsync(file->fd) != 0) {
        status = fail(file, errno, "cannot be flushed");
    }
    int closing = close_file(file);
    status = status == CUBBY_OK ? closing : status;
    if (status == CUBBY_OK && rename(name, target->name) != 0) {
        status = fail(file, errno, "cannot be replaced");
    }
    if (status != CUBBY_OK) {
        unlink(name); /* if that fails, too, there is nothing more to be done */
        return status;
    }
    return flush_folder(file, target->folder);
}

static int save_beside(struct pair_file *file, const struct target *target)
{
    size_t size = strlen(target->folder) + TEMPORARY_NAME_BYTES;
    char *name = malloc(size);
    if (name == NULL) {
        return fail(file, ENOMEM, "cannot be written");
    }
    int status = make_temporary(file, target, name, size);
    if (status == CUBBY_OK) {
        status = save_as(file, target, name);
    }
    free(name);
    return status;
}

int cubby_volimap_save(cubby_volimap_session *session, const char *path)
{
    struct pair_file *file = open_pair_file(session, path);
    if (file == NULL) {
        return ENOMEM;
    }
    struct target target;
    int status = find_target(file, &target);
    if (status == CUBBY_OK) {
        status = save_beside(file, &target);
    }
    forget_target(&target);
    free(file);
    return status;
}

/* To read -------------------------------------------------------------------------------------- */

static int damaged(const struct pair_file *file, const char *what, uint64_t offset)
{
    return volimap_explain(file->session, CUBBY_CORRUPT, "%.256s: %s at byte %llu", file->path,
                           what, (unsigned long long)offset);
}

/* The length has been checked: a file that ends before is one that somebody has cut since. */
static int read_bytes(struct pair_file *file, void *bytes, size_t size)
{
    uint8_t *to = bytes;
    while (size > 0) {
        ssize_t got = pread(file->fd, to, size, (off_t)file->offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail(file, errno, "cannot be read");
        }
        if (got == 0) {
            return damaged(file, "the file ends too early,", file->offset);
        }
        to += got;
        size -= (size_t)got;
        file->offset += (uint64_t)got;
    }
    return CUBBY_OK;
}

static int refuse_kind(const struct pair_file *file)
{
    return volimap_explain(file->session, CUBBY_CORRUPT, "%.256s is no VoliMap file", file->path);
}

/* Read the header of a file of size bytes, and find out whether it can be so long. */
static int read_header(struct pair_file *file, uint64_t size)
{
    uint8_t header[FILE_HEADER_BYTES];
    size_t available = size < sizeof header ? (size_t)size : sizeof header;
    int status = read_bytes(file, header, available);
    if (status != CUBBY_OK) {
        return status;
    }
    if (available < FILE_MAGIC_BYTES || memcmp(header, FILE_MAGIC, FILE_MAGIC_BYTES) != 0) {
        return refuse_kind(file);
    }
    if (available < sizeof header) {
        return damaged(file, "the file has been cut off, in its header,", size);
    }
    if (load_u64(header + 56) !=
        checksum_of(header, FILE_HEADER_CHECKED_BYTES, FILE_HEADER_LBA, FILE_SECRET)) {
        return damaged(file, "wrong checksum of the header", 0);
    }
    uint32_t version = load_u32(header + 8);
    if (version != FILE_FORMAT_VERSION) {
        return volimap_explain(file->session, CUBBY_FORMAT_VERSION,
                               "%.256s has version %u of the format, this CubbyDB knows version %d",
                               file->path, version, FILE_FORMAT_VERSION);
    }
    file->pair_count = load_u64(header + 16);
    /* The first condition keeps the second from overflowing. */
    if (file->pair_count > size / FILE_PAIR_BYTES || file_bytes(file->pair_count) != size) {
        return volimap_explain(file->session, CUBBY_CORRUPT,
                               "%.256s has %llu bytes, which is not what its %llu pairs take: it "
                               "has been cut off at byte %llu, or added to",
                               file->path, (unsigned long long)size,
                               (unsigned long long)file->pair_count, (unsigned long long)size);
    }
    return CUBBY_OK;
}

/* Read and check the next chunk. previous: the last key before it, where it is not the first. */
static int read_chunk(struct pair_file *file, size_t count, uint64_t previous)
{
    uint64_t begin = file->offset;
    size_t size = (size_t)file_chunk_bytes(count);
    int status = read_bytes(file, file->chunk, size);
    if (status != CUBBY_OK) {
        return status;
    }
    const uint64_t *keys = file->chunk + 1;
    if (file->chunk[0] !=
        checksum_of(keys, size - FILE_CHUNK_CHECKSUM_BYTES, file->chunk_number, FILE_SECRET)) {
        return damaged(file, "wrong checksum of the chunk", begin);
    }
    for (size_t i = 0; i < count; i++) {
        if ((i > 0 || file->chunk_number > 0) && keys[i] <= previous) {
            return damaged(file, "a key that does not ascend",
                           begin + FILE_CHUNK_CHECKSUM_BYTES + sizeof *keys * i);
        }
        previous = keys[i];
    }
    add_to_digest(file, file->chunk[0]);
    file->chunk_number++;
    return CUBBY_OK;
}

static int read_trailer(struct pair_file *file)
{
    uint64_t begin = file->offset;
    uint8_t trailer[FILE_TRAILER_BYTES];
    int status = read_bytes(file, trailer, sizeof trailer);
    if (status != CUBBY_OK) {
        return status;
    }
    if (memcmp(trailer, FILE_TRAILER_MAGIC, FILE_MAGIC_BYTES) != 0 ||
        load_u64(trailer + 24) !=
            checksum_of(trailer, FILE_TRAILER_CHECKED_BYTES, FILE_TRAILER_LBA, FILE_SECRET)) {
        return damaged(file, "wrong checksum of the trailer", begin);
    }
    if (load_u64(trailer + 8) != file->pair_count || load_u64(trailer + 16) != file->digest) {
        return damaged(file, "the trailer is that of other pairs,", begin);
    }
    return CUBBY_OK;
}

/* Read all after the header, and check it; put it if asked to. */
static int read_pairs(struct pair_file *file, bool put)
{
    file->offset = FILE_HEADER_BYTES;
    file->chunk_number = file->digest = 0;
    uint64_t previous = 0;
    for (uint64_t left = file->pair_count; left > 0;) {
        size_t count = left < FILE_CHUNK_PAIRS ? (size_t)left : FILE_CHUNK_PAIRS;
        int status = read_chunk(file, count, previous);
        if (status != CUBBY_OK) {
            return status;
        }
        const uint64_t *keys = file->chunk + 1;
        if (put) {
            status = cubby_volimap_put_many(file->session, count, keys, keys + count, NULL);
            if (status != CUBBY_OK) {
                return status; /* the session has the words for it */
            }
        }
        previous = keys[count - 1];
        left -= count;
    }
    return read_trailer(file);
}

static int load_from(struct pair_file *file)
{
    /* What is no file is refused, and must not be waited for before. */
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat info;
    if (file->fd < 0 || fstat(file->fd, &info) != 0) {
        return fail(file, errno, "cannot be read");
    }
    if (S_ISDIR(info.st_mode)) {
        return fail(file, EISDIR, "cannot be read");
    }
    if (!S_ISREG(info.st_mode)) {
        return refuse_kind(file);
    }
    int status = read_header(file, (uint64_t)info.st_size);
    if (status == CUBBY_OK) {
        status = read_pairs(file, false);
    }
    return status == CUBBY_OK ? read_pairs(file, true) : status;
}

int cubby_volimap_load(cubby_volimap_session *session, const char *path)
{
    struct pair_file *file = open_pair_file(session, path);
    if (file == NULL) {
        return ENOMEM;
    }
    int status = load_from(file);
    if (file->fd >= 0) {
        close(file->fd); /* it was only read */
    }
    free(file);
    return status;
}
