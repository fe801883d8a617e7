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
        char byte = (char)payload.data[at++];
        if (byte == '=') {
            bool two = payload.size - at >= 2;
            bool comma = two && memcmp(payload.data + at, "2C", 2) == 0;
            if (!comma && !(two && memcmp(payload.data + at, "3D", 2) == 0)) {
                return false;
            }
            byte = comma ? ',' : '=';
            at += 2;
        }
        name[size++] = byte;
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

/* How often a field is there; *ret_field is the last one. */
static unsigned find_all(const bson_iter_t *document, const char *name, bson_iter_t *ret_field)
{
    bson_iter_t at = *document;
    unsigned count = 0;
    while (bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), name) == 0) {
            *ret_field = at;
            count++;
        }
    }
    return count;
}

/* Of fields that are there twice it is the server's own which one it takes: then no name is read.
 */
static bool start_name(const bson_iter_t *start, const bson_iter_t *payload, char *name,
                       size_t capacity)
{
    bson_iter_t mechanism;
    bson_subtype_t subtype;
    uint32_t size;
    const uint8_t *data;
    unsigned mechanisms = find_all(start, "mechanism", &mechanism);
    if (!BSON_ITER_HOLDS_BINARY(payload) || mechanisms > 1) {
        return false;
    }
    bool plain = mechanisms == 1 && BSON_ITER_HOLDS_UTF8(&mechanism) &&
                 strcmp(bson_iter_utf8(&mechanism, NULL), "PLAIN") == 0;
    bson_iter_binary(payload, &subtype, &size, &data);
    struct slice bytes = slice_make(data, size);
    return plain ? plain_name(bytes, name, capacity) : scram_name(bytes, name, capacity);
}

static void note_start(struct login *login, const char *database, const bson_iter_t *start)
{
    char name[LOGIN_NAME_BYTES_MAX / 2];
    bson_iter_t payload;
    unsigned payloads = find_all(start, "payload", &payload);
    login->pending[0] = '\0';
    login->conversation = LOGIN_NO_CONVERSATION;
    if (payloads == 1 && start_name(start, &payload, name, sizeof name)) {
        (void)snprintf(login->pending, sizeof login->pending, "%s.%s", database, name);
    } else if (payloads > 0) {
        /* Another mechanism: an identity that nobody else has, so that sessions stay apart. */
        (void)snprintf(login->pending, sizeof login->pending, "%s.(unknown mechanism)", database);
    }
}

static void note_unknown(struct login *login)
{
    (void)snprintf(login->pending, sizeof login->pending, "(unknown).(unknown mechanism)");
    login->conversation = LOGIN_NO_CONVERSATION;
}

static int64_t conversation_of(const bson_iter_t *document)
{
    bson_iter_t number;
    return find_all(document, "conversationId", &number) == 1 ? bson_iter_as_int64(&number)
                                                              : LOGIN_NO_CONVERSATION;
}

/* A server may hold several conversations at once: of another one than that which was begun last
   the name is not known any more. */
static void note_step(struct login *login, const bson_iter_t *step)
{
    int64_t conversation = conversation_of(step);
    if (conversation == LOGIN_NO_CONVERSATION || conversation != login->conversation) {
        note_unknown(login);
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
        size_t size = view->database == NULL ? 0 : strlen(view->database);
        login->pending[0] = '\0';
        login->leaving = size > 0 && strncmp(login->user, view->database, size) == 0 &&
                         login->user[size] == '.'; /* of another database it is nobody's */
    } else if (strcmp(view->name, "saslStart") == 0) {
        note_start(login, view->database == NULL ? "" : view->database, &at);
    } else if (strcmp(view->name, "saslContinue") == 0) {
        note_step(login, &at);
    } else {
        bson_iter_t first = at;
        unsigned count = find_all(&first, "speculativeAuthenticate", &at);
        if (count > 0 && BSON_ITER_HOLDS_DOCUMENT(&at) && bson_iter_recurse(&at, &inside)) {
            bson_iter_t database = inside;
            bool found = bson_iter_find(&database, "db") && BSON_ITER_HOLDS_UTF8(&database);
            note_start(login, found ? bson_iter_utf8(&database, NULL) : "admin", &inside);
        }
        if (count > 1) { /* whose it is only the server knows */
            note_unknown(login);
        }
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

bool login_hello_begins_one(const struct command_view *view)
{
    bson_iter_t at;
    return bson_iter_init_from_data(&at, view->body.data, view->body.size) &&
           bson_iter_find(&at, "speculativeAuthenticate");
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

static bool is_done(const bson_iter_t *reply)
{
    bson_iter_t at = *reply;
    bson_iter_t whole = *reply;
    bson_iter_t inside;
    return (bson_iter_find(&at, "done") && bson_iter_as_bool(&at)) ||
           (bson_iter_find_descendant(&whole, "speculativeAuthenticate.done", &inside) &&
            bson_iter_as_bool(&inside)); /* a login that is over with the hello */
}

/* The server's number of the conversation: of a hello's inside. */
static void note_conversation(struct login *login, const bson_iter_t *reply)
{
    bson_iter_t inside;
    bson_iter_t at = *reply;
    bool hello = bson_iter_find(&at, "speculativeAuthenticate") && BSON_ITER_HOLDS_DOCUMENT(&at) &&
                 bson_iter_recurse(&at, &inside);
    login->conversation = conversation_of(hello ? &inside : reply);
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
    if (!bson_iter_init_from_data(&at, reply.data, reply.size)) {
        return;
    }
    if (is_done(&at)) {
        memcpy(login->user, login->pending, sizeof login->user);
        login->pending[0] = '\0';
    } else {
        note_conversation(login, &at);
    }
}
