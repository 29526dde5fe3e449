/* crash_simulator.c -- thousands of stores that lose their power or their process, each compared
 * with what it had promised.
 *
 *   crash_simulator --seed N [--verbose]     one schedule, in this process, for a debugger
 *   crash_simulator --count N                the schedules of seeds 1 to N
 *   crash_simulator --seconds S --jobs J     as many as there is time for, in J processes at once
 *   crash_simulator --plant NAME             with a bug planted in the store: is it found?
 *
 * A schedule (crash_schedule.h) follows from its seed alone, so what was found once is found again.
 * It runs in a process of its own kind, because a store that finds itself broken stops its process:
 * that, too, is a violation. Ends with 0 if there was none; with --plant, if there was one.
 *
 * Depends on: crash_schedule.h.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/c/check.h"
#include "tests/c/crash_schedule.h"
#include "tests/c/crash_steps.h"

enum {
    JOBS_MAX = 256,
    SCHEDULE_SECONDS_MAX = 120, /* a schedule takes a fraction of a second: it has come to no end */
    PLANT_COUNT_DEFAULT = 1000,
    FAILURES_SHOWN = 20, /* with --keep-going */
};

struct point_text {
    const char *name;
    const char *text;
};

#define POINT_TEXT(name, text) {#name, text},
static const struct point_text point_texts[SIMULATOR_POINT_COUNT] = {SIMULATOR_POINTS(POINT_TEXT)};
#undef POINT_TEXT

static const char *const bug_names[BUG_COUNT] = {
    [BUG_NONE] = "none",
    [BUG_WRITE_BACK_AHEAD_OF_LOG] = "write-back-ahead-of-log",
    [BUG_FLUSH_TOO_EARLY] = "flush-too-early",
    [BUG_REUSE_AT_ONCE] = "reuse-at-once",
    [BUG_DIRTY_BY_LBA] = "dirty-by-lba",
    [BUG_SPILL_READ_FLAT] = "spill-read-flat",
    [BUG_CLEAN_WITHOUT_LSN] = "clean-without-lsn",
    [BUG_ANY_LOG_BLOCK] = "any-log-block",
};

/* What the command line asks for. */
struct request {
    struct crash_settings settings;
    uint64_t first_seed;
    uint64_t count;   /* schedules; UINT64_MAX: no limit */
    uint64_t seconds; /* 0: no limit */
    unsigned jobs;
    bool in_this_process;
    bool twice;       /* run each schedule twice, and compare */
    bool is_quiet;    /* the errors of jobs are kept for the result */
    bool keeps_going; /* after a violation */
    bool prints_points;
    bool needs_all_points; /* a point that was not reached is a failure */
    bool plants_all;
};

/* One process that runs schedules, and its successors. */
struct job {
    pid_t pid;  /* 0: done */
    int output; /* a file in memory that has its errors, or -1: they are on stderr */
    uint64_t next_seed;
    struct crash_counters *counters; /* shared with it */
};

struct run {
    const struct request *request;
    unsigned job_count;
    struct job jobs[JOBS_MAX];
    struct crash_counters *counters; /* one per job */
    uint64_t begin_ns;
    uint64_t failures;
    uint64_t failed_seed;     /* of the first failure */
    char failure[TEXT_BYTES]; /* the first one, in a sentence */
};

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t elapsed_ns(const struct run *run)
{
    return clock_ns() - run->begin_ns;
}

/* One schedule -------------------------------------------------------------------------------- */

static uint64_t run_schedule(const struct request *request, struct crash_counters *counters,
                             uint64_t seed)
{
    atomic_store(&counters->seed, seed);
    uint64_t trace = crash_schedule_run(&request->settings, counters, seed);
    if (request->twice && crash_schedule_run(&request->settings, counters, seed) != trace) {
        fprintf(stderr, "seed %llu: run twice, the store has not done the same twice\n",
                (unsigned long long)seed);
        snprintf(counters->violation, sizeof counters->violation,
                 "run twice, the store has not done the same twice");
        counters->is_violated = true;
        exit(1);
    }
    counters->schedules++;
    return trace;
}

