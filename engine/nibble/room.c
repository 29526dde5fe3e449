/* room.c -- room for what is put: chunks of the log, and compaction when they run out.
 *
 * Who needs a chunk while few segments are free compacts some before it takes one, in proportion to
 * what it takes, so that nobody ever has to compact much at once. Who finds none at all compacts
 * until there is one, or it is clear that there will be none.
 */
#include <time.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/pause.h"
#include "engine/nibble/nibble.h"

enum {
    HELP_FACTOR = 8, /* bytes looked at for each byte taken, when few segments are free */
    VIEW_PAUSE_NS = 100000,
    VIEW_PAUSES = 1000,       /* a tenth of a second: who views for longer makes others fail */
    PRESSED_AFTER_ROUNDS = 4, /* what is used is evicted, too */
    FULL_AFTER_ROUNDS =
        64, /* segments looked at in vain: at 98 % live, 50 of them make a free one */
};

/* How often it has been tried to get something, in vain. */
struct effort {
    unsigned rounds;
    uint64_t taken; /* segments that clients had taken by then: who is faster does not count */
};

static uint64_t taken_by_clients(const struct nibble_session *session)
{
    return atomic_load(&session->nibble->segments.nodes[session->node].client_segments);
}

static struct effort begin_effort(const struct nibble_session *session)
{
    return (struct effort){.taken = taken_by_clients(session)};
}

/* Wait a moment for views of others to end, if what is free waits for them. Returns whether to look
 * again. */
static bool wait_for_views(struct nibble_session *session, unsigned round)
{
    const struct timespec pause = {.tv_nsec = VIEW_PAUSE_NS};
    if (session->view_count > 0 || round > VIEW_PAUSES ||
        !segments_wait_for_views(&session->nibble->segments, session->node)) {
        return false;
    }
    nanosleep(&pause, NULL);
    return true;
}

/* Compact until what is wanted may be there. Returns CUBBY_FULL where it will not be. */
static int compact(struct nibble_session *session, struct effort *effort)
{
    struct nibble *nibble = session->nibble;
    uint64_t taken = taken_by_clients(session);
    effort->rounds = taken == effort->taken ? effort->rounds + 1 : 0;
    effort->taken = taken;
    unsigned round = effort->rounds;
    for (unsigned turn = 0;; turn++) {
        enum nibble_cleaned done =
            round > FULL_AFTER_ROUNDS
                ? NIBBLE_CLEAN
                : nibble_clean(nibble, session->node, nibble->segments.segment_bytes,
                               round > PRESSED_AFTER_ROUNDS);
        if (done == NIBBLE_CLEANED) {
            return CUBBY_OK;
        }
        if (done == NIBBLE_CLEAN) {
            /* Nothing is left to be compacted; but others may be about to give something back: a
             * view that ends, a chunk that is full, a segment that is being compacted. */
            pause_turn(PAUSE_TURNS_MAX);
            return round <= FULL_AFTER_ROUNDS || wait_for_views(session, round) ? CUBBY_OK
                                                                                : CUBBY_FULL;
        }
        pause_turn(turn);
        if (turn > PAUSE_TURNS_MAX && segments_available(&nibble->segments, session->node) > 0) {
            return CUBBY_OK;
        }
    }
}

int nibble_append(struct nibble_session *session, size_t bytes, enum segment_head head,
                  uint8_t **object)
{
    struct nibble *nibble = session->nibble;
    struct segments *segments = &nibble->segments;
    bool is_large = bytes * 8 > segments->block_bytes;
    struct segment_chunk *chunk = is_large                 ? &session->large_chunk
                                  : head == HEAD_SURVIVORS ? &session->old_chunk
                                                           : &session->chunk;
    *object = segment_chunk_append(chunk, bytes);
    if (__builtin_expect(*object != NULL, 1)) {
        return CUBBY_OK;
    }
    if (segments_available(segments, session->node) < NIBBLE_LOW_MARK) {
        counter_add(&session->counters.helped, 1);
        uint64_t taken = is_large ? bytes : segments->block_bytes;
        (void)nibble_clean(nibble, session->node, HELP_FACTOR * taken, false);
    }
    struct effort effort = begin_effort(session);
    while (!segments_take_chunk(segments, session->node, head, bytes, is_large, chunk)) {
        int status = compact(session, &effort);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    *object = segment_chunk_append(chunk, bytes);
    CUBBY_ASSERT(*object != NULL);
    return CUBBY_OK;
}

void nibble_retract(struct nibble_session *session, uint8_t *object, size_t bytes)
{
    struct segment_chunk *chunk = session->large_chunk.at == object + bytes ? &session->large_chunk
                                  : session->old_chunk.at == object + bytes ? &session->old_chunk
                                                                            : &session->chunk;
    segment_chunk_retract(chunk, bytes);
    nibble_appended(session);
}

void nibble_appended(struct nibble_session *session)
{
    if (session->large_chunk.end != NULL) {
        segments_release_chunk(&session->nibble->segments, &session->large_chunk);
    }
}

int nibble_make_room(struct nibble_session *session)
{
    struct nibble *nibble = session->nibble;
    struct effort effort = begin_effort(session);
    while (!segments_give_back(&nibble->segments)) {
        int status = compact(session, &effort);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    return CUBBY_OK;
}

int nibble_lend(struct nibble_session *session, uint64_t bytes)
{
    while (!budget_take(&session->nibble->budget, bytes)) {
        int status = nibble_make_room(session);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    return CUBBY_OK;
}

void nibble_reclaim(struct nibble *nibble, uint64_t bytes)
{
    budget_return(&nibble->budget, bytes);
}
