/* flat.c -- a hash table of numbers, written for this comparison: as little as a map without an
 * order can do. And the sorted array, the least that one with an order can take.
 *
 *   flat    a power of two of nodes of 16 bytes, half as many again as there will be keys or more;
 *           a key is at its hash's node, or in the first free one behind it. A value of 0 says that
 *           a node is free (no key has that value, see keys.h). Nothing is ever resized
 *   array   keys, and their values, in order
 *
 * Any threads may get from flat, and put other values for keys that are there: values are read and
 * written whole.
 *
 * Depends on: maps.h, sort.h.   Used by: maps.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/ordered/maps.h"
#include "bench/ordered/sort.h"

struct node {
    uint64_t key;
    uint64_t value; /* 0: free */
};

struct flat {
    struct node *nodes;
    uint64_t mask; /* of a power of two of nodes */
    size_t bytes;
};

struct array {
    uint64_t *keys;
    uint64_t *values;
    size_t count;
};

/* Memory on huge pages that has been touched already; NULL where there is none. */
static void *map_touched(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 0, bytes);
    return memory;
}

static int open_flat(const struct keys *keys, size_t count, void **opened)
{
    (void)keys;
    struct flat *flat = calloc(1, sizeof *flat);
    if (flat == NULL) {
        return ENOMEM;
    }
    uint64_t nodes = 1;
    while (nodes < count + count / 2) {
        nodes *= 2;
    }
    flat->mask = nodes - 1;
    flat->bytes = nodes * sizeof *flat->nodes;
    flat->nodes = map_touched(flat->bytes);
    if (flat->nodes == NULL) {
        free(flat);
        return ENOMEM;
    }
    *opened = flat;
    return CUBBY_OK;
}

static void close_flat(void *opened)
{
    struct flat *flat = opened;
    munmap(flat->nodes, flat->bytes);
    free(flat);
}

/* One multiplication, and the upper bits brought down, which all bits of the key have a part in. */
static uint64_t hash_of(uint64_t key)
{
    uint64_t product = key * UINT64_C(0x9e3779b97f4a7c15);
    return product ^ product >> 32;
}

static uint64_t value_in(const struct node *node)
{
    return __atomic_load_n(&node->value, __ATOMIC_RELAXED);
}

/* The key's node, or the free one where it is to be put. */
static struct node *node_of(const struct flat *flat, uint64_t key)
{
    uint64_t at = hash_of(key) & flat->mask;
    while (value_in(&flat->nodes[at]) != 0 && flat->nodes[at].key != key) {
        at = (at + 1) & flat->mask;
    }
    return &flat->nodes[at];
}

static int put_flat(void *session, const uint64_t *keys, size_t count)
{
    const struct flat *flat = session;
    for (size_t i = 0; i < count; i++) {
        struct node *node = node_of(flat, keys[i]);
        if (value_in(node) == 0) {
            node->key = keys[i];
        }
        __atomic_store_n(&node->value, keys_value(keys[i]), __ATOMIC_RELAXED);
    }
    return CUBBY_OK;
}

static size_t get_flat(void *session, const uint64_t *keys, size_t count, size_t *wrong)
{
    const struct flat *flat = session;
    size_t found = 0;
    *wrong = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t value = value_in(node_of(flat, keys[i]));
        if (value != 0) {
            found++;
            *wrong += value != keys_value(keys[i]);
        }
    }
    return found;
}

static void sort_flat(void *session, uint64_t *keys, uint64_t *spare)
{
    const struct flat *flat = session;
    size_t count = 0;
    for (uint64_t i = 0; i <= flat->mask; i++) {
        if (value_in(&flat->nodes[i]) != 0) {
            keys[count++] = flat->nodes[i].key;
        }
    }
    sort_numbers(keys, spare, count);
}

static uint64_t bytes_of_flat(void *opened)
{
    const struct flat *flat = opened;
    return flat->bytes;
}

const struct number_map flat_map = {
    .name = "flat",
    .pages = "huge (madvise), touched before",
    .open = open_flat,
    .close = close_flat,
    .put = put_flat,
    .get = get_flat,
    .sort = sort_flat,
    .memory_bytes = bytes_of_flat,
};

static uint64_t bytes_of_array(void *opened)
{
    const struct array *array = opened;
    return array->count * 2 * sizeof(uint64_t);
}

static void close_array(void *opened)
{
    struct array *array = opened;
    munmap(array->keys, bytes_of_array(array));
    free(array);
}

static int open_array(const struct keys *keys, size_t count, void **opened)
{
    struct array *array = calloc(1, sizeof *array);
    if (array == NULL || keys == NULL) {
        free(array);
        return ENOMEM;
    }
    array->count = count;
    array->keys = map_touched(bytes_of_array(array));
    if (array->keys == NULL) {
        free(array);
        return ENOMEM;
    }
    array->values = array->keys + count;
    memcpy(array->keys, keys->sorted, count * sizeof *array->keys);
    for (size_t i = 0; i < count; i++) {
        array->values[i] = keys_value(array->keys[i]);
    }
    *opened = array;
    return CUBBY_OK;
}

/* Of the first key that is not below another one; without branches that are hard to foresee. */
static size_t place_in(const struct array *array, uint64_t key)
{
    const uint64_t *from = array->keys;
    size_t left = array->count;
    while (left > 1) {
        size_t half = left / 2;
        from += from[half - 1] < key ? half : 0;
        left -= half;
    }
    return (size_t)(from - array->keys) + (*from < key);
}

static size_t get_array(void *session, const uint64_t *keys, size_t count, size_t *wrong)
{
    const struct array *array = session;
    size_t found = 0;
    *wrong = 0;
    for (size_t i = 0; i < count; i++) {
        size_t at = place_in(array, keys[i]);
        if (at < array->count && array->keys[at] == keys[i]) {
            found++;
            *wrong += array->values[at] != keys_value(keys[i]);
        }
    }
    return found;
}

static size_t range_array(void *session, uint64_t first, size_t limit, uint64_t *keys,
                          uint64_t *values)
{
    const struct array *array = session;
    size_t at = place_in(array, first);
    size_t count = array->count - at < limit ? array->count - at : limit;
    memcpy(keys, array->keys + at, count * sizeof *keys);
    memcpy(values, array->values + at, count * sizeof *values);
    return count;
}

static struct map_sum scan_array(void *session)
{
    const struct array *array = session;
    struct map_sum sum = {0};
    uint64_t last = 0;
    for (size_t i = 0; i < array->count; i++) {
        map_sum_add(&sum, array->keys[i], array->values[i], &last);
    }
    return sum;
}

const struct number_map array_map = {
    .name = "array",
    .pages = "huge (madvise), touched before",
    .open = open_array,
    .close = close_array,
    .get = get_array,
    .range = range_array,
    .scan = scan_array,
    .memory_bytes = bytes_of_array,
};
