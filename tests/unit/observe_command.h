#ifndef HOLDFAST_TESTS_OBSERVE_COMMAND_H
#define HOLDFAST_TESTS_OBSERVE_COMMAND_H

/* What the observe tests share: commands from JSON, and their views. */

#include <bson/bson.h>
#include <stdlib.h>
#include <string.h>

#include "observe/observe.h"
#include "observe/shape.h"

/* A command whose documents stand in its body; all points into `body`. */
struct test_command {
    bson_t *body;
    struct command_view view;
    struct op_msg message;
};

static inline struct test_command command_of(const char *json)
{
    struct test_command command = {.body = NULL};
    bson_error_t error;
    command.body = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (command.body == NULL) {
        fail_msg("%s: %s", json, error.message);
        abort(); /* for the analyzer, which does not know that it jumps */
    }
    command.message.body = slice_make(bson_get_data(command.body), command.body->len);
    assert_int_equal(command_view_parse(command.message.body, &command.view, NULL), STATUS_OK);
    return command;
}

static inline void command_done(struct test_command *command)
{
    bson_destroy(command->body);
}

#endif
