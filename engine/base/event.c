/* event.c -- see event.h. */
#include "engine/base/event.h"

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"

int event_open(int *fd)
{
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0) {
        return errno;
    }
    *fd = event_fd;
    return 0;
}

void event_raise(int fd)
{
    const uint64_t one = 1;
    ssize_t size = write(fd, &one, sizeof one);
    CUBBY_ASSERT(size == sizeof one || errno == EAGAIN); /* full: it is readable */
}

void event_clear(int fd)
{
    uint64_t count;
    ssize_t size = read(fd, &count, sizeof count);
    CUBBY_ASSERT(size == sizeof count || errno == EAGAIN); /* it was not raised */
}

int event_join(int first_fd, int second_fd, int *fd)
{
    int joined_fd = epoll_create1(EPOLL_CLOEXEC);
    if (joined_fd < 0) {
        return errno;
    }
    struct epoll_event wanted = {.events = EPOLLIN};
    if (epoll_ctl(joined_fd, EPOLL_CTL_ADD, first_fd, &wanted) != 0 ||
        epoll_ctl(joined_fd, EPOLL_CTL_ADD, second_fd, &wanted) != 0) {
        int status = errno;
        close(joined_fd);
        return status;
    }
    *fd = joined_fd;
    return 0;
}
