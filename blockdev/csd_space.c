/* csd_space.c -- physical space, and how a drive behaves that has little left of it.
 *
 * ScaleFlux drives warn, then slow writes down to 2.5 MB/s, then to 128 KB/s, then reject them
 * (nvme-cli, plugins/scaleflux: "IO Speed"); at which use is not published. Here: marks above
 * those at which a store stops by itself (92 and 95 %), so that it never meets them.
 *
 * Depends on: csd_state.h, wait.h.   Used by: csd_log.c, csd_device.c.
 */
#include <errno.h>

#include "blockdev/csd_state.h"
#include "blockdev/wait.h"

enum {
    WARNING_PERCENT = 96,
    SLOW_PERCENT = 97,
    CRAWL_PERCENT = 99,
    SLOW_BYTES_PER_SECOND = 2500000,
    CRAWL_BYTES_PER_SECOND = 128000,
};

static bool is_above(const struct csd_device *csd, uint64_t percent)
{
    uint64_t stored_bytes = atomic_load_explicit(&csd->stored_bytes, memory_order_relaxed);
    return stored_bytes >= csd->super.physical_bytes / 100 * percent;
}

enum block_space_state csd_space_state(const struct csd_device *csd)
{
    uint64_t stored_bytes = atomic_load_explicit(&csd->stored_bytes, memory_order_relaxed);
    uint64_t largest = csd_format_fragment_bytes(csd->super.unit_bytes, CUBBY_BLOCK_BYTES);
    if (stored_bytes + largest > csd->super.physical_bytes) {
        return BLOCK_SPACE_REJECTING;
    }
    return is_above(csd, SLOW_PERCENT)      ? BLOCK_SPACE_THROTTLED
           : is_above(csd, WARNING_PERCENT) ? BLOCK_SPACE_WARNING
                                            : BLOCK_SPACE_NORMAL;
}

void csd_space_wait(struct csd_device *csd, size_t block_count)
{
    if (csd->super.throttle_disabled || !is_above(csd, SLOW_PERCENT)) {
        return;
    }
    uint64_t rate = is_above(csd, CRAWL_PERCENT) ? CRAWL_BYTES_PER_SECOND : SLOW_BYTES_PER_SECOND;
    uint64_t cost_ns = (uint64_t)block_count * (CUBBY_BLOCK_BYTES * UINT64_C(1000000000) / rate);
    uint64_t now_ns = wait_now_ns();
    uint64_t free_ns = atomic_load(&csd->throttle_ns);
    uint64_t done_ns;
    do {
        done_ns = (free_ns > now_ns ? free_ns : now_ns) + cost_ns;
    } while (!atomic_compare_exchange_weak(&csd->throttle_ns, &free_ns, done_ns));
    wait_until_ns(done_ns);
}

int csd_space_take(struct csd_device *csd, int64_t bytes)
{
    if (bytes == 0) {
        return 0;
    }
    /* Unsigned arithmetic wraps around, so adding a negative number subtracts. */
    uint64_t before = atomic_load(&csd->stored_bytes);
    do {
        if (bytes > 0 && before + (uint64_t)bytes > csd->super.physical_bytes) {
            return ENOSPC;
        }
    } while (!atomic_compare_exchange_weak(&csd->stored_bytes, &before, before + (uint64_t)bytes));
    return 0;
}
