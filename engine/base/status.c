/* status.c -- what each status means, in words, and where assertions end.
 *
 * Depends on: cubby.h, cubby_assert.h.   Used by: all.
 */
#include "engine/cubby.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"

#ifndef CUBBY_VERSION
#define CUBBY_VERSION "unknown"
#endif

const char *cubby_version(void)
{
    return CUBBY_VERSION;
}

const char *cubby_status_text(int status)
{
    if (status > 0) {
        const char *text = strerrordesc_np(status);
        return text != NULL ? text : "unknown error of the operating system";
    }
    switch ((enum cubby_status)status) {
    case CUBBY_OK:
        return "success";
    case CUBBY_NOT_FOUND:
        return "no pair has this key";
    case CUBBY_CORRUPT:
        return "stored bytes fail a check";
    case CUBBY_LOCKED:
        return "the store is in use";
    case CUBBY_FULL:
        return "the store is full";
    case CUBBY_PHYSICAL_FULL:
        return "the device under the store is full";
    case CUBBY_CLOSED:
        return "the store is closed";
    case CUBBY_FORKED:
        return "the store was opened by the parent process; open it anew in this one";
    case CUBBY_NOT_A_STORE:
        return "there is no CubbyDB store";
    case CUBBY_FORMAT_VERSION:
        return "the store needs a newer CubbyDB";
    case CUBBY_NOT_EMPTY:
        return "there is something already";
    case CUBBY_READ_ONLY:
        return "the store is open for reading only";
    case CUBBY_UNPLACEABLE:
        return "too many pairs share this key's hash";
    case CUBBY_POISONED:
        return "an earlier flush of the device failed; reopen the store to write";
    case CUBBY_BAD_ARGUMENT:
        return "an argument is out of its range";
    case CUBBY_EXISTS:
        return "a pair has this key already";
    case CUBBY_DIFFERS:
        return "the key has another value than was expected";
    case CUBBY_TOO_LARGE:
        return "the batch takes more than an eighth of the log";
    case CUBBY_DEGRADED:
        return "writing pairs back has failed; reopen the store to write";
    }
    return "unknown status";
}

void cubby_assert_fail(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: CubbyDB stops: \"%s\" is false; please report this\n", file, line,
            condition);
    abort();
}
