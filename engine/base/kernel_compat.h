/* kernel_compat.h -- kernel interfaces newer than the headers of Debian 12, in one place.
 *
 * Only what CubbyDB uses. Values are kernel ABI and never change. An older kernel ignores the mask
 * bits and leaves the fields zero, so a caller tests the returned mask; it refuses advice with
 * EINVAL.
 *
 * Source: statx(2), https://man7.org/linux/man-pages/man2/statx.2.html; madvise(2), beside it
 *
 * Depends on: nothing.   Used by: blockdev, mmapio.
 */
#ifndef CUBBY_KERNEL_COMPAT_H
#define CUBBY_KERNEL_COMPAT_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kernel_statx_mask {
    KERNEL_STATX_DIO_ALIGN = 0x2000,     /* STATX_DIOALIGN, Linux 6.1 */
    KERNEL_STATX_WRITE_ATOMIC = 0x10000, /* STATX_WRITE_ATOMIC, Linux 6.11 */
};

enum kernel_madvise_advice {
    KERNEL_MADV_POPULATE_WRITE = 23, /* MADV_POPULATE_WRITE, Linux 5.14; not in every libc */
};

enum kernel_uffdio_continue_mode {
    KERNEL_UFFDIO_CONTINUE_MODE_WP = 2, /* UFFDIO_CONTINUE_MODE_WP, Linux 6.4 */
};

/* The kernel's struct statx under a name of its own: glibc 2.36 has only its first half. */
struct kernel_statx {
    uint32_t mask; /* of the fields that the kernel has set */
    uint32_t fields_unused_1[37];
    uint32_t dio_memory_align; /* bytes */
    uint32_t dio_offset_align; /* bytes; 0: direct I/O does not work on this file */
    uint64_t fields_unused_2;
    uint32_t atomic_write_unit_min; /* bytes */
    uint32_t atomic_write_unit_max; /* bytes; 0: writes may tear */
    uint64_t fields_unused_3[10];
};

_Static_assert(sizeof(struct kernel_statx) == 256, "the kernel's struct statx has 256 bytes");
_Static_assert(offsetof(struct kernel_statx, dio_memory_align) == 0x98, "as in the kernel");
_Static_assert(offsetof(struct kernel_statx, atomic_write_unit_min) == 0xa8, "as in the kernel");

/* statx of an open file. Returns 0 or an errno. */
static inline int kernel_compat_statx(int fd, unsigned mask, struct kernel_statx *result)
{
    return syscall(SYS_statx, fd, "", AT_EMPTY_PATH, mask, result) == 0 ? 0 : errno;
}

#endif
