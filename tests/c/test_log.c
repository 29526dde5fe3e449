/* test_log.c -- the log: what is appended is read again, whatever the device, the ring and a crash
 * make of it.
 *
 * A log of 63 blocks of memory stands by itself, in a store that has nothing else. It is packed or
 * sparse, and its device has a page cache before it or not.
 *
 * Depends on: check.h, fuzz.h, gauged_device.h, log.h, log_read.h.
 */
#include "engine/store/log.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "engine/store/log_read.h"
#include "engine/store/store.h"
#include "tests/c/fuzz.h"
#include "tests/c/gauged_device.h"

enum {
    WAL_LBA = 16,
    WAL_BLOCKS = 72, /* 63 of them the ring */
    RECORDS_MAX = 100000,
    BODY_MAX = 1008, /* as pairs have */
    MODES = 4,
    THREADS = 6,
    COMMITS = 40,
};

/* What is known of a record that was appended. */
struct appended {
    uint64_t lsn;
    uint32_t body_size;
    uint8_t type;
    bool more;
    bool continues;
};

/* A log on a device of its own, and all that was appended. */
struct place {
    struct gauged_device *gauged;
    struct block_device_ops ops; /* with or without a page cache */
    struct cubby_store store;
    struct cubby_session session;
    uint64_t run;
    struct appended *appended;
    size_t first; /* that counts */
    size_t count;
};

static int write_cached(struct block_device *device, uint64_t offset, size_t size,
                        const void *buffer)
{
    struct block_device *memory = ((struct gauged_device *)(void *)device)->memory;
    return memory->ops->write_cached(memory, offset, size, buffer);
}

static struct place *open_place(bool is_sparse, bool has_page_cache)
{
    struct place *place = calloc(1, sizeof *place);
    CHECK(place != NULL);
    place->gauged = gauged_make("test");
    place->ops = *place->gauged->device.ops;
    place->ops.write_cached = has_page_cache ? write_cached : NULL;
    place->gauged->device.ops = &place->ops;
    place->store.device = &place->gauged->device;
    place->store.environment = *repeatable_environment();
    place->session.store = &place->store;
    place->appended = calloc(RECORDS_MAX, sizeof *place->appended);
    CHECK(place->appended != NULL);
    CHECK_EQUAL(page_io_direct_open(place->store.device, &place->session.io), 0);
    const struct superblock super = {
        .wal_lba = WAL_LBA, .wal_block_count = WAL_BLOCKS, .secret = 99};
    CHECK_EQUAL(log_open(&place->store.log, &super, false, !is_sparse), CUBBY_OK);
    CHECK_EQUAL(log_capacity(&place->store.log), 63 * BLOCK_BYTES);
    place->run = 7;
    log_begin(&place->store.log, place->run, 5000, false);
    return place;
}

static struct place *open_mode(unsigned mode)
{
    return open_place(mode % 2 == 1, mode / 2 == 1);
}

static void close_place(struct place *place)
{
    log_close(&place->store.log);
    log_close(&place->store.log); /* allowed */
    place->session.io->ops->close(place->session.io);
    gauged_free(place->gauged);
    free(place->appended);
    free(place);
}

static void fill_body(uint64_t lsn_like, uint8_t *body, size_t size)
{
    uint64_t state = lsn_like * 31 + size;
    random_fill(&state, body, size);
}

/* Append a group of count records of so many bytes each; their bodies follow from their sizes and
 * their number. */
