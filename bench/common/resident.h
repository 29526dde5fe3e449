/* resident.h -- what memory this process takes.
 *
 * Depends on: nothing.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_RESIDENT_H
#define CUBBY_BENCH_RESIDENT_H

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

/* Bytes; 0 where the system does not tell. */
static inline uint64_t resident_bytes(void)
{
    unsigned long long total = 0;
    unsigned long long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%llu %llu", &total, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#endif
