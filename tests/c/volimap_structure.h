/* volimap_structure.h -- a map taken apart: every directory and page, and whether each is what
 * engine/volimap/object.h says. Nobody else may be at work in it.
 *
 * Depends on: volimap_fixture.h.   Used by: test_volimap*.c.
 */
#ifndef CUBBY_VOLIMAP_STRUCTURE_H
#define CUBBY_VOLIMAP_STRUCTURE_H

#include <stdio.h>

#include "tests/c/volimap_fixture.h"

enum structure_frozen {
    FROZEN_NONE, /* where one thread has been at work, and memory has not run out */
    FROZEN_SOME, /* a change that came to nothing may have left something frozen */
};

/* What there is. */
struct volimap_structure {
    uint64_t pairs;
    uint64_t removed;
    uint64_t pages;
    uint64_t crowded;
    uint64_t directories;
    uint64_t page_bytes;
    uint64_t directory_bytes;
    uint64_t frozen; /* objects */
};

/* A node must be where page_get would find its key, and no other node before it may have the key.
 */
static inline void structure_check_node(const struct object *page, unsigned index)
{
    const struct node *nodes = object_nodes(page);
    const uint64_t high = page->prefix & ~key_mask(ROOT_ENTRY_BITS);
    uint64_t word = nodes[index].word & ~(uint64_t)NODE_FROZEN;
    uint64_t key = high | word >> NODE_STATE_BITS;
    CHECK(object_has(page, key));
    CHECK((word & NODE_STATES) == NODE_LIVE || (word & NODE_STATES) == NODE_REMOVED);
    if (page_is_exact(page)) {
        CHECK_EQUAL(index, key & (PAGE_NODES_MAX - 1));
        return;
    }
    unsigned lines = page->lines;
    unsigned line = page_home_line(key, lines);
    CHECK(line < lines);
    bool is_reached = false;
    for (unsigned i = 0; i < lines; i++) {
        bool is_last = index / LINE_NODES == line;
        is_reached = is_reached || is_last;
        for (unsigned at = line * LINE_NODES; at < (line + 1) * LINE_NODES; at++) {
            uint64_t other = nodes[at].word & ~(uint64_t)NODE_FROZEN;
            CHECK(other != 0 || is_reached);   /* or it would not be found */
            CHECK(at == index || other == 0 || /* or it would be there twice */
                  ((other ^ word) & ~(uint64_t)NODE_STATES) != 0);
        }
        line = line + 1 < lines ? line + 1 : 0;
    }
}

static inline void structure_check_page(const struct object *page, struct volimap_structure *sum)
{
    CHECK(page->lines <= PAGE_LINES_MAX && page->lines % LINES_STEP == 0);
    CHECK(!page->is_crowded || page->lines == PAGE_LINES_MAX);
    unsigned removed = 0;
    unsigned frozen = 0;
    for (unsigned i = 0; i < page->lines * (unsigned)LINE_NODES; i++) {
        uint64_t word = object_nodes(page)[i].word;
        frozen += (word & NODE_FROZEN) != 0;
        if ((word & ~(uint64_t)NODE_FROZEN) == 0) {
            CHECK_EQUAL(object_nodes(page)[i].value, 0);
            continue;
        }
        structure_check_node(page, i);
        removed += (word & NODE_REMOVED) != 0;
        sum->pairs += (word & NODE_LIVE) != 0;
    }
    CHECK_EQUAL(atomic_load(&page->removed), removed);
    sum->removed += removed;
    sum->pages++;
    sum->crowded += page->is_crowded;
    sum->page_bytes += OBJECT_HEADER_BYTES + page->lines * (unsigned)LINE_NODES * NODE_BYTES;
    sum->frozen += frozen > 0;
}

/* Directories that have yet to be looked at. */
struct structure_list {
    const struct object **objects;
    size_t count;
    size_t capacity;
};

