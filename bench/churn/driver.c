/* driver.c -- cubby-churn: one trace of inserts, gets, updates and deletes, replayed on tables in
 * memory: what it costs, and what they take meanwhile.
 *
 *   files that come, grow and go, as Postmark has them:
 *     cubby-churn --sizes 500-10240,10240-102400 --append 500-10240 --begin 30000
 *   a table that grows thousandfold while it is used, beside the bare accesses:
 *     cubby-churn --engines nibble,bare --sizes 64 --begin 1000 --end 1000000 --rounds 7
 *
 * The trace (trace.h) is made first, so that making it is not measured. Then, round after round,
 * each engine opens an empty table, replays it, and closes. Every value that is got is checked by
 * its size and its first bytes. Nibble has so much memory that at its most --live percent of
 *
 *     live_bytes / (memory_bytes - index_bytes)     of struct cubby_nibble_stat
 *
 * are alive. Prints one JSON object: the trace's marks, and at each of them, for each round of each
 * engine, processor time since the start (of the thread; of the process, which has the cleaners)
 * and what the process has grown by. Resident bytes mean something with one engine and one round
 * alone: memory that an engine has kept would help the next.
 *
 * Exit code 0, 1 after a failure, 2 for wrong usage.
 *
 * Source: Merritt, figures 15 to 17.
 *
 * Depends on: trace.h.   Used by: bench/churn.py, bench/growth.py.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "bench/churn/trace.h"
#include "bench/common/clock.h"
#include "bench/common/nibble_needs.h"
#include "bench/common/resident.h"
#include "bench/engines/bench_engine.h"

enum {
    ENGINES_MAX = 8,
    NIBBLE_BYTES_MIN = 16 << 20,
};

const char usage_text[] =
    "usage: cubby-churn [options]\n"
    "  --engines LIST     of nibble, libcuckoo, tbb, unordered, bare  [nibble]\n"
    "  --sizes LIST       of values, each FROM-TO or one size, each as likely  [500-10240]\n"
    "  --append SIZE      what an update adds to a value, FROM-TO  [nothing]\n"
    "  --begin N          pairs, before the churn begins  [10000]\n"
    "  --end N            and when it ends  [as many]\n"
    "  --operations N     of the churn  [1000000]\n"
    "  --updates PERCENT  of them  [20]\n"
    "  --turnover PERCENT  of them, inserts and deletes; the rest are gets  [20]\n"
    "  --rounds R         [1]\n"
    "  --live PERCENT     nibble: of its log, at its most  [80]\n"
    "  --cleaners N       nibble: threads that compact  [0]\n"
    "  --append-only      nibble: no value is overwritten in place\n";

struct job {
    const struct bench_engine *engines[ENGINES_MAX];
    size_t engine_count;
    struct trace_options options;
    struct bench_place place;
    unsigned rounds;
    unsigned live_percent;
    struct trace trace;
};

/* What one engine has come to at a mark. */
struct sample {
    uint64_t thread_ns;
    uint64_t process_ns;
    uint64_t resident_bytes;
};

static void add_engines(struct job *job, char *list)
{
    for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
        const struct bench_engine *engine = bench_engine_find(name);
        if (engine == NULL || !bench_engine_is_in_memory(name) || engine->delete_pair == NULL) {
            const char *absence = bench_engine_absence(name);
            fail_usage(name, absence != NULL ? absence : "is no table in memory that deletes");
        }
        if (job->engine_count == ENGINES_MAX) {
            fail_usage(name, "is one engine too many");
        }
        job->engines[job->engine_count++] = engine;
    }
}

static void parse_classes(struct trace_options *options, char *list)
{
    for (char *text = strsep(&list, ","); text != NULL; text = strsep(&list, ",")) {
        if (options->class_count == TRACE_CLASSES_MAX) {
            fail_usage("--sizes", "these are too many");
        }
        options->classes[options->class_count++] =
            parse_sizes(text, 8, TRACE_VALUE_BYTES_MAX, "--sizes");
    }
}

static void parse_option(struct job *job, int option, char *text)
{
    struct trace_options *options = &job->options;
    switch (option) {
    case 'e':
        add_engines(job, text);
        break;
    case 's':
        parse_classes(options, text);
        break;
    case 'a':
        options->append = parse_sizes(text, 1, TRACE_VALUE_BYTES_MAX, "--append");
        break;
    case 'b':
        options->begin = parse_number(text, 1, UINT32_MAX / 4, "--begin");
        break;
    case 'E':
        options->end = parse_number(text, 1, UINT32_MAX / 4, "--end");
        break;
    case 'o':
        options->operations = parse_number(text, 0, UINT32_MAX, "--operations");
        break;
    case 'u':
        options->update_percent = (unsigned)parse_number(text, 0, 100, "--updates");
        break;
    case 't':
        options->turnover_percent = (unsigned)parse_number(text, 0, 100, "--turnover");
        break;
    case 'r':
        job->rounds = (unsigned)parse_number(text, 1, 1000, "--rounds");
        break;
    case 'l':
        job->live_percent = (unsigned)parse_number(text, 1, 99, "--live");
        break;
    case 'c':
        job->place.cleaners = (uint32_t)parse_number(text, 0, UINT32_MAX, "--cleaners");
        break;
    case 'A':
        job->place.append_only = true;
        break;
    default:
        fputs(usage_text, stderr);
        exit(EXIT_USAGE);
    }
}

