/* driver.c -- cubby-mmap: memory that is a device, ours and the kernel's, in turn.
 *
 *   cubby-mmap --path /dev/zram7 --workloads read,mixed --threads 1,2 --json
 *
 * The kinds are listed in kinds.h, the workloads in work.h; "loops" is what loops.h does. Each kind
 * runs in a process of its own, one after the other, round after round, and after each that has
 * written the whole device is compared with what was to be written. The JSON object goes to stdout.
 * Exit code 0, 1 after a failure, a wrong page among them, 2 for wrong usage.
 *
 * Depends on: the other files of this folder.   Used by: people, bench/mapped.py.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/common/arguments.h"
#include "bench/mapped/loops.h"
#include "bench/mapped/work.h"
#include "engine/cubby.h"
#include "mmapio/region.h"

const char usage_text[] =
    "usage: cubby-mmap --path PATH [options]\n"
    "  --path PATH       a file or block device, whose content is lost\n"
    "  --bytes N         of it, from its begin  [536870912]\n"
    "  --cache N         bytes that may be in memory  [134217728]\n"
    "  --kinds LIST      of kernel, kernel-default, pins, pins-armed, pointers, views,\n"
    "                    pread  [all]\n"
    "  --workloads LIST  of read, mixed, write, zipf-read, zipf-mixed, zipf-write, hit-read,\n"
    "                    hit-mixed, hit-write, scan, storm, loops  [all]\n"
    "  --threads LIST    up to 256 each  [1,2]\n"
    "  --rounds R        [5]\n"
    "  --slice MS        how long each is measured  [400]\n"
    "  --loop N          accesses of a loop  [2000000]\n"
    "  --group FOLDER    the memory cgroup that the kernel's kinds run in\n"
    "  --json            print one JSON object at the end\n";

enum { LIST_MAX = 16 };

struct job {
    const char *path;
    const char *group;
    uint64_t page_count;
    uint64_t cache_pages;
    const struct mapped_kind *kinds[LIST_MAX];
    size_t kind_count;
    const char *kinds_missing[LIST_MAX]; /* why; NULL: it is there */
    const struct workload *workloads[LIST_MAX];
    size_t workload_count;
    bool has_loops;
    unsigned threads[LIST_MAX];
    size_t thread_counts;
    unsigned rounds;
    uint64_t slice_ns;
    uint64_t loop_count;
    FILE *out; /* the JSON; NULL: none is wanted */
    ledger_entry *ledger;
    union shared {
        struct work_figures work;
        struct loops_figures loops;
    } *shared; /* of all processes */
};

/* Arguments --------------------------------------------------------------------------------------
 */

static const struct mapped_kind *find_kind(const char *name)
{
    const struct mapped_kind *kind;
    for (size_t i = 0; (kind = kinds_at(i)) != NULL; i++) {
        if (strcmp(kind->name, name) == 0) {
            return kind;
        }
    }
    fail_usage("--kinds", name);
}

static const struct workload *find_workload(const char *name)
{
    const struct workload *workload;
    for (size_t i = 0; (workload = work_at(i)) != NULL; i++) {
        if (strcmp(workload->name, name) == 0) {
            return workload;
        }
    }
    fail_usage("--workloads", name);
}

static void parse_kinds(struct job *job, char *list)
{
    job->kind_count = 0;
    for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
        const struct mapped_kind *kind = find_kind(name);
        if (job->kind_count == LIST_MAX) {
            fail_usage("--kinds", "too many");
        }
        job->kinds[job->kind_count++] = kind;
    }
}

static void parse_workloads(struct job *job, char *list)
{
    job->workload_count = 0;
    job->has_loops = false;
    for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
        if (strcmp(name, "loops") == 0) {
            job->has_loops = true;
            continue;
        }
        const struct workload *workload = find_workload(name);
        if (job->workload_count == LIST_MAX) {
            fail_usage("--workloads", "too many");
        }
        job->workloads[job->workload_count++] = workload;
    }
}

static void parse_threads(struct job *job, char *list)
{
    job->thread_counts = 0;
    for (char *text = strsep(&list, ","); text != NULL; text = strsep(&list, ",")) {
        unsigned threads = (unsigned)parse_number(text, 1, WORK_THREADS_MAX, "--threads");
        if (job->thread_counts == LIST_MAX) {
            fail_usage("--threads", "too many");
        }
        job->threads[job->thread_counts++] = threads;
    }
}

