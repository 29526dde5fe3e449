/* checksum_avx2.h -- XXH3-64 for processors that have AVX2; the same values as without.
 *
 * Pure. Depends on: libxxhash's header.   Used by: checksum.c.
 */
#ifndef CUBBY_CHECKSUM_AVX2_H
#define CUBBY_CHECKSUM_AVX2_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#define CHECKSUM_AVX2

/* The caller has made sure that the processor has it. */
uint64_t checksum_avx2(const void *bytes, size_t size, uint64_t seed);

#endif
#endif