/* An entry that stands for 2^bits keys from first on. */
static inline void structure_check_entry(uint64_t entry, uint64_t first, unsigned bits,
                                         struct structure_list *list, struct volimap_structure *sum)
{
    const struct object *object = entry_object(entry);
    CHECK(object != NULL);
    CHECK_EQUAL(entry & ~ENTRY_FROZEN, entry_make(object));
    CHECK(atomic_load(&object->change) == NULL);
    CHECK(object->bits <= ROOT_ENTRY_BITS && (object->prefix & key_mask(object->bits)) == 0);
    CHECK_EQUAL((entry & ENTRY_DIRECTORY) != 0, object->is_directory);
    if (!object->is_directory) {
        CHECK(object->bits >= bits && object_has(object, first));
        structure_check_page(object, sum);
        return;
    }
    CHECK(object->bits <= bits && (object->prefix ^ first) >> bits == 0);
    if (list->count == list->capacity) {
        list->capacity = 2 * list->capacity + 64;
        list->objects = realloc(list->objects, list->capacity * sizeof *list->objects);
        CHECK(list->objects != NULL);
    }
    list->objects[list->count++] = object;
}

static inline void structure_check_directory(const struct object *directory,
                                             struct structure_list *list,
                                             struct volimap_structure *sum)
{
    unsigned window = window_of(directory->bits - 1u);
    unsigned bits = directory_entry_bits(directory);
    CHECK_EQUAL(directory->bits, window_end(window));
    CHECK(directory->depth >= 1 && bits >= window);
    size_t count = (size_t)1 << directory->depth;
    const _Atomic uint64_t *entries = object_entries(directory);
    unsigned frozen = 0;
    for (size_t i = 0; i < count;) {
        uint64_t entry = atomic_load(&entries[i]);
        uint64_t first = directory->prefix + ((uint64_t)i << bits);
        structure_check_entry(entry, first, bits, list, sum);
        frozen += (entry & ENTRY_FROZEN) != 0;
        const struct object *object = entry_object(entry);
        if (object->is_directory) {
            i++;
            continue;
        }
        /* All of a page's entries are here, from the first one on, and are the same. */
        CHECK(object->prefix == first && object->bits <= directory->bits);
        size_t end = i + ((size_t)1 << (object->bits - bits));
        CHECK(end <= count);
        for (; i < end; i++) {
            CHECK_EQUAL((atomic_load(&entries[i]) ^ entry) & ~ENTRY_FROZEN, 0);
        }
    }
    sum->directories++;
    size_t units = 1 + (count * sizeof(uint64_t) + ARENA_UNIT_BYTES - 1) / ARENA_UNIT_BYTES;
    sum->directory_bytes += units * ARENA_UNIT_BYTES;
    sum->frozen += frozen > 0;
}

/* Check all of a map, also what it says of itself. *sum: NULL, or set. */
static inline void volimap_check_structure(cubby_volimap *map, enum structure_frozen frozen,
                                           struct volimap_structure *sum)
{
    struct volimap_structure own = {0};
    struct structure_list list = {0};
    for (uint64_t i = 0; i < ROOT_ENTRIES; i++) {
        uint64_t entry = atomic_load(&map->map.root[i]);
        if (entry != 0) {
            CHECK((entry & ENTRY_FROZEN) == 0);
            CHECK((entry & ENTRY_DIRECTORY) != 0 || entry_object(entry)->bits == ROOT_ENTRY_BITS);
            structure_check_entry(entry, i << ROOT_ENTRY_BITS, ROOT_ENTRY_BITS, &list, &own);
        }
    }
    while (list.count > 0) {
        structure_check_directory(list.objects[--list.count], &list, &own);
    }
    free(list.objects);
    CHECK(frozen == FROZEN_SOME || own.frozen == 0);

    struct cubby_volimap_stat stat;
    cubby_volimap_stat(map, &stat);
    CHECK_EQUAL(stat.pairs, own.pairs);
    CHECK_EQUAL(cubby_volimap_count(map), own.pairs);
    CHECK_EQUAL(stat.pages, own.pages);
    CHECK_EQUAL(stat.directory_nodes, own.directories);
    CHECK_EQUAL(stat.page_bytes, own.page_bytes);
    CHECK_EQUAL(stat.directory_bytes, own.directory_bytes);
    CHECK(stat.memory_bytes >=
          own.page_bytes + own.directory_bytes + stat.retired_bytes + stat.spare_bytes);
    if (sum != NULL) {
        *sum = own;
    }
}

#endif
