/* test_store_check.c -- every kind of damage in the file of a closed store: check names each,
 * repair mends what is safe and leaves the rest, and no other pair is lost.
 *
 * Damage of what a block says is sealed anew, so that its checksum does not give it away.
 *
 * Depends on: damaged_store.h.
 */
#include "tests/c/damaged_store.h"

enum {
    ANY = -1,
};

/* Plants a damage; returns the LBA that check is to name. */
typedef uint64_t plant_damage(struct image *image);

struct damage_case {
    const char *name;
    plant_damage *plant;
    const char *text;   /* in check's report of the LBA */
    int damage_count;   /* reports in all, or ANY */
    int lost_max;       /* pairs that may be damaged or gone */
    const char *repair; /* in one of repair's reports; NULL: it does nothing */
    bool stays_damaged; /* after repair */
};

/* The home block of a pair that is at home in segment 0. */
static uint64_t home_lba(const struct image *image)
{
    return image_find_kind(image, 0, false).lba;
}

/* Another home block of a segment with room for any pair, which is not that. */
static uint64_t roomy_lba(const struct image *image, uint64_t segment, uint64_t not_lba)
{
    struct segment_place place = image_place(image, segment);
    for (uint32_t i = 0; i < place.home_count; i++) {
        uint64_t lba = image_lba(image, segment, i);
        if (lba != not_lba && block_room(image_at(image, lba), true) >= 1008) {
            return lba;
        }
    }
    CHECK(false && "there is a home block with room");
    return 0;
}

static uint64_t set_u8(struct image *image, uint64_t lba, size_t offset, uint8_t value)
{
    image_at(image, lba)[offset] = value;
    image_seal(image, lba);
    return lba;
}

static uint64_t set_u16(struct image *image, uint64_t lba, size_t offset, uint16_t value)
{
    store_u16(image_at(image, lba) + offset, value);
    image_seal(image, lba);
    return lba;
}

static uint64_t set_u32(struct image *image, uint64_t lba, size_t offset, uint32_t value)
{
    store_u32(image_at(image, lba) + offset, value);
    image_seal(image, lba);
    return lba;
}

static uint64_t flip(struct image *image, uint64_t lba, size_t offset)
{
    image_at(image, lba)[offset] ^= 0x10;
    return lba;
}

/* Superblocks and the checkpoint ----------------------------------------------------------------
 */

static uint64_t flip_newer_superblock(struct image *image)
{
    return flip(image, image->current_lba, 60);
}

static uint64_t flip_older_superblock(struct image *image)
{
    return flip(image, 1 - image->current_lba, 4000);
}

static uint64_t set_superblock(struct image *image, uint64_t lba, size_t offset, uint64_t value)
{
    store_u64(image_at(image, lba) + offset, value);
    image_seal_superblock(image, lba);
    return lba;
}

static uint64_t stale_superblock(struct image *image)
{
    uint64_t lba = 1 - image->current_lba;
    return set_superblock(image, lba, 48, load_u64(image_at(image, lba) + 48) - 2);
}

static uint64_t foreign_superblock(struct image *image)
{
    return set_superblock(image, 1 - image->current_lba, 56, 4711);
}

static uint64_t wrong_sums(struct image *image)
{
    set_superblock(image, image->current_lba, 152, SAMPLE_PAIRS + 3);
    return 0;
}

static uint64_t flip_checkpoint_tail(struct image *image)
{
    return flip(image, image->checkpoint_lba + 3, 2000);
}

static uint64_t wrong_payload(struct image *image)
{
    uint8_t *payload = image_stream(image) + image->segment_count * DESCRIPTOR_BYTES;
    store_u32(payload, load_u32(payload) + 100);
    image_seal(image, image->checkpoint_lba);
    return image_lba(image, 0, 0);
}

static uint64_t set_descriptor(struct image *image, struct segment_place place)
{
    store_u64(image_stream(image), descriptor_pack(place));
    image_seal(image, image->checkpoint_lba);
    return image_lba(image, 0, 0);
}

