#ifndef HOLDFAST_LOG_H
#define HOLDFAST_LOG_H

/*
 * Structured log: one JSON object a line, in the habits of mongod's log:
 *
 *   {"t":"2026-01-02T03:04:05.678Z","s":"I","c":"unit","msg":"Unit rolled back","attr":{"unit":7}}
 *
 * Library layers (wal, wire, unit, engine) log at LOG_DEBUG only or return errors; the layers that
 * know what an operator should read (route, main, recovery's caller) log above it.
 * Documents' contents are never logged.
 *
 * Threads: log_write() may be called from any thread; a line is written with one write(2).
 */

#include <stddef.h>
#include <stdint.h>

enum log_level {
    LOG_DEBUG,
    LOG_INFO,
    LOG_WARNING,
    LOG_ERROR,
};

struct log_field {
    const char *name; /* NULL: the field is skipped */
    const char *text; /* the value if not NULL (need not be valid UTF-8: it is escaped) */
    int64_t number;   /* the value if text is NULL */
};

#define LOG_TEXT(name_, value_) ((struct log_field){.name = (name_), .text = (value_)})
#define LOG_NUMBER(name_, value_) ((struct log_field){.name = (name_), .number = (int64_t)(value_)})

/* Lines below `level` are dropped. Default LOG_INFO. Any thread, any time. */
void log_set_level(enum log_level level);

/* Lines go to this descriptor (default 2, standard error). Call before threads are started. */
void log_set_descriptor(int descriptor);

void log_write(enum log_level level, const char *component, const char *message,
               const struct log_field *fields, size_t field_count);

/* LOG(LOG_INFO, "unit", "Unit rolled back", LOG_NUMBER("unit", id), LOG_TEXT("reason", why)); */
#define LOG(level_, component_, ...)                                                               \
    LOG_MESSAGE_((level_), (component_), __VA_ARGS__, (struct log_field){0})
#define LOG_MESSAGE_(level_, component_, message_, ...)                                            \
    log_write((level_), (component_), (message_), (const struct log_field[]){__VA_ARGS__},         \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#endif
