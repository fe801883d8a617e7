#ifndef HOLDFAST_WIRE_REPLY_H
#define HOLDFAST_WIRE_REPLY_H

/*
 * Replies: those the proxy makes itself, and a view of those a server made.
 *
 * Any thread. Pointers of a view look into the caller's bytes.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

/* MongoDB's error codes as far as the proxy sends or reads them: name, number. */
#define REPLY_CODE_LIST(X)                                                                         \
    X(InternalError, 1)                                                                            \
    X(BadValue, 2)                                                                                 \
    X(NoSuchKey, 4)                                                                                \
    X(HostUnreachable, 6)                                                                          \
    X(HostNotFound, 7)                                                                             \
    X(UnknownError, 8)                                                                             \
    X(FailedToParse, 9)                                                                            \
    X(UserNotFound, 11)                                                                            \
    X(UnsupportedFormat, 12)                                                                       \
    X(Unauthorized, 13)                                                                            \
    X(TypeMismatch, 14)                                                                            \
    X(Overflow, 15)                                                                                \
    X(InvalidLength, 16)                                                                           \
    X(ProtocolError, 17)                                                                           \
    X(AuthenticationFailed, 18)                                                                    \
    X(IllegalOperation, 20)                                                                        \
    X(InvalidBSON, 22)                                                                             \
    X(LockTimeout, 24)                                                                             \
    X(NamespaceNotFound, 26)                                                                       \
    X(IndexNotFound, 27)                                                                           \
    X(PathNotViable, 28)                                                                           \
    X(ConflictingUpdateOperators, 40)                                                              \
    X(CursorNotFound, 43)                                                                          \
    X(NamespaceExists, 48)                                                                         \
    X(MaxTimeMSExpired, 50)                                                                        \
    X(DollarPrefixedFieldName, 52)                                                                 \
    X(InvalidIdField, 53)                                                                          \
    X(NotSingleValueField, 54)                                                                     \
    X(EmptyFieldName, 56)                                                                          \
    X(DottedFieldName, 57)                                                                         \
    X(CommandNotFound, 59)                                                                         \
    X(WriteConcernFailed, 64)                                                                      \
    X(ImmutableField, 66)                                                                          \
    X(CannotCreateIndex, 67)                                                                       \
    X(InvalidOptions, 72)                                                                          \
    X(InvalidNamespace, 73)                                                                        \
    X(UnknownReplWriteConcern, 79)                                                                 \
    X(IndexOptionsConflict, 85)                                                                    \
    X(IndexKeySpecsConflict, 86)                                                                   \
    X(NetworkTimeout, 89)                                                                          \
    X(ShutdownInProgress, 91)                                                                      \
    X(UnsatisfiableWriteConcern, 100)                                                              \
    X(WriteConflict, 112)                                                                          \
    X(CommandNotSupported, 115)                                                                    \
    X(ConflictingOperationInProgress, 117)                                                         \
    X(DocumentValidationFailure, 121)                                                              \
    X(FailedToSatisfyReadPreference, 133)                                                          \
    X(ExceededMemoryLimit, 146)                                                                    \
    X(StaleEpoch, 150)                                                                             \
    X(CommandNotSupportedOnView, 166)                                                              \
    X(InvalidPipelineOperator, 168)                                                                \
    X(PrimarySteppedDown, 189)                                                                     \
    X(NoSuchSession, 206)                                                                          \
    X(TransactionTooOld, 225)                                                                      \
    X(NotImplemented, 238)                                                                         \
    X(SnapshotTooOld, 239)                                                                         \
    X(SnapshotUnavailable, 246)                                                                    \
    X(StaleDbVersion, 249)                                                                         \
    X(StaleChunkHistory, 250)                                                                      \
    X(NoSuchTransaction, 251)                                                                      \
    X(TransactionCommitted, 256)                                                                   \
    X(TransactionTooLarge, 257)                                                                    \
    X(TooManyLogicalSessions, 261)                                                                 \
    X(ExceededTimeLimit, 262)                                                                      \
    X(OperationNotSupportedInTransaction, 263)                                                     \
    X(PreparedTransactionInProgress, 267)                                                          \
    X(TransactionExceededLifetimeLimitSeconds, 290)                                                \
    X(SocketException, 9001)                                                                       \
    X(NotWritablePrimary, 10107)                                                                   \
    X(BSONObjectTooLarge, 10334)                                                                   \
    X(DuplicateKey, 11000)                                                                         \
    X(InterruptedAtShutdown, 11600)                                                                \
    X(Interrupted, 11601)                                                                          \
    X(InterruptedDueToReplStateChange, 11602)                                                      \
    X(StaleConfig, 13388)                                                                          \
    X(NotPrimaryNoSecondaryOk, 13435)                                                              \
    X(NotPrimaryOrSecondary, 13436)                                                                \
    X(OutOfDiskSpace, 14031)                                                                       \
    X(IDLFailedToParse, 40414)                                                                     \
    X(IDLUnknownField, 40415)

