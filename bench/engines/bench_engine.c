/* bench_engine.c -- the list of engines. */
#include "bench/engines/bench_engine.h"

#include <string.h>

/* An engine, or what to install for it. */
struct entry {
    const char *name;
    const struct bench_engine *engine; /* NULL: not built */
    const char *absence;
    bool in_memory;
};

static const struct entry entries[] = {
    {"cubby", &cubby_engine, NULL, false},
#ifdef BENCH_ROCKSDB
    {"rocksdb", &rocksdb_engine, NULL, false},
#else
    {"rocksdb", NULL, "the driver was built without RocksDB (Debian package: librocksdb-dev)",
     false},
#endif
#ifdef BENCH_WIREDTIGER
    {"wiredtiger", &wiredtiger_engine, NULL, false},
#else
    {"wiredtiger", NULL, "the driver was built without WiredTiger (`make peers` builds it)", false},
#endif
#ifdef BENCH_LMDB
    {"lmdb", &lmdb_engine, NULL, false},
#else
    {"lmdb", NULL, "the driver was built without LMDB (Debian package: liblmdb-dev)", false},
#endif
    {"pread", &pread_engine, NULL, false},
    {"nibble", &nibble_engine, NULL, true},
    {"volimap", &volimap_engine, NULL, true},
#ifdef BENCH_LIBCUCKOO
    {"libcuckoo", &libcuckoo_engine, NULL, true},
#else
    {"libcuckoo", NULL, "the driver was built without libcuckoo (Debian package: libcuckoo-dev)",
     true},
#endif
#ifdef BENCH_TBB
    {"tbb", &tbb_engine, NULL, true},
#else
    {"tbb", NULL, "the driver was built without TBB (Debian package: libtbb-dev)", true},
#endif
#ifdef BENCH_UNORDERED
    {"unordered", &unordered_engine, NULL, true},
#else
    {"unordered", NULL, "the driver was built without a C++ compiler (Debian package: g++)", true},
#endif
#ifdef BENCH_BOOST
    {"boost", &boost_engine, NULL, true},
#else
    {"boost", NULL, "the driver was built without Boost 1.83 or newer (BOOST_ROOT)", true},
#endif
    {"bare", &bare_engine, NULL, true},
    {"null", &null_engine, NULL, false},
    {"lying", &lying_engine, NULL, false},
};

static const char *const durabilities[] = {
    [CUBBY_DURABILITY_NONE] = "none",
    [CUBBY_DURABILITY_PROCESS] = "process",
    [CUBBY_DURABILITY_POWER] = "power",
};

static const struct entry *find(const char *name)
{
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        if (strcmp(entries[i].name, name) == 0) {
            return &entries[i];
        }
    }
    return NULL;
}

const char *bench_engine_name(size_t index)
{
    return index < sizeof entries / sizeof *entries ? entries[index].name : NULL;
}

const struct bench_engine *bench_engine_find(const char *name)
{
    const struct entry *entry = find(name);
    return entry == NULL ? NULL : entry->engine;
}

const char *bench_engine_absence(const char *name)
{
    const struct entry *entry = find(name);
    return entry == NULL ? NULL : entry->absence;
}

bool bench_engine_is_in_memory(const char *name)
{
    const struct entry *entry = find(name);
    return entry != NULL && entry->in_memory;
}

bool bench_durability_parse(const char *name, enum cubby_durability *durability)
{
    for (size_t i = CUBBY_DURABILITY_NONE; i < sizeof durabilities / sizeof *durabilities; i++) {
        if (strcmp(durabilities[i], name) == 0) {
            *durability = (enum cubby_durability)i;
            return true;
        }
    }
    return false;
}

const char *bench_durability_name(enum cubby_durability durability)
{
    return durability == CUBBY_DURABILITY_DEFAULT ? durabilities[CUBBY_DURABILITY_PROCESS]
                                                  : durabilities[durability];
}