static const struct option long_options[] = {
    {"path", required_argument, NULL, 'p'},
    {"bytes", required_argument, NULL, 'b'},
    {"cache", required_argument, NULL, 'c'},
    {"kinds", required_argument, NULL, 'k'},
    {"workloads", required_argument, NULL, 'w'},
    {"threads", required_argument, NULL, 't'},
    {"rounds", required_argument, NULL, 'r'},
    {"slice", required_argument, NULL, 's'},
    {"loop", required_argument, NULL, 'l'},
    {"group", required_argument, NULL, 'g'},
    {"json", no_argument, NULL, 'j'},
    {NULL, 0, NULL, 0},
};

static void parse_option(struct job *job, int option, char *text)
{
    const uint64_t pages_max = UINT64_C(1) << 31; /* an access_code has no more */
    switch (option) {
    case 'p':
        job->path = text;
        break;
    case 'b':
        job->page_count =
            parse_number(text, PAGES_BYTES, pages_max * PAGES_BYTES, "--bytes") / PAGES_BYTES;
        break;
    case 'c':
        job->cache_pages = parse_number(text, MMAPIO_CACHE_PAGES_MIN * PAGES_BYTES,
                                        pages_max * PAGES_BYTES, "--cache") /
                           PAGES_BYTES;
        break;
    case 'k':
        parse_kinds(job, text);
        break;
    case 'w':
        parse_workloads(job, text);
        break;
    case 't':
        parse_threads(job, text);
        break;
    case 'r':
        job->rounds = (unsigned)parse_number(text, 1, LOOPS_ROUNDS_MAX, "--rounds");
        break;
    case 's':
        job->slice_ns = parse_number(text, 1, 100000, "--slice") * 1000000;
        break;
    case 'l':
        job->loop_count = parse_number(text, 1000, 1000000000, "--loop");
        break;
    case 'g':
        job->group = text;
        break;
    case 'j':
        job->out = stdout;
        break;
    default:
        fputs(usage_text, stderr);
        exit(EXIT_USAGE);
    }
}

/* Processes --------------------------------------------------------------------------------------
 */

static int enter_group(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int status = fd < 0 || write(fd, "0", 1) != 1 ? errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

/* Run one in a process of its own, which ends with ours. Returns 0, or 1 and says why not. */
static int run_apart(const struct job *job, const struct work *work)
{
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        perror("cubby-mmap: fork");
        return 1;
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(EXIT_FAILURE);
        }
        if (work == NULL) {
            loops_run(job->path, job->cache_pages, job->rounds, job->loop_count,
                      &job->shared->loops);
            _exit(EXIT_SUCCESS);
        }
        int status = work->kind->is_kernel && job->group != NULL ? enter_group(job->group) : 0;
        if (status != 0) {
            job->shared->work.status = status;
            _exit(EXIT_SUCCESS);
        }
        work_run(work, &job->shared->work);
        _exit(EXIT_SUCCESS);
    }
    int ended;
    if (waitpid(child, &ended, 0) != child || !WIFEXITED(ended) || WEXITSTATUS(ended) != 0) {
        fprintf(stderr, "cubby-mmap: %s: the process was ended by signal %d%s\n",
                work == NULL ? "loops" : work->kind->name, WIFSIGNALED(ended) ? WTERMSIG(ended) : 0,
                WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL ? " (out of its memory?)" : "");
        return 1;
    }
    return 0;
}

/* What it says of a failure. */
static int tell(const char *what, const char *workload, int status, const char *message)
{
    const char *why = status == EILSEQ ? "a page is not what was written there"
                      : status > 0     ? strerror(status)
                                       : cubby_status_text(status);
    fprintf(stderr, "cubby-mmap: %s, %s: %s%s%s\n", what, workload, why,
            message[0] != '\0' ? ": " : "", message);
    return 1;
}

/* Figures ----------------------------------------------------------------------------------------
 */

static unsigned long long wide(uint64_t number)
{
    return number;
}

