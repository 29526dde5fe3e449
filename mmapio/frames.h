/* frames.h -- the memory of a cache without addresses of its own: so many frames of a page, which
 * any page may have.
 *
 * Where plain pointers do not work a page need not be at an address of its own, and nothing has to
 * be told to the kernel when it comes or goes.
 *
 * Thread-safe. Depends on: pfd.h.   Used by: load.c, evict.c, region.c.
 */
#ifndef CUBBY_MMAPIO_FRAMES_H
#define CUBBY_MMAPIO_FRAMES_H

#include "mmapio/pfd.h"

/* Returns 0 or ENOMEM. */
int frames_open(struct mmapio_region *region);
void frames_close(struct mmapio_region *region);

/* Give a page, which the caller has made LOADING, a frame, for which evict_take has found room. */
void frames_take(struct mmapio_region *region, uint64_t page);

/* Take it away again, before evict_give. */
void frames_give(struct mmapio_region *region, uint64_t page);

#endif