static uint64_t wrong_place(struct image *image)
{
    struct segment_place place = image_place(image, 0);
    place.base_extent = image_free_extent(image);
    return set_descriptor(image, place);
}

static uint64_t wrong_place_epoch(struct image *image)
{
    struct segment_place place = image_place(image, 0);
    place.epoch++;
    return set_descriptor(image, place);
}

/* Change an entry of the checkpoint's blob extents, of the extent of blob 10. */
static uint8_t *blob_entry(const struct image *image, struct standing *blob)
{
    *blob = image_find(image, 10);
    uint64_t extent = (blob->pair.blob_lba - image->extents_lba) / EXTENT_BLOCKS;
    uint8_t *entry = image_blob_extents(image);
    while (load_u64(entry) >> 16 != extent) {
        entry += 8;
    }
    return entry;
}

static uint64_t blob_marked_as_free(struct image *image)
{
    struct standing blob;
    uint8_t *entry = blob_entry(image, &blob);
    unsigned bit = (unsigned)((blob.pair.blob_lba - image->extents_lba) % EXTENT_BLOCKS);
    store_u64(entry, load_u64(entry) & ~(UINT64_C(3) << bit));
    image_seal(image, image->checkpoint_lba);
    return blob.pair.blob_lba;
}

static uint64_t blob_extent_marked_as_free(struct image *image)
{
    struct standing blob;
    uint8_t *entry = blob_entry(image, &blob);
    uint64_t extent = load_u64(entry) >> 16;
    uint16_t map = (uint16_t)load_u64(entry);
    uint64_t count = load_u64(image_at(image, image->current_lba) + 176);
    uint8_t *end = image_blob_extents(image) + count * 8;
    memmove(entry, entry + 8, (size_t)(end - entry) - 8);
    memset(end - 8, 0, 8);
    image_seal(image, image->checkpoint_lba);
    set_superblock(image, image->current_lba, 176, count - 1);
    return image->extents_lba + extent * EXTENT_BLOCKS + (unsigned)__builtin_ctz(map);
}

/* Blocks of an extent that blobs have the rest of. */
static uint64_t blocks_taken_for_nothing(struct image *image)
{
    uint8_t *entry = image_blob_extents(image);
    while ((uint16_t)load_u64(entry) == 0xffff) {
        entry += 8;
    }
    uint64_t extent = load_u64(entry) >> 16;
    unsigned bit = (unsigned)__builtin_ctz(~(unsigned)load_u64(entry));
    store_u64(entry, load_u64(entry) | UINT64_C(1) << bit);
    image_seal(image, image->checkpoint_lba);
    return image->extents_lba + extent * EXTENT_BLOCKS + bit;
}

static uint64_t extent_taken_for_nothing(struct image *image)
{
    uint64_t count = load_u64(image_at(image, image->current_lba) + 176);
    uint64_t extent = image_free_extent(image);
    store_u64(image_blob_extents(image) + count * 8, extent << 16 | 0xff0);
    image_seal(image, image->checkpoint_lba);
    set_superblock(image, image->current_lba, 176, count + 1);
    return image->extents_lba + extent * EXTENT_BLOCKS + 4;
}

/* Blocks of segments ----------------------------------------------------------------------------
 */

static uint64_t flip_home(struct image *image)
{
    return flip(image, home_lba(image), 100);
}

static uint64_t flip_spill(struct image *image)
{
    return flip(image, image_find_kind(image, 0, true).lba, 100);
}

static uint64_t misdirected_write(struct image *image)
{
    uint64_t from = home_lba(image);
    uint64_t to = image_find_kind(image, 1, false).lba;
    memcpy(image_at(image, to), image_at(image, from), BLOCK_BYTES);
    return to;
}

static uint64_t not_a_block(struct image *image)
{
    return set_u32(image, home_lba(image), 24, 0);
}

