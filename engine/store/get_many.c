/* get_many.c -- cubby_get_many: many home blocks being read at once.
 *
 * Keys go through a window of WINDOW slots: submitted in order, completed in any order, retired
 * (their values copied out) in order. What is not plain sailing (a block that moved, a second
 * fingerprint match) is looked up again by itself when its turn to retire comes.
 *
 * All of it happens inside the epoch, but a single look-up must not, so the epoch is left and
 * entered anew around it; after that, blobs that slots still point to may be gone, and are looked
 * up again.
 *
 * Depends on: lookup.h, get.h, expiry.h.   Used by: users of cubby.h.
 */
#include <errno.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/expiry.h"
#include "engine/store/get.h"
#include "engine/store/lookup.h"

enum {
    WINDOW = 2 * PAGE_IO_DEPTH,
    /* Keys after which the epoch is renewed, so that what was freed need not wait for all of them.
     */
    EPOCH_KEYS = 1024,
};

enum slot_state {
    SLOT_HOME,  /* its home block is being read */
    SLOT_SPILL, /* its spill block is being read */
    SLOT_FOUND,
    SLOT_ABSENT,
    SLOT_AGAIN, /* to be looked up by itself */
};

struct slot {
    struct block_request request;
    enum slot_state state;
    struct wanted_key wanted;
    struct segment_view view;
    struct block_pair pair; /* if found; in the slot's block */
    dirty_token token;      /* by which it may be admitted */
    uint64_t round;         /* of the epoch in which it was found */
    bool knows_now;         /* the clock was asked before anything of it was read */
};

struct get_many {
    cubby_session *session;
    size_t count;
    const uint8_t *next_key;
    const uint32_t *key_sizes;
    size_t *value_sizes;
    size_t submitted; /* keys */
    size_t retired;   /* keys */
    size_t in_flight; /* requests */
    uint64_t round;   /* grows whenever the epoch is left */
    struct aligned_buffer *values;
    size_t value_bytes;
    struct slot slots[WINDOW];
};

static uint8_t *block_of(struct get_many *many, const struct slot *slot)
{
    return many->session->blocks.data + (size_t)(slot - many->slots) * BLOCK_BYTES;
}

static int submit_block(struct get_many *many, struct slot *slot, uint32_t block_index)
{
    slot->request = (struct block_request){
        .operation = BLOCK_READ,
        .block_count = 1,
        .lba = segment_lba(many->session->store, slot->view.place) + block_index,
        .buffer = block_of(many, slot),
    };
    int status = many->session->io->ops->submit(many->session->io, &slot->request);
    if (status == 0) {
        many->in_flight++;
    }
    return status;
}

/* Take a key's pair from memory. Returns whether that settles it. */
static bool take_from_memory(struct get_many *many, struct slot *slot)
{
    cubby_session *session = many->session;
    enum dirty_state state =
        dirty_find(&session->store->dirty, slot->wanted.key, slot->wanted.key_size,
                   slot->wanted.hash, block_of(many, slot), &slot->pair, &slot->token);
    if (state == DIRTY_NOT) {
        return false;
    }
    slot->state = SLOT_ABSENT;
    if (state != DIRTY_TOMBSTONE) {
        /* One with an expiry has its time looked at when it is looked up by itself. */
        slot->state = slot->pair.expires_ms == 0 ? SLOT_FOUND : SLOT_AGAIN;
        slot->round = many->round;
        session_count(&session->counters.cache_hits, slot->state == SLOT_FOUND);
    }
    return true;
}

static int submit_next(struct get_many *many)
{
    cubby_session *session = many->session;
    cubby_store *store = session->store;
    struct slot *slot = &many->slots[many->submitted % WINDOW];
    size_t key_size = many->key_sizes[many->submitted];
    int status = session_check_key(session, many->next_key, key_size);
    if (status != CUBBY_OK) {
        return status;
    }
    struct key_hash hash = key_hash_of(many->next_key, key_size, store->hash_seed);
    slot->wanted = (struct wanted_key){many->next_key, key_size, hash};
    slot->state = SLOT_HOME;
    slot->knows_now = session->now_ms != 0;
    if (!take_from_memory(many, slot)) {
        /* After that look: a pair that was clean by then may stand in new extents. */
        slot->view = store_find_segment(store, hash.low);
        session_count(&session->counters.get_home_reads, 1);
        status = submit_block(many, slot, key_hash_home(hash, slot->view.place.home_count));
    }
    many->next_key += key_size;
    many->submitted++;
    return status;
}

