/* superblock.c -- see superblock.h. */
#include "engine/store/superblock.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    WAL_SHARE = 32,           /* one block in so many of the store */
    WAL_BLOCKS_MIN = 128,     /* 512 KiB */
    WAL_BLOCKS_LEAST = 64,    /* of stores that were made before there was a log */
    WAL_BLOCKS_MAX = 1 << 19, /* 2 GiB */
    EXTENTS_MIN = 4,
};

int superblock_lay_out(struct superblock *super, uint64_t block_count)
{
    uint64_t wal = block_count / WAL_SHARE;
    wal = wal < WAL_BLOCKS_MIN ? WAL_BLOCKS_MIN : wal;
    wal = wal > WAL_BLOCKS_MAX ? WAL_BLOCKS_MAX : wal;
    super->block_count = block_count;
    super->wal_lba = EXTENT_BLOCKS; /* the superblocks have an extent to themselves */
    super->wal_block_count = divide_up(wal, EXTENT_BLOCKS) * EXTENT_BLOCKS;
    super->extents_lba = super->wal_lba + super->wal_block_count;
    if (block_count < super->extents_lba + EXTENTS_MIN * EXTENT_BLOCKS) {
        return CUBBY_FULL;
    }
    super->extent_count = (block_count - super->extents_lba) / EXTENT_BLOCKS;
    return CUBBY_OK;
}

void superblock_grow(struct superblock *super, uint64_t block_count)
{
    CUBBY_ASSERT(block_count >= super->block_count);
    super->block_count = block_count;
    super->extent_count = (block_count - super->extents_lba) / EXTENT_BLOCKS;
}

int superblock_write(struct page_io *io, const struct superblock *super, uint8_t *buffer)
{
    CUBBY_ASSERT(super->run_count <= SUPERBLOCK_RUNS_MAX);
    CUBBY_ASSERT(super->segment_count > 0 || super->run_count == 0);
    memset(buffer, 0, BLOCK_BYTES);
    memcpy(buffer + 8, SUPERBLOCK_MAGIC, 8);
    store_u32(buffer + 16, super->format_version);
    store_u32(buffer + 20, super->clean);
    store_u64(buffer + 24, super->compatible);
    store_u64(buffer + 32, super->compatible_read);
    store_u64(buffer + 40, super->incompatible);
    store_u64(buffer + 48, super->generation);
    memcpy(buffer + 56, super->store_id, sizeof super->store_id);
    store_u64(buffer + 72, super->hash_seed);
    store_u64(buffer + 80, super->secret);
    store_u64(buffer + 88, super->block_count);
    store_u64(buffer + 96, super->wal_lba);
    store_u64(buffer + 104, super->wal_block_count);
    store_u64(buffer + 112, super->extents_lba);
    store_u64(buffer + 120, super->extent_count);
    store_u32(buffer + 128, super->fill_percent);
    store_u32(buffer + 132, super->run_count);
    store_u64(buffer + 136, super->lsn);
    store_u64(buffer + 144, super->segment_count);
    store_u64(buffer + 152, super->pair_count);
    store_u64(buffer + 160, super->pair_bytes);
    store_u64(buffer + 168, super->blob_count);
    store_u64(buffer + 176, super->blob_extent_count);
    store_u64(buffer + 184, super->checkpoint_generation);
    for (uint32_t i = 0; i < super->run_count; i++) {
        uint8_t *run = buffer + SUPERBLOCK_RUNS_OFFSET + i * SUPERBLOCK_RUN_BYTES;
        store_u64(run, super->runs[i].first_extent);
        store_u64(run + 8, super->runs[i].extent_count);
    }
    store_u64(buffer + SUPERBLOCK_LOG_OFFSET, super->log_run);
    store_u64(buffer + SUPERBLOCK_LOG_OFFSET + 8, super->log_start);
    uint64_t lba = super->generation % SUPERBLOCK_COUNT;
    store_u64(buffer, checksum_of(buffer + 8, BLOCK_BYTES - 8, lba, 0));
    return io->ops->write(io, lba, 1, buffer);
}

static void decode(struct superblock *super, const uint8_t *buffer)
{
    super->format_version = load_u32(buffer + 16);
    super->clean = load_u32(buffer + 20) != 0;
    super->compatible = load_u64(buffer + 24);
    super->compatible_read = load_u64(buffer + 32);
    super->incompatible = load_u64(buffer + 40);
    super->generation = load_u64(buffer + 48);
    memcpy(super->store_id, buffer + 56, sizeof super->store_id);
    super->hash_seed = load_u64(buffer + 72);
    super->secret = load_u64(buffer + 80);
    super->block_count = load_u64(buffer + 88);
    super->wal_lba = load_u64(buffer + 96);
    super->wal_block_count = load_u64(buffer + 104);
    super->extents_lba = load_u64(buffer + 112);
    super->extent_count = load_u64(buffer + 120);
    super->fill_percent = load_u32(buffer + 128);
    super->run_count = load_u32(buffer + 132);
    super->lsn = load_u64(buffer + 136);
    super->segment_count = load_u64(buffer + 144);
    super->pair_count = load_u64(buffer + 152);
    super->pair_bytes = load_u64(buffer + 160);
    super->blob_count = load_u64(buffer + 168);
    super->blob_extent_count = load_u64(buffer + 176);
    super->checkpoint_generation = load_u64(buffer + 184);
    /* Where there was no log yet another thing stood there. */
    bool has_log = (super->incompatible & FEATURE_LOG) != 0;
    super->log_run = has_log ? load_u64(buffer + SUPERBLOCK_LOG_OFFSET) : 0;
    super->log_start = has_log ? load_u64(buffer + SUPERBLOCK_LOG_OFFSET + 8) : super->lsn;
}

