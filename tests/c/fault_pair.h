/* fault_pair.h -- a device that fails, in front of memory that outlives it.
 *
 * Depends on: fault_device.h, check.h, test_block_device_contract.h.   Used by: tests of devices.
 */
#ifndef CUBBY_FAULT_PAIR_H
#define CUBBY_FAULT_PAIR_H

#include "blockdev/fault_device.h"
#include "tests/c/check.h"
#include "tests/c/test_block_device_contract.h"

/* A fault in front of memory that outlives it. */
struct pair {
    struct block_device *memory;
    struct block_device *device;
};

static inline struct pair open_pair(struct fault_plan plan)
{
    struct pair pair;
    plan.borrow_inner = true;
    CHECK_EQUAL(mem_device_open(CONTRACT_BLOCKS, &pair.memory), 0);
    CHECK_EQUAL(fault_device_open_with(pair.memory, &plan, &pair.device), 0);
    return pair;
}

static inline void close_pair(struct pair pair)
{
    pair.device->ops->close(pair.device);
    pair.memory->ops->close(pair.memory);
}

static inline struct block_device *open_name(const char *name)
{
    struct block_device *device = NULL;
    CHECK_EQUAL(block_device_open(name, 0, &device, NULL, 0), 0);
    return device;
}

#endif
