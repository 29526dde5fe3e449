/* async_get.c -- cubby_async: gets that stay in flight between calls, for event loops.
 *
 *   batch, waiting --[start_waiting]--> home read --+--> spill read --+--> finished --> handed out
 *                                         ^    |    |      |    |     |
 *                                         |    +----+------+----+--> blob read
 *                                         +----[again]--------------------+
 *
 * A get is in flight for as long as the device and the event loop take, so it must not hold the
 * epoch: nothing that is freed could be used again meanwhile. Then anything may happen to the
 * blocks it reads: rewritten in place, freed, discarded, written by another segment, by a blob. Why
 * it is right all the same:
 *
 *   1. Following the directory needs no epoch: its memory lives as long as the store, and each call
 *      is over before cubby_close goes on. The descriptor may be out of date at once; see 2.
 *   2. A home or spill block is believed if its checksum (seeded with its LBA and the store's
 *      secret) and its identity {segment, epoch, home count, depth, index} are those that the
 *      directory asked for when the get began, and the directory still asks for them at the end.
 *      Each rebuild and split gives a segment a new epoch or depth, so such a block was written for
 *      just that generation. It was live when the get began; what was read is what stood there at
 *      some moment from then on, or, if the segment went away meanwhile, what it last held. Torn by
 *      a write in flight, discarded, or taken by something else, it fails one of the two.
 *   3. So one home block settles a hit, and a miss where its displaced list has no match: both were
 *      true at that moment. Two reads (home, then spill or blob) are of two moments: they count
 *      only if the stripe's version did not move since before the first. Writers bump it before
 *      each write and each publication, so then nothing was written between the two. A miss by the
 *      clock, which is asked after the read, is of two moments, too.
 *      What is dirty is taken from memory before all that: it is the pair of that moment. A pair
 *      that becomes dirty later is written in place later still, and bumps the version.
 *   4. A blob is written before it is named, and never changed. Its checksum, in the block of 3,
 *      covers every byte of key and value: bytes that match are the blob's, whoever owns the space
 *      now. The place comes from a checked block, and is checked to lie where blobs lie.
 *   5. Whatever is not believed is begun anew, and after TRIES times looked up by lookup_key, which
 *      enters the epoch, takes the segment's lock at last, and alone may call it damage.
 *
 * cubby_close, when no call is under way, waits for the reads in flight and drops all gets: queues
 * with an event may be reaped from any thread. Whoever owns the object learns it by its descriptor,
 * which is its own and outlives the store.
 *
 * Depends on: async_get.h, blob.h, expiry.h, get.h, lookup.h.   Used by: users of cubby.h.
 */
#include "engine/store/async_get.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/event.h"
#include "engine/store/blob.h"
#include "engine/store/expiry.h"
#include "engine/store/get.h"
#include "engine/store/lookup.h"

enum {
    TRIES = 4, /* by asynchronous reads */
    /* Results that are not handed out yet, and gets in flight, each of which becomes one. */
    /* Reads in flight at most. While a loop works off what one poll has found, the device goes on
     * with the others: at 90,000 reads a second it does some 75 in that time. */
    ASYNC_DEPTH = 256,
    RESULTS_MAX = 2 * ASYNC_DEPTH,
};

/* Gets that were submitted together; one allocation. */
struct get_batch {
    struct get_batch *next;
    size_t count;
    size_t begun;
    size_t ended;
    const uint8_t *next_key; /* of the get that is begun next */
    uint32_t *key_sizes;
    uint8_t *keys;
    uint64_t tags[];
};

enum read_state {
    READ_HOME,
    READ_SPILL,
    READ_BLOB,
};

/* A get that is in flight. */
struct async_get {
    struct block_request request;
    enum read_state state;
    struct get_batch *batch;
    uint64_t tag;
    struct wanted_key wanted; /* its key is in the batch */
    struct segment_view view;
    struct segment_stripe *stripe;
    uint32_t version; /* of the stripe, when this try began */
    unsigned tries;
    dirty_token token;      /* by which a pair of this try may be admitted */
    uint8_t *block;         /* one block, of session->blocks */
    struct block_pair pair; /* of READ_BLOB; its pointers are into block */
    struct blob_run run;    /* of READ_BLOB */
    struct aligned_buffer blob;
};
_Static_assert(offsetof(struct async_get, request) == 0, "a reaped request is its get");

