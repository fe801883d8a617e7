#ifndef HOLDFAST_ROUTE_LOGIN_H
#define HOLDFAST_ROUTE_LOGIN_H

/*
 * Which user a connection belongs to, read off the SCRAM or PLAIN conversation that passes through.
 * The server checks the credential; the proxy only notes the name once the server has said that it
 * is done. Public specification: RFC 5802, RFC 4616, and MongoDB's authentication specification.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/slice.h"
#include "wire/command.h"

#define LOGIN_NAME_BYTES_MAX 512
#define LOGIN_NO_CONVERSATION (-1)

struct login {
    char user[LOGIN_NAME_BYTES_MAX];    /* "database.name", "" before a login */
    char pending[LOGIN_NAME_BYTES_MAX]; /* who is trying */
    int64_t conversation;               /* by which number; LOGIN_NO_CONVERSATION: none yet */
    bool leaving;                       /* a logout is on its way */
};

/* A saslStart, saslContinue, logout, or a hello with speculativeAuthenticate is on its way up; the
   reply to the one before has come. */
void login_request(struct login *login, const struct command_view *view);

/*
 * Whether a command logs in by the certificate of its connection (MONGODB-X509). The server would
 * look at the certificate of the proxy's own connection: the client would become whoever that is.
 */
bool login_is_by_certificate(const struct command_view *view);

/* Whether a hello begins a login (speculativeAuthenticate). */
bool login_hello_begins_one(const struct command_view *view);

/* Whether a hello begins one of that kind. */
bool login_hello_is_by_certificate(const struct command_view *view);

/* Its reply came. */
void login_reply(struct login *login, struct slice reply);

#endif