static int append(struct place *place, size_t count, const uint32_t *sizes, uint64_t *end)
{
    struct log_record records[32];
    static uint8_t bodies[32][LOG_BODY_BYTES_MAX];
    CHECK(count <= 32 && place->count + count <= RECORDS_MAX);
    for (size_t i = 0; i < count; i++) {
        fill_body(place->count + i, bodies[i], sizes[i]);
        records[i] = (struct log_record){
            .type = (enum log_record_type)(1 + i % 7), .body_size = sizes[i], .body = bodies[i]};
    }
    uint64_t lsn = 0;
    uint64_t before = atomic_load(&place->store.log.end);
    int status = log_append(&place->session, records, count, &lsn, end);
    if (status != CUBBY_OK) {
        return status;
    }
    CHECK(lsn >= before && *end > lsn && *end == atomic_load(&place->store.log.end));
    for (size_t i = 0; i < count; i++) {
        place->appended[place->count++] = (struct appended){
            .lsn = i == 0 ? lsn : 0, /* of the others nobody is told */
            .body_size = sizes[i],
            .type = (uint8_t)(1 + i % 7),
            .more = i + 1 < count,
            .continues = i > 0,
        };
    }
    return CUBBY_OK;
}

/* The next record is the one with this number. */
static void check_found(const struct place *place, const struct log_found *found, size_t number)
{
    const struct appended *appended = &place->appended[number];
    uint8_t body[LOG_BODY_BYTES_MAX];
    CHECK(appended->lsn == 0 || found->lsn == appended->lsn);
    CHECK_EQUAL(found->type, appended->type);
    CHECK_EQUAL((found->flags & LOG_FLAG_MORE) != 0, appended->more);
    CHECK_EQUAL((found->flags & LOG_FLAG_CONTINUES) != 0, appended->continues);
    CHECK_EQUAL(found->body_size, appended->body_size);
    fill_body(number, body, found->body_size);
    CHECK_EQUAL(memcmp(found->body, body, found->body_size), 0);
}

/* Read from the first record that counts. Returns how many there are before the end; each is the
 * one that was appended then. end: set to where the reader stopped; may be NULL. */
static size_t read_all(struct place *place, uint64_t *end)
{
    struct log_reader reader;
    struct log_found found;
    size_t number = place->first;
    uint64_t from = place->first < place->count ? place->appended[place->first].lsn
                                                : atomic_load(&place->store.log.start);
    CHECK_EQUAL(log_reader_open(&reader, &place->session, place->run, from), CUBBY_OK);
    int status;
    while ((status = log_reader_next(&reader, &found)) == CUBBY_OK) {
        CHECK(number < place->count);
        check_found(place, &found, number);
        number++;
    }
    CHECK_EQUAL(status, CUBBY_NOT_FOUND);
    if (end != NULL) {
        *end = reader.lsn;
    }
    log_reader_close(&reader);
    return number - place->first;
}

/* Let go what comes before a record that begins a group, as a checkpoint does. */
static void release(struct place *place, size_t first)
{
    while (first < place->count && place->appended[first].continues) {
        first++;
    }
    if (first < place->count) {
        place->first = first;
        log_release(&place->store.log, place->appended[first].lsn, 1);
        CHECK_EQUAL(atomic_load(&place->store.log.start), place->appended[first].lsn);
    }
}

static void test_what_is_appended_is_read_again_round_after_round(void)
{
    for (unsigned mode = 0; mode < MODES; mode++) {
        struct place *place = open_mode(mode);
        struct log *log = &place->store.log;
        uint64_t random = mode;
        uint64_t end = 0;
        while (atomic_load(&log->end) < 40 * log_capacity(log)) {
            size_t count = 1 + random_below(&random, random_below(&random, 8) == 0 ? 32 : 3);
            uint32_t sizes[32];
            uint64_t bytes = 0;
            for (size_t i = 0; i < count; i++) {
                sizes[i] = random_between(&random, 1, BODY_MAX);
                bytes += sizes[i];
            }
            uint64_t room = log_room_for(bytes, count);
            while (!log_reserve(log, room, LOG_BY_CLIENT)) {
                release(place, place->first + 1 + random_below(&random, 60));
            }
            uint64_t before = atomic_load(&log->end);
            CHECK_EQUAL(append(place, count, sizes, &end), CUBBY_OK);
            CHECK(end - before <= room);
            log_unreserve(log, room);
            switch (random_below(&random, 12)) {
            case 0:
                CHECK_EQUAL(log_flush(&place->session), CUBBY_OK);
                CHECK(atomic_load(&log->flushed) >= end);
                break;
            case 1:
                CHECK_EQUAL(log_commit(&place->session, end, true), CUBBY_OK);
                CHECK(atomic_load(&log->flushed) >= end);
                break;
            case 2:
            case 3:
                CHECK_EQUAL(log_commit(&place->session, end, false), CUBBY_OK);
                CHECK_EQUAL(read_all(place, NULL), place->count - place->first);
                break;
            default:
                break; /* neither: it stays in memory */
            }
        }
        CHECK_EQUAL(log_flush(&place->session), CUBBY_OK);
        CHECK_EQUAL(read_all(place, NULL), place->count - place->first);
        CHECK(place->count > 3000);
        close_place(place);
    }
}

