/* pages.c -- see pages.h. */
#include "bench/mapped/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/common/pairs.h"

enum { CHUNK_PAGES = 256 };

/* Past the page cache, where the file system allows that. */
static int open_direct(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_DIRECT, 0600);
    return fd < 0 && errno == EINVAL ? open(path, flags | O_CLOEXEC, 0600) : fd;
}

static int transfer(int fd, struct page *chunk, uint64_t first, uint64_t count, bool is_write)
{
    size_t size = count * PAGES_BYTES;
    off_t offset = (off_t)(first * PAGES_BYTES);
    ssize_t done = is_write ? pwrite(fd, chunk, size, offset) : pread(fd, chunk, size, offset);
    if (done < 0) {
        return errno;
    }
    return (size_t)done == size ? 0 : EIO;
}

static uint64_t chunk_size(uint64_t first, uint64_t page_count)
{
    return page_count - first < CHUNK_PAGES ? page_count - first : CHUNK_PAGES;
}

static int fill(int fd, struct page *chunk, uint64_t page_count)
{
    uint64_t state = 1;
    int status = 0;
    for (uint64_t first = 0; first < page_count && status == 0; first += CHUNK_PAGES) {
        uint64_t count = chunk_size(first, page_count);
        for (uint64_t i = 0; i < count; i++) {
            chunk[i].owner = PAGES_MARK ^ (first + i);
            atomic_store(&chunk[i].generation, 0);
            for (size_t word = 0; word < sizeof chunk->noise / sizeof *chunk->noise; word++) {
                chunk[i].noise[word] = pairs_next_random(&state);
            }
        }
        status = transfer(fd, chunk, first, count, true);
    }
    return status;
}

int pages_fill(const char *path, uint64_t page_count)
{
    struct page *chunk = aligned_alloc(PAGES_BYTES, CHUNK_PAGES * sizeof *chunk);
    if (chunk == NULL) {
        return ENOMEM;
    }
    int fd = open_direct(path, O_RDWR | O_CREAT);
    int status = fd < 0 ? errno : fill(fd, chunk, page_count);
    if (fd >= 0) {
        status = status == 0 && fsync(fd) != 0 ? errno : status;
        close(fd);
    }
    free(chunk);
    return status;
}

static int compare(int fd, struct page *chunk, uint64_t page_count, const ledger_entry *ledger,
                   uint64_t *wrong)
{
    for (uint64_t first = 0; first < page_count; first += CHUNK_PAGES) {
        uint64_t count = chunk_size(first, page_count);
        int status = transfer(fd, chunk, first, count, false);
        if (status != 0) {
            return status;
        }
        for (uint64_t i = 0; i < count; i++) {
            uint32_t generation = (uint32_t)atomic_load(&chunk[i].generation);
            if (chunk[i].owner != (PAGES_MARK ^ (first + i)) ||
                generation != atomic_load(&ledger[first + i])) {
                *wrong = first + i;
                return EILSEQ;
            }
        }
    }
    return 0;
}

int pages_compare(const char *path, uint64_t page_count, const ledger_entry *ledger,
                  uint64_t *wrong)
{
    struct page *chunk = aligned_alloc(PAGES_BYTES, CHUNK_PAGES * sizeof *chunk);
    if (chunk == NULL) {
        return ENOMEM;
    }
    int fd = open_direct(path, O_RDONLY);
    int status = fd < 0 ? errno : compare(fd, chunk, page_count, ledger, wrong);
    if (fd >= 0) {
        close(fd);
    }
    free(chunk);
    return status;
}
