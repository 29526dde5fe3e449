/* test_page_io_region.c -- a region before a device, as the store reaches it: against an array of
 * bytes, by several page_ios, with a device that fails, and from several threads.
 *
 * Depends on: check.h, fault_device.h, page_io_region.h.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "blockdev/fault_device.h"
#include "engine/cubby.h"
#include "engine/store/page_io_region.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

enum {
    BLOCKS = 2200,
    FIRST_LBA = 100,
    REGION_BLOCKS = 1900,
    CACHE_BLOCKS = 64,
    RUN_MAX = 8,
    STEPS = 60000,
    REQUESTS = 24,
    THREADS = 4,
    ROUNDS = 20000,
    BYTES = CUBBY_BLOCK_BYTES,
};

static uint8_t *aligned(size_t blocks)
{
    uint8_t *buffer = aligned_alloc(BYTES, blocks * BYTES);
    CHECK(buffer != NULL);
    memset(buffer, 0, blocks * BYTES);
    return buffer;
}

struct opened {
    struct block_device *device; /* may be told to fail */
    struct page_io_region *region;
    struct page_io *io;
    uint8_t *buffer; /* RUN_MAX blocks */
};

static struct page_io *reach(struct block_device *device, struct page_io_region *region)
{
    struct page_io *io;
    CHECK_EQUAL(page_io_direct_open(device, &io), 0);
    CHECK_EQUAL(page_io_region_reach(region, &io), 0);
    return io;
}

static struct opened opened(void)
{
    struct opened it = {.buffer = aligned(RUN_MAX)};
    struct block_device *memory;
    char message[CUBBY_MESSAGE_BYTES];
    CHECK_EQUAL(mem_device_open(BLOCKS, &memory), 0);
    CHECK_EQUAL(fault_device_open(memory, &it.device), 0);
    CHECK_EQUAL(page_io_region_open(it.device, FIRST_LBA, REGION_BLOCKS, CACHE_BLOCKS * BYTES,
                                    false, &it.region, message, sizeof message),
                0);
    it.io = reach(it.device, it.region);
    return it;
}

static void closed(struct opened *it)
{
    it->io->ops->close(it->io);
    page_io_region_close(it->region);
    it->device->ops->close(it->device);
    free(it->buffer);
}

static void write_byte(struct opened *it, uint64_t lba, int byte)
{
    memset(it->buffer, byte, BYTES);
    CHECK_EQUAL(it->io->ops->write(it->io, lba, 1, it->buffer), 0);
}

static int read_byte(struct opened *it, uint64_t lba)
{
    memset(it->buffer, 0xee, BYTES);
    CHECK_EQUAL(it->io->ops->read(it->io, lba, 1, it->buffer), 0);
    CHECK(memcmp(it->buffer, it->buffer + 1, BYTES - 1) == 0);
    return it->buffer[0];
}

/* Read often enough for a block to be kept. */
static void have_in_memory(struct opened *it, uint64_t lba)
{
    (void)read_byte(it, lba);
    (void)read_byte(it, lba);
    uint64_t before = it->io->blocks_read;
    (void)read_byte(it, lba);
    CHECK_EQUAL(it->io->blocks_read, before);
}

static struct page_io_region_stat stat_of(const struct opened *it)
{
    struct page_io_region_stat stat;
    page_io_region_stat(it->region, &stat);
    return stat;
}

/* Against a model ------------------------------------------------------------------------------
 */

struct model {
    struct opened it;
    struct page_io *other; /* reaches the same region */
    uint8_t *bytes;        /* what each block has */
    bool is_any[BLOCKS];   /* discarded, and not written since: it has anything */
    uint64_t random;
    struct block_request requests[REQUESTS];
    uint8_t *buffers; /* of the requests */
};

static void choose_range(struct model *model, uint64_t *lba, size_t *count)
{
    /* A third goes to some blocks, which stay in memory, and some begin at an edge. */
    static const uint64_t places[] = {0, FIRST_LBA - 3, FIRST_LBA + REGION_BLOCKS - 3};
    uint64_t choice = next_random(&model->random) % 10;
    uint64_t drawn = next_random(&model->random);
    *lba = choice < 3   ? FIRST_LBA + drawn % 40
           : choice < 6 ? places[choice - 3]
                        : drawn % (BLOCKS - RUN_MAX);
    *count = 1 + next_random(&model->random) % RUN_MAX;
}

static void fill(struct model *model, uint64_t lba, size_t count, uint8_t *buffer)
{
    for (size_t i = 0; i < count * BYTES; i += 512) {
        uint64_t drawn = next_random(&model->random);
        memcpy(buffer + i, &drawn, sizeof drawn);
    }
    memcpy(model->bytes + lba * BYTES, buffer, count * BYTES);
    memset(model->is_any + lba, false, count);
}

