/* dirty_memory.h -- the Nibble that holds the store's pairs in memory, and those who append to it.
 *
 * Pairs stand in it under the hash of their key. Writers are few: each has chunks of the log open,
 * and a segment that one is of cannot be compacted.
 *
 * Thread-safe, but for opening and closing. Depends on: nibble.h.
 * Used by: dirty.c, dirty_marks.c, stat.c.
 */
#ifndef CUBBY_DIRTY_MEMORY_H
#define CUBBY_DIRTY_MEMORY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/key_hash.h"

struct nibble;
struct nibble_session;

enum {
    DIRTY_WRITERS = 8,
};

struct dirty_writer {
    pthread_mutex_t lock; /* guards what session appends; taken last, held while room is made */
    struct nibble_session *session; /* constant */
} __attribute__((aligned(64)));

struct dirty_memory {
    struct nibble *nibble; /* constant, as all else */
    struct dirty_writer *writers;
};

/* evicts: what is not dirty, where room is short. Returns CUBBY_OK or ENOMEM. dirty_memory_close is
 * allowed on a zeroed struct. */
int dirty_memory_open(struct dirty_memory *memory, uint64_t memory_bytes, bool evicts);
void dirty_memory_close(struct dirty_memory *memory);

/* Put a value that is dirty. There must be room for it once nobody has a chunk open. */
void dirty_memory_put(struct dirty_memory *memory, struct key_hash hash, const uint8_t *value,
                      size_t value_size);

/* Put one that is clean, if nothing has happened to the bucket since it had this version, nobody
 * else is at it, and there is room. */
void dirty_memory_admit(struct dirty_memory *memory, struct key_hash hash, const uint8_t *value,
                        size_t value_size, uint64_t version);

/* Bytes of its budget for something else, and back. Clean pairs make room for them. Returns
 * CUBBY_OK or ENOMEM. */
int dirty_memory_lend(struct dirty_memory *memory, uint64_t bytes);
void dirty_memory_reclaim(struct dirty_memory *memory, uint64_t bytes);

#endif
