/*
 * What to do with a message of a client.
 *
 *   OP_QUERY             only the first hello of old drivers: its reply becomes the persona
 *   OP_MSG
 *     transaction fields    to the driver boundary, never to the server
 *     a write of a domain   into the unit of the open API call, or refused (dispatch_domain.c)
 *     a write               a unit of its own if it may be retried or writes several documents;
 *                           else through its gate; while units are inside, a unit or wait
 *     a read                as it is where nothing is uncommitted, else evaluated over the
 *                           committed state (dispatch_reads.c)
 *     everything else       as it is
 *
 * With the native engine: dispatch_native.c instead of all that.
 *
 * Deciding changes nothing but gate counts (and the wait for one); carrying out is requests.c's.
 * The connection's worker.
 */
#include <string.h>

#include "boundary/request.h"
#include "engine/namespace_cache.h"
#include "engine/unique_cache.h"
#include "holdfast/log.h"
#include "route/command_table.h"
#include "route/connection.h"
#include "route/dispatch_private.h"
#include "route/follow.h"
#include "wire/bson_walk.h"
#include "wire/op_query.h"
#include "wire/reply.h"

static void refuse(struct dispatch *dispatch, const char *reason)
{
    dispatch->kind = DISPATCH_REFUSE;
    dispatch->reason = reason;
}

void dispatch_own(struct connection *connection, const struct wire_header *header,
                  struct slice available, enum dispatch_kind kind, struct dispatch *dispatch)
{
    if (available.size < header->length) {
        dispatch->kind = DISPATCH_MORE;
    } else if (connection->expected_count > 0 || connection->reply_remaining > 0) {
        dispatch->kind = DISPATCH_BLOCKED;
    } else {
        dispatch->kind = kind;
    }
}

void dispatch_error(struct dispatch *dispatch, int code, const char *message)
{
    dispatch->kind = DISPATCH_ANSWER;
    bson_init(&dispatch->body);
    reply_put_error(&dispatch->body, code, NULL, "%s", message);
}

static uint64_t session_digest(struct slice session_id)
{
    /* A UUID is random enough: eight of its bytes tell sessions apart. */
    return slice_load_u64be(session_id.data);
}

void dispatch_note_session(struct connection *connection, const struct command_view *view)
{
    if (view->session_id.size == 0) {
        return;
    }
    uint64_t digest = session_digest(view->session_id);
    for (uint32_t i = 0; i < UNIT_RECENT_SESSIONS; i++) {
        if (connection->recent_sessions[i] == digest) {
            return;
        }
    }
    connection->recent_sessions[connection->recent_at++ % UNIT_RECENT_SESSIONS] = digest;
}

/* A service that is told apart by its driver's appName. */
bool connection_link_application(struct connection *connection)
{
    const struct router_options *options = &connection->shared->options;
    for (size_t i = 0; connection->application_known && i < options->rule_count; i++) {
        const struct router_rule *rule = &options->rules[i];
        if (rule->application[0] == '\0' ||
            strcmp(rule->application, connection->application) != 0 ||
            connection_link(connection, rule->domain, rule->service)) {
            continue;
        }
        LOG(LOG_ERROR, "http",
            "A mongo connection is that of two services or instances: by its listener or address, "
            "and by its appName",
            LOG_CONNECTION(connection), LOG_TEXT("domain", domain_name(connection->link.domain)),
            LOG_NUMBER("number", connection->link.service),
            LOG_TEXT("appNameDomain", domain_name(rule->domain)),
            LOG_NUMBER("appNameNumber", rule->service));
        return options->observe_only; /* where nothing is held back */
    }
    return true;
}

/* hello says which application this is: { client: { application: { name } } }. False: refused. */
bool dispatch_note_application(struct connection *connection, const struct command_view *view,
                               struct dispatch *dispatch)
{
    bson_iter_t at;
    bson_iter_t name;
    if (connection->application_known ||
        !bson_iter_init_from_data(&at, view->body.data, view->body.size) ||
        !bson_iter_find_descendant(&at, "client.application.name", &name) ||
        !BSON_ITER_HOLDS_UTF8(&name)) {
        return true;
    }
    (void)snprintf(connection->application, sizeof connection->application, "%s",
                   bson_iter_utf8(&name, NULL));
    connection->application_known = true;
    if (!connection_link_application(connection)) {
        refuse(dispatch, "it is that of two services or instances: by its listener or address, and "
                         "by its appName");
        return false;
    }
    return true;
}

