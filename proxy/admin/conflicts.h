#ifndef HOLDFAST_ADMIN_CONFLICTS_H
#define HOLDFAST_ADMIN_CONFLICTS_H

/* The pages about units in conflict: which there are, and one with its documents. */

#include <event2/buffer.h>

#include "admin/facts.h"
#include "recover/resolve.h"

#define ADMIN_CONFLICTS_LISTED_MAX 100u
/* Of one answer; further documents with `from`. */
#define ADMIN_DOCUMENTS_SHOWN_MAX 100u
/* BSON bytes of the images in it; larger ones are only counted. */
#define ADMIN_IMAGES_SHOWN_BYTES (1u << 20)

/*
 * GET /conflicts?after=UNIT: {total, conflicts: [{unit, boundary, user, client, appName, name,
 * began, last (ISO 8601), documents (200: or more), namespaces: [..], reason}], more}, oldest
 * first. Nothing of what documents hold. Returns the HTTP status.
 */
int admin_conflicts_write(const struct admin_facts *facts, const char *query,
                          struct evbuffer *body);

/*
 * {unit, seen, from, documentCount, documents: [{ns, key, before, after, found, restore, apply}]}:
 * images as admin_json_image(); `restore` and `apply` say what that choice does to the document:
 * "stays", "replaced", "inserted", "removed", or "unknown": it cannot be done. `seen` is the digest
 * to be given back with a decision.
 */
void admin_conflict_write(const struct resolve_plan *plan, const char *digest, size_t from,
                          struct evbuffer *body);

#endif