/* A home block without the pair: is there one spill block to look into? */
static int follow_displaced(struct get_many *many, struct slot *slot)
{
    const uint8_t *home = block_of(many, slot);
    uint16_t fingerprint = key_hash_fingerprint(slot->wanted.hash);
    uint32_t home_count = slot->view.place.home_count;
    uint32_t spill_count = segment_block_count(home_count) - home_count;
    uint32_t match_count = 0;
    uint32_t spill_index = 0;
    for (uint32_t i = 0; i < block_displaced_count(home); i++) {
        if (block_displaced_fingerprint(home, i) == fingerprint) {
            match_count++;
            spill_index = block_displaced_spill(home, i);
        }
    }
    if (match_count == 0) {
        slot->state = SLOT_ABSENT;
        return CUBBY_OK;
    }
    if (match_count > 1 || spill_index >= spill_count) {
        slot->state = SLOT_AGAIN;
        return CUBBY_OK;
    }
    slot->state = SLOT_SPILL;
    session_count(&many->session->counters.get_spill_reads, 1);
    return submit_block(many, slot, home_count + spill_index);
}

/* A slot's block has been read. */
static int complete(struct get_many *many, struct slot *slot)
{
    cubby_session *session = many->session;
    const uint8_t *block = block_of(many, slot);
    bool is_home = slot->state == SLOT_HOME;
    if (slot->request.result != 0) {
        return session_fail(session, slot->request.result, "reading LBA %llu failed: %s",
                            (unsigned long long)slot->request.lba,
                            cubby_status_text(slot->request.result));
    }
    uint32_t block_index =
        (uint32_t)(slot->request.lba - segment_lba(session->store, slot->view.place));
    int status = lookup_check_block(session, slot->view, block_index, block);
    if (status == CUBBY_OK) {
        status = block_find(block, slot->wanted.key, slot->wanted.key_size, slot->wanted.hash,
                            &slot->pair);
    }
    if (status == CUBBY_NOT_FOUND && is_home) {
        return follow_displaced(many, slot);
    }
    slot->state =
        SLOT_AGAIN; /* moved, damaged, missing in its spill block, or a long key to compare */
    if (status == CUBBY_OK && slot->pair.key != NULL) {
        bool is_expired = expiry_has_passed(session, &slot->pair);
        /* A pair that has expired since it was read may have been put anew in time. */
        slot->state = !is_expired ? SLOT_FOUND : slot->knows_now ? SLOT_ABSENT : SLOT_AGAIN;
        if (!is_expired) {
            dirty_admit(&session->store->dirty, slot->wanted.hash, &slot->pair, slot->token);
        }
        slot->round = many->round;
    }
    return CUBBY_OK;
}

/* Wait for requests and complete them. After an error the rest is only waited for. */
static int reap(struct get_many *many, int status)
{
    struct block_request *done[PAGE_IO_DEPTH];
    size_t done_count = many->session->io->ops->reap(many->session->io, done, PAGE_IO_DEPTH);
    CUBBY_ASSERT(done_count > 0);
    many->in_flight -= done_count;
    for (size_t i = 0; i < done_count && status == CUBBY_OK; i++) {
        /* The request is the first member of its slot. */
        status = complete(many, (struct slot *)(void *)done[i]);
    }
    return status;
}
_Static_assert(offsetof(struct slot, request) == 0, "reap relies on it");

static int drain(struct get_many *many, int status)
{
    while (many->in_flight > 0) {
        status = reap(many, status);
    }
    return status;
}

static int append_value(struct get_many *many, struct cubby_slice value)
{
    int status =
        aligned_buffer_extend(many->values, many->value_bytes, many->value_bytes + value.size);
    if (status == CUBBY_OK && value.size > 0) {
        memcpy(many->values->data + many->value_bytes, value.data, value.size);
    }
    many->value_bytes += value.size;
    many->value_sizes[many->retired] = value.size;
    return status;
}