/* Why a get failed. */
struct failure {
    size_t index; /* of its result */
    char message[CUBBY_MESSAGE_BYTES];
};

/* Used by its owner inside calls, and by async_get_cancel. */
struct cubby_async {
    cubby_session *session; /* its own */
    int event_fd;           /* joins wake_fd with the queue's */
    int wake_fd;   /* raised when poll has something to do that the queue does not know of */
    bool is_woken; /* by ourselves; written inside calls only */
    struct get_batch *first_waiting;
    struct get_batch *last_waiting;
    size_t waiting;
    bool has_unstarted;  /* the queue has reads that no poll has started */
    bool is_handed_out;  /* the results were */
    size_t result_count; /* at most RESULTS_MAX, together with gets in flight */
    size_t value_bytes;
    size_t failed;            /* results that are failures */
    struct failure *failures; /* what there was memory to remember of them, in order */
    size_t failure_count;
    size_t failure_capacity;
    size_t free_count;
    struct async_get *free_gets[ASYNC_DEPTH]; /* a stack */
    struct async_get gets[ASYNC_DEPTH];
    uint64_t tags[RESULTS_MAX];
    int statuses[RESULTS_MAX];
    size_t value_sizes[RESULTS_MAX];
};

static size_t in_flight(const struct cubby_async *async)
{
    return ASYNC_DEPTH - async->free_count;
}

/* A get is over: its slot is free, and so is its batch if it was the last. */
static void end_get(struct cubby_async *async, struct async_get *get)
{
    struct get_batch *batch = get->batch;
    async->free_gets[async->free_count++] = get;
    if (++batch->ended == batch->count) {
        free(batch);
    }
}

/* The next result is a failure, which session->message is about. */
static void note_failure(struct cubby_async *async)
{
    cubby_session *session = async->session;
    async->failed++;
    struct failure *grown = growing_array_reserve(async->failures, &async->failure_capacity,
                                                  async->failure_count + 1, sizeof *grown);
    if (grown != NULL) { /* else the status has to do */
        async->failures = grown;
        grown[async->failure_count].index = async->result_count;
        memcpy(grown[async->failure_count].message, session->message, sizeof session->message);
        async->failure_count++;
    }
}

/* A get has its result. value: where status is CUBBY_OK. */
static void finish(struct cubby_async *async, struct async_get *get, int status,
                   struct cubby_slice value)
{
    cubby_session *session = async->session;
    if (status == CUBBY_OK) {
        size_t end = async->value_bytes + value.size;
        status = aligned_buffer_extend(&session->many_values, async->value_bytes, end);
        if (status != CUBBY_OK) {
            session_fail(session, status, "%s", cubby_status_text(status));
        } else if (value.size > 0) {
            memcpy(session->many_values.data + async->value_bytes, value.data, value.size);
            async->value_bytes = end;
        }
    }
    if (status != CUBBY_OK && status != CUBBY_NOT_FOUND) {
        note_failure(async);
    }
    session_count(&session->counters.gets, 1);
    session_count(&session->counters.get_misses, status == CUBBY_NOT_FOUND);
    CUBBY_ASSERT(async->result_count < RESULTS_MAX);
    async->tags[async->result_count] = get->tag;
    async->statuses[async->result_count] = status;
    async->value_sizes[async->result_count] = status == CUBBY_OK ? value.size : SIZE_MAX;
    async->result_count++;
    end_get(async, get);
}

static void finish_without_value(struct cubby_async *async, struct async_get *get, int status)
{
    finish(async, get, status, (struct cubby_slice){0});
}

/* Get a pair by the blocking way. */
static void look_up(struct cubby_async *async, struct async_get *get)
{
    cubby_session *session = async->session;
    struct cubby_slice value = {0};
    session->message[0] = '\0';
    int status = lookup_key(session, &get->wanted, get_visit_value, &value, &session->counters);
    finish(async, get, status, value);
}

