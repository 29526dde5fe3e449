/* open.c -- from a name to a device.
 *
 *   name   = layers ( "csd:" layers base | base )
 *   layers = { "fault:" fault { "," fault } ":" } [ "model:" DRIVE ":" ]
 *   fault  = ( "read" | "write" | "flush" | "cut" | "seed" | "flip" | "delay" ) "=" N
 *          | "tear" | "once"                          each once at most in all that layers
 *   base   = "mem:" SIZE | "file:" PATH | PATH
 *   SIZE   = digits [ "K" | "M" | "G" | "T" ]         a multiple of 4096 bytes
 *
 * A file whose name begins like one of these is reached as file:PATH. The model stands between the
 * faults and the device. What a name means is settled before anything is opened.
 *
 * Depends on: block_device.h, csd.h, fault_device.h, model_device.h.   Used by: engine/store, cli,
 * tests.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/csd.h"
#include "blockdev/device_message.h"
#include "blockdev/fault_device.h"
#include "blockdev/model_device.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    CONTENT_BLOCKS = 64, /* at the front of a device: empty if they are zeros */
    DELAY_US_MAX = 60000000,
    DRIVE_NAMES_BYTES = 256,
};

static const char MEM_PREFIX[] = "mem:";
static const char FILE_PREFIX[] = "file:";
static const char CSD_PREFIX[] = "csd:";
static const char FAULT_PREFIX[] = "fault:";
static const char MODEL_PREFIX[] = "model:";

enum fault_key {
    KEY_READ,
    KEY_WRITE,
    KEY_FLUSH,
    KEY_CUT,
    KEY_FLIP,
    KEY_DELAY,
    KEY_SEED,
    KEY_TEAR, /* this one and the next take no number */
    KEY_ONCE,
    KEY_COUNT,
};

static const char *const FAULT_KEYS[KEY_COUNT] = {
    [KEY_READ] = "read=", [KEY_WRITE] = "write=", [KEY_FLUSH] = "flush=",
    [KEY_CUT] = "cut=",   [KEY_FLIP] = "flip=",   [KEY_DELAY] = "delay=",
    [KEY_SEED] = "seed=", [KEY_TEAR] = "tear",    [KEY_ONCE] = "once",
};

/* What stands in front of a device. */
struct layers {
    struct fault_plan plan;
    unsigned keys_seen;                   /* a bit for each enum fault_key; 0: no fault */
    const struct model_parameters *model; /* NULL: none */
};

struct device_name {
    const char *whole;
    struct layers outer;
    bool is_csd;
    struct layers inner;  /* between the csd and its base */
    const char *mem_size; /* the base: one of these two is not NULL */
    const char *path;
};

/* If text begins with prefix, what comes after it; else NULL. */
static const char *after(const char *text, const char *prefix)
{
    size_t size = strlen(prefix);
    return strncmp(text, prefix, size) == 0 ? text + size : NULL;
}

/* Read decimal digits, at least one, no sign. Returns what comes after them, or NULL if there are
 * none or the number has more than 64 bits. */
static const char *read_number(const char *text, uint64_t *number)
{
    const char *next = text;
    uint64_t value = 0;
    for (; *next >= '0' && *next <= '9'; next++) {
        uint64_t digit = (uint64_t)(*next - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return NULL;
        }
        value = value * 10 + digit;
    }
    *number = value;
    return next != text ? next : NULL;
}

/* Read "64M" and the like. Returns false if it is nothing of the kind, or more than 64 bits. */
static bool read_size(const char *text, uint64_t *size_bytes)
{
    static const char suffixes[] = "KMGT";
    uint64_t number;
    const char *next = read_number(text, &number);
    if (next == NULL) {
        return false;
    }
    unsigned shift = 0;
    if (*next != '\0') {
        const char *suffix = strchr(suffixes, *next);
        if (suffix == NULL || next[1] != '\0') {
            return false;
        }
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (number > UINT64_MAX >> shift) {
        return false;
    }
    *size_bytes = number << shift;
    return true;
}

static int open_mem(const struct device_name *name, unsigned flags, struct block_device **device,
                    struct device_message message)
{
    const char *size = name->mem_size;
    uint64_t size_bytes;
    if (!read_size(size, &size_bytes)) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "the size in \"%s\" is not a number of bytes; write it as in "
                                  "mem:64M, with K, M, G, T or nothing after the digits",
                                  name->whole);
    }
    if (size_bytes == 0 || size_bytes % CUBBY_BLOCK_BYTES != 0) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "the size in \"%s\" is not a multiple of %d bytes above 0",
                                  name->whole, CUBBY_BLOCK_BYTES);
    }
    if ((flags & BLOCK_DEVICE_READ_ONLY) != 0) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "\"%s\" is always new and empty; it cannot be opened read-only",
                                  name->whole);
    }
    int status = mem_device_open(size_bytes / CUBBY_BLOCK_BYTES, device);
    if (status != 0) {
        device_message_set(message, status, "there is no memory for \"%s\"; ask for less",
                           name->whole);
    }
    return status;
}

