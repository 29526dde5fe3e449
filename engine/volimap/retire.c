/* retire.c -- see retire.h. */
#include "engine/volimap/retire.h"

#include <stddef.h>
#include <stdlib.h>

#include "engine/base/cubby_assert.h"

enum {
    LOOK_COUNT = 64,        /* retired things, after which to look which can be freed; */
    LOOK_BYTES = 256 << 10, /* or so many bytes of them, */
};

static unsigned units_of(const struct object *object)
{
    if (!object->is_directory) {
        return 1 + object->lines;
    }
    size_t bytes = sizeof(uint64_t) << object->depth;
    return 1 + (unsigned)((bytes + ARENA_UNIT_BYTES - 1) / ARENA_UNIT_BYTES);
}

static uint64_t bytes_of(const struct object *object)
{
    return units_of(object) * (uint64_t)ARENA_UNIT_BYTES;
}

/* One more, or one less: sign is 1, or -1. */
static void count_object(struct volimap_session *session, const struct object *object, int sign)
{
    struct volimap_counters *counters = &session->counters;
    uint64_t by = (uint64_t)sign;
    counter_add(object->is_directory ? &counters->directories : &counters->pages, by);
    counter_add(object->is_directory ? &counters->directory_bytes : &counters->page_bytes,
                by * bytes_of(object));
}

/* Objects ---------------------------------------------------------------------------------------
 */

static struct object *make(struct volimap_session *session, const struct object *model)
{
    bool is_small;
    struct object *object = arena_take(&session->map->arena, units_of(model), &is_small);
    if (object == NULL) {
        return NULL;
    }
    object->is_directory = model->is_directory;
    object->lines = model->lines;
    object->depth = model->depth;
    object->is_small = is_small;
    count_object(session, object, 1);
    return object;
}

struct object *object_make_page(struct volimap_session *session, unsigned lines)
{
    CUBBY_ASSERT(lines <= PAGE_LINES_MAX);
    const struct object model = {.lines = (uint8_t)lines};
    return make(session, &model);
}

struct object *object_make_directory(struct volimap_session *session, unsigned depth)
{
    CUBBY_ASSERT(depth <= DIRECTORY_DEPTH_MAX);
    const struct object model = {.is_directory = true, .depth = (uint8_t)depth};
    return make(session, &model);
}

static void free_object(struct volimap *map, struct object *object)
{
    arena_free(&map->arena, object, units_of(object), object->is_small);
}

void object_discard(struct volimap_session *session, struct object *object)
{
    count_object(session, object, -1);
    free_object(session->map, object);
}

/* Retired things --------------------------------------------------------------------------------
 */

static uint64_t retired_bytes_of(const struct retired *retired)
{
    return retired->kind == RETIRED_OBJECT ? bytes_of((const struct object *)retired) : 0;
}

static void free_retired(struct volimap *map, struct retired *retired)
{
    if (retired->kind == RETIRED_OBJECT) {
        free_object(map, (struct object *)retired);
    } else {
        free(retired);
    }
}

void retire(struct volimap_session *session, struct retired *retired, enum retired_kind kind)
{
    retired->kind = kind;
    if (kind == RETIRED_OBJECT) {
        count_object(session, (struct object *)retired, -1);
    }
    retired->epoch = 0; /* that will be the next look's */
    retired->next = session->retired;
    session->retired = retired;
    session->retired_count++;
    counter_add(&session->counters.retired_bytes, retired_bytes_of(retired));
}

/* Free what of a list can be; returns what is left, and sets *bytes to what that takes, and *oldest
 * to the epoch of its end, 0 if there is nothing left. */
