/* keys.c -- see keys.h. */
#include "bench/ordered/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/ordered/sort.h"
#include "engine/cubby.h"

enum {
    CLUSTER_KEYS = 64,
    CLUSTER_BITS = 40, /* of the keys */
    WORD_LETTERS = 8,
};

const char *keys_name(enum keys_kind kind)
{
    static const char *const names[KEYS_KINDS] = {"ordered", "shuffled", "random", "clusters",
                                                  "text"};
    return names[kind];
}

static void shuffle(uint64_t *keys, size_t count, uint64_t *random)
{
    for (size_t i = count; i > 1; i--) {
        size_t other = (size_t)pairs_next_below(random, i);
        uint64_t key = keys[i - 1];
        keys[i - 1] = keys[other];
        keys[other] = key;
    }
}

/* One of so many letters, the first ones most often. */
static uint8_t draw_letter(const char *letters, size_t count, uint64_t *random)
{
    uint64_t one = pairs_next_below(random, count);
    uint64_t other = pairs_next_below(random, count);
    return (uint8_t)letters[one < other ? one : other];
}

static uint64_t draw_word(uint64_t *random)
{
    static const char consonants[] = "tnshrdlcmwfgypbvkjxqz";
    static const char vowels[] = "eaoiu";
    uint64_t word = 0;
    for (unsigned i = 0; i < WORD_LETTERS; i++) {
        word = word << 8 | (i % 2 == 0 ? draw_letter(consonants, sizeof consonants - 1, random)
                                       : draw_letter(vowels, sizeof vowels - 1, random));
    }
    return word;
}

static uint64_t draw_cluster(uint64_t *random)
{
    return pairs_next_random(random) >> (64 - CLUSTER_BITS) & ~(uint64_t)(CLUSTER_KEYS - 1);
}

/* Draw count different numbers, in random order; spare has as much room. */
static void draw_different(uint64_t (*draw)(uint64_t *random), uint64_t *keys, uint64_t *spare,
                           size_t count, uint64_t *random)
{
    size_t there = 0;
    while (there < count) {
        for (size_t i = there; i < count; i++) {
            keys[i] = draw(random);
        }
        sort_numbers(keys, spare, count);
        there = 1;
        for (size_t i = 1; i < count; i++) {
            if (keys[i] != keys[there - 1]) {
                keys[there++] = keys[i];
            }
        }
    }
    shuffle(keys, count, random);
}

/* Twice count keys: those of the set, then the misses. */
static int draw_all(enum keys_kind kind, uint64_t *keys, size_t count, uint64_t *random)
{
    uint64_t *spare = malloc(2 * count * sizeof *spare);
    if (spare == NULL) {
        return ENOMEM;
    }
    switch (kind) {
    case KEYS_RANDOM:
        for (size_t i = 0; i < 2 * count; i++) {
            keys[i] = keys_random(i);
        }
        break;
    case KEYS_CLUSTERS: {
        /* The last cluster of the set may be a part of one; none is in both halves. */
        size_t clusters = (count + CLUSTER_KEYS - 1) / CLUSTER_KEYS;
        uint64_t *firsts = malloc(2 * clusters * sizeof *firsts);
        if (firsts == NULL) {
            free(spare);
            return ENOMEM;
        }
        draw_different(draw_cluster, firsts, spare, 2 * clusters, random);
        for (size_t i = 0; i < count; i++) {
            keys[i] = firsts[i / CLUSTER_KEYS] + i % CLUSTER_KEYS;
            keys[count + i] = firsts[clusters + i / CLUSTER_KEYS] + i % CLUSTER_KEYS;
        }
        free(firsts);
        break;
    }
    case KEYS_TEXT:
        draw_different(draw_word, keys, spare, 2 * count, random);
        break;
    default:
        for (size_t i = 0; i < 2 * count; i++) {
            keys[i] = i;
        }
    }
    free(spare);
    return CUBBY_OK;
}

static void find_bounds(struct keys *keys)
{
    keys->low = keys->sorted[0];
    keys->high = keys->sorted[keys->count - 1];
    for (size_t i = 0; i < keys->count; i++) {
        keys->low = keys->misses[i] < keys->low ? keys->misses[i] : keys->low;
        keys->high = keys->misses[i] > keys->high ? keys->misses[i] : keys->high;
    }
}

int keys_make(enum keys_kind kind, size_t count, struct keys *keys)
{
    size_t bytes = count * sizeof *keys->puts;
    uint64_t random = 1 + (uint64_t)kind;
    *keys = (struct keys){
        .count = count, .puts = malloc(2 * bytes), .gets = malloc(bytes), .sorted = malloc(bytes)};
    if (keys->puts == NULL || keys->gets == NULL || keys->sorted == NULL ||
        draw_all(kind, keys->puts, count, &random) != CUBBY_OK) {
        keys_free(keys);
        return ENOMEM;
    }
    keys->misses = keys->puts + count;
    shuffle(keys->misses, count, &random);
    if (kind != KEYS_ORDERED) {
        shuffle(keys->puts, count, &random);
    }
    memcpy(keys->sorted, keys->puts, bytes);
    sort_numbers(keys->sorted, keys->gets, count);
    memcpy(keys->gets, keys->puts, bytes);
    shuffle(keys->gets, count, &random);
    find_bounds(keys);
    return CUBBY_OK;
}

void keys_free(struct keys *keys)
{
    free(keys->puts);
    free(keys->gets);
    free(keys->sorted);
    *keys = (struct keys){0};
}
