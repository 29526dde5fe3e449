/* tbb_engine.cc -- TBB's concurrent_hash_map as an engine.
 *
 * Depends on: memory_peer.hh, TBB.   Used by: bench_engine.c.
 */
#include <tbb/concurrent_hash_map.h>

#include "bench/engines/memory_peer.hh"

namespace
{

using memory_peer::Blob;

struct Compare {
    static size_t hash(uint64_t key)
    {
        return memory_peer::Hash()(key);
    }
    static bool equal(uint64_t one, uint64_t other)
    {
        return one == other;
    }
};

class Map
{
  public:
    explicit Map(uint64_t pair_count) : table_(pair_count)
    {
    }

    ~Map()
    {
        for (auto &pair : table_) {
            std::free(pair.second);
        }
    }

    bool get(uint64_t key, uint8_t *to, size_t *size)
    {
        Table::const_accessor found;
        if (!table_.find(found, key)) {
            return false;
        }
        found->second->copy_to(to, size);
        return true;
    }

    void put(uint64_t key, const uint8_t *value, size_t size)
    {
        Table::accessor found;
        if (table_.insert(found, key)) {
            found->second = Blob::of(value, size);
        } else {
            Blob::replace(found->second, value, size);
        }
    }

    bool erase(uint64_t key)
    {
        Table::accessor found;
        if (!table_.find(found, key)) {
            return false;
        }
        std::free(found->second);
        return table_.erase(found);
    }

  private:
    using Table = tbb::concurrent_hash_map<uint64_t, Blob *, Compare>;
    Table table_;
};

} // namespace

extern "C" const struct bench_engine tbb_engine = memory_peer::engine_of<Map>("tbb");
