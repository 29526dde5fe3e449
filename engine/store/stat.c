/* stat.c -- cubby_stat: what the store holds, and what it has cost; cubby_stat_latency.
 *
 * Depends on: store.h, space.h.   Used by: users of cubby.h.
 */
#include <stdio.h>

#include "engine/base/cubby_assert.h"
#include "engine/nibble/nibble.h"
#include "engine/store/space.h"

static uint64_t load(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void add_counters(struct cubby_stat *stat, const struct session_counters *counters)
{
    stat->gets += load(&counters->gets);
    stat->get_misses += load(&counters->get_misses);
    stat->puts += load(&counters->puts);
    stat->deletes += load(&counters->deletes);
    stat->get_home_reads += load(&counters->get_home_reads);
    stat->get_spill_reads += load(&counters->get_spill_reads);
    stat->get_blob_reads += load(&counters->get_blob_reads);
    stat->get_retry_reads += load(&counters->get_retry_reads);
    stat->cache_hits += load(&counters->cache_hits);
    stat->inserted_bytes += load(&counters->inserted_bytes);
    stat->rebuilt_bytes += load(&counters->rebuilt_bytes);
    stat->rebuilds += load(&counters->rebuilds);
    stat->splits += load(&counters->splits);
    stat->longest_put_ns = larger(stat->longest_put_ns, load(&counters->longest_put_ns));
    stat->longest_rebuild_ns =
        larger(stat->longest_rebuild_ns, load(&counters->longest_rebuild_ns));
}

static void add_sessions(cubby_store *store, struct cubby_stat *stat)
{
    pthread_mutex_lock(&store->sessions_lock);
    add_counters(stat, &store->retired);
    stat->blocks_read = store->retired_blocks_read;
    stat->blocks_written = store->retired_blocks_written;
    for (const cubby_session *session = store->sessions; session != NULL; session = session->next) {
        add_counters(stat, &session->counters);
        stat->blocks_read += load(&session->io->blocks_read);
        stat->blocks_written += load(&session->io->blocks_written);
    }
    pthread_mutex_unlock(&store->sessions_lock);
}

static void fill_gauges(cubby_store *store, struct cubby_stat *stat)
{
    const struct directory *directory = &store->directory;
    struct extents_usage usage;
    extents_usage(&store->extents, &usage);
    stat->pairs = atomic_load(&store->pair_count);
    stat->pair_bytes = atomic_load(&store->pair_bytes);
    stat->blobs = atomic_load(&store->blob_count);
    stat->segments = atomic_load(&directory->segment_count);
    for (uint64_t i = 0; i < stat->segments; i++) {
        uint32_t home_count = directory_get(directory, i).home_count;
        stat->home_blocks += home_count;
        stat->spill_blocks += segment_block_count(home_count) - home_count;
    }
    stat->used_bytes = usage.taken_extents * EXTENT_BYTES;
    stat->quarantined_bytes = usage.held_blocks * BLOCK_BYTES;
    stat->fill_percent = store->fill_percent;
    stat->directory_bytes = stat->segments * (DESCRIPTOR_BYTES + PAYLOAD_BYTES);
    stat->bitmap_bytes = usage.map_bytes;
    stat->checkpoints = atomic_load(&store->checkpoints);
    stat->replayed_pairs = store->replayed_pairs;
    stat->replayed_records = store->replayed_records;
    stat->replayed_bytes = store->replayed_bytes;
    stat->replay_ns = store->replay_ns;
    stat->torn_blocks = store->torn_blocks;
    stat->recovered = store->recovered;
    stat->lost_pairs = store->lost_pairs;
    pthread_mutex_lock(&store->checkpoint_lock);
    stat->logical_bytes = store->super.block_count * BLOCK_BYTES;
    stat->format_version = store->super.format_version;
    stat->feature_bits = store->super.incompatible;
    pthread_mutex_unlock(&store->checkpoint_lock);
}

static void fill_log(cubby_store *store, struct cubby_stat *stat)
{
    struct log *log = &store->log;
    const struct writeback *writeback = &store->writeback;
    stat->dirty_pairs = atomic_load(&store->dirty.count);
    stat->dirty_bytes = atomic_load(&store->dirty.bytes);
    stat->dirty_limit_bytes = store->dirty.limit_bytes;
    stat->degraded = atomic_load(&store->degraded) != 0;
    stat->written_back_pairs = atomic_load(&writeback->written_back_pairs);
    stat->home_writes = atomic_load(&writeback->home_writes);
    stat->spill_writes = atomic_load(&writeback->spill_writes);
    stat->logged_again = atomic_load(&writeback->logged_again);
    stat->log_bytes = log_used(log);
    stat->log_capacity_bytes = log_capacity(log);
    pthread_mutex_lock(&log->lock);
    stat->log_records = log->records;
    stat->log_appended_bytes = log->appended_bytes;
    stat->log_writes = log->writes;
    stat->log_flushes = log->flushes;
    pthread_mutex_unlock(&log->lock);
}

static void fill_memory(const cubby_store *store, struct cubby_stat *stat)
{
    struct cubby_nibble_stat memory;
    nibble_stat(store->dirty.memory.nibble, &memory);
    stat->cache_moved_bytes = memory.moved_bytes;
    if (store->dirty.keeps_clean) {
        /* What is not dirty is clean; the two are not looked at at the same moment. */
        stat->cache_limit_bytes = store->dirty.memory_bytes;
        stat->cache_bytes = larger(memory.used_bytes, stat->dirty_bytes) - stat->dirty_bytes;
        stat->cache_pairs = larger(memory.pairs, stat->dirty_pairs) - stat->dirty_pairs;
        stat->cache_evicted = memory.evicted;
    }
}

static void fill_region(const cubby_store *store, struct cubby_stat *stat)
{
    if (store->region != NULL) {
        struct page_io_region_stat region;
        page_io_region_stat(store->region, &region);
        stat->region_limit_bytes = region.limit_bytes;
        stat->region_bytes = region.bytes;
        stat->region_evicted_blocks = region.evicted_blocks;
    }
}

static void fill_device(const cubby_store *store, struct cubby_stat *stat)
{
    struct block_usage usage;
    if (store->device->ops->usage(store->device, &usage) != 0) {
        usage = (struct block_usage){.source = "none"};
    }
    stat->device_logical_bytes = usage.logical_bytes;
    stat->device_physical_bytes = usage.physical_bytes;
    stat->device_capacity_bytes = usage.capacity_bytes;
    stat->device_compresses = store->device->geometry.compresses;
    stat->space_mark = space_mark_of(store, &usage);
    snprintf(stat->device_source, sizeof stat->device_source, "%s", usage.source);
}

int cubby_stat(cubby_session *session, struct cubby_stat *stat)
{
    CUBBY_ASSERT(stat != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    *stat = (struct cubby_stat){0};
    fill_gauges(session->store, stat);
    fill_log(session->store, stat);
    fill_memory(session->store, stat);
    fill_region(session->store, stat);
    fill_device(session->store, stat);
    add_sessions(session->store, stat);
    return session_leave(session, CUBBY_OK);
}

_Static_assert((int)CUBBY_LATENCY_BUCKETS == (int)HISTOGRAM_BUCKETS, "all of them have room");

static void sum_latencies(cubby_store *store, enum cubby_operation operation,
                          struct histogram *histogram)
{
    pthread_mutex_lock(&store->sessions_lock);
    histogram_merge(histogram, &store->retired_latencies[operation]);
    for (const cubby_session *session = store->sessions; session != NULL; session = session->next) {
        histogram_merge(histogram, &session->latencies[operation]);
    }
    pthread_mutex_unlock(&store->sessions_lock);
}

static bool is_sampled(enum cubby_operation operation)
{
    return operation == CUBBY_OPERATION_GET || operation == CUBBY_OPERATION_DELETE;
}

int cubby_stat_latency(cubby_session *session, enum cubby_operation operation,
                       struct cubby_latency *latency)
{
    CUBBY_ASSERT(latency != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    if ((unsigned)operation >= CUBBY_OPERATION_COUNT) {
        session_fail(session, CUBBY_BAD_ARGUMENT, "%d is no operation", (int)operation);
        return session_leave(session, CUBBY_BAD_ARGUMENT);
    }
    struct histogram histogram = {0};
    sum_latencies(session->store, operation, &histogram);
    latency->one_in = is_sampled(operation) ? TIMED_ONE_IN : 1;
    latency->count = histogram.count;
    latency->sum_ns = histogram.sum_ns;
    latency->max_ns = histogram.max_ns;
    latency->p50_ns = histogram_percentile_ns(&histogram, 50);
    latency->p90_ns = histogram_percentile_ns(&histogram, 90);
    latency->p99_ns = histogram_percentile_ns(&histogram, 99);
    latency->p999_ns = histogram_percentile_ns(&histogram, 99.9);
    latency->bucket_count = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram.counts[i] > 0) {
            latency->buckets[latency->bucket_count++] = (struct cubby_latency_bucket){
                .end_ns = histogram_bucket_end_ns(i),
                .count = histogram.counts[i],
            };
        }
    }
    return session_leave(session, CUBBY_OK);
}