/* { endSessions: [ { id: UUID } ... ] }: their transactions end with them. */
static void end_sessions(struct connection *connection, const struct command_view *view)
{
    struct engine *engine = connection->shared->options.engine;
    bson_iter_t at;
    bson_iter_t session;
    bson_iter_t id;
    if (!bson_iter_init_from_data(&at, view->body.data, view->body.size) || !bson_iter_next(&at) ||
        !BSON_ITER_HOLDS_ARRAY(&at) || !bson_iter_recurse(&at, &session)) {
        return;
    }
    while (bson_iter_next(&session)) {
        bson_subtype_t subtype;
        uint32_t size;
        const uint8_t *data;
        if (!BSON_ITER_HOLDS_DOCUMENT(&session) || !bson_iter_recurse(&session, &id) ||
            !bson_iter_find(&id, "id") || !BSON_ITER_HOLDS_BINARY(&id)) {
            continue;
        }
        bson_iter_binary(&id, &subtype, &size, &data);
        static const char reason[] = "the session was ended";
        struct unit *unit = size != UNIT_SESSION_ID_BYTES
                                ? NULL
                                : unit_table_take_session(engine->units, connection->login.user,
                                                          slice_make(data, size), reason);
        if (unit != NULL) {
            rollback_detached(engine, unit, reason);
        }
    }
}

/* Whether replies, or the rest of one, have to reach the client before that to a further command.
 */
static bool client_is_owed(const struct connection *connection)
{
    for (uint32_t i = 0; i < connection->expected_count; i++) {
        if (expected_get(connection, i)->kind != EXPECT_SWALLOW) {
            return true;
        }
    }
    return connection->reply_remaining > 0;
}

/* ------------------------------------------------------------------ plain writes */

static void on_gate_task(struct worker_task *task)
{
    struct connection *connection =
        (struct connection *)(void *)((uint8_t *)task - offsetof(struct connection, gate_task));
    connection->gate_waiting = false;
    connection->gate_admitted = !connection->gate_waiter.turned_away; /* else decided again */
    if (connection->client_gone && connection->gate_admitted) {
        connection->gate_admitted = false;
        gate_plain_leave(connection->shared->options.engine->gates, connection->gate_waiter.gate,
                         worker_index(connection->owner->worker));
    }
    connection_continue(connection);
}

static void on_admitted(struct gate_waiter *waiter)
{
    struct connection *connection =
        (struct connection *)(void *)((uint8_t *)waiter - offsetof(struct connection, gate_waiter));
    connection->gate_task.run = on_gate_task;
    worker_post(connection->owner->worker, &connection->gate_task);
}

static uint32_t gate_for(const struct command_view *view, enum command_class class)
{
    if (class == COMMAND_SERVER_WRITE || view->collection == NULL || view->database == NULL) {
        return GATE_SERVER;
    }
    return gate_of(view->database, view->collection);
}

/*
 * Forward, changed where it must be: without txnNumber, which a standalone server refuses, and
 * acknowledged, so that its end is known.
 */
static void decide_forward_write(struct dispatch *dispatch, const struct command_view *view,
                                 bool unacknowledged)
{
    static const char *const removed[] = {"txnNumber", "writeConcern", NULL};
    static const char *const removed_number[] = {"txnNumber", NULL};
    if (!view->has_transaction_number && !unacknowledged) {
        dispatch->kind = DISPATCH_FORWARD;
        return;
    }
    dispatch->clear_more_to_come = true;
    dispatch->kind = DISPATCH_REWRITE;
    if (command_copy_without(&dispatch->body, view->body,
                             unacknowledged ? removed : removed_number) != STATUS_OK) {
        refuse(dispatch, "a command is not valid BSON");
    }
}

