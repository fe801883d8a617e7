/*
 * A connection's life; who may end it when is in connection.h.
 *
 * Nothing is freed from inside a handler: connection_continue() posts the end to the loop, so that
 * no caller on the stack finds its connection gone.
 */
#include "route/connection.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "holdfast/clock.h"
#include "holdfast/limits.h"
#include "holdfast/log.h"
#include "net/stream_tls.h"
#include "route/elsewhere.h"
#include "route/follow.h"

static void leave_gates(struct connection *connection)
{
    while (connection->expected_count > 0) {
        struct expected *expected = expected_first(connection);
        if (expected->kind == EXPECT_WRITE || expected->kind == EXPECT_SWALLOW) {
            expected_leave(connection, expected);
        } else if (expected->kind == EXPECT_GET_MORE) {
            dispatch_read_forget(connection);
        }
        expected_pop(connection);
    }
}

static bool writes_expected(const struct connection *connection)
{
    for (uint32_t i = 0; i < connection->expected_count; i++) {
        enum expected_kind kind = expected_get(connection, i)->kind;
        if (kind == EXPECT_WRITE || kind == EXPECT_SWALLOW) {
            return true;
        }
    }
    return false;
}

static void on_finish(struct worker_task *task)
{
    struct connection *connection =
        (struct connection *)(void *)((uint8_t *)task - offsetof(struct connection, finish_task));
    struct route_worker *owner = connection->owner;
    *(connection->previous == NULL ? &owner->first : &connection->previous->next) =
        connection->next;
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    stream_close(&connection->downstream);
    stream_close(&connection->upstream);
    buffer_free(&connection->incoming);
    buffer_free(&connection->reply_incoming);
    buffer_free(&connection->request_bytes);
    buffer_free(&connection->read_bytes);
    expected_free(connection);
    elsewhere_free(connection);
    route_shared_leave(connection->shared, &connection->address);
    free(connection);
}

static void finish_if_over(struct connection *connection)
{
    if (!connection->client_gone || !connection->server_gone || connection->active ||
        connection->gate_waiting || connection->name_wait != NULL || connection->lost_posted ||
        connection->finishing) {
        return;
    }
    connection->finishing = true;
    connection->finish_task.run = on_finish;
    worker_post(connection->owner->worker, &connection->finish_task);
}

void connection_end_server(struct connection *connection)
{
    if (connection->server_gone) {
        return;
    }
    connection->server_gone = true;
    follow_end(connection);
    stream_close(&connection->upstream);
    leave_gates(connection);
    if (connection->active) {
        operation_server_gone(connection);
    }
    if (!connection->active || !connection->request->outlives_server) {
        connection_end_client(connection);
    }
    finish_if_over(connection);
}

void connection_lose_server(struct connection *connection)
{
    if (!follow_is_on(connection) || !follow_lost(connection)) {
        connection_end_server(connection);
    }
}

void connection_leave_gate(struct connection *connection)
{
    if (connection->gate_admitted) {
        connection->gate_admitted = false;
        gate_plain_leave(connection->shared->options.engine->gates, connection->gate_waiter.gate,
                         worker_index(connection->owner->worker));
    }
}

static void cancel_gate_wait(struct connection *connection)
{
    struct gate_table *gates = connection->shared->options.engine->gates;
    if (connection->gate_waiting && gate_cancel(gates, &connection->gate_waiter)) {
        connection->gate_waiting = false;
    }
    connection_leave_gate(connection);
}

void connection_end_client(struct connection *connection)
{
    if (connection->client_gone) {
        return;
    }
    bool by_client = connection->downstream.ended || connection->downstream.peer_closed;
    connection->client_gone = true;
    stream_close(&connection->downstream);
    elsewhere_close(connection);
    domain_link_close(&connection->link, by_client);
    cancel_gate_wait(connection);
    if (connection->carried_unit) {
        unit_table_orphan(connection->shared->options.engine->units, connection->number,
                          connection->recent_sessions, clock_monotonic_ms());
    }
    if (connection->active) {
        boundary_cancel(connection->request);
    }
    connection_continue(connection);
}

/* With the client gone the server's side ends as soon as nothing depends on it. */
void connection_continue(struct connection *connection)
{
    if (connection->client_gone && !connection->server_gone && !connection->active &&
        (!writes_expected(connection) || connection->request_remaining > 0)) {
        connection_end_server(connection);
    }
    finish_if_over(connection);
    requests_read(connection);
}

