/* durable_engine.h -- a key-value store as the benchmark of durability sees it: one interface to
 * CubbyDB and its peer.
 *
 * Depends on: cubby.h.   Used by: the other files of this folder.
 */
#ifndef CUBBY_BENCH_DURABLE_ENGINE_H
#define CUBBY_BENCH_DURABLE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cubby.h"

struct durable_place {
    const char *path;
    bool create; /* a new store; what was there is lost */
    enum cubby_durability durability;
    uint64_t buffer_bytes; /* memory for what is not in its place yet; 0: the default */
    uint32_t flush_us;     /* so long every flush takes; 0: as long as the device takes */
};

/* Statuses are those of cubby.h. */
struct durable_engine {
    const char *name;
    int (*open)(const struct durable_place *place, void **store, char *message,
                size_t message_size);
    int (*close)(void *store);
    int (*session_open)(void *store, void **session); /* one for each thread */
    void (*session_close)(void *session);
    const char *(*message)(void *session); /* of the last call that failed */
    int (*put)(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size);
    int (*settle)(void *session);                        /* until everything is in its place */
    int (*stat)(void *session, struct cubby_stat *stat); /* NULL: it has none */
};

/* The engine of a name: "cubby", or "rocksdb" where it was there at build time; else NULL. */
const struct durable_engine *durable_engine_find(const char *name);

extern const struct durable_engine cubby_durable;
extern const struct durable_engine *const rocks_durable; /* NULL: not built */

#endif
