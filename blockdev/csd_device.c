/* csd_device.c -- an emulated compressing drive as a block device.
 *
 * A write compresses without a lock, up to 32 blocks at a time, and appends under the lock of the
 * blocks' stream; see csd_log.c. Reads take no lock; see csd_read.c.
 *
 * Depends on: csd_state.h.   Used by: open.c, device_api.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockdev/block_range.h"
#include "blockdev/csd_state.h"
#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"

static struct csd_device *csd_of(struct block_device *device)
{
    return (struct csd_device *)(void *)device;
}

/* Blocks of one map page, compressed and ready to be appended. */
struct batch {
    struct csd_append appends[CSD_BATCH_BLOCKS];
    size_t count;
    size_t zero_blocks;
    size_t raw_blocks;
    uint8_t nothing_counts[CSD_BATCH_BLOCKS][CSD_NOTHING_BYTES];
};

/* Blocks of zeros are not stored: only that there is nothing, and only if there was something. */
static void add_nothing(struct csd_device *csd, struct batch *batch, uint64_t lba, uint64_t count)
{
    bool mapped = false;
    for (uint64_t i = 0; i < count && !mapped; i++) {
        mapped = csd_map_get(csd, lba + i) != CSD_ENTRY_NOTHING;
    }
    if (!mapped) {
        return;
    }
    uint8_t *payload = batch->nothing_counts[batch->count];
    store_u64(payload, count);
    batch->appends[batch->count++] = (struct csd_append){
        .fragment = {.kind = CSD_FRAGMENT_NOTHING, .payload_bytes = CSD_NOTHING_BYTES, .lba = lba},
        .nothing_count = count,
        .payload_hash = csd_format_payload_hash(payload, CSD_NOTHING_BYTES),
        .payload = payload,
    };
}

/* Compress block_count blocks into the worker's buffer. Returns 0 or ENOMEM. */
static int prepare(struct csd_device *csd, struct csd_worker *worker, uint64_t lba,
                   size_t block_count, const uint8_t *blocks, struct batch *batch)
{
    int status = aligned_buffer_reserve(&worker->buffer, CSD_BATCH_BLOCKS * CUBBY_BLOCK_BYTES);
    uint8_t *to = worker->buffer.data;
    batch->count = batch->zero_blocks = batch->raw_blocks = 0;
    size_t i = 0;
    while (i < block_count && status == 0) {
        size_t zeros = 0;
        while (i + zeros < block_count &&
               csd_block_is_zero(blocks + (i + zeros) * CUBBY_BLOCK_BYTES)) {
            zeros++;
        }
        if (zeros > 0) {
            add_nothing(csd, batch, lba + i, zeros);
            batch->zero_blocks += zeros;
            i += zeros;
            continue;
        }
        struct csd_append *append = &batch->appends[batch->count++];
        *append = (struct csd_append){.fragment = {.lba = lba + i}, .payload = to};
        status =
            csd_block_compress(csd, worker, blocks + i * CUBBY_BLOCK_BYTES, to, &append->fragment);
        append->payload_hash = csd_format_payload_hash(to, append->fragment.payload_bytes);
        batch->raw_blocks += append->fragment.kind == CSD_FRAGMENT_RAW;
        to += append->fragment.payload_bytes;
        i++;
    }
    return status;
}

/* Append a batch, cleaning as long as there is no free segment for it. */
static int append_batch(struct csd_device *csd, struct csd_worker *worker, struct batch *batch)
{
    size_t appended = 0;
    int status = 0;
    while (appended < batch->count && status == 0) {
        struct csd_stream *stream =
            csd_stream_of(csd, csd_page_of(batch->appends[appended].fragment.lba));
        size_t done;
        pthread_mutex_lock(&stream->lock);
        status = csd_log_append(csd, worker, stream, CSD_HOT, batch->appends + appended,
                                batch->count - appended, &done);
        pthread_mutex_unlock(&stream->lock);
        appended += done;
        if (status == EAGAIN) {
            status = csd_clean(csd);
        }
    }
    return status;
}