static void submit_read(struct cubby_async *async, struct async_get *get, enum read_state state,
                        uint64_t lba, uint64_t block_count, void *buffer)
{
    cubby_session *session = async->session;
    get->state = state;
    get->request = (struct block_request){
        .operation = BLOCK_READ,
        .block_count = (uint32_t)block_count,
        .lba = lba,
        .buffer = buffer,
    };
    struct session_counters *counters = &session->counters;
    uint64_t *const of_state[] = {
        [READ_HOME] = &counters->get_home_reads,
        [READ_SPILL] = &counters->get_spill_reads,
        [READ_BLOB] = &counters->get_blob_reads,
    };
    session_count(get->tries > 0 ? &counters->get_retry_reads : of_state[state], 1);
    int status = session->io->ops->submit(session->io, &get->request);
    if (status == 0) {
        async->has_unstarted = true;
        return;
    }
    session_fail(session, status, "submitting a read failed: %s", cubby_status_text(status));
    finish_without_value(async, get, status);
}

static void submit_block(struct cubby_async *async, struct async_get *get, enum read_state state,
                         uint32_t block_index)
{
    uint64_t lba = segment_lba(async->session->store, get->view.place) + block_index;
    submit_read(async, get, state, lba, 1, get->block);
}

/* Take a pair from memory. Returns whether that settles it. */
static bool take_from_memory(struct cubby_async *async, struct async_get *get)
{
    cubby_session *session = async->session;
    const struct wanted_key *wanted = &get->wanted;
    struct block_pair pair;
    enum dirty_state state = dirty_find(&session->store->dirty, wanted->key, wanted->key_size,
                                        wanted->hash, session->dirty_pair, &pair, &get->token);
    if (state == DIRTY_NOT) {
        return false;
    }
    if (state == DIRTY_TOMBSTONE) {
        finish_without_value(async, get, CUBBY_NOT_FOUND);
    } else if (pair.is_blob || pair.expires_ms != 0) {
        look_up(async, get); /* it has to be read, or its time looked at */
    } else {
        session_count(&session->counters.cache_hits, 1);
        finish(async, get, CUBBY_OK, (struct cubby_slice){pair.value, pair.value_size});
    }
    return true;
}

/* Begin a try: what is in memory; find the segment, read the home block. */
static void start(struct cubby_async *async, struct async_get *get)
{
    const cubby_store *store = async->session->store;
    uint64_t low_hash = get->wanted.hash.low;
    if (take_from_memory(async, get)) {
        return;
    }
    do {
        get->stripe = store_stripe(store, store_find_segment(store, low_hash).number);
        get->version = atomic_load(&get->stripe->version);
        /* Once more: what is read from here on is not older than the version. */
        get->view = store_find_segment(store, low_hash);
    } while (store_stripe(store, get->view.number) != get->stripe);
    submit_block(async, get, READ_HOME,
                 key_hash_home(get->wanted.hash, get->view.place.home_count));
}

static void again(struct cubby_async *async, struct async_get *get)
{
    if (++get->tries < TRIES) {
        start(async, get);
    } else {
        look_up(async, get);
    }
}

/* Whether the directory still has the key's segment where the try began. */
static bool is_in_place(const cubby_store *store, const struct async_get *get)
{
    struct segment_view now = store_find_segment(store, get->wanted.hash.low);
    return now.number == get->view.number && now.depth == get->view.depth &&
           descriptor_pack(now.place) == descriptor_pack(get->view.place);
}

/* Whether something may have been written between the reads of this try. */
static bool has_moved(const struct async_get *get)
{
    return atomic_load(&get->stripe->version) != get->version;
}

