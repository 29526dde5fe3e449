/* libcuckoo_engine.cc -- libcuckoo as an engine. Its readers lock both of a key's buckets.
 *
 * Depends on: memory_peer.hh, libcuckoo.   Used by: bench_engine.c.
 */
#include <libcuckoo/cuckoohash_map.hh>

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
        auto locked = table_.lock_table();
        for (auto &pair : locked) {
            std::free(pair.second);
        }
    }

    bool get(uint64_t key, uint8_t *to, size_t *size)
    {
        return table_.find_fn(key, [&](Blob *const &blob) { blob->copy_to(to, size); });
    }

    void put(uint64_t key, const uint8_t *value, size_t size)
    {
        auto replace = [&](Blob *&blob) { Blob::replace(blob, value, size); };
        if (!table_.update_fn(key, replace)) {
            Blob *blob = Blob::of(value, size);
            if (!table_.insert(key, blob)) {
                std::free(blob);
                table_.update_fn(key, replace);
            }
        }
    }

    bool erase(uint64_t key)
    {
        return table_.erase_fn(key, [](Blob *&blob) {
            std::free(blob);
            return true;
        });
    }

  private:
    libcuckoo::cuckoohash_map<uint64_t, Blob *, memory_peer::Hash> table_;
};

} // namespace

extern "C" const struct bench_engine libcuckoo_engine = memory_peer::engine_of<Map>("libcuckoo");
