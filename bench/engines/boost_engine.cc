/* boost_engine.cc -- boost::concurrent_flat_map as an engine, for Boost 1.83 or newer.
 *
 * Depends on: memory_peer.hh, Boost.   Used by: bench_engine.c.
 */
#include <boost/unordered/concurrent_flat_map.hpp>

#include "bench/engines/memory_peer.hh"

namespace
{

using memory_peer::Blob;

class Map
{
  public:
    explicit Map(uint64_t pair_count) : table_(pair_count)
    {
    }

    ~Map()
    {
        table_.visit_all([](auto &pair) { std::free(pair.second); });
    }

    bool get(uint64_t key, uint8_t *to, size_t *size)
    {
        return table_.cvisit(key, [&](const auto &pair) { pair.second->copy_to(to, size); }) == 1;
    }

    void put(uint64_t key, const uint8_t *value, size_t size)
    {
        auto replace = [&](auto &pair) { Blob::replace(pair.second, value, size); };
        if (table_.visit(key, replace) == 0) {
            Blob *blob = Blob::of(value, size);
            if (!table_.try_emplace_or_visit(key, blob, replace)) {
                std::free(blob);
            }
        }
    }

    bool erase(uint64_t key)
    {
        return table_.erase_if(key, [](auto &pair) {
            std::free(pair.second);
            return true;
        }) == 1;
    }

  private:
    boost::concurrent_flat_map<uint64_t, Blob *, memory_peer::Hash> table_;
};

} // namespace

extern "C" const struct bench_engine boost_engine = memory_peer::engine_of<Map>("boost");