static void compare(const struct model *model, uint64_t lba, size_t count, const uint8_t *buffer)
{
    for (size_t i = 0; i < count; i++) {
        CHECK(model->is_any[lba + i] ||
              memcmp(model->bytes + (lba + i) * BYTES, buffer + i * BYTES, BYTES) == 0);
    }
}

/* Some requests at once, none of which meets a write of another. */
static void submit_some(struct model *model, struct page_io *io)
{
    static bool is_written[BLOCKS];
    static bool is_read[BLOCKS];
    memset(is_written, false, sizeof is_written);
    memset(is_read, false, sizeof is_read);
    size_t in_flight = 0;
    for (size_t i = 0; i < REQUESTS; i++) {
        struct block_request *request = &model->requests[in_flight];
        uint8_t *buffer = model->buffers + in_flight * RUN_MAX * BYTES;
        uint64_t lba;
        size_t count;
        choose_range(model, &lba, &count);
        bool is_write = next_random(&model->random) % 3 == 0;
        bool meets = memchr(is_written + lba, true, count) != NULL ||
                     (is_write && memchr(is_read + lba, true, count) != NULL);
        if (meets) {
            continue;
        }
        memset((is_write ? is_written : is_read) + lba, true, count);
        if (is_write) {
            fill(model, lba, count, buffer);
        }
        *request = (struct block_request){
            .operation = is_write ? BLOCK_WRITE : BLOCK_READ,
            .block_count = (uint32_t)count,
            .lba = lba,
            .buffer = buffer,
            .result = -1,
        };
        CHECK_EQUAL(io->ops->submit(io, request), 0);
        in_flight++;
    }
    while (in_flight > 0) {
        struct block_request *done[5];
        bool waits = next_random(&model->random) % 2 == 0;
        size_t count = waits ? io->ops->reap(io, done, 5) : io->ops->poll(io, done, 5);
        CHECK(count > 0 || !waits);
        for (size_t i = 0; i < count; i++) {
            CHECK_EQUAL(done[i]->result, 0);
            if (done[i]->operation == BLOCK_READ) {
                compare(model, done[i]->lba, done[i]->block_count, done[i]->buffer);
            }
        }
        in_flight -= count;
    }
}

static void step(struct model *model)
{
    struct page_io *io = next_random(&model->random) % 4 == 0 ? model->other : model->it.io;
    uint64_t choice = next_random(&model->random) % 100;
    uint64_t lba;
    size_t count;
    choose_range(model, &lba, &count);
    if (choice < 60) {
        CHECK_EQUAL(io->ops->read(io, lba, count, model->it.buffer), 0);
        compare(model, lba, count, model->it.buffer);
    } else if (choice < 92) {
        fill(model, lba, count, model->it.buffer);
        CHECK_EQUAL(io->ops->write(io, lba, count, model->it.buffer), 0);
    } else if (choice < 95) {
        CHECK_EQUAL(io->ops->discard(io, lba, count), 0);
        memset(model->is_any + lba, true, count);
    } else if (choice < 97) {
        uint64_t drawn = next_random(&model->random);
        uint64_t offset = drawn % (FIRST_LBA * BYTES - sizeof drawn);
        model->is_any[offset / BYTES] = false;
        model->is_any[(offset + sizeof drawn - 1) / BYTES] = false;
        uint64_t first = offset / BYTES;
        uint64_t last = (offset + sizeof drawn - 1) / BYTES;
        CHECK_EQUAL(io->ops->read(io, first, last - first + 1, model->bytes + first * BYTES), 0);
        CHECK_EQUAL(io->ops->write_cached(io, offset, sizeof drawn, &drawn), 0);
        memcpy(model->bytes + offset, &drawn, sizeof drawn);
    } else if (choice < 99) {
        submit_some(model, io);
    } else {
        CHECK_EQUAL(io->ops->flush(io), 0);
    }
}

static void test_reads_show_what_was_written_in_whatever_way(void)
{
    struct model *model = calloc(1, sizeof *model);
    CHECK(model != NULL);
    model->it = opened();
    model->other = reach(model->it.device, model->it.region);
    model->bytes = aligned(BLOCKS);
    model->buffers = aligned((size_t)REQUESTS * RUN_MAX);
    model->random = 20;
    for (unsigned i = 0; i < STEPS; i++) {
        step(model);
    }
    struct page_io_region_stat stat = stat_of(&model->it);
    CHECK(stat.evicted_blocks > CACHE_BLOCKS);
    CHECK(stat.bytes <= stat.limit_bytes);
    for (uint64_t lba = 0; lba < BLOCKS; lba++) { /* and all of it is on the device */
        CHECK_EQUAL(model->it.device->ops->read(model->it.device, lba, 1, model->it.buffer), 0);
        compare(model, lba, 1, model->it.buffer);
    }
    model->other->ops->close(model->other);
    closed(&model->it);
    free(model->buffers);
    free(model->bytes);
    free(model);
}

