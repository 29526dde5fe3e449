/* volimap.h -- VoliMap: an ordered map of numbers whose index is a page table.
 *
 *   object.h    pages and directories, and the way from a key to its page
 *   page.h      what happens in a page
 *   change.h    how pages and directories are replaced while everyone works
 *   build.h     what they are replaced by
 *   retire.h    when what was replaced can be freed
 *   walk.h      pairs in order
 *   arena.h     memory
 *
 * See README.md here. These functions take any key.
 *
 * Threads: a map is shared; a session is one thread's at a time.
 *
 * Depends on: base, and the parts above.   Used by: api.c, engine/store.
 */
#ifndef CUBBY_VOLIMAP_H
#define CUBBY_VOLIMAP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/counter.h"
#include "engine/base/epoch.h"
#include "engine/volimap/arena.h"
#include "engine/volimap/object.h"
#include "engine/volimap/page.h"

/* Counters of one session, written by its thread alone. */
struct volimap_counters {
    _Atomic uint64_t pairs; /* put, less removed: below 0 where others put them */
    _Atomic uint64_t page_splits;
    _Atomic uint64_t page_merges;
    _Atomic uint64_t page_copies;
    _Atomic uint64_t directory_copies;
    _Atomic uint64_t page_copies_max; /* of one call */
    _Atomic uint64_t directory_copies_max;
    _Atomic uint64_t pages; /* made, less retired, likewise the next three */
    _Atomic uint64_t page_bytes;
    _Atomic uint64_t directories;
    _Atomic uint64_t directory_bytes;
    _Atomic uint64_t retired_bytes; /* that its list has */
};

struct volimap {
    _Atomic uint64_t root[ROOT_ENTRIES]; /* entries, by a key's three highest bits */
    struct arena arena;
    struct epoch epoch;
    atomic_bool is_unfinished; /* there was no memory to swing some change; see change_end */
    pthread_mutex_t lock;      /* guards all that follows */
    struct volimap_session *sessions;
    struct retired *orphans; /* of sessions that have been closed */
    struct volimap_counters ended;
};

struct volimap_session {
    struct epoch_slot slot;
    struct volimap *map; /* constant, as the next one */
    const struct volimap_gets *gets;
    struct volimap_session *next; /* guarded by volimap.lock */
    struct volimap_counters counters;
    /* What follows is its thread's. */
    struct retired *retired;   /* newest first */
    uint64_t oldest_epoch;     /* of those; 0: there are none, or all are new */
    uint64_t looked_bytes;     /* what they took when they were last looked through */
    uint32_t retired_count;    /* that have come since */
    uint32_t call_page_copies; /* of the call that is going on */
    uint32_t call_directory_copies;
    bool has_sparse; /* something may be mergeable near the key */
    uint64_t sparse_key;
};

int volimap_open(struct volimap *map);

/* After all its sessions. */
void volimap_close(struct volimap *map);

int volimap_session_open(struct volimap *map, struct volimap_session *session);
void volimap_session_close(struct volimap_session *session);

enum {
    VOLIMAP_MANY = 16, /* keys that are looked up at once, at most */
};

/* The calls that are made most, built twice: for any x86-64 processor, and for those of its third
 * level, which compare all nodes of a line at once. A session has those that are best here. */
struct volimap_gets {
    /* As cubby_volimap_get. */
    int (*get)(struct volimap_session *session, uint64_t key, uint64_t *value);
    /* Look up some keys at once. */
    void (*get_many)(struct volimap_session *session, unsigned count, const uint64_t *keys,
                     uint64_t *values, uint8_t *founds);
    /* Have the places where some keys are put come nearer. */
    void (*approach)(struct volimap_session *session, unsigned count, const uint64_t *keys);
};

extern const struct volimap_gets volimap_gets;
#ifdef CUBBY_X86_64_V3
extern const struct volimap_gets volimap_gets_x86_64_v3;
#endif

/* Do to a key's pair what write says. *result: one of the first five, if it returns 0; else ENOMEM,
 * and nothing has changed. */
