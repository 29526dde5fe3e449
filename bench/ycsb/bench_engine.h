/* bench_engine.h -- what the driver measures, behind one struct of functions: the store, its peers,
 * and the limits to compare it with.
 *
 *   cubby   the store, through cubby.h
 *   pread   one 4 KiB O_DIRECT read of the home block that the store would read, and no more: what
 *           the device allows a get to be
 *   null    nothing: what the driver itself costs
 *
 * A peer is one more file with one more constant of this type, listed in bench_engine.c.
 *
 * A function that an engine lacks is NULL. Statuses are those of cubby.h; message tells about the
 * last failure in words.
 *
 * Depends on: cubby.h.   Used by: driver.c, workload.c.
 */
#ifndef CUBBY_BENCH_ENGINE_H
#define CUBBY_BENCH_ENGINE_H

#include <stdbool.h>

#include "engine/cubby.h"

/* How the store is to be opened. */
struct bench_place {
    const char *path;
    bool create;           /* anew, losing what was there */
    bool read_only;        /* if it is not created */
    uint32_t fill_percent; /* 0: the engine's default */
    uint64_t pair_count;
    uint64_t pair_bytes; /* of each, key and value */
};

struct bench_engine {
    const char *name;
    bool holds_values; /* what get returns is what was put */

    int (*open)(const struct bench_place *place, void **store, char *message, size_t message_size);
    int (*close)(void *store);
    /* One per thread, opened, used and closed by it. */
    int (*session_open)(void *store, void **session);
    void (*session_close)(void *session);
    const char *(*message)(void *session);

    int (*get)(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value);
    int (*put)(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size);
    /* As cubby_get_many and cubby_put_many. */
    int (*get_many)(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    struct cubby_slice *values, size_t *value_sizes);
    int (*put_many)(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    const uint8_t *values, const size_t *value_sizes);
    int (*sync)(void *session);
    int (*stat)(void *session, struct cubby_stat *stat);
};

extern const struct bench_engine cubby_engine;
extern const struct bench_engine pread_engine;
extern const struct bench_engine null_engine;

/* The engine of a name, or NULL. */
const struct bench_engine *bench_engine_find(const char *name);

#endif
