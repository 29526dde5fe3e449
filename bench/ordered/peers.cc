/* peers.cc -- maps of C++ as such: std::map, and where they are there absl::btree_map and
 * libcuckoo. They begin empty, and grow.
 *
 * Depends on: maps.h, libabsl, libcuckoo.   Used by: maps.c.
 */
#include <cerrno>
#include <cstdint>
#include <map>
#include <new>

#ifdef BENCH_ABSL
#include <absl/container/btree_map.h>
#endif
#ifdef BENCH_LIBCUCKOO
#include <libcuckoo/cuckoohash_map.hh>
#endif

extern "C" {
#include "bench/ordered/maps.h"
}

namespace
{

const char pages_of_malloc[] = "of malloc, touched before: huge with "
                               "GLIBC_TUNABLES=glibc.malloc.hugetlb=1, else of 4 KiB";

template <class Map> int open_map(const struct keys *keys, size_t count, void **opened)
{
    (void)keys;
    (void)count;
    *opened = new (std::nothrow) Map;
    return *opened == nullptr ? ENOMEM : CUBBY_OK;
}

template <class Map> void close_map(void *opened)
{
    delete static_cast<Map *>(opened);
}

template <class Map> int put(void *session, const uint64_t *keys, size_t count)
try {
    auto &map = *static_cast<Map *>(session);
    for (size_t i = 0; i < count; i++) {
        map.insert_or_assign(keys[i], keys_value(keys[i]));
    }
    return CUBBY_OK;
} catch (const std::bad_alloc &) {
    return ENOMEM;
}

template <class Map> size_t get(void *session, const uint64_t *keys, size_t count, size_t *wrong)
{
    const auto &map = *static_cast<Map *>(session);
    size_t found = 0;
    *wrong = 0;
    for (size_t i = 0; i < count; i++) {
        auto at = map.find(keys[i]);
        if (at != map.end()) {
            found++;
            *wrong += at->second != keys_value(keys[i]);
        }
    }
    return found;
}

template <class Map>
size_t range(void *session, uint64_t first, size_t limit, uint64_t *keys, uint64_t *values)
{
    const auto &map = *static_cast<Map *>(session);
    size_t count = 0;
    for (auto at = map.lower_bound(first); at != map.end() && count < limit; ++at) {
        keys[count] = at->first;
        values[count++] = at->second;
    }
    return count;
}

template <class Map> struct map_sum scan(void *session)
{
    struct map_sum sum = {};
    uint64_t last = 0;
    for (const auto &pair : *static_cast<const Map *>(session)) {
        map_sum_add(&sum, pair.first, pair.second, &last);
    }
    return sum;
}

template <class Map> constexpr struct number_map ordered_map(const char *name)
{
    struct number_map made = {};
    made.name = name;
    made.pages = pages_of_malloc;
    made.open = open_map<Map>;
    made.close = close_map<Map>;
    made.put = put<Map>;
    made.get = get<Map>;
    made.range = range<Map>;
    made.scan = scan<Map>;
    return made;
}

#ifdef BENCH_LIBCUCKOO
/* What libcuckoo is given must be mixed: one multiplication, its halves folded. */
struct Hash {
    size_t operator()(uint64_t key) const
    {
        auto product =
            static_cast<unsigned __int128>(key ^ 0xa0761d6478bd642f) * 0xe7037ed1a0b428db;
        return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    }
};

using Cuckoo = libcuckoo::cuckoohash_map<uint64_t, uint64_t, Hash>;

size_t get_from_cuckoo(void *session, const uint64_t *keys, size_t count, size_t *wrong)
{
    const auto &map = *static_cast<const Cuckoo *>(session);
    size_t found = 0;
    *wrong = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        if (map.find(keys[i], value)) {
            found++;
            *wrong += value != keys_value(keys[i]);
        }
    }
    return found;
}

constexpr struct number_map cuckoo_map()
{
    struct number_map made = {};
    made.name = "libcuckoo";
    made.pages = pages_of_malloc;
    made.is_concurrent = true;
    made.open = open_map<Cuckoo>;
    made.close = close_map<Cuckoo>;
    made.put = put<Cuckoo>;
    made.get = get_from_cuckoo;
    return made;
}
#endif

} // namespace

extern "C" const struct number_map std_map = ordered_map<std::map<uint64_t, uint64_t>>("map");
#ifdef BENCH_ABSL
extern "C" const struct number_map btree_map =
    ordered_map<absl::btree_map<uint64_t, uint64_t>>("btree");
#endif
#ifdef BENCH_LIBCUCKOO
extern "C" const struct number_map libcuckoo_map = cuckoo_map();
#endif
