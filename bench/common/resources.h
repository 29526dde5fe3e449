/* resources.h -- what the process, the kernel and the device have spent so far.
 *
 * Depends on: nothing.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_RESOURCES_H
#define CUBBY_BENCH_RESOURCES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RESOURCES_PATH_BYTES = 64,
};

/* The block device that a path is, or lies on. */
struct resources_device {
    bool is_there;
    char stat_path[RESOURCES_PATH_BYTES]; /* in sysfs */
};

/* Counters since some time in the past; of the difference of two everything is meaningful. */
struct resources {
    uint64_t process_cpu_ns; /* all threads, in user and kernel mode */
    uint64_t kernel_cpu_ns;  /* the kernel's own threads, which write back for us; to 10 ms each */
    uint64_t machine_cpu_ns; /* all processors, whoever used them; to 10 ms each */
    uint64_t stolen_cpu_ns;  /* what the hypervisor gave to others */
    /* Of the block device, whoever used it. */
    uint64_t reads;
    uint64_t read_bytes;
    uint64_t writes;
    uint64_t written_bytes;
    uint64_t discarded_bytes;
    uint64_t flushes;
};

void resources_device_find(struct resources_device *device, const char *path);

/* What cannot be read stays 0. */
void resources_take(struct resources *resources, const struct resources_device *device);

/* later - earlier, field by field. */
struct resources resources_between(const struct resources *earlier, const struct resources *later);

/* Resident memory of the process now, and the most that it was; 0 where that is not told. */
void resources_memory(uint64_t *resident_bytes, uint64_t *peak_bytes);

#endif
