/* pread_engine.c -- the physical limit of a get: one 4 KiB O_DIRECT read of the key's home block,
 * not checked, not searched.
 *
 * Works on a store that cubby has loaded and closed. Nothing is read from blocks that were never
 * written: those cost a device nothing.
 *
 * Depends on: bench_engine.h, home_blocks.h.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/ycsb/bench_engine.h"
#include "bench/ycsb/home_blocks.h"

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
    opened->fd = open(place->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
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

static int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    struct pread_session *opened = session;
    const struct pread_store *store = opened->store;
    uint64_t lba = home_blocks_lba(&store->homes, key, key_size);
    ssize_t answer =
        pread(store->fd, opened->block, CUBBY_BLOCK_BYTES, (off_t)(lba * CUBBY_BLOCK_BYTES));
    if (answer != CUBBY_BLOCK_BYTES) {
        int status = answer < 0 ? errno : EIO;
        snprintf(opened->message, sizeof opened->message, "reading LBA %llu failed: %s",
                 (unsigned long long)lba, cubby_status_text(status));
        return status;
    }
    *value = (struct cubby_slice){opened->block, CUBBY_BLOCK_BYTES};
    return CUBBY_OK;
}

const struct bench_engine pread_engine = {
    .name = "pread",
    .open = open_store,
    .close = close_store,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get,
};
