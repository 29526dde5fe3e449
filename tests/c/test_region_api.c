/* test_region_api.c -- the cubby_region_* functions: bytes that need not be pages, what they refuse
 * and say, pins that are counted, threads, and why a SIGBUS was one.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "engine/cubby.h"
#include "engine/cubby_region.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

enum {
    PAGE = CUBBY_BLOCK_BYTES,
    BYTES = 200 * PAGE,
    CACHE_BYTES = 64 * PAGE,
    STEPS = 3000,
    THREADS = 4,
    CROWD = 8, /* threads that together pin more than there is in the cache */
};

static char message[CUBBY_MESSAGE_BYTES];

#define SAID message, sizeof message

static cubby_region *opened(const char *name, uint32_t pins_only)
{
    const struct cubby_region_options options = {.cache_bytes = CACHE_BYTES,
                                                 .pins_only = pins_only};
    cubby_region *region;
    CHECK_EQUAL(cubby_region_open(name, &options, &region, SAID), CUBBY_OK);
    if (message[0] != '\0') {
        printf("  %s\n", message);
    }
    return region;
}

static struct cubby_region_stat stat_of(cubby_region *region)
{
    struct cubby_region_stat stat;
    CHECK_EQUAL(cubby_region_stat(region, &stat), CUBBY_OK);
    return stat;
}

/* Against a model -------------------------------------------------------------------------------
 */

static void step(cubby_region *region, uint8_t *model, uint8_t *buffer, uint64_t *random)
{
    uint64_t offset = next_random(random) % BYTES;
    uint64_t size = next_random(random) % (next_random(random) % 2 == 0 ? 100 : 20 * PAGE);
    size = size > BYTES - offset ? BYTES - offset : size;
    uint8_t *address;
    switch (next_random(random) % 6) {
    case 0:
        CHECK_EQUAL(cubby_region_load(region, offset, size, buffer, SAID), CUBBY_OK);
        CHECK(memcmp(buffer, model + offset, size) == 0);
        break;
    case 1:
        memset(buffer, (int)(next_random(random) & 0xff), size);
        CHECK_EQUAL(cubby_region_store(region, offset, size, buffer, SAID), CUBBY_OK);
        memcpy(model + offset, buffer, size);
        break;
    case 2:
        if (cubby_region_base(region) == NULL) { /* then a pin is of one page */
            uint64_t left = PAGE - offset % PAGE;
            if (size > left) {
                CHECK_EQUAL(
                    cubby_region_pin(region, offset, size, CUBBY_REGION_READ, &address, SAID),
                    CUBBY_BAD_ARGUMENT);
                size = left;
            }
        }
        CHECK_EQUAL(cubby_region_pin(region, offset, size + (size == 0), CUBBY_REGION_WRITE,
                                     &address, SAID),
                    CUBBY_OK);
        CHECK(cubby_region_base(region) == NULL || address == cubby_region_base(region) + offset);
        CHECK(memcmp(address, model + offset, size) == 0);
        memset(address, (int)(offset & 0xff), size);
        memset(model + offset, (int)(offset & 0xff), size);
        cubby_region_unpin(region, offset, size + (size == 0), CUBBY_REGION_WRITE);
        break;
    case 3: /* at any address, but whole pages */
        offset -= offset % PAGE;
        size -= size % PAGE;
        CHECK_EQUAL(cubby_region_read(region, offset, size, buffer + 1, SAID), CUBBY_OK);
        CHECK(memcmp(buffer + 1, model + offset, size) == 0);
        break;
    case 4:
        offset -= offset % PAGE;
        size -= size % PAGE;
        memset(buffer, (int)(next_random(random) & 0xff), size);
        CHECK_EQUAL(cubby_region_write(region, offset, size, buffer, SAID), CUBBY_OK);
        memcpy(model + offset, buffer, size);
        break;
    default:
        CHECK_EQUAL(cubby_region_sync(region, offset, size, SAID), CUBBY_OK);
        CHECK_EQUAL(cubby_region_advise(region, offset, size, (uint32_t)(offset % 4), SAID),
                    CUBBY_OK);
    }
}

