/* test_model_device.c -- a model never answers early, and many requests wait at the same time.
 *
 * Times are checked from below only: a slow machine makes nothing fail.
 *
 * Depends on: check.h, test_block_device_contract.h.
 */
#include "blockdev/model_device.h"

#include <errno.h>
#include <unistd.h>

#include "blockdev/fault_device.h"
#include "blockdev/wait.h"
#include "tests/c/check.h"
#include "tests/c/test_block_device_contract.h"

enum {
    NS_PER_US = 1000,
};

static struct block_device *open_model(const struct model_parameters *parameters)
{
    struct block_device *memory;
    struct block_device *device;
    CHECK_EQUAL(mem_device_open(CONTRACT_BLOCKS, &memory), 0);
    CHECK_EQUAL(model_device_open_with(memory, parameters, &device), 0);
    return device;
}

static struct block_queue *open_queue(struct block_device *device)
{
    struct block_queue *queue;
    CHECK_EQUAL(device->ops->queue_open(device, CONTRACT_DEPTH, &queue), 0);
    return queue;
}

static const struct model_parameters QUICK = {
    .read_latency_us = 3,
    .write_latency_us = 2,
    .flush_latency_us = 1,
    .read_bytes_per_second = 4000000000,
    .write_bytes_per_second = 2000000000,
    .reads_per_second = 1000000,
    .writes_per_second = 500000,
};

static void test_model_keeps_the_contract(void)
{
    contract_of_device("model", open_model(&QUICK));
    contract_of_device("model without limits", open_model(&(struct model_parameters){0}));
}

static void test_model_on_a_file_keeps_the_contract(void)
{
    char path[] = "/tmp/cubby-model-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, CONTRACT_BLOCKS * CUBBY_BLOCK_BYTES), 0);
    close(fd);
    struct block_device *file;
    struct block_device *device;
    CHECK_EQUAL(file_device_open(path, 0, &file, NULL, 0), 0);
    CHECK_EQUAL(model_device_open_with(file, &QUICK, &device), 0);
    contract_of_device("model on a file", device);
    unlink(path);
}

static void test_every_drive_is_found_and_opened(void)
{
    const char *names[] = {"csd-2000", "csd-3000", "p4500", "p4800x", "s4500"};
    char list[256];
    model_device_list(list, sizeof list);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct model_parameters *drive = model_device_find(names[i], strlen(names[i]));
        CHECK(drive != NULL);
        CHECK(strstr(list, names[i]) != NULL);
        CHECK(drive->read_latency_us > 0 && drive->write_latency_us > 0);
        CHECK(drive->flush_latency_us > 0);
        CHECK(drive->reads_per_second > 0 && drive->writes_per_second > 0);
        CHECK(drive->read_bytes_per_second >= (uint64_t)drive->writes_per_second);
        struct block_device *memory;
        struct block_device *device;
        CHECK_EQUAL(mem_device_open(CONTRACT_BLOCKS, &memory), 0);
        CHECK_EQUAL(model_device_open(memory, names[i], &device, (struct device_message){0}), 0);
        write_block_of(device, 1, 1);
        CHECK(block_is(device, 1, 1));
        CHECK_EQUAL(device->ops->flush(device), 0);
        device->ops->close(device);
    }
    model_device_list(list, 4);
    CHECK_EQUAL(strcmp(list, "csd"), 0);
}

static void test_unknown_drive_is_told_the_known_ones(void)
{
    char text[CUBBY_MESSAGE_BYTES];
    const struct device_message message = {.text = text, .size = sizeof text};
    struct block_device *memory;
    struct block_device *device = NULL;
    CHECK_EQUAL(mem_device_open(1, &memory), 0);
    const char *bad[] = {"", "csd", "csd-20000", "floppy"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQUAL(model_device_open(memory, bad[i], &device, message), CUBBY_BAD_ARGUMENT);
        CHECK(device == NULL);
        CHECK(strstr(text, bad[i]) != NULL);
        CHECK(strstr(text, "csd-2000, csd-3000") != NULL);
    }
    memory->ops->close(memory);
}

