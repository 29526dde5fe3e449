/* build.c -- see build.h. */
#include "engine/volimap/build.h"

#include <errno.h>
#include <stddef.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/volimap/retire.h"

/* Pages -----------------------------------------------------------------------------------------
 */

enum {
    SMALL_LINES = 16,
    ROOM_PERCENT = 125, /* nodes for so many pairs per hundred: more would take memory, less would
                           have the page replaced again soon */
};

/* The next number of lines that pages have: few of them, so that a page is not replaced often, but
 * for small ones. */
static unsigned round_lines(unsigned lines)
{
    unsigned step = lines <= SMALL_LINES ? LINES_STEP : 2 * LINES_STEP;
    return (lines + step - 1) / step * step;
}

/* Lines for so many pairs. */
static unsigned lines_for(unsigned count)
{
    unsigned nodes = (count * ROOM_PERCENT + 99) / 100;
    unsigned lines = round_lines((nodes + LINE_NODES - 1) / LINE_NODES);
    return lines < PAGE_LINES_MAX ? lines : PAGE_LINES_MAX;
}

static void note_made(struct outcome *outcome, struct object *object)
{
    object->retired.next = outcome->made == NULL ? NULL : &outcome->made->retired;
    outcome->made = object;
}

/* Make a page of at least so many lines that has these pairs, and room for *wanted, if that is not
 * NULL; they are at most FULL_NODES, or follow each other. Returns NULL without memory. */
static struct object *make_page(struct volimap_session *session, struct outcome *outcome,
                                unsigned bits, unsigned lines, const struct volimap_pair *pairs,
                                unsigned count, const uint64_t *wanted)
{
    bool is_crowded = false;
    for (;;) {
        struct object *page = object_make_page(session, lines);
        if (page == NULL) {
            return NULL;
        }
        page->bits = (uint8_t)bits;
        page->is_crowded = is_crowded;
        if (page_fill(page, pairs, count, wanted)) {
            note_made(outcome, page);
            return page;
        }
        object_discard(session, page);
        CUBBY_ASSERT(!is_crowded); /* it has a node for each */
        is_crowded = lines == PAGE_LINES_MAX;
        lines = is_crowded ? lines : round_lines(lines + 1);
    }
}

/* The entry of a page for the keys about this one. */
static uint64_t place_page(struct object *page, uint64_t key)
{
    page->prefix = key & ~key_mask(page->bits);
    return entry_make(page);
}

/* An entry for keys that nobody has put yet; 0: no memory. */
static uint64_t make_empty(struct volimap_session *session, struct outcome *outcome, uint64_t key,
                           unsigned bits)
{
    struct object *page = object_make_page(session, 0);
    if (page == NULL) {
        return 0;
    }
    note_made(outcome, page);
    page->bits = (uint8_t)bits;
    return place_page(page, key);
}

/* Lines for a page that is to have so many pairs, and one more if it is to have room for a key;
 * more than PAGE_LINES_MAX: they are too many for one page. */
static unsigned lines_wanted(const struct object *page, unsigned count, bool wants_room,
                             bool are_dense)
{
    unsigned wanted = count + wants_room;
    unsigned lines = lines_for(wanted);
    if (are_dense) {
        /* Numbers that come in order fill a page to the last node. */
        bool grows = wants_room && lines > page->lines && 4 * page->lines <= PAGE_LINES_MAX;
        return grows && lines < 4u * page->lines ? 4u * page->lines : lines;
    }
    if (wanted > FULL_NODES) {
        return PAGE_LINES_MAX + 1;
    }
    if (wants_room && lines <= page->lines && wanted * 100 > page->lines * LINE_NODES * 60u) {
        lines = round_lines(page->lines + 1); /* it has no room although it has nodes */
    }
    return lines > page->lines && !wants_room ? page->lines : lines;
}

struct page_plan build_plan(const struct object *page, const struct object *directory,
                            const struct volimap_pair *pairs, unsigned count, const uint64_t *key)
{
    struct page_plan plan = {.kind = PLAN_RESIZE, .key = page->prefix};
    if (key != NULL || count > 0) {
        plan.key = key != NULL ? *key : pairs[0].key;
    }
    uint64_t differing = 0;
    for (unsigned i = 0; i < count; i++) {
        differing |= pairs[i].key ^ plan.key;
    }
    bool are_dense = differing >> WINDOW_LOWEST == 0;
    plan.lines = lines_wanted(page, count, key != NULL, are_dense);
    if (plan.lines <= PAGE_LINES_MAX) {
        return plan;
    }
    plan.split = highest_bit(differing);
    if (directory != NULL && plan.split >= directory_entry_bits(directory)) {
        plan.kind = PLAN_SPLIT;
    } else if (directory == NULL || (page->bits == directory_entry_bits(directory) &&
                                     page->bits == window_of(directory->bits - 1u))) {
        plan.kind = PLAN_HANG;
    } else {
        plan.kind = PLAN_REWRITE;
    }
    return plan;
}

