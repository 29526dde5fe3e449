/* volimap.c -- see volimap.h. */
#include "engine/volimap/volimap.h"

#include <errno.h>
#include <stddef.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/volimap/build.h"
#include "engine/volimap/retire.h"

/* Opening ----------------------------------------------------------------------------------------
 */

int volimap_open(struct volimap *map)
{
    *map = (struct volimap){0};
    int status = pthread_mutex_init(&map->lock, NULL);
    if (status != 0) {
        return status;
    }
    arena_open(&map->arena);
    epoch_open(&map->epoch);
    return CUBBY_OK;
}

void volimap_close(struct volimap *map)
{
    CUBBY_ASSERT(map->sessions == NULL);
    if (atomic_load(&map->is_unfinished)) {
        struct volimap_session session;
        volimap_session_open(map, &session);
        change_end(&session);
        volimap_session_close(&session);
    }
    retire_end(map);
    object_free_all(map);
    arena_close(&map->arena);
    epoch_close(&map->epoch);
    pthread_mutex_destroy(&map->lock);
}

static const struct volimap_gets *best_gets(void)
{
#ifdef CUBBY_X86_64_V3
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) {
        return &volimap_gets_x86_64_v3;
    }
#endif
    return &volimap_gets;
}

int volimap_session_open(struct volimap *map, struct volimap_session *session)
{
    *session = (struct volimap_session){.map = map, .gets = best_gets()};
    epoch_register(&map->epoch, &session->slot);
    pthread_mutex_lock(&map->lock);
    session->next = map->sessions;
    map->sessions = session;
    pthread_mutex_unlock(&map->lock);
    return CUBBY_OK;
}

static void add(_Atomic uint64_t *sum, const _Atomic uint64_t *more)
{
    counter_add(sum, counter_read(more));
}

static void take_larger(_Atomic uint64_t *most, uint64_t other)
{
    if (other > counter_read(most)) {
        counter_set(most, other);
    }
}

/* The sum is one's own, or map->lock is held. */
static void add_counters(struct volimap_counters *sum, const struct volimap_counters *more)
{
    add(&sum->pairs, &more->pairs);
    add(&sum->page_splits, &more->page_splits);
    add(&sum->page_merges, &more->page_merges);
    add(&sum->page_copies, &more->page_copies);
    add(&sum->directory_copies, &more->directory_copies);
    take_larger(&sum->page_copies_max, counter_read(&more->page_copies_max));
    take_larger(&sum->directory_copies_max, counter_read(&more->directory_copies_max));
    add(&sum->pages, &more->pages);
    add(&sum->page_bytes, &more->page_bytes);
    add(&sum->directories, &more->directories);
    add(&sum->directory_bytes, &more->directory_bytes);
    add(&sum->retired_bytes, &more->retired_bytes);
}

void volimap_session_close(struct volimap_session *session)
{
    struct volimap *map = session->map;
    retire_leave(session);
    epoch_unregister(&map->epoch, &session->slot);
    pthread_mutex_lock(&map->lock);
    struct volimap_session **place = &map->sessions;
    while (*place != session) {
        CUBBY_ASSERT(*place != NULL);
        place = &(*place)->next;
    }
    *place = session->next;
    add_counters(&map->ended, &session->counters);
    pthread_mutex_unlock(&map->lock);
}

void volimap_sum(struct volimap *map, struct volimap_counters *sum)
{
    *sum = (struct volimap_counters){0};
    pthread_mutex_lock(&map->lock);
    add_counters(sum, &map->ended);
    for (struct volimap_session *session = map->sessions; session != NULL;
         session = session->next) {
        add_counters(sum, &session->counters);
    }
    pthread_mutex_unlock(&map->lock);
}

/* Making room ------------------------------------------------------------------------------------
 */

/* What an entry of a page's keys leads to but the page; NULL: all lead to it. spot: of its lowest
 * key. As long as there is something the change that has made the page is not done, and would yet
 * have such entries lead to it: so it must not be replaced before. */
static struct object *find_other(const struct spot *spot, const struct object *page)
{
    if (entry_object(spot->entry) != page) {
        return entry_object(spot->entry);
    }
    size_t count = (size_t)1 << (page->bits - spot->entry_bits);
    for (size_t i = 1; i < count; i++) {
        struct object *found = entry_object(atomic_load(&spot->at[i]));
        if (found != page) {
            return found;
        }
    }
    return NULL;
}

/* Whether, as a page is now, its directory has to be replaced, too. */
static bool needs_rewrite(const struct object *page, const struct object *directory,
                          const uint64_t *key)
{
    if (page->lines * LINE_NODES < FULL_NODES || directory == NULL) {
        return false; /* nor can it have pairs for two */
    }
    struct volimap_pair pairs[PAGE_NODES_MAX];
    unsigned count = page_collect(page, pairs);
    return build_plan(page, directory, pairs, count, key).kind == PLAN_REWRITE;
}

