/* block.c -- see block.h. */
#include "engine/store/block.h"

#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

/* The header in memory: the same bytes as on the device. */
struct block_header {
    uint64_t checksum;
    uint64_t lsn;
    uint32_t segment_number;
    uint32_t block_index;
    uint32_t magic;
    uint16_t home_count;
    uint16_t epoch;
    uint16_t pair_count;
    uint16_t used_bytes;
    uint8_t role;
    uint8_t depth;
    uint8_t displaced_count;
    uint8_t zero;
};
_Static_assert(sizeof(struct block_header) == BLOCK_HEADER_BYTES, "no padding");
_Static_assert(BLOCK_BYTES <= UINT16_MAX, "used_bytes holds a block");

enum {
    PAIR_FLAG_BLOB = 1,
    PAIR_FLAG_EXPIRY = 2,
    PAIR_FLAG_BITS = 2,
    BLOB_PLACE_BYTES = 16,
    HASH_BYTES = 16,
};

static struct block_header *header_of(uint8_t *block)
{
    return (struct block_header *)(void *)block;
}

static const struct block_header *const_header_of(const uint8_t *block)
{
    return (const struct block_header *)(const void *)block;
}

static size_t pairs_offset(const uint8_t *block)
{
    return BLOCK_HEADER_BYTES + (size_t)const_header_of(block)->displaced_count * DISPLACED_BYTES;
}

bool pair_is_blob(size_t key_size, size_t value_size, bool has_expiry)
{
    if (key_size + value_size > PAIR_INLINE_BYTES_MAX) {
        return true;
    }
    size_t head = varint_size((uint32_t)key_size << PAIR_FLAG_BITS) +
                  varint_size((uint32_t)value_size) + (has_expiry ? PAIR_EXPIRY_BYTES : 0);
    return head + key_size + value_size > PAIR_INLINE_BYTES_MAX;
}

static size_t blob_tail_size(uint32_t key_size)
{
    return BLOB_PLACE_BYTES + (key_size <= BLOB_KEY_INLINE_BYTES_MAX ? key_size : HASH_BYTES);
}

size_t pair_encoded_size(const struct pair_content *content)
{
    size_t head = varint_size(content->key_size << PAIR_FLAG_BITS) +
                  varint_size(content->value_size) +
                  (content->expires_ms != 0 ? PAIR_EXPIRY_BYTES : 0);
    if (content->is_blob) {
        return head + blob_tail_size(content->key_size);
    }
    return head + content->key_size + content->value_size;
}

void pair_encode(const struct pair_content *content, uint8_t *to)
{
    uint32_t flags = content->is_blob ? PAIR_FLAG_BLOB : 0;
    flags |= content->expires_ms != 0 ? PAIR_FLAG_EXPIRY : 0;
    to += varint_store(to, content->key_size << PAIR_FLAG_BITS | flags);
    to += varint_store(to, content->value_size);
    if (content->expires_ms != 0) {
        CUBBY_ASSERT(content->expires_ms != CUBBY_EXPIRY_KEEP);
        store_u64(to, content->expires_ms);
        to += PAIR_EXPIRY_BYTES;
    }
    if (content->is_blob) {
        store_u64(to, content->blob_lba);
        store_u64(to + 8, content->blob_checksum);
        to += BLOB_PLACE_BYTES;
        if (content->key_size > BLOB_KEY_INLINE_BYTES_MAX) {
            store_u64(to, content->hash.low);
            store_u64(to + 8, content->hash.high);
            return;
        }
    }
    memcpy(to, content->key, content->key_size);
    if (!content->is_blob && content->value_size > 0) {
        memcpy(to + content->key_size, content->value, content->value_size);
    }
}

