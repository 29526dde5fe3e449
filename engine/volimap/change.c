/* change.c -- see change.h. */
#include "engine/volimap/change.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/volimap/build.h"
#include "engine/volimap/retire.h"

static struct outcome off = {.is_off = true};

/* Claims ----------------------------------------------------------------------------------------
 */

/* Have every object be this change's. Returns false if one is another's. */
static bool claim(struct change *change)
{
    for (unsigned i = 0; i < change->count; i++) {
        struct change *found = NULL;
        if (!atomic_compare_exchange_strong(&change->objects[i]->change, &found, change)) {
            return false;
        }
    }
    return true;
}

static void unclaim(struct object *object, struct change *change)
{
    struct change *found = change;
    atomic_compare_exchange_strong(&object->change, &found, NULL);
}

static void freeze(struct object *object)
{
    if (!object->is_directory) {
        page_freeze(object);
        return;
    }
    for (size_t i = 0; i < (size_t)1 << object->depth; i++) {
        atomic_fetch_or(&object_entries(object)[i], ENTRY_FROZEN);
    }
}

/* Swings ----------------------------------------------------------------------------------------
 */

static bool is_old(const struct change *change, uint64_t entry)
{
    for (unsigned i = 0; i < change->count; i++) {
        if (entry_object(entry) == change->objects[i]) {
            return true;
        }
    }
    return false;
}

/* Have an entry lead to the outcome, if it leads to what that replaces. Returns false if it is
 * frozen. */
static bool swing_entry(const struct change *change, _Atomic uint64_t *at, uint64_t to)
{
    uint64_t entry = atomic_load(at);
    while (is_old(change, entry)) {
        if ((entry & ENTRY_FROZEN) != 0) {
            return false;
        }
        if (atomic_compare_exchange_strong(at, &entry, to)) {
            break;
        }
    }
    return true;
}

/* The first entry of a range of keys, 2^bits, in the last directory on the way that has the whole
 * range, and is not itself replaced. */
static struct spot find_range(struct volimap *map, const struct change *change, uint64_t prefix,
                              unsigned bits)
{
    struct spot spot = volimap_root_spot(map, prefix);
    while (volimap_leads_on(&spot, prefix) && entry_object(spot.entry)->bits >= bits &&
           !is_old(change, spot.entry)) {
        volimap_go_on(&spot, prefix);
    }
    return spot;
}

/* Replace a directory that was found frozen. */
static int help_directory(struct volimap_session *session, struct object *directory)
{
    CUBBY_ASSERT(directory != NULL);
    struct change *change = atomic_load(&directory->change);
    if (change != NULL) {
        return change_help(session, directory, change);
    }
    /* It was frozen for a change that was off. */
    const struct change copy = {
        .kind = CHANGE_DIRECTORY,
        .count = 1,
        .objects = {directory},
        .key = directory->prefix,
    };
    return change_do(session, &copy, NULL);
}

/* Have the range's entries lead to the outcome, from the first one on: one of them is never swung
 * before those in front of it. Returns false if one is frozen; *held: the directory it is in. */
static bool swing_range(struct volimap *map, const struct change *change,
                        const struct outcome *outcome, struct object **held)
{
    const struct spot first = find_range(map, change, outcome->prefix, outcome->bits);
    *held = first.directory;
    if (outcome->bits < first.entry_bits) {
        return true; /* less than one entry: what is to be replaced there has been */
    }
    for (size_t i = 0; i < (size_t)1 << (outcome->bits - first.entry_bits); i++) {
        uint64_t key = outcome->prefix + ((uint64_t)i << first.entry_bits);
        if (!swing_entry(change, &first.at[i], division_entry(&outcome->division, key))) {
            return false;
        }
    }
    return true;
}

/* Have the entry of a directory lead to what replaces it. Returns as swing_range. */
static bool swing_whole(struct volimap *map, const struct change *change,
                        const struct outcome *outcome, struct object **held)
{
    const struct object *old = change->objects[outcome->replaced];
    const struct spot spot = volimap_find_above(map, old);
    *held = spot.directory;
    return entry_object(spot.entry) != old || swing_entry(change, spot.at, outcome->whole);
}

/* Returns CUBBY_OK, or ENOMEM: then some entries still lead to what is replaced, and who comes
 * there helps. */
static int swing(struct volimap_session *session, const struct change *change,
                 const struct outcome *outcome)
{
    for (;;) {
        struct object *held;
        if (outcome->is_directory ? swing_whole(session->map, change, outcome, &held)
                                  : swing_range(session->map, change, outcome, &held)) {
            return CUBBY_OK;
        }
        int status = help_directory(session, held);
        if (status != CUBBY_OK) {
            return status;
        }
    }
}

/* Changes ---------------------------------------------------------------------------------------
 */

static void discard(struct volimap_session *session, struct outcome *outcome)
{
    while (outcome->made != NULL) {
        struct object *next = (struct object *)outcome->made->retired.next;
        object_discard(session, outcome->made);
        outcome->made = next;
    }
    free(outcome);
}