static void compare_with_an_array(uint32_t pins_only)
{
    cubby_region *region = opened("mem:819200", pins_only);
    CHECK_EQUAL(cubby_region_size(region), BYTES);
    uint8_t *model = calloc(1, BYTES);
    uint8_t *buffer = malloc(20 * PAGE + 1);
    CHECK(model != NULL && buffer != NULL);
    uint64_t random = pins_only;
    for (unsigned i = 0; i < STEPS; i++) {
        step(region, model, buffer, &random);
    }
    CHECK_EQUAL(stat_of(region).pinned_pages, 0);
    CHECK_EQUAL(cubby_region_close(region, SAID), CUBBY_OK);
    free(buffer);
    free(model);
}

static void bytes_are_those_of_an_array(void)
{
    compare_with_an_array(0);
}

static void bytes_without_pointers_are_those_of_an_array(void)
{
    compare_with_an_array(1);
}

/* What is refused -------------------------------------------------------------------------------
 */

static void what_is_refused_is_said(void)
{
    cubby_region *region = opened("mem:819200", 0);
    uint8_t byte[PAGE];
    uint8_t *address;
    const uint64_t outside[][2] = {{BYTES, 1}, {1, BYTES}, {UINT64_MAX, 1}, {1, UINT64_MAX}};
    for (unsigned i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        uint64_t offset = outside[i][0], size = outside[i][1];
        const int statuses[] = {
            cubby_region_load(region, offset, size, byte, SAID),
            cubby_region_store(region, offset, size, byte, SAID),
            cubby_region_read(region, offset, size, byte, SAID),
            cubby_region_write(region, offset, size, byte, SAID),
            cubby_region_sync(region, offset, size, SAID),
            cubby_region_advise(region, offset, size, CUBBY_REGION_WILLNEED, SAID),
            cubby_region_pin(region, offset, size, CUBBY_REGION_READ, &address, SAID),
        };
        for (unsigned j = 0; j < sizeof statuses / sizeof statuses[0]; j++) {
            CHECK_EQUAL(statuses[j], CUBBY_BAD_ARGUMENT);
        }
        CHECK(strstr(message, "mem:819200 is mapped with 819200 bytes; pinning") != NULL);
    }
    CHECK_EQUAL(cubby_region_pin(region, 0, 0, 0, &address, NULL, 0), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_region_pin(region, 0, 1, 2, &address, NULL, 0), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_region_advise(region, 0, 1, 4, NULL, 0), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_region_read(region, 1, PAGE, byte, NULL, 0), CUBBY_BAD_ARGUMENT);
    cubby_region_abandon(region);
    cubby_region_abandon(NULL);

    const struct cubby_region_options wrong[] = {
        {.first_byte = 1},  {.size_bytes = PAGE + 1}, {.size_bytes = BYTES + PAGE},
        {.cache_bytes = 1}, {.first_byte = BYTES},    {.first_byte = UINT64_MAX - PAGE + 1},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQUAL(cubby_region_open("mem:819200", &wrong[i], &region, SAID), CUBBY_BAD_ARGUMENT);
        CHECK(strstr(message, "mem:819200") != NULL);
    }
}

static void pins_are_counted(void)
{
    cubby_region *region = opened("mem:819200", 0);
    uint8_t *addresses[3];
    const uint64_t offsets[] = {5 * PAGE + 3, 100 * PAGE, 7};
    CHECK_EQUAL(cubby_region_pin_many(region, 3, offsets, CUBBY_REGION_WRITE, addresses, SAID),
                CUBBY_OK);
    CHECK(addresses[0] == cubby_region_base(region) + 5 * PAGE + 3);
    CHECK_EQUAL(cubby_region_pin(region, PAGE - 1, 2, CUBBY_REGION_READ, addresses, SAID),
                CUBBY_OK);
    CHECK_EQUAL(stat_of(region).pinned_pages, 5);
    CHECK_EQUAL(cubby_region_pin(region, 0, 28 * PAGE, CUBBY_REGION_READ, addresses, SAID),
                ENOBUFS);
    CHECK(strstr(message, "28 pages beside 5: pins may have half of the cache, 32") != NULL);
    CHECK_EQUAL(cubby_region_close(region, SAID), EBUSY);
    cubby_region_unpin(region, PAGE - 1, 2, CUBBY_REGION_READ);
    for (unsigned i = 0; i < 3; i++) {
        cubby_region_unpin(region, offsets[i], 1, CUBBY_REGION_WRITE);
    }
    CHECK_EQUAL(stat_of(region).pinned_pages, 0);
    CHECK_EQUAL(cubby_region_close(region, SAID), CUBBY_OK);
}