/* A record of each size that fits a block, and a log that is empty. */
static void test_records_of_all_sizes_and_none(void)
{
    for (unsigned mode = 0; mode < MODES; mode++) {
        struct place *place = open_mode(mode);
        uint64_t end = atomic_load(&place->store.log.end);
        uint64_t stop;
        CHECK_EQUAL(log_commit(&place->session, end, true), CUBBY_OK);
        CHECK_EQUAL(read_all(place, &stop), 0);
        CHECK_EQUAL(stop, end);
        for (uint32_t size = 1; size <= LOG_BODY_BYTES_MAX; size += size < 40 ? 1 : 97) {
            CHECK_EQUAL(append(place, 1, &size, &end), CUBBY_OK);
            CHECK_EQUAL(log_commit(&place->session, end, size % 3 == 0), CUBBY_OK);
            if (log_used(&place->store.log) > log_capacity(&place->store.log) / 2) {
                release(place, place->count - 1);
            }
            CHECK_EQUAL(read_all(place, NULL), place->count - place->first);
        }
        const uint32_t largest = LOG_BODY_BYTES_MAX;
        CHECK_EQUAL(append(place, 1, &largest, &end), CUBBY_OK);
        CHECK_EQUAL(append(place, 1, &largest, &end), CUBBY_OK); /* a block each */
        CHECK_EQUAL(end % BLOCK_BYTES, 0);
        CHECK_EQUAL(log_commit(&place->session, end, true), CUBBY_OK);
        CHECK_EQUAL(read_all(place, &stop), place->count - place->first);
        CHECK_EQUAL(stop, end);
        close_place(place);
    }
}

/* Fill some blocks with records of one size, flushed now and then. */
static void fill_blocks(struct place *place, size_t blocks)
{
    const uint32_t size = 400;
    uint64_t end = 0;
    uint64_t upto = atomic_load(&place->store.log.end) + blocks * BLOCK_BYTES;
    while (atomic_load(&place->store.log.end) < upto) {
        CHECK_EQUAL(append(place, 1, &size, &end), CUBBY_OK);
        CHECK_EQUAL(log_commit(&place->session, end, place->count % 25 == 0), CUBBY_OK);
    }
}

static void read_block(struct place *place, uint64_t lsn, uint8_t *block)
{
    struct page_io *io = place->session.io;
    CHECK_EQUAL(io->ops->read(io, log_lba(&place->store.log, lsn), 1, block), 0);
}

static void write_block(struct place *place, uint64_t lsn, const uint8_t *block)
{
    struct page_io *io = place->session.io;
    CHECK_EQUAL(io->ops->write(io, log_lba(&place->store.log, lsn), 1, block), 0);
}

/* The number of records, of those that count, that end at or before an LSN. */
static size_t count_before(const struct place *place, uint64_t lsn)
{
    size_t number = place->first;
    while (number < place->count && place->appended[number].lsn < lsn) {
        number++;
    }
    return number - place->first;
}