static struct retired *free_passed(struct volimap *map, struct retired *list, uint64_t *bytes,
                                   uint64_t *oldest)
{
    struct retired *kept = NULL;
    struct retired **end = &kept;
    uint64_t passed = 0; /* the latest epoch that is known to have passed */
    uint64_t kept_bytes = 0;
    *oldest = 0;
    while (list != NULL) {
        struct retired *next = list->next;
        /* The newest ones come first: an older one has passed if a newer one has. */
        if (list->epoch <= passed || epoch_has_passed(&map->epoch, list->epoch)) {
            passed = list->epoch > passed ? list->epoch : passed;
            free_retired(map, list);
        } else {
            kept_bytes += retired_bytes_of(list);
            *oldest = list->epoch;
            *end = list;
            end = &list->next;
        }
        list = next;
    }
    *end = NULL;
    *bytes = kept_bytes;
    return kept;
}

/* Free what can be of what sessions have left that are closed, after a fence. map->lock is held. */
static void free_orphans_locked(struct volimap *map)
{
    uint64_t bytes;
    uint64_t oldest;
    map->orphans = free_passed(map, map->orphans, &bytes, &oldest);
    atomic_store(&map->ended.retired_bytes, bytes);
}

/* Free what has passed, if the kernel does the fence. */
static void look(struct volimap_session *session)
{
    struct volimap *map = session->map;
    uint64_t epoch = epoch_advance(&map->epoch);
    for (struct retired *one = session->retired; one != NULL && one->epoch == 0; one = one->next) {
        one->epoch = epoch;
    }
    if (session->oldest_epoch == 0) {
        session->oldest_epoch = epoch;
    }
    session->retired_count = 0;
    session->looked_bytes = counter_read(&session->counters.retired_bytes);
    if (!epoch_fence_readers(&map->epoch)) {
        return; /* the next time, then */
    }
    /* Where a reader stays, the list may be long by now, and nothing of it can be freed. */
    if (epoch_has_passed(&map->epoch, session->oldest_epoch)) {
        session->retired =
            free_passed(map, session->retired, &session->looked_bytes, &session->oldest_epoch);
        counter_set(&session->counters.retired_bytes, session->looked_bytes);
    }
    pthread_mutex_lock(&map->lock);
    free_orphans_locked(map);
    pthread_mutex_unlock(&map->lock);
}

void retire_look(struct volimap_session *session)
{
    if (session->retired_count >= LOOK_COUNT ||
        (session->retired_count > 0 &&
         counter_read(&session->counters.retired_bytes) >= session->looked_bytes + LOOK_BYTES)) {
        look(session);
    }
}

void retire_leave(struct volimap_session *session)
{
    struct volimap *map = session->map;
    look(session);
    pthread_mutex_lock(&map->lock);
    uint64_t bytes = atomic_load(&map->ended.retired_bytes);
    struct retired **end = &session->retired;
    while (*end != NULL) {
        bytes += retired_bytes_of(*end);
        end = &(*end)->next;
    }
    *end = map->orphans;
    map->orphans = session->retired;
    session->retired = NULL;
    atomic_store(&session->counters.retired_bytes, 0);
    atomic_store(&map->ended.retired_bytes, bytes);
    pthread_mutex_unlock(&map->lock);
}

void retire_end(struct volimap *map)
{
    while (map->orphans != NULL) {
        struct retired *next = map->orphans->next;
        free_retired(map, map->orphans);
        map->orphans = next;
    }
}

/* Free an object that is not a directory with entries; with entries, list what they lead to, each
 * once, in front of a list, and free it. */
static struct retired *free_one(struct volimap *map, struct object *object, struct retired *list)
{
    if (object->is_directory) {
        struct object *last = NULL;
        for (size_t i = 0; i < (size_t)1 << object->depth; i++) {
            struct object *child = entry_object(atomic_load(&object_entries(object)[i]));
            if (child != last) { /* the entries of one page are neighbours */
                child->retired.next = list;
                list = &child->retired;
                last = child;
            }
        }
    }
    free_object(map, object);
    return list;
}

void object_free_all(struct volimap *map)
{
    for (size_t i = 0; i < ROOT_ENTRIES; i++) {
        struct object *object = entry_object(atomic_load(&map->root[i]));
        if (object == NULL) {
            continue;
        }
        object->retired.next = NULL;
        struct retired *list = &object->retired;
        while (list != NULL) {
            struct object *next = (struct object *)list;
            list = free_one(map, next, list->next);
        }
    }
}
