/* log.c -- see log.h. */
#include "engine/store/log.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/simulator.h"
#include "engine/store/space.h"
#include "engine/store/store.h"

enum {
    STAGING_BLOCKS_MAX = 512, /* 2 MiB */
    PREPARED_BLOCKS = 16,
    RECORD_ALIGNMENT = 8,
    SIXTEENTHS = 16,
    GATHER_SHARE = 2, /* of the time that a flush takes */
    UNFLUSHED_BYTES_MAX = 64 << 20,
};

uint64_t log_ring_blocks(uint64_t wal_block_count)
{
    uint64_t images = wal_block_count / LOG_IMAGE_SHARE;
    images = images > LOG_IMAGE_BLOCKS_MIN ? images : LOG_IMAGE_BLOCKS_MIN;
    images = images < LOG_IMAGE_BLOCKS_MAX ? images : LOG_IMAGE_BLOCKS_MAX;
    return wal_block_count - images;
}

int log_open(struct log *log, const struct superblock *super, bool compresses, bool is_atomic)
{
    uint64_t ring_blocks = log_ring_blocks(super->wal_block_count);
    *log = (struct log){
        .first_lba = super->wal_lba,
        .ring_blocks = ring_blocks,
        .image_lba = super->wal_lba + ring_blocks,
        .image_blocks = super->wal_block_count - ring_blocks,
        .secret = super->secret,
        .is_sparse = compresses || !is_atomic,
        .staging_blocks = ring_blocks < STAGING_BLOCKS_MAX ? ring_blocks : STAGING_BLOCKS_MAX,
    };
    log->staging = aligned_alloc(BLOCK_BYTES, log->staging_blocks * BLOCK_BYTES);
    log->tail = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (log->staging == NULL || log->tail == NULL) {
        free(log->staging);
        free(log->tail);
        *log = (struct log){0};
        return ENOMEM;
    }
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    /* Most hold it for a microsecond: shorter than going to sleep. */
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&log->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_cond_init(&log->changed, NULL);
    return CUBBY_OK;
}

void log_close(struct log *log)
{
    if (log->staging != NULL) {
        pthread_cond_destroy(&log->changed);
        pthread_mutex_destroy(&log->lock);
    }
    free(log->staging);
    free(log->tail);
    log->staging = NULL;
    log->tail = NULL;
}

void log_stand_at(struct log *log, uint64_t lsn)
{
    pthread_mutex_lock(&log->lock);
    atomic_store(&log->written, lsn);
    atomic_store(&log->flushed, lsn);
    atomic_store(&log->end, lsn);
    atomic_store(&log->start, lsn);
    pthread_mutex_unlock(&log->lock);
}

int log_name_run(cubby_session *session, uint64_t *run)
{
    const struct cubby_environment *environment = &session->store->environment;
    *run = 0;
    while (*run == 0) {
        int status = environment->random_bytes(environment->state, run, sizeof *run);
        if (status != 0) {
            return session_fail(session, status, "no random numbers: %s",
                                cubby_status_text(status));
        }
    }
    return CUBBY_OK;
}

void log_begin(struct log *log, uint64_t run, uint64_t lsn, bool is_recovery)
{
    CUBBY_ASSERT(run != 0);
    uint64_t begin = divide_up(lsn, BLOCK_BYTES) * BLOCK_BYTES;
    pthread_mutex_lock(&log->lock);
    log->run = run;
    log->last_checksum = 0;
    log->previous_used = 0;
    atomic_store(&log->written, begin);
    log->prepared = begin;
    atomic_store(&log->flushed, begin);
    if (!is_recovery) {
        atomic_store(&log->start, begin);
    }
    atomic_store(&log->end, begin);
    pthread_mutex_unlock(&log->lock);
}

static uint32_t record_size(uint32_t body_size)
{
    return (uint32_t)divide_up(LOG_RECORD_HEADER_BYTES + body_size, RECORD_ALIGNMENT) *
           RECORD_ALIGNMENT;
}

uint64_t log_room_for(uint64_t body_bytes, size_t record_count)
{
    /* What does not fit into a block's end is left empty: at most a quarter, as pairs are at most
     * a quarter of a block. A block may be begun before the group, by a flush, and after it. */
    uint64_t records = body_bytes + record_count * (LOG_RECORD_HEADER_BYTES + RECORD_ALIGNMENT);
    return records + records / 3 + (uint64_t)2 * BLOCK_BYTES;
}