/* Any bit of a block, used or not: reading ends there, or nothing is amiss; never another record.
 */
static void test_any_flipped_bit_ends_the_log_there_or_does_not_matter(void)
{
    for (unsigned mode = 0; mode < MODES; mode++) {
        struct place *place = open_mode(mode);
        fill_blocks(place, 6);
        uint8_t *block = exact_bytes(BLOCK_BYTES);
        uint64_t lsn = place->appended[0].lsn / BLOCK_BYTES * BLOCK_BYTES + 3 * BLOCK_BYTES;
        for (unsigned bit = 0; bit < BLOCK_BYTES * 8; bit += bit < 600 ? 1 : 11) {
            read_block(place, lsn, block);
            block[bit / 8] ^= (uint8_t)(1U << bit % 8);
            write_block(place, lsn, block);
            size_t read = read_all(place, NULL);
            CHECK(read >= count_before(place, lsn) && read <= place->count);
            CHECK(read < count_before(place, lsn + BLOCK_BYTES) || read == place->count ||
                  place->appended[read].lsn >= lsn);
            if (bit < LOG_HEADER_BYTES * 8) {
                CHECK_EQUAL(read, count_before(place, lsn));
            }
            block[bit / 8] ^= (uint8_t)(1U << bit % 8);
            write_block(place, lsn, block);
        }
        CHECK_EQUAL(read_all(place, NULL), place->count);
        free(block);
        close_place(place);
    }
}

/* Blocks that did not come to the device: what is behind them does not count, sound or not. */
static void test_what_is_behind_a_missing_block_does_not_count(void)
{
    for (unsigned mode = 0; mode < MODES; mode++) {
        struct place *place = open_mode(mode);
        fill_blocks(place, 10);
        uint8_t *block = exact_bytes(BLOCK_BYTES);
        uint8_t *zeros = exact_bytes(BLOCK_BYTES);
        memset(zeros, 0, BLOCK_BYTES);
        uint64_t first = place->appended[0].lsn / BLOCK_BYTES * BLOCK_BYTES;
        for (uint64_t i = 0; i < 10; i++) {
            uint64_t lsn = first + i * BLOCK_BYTES;
            read_block(place, lsn, block);
            write_block(place, lsn, zeros);
            uint64_t end;
            CHECK_EQUAL(read_all(place, &end), count_before(place, lsn));
            CHECK_EQUAL(end, lsn);
            write_block(place, lsn, block);
        }
        free(block);
        free(zeros);
        close_place(place);
    }
}

/* A block as it was when it was half full: the next one, which goes on from its whole, shows it. */
static void test_an_older_state_of_a_block_ends_the_log(void)
{
    for (unsigned mode = 0; mode < MODES; mode += 2) { /* sparse ones are written once */
        struct place *place = open_mode(mode);
        const uint32_t size = 600;
        uint64_t end;
        uint8_t *older = exact_bytes(BLOCK_BYTES);
        fill_blocks(place, 2);
        CHECK_EQUAL(append(place, 1, &size, &end), CUBBY_OK);
        uint64_t lsn = place->appended[place->count - 1].lsn / BLOCK_BYTES * BLOCK_BYTES;
        CHECK_EQUAL(log_commit(&place->session, end, false), CUBBY_OK);
        read_block(place, lsn, older);
        size_t before = place->count;
        while (atomic_load(&place->store.log.end) < lsn + 3 * BLOCK_BYTES) {
            CHECK_EQUAL(append(place, 1, &size, &end), CUBBY_OK);
        }
        CHECK_EQUAL(log_commit(&place->session, end, true), CUBBY_OK);
        CHECK_EQUAL(read_all(place, NULL), place->count);
        write_block(place, lsn, older);
        CHECK_EQUAL(read_all(place, NULL), before);
        free(older);
        close_place(place);
    }
}

/* Behind the end stand blocks of the run before, and of a run that a crash has made forget, whose
 * LSNs would fit. */