static uint64_t wrong_segment(struct image *image)
{
    return set_u32(image, home_lba(image), 16, 1);
}

static uint64_t wrong_index(struct image *image)
{
    struct standing found = image_find_kind(image, 0, false);
    return set_u32(image, found.lba, 20, found.block_index == 0 ? 1 : found.block_index - 1);
}

static uint64_t wrong_home_count(struct image *image)
{
    return set_u16(image, home_lba(image), 28, 16000);
}

static uint64_t wrong_epoch(struct image *image)
{
    uint64_t lba = home_lba(image);
    return set_u16(image, lba, 30, load_u16(image_at(image, lba) + 30) + 1);
}

static uint64_t wrong_pair_count(struct image *image)
{
    uint64_t lba = home_lba(image);
    return set_u16(image, lba, 32, load_u16(image_at(image, lba) + 32) + 1);
}

static uint64_t wrong_used_bytes(struct image *image)
{
    uint64_t lba = home_lba(image);
    return set_u16(image, lba, 34, load_u16(image_at(image, lba) + 34) - 1);
}

static uint64_t used_bytes_out_of_range(struct image *image)
{
    return set_u16(image, home_lba(image), 34, BLOCK_BYTES + 1);
}

static uint64_t wrong_role(struct image *image)
{
    return set_u8(image, home_lba(image), 36, BLOCK_ROLE_SPILL);
}

static uint64_t wrong_depth(struct image *image)
{
    uint64_t lba = home_lba(image);
    return set_u8(image, lba, 37, image_at(image, lba)[37] + 1);
}

static uint64_t spill_with_a_list(struct image *image)
{
    return set_u8(image, image_find_kind(image, 0, true).lba, 38, 1);
}

static uint64_t nonzero_tail(struct image *image)
{
    return set_u8(image, roomy_lba(image, 0, 0), BLOCK_BYTES - 1, 7);
}

/* Where pairs are -------------------------------------------------------------------------------
 */

static uint64_t append(struct image *image, uint64_t lba, const struct block_pair *pair)
{
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    memcpy(encoded, pair->encoded, pair->encoded_size);
    block_append(image_at(image, lba), encoded, pair->encoded_size);
    image_seal(image, lba);
    return lba;
}

static void take_out(struct image *image, const struct standing *found)
{
    block_remove(image_at(image, found->lba), &found->pair);
    image_seal(image, found->lba);
}

static uint64_t pair_in_another_home(struct image *image)
{
    struct standing found = image_find_kind(image, 0, false);
    uint64_t lba = append(image, roomy_lba(image, 0, found.lba), &found.pair);
    take_out(image, &found);
    return lba;
}

static uint64_t pair_in_another_segment(struct image *image)
{
    struct standing found = image_find_kind(image, 0, false);
    uint64_t lba = append(image, roomy_lba(image, 1, 0), &found.pair);
    take_out(image, &found);
    return lba;
}

static uint64_t pair_in_two_homes(struct image *image)
{
    struct standing found = image_find_kind(image, 0, false);
    return append(image, roomy_lba(image, 0, found.lba), &found.pair);
}

static uint64_t pair_twice_in_a_block(struct image *image)
{
    uint64_t lba = roomy_lba(image, 0, 0);
    size_t offset = 0;
    struct block_pair pair;
    CHECK_EQUAL(block_next(image_at(image, lba), &offset, &pair), CUBBY_OK);
    return append(image, lba, &pair);
}

/* Remove a pair that is no blob. */
static void remove_inline(uint8_t *block)
{
    size_t offset = 0;
    struct block_pair pair;
    do {
        CHECK_EQUAL(block_next(block, &offset, &pair), CUBBY_OK);
    } while (pair.is_blob);
    block_remove(block, &pair);
}