/* One thing each --------------------------------------------------------------------------------
 */

static void test_what_is_read_again_is_kept_within_the_region_alone(void)
{
    struct opened it = opened();
    uint64_t places[] = {FIRST_LBA, FIRST_LBA + REGION_BLOCKS - 1, FIRST_LBA - 1,
                         FIRST_LBA + REGION_BLOCKS};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        uint64_t before = it.io->blocks_read;
        for (int turn = 0; turn < 5; turn++) {
            CHECK_EQUAL(read_byte(&it, places[i]), 0);
        }
        CHECK_EQUAL(it.io->blocks_read - before, i < 2 ? 2 : 5);
    }
    CHECK_EQUAL(stat_of(&it).bytes, 2 * BYTES);
    page_io_region_drop(it.region);
    CHECK_EQUAL(stat_of(&it).bytes, 0);
    closed(&it);
}

static void test_counters_go_on_where_a_page_io_gets_a_region(void)
{
    struct opened it = opened();
    struct page_io *io;
    CHECK_EQUAL(page_io_direct_open(it.device, &io), 0);
    CHECK_EQUAL(io->ops->read(io, 0, 3, it.buffer), 0);
    CHECK_EQUAL(io->ops->write(io, 0, 2, it.buffer), 0);
    CHECK_EQUAL(page_io_region_reach(it.region, &io), 0);
    CHECK_EQUAL(io->ops->read(io, FIRST_LBA, 1, it.buffer), 0);
    CHECK_EQUAL(io->ops->write(io, FIRST_LBA, 1, it.buffer), 0);
    CHECK_EQUAL(io->blocks_read, 4);
    CHECK_EQUAL(io->blocks_written, 3);
    io->ops->close(io);
    closed(&it);
}

static void test_a_discard_drops_what_is_in_memory(void)
{
    struct opened it = opened();
    for (uint64_t lba = FIRST_LBA; lba < FIRST_LBA + 4; lba++) {
        write_byte(&it, lba, 7);
        have_in_memory(&it, lba);
    }
    CHECK_EQUAL(it.io->ops->discard(it.io, FIRST_LBA - 2, 4), 0);
    CHECK_EQUAL(stat_of(&it).bytes, 2 * BYTES);
    uint64_t before = it.io->blocks_read;
    CHECK_EQUAL(it.io->ops->read(it.io, FIRST_LBA, 4, it.buffer), 0);
    CHECK_EQUAL(it.io->blocks_read, before + 4);
    CHECK_EQUAL(read_byte(&it, FIRST_LBA + 2), 7);
    CHECK_EQUAL(it.io->blocks_read, before + 4);
    closed(&it);
}

static void test_errors_of_reading_are_passed_on(void)
{
    struct opened it = opened();
    write_byte(&it, FIRST_LBA, 1);
    have_in_memory(&it, FIRST_LBA);
    fault_device_arm(it.device, FAULT_READ, 1);
    struct page_io *io = it.io;
    CHECK_EQUAL(io->ops->read(io, FIRST_LBA + 1, 1, it.buffer), EIO);
    CHECK_EQUAL(io->ops->read(io, FIRST_LBA + 1, 1, it.buffer), EIO); /* to be kept */
    CHECK_EQUAL(io->ops->read(io, FIRST_LBA, 2, it.buffer), EIO);
    CHECK_EQUAL(io->ops->read(io, 0, 1, it.buffer), EIO);
    CHECK_EQUAL(read_byte(&it, FIRST_LBA), 1);
    struct block_request request = {
        .operation = BLOCK_READ, .block_count = 1, .lba = FIRST_LBA + 1, .buffer = it.buffer};
    struct block_request *done[1];
    CHECK_EQUAL(io->ops->submit(io, &request), 0);
    CHECK_EQUAL(io->ops->reap(io, done, 1), 1);
    CHECK_EQUAL(request.result, EIO);
    fault_device_arm(it.device, FAULT_READ, 0);
    CHECK_EQUAL(read_byte(&it, FIRST_LBA + 1), 0);
    closed(&it);
}

