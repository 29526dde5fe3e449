/* test_usage.c -- what devices say about their physical space: recorded and spoilt answers, and who
 * is asked for a file. test_zram_loop.c asks a real zram.
 *
 * The log page of a ScaleFlux drive is made by hand, field by field as nvme-cli describes it; the
 * status of a vdo is written as the kernel's documentation gives it.
 *
 * Depends on: store_fixture.h (for a path).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "blockdev/usage_limit.h"
#include "blockdev/usage_parse.h"
#include "blockdev/usage_probe.h"
#include "engine/base/bytes.h"
#include "tests/c/store_fixture.h"

/* A drive of 3.2 TB, of which 1 TB is free. */
enum {
    SFX_WARNING = 36,
    SFX_CAPACITY = 80,
    SFX_FREE = 88,
    SFX_SPEED = 112,
};
static const uint64_t sfx_capacity_sectors = 6251233968;
static const uint64_t sfx_free_sectors = 1953525168;

static void make_page(uint8_t page[SCALEFLUX_PAGE_BYTES])
{
    memset(page, 0, SCALEFLUX_PAGE_BYTES);
    store_u32(page + 16, 123456); /* read from flash */
    memcpy(page + 48, "CSDU5SPC32", 10);
    store_u64(page + SFX_CAPACITY, sfx_capacity_sectors);
    store_u64(page + SFX_FREE, sfx_free_sectors);
    store_u32(page + 96, 68);   /* physical usage, % */
    store_u32(page + 100, 215); /* compression, % */
    store_u32(page + SFX_SPEED, '0');
    store_u64(page + 144, 2 * sfx_capacity_sectors); /* formatted */
}

static void test_page_of_scaleflux_is_read(void)
{
    uint8_t page[SCALEFLUX_PAGE_BYTES];
    struct block_usage usage;
    make_page(page);
    CHECK_EQUAL(usage_parse_scaleflux(page, sizeof page, &usage), 0);
    CHECK(strcmp(usage.source, "scaleflux") == 0);
    CHECK_EQUAL(usage.logical_bytes, 0);
    CHECK_EQUAL(usage.physical_bytes, (sfx_capacity_sectors - sfx_free_sectors) * 512);
    CHECK_EQUAL(usage.capacity_bytes, sfx_capacity_sectors * 512);
    CHECK_EQUAL(usage.state, BLOCK_SPACE_NORMAL);
}

static void test_warnings_and_speed_of_scaleflux_are_its_state(void)
{
    static const struct {
        uint32_t warning;
        uint32_t speed;
        enum block_space_state state;
    } cases[] = {
        {0, 0, BLOCK_SPACE_NORMAL},      {1, '0', BLOCK_SPACE_NORMAL},
        {2, '0', BLOCK_SPACE_WARNING},   {2, '1', BLOCK_SPACE_THROTTLED},
        {0, '2', BLOCK_SPACE_THROTTLED}, {2, '3', BLOCK_SPACE_REJECTING},
        {4, '0', BLOCK_SPACE_REJECTING}, {7, '1', BLOCK_SPACE_REJECTING},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t page[SCALEFLUX_PAGE_BYTES];
        struct block_usage usage;
        make_page(page);
        store_u32(page + SFX_WARNING, cases[i].warning);
        store_u32(page + SFX_SPEED, cases[i].speed);
        CHECK_EQUAL(usage_parse_scaleflux(page, sizeof page, &usage), 0);
        CHECK_EQUAL(usage.state, cases[i].state);
    }
}

static void expect_no_scaleflux(uint64_t sectors, uint64_t free_sectors)
{
    uint8_t page[SCALEFLUX_PAGE_BYTES];
    struct block_usage usage = {.source = "untouched"};
    make_page(page);
    store_u64(page + SFX_CAPACITY, sectors);
    store_u64(page + SFX_FREE, free_sectors);
    CHECK_EQUAL(usage_parse_scaleflux(page, sizeof page, &usage), EBADMSG);
    CHECK(strcmp(usage.source, "untouched") == 0);
}

static void test_pages_of_scaleflux_that_cannot_be_are_refused(void)
{
    uint8_t page[SCALEFLUX_PAGE_BYTES];
    struct block_usage usage;
    make_page(page);
    for (size_t size = 0; size < sizeof page; size++) {
        CHECK_EQUAL(usage_parse_scaleflux(page, size, &usage), EBADMSG);
    }
    expect_no_scaleflux(0, 0);
    expect_no_scaleflux(1000, 1001);
    expect_no_scaleflux(UINT64_MAX, UINT64_MAX);
    expect_no_scaleflux(UINT64_MAX / 512 + 1, 0);
    memset(page, 0xFF, sizeof page);
    CHECK_EQUAL(usage_parse_scaleflux(page, sizeof page, &usage), EBADMSG);
}

static void test_mm_stat_of_zram_is_read(void)
{
    struct block_usage usage;
    CHECK_EQUAL(usage_parse_zram("  4096000  2108160  2162688        0  2162688        0        0 "
                                 "       0        0\n",
                                 &usage),
                0);
    CHECK(strcmp(usage.source, "zram") == 0);
    CHECK_EQUAL(usage.logical_bytes, 4096000);
    CHECK_EQUAL(usage.physical_bytes, 2162688);
    CHECK_EQUAL(usage.capacity_bytes, 0);
    CHECK_EQUAL(usage_parse_zram("1 2 3 67108864", &usage), 0);
    CHECK_EQUAL(usage.capacity_bytes, 67108864);
    CHECK_EQUAL(usage.state, BLOCK_SPACE_NORMAL);
}

