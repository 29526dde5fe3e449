/* dirty_places.c -- see dirty_places.h. */
#include "engine/store/dirty_places.h"

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

/* Chains ----------------------------------------------------------------------------------------
 */

static bool is_last(const struct dirty_entry *entry)
{
    return entry->next_high == entry->hash.high;
}

int dirty_mark_locked(struct dirty *dirty, struct key_hash hash)
{
    struct key_hash first = {.low = hash.low};
    struct dirty_entry entry;
    int status = dirty_marks_add(&dirty->marks, &dirty->memory, dirty_place_of(hash), hash.high,
                                 &first.high);
    if (status != CUBBY_OK || first.high == hash.high || dirty_peek_locked(dirty, first, &entry)) {
        return status;
    }
    return dirty_marks_set(&dirty->marks, dirty_place_of(hash), hash.high); /* it had none */
}

static void unmark(struct dirty *dirty, uint64_t place)
{
    dirty_marks_remove(&dirty->marks, &dirty->memory, place);
}

void dirty_unmark_locked(struct dirty *dirty, struct key_hash hash)
{
    struct key_hash first = {.low = hash.low};
    struct dirty_entry entry;
    if (dirty_marks_get(&dirty->marks, dirty_place_of(hash), &first.high) &&
        !dirty_peek_locked(dirty, first, &entry)) {
        unmark(dirty, dirty_place_of(hash));
    }
}

/* Mark a marked place with another pair. There has to be memory for this only if two keys have the
 * same 64 bits of a secret hash, and there has been none before. */
static void mark_anew(struct dirty *dirty, struct key_hash hash)
{
    int status = dirty_marks_set(&dirty->marks, dirty_place_of(hash), hash.high);
    CUBBY_ASSERT(status == CUBBY_OK);
}

void dirty_join_place(struct dirty *dirty, struct dirty_entry *entry, struct key_hash hash)
{
    struct key_hash first = {.low = hash.low};
    struct dirty_entry before;
    bool is_marked = dirty_marks_get(&dirty->marks, dirty_place_of(hash), &first.high);
    CUBBY_ASSERT(is_marked);
    entry->next_high = hash.high;
    if (first.high == hash.high) {
        return;
    }
    if (!dirty_peek_locked(dirty, first, &before)) {
        mark_anew(dirty, hash);
        return;
    }
    entry->next_high = is_last(&before) ? hash.high : before.next_high;
    before.next_high = hash.high;
    dirty_amend_tail(dirty, &before);
}

void dirty_leave_place(struct dirty *dirty, const struct dirty_entry *entry)
{
    struct key_hash other = entry->hash;
    struct dirty_entry before;
    bool is_there = dirty_marks_get(&dirty->marks, dirty_place_of(other), &other.high);
    CUBBY_ASSERT(is_there);
    if (other.high == entry->hash.high) {
        if (is_last(entry)) {
            unmark(dirty, dirty_place_of(other));
        } else {
            mark_anew(dirty, (struct key_hash){.low = other.low, .high = entry->next_high});
        }
        return;
    }
    do {
        is_there = dirty_peek_locked(dirty, other, &before);
        CUBBY_ASSERT(is_there && !is_last(&before));
        other.high = before.next_high;
    } while (other.high != entry->hash.high);
    before.next_high = is_last(entry) ? before.hash.high : entry->next_high;
    dirty_amend_tail(dirty, &before);
}

/* All of a segment ------------------------------------------------------------------------------
 */

/* What to do at a marked place of a locked shard. */
typedef int visit_place(struct dirty *dirty, uint64_t place, uint64_t high_hash, void *state);

/* Visit the marked places from first to last, which are of one shard, that is locked. */
static int each_place_locked(struct dirty *dirty, uint64_t first, uint64_t last, visit_place *visit,
                             void *state)
{
    uint64_t places[DIRTY_MARKS_PIECE];
    uint64_t high_hashes[DIRTY_MARKS_PIECE];
    for (;;) {
        size_t count = dirty_marks_range(&dirty->marks, first, last, places, high_hashes);
        for (size_t i = 0; i < count; i++) {
            int status = visit(dirty, places[i], high_hashes[i], state);
            if (status != CUBBY_OK) {
                return status;
            }
        }
        if (count < DIRTY_MARKS_PIECE || places[count - 1] == last) {
            return CUBBY_OK;
        }
        first = places[count - 1] + 1;
    }
}

