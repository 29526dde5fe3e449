/* device_message.h -- what callers are told where a device fails: a status and a sentence.
 *
 * Depends on: cubby.h.   Used by: open.c, device_api.c, file_device.c, file_lock.c, file_probe.c,
 * mmapio/region_api.c.
 */
#ifndef CUBBY_DEVICE_MESSAGE_H
#define CUBBY_DEVICE_MESSAGE_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "engine/cubby.h"

/* Where the sentence goes: text may be NULL, size is then 0. */
struct device_message {
    char *text;
    size_t size; /* bytes */
};

/* Write the sentence, cut to fit, and return status, so that a caller can say and return at once.
 */
__attribute__((format(printf, 3, 4))) static inline int
device_message_set(struct device_message message, int status, const char *format, ...)
{
    if (message.text != NULL && message.size > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(message.text, message.size, format, arguments);
        va_end(arguments);
    }
    return status;
}

/* From what a device returns to a status of cubby.h. */
static inline int device_message_public(int status)
{
    switch (status) {
    case EINVAL:
        return CUBBY_BAD_ARGUMENT;
    case EROFS:
        return CUBBY_READ_ONLY;
    case ENOSPC:
    case EDQUOT:
        return CUBBY_PHYSICAL_FULL;
    default:
        return status;
    }
}

#endif