/* The home block, checked, does not have the pair: go on where it points to. */
static void follow_displaced(struct cubby_async *async, struct async_get *get)
{
    uint16_t fingerprint = key_hash_fingerprint(get->wanted.hash);
    uint32_t home_count = get->view.place.home_count;
    uint32_t spill_count = segment_block_count(home_count) - home_count;
    uint32_t match_count = 0;
    uint32_t spill_index = 0;
    for (uint32_t i = 0; i < block_displaced_count(get->block); i++) {
        if (block_displaced_fingerprint(get->block, i) == fingerprint) {
            match_count++;
            spill_index = block_displaced_spill(get->block, i);
        }
    }
    if (match_count == 0) {
        finish_without_value(async, get, CUBBY_NOT_FOUND);
    } else if (match_count > 1 || spill_index >= spill_count) {
        look_up(async, get);
    } else {
        submit_block(async, get, READ_SPILL, home_count + spill_index);
    }
}

/* A pair was found in get->block. */
static void take_pair(struct cubby_async *async, struct async_get *get)
{
    const struct block_pair *pair = &get->pair;
    if (!pair->is_blob) {
        dirty_admit(&async->session->store->dirty, get->wanted.hash, pair, get->token);
        finish(async, get, CUBBY_OK, (struct cubby_slice){pair->value, pair->value_size});
        return;
    }
    if (!blob_single_run(async->session->store, pair, &get->run)) {
        look_up(async, get);
        return;
    }
    uint64_t block_count = blob_run_blocks(&get->run);
    int status = aligned_buffer_reserve(&get->blob, block_count * BLOCK_BYTES);
    if (status != CUBBY_OK) {
        session_fail(async->session, status, "%s", cubby_status_text(status));
        finish_without_value(async, get, status);
        return;
    }
    submit_read(async, get, READ_BLOB, get->run.lba, block_count, get->blob.data);
}

/* A home or spill block has been read. */
static void complete_block(struct cubby_async *async, struct async_get *get)
{
    cubby_session *session = async->session;
    const struct wanted_key *wanted = &get->wanted;
    bool is_home = get->state == READ_HOME;
    uint32_t block_index =
        (uint32_t)(get->request.lba - segment_lba(session->store, get->view.place));
    int status = lookup_check_block(session, get->view, block_index, get->block);
    if (status == CUBBY_OK) {
        status = block_find(get->block, wanted->key, wanted->key_size, wanted->hash, &get->pair);
    }
    bool is_expired = status == CUBBY_OK && expiry_has_passed(session, &get->pair);
    if (status == CUBBY_CORRUPT || ((!is_home || is_expired) && has_moved(get))) {
        again(async, get);
    } else if (is_expired) {
        finish_without_value(async, get, CUBBY_NOT_FOUND);
    } else if (status == CUBBY_OK) {
        take_pair(async, get);
    } else if (is_home) {
        follow_displaced(async, get);
    } else {
        finish_without_value(async, get, CUBBY_NOT_FOUND); /* the match was another key's */
    }
}

static void complete_blob(struct cubby_async *async, struct async_get *get)
{
    const struct wanted_key *wanted = &get->wanted;
    const struct block_pair *pair = &get->pair;
    const uint8_t *bytes = get->blob.data;
    if (has_moved(get) || !blob_run_is_sound(async->session->store, &get->run, bytes)) {
        again(async, get);
    } else if (memcmp(bytes, wanted->key, wanted->key_size) != 0) {
        look_up(async, get); /* another key of the same hash */
    } else {
        finish(async, get, CUBBY_OK,
               (struct cubby_slice){bytes + pair->key_size, pair->value_size});
    }
}

static void complete(struct cubby_async *async, struct async_get *get)
{
    cubby_session *session = async->session;
    int status = get->request.result;
    if (!is_in_place(session->store, get) || status == CUBBY_CORRUPT) {
        again(async, get);
    } else if (status != 0) {
        session_fail(session, status, "reading LBA %llu failed: %s",
                     (unsigned long long)get->request.lba, cubby_status_text(status));
        finish_without_value(async, get, status);
    } else if (get->state == READ_BLOB) {
        complete_blob(async, get);
    } else {
        complete_block(async, get);
    }
}