/* Put what a key says into the plan. Returns false for a number it does not take. */
static bool set_fault(struct fault_plan *plan, enum fault_key key, uint64_t number)
{
    if (number == 0 && key < KEY_SEED) {
        return false;
    }
    switch (key) {
    case KEY_READ:
        plan->nth_error[FAULT_READ] = number;
        break;
    case KEY_WRITE:
        plan->nth_error[FAULT_WRITE] = number;
        break;
    case KEY_FLUSH:
        plan->nth_error[FAULT_FLUSH] = number;
        break;
    case KEY_CUT:
        plan->cut_at = number;
        break;
    case KEY_FLIP:
        plan->flip_at = number;
        break;
    case KEY_DELAY:
        plan->delay_us = (uint32_t)number;
        return number <= DELAY_US_MAX;
    case KEY_SEED:
        plan->seed = number;
        plan->cache = true;
        break;
    case KEY_TEAR:
        plan->tear = true;
        break;
    case KEY_ONCE:
        plan->error_once = true;
        break;
    case KEY_COUNT:
        return false;
    }
    return true;
}

/* Read one fault. Returns what comes after it, or NULL if it is none, or there was one like it. */
static const char *parse_fault(const char *text, struct layers *layers)
{
    for (int i = 0; i < KEY_COUNT; i++) {
        const char *next = after(text, FAULT_KEYS[i]);
        if (next == NULL) {
            continue;
        }
        uint64_t number = 0;
        if (i < KEY_TEAR) {
            next = read_number(next, &number);
        }
        bool taken = next != NULL && (*next == ',' || *next == ':') &&
                     (layers->keys_seen & 1U << i) == 0 &&
                     set_fault(&layers->plan, (enum fault_key)i, number);
        layers->keys_seen |= 1U << i;
        return taken ? next : NULL;
    }
    return NULL;
}

/* Read the faults after one "fault:". Returns what comes after their colon, or NULL. */
static const char *parse_faults(const char *text, struct layers *layers)
{
    const char *next = parse_fault(text, layers);
    while (next != NULL && *next == ',') {
        next = parse_fault(next + 1, layers);
    }
    return next != NULL ? next + 1 : NULL;
}

/* Read the drive after "model:". Returns what comes after its colon, or NULL. */
static const char *parse_model(const char *text, struct layers *layers)
{
    const char *end = strchr(text, ':');
    if (end == NULL || layers->model != NULL) {
        return NULL;
    }
    layers->model = model_device_find(text, (size_t)(end - text));
    return layers->model != NULL ? end + 1 : NULL;
}

static void say_bad_fault(const char *name, struct device_message message)
{
    device_message_set(message, CUBBY_BAD_ARGUMENT,
                       "the fault in \"%s\" is not understood; write it as in fault:read=3:NAME or "
                       "fault:cut=100,seed=7,tear:NAME, with read, write, flush, cut, flip, delay "
                       "(at most %d) = a number from 1, seed = a number, tear, once, each once",
                       name, DELAY_US_MAX);
}

static void say_bad_model(const char *name, struct device_message message)
{
    char names[DRIVE_NAMES_BYTES];
    model_device_list(names, sizeof names);
    device_message_set(message, CUBBY_BAD_ARGUMENT,
                       "the model in \"%s\" is not known, or one of two; write one as in "
                       "model:csd-2000:NAME, of %s",
                       name, names);
}

/* Take the layers off the front of text, a part of name. Returns what is left, or NULL with a
 * message. */
