/* bitmap.c -- see bitmap.h. */
#include "engine/volimap/bitmap.h"

#include "engine/base/cubby_assert.h"

#define SIZE_MAX_BITS (1ull << 36)

enum {
    WORD_BITS = 64,
    WORD_SHIFT = 6, /* 2^6 bits */
    PAGE_WORDS = SPARSE_PAGE_BYTES / sizeof(uint64_t),
};

int bitmap_open(struct bitmap *bitmap, uint64_t size)
{
    CUBBY_ASSERT(size > 0);
    CUBBY_ASSERT(size <= SIZE_MAX_BITS);
    *bitmap = (struct bitmap){0};
    uint64_t firsts[BITMAP_LEVELS_MAX]; /* words before each level */
    uint64_t word_count = 0;
    do {
        CUBBY_ASSERT(bitmap->level_count < BITMAP_LEVELS_MAX);
        firsts[bitmap->level_count] = word_count;
        bitmap->sizes[bitmap->level_count++] = size;
        size = (size + WORD_BITS - 1) / WORD_BITS;
        word_count += size;
    } while (size > 1);

    int status = sparse_open(&bitmap->memory, word_count * sizeof(uint64_t), SPARSE_PAGE_BYTES);
    if (status != 0) {
        *bitmap = (struct bitmap){0};
        return status;
    }
    for (uint32_t i = 0; i < bitmap->level_count; i++) {
        bitmap->levels[i] = (_Atomic uint64_t *)bitmap->memory.data + firsts[i];
    }
    return 0;
}

void bitmap_close(struct bitmap *bitmap)
{
    sparse_close(&bitmap->memory);
    *bitmap = (struct bitmap){0};
}

static uint64_t load(const struct bitmap *bitmap, uint32_t level, uint64_t word)
{
    return atomic_load_explicit(&bitmap->levels[level][word], memory_order_acquire);
}

bool bitmap_add(struct bitmap *bitmap, uint64_t number)
{
    CUBBY_ASSERT(number < bitmap->sizes[0]);
    if (bitmap_has(bitmap, number)) {
        return true;
    }
    for (uint32_t level = bitmap->level_count; level-- > 0;) {
        uint64_t position = number >> WORD_SHIFT * level;
        _Atomic uint64_t *word = &bitmap->levels[level][position / WORD_BITS];
        sparse_mark(&bitmap->memory, (size_t)((uintptr_t)word - (uintptr_t)bitmap->memory.data));
        atomic_fetch_or(word, 1ull << position % WORD_BITS);
    }
    return false;
}

/* This word of level 0 has become zero. If its whole page has, as level 1 says, give that back,
 * unless there are words of other levels in it, too. */
static void release_words(struct bitmap *bitmap, uint64_t word)
{
    uint64_t first = word / PAGE_WORDS * PAGE_WORDS;
    if (first + PAGE_WORDS > bitmap->sizes[1]) {
        return;
    }
    for (uint64_t i = 0; i < PAGE_WORDS / WORD_BITS; i++) {
        if (load(bitmap, 1, first / WORD_BITS + i) != 0) {
            return;
        }
    }
    /* If the system refuses, nothing is lost but memory. */
    (void)sparse_release(&bitmap->memory, first * sizeof(uint64_t), SPARSE_PAGE_BYTES);
}

bool bitmap_drop(struct bitmap *bitmap, uint64_t number)
{
    CUBBY_ASSERT(number < bitmap->sizes[0]);
    if (!bitmap_has(bitmap, number)) {
        return false;
    }
    for (uint32_t level = 0; level < bitmap->level_count; level++) {
        uint64_t position = number >> WORD_SHIFT * level;
        uint64_t bit = 1ull << position % WORD_BITS;
        uint64_t before = atomic_fetch_and(&bitmap->levels[level][position / WORD_BITS], ~bit);
        if (before != bit) {
            return true; /* the word has others */
        }
        if (level == 1) {
            release_words(bitmap, position);
        }
    }
    return true;
}

bool bitmap_is_empty(const struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count && i < bitmap->sizes[0]; i += WORD_BITS) {
        if (load(bitmap, 0, i / WORD_BITS) != 0) {
            return false;
        }
    }
    return true;
}

uint64_t bitmap_next(const struct bitmap *bitmap, uint64_t number)
{
    CUBBY_ASSERT(number < bitmap->sizes[0]);
    uint64_t position = number; /* a bit of this level */
    uint32_t level = 0;
    while (level < bitmap->level_count && position < bitmap->sizes[level]) {
        uint64_t word = load(bitmap, level, position / WORD_BITS) & UINT64_MAX
                                                                        << position % WORD_BITS;
        if (word == 0) {
            /* Nothing up to the word's end. The level above says which words follow. */
            position = position / WORD_BITS + 1;
            level++;
            continue;
        }
        position = position / WORD_BITS * WORD_BITS + (uint64_t)__builtin_ctzll(word);
        if (level == 0) {
            return position;
        }
        position *= WORD_BITS;
        level--;
    }
    return BITMAP_NONE;
}

uint64_t bitmap_previous(const struct bitmap *bitmap, uint64_t number)
{
    CUBBY_ASSERT(number < bitmap->sizes[0]);
    uint64_t position = number;
    uint32_t level = 0;
    for (;;) {
        uint64_t word = load(bitmap, level, position / WORD_BITS) &
                        UINT64_MAX >> (WORD_BITS - 1 - position % WORD_BITS);
        if (word == 0) {
            if (position < WORD_BITS) {
                return BITMAP_NONE; /* as in the highest level, which is one word, it always is */
            }
            position = position / WORD_BITS - 1;
            level++;
            continue;
        }
        position =
            position / WORD_BITS * WORD_BITS + WORD_BITS - 1 - (uint64_t)__builtin_clzll(word);
        if (level == 0) {
            return position;
        }
        position = position * WORD_BITS + WORD_BITS - 1;
        level--;
    }
}
