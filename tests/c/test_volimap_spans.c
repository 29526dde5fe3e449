/* test_volimap_spans.c -- VoliMap's pages in the arena's spans: random keys, whose pages all grow
 * through the same sizes at the same time, while those that are left behind in spans of which
 * little is used are moved.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/c/volimap_structure.h"

#ifdef CUBBY_SANITIZED
enum { GROWING_KEYS = 40000 };
#else
enum { GROWING_KEYS = 250000 };
#endif

enum { WRITERS = 4 };

static uint64_t nth_key(unsigned writer, uint64_t i)
{
    uint64_t state = (uint64_t)writer << 32 | i;
    return next_random(&state);
}

struct growing {
    struct volimap_opened it;
    atomic_uint next;
};

/* Put keys of its own; the last of each sixteen is removed a while later. */
static void *grower(void *state)
{
    enum { LATER = 1600 };
    struct growing *growing = state;
    unsigned self = atomic_fetch_add(&growing->next, 1);
    cubby_volimap_session *session = volimap_session(growing->it.map);
    for (uint64_t i = 0; i < GROWING_KEYS + LATER; i++) {
        if (i < GROWING_KEYS) {
            CHECK_EQUAL(cubby_volimap_put(session, nth_key(self, i), i), CUBBY_OK);
        }
        uint64_t value = i;
        uint64_t before = i - LATER;
        if (i >= LATER && before % 16 == 15) {
            CHECK_EQUAL(cubby_volimap_remove(session, nth_key(self, before), &value), CUBBY_OK);
            CHECK_EQUAL(value, before);
        } else if (i >= LATER) {
            CHECK_EQUAL(cubby_volimap_get(session, nth_key(self, before), &value), CUBBY_OK);
            CHECK_EQUAL(value, before);
        }
    }
    cubby_volimap_session_close(session);
    return NULL;
}

static void test_pages_are_moved_under_writers(void)
{
    struct growing growing = {.it = volimap_opened()};
    growing.it.map->map.arena.small_bytes = 0; /* all in spans */
    pthread_t threads[WRITERS];
    for (size_t i = 0; i < WRITERS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, grower, &growing), 0);
    }
    for (size_t i = 0; i < WRITERS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    for (unsigned writer = 0; writer < WRITERS; writer++) {
        for (uint64_t i = 0; i < GROWING_KEYS; i++) {
            uint64_t value = i;
            int status = cubby_volimap_get(growing.it.session, nth_key(writer, i), &value);
            CHECK_EQUAL(status, i % 16 == 15 ? CUBBY_NOT_FOUND : CUBBY_OK);
            CHECK_EQUAL(value, i);
        }
    }
    struct volimap_structure sum;
    struct cubby_volimap_stat stat;
    volimap_check_structure(growing.it.map, FROZEN_SOME, &sum);
    cubby_volimap_stat(growing.it.map, &stat);
    printf("  %llu pages copied, %llu splits, %.1f bytes of a pair\n",
           (unsigned long long)stat.page_copies, (unsigned long long)stat.page_splits,
           (double)stat.memory_bytes / (double)stat.pairs);
    volimap_closed(growing.it);
}

int main(void)
{
    RUN(test_pages_are_moved_under_writers);
    return 0;
}
