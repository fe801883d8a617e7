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
#include <stdlib.h>
#include <string.h>

#include "boundary/request.h"
#include "read/read.h"
#include "route/dispatch_private.h"
#include "wire/bson_check.h"
#include "wire/reply.h"

/* Of the copy of a request; larger ones take memory of their own. */
#define KEPT_CAPACITY_MAX (16u * 1024u)
/* Questions of one read; then it becomes an operation, which is unsure of its names. */
#define NAMES_ASKED_MAX 64u

/* ------------------------------------------------------------------ when the reply is there */

bool dispatch_read_disturbed(const struct connection *connection)
{
    const struct engine *engine = connection->shared->options.engine;
    const struct read_watch *watch = &connection->read_watch;
    if (watch->has_turn) {
        return false;
    }
    if (watch->command.kind != READ_GET_MORE && !read_is_resolved_still(engine, &watch->command)) {
        return true;
    }
    return watch->by_name
               ? uncommitted_name_stamp(engine->uncommitted, &watch->name) != watch->stamp
               : read_stamp(engine, &watch->command) != watch->stamp;
}

bool dispatch_read_shows_nothing(const struct connection *connection, const struct reply_view *view)
{
    return connection->read_watch.command.awaits && view->has_cursor && view->batch.size <= 5;
}

