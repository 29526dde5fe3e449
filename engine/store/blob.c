/* blob.c -- see blob.h. */
#include "engine/store/blob.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/simulator.h"
#include "engine/store/space.h"

enum {
    DIRECT_BYTES_MAX = BLOB_DIRECT_BLOCKS_MAX * BLOCK_BYTES,
    RUN_BYTES_MAX = BLOB_RUN_EXTENTS_MAX * EXTENT_BYTES,
    /* 2 GiB in single extents: no honest blob has more index blocks. */
    INDEX_BLOCKS_MAX = 32768 / BLOB_INDEX_RUNS_MAX + 1,
};

static uint64_t blocks_of(uint64_t byte_count)
{
    return divide_up(byte_count, BLOCK_BYTES);
}

void blob_runs_free(struct blob_runs *runs)
{
    free(runs->runs);
    *runs = (struct blob_runs){0};
}

static int add_run(struct blob_runs *runs, struct blob_run run)
{
    struct blob_run *grown =
        growing_array_reserve(runs->runs, &runs->capacity, runs->count + 1, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    runs->runs = grown;
    runs->runs[runs->count++] = run;
    return CUBBY_OK;
}

/* Give back blocks that were taken, and perhaps written, but never named by a pair. */
static void untake_run(cubby_session *session, const struct blob_run *run)
{
    uint64_t block_count = blocks_of(run->byte_count);
    store_discard(session, run->lba, block_count);
    extents_untake_granules(&session->store->extents, run->lba, block_count);
}

static void untake_runs(cubby_session *session, const struct blob_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++) {
        untake_run(session, &runs->runs[i]);
    }
}

void blob_name_locked(cubby_store *store, const struct blob_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++) {
        extents_name_run_locked(&store->extents, runs->runs[i].lba,
                                blocks_of(runs->runs[i].byte_count));
    }
}

/* Copy bytes [offset, offset + size) of key and value end to end, zero-padded to whole blocks. */
static void copy_part(const struct pair_content *content, uint64_t offset, uint64_t size,
                      uint8_t *to)
{
    uint64_t key_part = 0;
    if (offset < content->key_size) {
        key_part = content->key_size - offset < size ? content->key_size - offset : size;
        memcpy(to, content->key + offset, key_part);
    }
    if (size > key_part) {
        memcpy(to + key_part, content->value + (offset + key_part - content->key_size),
               size - key_part);
    }
    memset(to + size, 0, blocks_of(size) * BLOCK_BYTES - size);
}

static int write_part(cubby_session *session, const struct pair_content *content, uint64_t offset,
                      struct blob_run *run)
{
    copy_part(content, offset, run->byte_count, session->work.data);
    run->checksum =
        checksum_of(session->work.data, run->byte_count, run->lba, session->store->secret);
    return session->io->ops->write(session->io, run->lba, blocks_of(run->byte_count),
                                   session->work.data);
}

static int write_direct(cubby_session *session, struct pair_content *content, uint64_t byte_count,
                        struct blob_runs *runs)
{
    cubby_store *store = session->store;
    struct blob_run run = {.byte_count = byte_count};
    int status = extents_take_granules(&store->extents, (uint32_t)blocks_of(byte_count),
                                       store_reserved_extents(store), &run.lba);
    if (status != CUBBY_OK) {
        return status;
    }
    SIMULATOR_POINT(BLOB_BEFORE_WRITE);
    status = write_part(session, content, 0, &run);
    if (status == 0) {
        status = add_run(runs, run);
    }
    if (status != 0) {
        untake_run(session, &run);
        return status;
    }
    content->blob_lba = run.lba;
    content->blob_checksum = run.checksum;
    return CUBBY_OK;
}

/* Take space for the next run of a large blob, of whole extents while that many bytes are left. */
static int take_run(cubby_store *store, uint64_t bytes_left, struct blob_run *run)
{
    uint64_t reserve = store_reserved_extents(store);
    uint64_t extents = bytes_left / EXTENT_BYTES;
    if (extents == 0) {
        run->byte_count = bytes_left;
        return extents_take_granules(&store->extents, (uint32_t)blocks_of(bytes_left), reserve,
                                     &run->lba);
    }
    extents = extents < BLOB_RUN_EXTENTS_MAX ? extents : BLOB_RUN_EXTENTS_MAX;
    if (space_may_refuse(store, extents * EXTENT_BYTES)) {
        extents = 1; /* not far past the mark */
    }
    int status = extents_take_for_blob(&store->extents, &extents, reserve, &run->lba);
    run->byte_count = extents * EXTENT_BYTES;
    return status;
}

