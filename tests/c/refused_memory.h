/* refused_memory.h -- memory that a test refuses when it likes.
 *
 * The build has the linker lead malloc, calloc, aligned_alloc and mmap of a program here
 * (engine/CMakeLists.txt). The program says of each call whether it is refused.
 *
 * Used by: test_volimap_memory.c, test_dirty_marks.c.
 */
#ifndef CUBBY_REFUSED_MEMORY_H
#define CUBBY_REFUSED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

/* In the program. */
static bool is_refused(void);

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);

void *__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return is_refused() ? NULL : __real_aligned_alloc(alignment, size);
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    return is_refused() ? MAP_FAILED : __real_mmap(address, size, protection, flags, file, offset);
}

#endif
