/* scan.c -- all pairs, in bit-reversed hash order, so that growth neither repeats nor skips one.
 *
 * Linear hashing gives a segment all hashes with certain low bits; seen in bit-reversed order these
 * are one range, which a split cuts in two and nothing else changes. A scan's position is a hash in
 * that order; it reads the segment that holds its position, whole, under the segment's lock, keeps
 * a copy, and goes on where that segment's range ends. Source: architecture 4.6.
 *
 *   cursor   low hash, bit-reversed: u64   high hash: u64   first 8 bytes of the store's id
 *            A scan that has ended is at the largest position.
 *
 * A blob is looked up by its key when its turn comes: it may have been replaced since. Where only
 * keys are wanted it is not, if its block holds its key. What is expired is left out of the copy;
 * what has expired since is looked up too: it may have been put again.
 *
 * Depends on: segment.h, lookup.h, blob.h, expiry.h.   Used by: users of cubby.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/changes.h"
#include "engine/store/expiry.h"
#include "engine/store/lookup.h"
#include "engine/store/segment_read.h"

enum {
    CURSOR_STORE_OFFSET = 16,
    CURSOR_STORE_BYTES = 8,
};
_Static_assert(CURSOR_STORE_OFFSET + CURSOR_STORE_BYTES == CUBBY_CURSOR_BYTES, "as drawn above");

/* A place in the scan's order. */
struct position {
    uint64_t reversed_low;
    uint64_t high;
};

struct cubby_scan {
    cubby_session *session;
    uint8_t *prefix;
    size_t prefix_size;
    struct position after; /* pairs up to here have been returned... */
    bool begun;            /* ... if anything has */
    uint64_t next_low;     /* where the segment in image ends, bit-reversed */
    bool at_end;           /* the segment in image is the last one */
    bool loaded;           /* image and pairs hold a segment */
    struct aligned_buffer image;
    struct change_list changes; /* its dirty pairs */
    struct segment_pairs pairs; /* of both, in order, from index on still to be returned */
    size_t index;
    uint64_t expires_ms; /* of the pair handed out last */
};

static struct position position_of(struct key_hash hash)
{
    return (struct position){.reversed_low = bit_reverse(hash.low), .high = hash.high};
}

static int compare_positions(struct position a, struct position b)
{
    if (a.reversed_low != b.reversed_low) {
        return a.reversed_low < b.reversed_low ? -1 : 1;
    }
    return (a.high > b.high) - (a.high < b.high);
}

static int compare_pairs(const void *a, const void *b)
{
    const struct segment_pair *left = a;
    const struct segment_pair *right = b;
    return compare_positions(position_of(left->hash), position_of(right->hash));
}

static int read_cursor(cubby_session *session, const uint8_t *cursor, struct cubby_scan *scan)
{
    if (memcmp(cursor + CURSOR_STORE_OFFSET, session->store->store_id, CURSOR_STORE_BYTES) != 0) {
        return session_fail(session, CUBBY_BAD_ARGUMENT, "the cursor is of another store");
    }
    scan->after = (struct position){.reversed_low = load_u64(cursor), .high = load_u64(cursor + 8)};
    scan->begun = true;
    scan->next_low = scan->after.reversed_low;
    return CUBBY_OK;
}

int cubby_scan_open(cubby_session *session, const uint8_t *prefix, size_t prefix_size,
                    const uint8_t *cursor, cubby_scan **result)
{
    CUBBY_ASSERT(result != NULL);
    CUBBY_ASSERT(prefix != NULL || prefix_size == 0);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    struct cubby_scan *scan = calloc(1, sizeof *scan);
    if (scan == NULL) {
        return session_leave(session, ENOMEM);
    }
    scan->session = session;
    scan->prefix_size = prefix_size;
    scan->prefix = malloc(prefix_size + 1);
    status = scan->prefix != NULL ? CUBBY_OK : ENOMEM;
    if (status == CUBBY_OK && prefix_size > 0) {
        memcpy(scan->prefix, prefix, prefix_size);
    }
    if (status == CUBBY_OK && cursor != NULL) {
        status = read_cursor(session, cursor, scan);
    }
    if (status != CUBBY_OK) {
        cubby_scan_close(scan);
        return session_leave(session, status);
    }
    *result = scan;
    return session_leave(session, CUBBY_OK);
}