/* Errors before anything is done. */
static int check_write(struct csd_device *csd, uint64_t lba, uint64_t block_count)
{
    if (!csd->writable) {
        return EROFS;
    }
    int status = block_range_check(&csd->device, lba, block_count);
    if (status != 0) {
        return status;
    }
    return atomic_load_explicit(&csd->failed, memory_order_relaxed) ? EIO : csd_clean(csd);
}

/* Blocks up to the end of a map page, at most limit. */
static size_t blocks_in_page(uint64_t lba, uint64_t block_count, size_t limit)
{
    uint64_t left = CSD_MAP_ENTRIES - lba % CSD_MAP_ENTRIES;
    uint64_t count = block_count < left ? block_count : left;
    return count < limit ? (size_t)count : limit;
}

static int csd_write(struct block_device *device, uint64_t lba, size_t block_count,
                     const void *buffer)
{
    struct csd_device *csd = csd_of(device);
    CUBBY_ASSERT(block_range_is_aligned(buffer));
    int status = check_write(csd, lba, block_count);
    if (status != 0) {
        return status;
    }
    csd_space_wait(csd, block_count);
    const uint8_t *blocks = buffer;
    struct csd_worker *worker = csd_worker_take(csd);
    size_t done = 0;
    while (done < block_count && status == 0) {
        struct batch batch;
        size_t count = blocks_in_page(lba + done, block_count - done, CSD_BATCH_BLOCKS);
        status = prepare(csd, worker, lba + done, count, blocks + done * CUBBY_BLOCK_BYTES, &batch);
        if (status == 0) {
            status = append_batch(csd, worker, &batch);
        }
        if (status == 0) {
            csd_count_often(worker, CSD_HOST_WRITES, count);
            csd_count_often(worker, CSD_ZERO_WRITES, batch.zero_blocks);
            csd_count_often(worker, CSD_RAW_WRITES, batch.raw_blocks);
        }
        done += count;
    }
    csd_worker_give(worker);
    /* A checkpoint that fails now is tried again; what has been written is in the log. */
    (void)csd_checkpoint_if_due(csd);
    return status;
}

static int csd_read(struct block_device *device, uint64_t lba, size_t block_count, void *buffer)
{
    CUBBY_ASSERT(block_range_is_aligned(buffer));
    int status = block_range_check(device, lba, block_count);
    return status != 0 ? status : csd_read_blocks(csd_of(device), lba, block_count, buffer);
}

static int csd_flush(struct block_device *device)
{
    struct csd_device *csd = csd_of(device);
    return csd->writable ? csd_flush_inner(csd) : 0;
}

/* Discard blocks of one map page. */
static int discard_in_page(struct csd_device *csd, uint64_t lba, uint64_t block_count)
{
    struct csd_stream *stream = csd_stream_of(csd, csd_page_of(lba));
    pthread_mutex_lock(&stream->lock);
    bool empty = csd->page_mapped[csd_page_of(lba)] == 0;
    pthread_mutex_unlock(&stream->lock);
    if (empty) {
        return 0;
    }
    struct batch batch = {.count = 0};
    add_nothing(csd, &batch, lba, block_count);
    struct csd_worker *worker = csd_worker_take(csd);
    int status = append_batch(csd, worker, &batch);
    csd_worker_give(worker);
    return status;
}

static int csd_discard(struct block_device *device, uint64_t lba, uint64_t block_count)
{
    struct csd_device *csd = csd_of(device);
    int status = check_write(csd, lba, block_count);
    for (uint64_t done = 0; done < block_count && status == 0;) {
        size_t count = blocks_in_page(lba + done, block_count - done, CSD_MAP_ENTRIES);
        status = discard_in_page(csd, lba + done, count);
        done += count;
    }
    if (status == 0) {
        csd_count(csd, CSD_HOST_DISCARDS, block_count);
        (void)csd_checkpoint_if_due(csd);
    }
    return status;
}

static int csd_resize(struct block_device *device, uint64_t block_count)
{
    (void)device;
    (void)block_count;
    return EINVAL;
}

