/* put_many.c -- cubby_put_many: many home blocks being read, and written, at once.
 *
 * Pairs go in windows. For each window: write blobs; take the locks of all its segments, in
 * ascending order of stripe (whoever holds one lock only never waits for another, so this cannot
 * deadlock); read all home blocks; put each pair that fits at home into its block, several into one
 * if they meet there; write the changed blocks; then put the others (displaced, or due for a
 * rebuild) one by one. A pair that physical space forbids is left over too, and refused there by
 * itself; the others of its window go on. A home block of which one pair is left over has the later
 * ones left over too: of two pairs with one key the later one stays.
 *
 * Depends on: put.h, space.h, step.h.   Used by: users of cubby.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/put.h"
#include "engine/store/space.h"
#include "engine/store/step.h"

enum {
    /* Deep enough for any device, and few enough locks for ThreadSanitizer to follow (64). */
    WINDOW = 56,
};
_Static_assert((int)WINDOW <= (int)PAGE_IO_DEPTH, "a window is in flight at once");

struct batch_pair {
    struct new_pair new_pair;
    struct segment_view view;
    uint64_t home_lba;
    size_t block; /* of the batch */
    struct put_outcome outcome;
    bool locked;  /* its segment's lock is held */
    bool at_home; /* put into its home block, in memory */
    bool stored;
};

struct batch_block {
    struct block_request request; /* of the home block */
    struct segment_view view;
    uint32_t home_index;
    struct dropped_pairs dropped; /* in memory; to be settled if the block is written */
    bool changed;
    bool left_over; /* a pair of it was: so are the later ones */
};

struct batch {
    cubby_session *session;
    size_t pair_count;
    size_t block_count;
    size_t lock_count;
    int refusal;            /* CUBBY_OK, or why a pair was refused by itself */
    uint32_t locks[WINDOW]; /* stripes, ascending */
    struct batch_pair pairs[WINDOW];
    struct batch_block blocks[WINDOW];
};

static uint8_t *memory_of(const struct batch *batch, size_t block)
{
    return batch->session->blocks.data + block * BLOCK_BYTES;
}

