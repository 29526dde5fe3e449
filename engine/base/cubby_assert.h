/* cubby_assert.h -- stop at a programmer's mistake, in every build.
 *
 * Never for what a disk or a user can make false: that is a status. One condition each, no side
 * effect. CUBBY_ASSERT is alive whatever NDEBUG says.
 *
 * Depends on: nothing.   Used by: all.
 */
#ifndef CUBBY_ASSERT_H
#define CUBBY_ASSERT_H

_Noreturn void cubby_assert_fail(const char *condition, const char *file, int line);

#define CUBBY_ASSERT(condition)                                                                    \
    (__builtin_expect(!!(condition), 1) ? (void)0                                                  \
                                        : cubby_assert_fail(#condition, __FILE__, __LINE__))

#endif
