/* device_cost.c -- see device_cost.h. */
#include "bench/durability/device_cost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/common/clock.h"
#include "bench/common/pairs.h"
#include "bench/engines/home_blocks.h"
#include "engine/cubby.h"

enum {
    PIECE_BYTES = 1 << 20,
    CLOCK_EVERY = 64, /* operations */
};

/* An operation on the descriptor. Returns 0 or an errno. */
struct device_loop;
typedef int device_step(struct device_loop *loop);

struct device_loop {
    int fd;
    uint8_t *buffer; /* PIECE_BYTES, aligned */
    device_step *step;
    const struct home_blocks *homes; /* rewrite */
    uint64_t pair_count;
    size_t key_bytes;
    uint8_t key[PAIRS_KEY_BYTES_MAX];
    uint64_t random;
    uint64_t offset; /* read */
    uint64_t end;
};

static int step_rewrite(struct device_loop *loop)
{
    pairs_set_key(loop->key, loop->key_bytes, pairs_next_below(&loop->random, loop->pair_count));
    off_t offset =
        (off_t)(home_blocks_lba(loop->homes, loop->key, loop->key_bytes) * CUBBY_BLOCK_BYTES);
    if (pread(loop->fd, loop->buffer, CUBBY_BLOCK_BYTES, offset) != CUBBY_BLOCK_BYTES ||
        pwrite(loop->fd, loop->buffer, CUBBY_BLOCK_BYTES, offset) != CUBBY_BLOCK_BYTES) {
        return errno != 0 ? errno : EIO;
    }
    return 0;
}

static int step_read(struct device_loop *loop)
{
    uint64_t left = loop->end - loop->offset;
    size_t size = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
    if (pread(loop->fd, loop->buffer, size, (off_t)loop->offset) != (ssize_t)size) {
        return errno != 0 ? errno : EIO;
    }
    loop->offset += size;
    return 0;
}

/* Step until the time or the bytes are used up. */
static int run_loop(struct device_loop *loop, const char *path, double seconds,
                    struct device_cost *cost, char *message, size_t message_size)
{
    int status = 0;
    *cost = (struct device_cost){0};
    loop->buffer = aligned_alloc(CUBBY_BLOCK_BYTES, PIECE_BYTES);
    loop->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (loop->fd < 0 || loop->buffer == NULL) {
        status = loop->fd < 0 ? errno : ENOMEM;
    } else {
        uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
        uint64_t now_ns = begin_ns;
        while (status == 0 && loop->offset < loop->end &&
               (double)(now_ns - begin_ns) < seconds * 1e9) {
            errno = 0;
            status = loop->step(loop);
            cost->operations += status == 0;
            now_ns = cost->operations % CLOCK_EVERY == 0 ? clock_ns(CLOCK_MONOTONIC) : now_ns;
        }
        cost->seconds = (double)(clock_ns(CLOCK_MONOTONIC) - begin_ns) / 1e9;
        cost->cpu_seconds = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns) / 1e9;
    }
    if (status != 0) {
        snprintf(message, message_size, "%s: %s", path, cubby_status_text(status));
    }
    if (loop->fd >= 0) {
        close(loop->fd);
    }
    free(loop->buffer);
    return status;
}

int device_cost_rewrite(const char *path, uint64_t pair_count, size_t key_bytes, uint64_t seed,
                        double seconds, struct device_cost *cost, char *message,
                        size_t message_size)
{
    struct home_blocks homes;
    int status = home_blocks_open(path, &homes, message, message_size);
    if (status != CUBBY_OK) {
        return status;
    }
    struct device_loop loop = {
        .step = step_rewrite,
        .homes = &homes,
        .pair_count = pair_count,
        .key_bytes = key_bytes,
        .random = seed,
        .end = UINT64_MAX,
    };
    pairs_init_key(loop.key, key_bytes);
    status = run_loop(&loop, path, seconds, cost, message, message_size);
    home_blocks_close(&homes);
    return status;
}

int device_cost_read(const char *path, uint64_t offset, uint64_t size, struct device_cost *cost,
                     char *message, size_t message_size)
{
    struct device_loop loop = {.step = step_read, .offset = offset, .end = offset + size};
    return run_loop(&loop, path, 1e9, cost, message, message_size);
}