static void test_blocks_of_other_runs_do_not_count(void)
{
    for (unsigned mode = 0; mode < MODES; mode++) {
        struct place *place = open_mode(mode);
        fill_blocks(place, 30);
        uint64_t fork = place->appended[count_before(place, 10 * BLOCK_BYTES)].lsn;
        /* What a crash has left ends at the fork; the next run begins behind it. */
        place->run = 8;
        place->first = place->count;
        log_begin(&place->store.log, place->run, fork, false);
        CHECK_EQUAL(atomic_load(&place->store.log.end) % BLOCK_BYTES, 0);
        CHECK(atomic_load(&place->store.log.end) - fork < BLOCK_BYTES);
        uint64_t end = 0;
        for (uint32_t size = 100; size < 1000; size += 10) {
            CHECK_EQUAL(append(place, 1, &size, &end), CUBBY_OK);
            CHECK_EQUAL(log_commit(&place->session, end, size % 50 == 0), CUBBY_OK);
            CHECK_EQUAL(read_all(place, NULL), place->count - place->first);
        }
        struct log_reader reader;
        struct log_found found;
        bool newer = true;
        CHECK_EQUAL(log_reader_open(&reader, &place->session, place->run,
                                    place->appended[place->first].lsn),
                    CUBBY_OK);
        while (log_reader_next(&reader, &found) == CUBBY_OK) {
        }
        CHECK_EQUAL(log_reader_survey(&reader, 1, &newer), CUBBY_OK);
        CHECK(!newer);
        CHECK(reader.flushed <= atomic_load(&place->store.log.flushed));
        log_reader_close(&reader);
        close_place(place);
    }
}

/* Who accepts loss gets all that is sound, and is told where something is missing. */
static void test_damage_is_passed_over_if_asked(void)
{
    for (unsigned mode = 0; mode < MODES; mode++) {
        struct place *place = open_mode(mode);
        fill_blocks(place, 20);
        uint8_t *block = exact_bytes(BLOCK_BYTES);
        uint64_t first = place->appended[0].lsn / BLOCK_BYTES * BLOCK_BYTES;
        static const unsigned offsets[] = {8, 60, 600};
        size_t lost = 0;
        for (unsigned i = 0; i < 3; i++) { /* blocks 2, 7 and 12 */
            uint64_t lsn = first + (2 + 5 * i) * BLOCK_BYTES;
            read_block(place, lsn, block);
            block[offsets[i]] ^= 2;
            write_block(place, lsn, block);
            /* Of the last one the first record, of some 416 bytes, is before the damage. */
            lost += count_before(place, lsn + BLOCK_BYTES) - count_before(place, lsn) - (i == 2);
        }
        struct log_reader reader;
        struct log_found found;
        size_t number = 0;
        size_t damages = 0;
        size_t read = 0;
        CHECK_EQUAL(log_reader_open(&reader, &place->session, place->run, place->appended[0].lsn),
                    CUBBY_OK);
        reader.skips_damage = true;
        while (log_reader_next(&reader, &found) == CUBBY_OK) {
            CHECK(reader.was_damaged == (found.lsn != place->appended[number].lsn));
            damages += reader.was_damaged;
            reader.was_damaged = false;
            while (place->appended[number].lsn != found.lsn) {
                number++;
                CHECK(number < place->count);
            }
            check_found(place, &found, number++);
            read++;
        }
        CHECK_EQUAL(damages, 3);
        CHECK_EQUAL(read, place->count - lost);
        log_reader_close(&reader);
        free(block);
        close_place(place);
    }
}