/* A key's page is frozen, or has no room: have it replaced. */
static int make_room(struct volimap_session *session, struct object *page, uint64_t key,
                     bool wants_room)
{
    struct change *met = atomic_load(&page->change);
    if (met != NULL) {
        return change_help(session, page, met);
    }
    struct spot spot = volimap_find_spot(session->map, page->prefix);
    struct object *other = find_other(&spot, page);
    if (other != NULL) {
        met = atomic_load(&other->change);
        return met != NULL ? change_help(session, other, met) : CUBBY_OK; /* it has been */
    }
    struct change change = {
        .kind = CHANGE_PAGE,
        .count = 1,
        .objects = {page},
        .key = key,
        .wants_room = wants_room,
    };
    if (needs_rewrite(page, spot.directory, wants_room ? &key : NULL)) {
        met = atomic_load(&spot.directory->change);
        if (met != NULL) {
            return change_help(session, spot.directory, met);
        }
        change.kind = CHANGE_REWRITE;
        change.count = 2;
        change.objects[0] = spot.directory;
        change.objects[1] = page;
    }
    return change_do(session, &change, NULL);
}

/* Put an empty page, of all keys there, into an entry of the root that has none. */
static int begin_root(struct volimap_session *session, uint64_t key)
{
    struct object *page = object_make_page(session, LINES_STEP);
    if (page == NULL) {
        return ENOMEM;
    }
    page->bits = ROOT_ENTRY_BITS;
    page->prefix = key & ~key_mask(ROOT_ENTRY_BITS);
    uint64_t none = 0;
    if (!atomic_compare_exchange_strong(&session->map->root[key >> ROOT_ENTRY_BITS], &none,
                                        entry_make(page))) {
        object_discard(session, page);
    }
    return CUBBY_OK;
}

/* A key has no page yet: it is among those of an entry that leads to a directory, and not among the
 * directory's. */
static int make_place(struct volimap_session *session, uint64_t key)
{
    struct spot spot = volimap_find_spot(session->map, key);
    if (spot.entry == 0) {
        return begin_root(session, key);
    }
    struct object *child = entry_object(spot.entry);
    if ((spot.entry & ENTRY_DIRECTORY) == 0 || object_has(child, key)) {
        return CUBBY_OK; /* it has one by now */
    }
    struct object *parent = spot.directory;
    bool deepens =
        parent != NULL && highest_bit(key ^ child->prefix) >= window_of(parent->bits - 1u);
    struct object *replaced = deepens ? parent : child;
    struct change *met = atomic_load(&replaced->change);
    if (met != NULL) {
        return change_help(session, replaced, met);
    }
    const struct change change = {
        .kind = CHANGE_DIRECTORY,
        .count = 1,
        .objects = {replaced},
        .key = key,
    };
    return change_do(session, &change, NULL);
}

/* Giving memory back -----------------------------------------------------------------------------
 */

static bool has_many_removed(const struct object *page)
{
    int32_t removed = atomic_load_explicit(&page->removed, memory_order_relaxed);
    return removed * 4 >= page->lines * LINE_NODES && removed >= 2 * LINE_NODES;
}

/* A page that is all that its directory has becomes one of the directory above. Returns false if
 * that has been replaced. */
static bool plan_collapse(struct volimap *map, const struct spot *spot, struct change *change)
{
    const struct spot above = volimap_find_above(map, spot->directory);
    *change = (struct change){
        .kind = CHANGE_COLLAPSE,
        .count = above.directory != NULL ? 3 : 2,
        .objects = {spot->directory, entry_object(spot->entry), above.directory},
    };
    return entry_object(above.entry) == spot->directory;
}

/* Begin a change that makes a page, which is in a spot, and what is next to it, one, if they have
 * few pairs. */
static bool plan_merge(struct volimap *map, const struct spot *spot, struct change *change)
{
    struct object *page = entry_object(spot->entry);
    struct object *directory = spot->directory;
    unsigned count = page_count(page);
    if (directory == NULL || count > MERGE_NODES_MAX) {
        return false;
    }
    if (page->bits == directory->bits) {
        return plan_collapse(map, spot, change);
    }
    uint64_t bit = UINT64_C(1) << page->bits;
    struct spot other = volimap_find_spot(map, page->prefix ^ bit);
    struct object *buddy = entry_object(other.entry);
    if (other.directory != directory || (other.entry & ENTRY_DIRECTORY) != 0 ||
        buddy->bits != page->bits || count + page_count(buddy) > MERGE_NODES_MAX) {
        return false;
    }
    const struct spot own = volimap_find_spot(map, page->prefix);
    if (find_other(&other, buddy) != NULL || find_other(&own, page) != NULL) {
        return false;
    }
    bool is_left = (page->prefix & bit) == 0;
    *change = (struct change){
        .kind = CHANGE_MERGE,
        .count = 2,
        .objects = {is_left ? page : buddy, is_left ? buddy : page},
    };
    return true;
}