/* Threads ---------------------------------------------------------------------------------------
 */

struct worker {
    pthread_t thread;
    cubby_region *region;
    uint64_t number;
};

/* Each has 8 bytes of every page. */
static void *work(void *state)
{
    struct worker *worker = state;
    uint64_t random = worker->number;
    char said[CUBBY_MESSAGE_BYTES];
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t offset = next_random(&random) % (BYTES / PAGE) * PAGE + 8 * worker->number;
        uint64_t written = next_random(&random), found;
        CHECK_EQUAL(
            cubby_region_store(worker->region, offset, 8, (uint8_t *)&written, said, sizeof said),
            CUBBY_OK);
        CHECK_EQUAL(
            cubby_region_load(worker->region, offset, 8, (uint8_t *)&found, said, sizeof said),
            CUBBY_OK);
        CHECK(found == written);
    }
    return NULL;
}

static void threads_share_a_region(void)
{
    struct worker workers[THREADS];
    cubby_region *region = opened("mem:819200", 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.region = region, .number = i};
        CHECK_EQUAL(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    CHECK_EQUAL(cubby_region_close(region, SAID), CUBBY_OK);
}

/* Each has an eighth of the region. */
static void *store_much(void *state)
{
    static const uint8_t content[BYTES / CROWD];
    struct worker *worker = state;
    uint64_t offset = worker->number * sizeof content;
    CHECK_EQUAL(cubby_region_store(worker->region, offset, sizeof content, content, NULL, 0),
                CUBBY_OK);
    return NULL;
}

static void room_is_waited_for_where_the_device_is_slow(void)
{
    struct worker workers[CROWD];
    cubby_region *region = opened("fault:delay=30000:mem:819200", 0);
    for (unsigned i = 0; i < CROWD; i++) {
        workers[i] = (struct worker){.region = region, .number = i};
        CHECK_EQUAL(pthread_create(&workers[i].thread, NULL, store_much, &workers[i]), 0);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    CHECK_EQUAL(cubby_region_close(region, SAID), CUBBY_OK);
}

/* Faults ----------------------------------------------------------------------------------------
 */

static sigjmp_buf before_fault;

static void catch_fault(int number)
{
    siglongjmp(before_fault, number);
}

static void a_fault_says_why(void)
{
    uint64_t offset;
    CHECK_EQUAL(cubby_region_last_fault(&offset), CUBBY_OK);
    cubby_region *region = opened("fault:read=2:mem:819200", 0);
    if (stat_of(region).has_pointers) {
        volatile uint8_t *memory = cubby_region_base(region);
        CHECK_EQUAL(memory[0], 0);
        if (sigsetjmp(before_fault, 1) == 0) {
            CHECK_EQUAL(memory[100 * PAGE + 5], 1); /* does not return */
        }
        CHECK_EQUAL(cubby_region_last_fault(&offset), EIO);
        CHECK_EQUAL(offset, 100 * PAGE);
    }
    cubby_region_abandon(region);
}

int main(void)
{
    signal(SIGBUS, catch_fault); /* before there is a region, which passes on to it */
    RUN(bytes_are_those_of_an_array);
    RUN(bytes_without_pointers_are_those_of_an_array);
    RUN(what_is_refused_is_said);
    RUN(pins_are_counted);
    RUN(threads_share_a_region);
    RUN(room_is_waited_for_where_the_device_is_slow);
    RUN(a_fault_says_why);
    return 0;
}