static int write_data_runs(cubby_session *session, const struct pair_content *content,
                           uint64_t byte_count, bool grows, struct blob_runs *runs)
{
    for (uint64_t offset = 0; offset < byte_count;) {
        struct blob_run run;
        space_note_writes(session);
        int status = space_admit(session, grows);
        if (status != CUBBY_OK && space_make_room(session)) {
            status = space_admit(session, grows);
        }
        if (status == CUBBY_OK) {
            status = take_run(session->store, byte_count - offset, &run);
        }
        if (status != CUBBY_OK) {
            return status;
        }
        status = add_run(runs, run);
        if (status != CUBBY_OK) {
            untake_run(session, &run);
            return status;
        }
        status = write_part(session, content, offset, &runs->runs[runs->count - 1]);
        if (status != 0) {
            return status;
        }
        offset += run.byte_count;
    }
    runs->data_count = runs->count;
    return CUBBY_OK;
}

/* Fill in one index block and write it. first_run counts data runs. */
static int write_index_block(cubby_session *session, const struct blob_runs *runs, size_t first_run,
                             uint64_t lba, uint64_t next_lba, uint64_t *checksum)
{
    uint8_t *block = session->work.data;
    memset(block, 0, BLOCK_BYTES);
    store_u64(block + 8, next_lba);
    store_u32(block + 16, BLOB_INDEX_MAGIC);
    size_t left = runs->data_count - first_run;
    size_t count = left < BLOB_INDEX_RUNS_MAX ? left : BLOB_INDEX_RUNS_MAX;
    store_u32(block + 20, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        uint8_t *entry = block + BLOB_INDEX_HEADER_BYTES + i * BLOB_INDEX_RUN_BYTES;
        store_u64(entry, runs->runs[first_run + i].lba);
        store_u64(entry + 8, runs->runs[first_run + i].checksum);
        store_u64(entry + 16, runs->runs[first_run + i].byte_count);
    }
    *checksum = checksum_of(block + 8, BLOCK_BYTES - 8, lba, session->store->secret);
    store_u64(block, *checksum);
    return session->io->ops->write(session->io, lba, 1, block);
}

static int write_index(cubby_session *session, struct pair_content *content, struct blob_runs *runs)
{
    cubby_store *store = session->store;
    size_t blocks = divide_up(runs->data_count, BLOB_INDEX_RUNS_MAX);
    CUBBY_ASSERT(blocks <= INDEX_BLOCKS_MAX);
    for (size_t i = 0; i < blocks; i++) {
        struct blob_run block = {.byte_count = BLOCK_BYTES};
        int status =
            extents_take_granules(&store->extents, 1, store_reserved_extents(store), &block.lba);
        if (status != CUBBY_OK) {
            return status;
        }
        status = add_run(runs, block);
        if (status != CUBBY_OK) {
            untake_run(session, &block);
            return status;
        }
    }
    uint64_t next_lba = 0;
    for (size_t i = blocks; i-- > 0;) {
        uint64_t lba = runs->runs[runs->data_count + i].lba;
        int status = write_index_block(session, runs, i * BLOB_INDEX_RUNS_MAX, lba, next_lba,
                                       &content->blob_checksum);
        if (status != 0) {
            return status;
        }
        next_lba = lba;
    }
    content->blob_lba = next_lba;
    return CUBBY_OK;
}

