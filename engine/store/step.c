/* step.c -- see step.h; cubby_step and cubby_sync. */
#include "engine/store/step.h"

#include "engine/base/cubby_assert.h"
#include "engine/store/checkpoint.h"
#include "engine/store/rebuild.h"
#include "engine/store/space.h"

static int step_once(cubby_session *session, bool *did_work)
{
    cubby_store *store = session->store;
    *did_work = checkpoint_release_step(session);
    if (*did_work) {
        return CUBBY_OK;
    }
    bool is_releasing = atomic_load_explicit(&store->doomed_left, memory_order_relaxed) > 0;
    if (!is_releasing && (extents_want_release(&store->extents) || space_wants_release(store))) {
        int status = checkpoint_write(session, CHECKPOINT_IN_STEPS);
        *did_work = status == CUBBY_OK;
        return status;
    }
    /* A split takes space before it gives any back. */
    if (!rebuild_owes_split(store) || atomic_load(&store->split_blocked) ||
        !space_allows(store, true)) {
        return CUBBY_OK;
    }
    int status = rebuild_split_next(session, did_work);
    if (status != CUBBY_OK) {
        /* Not again with every put: until space is released, or the store is reopened. */
        atomic_store(&store->split_blocked, true);
    }
    return status;
}

bool step_after_write(cubby_session *session)
{
    bool did_work;
    (void)step_once(session, &did_work);
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
    status = step_once(session, &did);
    if (status == CUBBY_OK) {
        *did_work = did;
    }
    return session_leave(session, status);
}

int cubby_sync(cubby_session *session)
{
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    uint64_t begin_ns = store_now_ns(session->store);
    status = checkpoint_write(session, CHECKPOINT_NOW);
    session_note_latency(session, CUBBY_OPERATION_SYNC, begin_ns);
    return session_leave(session, status);
}
