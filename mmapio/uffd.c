/* uffd.c -- see uffd.h. */
#include "mmapio/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/base/kernel_compat.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static int control(int uffd, unsigned long request, void *argument)
{
    return ioctl(uffd, request, argument) == 0 ? 0 : errno;
}

int uffd_add(int uffd, void *start, size_t bytes, bool is_shared)
{
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)start, .len = bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP |
                (is_shared ? UFFDIO_REGISTER_MODE_MINOR : 0),
    };
    int status = control(uffd, UFFDIO_REGISTER, &range);
    uint64_t needed = (uint64_t)1 << _UFFDIO_COPY | (uint64_t)1 << _UFFDIO_WRITEPROTECT |
                      (uint64_t)is_shared << _UFFDIO_CONTINUE;
    if (status == 0 && (range.ioctls & needed) != needed) {
        return EOPNOTSUPP;
    }
    return status == EINVAL ? EOPNOTSUPP : status;
}

static int arm(int uffd, void *start, size_t bytes, bool is_shared)
{
    const uint64_t shared =
        UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP | (is_shared ? shared : 0),
    };
    int status = control(uffd, UFFDIO_API, &api);
    if (status != 0) {
        return status == EINVAL ? EOPNOTSUPP : status;
    }
    return uffd_add(uffd, start, bytes, is_shared);
}

int uffd_open(void *start, size_t bytes, bool is_shared, int *uffd)
{
    /* Of faults in the kernel nobody is told in any case, so the right to be is not asked for. */
    long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd < 0) {
        return errno;
    }
    int status = arm((int)fd, start, bytes, is_shared);
    if (status != 0) {
        close((int)fd);
        return status;
    }
    *uffd = (int)fd;
    return 0;
}

int uffd_continue(int uffd, void *start, size_t bytes, bool is_protected)
{
    for (size_t done = 0; done < bytes;) {
        struct uffdio_continue range = {
            .range = {.start = (uintptr_t)start + done, .len = bytes - done},
            .mode = is_protected ? KERNEL_UFFDIO_CONTINUE_MODE_WP : 0,
        };
        int status = control(uffd, UFFDIO_CONTINUE, &range);
        if (range.mapped > 0) {
            done += (size_t)range.mapped;
        } else if (status != 0 && status != EAGAIN) {
            return status;
        }
    }
    return 0;
}

bool uffd_can_continue_protected(void)
{
    struct utsname system;
    unsigned major;
    unsigned minor;
    return uname(&system) == 0 && sscanf(system.release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 4));
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