bool log_reserve(struct log *log, uint64_t bytes, enum log_user user)
{
    static const uint64_t shares[] = {
        [LOG_BY_CLIENT] = 8,
        [LOG_BY_WRITE_BACK] = 10,
        [LOG_BY_RECOVERY] = SIXTEENTHS,
    };
    uint64_t limit = log_capacity(log) * shares[user] / SIXTEENTHS;
    uint64_t reserved = atomic_fetch_add(&log->reserved, bytes) + bytes;
    if (log_used(log) + reserved <= limit) {
        return true;
    }
    atomic_fetch_sub(&log->reserved, bytes);
    return false;
}

void log_unreserve(struct log *log, uint64_t bytes)
{
    atomic_fetch_sub(&log->reserved, bytes);
}

static uint8_t *staged(const struct log *log, uint64_t lsn)
{
    return log->staging + lsn / BLOCK_BYTES % log->staging_blocks * BLOCK_BYTES + lsn % BLOCK_BYTES;
}

/* How a write came out; the lock is held. */
static int note_write(cubby_session *session, int status)
{
    struct log *log = &session->store->log;
    if (status == 0) {
        log->writes++;
        return CUBBY_OK;
    }
    session_fail(session, status, "writing the log at LBA %llu failed: %s",
                 (unsigned long long)log_lba(log, atomic_load(&log->written)),
                 cubby_status_text(status));
    if (status != CUBBY_PHYSICAL_FULL) {
        log->failure = status;
        store_poison(session);
    }
    return status;
}

/* Write zeros where the next blocks will stand, whole, so that the parts that follow need neither
 * space nor a read; but not over what a recovery would read. */
static int prepare_blocks(cubby_session *session)
{
    static const uint8_t zeros[PREPARED_BLOCKS * BLOCK_BYTES];
    struct log *log = &session->store->log;
    uint64_t lsn = atomic_load(&log->written) / BLOCK_BYTES * BLOCK_BYTES;
    uint64_t room = atomic_load(&log->start) / BLOCK_BYTES * BLOCK_BYTES + log_capacity(log) - lsn;
    /* A kernel that keeps what was written at once in one piece flushes all of it: where flushes
     * come often, one block at a time. */
    bool is_flushed_often = lsn < atomic_load(&log->flushed) + PREPARED_BLOCKS * BLOCK_BYTES;
    uint64_t count = is_flushed_often ? 1 : PREPARED_BLOCKS;
    count = count < room / BLOCK_BYTES ? count : room / BLOCK_BYTES;
    uint64_t in_ring = log->ring_blocks - lsn / BLOCK_BYTES % log->ring_blocks;
    count = count < in_ring ? count : in_ring;
    CUBBY_ASSERT(count > 0);
    struct page_io *io = session->io;
    int status =
        io->ops->write_cached(io, log_lba(log, lsn) * BLOCK_BYTES, count * BLOCK_BYTES, zeros);
    if (status == 0) {
        log->prepared = lsn + count * BLOCK_BYTES;
    }
    return status;
}

/* Copy [written, end) to the page cache, with the lock held: it takes no longer than the copy. */
static int write_to_page_cache(cubby_session *session)
{
    struct log *log = &session->store->log;
    struct page_io *io = session->io;
    uint64_t end = atomic_load(&log->end);
    uint64_t written = atomic_load(&log->written);
    int status = 0;
    while (written < end && status == 0) {
        uint64_t block_end = (written / BLOCK_BYTES + 1) * BLOCK_BYTES;
        uint64_t upto = end < block_end ? end : block_end;
        if (written >= log->prepared) {
            status = prepare_blocks(session);
        }
        if (status == 0) {
            uint64_t offset = log_lba(log, written) * BLOCK_BYTES + written % BLOCK_BYTES;
            status = io->ops->write_cached(io, offset, upto - written, staged(log, written));
        }
        if (status == EOPNOTSUPP) {
            log->no_page_cache = true;
            return EOPNOTSUPP;
        }
        if (status == 0) {
            written = upto;
            atomic_store(&log->written, written);
        }
    }
    return note_write(session, status);
}

/* Write whole blocks of the staging memory, from lsn up to a block's end. */
static int write_blocks(cubby_session *session, uint64_t lsn, uint64_t upto)
{
    struct log *log = &session->store->log;
    int status = 0;
    while (lsn < upto && status == 0) {
        uint64_t block = lsn / BLOCK_BYTES;
        uint64_t count = (upto - lsn) / BLOCK_BYTES;
        uint64_t in_ring = log->ring_blocks - block % log->ring_blocks;
        uint64_t in_staging = log->staging_blocks - block % log->staging_blocks;
        count = count < in_ring ? count : in_ring;
        count = count < in_staging ? count : in_staging;
        status = session->io->ops->write(session->io, log_lba(log, lsn), count, staged(log, lsn));
        lsn += count * BLOCK_BYTES;
    }
    return status;
}

