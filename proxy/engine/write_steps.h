#ifndef HOLDFAST_ENGINE_WRITE_STEPS_H
#define HOLDFAST_ENGINE_WRITE_STEPS_H

/*
 * What write.c's machine and the files with its steps (write_resolve.c, write_apply.c) share.
 * A step function that returns bool says whether to go on at once; all of them may set the step.
 */

#include "engine/write.h"

/* write.c: ends the command and the unit with an error. */
void write_fail(struct write_operation *operation, int code, const char *message);
/* The same with the server's own answer to statement `index`. */
void write_fail_statement(struct write_operation *operation, size_t index,
                          struct slice server_reply);
/* Sends and destroys the command; its reply goes to the step's write_take_*(). */
void write_send(struct write_operation *operation, bson_t *command);
void write_on_journaled(struct wal_append *first, void *context);

/* write_resolve.c: from the statement to the document and its before-image. */
void write_select(struct write_operation *operation);
bool write_resolve(struct write_operation *operation);
void write_take_resolved(struct write_operation *operation, struct slice reply);
bool write_wants_projection(const struct write_operation *operation, bool after);
bool write_project(struct write_operation *operation);
void write_take_projection(struct write_operation *operation, struct slice reply);
void write_statement_free(struct write_operation *operation);

/* write_apply.c: journal, send, learn. */
bool write_journal(struct write_operation *operation);
bool write_send_statement(struct write_operation *operation);
void write_take_answer(struct write_operation *operation, struct slice reply);

#endif
