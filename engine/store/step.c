/* step.c -- see step.h; cubby_step and cubby_sync. */
#include "engine/store/step.h"

#include <errno.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/checkpoint.h"
#include "engine/store/rebuild.h"
#include "engine/store/simulator.h"
#include "engine/store/space.h"
#include "engine/store/writeback.h"

enum {
    RELEASE_ASKED_PARTS = 64, /* of the log, between two looks at what could be released */
};

/* End the quarantine of what was freed, which takes space that others want. What a recovery may
 * still need for dirty pairs stays held until they are written back. */
static int release_held(cubby_session *session, bool *did_work)
{
    cubby_store *store = session->store;
    uint64_t end = atomic_load(&store->log.end);
    uint64_t asked_at = atomic_load(&store->release_asked_at);
    bool is_scarce = space_wants_release(store) ||
                     extents_free_count(&store->extents) < store->extents.extent_count / 4;
    if (!is_scarce && end - asked_at < log_capacity(&store->log) / RELEASE_ASKED_PARTS) {
        return CUBBY_OK; /* not with every put: each run that is held is looked at */
    }
    atomic_store(&store->release_asked_at, end);
    uint64_t oldest = store_needed_lsn(store);
    if (extents_held_before(&store->extents, oldest) * 2 < extents_held_blocks(&store->extents)) {
        return is_scarce ? writeback_step(session, true, did_work) : CUBBY_OK;
    }
    int status = checkpoint_write(session, CHECKPOINT_IN_STEPS);
    *did_work = status == CUBBY_OK;
    return status;
}

static int split(cubby_session *session, bool *did_work)
{
    cubby_store *store = session->store;
    /* A split takes space before it gives any back. */
    if (!rebuild_owes_split(store) || atomic_load(&store->split_blocked) ||
        !space_allows(store, true) || atomic_load(&store->degraded) != 0) {
        return CUBBY_OK;
    }
    int status = rebuild_split_next(session, did_work);
    if (status != CUBBY_OK && status != EAGAIN) {
        /* Not again with every put: until space is released, or the store is reopened. */
        atomic_store(&store->split_blocked, true);
    }
    return status == EAGAIN ? CUBBY_OK : status;
}

static int step_once(cubby_session *session, bool is_idle, bool *did_work)
{
    cubby_store *store = session->store;
    *did_work = checkpoint_release_step(session);
    if (*did_work) {
        return CUBBY_OK;
    }
    if (log_wants_flush(&store->log)) {
        *did_work = true;
        return log_flush(session);
    }
    bool is_releasing = atomic_load_explicit(&store->doomed_left, memory_order_relaxed) > 0;
    if (!is_releasing && (extents_want_release(&store->extents) || space_wants_release(store))) {
        int status = release_held(session, did_work);
        if (status != CUBBY_OK || *did_work) {
            return status;
        }
    }
    int status = split(session, did_work);
    if (status == CUBBY_OK && !*did_work) {
        status = writeback_step(session, is_idle, did_work);
    }
    if (status == CUBBY_OK && !*did_work && is_idle) {
        *did_work = dirty_tidy(&store->dirty);
    }
    bool is_at_rest = is_idle && status == CUBBY_OK && !*did_work && !is_releasing &&
                      atomic_load(&store->dirty.count) == 0;
    if (is_at_rest && extents_held_blocks(&store->extents) > 0) {
        status = checkpoint_write(session, CHECKPOINT_IN_STEPS);
        *did_work = status == CUBBY_OK;
    }
    return status;
}

bool step_after_write(cubby_session *session)
{
    bool did_work;
    if (SIMULATOR_IS_NESTED()) {
        return false;
    }
    (void)step_once(session, false, &did_work);
    session->message[0] = '\0';
    return did_work;
}

int cubby_step(cubby_session *session, int *did_work)
{
    CUBBY_ASSERT(did_work != NULL);
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    bool did;
    status = step_once(session, true, &did);
    if (status == CUBBY_OK) {
        *did_work = did;
    }
    return session_leave(session, status);
}

/* Where space is short what has been freed is to be had again after a sync. What has no place in a
 * full store stays in the log, which is flushed: no failure of the sync. */
static int give_space_back(cubby_session *session)
{
    cubby_store *store = session->store;
    if (atomic_load(&store->degraded) != 0 || !writeback_is_tight(store)) {
        return CUBBY_OK;
    }
    int status = writeback_drain(session);
    if (status == CUBBY_OK) {
        status = checkpoint_write(session, CHECKPOINT_NOW);
    }
    if (status == CUBBY_FULL || status == EAGAIN) {
        session->message[0] = '\0';
        status = CUBBY_OK;
    }
    return status;
}

int cubby_sync(cubby_session *session)
{
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    uint64_t begin_ns = store_now_ns(session->store);
    status = log_flush(session);
    if (status == CUBBY_OK) {
        status = give_space_back(session);
    }
    session_note_latency(session, CUBBY_OPERATION_SYNC, begin_ns);
    return session_leave(session, status);
}
