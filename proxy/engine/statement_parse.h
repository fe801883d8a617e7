#ifndef HOLDFAST_ENGINE_STATEMENT_PARSE_H
#define HOLDFAST_ENGINE_STATEMENT_PARSE_H

/*
 * What the files that take commands apart share: statement.c (insert, update, delete,
 * findAndModify), statement_bulk.c (bulkWrite), statement_literals.c (time and random values).
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/statement.h"
#include "wire/reply.h"

struct parse {
    struct statement_list list;
    size_t capacity;
    size_t rewritten_capacity;
    uint64_t now_ms;
    int code;
    struct error *error;
};

/* Remembers the code for the client; the text goes into the error. */
#define fail(parse_, code_, ...)                                                                   \
    ((parse_)->code = (code_), error_set((parse_)->error, STATUS_INVALID, __VA_ARGS__))

/* ---- statement.c */

/* A statement whose filter matches everything. */
struct statement statement_new(enum statement_kind kind);

/* Checked; false: it is neither a document nor an array, or not sound. */
bool parse_document(const bson_iter_t *at, struct slice *ret_document);

/* What mongod's parser says of a field: of a type that it cannot have, of a name that it does not
   know, and that it is missing. */
enum status parse_fail_type(struct parse *parse, const char *field);
enum status parse_fail_unknown(struct parse *parse, const char *field);
enum status parse_fail_missing(struct parse *parse, const char *field);

enum status parse_fail_update(struct parse *parse); /* neither a document nor a pipeline */

/* A boolean, or a number that stands for one. */
bool parse_flag(const bson_iter_t *at, bool *ret_flag);

/* Fields that all but inserts share. True: it was one and is taken. */
bool parse_common(const char *name, const bson_iter_t *at, struct statement *statement,
                  bool *ret_valid);

/* An update's kind, once its `update` is known. */
void parse_update_done(struct statement *statement, bool pipeline);

enum status parse_insert_document(struct parse *parse, struct statement *statement,
                                  struct slice document);

enum status parse_add(struct parse *parse, const struct statement *statement);

typedef enum status element_parser(struct parse *parse, struct slice document);

/*
 * The elements of the array or of the document sequence `name`. `other`: another sequence that the
 * command may have; NULL: none.
 */
enum status parse_elements(struct parse *parse, const struct command_view *view,
                           const struct op_msg *message, const char *name, const char *other,
                           element_parser *parse_one);

/* ---- statement_bulk.c */

enum status parse_bulk(struct parse *parse, const struct command_view *view,
                       const struct op_msg *message);

/* ---- statement_literals.c */

/* `variables`: let, of all statements. */
enum status parse_literals(struct parse *parse, struct slice variables);

#endif
