/* work.c -- see work.h. */
#include "bench/mapped/work.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/zipf.h"
#include "engine/base/histogram.h"

enum {
    CHOICES = 1 << 19, /* of a thread, done again and again */
    STEP = 64,         /* accesses, of which the first is timed */
    BARE_WARM = 1000,  /* accesses that warm up a kind without a cache */
    WARM_SECONDS = 1,  /* of processor time, of a thread: who reads ahead is slow, and soon full */
};

const double work_percents[WORK_PERCENTILES] = {50, 99, 99.9};

static const double zipf_theta = 0.99;

const struct workload *work_at(size_t index)
{
    static const struct workload workloads[] = {
        {.name = "read"},
        {.name = "mixed", .writes_percent = 30},
        {.name = "write", .writes_percent = 100},
        {.name = "zipf-read", .is_zipf = true},
        {.name = "zipf-mixed", .writes_percent = 30, .is_zipf = true},
        {.name = "zipf-write", .writes_percent = 100, .is_zipf = true},
        {.name = "hit-read", .fits = true},
        {.name = "hit-mixed", .writes_percent = 30, .fits = true},
        {.name = "hit-write", .writes_percent = 100, .fits = true},
        {.name = "scan", .shape = WORK_SCAN},
        {.name = "storm", .shape = WORK_STORM, .writes_percent = 100, .fits = true},
    };
    return index < sizeof workloads / sizeof *workloads ? &workloads[index] : NULL;
}

/* Choices ----------------------------------------------------------------------------------------
 */

static uint64_t pages_of(const struct work *work)
{
    return work->workload->fits ? work->cache_pages / 2 : work->page_count;
}

/* Returns how many there are. */
static size_t choose_random(const struct work *work, unsigned number, access_code *codes)
{
    uint64_t pages = pages_of(work);
    uint64_t random = work->seed * WORK_THREADS_MAX + number;
    struct zipf zipf = {0};
    if (work->workload->is_zipf) {
        zipf = zipf_init(pages, zipf_theta);
    }
    for (size_t i = 0; i < CHOICES; i++) {
        uint64_t page =
            work->workload->is_zipf ? zipf_next(&zipf, &random) : pairs_next_below(&random, pages);
        bool is_write = pairs_next_below(&random, 100) < work->workload->writes_percent;
        codes[i] = (access_code)(page << 1 | is_write);
    }
    return CHOICES;
}

static size_t choose_part(const struct work *work, unsigned number, access_code *codes)
{
    uint64_t pages = pages_of(work);
    uint64_t first = pages * number / work->threads;
    uint64_t end = pages * (number + 1) / work->threads;
    for (uint64_t page = first; page < end; page++) {
        codes[page - first] = (access_code)(page << 1);
    }
    return end - first;
}

/* Half of all pages, each once, as a shuffle has them. */
static size_t choose_half(const struct work *work, access_code *codes)
{
    uint64_t pages = pages_of(work);
    uint64_t random = work->seed;
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t at = pairs_next_below(&random, i + 1);
        codes[i] = codes[at];
        codes[at] = (access_code)(i << 1 | 1);
    }
    return pages / 2;
}

static size_t choose(const struct work *work, unsigned number, access_code *codes)
{
    switch (work->workload->shape) {
    case WORK_SCAN:
        return choose_part(work, number, codes);
    case WORK_STORM:
        return choose_half(work, codes);
    default:
        return choose_random(work, number, codes);
    }
}

/* Threads ----------------------------------------------------------------------------------------
 */

struct worker {
    pthread_t thread;
    const struct work *work;
    void *opened;
    pthread_barrier_t *start; /* all are warm; then, all may go */
    access_code *codes;
    size_t code_count;
    size_t next;
    int status;
    uint64_t accesses;
    uint64_t end_ns;
    uint64_t thread_ns;
    struct histogram latencies;
};

