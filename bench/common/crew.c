/* crew.c -- see crew.h. */
#include "bench/common/crew.h"

#include <stdio.h>

#include "engine/base/cubby_assert.h"

static void *run_member(void *argument)
{
    struct crew_member *member = argument;
    const struct bench_engine *engine = member->engine;
    member->status = engine->session_open(member->store, &member->session);
    bool is_open = member->status == CUBBY_OK;
    pthread_barrier_wait(member->start);
    if (is_open) {
        member->job(member);
        if (member->status != CUBBY_OK && member->message[0] == '\0') {
            snprintf(member->message, sizeof member->message, "%s",
                     engine->message(member->session));
        }
        engine->session_close(member->session);
    }
    if (member->status != CUBBY_OK && member->message[0] == '\0') {
        snprintf(member->message, sizeof member->message, "%s", cubby_status_text(member->status));
    }
    return NULL;
}

int crew_run(void *workers, size_t worker_size, unsigned count, crew_job *job, double *seconds,
             char *message, size_t message_size)
{
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        struct crew_member *member = (void *)((char *)workers + i * worker_size);
        member->start = &start;
        member->job = job;
        int error = pthread_create(&member->thread, NULL, run_member, member);
        CUBBY_ASSERT(error == 0); /* the others wait at the barrier for ever */
    }
    int status = CUBBY_OK;
    uint64_t start_ns = UINT64_MAX;
    uint64_t end_ns = 0;
    for (unsigned i = 0; i < count; i++) {
        struct crew_member *member = (void *)((char *)workers + i * worker_size);
        pthread_join(member->thread, NULL);
        start_ns = member->start_ns < start_ns ? member->start_ns : start_ns;
        end_ns = member->end_ns > end_ns ? member->end_ns : end_ns;
        if (member->status != CUBBY_OK && status == CUBBY_OK) {
            status = member->status;
            snprintf(message, message_size, "%s", member->message);
        }
    }
    pthread_barrier_destroy(&start);
    *seconds = (double)(end_ns - start_ns) / 1e9;
    return status;
}