int blob_write(cubby_session *session, struct pair_content *content, bool grows,
               struct blob_runs *runs)
{
    CUBBY_ASSERT(content->is_blob);
    CUBBY_ASSERT(runs->count == 0);
    uint64_t byte_count = (uint64_t)content->key_size + content->value_size;
    int status = aligned_buffer_reserve(&session->work, RUN_BYTES_MAX);
    if (status != CUBBY_OK) {
        return status;
    }
    if (byte_count <= DIRECT_BYTES_MAX) {
        status = write_direct(session, content, byte_count, runs);
    } else {
        status = write_data_runs(session, content, byte_count, grows, runs);
        if (status == CUBBY_OK) {
            status = write_index(session, content, runs);
        }
        if (status != CUBBY_OK) {
            untake_runs(session, runs);
        }
    }
    if (status != CUBBY_OK) {
        blob_runs_free(runs);
    }
    SIMULATOR_POINT(BLOB_AFTER_WRITE);
    return status;
}

void blob_untake(cubby_session *session, struct blob_runs *runs)
{
    untake_runs(session, runs);
    blob_runs_free(runs);
}

/* Read one index block and add its runs. *next_lba and *checksum are of the block to read, then of
 * the next; *bytes_left goes down by what the runs hold. */
static int list_index_block(cubby_session *session, uint64_t *next_lba, uint64_t *bytes_left,
                            uint8_t *block, struct blob_runs *runs)
{
    const cubby_store *store = session->store;
    uint64_t lba = *next_lba;
    if (!extents_contain(&store->extents, lba, 1)) {
        return CUBBY_CORRUPT;
    }
    session->blob_reads++;
    int status = session->io->ops->read(session->io, lba, 1, block);
    if (status != 0) {
        return session_fail(session, status, "reading the blob's index at LBA %llu failed: %s",
                            (unsigned long long)lba, cubby_status_text(status));
    }
    uint32_t count = load_u32(block + 20);
    if (load_u32(block + 16) != BLOB_INDEX_MAGIC ||
        load_u64(block) != checksum_of(block + 8, BLOCK_BYTES - 8, lba, store->secret) ||
        count == 0 || count > BLOB_INDEX_RUNS_MAX) {
        return CUBBY_CORRUPT;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *entry = block + BLOB_INDEX_HEADER_BYTES + i * BLOB_INDEX_RUN_BYTES;
        struct blob_run run = {
            .lba = load_u64(entry),
            .checksum = load_u64(entry + 8),
            .byte_count = load_u64(entry + 16),
        };
        bool whole = run.byte_count % EXTENT_BYTES == 0 || run.byte_count == *bytes_left;
        if (run.byte_count == 0 || run.byte_count > RUN_BYTES_MAX || run.byte_count > *bytes_left ||
            !whole || !extents_contain(&store->extents, run.lba, blocks_of(run.byte_count))) {
            return CUBBY_CORRUPT;
        }
        *bytes_left -= run.byte_count;
        status = add_run(runs, run);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    *next_lba = load_u64(block + 8);
    return CUBBY_OK;
}

/* Whether a run lies inside one extent of the store. */
static bool fits_extent(const cubby_store *store, const struct blob_run *run)
{
    uint64_t block_count = blob_run_blocks(run);
    return run->byte_count > 0 && extents_contain(&store->extents, run->lba, block_count) &&
           (run->lba - store->extents.first_lba) % EXTENT_BLOCKS + block_count <= EXTENT_BLOCKS;
}

bool blob_single_run(const cubby_store *store, const struct block_pair *pair, struct blob_run *run)
{
    CUBBY_ASSERT(pair->is_blob);
    *run = (struct blob_run){pair->blob_lba, pair->blob_checksum, blob_bytes(pair)};
    return run->byte_count <= DIRECT_BYTES_MAX && fits_extent(store, run);
}

bool blob_run_is_sound(const cubby_store *store, const struct blob_run *run, const uint8_t *bytes)
{
    return checksum_of(bytes, run->byte_count, run->lba, store->secret) == run->checksum;
}

int blob_list(cubby_session *session, uint64_t lba, uint64_t byte_count, uint64_t checksum,
              struct blob_runs *runs)
{
    if (byte_count <= DIRECT_BYTES_MAX) {
        struct blob_run run = {.lba = lba, .checksum = checksum, .byte_count = byte_count};
        if (!fits_extent(session->store, &run)) {
            return CUBBY_CORRUPT;
        }
        runs->data_count = 1;
        return add_run(runs, run);
    }
    uint64_t index_lbas[INDEX_BLOCKS_MAX];
    size_t index_count = 0;
    uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (block == NULL) {
        return ENOMEM;
    }
    int status = CUBBY_OK;
    uint64_t bytes_left = byte_count;
    while (status == CUBBY_OK && bytes_left > 0) {
        if (index_count == INDEX_BLOCKS_MAX) {
            status = CUBBY_CORRUPT;
            break;
        }
        index_lbas[index_count++] = lba;
        status = list_index_block(session, &lba, &bytes_left, block, runs);
        if (status == CUBBY_OK && index_count == 1 && load_u64(block) != checksum) {
            status = CUBBY_CORRUPT; /* an index of another blob */
        }
    }
    free(block);
    runs->data_count = runs->count;
    for (size_t i = 0; status == CUBBY_OK && i < index_count; i++) {
        status = add_run(runs, (struct blob_run){.lba = index_lbas[i], .byte_count = BLOCK_BYTES});
    }
    return status;
}

/* Read data runs into session->value until at least byte_count bytes are there. */
static int read_runs(cubby_session *session, const struct blob_runs *runs, uint64_t byte_count)
{
    const cubby_store *store = session->store;
    uint64_t offset = 0;
    for (size_t i = 0; i < runs->data_count && offset < byte_count; i++) {
        const struct blob_run *run = &runs->runs[i];
        uint64_t block_count = blocks_of(run->byte_count);
        int status =
            aligned_buffer_extend(&session->value, offset, offset + block_count * BLOCK_BYTES);
        if (status != CUBBY_OK) {
            return status;
        }
        uint8_t *to = session->value.data + offset;
        session->blob_reads++;
        status = session->io->ops->read(session->io, run->lba, block_count, to);
        if (status != 0) {
            return session_fail(session, status, "reading the blob at LBA %llu failed: %s",
                                (unsigned long long)run->lba, cubby_status_text(status));
        }
        if (!blob_run_is_sound(store, run, to)) {
            session->damaged_lba = run->lba;
            return session_fail(session, CUBBY_CORRUPT,
                                "the blob at LBA %llu is damaged: its checksum does not match",
                                (unsigned long long)run->lba);
        }
        offset += run->byte_count;
    }
    return CUBBY_OK;
}

static int list_and_read(cubby_session *session, const struct block_pair *pair, uint64_t byte_count)
{
    struct blob_runs runs = {0};
    int status = blob_list(session, pair->blob_lba, blob_bytes(pair), pair->blob_checksum, &runs);
    if (status == CUBBY_CORRUPT) {
        session->damaged_lba = pair->blob_lba;
        session_fail(session, status, "the blob at LBA %llu is damaged: its index does not fit",
                     (unsigned long long)pair->blob_lba);
    }
    if (status == CUBBY_OK && byte_count == blob_bytes(pair)) {
        /* Of a large blob the whole size is known: no growing piece by piece. */
        status = aligned_buffer_reserve(&session->value, blocks_of(byte_count) * BLOCK_BYTES);
    }
    if (status == CUBBY_OK) {
        status = read_runs(session, &runs, byte_count);
    }
    blob_runs_free(&runs);
    return status;
}

int blob_read(cubby_session *session, const struct block_pair *pair)
{
    CUBBY_ASSERT(pair->is_blob);
    return list_and_read(session, pair, blob_bytes(pair));
}

int blob_compare_key(cubby_session *session, const struct block_pair *pair, const uint8_t *key,
                     size_t key_size)
{
    CUBBY_ASSERT(pair->is_blob);
    CUBBY_ASSERT(pair->key_size == key_size);
    int status = list_and_read(session, pair, key_size);
    if (status != CUBBY_OK) {
        return status;
    }
    return memcmp(session->value.data, key, key_size) == 0 ? CUBBY_OK : CUBBY_NOT_FOUND;
}

bool blob_own(cubby_session *session, const struct block_pair *pair, struct blob_runs *runs)
{
    char message[sizeof session->message];
    memcpy(message, session->message, sizeof message); /* of another pair's failure */
    int status = blob_list(session, pair->blob_lba, blob_bytes(pair), pair->blob_checksum, runs);
    if (status == CUBBY_OK && runs->count == 1) {
        status = blob_read(session, pair);
    }
    memcpy(session->message, message, sizeof message);
    return status == CUBBY_OK;
}