static int do_some(struct worker *worker, size_t count)
{
    const struct work *work = worker->work;
    int status = 0;
    while (count > 0 && status == 0) {
        size_t left = worker->code_count - worker->next;
        size_t now = left < count ? left : count;
        status = work->kind->run(worker->opened, worker->codes + worker->next, now, work->ledger);
        worker->next = now == left ? 0 : worker->next + now;
        count -= now;
    }
    return status;
}

static int warm_up(struct worker *worker)
{
    const struct work *work = worker->work;
    bool is_bare = work->kind->is_bare;
    size_t count = is_bare ? BARE_WARM : 2 * work->cache_pages / work->threads;
    int status = 0;
    if (work->workload->fits && !is_bare) {
        for (uint64_t page = 0; page < pages_of(work) && status == 0; page++) {
            access_code code = (access_code)(page << 1);
            status = work->kind->run(worker->opened, &code, 1, work->ledger);
        }
    }
    uint64_t end_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) + WARM_SECONDS * UINT64_C(1000000000);
    for (size_t done = 0; done < count && status == 0; done += STEP) {
        status = do_some(worker, STEP);
        if (clock_ns(CLOCK_THREAD_CPUTIME_ID) > end_ns) {
            break;
        }
    }
    return status;
}

static void do_slice(struct worker *worker)
{
    uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t thread_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t now_ns;
    do {
        uint64_t sample_ns = clock_ns(CLOCK_MONOTONIC);
        worker->status = do_some(worker, 1);
        now_ns = clock_ns(CLOCK_MONOTONIC);
        histogram_record(&worker->latencies, now_ns - sample_ns);
        if (worker->status == 0) {
            worker->status = do_some(worker, STEP - 1);
        }
        worker->accesses += STEP;
    } while (now_ns - begin_ns < worker->work->slice_ns && worker->status == 0);
    worker->thread_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - thread_ns;
    worker->end_ns = clock_ns(CLOCK_MONOTONIC);
}

static void *work_as_told(void *state)
{
    struct worker *worker = state;
    worker->status = warm_up(worker);
    pthread_barrier_wait(worker->start);
    pthread_barrier_wait(worker->start);
    if (worker->status == 0) {
        do_slice(worker);
    }
    return NULL;
}

/* What is spent while something is done. */
struct meter {
    struct resources_device device;
    struct resources before;
    struct mapped_counts counts;
    uint64_t process_ns;
    uint64_t begin_ns;
};

static void meter_start(struct meter *meter, const struct work *work, void *opened)
{
    resources_device_find(&meter->device, work->path);
    work->kind->count(opened, &meter->counts);
    resources_take(&meter->before, &meter->device);
    meter->process_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    meter->begin_ns = clock_ns(CLOCK_MONOTONIC);
}

static void meter_stop(const struct meter *meter, const struct work *work, void *opened,
                       struct work_figures *figures)
{
    struct resources now;
    figures->begin_ns = meter->begin_ns;
    figures->process_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - meter->process_ns;
    resources_take(&now, &meter->device);
    figures->spent = resources_between(&meter->before, &now);
    figures->has_device = meter->device.is_there;
    work->kind->count(opened, &figures->counts);
    figures->counts.loads -= meter->counts.loads;
    figures->counts.evictions -= meter->counts.evictions;
    figures->counts.eviction_calls -= meter->counts.eviction_calls;
    figures->counts.writes -= meter->counts.writes;
    figures->counts.write_calls -= meter->counts.write_calls;
    figures->counts.pointer_faults -= meter->counts.pointer_faults;
    uint64_t peak_bytes;
    resources_memory(&figures->resident_bytes, &peak_bytes);
}

static void note_latencies(const struct histogram *latencies, struct work_figures *figures)
{
    figures->samples = latencies->count;
    figures->latency_max_ns = latencies->max_ns;
    for (size_t i = 0; i < WORK_PERCENTILES; i++) {
        figures->latency_ns[i] = histogram_percentile_ns(latencies, work_percents[i]);
    }
}

