/*
 * The simulated services, each a fiber with a small driver: transactions, plain writes, plain
 * writes that are sent again until they are answered, reads; and strangers, who write at the
 * server.
 *
 * As drivers do: a transaction that fails is run again as a new one; a commit without an answer is
 * asked again on a new connection; a retryable write is sent again under the same number.
 */
#include "clients.h"

#include <assert.h>
#include <bson/bson.h>
#include <stdio.h>
#include <string.h>

#include "database.h"
#include "holdfast/slice.h"
#include "model.h"
#include "network.h"
#include "server.h"

#define CLIENTS_MAX 8
#define MESSAGE_HEAD 21u
#define KEYS MODEL_IDS
#define KEYS_AT_START 5
#define ANSWER_MAX_US ((uint64_t)120 * 1000 * 1000)
/* Three times unit.lifetime (process.c). */
#define LAST_WRITE_MAX_US ((uint64_t)15 * 1000 * 1000)

struct client {
    unsigned number;
    uint8_t session[16];
    int64_t transaction_number;
    struct end *end;
    uint32_t request_id;
    bool done;
};

enum answer {
    ANSWERED,
    BROKEN,
};

static struct client clients[CLIENTS_MAX];
static size_t client_count;

/* ------------------------------------------------------------------ connection */

static void disconnect(struct client *client)
{
    if (client->end != NULL) {
        network_close(client->end, random_chance(1, 4));
        client->end = NULL;
    }
}

static void connect_to_proxy(struct client *client)
{
    uint64_t until_us = sim.now_us + ANSWER_MAX_US;
    while (client->end == NULL) {
        client->end = process_is_serving() ? network_connect() : NULL;
        if (client->end == NULL) {
            fiber_sleep(1000 + random_below(30000));
        }
        if (sim.now_us > until_us) {
            sim_fail("client %u cannot connect", client->number);
        }
    }
}

static void send_command(struct client *client, const bson_t *command, uint64_t tag)
{
    uint8_t head[MESSAGE_HEAD] = {0};
    struct bytes message = {0};
    slice_store_u32le(head, MESSAGE_HEAD + command->len);
    slice_store_u32le(head + 4, ++client->request_id);
    slice_store_u32le(head + 12, 2013);
    bytes_append(&message, head, sizeof head);
    bytes_append(&message, bson_get_data(command), command->len);
    network_send(client->end, message.data, message.size, tag);
    bytes_free(&message);
}

static enum answer receive(struct client *client, bson_t *reply)
{
    struct end *end = client->end;
    uint64_t until_us = sim.now_us + ANSWER_MAX_US;
    for (;;) {
        if (end->incoming.size >= 4 && end->incoming.size >= slice_load_u32le(end->incoming.data)) {
            uint32_t size = slice_load_u32le(end->incoming.data);
            bson_t view;
            bool valid =
                bson_init_static(&view, end->incoming.data + MESSAGE_HEAD, size - MESSAGE_HEAD);
            assert(valid);
            (void)valid;
            bson_concat(reply, &view);
            bytes_consume(&end->incoming, size);
            return ANSWERED;
        }
        if (end->ended || end->reset) {
            disconnect(client);
            return BROKEN;
        }
        if (sim.now_us >= until_us) {
            sim_fail("client %u got no answer", client->number);
        }
        (void)fiber_wait(end, until_us);
    }
}

/* `reply` is emptied first. */
static enum answer ask(struct client *client, const bson_t *command, uint64_t tag, bson_t *reply)
{
    bson_reinit(reply);
    connect_to_proxy(client);
    send_command(client, command, tag);
    enum answer answer = receive(client, reply);
    if (sim.verbose) {
        char *text = bson_as_relaxed_extended_json(reply, NULL);
        sim_show("client %u <- %s", client->number, answer == BROKEN ? "broken" : text);
        bson_free(text);
    }
    return answer;
}

/* ------------------------------------------------------------------ replies */

static bool is_ok(const bson_t *reply)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, reply, "ok") && bson_iter_as_bool(&at);
}

static bool has_label(const bson_t *reply, const char *label)
{
    bson_iter_t labels;
    bson_iter_t at;
    bool found = false;
    if (!bson_iter_init_find(&labels, reply, "errorLabels") || !bson_iter_recurse(&labels, &at)) {
        return false;
    }
    while (bson_iter_next(&at)) {
        found = found || strcmp(bson_iter_utf8(&at, NULL), label) == 0;
    }
    return found;
}

