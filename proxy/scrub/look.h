#ifndef HOLDFAST_SCRUB_LOOK_H
#define HOLDFAST_SCRUB_LOOK_H

/*
 * Looking for what breaks rules.
 *
 * What services write while somebody looks must make no false alarm: a call's two writes may lie
 * before and behind the moment at which the server passes a document. So a finding is looked at a
 * second time, after a pause, and counts only if the group is still there and the same: as many
 * documents of each source, with the same values. One that is broken again, but otherwise, is
 * *moving*: its documents are being written, and nothing is said of it but that.
 *
 * Memory: up to SCRUB_BATCH findings between two looks, whatever there are. The server: one scan of
 * each source for the first look, one for each SCRUB_BATCH findings for the second, or an index's
 * look-up where the rule's keys have one.
 *
 * Threads: the caller's; synchronous.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "scrub/rules.h"

#define SCRUB_BATCH 500

/* Who carries out commands: a connection, or a unit. */
struct scrub_link {
    /* The caller destroys *ret_reply after STATUS_OK only. */
    enum status (*command)(void *context, const char *database, const bson_t *command,
                           bson_t *ret_reply, struct error *ret_error);
    void *context;
    int64_t now_ms; /* the server's clock when the work began */
};

/* False ends the walk, without an error. */
typedef bool scrub_on_document(const bson_t *document, void *context);

/* Hands over the documents that the command's cursor has. Errors: those of the link. */
MUST_CHECK enum status scrub_documents(const struct scrub_link *link, const char *database,
                                       const bson_t *command, scrub_on_document *on_document,
                                       void *context, struct error *ret_error);

/*
 * One look at the group of this key. *ret_group is NULL if it is sound or gone, else the caller
 * destroys it.
 */
MUST_CHECK enum status scrub_look_at(const struct scrub_link *link, const struct scrub_rule *rule,
                                     const bson_t *group, bson_t **ret_group,
                                     struct error *ret_error);

struct scrub_counts {
    uint64_t found;
    uint64_t rows; /* of the first source, in all that was found */
    uint64_t moving;
};

/* A finding that was there twice; STATUS_OK to go on. */
typedef enum status scrub_on_finding(const struct scrub_rule *rule, const bson_t *group,
                                     void *context, struct error *ret_error);

/*
 * All findings of a rule, pause_ms between two looks. *ret_counts is valid after STATUS_OK. Errors:
 * those of the link and of `on_finding`; prefixed with the rule's name.
 */
MUST_CHECK enum status scrub_find(const struct scrub_link *link, const struct scrub_rule *rule,
                                  uint64_t pause_ms, scrub_on_finding *on_finding, void *context,
                                  struct scrub_counts *ret_counts, struct error *ret_error);

#endif
