/* log_read.c -- see log_read.h. */
#include "engine/store/log_read.h"

#include <errno.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/simulator.h"

enum {
    CHUNK_BLOCKS = 64,
};

static uint64_t block_of(uint64_t lsn)
{
    return lsn / BLOCK_BYTES * BLOCK_BYTES;
}

int log_reader_open(struct log_reader *reader, cubby_session *session, uint64_t run, uint64_t from)
{
    *reader = (struct log_reader){
        .session = session,
        .log = &session->store->log,
        .run = run,
        .from = from,
        .lsn = block_of(from),
        .limit = block_of(from) + log_capacity(&session->store->log),
        .block_lsn = UINT64_MAX,
    };
    return aligned_buffer_reserve(&reader->chunk, (size_t)CHUNK_BLOCKS * BLOCK_BYTES);
}

void log_reader_close(struct log_reader *reader)
{
    aligned_buffer_free(&reader->chunk);
}

/* Have the block of an LSN in memory. */
static int load(struct log_reader *reader, uint64_t lsn, const uint8_t **block)
{
    const struct log *log = reader->log;
    uint64_t end = reader->chunk_lsn + reader->chunk_blocks * BLOCK_BYTES;
    if (lsn < reader->chunk_lsn || lsn >= end) {
        uint64_t in_ring = log->ring_blocks - lsn / BLOCK_BYTES % log->ring_blocks;
        uint64_t count = in_ring < CHUNK_BLOCKS ? in_ring : CHUNK_BLOCKS;
        struct page_io *io = reader->session->io;
        reader->chunk_blocks = 0;
        int status = io->ops->read(io, log_lba(log, lsn), count, reader->chunk.data);
        if (status != 0) {
            return session_fail(reader->session, status, "reading the log at LBA %llu failed: %s",
                                (unsigned long long)log_lba(log, lsn), cubby_status_text(status));
        }
        reader->chunk_lsn = lsn;
        reader->chunk_blocks = count;
    }
    *block = reader->chunk.data + (lsn - reader->chunk_lsn);
    return CUBBY_OK;
}

/* Whether these are the bytes of a block that was written for this LSN. */
static bool is_log_block(const struct log_reader *reader, const uint8_t *block, uint64_t lsn)
{
    const struct log *log = reader->log;
    return load_u32(block + 8) == LOG_MAGIC && load_u64(block + 24) == lsn &&
           load_u64(block) ==
               checksum_of(block + 8, LOG_HEADER_BYTES - 8, log_lba(log, lsn), log->secret);
}

static bool is_of_run(const struct log_reader *reader, const uint8_t *block)
{
    return load_u64(block + 16) == reader->run || PLANTED(BUG_ANY_LOG_BLOCK);
}

static void note_flushed(struct log_reader *reader, const uint8_t *block)
{
    uint64_t flushed = load_u64(block + 32);
    reader->flushed = flushed > reader->flushed ? flushed : reader->flushed;
}

/* Check the block that reader->lsn is at the begin of, and step behind its header. */
static bool enter_block(struct log_reader *reader, const uint8_t *block)
{
    uint64_t lsn = reader->lsn;
    if (!is_log_block(reader, block, lsn) || !is_of_run(reader, block)) {
        return false;
    }
    note_flushed(reader, block);
    bool fits = !reader->has_chain || PLANTED(BUG_ANY_LOG_BLOCK) ||
                (load_u32(block + 12) == reader->previous_used &&
                 load_u64(block + 40) == reader->previous_checksum);
    if (!fits && !reader->skips_damage) {
        return false;
    }
    reader->was_damaged = reader->was_damaged || !fits;
    reader->block_lsn = lsn;
    reader->lsn = lsn + LOG_HEADER_BYTES;
    return true;
}

/* Check the record at reader->lsn. Returns its size, 0 at the end of the block's records, or -1 if
 * there is none. */
