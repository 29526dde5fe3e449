/* resources.c -- see resources.h. */
#include "bench/common/resources.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "bench/common/clock.h"

enum {
    SECTOR_BYTES = 512, /* of the kernel's counters, whatever the device has */
    KTHREADD = 2,       /* the parent of all threads of the kernel */
};

void resources_device_find(struct resources_device *device, const char *path)
{
    struct stat info;
    *device = (struct resources_device){0};
    if (stat(path, &info) != 0) {
        return;
    }
    dev_t number = S_ISBLK(info.st_mode) ? info.st_rdev : info.st_dev;
    snprintf(device->stat_path, sizeof device->stat_path, "/sys/dev/block/%u:%u/stat",
             major(number), minor(number));
    device->is_there = access(device->stat_path, R_OK) == 0;
}

static uint64_t ticks_ns(uint64_t ticks)
{
    return ticks * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* The numbers of the line "cpu" of /proc/stat. */
static void take_machine(struct resources *resources)
{
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL) {
        return;
    }
    uint64_t user, nice, system, idle, wait, interrupts, soft, stolen;
    if (fscanf(file,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64,
               &user, &nice, &system, &idle, &wait, &interrupts, &soft, &stolen) == 8) {
        resources->machine_cpu_ns = ticks_ns(user + nice + system + interrupts + soft);
        resources->stolen_cpu_ns = ticks_ns(stolen);
    }
    fclose(file);
}

/* What a thread of the kernel has used; 0 if it is none. */
static uint64_t kernel_thread_ticks(const char *process)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%.16s/stat", process);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0; /* it is gone */
    }
    char line[1024];
    size_t size = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[size] = '\0';
    /* Names may have blanks and brackets: what counts stands behind the last bracket. */
    const char *rest = strrchr(line, ')');
    int parent;
    uint64_t user, system;
    if (rest == NULL ||
        sscanf(rest, ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &parent,
               &user, &system) != 3 ||
        parent != KTHREADD) {
        return 0;
    }
    return user + system;
}

static void take_kernel_threads(struct resources *resources)
{
    DIR *folder = opendir("/proc");
    if (folder == NULL) {
        return;
    }
    uint64_t ticks = 0;
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0])) {
            ticks += kernel_thread_ticks(entry->d_name);
        }
    }
    closedir(folder);
    resources->kernel_cpu_ns = ticks_ns(ticks);
}

/* The kernel's Documentation/block/stat.rst has the order of the numbers. */
static void take_device(struct resources *resources, const struct resources_device *device)
{
    FILE *file = device->is_there ? fopen(device->stat_path, "re") : NULL;
    if (file == NULL) {
        return;
    }
    uint64_t numbers[17] = {0};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (fscanf(file, "%" SCNu64, &numbers[i]) != 1) {
            break;
        }
    }
    fclose(file);
    resources->reads = numbers[0];
    resources->read_bytes = numbers[2] * SECTOR_BYTES;
    resources->writes = numbers[4];
    resources->written_bytes = numbers[6] * SECTOR_BYTES;
    resources->discarded_bytes = numbers[13] * SECTOR_BYTES;
    resources->flushes = numbers[15];
}

void resources_take(struct resources *resources, const struct resources_device *device)
{
    *resources = (struct resources){.process_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
    take_machine(resources);
    take_kernel_threads(resources);
    take_device(resources, device);
}

struct resources resources_between(const struct resources *earlier, const struct resources *later)
{
    return (struct resources){
        .process_cpu_ns = later->process_cpu_ns - earlier->process_cpu_ns,
        .kernel_cpu_ns = later->kernel_cpu_ns - earlier->kernel_cpu_ns,
        .machine_cpu_ns = later->machine_cpu_ns - earlier->machine_cpu_ns,
        .stolen_cpu_ns = later->stolen_cpu_ns - earlier->stolen_cpu_ns,
        .reads = later->reads - earlier->reads,
        .read_bytes = later->read_bytes - earlier->read_bytes,
        .writes = later->writes - earlier->writes,
        .written_bytes = later->written_bytes - earlier->written_bytes,
        .discarded_bytes = later->discarded_bytes - earlier->discarded_bytes,
        .flushes = later->flushes - earlier->flushes,
    };
}

void resources_memory(uint64_t *resident_bytes, uint64_t *peak_bytes)
{
    *resident_bytes = 0;
    *peak_bytes = 0;
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL) {
        return;
    }
    char line[256];
    uint64_t kib;
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmRSS: %" SCNu64, &kib) == 1) {
            *resident_bytes = kib * 1024;
        } else if (sscanf(line, "VmHWM: %" SCNu64, &kib) == 1) {
            *peak_bytes = kib * 1024;
        }
    }
    fclose(file);
}
