/*
 * Reads outside units (read/read.h has what a read is, unit/uncommitted.h why there is no window).
 *
 *   nothing uncommitted there   forwarded as it is, and its bytes are kept; when the first bytes of
 *                               its reply are here the stamp is compared. The same, as nearly
 *                               always: the reply goes on as it comes. Another one: the reply is
 *                               dropped, and the read becomes an operation
 *   else                        an operation
 *   it is of a unit that is     an operation of that unit, which locks what it reads
 *   serializable
 *
 * So a read costs a few loads and a copy of its request where no unit writes; no lock and, once the
 * connection has room for the copy, no allocation. It never holds a unit up.
 *
 * A getMore cannot be done again. It has a turn until the first bytes of its reply are here, or is
 * an operation. After 3/4 of unit.lockWait it gives its turn up, so that units go on; if one of
 * them has published when the reply comes, its cursor is closed and it has failed.
 *
 * Only one such read is on its way at a time on a connection: the next message waits. No driver
 * sends one before.
 *
 * The connection's worker.
 */
#include <assert.h>

#include "boundary/request.h"
#include "read/read.h"
#include "route/dispatch_private.h"
#include "wire/bson_check.h"
#include "wire/reply.h"

/* Of the copy of a request; larger ones take memory of their own. */
#define KEPT_CAPACITY_MAX (16u * 1024u)

/* ------------------------------------------------------------------ when the reply is there */

bool dispatch_read_disturbed(const struct connection *connection)
{
    const struct uncommitted_table *table = connection->shared->options.engine->uncommitted;
    const struct read_watch *watch = &connection->read_watch;
    if (watch->has_turn) {
        return false;
    }
    return watch->by_name ? uncommitted_name_stamp(table, &watch->name) != watch->stamp
                          : read_stamp(table, &watch->command) != watch->stamp;
}

bool dispatch_read_wants_cursor(const struct connection *connection)
{
    const struct read_command *command = &connection->read_watch.command;
    return command->kind == READ_AGGREGATE && command->gate_count > 1;
}

void dispatch_read_take_cursor(struct connection *connection, int64_t cursor_id)
{
    read_note_cursor(connection->shared->options.engine, &connection->read_watch.command,
                     cursor_id);
}

static void leave_turn(struct connection *connection)
{
    struct read_watch *watch = &connection->read_watch;
    if (watch->has_turn) {
        watch->has_turn = false;
        (void)event_del(&connection->turn_timer);
        uncommitted_read_leave(connection->shared->options.engine->uncommitted,
                               watch->command.gates[0]);
    }
}

static void on_turn_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct connection *connection = context;
    (void)descriptor;
    (void)what;
    connection->read_watch.stamp = read_stamp(connection->shared->options.engine->uncommitted,
                                              &connection->read_watch.command);
    leave_turn(connection);
}

void dispatch_read_init(struct connection *connection)
{
    int assigned = event_assign(&connection->turn_timer, worker_base(connection->owner->worker), -1,
                                0, on_turn_timer, connection);
    assert(assigned == 0);
}

void dispatch_read_forget(struct connection *connection)
{
    leave_turn(connection);
    connection->read_watch.active = false;
    if (connection->read_bytes.capacity > KEPT_CAPACITY_MAX) {
        buffer_free(&connection->read_bytes);
    } else {
        buffer_clear(&connection->read_bytes);
    }
}

void dispatch_read_again(struct connection *connection, enum expected_kind kind,
                         int64_t stale_cursor)
{
    struct wire_header header;
    struct dispatch dispatch = {.boundary = DISPATCH_TO_READ};
    struct slice message = buffer_slice(&connection->read_bytes);
    if (wire_header_parse(message, &header) == STATUS_OK) {
        connection->request.stale_cursor = stale_cursor;
        connection->request.read_is_lost = kind == EXPECT_GET_MORE;
        operation_start(connection, &header, message, &dispatch);
    }
    dispatch_read_forget(connection);
}

/* ------------------------------------------------------------------ deciding */

/* False: out of memory. */
static bool keep(struct connection *connection, struct slice message)
{
    buffer_clear(&connection->read_bytes);
    return buffer_append(&connection->read_bytes, message.data, message.size) == STATUS_OK;
}

/* The name of the one document that it can find. */
static bool name_of(const struct read_command *command, struct lock_name *ret_name)
{
    char namespace[64 + 256];
    bson_t key;
    int size =
        snprintf(namespace, sizeof namespace, "%s.%s", command->database, command->collection);
    if (command->id.size == 0 || command->id.size > 1024 || size < 0 ||
        (size_t)size >= sizeof namespace || bson_check(command->filter, NULL) != STATUS_OK) {
        return false;
    }
    bson_init(&key);
    bool point = read_command_point_key(command, &key);
    if (point) {
        lock_name_of(namespace, slice_make(bson_get_data(&key), key.len), ret_name);
    }
    bson_destroy(&key);
    return point;
}

/* True: it may go by if its bytes are kept, and *ret_watch says what must still be so when its
 * reply is there. */
