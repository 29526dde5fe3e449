/* crash_model.h -- what a store may hold after a crash: the changes that were asked of it, in
 * order.
 *
 * Time is counted in positions. Position 0 is the last moment at which everything was known (base);
 * each change since then has the next position, and all changes of a batch share one. After a crash
 * a store is sound if there is ONE position p for all keys such that each key is as the changes up
 * to p have left it, and p is not before the last change that had to survive (I13).
 *
 *   position  0      1      2      3 (batch)     4
 *   key 0     base   a1     .      a3            .       found a1: 1 <= p <= 2
 *   key 1     base   .      b2     b3            .       found b2: p = 2
 *   key 2     base   .      .      .             c4      found base: p <= 3     so p = 2
 *
 * A value found more than once among a key's changes (empty ones are alike) allows several ranges,
 * and so does a key that is not there, since its pair may have expired. So each key adds 1 to every
 * position that it allows; p is a position that all keys allow.
 *
 * Loose changes, such as the pairs of one call that stores them in no particular order, have a
 * range of positions in common: before it none has happened, after it all have, and inside any of
 * them.
 *
 * A change whose call has failed with an error of the device, on a store that went on, is doubtful:
 * it may have happened or not, whatever p is. One that has turned out not to have happened is void.
 *
 * Pure memory.   Depends on: nothing.   Used by: crash_*.c, test_crash_model.c.
 */
#ifndef CUBBY_CRASH_MODEL_H
#define CUBBY_CRASH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A key's pair, or that it has none. All zeros: none. */
struct crash_content {
    bool is_present;
    uint32_t version;    /* that put it; only for people, not compared */
    uint64_t size;       /* bytes of the value */
    uint64_t hash;       /* of the value */
    uint64_t expires_ms; /* 0: never */
};

struct crash_change {
    uint32_t key_index;
    uint32_t older;         /* the change of the same key before it, or CRASH_NO_CHANGE */
    uint32_t position;      /* from 1: it may be seen from here on, ... */
    uint32_t last_position; /* ... and must be from here on; the same but for loose changes */
    bool is_doubtful;
    bool is_void;
    struct crash_content content;
};

#define CRASH_NO_CHANGE UINT32_MAX

struct crash_model {
    uint32_t key_count;
    struct crash_content *base; /* of each key at position 0 */
    uint32_t *newest;           /* of each key: its last change, or CRASH_NO_CHANGE */
    struct crash_change *changes;
    size_t change_count;
    size_t change_capacity;
    uint32_t position;         /* of the last change */
    uint32_t process_position; /* what the death of the process must not take */
    uint32_t power_position;   /* what a power cut must not take */
    uint64_t now_ms;           /* the wall clock: pairs that expire up to now are not there */
};

/* Every key absent. Without memory the program stops. */
void crash_model_open(struct crash_model *model, uint32_t key_count);
void crash_model_close(struct crash_model *model);

/* Begin the next position, and add a change to the one begun last. */
void crash_model_begin(struct crash_model *model);
void crash_model_add(struct crash_model *model, uint32_t key_index,
                     const struct crash_content *content);

/* The changes from this one on, each at a position of its own, are loose. */
void crash_model_loosen(struct crash_model *model, size_t first_change);

/* Everything up to now survives the death of the process, or (power) both that and a power cut. */
void crash_model_keep(struct crash_model *model, bool power);

/* The changes from this one on may have happened or not. */
void crash_model_doubt(struct crash_model *model, size_t first_change);

/* The pair that a key has by the last change that is not doubtful; absent if it has expired. */
struct crash_content crash_model_current(const struct crash_model *model, uint32_t key_index);

/* Whether a key has changes that may have happened or not. */
bool crash_model_is_doubtful(const struct crash_model *model, uint32_t key_index);

/* Whether a running store may show this pair for a key. */
bool crash_model_accepts(const struct crash_model *model, uint32_t key_index,
                         const struct crash_content *found);

/* Doubtful changes from first_change on, of a store that goes on: found is what it shows for this
 * key now. Decides which of them have happened, as far as that tells; the others become void.
 * Returns false if none of them, nor what was before, is what was found. */
bool crash_model_resolve(struct crash_model *model, size_t first_change, uint32_t key_index,
                         const struct crash_content *found);

/* What explains a state, or why nothing does. */
struct crash_conflict {
    uint32_t position;  /* the one that fits all keys, or else most */
    uint32_t misfits;   /* keys that do not fit it; 0: all do, but it is before the bound */
    uint32_t key_index; /* one of them */
    struct crash_content expected;
    bool is_torn_batch; /* a doubtful batch has happened by half: key_index has it, other_index not
                         */
    uint32_t other_index;
};

/* Compare all keys with found, and find the last position, bound or later, that explains them.
 * On success that is the new base, and true is returned. *conflict is set. */
bool crash_model_settle(struct crash_model *model, const struct crash_content *found,
                        uint32_t bound, struct crash_conflict *conflict);

#endif