static void parse(struct job *job, int argument_count, char **arguments)
{
    static const struct option options[] = {
        {"engines", required_argument, NULL, 'e'},
        {"sizes", required_argument, NULL, 's'},
        {"append", required_argument, NULL, 'a'},
        {"begin", required_argument, NULL, 'b'},
        {"end", required_argument, NULL, 'E'},
        {"operations", required_argument, NULL, 'o'},
        {"updates", required_argument, NULL, 'u'},
        {"turnover", required_argument, NULL, 't'},
        {"rounds", required_argument, NULL, 'r'},
        {"live", required_argument, NULL, 'l'},
        {"cleaners", required_argument, NULL, 'c'},
        {"append-only", no_argument, NULL, 'A'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argument_count, arguments, "", options, NULL)) != -1) {
        parse_option(job, option, optarg);
    }
    if (optind < argument_count) {
        fail_usage("unexpected argument", arguments[optind]);
    }
    if (job->options.update_percent + job->options.turnover_percent > 100) {
        fail_usage("--updates", "with --turnover they are more than 100 percent");
    }
    if (job->engine_count == 0) {
        job->engines[job->engine_count++] = &nibble_engine;
    }
    if (job->options.class_count == 0) {
        job->options.classes[job->options.class_count++] = (struct sizes){500, 10240};
    }
    job->options.end = job->options.end == 0 ? job->options.begin : job->options.end;
    bool one_size = job->options.class_count == 1 && job->options.append.to == 0 &&
                    job->options.classes[0].from == job->options.classes[0].to;
    for (size_t i = 0; i < job->engine_count; i++) {
        if (job->engines[i] == &bare_engine && !one_size) {
            fail_usage("bare", "it has values of one size alone");
        }
    }
}

/* Do what the trace says from one entry to another. Returns the first failure; EIO: a wrong value.
 */
static int replay(const struct bench_engine *engine, void *session, const struct trace_entry *entry,
                  const struct trace_entry *end)
{
    static uint8_t value[TRACE_VALUE_BYTES_MAX];
    struct cubby_slice got;
    int status = CUBBY_OK;
    for (; entry < end && status == CUBBY_OK; entry++) {
        uint64_t key = entry->key;
        switch ((enum trace_kind)entry->kind) {
        case TRACE_GET:
            status = engine->get(session, (uint8_t *)&key, TRACE_KEY_BYTES, &got);
            if (status == CUBBY_OK &&
                (got.size != entry->value_bytes || memcmp(got.data, &key, sizeof key) != 0)) {
                status = EIO;
            }
            break;
        case TRACE_DELETE:
            status = engine->delete_pair(session, (uint8_t *)&key, TRACE_KEY_BYTES);
            break;
        default:
            memcpy(value, &key, sizeof key);
            status =
                engine->put(session, (uint8_t *)&key, TRACE_KEY_BYTES, value, entry->value_bytes);
            break;
        }
    }
    return status;
}

static int run(const struct bench_engine *engine, const struct trace *trace, void *store,
               struct sample *samples, uint64_t resident_before, char *message, size_t message_size)
{
    void *session;
    int status = engine->session_open(store, &session);
    if (status != CUBBY_OK) {
        snprintf(message, message_size, "%s", cubby_status_text(status));
        return status;
    }
    uint64_t thread_begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t process_begin = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    const struct trace_entry *entry = trace->entries;
    for (size_t i = 0; i < trace->mark_count && status == CUBBY_OK; i++) {
        const struct trace_entry *end = trace->entries + trace->marks[i].end;
        status = replay(engine, session, entry, end);
        entry = end;
        uint64_t resident = resident_bytes();
        samples[i] = (struct sample){
            .thread_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - thread_begin,
            .process_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - process_begin,
            .resident_bytes = resident > resident_before ? resident - resident_before : 0,
        };
    }
    if (status != CUBBY_OK) {
        const char *words = engine->message(session);
        snprintf(message, message_size, "%s: %s", engine->name,
                 status == EIO      ? "a get gave a wrong value"
                 : words[0] != '\0' ? words
                                    : cubby_status_text(status));
    }
    engine->session_close(session);
    return status;
}

