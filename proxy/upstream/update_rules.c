/* Asking the server how it orders new fields. The struct upstream's thread. */
#include "upstream/update_rules.h"

#include <string.h>

#define NAMES_MAX 8

/* The one-letter names of the document that `command` makes of `before`, in their order. Destroys
   the command. */
static enum status ask(struct upstream *upstream, bson_t *command, struct image before,
                       char ret_names[NAMES_MAX], struct error *ret_error)
{
    struct image after = {.presence = IMAGE_UNKNOWN};
    bson_iter_t at;
    size_t count = 0;
    enum status status = upstream_evaluate(
        upstream, slice_make(bson_get_data(command), command->len), before, &after, ret_error);
    memset(ret_names, 0, NAMES_MAX);
    /* A server that crashed in between may have lost the scratch collection: then nothing is known.
     */
    if (status == STATUS_OK && after.presence == IMAGE_PRESENT &&
        bson_iter_init_from_data(&at, after.document.data, after.document.size)) {
        while (bson_iter_next(&at) && count < NAMES_MAX - 1) {
            if (strlen(bson_iter_key(&at)) == 1) {
                ret_names[count++] = bson_iter_key(&at)[0];
            }
        }
    }
    image_free(&after);
    bson_destroy(command);
    return status;
}

static enum field_order order_of(const char *names, const char *sorted, const char *as_given)
{
    return strcmp(names, sorted) == 0     ? FIELD_ORDER_SORTED
           : strcmp(names, as_given) == 0 ? FIELD_ORDER_AS_GIVEN
                                          : FIELD_ORDER_UNKNOWN;
}

enum status upstream_update_rules(struct upstream *upstream, struct update_rules *ret_rules,
                                  struct error *ret_error)
{
    char updated[NAMES_MAX];
    char upserted[NAMES_MAX];
    bson_t *document = BCON_NEW("_id", BCON_INT32(1));
    struct image before = {.presence = IMAGE_PRESENT,
                           .document = slice_make(bson_get_data(document), document->len)};
    bson_t *update =
        BCON_NEW("findAndModify", "probe", "query", "{", "_id", BCON_INT32(1), "}", "update", "{",
                 "$set", "{", "c", BCON_INT32(1), "a", BCON_INT32(1), "}", "$inc", "{", "b",
                 BCON_INT32(1), "}", "}", "new", BCON_BOOL(true));
    bson_t *upsert =
        BCON_NEW("findAndModify", "probe", "query", "{", "_id", BCON_INT32(1), "y", BCON_INT32(1),
                 "x", BCON_INT32(1), "}", "update", "{", "$set", "{", "d", BCON_INT32(1), "b",
                 BCON_INT32(1), "}", "$inc", "{", "c", BCON_INT32(1), "}", "$setOnInsert", "{", "a",
                 BCON_INT32(1), "}", "}", "new", BCON_BOOL(true), "upsert", BCON_BOOL(true));
    enum status status = ask(upstream, update, before, updated, ret_error);
    if (status == STATUS_OK) {
        struct image absent = {.presence = IMAGE_ABSENT};
        status = ask(upstream, upsert, absent, upserted, ret_error);
    } else {
        bson_destroy(upsert);
    }
    bson_destroy(document);
    if (status == STATUS_OK) {
        *ret_rules = (struct update_rules){
            .update_fields = order_of(updated, "abc", "cab"),
            .upsert_fields = order_of(upserted, "xyabcd", "xydbca"),
        };
    }
    return status;
}
