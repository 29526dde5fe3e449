/* check.h -- the whole test framework of the C tests.
 *
 * A test is a function without arguments whose name is a sentence; main names each with RUN.
 * The first check that fails prints its place and ends the program with status 1.
 *
 * Depends on: nothing.   Used by: tests/c/test_*.c.
 */
#ifndef CUBBY_CHECK_H
#define CUBBY_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #condition);          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Two integers. Both are evaluated once and printed when they differ. */
#define CHECK_EQUAL(actual, expected)                                                              \
    do {                                                                                           \
        long long check_actual = (long long)(actual);                                              \
        long long check_expected = (long long)(expected);                                          \
        if (check_actual != check_expected) {                                                      \
            fprintf(stderr, "%s:%d: CHECK_EQUAL(%s, %s) failed: %lld is not %lld\n", __FILE__,     \
                    __LINE__, #actual, #expected, check_actual, check_expected);                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        printf("%s\n", #test);                                                                     \
        fflush(stdout);                                                                            \
        test();                                                                                    \
    } while (0)

/* Likewise one that has a single thread, and takes long: ThreadSanitizer would see nothing there,
 * and its build leaves it out. */
#ifdef __SANITIZE_THREAD__
#define RUN_ALONE(test) (void)test
#else
#define RUN_ALONE(test) RUN(test)
#endif

#endif
