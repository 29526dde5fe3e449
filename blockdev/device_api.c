/* device_api.c -- devices for tools: the cubby_device_* functions of cubby.h.
 *
 * What struct block_device leaves to its callers is done here: buffers at any address (by way of an
 * aligned one, in pieces), statuses of the public interface in place of errnos, and a sentence for
 * each failure. A device that was carried through a fork() is refused in the child: its locks, and
 * what it has in memory, are the parent's.
 *
 * Depends on: block_device.h, csd.h, engine/base.   Used by: Python, nbdkit_plugin.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/block_range.h"
#include "blockdev/csd.h"
#include "blockdev/csd_block.h"
#include "blockdev/device_message.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/memory.h"
#include "engine/cubby.h"

enum {
    PIECE_BLOCKS = 256, /* 1 MiB: what is copied to or from an aligned buffer at a time */
};

_Static_assert((int)CUBBY_SPACE_NORMAL == (int)BLOCK_SPACE_NORMAL, "one numbering");
_Static_assert((int)CUBBY_SPACE_WARNING == (int)BLOCK_SPACE_WARNING, "one numbering");
_Static_assert((int)CUBBY_SPACE_THROTTLED == (int)BLOCK_SPACE_THROTTLED, "one numbering");
_Static_assert((int)CUBBY_SPACE_REJECTING == (int)BLOCK_SPACE_REJECTING, "one numbering");

struct cubby_device {
    struct block_device *device;
    pid_t opener;
    char name[]; /* as opened, for messages */
};

/* What a call was about, to say so where it fails. */
struct request {
    const struct cubby_device *owner;
    const char *verb; /* "reading" */
    uint64_t lba;
    uint64_t block_count;
    struct device_message message;
};

static bool is_forked(const cubby_device *device)
{
    return device->opener != getpid();
}

static int say_forked(const cubby_device *device, struct device_message message)
{
    return device_message_set(message, CUBBY_FORKED,
                              "%s was opened by the parent process; open it anew in this one",
                              device->name);
}

struct place {
    char text[56]; /* two numbers of 20 digits, and words */
};

/* "LBA 5", or "LBAs 5 to 9". */
static struct place place_of(const struct request *request)
{
    struct place place;
    if (request->block_count <= 1) {
        snprintf(place.text, sizeof place.text, "LBA %" PRIu64, request->lba);
    } else {
        uint64_t more = request->block_count - 1;
        uint64_t last = more < UINT64_MAX - request->lba ? request->lba + more : UINT64_MAX;
        snprintf(place.text, sizeof place.text, "LBAs %" PRIu64 " to %" PRIu64, request->lba, last);
    }
    return place;
}

/* Put a failure of blocks into words. Returns its public status. */
static int say_failure(const struct request *request, int status)
{
    const char *name = request->owner->name;
    struct place place = place_of(request);
    status = device_message_public(status);
    switch (status) {
    case CUBBY_OK:
        return CUBBY_OK;
    case CUBBY_CORRUPT:
        return device_message_set(request->message, status,
                                  "%s of %s is damaged: what is stored there fails its check",
                                  place.text, name);
    case CUBBY_READ_ONLY:
        return device_message_set(request->message, status, "%s is open for reading only", name);
    case CUBBY_PHYSICAL_FULL:
        return device_message_set(request->message, status,
                                  "%s is physically full: it refused %s %s", name, request->verb,
                                  place.text);
    default:
        return device_message_set(request->message, status, "%s failed %s %s: %s", name,
                                  request->verb, place.text, cubby_status_text(status));
    }
}

/* What every call on blocks checks first. */
static int check_request(const struct request *request)
{
    const cubby_device *device = request->owner;
    if (is_forked(device)) {
        return say_forked(device, request->message);
    }
    if (request->block_count == 0) {
        return device_message_set(request->message, CUBBY_BAD_ARGUMENT,
                                  "%s: %s takes at least one block", device->name, request->verb);
    }
    if (block_range_check(device->device, request->lba, request->block_count) != 0) {
        struct place place = place_of(request);
        uint64_t total = __atomic_load_n(&device->device->geometry.block_count, __ATOMIC_RELAXED);
        return device_message_set(request->message, CUBBY_BAD_ARGUMENT,
                                  "%s has %" PRIu64 " blocks; %s %s is outside", device->name,
                                  total, request->verb, place.text);
    }
    return 0;
}