static void count_change(struct volimap_session *session, const struct change *change,
                         const struct outcome *outcome)
{
    if (change->kind == CHANGE_MERGE) {
        counter_add(&session->counters.page_merges, 1);
    } else if (change->kind == CHANGE_REWRITE ||
               (change->kind == CHANGE_PAGE &&
                outcome->division.sides[0] != outcome->division.sides[1])) {
        counter_add(&session->counters.page_splits, 1);
    }
}

/* Have the change get an outcome. */
static int decide(struct volimap_session *session, struct change *change)
{
    struct outcome *none = NULL;
    if (!atomic_load(&change->is_claimed)) {
        atomic_compare_exchange_strong(&change->outcome, &none, &off);
        return CUBBY_OK;
    }
    for (unsigned i = 0; i < change->count; i++) {
        freeze(change->objects[i]);
    }
    struct outcome *outcome = calloc(1, sizeof *outcome);
    if (outcome == NULL) {
        return ENOMEM;
    }
    int status = build(session, change, outcome);
    if (status == ENOMEM) {
        discard(session, outcome);
        return ENOMEM;
    }
    /* Not as it was thought to be, now that it is frozen. */
    struct outcome *own = status == CUBBY_OK ? outcome : &off;
    if (!atomic_compare_exchange_strong(&change->outcome, &none, own) || own == &off) {
        discard(session, outcome);
    } else {
        count_change(session, change, outcome);
    }
    return CUBBY_OK;
}

/* Do a change as far as it has not been done. Returns CUBBY_OK, also where it is off, or ENOMEM. */
static int finish(struct volimap_session *session, struct change *change)
{
    struct outcome *outcome = atomic_load(&change->outcome);
    if (outcome == NULL) {
        int status = decide(session, change);
        if (status != CUBBY_OK) {
            return status;
        }
        outcome = atomic_load(&change->outcome);
    }
    if (outcome->is_off) {
        return CUBBY_OK;
    }
    int status = swing(session, change, outcome);
    if (status == CUBBY_OK && !atomic_exchange(&outcome->is_done, true)) {
        for (unsigned i = 0; i < change->count; i++) {
            retire(session, &change->objects[i]->retired, RETIRED_OBJECT);
        }
        retire(session, &change->retired, RETIRED_CHANGE);
        retire(session, &outcome->retired, RETIRED_OUTCOME);
    }
    if (status != CUBBY_OK) {
        atomic_store(&session->map->is_unfinished, true);
    }
    return status;
}

int change_help(struct volimap_session *session, struct object *met, struct change *change)
{
    int status = finish(session, change);
    if (status == CUBBY_OK && atomic_load(&change->outcome)->is_off) {
        unclaim(met, change);
    }
    return status;
}

int change_do(struct volimap_session *session, const struct change *model, bool *was_done)
{
    struct change *change = malloc(sizeof *change);
    if (change == NULL) {
        return ENOMEM;
    }
    *change = *model;
    /* One object is claimed as soon as anyone can meet it there. */
    atomic_init(&change->is_claimed, change->count == 1);
    if (claim(change)) {
        atomic_store(&change->is_claimed, true);
    } else {
        atomic_store(&change->outcome, &off);
    }
    int status = finish(session, change);
    struct outcome *outcome = NULL;
    if (status == ENOMEM) {
        /* Others may have met it, and do it: unless they have, it is off. */
        atomic_compare_exchange_strong(&change->outcome, &outcome, &off);
    }
    outcome = atomic_load(&change->outcome);
    if (outcome->is_off) {
        for (unsigned i = 0; i < change->count; i++) {
            unclaim(change->objects[i], change);
        }
        retire(session, &change->retired, RETIRED_CHANGE);
    }
    if (was_done != NULL) {
        *was_done = !outcome->is_off;
    }
    return status;
}

/* The end --------------------------------------------------------------------------------------
 */

/* The first object on the way to a key that is still to be replaced; NULL: none. *last: the last
 * key whose way ends there, too. Entries on the way are no longer frozen. */
static struct object *thaw_way(struct volimap *map, uint64_t key, uint64_t *last)
{
    _Atomic uint64_t *at = &map->root[key >> ROOT_ENTRY_BITS];
    unsigned entry_bits = ROOT_ENTRY_BITS;
    for (;;) {
        uint64_t entry = atomic_fetch_and(at, ~ENTRY_FROZEN);
        struct object *object = entry_object(entry);
        *last = key | key_mask(entry_bits);
        if (object == NULL || atomic_load(&object->change) != NULL) {
            return object;
        }
        if ((entry & ENTRY_DIRECTORY) == 0) {
            return NULL;
        }
        if (!object_has(object, key)) {
            *last = key < object->prefix ? object->prefix - 1 : *last;
            return NULL;
        }
        at = &object_entries(object)[entry_index(entry, key)];
        entry_bits = directory_entry_bits(object);
    }
}

void change_end(struct volimap_session *session)
{
    /* With nothing frozen a swing takes no memory. */
    for (unsigned round = 0; round < 2; round++) {
        uint64_t key = 0;
        uint64_t last;
        do {
            struct object *object = thaw_way(session->map, key, &last);
            if (object == NULL || round == 0) {
                key = last + 1;
                continue;
            }
            int status = change_help(session, object, atomic_load(&object->change));
            CUBBY_ASSERT(status == CUBBY_OK);
            last = 0; /* once more */
        } while (last != UINT64_MAX);
    }
}
