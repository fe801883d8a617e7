/*
 * Connections of the simulated server.
 *
 * One command at a time of each connection, in order; between its arrival and its being carried out
 * passes some time, and so it may be carried out when who sent it is long gone. A connection is
 * shown until its peer's end was read behind all that it had sent.
 */
#include "server.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "database.h"
#include "holdfast/slice.h"
#include "model.h"
#include "network.h"

#define SESSIONS_MAX 128
#define OWN_MAX 64
#define MESSAGE_HEAD 21u /* header, flags, kind */
#define OWN_PORT_FIRST 50000u

struct session {
    struct end *end;
    uint32_t generation;
    bool executing;
};

/* A connection of the proxy's own. */
struct own {
    unsigned number; /* 0: there is none */
    bool usable;     /* for the proxy */
    bool active;
    uint64_t last_us; /* when its last request is carried out */
};

static struct session sessions[SESSIONS_MAX];
static struct own own[OWN_MAX];
static struct own_request requests = {.next = &requests, .previous = &requests};
static unsigned own_used;
static bool up;
static uint8_t process_id[12];
static uint64_t starts;

bool server_is_up(void)
{
    return up;
}

bool server_accepts(void)
{
    return up;
}

const uint8_t *server_process_id(void)
{
    return process_id;
}

/* ------------------------------------------------------------------ clients' connections */

void server_connected(struct end *end)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i].end == NULL) {
            sessions[i] = (struct session){.end = end, .generation = end->generation};
            end->session = &sessions[i];
            return;
        }
    }
    assert(!"too many connections to the server");
}

static void session_close(struct session *session)
{
    if (session->end->used && session->end->generation == session->generation) {
        network_close(session->end, false);
    }
    *session = (struct session){.end = NULL};
}

static bool whole_message(const struct end *end, uint32_t *ret_size)
{
    if (end->incoming.size < 4) {
        return false;
    }
    *ret_size = slice_load_u32le(end->incoming.data);
    return end->incoming.size >= *ret_size;
}

static void reply_to(struct end *end, uint32_t request_id, const bson_t *reply, uint64_t tag)
{
    uint8_t head[MESSAGE_HEAD] = {0};
    struct bytes message = {0};
    slice_store_u32le(head, MESSAGE_HEAD + reply->len);
    slice_store_u32le(head + 8, request_id);
    slice_store_u32le(head + 12, 2013);
    bytes_append(&message, head, sizeof head);
    bytes_append(&message, bson_get_data(reply), reply->len);
    network_send(end, message.data, message.size, tag);
    bytes_free(&message);
}

static void carry_out(struct end *end, uint32_t size)
{
    bson_t command;
    bson_t reply = BSON_INITIALIZER;
    bson_iter_t at;
    char address[32];
    uint32_t request_id = slice_load_u32le(end->incoming.data + 4);
    bool valid = end->incoming.data[20] == 0 &&
                 bson_init_static(&command, end->incoming.data + MESSAGE_HEAD, size - MESSAGE_HEAD);
    assert(valid && bson_iter_init_find(&at, &command, "$db"));
    (void)valid;
    network_address(end, address, sizeof address);
    struct command_context context = {.database = bson_iter_utf8(&at, NULL),
                                      .command = &command,
                                      .tag = end->tag,
                                      .client = address};
    if (network_is_alone(end)) {
        model_is_late(end->tag);
    }
    commands_run(&context, &reply);
    reply_to(end, request_id, &reply, end->tag);
    bson_destroy(&reply);
    bytes_consume(&end->incoming, size);
}

static void execute(void *object, uint64_t generation)
{
    struct session *session = object;
    uint32_t size = 0;
    if (session->end == NULL || session->generation != generation) {
        return;
    }
    session->executing = false;
    if (whole_message(session->end, &size)) {
        carry_out(session->end, size);
    }
    server_arrived(session->end);
}

void server_arrived(struct end *end)
{
    struct session *session = end->session;
    uint32_t size = 0;
    if (session == NULL || session->end != end || session->executing) {
        return;
    }
    if (end->reset && random_chance(1, 2)) {
        session_close(session);
    } else if (whole_message(end, &size)) {
        session->executing = true;
        schedule_after(faults_latency(), execute, session, session->generation);
    } else if (end->ended) {
        session_close(session);
    }
}

/* ------------------------------------------------------------------ the proxy's own */

/* NULL: it is gone. */
static struct own *own_of(unsigned connection)
{
    struct own *at = connection == 0 ? NULL : &own[(connection - 1) % OWN_MAX];
    return at != NULL && at->number == connection ? at : NULL;
}

unsigned server_own_connect(void)
{
    for (unsigned i = 0; i < OWN_MAX && up; i++) {
        if (own[i].number == 0) {
            own_used += OWN_MAX;
            own[i] = (struct own){.number = own_used + i + 1, .usable = true};
            return own[i].number;
        }
    }
    assert(!up);
    return 0;
}

static void own_close(void *object, uint64_t connection)
{
    struct own *at = own_of((unsigned)connection);
    (void)object;
    if (at != NULL) {
        *at = (struct own){.number = 0};
    }
}

