/* check.c -- cubby_check: read everything, compare all with all. See check.h.
 *
 * Depends on: check.h, superblock.h, checkpoint.h, writeback.h.   Used by: users of cubby.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/check.h"
#include "engine/store/checkpoint.h"
#include "engine/store/writeback.h"

enum {
    CHUNK_BLOCKS = 256,
};

void check_report(struct check_list *list, uint64_t lba, uint64_t segment, const char *format, ...)
{
    if (list->count < list->capacity) {
        struct cubby_damage *damage = &list->damages[list->count];
        damage->lba = lba;
        damage->segment = segment;
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(damage->text, sizeof damage->text, format, arguments);
        va_end(arguments);
    }
    list->count++;
}

void check_note_done(struct check *check, uint64_t block_count)
{
    atomic_fetch_add_explicit(&check->session->store->check_done, block_count,
                              memory_order_relaxed);
}

void check_read_each(struct check *check, uint64_t lba, uint64_t block_count, uint8_t *buffer)
{
    struct page_io *io = check->session->io;
    for (uint64_t i = 0; i < block_count; i++) {
        uint8_t *block = buffer + i * BLOCK_BYTES;
        if (io->ops->read(io, lba + i, 1, block) != 0) {
            memset(block, 0, BLOCK_BYTES);
        }
    }
}

const char *check_block_reason(struct check *check, uint64_t lba, const char *reason)
{
    struct page_io *io = check->session->io;
    int status = io->ops->read(io, lba, 1, check->session->home);
    return status != 0 ? cubby_status_text(status) : reason;
}

/* What is wrong with a superblock that is sound by itself, or NULL. */
static const char *compare_superblock(const cubby_store *store, const struct superblock *found,
                                      bool is_current)
{
    const struct superblock *own = &store->super;
    if (memcmp(found->store_id, own->store_id, sizeof own->store_id) != 0 ||
        found->hash_seed != own->hash_seed || found->secret != own->secret) {
        return "it is another store's";
    }
    if (atomic_load(&store->poisoned)) {
        return NULL; /* it is not known which have been written */
    }
    if (!is_current) {
        return found->generation + 1 != own->generation ? "it is not the one before the other"
                                                        : NULL;
    }
    /* A recovery that may not write goes on with what is not on the device. */
    bool is_as_read = atomic_load(&store->in_use) || !store->recovered;
    bool differs = found->lsn != own->lsn || found->log_run != own->log_run ||
                   found->log_start != own->log_start ||
                   found->checkpoint_generation != own->checkpoint_generation ||
                   found->segment_count != own->segment_count ||
                   found->run_count != own->run_count ||
                   memcmp(found->runs, own->runs, own->run_count * sizeof own->runs[0]) != 0;
    return found->generation != own->generation || (is_as_read && differs)
               ? "it is not the one that was written last"
               : NULL;
}

static void check_superblocks(struct check *check)
{
    cubby_session *session = check->session;
    const cubby_store *store = session->store;
    for (uint64_t lba = 0; lba < SUPERBLOCK_COUNT; lba++) {
        struct superblock super;
        const char *reason;
        int status = superblock_read_copy(session->io, lba, store->device->geometry.block_count,
                                          &super, session->home, &reason);
        if (status == CUBBY_OK) {
            reason = compare_superblock(store, &super,
                                        lba == store->super.generation % SUPERBLOCK_COUNT);
        }
        if (reason != NULL) {
            check_report(&check->found, lba, UINT64_MAX, "superblock %llu is damaged: %s",
                         (unsigned long long)lba, reason);
            check->bad_superblocks[lba] = true;
        }
        check_note_done(check, 1);
    }
}

/* Some blocks of the checkpoint. */
static void check_checkpoint_blocks(struct check *check, uint64_t lba, uint64_t count,
                                    uint64_t stream_block, uint8_t *buffer)
{
    cubby_session *session = check->session;
    if (session->io->ops->read(session->io, lba, count, buffer) != 0) {
        check_read_each(check, lba, count, buffer);
    }
    for (uint64_t i = 0; i < count; i++) {
        const char *reason = checkpoint_check_block(session->store, buffer + i * BLOCK_BYTES,
                                                    lba + i, stream_block + i);
        if (reason != NULL) {
            check_report(&check->found, lba + i, UINT64_MAX, "checkpoint block %llu is damaged: %s",
                         (unsigned long long)(stream_block + i),
                         check_block_reason(check, lba + i, reason));
            check->bad_checkpoint = true;
        }
    }
    check_note_done(check, count);
}

static int check_checkpoint(struct check *check)
{
    const cubby_store *store = check->session->store;
    const struct superblock *super = &store->super;
    struct aligned_buffer buffer = {0};
    int status = aligned_buffer_reserve(&buffer, (size_t)CHUNK_BLOCKS * BLOCK_BYTES);
    uint64_t stream_block = 0;
    for (uint32_t i = 0; i < super->run_count && status == CUBBY_OK; i++) {
        uint64_t lba = extent_lba(&store->extents, super->runs[i].first_extent);
        uint64_t left = super->runs[i].extent_count * EXTENT_BLOCKS;
        if (!check_claim(check, lba, left, UINT64_MAX, "the checkpoint")) {
            continue;
        }
        while (left > 0) {
            uint64_t count = left < CHUNK_BLOCKS ? left : CHUNK_BLOCKS;
            check_checkpoint_blocks(check, lba, count, stream_block, buffer.data);
            lba += count;
            left -= count;
            stream_block += count;
        }
    }
    aligned_buffer_free(&buffer);
    return status;
}

