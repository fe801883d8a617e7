#ifndef HOLDFAST_ENGINE_RESOLVER_H
#define HOLDFAST_ENGINE_RESOLVER_H

/*
 * An operator's decision about a unit in conflict (recover/resolve.h), while the proxy serves.
 *
 *   look      reads the unit's images from the journal and its documents from the server: what
 *             an operator decides about, and a digest of all of it. It locks nothing: what an open
 *             unit has written just now is seen, and a decision about that is refused
 *   decide    a unit of the boundary "resolve": through the gates of the namespaces, locks on
 *             all documents of the conflict and on the keys of unique indexes that change, so
 *             that neither units nor plain writes of this proxy meet it; looks again, and only
 *             if the digest is still the same carries the decision out (recover/resolve.h)
 *
 *     gates --> locks --> look: as it was shown? --> keys --> WRITE durable, published
 *                              | no                                |
 *                              v                                   v
 *                    nothing was done        replaced, guarded --> both ends durable --> released
 *                                                 | refused, changed meanwhile, server away
 *                                                 v
 *                                            rolled back like any unit (finish.h)
 *
 * Any of the proxy's ends in between leaves the conflict as it was: recovery rolls back the unit.
 *
 * A thread of its own, with its own connection to the server, works on one job after the other.
 * Bounded: RESOLVER_JOBS_MAX jobs, RESOLVER_BYTES_MAX of images in each.
 */

#include <stdbool.h>

#include "engine/engine.h"
#include "holdfast/error.h"
#include "recover/resolve.h"
#include "upstream/server_process.h"

#define RESOLVER_JOBS_MAX 8u
#define RESOLVER_BYTES_MAX ((size_t)256 << 20)
#define RESOLVER_DIGEST_BYTES 65 /* hexadecimal, with its NUL */
/* Of `choices`: a document in 2,000, or runs of them. */
#define RESOLVER_CHOICES_BYTES 2048

struct resolver;

struct resolver_options {
    struct engine *engine;
    const char *upstream_uri;
    uint64_t connect_ms;
    struct server_process *process; /* outlives the resolver, as the engine does; NULL: native */
};

/* Lies in the caller's memory from resolver_ask() until `done`. */
struct resolver_job {
    /* filled in by the caller */
    uint64_t unit;
    bool decide; /* else look only */
    /* decide: a letter for each document in their order, k(eep), r(estore) or a(pply), perhaps with
       a number: how many in a row have it. A single one without a number is for all. */
    char choices[RESOLVER_CHOICES_BYTES];
    char seen[RESOLVER_DIGEST_BYTES];       /* decide: the digest that was shown */
    void (*done)(struct resolver_job *job); /* on the resolver's thread; the job is then yours */
    void *context;
    /* filled in before `done` */
    /*
     * STATUS_OK; of the decision: STATUS_CONFLICT (not as it was shown, or the server does not take
     * it: nothing was changed), STATUS_LIMIT (a lock was not to be had, or the images take too
     * much), STATUS_INVALID (not in conflict, bad choices, an image is not known),
     * STATUS_NOT_FOUND, STATUS_UNREACHABLE (what was begun is rolled back when the server answers),
     * STATUS_FULL, and those of resolve_look().
     */
    enum status status;
    struct error error;
    struct resolve_plan plan; /* look, STATUS_OK: valid during `done` */
    char digest[RESOLVER_DIGEST_BYTES];
    size_t changed;            /* decide, STATUS_OK: documents that were replaced */
    struct resolver_job *next; /* private */
};

/* STATUS_MEMORY, STATUS_IO (no thread). */
MUST_CHECK enum status resolver_start(const struct resolver_options *options,
                                      struct resolver **ret_resolver, struct error *ret_error);

/* No further job is begun: those that wait, and those that come, are STATUS_UNREACHABLE. Any
   thread; NULL is harmless. */
void resolver_refuse(struct resolver *resolver);

/*
 * Finishes the job at hand, as fast as a server that does not answer lets it
 * (upstream_stop_waiting()), refuses the others. Before the rollback pool stops. NULL is harmless;
 * returns NULL.
 */
struct resolver *resolver_stop(struct resolver *resolver);

/* False: RESOLVER_JOBS_MAX wait already; `done` is not called. Any thread. */
bool resolver_ask(struct resolver *resolver, struct resolver_job *job);

/* Takes `choices` apart, for tests: writes them into the plan. STATUS_INVALID. */
MUST_CHECK enum status resolver_choose(struct resolve_plan *plan, const char *choices,
                                       struct error *ret_error);

#endif
