/* environment.c -- see environment.h. */
#include "engine/base/environment.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "engine/base/cubby_assert.h"

static uint64_t now_ns(void *state)
{
    (void)state;
    struct timespec now;
    int status = clock_gettime(CLOCK_MONOTONIC, &now);
    CUBBY_ASSERT(status == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t wall_ms(void *state)
{
    (void)state;
    struct timespec now;
    int status = clock_gettime(CLOCK_REALTIME, &now);
    CUBBY_ASSERT(status == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int random_bytes(void *state, void *buffer, size_t size)
{
    (void)state;
    uint8_t *to = buffer;
    while (size > 0) {
        ssize_t got = getrandom(to, size, 0);
        if (got < 0 && errno != EINTR) {
            return errno;
        }
        if (got > 0) {
            to += got;
            size -= (size_t)got;
        }
    }
    return 0;
}

const struct cubby_environment *environment_of_system(void)
{
    static const struct cubby_environment environment = {
        .now_ns = now_ns,
        .random_bytes = random_bytes,
        .wall_ms = wall_ms,
    };
    return &environment;
}
