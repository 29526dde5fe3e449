/* nibble.c -- opening and closing, sessions, and figures; see nibble.h. */
#include "engine/nibble/nibble.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/nibble/nodes.h"

enum {
    BLOCK_BYTES = 65536,
    BLOCK_BYTES_MIN = 4096,
    SEGMENT_BYTES_MIN = 128 << 10, /* a key of 65,535 bytes has room in it */
    SEGMENT_BYTES_MAX = 32 << 20,
    SEGMENTS = 256, /* by default; with many fewer compaction costs more */
    SEGMENTS_MIN = 32,
    OBJECTS_PER_SEGMENT = 8,
    CLEANERS = 2,
    RESERVE_SHARE = 64, /* of the segments */
    HUGE_PAGE_BYTES = 2 << 20,
    HUGE_PAGES_FROM = 64 << 20, /* of memory: below they are too large a part of it */
};

/* Memory at the begin of a cache line, and as many whole ones as it takes. */
static void *new_lines(size_t bytes)
{
    return aligned_alloc(INDEX_LINE_BYTES,
                         (bytes + INDEX_LINE_BYTES - 1) / INDEX_LINE_BYTES * INDEX_LINE_BYTES);
}

static bool is_power_of_two(uint64_t number)
{
    return number != 0 && (number & (number - 1)) == 0;
}

/* Set the options that are 0; returns what is wrong with the others, or NULL. */
static const char *complete(struct nibble_options *options)
{
    if (options->memory_bytes < NIBBLE_MEMORY_MIN) {
        return "memory_bytes must be 16 MiB or more";
    }
    if (options->memory_bytes / OBJECT_UNIT_BYTES > INDEX_ADDRESS_MASK) {
        return "memory_bytes must be at most 8 TiB";
    }
    if (options->segment_bytes == 0) {
        options->segment_bytes = SEGMENT_BYTES_MIN;
        while (options->segment_bytes < SEGMENT_BYTES_MAX &&
               options->segment_bytes * 2 * SEGMENTS <= options->memory_bytes) {
            options->segment_bytes *= 2;
        }
    }
    if (!is_power_of_two(options->segment_bytes) || options->segment_bytes < SEGMENT_BYTES_MIN ||
        options->segment_bytes > SEGMENT_BYTES_MAX) {
        return "segment_bytes must be a power of two from 128 KiB to 32 MiB";
    }
    if (options->segment_bytes * SEGMENTS_MIN > options->memory_bytes) {
        return "segment_bytes must be at most a 32nd of memory_bytes";
    }
    options->block_bytes = options->block_bytes != 0 ? options->block_bytes : BLOCK_BYTES;
    if (!is_power_of_two(options->block_bytes) || options->block_bytes < BLOCK_BYTES_MIN ||
        options->block_bytes > options->segment_bytes) {
        return "block_bytes must be a power of two from 4 KiB to segment_bytes";
    }
    options->cleaners = options->cleaners != 0 ? options->cleaners : CLEANERS;
    if (options->cleaners > NIBBLE_CLEANERS_MAX) {
        return "cleaners must be 16 or fewer";
    }
    if (options->node_count == 0) {
        uint64_t most = options->memory_bytes / NIBBLE_MEMORY_MIN; /* what is too little for them */
        unsigned count = nodes_count();
        options->node_count = count < most ? count : (unsigned)most;
    }
    if (options->memory_bytes / options->node_count < NIBBLE_MEMORY_MIN) {
        return "memory_bytes must be 16 MiB or more for each memory node";
    }
    return NULL;
}

struct key_hash nibble_hash_of(const struct nibble *nibble, uint8_t *object)
{
    uint8_t key[CUBBY_KEY_BYTES_MAX];
    size_t size = object_key_size(object_header(object));
    racy_load(key, object_key(object), size);
    return nibble->hash(key, size, nibble->seed);
}

/* The same for the index. */
static struct key_hash hash_at(void *state, uint64_t address)
{
    const struct nibble *nibble = state;
    return nibble_hash_of(nibble, segments_object(&nibble->segments, address));
}

/* What is taken whatever is put: tables, and what of a huge page may be touched and not be used. */
static uint64_t fixed_bytes(const struct nibble_options *options, bool huge_pages)
{
    uint64_t tables = index_fixed_bytes(options->memory_bytes) +
                      options->memory_bytes / options->segment_bytes * sizeof(struct segment);
    if (options->evicts) {
        tables += ghosts_count(options->memory_bytes) * sizeof(uint32_t);
    }
    return tables + (huge_pages ? (options->node_count + 1) * HUGE_PAGE_BYTES : 0);
}