/* Divisions -------------------------------------------------------------------------------------
 */

/* Have a division send keys of a range, 2^bits, that differ from its own above the split bit, to
 * empty pages. Returns false without memory. */
static bool make_others(struct volimap_session *session, struct outcome *outcome,
                        struct division *division, unsigned bits)
{
    for (unsigned bit = division->split + 1; bit < bits; bit++) {
        uint64_t other = make_empty(session, outcome, division->key ^ UINT64_C(1) << bit, bit);
        if (other == 0) {
            return false;
        }
        division->others[bit - division->split - 1] = other;
    }
    return true;
}

/* Divide the pairs of a page by a bit. Returns false without memory. */
static bool make_sides(struct volimap_session *session, struct outcome *outcome,
                       struct division *division, const struct volimap_pair *pairs, unsigned count,
                       const uint64_t *wanted)
{
    for (unsigned side = 0; side < 2; side++) {
        struct volimap_pair own[PAGE_NODES_MAX];
        unsigned own_count = 0;
        for (unsigned i = 0; i < count; i++) {
            own[own_count] = pairs[i];
            own_count += (pairs[i].key >> division->split & 1) == side;
        }
        bool is_wanted = wanted != NULL && (*wanted >> division->split & 1) == side;
        struct object *page =
            make_page(session, outcome, division->split, lines_for(own_count + is_wanted), own,
                      own_count, is_wanted ? wanted : NULL);
        if (page == NULL) {
            return false;
        }
        uint64_t key = division->key & ~(UINT64_C(1) << division->split);
        division->sides[side] = place_page(page, key | (uint64_t)side << division->split);
    }
    return true;
}

/* Let the entries of a directory from key on, count of them, be a division's. */
static void fill_entries(struct object *directory, uint64_t key, size_t count,
                         const struct division *division)
{
    unsigned entry_bits = directory_entry_bits(directory);
    size_t first = (size_t)((key - directory->prefix) >> entry_bits);
    for (size_t i = 0; i < count; i++) {
        atomic_store_explicit(&object_entries(directory)[first + i],
                              division_entry(division, key + ((uint64_t)i << entry_bits)),
                              memory_order_relaxed);
    }
}

/* Make a directory for the window that a bit is in, with 2^bit keys by entry, for the keys about
 * those of a division, which it is given. Returns NULL without memory. */
static struct object *make_directory(struct volimap_session *session, struct outcome *outcome,
                                     struct division *division, unsigned bit)
{
    unsigned end = window_end(window_of(bit));
    struct object *directory = object_make_directory(session, end - bit);
    if (directory == NULL) {
        return NULL;
    }
    note_made(outcome, directory);
    directory->bits = (uint8_t)end;
    directory->prefix = division->key & ~key_mask(end);
    if (!make_others(session, outcome, division, end)) {
        return NULL;
    }
    fill_entries(directory, directory->prefix, (size_t)1 << directory->depth, division);
    return directory;
}

/* Changes of a page -----------------------------------------------------------------------------
 */

/* The pairs of a page that is frozen, and what to do with them. */
struct contents {
    struct volimap_pair pairs[PAGE_NODES_MAX];
    unsigned count;
    const uint64_t *wanted;
    struct page_plan plan;
};

static void read_contents(const struct change *change, const struct object *page,
                          const struct object *directory, struct contents *contents)
{
    contents->count = page_collect(page, contents->pairs);
    contents->wanted = change->wants_room ? &change->key : NULL;
    contents->plan =
        build_plan(page, directory, contents->pairs, contents->count, contents->wanted);
}

/* One entry for all of a range of keys. */
static void publish_entry(struct outcome *outcome, uint64_t entry, uint64_t prefix, unsigned bits)
{
    outcome->prefix = prefix;
    outcome->bits = bits;
    outcome->division =
        (struct division){.key = prefix, .split = bits - 1, .sides = {entry, entry}};
}

/* A page for the keys about this one, as many as it has bits for. */
static void publish_page(struct outcome *outcome, struct object *page, uint64_t key)
{
    uint64_t entry = place_page(page, key);
    publish_entry(outcome, entry, page->prefix, page->bits);
}

