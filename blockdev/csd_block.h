/* csd_block.h -- what one block takes in an emulated compressing drive, without a drive.
 *
 * Depends on: nothing.   Used by: csd_block.c, device_api.c.
 */
#ifndef CUBBY_CSD_BLOCK_H
#define CUBBY_CSD_BLOCK_H

#include <stdint.h>

/* Bytes that a block of 4096 bytes takes: 0 for zeros, else compressed with zstd at this level (0:
 * the default), with its header, rounded up to units of unit_bytes (1: the payload alone). Pure. */
uint64_t csd_block_stored_bytes(const uint8_t *block, uint32_t unit_bytes, int32_t level);

#endif
