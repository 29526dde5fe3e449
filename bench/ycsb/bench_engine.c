/* bench_engine.c -- the list of engines. */
#include "bench/ycsb/bench_engine.h"

#include <string.h>

const struct bench_engine *bench_engine_find(const char *name)
{
    static const struct bench_engine *const engines[] = {&cubby_engine, &pread_engine,
                                                         &null_engine};
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        if (strcmp(engines[i]->name, name) == 0) {
            return engines[i];
        }
    }
    return NULL;
}