void connection_refuse(struct connection *connection, const char *reason)
{
    LOG(LOG_WARNING, "net", "Connection closed: not the MongoDB wire protocol",
        LOG_CONNECTION(connection), LOG_TEXT("reason", reason));
    counter_add_alone(&connection->owner->counters.refused, 1);
    connection_end_client(connection);
}

void connection_send_client(struct connection *connection, struct slice bytes)
{
    counter_add_alone(&connection->owner->counters.client_bytes_out, bytes.size);
    if (!connection->client_gone && stream_send(&connection->downstream, bytes) != STATUS_OK) {
        connection_end_client(connection);
    }
}

void connection_send_server(struct connection *connection, struct slice bytes)
{
    counter_add_alone(&connection->owner->counters.server_bytes_out, bytes.size);
    if (!connection->server_gone && stream_send(&connection->upstream, bytes) != STATUS_OK) {
        connection_lose_server(connection);
    }
}

/* ------------------------------------------------------------------ events */

static void on_client_readable(void *context)
{
    struct connection *connection = context;
    /* Who asked for no answer may leave at once: that, and what was sent behind it, is done. */
    bool waiting = (connection->active && !connection->request_unanswered) ||
                   connection->gate_waiting || connection->away || connection->elsewhere_busy;
    if ((waiting && connection->downstream.peer_closed) || connection->downstream.ended) {
        /* Nothing is read meanwhile, nor while it takes none of what is kept for it: its end would
           show only later, or never. */
        connection_end_client(connection);
        return;
    }
    requests_read(connection);
}

static void on_client_drained(void *context)
{
    replies_read(context);
    elsewhere_read(context);
    requests_read(context);
}

static void on_server_readable(void *context)
{
    replies_read(context);
}

static void on_server_drained(void *context)
{
    requests_read(context);
}

static void tell_local_address(struct connection *connection)
{
    struct sockaddr_storage local;
    socklen_t size = sizeof local;
    if (getsockname(connection->upstream.descriptor, (struct sockaddr *)&local, &size) == 0) {
        network_address_text((struct sockaddr *)&local, size, connection->local_address);
    }
}

static void on_server_connected(void *context, enum status status)
{
    struct connection *connection = context;
    if (status != STATUS_OK && follow_is_on(connection)) {
        follow_failed(connection);
        return;
    }
    if (status != STATUS_OK) {
        LOG(LOG_ERROR, "net", "Cannot connect to the server",
            LOG_TEXT("upstream", connection->shared->options.upstream_name),
            LOG_CONNECTION(connection),
            LOG_TEXT("reason", stream_tls_failure(&connection->upstream)));
        connection_end_server(connection);
        return;
    }
    tell_local_address(connection);
    process_check_start(connection);
}

static void connect_server(struct connection *connection);

/* The client's TLS handshake has ended. Only now it gets a connection to the server. */
static void on_client_connected(void *context, enum status status)
{
    struct connection *connection = context;
    if (status != STATUS_OK) {
        LOG(LOG_WARNING, "net", "Connection closed: no TLS with the client",
            LOG_TEXT("client", connection->client),
            LOG_TEXT("reason", stream_tls_failure(&connection->downstream)));
        connection_end_client(connection);
        return;
    }
    connect_server(connection);
}

static const struct stream_callbacks downstream_callbacks = {
    .connected = on_client_connected,
    .readable = on_client_readable,
    .drained = on_client_drained,
};

static const struct stream_callbacks upstream_callbacks = {
    .connected = on_server_connected,
    .readable = on_server_readable,
    .drained = on_server_drained,
};

const struct stream_callbacks *connection_upstream_callbacks(void)
{
    return &upstream_callbacks;
}

static void link_connection(struct connection *connection, struct route_worker *owner)
{
    connection->next = owner->first;
    if (owner->first != NULL) {
        owner->first->previous = connection;
    }
    owner->first = connection;
}

static bool settle_link(struct domain_link *link, bool readable)
{
    struct connection *connection =
        (struct connection *)(void *)((uint8_t *)link - offsetof(struct connection, link));
    if (readable) {
        connection->downstream.readable = true; /* its edge may not have been seen yet */
        requests_read(connection);
    }
    /* What `downstream` believes may be old: an edge of what was read here before. */
    return !connection->client_gone &&
           (connection->incoming.size > 0 || (readable && connection->downstream.readable));
}

