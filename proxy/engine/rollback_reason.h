#ifndef HOLDFAST_ENGINE_ROLLBACK_REASON_H
#define HOLDFAST_ENGINE_ROLLBACK_REASON_H

/*
 * Why units are rolled back, as the label of a metric: the journal and the log have the sentence.
 * A sentence that is not in the list counts as "other"; tests/lint/rollback_reasons finds those.
 */

#define ROLLBACK_REASON_LIST(X)                                                                    \
    X(CLIENT_ABORT, "client_abort", "the client asked for it")                                     \
    X(COMMAND_FAILED, "command_failed", "a command of the unit failed")                            \
    X(DEADLOCK, "deadlock", "it was the victim of a deadlock")                                     \
    X(LOCK_WAIT, "lock_wait", "waited longer than unit.lockWait")                                  \
    X(LIFETIME, "lifetime", "it lived longer than unit.lifetime, or than its own timeout")         \
    X(CLIENT_GONE, "client_gone", "the client has gone")                                           \
    X(SESSION_ENDED, "session_ended", "the session was ended")                                     \
    X(SUPERSEDED, "superseded", "the session began a newer transaction")                           \
    X(SERVER_LOST, "server_lost", "the connection to the server broke")                            \
    X(SERVER_RESTARTED, "server_restarted", "the server has restarted")                            \
    X(JOURNAL_FULL, "journal_full", "the journal is full")                                         \
    X(TRANSACTION_LOST, "transaction_lost", "the server has lost its transaction")                 \
    X(COMMIT_UNKNOWN, "commit_unknown", "the outcome of its commit is unknown")                    \
    X(MEMORY, "memory", "out of memory")                                                           \
    X(OPERATOR, "operator", "an operator rolled it back")                                          \
    X(SHUTDOWN, "shutdown", "the proxy was shut down")                                             \
    X(UPGRADE, "upgrade", "an upgrade waited for it longer than upgrade.wait")                     \
    X(CALL_ERROR, "call_error", "the service answered with an error")                              \
    X(CALL_TIMEOUT, "call_timeout", "http.callTimeout")                                            \
    X(SERVICE_LOST, "service_lost", "the service was lost")                                        \
    X(SERVICE_BROKE, "service_broke", "a service's connection broke while it wrote")               \
    X(CALLER_LEFT, "caller_left", "the caller left before its request was whole")                  \
    X(ANSWER_TOO_LARGE, "answer_too_large", "the answer is larger than http.maxAnswer")            \
    X(RECORD_TOO_LARGE, "record_too_large", "http.idempotency.maxAnswer")                          \
    X(SESSIONS, "too_many_sessions", "too many sessions wrote in it")                              \
    X(USERS, "two_users", "two users wrote in it")                                                 \
    X(WRITE_AGAIN, "write_again", "a write came a second time")                                    \
    X(NOT_RESOLVED, "not_resolved", "a conflict could not be resolved")                            \
    X(OTHER, "other", "")

enum rollback_reason {
#define X(name, label, sentence) ROLLBACK_REASON_##name,
    ROLLBACK_REASON_LIST(X)
#undef X
        ROLLBACK_REASONS
};

/* `sentence` may be NULL. */
enum rollback_reason rollback_reason_of(const char *sentence);
const char *rollback_reason_label(enum rollback_reason reason);

#endif
