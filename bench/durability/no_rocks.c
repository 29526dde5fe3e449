/* no_rocks.c -- in place of rocks_durable.c where RocksDB is not there. */
#include "bench/durability/durable_engine.h"

const struct durable_engine *const rocks_durable = NULL;
