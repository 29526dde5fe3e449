/* csd_block.c -- one block compressed, and expanded again; and who lends the contexts for it.
 *
 * Depends on: csd_state.h, libzstd.   Used by: csd_device.c, csd_read.c, device_api.c.
 */
#include "blockdev/csd_block.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "blockdev/csd_state.h"
#include "engine/base/cubby_assert.h"

struct csd_worker *csd_worker_take(struct csd_device *csd)
{
    /* Threads begin at different places; addresses of threads differ above their low bits. */
    size_t index = ((uintptr_t)pthread_self() >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 59;
    for (size_t tries = 1;; tries++) {
        struct csd_worker *worker = &csd->workers[index % CSD_WORKERS];
        bool expected = false;
        if (!atomic_load_explicit(&worker->busy, memory_order_relaxed) &&
            atomic_compare_exchange_strong(&worker->busy, &expected, true)) {
            return worker;
        }
        index++;
        if (tries % CSD_WORKERS == 0) {
            sched_yield();
        }
    }
}

void csd_worker_give(struct csd_worker *worker)
{
    atomic_store_explicit(&worker->busy, false, memory_order_release);
}

void csd_worker_sum(const struct csd_device *csd, uint64_t counters[CSD_COUNTER_COUNT])
{
    for (size_t i = 0; i < CSD_COUNTER_COUNT; i++) {
        counters[i] = atomic_load(&csd->counters[i]);
        for (size_t j = 0; j < CSD_WORKERS; j++) {
            counters[i] += atomic_load(&csd->workers[j].counters[i]);
        }
    }
}

bool csd_block_is_zero(const uint8_t *block)
{
    return block[0] == 0 && memcmp(block, block + 1, CUBBY_BLOCK_BYTES - 1) == 0;
}

/* Compress with a context whose level is set. Returns the payload's size: 4096 means raw. */
static uint32_t compress(ZSTD_CCtx *context, uint32_t unit_bytes, const uint8_t *block, uint8_t *to)
{
    size_t size = ZSTD_compress2(context, to, CUBBY_BLOCK_BYTES, block, CUBBY_BLOCK_BYTES);
    /* Too large for its room counts as an error, and is the usual one. */
    if (ZSTD_isError(size) || csd_format_fragment_bytes(unit_bytes, (uint32_t)size) >=
                                  csd_format_fragment_bytes(unit_bytes, CUBBY_BLOCK_BYTES)) {
        return CUBBY_BLOCK_BYTES;
    }
    return (uint32_t)size;
}

static ZSTD_CCtx *make_compressor(int32_t level)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (context != NULL &&
        ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level))) {
        ZSTD_freeCCtx(context);
        return NULL;
    }
    return context;
}

int csd_block_compress(const struct csd_device *csd, struct csd_worker *worker,
                       const uint8_t *block, uint8_t *to, struct csd_fragment *fragment)
{
    if (worker->compressor == NULL) {
        worker->compressor = make_compressor(csd->super.level);
        if (worker->compressor == NULL) {
            return ENOMEM;
        }
    }
    fragment->payload_bytes = compress(worker->compressor, csd->super.unit_bytes, block, to);
    fragment->kind =
        fragment->payload_bytes == CUBBY_BLOCK_BYTES ? CSD_FRAGMENT_RAW : CSD_FRAGMENT_ZSTD;
    if (fragment->kind == CSD_FRAGMENT_RAW) {
        memcpy(to, block, CUBBY_BLOCK_BYTES);
    }
    return 0;
}

int csd_block_expand(struct csd_worker *worker, const struct csd_fragment *fragment,
                     const uint8_t *payload, uint8_t *block)
{
    CUBBY_ASSERT(fragment->kind != CSD_FRAGMENT_NOTHING);
    if (fragment->kind == CSD_FRAGMENT_RAW) {
        memcpy(block, payload, CUBBY_BLOCK_BYTES);
        return 0;
    }
    if (worker->decompressor == NULL) {
        worker->decompressor = ZSTD_createDCtx();
        if (worker->decompressor == NULL) {
            return ENOMEM;
        }
    }
    size_t size = ZSTD_decompressDCtx(worker->decompressor, block, CUBBY_BLOCK_BYTES, payload,
                                      fragment->payload_bytes);
    return size == CUBBY_BLOCK_BYTES ? 0 : CUBBY_CORRUPT;
}

uint64_t csd_block_stored_bytes(const uint8_t *block, uint32_t unit_bytes, int32_t level)
{
    CUBBY_ASSERT(block != NULL);
    if (csd_block_is_zero(block)) {
        return 0;
    }
    /* One context per thread and level would be faster; this is for tools. */
    ZSTD_CCtx *context = make_compressor(level == 0 ? CSD_LEVEL_DEFAULT : level);
    if (context == NULL) {
        return CUBBY_BLOCK_BYTES;
    }
    uint8_t payload[CUBBY_BLOCK_BYTES];
    uint32_t payload_bytes = compress(context, unit_bytes, block, payload);
    ZSTD_freeCCtx(context);
    return unit_bytes == 1 ? payload_bytes : csd_format_fragment_bytes(unit_bytes, payload_bytes);
}
