/*
 * One unit through the running proxy (maintain.h).
 *
 *     begin --> body --> commit --> done
 *       ^         |         |  ^
 *       |         |         |  '-- answer lost: the commit is asked again, of the same session
 *       '---------'---------'----- transient: rolled back, a pause, again
 *
 * All attempts are of one session: by that the proxy knows a transaction that failed over a lock,
 * and keeps its place in line.
 *
 * Threads: that of the struct maintain.
 */

#include "maintain/private.h"

struct maintain_unit {
    struct maintain *maintain;
    mongoc_client_session_t *session;
    mongoc_transaction_opt_t *options;
};

/* Where there are several members, what is committed is to outlive a failover. */
static mongoc_transaction_opt_t *options_make(void)
{
    mongoc_transaction_opt_t *options = mongoc_transaction_opts_new();
    mongoc_write_concern_t *concern = mongoc_write_concern_new();
    mongoc_write_concern_set_wmajority(concern, 0);
    mongoc_transaction_opts_set_write_concern(options, concern);
    mongoc_write_concern_destroy(concern);
    return options;
}

enum status maintain_unit_command(struct maintain_unit *unit, const char *database,
                                  const bson_t *command, bson_t *ret_reply, struct error *ret_error)
{
    struct maintain *maintain = unit->maintain;
    bson_t options = BSON_INITIALIZER;
    bson_t reply;
    bson_error_t error = {0};
    if (!mongoc_client_session_append(unit->session, &options, &error)) {
        bson_destroy(&options);
        return error_set(ret_error, STATUS_UNSUPPORTED, "%s", error.message);
    }
    bool done = mongoc_client_command_with_opts(maintain->client, database, command, NULL, &options,
                                                &reply, &error);
    enum status status = command_judge(maintain, done, &reply, &error, ret_error);
    reply_hand_over(&reply, status, ret_reply);
    bson_destroy(&options);
    return status;
}

/* Asks until the proxy says how it ended; it remembers, also over its restart. */
static enum status commit(struct maintain_unit *unit, struct patience *patience, bool *ret_unknown,
                          struct error *ret_error)
{
    struct maintain *maintain = unit->maintain;
    enum status status;
    do {
        bson_t reply;
        bson_error_t error = {0};
        bool done = mongoc_client_session_commit_transaction(unit->session, &reply, &error);
        status = command_judge(maintain, done, &reply, &error, ret_error);
        bson_destroy(&reply);
    } while (status != STATUS_OK && maintain->unknown && patience_again(patience));
    *ret_unknown = status != STATUS_OK && maintain->unknown;
    if (*ret_unknown) {
        return error_set(ret_error, STATUS_UNREACHABLE,
                         "the proxy does not answer whether the last unit was committed");
    }
    return status;
}

/* One attempt. *ret_again: it was rolled back and may be run again. */
static enum status attempt(struct maintain_unit *unit, struct patience *patience,
                           maintain_body *body, void *context, struct maintain_result *result,
                           bool *ret_again, struct error *ret_error)
{
    struct maintain *maintain = unit->maintain;
    bson_error_t error = {0};
    *ret_again = false;
    maintain->transient = false;
    result->attempts++;
    if (!mongoc_client_session_start_transaction(unit->session, unit->options, &error)) {
        /* No server to be found: nothing was begun. */
        *ret_again = error.domain == MONGOC_ERROR_SERVER_SELECTION;
        return error_set(ret_error, *ret_again ? STATUS_UNREACHABLE : STATUS_UNSUPPORTED,
                         "the unit cannot begin: %s", error.message);
    }
    enum status status = body(unit, result->attempts, context, ret_error);
    if (status == STATUS_OK) {
        status = commit(unit, patience, &result->unknown, ret_error);
        *ret_again = status != STATUS_OK && !result->unknown && maintain->transient;
        return status;
    }
    *ret_again = maintain->transient;
    (void)mongoc_client_session_abort_transaction(unit->session, NULL);
    return status;
}

enum status maintain_run(struct maintain *maintain, maintain_body *body, void *context,
                         struct maintain_result *ret_result, struct error *ret_error)
{
    struct maintain_result result = {0};
    struct patience patience = patience_begin(maintain);
    struct maintain_unit unit = {.maintain = maintain, .options = options_make()};
    bson_error_t error = {0};
    enum status status;
    bool again = false;
    do {
        again = false;
        unit.session = mongoc_client_start_session(maintain->client, NULL, &error);
        status = unit.session != NULL ? STATUS_OK
                                      : error_set(ret_error, STATUS_UNREACHABLE,
                                                  "the proxy does not answer: %s", error.message);
    } while (status != STATUS_OK && error.domain == MONGOC_ERROR_SERVER_SELECTION &&
             patience_again(&patience));
    if (status == STATUS_OK) {
        do {
            status = attempt(&unit, &patience, body, context, &result, &again, ret_error);
        } while (again && patience_again(&patience));
        mongoc_client_session_destroy(unit.session);
    }
    mongoc_transaction_opts_destroy(unit.options);
    if (ret_result != NULL) {
        *ret_result = result;
    }
    return status;
}
