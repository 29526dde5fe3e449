/* sparse.c -- see sparse.h. */
#include "engine/volimap/sparse.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "engine/base/cubby_assert.h"

enum {
    WORD_BITS = 64,
};

_Static_assert(SPARSE_PAGE_BYTES *CHAR_BIT == SPARSE_FANOUT * WORD_BITS, "see struct sparse");

static size_t round_up(size_t bytes, size_t step)
{
    return (bytes + step - 1) / step * step;
}

int sparse_open(struct sparse *sparse, size_t bytes, size_t piece_bytes)
{
    CUBBY_ASSERT(bytes > 0);
    CUBBY_ASSERT(piece_bytes == SPARSE_PAGE_BYTES || piece_bytes == SPARSE_REGION_BYTES);
    size_t data_bytes = round_up(bytes, piece_bytes);
    size_t mark_bytes = round_up(data_bytes / piece_bytes, WORD_BITS) / CHAR_BIT;
    CUBBY_ASSERT(mark_bytes <= SPARSE_MARK_PAGES_MAX * SPARSE_PAGE_BYTES);
    /* The kernel does not put it at a multiple of a region by itself. */
    size_t mapping_bytes =
        round_up(SPARSE_REGION_BYTES + data_bytes + mark_bytes, SPARSE_PAGE_BYTES);
    void *mapping = mmap(NULL, mapping_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) {
        return ENOMEM;
    }
    if (madvise(mapping, mapping_bytes, MADV_NOHUGEPAGE) != 0 && errno != EINVAL) {
        munmap(mapping, mapping_bytes);
        return ENOMEM; /* EINVAL: a kernel without huge pages */
    }
    uint8_t *data = (uint8_t *)round_up((uintptr_t)mapping, SPARSE_REGION_BYTES);
    *sparse = (struct sparse){
        .data = data,
        .marks = (uint64_t *)(data + data_bytes),
        .mapping = mapping,
        .mapping_bytes = mapping_bytes,
        .piece_bytes = piece_bytes,
    };
    return 0;
}

void sparse_close(struct sparse *sparse)
{
    if (sparse->data != NULL) {
        int status = munmap(sparse->mapping, sparse->mapping_bytes);
        CUBBY_ASSERT(status == 0);
    }
    *sparse = (struct sparse){0};
}

static void count(_Atomic uint64_t *counter, uint64_t change)
{
    atomic_fetch_add_explicit(counter, change, memory_order_relaxed);
}

/* Set a bit; whether it was set. */
static bool set_bit(uint64_t *words, size_t index)
{
    uint64_t *word = &words[index / WORD_BITS];
    uint64_t bit = 1ull << index % WORD_BITS;
    bool was_set = (*word & bit) != 0;
    *word |= bit;
    return was_set;
}

void sparse_mark(struct sparse *sparse, size_t offset)
{
    size_t piece = offset / sparse->piece_bytes;
    if (set_bit(sparse->marks, piece)) {
        return;
    }
    count(&sparse->piece_count, 1);
    size_t group = piece / SPARSE_FANOUT;
    if (sparse->groups[group / WORD_BITS] == 0) {
        count(&sparse->mark_page_count, 1);
    }
    if (!set_bit(sparse->groups, group)) {
        count(&sparse->group_count, 1);
    }
}

int sparse_release(struct sparse *sparse, size_t offset, size_t bytes)
{
    if (madvise((uint8_t *)sparse->data + offset, bytes, MADV_DONTNEED) != 0) {
        return errno;
    }
    size_t piece = offset / sparse->piece_bytes;
    uint64_t *word = &sparse->marks[piece / WORD_BITS];
    uint64_t bit = 1ull << piece % WORD_BITS;
    if (bytes == sparse->piece_bytes && (*word & bit) != 0) {
        *word &= ~bit;
        count(&sparse->piece_count, UINT64_MAX);
    }
    return 0;
}
