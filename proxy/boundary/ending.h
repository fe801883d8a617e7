#ifndef HOLDFAST_BOUNDARY_ENDING_H
#define HOLDFAST_BOUNDARY_ENDING_H

/* What the boundaries share: how a request gets its unit, leaves it and answers. */

#include "boundary/request.h"

/* Prepares the request's private part. Call first. */
void ending_init(struct boundary_request *request);

/* From any thread: `resume` runs on the worker. */
void ending_wake(struct boundary_request *request, void (*resume)(struct boundary_request *));

/*
 * Gives the unit (if any) back, rolls it back first where that was asked for meanwhile, and answers
 * with request->reply; of a unit that was set aside, with ending_set_conflict()'s.
 */
void ending_finish(struct boundary_request *request);

/* ending_set_error(), then ending_finish(). */
void ending_fail(struct boundary_request *request, int code, const char *label,
                 const char *message);

/*
 * Gives the unit back; request->unit is NULL then. False: it was to be rolled back meanwhile; that
 * is under way, and the request answered with it, for what the command did is undone.
 */
MUST_CHECK bool ending_check_in(struct boundary_request *request);

/*
 * unit_table_checkout() into request->unit. If somebody works on the unit, `again` runs on the
 * worker when that is over, unless the request is cancelled before (boundary_cancel()).
 */
enum unit_checkout ending_check_out(struct boundary_request *request,
                                    const struct unit_request *wanted,
                                    void (*again)(struct boundary_request *));

/* The request is in its unit now: notes what log and trace tell of it. */
void ending_note_unit(struct boundary_request *request);

/* The trace of a unit that this request begins: what its comment names, or NULL. Valid until the
   request is completed. */
const struct span_context *ending_unit_trace(struct boundary_request *request);

/* Whether a unit that this request begins is to be serializable: by its comment, or by default. */
bool ending_is_serializable(const struct boundary_request *request);

/* Fills in request->write for what is then begun in the request's unit. */
void ending_prepare_write(struct boundary_request *request, enum write_errors errors,
                          void (*completed)(struct write_operation *, struct slice));

/* A write of the request is done: what it is to be answered. Size 0: the server was lost. */
void ending_take_reply(struct boundary_request *request, struct slice reply);

/* Whether the driver may send the request's write a second time, after a lost answer. */
bool ending_may_come_again(const struct boundary_request *request);

/*
 * Before a write that is carried out once (unit/answers.h), its unit in hand. True: this is the
 * second time, and the request is answered what the first one was; or, if that is not known any
 * more, its unit rolled back. False: it is new.
 */
MUST_CHECK bool ending_answer_again(struct boundary_request *request);

/*
 * After it, its unit open: keeps request->reply for a second time. False: there was no room, and
 * the request is answered with that, its unit rolled back.
 */
MUST_CHECK bool ending_keep_answer(struct boundary_request *request);

/*
 * Commits the unit; then `resume` runs on the worker, with request->commit_status. `answer` is kept
 * in the COMMIT record, and valid until then; size 0: none.
 */
void ending_commit(struct boundary_request *request, struct slice answer,
                   void (*resume)(struct boundary_request *));

/* Rolls the unit back, then ending_finish(). */
void ending_roll_back(struct boundary_request *request, const char *reason);

/* The request's unit is the session's older one: rolls it back, gives it back, then `resume`. */
void ending_supersede(struct boundary_request *request, void (*resume)(struct boundary_request *));

/*
 * Replaces the reply by the error of a unit that was set aside: what it wrote may still be there.
 * Native engine: of one of whose commit nobody knows, or nobody yet, how it ended. No label: a
 * driver must not run it again on top of that.
 */
void ending_set_conflict(struct boundary_request *request);

/*
 * Nobody has logged in on the request's connection: does that matter at this server? If not,
 * `resume` runs, and *request->authorized says so; else the request is answered with the server's
 * error.
 */
void ending_ask_server(struct boundary_request *request,
                       void (*resume)(struct boundary_request *request));

/* Replaces the reply by an error. `label` may be NULL. */
void ending_set_error(struct boundary_request *request, int code, const char *label,
                      const char *message);

#endif