/* True: decided. How many documents a write has stands behind them, so it must be whole. */
static bool is_unit(const struct engine *engine, const struct command_view *view,
                    const struct op_msg *message, bool whole, struct dispatch *dispatch)
{
    if (!engine->retryable_writes && engine->multi_writes == ENGINE_MULTI_WRITES_OFF &&
        strcmp(view->name, "bulkWrite") != 0) {
        return false;
    }
    if (!whole) {
        dispatch->kind = DISPATCH_MORE;
        return true;
    }
    if (!plain_is_unit(engine, view, message)) {
        return false;
    }
    dispatch->kind = DISPATCH_OPERATION;
    dispatch->boundary = DISPATCH_TO_PLAIN;
    return true;
}

/* Commands that may make another thing of a name: a view, a collection, nothing. */
static bool changes_namespace(const struct command_view *view)
{
    static const char *const names[] = {
        "create",       "collMod",         "drop",     "renameCollection",
        "dropDatabase", "convertToCapped", "applyOps", NULL};
    return bson_name_is_one_of(view->name, names);
}

/* Readers are told before it leaves. */
static void tell_readers(struct engine *engine, const struct command_view *view,
                         enum command_class class, struct expected *expected)
{
    if (engine->namespaces == NULL || !changes_namespace(view)) {
        return;
    }
    bool any = class == COMMAND_SERVER_WRITE || view->collection == NULL || view->database == NULL;
    expected->changes_namespace = true;
    expected->namespace_hash =
        any ? 0 : namespace_cache_hash(engine->namespaces, view->database, view->collection);
    namespace_cache_changing(engine->namespaces, expected->namespace_hash);
}

static void decide_write(struct connection *connection, const struct wire_header *header,
                         struct slice available, const struct command_view *view,
                         enum command_class class, struct dispatch *dispatch)
{
    struct engine *engine = connection->shared->options.engine;
    struct gate_table *gates = engine->gates;
    size_t worker = worker_index(connection->owner->worker);
    uint32_t gate = gate_for(view, class);
    bool unacknowledged = (dispatch->message.flags & OP_MSG_MORE_TO_COME) != 0;
    bool changed = unacknowledged || view->has_transaction_number;
    bool whole = available.size == header->length;
    bool body_first = dispatch->message.body_offset == WIRE_HEADER_BYTES + 5;
    if (class == COMMAND_WRITE && is_unit(engine, view, &dispatch->message, whole, dispatch)) {
        return;
    }
    if (changed && (!body_first || (dispatch->message.flags & OP_MSG_CHECKSUM_PRESENT) != 0)) {
        /* Never made by a driver; a message with a checksum cannot be changed as it streams. */
        refuse(dispatch, "an unacknowledged or retryable write with a checksum, or with its body "
                         "behind its documents");
        return;
    }
    /* In the gate it keeps units out until its reply is there. A client must not be able to draw
       that out: by not sending the rest, or by not reading the replies that come before. */
    if (!whole || client_is_owed(connection)) {
        dispatch->kind = whole ? DISPATCH_BLOCKED : DISPATCH_MORE;
        return;
    }
    enum gate_plain entered =
        connection->gate_admitted ? GATE_PLAIN_ADMITTED : gate_plain_enter(gates, gate, worker);
    if (entered != GATE_PLAIN_ADMITTED) {
        if (class == COMMAND_WRITE && entered == GATE_PLAIN_UNITS) {
            dispatch->kind = DISPATCH_OPERATION;
            dispatch->boundary = DISPATCH_TO_PLAIN;
            return;
        }
        if (dispatch->in_call && entered == GATE_PLAIN_UNITS) {
            dispatch_error(dispatch, REPLY_CODE_OperationNotSupportedInTransaction,
                           "a unit is at work in this namespace, perhaps that of the API call that "
                           "is open: create collections and indexes outside of calls, or before "
                           "the call's first write there");
            return;
        }
        connection->gate_waiter.admitted = on_admitted;
        connection->gate_waiter.has_other_way = class == COMMAND_WRITE;
        if (!gate_plain_wait(gates, gate, worker, &connection->gate_waiter)) {
            connection->gate_waiting = true;
            dispatch->kind = DISPATCH_BLOCKED;
            return;
        }
    }
    connection->gate_admitted = false;
    if (class != COMMAND_WRITE) {
        unique_cache_forget(engine->unique, gate); /* it may create or drop an index */
    }
    dispatch->expected.kind = unacknowledged ? EXPECT_SWALLOW : EXPECT_WRITE;
    dispatch->expected.gate = gate;
    dispatch->expects_reply = true;
    decide_forward_write(dispatch, view, unacknowledged);
    if (dispatch->kind == DISPATCH_REFUSE) {
        gate_plain_leave(gates, gate, worker);
    } else {
        tell_readers(engine, view, class, &dispatch->expected);
    }
}