/* Jobs ---------------------------------------------------------------------------------------- */

static bool has_more(const struct run *run, uint64_t seed)
{
    const struct request *request = run->request;
    return seed - request->first_seed < request->count &&
           (request->seconds == 0 || elapsed_ns(run) < request->seconds * 1000000000);
}

/* What a child does: every job_count-th schedule from the job's next seed on. */
static _Noreturn void run_job(const struct run *run, const struct job *job)
{
    for (uint64_t seed = job->next_seed; has_more(run, seed); seed += run->job_count) {
        alarm(SCHEDULE_SECONDS_MAX);
        (void)run_schedule(run->request, job->counters, seed);
    }
    exit(0);
}

static void start_job(const struct run *run, struct job *job)
{
    fflush(stdout);
    job->counters->is_violated = false;
    atomic_store(&job->counters->seed, job->next_seed);
    if (run->request->is_quiet) {
        job->output = memfd_create("crash_simulator", MFD_CLOEXEC);
        CHECK(job->output >= 0);
    }
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (job->output >= 0) {
            dup2(job->output, STDERR_FILENO);
        }
        run_job(run, job);
    }
    job->pid = pid;
}

/* The first line that says something in what a job has told on stderr. */
static void read_first_line(const struct job *job, char *line, size_t size)
{
    ssize_t got = job->output >= 0 ? pread(job->output, line, size - 1, 0) : 0;
    line[got > 0 ? got : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

/* Say of what a job has died. */
static void describe_end(const struct job *job, int wait_status, char *text, size_t size)
{
    char line[256];
    read_first_line(job, line, sizeof line);
    if (job->counters->is_violated) {
        snprintf(text, size, "%s", job->counters->violation);
    } else if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGALRM) {
        snprintf(text, size, "no end after %d s", SCHEDULE_SECONDS_MAX);
    } else if (WIFSIGNALED(wait_status)) {
        snprintf(text, size, "stopped by signal %d (%s) %s", WTERMSIG(wait_status),
                 strsignal(WTERMSIG(wait_status)), line);
    } else {
        snprintf(text, size, "ended with %d %s", WEXITSTATUS(wait_status), line);
    }
}

static void end_job(struct run *run, struct job *job, int wait_status)
{
    job->pid = 0;
    bool is_sound = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
    if (!is_sound) {
        char text[TEXT_BYTES];
        uint64_t seed = atomic_load(&job->counters->seed);
        describe_end(job, wait_status, text, sizeof text);
        if (run->failures++ == 0) {
            run->failed_seed = seed;
            memcpy(run->failure, text, sizeof run->failure);
        }
        if (!run->request->is_quiet && !job->counters->is_violated) {
            fprintf(stderr, "FAILED: seed %llu: %s\n  again: %s %llu\n", (unsigned long long)seed,
                    text, run->request->settings.replay, (unsigned long long)seed);
        }
        job->next_seed = seed + run->job_count;
    }
    if (job->output >= 0) {
        close(job->output);
        job->output = -1;
    }
    if (!is_sound && run->request->keeps_going && run->failures < FAILURES_SHOWN &&
        has_more(run, job->next_seed)) {
        start_job(run, job);
    }
}

static struct job *find_job(struct run *run, pid_t pid)
{
    for (unsigned i = 0; i < run->job_count; i++) {
        if (run->jobs[i].pid == pid) {
            return &run->jobs[i];
        }
    }
    return NULL;
}

static void stop_jobs(struct run *run)
{
    for (unsigned i = 0; i < run->job_count; i++) {
        if (run->jobs[i].pid != 0) {
            kill(run->jobs[i].pid, SIGKILL);
            waitpid(run->jobs[i].pid, NULL, 0);
            run->jobs[i].pid = 0;
        }
    }
}

static void run_jobs(struct run *run)
{
    for (unsigned i = 0; i < run->job_count; i++) {
        run->jobs[i] = (struct job){
            .output = -1,
            .next_seed = run->request->first_seed + i,
            .counters = &run->counters[i],
        };
        start_job(run, &run->jobs[i]);
    }
    for (;;) {
        int wait_status;
        pid_t pid = wait(&wait_status);
        if (pid < 0 && errno == EINTR) {
            continue;
        }
        struct job *job = pid > 0 ? find_job(run, pid) : NULL;
        if (job == NULL) {
            return; /* all are done */
        }
        end_job(run, job, wait_status);
        if (run->failures > 0 && !run->request->keeps_going) {
            stop_jobs(run);
            return;
        }
    }
}

/* Results ------------------------------------------------------------------------------------- */

static struct crash_counters add_up(const struct run *run)
{
    struct crash_counters sum = {0};
    for (unsigned i = 0; i < run->job_count; i++) {
        const struct crash_counters *counters = &run->counters[i];
        sum.schedules += counters->schedules;
        sum.steps += counters->steps;
        for (int kind = 0; kind <= CRASH_KILL; kind++) {
            sum.crashes[kind] += counters->crashes[kind];
        }
        sum.recoveries_cut += counters->recoveries_cut;
        sum.regions += counters->regions;
        sum.device_errors += counters->device_errors;
        sum.batches += counters->batches;
        sum.nested_changes += counters->nested_changes;
        sum.full_answers += counters->full_answers;
        sum.lost_changes += counters->lost_changes;
        for (int point = 0; point < SIMULATOR_POINT_COUNT; point++) {
            sum.point_hits[point] += counters->point_hits[point];
            sum.point_crashes[point] += counters->point_crashes[point];
        }
    }
    return sum;
}

static void print_summary(const struct run *run, const struct crash_counters *sum)
{
    double seconds = (double)elapsed_ns(run) / 1e9;
    printf("%llu schedules in %.1f s (%.1f ms each), seeds from %llu on: %llu power cuts, %llu "
           "kills (%llu of both during recovery), %llu closes in order, %llu failing devices, %llu "
           "openings on a region; "
           "%llu steps, %llu batches, %llu changes during calls of others, %llu refusals for want "
           "of space, %llu changes lost that were "
           "not promised; %llu violations\n",
           (unsigned long long)sum->schedules, seconds,
           sum->schedules > 0 ? seconds * 1e3 * run->job_count / (double)sum->schedules : 0.0,
           (unsigned long long)run->request->first_seed,
           (unsigned long long)sum->crashes[CRASH_POWER],
           (unsigned long long)sum->crashes[CRASH_KILL], (unsigned long long)sum->recoveries_cut,
           (unsigned long long)sum->crashes[CRASH_NONE], (unsigned long long)sum->device_errors,
           (unsigned long long)sum->regions, (unsigned long long)sum->steps,
           (unsigned long long)sum->batches, (unsigned long long)sum->nested_changes,
           (unsigned long long)sum->full_answers, (unsigned long long)sum->lost_changes,
           (unsigned long long)run->failures);
}

/* Returns how many points were never reached. */
static unsigned print_points(const struct crash_counters *sum)
{
    unsigned missing = 0;
    printf("%12s %10s  point\n", "hits", "crashes");
    for (int i = 0; i < SIMULATOR_POINT_COUNT; i++) {
        printf("%12llu %10llu  %-28s %s\n", (unsigned long long)sum->point_hits[i],
               (unsigned long long)sum->point_crashes[i], point_texts[i].name, point_texts[i].text);
        missing += sum->point_hits[i] == 0;
    }
    if (missing > 0) {
        printf("%u points were never reached\n", missing);
    }
    return missing;
}

/* Returns memory that children share. */
static struct crash_counters *share_counters(unsigned count)
{
    void *memory = mmap(NULL, count * sizeof(struct crash_counters), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void run_begin(struct run *run, const struct request *request)
{
    *run = (struct run){
        .request = request,
        .job_count = request->jobs,
        .counters = share_counters(request->jobs),
        .begin_ns = clock_ns(),
    };
}

static void run_end(struct run *run)
{
    munmap(run->counters, run->job_count * sizeof *run->counters);
}

/* Returns the exit status. */
static int run_all(const struct request *request)
{
    static struct run run;
    run_begin(&run, request);
    if (request->in_this_process) {
        uint64_t trace = run_schedule(request, run.counters, request->first_seed);
        printf("trace %016llx\n", (unsigned long long)trace);
    } else {
        run_jobs(&run);
    }
    struct crash_counters sum = add_up(&run);
    unsigned missing = 0;
    if (request->prints_points || request->needs_all_points) {
        missing = print_points(&sum);
    }
    print_summary(&run, &sum);
    run_end(&run);
    return run.failures > 0 || (request->needs_all_points && missing > 0);
}

/* Plant one bug, or none, and look for it. Returns whether it was found. */
static bool find_bug(const struct request *request, enum planted_bug bug)
{
    static struct run run;
    struct request planted = *request;
    planted.settings.bug = bug;
    planted.keeps_going = false;
    planted.is_quiet = !request->settings.is_verbose;
    run_begin(&run, &planted);
    run_jobs(&run);
    struct crash_counters sum = add_up(&run);
    if (run.failures > 0) {
        printf("%-24s found at seed %llu, after %llu schedules: %s\n", bug_names[bug],
               (unsigned long long)run.failed_seed, (unsigned long long)sum.schedules + 1,
               run.failure);
    } else {
        printf("%-24s NOT FOUND in %llu schedules\n", bug_names[bug],
               (unsigned long long)sum.schedules);
    }
    fflush(stdout);
    run_end(&run);
    return run.failures > 0;
}

static int find_bugs(const struct request *request)
{
    if (!request->plants_all) {
        return !find_bug(request, request->settings.bug);
    }
    /* Where something is found without a bug, finding it with one proves nothing. */
    unsigned missed = find_bug(request, BUG_NONE);
    for (int bug = BUG_NONE + 1; bug < BUG_COUNT; bug++) {
        missed += !find_bug(request, (enum planted_bug)bug);
    }
    return missed > 0;
}

/* The command line ---------------------------------------------------------------------------- */

static _Noreturn void print_usage(const char *program)
{
    printf("usage: %s [OPTION]...\n"
           "  --seed N         the first seed (1); without --count or --seconds the only one\n"
           "  --count N        so many schedules\n"
           "  --seconds S      as many as begin within this time\n"
           "  --jobs J         in so many processes at once (1)\n"
           "  --verbose        say each step\n"
           "  --points         print which points of the store were reached, and how often\n"
           "  --all-points     the same, and fail if one was never reached\n"
           "  --twice          run each schedule twice, and fail unless both do the same\n"
           "  --keep-going     do not stop at the first violation\n"
           "  --crashes KIND   power, kill, or both (both)\n"
           "  --any-order      the pairs of a put_many may survive in any order\n"
           "  --without STEP   leave out a kind of step (each once)\n"
           "  --plant BUG      plant a bug, or one after the other (all), and fail unless it is\n"
           "                   found (in %d schedules)\n",
           program, PLANT_COUNT_DEFAULT);
    printf("steps:");
    for (size_t i = 0; crash_step_name(i) != NULL; i++) {
        printf(" %s", crash_step_name(i));
    }
    printf("\nbugs:");
    for (int i = BUG_NONE + 1; i < BUG_COUNT; i++) {
        printf(" %s", bug_names[i]);
    }
    printf("\n");
    exit(2);
}

static uint64_t parse_number(const char *program, const char *text)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
        print_usage(program);
    }
    return number;
}

/* Returns false if there is no such bug. */
static bool plant(struct request *request, const char *name)
{
    request->plants_all = strcmp(name, "all") == 0;
    for (int i = BUG_NONE + 1; i < BUG_COUNT; i++) {
        if (request->plants_all || strcmp(name, bug_names[i]) == 0) {
            request->settings.bug = (enum planted_bug)i;
        }
    }
    return request->settings.bug != BUG_NONE;
}

/* Returns false if there is no such kind. */
static bool choose_crashes(struct request *request, const char *name)
{
    bool *may_crash = request->settings.may_crash;
    bool both = strcmp(name, "both") == 0;
    may_crash[CRASH_POWER] = both || strcmp(name, "power") == 0;
    may_crash[CRASH_KILL] = both || strcmp(name, "kill") == 0;
    return may_crash[CRASH_POWER] || may_crash[CRASH_KILL];
}

static const struct option options[] = {
    {"seed", required_argument, NULL, 's'},    {"count", required_argument, NULL, 'n'},
    {"seconds", required_argument, NULL, 't'}, {"jobs", required_argument, NULL, 'j'},
    {"verbose", no_argument, NULL, 'v'},       {"points", no_argument, NULL, 'p'},
    {"all-points", no_argument, NULL, 'a'},    {"twice", no_argument, NULL, '2'},
    {"keep-going", no_argument, NULL, 'k'},    {"crashes", required_argument, NULL, 'c'},
    {"without", required_argument, NULL, 'w'}, {"any-order", no_argument, NULL, 'o'},
    {"plant", required_argument, NULL, 'b'},   {NULL, 0, NULL, 0},
};

static void take_option(struct request *request, int option, const char *program)
{
    bool is_understood = true;
    int kind = -1;
    switch (option) {
    case 's':
        request->first_seed = parse_number(program, optarg);
        break;
    case 'n':
        request->count = parse_number(program, optarg);
        break;
    case 't':
        request->seconds = parse_number(program, optarg);
        break;
    case 'j':
        request->jobs = (unsigned)parse_number(program, optarg);
        is_understood = request->jobs >= 1 && request->jobs <= JOBS_MAX;
        break;
    case 'v':
        request->settings.is_verbose = true;
        break;
    case 'p':
        request->prints_points = true;
        break;
    case 'a':
        request->needs_all_points = true;
        break;
    case '2':
        request->twice = true;
        break;
    case 'k':
        request->keeps_going = true;
        break;
    case 'c':
        is_understood = choose_crashes(request, optarg);
        break;
    case 'o':
        request->settings.is_loose = true;
        break;
    case 'w':
        kind = crash_step_kind(optarg);
        is_understood = kind >= 0;
        request->settings.steps_off |= is_understood ? 1U << kind : 0;
        break;
    case 'b':
        is_understood = plant(request, optarg);
        break;
    default:
        is_understood = false;
    }
    if (!is_understood) {
        print_usage(program);
    }
}

/* The command that runs one seed in the same way, but for the seed. */
static const char *describe_replay(const struct request *request, const char *program)
{
    static char text[TEXT_BYTES];
    size_t size = (size_t)snprintf(text, sizeof text, "%s", program);
    const bool *may_crash = request->settings.may_crash;
    if (!may_crash[CRASH_POWER] || !may_crash[CRASH_KILL]) {
        size += (size_t)snprintf(text + size, sizeof text - size, " --crashes %s",
                                 may_crash[CRASH_POWER] ? "power" : "kill");
    }
    if (request->settings.is_loose) {
        size += (size_t)snprintf(text + size, sizeof text - size, " --any-order");
    }
    for (size_t i = 0; crash_step_name(i) != NULL && size < sizeof text; i++) {
        if ((request->settings.steps_off >> i & 1) != 0) {
            size += (size_t)snprintf(text + size, sizeof text - size, " --without %s",
                                     crash_step_name(i));
        }
    }
    if (size < sizeof text) {
        snprintf(text + size, sizeof text - size, " --verbose --seed");
    }
    return text;
}

int main(int argc, char **argv)
{
    struct request request = {
        .settings.may_crash = {[CRASH_POWER] = true, [CRASH_KILL] = true},
        .first_seed = 1,
        .jobs = 1,
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        take_option(&request, option, argv[0]);
    }
    if (optind != argc) {
        print_usage(argv[0]);
    }
    bool plants = request.settings.bug != BUG_NONE;
    if (request.count == 0) {
        request.count = request.seconds > 0 ? UINT64_MAX : plants ? PLANT_COUNT_DEFAULT : 1;
    }
    request.in_this_process = request.count == 1 && !plants;
    request.settings.replay = describe_replay(&request, argv[0]);
    return plants ? find_bugs(&request) : run_all(&request);
}
