#ifndef HOLDFAST_READ_READ_PRIVATE_H
#define HOLDFAST_READ_READ_PRIVATE_H

/*
 * The steps of a reading command, for their own files; nobody else includes it.
 *
 *   read.c        from its start to its answer; drawn there
 *   read_send.c   what is sent to the server
 *   read_wait.c   turns, and what is waited for
 *   read_long.c   a read that units have overtaken and that takes long, in two steps
 *   read_batch.c  what of an answer inside a unit is kept for later batches
 */

#include "read/read.h"
#include "wire/reply.h"

/* ---- read.c */

/* Of all that its answer depends on: what `stamp` is compared with. */
uint64_t read_stamp_now(const struct read_operation *operation);
/* What is uncommitted now, and so what to do next. */
void read_look(struct read_operation *operation);
/* Nobody gets this answer: its cursor goes, then on, or read_fail_for_time() if it `is_lost`. */
void read_look_again(struct read_operation *operation, int64_t cursor_id);
/* The same as form WAIT. `why` is a literal. */
void read_wait_from_now_on(struct read_operation *operation, const char *why);
void read_fail(struct read_operation *operation, int code, const char *message);
void read_fail_for_time(struct read_operation *operation);
void read_fail_for_snapshot(struct read_operation *operation);
/* Ends a turn, if it has one. */
void read_end_turn(struct read_operation *operation);

static inline bool read_has_turn(const struct read_operation *operation,
                                 enum uncommitted_turn_kind kind)
{
    return operation->has_turn && operation->turn.kind == kind;
}

/* ---- read_send.c */

/* Also destroys it. */
void read_send_command(struct read_operation *operation, enum read_sent sent, bson_t *command);
void read_send_original(struct read_operation *operation, enum read_sent sent);
/* Nothing but the images: `only_images`. May find that the read has to wait, or fails. */
void read_send_overlay(struct read_operation *operation,
                       struct uncommitted_document *const *documents, size_t count,
                       bool only_images);
struct rewrite_options read_options_of(struct read_operation *operation);
/* A before-image as it stands in the journal, as long as `reader` is open. */
MUST_CHECK enum status read_image(struct wal_reader *reader,
                                  const struct uncommitted_document *document,
                                  struct overlay_image *ret_image);
/* False: the reads on their way carry too much. */
bool read_bytes_take(struct read_operation *operation, uint64_t bytes);
/* Harmless if it carries nothing. */
void read_bytes_give(struct read_operation *operation);

/* ---- read_wait.c */

void read_wait_init(struct read_operation *operation);
/* Nothing of others is uncommitted from the gate `first` on; and a drain has done its work. */
bool read_is_clear_now(struct read_operation *operation, size_t first);
void read_begin_turn(struct read_operation *operation, enum uncommitted_turn_kind kind);
/* Until a unit ends, or the deadline is there. */
void read_wait_for_units(struct read_operation *operation);
/* True: it waited, and nothing comes of that any more. */
bool read_stop_waiting(struct read_operation *operation);

/* ---- read_long.c */

/* Units have overtaken it, and its reply took longer than they have to wait for it. */
bool read_long_can_gather(const struct read_operation *operation);
void read_long_gather(struct read_operation *operation);
void read_long_take(struct read_operation *operation, const struct reply_view *view);
/* Of its own. Harmless if there is none. */
void read_long_end(struct read_operation *operation);

/* ---- read_batch.c */

/*
 * The answer of a find or aggregate in a unit, in `reply`: what its client has not asked for goes
 * to the unit's cursors. True: operation->reply is the answer. False: the answer is `reply` as it
 * is.
 */
bool read_batch_cut(struct read_operation *operation, struct slice reply);

#endif