/* Where a key's page has few pairs, do one thing about it. That it cannot be done now is no
 * failure. */
static void tidy(struct volimap_session *session, uint64_t key)
{
    struct spot spot = volimap_find_spot(session->map, key);
    struct object *page = entry_object(spot.entry);
    session->has_sparse = false;
    if (page == NULL || (spot.entry & ENTRY_DIRECTORY) != 0 || atomic_load(&page->change) != NULL) {
        return;
    }
    struct change change;
    if (plan_merge(session->map, &spot, &change)) {
        bool was_done = false;
        (void)change_do(session, &change, &was_done);
        /* What has become of it may be merged in turn, by the next call. */
        session->has_sparse = was_done;
        session->sparse_key = key;
    } else if (has_many_removed(page)) {
        (void)make_room(session, page, key, false);
    }
}

/* Writing ----------------------------------------------------------------------------------------
 */

static void count_copies(struct volimap_session *session)
{
    struct volimap_counters *counters = &session->counters;
    counter_add(&counters->page_copies, session->call_page_copies);
    counter_add(&counters->directory_copies, session->call_directory_copies);
    take_larger(&counters->page_copies_max, session->call_page_copies);
    take_larger(&counters->directory_copies_max, session->call_directory_copies);
    session->call_page_copies = 0;
    session->call_directory_copies = 0;
}

void volimap_count_pairs(struct volimap_session *session, int64_t more)
{
    counter_add(&session->counters.pairs, (uint64_t)more);
}

/* What page_write left to be done before it can be tried again. */
static int prepare(struct volimap_session *session, struct object *page, uint64_t key,
                   enum page_result result, bool adds)
{
    if (page == NULL || result == PAGE_NOT_ITS) {
        return make_place(session, key);
    }
    return make_room(session, page, key, adds && object_has(page, key));
}

/* A key's pair has been removed from a page. */
static void after_removal(struct volimap_session *session, const struct object *page, uint64_t key)
{
    if (has_many_removed(page)) {
        tidy(session, key);
    } else if (session->has_sparse) {
        tidy(session, session->sparse_key);
    }
}

/* A page has been written into: it had better be elsewhere, perhaps. That it cannot be is no
 * failure. */
static void move_if_sparse(struct volimap_session *session, struct object *page, uint64_t key)
{
    if (session->call_page_copies == 0 && !page->is_small && arena_is_sparse(page)) {
        (void)make_room(session, page, key, false);
    }
}

int volimap_write(struct volimap_session *session, uint64_t key, struct page_write *write,
                  enum page_result *result)
{
    bool adds = write->how == PAGE_PUT || write->how == PAGE_PUT_IF_ABSENT;
    int status = CUBBY_OK;
    volimap_enter(session);
    do {
        uint64_t entry = volimap_find_page(session->map, key);
        struct object *page = entry_object(entry);
        *result = page != NULL ? page_write(entry, key, write) : adds ? PAGE_NOT_ITS : PAGE_ABSENT;
        if (*result >= PAGE_FROZEN) {
            status = prepare(session, page, key, *result, adds);
            continue;
        }
        if (*result == PAGE_ADDED) {
            volimap_count_pairs(session, 1);
        } else if (*result == PAGE_DONE && write->how >= PAGE_REMOVE) {
            volimap_count_pairs(session, -1);
            after_removal(session, page, key);
        }
        if (*result <= PAGE_ADDED) {
            move_if_sparse(session, page, key);
        }
        break;
    } while (status == CUBBY_OK);
    volimap_leave(session);
    if (session->call_page_copies + session->call_directory_copies > 0) {
        count_copies(session);
        retire_look(session);
    }
    return status;
}

uint64_t volimap_count(struct volimap *map)
{
    struct volimap_counters sum;
    volimap_sum(map, &sum);
    return volimap_gauge(&sum.pairs);
}

void volimap_memory(struct volimap *map, struct volimap_memory *memory)
{
    *memory = (struct volimap_memory){0};
    pthread_mutex_lock(&map->lock);
    for (struct volimap_session *session = map->sessions; session != NULL;
         session = session->next) {
        memory->session_count++;
    }
    pthread_mutex_unlock(&map->lock);
    arena_usage(&map->arena, &memory->used_bytes, &memory->taken_bytes);
}
