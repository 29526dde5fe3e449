/* model_device.h -- a device that takes its time: as long as a drive of some name would take.
 *
 * In front of any other device, so that a benchmark can pretend. A request is complete when
 *
 *   - its latency is over, counted from its submission, and
 *   - the line it takes has carried it. There is one line for reads and one for writes; each
 *     request occupies its line for the longer of bytes / bandwidth and 1 / IOPS, one after the
 *     other, and
 *   - the inner device is done with it.
 *
 * So one thread with one request at a time sees the latency, and many in flight see the limits of
 * throughput. A flush takes its latency; a discard, for which no figures are published, nothing.
 * A cached write, to the page cache, takes nothing either: the next flush takes the time of one
 * write of all such bytes before its own.
 * All else is the inner device's. What is not modelled: tails, cleaning, reads slowed down by
 * writes, what compression of the data changes. Thread-safe.
 *
 * Depends on: block_device.h.   Used by: open.c, tests.
 */
#ifndef CUBBY_MODEL_DEVICE_H
#define CUBBY_MODEL_DEVICE_H

#include "blockdev/block_device.h"
#include "blockdev/device_message.h"

struct model_parameters {
    const char *name;
    uint32_t read_latency_us;
    uint32_t write_latency_us; /* until the drive has it, in a cache or not */
    uint32_t flush_latency_us;
    uint64_t read_bytes_per_second; /* 0: no limit, likewise below */
    uint64_t write_bytes_per_second;
    uint32_t reads_per_second;
    uint32_t writes_per_second;
};

/* Put a model in front of inner. Owns inner from then on, on success. name: of a drive in the table
 * in model_device.c. Returns 0, ENOMEM, or CUBBY_BAD_ARGUMENT with a message that names the drives
 * there are. */
int model_device_open(struct block_device *inner, const char *name, struct block_device **device,
                      struct device_message message);

/* The same with parameters of one's own, which are copied. Returns 0 or ENOMEM. */
int model_device_open_with(struct block_device *inner, const struct model_parameters *parameters,
                           struct block_device **device);

/* The drive of this name, which has name_size characters, or NULL. */
const struct model_parameters *model_device_find(const char *name, size_t name_size);

/* Write the names of the drives there are, with commas between them, cut to fit. */
void model_device_list(char *text, size_t text_size);

#endif
