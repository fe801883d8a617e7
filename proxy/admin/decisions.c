/*
 * From a request to the resolver's job and back (decisions.h).
 *
 * Threads: a request comes on an admin server's, its answer is made on the resolver's.
 */
#include "admin/decisions.h"

#include <inttypes.h>
#include <stdlib.h>

#include "admin/conflicts.h"
#include "admin/json.h"
#include "admin/query.h"
#include "engine/resolver.h"

struct question {
    struct resolver_job job;
    struct wal *wal;
    size_t from;
    struct admin_http_later *later;
};

static int code_of(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return 200;
    case STATUS_INVALID:
        return 400;
    case STATUS_NOT_FOUND:
        return 404;
    case STATUS_CONFLICT:
        return 409;
    case STATUS_UNREACHABLE:
    case STATUS_PROTOCOL:
    case STATUS_REFUSED:
        return 502;
    case STATUS_LIMIT:
    case STATUS_MEMORY:
        return 503;
    case STATUS_FULL:
        return 507;
    default:
        return 500;
    }
}

static void fail(struct admin_http_later *later, enum status status, const char *message)
{
    struct evbuffer *body = admin_http_later_body(later);
    (void)evbuffer_add_printf(body, "{");
    admin_json_member(body, true, "error", message);
    admin_json_member(body, false, "status", status_name(status));
    (void)evbuffer_add_printf(body, "}\n");
    admin_http_later_send(later, code_of(status));
}

static void on_done(struct resolver_job *job)
{
    struct question *question = job->context;
    struct evbuffer *body = admin_http_later_body(question->later);
    struct wal_statistics figures = {0};
    if (job->status != STATUS_OK) {
        fail(question->later, job->status, job->error.message);
    } else if (job->decide) {
        (void)evbuffer_add_printf(body, "{\"unit\":%" PRIu64 ",\"changed\":%zu", job->unit,
                                  job->changed);
        if (wal_statistics_get(question->wal, &figures, NULL) == STATUS_OK) {
            (void)evbuffer_add_printf(body, ",\"conflictsLeft\":%" PRIu64, figures.units_conflict);
        }
        (void)evbuffer_add_printf(body, "}\n");
        admin_http_later_send(question->later, 200);
    } else {
        admin_conflict_write(&job->plan, job->digest, question->from, body);
        admin_http_later_send(question->later, 200);
    }
    free(question);
}

static void ask(const struct admin_facts *facts, struct question *question)
{
    if (facts->phase != ADMIN_SERVING || facts->engine->resolver == NULL) {
        fail(question->later, STATUS_LIMIT, "holdfastd is not serving at this moment");
    } else if (question->job.unit == 0) {
        fail(question->later, STATUS_INVALID, "which unit? unit=NUMBER");
    } else if (!resolver_ask(facts->engine->resolver, &question->job)) {
        fail(question->later, STATUS_LIMIT, "too many decisions are on their way: try again");
    } else {
        return;
    }
    free(question);
}

static struct question *question_new(const struct admin_facts *facts, const char *query,
                                     struct admin_http_later *later)
{
    struct question *question = calloc(1, sizeof *question);
    if (question == NULL) {
        fail(later, STATUS_MEMORY, "out of memory");
        return NULL;
    }
    question->wal = facts->wal;
    question->later = later;
    question->from = (size_t)query_number(query, "from", 0);
    question->job.unit = query_number(query, "unit", 0);
    question->job.done = on_done;
    question->job.context = question;
    return question;
}

void admin_conflict_begin(const struct admin_facts *facts, const char *query,
                          struct admin_http_later *later)
{
    struct question *question = question_new(facts, query, later);
    if (question != NULL) {
        ask(facts, question);
    }
}

void admin_resolve_begin(const struct admin_facts *facts, const char *query,
                         struct admin_http_later *later)
{
    struct question *question = question_new(facts, query, later);
    if (question == NULL) {
        return;
    }
    struct resolver_job *job = &question->job;
    job->decide = true;
    if (!query_text(query, "seen", job->seen, sizeof job->seen) ||
        !query_text(query, "choices", job->choices, sizeof job->choices)) {
        fail(later, STATUS_INVALID,
             "what is decided, and what was seen? choices=WORDS&seen=DIGEST");
        free(question);
        return;
    }
    ask(facts, question);
}