/* Write [written, end) in whole blocks, without the lock meanwhile unless keeps_lock. Others go on
 * filling the last block, so that is written from a copy. */
static int write_to_device(cubby_session *session, bool keeps_lock)
{
    struct log *log = &session->store->log;
    uint64_t end = atomic_load(&log->end);
    uint64_t from = atomic_load(&log->written) / BLOCK_BYTES * BLOCK_BYTES;
    uint64_t last = end / BLOCK_BYTES * BLOCK_BYTES;
    if (last < end) {
        memcpy(log->tail, staged(log, last), BLOCK_BYTES);
    }
    log->is_writing = true;
    if (!keeps_lock) {
        pthread_mutex_unlock(&log->lock);
    }
    int status = write_blocks(session, from, last);
    if (status == 0 && last < end) {
        status = session->io->ops->write(session->io, log_lba(log, last), 1, log->tail);
    }
    if (!keeps_lock) {
        pthread_mutex_lock(&log->lock);
    }
    log->is_writing = false;
    if (status == 0) {
        atomic_store(&log->written, end);
    }
    pthread_cond_broadcast(&log->changed);
    return note_write(session, status);
}

/* Have everything up to now written; the lock is held, and given back in between unless keeps_lock.
 */
static int write_out(cubby_session *session, bool keeps_lock)
{
    struct log *log = &session->store->log;
    while (log->is_writing) {
        pthread_cond_wait(&log->changed, &log->lock);
    }
    if (log->failure != 0) {
        return log->failure;
    }
    if (log->written == atomic_load(&log->end)) {
        return CUBBY_OK;
    }
    SIMULATOR_POINT(COMMIT_BEFORE_WRITE);
    int status = log->no_page_cache ? EOPNOTSUPP : write_to_page_cache(session);
    if (status == EOPNOTSUPP) {
        status = write_to_device(session, keeps_lock);
    }
    SIMULATOR_POINT(COMMIT_AFTER_WRITE);
    return status;
}

