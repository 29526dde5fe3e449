/* event.h -- descriptors that an event loop can wait for.
 *
 * An event is an eventfd: readable from event_raise to event_clear. All descriptors are closed on
 * exec and do not block; whoever has opened one closes it.
 *
 * Thread-safe.   Depends on: cubby_assert.h.   Used by: blockdev's queues, engine/store.
 */
#ifndef CUBBY_EVENT_H
#define CUBBY_EVENT_H

/* Open an event that is not raised. Returns 0 or an errno. */
int event_open(int *fd);

/* Make an event readable; raising it twice is allowed. */
void event_raise(int fd);

/* Make it unreadable until it is raised again. */
void event_clear(int fd);

/* Open a descriptor that is readable while one of two is; they may be joined ones, four deep. It
 * must be closed before they are, or be no longer looked at. Returns 0 or an errno. */
int event_join(int first_fd, int second_fd, int *fd);

#endif