static int check_record(const struct log_reader *reader, const uint8_t *block)
{
    uint32_t offset = (uint32_t)(reader->lsn % BLOCK_BYTES);
    uint32_t room = BLOCK_BYTES - offset;
    const uint8_t *record = block + offset;
    if (offset == 0 || room < LOG_RECORD_HEADER_BYTES || load_u64(record + 8) == 0) {
        return 0;
    }
    uint32_t size = load_u16(record + 8);
    uint32_t body_size = load_u32(record + 12);
    if (size % 8 != 0 || size < LOG_RECORD_HEADER_BYTES || size > room ||
        body_size > size - LOG_RECORD_HEADER_BYTES) {
        return -1;
    }
    uint64_t run = load_u64(block + 16);
    uint64_t checksum = checksum_of(record + 8, size - 8, reader->lsn ^ run, reader->log->secret);
    return load_u64(record) == checksum ? (int)size : -1;
}

/* Go on at the next block. used: of the one that is left. */
static void leave_block(struct log_reader *reader, uint32_t used)
{
    reader->previous_used = used;
    reader->lsn = reader->block_lsn + BLOCK_BYTES;
    reader->block_lsn = UINT64_MAX;
    reader->has_chain = true;
}

/* Pass over what is damaged: the rest of the block, or a block that is none. */
static bool skip(struct log_reader *reader)
{
    if (!reader->skips_damage || block_of(reader->lsn) + BLOCK_BYTES >= reader->limit) {
        return false;
    }
    reader->was_damaged = true;
    reader->has_chain = false;
    reader->block_lsn = UINT64_MAX;
    reader->lsn = block_of(reader->lsn) + BLOCK_BYTES;
    return true;
}

int log_reader_next(struct log_reader *reader, struct log_found *found)
{
    for (;;) {
        const uint8_t *block;
        if (reader->block_lsn == UINT64_MAX && reader->lsn >= reader->limit) {
            return CUBBY_NOT_FOUND;
        }
        uint64_t at = reader->block_lsn == UINT64_MAX ? reader->lsn : reader->block_lsn;
        int status = load(reader, at, &block);
        if (status != CUBBY_OK) {
            return status;
        }
        if (reader->block_lsn == UINT64_MAX && !enter_block(reader, block)) {
            if (skip(reader)) {
                continue;
            }
            return CUBBY_NOT_FOUND;
        }
        bool is_full = reader->lsn == reader->block_lsn + BLOCK_BYTES;
        int size = is_full ? 0 : check_record(reader, block);
        if (size < 0) {
            if (skip(reader)) {
                continue;
            }
            return CUBBY_NOT_FOUND;
        }
        if (size == 0) {
            leave_block(reader, (uint32_t)(reader->lsn - reader->block_lsn));
            continue;
        }
        const uint8_t *record = block + (reader->lsn - reader->block_lsn);
        *found = (struct log_found){
            .lsn = reader->lsn,
            .type = record[10],
            .flags = record[11],
            .body = record + LOG_RECORD_HEADER_BYTES,
            .body_size = load_u32(record + 12),
        };
        reader->previous_checksum = load_u64(record);
        reader->lsn += (uint64_t)size;
        if (found->lsn >= reader->from) {
            return CUBBY_OK;
        }
    }
}

int log_reader_survey(struct log_reader *reader, uint64_t generation, bool *newer)
{
    *newer = false;
    for (uint64_t lsn = block_of(reader->lsn); lsn < reader->limit; lsn += BLOCK_BYTES) {
        const uint8_t *block;
        int status = load(reader, lsn, &block);
        if (status != CUBBY_OK) {
            return status;
        }
        if (!is_log_block(reader, block, lsn)) {
            continue;
        }
        if (is_of_run(reader, block)) {
            note_flushed(reader, block);
        } else if (load_u64(block + 48) > generation) {
            *newer = true;
        }
    }
    return CUBBY_OK;
}