static int each_place(struct dirty *dirty, uint64_t first, uint64_t last, visit_place *visit,
                      void *state)
{
    if (atomic_load(&dirty->marks.count) == 0) {
        return CUBBY_OK;
    }
    for (;;) {
        uint64_t shard_last = first | UINT64_MAX >> DIRTY_SHARD_BITS;
        uint64_t upto = last < shard_last ? last : shard_last;
        struct dirty_shard *shard = &dirty->shards[dirty_shard_number(first)];
        pthread_mutex_lock(&shard->lock);
        int status = each_place_locked(dirty, first, upto, visit, state);
        pthread_mutex_unlock(&shard->lock);
        if (status != CUBBY_OK || upto == last) {
            return status;
        }
        first = upto + 1;
    }
}

struct visiting {
    dirty_visit *visit;
    void *state;
};

/* Visit the pairs of a place. */
static int visit_chain(struct dirty *dirty, uint64_t place, uint64_t high_hash, void *state)
{
    const struct visiting *visiting = state;
    struct key_hash hash = {.low = bit_reverse(place), .high = high_hash};
    struct dirty_entry entry;
    if (!dirty_peek_locked(dirty, hash, &entry)) {
        unmark(dirty, place);
        return CUBBY_OK;
    }
    for (;;) {
        bool was_hot = entry.is_hot;
        int status = visiting->visit(&entry, visiting->state);
        if (entry.is_hot != was_hot) {
            dirty_amend_tail(dirty, &entry);
        }
        if (status != CUBBY_OK || is_last(&entry)) {
            return status;
        }
        hash.high = entry.next_high;
        bool is_there = dirty_peek_locked(dirty, hash, &entry);
        CUBBY_ASSERT(is_there);
    }
}

int dirty_each_of_segment(struct dirty *dirty, uint64_t segment_number, unsigned depth,
                          dirty_visit *visit, void *state)
{
    struct visiting visiting = {visit, state};
    uint64_t first = bit_reverse(segment_number);
    uint64_t others = depth < 64 ? UINT64_MAX >> depth : 0;
    CUBBY_ASSERT((first & others) == 0);
    return each_place(dirty, first, first | others, visit_chain, &visiting);
}

int dirty_each(struct dirty *dirty, dirty_visit *visit, void *state)
{
    return dirty_each_of_segment(dirty, 0, 0, visit, state);
}

struct placing {
    uint64_t others; /* bits of a place that are not those of its segment */
    uint64_t seen;   /* the last place of the last segment that was visited; */
    bool has_seen;   /* there was one */
    dirty_place *visit;
    void *state;
};

/* Visit the first place of each segment. */
static int visit_first(struct dirty *dirty, uint64_t place, uint64_t high_hash, void *state)
{
    struct placing *placing = state;
    (void)dirty;
    (void)high_hash;
    if (placing->has_seen && place <= placing->seen) {
        return CUBBY_OK;
    }
    placing->has_seen = true;
    placing->seen = place | placing->others;
    return placing->visit(bit_reverse(place), placing->state);
}

int dirty_each_place(struct dirty *dirty, unsigned depth, dirty_place *visit, void *state)
{
    struct placing placing = {
        .others = depth < 64 ? UINT64_MAX >> depth : 0,
        .visit = visit,
        .state = state,
    };
    return each_place(dirty, 0, UINT64_MAX, visit_first, &placing);
}

static int find_any(struct dirty_entry *entry, void *state)
{
    (void)entry;
    (void)state;
    return CUBBY_EXISTS;
}

bool dirty_any_of_segment(struct dirty *dirty, uint64_t segment_number, unsigned depth)
{
    return dirty_each_of_segment(dirty, segment_number, depth, find_any, NULL) != CUBBY_OK;
}