static int compare_stripes(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static uint32_t stripe_of(uint64_t segment_number)
{
    return (uint32_t)(segment_number % STRIPE_COUNT);
}

static bool holds_lock(const struct batch *batch, uint64_t segment_number)
{
    uint32_t stripe = stripe_of(segment_number);
    return bsearch(&stripe, batch->locks, batch->lock_count, sizeof stripe, compare_stripes) !=
           NULL;
}

/* Lock the segments of all pairs. A segment that is split meanwhile may leave a pair without. */
static void lock_all(struct batch *batch)
{
    cubby_store *store = batch->session->store;
    for (size_t i = 0; i < batch->pair_count; i++) {
        uint64_t low_hash = batch->pairs[i].new_pair.wanted.hash.low;
        batch->locks[i] = stripe_of(store_find_segment(store, low_hash).number);
    }
    qsort(batch->locks, batch->pair_count, sizeof *batch->locks, compare_stripes);
    batch->lock_count = 0;
    for (size_t i = 0; i < batch->pair_count; i++) {
        uint32_t stripe = batch->locks[i];
        if (batch->lock_count == 0 || batch->locks[batch->lock_count - 1] != stripe) {
            batch->locks[batch->lock_count++] = stripe;
            pthread_mutex_lock(&store->stripes[stripe].lock);
        }
    }
    for (size_t i = 0; i < batch->pair_count; i++) {
        struct batch_pair *pair = &batch->pairs[i];
        pair->view = store_find_segment(store, pair->new_pair.wanted.hash.low);
        pair->locked = holds_lock(batch, pair->view.number);
    }
}

static void unlock_all(struct batch *batch)
{
    for (size_t i = 0; i < batch->lock_count; i++) {
        pthread_mutex_unlock(&batch->session->store->stripes[batch->locks[i]].lock);
    }
    batch->lock_count = 0;
}

/* List the distinct home blocks of the pairs whose segments are locked. */
static void list_blocks(struct batch *batch)
{
    batch->block_count = 0;
    for (size_t i = 0; i < batch->pair_count; i++) {
        struct batch_pair *pair = &batch->pairs[i];
        if (!pair->locked) {
            continue;
        }
        uint32_t home_index =
            key_hash_home(pair->new_pair.wanted.hash, pair->view.place.home_count);
        uint64_t lba = segment_lba(batch->session->store, pair->view.place) + home_index;
        size_t block = 0;
        while (block < batch->block_count && batch->blocks[block].request.lba != lba) {
            block++;
        }
        pair->block = block;
        if (block == batch->block_count) {
            batch->blocks[batch->block_count++] = (struct batch_block){
                .request = {.block_count = 1, .lba = lba, .buffer = memory_of(batch, block)},
                .view = pair->view,
                .home_index = home_index,
            };
        }
    }
}

/* Read all blocks, or write the changed ones. Each block's result is in its request. Returns 0, or
 * the error of the queue itself. */
static int transfer(struct batch *batch, enum block_operation operation)
{
    struct page_io *io = batch->session->io;
    struct block_request *done[WINDOW];
    size_t in_flight = 0;
    int status = 0;
    for (size_t i = 0; i < batch->block_count; i++) {
        struct batch_block *block = &batch->blocks[i];
        block->request.operation = operation;
        block->request.result = ECANCELED; /* unless it is done */
        if (status == 0 && (operation == BLOCK_READ || block->changed)) {
            status = io->ops->submit(io, &block->request);
            in_flight += status == 0;
        }
    }
    while (in_flight > 0) {
        in_flight -= io->ops->reap(io, done, WINDOW);
    }
    return status;
}

/* Put a pair into its home block in memory, if it is at home already, or is in no list, and fits.
 */
static void put_at_home(struct batch *batch, struct batch_pair *pair)
{
    struct batch_block *block = &batch->blocks[pair->block];
    uint8_t *home = memory_of(batch, pair->block);
    struct new_pair *new_pair = &pair->new_pair;
    const struct wanted_key *wanted = &new_pair->wanted;
    if (block->left_over) {
        return;
    }
    block->left_over = true;
    struct block_pair old;
    int status = block_find(home, wanted->key, wanted->key_size, wanted->hash, &old);
    bool exists = status == CUBBY_OK;
    if ((exists && old.key == NULL) || (!exists && status != CUBBY_NOT_FOUND)) {
        return;
    }
    uint16_t fingerprint = key_hash_fingerprint(wanted->hash);
    for (uint32_t i = 0; !exists && i < block_displaced_count(home); i++) {
        if (block_displaced_fingerprint(home, i) == fingerprint) {
            return;
        }
    }
    put_encode(new_pair, exists ? &old : NULL);
    int room = block_room(home, false) + (exists ? (int)old.encoded_size : 0);
    bool grows = put_grows(&new_pair->content, exists ? &old : NULL);
    if (room < (int)new_pair->encoded_size ||
        (!new_pair->admitted && !space_allows(batch->session->store, grows))) {
        return;
    }
    if (exists) {
        pair->outcome = (struct put_outcome){.existed = true, .old = old};
        block_remove(home, &old);
    }
    block_append(home, new_pair->encoded, new_pair->encoded_size);
    pair->at_home = true;
    block->changed = true;
    block->left_over = false;
}

/* Check what was read, drop what is expired, put pairs at home, seal the changed blocks. */
static int change_blocks(struct batch *batch)
{
    cubby_session *session = batch->session;
    cubby_store *store = session->store;
    for (size_t i = 0; i < batch->block_count; i++) {
        struct batch_block *block = &batch->blocks[i];
        if (block->request.result != 0) {
            return session_fail(session, block->request.result, "reading LBA %llu failed: %s",
                                (unsigned long long)block->request.lba,
                                cubby_status_text(block->request.result));
        }
        int status =
            lookup_check_block(session, block->view, block->home_index, memory_of(batch, i));
        if (status == CUBBY_OK) {
            status = expiry_drop_from_block(session, memory_of(batch, i), &block->dropped);
        }
        if (status != CUBBY_OK) {
            return status;
        }
    }
    for (size_t i = 0; i < batch->pair_count; i++) {
        if (batch->pairs[i].locked) {
            put_at_home(batch, &batch->pairs[i]);
        }
    }
    for (size_t i = 0; i < batch->block_count; i++) {
        struct batch_block *block = &batch->blocks[i];
        if (block->changed) {
            store_bump_version(store, block->view.number);
            block_seal(memory_of(batch, i), atomic_fetch_add(&store->lsn, 1), block->request.lba,
                       store->secret);
        }
    }
    return CUBBY_OK;
}

/* The changed blocks have been written: account for their pairs. */
static int account(struct batch *batch)
{
    cubby_session *session = batch->session;
    struct directory *directory = &session->store->directory;
    int status = CUBBY_OK;
    for (size_t i = 0; i < batch->pair_count; i++) {
        struct batch_pair *pair = &batch->pairs[i];
        if (!pair->at_home) {
            continue;
        }
        const struct block_request *request = &batch->blocks[pair->block].request;
        if (request->result != 0) {
            atomic_store(&session->store->doubtful, true);
            status =
                session_fail(session, request->result, "writing LBA %llu failed: %s",
                             (unsigned long long)request->lba, cubby_status_text(request->result));
            continue;
        }
        uint32_t old_size = pair->outcome.existed ? pair->outcome.old.encoded_size : 0;
        directory_change_payload(directory, pair->view.number, old_size,
                                 pair->new_pair.encoded_size);
        pair->stored = true;
    }
    for (size_t i = 0; i < batch->block_count; i++) {
        struct batch_block *block = &batch->blocks[i];
        if (block->changed && block->request.result == 0) {
            directory_change_payload(directory, block->view.number,
                                     (uint32_t)block->dropped.encoded_bytes, 0);
        } else {
            expiry_forget(&block->dropped);
        }
    }
    return status;
}

/* Nothing has been written: nothing has been dropped. */
static void forget_dropped(struct batch *batch)
{
    for (size_t i = 0; i < batch->block_count; i++) {
        expiry_forget(&batch->blocks[i].dropped);
    }
}

/* Put one pair into its segment, whose lock is held. A refusal is remembered, and no failure. */
static int put_one(struct batch *batch, struct batch_pair *pair, struct segment_view view)
{
    int status = put_locked(batch->session, view, &pair->new_pair, &pair->outcome);
    pair->stored = status == CUBBY_OK;
    if (pair->outcome.refused) {
        batch->refusal = status;
        return CUBBY_OK;
    }
    return status;
}

/* Put what is left over, one by one; locks are still held. */
static int put_left_over(struct batch *batch)
{
    cubby_session *session = batch->session;
    int status = CUBBY_OK;
    for (size_t i = 0; i < batch->pair_count && status == CUBBY_OK; i++) {
        struct batch_pair *pair = &batch->pairs[i];
        if (pair->locked && !pair->at_home) {
            struct segment_view view =
                store_find_segment(session->store, pair->new_pair.wanted.hash.low);
            status = put_one(batch, pair, view);
        }
    }
    return status;
}

/* Put pairs whose segments were split while the locks were being taken. */
static int put_unlocked(struct batch *batch)
{
    cubby_session *session = batch->session;
    int status = CUBBY_OK;
    for (size_t i = 0; i < batch->pair_count && status == CUBBY_OK; i++) {
        struct batch_pair *pair = &batch->pairs[i];
        if (!pair->locked) {
            struct segment_view view =
                store_lock_segment(session->store, pair->new_pair.wanted.hash.low);
            session_forget_now(session);
            status = put_one(batch, pair, view);
            store_unlock_segment(session->store, view.number);
        }
    }
    return status;
}

/* Whether a later pair of the batch has the key, too, and was stored. */
static bool is_superseded(const struct batch *batch, size_t index)
{
    struct key_hash hash = batch->pairs[index].new_pair.wanted.hash;
    for (size_t i = index + 1; i < batch->pair_count; i++) {
        struct key_hash other = batch->pairs[i].new_pair.wanted.hash;
        if (batch->pairs[i].stored && other.low == hash.low && other.high == hash.high) {
            return true;
        }
    }
    return false;
}

/* There is more room: put the pairs that were refused, each under a lock of its own. */
static int put_refused(struct batch *batch)
{
    batch->refusal = CUBBY_OK;
    for (size_t i = 0; i < batch->pair_count; i++) {
        struct batch_pair *pair = &batch->pairs[i];
        bool again = pair->outcome.refused && !is_superseded(batch, i);
        if (pair->outcome.refused && !again) {
            batch->refusal = CUBBY_PHYSICAL_FULL;
        }
        pair->locked = !again; /* put_unlocked leaves it out */
    }
    return put_unlocked(batch);
}

/* Count what was stored and free what it replaced, and what was dropped; give up what was not
 * stored. Returns how many were. */
static size_t settle_all(struct batch *batch, int status)
{
    size_t stored = 0;
    for (size_t i = 0; i < batch->pair_count; i++) {
        struct batch_pair *pair = &batch->pairs[i];
        if (pair->stored) {
            put_settle(batch->session, &pair->new_pair, &pair->outcome);
            stored++;
        } else {
            put_abandon(batch->session, &pair->new_pair, &pair->outcome, status);
        }
    }
    for (size_t i = 0; i < batch->block_count; i++) {
        (void)expiry_settle(batch->session, &batch->blocks[i].dropped);
    }
    return stored;
}

/* Store the prepared pairs of a batch. */
static int put_batch(struct batch *batch)
{
    batch->refusal = CUBBY_OK;
    lock_all(batch);
    session_forget_now(batch->session);
    list_blocks(batch);
    int status = transfer(batch, BLOCK_READ);
    if (status == 0) {
        status = change_blocks(batch);
    }
    if (status == CUBBY_OK) {
        status = transfer(batch, BLOCK_WRITE);
        int written = account(batch);
        status = status == 0 ? written : status;
    } else {
        forget_dropped(batch);
    }
    if (status == CUBBY_OK) {
        status = put_left_over(batch);
    }
    unlock_all(batch);
    if (status == CUBBY_OK) {
        status = put_unlocked(batch);
    }
    if (status == CUBBY_OK && batch->refusal != CUBBY_OK && space_make_room(batch->session)) {
        status = put_refused(batch);
    }
    return status == CUBBY_OK ? batch->refusal : status;
}

/* What put_many was given, and how far it is. */
struct put_many {
    const struct cubby_put_options *options;
    const uint8_t *key;
    const uint32_t *key_size;
    const uint8_t *value;
    const size_t *value_size;
    size_t left;
};

/* Prepare up to WINDOW pairs. */
static int fill_batch(struct batch *batch, struct put_many *many)
{
    int status = CUBBY_OK;
    batch->pair_count = 0;
    batch->lock_count = 0;
    while (status == CUBBY_OK && batch->pair_count < WINDOW && many->left > 0) {
        struct batch_pair *pair = &batch->pairs[batch->pair_count];
        pair->outcome = (struct put_outcome){0};
        pair->locked = pair->at_home = pair->stored = false;
        status = put_prepare(batch->session, many->key, *many->key_size, many->value,
                             *many->value_size, many->options, &pair->new_pair);
        if (status == CUBBY_OK) {
            batch->pair_count++;
            many->key += *many->key_size++;
            many->value += *many->value_size++;
            many->left--;
        }
    }
    return status;
}

static int put_batches(struct batch *batch, struct put_many *many, size_t *put_count)
{
    cubby_session *session = batch->session;
    int status = CUBBY_OK;
    while (status == CUBBY_OK && many->left > 0) {
        int prepared = fill_batch(batch, many);
        status = put_batch(batch); /* also what was prepared before a failure */
        size_t stored = settle_all(batch, status);
        *put_count += stored;
        status = status == CUBBY_OK ? prepared : status;
        for (size_t i = 0; status == CUBBY_OK && i < stored && step_after_write(session); i++) {
        }
        space_note_writes(session);
    }
    return status;
}

int cubby_put_many(cubby_session *session, size_t count, const uint8_t *keys,
                   const uint32_t *key_sizes, const uint8_t *values, const size_t *value_sizes,
                   uint64_t expires_ms, size_t *put_count)
{
    CUBBY_ASSERT(count == 0 || (keys != NULL && key_sizes != NULL && value_sizes != NULL));
    size_t stored = 0;
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    if (count > CUBBY_MANY_MAX) {
        session_fail(session, CUBBY_BAD_ARGUMENT, "put_many takes at most %d pairs, not %zu",
                     CUBBY_MANY_MAX, count);
        return session_leave(session, CUBBY_BAD_ARGUMENT);
    }
    uint64_t begin_ns = store_now_ns(session->store);
    struct batch *batch = malloc(sizeof *batch);
    status = batch == NULL ? ENOMEM : CUBBY_OK;
    if (status == CUBBY_OK) {
        batch->session = session;
        status = aligned_buffer_reserve(&session->blocks, (size_t)WINDOW * BLOCK_BYTES);
    }
    if (status == CUBBY_OK) {
        const uint8_t *bytes = values != NULL ? values : (const uint8_t *)"";
        const struct cubby_put_options options = {.expires_ms = expires_ms};
        struct put_many many = {&options, keys, key_sizes, bytes, value_sizes, count};
        status = put_batches(batch, &many, &stored);
    }
    free(batch);
    if (put_count != NULL) {
        *put_count = stored;
    }
    session_note_latency(session, CUBBY_OPERATION_PUT_MANY, begin_ns);
    return session_leave(session, status);
}
