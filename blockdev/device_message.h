/* device_message.h -- the sentence that explains why a device could not be opened.
 *
 * Depends on: nothing.   Used by: open.c, file_device.c, file_lock.c, file_probe.c.
 */
#ifndef CUBBY_DEVICE_MESSAGE_H
#define CUBBY_DEVICE_MESSAGE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

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

#endif