static int64_t number_at(const bson_t *reply, const char *path)
{
    bson_iter_t at;
    bson_iter_t found;
    return bson_iter_init(&at, reply) && bson_iter_find_descendant(&at, path, &found)
               ? bson_iter_as_int64(&found)
               : 0;
}

static int64_t count_of(const bson_t *reply, const char *name)
{
    bson_iter_t at;
    bson_iter_t inside;
    int64_t count = 0;
    if (bson_iter_init_find(&at, reply, name) && bson_iter_recurse(&at, &inside)) {
        while (bson_iter_next(&inside)) {
            count++;
        }
    }
    return count;
}

/* How many documents it says to have changed. */
static int64_t changed(const bson_t *command, const bson_t *reply)
{
    if (!is_ok(reply)) {
        return 0;
    }
    if (bson_has_field(command, "findAndModify")) {
        return number_at(reply, "lastErrorObject.n");
    }
    if (bson_has_field(command, "update")) {
        return number_at(reply, "nModified") + count_of(reply, "upserted");
    }
    return number_at(reply, "n");
}

/* ------------------------------------------------------------------ commands */

static const char *a_collection(void)
{
    return random_chance(2, 3) ? "a" : "b";
}

static void put_target(bson_t *command)
{
    BSON_APPEND_UTF8(command, "$db", "shop");
}

/* {$set/$inc/...}, or a replacement: every one leaves `mark`, so that each changes something. */
static void put_update(bson_t *into, const char *name, const char *mark)
{
    bson_t update;
    bson_t fields;
    char field[4] = {'s', (char)('0' + random_below(3)), 0, 0};
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &update);
    uint64_t form = random_below(6);
    if (form == 5) {
        BSON_APPEND_INT32(&update, "group", (int32_t)random_below(2));
        BSON_APPEND_UTF8(&update, "mark", mark);
        bson_append_document_end(into, &update);
        return;
    }
    if (form == 1 || form == 2) {
        BSON_APPEND_DOCUMENT_BEGIN(&update, "$inc", &fields);
        BSON_APPEND_INT32(&fields, "n", 1 + (int32_t)random_below(3));
        bson_append_document_end(&update, &fields);
    } else if (form == 3) {
        BSON_APPEND_DOCUMENT_BEGIN(&update, "$push", &fields);
        BSON_APPEND_UTF8(&fields, "log", mark);
        bson_append_document_end(&update, &fields);
    } else if (form == 4) {
        BSON_APPEND_DOCUMENT_BEGIN(&update, "$unset", &fields);
        BSON_APPEND_UTF8(&fields, field, "");
        bson_append_document_end(&update, &fields);
    }
    BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &fields);
    BSON_APPEND_UTF8(&fields, "mark", mark);
    if (form == 0) {
        BSON_APPEND_UTF8(&fields, field, mark);
    }
    bson_append_document_end(&update, &fields);
    bson_append_document_end(into, &update);
}

static void put_key(bson_t *into, const char *name, int32_t key)
{
    bson_t filter;
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &filter);
    BSON_APPEND_INT32(&filter, "_id", key);
    bson_append_document_end(into, &filter);
}

static void put_group(bson_t *into, const char *name)
{
    bson_t filter;
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &filter);
    BSON_APPEND_INT32(&filter, "group", (int32_t)random_below(2));
    bson_append_document_end(into, &filter);
}

static void make_updates(bson_t *command, const char *mark, unsigned count, bool many, bool upsert)
{
    bson_t list;
    bson_t statement;
    int32_t key = (int32_t)random_below(KEYS);
    BSON_APPEND_UTF8(command, "update", a_collection());
    BSON_APPEND_ARRAY_BEGIN(command, "updates", &list);
    for (unsigned i = 0; i < count; i++) {
        char index[4] = {(char)('0' + i), 0, 0, 0};
        BSON_APPEND_DOCUMENT_BEGIN(&list, index, &statement);
        if (many) {
            put_group(&statement, "q");
            bson_t update;
            bson_t fields;
            BSON_APPEND_DOCUMENT_BEGIN(&statement, "u", &update);
            BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &fields);
            BSON_APPEND_UTF8(&fields, "mark", mark);
            bson_append_document_end(&update, &fields);
            bson_append_document_end(&statement, &update);
            BSON_APPEND_BOOL(&statement, "multi", true);
        } else {
            put_key(&statement, "q", (key + (int32_t)i) % KEYS);
            put_update(&statement, "u", mark);
        }
        if (upsert) {
            BSON_APPEND_BOOL(&statement, "upsert", true);
        }
        bson_append_document_end(&list, &statement);
    }
    bson_append_array_end(command, &list);
}

