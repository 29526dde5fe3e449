/* repair.c -- see repair.h. */
#include "engine/store/repair.h"

#include "engine/store/segment_read.h"

/* Whether a spill block of an image holds the pair that a home lists. */
static bool spill_holds(const cubby_store *store, const uint8_t *spill, struct segment_view view,
                        uint32_t home_index, uint16_t fingerprint)
{
    size_t offset = 0;
    struct block_pair pair;
    while (block_next(spill, &offset, &pair) == CUBBY_OK) {
        struct key_hash hash = block_pair_hash(&pair, store->hash_seed);
        if (key_hash_fingerprint(hash) == fingerprint &&
            key_hash_home(hash, view.place.home_count) == home_index) {
            return true;
        }
    }
    return false;
}

/* Strike what is not there off the list of one home block. Returns how many entries that were. */
static uint32_t strike_lost(const cubby_store *store, uint8_t *image, struct segment_view view,
                            uint32_t home_index)
{
    uint8_t *home = image + (size_t)home_index * BLOCK_BYTES;
    uint32_t lost = 0;
    for (uint32_t i = block_displaced_count(home); i-- > 0;) {
        uint32_t spill_index = view.place.home_count + block_displaced_spill(home, i);
        const uint8_t *spill = image + (size_t)spill_index * BLOCK_BYTES;
        if (!spill_holds(store, spill, view, home_index, block_displaced_fingerprint(home, i))) {
            block_displaced_remove(home, i);
            lost++;
        }
    }
    return lost;
}

static int repair_segment(cubby_session *session, struct segment_view view,
                          struct segment_pairs *pairs)
{
    cubby_store *store = session->store;
    uint64_t lba = segment_lba(store, view.place);
    /* Checks that every list entry points to a block of the segment. */
    int status = segment_read(session, view, &session->work, pairs);
    for (uint32_t i = 0; i < view.place.home_count && status == CUBBY_OK; i++) {
        uint32_t lost = strike_lost(store, session->work.data, view, i);
        if (lost > 0) {
            uint8_t *home = session->work.data + (size_t)i * BLOCK_BYTES;
            block_seal(home, block_lsn(home), lba + i, store->secret);
            status = session->io->ops->write(session->io, lba + i, 1, home);
            store->lost_pairs += lost;
        }
    }
    return status;
}

int repair_lost(cubby_session *session)
{
    cubby_store *store = session->store;
    struct segment_pairs pairs = {0};
    uint64_t count = atomic_load(&store->directory.segment_count);
    int status = CUBBY_OK;
    for (uint64_t i = 0; i < count && status == CUBBY_OK; i++) {
        struct segment_view view = {
            .number = i,
            .depth = directory_depth_of(i, count),
            .place = directory_get(&store->directory, i),
        };
        status = repair_segment(session, view, &pairs);
    }
    segment_pairs_free(&pairs);
    return status;
}