static const char *parse_layers(const char *name, const char *text, struct layers *layers,
                                struct device_message message)
{
    const char *left = text;
    const char *fault;
    while ((fault = after(left, FAULT_PREFIX)) != NULL) {
        left = parse_faults(fault, layers);
        if (left == NULL) {
            say_bad_fault(name, message);
            return NULL;
        }
    }
    const char *model = after(left, MODEL_PREFIX);
    if (model == NULL) {
        return left;
    }
    left = parse_model(model, layers);
    if (left == NULL || after(left, MODEL_PREFIX) != NULL) {
        say_bad_model(name, message);
        return NULL;
    }
    if (after(left, FAULT_PREFIX) != NULL) {
        device_message_set(message, CUBBY_BAD_ARGUMENT,
                           "in \"%s\" a fault comes after a model; put the fault in front", name);
        return NULL;
    }
    return left;
}

/* Returns 0, or CUBBY_BAD_ARGUMENT with a message. */
static int parse_name(const char *text, struct device_name *name, struct device_message message)
{
    *name = (struct device_name){.whole = text};
    const char *left = parse_layers(text, text, &name->outer, message);
    const char *under_csd = left != NULL ? after(left, CSD_PREFIX) : NULL;
    if (under_csd != NULL) {
        name->is_csd = true;
        left = parse_layers(text, under_csd, &name->inner, message);
    }
    if (left == NULL) {
        return CUBBY_BAD_ARGUMENT;
    }
    if (name->is_csd && after(left, CSD_PREFIX) != NULL) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "\"%s\" puts a csd into a csd; one is all there can be", text);
    }
    name->mem_size = after(left, MEM_PREFIX);
    const char *path = after(left, FILE_PREFIX);
    name->path = path != NULL ? path : left;
    if (name->mem_size == NULL && *name->path == '\0') {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "\"%s\" names no device; give a path or mem:SIZE", text);
    }
    return 0;
}

/* Put the layers in front of an open device; on failure it is closed. */
static int add_layers(const struct layers *layers, unsigned flags, const char *name,
                      struct block_device **device, struct device_message message)
{
    struct block_device *inner = *device;
    int status = 0;
    if (layers->model != NULL) {
        status = model_device_open_with(inner, layers->model, &inner);
    }
    if (status == 0 && layers->keys_seen != 0) {
        struct fault_plan plan = layers->plan;
        plan.read_only = (flags & BLOCK_DEVICE_READ_ONLY) != 0;
        status = fault_device_open_with(inner, &plan, &inner);
    }
    if (status != 0) {
        inner->ops->close(inner);
        return device_message_set(message, status, "there is no memory for \"%s\"", name);
    }
    *device = inner;
    return 0;
}

static int open_base(const struct device_name *name, unsigned flags, struct block_device **device,
                     struct device_message message)
{
    if (name->mem_size != NULL) {
        return open_mem(name, flags, device, message);
    }
    return file_device_open(name->path, flags, device, message.text, message.size);
}

/* What a csd lies on, and how to leave it as it was. */
struct csd_ground {
    struct block_device *inner;
    bool created; /* the file, by us */
    bool empty;   /* no blocks yet, or memory */
};

/* Open what lies under a csd. */
static int open_ground(const struct device_name *name, unsigned flags, struct csd_ground *ground,
                       struct device_message message)
{
    struct stat info;
    bool missing = name->mem_size == NULL && lstat(name->path, &info) != 0;
    int status = open_base(name, flags, &ground->inner, message);
    if (status != 0) {
        return status;
    }
    const struct block_geometry *geometry = &ground->inner->geometry;
    ground->empty =
        name->mem_size != NULL || (geometry->block_count == 0 && !geometry->partial_tail);
    ground->created = missing && ground->empty; /* else another process was faster */
    status = add_layers(&name->inner, flags, name->whole, &ground->inner, message);
    if (status != 0 && ground->created) {
        unlink(name->path);
    }
    return status;
}

/* Close what lies under a csd that could not be made, or opened, and leave no half of one. made:
 * something was written. */
static void abandon_ground(const struct device_name *name, const struct csd_ground *ground,
                           bool made)
{
    struct block_device *inner = ground->inner;
    if (made && ground->empty && name->mem_size == NULL) {
        inner->ops->resize(inner, 0);
    }
    inner->ops->close(inner);
    if (ground->created) {
        unlink(name->path);
    }
}