/* Put the dirty pairs of the segment in the place of those on the device. */
static int overlay(struct cubby_scan *scan)
{
    struct segment_pairs *pairs = &scan->pairs;
    struct change_list *changes = &scan->changes;
    size_t kept = 0;
    changes_sort_by_hash(changes, 0);
    for (size_t i = 0; i < pairs->count && changes->count > 0; i++) {
        struct block_pair pair;
        bool decoded =
            block_pair_decode(pairs->pairs[i].encoded, pairs->pairs[i].encoded_size, &pair);
        CUBBY_ASSERT(decoded); /* segment_collect has checked it */
        if (changes_find(changes, 0, pairs->pairs[i].hash, &pair) == NULL) {
            pairs->pairs[kept++] = pairs->pairs[i];
        }
    }
    pairs->count = changes->count > 0 ? kept : pairs->count;
    int status = CUBBY_OK;
    for (size_t i = 0; i < changes->count && status == CUBBY_OK; i++) {
        const struct change *change = &changes->items[i];
        struct segment_pair added = {
            .hash = change->hash,
            .encoded = change_encoded(changes, change),
            .encoded_size = change->encoded_size,
        };
        status = change->is_tombstone ? CUBBY_OK : segment_pairs_add(pairs, added);
    }
    return status;
}

/* Load the segment at scan->next_low, and set that behind it. */
static int load_segment(struct cubby_scan *scan)
{
    cubby_store *store = scan->session->store;
    scan->loaded = false; /* a failure leaves parts of it */
    struct segment_view view = store_lock_segment(store, bit_reverse(scan->next_low));
    changes_clear(&scan->changes);
    /* What is dirty first: as long as the lock is held none of it becomes clean. */
    const struct change_filter filter = {.before_lsn = UINT64_MAX};
    int status = changes_collect(scan->session, view, &filter, &scan->changes);
    if (status == CUBBY_OK) {
        status = segment_read(scan->session, view, &scan->image, &scan->pairs);
    }
    if (status == CUBBY_OK) {
        status = overlay(scan);
    }
    if (status == CUBBY_OK) {
        struct dropped_pairs left_out = {0};
        /* Under the lock: none of them is put anew before the clock is asked. */
        status = expiry_drop_from_pairs(scan->session, &scan->pairs, &left_out);
        expiry_forget(&left_out);
    }
    store_unlock_segment(store, view.number);
    if (status != CUBBY_OK) {
        return status;
    }
    /* The segment's number, bit-reversed, is where its range begins; its depth says how wide it is.
     */
    uint64_t begin = bit_reverse(view.number);
    uint64_t width = view.depth == 0 ? 0 : UINT64_C(1) << (64 - view.depth);
    scan->next_low = begin + width;
    scan->at_end = scan->next_low == 0; /* wrapped round */
    scan->loaded = true;
    if (scan->pairs.count > 0) {
        qsort(scan->pairs.pairs, scan->pairs.count, sizeof *scan->pairs.pairs, compare_pairs);
    }
    scan->index = 0;
    while (scan->begun && scan->index < scan->pairs.count &&
           compare_positions(position_of(scan->pairs.pairs[scan->index].hash), scan->after) <= 0) {
        scan->index++;
    }
    return CUBBY_OK;
}

/* A pair as it is now; a blob's key comes from the blob itself. */
struct pair_result {
    struct cubby_slice *key;
    struct cubby_slice *value;
    uint64_t expires_ms;
};

static int visit_pair(cubby_session *session, const struct block_pair *pair, void *state)
{
    struct pair_result *result = state;
    if (!pair->is_blob) {
        result->key->data = pair->key;
        result->value->data = pair->value;
    } else {
        int status = blob_read(session, pair);
        if (status != CUBBY_OK) {
            return status;
        }
        result->key->data = session->value.data;
        result->value->data = session->value.data + pair->key_size;
    }
    result->expires_ms = pair->expires_ms;
    result->key->size = pair->key_size;
    result->value->size = pair->value_size;
    return CUBBY_OK;
}

static bool has_prefix(const struct cubby_scan *scan, const uint8_t *key, size_t key_size)
{
    return key_size >= scan->prefix_size && memcmp(key, scan->prefix, scan->prefix_size) == 0;
}

