/* test_mmapio_failures.c -- what becomes of a program that uses a region when things go wrong:
 * loads that fail, stores that may not be, children, and a system that refuses userfaultfd.
 *
 * What ends a process is tried in a child.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/cubby.h"
#include "mmapio/region.h"
#include "tests/c/check.h"

#ifdef CUBBY_SANITIZED
/* AddressSanitizer would tell of a signal, and exit. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "handle_sigbus=0:handle_segv=0";
}
#endif

enum {
    PAGES = 500,
    CACHE_PAGES = 80,
    BYTES = CUBBY_BLOCK_BYTES,
};

struct opened {
    struct block_device *device;
    struct mmapio_region *region;
    bool has_pointers;
    char message[CUBBY_MESSAGE_BYTES];
};

static struct opened opened(const char *name, struct mmapio_options options)
{
    struct opened it;
    CHECK_EQUAL(block_device_open(name, 0, &it.device, it.message, sizeof it.message), 0);
    CHECK_EQUAL(mmapio_open(it.device, 0, PAGES, CACHE_PAGES * BYTES, &options, &it.region,
                            it.message, sizeof it.message),
                0);
    struct mmapio_stat stat;
    mmapio_stat(it.region, &stat);
    it.has_pointers = stat.has_pointers;
    return it;
}

static void closed(struct opened it)
{
    CHECK_EQUAL(mmapio_close(it.region), 0);
    it.device->ops->close(it.device);
}

static volatile uint8_t *at(struct opened it, uint64_t page)
{
    return mmapio_base(it.region) + page * BYTES;
}

/* The signal that ends a child which does this; 0: none. */
static int signal_of(void (*run)(void))
{
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        run();
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

/* Signals ----------------------------------------------------------------------------------------
 */

static void load_what_cannot_be_read(void)
{
    struct opened it = opened("fault:read=2:mem:2048000", (struct mmapio_options){0});
    CHECK(*at(it, 1) == 0);
    CHECK(*at(it, 9) == 0); /* must not be zero in silence */
}

static void store_into_what_is_read_only(void)
{
    struct opened it = opened("mem:2048000", (struct mmapio_options){.read_only = true});
    CHECK(*at(it, 1) == 0);
    *at(it, 1) = 1;
}

static void touch_what_is_nobodys(void)
{
    struct opened it = opened("mem:2048000", (struct mmapio_options){0});
    CHECK(*at(it, 1) == 0);
    raise(SIGBUS);
}

static void test_what_cannot_be_done_is_a_bus_error(void)
{
    CHECK_EQUAL(signal_of(load_what_cannot_be_read), SIGBUS);
    CHECK_EQUAL(signal_of(store_into_what_is_read_only), SIGBUS);
    CHECK_EQUAL(signal_of(touch_what_is_nobodys), SIGBUS);
}

static sigjmp_buf back;
static volatile sig_atomic_t caught;

static void catch_bus_error(int number)
{
    (void)number;
    caught++;
    siglongjmp(back, 1);
}

/* Have an alternate signal stack, as small as they come, between pages that nobody may touch. */
static void use_small_signal_stack(void)
{
    size_t size = (size_t)sysconf(_SC_MINSIGSTKSZ);
    size = (size > 8192 ? size : 8192) + BYTES - 1;
    size -= size % BYTES;
    uint8_t *memory = mmap(NULL, size + 2 * BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK_EQUAL(mprotect(memory + BYTES, size, PROT_READ | PROT_WRITE), 0);
    const stack_t stack = {.ss_sp = memory + BYTES, .ss_size = size};
    CHECK_EQUAL(sigaltstack(&stack, NULL), 0);
}

static void touch_all_with_a_small_signal_stack(void)
{
    use_small_signal_stack();
    struct opened it = opened("mem:2048000", (struct mmapio_options){0});
    for (unsigned lap = 0; lap < 2 && it.has_pointers; lap++) {
        for (uint64_t page = 0; page < PAGES; page++) { /* in order: it is read ahead, too */
            CHECK_EQUAL(*at(it, page), lap);
            *at(it, page) = (uint8_t)(lap + 1);
        }
    }
    closed(it);
}

static void test_a_signal_stack_is_left_alone(void)
{
    CHECK_EQUAL(signal_of(touch_all_with_a_small_signal_stack), 0);
}

/* Whoever had a handler before the first region gets what a region cannot mend. */
static void recover_by_a_handler(void)
{
    struct sigaction action = {.sa_handler = catch_bus_error, .sa_flags = SA_NODEFER};
    CHECK_EQUAL(sigaction(SIGBUS, &action, NULL), 0);
    struct opened it = opened("fault:read=2,once:mem:2048000", (struct mmapio_options){0});
    CHECK(*at(it, 1) == 0);
    if (sigsetjmp(back, 1) == 0) {
        CHECK(*at(it, 9) == 1); /* does not come so far */
    }
    CHECK_EQUAL(caught, 1);
    CHECK_EQUAL(mmapio_last_fault().status, EIO);
    CHECK_EQUAL(mmapio_last_fault().page, 9);
    CHECK(*at(it, 9) == 0); /* the fault was once */
    closed(it);
}

static void test_a_handler_that_was_there_before_is_asked(void)
{
    CHECK_EQUAL(signal_of(recover_by_a_handler), 0);
}

/* A dirty page that cannot be written turns the region read-only for stores, too. */
static void store_after_a_write_failed(void)
{
    struct opened it =
        opened("fault:write=1:mem:2048000", (struct mmapio_options){.has_no_cleaner = true});
    *at(it, 1) = 7;
    CHECK_EQUAL(mmapio_sync(it.region, 0, PAGES), EIO);
    CHECK(*at(it, 1) == 7);
    *at(it, 2) = 7;
}

static void test_no_store_is_lost_behind_a_write_that_failed(void)
{
    CHECK_EQUAL(signal_of(store_after_a_write_failed), SIGBUS);
}

/* Children ---------------------------------------------------------------------------------------
 */

static struct opened parents;

static void touch_a_parents_page(void)
{
    CHECK(*at(parents, 3) == 3);
}

static void call_a_parents_region(void)
{
    uint8_t *address;
    uint8_t buffer[1];
    CHECK_EQUAL(mmapio_pin(parents.region, 3, MMAPIO_READ, &address), CUBBY_FORKED);
    CHECK_EQUAL(mmapio_sync(parents.region, 0, 1), CUBBY_FORKED);
    CHECK_EQUAL(mmapio_read(parents.region, 3, 1, buffer), CUBBY_FORKED);
    CHECK_EQUAL(mmapio_write(parents.region, 3, 1, buffer), CUBBY_FORKED);
    CHECK_EQUAL(mmapio_advise(parents.region, 3, 1, MMAPIO_WILLNEED), CUBBY_FORKED);
    CHECK_EQUAL(mmapio_close(parents.region), CUBBY_FORKED);
    mmapio_abandon(parents.region);
}

static void test_a_child_has_not_got_the_region(void)
{
    parents = opened("mem:2048000", (struct mmapio_options){0});
    uint8_t *address;
    CHECK_EQUAL(mmapio_pin(parents.region, 3, MMAPIO_WRITE, &address), 0);
    *address = 3;
    mmapio_unpin(parents.region, 3, MMAPIO_WRITE);
    CHECK_EQUAL(signal_of(touch_a_parents_page), SIGSEGV);
    CHECK_EQUAL(signal_of(call_a_parents_region), 0);
    CHECK_EQUAL(mmapio_pin(parents.region, 3, MMAPIO_READ, &address), 0);
    CHECK_EQUAL(*address, 3);
    mmapio_unpin(parents.region, 3, MMAPIO_READ);
    closed(parents);
}

/* System calls -----------------------------------------------------------------------------------
 */

static void test_system_calls_want_pages_that_are_pinned(void)
{
    struct opened it = opened("mem:2048000", (struct mmapio_options){0});
    if (!it.has_pointers) {
        printf("  skipped: %s\n", it.message);
        closed(it);
        return;
    }
    int ends[2];
    CHECK_EQUAL(pipe(ends), 0);
    uint8_t *address = mmapio_base(it.region) + 20 * BYTES;
    CHECK_EQUAL(write(ends[1], address, 10), -1);
    CHECK_EQUAL(errno, EFAULT);
    CHECK_EQUAL(mmapio_pin(it.region, 20, MMAPIO_READ, &address), 0);
    CHECK_EQUAL(write(ends[1], address, 10), 10);
    CHECK_EQUAL(read(ends[0], address, 10), -1); /* it is protected */
    CHECK_EQUAL(errno, EFAULT);
    mmapio_unpin(it.region, 20, MMAPIO_READ);
    CHECK_EQUAL(write(ends[1], "0123456789", 10), 10);
    CHECK_EQUAL(mmapio_pin(it.region, 20, MMAPIO_WRITE, &address), 0);
    CHECK(read(ends[0], address, 10) > 0);
    mmapio_unpin(it.region, 20, MMAPIO_WRITE);
    close(ends[0]);
    close(ends[1]);
    closed(it);
}

/* A system that says no ---------------------------------------------------------------------------
 */

/* No more descriptors: so there is no userfaultfd. */
static void open_without_descriptors(void)
{
    struct rlimit few;
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &few), 0);
    few.rlim_cur = 3;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
    struct opened it = opened("mem:2048000", (struct mmapio_options){0});
    CHECK(!it.has_pointers);
    CHECK(it.message[0] != '\0');
    uint8_t *address;
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK_EQUAL(mmapio_pin(it.region, page, MMAPIO_WRITE, &address), 0);
        *address = (uint8_t)page;
        mmapio_unpin(it.region, page, MMAPIO_WRITE);
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK_EQUAL(mmapio_pin(it.region, page, MMAPIO_READ, &address), 0);
        CHECK_EQUAL(*address, (uint8_t)page);
        mmapio_unpin(it.region, page, MMAPIO_READ);
    }
    closed(it);
}