void block_init(uint8_t *block, struct block_identity identity)
{
    CUBBY_ASSERT(identity.home_count > 0);
    CUBBY_ASSERT(identity.epoch < EPOCH_COUNT);
    memset(block, 0, BLOCK_BYTES);
    struct block_header *header = header_of(block);
    header->segment_number = identity.segment_number;
    header->block_index = identity.block_index;
    header->magic = BLOCK_MAGIC;
    header->home_count = identity.home_count;
    header->epoch = identity.epoch;
    header->used_bytes = BLOCK_HEADER_BYTES;
    bool is_home = identity.block_index < identity.home_count;
    header->role = is_home ? BLOCK_ROLE_HOME : BLOCK_ROLE_SPILL;
    header->depth = identity.depth;
}

void block_seal(uint8_t *block, uint64_t lsn, uint64_t lba, uint64_t secret)
{
    struct block_header *header = header_of(block);
    CUBBY_ASSERT(header->magic == BLOCK_MAGIC);
    header->lsn = lsn;
    header->checksum = checksum_of(block + 8, BLOCK_BYTES - 8, lba, secret);
}

const char *block_check(const uint8_t *block, uint64_t lba, uint64_t secret)
{
    const struct block_header *header = const_header_of(block);
    if (header->magic != BLOCK_MAGIC) {
        return "it is not a block of a segment";
    }
    if (header->checksum != checksum_of(block + 8, BLOCK_BYTES - 8, lba, secret)) {
        return "its checksum does not match";
    }
    if (header->home_count == 0 || header->epoch >= EPOCH_COUNT || header->depth > 32) {
        return "its header is out of range";
    }
    bool is_home = header->block_index < header->home_count;
    if (header->role != (is_home ? BLOCK_ROLE_HOME : BLOCK_ROLE_SPILL)) {
        return "its role does not fit its index";
    }
    if (!is_home && header->displaced_count != 0) {
        return "a spill block lists displaced pairs";
    }
    if (header->used_bytes > BLOCK_BYTES || header->used_bytes < pairs_offset(block)) {
        return "its used size is out of range";
    }
    return NULL;
}

struct block_identity block_identity_of(const uint8_t *block)
{
    const struct block_header *header = const_header_of(block);
    return (struct block_identity){
        .segment_number = header->segment_number,
        .block_index = header->block_index,
        .home_count = header->home_count,
        .epoch = header->epoch,
        .depth = header->depth,
    };
}

bool block_identity_equal(struct block_identity a, struct block_identity b)
{
    return a.segment_number == b.segment_number && a.block_index == b.block_index &&
           a.home_count == b.home_count && a.epoch == b.epoch && a.depth == b.depth;
}

uint64_t block_lsn(const uint8_t *block)
{
    return const_header_of(block)->lsn;
}

uint32_t block_pair_count(const uint8_t *block)
{
    return const_header_of(block)->pair_count;
}

bool block_is_home(const uint8_t *block)
{
    return const_header_of(block)->role == BLOCK_ROLE_HOME;
}

int block_room(const uint8_t *block, bool with_entry)
{
    const struct block_header *header = const_header_of(block);
    if (header->role == BLOCK_ROLE_SPILL) {
        CUBBY_ASSERT(!with_entry);
        return BLOCK_BYTES - header->used_bytes;
    }
    /* The list may use its reserve, and beyond it what the pairs leave. */
    int pair_bytes = header->used_bytes - (int)pairs_offset(block);
    int list_bytes = (header->displaced_count + (with_entry ? 1 : 0)) * DISPLACED_BYTES;
    int reserved = list_bytes > DISPLACED_RESERVE_BYTES ? list_bytes : DISPLACED_RESERVE_BYTES;
    return BLOCK_BYTES - BLOCK_HEADER_BYTES - reserved - pair_bytes;
}

bool block_tail_is_zero(const uint8_t *block)
{
    size_t used = const_header_of(block)->used_bytes;
    if (used == BLOCK_BYTES) {
        return true;
    }
    return block[used] == 0 && memcmp(block + used, block + used + 1, BLOCK_BYTES - used - 1) == 0;
}

bool pair_has_expiry(const uint8_t *encoded)
{
    return (encoded[0] & PAIR_FLAG_EXPIRY) != 0; /* varints begin with their low bits */
}

