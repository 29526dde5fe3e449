/* space.h -- the store's watch over the physical space of its device.
 *
 * A device that compresses has more blocks than it has room for if they do not compress, so it can
 * run out before the store is full. Where it tells its physical capacity, the store stops first:
 *
 *   physical use      mark                what still goes on
 *   under 85 %        none                everything
 *   from 85 %         warn                everything; quarantine ends sooner
 *   from 92 %         no growth           puts that do not make a pair larger, deletes, gets
 *   from 95 %         read and delete     deletes, gets, and checkpoints, which give space back
 *
 * The percentages are options of cubby_open. What the device says of itself counts as well: warning
 * as the first mark, throttled as the second, rejecting as the third. Where no capacity is told
 * there are no marks; nor on plain files and memory (usage_is_of_device says why).
 *
 * The device is asked when the store is opened, after so many blocks written as could not take it
 * past the next mark, but at least one in 256 of its capacity and at most 1 MiB, after a checkpoint
 * has given space back, and before a put is refused. So the marks are overshot by a two hundred and
 * fifty-sixth of the capacity, or 64 KiB, and what is being written at that moment.
 *
 * Depends on: store.h.   Used by: put.c, put_many.c, compact.c, blob.c, step.c, checkpoint.c,
 * open.c, stat.c.
 */
#ifndef CUBBY_SPACE_H
#define CUBBY_SPACE_H

#include "engine/store/store.h"

/* Set the marks' percentages, which have been checked, and ask the device for the first time. */
void space_open(cubby_store *store, const struct cubby_options *options);

/* The percentages of the three marks, with their defaults filled in. Returns whether they can be
 * used: 1 to 100 or CUBBY_PERCENT_NEVER, none below the one before. */
bool space_percents(const struct cubby_options *options, uint32_t percents[SPACE_MARK_COUNT]);

/* The mark that a usage has reached. */
enum cubby_space_mark space_mark_of(const cubby_store *store, const struct block_usage *usage);

/* Ask the device now. */
void space_ask(cubby_store *store);

/* Count what the session has written since the last time, and ask the device if it is due. */
void space_note_writes(cubby_session *session);

/* The mark when the device was last asked. */
static inline enum cubby_space_mark space_mark(const cubby_store *store)
{
    return (enum cubby_space_mark)atomic_load_explicit(&store->space.mark, memory_order_relaxed);
}

/* Whether a pair may be put that grows, or does not, as far as was known when the device was last
 * asked. */
static inline bool space_allows(const cubby_store *store, bool grows)
{
    return space_mark(store) < (grows ? CUBBY_MARK_NO_GROWTH : CUBBY_MARK_READ_DELETE);
}

/* Whether a pair was refused because there is no place for it, in the store or on its device. */
static inline bool space_is_lacking(int status)
{
    return status == CUBBY_FULL || status == CUBBY_PHYSICAL_FULL || status == CUBBY_UNPLACEABLE;
}

/* Whether a put that writes so many bytes may come to a mark that refuses it. */
bool space_may_refuse(const cubby_store *store, uint64_t byte_count);

/* Let a pair be put, or refuse it, for which the device has just been asked. May be called with a
 * segment's lock held. Returns CUBBY_OK, or CUBBY_PHYSICAL_FULL with a message. */
int space_admit(cubby_session *session, bool grows);

/* After a refusal: end the quarantine, if it holds enough to be worth a checkpoint. Must not be
 * called with a segment's lock held, or inside the epoch. Returns whether to try again. Leaves the
 * session's message alone. */
bool space_make_room(cubby_session *session);

/* Whether three quarters of the physical space were used when the device was last asked, whatever
 * the marks are; false where it does not tell. */
bool space_is_nearly_used_up(const cubby_store *store);

/* Whether quarantine should end sooner because the device is getting full. */
bool space_wants_release(cubby_store *store);

#endif