/* Life -------------------------------------------------------------------------------------------
 */

int cubby_device_create(const char *name, const struct cubby_device_options *options, char *message,
                        size_t message_size)
{
    CUBBY_ASSERT(name != NULL);
    static const struct cubby_device_options defaults;
    const struct cubby_device_options *wanted = options != NULL ? options : &defaults;
    struct csd_options csd = {
        .physical_bytes = wanted->physical_bytes,
        .logical_bytes = wanted->logical_bytes,
        .unit_bytes = wanted->unit_bytes,
        .level = wanted->level,
        .throttle_disabled = wanted->no_throttle != 0,
    };
    return device_message_public(
        block_device_create_csd(name, &csd, wanted->force != 0, message, message_size));
}

int cubby_device_open(const char *name, uint32_t flags, cubby_device **device, char *message,
                      size_t message_size)
{
    CUBBY_ASSERT(name != NULL);
    CUBBY_ASSERT(device != NULL);
    struct device_message sentence = {.text = message, .size = message_size};
    if ((flags & ~(uint32_t)(CUBBY_CREATE | CUBBY_READ_ONLY_OPEN)) != 0) {
        return device_message_set(sentence, CUBBY_BAD_ARGUMENT,
                                  "a device is opened with the flags CUBBY_CREATE and "
                                  "CUBBY_READ_ONLY_OPEN alone, not %#" PRIx32,
                                  flags);
    }
    size_t name_bytes = strlen(name) + 1;
    cubby_device *opened = malloc(sizeof *opened + name_bytes);
    if (opened == NULL) {
        return device_message_set(sentence, ENOMEM, "there is no memory to open %s", name);
    }
    memcpy(opened->name, name, name_bytes);
    opened->opener = getpid();
    unsigned device_flags = (flags & CUBBY_CREATE) != 0 ? BLOCK_DEVICE_CREATE : 0;
    device_flags |= (flags & CUBBY_READ_ONLY_OPEN) != 0 ? BLOCK_DEVICE_READ_ONLY : 0;
    int status = block_device_open(name, device_flags, &opened->device, message, message_size);
    if (status != 0) {
        free(opened);
        return device_message_public(status);
    }
    *device = opened;
    return CUBBY_OK;
}

void cubby_device_close(cubby_device *device)
{
    if (device == NULL || is_forked(device)) {
        return; /* all of it is the parent's; its memory here goes with the process */
    }
    device->device->ops->close(device->device);
    free(device);
}

/* Blocks ----------------------------------------------------------------------------------------
 */

/* A device said that some block of a read is damaged: read them one by one, and narrow the request
 * to the first that fails. Returns its status, or 0: all are good now, and read. */
static int read_singly(struct request *request, uint8_t *aligned)
{
    struct block_device *device = request->owner->device;
    for (uint64_t i = 0; i < request->block_count; i++) {
        int status =
            device->ops->read(device, request->lba + i, 1, aligned + i * CUBBY_BLOCK_BYTES);
        if (status != 0) {
            request->lba += i;
            request->block_count = 1;
            return status;
        }
    }
    return 0;
}

/* Read into an aligned buffer. */
static int read_piece(struct request request, uint8_t *aligned)
{
    struct block_device *device = request.owner->device;
    int status = device->ops->read(device, request.lba, (size_t)request.block_count, aligned);
    if (status == CUBBY_CORRUPT && request.block_count > 1) {
        status = read_singly(&request, aligned);
    }
    return say_failure(&request, status);
}

static int write_piece(struct request request, const uint8_t *aligned)
{
    struct block_device *device = request.owner->device;
    int status = device->ops->write(device, request.lba, (size_t)request.block_count, aligned);
    return say_failure(&request, status);
}

