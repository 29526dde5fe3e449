/* pread_engine.c -- the physical limits: of a get, one 4 KiB O_DIRECT read of the key's home block,
 * not checked, not searched; of a put that is not put off, this and one write of the same block.
 *
 * Works on a store that cubby has loaded and closed, and leaves it as it is: a put writes what it
 * has read. Nothing is read from blocks that were never written: those cost a device nothing.
 *
 * Depends on: bench_engine.h, home_blocks.h.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/engines/bench_engine.h"
#include "bench/engines/home_blocks.h"

struct pread_store {
    int fd;
    struct home_blocks homes;
};

struct pread_session {
    const struct pread_store *store;
    uint8_t *block;
    char message[CUBBY_MESSAGE_BYTES];
};

static int open_store(const struct bench_place *place, void **store, char *message,
                      size_t message_size)
{
    struct pread_store *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return ENOMEM;
    }
    int status = home_blocks_open(place->path, &opened->homes, message, message_size);
    if (status != CUBBY_OK) {
        goto free_store;
    }
    int access = place->read_only ? O_RDONLY : O_RDWR;
    opened->fd = open(place->path, access | O_DIRECT | O_CLOEXEC);
    if (opened->fd < 0) {
        status = errno;
        snprintf(message, message_size, "%s cannot be opened past the page cache: %s", place->path,
                 cubby_status_text(status));
        goto close_homes;
    }
    *store = opened;
    return CUBBY_OK;

close_homes:
    home_blocks_close(&opened->homes);
free_store:
    free(opened);
    return status;
}

static int close_store(void *store)
{
    struct pread_store *opened = store;
    close(opened->fd);
    home_blocks_close(&opened->homes);
    free(opened);
    return CUBBY_OK;
}

static int open_session(void *store, void **session)
{
    struct pread_session *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return ENOMEM;
    }
    opened->store = store;
    opened->block = aligned_alloc(CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES);
    if (opened->block == NULL) {
        free(opened);
        return ENOMEM;
    }
    *session = opened;
    return CUBBY_OK;
}

static void close_session(void *session)
{
    struct pread_session *opened = session;
    free(opened->block);
    free(opened);
}

static const char *message_of(void *session)
{
    const struct pread_session *opened = session;
    return opened->message;
}

static int fail(struct pread_session *session, const char *what, uint64_t lba, ssize_t answer)
{
    int status = answer < 0 ? errno : EIO;
    snprintf(session->message, sizeof session->message, "%s LBA %llu failed: %s", what,
             (unsigned long long)lba, cubby_status_text(status));
    return status;
}

static int read_home(struct pread_session *session, const uint8_t *key, size_t key_size,
                     uint64_t *lba)
{
    const struct pread_store *store = session->store;
    *lba = home_blocks_lba(&store->homes, key, key_size);
    ssize_t answer =
        pread(store->fd, session->block, CUBBY_BLOCK_BYTES, (off_t)(*lba * CUBBY_BLOCK_BYTES));
    return answer == CUBBY_BLOCK_BYTES ? CUBBY_OK : fail(session, "reading", *lba, answer);
}

static int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    struct pread_session *opened = session;
    uint64_t lba;
    *value = (struct cubby_slice){opened->block, CUBBY_BLOCK_BYTES};
    return read_home(opened, key, key_size, &lba);
}

static int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    (void)value;
    (void)value_size;
    struct pread_session *opened = session;
    uint64_t lba;
    int status = read_home(opened, key, key_size, &lba);
    if (status != CUBBY_OK) {
        return status;
    }
    ssize_t answer = pwrite(opened->store->fd, opened->block, CUBBY_BLOCK_BYTES,
                            (off_t)(lba * CUBBY_BLOCK_BYTES));
    return answer == CUBBY_BLOCK_BYTES ? CUBBY_OK : fail(opened, "writing", lba, answer);
}

const struct bench_engine pread_engine = {
    .name = "pread",
    .open = open_store,
    .close = close_store,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get,
    .put = put,
};
