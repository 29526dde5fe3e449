/* gets.c -- looking keys up; see volimap.h for why it is built twice.
 *
 * Depends on: volimap.h.   Used by: volimap.c, and gets_x86_64_v3.c, which includes it.
 */
#include <stddef.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/volimap/volimap.h"

#ifndef VOLIMAP_GETS
#define VOLIMAP_GETS volimap_gets
#endif

static int get(struct volimap_session *session, uint64_t key, uint64_t *value)
{
    return volimap_get(session, key, value) ? CUBBY_OK : CUBBY_NOT_FOUND;
}

/* Find the pages of some keys, and have the nodes that are looked at first come nearer. */
static void find_pages(const struct volimap *map, unsigned count, const uint64_t *keys,
                       uint64_t *pages)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t page = volimap_find_page(map, keys[i]);
        unsigned line = page_home_line(keys[i], entry_lines(page));
        struct node *nodes = object_nodes(entry_object(page));
        __builtin_prefetch((page & ENTRY_EXACT) != 0 ? page_exact_node(nodes, keys[i])
                                                     : &nodes[line * LINE_NODES]);
        pages[i] = page;
    }
}

static void get_many(struct volimap_session *session, unsigned count, const uint64_t *keys,
                     uint64_t *values, uint8_t *founds)
{
    uint64_t pages[VOLIMAP_MANY];
    CUBBY_ASSERT(count <= VOLIMAP_MANY);
    volimap_enter(session);
    find_pages(session->map, count, keys, pages);
    for (unsigned i = 0; i < count; i++) {
        founds[i] = page_get(pages[i], keys[i], &values[i]);
    }
    volimap_leave(session);
}

static void approach(struct volimap_session *session, unsigned count, const uint64_t *keys)
{
    uint64_t pages[VOLIMAP_MANY];
    CUBBY_ASSERT(count <= VOLIMAP_MANY);
    volimap_enter(session);
    find_pages(session->map, count, keys, pages);
    volimap_leave(session);
}

const struct volimap_gets VOLIMAP_GETS = {.get = get, .get_many = get_many, .approach = approach};