/* The piece of a request that begins after done_blocks. */
static struct request piece_of(const struct request *request, uint64_t done_blocks)
{
    struct request piece = *request;
    uint64_t left_blocks = request->block_count - done_blocks;
    piece.lba += done_blocks;
    piece.block_count = left_blocks < PIECE_BLOCKS ? left_blocks : PIECE_BLOCKS;
    return piece;
}

/* Room for one piece of a request whose own buffer is not aligned. */
static int reserve_bounce(const struct request *request, struct aligned_buffer *bounce)
{
    uint64_t blocks = request->block_count < PIECE_BLOCKS ? request->block_count : PIECE_BLOCKS;
    if (aligned_buffer_reserve(bounce, (size_t)blocks * CUBBY_BLOCK_BYTES) != 0) {
        return device_message_set(request->message, ENOMEM, "there is no memory for %s %s",
                                  request->verb, request->owner->name);
    }
    return 0;
}

int cubby_device_read(cubby_device *device, uint64_t lba, uint64_t block_count, uint8_t *buffer,
                      char *message, size_t message_size)
{
    CUBBY_ASSERT(device != NULL);
    CUBBY_ASSERT(buffer != NULL);
    struct request request = {device, "reading", lba, block_count, {message, message_size}};
    int status = check_request(&request);
    if (status != 0) {
        return status;
    }
    if (block_range_is_aligned(buffer)) {
        return read_piece(request, buffer);
    }
    struct aligned_buffer bounce = {0};
    status = reserve_bounce(&request, &bounce);
    for (uint64_t done = 0; status == 0 && done < block_count;) {
        struct request piece = piece_of(&request, done);
        status = read_piece(piece, bounce.data);
        if (status == 0) {
            memcpy(buffer + done * CUBBY_BLOCK_BYTES, bounce.data,
                   piece.block_count * CUBBY_BLOCK_BYTES);
        }
        done += piece.block_count;
    }
    aligned_buffer_free(&bounce);
    return status;
}

int cubby_device_write(cubby_device *device, uint64_t lba, uint64_t block_count,
                       const uint8_t *buffer, char *message, size_t message_size)
{
    CUBBY_ASSERT(device != NULL);
    CUBBY_ASSERT(buffer != NULL);
    struct request request = {device, "writing", lba, block_count, {message, message_size}};
    int status = check_request(&request);
    if (status != 0) {
        return status;
    }
    if (block_range_is_aligned(buffer)) {
        return write_piece(request, buffer);
    }
    struct aligned_buffer bounce = {0};
    status = reserve_bounce(&request, &bounce);
    for (uint64_t done = 0; status == 0 && done < block_count;) {
        struct request piece = piece_of(&request, done);
        memcpy(bounce.data, buffer + done * CUBBY_BLOCK_BYTES,
               piece.block_count * CUBBY_BLOCK_BYTES);
        status = write_piece(piece, bounce.data);
        done += piece.block_count;
    }
    aligned_buffer_free(&bounce);
    return status;
}

int cubby_device_discard(cubby_device *device, uint64_t lba, uint64_t block_count, char *message,
                         size_t message_size)
{
    CUBBY_ASSERT(device != NULL);
    struct request request = {device, "discarding", lba, block_count, {message, message_size}};
    int status = check_request(&request);
    if (status != 0) {
        return status;
    }
    struct block_device *inner = device->device;
    return say_failure(&request, inner->ops->discard(inner, lba, block_count));
}

/* The device as a whole -------------------------------------------------------------------------
 */

int cubby_device_flush(cubby_device *device, char *message, size_t message_size)
{
    CUBBY_ASSERT(device != NULL);
    struct device_message sentence = {.text = message, .size = message_size};
    if (is_forked(device)) {
        return say_forked(device, sentence);
    }
    int status = device_message_public(device->device->ops->flush(device->device));
    if (status != 0) {
        device_message_set(sentence, status, "%s: flushing: %s", device->name,
                           cubby_status_text(status));
    }
    return status;
}

