#ifndef HOLDFAST_ADMIN_DECISIONS_H
#define HOLDFAST_ADMIN_DECISIONS_H

/* The pages that wait for the resolver (engine/resolver.h): a conflict's documents, and deciding.
 */

#include "admin/facts.h"
#include "admin/http.h"

/*
 * GET /conflict?unit=N&from=I: the unit's documents from the I-th on (conflicts.h). It holds what
 * documents hold.
 *
 * Both answer, where it does not succeed, {error, status: STATUS_*'s name}, with 400, 404, 409 (not
 * as it was shown, or the server does not take it), 502 (the server), 503 (not serving, busy, or a
 * lock was not to be had), 507 (the journal is full) or 500.
 */
void admin_conflict_begin(const struct admin_facts *facts, const char *query,
                          struct admin_http_later *later);

/*
 * POST /resolve?unit=N&choices=WORDS&seen=DIGEST: carries the decision out. {unit, changed,
 * conflictsLeft}.
 */
void admin_resolve_begin(const struct admin_facts *facts, const char *query,
                         struct admin_http_later *later);

#endif
