/* session.c -- sessions: what each thread has of an open store, and how calls begin and end.
 *
 * Depends on: store.h, async_get.h, space.h.   Used by: every public call.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/async_get.h"
#include "engine/store/space.h"
#include "engine/store/sweep.h"

enum {
    RESULT_BYTES_KEPT = 16 << 20,
};

int session_fail(cubby_session *session, int status, const char *format, ...)
{
    CUBBY_ASSERT(status != CUBBY_OK);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(session->message, sizeof session->message, format, arguments);
    va_end(arguments);
    return status;
}

static bool is_forked(const cubby_store *store)
{
    return atomic_load_explicit(store->fork_guard, memory_order_relaxed) == 0;
}

/* What the last call handed out is no longer valid: memory that a huge value took goes back. */
static void trim_results(cubby_session *session)
{
    if (session->value.capacity > RESULT_BYTES_KEPT) {
        aligned_buffer_free(&session->value);
    }
    if (session->many_values.capacity > RESULT_BYTES_KEPT) {
        aligned_buffer_free(&session->many_values);
    }
}

int session_enter(cubby_session *session, bool writes)
{
    CUBBY_ASSERT(session != NULL);
    cubby_store *store = session->store;
    session->message[0] = '\0';
    if (is_forked(store)) {
        return session_fail(session, CUBBY_FORKED, "%s", cubby_status_text(CUBBY_FORKED));
    }
    /* Sequentially consistent with cubby_close and cubby_check: either they see busy, or we see
     * what they have set. */
    atomic_store(&session->busy, writes ? SESSION_WRITES : SESSION_READS);
    while (writes && atomic_load(&store->checking)) {
        atomic_store(&session->busy, SESSION_IDLE);
        pthread_mutex_lock(&store->check_lock);
        pthread_mutex_unlock(&store->check_lock);
        atomic_store(&session->busy, SESSION_WRITES);
    }
    if (atomic_load(&store->closing)) {
        atomic_store(&session->busy, SESSION_IDLE);
        return session_fail(session, CUBBY_CLOSED, "%s", cubby_status_text(CUBBY_CLOSED));
    }
    trim_results(session);
    session_forget_now(session);
    int status = CUBBY_OK;
    if (writes) {
        if (store->read_only) {
            status = CUBBY_READ_ONLY;
        } else if (atomic_load_explicit(&store->poisoned, memory_order_relaxed)) {
            status = CUBBY_POISONED;
        } else if (atomic_load_explicit(&store->degraded, memory_order_acquire) != 0) {
            status = session_fail(session, CUBBY_DEGRADED, "%s", store->degraded_message);
        } else if (!atomic_load_explicit(&store->in_use, memory_order_acquire)) {
            status = store_mark_in_use(session);
        }
    }
    if (status != CUBBY_OK) {
        return session_leave(session, status);
    }
    return CUBBY_OK;
}

/* Answers, not failures: too frequent to spend a message on. */
static bool is_answer(int status)
{
    return status == CUBBY_OK || status == CUBBY_NOT_FOUND || status == CUBBY_EXISTS ||
           status == CUBBY_DIFFERS;
}

int session_leave(cubby_session *session, int status)
{
    if (!is_answer(status) && session->message[0] == '\0') {
        session_fail(session, status, "%s", cubby_status_text(status));
    }
    space_note_writes(session);
    atomic_store_explicit(&session->busy, SESSION_IDLE, memory_order_release);
    return status;
}

static bool is_any_busy(cubby_store *store, bool only_writes)
{
    bool found = false;
    pthread_mutex_lock(&store->sessions_lock);
    for (cubby_session *session = store->sessions; session != NULL; session = session->next) {
        int busy = atomic_load(&session->busy);
        found = found || busy == SESSION_WRITES || (busy == SESSION_READS && !only_writes);
    }
    pthread_mutex_unlock(&store->sessions_lock);
    return found;
}

void session_wait_for_all(cubby_store *store, bool only_writes)
{
    /* Not under the lock: calls that are waited for may want it. */
    const struct timespec pause = {.tv_nsec = 50000};
    while (is_any_busy(store, only_writes)) {
        nanosleep(&pause, NULL);
    }
}

void session_keep_writers_out(cubby_session *session)
{
    cubby_store *store = session->store;
    pthread_mutex_lock(&store->check_lock);
    atomic_store(&store->checking, true);
    session_wait_for_all(store, true);
}

void session_let_writers_in(cubby_session *session)
{
    atomic_store(&session->store->checking, false);
    pthread_mutex_unlock(&session->store->check_lock);
}