bool block_pair_decode(const uint8_t *from, size_t available, struct block_pair *pair)
{
    uint32_t key_word;
    size_t first = varint_load(from, available, &key_word);
    if (first == 0) {
        return false;
    }
    size_t second = varint_load(from + first, available - first, &pair->value_size);
    uint32_t key_size = key_word >> PAIR_FLAG_BITS;
    bool is_blob = (key_word & PAIR_FLAG_BLOB) != 0;
    if (second == 0 || key_size == 0 || key_size > CUBBY_KEY_BYTES_MAX ||
        pair->value_size > CUBBY_VALUE_BYTES_MAX) {
        return false;
    }
    size_t head = first + second;
    pair->expires_ms = 0;
    if ((key_word & PAIR_FLAG_EXPIRY) != 0) {
        if (available - head < PAIR_EXPIRY_BYTES) {
            return false;
        }
        pair->expires_ms = load_u64(from + head);
        head += PAIR_EXPIRY_BYTES;
        if (pair->expires_ms == 0 || pair->expires_ms == CUBBY_EXPIRY_KEEP) {
            return false;
        }
    }
    size_t tail = is_blob ? blob_tail_size(key_size) : (size_t)key_size + pair->value_size;
    if (tail > available - head || head + tail > PAIR_INLINE_BYTES_MAX) {
        return false;
    }
    const uint8_t *body = from + head;
    pair->encoded = from;
    pair->encoded_size = (uint32_t)(head + tail);
    pair->key_size = key_size;
    pair->is_blob = is_blob;
    if (!is_blob) {
        pair->key = body;
        pair->value = body + key_size;
        return true;
    }
    pair->value = NULL;
    pair->blob_lba = load_u64(body);
    pair->blob_checksum = load_u64(body + 8);
    body += BLOB_PLACE_BYTES;
    pair->key = body;
    if (key_size > BLOB_KEY_INLINE_BYTES_MAX) {
        pair->key = NULL;
        pair->hash = (struct key_hash){.low = load_u64(body), .high = load_u64(body + 8)};
    }
    return true;
}

int block_next(const uint8_t *block, size_t *offset, struct block_pair *pair)
{
    const struct block_header *header = const_header_of(block);
    if (*offset == 0) {
        *offset = pairs_offset(block);
    }
    if (*offset == header->used_bytes) {
        return CUBBY_NOT_FOUND;
    }
    if (!block_pair_decode(block + *offset, header->used_bytes - *offset, pair)) {
        return CUBBY_CORRUPT;
    }
    *offset += pair->encoded_size;
    return CUBBY_OK;
}

const char *block_check_pairs(const uint8_t *block)
{
    size_t offset = 0;
    uint32_t count = 0;
    struct block_pair pair;
    int status;
    while ((status = block_next(block, &offset, &pair)) == CUBBY_OK) {
        count++;
    }
    if (status == CUBBY_CORRUPT) {
        return "a pair in it does not fit";
    }
    if (count != block_pair_count(block)) {
        return "its pair count is wrong";
    }
    if (!block_tail_is_zero(block)) {
        return "there are bytes behind its pairs";
    }
    return block_room(block, false) < 0 ? "it has no room left for its displaced list" : NULL;
}

int block_find(const uint8_t *block, const uint8_t *key, size_t key_size, struct key_hash hash,
               struct block_pair *pair)
{
    size_t offset = 0;
    int status;
    while ((status = block_next(block, &offset, pair)) == CUBBY_OK) {
        if (pair->key_size != key_size) {
            continue;
        }
        bool same = pair->key == NULL ? pair->hash.low == hash.low && pair->hash.high == hash.high
                                      : key != NULL && memcmp(pair->key, key, key_size) == 0;
        if (same) {
            return CUBBY_OK;
        }
    }
    return status;
}

