#ifndef HOLDFAST_ENGINE_RESOLVER_PRIVATE_H
#define HOLDFAST_ENGINE_RESOLVER_PRIVATE_H

/* What resolver.c and resolver_decide.c share. */

#include "engine/resolver.h"

/* SHA-256 of all that was looked at: the unit, its last record, each key and image. */
void resolver_digest(const struct resolve_plan *plan, char ret_digest[RESOLVER_DIGEST_BYTES]);

/* Carries the job's decision out. `upstream` is good for closing only after an error. */
MUST_CHECK enum status resolver_decide(const struct resolver_options *options,
                                       struct upstream *upstream, struct resolver_job *job,
                                       struct error *ret_error);

#endif
