#ifndef HOLDFAST_OBSERVE_SHAPE_H
#define HOLDFAST_OBSERVE_SHAPE_H

/*
 * A write command's shape: what it does to what, without any value.
 *
 *   insert app.x one                                        insert app.x many
 *   update app.x {app,project} $set{data,keyId} upsert      update app.x {a} replacement
 *   update app.x {a} pipeline[$set,$unset] multi            delete app.x {a} one
 *   update app.x [{a} $set{b}; {c} $inc{d} +; …]            several statements in one command
 *   findAndModify app.x {a} $set{b} upsert                  findAndModify app.x {a} remove
 *   bulkWrite [insert app.x; update app.y {a} $set{b}]      aggregate app.x pipeline[$match,$merge]
 *   createIndexes app.x                                     any other command
 *
 * Fields and operators are sorted, because some languages' maps have no order; $and is looked
 * through, $or and $nor are named and looked through; a part of a field's path that looks like an
 * identifier is "*". "?" stands for what is not as it should be, or has not arrived yet; "…" for
 * what is beyond the bounds below.
 *
 * The command is hostile: it need not have passed bson_check(). Bounded time, no allocation, about
 * 4 KiB of stack. Pure; any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "wire/command.h"
#include "wire/op_msg.h"

#define SHAPE_BYTES_MAX 512u
#define SHAPE_NAMES_MAX 12u     /* fields of one filter or operator; operators of one update */
#define SHAPE_NAME_BYTES 64u    /* of a field's whole path */
#define SHAPE_STATEMENTS_MAX 4u /* told of one command, after repeats */
#define SHAPE_LOOK_MAX 1024u    /* BSON elements looked at for one shape */
#define SHAPE_DEPTH_MAX 4u      /* of $and, $or, $nor */

struct shape {
    char text[SHAPE_BYTES_MAX + 1]; /* NUL-terminated, printable UTF-8 */
    size_t size;
    bool several; /* one command that may write several documents */
};

/* `message` may be one of which only the body is here (op_msg_parse_available()). */
void shape_make(const struct command_view *view, const struct op_msg *message,
                struct shape *ret_shape);

#endif