static void test_errors_of_writing_are_passed_on_and_change_nothing_in_memory(void)
{
    struct opened it = opened();
    write_byte(&it, FIRST_LBA, 1);
    have_in_memory(&it, FIRST_LBA);
    fault_device_arm(it.device, FAULT_WRITE, 1);
    struct page_io *io = it.io;
    memset(it.buffer, 2, 2 * BYTES);
    CHECK_EQUAL(io->ops->write(io, FIRST_LBA, 2, it.buffer), EIO);
    struct block_request request = {
        .operation = BLOCK_WRITE, .block_count = 1, .lba = FIRST_LBA, .buffer = it.buffer};
    struct block_request *done[1];
    CHECK_EQUAL(io->ops->submit(io, &request), 0);
    CHECK_EQUAL(io->ops->reap(io, done, 1), 1);
    CHECK(done[0] == &request);
    CHECK_EQUAL(request.result, EIO);
    fault_device_arm(it.device, FAULT_WRITE, 0);
    CHECK_EQUAL(read_byte(&it, FIRST_LBA), 1);
    CHECK_EQUAL(read_byte(&it, FIRST_LBA + 1), 0);
    write_byte(&it, FIRST_LBA, 3);
    CHECK_EQUAL(read_byte(&it, FIRST_LBA), 3);
    fault_device_arm(it.device, FAULT_FLUSH, 1);
    CHECK_EQUAL(io->ops->flush(io), EIO);
    closed(&it);
}

static bool is_readable(int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    CHECK(poll(&wanted, 1, 0) >= 0);
    return (wanted.revents & POLLIN) != 0;
}

static void test_the_event_tells_of_what_was_done_at_once(void)
{
    struct opened it = opened();
    struct page_io *io = it.io;
    have_in_memory(&it, FIRST_LBA);
    struct block_request *done[4];
    CHECK_EQUAL(io->ops->poll(io, done, 4), 0);
    int fd;
    CHECK_EQUAL(io->ops->event_fd(io, 4, &fd), 0);
    int again;
    CHECK_EQUAL(io->ops->event_fd(io, 4, &again), 0);
    CHECK_EQUAL(again, fd);
    CHECK(!is_readable(fd));
    struct block_request requests[2] = {
        {.operation = BLOCK_READ, .block_count = 1, .lba = FIRST_LBA, .buffer = it.buffer},
        {.operation = BLOCK_READ, .block_count = 1, .lba = 500, .buffer = it.buffer + BYTES},
    };
    CHECK_EQUAL(io->ops->submit(io, &requests[0]), 0);
    CHECK(is_readable(fd));
    CHECK_EQUAL(io->ops->submit(io, &requests[1]), 0);
    size_t count = io->ops->poll(io, done, 1);
    CHECK_EQUAL(count, 1);
    CHECK(done[0] == &requests[0]);
    while (count < 2) {
        count += io->ops->poll(io, done, 4);
    }
    CHECK_EQUAL(io->ops->poll(io, done, 4), 0);
    CHECK(!is_readable(fd));
    closed(&it);
}

static void test_more_than_can_wait_is_refused(void)
{
    struct opened it = opened();
    struct page_io *io = it.io;
    have_in_memory(&it, FIRST_LBA);
    static struct block_request requests[PAGE_IO_REGION_DONE_MAX + 1];
    for (size_t i = 0; i <= PAGE_IO_REGION_DONE_MAX; i++) {
        requests[i] = (struct block_request){
            .operation = BLOCK_READ, .block_count = 1, .lba = FIRST_LBA, .buffer = it.buffer};
        CHECK_EQUAL(io->ops->submit(io, &requests[i]), i < PAGE_IO_REGION_DONE_MAX ? 0 : EAGAIN);
    }
    for (size_t left = PAGE_IO_REGION_DONE_MAX; left > 0;) {
        struct block_request *done[50];
        size_t count = io->ops->reap(io, done, 50);
        CHECK(count > 0);
        left -= count;
    }
    struct block_request *done[1];
    CHECK_EQUAL(io->ops->reap(io, done, 1), 0);
    closed(&it);
}

