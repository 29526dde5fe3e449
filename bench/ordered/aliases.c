/* aliases.c -- see aliases.h. */
#include "bench/ordered/aliases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/common/clock.h"

enum {
    PAGE = 4096,
    SAMPLE = 1000,          /* mappings */
    PROBE_BYTES = 64 << 20, /* of the malloc that is tried */
};

/* What the child works on. */
struct mapping {
    int file;
    uint8_t *base;
    uint64_t pages_max;
    uint64_t *ends_ns; /* processor time behind each mapping */
};

/* Lines of this process's list of mappings; without a malloc, which may fail here. */
static uint64_t count_areas(void)
{
    char text[4096];
    uint64_t lines = 0;
    ssize_t got;
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    while ((got = read(file, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            lines += text[i] == '\n';
        }
    }
    close(file);
    return lines;
}

static uint64_t areas_limit(void)
{
    unsigned long long limit = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file != NULL) {
        if (fscanf(file, "%llu", &limit) != 1) {
            limit = 0;
        }
        fclose(file);
    }
    return limit;
}

/* Map one virtual page to a physical one, and use it. */
static int map_page(const struct mapping *mapping, uint64_t number, uint64_t physical)
{
    uint8_t *at = mapping->base + number * PAGE;
    if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, mapping->file,
             (off_t)(physical * PAGE)) == MAP_FAILED) {
        return errno;
    }
    *(volatile uint8_t *)at = 1;
    return 0;
}

static double mean_ns(const uint64_t *ends_ns, uint64_t from, uint64_t to)
{
    return to > from ? (double)(ends_ns[to] - ends_ns[from]) / (double)(to - from) : 0;
}

/* In the child: map until it fails, and undo it. */
static void map_all(struct mapping *mapping, struct aliases *aliases)
{
    uint64_t count = 0;
    mapping->ends_ns[0] = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    while (count < mapping->pages_max && aliases->error == 0) {
        aliases->error = map_page(mapping, count, count / ALIASES_PER_PAGE);
        if (aliases->error == 0) {
            mapping->ends_ns[++count] = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        }
    }
    aliases->pages_mapped = count;
    aliases->areas = count_areas();
    uint64_t sample = count < SAMPLE ? count : SAMPLE;
    aliases->first_ns = mean_ns(mapping->ends_ns, 0, sample);
    aliases->last_ns = mean_ns(mapping->ends_ns, count - sample, count);
    aliases->mean_ns = mean_ns(mapping->ends_ns, 0, count);

    void *probe = malloc(PROBE_BYTES);
    aliases->malloc_fails = probe == NULL;
    free(probe);

    /* At the limit no mapping can be replaced either: make some room. Those in the middle of a
     * bucket are replaced, so that there are as many areas before as after. */
    munmap(mapping->base + (count - sample) * PAGE, sample * PAGE);
    uint64_t begin_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t remapped = 0;
    for (uint64_t i = 1; i < count - sample && remapped < sample; i += ALIASES_PER_PAGE) {
        remapped += map_page(mapping, i, i / ALIASES_PER_PAGE + 2) == 0;
    }
    uint64_t end_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    aliases->remap_ns = remapped == 0 ? 0 : (double)(end_ns - begin_ns) / (double)remapped;
    munmap(mapping->base, mapping->pages_max * PAGE);
    end_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - end_ns;
    aliases->unmap_ns = count == 0 ? 0 : (double)end_ns / (double)count;
}

/* In the child: take what it needs, and map. Returns 0 or an errno. */
static int run_child(uint64_t pages_max, struct aliases *aliases)
{
    struct mapping mapping = {.pages_max = pages_max};
    size_t ends_bytes = (pages_max + 1) * sizeof *mapping.ends_ns;
    mapping.file = memfd_create("aliases", MFD_CLOEXEC);
    if (mapping.file < 0) {
        return errno;
    }
    mapping.base =
        mmap(NULL, pages_max * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mapping.ends_ns = malloc(ends_bytes);
    if (mapping.base == MAP_FAILED || mapping.ends_ns == NULL ||
        ftruncate(mapping.file, (off_t)((pages_max / ALIASES_PER_PAGE + 3) * PAGE)) != 0) {
        return errno;
    }
    memset(mapping.ends_ns, 0, ends_bytes);
    map_all(&mapping, aliases);
    return 0;
}

int aliases_run(uint64_t pages_max, struct aliases *aliases)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return errno;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct aliases found = {.areas_limit = areas_limit()};
        int error = run_child(pages_max, &found);
        bool is_told = error == 0 && write(ends[1], &found, sizeof found) == sizeof found;
        _exit(is_told ? 0 : error != 0 ? error : EIO);
    }
    int error = child < 0 ? errno : 0;
    int state = 0;
    close(ends[1]);
    if (error == 0 && read(ends[0], aliases, sizeof *aliases) != sizeof *aliases) {
        error = EIO;
    }
    close(ends[0]);
    if (child > 0 && waitpid(child, &state, 0) == child && WIFEXITED(state) &&
        WEXITSTATUS(state) != 0) {
        error = WEXITSTATUS(state);
    }
    return error;
}

void aliases_print(const struct aliases *aliases, FILE *out)
{
    fprintf(out,
            "aliases of the kernel's: %llu pages mapped, %llu areas (limit %llu), then: %s; a "
            "mapping takes %.0f ns (first %.0f, last %.0f), remapping %.0f, unmapping %.0f\n",
            (unsigned long long)aliases->pages_mapped, (unsigned long long)aliases->areas,
            (unsigned long long)aliases->areas_limit,
            aliases->error == 0 ? "no failure" : strerror(aliases->error), aliases->mean_ns,
            aliases->first_ns, aliases->last_ns, aliases->remap_ns, aliases->unmap_ns);
}

void aliases_write_json(const struct aliases *aliases, FILE *out)
{
    fprintf(out,
            "{\"pages_mapped\": %llu, \"aliases_per_page\": %d, \"areas\": %llu, "
            "\"areas_limit\": %llu, \"error\": %d, \"malloc_fails\": %s, \"first_ns\": %.1f, "
            "\"last_ns\": %.1f, \"mean_ns\": %.1f, \"remap_ns\": %.1f, \"unmap_ns\": %.1f}",
            (unsigned long long)aliases->pages_mapped, ALIASES_PER_PAGE,
            (unsigned long long)aliases->areas, (unsigned long long)aliases->areas_limit,
            aliases->error, aliases->malloc_fails ? "true" : "false", aliases->first_ns,
            aliases->last_ns, aliases->mean_ns, aliases->remap_ns, aliases->unmap_ns);
}
