/* open.c -- from a name to a device.
 *
 *   name   = { fault } ( "mem:" SIZE | path )
 *   fault  = "fault:" ( "read" | "write" | "flush" ) "=" N ":"      each kind once at most
 *   SIZE   = digits [ "K" | "M" | "G" | "T" ]                       a multiple of 4096 bytes
 *
 * A file whose name begins like that is reached by a path with a slash, as in "./mem:1".
 *
 * Depends on: block_device.h, device_message.h.   Used by: engine/store, cli, tests.
 */
#include <errno.h>
#include <string.h>

#include "blockdev/block_device.h"
#include "blockdev/device_message.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    FAULT_KIND_COUNT = FAULT_FLUSH + 1,
};

static const char MEM_PREFIX[] = "mem:";
static const char FAULT_PREFIX[] = "fault:";

static const struct {
    const char *name;
    enum fault_kind kind;
} FAULT_NAMES[FAULT_KIND_COUNT] = {
    {"read=", FAULT_READ},
    {"write=", FAULT_WRITE},
    {"flush=", FAULT_FLUSH},
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

static int open_mem(const char *name, const char *size, unsigned flags,
                    struct block_device **device, struct device_message message)
{
    uint64_t size_bytes;
    if (!read_size(size, &size_bytes)) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "the size in \"%s\" is not a number of bytes; write it as in "
                                  "mem:64M, with K, M, G, T or nothing after the digits",
                                  name);
    }
    if (size_bytes == 0 || size_bytes % CUBBY_BLOCK_BYTES != 0) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "the size in \"%s\" is not a multiple of %d bytes above 0", name,
                                  CUBBY_BLOCK_BYTES);
    }
    if ((flags & BLOCK_DEVICE_READ_ONLY) != 0) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "\"%s\" is always new and empty; it cannot be opened read-only",
                                  name);
    }
    int status = mem_device_open(size_bytes / CUBBY_BLOCK_BYTES, device);
    if (status != 0) {
        device_message_set(message, status, "there is no memory for \"%s\"; ask for less", name);
    }
    return status;
}

/* Take the faults off the front of a name. Returns what is left, or NULL with a message. */
static const char *parse_faults(const char *name, uint64_t nth[FAULT_KIND_COUNT],
                                struct device_message message)
{
    const char *left = name;
    /* One more than there are kinds: that one is a repetition. */
    for (size_t i = 0; i <= FAULT_KIND_COUNT; i++) {
        const char *fault = after(left, FAULT_PREFIX);
        if (fault == NULL) {
            return left;
        }
        const char *number = NULL;
        enum fault_kind kind = FAULT_READ;
        for (size_t j = 0; j < FAULT_KIND_COUNT && number == NULL; j++) {
            number = after(fault, FAULT_NAMES[j].name);
            kind = FAULT_NAMES[j].kind;
        }
        uint64_t count = 0;
        const char *end = number != NULL ? read_number(number, &count) : NULL;
        if (end == NULL || *end != ':' || count == 0 || nth[kind] != 0) {
            break;
        }
        nth[kind] = count;
        left = end + 1;
    }
    device_message_set(message, CUBBY_BAD_ARGUMENT,
                       "the fault in \"%s\" is not understood; write it as in fault:read=3:NAME, "
                       "with read, write or flush, each once, and a number from 1",
                       name);
    return NULL;
}

/* Put the faults in front of an open device; on failure it is closed. */
static int add_faults(const uint64_t nth[FAULT_KIND_COUNT], struct block_device **device,
                      struct device_message message)
{
    struct block_device *inner = *device;
    int status = fault_device_open(inner, device);
    if (status != 0) {
        inner->ops->close(inner);
        return device_message_set(message, status, "there is no memory for a fault");
    }
    for (size_t i = 0; i < FAULT_KIND_COUNT; i++) {
        fault_device_arm(*device, FAULT_NAMES[i].kind, nth[FAULT_NAMES[i].kind]);
    }
    return 0;
}

int block_device_open(const char *name, unsigned flags, struct block_device **device, char *message,
                      size_t message_size)
{
    CUBBY_ASSERT(name != NULL);
    CUBBY_ASSERT(device != NULL);
    struct device_message sentence = {.text = message, .size = message_size};
    uint64_t nth[FAULT_KIND_COUNT] = {0};
    const char *inner_name = parse_faults(name, nth, sentence);
    if (inner_name == NULL) {
        return CUBBY_BAD_ARGUMENT;
    }
    if (*inner_name == '\0') {
        return device_message_set(sentence, CUBBY_BAD_ARGUMENT,
                                  "\"%s\" names no device; give a path or mem:SIZE", name);
    }
    struct block_device *inner;
    const char *size = after(inner_name, MEM_PREFIX);
    int status = size != NULL ? open_mem(inner_name, size, flags, &inner, sentence)
                              : file_device_open(inner_name, flags, &inner, message, message_size);
    if (status == 0 && inner_name != name) {
        status = add_faults(nth, &inner, sentence);
    }
    if (status == 0) {
        *device = inner;
    }
    return status;
}