static int build_page(struct volimap_session *session, const struct change *change,
                      struct outcome *outcome)
{
    const struct object *page = change->objects[0];
    struct spot spot = volimap_find_spot(session->map, page->prefix);
    if (entry_object(spot.entry) != page) {
        return CUBBY_NOT_FOUND; /* others have done it: a directory there may be much deeper */
    }
    struct contents contents;
    read_contents(change, page, spot.directory, &contents);
    const struct page_plan *plan = &contents.plan;
    if (plan->kind == PLAN_REWRITE) {
        return CUBBY_NOT_FOUND; /* it was not, when the change was made */
    }
    if (plan->kind == PLAN_RESIZE) {
        struct object *resized = make_page(session, outcome, page->bits, plan->lines,
                                           contents.pairs, contents.count, contents.wanted);
        if (resized == NULL) {
            return ENOMEM;
        }
        publish_page(outcome, resized, page->prefix);
        return CUBBY_OK;
    }
    struct division division = {.key = plan->key, .split = plan->split};
    if (!make_sides(session, outcome, &division, contents.pairs, contents.count, contents.wanted)) {
        return ENOMEM;
    }
    if (plan->kind == PLAN_HANG) {
        struct object *child = make_directory(session, outcome, &division, division.split);
        if (child == NULL) {
            return ENOMEM;
        }
        publish_entry(outcome, entry_make(child), page->prefix, page->bits);
        return CUBBY_OK;
    }
    outcome->prefix = page->prefix;
    outcome->bits = page->bits;
    outcome->division = division;
    return make_others(session, outcome, &outcome->division, page->bits) ? CUBBY_OK : ENOMEM;
}

static int build_merge(struct volimap_session *session, const struct change *change,
                       struct outcome *outcome)
{
    const struct object *left = change->objects[0];
    const struct object *right = change->objects[1];
    struct volimap_pair pairs[2 * PAGE_NODES_MAX];
    unsigned count = page_collect(left, pairs);
    count += page_collect(right, pairs + count);
    if (count > FULL_NODES) {
        return CUBBY_NOT_FOUND; /* they have grown */
    }
    struct object *page =
        make_page(session, outcome, left->bits + 1u, lines_for(count), pairs, count, NULL);
    if (page == NULL) {
        return ENOMEM;
    }
    publish_page(outcome, page, left->prefix);
    return CUBBY_OK;
}

/* Changes of a directory ------------------------------------------------------------------------
 */

static void publish_directory(struct outcome *outcome, unsigned replaced,
                              const struct object *directory)
{
    outcome->is_directory = true;
    outcome->replaced = replaced;
    outcome->whole = entry_make(directory);
}

/* Copy a directory into one that is as deep or deeper. Where it is deeper a child has one of the
 * entries that its own has become, and the others are for keys that nobody has put. */
static struct object *copy_directory(struct volimap_session *session, struct outcome *outcome,
                                     const struct object *old, unsigned depth)
{
    struct object *copy = object_make_directory(session, depth);
    if (copy == NULL) {
        return NULL;
    }
    note_made(outcome, copy);
    copy->prefix = old->prefix;
    copy->bits = old->bits;
    unsigned old_bits = directory_entry_bits(old);
    unsigned bits = directory_entry_bits(copy);
    for (size_t i = 0; i < (size_t)1 << old->depth; i++) {
        uint64_t entry = atomic_load(&object_entries(old)[i]) & ~ENTRY_FROZEN;
        uint64_t key = old->prefix + ((uint64_t)i << old_bits);
        struct division division = {.key = key, .split = old_bits, .sides = {entry, entry}};
        if ((entry & ENTRY_DIRECTORY) != 0 && bits < old_bits) {
            division.key = entry_object(entry)->prefix;
            division.split = bits - 1;
            if (!make_others(session, outcome, &division, old_bits)) {
                return NULL;
            }
        }
        fill_entries(copy, key, (size_t)1 << (depth - old->depth), &division);
    }
    return copy;
}

/* A directory above one, that parts it from a key which it has not got. */
static int build_above(struct volimap_session *session, struct object *copy, uint64_t key,
                       struct outcome *outcome)
{
    unsigned split = highest_bit(key ^ copy->prefix);
    uint64_t entry = entry_make(copy);
    struct division division = {.key = copy->prefix, .split = split - 1, .sides = {entry, entry}};
    struct object *above = make_directory(session, outcome, &division, split);
    if (above == NULL) {
        return ENOMEM;
    }
    publish_directory(outcome, 0, above);
    return CUBBY_OK;
}

static int build_directory(struct volimap_session *session, const struct change *change,
                           struct outcome *outcome)
{
    const struct object *old = change->objects[0];
    unsigned depth = old->depth;
    if (object_has(old, change->key)) {
        const uint64_t own = entry_make(old);
        uint64_t entry = atomic_load(&object_entries(old)[entry_index(own, change->key)]);
        struct object *child = entry_object(entry);
        if ((entry & ENTRY_DIRECTORY) != 0 && !object_has(child, change->key)) {
            unsigned split = highest_bit(change->key ^ child->prefix);
            bool parts = split >= window_of(old->bits - 1u);
            depth = parts ? old->bits - split : depth;
        }
    }
    struct object *copy = copy_directory(session, outcome, old, depth);
    if (copy == NULL) {
        return ENOMEM;
    }
    if (!object_has(old, change->key)) {
        return build_above(session, copy, change->key, outcome);
    }
    publish_directory(outcome, 0, copy);
    return CUBBY_OK;
}

