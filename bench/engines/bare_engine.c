/* bare_engine.c -- the memory accesses that a table of pairs cannot do without, and nothing else:
 * one cache line that says where a pair is, and the pair. What a get or put costs here is what the
 * machine allows.
 *
 *   lines[hash(key)]  offset of the object, alone in a cache line      objects   key, then value
 *
 * Keys have 8 bytes, and are 0 to pair_count - 1; all values have the size that pair_bytes leaves
 * for them; each pair is put before it is got. The hash is a permutation of the keys, so that
 * nothing has to be searched for. To delete a pair is to look at its key and forget its line.
 *
 * Thread-safe as far as the drivers need it: what two threads put at once for one key may be mixed.
 *
 * Depends on: bench_engine.h.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/engines/bench_engine.h"

enum {
    LINE_BYTES = 64,
    KEY_BYTES = 8,
    BATCH_MAX = 1024, /* keys of one get_many */
    HUGE_PAGE_BYTES = 2 << 20,
};

struct line {
    uint64_t offset;
    uint8_t unused[LINE_BYTES - 8];
};

struct bare {
    struct line *lines;
    uint8_t *objects;
    uint64_t mask; /* of a power of two of lines */
    uint64_t pair_count;
    size_t object_bytes;
    size_t value_bytes;
    size_t lines_bytes; /* as mapped, likewise the next one */
    size_t objects_bytes;
};

struct session {
    struct bare *bare;
    uint8_t values[];
};

static void *map(size_t *bytes)
{
    *bytes = (*bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    void *memory = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(memory, *bytes, MADV_HUGEPAGE);
    return memory;
}

static int close_bare(void *store)
{
    struct bare *bare = store;
    if (bare->lines != NULL) {
        munmap(bare->lines, bare->lines_bytes);
    }
    if (bare->objects != NULL) {
        munmap(bare->objects, bare->objects_bytes);
    }
    free(bare);
    return CUBBY_OK;
}

static int open_bare(const struct bench_place *place, void **store, char *message,
                     size_t message_size)
{
    (void)message;
    (void)message_size;
    struct bare *bare = calloc(1, sizeof *bare);
    if (bare == NULL) {
        return ENOMEM;
    }
    uint64_t count = 1;
    while (count < place->pair_count) {
        count *= 2;
    }
    bare->mask = count - 1;
    bare->pair_count = place->pair_count;
    bare->value_bytes = place->pair_bytes - KEY_BYTES;
    bare->object_bytes = (place->pair_bytes + 7) / 8 * 8;
    bare->lines_bytes = count * LINE_BYTES;
    bare->objects_bytes = place->pair_count * bare->object_bytes;
    bare->lines = map(&bare->lines_bytes);
    bare->objects = map(&bare->objects_bytes);
    if (bare->lines == NULL || bare->objects == NULL) {
        close_bare(bare);
        return ENOMEM;
    }
    *store = bare;
    return CUBBY_OK;
}

static int open_session(void *store, void **opened)
{
    struct bare *bare = store;
    struct session *session = malloc(sizeof *session + BATCH_MAX * bare->value_bytes);
    if (session == NULL) {
        return ENOMEM;
    }
    session->bare = bare;
    *opened = session;
    return CUBBY_OK;
}

static void close_session(void *session)
{
    free(session);
}

static const char *message_of(void *session)
{
    (void)session;
    return "";
}

static uint64_t number_of(const uint8_t *key)
{
    uint64_t number;
    memcpy(&number, key, sizeof number);
    return number;
}

static struct line *line_of(const struct bare *bare, uint64_t number)
{
    /* An odd factor makes a permutation of the numbers below a power of two. */
    return &bare->lines[number * 0x9e3779b97f4a7c15 & bare->mask];
}

static int get(void *opened, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    struct session *session = opened;
    const struct bare *bare = session->bare;
    (void)key_size;
    const uint8_t *object = bare->objects + line_of(bare, number_of(key))->offset;
    memcpy(session->values, object + KEY_BYTES, bare->value_bytes);
    *value = (struct cubby_slice){session->values, bare->value_bytes};
    return CUBBY_OK;
}

static int put(void *opened, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    struct session *session = opened;
    const struct bare *bare = session->bare;
    uint64_t number = number_of(key);
    if (value_size != bare->value_bytes || number >= bare->pair_count) {
        return CUBBY_BAD_ARGUMENT;
    }
    struct line *line = line_of(bare, number);
    uint8_t *object = bare->objects + line->offset;
    if (line->unused[0] == 0) { /* the first time */
        line->offset = number * bare->object_bytes;
        line->unused[0] = 1;
        object = bare->objects + line->offset;
        memcpy(object, key, key_size);
    }
    memcpy(object + KEY_BYTES, value, value_size);
    return CUBBY_OK;
}

static int delete_pair(void *opened, const uint8_t *key, size_t key_size)
{
    struct session *session = opened;
    const struct bare *bare = session->bare;
    struct line *line = line_of(bare, number_of(key));
    if (line->unused[0] == 0 || memcmp(bare->objects + line->offset, key, key_size) != 0) {
        return CUBBY_NOT_FOUND;
    }
    line->unused[0] = 0;
    return CUBBY_OK;
}

static int get_many(void *opened, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    struct cubby_slice *values, size_t *value_sizes)
{
    struct session *session = opened;
    const struct bare *bare = session->bare;
    (void)key_sizes;
    for (size_t i = 0; i < count; i++) {
        __builtin_prefetch(line_of(bare, number_of(keys + i * KEY_BYTES)));
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *object =
            bare->objects + line_of(bare, number_of(keys + i * KEY_BYTES))->offset;
        for (size_t at = 0; at < bare->object_bytes; at += LINE_BYTES) {
            __builtin_prefetch(object + at);
        }
        __builtin_prefetch(object + bare->object_bytes - 1);
    }
    uint8_t *to = session->values;
    for (size_t i = 0; i < count; i++, to += bare->value_bytes) {
        struct line *line = line_of(bare, number_of(keys + i * KEY_BYTES));
        memcpy(to, bare->objects + line->offset + KEY_BYTES, bare->value_bytes);
        value_sizes[i] = bare->value_bytes;
    }
    *values = (struct cubby_slice){session->values, count * bare->value_bytes};
    return CUBBY_OK;
}

const struct bench_engine bare_engine = {
    .name = "bare",
    .holds_values = true,
    .open = open_bare,
    .close = close_bare,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get,
    .put = put,
    .delete_pair = delete_pair,
    .get_many = get_many,
};
