/* usage_parse.c -- see usage_parse.h. */
#include "blockdev/usage_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    SECTOR_BYTES = 512,

    SCALEFLUX_WARNING = 36,
    SCALEFLUX_CAPACITY = 80,
    SCALEFLUX_FREE = 88,
    SCALEFLUX_SPEED = 112,
    SCALEFLUX_WARNING_OVER_CAPACITY = 2,
    SCALEFLUX_WARNING_LOCKED = 4,

    VDO_WORDS = 7,
    VDO_WORD_BYTES = 256,
};
_Static_assert((int)SCALEFLUX_SPEED + 4 <= (int)SCALEFLUX_PAGE_BYTES, "all of it is on the page");

/* Take one decimal number and the spaces before it. Returns false if there is none. */
static bool take_number(const char **text, uint64_t *number)
{
    const char *begin = *text + strspn(*text, " \t");
    size_t digits = strspn(begin, "0123456789");
    const char *end = begin + digits;
    if (digits == 0 || strchr(" \t\n", *end) == NULL) {
        return false;
    }
    errno = 0;
    unsigned long long value = strtoull(begin, NULL, 10);
    if (errno != 0) {
        return false;
    }
    *number = value;
    *text = end;
    return true;
}

int usage_parse_zram(const char *text, struct block_usage *usage)
{
    CUBBY_ASSERT(text != NULL);
    CUBBY_ASSERT(usage != NULL);
    uint64_t logical, compressed, physical, limit;
    if (!take_number(&text, &logical) || !take_number(&text, &compressed) ||
        !take_number(&text, &physical) || !take_number(&text, &limit)) {
        return EBADMSG;
    }
    *usage = (struct block_usage){
        .source = "zram",
        .logical_bytes = logical,
        .physical_bytes = physical,
        .capacity_bytes = limit,
    };
    return 0;
}

static enum block_space_state scaleflux_state(uint32_t warning, uint32_t speed)
{
    if ((warning & SCALEFLUX_WARNING_LOCKED) != 0 || speed == '3') {
        return BLOCK_SPACE_REJECTING;
    }
    if (speed == '1' || speed == '2') {
        return BLOCK_SPACE_THROTTLED;
    }
    return (warning & SCALEFLUX_WARNING_OVER_CAPACITY) != 0 ? BLOCK_SPACE_WARNING
                                                            : BLOCK_SPACE_NORMAL;
}

int usage_parse_scaleflux(const uint8_t *page, size_t size, struct block_usage *usage)
{
    CUBBY_ASSERT(page != NULL);
    CUBBY_ASSERT(usage != NULL);
    if (size < SCALEFLUX_PAGE_BYTES) {
        return EBADMSG;
    }
    uint64_t sectors = load_u64(page + SCALEFLUX_CAPACITY);
    uint64_t free_sectors = load_u64(page + SCALEFLUX_FREE);
    if (sectors == 0 || sectors > UINT64_MAX / SECTOR_BYTES || free_sectors > sectors) {
        return EBADMSG;
    }
    *usage = (struct block_usage){
        .source = "scaleflux",
        .physical_bytes = (sectors - free_sectors) * SECTOR_BYTES,
        .capacity_bytes = sectors * SECTOR_BYTES,
        .state =
            scaleflux_state(load_u32(page + SCALEFLUX_WARNING), load_u32(page + SCALEFLUX_SPEED)),
    };
    return 0;
}

/* Copy the next word. Returns false if there is none, or none that fits. */
static bool take_word(const char **text, char word[VDO_WORD_BYTES])
{
    const char *begin = *text + strspn(*text, " \n");
    size_t size = strcspn(begin, " \n");
    if (size == 0 || size >= VDO_WORD_BYTES) {
        return false;
    }
    memcpy(word, begin, size);
    word[size] = '\0';
    *text = begin + size;
    return true;
}

int usage_parse_vdo(const char *status, struct block_usage *usage, bool *compresses)
{
    CUBBY_ASSERT(status != NULL);
    CUBBY_ASSERT(usage != NULL);
    CUBBY_ASSERT(compresses != NULL);
    char words[VDO_WORDS][VDO_WORD_BYTES];
    for (size_t i = 0; i < VDO_WORDS; i++) {
        if (!take_word(&status, words[i])) {
            return EBADMSG;
        }
    }
    const char *used_text = words[5];
    const char *total_text = words[6];
    uint64_t used, total;
    if (status[strspn(status, " \n")] != '\0' || !take_number(&used_text, &used) ||
        !take_number(&total_text, &total) || total == 0 || used > total ||
        total > UINT64_MAX / CUBBY_BLOCK_BYTES) {
        return EBADMSG;
    }
    *usage = (struct block_usage){
        .source = "vdo",
        .physical_bytes = used * CUBBY_BLOCK_BYTES,
        .capacity_bytes = total * CUBBY_BLOCK_BYTES,
        .state = strcmp(words[1], "read-only") == 0 ? BLOCK_SPACE_REJECTING : BLOCK_SPACE_NORMAL,
    };
    *compresses = strcmp(words[4], "online") == 0;
    return 0;
}
