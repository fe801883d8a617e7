/*
 * Status names and error sentences.
 *
 * Invariant: struct error's message is always NUL-terminated; what does not fit is cut off.
 * Threads: works on the caller's memory only.
 */

#include "holdfast/error.h"

#include <stdio.h>
#include <string.h>

static const char *const status_names[] = {
#define X(name) [STATUS_##name] = #name,
    STATUS_LIST(X)
#undef X
};

const char *status_name(enum status status)
{
    size_t index = (size_t)status;
    if (index >= sizeof(status_names) / sizeof(status_names[0])) {
        return "UNKNOWN";
    }
    return status_names[index];
}

enum status(error_set)(struct error *ret_error, enum status status, const char *format, ...)
{
    if (ret_error == NULL) {
        return status;
    }
    /* Formatted aside first: an argument may point into the message that is being replaced. */
    char message[sizeof(ret_error->message)];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(message, sizeof(message), format, arguments) < 0) {
        message[0] = '\0';
    }
    va_end(arguments);
    ret_error->status = status;
    memcpy(ret_error->message, message, sizeof(message));
    return status;
}

enum status error_prefix(struct error *error, const char *format, ...)
{
    if (error == NULL) {
        return STATUS_OK;
    }
    char context[sizeof(error->message)];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(context, sizeof(context), format, arguments) < 0) {
        context[0] = '\0';
    }
    va_end(arguments);

    char message[sizeof(error->message)];
    size_t used = 0;
    const char *const parts[] = {context, ": ", error->message};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        size_t size = strnlen(parts[i], sizeof(message) - 1 - used);
        memcpy(message + used, parts[i], size);
        used += size;
    }
    message[used] = '\0';
    memcpy(error->message, message, used + 1);
    return error->status;
}