static enum domain_lent lend_link(struct domain_link *link, const char *user,
                                  struct engine_channel **ret_channel)
{
    struct connection *connection =
        (struct connection *)(void *)((uint8_t *)link - offsetof(struct connection, link));
    if (connection->client_gone || connection->server_gone || !connection->connected ||
        connection->away || strcmp(connection->login.user, user) != 0) {
        return DOMAIN_LENT_NEVER;
    }
    if (connection->active || connection->expected_count > 0 || connection->reply_remaining > 0 ||
        connection->request_remaining > 0 || connection->gate_waiting ||
        connection->name_wait != NULL || connection->lost_posted || !operation_lend(connection)) {
        return DOMAIN_LENT_BUSY;
    }
    *ret_channel = &connection->channel;
    return DOMAIN_LENT;
}

static void take_back_link(struct domain_link *link)
{
    operation_take_back(
        (struct connection *)(void *)((uint8_t *)link - offsetof(struct connection, link)));
}

bool connection_link(struct connection *connection, struct domain *domain, size_t service)
{
    if (connection->client_gone) {
        return true;
    }
    if (connection->link.domain == NULL) {
        connection->link = (struct domain_link){
            .worker = connection->owner->worker,
            .descriptor = connection->downstream.descriptor,
            .settle = settle_link,
            .lend = lend_link,
            .take_back = take_back_link,
        };
        domain_link_open(domain, service, &connection->link);
        /* In front of a replica set its driver has had sessions and retries before. */
        if (connection->shared->options.engine->native == NULL) {
            connection->persona = HELLO_STANDALONE;
        }
    }
    return connection->link.domain == domain && connection->link.service == service;
}

/* By its listener, or on one that is no service's by the address that it comes from. */
static void link_accepted(struct connection *connection, const struct route_listener *listener,
                          const struct sockaddr *peer)
{
    const struct router_options *options = &connection->shared->options;
    struct ip_address address;
    if (options->observe_only) {
        connection->persona = HELLO_STANDALONE;
    }
    if (listener->options.domain != NULL) {
        (void)connection_link(connection, listener->options.domain, listener->options.service);
        return;
    }
    if (!ip_address_of(peer, &address)) {
        return;
    }
    for (size_t i = 0; i < options->rule_count; i++) {
        const struct router_rule *rule = &options->rules[i];
        if (rule->by_address && ip_address_equal(&rule->address, &address)) {
            (void)connection_link(connection, rule->domain, rule->service);
        }
    }
}

static void connect_server(struct connection *connection)
{
    const struct router_options *options = &connection->shared->options;
    if (follow_is_on(connection)) {
        follow_dial(connection);
        return;
    }
    enum status status = options->upstream_tls == NULL
                             ? STATUS_OK
                             : stream_use_tls(&connection->upstream, options->upstream_tls, false);
    if (status == STATUS_OK) {
        status = stream_connect(&connection->upstream, connection->owner->worker,
                                (const struct sockaddr *)&options->upstream.storage,
                                options->upstream.size, &upstream_callbacks, connection);
    }
    if (status != STATUS_OK) {
        LOG(LOG_ERROR, "net", "Cannot connect to the server",
            LOG_TEXT("upstream", options->upstream_name), LOG_CONNECTION(connection));
        connection_end_server(connection);
    }
}

void connection_close_upstream(struct connection *connection)
{
    stream_close(&connection->upstream);
    stream_init(&connection->upstream);
    connection->upstream.transport = &stream_transport_permitted;
    connection->upstream.gathers = true;
    buffer_free(&connection->reply_incoming);
    connection->connected = false;
    connection->checking = false;
    connection->has_process = false;
}

bool connection_come_again(struct connection *connection)
{
    if (connection->client_gone || connection->owner->stopping || connection->finishing ||
        connection->login.user[0] != '\0' || connection->login.pending[0] != '\0') {
        return false;
    }
    connection->server_gone = false;
    connection_close_upstream(connection);
    connect_server(connection);
    return !connection->server_gone;
}

/* NULL: out of memory. */
static struct connection *make(struct route_worker *owner, const struct sockaddr *peer,
                               socklen_t peer_size, const struct address_key *address)
{
    struct route_shared *shared = owner->shared;
    struct connection *connection =
        memory_new_aligned(1, sizeof *connection, _Alignof(struct connection));
    if (connection == NULL) {
        LOG(LOG_ERROR, "net", "Out of memory for a connection");
        route_shared_leave(shared, address);
        return NULL;
    }
    connection->shared = shared;
    connection->owner = owner;
    counter_add_alone(&owner->counters.accepted, 1);
    connection->address = *address;
    connection->number = atomic_fetch_add(&shared->next_number, 1) + 1;
    network_address_text(peer, peer_size, connection->client);
    stream_init(&connection->downstream);
    connection->downstream.gathers = true;
    stream_init(&connection->upstream);
    connection->upstream.transport = &stream_transport_permitted;
    connection->upstream.gathers = true;
    buffer_init(&connection->incoming, LIMIT_MESSAGE_BYTES_MAX + LIMIT_RECEIVE_BUFFER_BYTES);
    buffer_init(&connection->reply_incoming, LIMIT_MESSAGE_BYTES_MAX + LIMIT_RECEIVE_BUFFER_BYTES);
    buffer_init(&connection->request_bytes, LIMIT_MESSAGE_BYTES_MAX);
    buffer_init(&connection->read_bytes, LIMIT_MESSAGE_BYTES_MAX);
    expected_init(connection);
    operation_init(connection);
    dispatch_read_init(connection);
    link_connection(connection, owner);
    return connection;
}