void server_own_close(unsigned connection)
{
    struct own *at = own_of(connection);
    at->usable = false;
    schedule_at((at->last_us > sim.now_us ? at->last_us : sim.now_us) + faults_latency(), own_close,
                NULL, connection);
}

bool server_own_is_open(unsigned connection)
{
    const struct own *at = own_of(connection);
    return at != NULL && at->usable;
}

static void own_address(unsigned connection, char address[32])
{
    (void)snprintf(address, 32, "127.0.0.1:%u", OWN_PORT_FIRST + connection % 10000);
}

static void request_free(struct own_request *request)
{
    request->previous->next = request->next;
    request->next->previous = request->previous;
    bytes_free(&request->command);
    bytes_free(&request->reply);
    sim_free(request);
}

static void release(struct own_request *request)
{
    if (--request->holders == 0) {
        request_free(request);
    }
}

static void answered(void *object, uint64_t broken)
{
    struct own_request *request = object;
    request->done = true;
    request->broken = broken != 0;
    fiber_wake_all(request);
    release(request);
}

static void own_execute(void *object, uint64_t number)
{
    struct own_request *request = object;
    struct own *at = own_of(request->connection);
    bson_t command;
    bson_t reply = BSON_INITIALIZER;
    (void)number;
    if (up && at != NULL) { /* a server that has ended in between never gets it */
        char address[32];
        own_address(request->connection, address);
        at->active = false;
        (void)bson_init_static(&command, request->command.data, request->command.size);
        struct command_context context = {
            .database = request->database, .command = &command, .client = address};
        commands_run(&context, &reply);
        bytes_append(&request->reply, bson_get_data(&reply), reply.len);
    }
    if (!request->breaks) {
        request->holders++;
        schedule_after(faults_latency(), answered, request, request->reply.size == 0 ? 1 : 0);
    }
    bson_destroy(&reply);
    release(request);
}

static void request_send(struct own_request *request)
{
    struct own *at = own_of(request->connection);
    if (!at->usable) {
        request->breaks = true; /* it broke while we slept */
    }
    uint64_t at_us = sim.now_us + faults_latency();
    if (!request->breaks || random_chance(1, 2)) {
        at->active = true;
        at->last_us = at_us;
        request->holders++;
        schedule_at(at_us, own_execute, request, 0);
    }
    if (request->breaks) {
        sim.breaks++;
        sim_note("the proxy's own connection %u breaks", request->connection);
        server_own_close(request->connection);
        request->holders++;
        schedule_after(faults_latency(), answered, request, 1);
    }
}

struct own_request *server_own_run(unsigned connection, const char *database, const bson_t *command)
{
    struct own_request *request = sim_malloc(sizeof *request);
    request->connection = connection;
    request->holders = 1;
    request->waiter_lives = true;
    request->breaks = !sim.faults_over && random_chance(sim.profile.cuts, 1000);
    (void)snprintf(request->database, sizeof request->database, "%s", database);
    bytes_append(&request->command, bson_get_data(command), command->len);
    request->next = &requests;
    request->previous = requests.previous;
    requests.previous->next = request;
    requests.previous = request;
    if (server_own_is_open(connection)) {
        request_send(request);
    } else {
        request->done = true;
        request->broken = true;
    }
    while (!request->done) {
        (void)fiber_wait(request, UINT64_MAX);
    }
    return request;
}

void server_own_end(struct own_request *request)
{
    request->waiter_lives = false;
    release(request);
}

void server_forget_own(void)
{
    /* Who waited has died; each of its connections had one request at most. */
    struct own_request *next;
    for (struct own_request *at = requests.next; at != &requests; at = next) {
        next = at->next;
        if (at->waiter_lives) {
            at->waiter_lives = false;
            release(at);
        }
    }
    for (unsigned i = 0; i < OWN_MAX; i++) {
        if (own[i].number != 0 && own[i].usable) {
            server_own_close(own[i].number);
        }
    }
}

bool server_connection(size_t index, char address[32], bool *ret_active)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i].end != NULL && index-- == 0) {
            network_address(sessions[i].end, address, 32);
            *ret_active = sessions[i].executing;
            return true;
        }
    }
    for (unsigned i = 0; i < OWN_MAX; i++) {
        if (own[i].number != 0 && index-- == 0) {
            own_address(own[i].number, address);
            *ret_active = own[i].active;
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ its life */

void server_start(void *object, uint64_t number)
{
    (void)object;
    (void)number;
    if (up) {
        return;
    }
    up = true;
    memset(process_id, 0, sizeof process_id);
    slice_store_u64be(process_id, ++starts);
    sim_note("the server is up");
}

void server_crash(bool loses)
{
    sim_note("the server ends");
    up = false;
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        sessions[i].end = NULL;
    }
    network_close_all(END_SERVER);
    for (unsigned i = 0; i < OWN_MAX; i++) {
        own[i] = (struct own){.number = 0};
    }
    if (loses) {
        database_crash();
    }
}

void server_reset(void)
{
    while (requests.next != &requests) {
        request_free(requests.next);
    }
    memset(sessions, 0, sizeof sessions);
    memset(own, 0, sizeof own);
    own_used = 0;
    up = false;
    starts = 0;
}