static void test_a_write_that_the_queue_refuses_changes_nothing(void)
{
    struct opened it = opened();
    struct page_io *io = it.io;
    write_byte(&it, FIRST_LBA, 1);
    have_in_memory(&it, FIRST_LBA);
    static struct block_request requests[PAGE_IO_DEPTH + 1];
    uint8_t *block = aligned(1);
    int status = 0;
    size_t count = 0;
    while (status == 0) {
        CHECK(count <= PAGE_IO_DEPTH);
        requests[count] = (struct block_request){
            .operation = BLOCK_WRITE,
            .block_count = 1,
            .lba = count < PAGE_IO_DEPTH ? FIRST_LBA + 1 + count : FIRST_LBA,
            .buffer = block,
        };
        status = io->ops->submit(io, &requests[count]);
        count += status == 0;
    }
    CHECK_EQUAL(status, EAGAIN);
    CHECK_EQUAL(count, PAGE_IO_DEPTH);
    while (count > 0) {
        struct block_request *done[50];
        count -= io->ops->reap(io, done, 50);
    }
    CHECK_EQUAL(read_byte(&it, FIRST_LBA), 1);
    write_byte(&it, FIRST_LBA, 2); /* nobody has it any more */
    CHECK_EQUAL(read_byte(&it, FIRST_LBA), 2);
    free(block);
    closed(&it);
}

static void test_nobody_waits_for_a_write_that_is_in_flight(void)
{
    struct opened it = opened();
    struct page_io *io = it.io;
    write_byte(&it, FIRST_LBA, 1);
    have_in_memory(&it, FIRST_LBA);
    uint8_t *blocks = aligned(2);
    memset(blocks, 2, 2 * BYTES);
    struct block_request request = {
        .operation = BLOCK_WRITE, .block_count = 2, .lba = FIRST_LBA, .buffer = blocks};
    CHECK_EQUAL(io->ops->submit(io, &request), 0);
    for (uint64_t lba = FIRST_LBA; lba < FIRST_LBA + 2; lba++) {
        int byte = read_byte(&it, lba);
        CHECK(byte == (lba == FIRST_LBA ? 1 : 0) || byte == 2);
    }
    struct block_request *done[1];
    CHECK_EQUAL(io->ops->reap(io, done, 1), 1);
    CHECK(done[0] == &request);
    CHECK_EQUAL(request.result, 0);
    CHECK_EQUAL(read_byte(&it, FIRST_LBA), 2);
    CHECK_EQUAL(read_byte(&it, FIRST_LBA + 1), 2);
    free(blocks);
    closed(&it);
}

/* Threads ---------------------------------------------------------------------------------------
 */

struct crowd {
    struct opened it;
    _Atomic bool is_over;
    _Atomic uint64_t version; /* whose write has returned; its lowest byte is all that there is */
};

static void *read_all_the_time(void *argument)
{
    struct crowd *crowd = argument;
    struct page_io *io = reach(crowd->it.device, crowd->it.region);
    uint8_t *block = aligned(1);
    uint64_t random = (uint64_t)(uintptr_t)io;
    while (!atomic_load(&crowd->is_over)) {
        uint64_t least = atomic_load(&crowd->version);
        CHECK_EQUAL(io->ops->read(io, FIRST_LBA, 1, block), 0);
        uint64_t most = atomic_load(&crowd->version) + 1;
        for (size_t i = 0; i < BYTES && most - least <= UINT8_MAX; i++) {
            CHECK((uint8_t)(block[i] - least) <= most - least);
        }
        uint64_t lba = FIRST_LBA + 1 + next_random(&random) % (2 * CACHE_BLOCKS);
        CHECK_EQUAL(io->ops->read(io, lba, 1, block), 0);
    }
    io->ops->close(io);
    free(block);
    return NULL;
}

static void test_readers_see_at_least_what_had_been_written(void)
{
    struct crowd crowd = {.it = opened()};
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, read_all_the_time, &crowd), 0);
    }
    for (unsigned i = 1; i <= ROUNDS; i++) {
        write_byte(&crowd.it, FIRST_LBA, (uint8_t)i);
        atomic_store(&crowd.version, i);
        write_byte(&crowd.it, FIRST_LBA + 1 + i % (2 * CACHE_BLOCKS), (uint8_t)i);
    }
    atomic_store(&crowd.is_over, true);
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    closed(&crowd.it);
}

int main(void)
{
    RUN_ALONE(test_reads_show_what_was_written_in_whatever_way);
    RUN(test_what_is_read_again_is_kept_within_the_region_alone);
    RUN(test_counters_go_on_where_a_page_io_gets_a_region);
    RUN(test_a_discard_drops_what_is_in_memory);
    RUN(test_errors_of_reading_are_passed_on);
    RUN(test_errors_of_writing_are_passed_on_and_change_nothing_in_memory);
    RUN(test_the_event_tells_of_what_was_done_at_once);
    RUN(test_more_than_can_wait_is_refused);
    RUN(test_a_write_that_the_queue_refuses_changes_nothing);
    RUN(test_nobody_waits_for_a_write_that_is_in_flight);
    RUN(test_readers_see_at_least_what_had_been_written);
    return 0;
}
