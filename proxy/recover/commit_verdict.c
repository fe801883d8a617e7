/* Answers to commitTransaction (commit_verdict.h). Pure. */
#include "recover/commit_verdict.h"

#include <bson/bson.h>
#include <string.h>

#define CODE_INTERNAL_ERROR 1
#define CODE_UNKNOWN_ERROR 8
#define CODE_UNAUTHORIZED 13
#define CODE_MAX_TIME_EXPIRED 50
#define CODE_NO_SUCH_TRANSACTION 251
#define CODE_PREPARED_TRANSACTION_IN_PROGRESS 267
/* So much a clock may be set back by itself, or differ between hosts that keep time. */
#define CLOCK_BACK_MS_MAX 60000u

/* After these nothing is known (the retryable errors of the driver specifications; a timeout; a
   write concern that was not met; a commit that is being prepared or coordinated). */
static bool is_changing(int64_t code)
{
    static const int16_t codes[] = {
        6,     /* HostUnreachable */
        7,     /* HostNotFound */
        50,    /* MaxTimeMSExpired */
        64,    /* WriteConcernFailed */
        89,    /* NetworkTimeout */
        90,    /* CallbackCanceled: of a router, whose coordinator may go on */
        91,    /* ShutdownInProgress */
        117,   /* ConflictingOperationInProgress */
        134,   /* ReadConcernMajorityNotAvailableYet */
        189,   /* PrimarySteppedDown */
        202,   /* NetworkInterfaceExceededTimeLimit */
        262,   /* ExceededTimeLimit */
        267,   /* PreparedTransactionInProgress */
        281,   /* TransactionCoordinatorSteppingDown */
        9001,  /* SocketException */
        10107, /* NotWritablePrimary */
        11600, /* InterruptedAtShutdown */
        11601, /* Interrupted */
        11602, /* InterruptedDueToReplStateChange */
        13435, /* NotPrimaryNoSecondaryOk */
        13436, /* NotPrimaryOrSecondary */
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i] == code) {
            return true;
        }
    }
    return false;
}

static bool is_labelled(const bson_t *reply, const char *wanted)
{
    bson_iter_t at;
    bson_iter_t label;
    if (!bson_iter_init_find(&at, reply, "errorLabels") || !BSON_ITER_HOLDS_ARRAY(&at) ||
        !bson_iter_recurse(&at, &label)) {
        return false;
    }
    while (bson_iter_next(&label)) {
        if (BSON_ITER_HOLDS_UTF8(&label) && strcmp(bson_iter_utf8(&label, NULL), wanted) == 0) {
            return true;
        }
    }
    return false;
}

static enum commit_verdict judge_error(int64_t code, bool transient, bool has_concern_error,
                                       const struct commit_asked *asked)
{
    if (has_concern_error || code == 0) {
        return COMMIT_OPEN;
    }
    /* Servers label that one, too. Of the client's own commit that is the end, for its driver runs
       the transaction again; who asks what became of one that is prepared asks until it is known.
     */
    bool lost = transient && !(asked->again && code == CODE_PREPARED_TRANSACTION_IN_PROGRESS);
    if (code == CODE_NO_SUCH_TRANSACTION || lost) {
        return asked->again && !asked->conclusive ? COMMIT_UNKNOWN : COMMIT_LOST;
    }
    if (is_changing(code)) {
        return COMMIT_OPEN;
    }
    if (!asked->again) {
        return code == CODE_INTERNAL_ERROR || code == CODE_UNKNOWN_ERROR ? COMMIT_OPEN
                                                                         : COMMIT_LOST;
    }
    return code == CODE_UNAUTHORIZED ? COMMIT_FORBIDDEN : COMMIT_UNKNOWN;
}

enum commit_verdict commit_verdict(struct slice reply, const struct commit_asked *asked,
                                   int32_t *ret_code)
{
    bson_t view;
    bson_iter_t at;
    int64_t code = 0;
    if (reply.size < 5 || !bson_init_static(&view, reply.data, reply.size)) {
        return COMMIT_OPEN;
    }
    bool ok = bson_iter_init_find(&at, &view, "ok") && bson_iter_as_bool(&at);
    bool has_concern_error = bson_iter_init_find(&at, &view, "writeConcernError");
    if (!ok && bson_iter_init_find(&at, &view, "code")) {
        code = bson_iter_as_int64(&at);
    }
    if (ret_code != NULL) {
        *ret_code = (int32_t)code;
    }
    if (ok) {
        return has_concern_error ? COMMIT_OPEN : COMMIT_COMMITTED;
    }
    return judge_error(code, is_labelled(&view, "TransientTransactionError"), has_concern_error,
                       asked);
}

bool commit_is_told_unknown(struct slice reply)
{
    bson_t view;
    bson_iter_t at;
    return reply.size >= 5 && bson_init_static(&view, reply.data, reply.size) &&
           (bson_iter_init_find(&at, &view, "writeConcernError") ||
            is_labelled(&view, "RetryableWriteError") ||
            is_labelled(&view, "UnknownTransactionCommitResult") ||
            (bson_iter_init_find(&at, &view, "code") &&
             bson_iter_as_int64(&at) == CODE_MAX_TIME_EXPIRED));
}

bool commit_is_too_old(uint64_t recorded_ms, uint64_t now_ms, uint64_t session_ms)
{
    return now_ms < recorded_ms ? recorded_ms - now_ms > CLOCK_BACK_MS_MAX
                                : now_ms - recorded_ms > session_ms;
}

const char *commit_verdict_name(enum commit_verdict verdict)
{
    switch (verdict) {
    case COMMIT_COMMITTED:
        return "committed";
    case COMMIT_LOST:
        return "lost";
    case COMMIT_OPEN:
        return "open";
    case COMMIT_UNKNOWN:
        return "unknown";
    case COMMIT_FORBIDDEN:
        return "forbidden";
    }
    return "?";
}