/* Look a slot's key up by itself, outside the epoch. */
static int look_again(struct get_many *many, struct slot *slot, struct cubby_slice *value)
{
    cubby_session *session = many->session;
    int status = drain(many, CUBBY_OK);
    epoch_leave(&session->slot);
    many->round++;
    if (status == CUBBY_OK) {
        status = lookup_key(session, &slot->wanted, get_visit_value, value, &session->counters);
    }
    epoch_enter(&session->store->epoch, &session->slot);
    return status;
}

/* Hand out the oldest slot's value. */
static int retire(struct get_many *many)
{
    cubby_session *session = many->session;
    struct slot *slot = &many->slots[many->retired % WINDOW];
    struct cubby_slice value = {0};
    int status = slot->state == SLOT_ABSENT ? CUBBY_NOT_FOUND : CUBBY_OK;
    if (slot->state == SLOT_AGAIN ||
        (slot->state == SLOT_FOUND && slot->pair.is_blob && slot->round != many->round)) {
        status = look_again(many, slot, &value);
    } else if (slot->state == SLOT_FOUND) {
        uint64_t blob_reads = session->blob_reads;
        status = get_visit_value(session, &slot->pair, &value);
        session_count(&session->counters.get_blob_reads, session->blob_reads - blob_reads);
    }
    if (status == CUBBY_OK) {
        status = append_value(many, value);
    } else if (status == CUBBY_NOT_FOUND) {
        many->value_sizes[many->retired] = SIZE_MAX;
        session_count(&session->counters.get_misses, 1);
        status = CUBBY_OK;
    }
    session_count(&session->counters.gets, 1);
    many->retired++;
    return status;
}

static bool oldest_is_done(const struct get_many *many)
{
    enum slot_state state = many->slots[many->retired % WINDOW].state;
    return many->retired < many->submitted && state != SLOT_HOME && state != SLOT_SPILL;
}

/* Get the keys up to limit, all of them retired at the end. */
static int run_until(struct get_many *many, size_t limit)
{
    int status = CUBBY_OK;
    while (status == CUBBY_OK && many->retired < limit) {
        while (status == CUBBY_OK && many->submitted < limit && many->in_flight < PAGE_IO_DEPTH &&
               many->submitted - many->retired < WINDOW) {
            status = submit_next(many);
        }
        if (status == CUBBY_OK && many->in_flight > 0 && !oldest_is_done(many)) {
            status = reap(many, status);
        }
        while (status == CUBBY_OK && oldest_is_done(many)) {
            status = retire(many);
        }
    }
    return drain(many, status);
}

int cubby_get_many(cubby_session *session, size_t count, const uint8_t *keys,
                   const uint32_t *key_sizes, struct cubby_slice *values, size_t *value_sizes)
{
    CUBBY_ASSERT(count == 0 || (keys != NULL && key_sizes != NULL && value_sizes != NULL));
    CUBBY_ASSERT(values != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    if (count > CUBBY_MANY_MAX) {
        session_fail(session, CUBBY_BAD_ARGUMENT, "get_many takes at most %d keys, not %zu",
                     CUBBY_MANY_MAX, count);
        return session_leave(session, CUBBY_BAD_ARGUMENT);
    }
    uint64_t begin_ns = store_now_ns(session->store);
    status = aligned_buffer_reserve(&session->blocks, (size_t)WINDOW * BLOCK_BYTES);
    if (status == CUBBY_OK) {
        struct get_many many = {
            .session = session,
            .count = count,
            .next_key = keys,
            .key_sizes = key_sizes,
            .value_sizes = value_sizes,
            .values = &session->many_values,
        };
        while (status == CUBBY_OK && many.retired < count) {
            size_t left = count - many.retired;
            epoch_enter(&session->store->epoch, &session->slot);
            status = run_until(&many, many.retired + (left < EPOCH_KEYS ? left : EPOCH_KEYS));
            epoch_leave(&session->slot);
        }
        if (status == CUBBY_OK) {
            *values = (struct cubby_slice){session->many_values.data, many.value_bytes};
        }
    }
    session_note_latency(session, CUBBY_OPERATION_GET_MANY, begin_ns);
    return session_leave(session, status);
}
