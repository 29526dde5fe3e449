/* unordered_engine.cc -- std::unordered_map as an engine: 64 of them, each with a mutex.
 *
 * Depends on: memory_peer.hh.   Used by: bench_engine.c.
 */
#include <array>
#include <mutex>
#include <unordered_map>

#include "bench/engines/memory_peer.hh"

namespace
{

using memory_peer::Blob;

class Map
{
  public:
    explicit Map(uint64_t pair_count)
    {
        for (auto &shard : shards_) {
            shard.table.reserve(pair_count / SHARDS);
        }
    }

    ~Map()
    {
        for (auto &shard : shards_) {
            for (auto &pair : shard.table) {
                std::free(pair.second);
            }
        }
    }

    bool get(uint64_t key, uint8_t *to, size_t *size)
    {
        Shard &shard = shard_of(key);
        std::lock_guard lock(shard.mutex);
        auto found = shard.table.find(key);
        if (found == shard.table.end()) {
            return false;
        }
        found->second->copy_to(to, size);
        return true;
    }

    void put(uint64_t key, const uint8_t *value, size_t size)
    {
        Shard &shard = shard_of(key);
        std::lock_guard lock(shard.mutex);
        auto [place, is_new] = shard.table.try_emplace(key, nullptr);
        if (is_new) {
            place->second = Blob::of(value, size);
        } else {
            Blob::replace(place->second, value, size);
        }
    }

    bool erase(uint64_t key)
    {
        Shard &shard = shard_of(key);
        std::lock_guard lock(shard.mutex);
        auto found = shard.table.find(key);
        if (found == shard.table.end()) {
            return false;
        }
        std::free(found->second);
        shard.table.erase(found);
        return true;
    }

  private:
    static constexpr size_t SHARDS = 64;

    struct alignas(64) Shard {
        std::mutex mutex;
        std::unordered_map<uint64_t, Blob *, memory_peer::Hash> table;
    };

    Shard &shard_of(uint64_t key)
    {
        return shards_[memory_peer::Hash()(key) >> 58];
    }

    std::array<Shard, SHARDS> shards_;
};

} // namespace

extern "C" const struct bench_engine unordered_engine = memory_peer::engine_of<Map>("unordered");