/* Give out one pair of the copy; without its value where value is NULL. Returns CUBBY_NOT_FOUND if
 * it is not to be returned. */
static int give_pair(struct cubby_scan *scan, const struct segment_pair *copied,
                     struct cubby_slice *key, struct cubby_slice *value)
{
    struct block_pair pair;
    bool decoded = block_pair_decode(copied->encoded, copied->encoded_size, &pair);
    CUBBY_ASSERT(decoded); /* segment_collect has checked it */
    if (pair.key != NULL && !has_prefix(scan, pair.key, pair.key_size)) {
        return CUBBY_NOT_FOUND;
    }
    bool is_here = !pair.is_blob || (value == NULL && pair.key != NULL);
    if (is_here && !expiry_has_passed(scan->session, &pair)) {
        *key = (struct cubby_slice){.data = pair.key, .size = pair.key_size};
        if (value != NULL) {
            *value = (struct cubby_slice){.data = pair.value, .size = pair.value_size};
        }
        scan->expires_ms = pair.expires_ms;
        return CUBBY_OK;
    }
    struct cubby_slice unwanted;
    struct pair_result result = {.key = key, .value = value != NULL ? value : &unwanted};
    struct wanted_key wanted = {.key = pair.key, .key_size = pair.key_size, .hash = copied->hash};
    struct session_counters uncounted = {0}; /* a scan is no get */
    int status = lookup_key(scan->session, &wanted, visit_pair, &result, &uncounted);
    if (status == CUBBY_OK && pair.key == NULL && !has_prefix(scan, key->data, key->size)) {
        return CUBBY_NOT_FOUND;
    }
    if (status == CUBBY_OK) {
        scan->expires_ms = result.expires_ms;
    }
    return status;
}

static int next_pair(struct cubby_scan *scan, struct cubby_slice *key, struct cubby_slice *value)
{
    for (;;) {
        if (!scan->loaded || scan->index == scan->pairs.count) {
            if (scan->at_end) {
                return CUBBY_NOT_FOUND;
            }
            uint64_t begin_ns = store_now_ns(scan->session->store);
            int status = load_segment(scan);
            session_note_latency(scan->session, CUBBY_OPERATION_SCAN, begin_ns);
            if (status != CUBBY_OK) {
                return status;
            }
            continue;
        }
        const struct segment_pair *pair = &scan->pairs.pairs[scan->index];
        int status = give_pair(scan, pair, key, value);
        if (status != CUBBY_OK && status != CUBBY_NOT_FOUND) {
            return status;
        }
        scan->index++;
        scan->after = position_of(pair->hash);
        scan->begun = true;
        if (status == CUBBY_OK) {
            return CUBBY_OK;
        }
    }
}

int cubby_scan_next(cubby_scan *scan, struct cubby_slice *key, struct cubby_slice *value)
{
    CUBBY_ASSERT(scan != NULL);
    CUBBY_ASSERT(key != NULL);
    int status = session_enter(scan->session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    struct cubby_slice found_key;
    struct cubby_slice found_value;
    status = next_pair(scan, &found_key, value != NULL ? &found_value : NULL);
    if (status == CUBBY_OK) {
        *key = found_key;
        if (value != NULL) {
            *value = found_value;
        }
    }
    return session_leave(scan->session, status);
}

uint64_t cubby_scan_expiry(const cubby_scan *scan)
{
    CUBBY_ASSERT(scan != NULL);
    return scan->expires_ms;
}

void cubby_scan_cursor(const cubby_scan *scan, uint8_t *cursor)
{
    CUBBY_ASSERT(scan != NULL);
    CUBBY_ASSERT(cursor != NULL);
    struct position position = scan->after;
    if (scan->at_end && scan->index == scan->pairs.count) {
        position = (struct position){.reversed_low = UINT64_MAX, .high = UINT64_MAX};
    }
    store_u64(cursor, position.reversed_low);
    store_u64(cursor + 8, position.high);
    memcpy(cursor + CURSOR_STORE_OFFSET, scan->session->store->store_id, CURSOR_STORE_BYTES);
}

void cubby_scan_close(cubby_scan *scan)
{
    if (scan == NULL) {
        return;
    }
    free(scan->prefix);
    segment_pairs_free(&scan->pairs);
    changes_free(&scan->changes);
    aligned_buffer_free(&scan->image);
    free(scan);
}
