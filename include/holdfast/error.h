#ifndef HOLDFAST_ERROR_H
#define HOLDFAST_ERROR_H

/*
 * Status codes and error messages, used by every layer.
 *
 * A fallible function returns `enum status` and must have its result checked. Where a person will
 * read the reason, the function also takes `struct error *ret_error`, which may be NULL. On success
 * *ret_error is untouched; on failure it holds the returned status and a sentence that says what
 * is wrong and, where there is something to do, what to do.
 *
 * Threads: all functions are pure or work on the caller's memory only.
 */

#include <stdarg.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_at, arguments_at)                                                       \
    __attribute__((format(printf, format_at, arguments_at)))

/* One list makes the enum and its names, so that they cannot drift apart. */
#define STATUS_LIST(X)                                                                             \
    X(OK)          /* done */                                                                      \
    X(INVALID)     /* the input (option, file, message) breaks its own rules */                    \
    X(NOT_FOUND)   /* what was asked for does not exist */                                         \
    X(EXISTS)      /* what was to be made exists already */                                        \
    X(CORRUPT)     /* stored bytes fail their checksum or contradict each other */                 \
    X(VERSION)     /* a format version this program does not understand */                         \
    X(FOREIGN)     /* the journal belongs to another database, or is a stale copy */               \
    X(OWNED)       /* somebody alive owns the resource */                                          \
    X(FULL)        /* a quota or the disk is full */                                               \
    X(LIMIT)       /* a configured bound was reached */                                            \
    X(IO)          /* the operating system reported an input/output error */                       \
    X(UNREACHABLE) /* the upstream cannot be reached or broke the connection */                    \
    X(PROTOCOL)    /* the peer sent something that is not the MongoDB wire protocol */             \
    X(REFUSED)     /* the upstream answered with an error */                                       \
    X(CONFLICT)    /* a document is not any of the images it may be */                             \
    X(UNSUPPORTED) /* understood, but not built or not possible here */                            \
    X(MEMORY)      /* out of memory */

enum status {
#define X(name) STATUS_##name,
    STATUS_LIST(X)
#undef X
};

struct error {
    enum status status;
    char message[512]; /* always NUL-terminated; truncated if longer */
};

/* The name of `status` without its prefix, for example "CORRUPT". Never NULL. */
const char *status_name(enum status status);

/* Fills *ret_error (if not NULL) and returns `status`, so that `return error_set(...)` reads well.
 */
enum status error_set(struct error *ret_error, enum status status, const char *format, ...)
    PRINTF_LIKE(3, 4);

#ifdef __clang_analyzer__
/* The analyzer sees one file at a time: it must know that a failure that is set is returned. */
#define error_set(ret_error, status, ...)                                                          \
    ((void)(error_set)(ret_error, status, __VA_ARGS__), (status))
#endif

/* Puts "context: " in front of the message of an error that is already set. NULL is harmless. */
enum status error_prefix(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