static int open_parts(struct nibble *nibble, const struct nibble_options *options, bool huge_pages)
{
    uint64_t limit = options->memory_bytes;
    uint64_t per_node = limit / options->segment_bytes / options->node_count;
    uint32_t reserve = (uint32_t)(per_node / RESERVE_SHARE);
    uint32_t needed = options->cleaners + 2; /* a segment to fill for each, and two to begin */
    const struct segments_options segments_options = {
        .limit_bytes = limit,
        .segment_bytes = options->segment_bytes,
        .block_bytes = options->block_bytes,
        .reserve = reserve > needed ? reserve : needed,
        .node_count = options->node_count,
        .huge_pages = huge_pages,
    };
    int status =
        segments_open(&nibble->segments, &segments_options, &nibble->budget, &nibble->epoch);
    for (unsigned node = 0;
         status == CUBBY_OK && options->node_count > 1 && node < options->node_count; node++) {
        uint64_t bytes = per_node * options->segment_bytes;
        nodes_bind(nibble->segments.base + node * bytes, bytes, node);
    }
    if (status == CUBBY_OK) {
        status = index_open(&nibble->index, limit, huge_pages, &nibble->budget,
                            nibble->segments.base, hash_at, nibble);
    }
    if (status == CUBBY_OK) {
        status = large_open(&nibble->large, limit, &nibble->budget, &nibble->epoch);
    }
    if (status == CUBBY_OK && options->evicts && !ghosts_open(&nibble->ghosts, limit)) {
        status = ENOMEM;
    }
    return status;
}

int nibble_open(const struct nibble_options *given, struct nibble **opened, char *message,
                size_t message_size)
{
    struct nibble_options options = *given;
    const char *wrong = complete(&options);
    if (wrong != NULL) {
        snprintf(message, message_size, "%s", wrong);
        return CUBBY_BAD_ARGUMENT;
    }
    snprintf(message, message_size, "%s", cubby_status_text(ENOMEM)); /* all that is left to fail */
    bool huge_pages = options.memory_bytes / options.node_count >= HUGE_PAGES_FROM;
    struct nibble *nibble = new_lines(sizeof *nibble);
    unsigned count = options.cleaners * options.node_count;
    struct nibble_cleaner *cleaners = new_lines(count * sizeof *cleaners);
    if (nibble == NULL || cleaners == NULL) {
        free(nibble);
        free(cleaners);
        return ENOMEM;
    }
    *nibble = (struct nibble){
        .budget.limit_bytes = options.memory_bytes - fixed_bytes(&options, huge_pages),
        .seed = options.seed,
        .hash = options.hash,
        .memory_bytes = options.memory_bytes,
        .object_bytes_max = options.segment_bytes / OBJECTS_PER_SEGMENT,
        .append_only = options.append_only,
        .evicts = options.evicts,
        .cleaner_count = options.cleaners,
        .cleaners = cleaners,
    };
    epoch_open(&nibble->epoch);
    pthread_mutex_init(&nibble->lock, NULL);
    for (unsigned i = 0; i < count; i++) {
        cleaners[i] = (struct nibble_cleaner){.victim = NO_SEGMENT};
        pthread_mutex_init(&cleaners[i].lock, NULL);
    }
    int status = open_parts(nibble, &options, huge_pages);
    if (status != CUBBY_OK) {
        nibble_close(nibble);
        return ENOMEM;
    }
    *opened = nibble;
    return CUBBY_OK;
}

void nibble_close(struct nibble *nibble)
{
    CUBBY_ASSERT(nibble->sessions == NULL);
    unsigned count = nibble->cleaner_count * nibble->segments.node_count;
    for (unsigned i = 0; i < count; i++) {
        pthread_mutex_destroy(&nibble->cleaners[i].lock);
    }
    ghosts_close(&nibble->ghosts);
    large_close(&nibble->large);
    index_close(&nibble->index);
    segments_close(&nibble->segments);
    epoch_close(&nibble->epoch);
    pthread_mutex_destroy(&nibble->lock);
    free(nibble->cleaners);
    free(nibble);
}

