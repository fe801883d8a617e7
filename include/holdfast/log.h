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
 * A line that repeats: of what one place in the program says, the first LOG_REPEATS_MAX in
 * LOG_REPEATS_MS are written, then one line tells how many more there were. Lines at LOG_DEBUG are
 * not counted: who asks for them wants them all.
 *
 * A log that cannot be written never stops the process: the line is lost, and counted.
 *
 * Threads: any may write; a line is written with one write(2).
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"

#define LOG_REPEATS_MAX 100u
#define LOG_REPEATS_MS 10000u

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_LEVELS };

struct log_field {
    const char *name; /* NULL: the field is skipped */
    const char *text; /* the value if not NULL (need not be valid UTF-8: it is escaped) */
    int64_t number;   /* the value if all else is NULL */
    bool hex; /* the value is `bytes` in hexadecimal; none, or only zeros: the field is skipped */
    const uint8_t *bytes;
    const struct log_field *fields; /* not NULL: the value is an object of these, whose own values
                                       are texts and numbers */
    size_t count;                   /* of bytes or fields */
};

#define LOG_TEXT(name_, value_) ((struct log_field){.name = (name_), .text = (value_)})
#define LOG_NUMBER(name_, value_) ((struct log_field){.name = (name_), .number = (int64_t)(value_)})

#define LOG_HEX(name_, bytes_, count_)                                                             \
    ((struct log_field){.name = (name_), .hex = true, .bytes = (bytes_), .count = (count_)})
#define LOG_OBJECT(name_, fields_, count_)                                                         \
    ((struct log_field){.name = (name_), .fields = (fields_), .count = (count_)})
/* The same for a text that may be empty: then the field is skipped. */
#define LOG_TEXT_IF(name_, value_)                                                                 \
    LOG_TEXT((value_) == NULL || *(value_) == '\0' ? NULL : (name_), (value_))

/* Lines below `level` are dropped. Default LOG_INFO. Any thread, any time. */
void log_set_level(enum log_level level);

/* Lines go to this descriptor (default 2, standard error). Call before threads are started. */
void log_set_descriptor(int descriptor);

/*
 * Lines go to the end of this file from now on, which is made if it is not there. Errors: STATUS_IO
 * (names the path); then they go where they went.
 */
MUST_CHECK enum status log_open(const char *path, struct error *ret_error);

/* Opens the file of log_open() again, by its path: it may have been renamed or removed meanwhile.
   Harmless if there is none. Errors: STATUS_IO; then the old file is used on. */
MUST_CHECK enum status log_reopen(struct error *ret_error);

/* Whether lines of this level are written. */
bool log_is_on(enum log_level level);

/* Without a count of repeats. */
void log_write(enum log_level level, const char *component, const char *message,
               const struct log_field *fields, size_t field_count);

/* A place in the program that writes lines. */
struct log_place {
    _Atomic uint64_t since_ms;
    _Atomic uint32_t lines;
    _Atomic bool listed;
    const char *component;
    const char *message;
    struct log_place *next;
};

/* `component` and `message` are literals. */
void log_write_at(struct log_place *place, enum log_level level, const char *component,
                  const char *message, const struct log_field *fields, size_t field_count);

/* Tells of lines that were held back at places whose period is over, or (`all`) at any. To be
   called every few seconds, and at the end; by one thread. */
void log_tell_repeats(bool all);

struct log_figures {
    uint64_t lines[LOG_LEVELS]; /* written */
    uint64_t suppressed;
    uint64_t failed; /* the file did not take them */
};

void log_figures_get(struct log_figures *ret_figures);

/* LOG(LOG_INFO, "unit", "Unit rolled back", LOG_NUMBER("unit", id), LOG_TEXT("reason", why)); */
#define LOG(level_, component_, ...)                                                               \
    LOG_MESSAGE_((level_), (component_), __VA_ARGS__, (struct log_field){0})
#define LOG_MESSAGE_(level_, component_, message_, ...)                                            \
    do {                                                                                           \
        static struct log_place log_place_;                                                        \
        if (log_is_on(level_)) {                                                                   \
            log_write_at(&log_place_, (level_), (component_), (message_),                          \
                         (const struct log_field[]){__VA_ARGS__},                                  \
                         sizeof((const struct log_field[]){__VA_ARGS__}) /                         \
                             sizeof(struct log_field));                                            \
        }                                                                                          \
    } while (false)

#endif