static void make_insert(bson_t *command, const char *mark, unsigned count)
{
    bson_t list;
    bson_t document;
    int32_t key = (int32_t)random_below(KEYS);
    BSON_APPEND_UTF8(command, "insert", a_collection());
    BSON_APPEND_ARRAY_BEGIN(command, "documents", &list);
    for (unsigned i = 0; i < count; i++) {
        char index[4] = {(char)('0' + i), 0, 0, 0};
        BSON_APPEND_DOCUMENT_BEGIN(&list, index, &document);
        BSON_APPEND_INT32(&document, "_id", (key + (int32_t)i) % KEYS);
        BSON_APPEND_INT32(&document, "group", (int32_t)random_below(2));
        BSON_APPEND_UTF8(&document, "mark", mark);
        bson_append_document_end(&list, &document);
    }
    bson_append_array_end(command, &list);
}

static void make_delete(bson_t *command, bool many)
{
    bson_t list;
    bson_t statement;
    BSON_APPEND_UTF8(command, "delete", a_collection());
    BSON_APPEND_ARRAY_BEGIN(command, "deletes", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &statement);
    if (many) {
        put_group(&statement, "q");
    } else {
        put_key(&statement, "q", (int32_t)random_below(KEYS));
    }
    BSON_APPEND_INT32(&statement, "limit", many ? 0 : 1);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(command, &list);
}

static void make_find_and_modify(bson_t *command, const char *mark)
{
    BSON_APPEND_UTF8(command, "findAndModify", a_collection());
    put_key(command, "query", (int32_t)random_below(KEYS));
    if (random_chance(1, 4)) {
        BSON_APPEND_BOOL(command, "remove", true);
    } else {
        put_update(command, "update", mark);
        BSON_APPEND_BOOL(command, "new", random_chance(1, 2));
    }
}

/* A write; without `many` one that a driver would send again. */
static void make_write(bson_t *command, bool many)
{
    static uint64_t marks;
    char mark[24];
    (void)snprintf(mark, sizeof mark, "m%llu", (unsigned long long)(random_next() % 1000000007u));
    (void)marks;
    switch (random_below(many ? 13 : 11)) {
    case 0:
    case 1:
    case 2:
    case 3:
        make_updates(command, mark, 1, false, false);
        break;
    case 4:
        make_updates(command, mark, 2 + (unsigned)random_below(2), false, random_chance(1, 3));
        break;
    case 5:
        make_updates(command, mark, 1, false, true);
        break;
    case 6:
        make_insert(command, mark, 1);
        break;
    case 7:
        make_insert(command, mark, 2 + (unsigned)random_below(2));
        break;
    case 8:
        make_delete(command, false);
        break;
    case 9:
    case 10:
        make_find_and_modify(command, mark);
        break;
    case 11:
        make_updates(command, mark, 1, true, false);
        break;
    default:
        make_delete(command, true);
        break;
    }
}

static void put_session(bson_t *command, const struct client *client)
{
    bson_t session;
    BSON_APPEND_DOCUMENT_BEGIN(command, "lsid", &session);
    BSON_APPEND_BINARY(&session, "id", BSON_SUBTYPE_UUID, client->session, 16);
    bson_append_document_end(command, &session);
    BSON_APPEND_INT64(command, "txnNumber", client->transaction_number);
}

static void put_transaction(bson_t *command, const struct client *client, bool first)
{
    put_session(command, client);
    if (first) {
        BSON_APPEND_BOOL(command, "startTransaction", true);
    }
    BSON_APPEND_BOOL(command, "autocommit", false);
}

/* ------------------------------------------------------------------ transactions */

static void think(void)
{
    fiber_sleep(random_below((uint64_t)64 << random_below(12)));
}

/* A failure that blames strangers, or the server, where neither has done anything. */
static void check_error(const bson_t *reply)
{
    static const char *const phrases[] = {"changed around the proxy", "was put off"};
    bson_iter_t at;
    if (is_ok(reply) || !bson_iter_init_find(&at, reply, "errmsg") || model_strangers_wrote() ||
        model_server_lost()) {
        return;
    }
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++) {
        if (strstr(bson_iter_utf8(&at, NULL), phrases[i]) != NULL) {
            sim_fail("a transaction fails for what nobody did: %s", bson_iter_utf8(&at, NULL));
        }
    }
}