/* Begin gets that wait, as far as there is room. */
static void start_waiting(struct cubby_async *async)
{
    while (async->first_waiting != NULL && async->free_count > 0 &&
           async->result_count + in_flight(async) < RESULTS_MAX) {
        struct get_batch *batch = async->first_waiting;
        struct async_get *get = async->free_gets[--async->free_count];
        uint32_t key_size = batch->key_sizes[batch->begun];
        get->batch = batch;
        get->tag = batch->tags[batch->begun];
        get->tries = 0;
        get->wanted = (struct wanted_key){
            .key = batch->next_key,
            .key_size = key_size,
            .hash = key_hash_of(batch->next_key, key_size, async->session->store->hash_seed),
        };
        batch->next_key += key_size;
        async->waiting--;
        if (++batch->begun == batch->count) {
            async->first_waiting = batch->next;
        }
        start(async, get);
    }
    if (async->has_unstarted) {
        struct page_io *io = async->session->io;
        io->ops->poll(io, NULL, 0);
        async->has_unstarted = false;
    }
}

/* Results that were handed out may go. */
static void drop_handed_out(struct cubby_async *async)
{
    if (async->is_handed_out) {
        async->is_handed_out = false;
        async->result_count = 0;
        async->value_bytes = 0;
        async->failed = 0;
        async->failure_count = 0;
    }
}

/* Have poll called if only we know that it has something to do. */
static void wake_if_needed(struct cubby_async *async)
{
    bool has_results = async->result_count > 0 && !async->is_handed_out;
    bool is_stuck = async->waiting > 0 && in_flight(async) == 0;
    if (!async->is_woken && (has_results || is_stuck)) {
        async->is_woken = true;
        event_raise(async->wake_fd);
    }
}

/* Copy what is submitted. Returns CUBBY_OK, CUBBY_BAD_ARGUMENT or ENOMEM. */
static int make_batch(cubby_session *session, size_t count, const uint8_t *keys,
                      const uint32_t *key_sizes, const uint64_t *tags, struct get_batch **result)
{
    size_t key_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        int status = session_check_key(session, keys + key_bytes, key_sizes[i]);
        if (status != CUBBY_OK) {
            return status;
        }
        key_bytes += key_sizes[i];
    }
    size_t tag_bytes = count * sizeof *tags;
    size_t size_bytes = count * sizeof *key_sizes;
    struct get_batch *batch = malloc(sizeof *batch + tag_bytes + size_bytes + key_bytes);
    if (batch == NULL) {
        return ENOMEM;
    }
    *batch = (struct get_batch){.count = count};
    batch->key_sizes = (uint32_t *)(void *)(batch->tags + count);
    batch->keys = (uint8_t *)(batch->key_sizes + count);
    batch->next_key = batch->keys;
    memcpy(batch->tags, tags, tag_bytes);
    memcpy(batch->key_sizes, key_sizes, size_bytes);
    memcpy(batch->keys, keys, key_bytes);
    *result = batch;
    return CUBBY_OK;
}

int cubby_async_submit(cubby_async *async, size_t count, const uint8_t *keys,
                       const uint32_t *key_sizes, const uint64_t *tags)
{
    CUBBY_ASSERT(async != NULL);
    CUBBY_ASSERT(count == 0 || (keys != NULL && key_sizes != NULL && tags != NULL));
    cubby_session *session = async->session;
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    drop_handed_out(async);
    if (count > 0) {
        struct get_batch *batch = NULL;
        status = make_batch(session, count, keys, key_sizes, tags, &batch);
        if (status == CUBBY_OK) {
            if (async->first_waiting == NULL) {
                async->first_waiting = batch;
            } else {
                async->last_waiting->next = batch;
            }
            async->last_waiting = batch;
            async->waiting += count;
            start_waiting(async);
        }
    }
    wake_if_needed(async);
    return session_leave(session, status);
}