static bool may_go_by(const struct uncommitted_table *table, const struct read_command *command,
                      struct read_watch *ret_watch)
{
    struct read_watch watch = {.command = *command};
    watch.stamp = read_stamp(table, command);
    bool clear = read_is_clear(table, command);
    if (clear && watch.stamp == 0) {
        *ret_watch = watch; /* no unit has ever written there */
        return true;
    }
    if (command->gate_count == 1 && name_of(command, &watch.name)) {
        watch.by_name = true;
        watch.stamp = uncommitted_name_stamp(table, &watch.name);
        clear = uncommitted_name_is_free(table, &watch.name);
    }
    *ret_watch = watch;
    return clear;
}

static void decide_get_more(struct connection *connection, const struct read_command *command,
                            struct slice available, struct dispatch *dispatch)
{
    struct engine *engine = connection->shared->options.engine;
    uint64_t ms = read_turn_ms(engine);
    struct timeval timeout = {.tv_sec = (time_t)(ms / 1000),
                              .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    if ((dispatch->message.flags & OP_MSG_EXHAUST_ALLOWED) == 0 && command->gate_count == 1 &&
        keep(connection, available) &&
        uncommitted_read_enter(engine->uncommitted, command->gates[0])) {
        connection->read_watch =
            (struct read_watch){.active = true, .has_turn = true, .command = *command};
        (void)event_add(&connection->turn_timer, &timeout);
        dispatch->kind = DISPATCH_FORWARD;
        dispatch->expected.kind = EXPECT_GET_MORE;
    }
}

/* It would go past what is looked at here: a pipeline may be in it. No driver sends one. */
static void refuse_sequence(struct connection *connection, const struct wire_header *header,
                            struct slice available, struct dispatch *dispatch)
{
    dispatch_own(connection, header, available, DISPATCH_ANSWER, dispatch);
    if (dispatch->kind == DISPATCH_ANSWER) {
        dispatch_error(dispatch, REPLY_CODE_FailedToParse,
                       "a read takes no document sequence (OP_MSG section of kind 1)");
    }
}

/* ------------------------------------------------------------------ of serializable units */

static bool names_serializable_unit(const struct connection *connection,
                                    const struct command_view *view)
{
    struct comment comment;
    struct unit_session_key key;
    if (!view->has_comment || comment_parse(view, &comment, NULL) != STATUS_OK) {
        return false;
    }
    unit_session_key_of_name(connection->login.user, comment.unit, &key);
    return unit_table_is_serializable(connection->shared->options.engine->units, &key);
}

/* True: decided, or more of it has to come. */
static bool decide_in_unit(struct connection *connection, const struct wire_header *header,
                           struct slice available, const struct command_view *view,
                           struct dispatch *dispatch)
{
    struct domain *domain = connection->link.domain;
    bool serializable_calls = connection->shared->options.engine->serializable && domain != NULL;
    if ((!view->has_comment && !serializable_calls) || !dispatch->expects_reply ||
        !boundary_is_read(view)) {
        return false;
    }
    bool named = names_serializable_unit(connection, view);
    if (!named && !serializable_calls) {
        return false;
    }
    dispatch_own(connection, header, available, DISPATCH_OPERATION, dispatch);
    if (dispatch->kind != DISPATCH_OPERATION) {
        return true;
    }
    struct trace_id trace;
    if (dispatch->message.has_sequence) {
        refuse_sequence(connection, header, available, dispatch);
    } else if (named) {
        dispatch->boundary = DISPATCH_TO_COMMENT;
    } else if (domain_read_decide(domain, dispatch_trace(view, &trace), &dispatch->call)) {
        dispatch->boundary = DISPATCH_TO_CALL;
    } else {
        dispatch->kind = DISPATCH_FORWARD;
        return false;
    }
    return true;
}

void dispatch_read(struct connection *connection, const struct wire_header *header,
                   struct slice available, const struct command_view *view,
                   struct dispatch *dispatch)
{
    struct engine *engine = connection->shared->options.engine;
    struct read_command command;
    dispatch->kind = DISPATCH_FORWARD;
    if (decide_in_unit(connection, header, available, view, dispatch)) {
        return;
    }
    if (!engine->committed_reads || !dispatch->expects_reply ||
        read_command_parse(view, &command) != STATUS_OK) {
        return;
    }
    if (dispatch->message.has_sequence) {
        refuse_sequence(connection, header, available, dispatch);
        return;
    }
    if (command.passes) {
        return;
    }
    read_find_gates(engine, &command);
    dispatch->boundary = DISPATCH_TO_READ;
    dispatch_own(connection, header, available, DISPATCH_OPERATION, dispatch);
    if (dispatch->kind != DISPATCH_OPERATION) {
        return;
    }
    if (command.kind == READ_GET_MORE) {
        decide_get_more(connection, &command, available, dispatch);
    } else if ((dispatch->message.flags & OP_MSG_EXHAUST_ALLOWED) == 0 &&
               may_go_by(engine->uncommitted, &command, &connection->read_watch) &&
               keep(connection, available)) {
        connection->read_watch.active = true;
        dispatch->kind = DISPATCH_FORWARD;
        dispatch->expected.kind = EXPECT_READ;
    }
}