static void check_read(const struct model_unit *unit, const char *collection, const bson_t *command,
                       const bson_t *reply)
{
    char namespace[32];
    bson_iter_t at;
    bson_iter_t batch;
    bson_t filter;
    bson_t documents;
    uint32_t size;
    const uint8_t *data;
    (void)snprintf(namespace, sizeof namespace, "shop.%s", collection);
    (void)bson_iter_init_find(&at, command, "filter");
    bson_iter_document(&at, &size, &data);
    (void)bson_init_static(&filter, data, size);
    if (is_ok(reply) && bson_iter_init(&at, reply) &&
        bson_iter_find_descendant(&at, "cursor.firstBatch", &batch)) {
        bson_iter_array(&batch, &size, &data);
        (void)bson_init_static(&documents, data, size);
        model_read(unit, namespace, &filter, &documents);
    }
}

/* Of one document; where writes are put off also of a group, and of all: those it must not miss. */
static void put_search(bson_t *command)
{
    uint64_t what = sim.profile.deferred ? random_below(6) : 0;
    bson_t filter;
    if (what < 4) {
        put_key(command, "filter", (int32_t)random_below(KEYS));
    } else if (what < 5) {
        put_group(command, "filter");
    } else {
        BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
        bson_append_document_end(command, &filter);
    }
}

/* False: the transaction has ended. */
static bool read_in(struct client *client, struct model_unit *unit, bool first, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    const char *collection = a_collection();
    BSON_APPEND_UTF8(&command, "find", collection);
    put_search(&command);
    uint64_t tag = model_tag_new(unit, &command);
    put_target(&command);
    put_transaction(&command, client, first);
    enum answer answer = ask(client, &command, tag, reply);
    if (answer == ANSWERED) {
        check_error(reply);
        check_read(unit, collection, &command, reply);
    }
    bson_destroy(&command);
    return answer == ANSWERED && is_ok(reply);
}

/* False: the transaction has ended. */
static bool write_in(struct client *client, struct model_unit *unit, bool first, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    make_write(&command, !sim.profile.deferred || random_chance(1, 3));
    uint64_t tag = model_command_new(unit, &command);
    put_target(&command);
    put_transaction(&command, client, first);
    enum answer answer = ask(client, &command, tag, reply);
    bool fine = answer == ANSWERED && is_ok(reply) && !bson_has_field(reply, "writeErrors");
    if (answer == ANSWERED) {
        check_error(reply);
    }
    if (fine) {
        model_replied(tag, changed(&command, reply));
    }
    bson_destroy(&command);
    return fine;
}

static void end_command(struct client *client, const char *name, bson_t *command)
{
    BSON_APPEND_INT32(command, name, 1);
    BSON_APPEND_UTF8(command, "$db", "admin");
    put_transaction(command, client, false);
}

/* What a write would have been told comes with the commit. */
static bool refuses_put_off(const bson_t *reply)
{
    bson_iter_t at;
    return sim.profile.deferred && bson_iter_init_find(&at, reply, "errmsg") &&
           strstr(bson_iter_utf8(&at, NULL), "was put off") != NULL;
}

/* Until it is known. */
static void commit(struct client *client, struct model_unit *unit, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    end_command(client, "commitTransaction", &command);
    uint64_t tag = model_tag_new(unit, &command);
    for (;;) {
        enum answer answer;
        if (!sim.faults_over && random_chance(1, sim.profile.deferred ? 6 : 16)) {
            /* It leaves before the answer, and asks later. */
            connect_to_proxy(client);
            send_command(client, &command, tag);
            fiber_sleep(random_below(2000));
            disconnect(client);
            answer = BROKEN;
        } else {
            answer = ask(client, &command, tag, reply);
        }
        if (answer == ANSWERED) {
            check_error(reply);
        }
        if (answer == ANSWERED && is_ok(reply)) {
            model_ended(unit, MODEL_COMMITTED);
            break;
        }
        if (answer == ANSWERED && !has_label(reply, "UnknownTransactionCommitResult")) {
            bool told = has_label(reply, "TransientTransactionError") || refuses_put_off(reply);
            model_ended(unit, told ? MODEL_ROLLED_BACK : MODEL_AWRY);
            break;
        }
        think();
    }
    bson_destroy(&command);
}

