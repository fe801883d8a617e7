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
 *   timeoutMS  with begin: the unit is rolled back if it is open longer than this, 1 to
 *              unit.lifetime; by default, and at most, unit.lifetime
 *
 * Words of the text form are separated by blanks or semicolons. Other fields of the document belong
 * to others and are passed over; other words of the text, after "holdfast:", are errors.
 *
 * The same as commands on the database admin: { beginUnit: "order-17", timeoutMS: 5000 },
 * { commitUnit: "order-17" }, { abortUnit: "order-17" }.
 *
 * Any thread; nothing is allocated.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "wire/command.h"

#define COMMENT_UNIT_BYTES_MAX 128

struct comment {
    char unit[COMMENT_UNIT_BYTES_MAX + 1];
    bool begin;
    bool last;
    int64_t timeout_ms; /* 0: none */
};

/*
 * Reads the comment of a write command, or one of the three commands. Errors: STATUS_NOT_FOUND (it
 * says nothing of units), STATUS_INVALID (it does, and not by this grammar: with a sentence fit for
 * the client).
 */
MUST_CHECK enum status comment_parse(const struct command_view *view, struct comment *ret_comment,
                                     struct error *ret_error);

/* beginUnit, commitUnit or abortUnit, on admin. */
bool comment_is_command(const struct command_view *view);

#endif