enum reply_code {
#define X(name, number) REPLY_CODE_##name = number,
    REPLY_CODE_LIST(X)
#undef X
};

#define REPLY_LABEL_TRANSIENT "TransientTransactionError"
#define REPLY_LABEL_UNKNOWN_COMMIT "UnknownTransactionCommitResult"
#define REPLY_LABEL_RETRYABLE "RetryableWriteError"

/* "WriteConflict" for 112; NULL for a number that is not in the list. */
const char *reply_code_name(int code);

enum { REPLY_CODE_NAME_BYTES = 32 };

/* The same, but "Location<number>", written into `buffer`, for a number that is not in the list. */
const char *reply_code_name_or_location(int code, char buffer[REPLY_CODE_NAME_BYTES]);

/*
 * Whether mongod labels this error TransientTransactionError when a command inside a transaction,
 * other than commitTransaction, gets it: the driver may run the whole transaction again.
 */
bool reply_code_is_transient(int code);

/*
 * Appends { ok: 0.0, errmsg, code, codeName, errorLabels: [label] } to the empty document *reply,
 * which the caller has initialised and destroys; no errorLabels if `label` is NULL. A number
 * without a name becomes "Location<number>" as with mongod. The message is cut at 1 KiB and made
 * plain ASCII if it is not UTF-8, because drivers refuse a reply with broken text.
 */
void reply_put_error(bson_t *reply, int code, const char *label, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* Appends ok: 1.0. */
void reply_put_ok(bson_t *reply);

struct reply_view {
    bool ok;
    int32_t code;          /* 0: none */
    const char *code_name; /* NULL: none */
    const char *message;   /* errmsg, NULL: none */
    bool is_transient;     /* errorLabels holds TransientTransactionError */
    bool has_write_errors; /* writeErrors is there and not empty */
    bool has_write_concern_error;
    struct slice write_errors; /* the array's bytes, a document of documents; size 0: none */
    bool has_n;
    int64_t n;
    bool has_modified;
    int64_t modified; /* nModified */
    bool has_cursor;
    int64_t cursor_id;     /* cursor.id; 0: the cursor is exhausted */
    struct slice batch;    /* cursor.firstBatch or nextBatch: the array's bytes; size 0: none */
    bool has_value;        /* findAndModify's value is there: a document or null */
    struct slice value;    /* size 0: null */
    struct slice upserted; /* the array `upserted`; size 0: none */
    struct slice last_error_object; /* findAndModify's lastErrorObject; size 0: none */
};

/*
 * Reads what a server answered, which may be anything. A field of a type that it cannot have counts
 * as missing; a reply without `ok` is not ok. Errors: STATUS_PROTOCOL, the top level is no BSON.
 */
MUST_CHECK enum status reply_view_parse(struct slice reply, struct reply_view *ret_view);

#endif