int cubby_async_poll(cubby_async *async, struct cubby_completions *completions)
{
    CUBBY_ASSERT(async != NULL);
    CUBBY_ASSERT(completions != NULL);
    cubby_session *session = async->session;
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    drop_handed_out(async);
    if (async->is_woken) {
        async->is_woken = false;
        event_clear(async->wake_fd);
    }
    struct block_request *done[ASYNC_DEPTH];
    size_t done_count = session->io->ops->poll(session->io, done, ASYNC_DEPTH);
    for (size_t i = 0; i < done_count; i++) {
        complete(async, (struct async_get *)(void *)done[i]);
    }
    start_waiting(async);
    async->is_handed_out = true;
    *completions = (struct cubby_completions){
        .count = async->result_count,
        .tags = async->tags,
        .statuses = async->statuses,
        .value_sizes = async->value_sizes,
        .values = {session->many_values.data, async->value_bytes},
        .failed = async->failed,
        .in_flight = in_flight(async),
        .waiting = async->waiting,
    };
    wake_if_needed(async);
    return session_leave(session, CUBBY_OK);
}

void async_get_cancel(cubby_session *session)
{
    struct cubby_async *async = session->async;
    if (async == NULL) {
        return;
    }
    session->async = NULL;
    while (in_flight(async) > 0) {
        struct block_request *done[ASYNC_DEPTH];
        size_t done_count = session->io->ops->reap(session->io, done, ASYNC_DEPTH);
        CUBBY_ASSERT(done_count > 0);
        for (size_t i = 0; i < done_count; i++) {
            end_get(async, (struct async_get *)(void *)done[i]);
        }
    }
    while (async->first_waiting != NULL) {
        struct get_batch *batch = async->first_waiting;
        async->first_waiting = batch->next;
        free(batch);
    }
    event_raise(async->wake_fd);
}

/* Inside a call. */
static int prepare(struct cubby_async *async)
{
    cubby_session *session = async->session;
    int status = aligned_buffer_reserve(&session->blocks, (size_t)ASYNC_DEPTH * CUBBY_BLOCK_BYTES);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < ASYNC_DEPTH; i++) {
        async->gets[i].block = session->blocks.data + i * CUBBY_BLOCK_BYTES;
        async->free_gets[i] = &async->gets[i];
    }
    async->free_count = ASYNC_DEPTH;
    int queue_fd;
    status = session->io->ops->event_fd(session->io, ASYNC_DEPTH, &queue_fd);
    if (status == 0) {
        status = event_open(&async->wake_fd);
    }
    if (status == 0) {
        status = event_join(queue_fd, async->wake_fd, &async->event_fd);
    }
    if (status == 0) {
        session->async = async;
    }
    return status;
}

static void free_async(struct cubby_async *async)
{
    if (async->event_fd >= 0) {
        close(async->event_fd);
    }
    if (async->wake_fd >= 0) {
        close(async->wake_fd);
    }
    for (size_t i = 0; i < ASYNC_DEPTH; i++) {
        aligned_buffer_free(&async->gets[i].blob);
    }
    free(async->failures);
    free(async);
}

int cubby_async_open(cubby_store *store, cubby_async **result)
{
    CUBBY_ASSERT(store != NULL);
    CUBBY_ASSERT(result != NULL);
    struct cubby_async *async = calloc(1, sizeof *async);
    if (async == NULL) {
        return ENOMEM;
    }
    async->event_fd = async->wake_fd = -1;
    int status = cubby_session_open(store, &async->session);
    if (status != CUBBY_OK) {
        free_async(async);
        return status;
    }
    status = session_enter(async->session, false);
    if (status == CUBBY_OK) {
        status = session_leave(async->session, prepare(async));
    }
    if (status != CUBBY_OK) {
        cubby_session_close(async->session);
        free_async(async);
        return status;
    }
    *result = async;
    return CUBBY_OK;
}

void cubby_async_close(cubby_async *async)
{
    if (async == NULL || atomic_load(async->session->store->fork_guard) == 0) {
        return; /* in a child all of it is the parent's, the ring too */
    }
    cubby_session_close(async->session); /* cancels what is in flight */
    free_async(async);
}

int cubby_async_fd(const cubby_async *async)
{
    CUBBY_ASSERT(async != NULL);
    return async->event_fd;
}

const char *cubby_async_message(const cubby_async *async, size_t index)
{
    CUBBY_ASSERT(async != NULL);
    for (size_t i = 0; i < async->failure_count; i++) {
        if (async->failures[i].index == index) {
            return async->failures[i].message;
        }
    }
    return "";
}