static void write_run(const struct job *job, const struct bench_engine *engine, void *store,
                      const struct sample *samples)
{
    printf("{\"engine\": \"%s\", \"samples\": [", engine->name);
    for (size_t i = 0; i < job->trace.mark_count; i++) {
        printf("%s[%llu, %llu, %llu]", i == 0 ? "" : ", ", (unsigned long long)samples[i].thread_ns,
               (unsigned long long)samples[i].process_ns,
               (unsigned long long)samples[i].resident_bytes);
    }
    printf("]");
    if (engine->memory_stat != NULL) {
        struct cubby_nibble_stat stat;
        engine->memory_stat(store, &stat);
        printf(", \"put_bytes\": %llu, \"moved_bytes\": %llu, \"in_place_puts\": %llu, "
               "\"index_splits\": %llu, \"index_merges\": %llu, \"helped\": %llu",
               (unsigned long long)stat.put_bytes, (unsigned long long)stat.moved_bytes,
               (unsigned long long)stat.in_place_puts, (unsigned long long)stat.index_splits,
               (unsigned long long)stat.index_merges, (unsigned long long)stat.helped);
    }
    printf("}");
}

static int run_round(const struct job *job, const struct bench_engine *engine, char *message,
                     size_t message_size)
{
    static struct sample samples[TRACE_MARKS_MAX];
    void *store;
    uint64_t before = resident_bytes();
    int status = engine->open(&job->place, &store, message, message_size);
    if (status != CUBBY_OK) {
        if (message[0] == '\0') {
            snprintf(message, message_size, "%s: %s", engine->name, cubby_status_text(status));
        }
        return status;
    }
    status = run(engine, &job->trace, store, samples, before, message, message_size);
    if (status == CUBBY_OK) {
        write_run(job, engine, store, samples);
    }
    int closed = engine->close(store);
    return status == CUBBY_OK ? closed : status;
}

static void write_trace(const struct job *job)
{
    static const char *const phases[TRACE_PHASES] = {"setup", "churn", "clear"};
    printf("{\"memory_bytes\": %llu, \"live_percent\": %u, \"cleaners\": %u, \"keys\": %llu, "
           "\"marks\": [",
           (unsigned long long)job->place.memory_bytes, job->live_percent, job->place.cleaners,
           (unsigned long long)job->trace.key_count);
    for (size_t i = 0; i < job->trace.mark_count; i++) {
        const struct trace_mark *mark = &job->trace.marks[i];
        printf("%s{\"phase\": \"%s\", \"end\": %zu, \"pairs\": %llu, \"live_bytes\": %llu, "
               "\"inserts\": %llu, \"gets\": %llu, \"updates\": %llu, \"deletes\": %llu}",
               i == 0 ? "" : ", ", phases[mark->phase], mark->end, (unsigned long long)mark->pairs,
               (unsigned long long)mark->live_bytes, (unsigned long long)mark->counts[TRACE_INSERT],
               (unsigned long long)mark->counts[TRACE_GET],
               (unsigned long long)mark->counts[TRACE_UPDATE],
               (unsigned long long)mark->counts[TRACE_DELETE]);
    }
    printf("], \"runs\": [");
}

int main(int argument_count, char **arguments)
{
    static struct job job = {
        .options = {.begin = 10000,
                    .operations = 1000000,
                    .update_percent = 20,
                    .turnover_percent = 20,
                    .seed = 1},
        .rounds = 1,
        .live_percent = 80,
    };
    char message[CUBBY_MESSAGE_BYTES] = "";
    parse(&job, argument_count, arguments);
    int status = trace_make(&job.options, &job.trace);
    if (status != CUBBY_OK) {
        fprintf(stderr, "cubby-churn: no memory for the trace: %s\n", cubby_status_text(status));
        return EXIT_FAILURE;
    }
    uint64_t memory =
        job.trace.log_bytes_max * 100 / job.live_percent + nibble_needs_index(job.trace.pairs_max);
    job.place.memory_bytes = memory > NIBBLE_BYTES_MIN ? memory : NIBBLE_BYTES_MIN;
    job.place.pair_count = job.trace.key_count;
    job.place.pair_bytes = TRACE_KEY_BYTES + job.options.classes[0].from;
    job.place.key_bytes = TRACE_KEY_BYTES;
    write_trace(&job);
    for (size_t i = 0; i < job.rounds * job.engine_count && status == CUBBY_OK; i++) {
        printf("%s", i == 0 ? "" : ", ");
        status = run_round(&job, job.engines[i % job.engine_count], message, sizeof message);
    }
    trace_free(&job.trace);
    if (status != CUBBY_OK) {
        fprintf(stderr, "cubby-churn: %s\n", message);
        return EXIT_FAILURE;
    }
    printf("]}\n");
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
