#ifndef HOLDFAST_BOUNDARY_COMMENT_H
#define HOLDFAST_BOUNDARY_COMMENT_H

/*
 * What a service says of units in the standard `comment` of its write commands.
 *
 *   document   comment: { unit: "order-17", begin: true, last: true, timeoutMS: 5000 }
 *   text       comment: "holdfast: unit=order-17 begin last timeoutMS=5000"
 *
 *   unit       names the unit: 1 to COMMENT_UNIT_BYTES_MAX bytes, in the text form without blanks
 *              and semicolons. Required; a comment without it says nothing of units
 *   begin      this write begins the unit; without it the unit must be open
 *   last       if this write is carried out, the unit is committed before it is answered
 *   isolation  with begin: "snapshot" or "serializable"; by default unit.isolation
 *   timeoutMS  with begin: the unit is rolled back if it is open longer than this, 1 to
 *              unit.lifetime; by default, and at most, unit.lifetime
 *
 * Words of the text form are separated by blanks or semicolons. Other fields of the document belong
 * to others and are passed over; other words of the text, after "holdfast:", are errors.
 *
 * The same as commands on the database admin: { beginUnit: "order-17", timeoutMS: 5000 },
 * { commitUnit: "order-17" }, { abortUnit: "order-17" }.
 *
 * The first command of a driver's transaction may say its isolation, and nothing else:
 * { isolation: "serializable" }, or "holdfast: isolation=serializable".
 *
 * Any thread; nothing is allocated.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "wire/command.h"

#define COMMENT_UNIT_BYTES_MAX 128

enum comment_isolation {
    COMMENT_ISOLATION_DEFAULT, /* it says nothing */
    COMMENT_ISOLATION_SNAPSHOT,
    COMMENT_ISOLATION_SERIALIZABLE,
};

struct comment {
    char unit[COMMENT_UNIT_BYTES_MAX + 1];
    bool begin;
    bool last;
    int64_t timeout_ms; /* 0: none */
    enum comment_isolation isolation;
};

/*
 * Reads the comment of a write command, or one of the three commands. Errors: STATUS_NOT_FOUND (it
 * says nothing of units), STATUS_INVALID (it does, and not by this grammar: with a sentence fit for
 * the client).
 */
MUST_CHECK enum status comment_parse(const struct command_view *view, struct comment *ret_comment,
                                     struct error *ret_error);

/*
 * What the comment of a driver's transaction's command says of isolation. STATUS_INVALID: something
 * that is none, with a sentence fit for the client.
 */
MUST_CHECK enum status comment_isolation_parse(const struct command_view *view,
                                               enum comment_isolation *ret_isolation,
                                               struct error *ret_error);

/* beginUnit, commitUnit or abortUnit, on admin. */
bool comment_is_command(const struct command_view *view);

#endif