static void run_threads(const struct work *work, void *opened, struct worker *workers,
                        struct work_figures *figures)
{
    pthread_barrier_t start;
    struct meter meter;
    pthread_barrier_init(&start, NULL, work->threads + 1);
    for (unsigned i = 0; i < work->threads; i++) {
        workers[i].opened = opened;
        workers[i].start = &start;
        if (pthread_create(&workers[i].thread, NULL, work_as_told, &workers[i]) != 0) {
            abort(); /* others wait for it at the barrier */
        }
    }
    pthread_barrier_wait(&start);
    meter_start(&meter, work, opened);
    pthread_barrier_wait(&start);
    static struct histogram latencies;
    for (unsigned i = 0; i < work->threads; i++) {
        struct worker *worker = &workers[i];
        pthread_join(worker->thread, NULL);
        figures->status = figures->status == 0 ? worker->status : figures->status;
        figures->accesses += worker->accesses;
        figures->thread_ns += worker->thread_ns;
        uint64_t wall_ns = worker->end_ns - meter.begin_ns;
        figures->wall_ns = wall_ns > figures->wall_ns ? wall_ns : figures->wall_ns;
        histogram_merge(&latencies, &worker->latencies);
    }
    meter_stop(&meter, work, opened, figures);
    note_latencies(&latencies, figures);
    pthread_barrier_destroy(&start);
}

static void run_storm(const struct work *work, void *opened, struct worker *worker,
                      struct work_figures *figures)
{
    struct meter meter;
    worker->opened = opened;
    int status = warm_up(worker);
    status = status == 0 ? work->kind->sync(opened) : status;
    worker->next = 0;
    meter_start(&meter, work, opened);
    uint64_t thread_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    status = status == 0 ? do_some(worker, worker->code_count) : status;
    uint64_t dirty_ns = clock_ns(CLOCK_MONOTONIC);
    status = status == 0 ? work->kind->sync(opened) : status;
    uint64_t end_ns = clock_ns(CLOCK_MONOTONIC);
    figures->status = status;
    figures->thread_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - thread_ns;
    figures->accesses = worker->code_count;
    figures->sync_ns = end_ns - dirty_ns;
    figures->wall_ns = end_ns - meter.begin_ns;
    meter_stop(&meter, work, opened, figures);
}

/* Returns 0, or ENOMEM. */
static int prepare(const struct work *work, struct worker *workers)
{
    size_t room = work->page_count > CHOICES ? work->page_count : CHOICES;
    for (unsigned i = 0; i < work->threads; i++) {
        workers[i].work = work;
        workers[i].codes = malloc(room * sizeof *workers->codes);
        if (workers[i].codes == NULL) {
            return ENOMEM;
        }
        workers[i].code_count = choose(work, i, workers[i].codes);
    }
    return 0;
}

void work_run(const struct work *work, struct work_figures *figures)
{
    *figures = (struct work_figures){0};
    struct worker *workers = calloc(work->threads, sizeof *workers);
    if (workers == NULL || prepare(work, workers) != 0) {
        figures->status = ENOMEM;
    }
    const struct mapped_options options = {
        .path = work->path,
        .page_count = pages_of(work),
        .cache_bytes = work->cache_pages * PAGES_BYTES,
        .is_scan = work->workload->shape == WORK_SCAN,
    };
    void *opened;
    if (figures->status == 0) {
        figures->status = work->kind->open(&options, &opened, figures->message);
    }
    if (figures->status == 0) {
        if (work->workload->shape == WORK_STORM) {
            run_storm(work, opened, workers, figures);
        } else {
            run_threads(work, opened, workers, figures);
        }
        int status = work->kind->close(opened);
        figures->status = figures->status == 0 ? status : figures->status;
    }
    for (unsigned i = 0; workers != NULL && i < work->threads; i++) {
        free(workers[i].codes);
    }
    free(workers);
}