/* Make a csd and, if that fails, say so with the name, which csd_device_format is not told. */
static int format_ground(const struct device_name *name, const struct csd_ground *ground,
                         const struct csd_options *options, struct device_message message)
{
    char reason[CUBBY_MESSAGE_BYTES] = "";
    const struct device_message inner_message = {.text = reason, .size = sizeof reason};
    int status = csd_device_format(ground->inner, options, inner_message);
    if (status != 0) {
        device_message_set(message, status, "%s cannot be made: %s", name->whole,
                           reason[0] != '\0' ? reason : cubby_status_text(status));
    }
    return status;
}

static int open_csd(const struct device_name *name, unsigned flags, struct block_device **device,
                    struct device_message message)
{
    struct csd_ground ground;
    int status = open_ground(name, flags, &ground, message);
    if (status != 0) {
        return status;
    }
    bool make = ground.empty && (name->mem_size != NULL || (flags & BLOCK_DEVICE_CREATE) != 0);
    if (make) {
        const struct csd_options defaults = {0};
        status = format_ground(name, &ground, &defaults, message);
    }
    if (status == 0) {
        status = csd_device_open(ground.inner, flags, name->whole, device, message);
    }
    if (status != 0) {
        abandon_ground(name, &ground, make);
    }
    return status;
}

int block_device_open(const char *name, unsigned flags, struct block_device **device, char *message,
                      size_t message_size)
{
    CUBBY_ASSERT(name != NULL);
    CUBBY_ASSERT(device != NULL);
    struct device_message sentence = {.text = message, .size = message != NULL ? message_size : 0};
    struct device_name parsed;
    int status = parse_name(name, &parsed, sentence);
    if (status != 0) {
        return status;
    }
    struct block_device *opened;
    status = parsed.is_csd ? open_csd(&parsed, flags, &opened, sentence)
                           : open_base(&parsed, flags, &opened, sentence);
    if (status == 0) {
        status = add_layers(&parsed.outer, flags, name, &opened, sentence);
    }
    if (status == 0) {
        *device = opened;
    }
    return status;
}

/* Whether a device has content. *found is set on success. */
static int find_content(struct block_device *device, bool *found)
{
    uint64_t block_count = device->geometry.block_count;
    size_t count = block_count < CONTENT_BLOCKS ? (size_t)block_count : CONTENT_BLOCKS;
    *found = device->geometry.partial_tail;
    if (count == 0 || *found) {
        return 0;
    }
    size_t bytes = count * CUBBY_BLOCK_BYTES;
    uint8_t *blocks = aligned_alloc(CUBBY_BLOCK_BYTES, bytes);
    if (blocks == NULL) {
        return ENOMEM;
    }
    int status = device->ops->read(device, 0, count, blocks);
    if (status == 0) {
        *found = blocks[0] != 0 || memcmp(blocks, blocks + 1, bytes - 1) != 0;
    }
    free(blocks);
    return status;
}

int block_device_create_csd(const char *name, const struct csd_options *options, bool force,
                            char *message, size_t message_size)
{
    CUBBY_ASSERT(name != NULL);
    CUBBY_ASSERT(options != NULL);
    struct device_message sentence = {.text = message, .size = message != NULL ? message_size : 0};
    struct device_name parsed;
    int status = parse_name(name, &parsed, sentence);
    if (status != 0) {
        return status;
    }
    if (after(name, CSD_PREFIX) == NULL) {
        return device_message_set(sentence, CUBBY_BAD_ARGUMENT,
                                  "\"%s\" is not the name of a csd; put csd: in front", name);
    }
    if (parsed.mem_size != NULL) {
        return device_message_set(sentence, CUBBY_BAD_ARGUMENT,
                                  "\"%s\" would be gone at once, being memory; opening makes it",
                                  name);
    }
    struct csd_ground ground;
    status = open_ground(&parsed, BLOCK_DEVICE_CREATE, &ground, sentence);
    if (status != 0) {
        return status;
    }
    bool has_content = false;
    if (!force) {
        status = find_content(ground.inner, &has_content);
    }
    if (status != 0) {
        device_message_set(sentence, status, "%s cannot be read: %s", parsed.path,
                           cubby_status_text(status));
    } else if (has_content) {
        status = device_message_set(sentence, CUBBY_NOT_EMPTY,
                                    "%s is not empty; use --force to overwrite it", parsed.path);
    }
    bool make = status == 0;
    if (make) {
        status = format_ground(&parsed, &ground, options, sentence);
    }
    if (status != 0) {
        abandon_ground(&parsed, &ground, make);
    } else {
        ground.inner->ops->close(ground.inner);
    }
    return status;
}
