/* home_blocks.c -- see home_blocks.h. */
#include "bench/engines/home_blocks.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/key_hash.h"
#include "engine/cubby.h"
#include "engine/store/directory.h"
#include "engine/store/store.h"

static int copy_directory(const cubby_store *store, struct home_blocks *homes)
{
    const struct directory *directory = &store->directory;
    homes->hash_seed = store->hash_seed;
    homes->segment_count = atomic_load(&directory->segment_count);
    homes->first_lbas = calloc(homes->segment_count, sizeof *homes->first_lbas);
    homes->home_counts = calloc(homes->segment_count, sizeof *homes->home_counts);
    if (homes->first_lbas == NULL || homes->home_counts == NULL) {
        home_blocks_close(homes);
        return ENOMEM;
    }
    for (uint64_t i = 0; i < homes->segment_count; i++) {
        struct segment_place place = directory_get(directory, i);
        homes->first_lbas[i] = segment_lba(store, place);
        homes->home_counts[i] = place.home_count;
    }
    return CUBBY_OK;
}

int home_blocks_open(const char *path, struct home_blocks *homes, char *message,
                     size_t message_size)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_READ_ONLY_OPEN;
    cubby_store *store;
    int status = cubby_open(path, &options, &store, message, message_size);
    if (status != CUBBY_OK) {
        return status;
    }
    status = copy_directory(store, homes);
    int close_status = cubby_close(store);
    CUBBY_ASSERT(close_status == CUBBY_OK); /* nothing was written */
    return status;
}

void home_blocks_close(struct home_blocks *homes)
{
    free(homes->first_lbas);
    free(homes->home_counts);
    *homes = (struct home_blocks){0};
}

uint64_t home_blocks_lba(const struct home_blocks *homes, const uint8_t *key, size_t key_size)
{
    struct key_hash hash = key_hash_of(key, key_size, homes->hash_seed);
    uint64_t segment = directory_segment_of(hash.low, homes->segment_count);
    return homes->first_lbas[segment] + key_hash_home(hash, homes->home_counts[segment]);
}

struct home_blocks_span home_blocks_span(const struct home_blocks *homes)
{
    struct home_blocks_span span = {.first_lba = UINT64_MAX};
    uint64_t end_lba = 0;
    for (uint64_t i = 0; i < homes->segment_count; i++) {
        uint64_t first_lba = homes->first_lbas[i];
        uint64_t block_count = segment_block_count(homes->home_counts[i]);
        span.first_lba = first_lba < span.first_lba ? first_lba : span.first_lba;
        end_lba = first_lba + block_count > end_lba ? first_lba + block_count : end_lba;
        span.used_block_count += block_count;
    }
    span.block_count = end_lba - span.first_lba;
    return span;
}
