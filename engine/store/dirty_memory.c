/* dirty_memory.c -- see dirty_memory.h. */
#include "engine/store/dirty_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/nibble/nibble.h"

enum {
    CHUNKS = 4096, /* that the memory has; each writer fills two or three at a time */
    CHUNK_BYTES_MIN = 4 << 10,
    CHUNK_BYTES_MAX = 64 << 10,
    PUT_TRIES = 16, /* and of lending */
};

/* The hash that Nibble is given stands in the key, too: it is the key. */
static struct key_hash hash_of_hash(const uint8_t *key, size_t key_size, uint64_t seed)
{
    struct key_hash hash;
    CUBBY_ASSERT(key_size == sizeof hash);
    (void)seed;
    memcpy(&hash, key, sizeof hash);
    return hash;
}

int dirty_memory_open(struct dirty_memory *memory, uint64_t memory_bytes, bool evicts)
{
    struct nibble_options options = {
        .memory_bytes = memory_bytes,
        .block_bytes = CHUNK_BYTES_MIN,
        .node_count = 1, /* a session appends to one node, whatever thread puts */
        .hash = hash_of_hash,
        .evicts = evicts,
    };
    while (options.block_bytes < CHUNK_BYTES_MAX && options.block_bytes * CHUNKS < memory_bytes) {
        options.block_bytes *= 2;
    }
    char message[CUBBY_MESSAGE_BYTES];
    *memory = (struct dirty_memory){0};
    memory->writers = aligned_alloc(64, DIRTY_WRITERS * sizeof *memory->writers);
    if (memory->writers == NULL) {
        return ENOMEM;
    }
    for (size_t i = 0; i < DIRTY_WRITERS; i++) {
        memory->writers[i] = (struct dirty_writer){0};
        pthread_mutex_init(&memory->writers[i].lock, NULL);
    }
    int status = nibble_open(&options, &memory->nibble, message, sizeof message);
    for (size_t i = 0; i < DIRTY_WRITERS && status == CUBBY_OK; i++) {
        status = nibble_session_open(memory->nibble, 0, &memory->writers[i].session);
    }
    if (status != CUBBY_OK) {
        dirty_memory_close(memory);
        return ENOMEM;
    }
    return CUBBY_OK;
}

void dirty_memory_close(struct dirty_memory *memory)
{
    for (size_t i = 0; memory->writers != NULL && i < DIRTY_WRITERS; i++) {
        if (memory->writers[i].session != NULL) {
            nibble_session_close(memory->writers[i].session);
        }
        pthread_mutex_destroy(&memory->writers[i].lock);
    }
    if (memory->nibble != NULL) {
        nibble_close(memory->nibble);
    }
    free(memory->writers);
    *memory = (struct dirty_memory){0};
}

static struct dirty_writer *writer_of(const struct dirty_memory *memory, struct key_hash hash)
{
    return &memory->writers[hash.low % DIRTY_WRITERS];
}

/* Have no writer keep a segment from being compacted. */
static void release_chunks(struct dirty_memory *memory)
{
    for (size_t i = 0; i < DIRTY_WRITERS; i++) {
        pthread_mutex_lock(&memory->writers[i].lock);
        nibble_session_release(memory->writers[i].session);
        pthread_mutex_unlock(&memory->writers[i].lock);
    }
}

void dirty_memory_put(struct dirty_memory *memory, struct key_hash hash, const uint8_t *value,
                      size_t value_size)
{
    const struct nibble_key key = {(const uint8_t *)&hash, sizeof hash, hash};
    struct dirty_writer *writer = writer_of(memory, hash);
    int status = CUBBY_FULL;
    for (int i = 0; i < PUT_TRIES && status == CUBBY_FULL; i++) {
        if (i > 0) {
            release_chunks(memory);
        }
        pthread_mutex_lock(&writer->lock);
        status =
            nibble_put(writer->session, &key, value, value_size, OBJECT_DIRTY, NIBBLE_ALWAYS, 0);
        pthread_mutex_unlock(&writer->lock);
    }
    CUBBY_ASSERT(status == CUBBY_OK);
}

void dirty_memory_admit(struct dirty_memory *memory, struct key_hash hash, const uint8_t *value,
                        size_t value_size, uint64_t version)
{
    const struct nibble_key key = {(const uint8_t *)&hash, sizeof hash, hash};
    struct dirty_writer *writer = writer_of(memory, hash);
    if (pthread_mutex_trylock(&writer->lock) == 0) {
        (void)nibble_put(writer->session, &key, value, value_size, 0, NIBBLE_IF_VERSION, version);
        pthread_mutex_unlock(&writer->lock);
    }
}

int dirty_memory_lend(struct dirty_memory *memory, uint64_t bytes)
{
    struct dirty_writer *writer = &memory->writers[0];
    int status = CUBBY_FULL;
    for (int i = 0; i < PUT_TRIES && status == CUBBY_FULL; i++) {
        if (i > 0) {
            release_chunks(memory);
        }
        pthread_mutex_lock(&writer->lock);
        status = nibble_lend(writer->session, bytes);
        pthread_mutex_unlock(&writer->lock);
    }
    return status == CUBBY_OK ? CUBBY_OK : ENOMEM;
}

void dirty_memory_reclaim(struct dirty_memory *memory, uint64_t bytes)
{
    nibble_reclaim(memory->nibble, bytes);
}
