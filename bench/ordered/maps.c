/* maps.c -- the list of maps, and the two that keep nothing. */
#include "bench/ordered/maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A map, or what to install for it. */
struct entry {
    const char *name;
    const struct number_map *map; /* NULL: not built */
    const char *absence;
};

static const struct entry entries[] = {
    {"volimap", &volimap_map, NULL},
    {"volimap-array", &volimap_array_map, NULL},
#ifdef BENCH_ABSL
    {"btree", &btree_map, NULL},
#else
    {"btree", NULL, "the driver was built without absl::btree_map (Debian package: libabsl-dev)"},
#endif
#ifdef BENCH_PEERS
    {"map", &std_map, NULL},
#else
    {"map", NULL, "the driver was built without a C++ compiler (Debian package: g++)"},
#endif
    {"array", &array_map, NULL},
    {"flat", &flat_map, NULL},
#ifdef BENCH_LIBCUCKOO
    {"libcuckoo", &libcuckoo_map, NULL},
#else
    {"libcuckoo", NULL, "the driver was built without libcuckoo (Debian package: libcuckoo-dev)"},
#endif
    {"touch", &touch_map, NULL},
    {"null", &null_map, NULL},
};

enum {
    ENTRIES = sizeof entries / sizeof *entries,
};

const struct number_map *maps_at(size_t number)
{
    size_t built = 0;
    for (size_t i = 0; i < ENTRIES; i++) {
        if (entries[i].map != NULL && built++ == number) {
            return entries[i].map;
        }
    }
    return NULL;
}

const struct number_map *maps_find(const char *name, const char **absence)
{
    *absence = NULL;
    for (size_t i = 0; i < ENTRIES; i++) {
        if (strcmp(entries[i].name, name) == 0) {
            *absence = entries[i].absence;
            return entries[i].map;
        }
    }
    return NULL;
}

static int open_nothing(const struct keys *keys, size_t count, void **opened)
{
    (void)keys;
    (void)count;
    *opened = NULL;
    return CUBBY_OK;
}

static void close_nothing(void *opened)
{
    (void)opened;
}

static int put_nothing(void *session, const uint64_t *keys, size_t count)
{
    (void)session;
    (void)keys;
    (void)count;
    return CUBBY_OK;
}

const struct number_map null_map = {
    .name = "null",
    .pages = "none",
    .open = open_nothing,
    .close = close_nothing,
    .put = put_nothing,
};

struct pair {
    uint64_t key;
    uint64_t value;
};

struct touch {
    struct pair *pairs;
    size_t count;
    size_t bytes;
};

static int open_touch(const struct keys *keys, size_t count, void **opened)
{
    (void)keys;
    struct touch *touch = calloc(1, sizeof *touch);
    if (touch == NULL) {
        return ENOMEM;
    }
    touch->bytes = count * sizeof *touch->pairs;
    touch->pairs =
        mmap(NULL, touch->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (touch->pairs == MAP_FAILED) {
        free(touch);
        return ENOMEM;
    }
    (void)madvise(touch->pairs, touch->bytes, MADV_HUGEPAGE);
    *opened = touch;
    return CUBBY_OK;
}

static void close_touch(void *opened)
{
    struct touch *touch = opened;
    munmap(touch->pairs, touch->bytes);
    free(touch);
}

static int put_touch(void *session, const uint64_t *keys, size_t count)
{
    struct touch *touch = session;
    for (size_t i = 0; i < count; i++) {
        touch->pairs[touch->count++] = (struct pair){keys[i], keys_value(keys[i])};
    }
    return CUBBY_OK;
}

const struct number_map touch_map = {
    .name = "touch",
    .pages = "huge (madvise)",
    .open = open_touch,
    .close = close_touch,
    .put = put_touch,
};