static int csd_usage(struct block_device *device, struct block_usage *usage)
{
    struct csd_device *csd = csd_of(device);
    *usage = (struct block_usage){
        .source = "csd",
        .logical_bytes = atomic_load(&csd->mapped_blocks) * CUBBY_BLOCK_BYTES,
        .physical_bytes = atomic_load(&csd->stored_bytes),
        .capacity_bytes = csd->super.physical_bytes,
        .state = csd_space_state(csd),
    };
    return 0;
}

/* Free all but inner. Allowed on what csd_recover has filled in part. */
static void free_device(struct csd_device *csd)
{
    for (size_t i = 0; i < CSD_STREAMS_MAX; i++) {
        for (size_t j = 0; j < CSD_HEADS_PER_STREAM; j++) {
            free(csd->streams[i].heads[j].tail);
        }
        pthread_mutex_destroy(&csd->streams[i].lock);
    }
    for (size_t i = 0; i < CSD_WORKERS; i++) {
        ZSTD_freeCCtx(csd->workers[i].compressor);
        ZSTD_freeDCtx(csd->workers[i].decompressor);
        aligned_buffer_free(&csd->workers[i].buffer);
        aligned_buffer_free(&csd->workers[i].image);
    }
    for (size_t i = 0; i < sizeof csd->arrays / sizeof csd->arrays[0]; i++) {
        reserved_array_close(&csd->arrays[i]);
    }
    aligned_buffer_free(&csd->victim);
    aligned_buffer_free(&csd->cleaner.image);
    pthread_mutex_destroy(&csd->segments_lock);
    pthread_mutex_destroy(&csd->cleaner_lock);
    pthread_mutex_destroy(&csd->checkpoint_lock);
    free(csd);
}

static void csd_close(struct block_device *device)
{
    struct csd_device *csd = csd_of(device);
    if (csd->writable && csd->opener == getpid() && !atomic_load(&csd->failed)) {
        /* If it fails, the next open finds the same in the log. */
        (void)csd_checkpoint_write(csd);
    }
    csd->inner->ops->close(csd->inner);
    free_device(csd);
}

static const struct block_device_ops csd_ops = {
    .read = csd_read,
    .write = csd_write,
    .flush = csd_flush,
    .discard = csd_discard,
    .resize = csd_resize,
    .usage = csd_usage,
    .queue_open = csd_queue_open,
    .close = csd_close,
};

static struct csd_device *make_device(struct block_device *inner, unsigned flags)
{
    struct csd_device *csd = aligned_alloc(_Alignof(struct csd_device), sizeof *csd);
    if (csd == NULL) {
        return NULL;
    }
    memset(csd, 0, sizeof *csd);
    csd->inner = inner;
    csd->writable = (flags & BLOCK_DEVICE_READ_ONLY) == 0;
    csd->opener = getpid();
    pthread_mutex_init(&csd->segments_lock, NULL);
    pthread_mutex_init(&csd->cleaner_lock, NULL);
    pthread_mutex_init(&csd->checkpoint_lock, NULL);
    /* On fast devices a stream's lock is held for a microsecond or two: spin before sleeping. */
    pthread_mutexattr_t spinning;
    pthread_mutexattr_init(&spinning);
    pthread_mutexattr_settype(&spinning, PTHREAD_MUTEX_ADAPTIVE_NP);
    for (size_t i = 0; i < CSD_STREAMS_MAX; i++) {
        pthread_mutex_init(&csd->streams[i].lock, &spinning);
        for (size_t j = 0; j < CSD_HEADS_PER_STREAM; j++) {
            csd->streams[i].heads[j].segment = CSD_NO_SEGMENT;
        }
    }
    pthread_mutexattr_destroy(&spinning);
    return csd;
}

/* What only writing needs. */
static int prepare_to_write(struct csd_device *csd)
{
    csd_format_reserves(&csd->super, &csd->reserve_segments, &csd->clean_below);
    uint32_t largest = csd_format_fragment_bytes(csd->super.unit_bytes, CUBBY_BLOCK_BYTES);
    csd->image_bytes = CSD_BATCH_BLOCKS * largest + 2 * CUBBY_BLOCK_BYTES;
    for (uint32_t i = 0; i < csd->super.stream_count; i++) {
        struct csd_stream *stream = &csd->streams[i];
        int status = 0;
        for (size_t j = 0; j < CSD_HEADS_PER_STREAM && status == 0; j++) {
            stream->heads[j].tail = calloc(1, CUBBY_BLOCK_BYTES);
            status = stream->heads[j].tail != NULL ? 0 : ENOMEM;
        }
        if (status != 0) {
            return status;
        }
    }
    /* From here on new generations count, whatever a crash makes of what is written under them. */
    return csd_checkpoint_write(csd);
}