/* A displaced pair whose home block has room once a pair of it is gone. */
static uint64_t pair_at_home_and_displaced(struct image *image)
{
    struct standing displaced = image_find_kind(image, 0, true);
    uint64_t lba = image_lba(image, 0, displaced.home_index);
    uint8_t *home = image_at(image, lba);
    while (block_room(home, false) < (int)displaced.pair.encoded_size) {
        remove_inline(home);
    }
    append(image, lba, &displaced.pair);
    return displaced.lba;
}

static uint64_t list_entry_without_a_record(struct image *image)
{
    uint64_t lba = roomy_lba(image, 0, 0);
    block_displaced_add(image_at(image, lba), 0xbeef, 0);
    image_seal(image, lba);
    return lba;
}

static uint64_t list_entry_out_of_range(struct image *image)
{
    uint64_t lba = roomy_lba(image, 0, 0);
    block_displaced_add(image_at(image, lba), 0xbeef, 60000);
    image_seal(image, lba);
    return lba;
}

static uint64_t list_entry_twice(struct image *image)
{
    struct standing displaced = image_find_kind(image, 0, true);
    uint64_t lba = image_lba(image, 0, displaced.home_index);
    uint8_t *home = image_at(image, lba);
    uint16_t fingerprint = key_hash_fingerprint(displaced.hash);
    uint32_t spill = displaced.block_index - image_place(image, 0).home_count;
    CHECK(block_displaced_find(home, fingerprint, (uint16_t)spill) >= 0);
    if (block_room(home, true) < 0) {
        remove_inline(home);
    }
    block_displaced_add(home, fingerprint, (uint16_t)spill);
    image_seal(image, lba);
    return lba;
}

static uint64_t record_twice(struct image *image)
{
    struct standing displaced = image_find_kind(image, 0, true);
    append(image, displaced.lba, &displaced.pair);
    return image_lba(image, 0, displaced.home_index);
}

/* A record that no home lists is no damage. */
static uint64_t dead_record(struct image *image)
{
    struct standing found = image_find_kind(image, 0, false);
    return append(image, image_find_kind(image, 0, true).lba, &found.pair);
}

/* Blobs -----------------------------------------------------------------------------------------
 */

static uint64_t flip_blob(struct image *image)
{
    return flip(image, image_find(image, 10).pair.blob_lba + 1, 100) - 1;
}

static uint64_t blob_data_lba(const struct image *image, uint32_t run)
{
    const uint8_t *index = image_at(image, image_find(image, 30).pair.blob_lba);
    return load_u64(index + BLOB_INDEX_HEADER_BYTES + run * BLOB_INDEX_RUN_BYTES);
}

static uint64_t flip_large_blob(struct image *image)
{
    return flip(image, blob_data_lba(image, 1), 100);
}

static uint64_t flip_blob_index(struct image *image)
{
    return flip(image, image_find(image, 30).pair.blob_lba, 100);
}

/* Give the pair of a blob another place and checksum. */
static void set_blob(struct image *image, const struct standing *found, uint64_t lba,
                     uint64_t checksum)
{
    uint8_t *encoded = (uint8_t *)(uintptr_t)found->pair.encoded;
    size_t place = found->pair.encoded_size - found->pair.key_size - 16;
    CHECK(load_u64(encoded + place) == found->pair.blob_lba);
    store_u64(encoded + place, lba);
    store_u64(encoded + place + 8, checksum);
    image_seal(image, found->lba);
}

static uint64_t blob_run_outside(struct image *image)
{
    struct standing found = image_find(image, 30);
    uint8_t *index = image_at(image, found.pair.blob_lba);
    store_u64(index + BLOB_INDEX_HEADER_BYTES, UINT64_C(1) << 40);
    image_seal(image, found.pair.blob_lba);
    set_blob(image, &found, found.pair.blob_lba, load_u64(index));
    return found.pair.blob_lba;
}

static uint64_t blob_outside(struct image *image)
{
    struct standing found = image_find(image, 10);
    set_blob(image, &found, 3, found.pair.blob_checksum);
    return 3;
}