/* ------------------------------------------------------------------ OP_MSG */

/* hello and logins tell who the client is. */
static void expect_identity(struct connection *connection, const struct command_view *view,
                            enum command_class class, struct dispatch *dispatch)
{
    login_request(&connection->login, view);
    connection->observed_writer = 0;
    connection->authorized = false;
    dispatch->expected.kind = class == COMMAND_HELLO ? EXPECT_HELLO : EXPECT_LOGIN;
}

/*
 * Of logins that are on their way together nobody could tell which one's reply names whom: a client
 * could begin one as somebody else right behind the last step of its own. So each waits for the
 * reply to the one before.
 */
static bool login_waits(const struct connection *connection, const struct command_view *view,
                        enum command_class class)
{
    bool waits = class == COMMAND_LOGIN || login_hello_begins_one(view);
    for (uint32_t i = 0; waits && i < connection->expected_count; i++) {
        enum expected_kind kind = expected_get(connection, i)->kind;
        if (kind == EXPECT_LOGIN || kind == EXPECT_HELLO) {
            return true;
        }
    }
    return false;
}

/* The server would take the certificate of the proxy's own connection for the client's. */
static bool refuse_certificate_login(struct connection *connection,
                                     const struct wire_header *header, struct slice available,
                                     const struct command_view *view, struct dispatch *dispatch)
{
    if (!login_is_by_certificate(view)) {
        return false;
    }
    dispatch_own(connection, header, available, DISPATCH_ANSWER, dispatch);
    if (dispatch->kind == DISPATCH_ANSWER) {
        LOG(LOG_WARNING, "net", "Login refused: MONGODB-X509 cannot pass the proxy",
            LOG_TEXT("client", connection->client));
        dispatch_error(dispatch, REPLY_CODE_AuthenticationFailed,
                       "MONGODB-X509 cannot pass Holdfast: it ends the client's TLS, so that the "
                       "server never sees the client's certificate. Log in with SCRAM-SHA-256; "
                       "client certificates are checked by Holdfast itself (net.tls.CAFile)");
    }
    return true;
}

/* A hello that begins such a login goes on without it; the login itself is then refused. */
void dispatch_hello(struct connection *connection, const struct command_view *view,
                    struct dispatch *dispatch)
{
    static const char *const removed[] = {"speculativeAuthenticate", NULL};
    if (login_waits(connection, view, COMMAND_HELLO)) {
        dispatch->kind = DISPATCH_BLOCKED;
        return;
    }
    if (!dispatch_note_application(connection, view, dispatch)) {
        return;
    }
    dispatch->kind = DISPATCH_FORWARD;
    expect_identity(connection, view, COMMAND_HELLO, dispatch);
    if (login_hello_is_by_certificate(view)) {
        dispatch->kind = DISPATCH_REWRITE;
        if (command_copy_without(&dispatch->body, view->body, removed) != STATUS_OK) {
            refuse(dispatch, "a hello is not valid BSON");
        }
    }
}

void dispatch_login(struct connection *connection, const struct command_view *view,
                    struct dispatch *dispatch)
{
    if (login_waits(connection, view, COMMAND_LOGIN)) {
        dispatch->kind = DISPATCH_BLOCKED;
        return;
    }
    dispatch->kind = DISPATCH_FORWARD;
    expect_identity(connection, view, COMMAND_LOGIN, dispatch);
}

/* The first hello of most drivers. */
static void decide_query(struct connection *connection, const struct wire_header *header,
                         struct slice available, struct dispatch *dispatch)
{
    struct op_query query;
    if (available.size < header->length) {
        dispatch->kind = DISPATCH_MORE;
        return;
    }
    if (op_query_parse(available, &query) != STATUS_OK) {
        refuse(dispatch, "an OP_QUERY is not valid");
        return;
    }
    struct command_view view;
    if (command_view_parse(query.query, &view, NULL) != STATUS_OK ||
        command_classify(&view) != COMMAND_HELLO) {
        refuse(dispatch, "OP_QUERY is taken for hello only: use a driver that speaks OP_MSG");
        return;
    }
    dispatch->expects_reply = true;
    dispatch_hello(connection, &view, dispatch);
}

