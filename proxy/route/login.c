/* Following logins. The connection's worker. A name too long to note ends as a name of its own. */
#include "route/login.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "wire/reply.h"

/* client-first-message: "n,,n=user,r=nonce"; in the name ',' is "=2C" and '=' is "=3D". */
static bool scram_name(struct slice payload, char *name, size_t capacity)
{
    static const char prefix[] = "n,,n=";
    size_t at = sizeof prefix - 1;
    if (payload.size < at || memcmp(payload.data, prefix, at) != 0) {
        return false;
    }
    size_t size = 0;
    while (at < payload.size && payload.data[at] != ',' && size + 1 < capacity) {
        name[size++] = (char)payload.data[at++];
    }
    name[size] = '\0';
    return at < payload.size && payload.data[at] == ',';
}

/* "who to be", NUL, "who I am", NUL, "password", as binary or as text in base64 (not read here). */
static bool plain_name(struct slice payload, char *name, size_t capacity)
{
    const uint8_t *end = payload.data + payload.size;
    const uint8_t *first = memchr(payload.data, 0, payload.size);
    const uint8_t *begin = first == NULL ? end : first + 1;
    const uint8_t *last = memchr(begin, 0, (size_t)(end - begin));
    size_t size = last == NULL ? 0 : (size_t)(last - begin);
    if (size == 0 || size >= capacity) {
        return false;
    }
    memcpy(name, begin, size);
    name[size] = '\0';
    return true;
}

static bool is_plain(const bson_iter_t *start)
{
    bson_iter_t at = *start;
    return bson_iter_find(&at, "mechanism") && BSON_ITER_HOLDS_UTF8(&at) &&
           strcmp(bson_iter_utf8(&at, NULL), "PLAIN") == 0;
}

static void note_start(struct login *login, const char *database, bson_iter_t *at)
{
    char name[LOGIN_NAME_BYTES_MAX / 2];
    bson_subtype_t subtype;
    uint32_t size;
    const uint8_t *data;
    bool plain = is_plain(at); /* before `at` moves on */
    login->pending[0] = '\0';
    if (!bson_iter_find(at, "payload") || !BSON_ITER_HOLDS_BINARY(at)) {
        return;
    }
    bson_iter_binary(at, &subtype, &size, &data);
    struct slice payload = slice_make(data, size);
    if (plain ? plain_name(payload, name, sizeof name) : scram_name(payload, name, sizeof name)) {
        (void)snprintf(login->pending, sizeof login->pending, "%s.%s", database, name);
    } else {
        /* Another mechanism: an identity that nobody else has, so that sessions stay apart. */
        (void)snprintf(login->pending, sizeof login->pending, "%s.(unknown mechanism)", database);
    }
}

void login_request(struct login *login, const struct command_view *view)
{
    bson_iter_t at;
    bson_iter_t inside;
    if (!bson_iter_init_from_data(&at, view->body.data, view->body.size)) {
        return;
    }
    if (strcmp(view->name, "logout") == 0) {
        login->pending[0] = '\0';
        login->leaving = true;
    } else if (strcmp(view->name, "saslStart") == 0) {
        note_start(login, view->database == NULL ? "" : view->database, &at);
    } else if (strcmp(view->name, "saslContinue") != 0 &&
               bson_iter_find(&at, "speculativeAuthenticate") && BSON_ITER_HOLDS_DOCUMENT(&at) &&
               bson_iter_recurse(&at, &inside)) {
        bson_iter_t database = inside;
        bool found = bson_iter_find(&database, "db") && BSON_ITER_HOLDS_UTF8(&database);
        note_start(login, found ? bson_iter_utf8(&database, NULL) : "admin", &inside);
    }
}

/* A mechanism that takes the identity from the connection. Others prove it by what they send. */
static bool is_certificate_mechanism(bson_iter_t *document)
{
    bson_iter_t at = *document;
    if (!bson_iter_find(&at, "mechanism") || !BSON_ITER_HOLDS_UTF8(&at)) {
        return true; /* authenticate without one: of another mechanism it is not */
    }
    const char *mechanism = bson_iter_utf8(&at, NULL);
    return strcasecmp(mechanism, "MONGODB-X509") == 0 || strcasecmp(mechanism, "EXTERNAL") == 0;
}

bool login_is_by_certificate(const struct command_view *view)
{
    bson_iter_t at;
    if (strcasecmp(view->name, "authenticate") == 0) {
        return true; /* no other mechanism uses it any more */
    }
    return strcmp(view->name, "saslStart") == 0 &&
           bson_iter_init_from_data(&at, view->body.data, view->body.size) &&
           is_certificate_mechanism(&at);
}

bool login_hello_is_by_certificate(const struct command_view *view)
{
    bson_iter_t at;
    bson_iter_t inside;
    if (!bson_iter_init_from_data(&at, view->body.data, view->body.size)) {
        return false;
    }
    while (bson_iter_next(&at)) { /* all of that name: which one a server takes is its own */
        if (strcmp(bson_iter_key(&at), "speculativeAuthenticate") != 0 ||
            !BSON_ITER_HOLDS_DOCUMENT(&at) || !bson_iter_recurse(&at, &inside)) {
            continue;
        }
        bson_iter_t name = inside;
        if (bson_iter_find(&name, "authenticate") || is_certificate_mechanism(&inside)) {
            return true;
        }
    }
    return false;
}

void login_reply(struct login *login, struct slice reply)
{
    struct reply_view view;
    bson_iter_t at;
    bool leaving = login->leaving;
    login->leaving = false;
    if (reply_view_parse(reply, &view) != STATUS_OK) {
        return;
    }
    if (leaving && view.ok) {
        login->user[0] = '\0';
    }
    if (login->pending[0] == '\0') {
        return;
    }
    if (!view.ok) {
        login->pending[0] = '\0';
        return;
    }
    if (bson_iter_init_from_data(&at, reply.data, reply.size) && bson_iter_find(&at, "done") &&
        bson_iter_as_bool(&at)) {
        memcpy(login->user, login->pending, sizeof login->user);
        login->pending[0] = '\0';
    }
}