int cubby_device_resize(cubby_device *device, uint64_t block_count, char *message,
                        size_t message_size)
{
    CUBBY_ASSERT(device != NULL);
    struct device_message sentence = {.text = message, .size = message_size};
    if (is_forked(device)) {
        return say_forked(device, sentence);
    }
    int status = device_message_public(device->device->ops->resize(device->device, block_count));
    if (status == CUBBY_BAD_ARGUMENT) {
        return device_message_set(sentence, status,
                                  "%s cannot be given a size of %" PRIu64
                                  " blocks; only the size of a file can be changed",
                                  device->name, block_count);
    }
    if (status != 0) {
        device_message_set(sentence, status, "%s: resizing to %" PRIu64 " blocks: %s", device->name,
                           block_count, cubby_status_text(status));
    }
    return status;
}

/* The name of a kind. A device with faults or a model in front of it is what it is without. */
static const char *kind_of(const struct block_usage *usage)
{
    static const struct {
        const char *source;
        const char *kind;
    } kinds[] = {{"csd", "csd"}, {"memory", "memory"}, {"st_blocks", "file"}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(usage->source, kinds[i].source) == 0) {
            return kinds[i].kind;
        }
    }
    return "block device";
}

static void copy_word(char *to, size_t size, const char *word)
{
    CUBBY_ASSERT(strlen(word) < size);
    memcpy(to, word, strlen(word) + 1);
}

static void add_csd_stat(struct block_device *device, struct cubby_device_stat *stat)
{
    struct csd_stat csd;
    csd_device_stat(device, &csd);
    stat->unit_bytes = csd.options.unit_bytes;
    stat->level = csd.options.level;
    stat->host_reads = csd.host_reads;
    stat->host_writes = csd.host_writes;
    stat->host_discards = csd.host_discards;
    stat->zero_writes = csd.zero_writes;
    stat->raw_writes = csd.raw_writes;
    stat->media_writes = csd.media_writes;
    stat->map_writes = csd.map_writes;
    stat->cleaned_bytes = csd.cleaned_bytes;
    stat->cleaned_segments = csd.cleaned_segments;
    stat->checkpoints = csd.checkpoints;
    stat->segment_count = csd.segment_count;
    stat->segment_bytes = csd.segment_bytes;
    stat->free_segments = csd.free_segments;
    stat->damaged_segments = csd.damaged_segments;
}

int cubby_device_stat(cubby_device *device, struct cubby_device_stat *stat)
{
    CUBBY_ASSERT(device != NULL);
    CUBBY_ASSERT(stat != NULL);
    if (is_forked(device)) {
        return CUBBY_FORKED;
    }
    struct block_device *inner = device->device;
    struct block_usage usage;
    int status = inner->ops->usage(inner, &usage);
    if (status != 0) {
        return device_message_public(status);
    }
    *stat = (struct cubby_device_stat){
        .block_count = __atomic_load_n(&inner->geometry.block_count, __ATOMIC_RELAXED),
        .atomic_write_bytes = inner->geometry.atomic_write_bytes,
        .discard_granularity_blocks = inner->geometry.discard_granularity_blocks,
        .discard_zeroes = inner->geometry.discard_zeroes,
        .compresses = inner->geometry.compresses,
        .space_state = (uint64_t)usage.state,
        .logical_bytes = usage.logical_bytes,
        .physical_bytes = usage.physical_bytes,
        .capacity_bytes = usage.capacity_bytes,
    };
    copy_word(stat->source, sizeof stat->source, usage.source);
    copy_word(stat->kind, sizeof stat->kind, kind_of(&usage));
    if (csd_device_is(inner)) {
        add_csd_stat(inner, stat);
    }
    return CUBBY_OK;
}

uint64_t cubby_device_stored_bytes(const uint8_t *block, uint32_t unit_bytes, int32_t level)
{
    CUBBY_ASSERT(block != NULL);
    return csd_block_stored_bytes(block, unit_bytes != 0 ? unit_bytes : CSD_UNIT_DEFAULT, level);
}
