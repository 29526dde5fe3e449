/* transfer.h -- how far one read or write has come, when the kernel moves it in parts.
 *
 * The kernel may move less than asked for. What is left is asked for again, from a block boundary
 * on (direct I/O takes no other place), until all has moved, an error comes, or nothing whole moves
 * any more: the end of a file that is shorter than it was.
 *
 * Pure: no I/O.   Depends on: cubby.h.   Used by: file_device.c, uring_queue.c.
 */
#ifndef CUBBY_TRANSFER_H
#define CUBBY_TRANSFER_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cubby.h"

enum {
    TRANSFER_BLOCKS_MAX = 1 << 18, /* 1 GiB in one call: a ring counts bytes in 32 bits */
    TRANSFER_STALLS_MAX = 16,      /* calls in a row that moved no whole block */
};

struct transfer {
    size_t block_count; /* to move in all */
    size_t done_blocks;
    unsigned stalls;
};

/* Bytes to ask for next. */
static inline uint32_t transfer_next_bytes(const struct transfer *transfer)
{
    size_t left_blocks = transfer->block_count - transfer->done_blocks;
    if (left_blocks > TRANSFER_BLOCKS_MAX) {
        left_blocks = TRANSFER_BLOCKS_MAX;
    }
    return (uint32_t)(left_blocks * CUBBY_BLOCK_BYTES);
}

/* Take in what a call answered: bytes moved, or a negative errno.
 * Returns true when the transfer has ended; *status is then 0 or an errno. */
static inline bool transfer_advance(struct transfer *transfer, int64_t answer, int *status)
{
    if (answer < 0 && answer != -EINTR && answer != -EAGAIN) {
        *status = (int)-answer;
        return true;
    }
    size_t moved_blocks = answer > 0 ? (size_t)answer / CUBBY_BLOCK_BYTES : 0;
    transfer->done_blocks += moved_blocks;
    if (transfer->done_blocks >= transfer->block_count) {
        *status = 0;
        return true;
    }
    transfer->stalls = moved_blocks > 0 ? 0 : transfer->stalls + 1;
    if (transfer->stalls > TRANSFER_STALLS_MAX) {
        *status = EIO;
        return true;
    }
    return false;
}

#endif
