/* environment.c -- see environment.h. */
#include "engine/base/environment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
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

void environment_boot_id(uint8_t *boot_id)
{
    /* Text: 32 hexadecimal digits with dashes between. */
    static const char hexadecimal[] = "0123456789abcdef";
    char text[64] = "";
    memset(boot_id, 0, BOOT_ID_BYTES);
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file == NULL) {
        return;
    }
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    size_t digits = 0;
    for (size_t i = 0; i < size && digits < 2 * BOOT_ID_BYTES; i++) {
        const char *digit = strchr(hexadecimal, text[i]);
        if (digit != NULL && text[i] != '\0') {
            int value = (int)(digit - hexadecimal);
            boot_id[digits / 2] = (uint8_t)(boot_id[digits / 2] << 4 | value);
            digits++;
        }
    }
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
