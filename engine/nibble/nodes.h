/* nodes.h -- the memory nodes of the machine.
 *
 * Depends on: nothing.   Used by: nibble.c.
 */
#ifndef CUBBY_NIBBLE_NODES_H
#define CUBBY_NIBBLE_NODES_H

#include <stdint.h>

/* How many nodes there are: 1 above the highest number; 1 where the system does not tell. */
unsigned nodes_count(void);

/* The node of the processor that the caller runs on. */
unsigned nodes_current(void);

/* Have the pages of a range come from a node, if they can. */
void nodes_bind(void *begin, uint64_t bytes, unsigned node);

#endif