/* Whether the areas fill the size. A store that has grown has kept its log's room. */
static bool areas_fit(const struct superblock *super)
{
    struct superblock expected;
    return superblock_lay_out(&expected, super->block_count) == CUBBY_OK &&
           super->wal_lba == expected.wal_lba && super->wal_block_count >= WAL_BLOCKS_LEAST &&
           super->wal_block_count <= expected.wal_block_count &&
           super->wal_block_count % EXTENT_BLOCKS == 0 &&
           super->extents_lba == super->wal_lba + super->wal_block_count &&
           super->extent_count == (super->block_count - super->extents_lba) / EXTENT_BLOCKS;
}

/* Whether the fields can be true together. Returns NULL or the reason why not. */
static const char *check_fields(const struct superblock *super, uint64_t device_block_count)
{
    if (super->block_count > device_block_count) {
        return "the store is larger than the device; the file or device has been truncated";
    }
    if (!areas_fit(super)) {
        return "its areas do not fit its size";
    }
    if (super->format_version == 0 || super->fill_percent < 10 || super->fill_percent > 75 ||
        super->run_count > SUPERBLOCK_RUNS_MAX || super->segment_count == 0 ||
        super->segment_count > super->extent_count || super->log_start > super->lsn) {
        return "its fields are out of range";
    }
    return NULL;
}

static void decode_runs(struct superblock *super, const uint8_t *buffer)
{
    for (uint32_t i = 0; i < super->run_count; i++) {
        const uint8_t *run = buffer + SUPERBLOCK_RUNS_OFFSET + i * SUPERBLOCK_RUN_BYTES;
        super->runs[i].first_extent = load_u64(run);
        super->runs[i].extent_count = load_u64(run + 8);
    }
}

int superblock_read_copy(struct page_io *io, uint64_t lba, uint64_t device_block_count,
                         struct superblock *super, uint8_t *buffer, const char **reason)
{
    *reason = "it cannot be read";
    if (device_block_count < SUPERBLOCK_COUNT) {
        *reason = "the file or device is too small to hold one";
        return CUBBY_NOT_A_STORE;
    }
    int status = io->ops->read(io, lba, 1, buffer);
    if (status != 0) {
        return status;
    }
    if (memcmp(buffer + 8, SUPERBLOCK_MAGIC, 8) != 0) {
        *reason = "it is not a superblock";
        return CUBBY_NOT_A_STORE;
    }
    if (load_u64(buffer) != checksum_of(buffer + 8, BLOCK_BYTES - 8, lba, 0)) {
        *reason = "its checksum does not match";
        return CUBBY_CORRUPT;
    }
    decode(super, buffer);
    if (super->format_version > FORMAT_VERSION ||
        (super->incompatible & ~(uint64_t)FEATURES_INCOMPATIBLE) != 0) {
        *reason = "it has a newer format";
        return CUBBY_FORMAT_VERSION;
    }
    *reason = check_fields(super, device_block_count);
    if (*reason != NULL) {
        return CUBBY_CORRUPT;
    }
    decode_runs(super, buffer);
    return CUBBY_OK;
}

int superblock_read(struct page_io *io, uint64_t device_block_count, struct superblock *super,
                    uint8_t *buffer, char *message, size_t message_size)
{
    struct superblock copies[SUPERBLOCK_COUNT];
    int statuses[SUPERBLOCK_COUNT];
    const char *reasons[SUPERBLOCK_COUNT];
    int best = -1;
    for (int i = 0; i < SUPERBLOCK_COUNT; i++) {
        statuses[i] = superblock_read_copy(io, (uint64_t)i, device_block_count, &copies[i], buffer,
                                           &reasons[i]);
        if (statuses[i] == CUBBY_OK &&
            (best < 0 || copies[i].generation > copies[best].generation)) {
            best = i;
        }
    }
    /* A newer format in one copy outweighs a sound older copy: that one is stale. */
    for (int i = 0; i < SUPERBLOCK_COUNT; i++) {
        if (statuses[i] == CUBBY_FORMAT_VERSION) {
            snprintf(
                message, message_size,
                "the store has format version %u with feature bits 0x%llx, and this CubbyDB %s "
                "knows version %d; use a newer CubbyDB",
                copies[i].format_version, (unsigned long long)copies[i].incompatible,
                cubby_version(), FORMAT_VERSION);
            return CUBBY_FORMAT_VERSION;
        }
    }
    if (best >= 0) {
        *super = copies[best];
        /* The lost copy may have been the newer one, that says the store is in use. */
        int other = 1 - best;
        if (statuses[other] != CUBBY_OK || copies[other].generation + 1 != super->generation) {
            super->clean = false;
        }
        return CUBBY_OK;
    }
    if (statuses[0] == CUBBY_NOT_A_STORE && statuses[1] == CUBBY_NOT_A_STORE) {
        snprintf(message, message_size, "there is no CubbyDB store in it (%s)", reasons[0]);
        return CUBBY_NOT_A_STORE;
    }
    /* The copy that was a superblock once says more than the other. */
    int worse = statuses[0] == CUBBY_NOT_A_STORE ? 1 : 0;
    if (statuses[worse] > 0) {
        snprintf(message, message_size, "the superblock at LBA %d cannot be read: %s", worse,
                 cubby_status_text(statuses[worse]));
        return statuses[worse];
    }
    snprintf(message, message_size, "both superblocks are damaged: at LBA %d, %s", worse,
             reasons[worse]);
    return statuses[worse];
}
