/* crowd.c -- see crowd.h. */
#include "bench/ordered/crowd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/crew.h"
#include "bench/common/median.h"

enum {
    CHOICES = 1 << 20, /* keys chosen ahead, so that choosing is not measured */
    STEP = 512,        /* operations between two looks at the clock */
};

struct worker {
    struct crew_member member;
    const uint64_t *choices;
    size_t next; /* of them */
    uint64_t slice_ns;
    uint64_t operations;
    uint64_t processor_ns;
};

/* A crew's session: that of a map. */
struct session {
    const struct number_map *map;
    void *session;
};

static int open_session(void *store, void **session)
{
    const struct crowd_map *shared = store;
    struct session *self = malloc(sizeof *self);
    if (self == NULL) {
        return ENOMEM;
    }
    *self = (struct session){shared->map, shared->opened};
    int status = shared->map->session_open == NULL
                     ? CUBBY_OK
                     : shared->map->session_open(shared->opened, &self->session);
    if (status != CUBBY_OK) {
        free(self);
        return status;
    }
    *session = self;
    return CUBBY_OK;
}

static void close_session(void *session)
{
    struct session *self = session;
    if (self->map->session_close != NULL) {
        self->map->session_close(self->session);
    }
    free(self);
}

static const char *message_of(void *session)
{
    (void)session;
    return "";
}

/* As far as a crew needs one. */
static const struct bench_engine crew_engine = {
    .name = "map",
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
};

static void run_slice(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    const struct session *session = member->session;
    const struct number_map *map = session->map;
    member->start_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    worker->operations = 0;
    do {
        for (size_t i = 0; i < STEP && member->status == CUBBY_OK; i += 2) {
            const uint64_t *keys = worker->choices + worker->next;
            size_t wrong;
            size_t found = map->get(session->session, keys, 1, &wrong);
            member->status = map->put(session->session, keys + 1, 1);
            if (found != 1 || wrong != 0) {
                member->status = CUBBY_CORRUPT;
            }
            worker->next = (worker->next + 2) % CHOICES;
        }
        worker->operations += STEP;
        worker->processor_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
    } while (worker->processor_ns < worker->slice_ns && member->status == CUBBY_OK);
    member->end_ns = clock_ns(CLOCK_MONOTONIC);
}

/* One map, with a power of two of threads, for a slice. */
static int run_threads(const struct crowd *crowd, struct crowd_map *shared, struct worker *workers,
                       unsigned size, unsigned round, char *message)
{
    unsigned threads = 1U << size;
    double seconds;
    for (unsigned i = 0; i < threads; i++) {
        workers[i].member.engine = &crew_engine;
        workers[i].member.store = shared;
        workers[i].slice_ns = crowd->slice_ns;
    }
    int status = crew_run(workers, sizeof *workers, threads, run_slice, &seconds, message,
                          CUBBY_MESSAGE_BYTES);
    uint64_t operations = 0;
    uint64_t processor_ns = 0;
    for (unsigned i = 0; i < threads; i++) {
        operations += workers[i].operations;
        processor_ns += workers[i].processor_ns;
    }
    if (status == CUBBY_OK) {
        shared->ns[size][round] = (double)processor_ns / (double)operations;
        shared->running[size][round] = (double)processor_ns / 1e9 / seconds;
    }
    return status;
}

static int run_rounds(struct crowd *crowd, struct worker *workers, char *message)
{
    int status = CUBBY_OK;
    for (unsigned round = 0; round < crowd->rounds; round++) {
        for (unsigned size = 0; size < CROWD_SIZES && 1U << size <= crowd->threads_max; size++) {
            for (size_t i = 0; i < crowd->map_count && status == CUBBY_OK; i++) {
                struct crowd_map *shared = &crowd->maps[i];
                status = run_threads(crowd, shared, workers, size, round, message);
            }
        }
    }
    return status;
}

/* Take those out that threads cannot share. "flat" is one they can, as no key is new. */
static void leave_out_unsuited(struct crowd *crowd, const struct keys *keys)
{
    size_t kept = 0;
    for (size_t i = 0; i < crowd->map_count; i++) {
        const struct number_map *map = crowd->maps[i].map;
        bool is_shared = map->is_concurrent || map == &flat_map;
        if (is_shared && (map->suits == NULL || map->suits(keys))) {
            crowd->maps[kept++].map = map;
        }
    }
    crowd->map_count = kept;
}