static void write_row(const struct job *job, const struct work *work, unsigned round, bool is_first)
{
    const struct work_figures *figures = &job->shared->work;
    const struct mapped_counts *counts = &figures->counts;
    FILE *out = job->out;
    fprintf(out, "%s{\"kind\": \"%s\", \"workload\": \"%s\", \"threads\": %u, \"round\": %u",
            is_first ? "" : ",\n", work->kind->name, work->workload->name, work->threads, round);
    fprintf(out, ", \"accesses\": %llu, \"begin_ns\": %llu, \"wall_ns\": %llu, \"sync_ns\": %llu",
            wide(figures->accesses), wide(figures->begin_ns), wide(figures->wall_ns),
            wide(figures->sync_ns));
    fprintf(out, ", \"thread_ns\": %llu, \"process_ns\": %llu, \"kernel_ns\": %llu",
            wide(figures->thread_ns), wide(figures->process_ns),
            wide(figures->spent.kernel_cpu_ns));
    fprintf(out, ", \"machine_ns\": %llu, \"stolen_ns\": %llu, \"resident_bytes\": %llu",
            wide(figures->spent.machine_cpu_ns), wide(figures->spent.stolen_cpu_ns),
            wide(figures->resident_bytes));
    fprintf(out, ", \"samples\": %llu, \"max_ns\": %llu, \"percentile_ns\": {",
            wide(figures->samples), wide(figures->latency_max_ns));
    for (size_t i = 0; i < WORK_PERCENTILES; i++) {
        fprintf(out, "%s\"%g\": %llu", i == 0 ? "" : ", ", work_percents[i],
                wide(figures->latency_ns[i]));
    }
    fputs("}, \"device\": ", out);
    if (figures->has_device) {
        fprintf(out, "{\"reads\": %llu, \"read_bytes\": %llu, ", wide(figures->spent.reads),
                wide(figures->spent.read_bytes));
        fprintf(out, "\"writes\": %llu, \"written_bytes\": %llu}", wide(figures->spent.writes),
                wide(figures->spent.written_bytes));
    } else {
        fputs("null", out);
    }
    fprintf(out, ", \"region\": {\"loads\": %llu, \"evictions\": %llu, \"eviction_calls\": %llu",
            wide(counts->loads), wide(counts->evictions), wide(counts->eviction_calls));
    fprintf(out, ", \"writes\": %llu, \"write_calls\": %llu, \"pointer_faults\": %llu}}",
            wide(counts->writes), wide(counts->write_calls), wide(counts->pointer_faults));
}

static void write_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        fputc(*text == '"' || *text == '\\' || (unsigned char)*text < ' ' ? ' ' : *text, out);
    }
    fputc('"', out);
}

static void write_missing(const struct job *job)
{
    bool is_first = true;
    fputs("], \"missing\": {", job->out);
    for (size_t i = 0; i < job->kind_count; i++) {
        if (job->kinds_missing[i] != NULL) {
            fprintf(job->out, "%s\"%s\": ", is_first ? "" : ", ", job->kinds[i]->name);
            write_text(job->out, job->kinds_missing[i]);
            is_first = false;
        }
    }
    fputs("}", job->out);
}

static void write_loops(const struct job *job)
{
    const struct loops_figures *figures = &job->shared->loops;
    bool is_first = true;
    fputs(", \"loops\": {", job->out);
    for (int loop = 0; loop < LOOPS_COUNT; loop++) {
        if (figures->ns[loop][0] <= 0) {
            continue;
        }
        fprintf(job->out, "%s\"%s\": [", is_first ? "" : ", ", loops_names[loop]);
        for (unsigned round = 0; round < job->rounds; round++) {
            fprintf(job->out, "%s%.3f", round == 0 ? "" : ", ", figures->ns[loop][round]);
        }
        fputs("]", job->out);
        is_first = false;
    }
    fputs("}", job->out);
}

/* Work -------------------------------------------------------------------------------------------
 */

static int check_device(const struct job *job, const struct work *work)
{
    uint64_t wrong = 0;
    int status = pages_compare(job->path, job->page_count, job->ledger, &wrong);
    if (status != 0) {
        fprintf(stderr, "cubby-mmap: %s, %s: page %llu of the device: %s\n", work->kind->name,
                work->workload->name, wide(wrong),
                status == EILSEQ ? "is not what was written there" : strerror(status));
    }
    return status != 0;
}

/* One kind, once. Returns 0, or 1 and says why not. */
static int run_one(struct job *job, size_t kind, const struct workload *workload, unsigned threads,
                   unsigned round, bool *is_first)
{
    const struct work work = {
        .kind = job->kinds[kind],
        .workload = workload,
        .path = job->path,
        .page_count = job->page_count,
        .cache_pages = job->cache_pages,
        .threads = threads,
        .slice_ns = job->slice_ns,
        .seed = round + 1,
        .ledger = job->ledger,
    };
    memset(job->shared, 0, sizeof *job->shared);
    if (run_apart(job, &work) != 0) {
        return 1;
    }
    const struct work_figures *figures = &job->shared->work;
    if (figures->status == EOPNOTSUPP) {
        const char *why = figures->message[0] != '\0' ? figures->message : strerror(EOPNOTSUPP);
        job->kinds_missing[kind] = strdup(why);
        return job->kinds_missing[kind] == NULL;
    }
    if (figures->status != 0) {
        return tell(work.kind->name, workload->name, figures->status, figures->message);
    }
    if (workload->writes_percent > 0 && check_device(job, &work) != 0) {
        return 1;
    }
    if (job->out != NULL) {
        write_row(job, &work, round, *is_first);
        *is_first = false;
    }
    return 0;
}