static void abort_transaction(struct client *client, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    end_command(client, "abortTransaction", &command);
    (void)ask(client, &command, 0, reply);
    bson_destroy(&command);
}

static void new_session(struct client *client)
{
    for (size_t i = 0; i < sizeof client->session; i++) {
        client->session[i] = (uint8_t)random_next();
    }
    client->transaction_number = 0;
}

/* True: committed, or not to be tried again. */
static bool try_transaction(struct client *client, bson_t *reply)
{
    client->transaction_number++;
    struct model_unit *unit =
        model_unit_new(MODEL_TRANSACTION, client->session, client->transaction_number);
    unsigned count = 1 + (unsigned)random_below(sim.profile.deferred ? 7 : 4);
    bool fine = true;
    for (unsigned i = 0; i < count && fine; i++) {
        fine = random_chance(sim.profile.deferred ? 2 : 1, 5)
                   ? read_in(client, unit, i == 0, reply)
                   : write_in(client, unit, i == 0, reply);
        think();
    }
    uint64_t end = random_below(sim.profile.deferred ? 12 : 20);
    if (!fine) {
        model_ended(unit, MODEL_ROLLED_BACK);
    } else if (end == 0) {
        abort_transaction(client, reply);
        model_ended(unit, MODEL_ROLLED_BACK);
        fine = true;
    } else if (end == 1) {
        disconnect(client); /* and is never seen again */
        new_session(client);
        model_ended(unit, MODEL_ROLLED_BACK);
    } else if (end == 2) {
        model_ended(unit, MODEL_ROLLED_BACK); /* forgets it; its lifetime ends it */
        new_session(client);
    } else {
        commit(client, unit, reply);
    }
    return fine;
}

static void run_transaction(struct client *client, bson_t *reply)
{
    for (unsigned tries = 0; tries < 4 && !try_transaction(client, reply); tries++) {
        think();
    }
}

/* ------------------------------------------------------------------ plain commands */

static void run_plain(struct client *client, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    make_write(&command, true);
    struct model_unit *unit = model_unit_new(MODEL_PLAIN, NULL, 0);
    uint64_t tag = model_command_new(unit, &command);
    put_target(&command);
    if (ask(client, &command, tag, reply) == ANSWERED) {
        model_replied(tag, changed(&command, reply));
        model_ended(unit, MODEL_COMMITTED);
    }
    bson_destroy(&command);
}

/* Sent until it is answered; what it says then is what has been done. */
static void send_until_answered(struct client *client, const bson_t *command,
                                struct model_unit *unit, uint64_t tag, bson_t *reply)
{
    bool again = true;
    while (again) {
        bool answered = ask(client, command, tag, reply) == ANSWERED;
        if (answered && !has_label(reply, "RetryableWriteError")) {
            again = false;
        } else {
            think();
        }
    }
    bson_t original = BSON_INITIALIZER;
    bson_copy_to_excluding_noinit(command, &original, "$db", "lsid", "txnNumber", NULL);
    if (is_ok(reply)) {
        model_replied(tag, changed(&original, reply));
        model_ended(unit, MODEL_COMMITTED);
    } else {
        model_replied(tag, 0);
        model_ended(unit, MODEL_COMMITTED);
    }
    bson_destroy(&original);
}

static void run_retryable(struct client *client, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    client->transaction_number++;
    make_write(&command, false);
    struct model_unit *unit =
        model_unit_new(MODEL_RETRYABLE, client->session, client->transaction_number);
    uint64_t tag = model_command_new(unit, &command);
    put_target(&command);
    put_session(&command, client);
    send_until_answered(client, &command, unit, tag, reply);
    bson_destroy(&command);
}

static void run_read(struct client *client, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&command, "find", a_collection());
    put_group(&command, "filter");
    put_target(&command);
    (void)ask(client, &command, 0, reply);
    bson_destroy(&command);
}

static void run_stranger(bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    if (!server_is_up()) {
        bson_destroy(&command);
        return;
    }
    if (!sim.profile.deferred || random_chance(1, 2) || !model_put_off(&command)) {
        make_write(&command, true); /* else just what a transaction has in mind */
    }
    struct model_unit *unit = model_unit_new(MODEL_STRANGER, NULL, 0);
    struct command_context context = {.database = "shop",
                                      .command = &command,
                                      .tag = model_command_new(unit, &command),
                                      .client = "a stranger"};
    bson_reinit(reply);
    commands_run(&context, reply);
    bson_destroy(&command);
}