void connection_accept(struct route_worker *owner, const struct route_listener *listener,
                       int descriptor, const struct sockaddr *peer, socklen_t peer_size,
                       const struct address_key *address)
{
    struct connection *connection = make(owner, peer, peer_size, address);
    if (connection == NULL) {
        (void)close(descriptor);
        return;
    }
    connection->listener = listener;
    struct tls *tls = listener->options.tls;
    if (tls != NULL && stream_use_tls(&connection->downstream, tls,
                                      listener->options.plain_allowed) != STATUS_OK) {
        LOG(LOG_ERROR, "net", "Out of memory for a connection");
        (void)close(descriptor);
        connection_end_client(connection);
        return;
    }
    if (stream_open(&connection->downstream, owner->worker, descriptor, &downstream_callbacks,
                    connection) != STATUS_OK) {
        connection->client_gone = true;
    }
    link_accepted(connection, listener, peer);
    if (tls == NULL || connection->client_gone) {
        connect_server(connection);
    } /* else after the handshake */
}

/* ------------------------------------------------------------------ from process to process */

void connection_adopt(struct route_worker *owner, struct parcel *parcel)
{
    struct server_process *process = owner->shared->options.process;
    const uint8_t *id = parcel->has_process ? parcel->process : NULL;
    struct connection *connection =
        make(owner, (struct sockaddr *)&parcel->peer, parcel->peer_size, &parcel->address);
    if (connection == NULL) {
        (void)close(parcel->client);
        if (parcel->server >= 0) {
            (void)close(parcel->server);
        }
        buffer_free(&parcel->incoming);
        return;
    }
    connection->listener = parcel->listener;
    connection->login = parcel->login;
    memcpy(connection->application, parcel->application, sizeof connection->application);
    connection->application_known = parcel->application_known;
    connection->received = parcel->heard ? 1 : 0;
    connection->has_process = parcel->has_process;
    memcpy(connection->process, parcel->process, sizeof connection->process);
    memcpy(connection->recent_sessions, parcel->recent_sessions,
           sizeof connection->recent_sessions);
    bool whole = true;
    for (uint32_t i = 0; i < parcel->expected_count; i++) {
        whole = whole && expected_push(connection, parcel->expected[i]);
    }
    buffer_free(&connection->incoming);
    connection->incoming = parcel->incoming; /* the memory is the connection's now */
    if (stream_open(&connection->downstream, owner->worker, parcel->client, &downstream_callbacks,
                    connection) != STATUS_OK) {
        connection->client_gone = true;
    }
    connection->away = parcel->server < 0;
    if (!connection->away && stream_open(&connection->upstream, owner->worker, parcel->server,
                                         &upstream_callbacks, connection) != STATUS_OK) {
        connection->server_gone = true;
    }
    link_accepted(connection, parcel->listener, (struct sockaddr *)&parcel->peer);
    whole = connection_link_application(connection) && whole;
    bool fits =
        whole && (follow_is_on(connection)
                      ? follow_adopt(connection)
                      : !connection->away && (process == NULL || server_process_is(process, id)));
    connection->connected = fits && !connection->away;
    if (connection->connected) {
        tell_local_address(connection);
    }
    if (!fits || connection->client_gone || connection->server_gone) {
        connection_end_server(connection);
        connection_end_client(connection);
        return;
    }
    /* What the kernel has for us is an edge that comes by itself. */
    requests_read(connection);
}

void connection_let_go(struct connection *connection)
{
    connection->expected_count = 0; /* the other process waits for these */
    follow_end(connection);
    elsewhere_close(connection);
    domain_link_close(&connection->link, false);
    connection->client_gone = true;
    connection->server_gone = true;
    stream_close(&connection->downstream);
    stream_close(&connection->upstream);
    finish_if_over(connection);
}