/* All kinds with so many threads, in turn. */
static int run_kinds(struct job *job, const struct workload *workload, unsigned threads,
                     unsigned round, bool *is_first)
{
    int status = 0;
    for (size_t i = 0; i < job->kind_count && status == 0; i++) {
        size_t kind = (i + round) % job->kind_count; /* nobody is always the first */
        bool is_senseless = workload->shape == WORK_STORM && job->kinds[kind]->is_bare;
        if (job->kinds_missing[kind] == NULL && !is_senseless) {
            status = run_one(job, kind, workload, threads, round, is_first);
        }
    }
    return status;
}

static int run_all(struct job *job)
{
    bool is_first = true;
    for (unsigned round = 0; round < job->rounds; round++) {
        for (size_t w = 0; w < job->workload_count; w++) {
            const struct workload *workload = job->workloads[w];
            bool is_alone = workload->shape == WORK_STORM;
            for (size_t t = 0; t < (is_alone ? 1 : job->thread_counts); t++) {
                unsigned threads = is_alone ? 1 : job->threads[t];
                if (run_kinds(job, workload, threads, round, &is_first) != 0) {
                    return 1;
                }
            }
        }
    }
    return 0;
}

static int run_loops(struct job *job)
{
    memset(job->shared, 0, sizeof *job->shared);
    if (run_apart(job, NULL) != 0) {
        return 1;
    }
    const struct loops_figures *figures = &job->shared->loops;
    if (figures->status != 0) {
        return tell("loops", "hits", figures->status, figures->message);
    }
    return 0;
}

static void *share_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("cubby-mmap: memory");
        exit(EXIT_FAILURE);
    }
    memset(memory, 0, bytes); /* here, that it is not a child's */
    return memory;
}

static void set_defaults(struct job *job)
{
    *job = (struct job){
        .page_count = (UINT64_C(512) << 20) / PAGES_BYTES,
        .cache_pages = (UINT64_C(128) << 20) / PAGES_BYTES,
        .has_loops = true,
        .threads = {1, 2},
        .thread_counts = 2,
        .rounds = 5,
        .slice_ns = UINT64_C(400) * 1000000,
        .loop_count = 2000000,
    };
    for (const struct mapped_kind *kind; (kind = kinds_at(job->kind_count)) != NULL;) {
        job->kinds[job->kind_count++] = kind;
    }
    for (const struct workload *each; (each = work_at(job->workload_count)) != NULL;) {
        job->workloads[job->workload_count++] = each;
    }
}

int main(int argument_count, char **arguments)
{
    static struct job job;
    int option;
    set_defaults(&job);
    while ((option = getopt_long(argument_count, arguments, "", long_options, NULL)) != -1) {
        parse_option(&job, option, optarg);
    }
    if (optind < argument_count) {
        fail_usage("unexpected argument", arguments[optind]);
    }
    if (job.path == NULL) {
        fail_usage("--path", "is missing");
    }
    if (job.page_count < job.cache_pages) {
        fail_usage("--bytes", "is less than the cache");
    }
    job.ledger = share_memory(job.page_count * sizeof *job.ledger);
    job.shared = share_memory(sizeof *job.shared);
    int status = pages_fill(job.path, job.page_count);
    if (status != 0) {
        fprintf(stderr, "cubby-mmap: %s: %s\n", job.path, strerror(status));
        return EXIT_FAILURE;
    }
    if (job.out != NULL) {
        fputs("{\"rows\": [", job.out);
    }
    if (run_all(&job) != 0) {
        return EXIT_FAILURE;
    }
    if (job.out != NULL) {
        write_missing(&job);
    }
    if (job.has_loops && run_loops(&job) != 0) {
        return EXIT_FAILURE;
    }
    if (job.out != NULL) {
        if (job.has_loops) {
            write_loops(&job);
        }
        fputs("}\n", job.out);
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