/* Begin the block at the end of the log, which is a multiple of BLOCK_BYTES. */
static int begin_block(cubby_session *session, uint32_t previous_used)
{
    struct log *log = &session->store->log;
    uint64_t lsn = atomic_load(&log->end);
    if (lsn - atomic_load(&log->written) / BLOCK_BYTES * BLOCK_BYTES >=
        log->staging_blocks * BLOCK_BYTES) {
        int status = write_out(session, true);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    uint64_t lba = log_lba(log, lsn);
    uint8_t *block = staged(log, lsn);
    memset(block, 0, BLOCK_BYTES);
    store_u32(block + 8, LOG_MAGIC);
    store_u32(block + 12, previous_used);
    store_u64(block + 16, log->run);
    store_u64(block + 24, lsn);
    store_u64(block + 32, atomic_load(&log->flushed));
    store_u64(block + 40, log->last_checksum);
    store_u64(block + 48, log->generation);
    store_u64(block, checksum_of(block + 8, LOG_HEADER_BYTES - 8, lba, log->secret));
    atomic_store(&log->end, lsn + LOG_HEADER_BYTES);
    return CUBBY_OK;
}

/* Make the end a place where a record of this size can begin. */
static int make_place(cubby_session *session, uint32_t size)
{
    struct log *log = &session->store->log;
    uint64_t end = atomic_load(&log->end);
    uint32_t used = (uint32_t)(end % BLOCK_BYTES);
    if (used == 0) {
        /* The block before was filled, or left by a flush, which has kept how far it was used. */
        return begin_block(session, log->previous_used);
    }
    if (used + size <= BLOCK_BYTES) {
        return CUBBY_OK;
    }
    log->previous_used = used;
    atomic_store(&log->end, end - used + BLOCK_BYTES);
    return begin_block(session, used);
}

/* Write one record at the end. */
static void add_record(struct log *log, const struct log_record *record, uint8_t flags)
{
    uint64_t lsn = atomic_load(&log->end);
    uint32_t size = record_size(record->body_size);
    uint8_t *to = staged(log, lsn);
    store_u16(to + 8, (uint16_t)size);
    to[10] = (uint8_t)record->type;
    to[11] = flags;
    store_u32(to + 12, record->body_size);
    memcpy(to + LOG_RECORD_HEADER_BYTES, record->body, record->body_size);
    log->last_checksum = checksum_of(to + 8, size - 8, lsn ^ log->run, log->secret);
    store_u64(to, log->last_checksum);
    lsn += size;
    if (lsn % BLOCK_BYTES == 0) {
        log->previous_used = BLOCK_BYTES;
    }
    log->records++;
    log->appended_bytes += size;
    atomic_store(&log->end, lsn);
}

static int say_failure(cubby_session *session, int status)
{
    return session_fail(session, status, "the log could not be written: %s",
                        cubby_status_text(status));
}

/* CUBBY_OK, or why nothing is acknowledged any more; the lock is held. */
static int check_failure(cubby_session *session)
{
    int status = session->store->log.failure;
    if (status == CUBBY_OK && atomic_load(&session->store->poisoned)) {
        status = CUBBY_POISONED;
    }
    return status == CUBBY_OK ? CUBBY_OK : say_failure(session, status);
}

/* Make room in the staging memory for a group, so that it cannot fail half-way. One that is larger
 * than all of it goes through it in parts. */
static int make_room(cubby_session *session, uint64_t room)
{
    struct log *log = &session->store->log;
    uint64_t staging_bytes = log->staging_blocks * BLOCK_BYTES;
    uint64_t first = atomic_load(&log->written) / BLOCK_BYTES * BLOCK_BYTES;
    if (log->failure != 0) {
        return say_failure(session, log->failure);
    }
    return atomic_load(&log->end) + room - first > staging_bytes ? write_out(session, true)
                                                                 : CUBBY_OK;
}

int log_append(cubby_session *session, const struct log_record *records, size_t count,
               uint64_t *lsn, uint64_t *end)
{
    struct log *log = &session->store->log;
    CUBBY_ASSERT(count > 0);
    uint64_t body_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        CUBBY_ASSERT(records[i].body_size <= LOG_BODY_BYTES_MAX);
        body_bytes += records[i].body_size;
    }
    pthread_mutex_lock(&log->lock);
    CUBBY_ASSERT(log->run != 0);
    int status = make_room(session, log_room_for(body_bytes, count));
    for (size_t i = 0; i < count && status == CUBBY_OK; i++) {
        status = make_place(session, record_size(records[i].body_size));
        if (status == CUBBY_OK) {
            if (i == 0) {
                *lsn = atomic_load(&log->end);
            }
            add_record(
                log, &records[i],
                (uint8_t)((i + 1 < count ? LOG_FLAG_MORE : 0) | (i > 0 ? LOG_FLAG_CONTINUES : 0)));
        } else if (i > 0) {
            /* Half a group: what came after it would be taken for the rest. */
            log->failure = status;
            store_poison(session);
        }
    }
    *end = atomic_load(&log->end);
    CUBBY_ASSERT(log_used(log) <= log_capacity(log));
    if (status == CUBBY_OK && !log->no_page_cache &&
        session_durability(session) == CUBBY_DURABILITY_PROCESS) {
        /* The lock is held already; the commit would want it once more. A failure is its to tell.
         */
        (void)write_out(session, true);
    }
    pthread_mutex_unlock(&log->lock);
    return status;
}