int csd_device_open(struct block_device *inner, unsigned flags, const char *name,
                    struct block_device **device, struct device_message message)
{
    CUBBY_ASSERT(inner != NULL);
    CUBBY_ASSERT(name != NULL);
    CUBBY_ASSERT(device != NULL);
    struct csd_device *csd = make_device(inner, flags);
    if (csd == NULL) {
        return device_message_set(message, ENOMEM, "there is no memory to open %s", name);
    }
    uint8_t byte;
    csd->moves_bytes =
        inner->ops->read_bytes != NULL && inner->ops->read_bytes(inner, 0, 1, &byte) == 0;
    int status = csd_recover(csd, name, message);
    if (status == 0 && csd->writable) {
        status = prepare_to_write(csd);
        if (status != 0) {
            device_message_set(message, status, "%s cannot be written: %s", name,
                               cubby_status_text(status));
        }
    }
    if (status != 0) {
        free_device(csd);
        return status;
    }
    csd->device.ops = &csd_ops;
    csd->device.geometry = (struct block_geometry){
        .block_count = csd->super.logical_blocks,
        .atomic_write_bytes = CUBBY_BLOCK_BYTES,
        .discard_granularity_blocks = csd->writable ? 1 : 0,
        .discard_zeroes = true,
        .compresses = true,
    };
    *device = &csd->device;
    return 0;
}

bool csd_device_is(const struct block_device *device)
{
    CUBBY_ASSERT(device != NULL);
    return device->ops == &csd_ops;
}

void csd_device_stat(struct block_device *device, struct csd_stat *stat)
{
    CUBBY_ASSERT(csd_device_is(device));
    struct csd_device *csd = csd_of(device);
    for (uint32_t i = 0; i < csd->super.stream_count; i++) {
        pthread_mutex_lock(&csd->streams[i].lock);
        csd_log_report(csd, &csd->streams[i]);
        pthread_mutex_unlock(&csd->streams[i].lock);
    }
    uint64_t counters[CSD_COUNTER_COUNT];
    csd_worker_sum(csd, counters);
    *stat = (struct csd_stat){
        .options = {.physical_bytes = csd->super.physical_bytes,
                    .logical_bytes = csd->super.logical_blocks * CUBBY_BLOCK_BYTES,
                    .unit_bytes = csd->super.unit_bytes,
                    .level = csd->super.level,
                    .throttle_disabled = csd->super.throttle_disabled},
        .mapped_blocks = atomic_load(&csd->mapped_blocks),
        .stored_bytes = atomic_load(&csd->stored_bytes),
        .host_reads = counters[CSD_HOST_READS],
        .host_writes = counters[CSD_HOST_WRITES],
        .host_discards = counters[CSD_HOST_DISCARDS],
        .zero_writes = counters[CSD_ZERO_WRITES],
        .raw_writes = counters[CSD_RAW_WRITES],
        .media_writes = counters[CSD_MEDIA_WRITES],
        .map_writes = counters[CSD_MAP_WRITES],
        .cleaned_segments = counters[CSD_CLEANED_SEGMENTS],
        .cleaned_bytes = counters[CSD_CLEANED_BYTES],
        .checkpoints = counters[CSD_CHECKPOINTS],
        .segment_count = csd->super.segment_count,
        .segment_bytes = csd->segment_bytes,
        .free_segments = atomic_load(&csd->free_count),
    };
    pthread_mutex_lock(&csd->segments_lock);
    for (uint32_t i = 0; i < csd->super.segment_count; i++) {
        stat->damaged_segments += csd->segments[i].state == CSD_DAMAGED;
    }
    pthread_mutex_unlock(&csd->segments_lock);
}
