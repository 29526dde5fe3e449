/* test_nibble_threads.c -- Nibble as many threads see it: nothing torn, nothing lost, nothing that
 * goes back. stress_nibble does the same for minutes.
 */
#include "tests/c/nibble_crowd.h"

#ifdef CUBBY_SANITIZED
enum {
    OPERATIONS = 40000,
};
#else
enum {
    OPERATIONS = 400000,
};
#endif

/* Most of the memory lives, so that segments are compacted all the time. */
static void check_crowd(struct cubby_nibble_options options)
{
    options.memory_bytes = 16 << 20;
    struct crowd crowd = {
        .size_max = 5000,
        .live_bytes_max = 10 << 20,
        .writers = 2,
        .readers = 2,
        .operations = OPERATIONS,
    };
    crowd_run(&crowd, &options);
    CHECK(atomic_load(&crowd.puts) > 0);
    /* Who views something and loses the processor for a tenth of a second makes others fail. */
    CHECK(atomic_load(&crowd.full) * 1000 <= atomic_load(&crowd.puts));
}

static void test_threads_see_whole_values_in_their_order(void)
{
    check_crowd((struct cubby_nibble_options){.cleaners = 2});
}

static void test_threads_that_compact_themselves_do_too(void)
{
    check_crowd((struct cubby_nibble_options){0});
}

static void test_threads_that_only_append_do_too(void)
{
    check_crowd((struct cubby_nibble_options){.cleaners = 1, .append_only = 1, .nodes = 1});
}

int main(void)
{
    RUN(test_threads_see_whole_values_in_their_order);
    RUN(test_threads_that_compact_themselves_do_too);
    RUN(test_threads_that_only_append_do_too);
    return 0;
}
