/* own_directory.h -- a directory of this run of a test, which is removed when the test ends.
 *
 * Depends on: check.h.   Used by: tests that make files, and have no fixture for it.
 */
#ifndef CUBBY_OWN_DIRECTORY_H
#define CUBBY_OWN_DIRECTORY_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/c/check.h"

enum {
    OWN_DIRECTORY_BYTES = 256,
};

static char directory[OWN_DIRECTORY_BYTES];
static pid_t main_process;

static inline void remove_directory(void)
{
    if (getpid() == main_process) { /* not a child that the test has forked */
        char command[OWN_DIRECTORY_BYTES + 16];
        snprintf(command, sizeof command, "rm -rf '%s'", directory);
        CHECK_EQUAL(system(command), 0);
    }
}

static inline void make_directory(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/cubby-test-XXXXXX", parent != NULL ? parent : "/tmp");
    CHECK(mkdtemp(directory) != NULL);
    main_process = getpid();
    CHECK_EQUAL(atexit(remove_directory), 0);
}

#endif