static void test_text_that_is_no_mm_stat_is_refused(void)
{
    static const char *const texts[] = {
        "",         "\n",         "1 2 3",
        "1 2 3 ",   "one 2 3 4",  "1 2 -3 4",
        "1 2 3x 4", "1 2 0x10 4", "1 2 18446744073709551616 4",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct block_usage usage;
        CHECK_EQUAL(usage_parse_zram(texts[i], &usage), EBADMSG);
    }
}

static void test_status_of_vdo_is_read(void)
{
    struct block_usage usage;
    bool compresses;
    CHECK_EQUAL(
        usage_parse_vdo("/dev/dm-1 normal - online online 33795 262144", &usage, &compresses), 0);
    CHECK(strcmp(usage.source, "vdo") == 0);
    CHECK_EQUAL(usage.logical_bytes, 0);
    CHECK_EQUAL(usage.physical_bytes, 33795 * 4096);
    CHECK_EQUAL(usage.capacity_bytes, 262144LL * 4096);
    CHECK_EQUAL(usage.state, BLOCK_SPACE_NORMAL);
    CHECK(compresses);
    CHECK_EQUAL(usage_parse_vdo("/dev/sdb recovering recovering opening offline 0 1\n", &usage,
                                &compresses),
                0);
    CHECK(!compresses);
    CHECK_EQUAL(usage.state, BLOCK_SPACE_NORMAL);
    CHECK_EQUAL(usage_parse_vdo("/dev/sdb read-only - closed offline 1 1", &usage, &compresses), 0);
    CHECK_EQUAL(usage.state, BLOCK_SPACE_REJECTING);
}

static void test_text_that_is_no_status_of_vdo_is_refused(void)
{
    static const char *const texts[] = {
        "",
        "/dev/dm-1",
        "/dev/dm-1 normal - online online 33795",
        "/dev/dm-1 normal - online online 33795 ",
        "/dev/dm-1 normal - online online 33795 262144 9",
        "/dev/dm-1 normal - online online 262145 262144",
        "/dev/dm-1 normal - online online 0 0",
        "/dev/dm-1 normal - online online -1 262144",
        "/dev/dm-1 normal - online online 1 4503599627370496",
        "/dev/dm-1 normal - online online 1 99999999999999999999",
        "/dev/dm-1 normal - online online used total",
    };
    char words[2048];
    struct block_usage usage;
    bool compresses;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        CHECK_EQUAL(usage_parse_vdo(texts[i], &usage, &compresses), EBADMSG);
    }
    memset(words, 'x', sizeof words - 1);
    words[sizeof words - 1] = '\0';
    CHECK_EQUAL(usage_parse_vdo(words, &usage, &compresses), EBADMSG);
}

static void test_a_file_tells_its_blocks_and_what_its_file_system_has_free(void)
{
    const char *path = fixture_path("file");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, 1 << 24), 0);
    struct stat info;
    struct usage_probe probe;
    struct block_usage empty, filled;
    CHECK_EQUAL(fstat(fd, &info), 0);
    CHECK(!usage_probe_open(&probe, fd, &info));
    CHECK_EQUAL(usage_probe_ask(&probe, &empty), 0);
    CHECK(strcmp(empty.source, "st_blocks") == 0);
    CHECK(empty.physical_bytes < 65536);
    static uint8_t bytes[1 << 20];
    memset(bytes, 0xA5, sizeof bytes);
    CHECK_EQUAL(pwrite(fd, bytes, sizeof bytes, 1 << 20), sizeof bytes);
    CHECK_EQUAL(fsync(fd), 0);
    CHECK_EQUAL(usage_probe_ask(&probe, &filled), 0);
    CHECK(filled.physical_bytes >= empty.physical_bytes + sizeof bytes);
    CHECK_EQUAL(filled.logical_bytes, 0);
    struct statvfs file_system;
    CHECK_EQUAL(fstatvfs(fd, &file_system), 0);
    uint64_t capacity =
        filled.physical_bytes + (uint64_t)file_system.f_bavail * file_system.f_frsize;
    /* Others use the file system too. */
    CHECK(filled.capacity_bytes > capacity / 2 && filled.capacity_bytes / 2 < capacity);
    usage_probe_close(&probe);
    close(fd);
}

static void test_only_a_device_of_its_own_that_is_full_is_used_up(void)
{
    struct block_usage usage = {.source = "zram", .physical_bytes = 99, .capacity_bytes = 0};
    CHECK(!usage_is_used_up(&usage));
    usage.capacity_bytes = 100 << 20;
    CHECK(!usage_is_used_up(&usage));
    usage.physical_bytes = (99 << 20) - 1;
    CHECK(!usage_is_used_up(&usage));
    usage.physical_bytes = 99 << 20;
    CHECK(usage_is_used_up(&usage));
    usage.physical_bytes = 101 << 20;
    CHECK(usage_is_used_up(&usage));
    usage.source = "st_blocks";
    CHECK(!usage_is_used_up(&usage));
    usage.source = "memory";
    CHECK(!usage_is_used_up(&usage));
    usage = (struct block_usage){
        .source = "csd", .capacity_bytes = 1 << 30, .state = BLOCK_SPACE_REJECTING};
    CHECK(usage_is_used_up(&usage));
}

int main(void)
{
    RUN(test_page_of_scaleflux_is_read);
    RUN(test_warnings_and_speed_of_scaleflux_are_its_state);
    RUN(test_pages_of_scaleflux_that_cannot_be_are_refused);
    RUN(test_mm_stat_of_zram_is_read);
    RUN(test_text_that_is_no_mm_stat_is_refused);
    RUN(test_status_of_vdo_is_read);
    RUN(test_text_that_is_no_status_of_vdo_is_refused);
    RUN(test_a_file_tells_its_blocks_and_what_its_file_system_has_free);
    RUN(test_only_a_device_of_its_own_that_is_full_is_used_up);
    return 0;
}