int nibble_session_open(struct nibble *nibble, size_t buffer_bytes, struct nibble_session **opened)
{
    struct nibble_session *session = new_lines(sizeof *session);
    uint8_t *buffer = malloc(buffer_bytes + NIBBLE_BUFFER_SLACK);
    if (session == NULL || buffer == NULL) {
        free(session);
        free(buffer);
        return ENOMEM;
    }
    *session = (struct nibble_session){
        .nibble = nibble,
        .node = nodes_current() % nibble->segments.node_count,
        .buffer = buffer,
        .buffer_bytes = buffer_bytes,
    };
    epoch_register(&nibble->epoch, &session->views);
    pthread_mutex_lock(&nibble->lock);
    session->next = nibble->sessions;
    nibble->sessions = session;
    pthread_mutex_unlock(&nibble->lock);
    *opened = session;
    return CUBBY_OK;
}

enum {
    COUNTERS = sizeof(struct nibble_counters) / sizeof(_Atomic uint64_t),
};

/* Add counters to others, of which nobody counts meanwhile. */
static void add_counters(struct nibble_counters *sums, const struct nibble_counters *counters)
{
    const _Atomic uint64_t *from = (const _Atomic uint64_t *)counters;
    _Atomic uint64_t *to = (_Atomic uint64_t *)sums;
    for (size_t i = 0; i < COUNTERS; i++) {
        counter_add(&to[i], atomic_load_explicit(&from[i], memory_order_relaxed));
    }
}

void nibble_session_release(struct nibble_session *session)
{
    struct segments *segments = &session->nibble->segments;
    segments_release_chunk(segments, &session->chunk);
    segments_release_chunk(segments, &session->large_chunk);
    segments_release_chunk(segments, &session->old_chunk);
}

void nibble_session_close(struct nibble_session *session)
{
    struct nibble *nibble = session->nibble;
    CUBBY_ASSERT(session->view_count == 0);
    nibble_session_release(session);
    epoch_unregister(&nibble->epoch, &session->views);
    pthread_mutex_lock(&nibble->lock);
    struct nibble_session **place = &nibble->sessions;
    while (*place != session) {
        place = &(*place)->next;
    }
    *place = session->next;
    add_counters(&nibble->ended, &session->counters);
    pthread_mutex_unlock(&nibble->lock);
    free(session->buffer);
    free(session);
}

void nibble_stat(struct nibble *nibble, struct cubby_nibble_stat *stat)
{
    struct nibble_counters sums = {0};
    pthread_mutex_lock(&nibble->lock);
    add_counters(&sums, &nibble->ended);
    for (struct nibble_session *session = nibble->sessions; session != NULL;
         session = session->next) {
        add_counters(&sums, &session->counters);
    }
    pthread_mutex_unlock(&nibble->lock);
    uint64_t inserts = atomic_load(&sums.inserts);
    uint64_t deletes = atomic_load(&sums.deletes);
    *stat = (struct cubby_nibble_stat){
        .memory_bytes = nibble->memory_bytes,
        .used_bytes = nibble->memory_bytes - nibble->budget.limit_bytes +
                      atomic_load(&nibble->budget.used_bytes),
        .fixed_bytes = nibble->memory_bytes - nibble->budget.limit_bytes,
        .index_bytes = atomic_load(&nibble->index.page_count) * INDEX_PAGE_BYTES,
        .large_bytes = large_used_bytes(&nibble->large),
        .segment_bytes = nibble->segments.segment_bytes,
        .nodes = nibble->segments.node_count,
        .gets = atomic_load(&sums.gets),
        .misses = atomic_load(&sums.misses),
        .retries = atomic_load(&sums.retries),
        .puts = atomic_load(&sums.in_place_puts) + atomic_load(&sums.appended_puts),
        .in_place_puts = atomic_load(&sums.in_place_puts),
        .deletes = deletes,
        .put_bytes = atomic_load(&sums.put_bytes),
        .helped = atomic_load(&sums.helped),
        .index_splits = atomic_load(&nibble->index.splits),
        .index_merges = atomic_load(&nibble->index.merges),
    };
    segments_sum(&nibble->segments, &stat->live_bytes, &stat->segment_bytes_used);
    for (unsigned i = 0; i < nibble->cleaner_count * nibble->segments.node_count; i++) {
        struct nibble_cleaner *cleaner = &nibble->cleaners[i];
        pthread_mutex_lock(&cleaner->lock);
        stat->cleaned_bytes += cleaner->cleaned_bytes;
        stat->moved_bytes += cleaner->moved_bytes;
        stat->cleaned_segments += cleaner->cleaned_segments;
        stat->evicted += cleaner->evicted;
        stat->evicted_bytes += cleaner->evicted_bytes;
        pthread_mutex_unlock(&cleaner->lock);
    }
    uint64_t gone = deletes + stat->evicted + atomic_load(&nibble->forgotten);
    stat->pairs = inserts > gone ? inserts - gone : 0;
}