bool dispatch_read_wants_cursor(const struct connection *connection)
{
    return read_wants_cursor(&connection->read_watch.command);
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
    connection->read_watch.stamp =
        read_stamp(connection->shared->options.engine, &connection->read_watch.command);
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
    struct dispatch dispatch = {.boundary = DISPATCH_TO_READ,
                                .stale_cursor = stale_cursor,
                                .read_is_lost = kind == EXPECT_GET_MORE};
    struct slice message = buffer_slice(&connection->read_bytes);
    if (wire_header_parse(message, &header) == STATUS_OK) {
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
    bson_t key;
    if (command->id.size == 0 || command->id.size > 1024 ||
        bson_check(command->filter, NULL) != STATUS_OK) {
        return false;
    }
    bson_init(&key);
    bool point = read_command_point_key(command, &key);
    if (point) {
        lock_name_in(command->database, command->collection,
                     slice_make(bson_get_data(&key), key.len), ret_name);
    }
    bson_destroy(&key);
    return point;
}

/* A question what a name is. The message waits, and is decided again when it is answered. */
struct name_wait {
    struct connection *connection;
    struct namespace_lookup lookup;
    struct worker_task task;
    char *database;
    char *collection;
};

static void name_wait_free(struct name_wait *wait)
{
    free(wait->database);
    free(wait->collection);
    free(wait);
}

static void on_name_task(struct worker_task *task)
{
    struct name_wait *wait =
        (struct name_wait *)(void *)((uint8_t *)task - offsetof(struct name_wait, task));
    struct connection *connection = wait->connection;
    if (wait->lookup.known == NAMESPACE_KNOWN_NOTHING) {
        connection->names_asked = NAMES_ASKED_MAX; /* the server cannot be asked */
    }
    (void)view_definition_release(wait->lookup.view);
    name_wait_free(wait);
    connection->name_wait = NULL;
    connection_continue(connection);
}

static void on_name_known(struct namespace_lookup *lookup)
{
    struct name_wait *wait =
        (struct name_wait *)(void *)((uint8_t *)lookup - offsetof(struct name_wait, lookup));
    worker_post(wait->connection->owner->worker, &wait->task);
}

/* False: out of memory. */
static bool ask_for(struct connection *connection, const char *database, const char *collection)
{
    struct name_wait *wait = calloc(1, sizeof *wait);
    if (wait == NULL) {
        return false;
    }
    wait->database = strdup(database);
    wait->collection = strdup(collection);
    if (wait->database == NULL || wait->collection == NULL) {
        name_wait_free(wait);
        return false;
    }
    wait->connection = connection;
    wait->task.run = on_name_task;
    wait->lookup = (struct namespace_lookup){
        .database = wait->database, .collection = wait->collection, .answered = on_name_known};
    connection->name_wait = wait;
    connection->names_asked++;
    namespace_cache_ask(connection->shared->options.engine->namespaces, &wait->lookup);
    return true;
}

/* Whether all its names are known for what they are; if not, one may have been asked for. */
static bool is_resolved(struct connection *connection, struct read_command *command)
{
    const struct engine *engine = connection->shared->options.engine;
    struct read_views views = {0};
    const char *ask = NULL;
    if (read_resolve_plain(engine->namespaces, command)) {
        connection->names_asked = 0;
        return true;
    }
    bool can_ask = connection->names_asked < NAMES_ASKED_MAX;
    bool resolved = read_resolve(engine->namespaces, can_ask, command, &views, &ask);
    if (resolved) {
        connection->names_asked = 0;
    } else {
        (void)ask_for(connection, command->database, ask);
    }
    read_views_release(&views);
    return resolved;
}

/* True: it may go by if its bytes are kept, and *watch says what must still be so when its reply is
   there. */
static bool may_go_by(struct connection *connection, struct read_command *command,
                      struct read_watch *watch)
{
    const struct engine *engine = connection->shared->options.engine;
    const struct uncommitted_table *table = engine->uncommitted;
    if (!is_resolved(connection, command)) {
        return false;
    }
    *watch = (struct read_watch){.command = *command, .stamp = read_stamp(engine, command)};
    bool clear = read_is_clear(table, command);
    if (clear && watch->stamp == 0) {
        return true; /* no unit has ever written there */
    }
    if (command->gate_count == 1 && name_of(command, &watch->name)) {
        watch->by_name = true;
        watch->stamp = uncommitted_name_stamp(table, &watch->name);
        clear = uncommitted_name_is_free(table, &watch->name);
    }
    return clear;
}

/* A cursor that waits for new documents may do so as long as it likes where no unit has ever
   written; else it is an operation. */
static void decide_await(struct connection *connection, const struct read_command *command,
                         struct slice available, struct dispatch *dispatch)
{
    const struct engine *engine = connection->shared->options.engine;
    uint64_t stamp = read_stamp(engine, command);
    if (stamp == 0 && read_is_clear(engine->uncommitted, command) && keep(connection, available)) {
        connection->read_watch =
            (struct read_watch){.active = true, .stamp = stamp, .command = *command};
        dispatch->kind = DISPATCH_FORWARD;
        dispatch->expected.kind = EXPECT_GET_MORE;
    }
}

static void decide_get_more(struct connection *connection, const struct read_command *command,
                            struct slice available, struct dispatch *dispatch)
{
    struct engine *engine = connection->shared->options.engine;
    if ((dispatch->message.flags & OP_MSG_EXHAUST_ALLOWED) != 0) {
        return;
    }
    if (command->awaits) {
        decide_await(connection, command, available, dispatch);
    } else if (command->gate_count == 1 && keep(connection, available) &&
               uncommitted_read_enter(engine->uncommitted, command->gates[0])) {
        connection->read_watch =
            (struct read_watch){.active = true, .has_turn = true, .command = *command};
        worker_timer_start(&connection->turn_timer, read_turn_ms(engine));
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

static bool is_of_unit(const struct connection *connection, const struct command_view *view)
{
    return view->read_concern_level != NULL && strcmp(view->read_concern_level, "snapshot") == 0 &&
           (connection->link.domain != NULL || view->has_comment);
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
        !read_command_is_known(view->name)) {
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
    struct traceparent traceparent;
    if (dispatch->message.has_sequence) {
        refuse_sequence(connection, header, available, dispatch);
    } else if (named) {
        dispatch->boundary = DISPATCH_TO_COMMENT;
    } else if (domain_read_decide(domain, connection->link.service,
                                  dispatch_trace(view, &traceparent), &dispatch->call)) {
        dispatch->boundary = DISPATCH_TO_CALL;
        dispatch->part = CALL_PART_READ;
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
    bool opens = command.kind == READ_FIND || command.kind == READ_AGGREGATE;
    if (command.passes) {
        dispatch->expected.kind = opens ? EXPECT_CURSOR : dispatch->expected.kind;
        return;
    }
    if (cursor_set_has(&engine->loose_cursors, command.cursor_id)) {
        return;
    }
    read_find_gates(engine, &command);
    dispatch->boundary = DISPATCH_TO_READ;
    dispatch_own(connection, header, available, DISPATCH_OPERATION, dispatch);
    if (dispatch->kind != DISPATCH_OPERATION) {
        return;
    }
    if (is_of_unit(connection, view)) {
        return; /* with that unit's snapshot */
    }
    if (command.kind == READ_GET_MORE) {
        decide_get_more(connection, &command, available, dispatch);
    } else if ((dispatch->message.flags & OP_MSG_EXHAUST_ALLOWED) == 0 &&
               may_go_by(connection, &command, &connection->read_watch) &&
               keep(connection, available)) {
        connection->read_watch.active = true;
        dispatch->kind = DISPATCH_FORWARD;
        dispatch->expected.kind = EXPECT_READ;
    }
    if (connection->name_wait != NULL) {
        dispatch->kind = DISPATCH_BLOCKED;
    }
}