int session_check_key(cubby_session *session, const uint8_t *key, size_t key_size)
{
    if (key_size == 0 || key_size > CUBBY_KEY_BYTES_MAX) {
        return session_fail(session, CUBBY_BAD_ARGUMENT,
                            "a key has 1 to %d bytes, and this one has %zu", CUBBY_KEY_BYTES_MAX,
                            key_size);
    }
    CUBBY_ASSERT(key != NULL);
    return CUBBY_OK;
}

static void free_session(cubby_session *session)
{
    if (session->io != NULL) {
        session->io->ops->close(session->io);
    }
    free(session->home);
    free(session->spill);
    aligned_buffer_free(&session->value);
    aligned_buffer_free(&session->many_values);
    aligned_buffer_free(&session->blocks);
    aligned_buffer_free(&session->work);
    aligned_buffer_free(&session->image);
    sweep_free(session->sweep);
    free(session);
}

static int make_session(cubby_store *store, cubby_session **result)
{
    cubby_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return ENOMEM;
    }
    session->store = store;
    session->home = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    session->spill = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (session->home == NULL || session->spill == NULL ||
        page_io_direct_open(store->device, &session->io) != 0 ||
        (store->region != NULL && page_io_region_reach(store->region, &session->io) != 0)) {
        free_session(session);
        return ENOMEM;
    }
    *result = session;
    return CUBBY_OK;
}

int cubby_session_open(cubby_store *store, cubby_session **result)
{
    CUBBY_ASSERT(store != NULL);
    CUBBY_ASSERT(result != NULL);
    if (is_forked(store)) {
        return CUBBY_FORKED;
    }
    /* Under the lock that cubby_close takes after it has set closing. */
    pthread_mutex_lock(&store->sessions_lock);
    int status = CUBBY_CLOSED;
    if (!atomic_load(&store->closing)) {
        cubby_session *session;
        status = make_session(store, &session);
        if (status == CUBBY_OK) {
            epoch_register(&store->epoch, &session->slot);
            session->next = store->sessions;
            store->sessions = session;
            store->references++;
            *result = session;
        }
    }
    pthread_mutex_unlock(&store->sessions_lock);
    return status;
}

/* Keep what a session has counted; sessions_lock is held. */
static void retire_counters(cubby_store *store, const cubby_session *session)
{
    uint64_t *sums = (uint64_t *)&store->retired;
    const uint64_t *own = (const uint64_t *)&session->counters;
    for (size_t i = 0; i < sizeof store->retired / sizeof *sums; i++) {
        sums[i] += own[i];
    }
    /* The two that are no sums. */
    const struct session_counters *counters = &session->counters;
    store->retired.longest_put_ns -= counters->longest_put_ns;
    session_count_longest(&store->retired.longest_put_ns, counters->longest_put_ns);
    store->retired.longest_rebuild_ns -= counters->longest_rebuild_ns;
    session_count_longest(&store->retired.longest_rebuild_ns, counters->longest_rebuild_ns);
    store->retired_blocks_read += session->io->blocks_read;
    store->retired_blocks_written += session->io->blocks_written;
    for (size_t i = 0; i < CUBBY_OPERATION_COUNT; i++) {
        histogram_merge(&store->retired_latencies[i], &session->latencies[i]);
    }
}

void cubby_session_close(cubby_session *session)
{
    if (session == NULL || is_forked(session->store)) {
        return; /* the parent's locks may be held by threads that are not here */
    }
    cubby_store *store = session->store;
    pthread_mutex_lock(&store->sessions_lock);
    cubby_session **place = &store->sessions;
    while (*place != NULL && *place != session) {
        place = &(*place)->next;
    }
    if (*place == session) { /* else the store has been closed and has let go of it */
        async_get_cancel(session);
        retire_counters(store, session);
        *place = session->next;
        epoch_unregister(&store->epoch, &session->slot);
    }
    bool last = --store->references == 0;
    pthread_mutex_unlock(&store->sessions_lock);
    free_session(session);
    if (last) {
        store_free_shell(store);
    }
}

int cubby_session_set_durability(cubby_session *session, enum cubby_durability durability)
{
    CUBBY_ASSERT(session != NULL);
    if ((int)durability < CUBBY_DURABILITY_DEFAULT || durability > CUBBY_DURABILITY_POWER) {
        return session_fail(session, CUBBY_BAD_ARGUMENT, "%d is no durability", (int)durability);
    }
    session->durability = durability;
    return CUBBY_OK;
}

const char *cubby_session_message(const cubby_session *session)
{
    CUBBY_ASSERT(session != NULL);
    return session->message;
}
