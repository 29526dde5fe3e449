/* memory_peer.hh -- a table of C++ as an engine: keys of 8 bytes, and values in blobs of malloc's.
 *
 * A Map has
 *     bool get(uint64_t key, uint8_t *to, size_t *size)     copy the value out
 *     void put(uint64_t key, const uint8_t *value, size_t size)
 *     bool erase(uint64_t key)
 * all thread-safe. Values go in blobs, as they must where they have any size; one of the same size
 * is overwritten in place.
 *
 * Depends on: bench_engine.h.   Used by: the peers in memory.
 */
#ifndef CUBBY_BENCH_MEMORY_PEER_HH
#define CUBBY_BENCH_MEMORY_PEER_HH

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

extern "C" {
#include "bench/engines/bench_engine.h"
}

namespace memory_peer
{

/* One multiplication, its halves folded: what these tables are given must be mixed, and no more
 * than that. */
struct Hash {
    size_t operator()(uint64_t key) const
    {
        auto product =
            static_cast<unsigned __int128>(key ^ 0xa0761d6478bd642f) * 0xe7037ed1a0b428db;
        return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    }
};

struct Blob {
    uint32_t size;
    uint8_t data[];

    static Blob *of(const uint8_t *value, size_t size)
    {
        auto *blob = static_cast<Blob *>(std::malloc(sizeof(Blob) + size));
        if (blob == nullptr) {
            throw std::bad_alloc();
        }
        blob->size = static_cast<uint32_t>(size);
        std::memcpy(blob->data, value, size);
        return blob;
    }

    void copy_to(uint8_t *to, size_t *bytes) const
    {
        std::memcpy(to, data, size);
        *bytes = size;
    }

    /* Give a blob another value; it may become another blob. */
    static void replace(Blob *&blob, const uint8_t *value, size_t size)
    {
        if (blob->size == size) {
            std::memcpy(blob->data, value, size);
            return;
        }
        Blob *other = of(value, size);
        std::free(blob);
        blob = other;
    }
};

inline uint64_t number_of(const uint8_t *key)
{
    uint64_t number;
    std::memcpy(&number, key, sizeof number);
    return number;
}

template <class Map> struct Session {
    Map *map;
    uint8_t *buffer;
};

enum {
    BUFFER_BYTES = 1 << 20,
};

template <class Map>
int open_map(const struct bench_place *place, void **store, char *message, size_t message_size)
{
    (void)message;
    (void)message_size;
    *store = new (std::nothrow) Map(place->pair_count);
    return *store == nullptr ? ENOMEM : CUBBY_OK;
}

template <class Map> int close_map(void *store)
{
    delete static_cast<Map *>(store);
    return CUBBY_OK;
}

template <class Map> int open_session(void *store, void **session)
{
    auto *opened = new (std::nothrow) Session<Map>{static_cast<Map *>(store), nullptr};
    if (opened == nullptr) {
        return ENOMEM;
    }
    opened->buffer = static_cast<uint8_t *>(std::malloc(BUFFER_BYTES));
    *session = opened;
    return opened->buffer == nullptr ? ENOMEM : CUBBY_OK;
}

template <class Map> void close_session(void *session)
{
    auto *opened = static_cast<Session<Map> *>(session);
    std::free(opened->buffer);
    delete opened;
}

inline const char *message_of(void *session)
{
    (void)session;
    return "";
}

template <class Map>
int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    auto *opened = static_cast<Session<Map> *>(session);
    size_t size;
    (void)key_size;
    if (!opened->map->get(number_of(key), opened->buffer, &size)) {
        return CUBBY_NOT_FOUND;
    }
    *value = {opened->buffer, size};
    return CUBBY_OK;
}

template <class Map>
int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value, size_t value_size)
try {
    (void)key_size;
    static_cast<Session<Map> *>(session)->map->put(number_of(key), value, value_size);
    return CUBBY_OK;
} catch (const std::bad_alloc &) {
    return ENOMEM;
}

template <class Map> int delete_pair(void *session, const uint8_t *key, size_t key_size)
{
    (void)key_size;
    bool was_there = static_cast<Session<Map> *>(session)->map->erase(number_of(key));
    return was_there ? CUBBY_OK : CUBBY_NOT_FOUND;
}

template <class Map> constexpr struct bench_engine engine_of(const char *name)
{
    struct bench_engine engine = {};
    engine.name = name;
    engine.holds_values = true;
    engine.open = open_map<Map>;
    engine.close = close_map<Map>;
    engine.session_open = open_session<Map>;
    engine.session_close = close_session<Map>;
    engine.message = message_of;
    engine.get = get<Map>;
    engine.put = put<Map>;
    engine.delete_pair = delete_pair<Map>;
    return engine;
}

} // namespace memory_peer

#endif