static void sleep_on(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void wake_up(_Atomic uint32_t *word, int count)
{
    atomic_fetch_add(word, 1);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Those that the last flush has let go are mostly about to want the next one: it is worth a part of
 * a flush to wait for them. Else half of the threads would wait for every other flush. The lock is
 * held, and given back in between. */
static void gather(cubby_session *session)
{
    struct log *log = &session->store->log;
    uint64_t expected = log->commits_expected;
    if (atomic_load(&log->commits) < expected) {
        uint64_t until = store_now_ns(session->store) + log->flush_ns / GATHER_SHARE;
        pthread_mutex_unlock(&log->lock);
        while (atomic_load(&log->commits) < expected && store_now_ns(session->store) < until) {
            sched_yield();
        }
        pthread_mutex_lock(&log->lock);
    }
}

/* Write and flush all there is, as the one thread that does. The lock is held, and given back. */
static int flush_all(cubby_session *session)
{
    struct log *log = &session->store->log;
    log->is_flushing = true;
    log->flushes_begun++;
    gather(session);
    uint64_t commits_before = log->commits_at_flush;
    log->commits_at_flush = atomic_load(&log->commits);
    uint64_t end = atomic_load(&log->end);
    uint32_t used = (uint32_t)(end % BLOCK_BYTES);
    if (log->is_sparse && used != 0 && log->run != 0) {
        log->previous_used = used;
        /* What is between is zeros, and never written. */
        end += BLOCK_BYTES - used;
        atomic_store(&log->end, end);
    }
    int status = CUBBY_OK;
    while (status == CUBBY_OK && atomic_load(&log->written) < end) {
        status = write_out(session, false);
    }
    /* A block that others have begun meanwhile is written again as it fills: it does not count. */
    uint64_t upto = log->is_sparse ? end : atomic_load(&log->written);
    log->flushing_upto = upto;
    if (status == CUBBY_OK) {
        pthread_mutex_unlock(&log->lock);
        SIMULATOR_POINT(COMMIT_BEFORE_FLUSH);
        uint64_t begin_ns = store_now_ns(session->store);
        status = store_flush(session);
        uint64_t flush_ns = store_now_ns(session->store) - begin_ns;
        SIMULATOR_POINT(COMMIT_AFTER_FLUSH);
        pthread_mutex_lock(&log->lock);
        log->flush_ns = flush_ns;
        if (status != CUBBY_OK) {
            log->failure = status;
        } else if (upto > atomic_load(&log->flushed)) {
            atomic_store(&log->flushed, upto);
        }
    }
    /* A thin device that is full refuses at the flush what the page cache had taken: too late for
     * whoever was told that it survives the process. Near the end the device is asked at once. */
    if (status == CUBBY_OK && space_is_nearly_used_up(session->store)) {
        log->no_page_cache = true;
    }
    log->is_flushing = false;
    log->flushes = log->flushes_begun;
    log->flushing_upto = 0;
    /* As many as this flush has let go, and those that came too late for it. */
    log->commits_expected = log->commits_at_flush + atomic_load(&log->commits) - commits_before;
    uint64_t flushes = log->flushes;
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
    /* Without the lock: who wakes up wants it. */
    wake_up(&log->ended[flushes % 2], INT_MAX);
    wake_up(&log->ended[(flushes + 1) % 2], status == CUBBY_OK ? 1 : INT_MAX);
    return status;
}

static int commit_power(cubby_session *session, uint64_t end)
{
    struct log *log = &session->store->log;
    int status = CUBBY_OK;
    atomic_fetch_add(&log->commits, 1);
    while (status == CUBBY_OK && atomic_load(&log->flushed) < end) {
        pthread_mutex_lock(&log->lock);
        status = check_failure(session);
        if (status == CUBBY_OK && log->is_flushing) {
            bool is_in_it = log->flushing_upto == 0 || end <= log->flushing_upto;
            uint64_t flush = log->flushes_begun + !is_in_it;
            _Atomic uint32_t *word = &log->ended[flush % 2];
            uint32_t seen = atomic_load(word);
            pthread_mutex_unlock(&log->lock);
            sleep_on(word, seen);
            continue;
        }
        if (status == CUBBY_OK && atomic_load(&log->flushed) < end) {
            status = flush_all(session);
        } else {
            pthread_mutex_unlock(&log->lock);
        }
    }
    return status;
}

int log_commit(cubby_session *session, uint64_t end, bool is_power)
{
    struct log *log = &session->store->log;
    int status = CUBBY_OK;
    if (is_power) {
        return commit_power(session, end);
    }
    if (atomic_load(&log->written) >= end) {
        return CUBBY_OK;
    }
    pthread_mutex_lock(&log->lock);
    while (status == CUBBY_OK && atomic_load(&log->written) < end) {
        status = check_failure(session);
        status = status == CUBBY_OK ? write_out(session, false) : status;
    }
    pthread_mutex_unlock(&log->lock);
    return status;
}

int log_flush(cubby_session *session)
{
    struct log *log = &session->store->log;
    int status = CUBBY_OK;
    pthread_mutex_lock(&log->lock);
    uint64_t wanted = log->flushes_begun + 1; /* the next to begin */
    while (status == CUBBY_OK && log->flushes < wanted) {
        status = check_failure(session);
        if (status == CUBBY_OK && log->is_flushing) {
            pthread_cond_wait(&log->changed, &log->lock);
        } else if (status == CUBBY_OK) {
            status = flush_all(session);
            pthread_mutex_lock(&log->lock);
        }
    }
    pthread_mutex_unlock(&log->lock);
    return status;
}

bool log_wants_flush(struct log *log)
{
    if (atomic_load(&log->end) - atomic_load(&log->flushed) < UNFLUSHED_BYTES_MAX) {
        return false;
    }
    pthread_mutex_lock(&log->lock);
    bool wants = !log->is_flushing && log->failure == 0;
    pthread_mutex_unlock(&log->lock);
    return wants;
}

void log_release(struct log *log, uint64_t start, uint64_t generation)
{
    pthread_mutex_lock(&log->lock);
    log->generation = generation;
    if (start > atomic_load(&log->start)) {
        CUBBY_ASSERT(start <= atomic_load(&log->end));
        atomic_store(&log->start, start);
    }
    pthread_mutex_unlock(&log->lock);
}