int volimap_write(struct volimap_session *session, uint64_t key, struct page_write *write,
                  enum page_result *result);

uint64_t volimap_count(struct volimap *map);

/* Count pairs that a session has put, less those it has removed: for maps that are not in pages. */
void volimap_count_pairs(struct volimap_session *session, int64_t more);

struct volimap_memory {
    uint64_t used_bytes;  /* by pages and directories, also retired ones */
    uint64_t taken_bytes; /* from the system, for them */
    uint64_t session_count;
};

void volimap_memory(struct volimap *map, struct volimap_memory *memory);

/* The sums of all sessions, open and closed. */
void volimap_sum(struct volimap *map, struct volimap_counters *sum);

/* A gauge of a sum, which may be below 0 while sessions count: then 0. */
static inline uint64_t volimap_gauge(const _Atomic uint64_t *counter)
{
    uint64_t value = counter_read(counter);
    return value <= INT64_MAX ? value : 0;
}

static inline void volimap_enter(struct volimap_session *session)
{
    epoch_enter_quick(&session->map->epoch, &session->slot);
}

static inline void volimap_leave(struct volimap_session *session)
{
    epoch_leave(&session->slot);
}

/* Entries ---------------------------------------------------------------------------------------
 */

/* An entry, and where it is. */
struct spot {
    struct object *directory; /* that it is in; NULL: the root */
    _Atomic uint64_t *at;
    uint64_t entry;
    unsigned entry_bits; /* of the directory */
};

/* The way from a key to its page, without looking whether it is the one: an entry of a page, or 0.
 */
static inline uint64_t volimap_find_page(const struct volimap *map, uint64_t key)
{
    uint64_t entry = atomic_load_explicit(&map->root[key >> ROOT_ENTRY_BITS], memory_order_acquire);
    while ((entry & ENTRY_DIRECTORY) != 0) {
        entry = atomic_load_explicit(&object_entries(entry_object(entry))[entry_index(entry, key)],
                                     memory_order_acquire);
    }
    return entry;
}

/* Whether a key has a pair. Wait-free. */
static inline bool volimap_get(struct volimap_session *session, uint64_t key, uint64_t *value)
{
    volimap_enter(session);
    bool found = page_get(volimap_find_page(session->map, key), key, value);
    volimap_leave(session);
    return found;
}

static inline struct spot volimap_root_spot(struct volimap *map, uint64_t key)
{
    struct spot spot = {.at = &map->root[key >> ROOT_ENTRY_BITS], .entry_bits = ROOT_ENTRY_BITS};
    spot.entry = atomic_load(spot.at);
    return spot;
}

/* Whether there is another entry for a key below, and go to that. */
static inline bool volimap_leads_on(const struct spot *spot, uint64_t key)
{
    return (spot->entry & ENTRY_DIRECTORY) != 0 && object_has(entry_object(spot->entry), key);
}

static inline void volimap_go_on(struct spot *spot, uint64_t key)
{
    spot->directory = entry_object(spot->entry);
    spot->at = &object_entries(spot->directory)[entry_index(spot->entry, key)];
    spot->entry_bits = directory_entry_bits(spot->directory);
    spot->entry = atomic_load(spot->at);
}

/* The last entry that stands for a key: of its page, or of a directory that has not got it, or 0
 * in the root. */
static inline struct spot volimap_find_spot(struct volimap *map, uint64_t key)
{
    struct spot spot = volimap_root_spot(map, key);
    while (volimap_leads_on(&spot, key)) {
        volimap_go_on(&spot, key);
    }
    return spot;
}

/* The entry that leads to a directory; where none does any more, the last one on the way there. */
static inline struct spot volimap_find_above(struct volimap *map, const struct object *directory)
{
    struct spot spot = volimap_root_spot(map, directory->prefix);
    while (entry_object(spot.entry) != directory && volimap_leads_on(&spot, directory->prefix)) {
        volimap_go_on(&spot, directory->prefix);
    }
    return spot;
}

#endif