static void test_one_request_at_a_time_takes_the_latency(void)
{
    struct block_device *device = open_model(&(struct model_parameters){
        .read_latency_us = 1500, .write_latency_us = 1000, .flush_latency_us = 500});
    for (int i = 0; i < 3; i++) {
        uint64_t start_ns = wait_now_ns();
        write_block_of(device, 1, i);
        uint64_t written_ns = wait_now_ns();
        CHECK(written_ns - start_ns >= 1000 * NS_PER_US);
        CHECK(block_is(device, 1, i));
        uint64_t read_ns = wait_now_ns();
        CHECK(read_ns - written_ns >= 1500 * NS_PER_US);
        CHECK_EQUAL(device->ops->flush(device), 0);
        CHECK(wait_now_ns() - read_ns >= 500 * NS_PER_US);
    }
    device->ops->close(device);
}

static void test_queued_request_takes_the_latency(void)
{
    struct block_device *device = open_model(&(struct model_parameters){.read_latency_us = 2000});
    struct block_queue *queue = open_queue(device);
    struct block_request requests[CONTRACT_DEPTH];
    uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 1);
    uint64_t start_ns = wait_now_ns();
    submit_all(queue, requests, CONTRACT_DEPTH, BLOCK_READ, 0, buffers);
    struct block_request *done[1];
    CHECK_EQUAL(queue->ops->reap(queue, done, 1), 1);
    CHECK(wait_now_ns() - start_ns >= 2000 * NS_PER_US);
    reap_all(queue, CONTRACT_DEPTH - 1, CONTRACT_DEPTH, 0);
    queue->ops->close(queue);
    device->ops->close(device);
    free(buffers);
}

/* Were they one after the other, one latency would be enough for one of them only. */
static void test_requests_in_flight_wait_at_the_same_time(void)
{
    const uint32_t latency_us = 3000;
    struct block_device *device =
        open_model(&(struct model_parameters){.write_latency_us = latency_us});
    struct block_queue *queue = open_queue(device);
    struct block_request requests[CONTRACT_DEPTH];
    uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 1);
    submit_all(queue, requests, CONTRACT_DEPTH, BLOCK_WRITE, 0, buffers);
    wait_until_ns(wait_now_ns() + (uint64_t)latency_us * NS_PER_US);
    struct block_request *done[CONTRACT_DEPTH];
    CHECK_EQUAL(queue->ops->reap(queue, done, CONTRACT_DEPTH), CONTRACT_DEPTH);
    for (size_t i = 0; i < CONTRACT_DEPTH; i++) {
        CHECK(done[i] == &requests[i]);
        CHECK_EQUAL(done[i]->result, 0);
    }
    queue->ops->close(queue);
    device->ops->close(device);
    free(buffers);
}

static void test_many_in_flight_meet_the_limit_of_operations(void)
{
    struct block_device *device =
        open_model(&(struct model_parameters){.read_latency_us = 10, .reads_per_second = 1000});
    struct block_queue *queue = open_queue(device);
    struct block_request requests[CONTRACT_DEPTH];
    uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 1);
    uint64_t start_ns = wait_now_ns();
    submit_all(queue, requests, CONTRACT_DEPTH, BLOCK_READ, 0, buffers);
    reap_all(queue, CONTRACT_DEPTH, CONTRACT_DEPTH, 0);
    CHECK(wait_now_ns() - start_ns >= (uint64_t)CONTRACT_DEPTH * 1000 * NS_PER_US);
    queue->ops->close(queue);
    device->ops->close(device);
    free(buffers);
}

static void *read_four(void *argument)
{
    struct contract_thread *self = argument;
    for (uint64_t lba = 0; lba < 4; lba++) {
        CHECK(block_is(self->device, lba, 0));
    }
    return NULL;
}

static void test_threads_share_the_limit(void)
{
    struct block_device *device =
        open_model(&(struct model_parameters){.read_latency_us = 10, .reads_per_second = 1000});
    struct contract_thread threads[CONTRACT_THREADS];
    uint64_t start_ns = wait_now_ns();
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        threads[i] = (struct contract_thread){.device = device, .number = i};
        CHECK_EQUAL(pthread_create(&threads[i].thread, NULL, read_four, &threads[i]), 0);
    }
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i].thread, NULL), 0);
    }
    CHECK(wait_now_ns() - start_ns >= (uint64_t)CONTRACT_THREADS * 4 * 1000 * NS_PER_US);
    device->ops->close(device);
}