void block_append(uint8_t *block, const uint8_t *encoded, size_t encoded_size)
{
    struct block_header *header = header_of(block);
    CUBBY_ASSERT((int)encoded_size <= block_room(block, false));
    memcpy(block + header->used_bytes, encoded, encoded_size);
    header->used_bytes = (uint16_t)(header->used_bytes + encoded_size);
    header->pair_count++;
}

/* Take bytes out of the used part and zero what they leave behind it. */
static void cut_out(uint8_t *block, size_t offset, size_t size)
{
    struct block_header *header = header_of(block);
    CUBBY_ASSERT(offset >= BLOCK_HEADER_BYTES);
    CUBBY_ASSERT(offset + size <= header->used_bytes);
    size_t behind = header->used_bytes - offset - size;
    memmove(block + offset, block + offset + size, behind);
    memset(block + offset + behind, 0, size);
    header->used_bytes = (uint16_t)(header->used_bytes - size);
}

void block_remove(uint8_t *block, const struct block_pair *pair)
{
    CUBBY_ASSERT(pair->encoded > block);
    CUBBY_ASSERT(pair->encoded < block + BLOCK_BYTES);
    cut_out(block, (size_t)(pair->encoded - block), pair->encoded_size);
    header_of(block)->pair_count--;
}

uint32_t block_displaced_count(const uint8_t *block)
{
    return const_header_of(block)->displaced_count;
}

uint16_t block_displaced_fingerprint(const uint8_t *block, uint32_t index)
{
    CUBBY_ASSERT(index < const_header_of(block)->displaced_count);
    return load_u16(block + BLOCK_HEADER_BYTES + index * DISPLACED_BYTES);
}

uint16_t block_displaced_spill(const uint8_t *block, uint32_t index)
{
    CUBBY_ASSERT(index < const_header_of(block)->displaced_count);
    return load_u16(block + BLOCK_HEADER_BYTES + index * DISPLACED_BYTES + 2);
}

int block_displaced_find(const uint8_t *block, uint16_t fingerprint, uint16_t spill_index)
{
    for (uint32_t i = 0; i < const_header_of(block)->displaced_count; i++) {
        if (block_displaced_fingerprint(block, i) == fingerprint &&
            block_displaced_spill(block, i) == spill_index) {
            return (int)i;
        }
    }
    return -1;
}

void block_displaced_add(uint8_t *block, uint16_t fingerprint, uint16_t spill_index)
{
    struct block_header *header = header_of(block);
    CUBBY_ASSERT(header->role == BLOCK_ROLE_HOME);
    CUBBY_ASSERT(header->displaced_count < BLOCK_DISPLACED_MAX);
    CUBBY_ASSERT(block_room(block, true) >= 0);
    size_t offset = pairs_offset(block);
    memmove(block + offset + DISPLACED_BYTES, block + offset, header->used_bytes - offset);
    store_u16(block + offset, fingerprint);
    store_u16(block + offset + 2, spill_index);
    header->displaced_count++;
    header->used_bytes = (uint16_t)(header->used_bytes + DISPLACED_BYTES);
}

void block_displaced_remove(uint8_t *block, uint32_t index)
{
    CUBBY_ASSERT(index < const_header_of(block)->displaced_count);
    cut_out(block, BLOCK_HEADER_BYTES + index * DISPLACED_BYTES, DISPLACED_BYTES);
    header_of(block)->displaced_count--;
}

struct key_hash block_pair_hash(const struct block_pair *pair, uint64_t hash_seed)
{
    return pair->key != NULL ? key_hash_of(pair->key, pair->key_size, hash_seed) : pair->hash;
}

int block_find_by_hash(const uint8_t *block, size_t key_size, struct key_hash hash,
                       uint64_t hash_seed, struct block_pair *pair)
{
    size_t offset = 0;
    int status;
    while ((status = block_next(block, &offset, pair)) == CUBBY_OK) {
        if (pair->key_size != key_size) {
            continue;
        }
        struct key_hash other = block_pair_hash(pair, hash_seed);
        if (other.low == hash.low && other.high == hash.high) {
            return CUBBY_OK;
        }
    }
    return status;
}
