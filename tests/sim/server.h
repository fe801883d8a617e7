#ifndef HOLDFAST_TESTS_SIM_SERVER_H
#define HOLDFAST_TESTS_SIM_SERVER_H

/*
 * The simulated server: its connections (server.c) and the commands it knows (commands.c), which
 * are those that the proxy and the simulated clients send. Anything else fails the run, so that a
 * new form of a command is noticed.
 */

#include <bson/bson.h>
#include <stdbool.h>

#include "sim.h"

void server_start(void *object, uint64_t number);
/* It ends at once; with `loses` it forgets what it had not synced. */
void server_crash(bool loses);
bool server_is_up(void);
void server_reset(void);
/* The process of the proxy is gone: what its own connections have sent may still be carried out. */
void server_forget_own(void);

/* ---- mongoc.c: a connection of the proxy's own */

struct own_request {
    struct own_request *next;
    struct own_request *previous;
    unsigned connection;
    char database[64];
    struct bytes command;
    struct bytes reply;
    unsigned holders; /* who waits for it, and what is going to happen to it */
    bool waiter_lives;
    bool breaks; /* its connection breaks, before or after it is carried out */
    bool done;
    bool broken; /* done: nobody knows what became of it */
};

/* A new connection; 0: the server is not there. */
unsigned server_own_connect(void);
void server_own_close(unsigned connection);
/* Whether the connection is still there. */
bool server_own_is_open(unsigned connection);
/* Waits; the caller gives the result to server_own_end(). */
struct own_request *server_own_run(unsigned connection, const char *database,
                                   const bson_t *command);
void server_own_end(struct own_request *request);

/* ---- commands.c */

struct command_context {
    const char *database;
    const bson_t *command;
    uint64_t tag;
    const char *client; /* its address */
};

void commands_run(const struct command_context *context, bson_t *reply);

/* For $currentOp: every connection; false: no more. */
bool server_connection(size_t index, char address[32], bool *ret_active);
const uint8_t *server_process_id(void);

#endif