static void test_each_user_may_fill_its_share_of_the_ring(void)
{
    struct place *place = open_mode(0);
    struct log *log = &place->store.log;
    uint64_t sixteenth = log_capacity(log) / 16;
    static const enum log_user users[] = {LOG_BY_CLIENT, LOG_BY_WRITE_BACK, LOG_BY_RECOVERY};
    uint64_t most[3];
    for (size_t i = 0; i < 3; i++) {
        most[i] = 0;
        while (log_reserve(log, sixteenth / 4, users[i])) {
            most[i] += sixteenth / 4;
        }
        log_unreserve(log, most[i]);
        CHECK_EQUAL(atomic_load(&log->reserved), 0);
    }
    CHECK(most[0] >= 4 * sixteenth && most[0] < most[1]);
    CHECK(most[1] < most[2] && most[2] == log_capacity(log));
    /* What is used counts, and what is let go does not. */
    fill_blocks(place, 40);
    CHECK(!log_reserve(log, BLOCK_BYTES, LOG_BY_CLIENT));
    CHECK(log_reserve(log, BLOCK_BYTES, LOG_BY_RECOVERY));
    log_unreserve(log, BLOCK_BYTES);
    release(place, place->count - 1);
    CHECK(log_reserve(log, BLOCK_BYTES, LOG_BY_CLIENT));
    log_unreserve(log, BLOCK_BYTES);
    close_place(place);
}

/* A device whose operations fail, or take their time. */
static _Atomic int fails_with;
static _Atomic uint64_t flush_count;

static int flush_slowly(struct block_device *device)
{
    (void)device;
    const struct timespec pause = {.tv_nsec = 2000000};
    atomic_fetch_add(&flush_count, 1);
    nanosleep(&pause, NULL);
    return atomic_load(&fails_with);
}

static int fail_write(struct block_device *device, uint64_t lba, size_t count, const void *buffer)
{
    (void)device;
    (void)lba;
    (void)count;
    (void)buffer;
    return EIO;
}

static void test_a_failed_flush_or_write_ends_the_log(void)
{
    for (unsigned mode = 0; mode < 2; mode++) {
        for (int by_write = 0; by_write < 2; by_write++) {
            struct place *place = open_mode(mode);
            const uint32_t size = 100;
            uint64_t end;
            CHECK_EQUAL(append(place, 1, &size, &end), CUBBY_OK);
            CHECK_EQUAL(log_commit(&place->session, end, true), CUBBY_OK);
            if (by_write == 1) {
                place->ops.write = fail_write;
            } else {
                atomic_store(&fails_with, EIO);
                place->ops.flush = flush_slowly;
            }
            CHECK_EQUAL(append(place, 1, &size, &end), CUBBY_OK); /* in memory */
            CHECK_EQUAL(log_commit(&place->session, end, true), EIO);
            CHECK(atomic_load(&place->store.poisoned));
            CHECK(strlen(place->session.message) > 0);
            place->ops = *place->gauged->device.ops;
            atomic_store(&fails_with, 0);
            CHECK_EQUAL(log_commit(&place->session, end, true), EIO); /* for good */
            CHECK_EQUAL(log_flush(&place->session), EIO);
            CHECK_EQUAL(append(place, 1, &size, &end), EIO);
            close_place(place);
        }
    }
}

static void test_a_device_without_room_is_tried_again(void)
{
    for (unsigned mode = 0; mode < 2; mode++) {
        struct place *place = open_mode(mode);
        atomic_store(&place->gauged->fails_when_full, true);
        fill_blocks(place, 3);
        atomic_store(&place->gauged->capacity_bytes, gauged_real_bytes(place->gauged));
        const uint32_t size = 1000;
        uint64_t end = 0;
        int status = CUBBY_OK;
        while (status == CUBBY_OK) {
            CHECK_EQUAL(append(place, 1, &size, &end), CUBBY_OK);
            status = log_commit(&place->session, end, true);
        }
        CHECK_EQUAL(status, CUBBY_PHYSICAL_FULL);
        CHECK(!atomic_load(&place->store.poisoned));
        CHECK_EQUAL(log_commit(&place->session, end, false), CUBBY_PHYSICAL_FULL);
        atomic_store(&place->gauged->capacity_bytes, GAUGED_CAPACITY_BYTES);
        CHECK_EQUAL(log_commit(&place->session, end, true), CUBBY_OK);
        CHECK_EQUAL(read_all(place, NULL), place->count);
        close_place(place);
    }
}

