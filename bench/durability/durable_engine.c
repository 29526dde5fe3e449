/* durable_engine.c -- the list of engines. */
#include "bench/durability/durable_engine.h"

#include <string.h>

const struct durable_engine *durable_engine_find(const char *name)
{
    if (strcmp(name, cubby_durable.name) == 0) {
        return &cubby_durable;
    }
    return rocks_durable != NULL && strcmp(name, rocks_durable->name) == 0 ? rocks_durable : NULL;
}
