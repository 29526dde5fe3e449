/* directory.c -- see directory.h. */
#include "engine/store/directory.h"

#include <errno.h>

#include "engine/base/cubby_assert.h"

enum {
    BASE_BITS = 34,
    HOME_COUNT_BITS = 16,
    EPOCH_BITS = 14,
};
_Static_assert(BASE_BITS + HOME_COUNT_BITS + EPOCH_BITS == 64, "a descriptor is 8 bytes");
_Static_assert(1 << EPOCH_BITS == EPOCH_COUNT, "epochs wrap where the format says");
_Static_assert((1 << HOME_COUNT_BITS) - 1 == HOME_COUNT_MAX, "the field holds every home count");

static _Atomic uint64_t *descriptor_at(const struct directory *directory, uint64_t segment_number)
{
    CUBBY_ASSERT((segment_number + 1) * DESCRIPTOR_BYTES <= directory->descriptors.reserved_bytes);
    return (_Atomic uint64_t *)directory->descriptors.data + segment_number;
}

static _Atomic uint32_t *payload_at(const struct directory *directory, uint64_t segment_number)
{
    return (_Atomic uint32_t *)directory->payloads.data + segment_number;
}

uint64_t descriptor_pack(struct segment_place place)
{
    CUBBY_ASSERT(place.base_extent < UINT64_C(1) << BASE_BITS);
    CUBBY_ASSERT(place.home_count <= HOME_COUNT_MAX);
    CUBBY_ASSERT(place.epoch < EPOCH_COUNT);
    return place.base_extent | (uint64_t)place.home_count << BASE_BITS |
           (uint64_t)place.epoch << (BASE_BITS + HOME_COUNT_BITS);
}

struct segment_place descriptor_unpack(uint64_t descriptor)
{
    return (struct segment_place){
        .base_extent = descriptor & ((UINT64_C(1) << BASE_BITS) - 1),
        .home_count = (uint32_t)(descriptor >> BASE_BITS & HOME_COUNT_MAX),
        .epoch = (uint16_t)(descriptor >> (BASE_BITS + HOME_COUNT_BITS)),
    };
}

int directory_open(struct directory *directory, uint64_t segments_max)
{
    *directory = (struct directory){0};
    int status = reserved_array_open(&directory->descriptors, segments_max * DESCRIPTOR_BYTES);
    if (status != 0) {
        return status;
    }
    status = reserved_array_open(&directory->payloads, segments_max * PAYLOAD_BYTES);
    if (status != 0) {
        reserved_array_close(&directory->descriptors);
    }
    return status;
}

void directory_close(struct directory *directory)
{
    reserved_array_close(&directory->descriptors);
    reserved_array_close(&directory->payloads);
}

int directory_reserve(struct directory *directory, uint64_t segment_number)
{
    int status =
        reserved_array_grow(&directory->descriptors, (segment_number + 1) * DESCRIPTOR_BYTES);
    if (status != 0) {
        return status;
    }
    return reserved_array_grow(&directory->payloads, (segment_number + 1) * PAYLOAD_BYTES);
}

struct segment_place directory_get(const struct directory *directory, uint64_t segment_number)
{
    return descriptor_unpack(atomic_load(descriptor_at(directory, segment_number)));
}

void directory_set(struct directory *directory, uint64_t segment_number, struct segment_place place)
{
    CUBBY_ASSERT(place.home_count > 0);
    _Atomic uint64_t *descriptor = descriptor_at(directory, segment_number);
    uint64_t old = atomic_exchange(descriptor, descriptor_pack(place));
    uint64_t growth = (uint64_t)place.home_count - descriptor_unpack(old).home_count;
    atomic_fetch_add(&directory->home_total, growth); /* modulo 2^64: it may shrink */
}

uint32_t directory_payload(const struct directory *directory, uint64_t segment_number)
{
    return atomic_load_explicit(payload_at(directory, segment_number), memory_order_relaxed);
}

void directory_set_payload(struct directory *directory, uint64_t segment_number, uint32_t bytes)
{
    atomic_store_explicit(payload_at(directory, segment_number), bytes, memory_order_relaxed);
}

uint32_t directory_change_payload(struct directory *directory, uint64_t segment_number,
                                  uint32_t old_bytes, uint32_t new_bytes)
{
    uint32_t payload = directory_payload(directory, segment_number);
    payload = (payload > old_bytes ? payload - old_bytes : 0) + new_bytes;
    directory_set_payload(directory, segment_number, payload);
    return payload;
}
