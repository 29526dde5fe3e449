/* uffd.h -- what userfaultfd does: who touches what is not there, or is protected, gets a SIGBUS
 * instead of memory, and is given it by the handler.
 *
 * Ranges and addresses are aligned to pages. Each call returns 0 or an errno.
 *
 * Source: userfaultfd(2), ioctl_userfaultfd(2), https://man7.org/linux/man-pages/
 * Thread-safe. Depends on: nothing.   Used by: mmapio.
 */
#ifndef CUBBY_MMAPIO_UFFD_H
#define CUBBY_MMAPIO_UFFD_H

#include <stdbool.h>
#include <stddef.h>

/* Open one for a range of anonymous memory. EPERM, ENOSYS or EOPNOTSUPP: the system does not allow
 * it, or cannot do it. */
int uffd_open(void *start, size_t bytes, int *uffd);

/* Put pages there that are not; is_protected: stores into them fault. EEXIST: some were, of which
 * *copied (bytes) were not. */
int uffd_copy(int uffd, void *start, const void *from, size_t bytes, bool is_protected,
              size_t *copied);

/* Protect pages from stores, those that are there, or let stores through. */
int uffd_protect(int uffd, void *start, size_t bytes, bool is_protected);

#endif
