/* checksum.h -- XXH3-64 of bytes, bound to where they stand and to one store.
 *
 * The seed mixes the LBA with a secret of the store, so a block that was written to the wrong
 * place, left by another store, or smuggled in inside a value fails its check.
 *
 * Pure. Depends on: libxxhash's header.   Used by: engine/store, engine/volimap.
 */
#ifndef CUBBY_CHECKSUM_H
#define CUBBY_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* bytes may be NULL if size is 0. */
uint64_t checksum_of(const void *bytes, size_t size, uint64_t lba, uint64_t secret);

#endif
