/* uffd.c -- see uffd.h. */
#include "mmapio/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static int control(int uffd, unsigned long request, void *argument)
{
    return ioctl(uffd, request, argument) == 0 ? 0 : errno;
}

static int arm(int uffd, void *start, size_t bytes)
{
    const uint64_t features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    int status = control(uffd, UFFDIO_API, &api);
    if (status != 0) {
        return status == EINVAL ? EOPNOTSUPP : status;
    }
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)start, .len = bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
    };
    status = control(uffd, UFFDIO_REGISTER, &range);
    const uint64_t needed = (uint64_t)1 << _UFFDIO_COPY | (uint64_t)1 << _UFFDIO_WRITEPROTECT;
    if (status == 0 && (range.ioctls & needed) != needed) {
        return EOPNOTSUPP;
    }
    return status == EINVAL ? EOPNOTSUPP : status;
}

int uffd_open(void *start, size_t bytes, int *uffd)
{
    /* Of faults in the kernel nobody is told in any case, so the right to be is not asked for. */
    long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd < 0) {
        return errno;
    }
    int status = arm((int)fd, start, bytes);
    if (status != 0) {
        close((int)fd);
        return status;
    }
    *uffd = (int)fd;
    return 0;
}

int uffd_copy(int uffd, void *start, const void *from, size_t bytes, bool is_protected,
              size_t *copied)
{
    *copied = 0;
    while (*copied < bytes) {
        struct uffdio_copy copy = {
            .dst = (uintptr_t)start + *copied,
            .src = (uintptr_t)from + *copied,
            .len = bytes - *copied,
            .mode = is_protected ? UFFDIO_COPY_MODE_WP : 0,
        };
        int status = control(uffd, UFFDIO_COPY, &copy);
        if (copy.copy > 0) {
            *copied += (size_t)copy.copy;
        } else if (status != 0 && status != EAGAIN) {
            return status;
        }
    }
    return 0;
}

int uffd_protect(int uffd, void *start, size_t bytes, bool is_protected)
{
    for (;;) {
        struct uffdio_writeprotect range = {
            .range = {.start = (uintptr_t)start, .len = bytes},
            .mode = is_protected ? UFFDIO_WRITEPROTECT_MODE_WP : UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
        };
        int status = control(uffd, UFFDIO_WRITEPROTECT, &range);
        if (status != EAGAIN) {
            return status;
        }
    }
}