static void test_large_transfer_meets_the_limit_of_bandwidth(void)
{
    /* 100 blocks at 40,960,000 bytes per second: 10 ms. */
    struct block_device *device = open_model(&(struct model_parameters){
        .write_latency_us = 10, .write_bytes_per_second = 40960000, .writes_per_second = 1000000});
    uint8_t *blocks = blocks_of(100, 1);
    uint64_t start_ns = wait_now_ns();
    CHECK_EQUAL(device->ops->write(device, 0, 100, blocks), 0);
    CHECK(wait_now_ns() - start_ns >= 10000 * NS_PER_US);
    device->ops->close(device);
    free(blocks);
}

static void test_requests_are_reaped_as_their_times_come(void)
{
    const uint32_t read_latency_us = 200000;
    struct block_device *device = open_model(
        &(struct model_parameters){.read_latency_us = read_latency_us, .write_latency_us = 10});
    struct block_queue *queue = open_queue(device);
    struct block_request requests[2];
    uint8_t *buffers = blocks_of(2, 1);
    uint64_t start_ns = wait_now_ns();
    submit_all(queue, requests, 1, BLOCK_READ, 0, buffers);
    submit_all(queue, requests + 1, 1, BLOCK_WRITE, 1, buffers + CUBBY_BLOCK_BYTES);
    bool submitted_together = wait_now_ns() - start_ns < read_latency_us / 2 * NS_PER_US;
    struct block_request *done[1];
    CHECK_EQUAL(queue->ops->reap(queue, done, 1), 1);
    CHECK(!submitted_together || done[0] == &requests[1]);
    CHECK_EQUAL(queue->ops->reap(queue, done, 1), 1);
    CHECK(!submitted_together || done[0] == &requests[0]);
    CHECK(wait_now_ns() - start_ns >= read_latency_us * NS_PER_US);
    queue->ops->close(queue);
    device->ops->close(device);
    free(buffers);
}

static void test_failures_below_pass_through(void)
{
    struct block_device *memory;
    struct block_device *fault;
    struct block_device *device;
    CHECK_EQUAL(mem_device_open(CONTRACT_BLOCKS, &memory), 0);
    CHECK_EQUAL(fault_device_open(memory, &fault), 0);
    CHECK_EQUAL(model_device_open_with(fault, &QUICK, &device), 0);
    uint8_t *block = blocks_of(1, 0);
    fault_device_arm_once(fault, FAULT_WRITE, 1);
    fault_device_arm_once(fault, FAULT_READ, 1);
    fault_device_arm_once(fault, FAULT_FLUSH, 1);
    CHECK_EQUAL(device->ops->write(device, 0, 1, block), EIO);
    CHECK_EQUAL(device->ops->read(device, 0, 1, block), EIO);
    CHECK_EQUAL(device->ops->flush(device), EIO);
    struct block_queue *queue = open_queue(device);
    struct block_request requests[1];
    fault_device_arm_once(fault, FAULT_READ, 1);
    submit_all(queue, requests, 1, BLOCK_READ, 0, block);
    reap_all(queue, 1, 1, EIO);
    queue->ops->close(queue);
    device->ops->close(device);
    free(block);
}

int main(void)
{
    RUN(test_model_keeps_the_contract);
    RUN(test_model_on_a_file_keeps_the_contract);
    RUN(test_every_drive_is_found_and_opened);
    RUN(test_unknown_drive_is_told_the_known_ones);
    RUN(test_one_request_at_a_time_takes_the_latency);
    RUN(test_queued_request_takes_the_latency);
    RUN(test_requests_in_flight_wait_at_the_same_time);
    RUN(test_many_in_flight_meet_the_limit_of_operations);
    RUN(test_threads_share_the_limit);
    RUN(test_large_transfer_meets_the_limit_of_bandwidth);
    RUN(test_requests_are_reaped_as_their_times_come);
    RUN(test_failures_below_pass_through);
    return 0;
}
