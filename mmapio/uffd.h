/* uffd.h -- what userfaultfd does: who touches what is not there, or is protected, gets a SIGBUS
 * instead of memory, and is given it by the handler.
 *
 * Ranges and addresses are aligned to pages. Each call returns 0 or an errno.
 *
 * Source: userfaultfd(2), ioctl_userfaultfd(2), https://man7.org/linux/man-pages/
 * Thread-safe. Depends on: kernel_compat.h.   Used by: mmapio.
 */
#ifndef CUBBY_MMAPIO_UFFD_H
#define CUBBY_MMAPIO_UFFD_H

#include <stdbool.h>
#include <stddef.h>

/* Open one for a range of anonymous memory, or, shared, of a file in memory. EPERM, ENOSYS or
 * EOPNOTSUPP: the system does not allow it, or cannot do it. */
int uffd_open(void *start, size_t bytes, bool is_shared, int *uffd);

/* Have it tell of another range, too. is_shared: of a file in memory, as for uffd_open. */
int uffd_add(int uffd, void *start, size_t bytes, bool is_shared);

/* Put pages there that are not; is_protected: stores into them fault. EEXIST: some were, of which
 * *copied (bytes) were not. */
int uffd_copy(int uffd, void *start, const void *from, size_t bytes, bool is_protected,
              size_t *copied);

/* Map pages there that their file has. EEXIST: they are mapped. */
int uffd_continue(int uffd, void *start, size_t bytes, bool is_protected);

/* Whether uffd_continue can protect what it maps: since Linux 6.4. No flag of the kernel's tells.
 */
bool uffd_can_continue_protected(void);

/* Protect pages from stores, those that are there, or let stores through. */
int uffd_protect(int uffd, void *start, size_t bytes, bool is_protected);

#endif