static void check_sums(struct check *check)
{
    cubby_store *store = check->session->store;
    uint64_t pair_count = atomic_load(&store->pair_count);
    uint64_t pair_bytes = atomic_load(&store->pair_bytes);
    uint64_t blob_count = atomic_load(&store->blob_count);
    if (check->is_uncounted ||
        (check->pair_count == pair_count && check->pair_bytes == pair_bytes &&
         check->blob_count == blob_count)) {
        return;
    }
    check_report(&check->found, 0, UINT64_MAX,
                 "the store holds %llu pairs of %llu bytes, %llu of them blobs, but counts %llu, "
                 "%llu, %llu",
                 (unsigned long long)check->pair_count, (unsigned long long)check->pair_bytes,
                 (unsigned long long)check->blob_count, (unsigned long long)pair_count,
                 (unsigned long long)pair_bytes, (unsigned long long)blob_count);
    check->bad_sums = true;
}

/* How many blocks there are to be looked at. */
static uint64_t count_blocks(const cubby_store *store)
{
    const struct extents *extents = &store->extents;
    uint64_t count = SUPERBLOCK_COUNT;
    uint64_t segment_count = atomic_load(&store->directory.segment_count);
    for (uint32_t i = 0; i < store->super.run_count; i++) {
        count += store->super.runs[i].extent_count * EXTENT_BLOCKS;
    }
    for (uint64_t i = 0; i < segment_count; i++) {
        count += segment_block_count(directory_get(&store->directory, i).home_count);
    }
    for (uint64_t i = extents->blob_end; i < extents->extent_count; i++) {
        count += (unsigned)__builtin_popcount(extents_named_granules_locked(extents, i));
    }
    return atomic_load(&store->in_use) ? count + log_used(&store->log) / BLOCK_BYTES : count;
}

int check_run(struct check *check)
{
    cubby_store *store = check->session->store;
    uint64_t extent_count = store->extents.extent_count; /* it does not grow now */
    check->claims = calloc(extent_count, sizeof *check->claims);
    check->blob_claims = calloc(extent_count, sizeof *check->blob_claims);
    if (check->claims == NULL || check->blob_claims == NULL) {
        return ENOMEM;
    }
    pthread_mutex_lock(&store->checkpoint_lock);
    atomic_store(&store->check_done, 0);
    atomic_store(&store->check_total, count_blocks(store));
    check_superblocks(check);
    int status = check_checkpoint(check);
    if (status == CUBBY_OK) {
        status = check_log(check);
    }
    if (status == CUBBY_OK) {
        status = check_segments(check);
    }
    if (status == CUBBY_OK) {
        status = check_claim_dirty(check);
    }
    if (status == CUBBY_OK) {
        check_space(check);
        check_sums(check);
    }
    atomic_store(&store->check_total, 0);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return status;
}

void check_free(struct check *check)
{
    aligned_buffer_free(&check->blobs.buffer);
    free(check->payloads);
    free(check->claims);
    free(check->blob_claims);
}

bool check_is_mendable(const struct check *check)
{
    bool is_mendable = check->bad_checkpoint || check->bad_log || check->bad_sums ||
                       check->payload_count > 0 || check->bad_space;
    for (int i = 0; i < SUPERBLOCK_COUNT; i++) {
        is_mendable = is_mendable || check->bad_superblocks[i];
    }
    return is_mendable;
}

void check_prepare(cubby_session *session)
{
    cubby_store *store = session->store;
    if (!store->read_only && !atomic_load(&store->poisoned) && atomic_load(&store->degraded) == 0) {
        /* What cannot be written back is looked at in memory. */
        (void)writeback_drain(session);
        session->message[0] = '\0';
    }
}

int cubby_check(cubby_session *session, struct cubby_damage *damages, size_t capacity,
                size_t *count)
{
    CUBBY_ASSERT(damages != NULL || capacity == 0);
    CUBBY_ASSERT(count != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    struct check check = {.session = session, .found = {.damages = damages, .capacity = capacity}};
    session_keep_writers_out(session);
    check_prepare(session);
    if (session->store->region != NULL) {
        page_io_region_drop(session->store->region); /* it is the device that is to be checked */
    }
    status = check_run(&check);
    session_let_writers_in(session);
    if (status == CUBBY_OK) {
        *count = check.found.count;
    }
    check_free(&check);
    return session_leave(session, status);
}

int cubby_check_progress(cubby_session *session, uint64_t *done, uint64_t *total)
{
    CUBBY_ASSERT(done != NULL);
    CUBBY_ASSERT(total != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    cubby_store *store = session->store;
    uint64_t all = atomic_load(&store->check_total);
    uint64_t some = atomic_load_explicit(&store->check_done, memory_order_relaxed);
    *done = some < all ? some : all; /* what is damaged may be counted twice */
    *total = all;
    return session_leave(session, CUBBY_OK);
}