void clients_stranger(void *object, uint64_t number)
{
    (void)object;
    (void)number;
    bson_t reply = BSON_INITIALIZER;
    if (!sim.faults_over) {
        run_stranger(&reply);
    }
    bson_destroy(&reply);
}

/* ------------------------------------------------------------------ the fibers */

static void *client_main(void *argument)
{
    struct client *client = argument;
    bson_t reply = BSON_INITIALIZER;
    new_session(client);
    think();
    for (unsigned i = 0; i < sim.profile.operations; i++) {
        uint64_t what = random_below(20);
        if (sim.profile.strangers && what >= 17) {
            run_stranger(&reply);
        } else if (what < 10) {
            run_transaction(client, &reply);
        } else if (what < 13) {
            run_plain(client, &reply);
        } else if (what < 16) {
            run_retryable(client, &reply);
        } else {
            run_read(client, &reply);
        }
        think();
    }
    disconnect(client);
    bson_destroy(&reply);
    client->done = true;
    return NULL;
}

static struct client *client_new(void)
{
    assert(client_count < CLIENTS_MAX);
    struct client *client = &clients[client_count];
    *client = (struct client){.number = (unsigned)++client_count};
    return client;
}

void clients_start(void)
{
    for (unsigned i = 0; i < sim.profile.clients; i++) {
        char name[16];
        struct client *client = client_new();
        (void)snprintf(name, sizeof name, "client%u", client->number);
        (void)fiber_start(name, false, client_main, client);
    }
}

bool clients_are_done(void)
{
    for (size_t i = 0; i < client_count; i++) {
        if (!clients[i].done) {
            return false;
        }
    }
    return true;
}

static bool try_last(struct client *client, const char *collection, int32_t key, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    bson_t list;
    bson_t statement;
    bson_t update;
    bson_t fields;
    client->transaction_number++;
    BSON_APPEND_UTF8(&command, "update", collection);
    BSON_APPEND_ARRAY_BEGIN(&command, "updates", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &statement);
    put_key(&statement, "q", key);
    BSON_APPEND_DOCUMENT_BEGIN(&statement, "u", &update);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &fields);
    BSON_APPEND_UTF8(&fields, "mark", "last");
    bson_append_document_end(&update, &fields);
    bson_append_document_end(&statement, &update);
    BSON_APPEND_BOOL(&statement, "upsert", true);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    struct model_unit *unit =
        model_unit_new(MODEL_RETRYABLE, client->session, client->transaction_number);
    uint64_t tag = model_command_new(unit, &command);
    put_target(&command);
    put_session(&command, client);
    send_until_answered(client, &command, unit, tag, reply);
    bool written = changed(&command, reply) == 1;
    bson_destroy(&command);
    return written;
}

/* A transaction that its client has forgotten holds its documents for unit.lifetime, which may end
   later than one wait for a lock. */
static void write_last(struct client *client, const char *collection, int32_t key, bson_t *reply)
{
    uint64_t until_us = sim.now_us + LAST_WRITE_MAX_US;
    while (!sim.failed && !try_last(client, collection, key, reply)) {
        if (sim.now_us > until_us) {
            sim_fail("shop.%s %d cannot be written at the end: is it still locked?", collection,
                     key);
        }
        think();
    }
}

static void *last_main(void *argument)
{
    struct client *client = argument;
    bson_t reply = BSON_INITIALIZER;
    new_session(client);
    for (int32_t key = 0; key < KEYS && !sim.failed; key++) {
        write_last(client, "a", key, &reply);
        write_last(client, "b", key, &reply);
    }
    disconnect(client);
    bson_destroy(&reply);
    client->done = true;
    return NULL;
}

void clients_start_last(void)
{
    (void)fiber_start("last", false, last_main, client_new());
}

void clients_prepare(void)
{
    static const char *const namespaces[] = {"shop.a", "shop.b"};
    for (size_t n = 0; n < 2; n++) {
        for (int32_t key = 0; key < KEYS_AT_START; key++) {
            bson_t document = BSON_INITIALIZER;
            bson_iter_t id;
            BSON_APPEND_INT32(&document, "_id", key);
            BSON_APPEND_INT32(&document, "group", key % 2);
            BSON_APPEND_INT32(&document, "n", 0);
            (void)operators_id(&document, &id);
            database_put(namespaces[n], &id, &document, 0);
            bson_destroy(&document);
        }
    }
    database_sync();
}

void clients_reset(void)
{
    client_count = 0;
}