/* Threads that append and commit. Each has a session of its own; the log is one. */
struct committer {
    struct cubby_session session;
    _Atomic uint64_t *commits;
    bool is_power;
};

static void *commit_many(void *argument)
{
    struct committer *committer = argument;
    struct log *log = &committer->session.store->log;
    for (unsigned i = 0; i < COMMITS; i++) {
        uint8_t body[200];
        memset(body, (int)i, sizeof body);
        const struct log_record record = {LOG_PUT, sizeof body, body};
        uint64_t lsn;
        uint64_t end;
        CHECK_EQUAL(log_append(&committer->session, &record, 1, &lsn, &end), CUBBY_OK);
        CHECK_EQUAL(log_commit(&committer->session, end, committer->is_power), CUBBY_OK);
        CHECK(!committer->is_power || atomic_load(&log->flushed) >= end);
        atomic_fetch_add(committer->commits, 1);
    }
    return NULL;
}

/* Returns how many flushes so many threads have needed. */
static uint64_t run_committers(unsigned mode, size_t count, bool is_power)
{
    struct place *place = open_mode(mode);
    place->ops.flush = flush_slowly;
    atomic_store(&flush_count, 0);
    _Atomic uint64_t commits = 0;
    static struct committer committers[THREADS];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < count; i++) {
        committers[i] = (struct committer){
            .session = {.store = &place->store}, .commits = &commits, .is_power = is_power};
        CHECK_EQUAL(page_io_direct_open(place->store.device, &committers[i].session.io), 0);
        CHECK_EQUAL(pthread_create(&threads[i], NULL, commit_many, &committers[i]), 0);
    }
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        committers[i].session.io->ops->close(committers[i].session.io);
    }
    CHECK_EQUAL(commits, count * COMMITS);
    struct log_reader reader;
    struct log_found found;
    size_t read = 0;
    CHECK_EQUAL(
        log_reader_open(&reader, &place->session, place->run, atomic_load(&place->store.log.start)),
        CUBBY_OK);
    while (log_reader_next(&reader, &found) == CUBBY_OK) {
        read++;
    }
    CHECK_EQUAL(read, count * COMMITS);
    log_reader_close(&reader);
    close_place(place);
    return atomic_load(&flush_count);
}

static void test_commits_of_many_threads_share_flushes(void)
{
    for (unsigned mode = 0; mode < MODES; mode++) {
        CHECK_EQUAL(run_committers(mode, THREADS, false), 0);
        CHECK_EQUAL(run_committers(mode, 1, true), COMMITS);
        uint64_t flushes = run_committers(mode, THREADS, true);
        CHECK(flushes >= COMMITS && flushes <= THREADS * COMMITS / 2);
    }
}

int main(void)
{
    RUN_ALONE(test_what_is_appended_is_read_again_round_after_round);
    RUN_ALONE(test_records_of_all_sizes_and_none);
    RUN_ALONE(test_any_flipped_bit_ends_the_log_there_or_does_not_matter);
    RUN_ALONE(test_what_is_behind_a_missing_block_does_not_count);
    RUN_ALONE(test_an_older_state_of_a_block_ends_the_log);
    RUN_ALONE(test_blocks_of_other_runs_do_not_count);
    RUN_ALONE(test_damage_is_passed_over_if_asked);
    RUN_ALONE(test_each_user_may_fill_its_share_of_the_ring);
    RUN_ALONE(test_a_failed_flush_or_write_ends_the_log);
    RUN_ALONE(test_a_device_without_room_is_tried_again);
    RUN(test_commits_of_many_threads_share_flushes);
    return 0;
}