bool dispatch_is_any_write(enum command_class class)
{
    return class == COMMAND_WRITE || class == COMMAND_NAMESPACE_WRITE ||
           class == COMMAND_SERVER_WRITE;
}

/* Nothing is changed, nothing held back; only the report is told. */
static void decide_observed(struct connection *connection, const struct wire_header *header,
                            struct slice available, const struct command_view *view,
                            enum command_class class, struct dispatch *dispatch)
{
    dispatch->kind = DISPATCH_FORWARD;
    if (class == COMMAND_HELLO) {
        dispatch_hello(connection, view, dispatch);
    } else if (class == COMMAND_LOGIN) {
        dispatch_login(connection, view, dispatch);
    } else if (dispatch_is_any_write(class) && available.size < header->length) {
        dispatch->kind = DISPATCH_MORE;
    } else if (dispatch_is_any_write(class)) {
        dispatch_observe(connection, view, &dispatch->message, header->length);
    }
}

static void decide_any_write(struct connection *connection, const struct wire_header *header,
                             struct slice available, const struct command_view *view,
                             enum command_class class, struct dispatch *dispatch)
{
    if (connection->link.domain != NULL) {
        dispatch_own(connection, header, available, DISPATCH_FORWARD, dispatch);
        if (dispatch->kind != DISPATCH_FORWARD) {
            return;
        }
        if (dispatch_domain_write(connection, view, class, header->length, dispatch)) {
            connection_leave_gate(connection);
            return;
        }
    }
    decide_write(connection, header, available, view, class, dispatch);
    if (dispatch->kind == DISPATCH_OPERATION) {
        dispatch_own(connection, header, available, DISPATCH_OPERATION, dispatch);
    }
    if (dispatch->kind == DISPATCH_OPERATION || dispatch->kind == DISPATCH_FORWARD ||
        dispatch->kind == DISPATCH_REWRITE) {
        dispatch_observe(connection, view, &dispatch->message, header->length);
    }
}

/* Also by a comment that is not of its grammar: that is an error, and the boundary tells it. */
bool dispatch_names_a_unit(const struct command_view *view)
{
    struct comment comment;
    return view->has_comment && comment_parse(view, &comment, NULL) != STATUS_NOT_FOUND;
}

/* For the unit that the comment names. */
void dispatch_named(struct connection *connection, const struct wire_header *header,
                    struct slice available, const struct command_view *view,
                    enum command_class class, struct dispatch *dispatch)
{
    dispatch->boundary = DISPATCH_TO_COMMENT;
    dispatch_own(connection, header, available, DISPATCH_OPERATION, dispatch);
    if (dispatch->kind != DISPATCH_OPERATION) {
        return;
    }
    if (dispatch_is_any_write(class) && dispatch_domain_refuses(connection, view, dispatch)) {
        return;
    }
    if (class != COMMAND_UNIT && class != COMMAND_WRITE) {
        dispatch_error(dispatch, REPLY_CODE_OperationNotSupportedInTransaction,
                       "only writes of documents can be part of a unit");
    }
}

/*
 * Whether it has to wait while what writes is paused: it would begin something. What has begun goes
 * on. A write that is in its gate already is one of those. With the native engine only units in
 * comments and under `unit.multiWrites: strict` are the proxy's: all else is the server's, and goes
 * on in the other process.
 */
static bool waits_for_pause(struct connection *connection, const struct command_view *view,
                            enum command_class class)
{
    struct comment comment;
    struct traceparent found;
    struct unit_session_key key;
    struct domain *domain = connection->link.domain;
    if (atomic_load_explicit(&connection->shared->pause, memory_order_relaxed) == ROUTER_GOES_ON ||
        connection->gate_admitted) {
        return false;
    }
    const struct engine *engine = connection->shared->options.engine;
    bool native = engine->native != NULL;
    bool begins = !native || engine->multi_writes == ENGINE_MULTI_WRITES_STRICT;
    if (view->has_autocommit || view->has_start_transaction || class == COMMAND_TRANSACTION) {
        return view->has_start_transaction && !native;
    }
    if (class == COMMAND_UNIT || (dispatch_is_any_write(class) && dispatch_names_a_unit(view))) {
        return comment_parse(view, &comment, NULL) == STATUS_OK && comment.begin;
    }
    return begins && dispatch_is_any_write(class) &&
           (domain == NULL || !domain_find_call(domain, connection->link.service,
                                                dispatch_trace(view, &found), &key));
}