static int open_maps(struct crowd *crowd, const struct keys *keys)
{
    int status = CUBBY_OK;
    for (size_t i = 0; i < crowd->map_count && status == CUBBY_OK; i++) {
        struct crowd_map *shared = &crowd->maps[i];
        void *session;
        status = shared->map->open(keys, keys->count, &shared->opened);
        if (status == CUBBY_OK) {
            status = open_session(shared, &session);
        }
        if (status == CUBBY_OK) {
            const struct session *self = session;
            status = shared->map->put(self->session, keys->puts, keys->count);
            close_session(session);
        }
    }
    return status;
}

static void close_maps(struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->map_count; i++) {
        if (crowd->maps[i].opened != NULL) {
            crowd->maps[i].map->close(crowd->maps[i].opened);
            crowd->maps[i].opened = NULL;
        }
    }
}

int crowd_run(struct crowd *crowd, char *message)
{
    struct keys keys = {0};
    uint64_t random = 1;
    uint64_t *choices = malloc(CHOICES * sizeof *choices);
    struct worker *workers = calloc(CROWD_THREADS_MAX, sizeof *workers);
    snprintf(message, CUBBY_MESSAGE_BYTES, "%s", cubby_status_text(ENOMEM));
    int status = ENOMEM;
    if (choices == NULL || workers == NULL ||
        keys_make(crowd->kind, crowd->key_count, &keys) != CUBBY_OK) {
        goto free_all;
    }
    leave_out_unsuited(crowd, &keys);
    for (size_t i = 0; i < CHOICES; i++) {
        choices[i] = keys.puts[pairs_next_below(&random, keys.count)];
    }
    for (unsigned i = 0; i < CROWD_THREADS_MAX; i++) {
        workers[i].choices = choices;
        workers[i].next = i * (CHOICES / CROWD_THREADS_MAX);
    }
    status = open_maps(crowd, &keys);
    if (status == CUBBY_OK) {
        status = run_rounds(crowd, workers, message);
    }
    close_maps(crowd);
free_all:
    keys_free(&keys);
    free(choices);
    free(workers);
    return status;
}

static double median_of(const struct crowd *crowd, const double *rounds)
{
    double numbers[SETS_ROUNDS_MAX];
    memcpy(numbers, rounds, crowd->rounds * sizeof *numbers);
    return median(numbers, crowd->rounds);
}

void crowd_print(const struct crowd *crowd, FILE *out)
{
    fprintf(out, "%s: ns of a thread's processor time by operation, half gets, half puts\n",
            keys_name(crowd->kind));
    for (size_t i = 0; i < crowd->map_count; i++) {
        fprintf(out, "%-14s", crowd->maps[i].map->name);
        for (unsigned size = 0; size < CROWD_SIZES && 1U << size <= crowd->threads_max; size++) {
            fprintf(out, " %8.1f", median_of(crowd, crowd->maps[i].ns[size]));
        }
        fputs("\n", out);
    }
}

void crowd_write_json(const struct crowd *crowd, FILE *out)
{
    fprintf(out, "{\"set\": \"%s\", \"keys\": %zu, \"rounds\": %u, \"maps\": {",
            keys_name(crowd->kind), crowd->key_count, crowd->rounds);
    for (size_t i = 0; i < crowd->map_count; i++) {
        const struct crowd_map *shared = &crowd->maps[i];
        fprintf(out, "%s\"%s\": {", i == 0 ? "" : ", ", shared->map->name);
        for (unsigned size = 0; size < CROWD_SIZES && 1U << size <= crowd->threads_max; size++) {
            fprintf(out, "%s\"%u\": {\"running\": %.2f, \"median_ns\": %.2f, \"rounds_ns\": [",
                    size == 0 ? "" : ", ", 1U << size, median_of(crowd, shared->running[size]),
                    median_of(crowd, shared->ns[size]));
            for (unsigned round = 0; round < crowd->rounds; round++) {
                fprintf(out, "%s%.2f", round == 0 ? "" : ", ", shared->ns[size][round]);
            }
            fputs("]}", out);
        }
        fputs("}", out);
    }
    fputs("}}", out);
}