/* Two pairs name the same granules. */
static uint64_t blob_of_another_key(struct image *image)
{
    struct standing found = image_find(image, 10);
    struct standing other = image_find(image, 20);
    set_blob(image, &found, other.pair.blob_lba, other.pair.blob_checksum);
    return other.pair.blob_lba;
}

static const struct damage_case cases[] = {
    {"newer superblock", flip_newer_superblock, "checksum", 1, 0, NULL, false},
    {"older superblock", flip_older_superblock, "checksum", 1, 0, NULL, false},
    {"stale superblock", stale_superblock, "not the one before", 1, 0, NULL, false},
    {"foreign superblock", foreign_superblock, "another store's", 1, 0, "superblock", false},
    {"sums", wrong_sums, "but counts 423", 1, 0, "now counts", false},
    {"checkpoint", flip_checkpoint_tail, "checkpoint block 3", 1, 0, "new checkpoint", false},
    {"payload", wrong_payload, "the directory says", 1, 0, "the directory now has", false},
    {"place", wrong_place, "not where the directory", 1, ANY, NULL, true},
    {"place's epoch", wrong_place_epoch, "of epoch", 1, ANY, NULL, true},
    {"blob marked free", blob_marked_as_free, "marked as free", 1, 0, "as in use again", false},
    {"blobs marked free", blob_extent_marked_as_free, "marked as free", 1, 0, "as in use again",
     false},
    {"blocks taken", blocks_taken_for_nothing, "nothing uses it", 1, 0, "free again", false},
    {"extent taken", extent_taken_for_nothing, "nothing uses it", 1, 0, "8 blocks", false},
    {"bit in a home", flip_home, "checksum", 1, 12, NULL, true},
    {"bit in a spill block", flip_spill, "checksum", 1, 12, NULL, true},
    {"misdirected write", misdirected_write, "written for LBA", 1, 12, NULL, true},
    {"magic", not_a_block, "not a block of a segment", 1, 12, NULL, true},
    {"segment number", wrong_segment, "belongs to segment 1", 1, 12, NULL, true},
    {"block index", wrong_index, "it is block", 1, 12, NULL, true},
    {"home count", wrong_home_count, "16000 home blocks", 1, 12, NULL, true},
    {"epoch", wrong_epoch, "of epoch", 1, 12, NULL, true},
    {"pair count", wrong_pair_count, "pair count", 1, 0, NULL, true},
    {"used bytes", wrong_used_bytes, "does not fit", 1, 12, NULL, true},
    {"used bytes too large", used_bytes_out_of_range, "used size", 1, 12, NULL, true},
    {"role", wrong_role, "role", 1, 12, NULL, true},
    {"depth", wrong_depth, "of depth", 1, 12, NULL, true},
    {"list in a spill block", spill_with_a_list, "lists displaced pairs", 1, 12, NULL, true},
    {"bytes behind", nonzero_tail, "bytes behind", 1, 0, NULL, true},
    {"another home", pair_in_another_home, "another block", 1, 1, NULL, true},
    {"another segment", pair_in_another_segment, "another segment", 2, 1, "the directory now has",
     true},
    {"two homes", pair_in_two_homes, "another block", 1, 0, NULL, true},
    {"twice in a block", pair_twice_in_a_block, "there twice", 1, 0, NULL, true},
    {"home and displaced", pair_at_home_and_displaced, "there twice", 1, 12, NULL, true},
    {"no record", list_entry_without_a_record, "is not in the spill", 1, 0, NULL, true},
    {"entry out of range", list_entry_out_of_range, "that is not there", 1, 0, NULL, true},
    {"entry twice", list_entry_twice, "lists a displaced pair twice", 1, 1, NULL, true},
    {"record twice", record_twice, "in the spill block twice", 1, 0, NULL, true},
    {"dead record", dead_record, NULL, 0, 0, NULL, false},
    {"bit in a blob", flip_blob, "checksum", 1, 1, NULL, true},
    {"bit in a large blob", flip_large_blob, "checksum", 1, 1, NULL, true},
    {"bit in an index", flip_blob_index, "index", 1, 1, NULL, true},
    {"run outside", blob_run_outside, "index", 1, 1, NULL, true},
    {"blob outside", blob_outside, "cannot be there", 1, 1, NULL, true},
    {"another key's blob", blob_of_another_key, "another key", 3, 1, NULL, true},
    {"granules twice", blob_of_another_key, "something else too", 3, 1, NULL, true},
};