static int build_rewrite(struct volimap_session *session, const struct change *change,
                         struct outcome *outcome)
{
    const struct object *directory = change->objects[0];
    const struct object *page = change->objects[1];
    struct contents contents;
    read_contents(change, page, directory, &contents);
    const struct page_plan *plan = &contents.plan;
    if (plan->kind == PLAN_RESIZE) {
        return CUBBY_NOT_FOUND; /* it was not, when the change was made */
    }
    struct division division = {.key = plan->key, .split = plan->split};
    if (!make_sides(session, outcome, &division, contents.pairs, contents.count, contents.wanted)) {
        return ENOMEM;
    }
    unsigned depth = directory->depth;
    if (plan->split >= window_of(directory->bits - 1u)) {
        unsigned needed = directory->bits - plan->split;
        depth = needed > depth ? needed : depth;
    } else {
        struct object *child = make_directory(session, outcome, &division, division.split);
        if (child == NULL) {
            return ENOMEM;
        }
        uint64_t entry = entry_make(child);
        division = (struct division){
            .key = plan->key,
            .split = directory_entry_bits(directory) - 1,
            .sides = {entry, entry},
        };
    }
    struct object *copy = copy_directory(session, outcome, directory, depth);
    if (copy == NULL || !make_others(session, outcome, &division, page->bits)) {
        return ENOMEM;
    }
    fill_entries(copy, page->prefix, (size_t)1 << (page->bits - directory_entry_bits(copy)),
                 &division);
    publish_directory(outcome, 0, copy);
    return CUBBY_OK;
}

/* Whether all entries of a directory lead to a page. */
static bool has_only(const struct object *directory, const struct object *page)
{
    for (size_t i = 0; i < (size_t)1 << directory->depth; i++) {
        if (entry_object(atomic_load(&object_entries(directory)[i])) != page) {
            return false;
        }
    }
    return true;
}

static int build_collapse(struct volimap_session *session, const struct change *change,
                          struct outcome *outcome)
{
    const struct object *child = change->objects[0];
    const struct object *old = change->objects[1];
    const struct object *directory =
        change->count == CHANGE_OBJECTS_MAX ? change->objects[2] : NULL;
    struct volimap_pair pairs[PAGE_NODES_MAX];
    unsigned count = page_collect(old, pairs);
    if (!has_only(child, old) || count > FULL_NODES) {
        return CUBBY_NOT_FOUND;
    }
    unsigned bits = directory != NULL ? directory_entry_bits(directory) : ROOT_ENTRY_BITS;
    struct object *page = make_page(session, outcome, bits, lines_for(count), pairs, count, NULL);
    if (page == NULL) {
        return ENOMEM;
    }
    if (directory == NULL) {
        publish_page(outcome, page, child->prefix);
        return CUBBY_OK;
    }
    struct object *copy = copy_directory(session, outcome, directory, directory->depth);
    if (copy == NULL) {
        return ENOMEM;
    }
    _Atomic uint64_t *at = &object_entries(copy)[entry_index(entry_make(copy), child->prefix)];
    if (entry_object(atomic_load(at)) != child) {
        return CUBBY_NOT_FOUND; /* there is another one between them */
    }
    atomic_store(at, place_page(page, child->prefix));
    publish_directory(outcome, 2, copy);
    return CUBBY_OK;
}

int build(struct volimap_session *session, const struct change *change, struct outcome *outcome)
{
    bool has_page = change->kind != CHANGE_DIRECTORY;
    bool has_directory = change->kind == CHANGE_DIRECTORY || change->kind == CHANGE_REWRITE ||
                         (change->kind == CHANGE_COLLAPSE && change->count == CHANGE_OBJECTS_MAX);
    session->call_page_copies += has_page;
    session->call_directory_copies += has_directory;
    switch (change->kind) {
    case CHANGE_PAGE:
        return build_page(session, change, outcome);
    case CHANGE_DIRECTORY:
        return build_directory(session, change, outcome);
    case CHANGE_REWRITE:
        return build_rewrite(session, change, outcome);
    case CHANGE_MERGE:
        return build_merge(session, change, outcome);
    case CHANGE_COLLAPSE:
        return build_collapse(session, change, outcome);
    }
    return CUBBY_NOT_FOUND;
}