static void decide_command(struct connection *connection, const struct wire_header *header,
                           struct slice available, struct dispatch *dispatch)
{
    struct command_view view;
    struct error error = {0};
    if (command_view_parse(dispatch->message.body, &view, &error) != STATUS_OK) {
        dispatch_own(connection, header, available, DISPATCH_ANSWER, dispatch);
        if (dispatch->kind == DISPATCH_ANSWER) {
            dispatch_error(dispatch, REPLY_CODE_FailedToParse, error.message);
        }
        return;
    }
    enum command_class class = command_classify(&view);
    if (refuse_certificate_login(connection, header, available, &view, dispatch)) {
        return;
    }
    if (follow_is_on(connection)) {
        follow_note(&view, &dispatch->expected);
    }
    if (connection->shared->options.observe_only) {
        decide_observed(connection, header, available, &view, class, dispatch);
        return;
    }
    if (waits_for_pause(connection, &view, class)) {
        dispatch->kind = DISPATCH_BLOCKED;
        return;
    }
    if (connection->shared->options.engine->native != NULL) {
        dispatch_native(connection, header, available, &view, class, dispatch);
        return;
    }
    if (view.has_autocommit || view.has_start_transaction || class == COMMAND_TRANSACTION) {
        dispatch_note_session(connection, &view);
        dispatch_own(connection, header, available, DISPATCH_OPERATION, dispatch);
        if (dispatch->kind == DISPATCH_OPERATION && dispatch_is_any_write(class)) {
            (void)dispatch_domain_refuses(connection, &view, dispatch);
        }
        return;
    }
    if (class == COMMAND_UNIT || (dispatch_is_any_write(class) && dispatch_names_a_unit(&view))) {
        dispatch_named(connection, header, available, &view, class, dispatch);
        return;
    }
    if (dispatch_is_any_write(class)) {
        dispatch_note_session(connection, &view);
        decide_any_write(connection, header, available, &view, class, dispatch);
        return;
    }
    dispatch_note_session(connection, &view);
    dispatch->kind = DISPATCH_FORWARD;
    if (class == COMMAND_HELLO) {
        dispatch_hello(connection, &view, dispatch);
    } else if (class == COMMAND_LOGIN) {
        dispatch_login(connection, &view, dispatch);
    } else if (class == COMMAND_END_SESSIONS) {
        end_sessions(connection, &view);
    } else {
        dispatch_read(connection, header, available, &view, dispatch);
    }
}

void dispatch_decide(struct connection *connection, const struct wire_header *header,
                     struct slice available, struct dispatch *dispatch)
{
    dispatch->expected = (struct expected){.kind = EXPECT_PASS, .request_id = header->request_id};
    bool paused =
        atomic_load_explicit(&connection->shared->pause, memory_order_relaxed) == ROUTER_PAUSES &&
        !connection->gate_admitted;
    if (!expected_reserve(connection) || connection->read_watch.active || paused) {
        dispatch->kind = DISPATCH_BLOCKED;
        return;
    }
    if (header->opcode == WIRE_OPCODE_QUERY) {
        decide_query(connection, header, available, dispatch);
        return;
    }
    if (header->opcode != WIRE_OPCODE_MSG) {
        refuse(dispatch, "an opcode that no client sends here (compression is not negotiated)");
        return;
    }
    bool complete = available.size == header->length;
    enum status status =
        complete ? op_msg_parse(available, &dispatch->message)
                 : op_msg_parse_available(available, header->length, &complete, &dispatch->message);
    if (status != STATUS_OK) {
        refuse(dispatch, "an OP_MSG is not valid");
    } else if (!complete) {
        dispatch->kind = DISPATCH_MORE;
    } else {
        dispatch->expects_reply = (dispatch->message.flags & OP_MSG_MORE_TO_COME) == 0;
        decide_command(connection, header, available, dispatch);
    }
}
