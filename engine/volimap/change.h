/* change.h -- how pages and directories are replaced while everyone works.
 *
 * A change replaces one to three objects. Whoever needs it, or meets it, does it, as far as it has
 * not been done:
 *
 *   claim     each object's change becomes this one; if another one is there, this one is off. That
 *             is done by its maker alone, and who meets it before it has them all puts it off
 *   freeze    each object: nodes and entries stay as they are from now on
 *   build     what they are replaced by, from what is frozen (build.h): anybody may, and the first
 *             one to publish it as the outcome is the one; the others throw theirs away
 *   swing     each entry that leads to one of the objects leads to its part of the outcome
 *   retire    who is the first to have swung all retires the objects
 *
 * So there is no lock, and nobody waits: what holds one up, one does oneself. An entry that is to
 * be swung may be in a directory that is itself being replaced: then that is done first.
 *
 * An object that was frozen for a change that was off stays so, and is replaced by the next one.
 *
 * Who meets a change in one object may look at its others only while it has them all: then they are
 * not retired, nor have they been before that one came in. An object that it has not got yet, or no
 * longer, may have been freed for all but the change's maker, who was inside when it found it. And
 * as the maker alone claims, nothing leads to a change that is off once its maker retires it.
 *
 * Depends on: volimap.h.   Used by: volimap.c, build.c.
 */
#ifndef CUBBY_VOLIMAP_CHANGE_H
#define CUBBY_VOLIMAP_CHANGE_H

#include "engine/volimap/volimap.h"

enum change_kind {
    CHANGE_PAGE,      /* [page]: by a larger or smaller one, or by several */
    CHANGE_DIRECTORY, /* [directory]: by one that is deeper, so that it can part a key from others
                       */
    CHANGE_REWRITE,  /* [directory, page]: a page by several, and the directory it is in by one that
                        has entries for them */
    CHANGE_MERGE,    /* [page, page]: two neighbours, of the same directory, by one */
    CHANGE_COLLAPSE, /* [child, page] or [child, page, directory]: a child that has no other page,
                        by a page in the directory that it is in; without that: in the root */
};

enum { CHANGE_OBJECTS_MAX = 3 };

struct outcome;

struct change {
    struct retired retired;
    enum change_kind kind; /* constant, as what follows */
    unsigned count;
    struct object *objects[CHANGE_OBJECTS_MAX];
    uint64_t key; /* that there must be room for, with which wants_room is set */
    bool wants_room;
    atomic_bool is_claimed;            /* it has had them all */
    _Atomic(struct outcome *) outcome; /* NULL: there is none yet */
};

/* How an aligned range of keys is divided among entries: by one bit between two of them, where the
 * keys agree with key above it; where they do not, by the highest bit in which they differ. */
struct division {
    uint64_t key;
    unsigned split;                       /* the bit */
    uint64_t sides[2];                    /* its entries, by the bit */
    uint64_t others[DIRECTORY_DEPTH_MAX]; /* by how far the highest bit is above it, less one */
};

/* What is there in place of the objects. */
struct outcome {
    struct retired retired;
    atomic_bool is_done; /* all is swung, and the objects are retired */
    bool is_off;         /* nothing: the change was off */
    bool is_directory;   /* whole is the entry of what replaces objects[replaced]; else division is
                            for the entries of a range of keys */
    unsigned replaced;
    uint64_t whole;
    uint64_t prefix; /* of the range, 2^bits keys */
    unsigned bits;
    struct division division;
    struct object *made; /* new objects, listed by retired.next */
};

/* The entry for the keys from this one on, which agree in the bits below. */
static inline uint64_t division_entry(const struct division *division, uint64_t key)
{
    uint64_t difference = (key ^ division->key) >> division->split >> 1;
    if (difference != 0) {
        return division->others[highest_bit(difference)];
    }
    return division->sides[key >> division->split & 1];
}

/* Make a change of these objects, and do it. *was_done, if not NULL: whether it was not off.
 * Returns CUBBY_OK or ENOMEM; then nothing has been changed. Inside. */
int change_do(struct volimap_session *session, const struct change *model, bool *was_done);

/* Do a change that was met in an object. As above. */
int change_help(struct volimap_session *session, struct object *met, struct change *change);

/* Do what could not be done for want of memory; nobody else is inside, nor will be. */
void change_end(struct volimap_session *session);

#endif