static void test_without_userfaultfd_there_are_pins(void)
{
    CHECK_EQUAL(signal_of(open_without_descriptors), 0);
}

/* Two regions
 * --------------------------------------------------------------------------------------
 */

static void test_regions_side_by_side_do_not_meet(void)
{
    struct block_device *device;
    struct mmapio_region *regions[2];
    uint8_t *address;
    CHECK_EQUAL(mem_device_open(2 * PAGES, &device), 0);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQUAL(mmapio_open(device, i * (uint64_t)PAGES, PAGES, CACHE_PAGES * BYTES, NULL,
                                &regions[i], NULL, 0),
                    0);
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        for (unsigned i = 0; i < 2; i++) {
            CHECK_EQUAL(mmapio_pin(regions[i], page, MMAPIO_WRITE, &address), 0);
            memset(address, (int)(i + 1), BYTES);
            mmapio_unpin(regions[i], page, MMAPIO_WRITE);
        }
    }
    struct mmapio_region *overlapping;
    char message[CUBBY_MESSAGE_BYTES] = "";
    CHECK_EQUAL(mmapio_open(device, PAGES - 1, 1, CACHE_PAGES * BYTES, NULL, &overlapping, message,
                            sizeof message),
                EBUSY);
    CHECK(message[0] != '\0');
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQUAL(mmapio_close(regions[i]), 0);
    }
    uint8_t *buffer = aligned_alloc(BYTES, BYTES);
    CHECK(buffer != NULL);
    for (uint64_t lba = 0; lba < 2 * PAGES; lba++) {
        CHECK_EQUAL(device->ops->read(device, lba, 1, buffer), 0);
        CHECK_EQUAL(buffer[lba % BYTES], lba < PAGES ? 1 : 2);
    }
    free(buffer);
    device->ops->close(device);
}

int main(void)
{
    RUN(test_what_cannot_be_done_is_a_bus_error);
    RUN(test_a_signal_stack_is_left_alone);
    RUN(test_a_handler_that_was_there_before_is_asked);
    RUN(test_no_store_is_lost_behind_a_write_that_failed);
    RUN(test_a_child_has_not_got_the_region);
    RUN(test_system_calls_want_pages_that_are_pinned);
    RUN(test_without_userfaultfd_there_are_pins);
    RUN(test_regions_side_by_side_do_not_meet);
    return 0;
}