static void run_case(const char *path, const struct image *pristine, const struct damage_case *own)
{
    struct image image = *pristine;
    image.bytes = malloc(image.size);
    CHECK(image.bytes != NULL);
    memcpy(image.bytes, pristine->bytes, image.size);
    uint64_t lba = own->plant(&image);
    image_write(&image, path);
    free(image.bytes);

    struct fixture fixture;
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    int count = expect_damage(&fixture, lba, own->text);
    CHECK(own->damage_count == ANY || count == own->damage_count);
    uint64_t readable = sample_count_readable(&fixture);
    CHECK(own->lost_max == ANY || readable + (uint64_t)own->lost_max >= SAMPLE_PAIRS);
    size_t repaired;
    CHECK_STATUS(fixture.session, cubby_repair(fixture.session, NULL, 0, &repaired),
                 CUBBY_READ_ONLY);
    fixture_close(&fixture);

    fixture_open_flags(&fixture, path, 0);
    expect_repair(&fixture, own->repair);
    expect_damage(&fixture, lba, own->stays_damaged ? own->text : NULL);
    CHECK_EQUAL(sample_count_readable(&fixture), readable);
    fixture_close(&fixture);

    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    count = expect_damage(&fixture, lba, own->stays_damaged ? own->text : NULL);
    CHECK(own->stays_damaged || count == 0);
    CHECK_EQUAL(sample_count_readable(&fixture), readable);
    fixture_close(&fixture);
}

static void test_check_names_each_kind_of_damage_and_repair_does_what_is_safe(void)
{
    const char *path = fixture_path("damaged.cubby");
    sample_make(path);
    struct image pristine;
    image_read(&pristine, path);
    CHECK(pristine.segment_count >= 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        printf("  %s\n", cases[i].name);
        fflush(stdout);
        run_case(path, &pristine, &cases[i]);
    }
    free(pristine.bytes);
}

/* A store whose directory cannot be, or is damaged, is not opened as if nothing were the matter. */
static void test_open_refuses_a_directory_that_cannot_be(void)
{
    const char *path = fixture_path("refused.cubby");
    sample_make(path);
    struct image image;
    struct fixture fixture;
    image_read(&image, path);
    struct segment_place place = image_place(&image, 0);
    struct segment_place wrong = place;
    wrong.base_extent = image_place(&image, 1).base_extent;
    set_descriptor(&image, wrong);
    image_write(&image, path);
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_CORRUPT);
    CHECK(strstr(fixture.message, "twice") != NULL);

    set_descriptor(&image, place);
    flip(&image, image.checkpoint_lba, 50);
    image_write(&image, path);
    char named[32];
    snprintf(named, sizeof named, "LBA %llu", (unsigned long long)image.checkpoint_lba);
    CHECK_EQUAL(fixture_try_open(&fixture, path, NULL), CUBBY_CORRUPT);
    CHECK(strstr(fixture.message, named) != NULL);
    fixture_open_flags(&fixture, path, CUBBY_RECOVER);
    fixture_check(&fixture);
    CHECK_EQUAL(sample_count_readable(&fixture), SAMPLE_PAIRS);
    fixture_close(&fixture);
    free(image.bytes);
}

int main(void)
{
    RUN(test_check_names_each_kind_of_damage_and_repair_does_what_is_safe);
    RUN(test_open_refuses_a_directory_that_cannot_be);
    return 0;
}
