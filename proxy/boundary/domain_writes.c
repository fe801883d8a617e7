/* To which call a write, or a read, belongs that comes now, and what is refused. */
#include <string.h>

#include "boundary/domain_private.h"
#include "holdfast/clock.h"

static enum domain_write refuse(struct domain *domain, struct domain_slot *slot, const char *why,
                                const char **ret_reason)
{
    uint64_t until_ms = clock_monotonic_ms() + domain->options.quiet_ms;
    domain->figures.writes_refused++;
    if (slot != NULL) {
        slot->writes_out++;
    }
    if (domain->fenced_until_ms != 0) {
        domain->fenced_until_ms = until_ms;
    }
    for (struct domain_handler *at = slot == NULL ? NULL : slot->handlers; at != NULL;
         at = at->next) {
        at->quiet_until_ms = until_ms;
    }
    *ret_reason = why;
    return DOMAIN_WRITE_REFUSED;
}

static const char started_reason[] =
    "the proxy was started a moment ago: a call that was open before it has been rolled back, and "
    "writes are refused until its handler is silent";
static const char ended_reason[] =
    "the API call that this write belongs to has ended: it is not carried out";

static const char elsewhere_reason[] =
    "this write was sent before, in an API call that has ended: it is not carried out again";
static const char too_old_reason[] =
    "the session has used a higher transaction number already: this write is not carried out";

static enum domain_write put_in_call(struct domain *domain, struct domain_slot *slot,
                                     bool of_documents, struct domain_write_call *ret_call)
{
    domain->figures.writes_in_calls++;
    slot->writes_in_calls++;
    slot->writes += of_documents;
    *ret_call = (struct domain_write_call){
        .key = slot->open->key,
        .slot = of_documents ? slot : NULL,
        .observed = slot->open->observed,
    };
    return DOMAIN_WRITE_IN_CALL;
}

static enum domain_write put_beside(struct domain *domain, struct domain_slot *slot)
{
    domain->figures.writes_beside++;
    slot->writes_out++;
    return DOMAIN_WRITE_BESIDE;
}

/* Whether it is new, or comes a second time. The slot is open, or free. */
static enum domain_write decide_way(struct domain *domain, struct domain_slot *slot, bool open,
                                    bool of_documents, const struct domain_retry *retry,
                                    struct domain_write_call *ret_call, const char **ret_reason)
{
    enum retry_way way =
        retry == NULL ? RETRY_AS_ASKED
                      : domain_retries_note(&domain->retries, retry, open ? slot->open->unit : 0);
    switch (way) {
    case RETRY_AS_ASKED:
        return open ? put_in_call(domain, slot, of_documents, ret_call) : put_beside(domain, slot);
    case RETRY_OUTSIDE:
        return put_beside(domain, slot);
    case RETRY_ENDED:
        return refuse(domain, slot, elsewhere_reason, ret_reason);
    case RETRY_TOO_OLD:
        return refuse(domain, slot, too_old_reason, ret_reason);
    case RETRY_NO_MEMORY:
        break;
    }
    return refuse(domain, slot, "out of memory", ret_reason);
}

static enum domain_write decide(struct domain *domain, size_t service, const struct trace_id *trace,
                                bool of_documents, const struct domain_retry *retry,
                                struct domain_write_call *ret_call, const char **ret_reason)
{
    if (domain->fenced_until_ms != 0) {
        return refuse(domain, NULL, started_reason, ret_reason);
    }
    if (domain_is_trace(domain) && trace == NULL) {
        return refuse(domain, NULL,
                      "the write carries no traceparent in its comment: it cannot be told to which "
                      "API call it belongs",
                      ret_reason);
    }
    struct domain_slot *slot = slot_find(domain, service, trace);
    bool open = slot != NULL && slot->open != NULL && !slot->closing;
    if (!open && (slot == NULL || slot->handlers != NULL || domain_is_trace(domain))) {
        return refuse(domain, slot, ended_reason, ret_reason);
    }
    if (!open && domain->options.refuse_beside && of_documents) {
        return refuse(domain, slot,
                      "no API call is open to which this write could belong "
                      "(http.backgroundWrites: refuse)",
                      ret_reason);
    }
    return decide_way(domain, slot, open, of_documents, retry, ret_call, ret_reason);
}

/* Observe only: of several calls at a time only a trace can tell, or the instance. */
static uint64_t observed_call(const struct domain *domain, size_t service,
                              const struct trace_id *trace)
{
    const struct call *found = NULL;
    for (const struct call *at = domain->observed; at != NULL; at = at->next) {
        if (trace != NULL && memcmp(&at->trace, trace, sizeof *trace) == 0) {
            return at->observed;
        }
        if (domain->instances != NULL && at->service != service) {
            continue;
        }
        if (found != NULL && trace == NULL) {
            return 0;
        }
        found = at;
    }
    return trace == NULL && found != NULL ? found->observed : 0;
}

enum domain_write domain_write_decide(struct domain *domain, size_t service,
                                      const struct trace_id *trace, bool of_documents,
                                      const struct domain_retry *retry,
                                      struct domain_write_call *ret_call, const char **ret_reason)
{
    enum domain_write result = DOMAIN_WRITE_BESIDE;
    pthread_mutex_lock(&domain->mutex);
    *ret_call = (struct domain_write_call){0};
    if (domain->options.observe_only) {
        ret_call->observed = observed_call(domain, service, trace);
    } else {
        result = decide(domain, service, trace, of_documents, retry, ret_call, ret_reason);
    }
    pthread_mutex_unlock(&domain->mutex);
    return result;
}

bool domain_find_call(struct domain *domain, size_t service, const struct trace_id *trace,
                      struct unit_session_key *ret_key)
{
    pthread_mutex_lock(&domain->mutex);
    const struct domain_slot *slot =
        domain->options.observe_only ? NULL : slot_find(domain, service, trace);
    bool found = slot != NULL && slot->open != NULL;
    if (found) {
        *ret_key = slot->open->key;
    }
    pthread_mutex_unlock(&domain->mutex);
    return found;
}

bool domain_read_decide(struct domain *domain, size_t service, const struct trace_id *trace,
                        struct domain_write_call *ret_call)
{
    pthread_mutex_lock(&domain->mutex);
    struct domain_slot *slot = domain->options.observe_only || domain->fenced_until_ms != 0
                                   ? NULL
                                   : slot_find(domain, service, trace);
    bool found = slot != NULL && slot->open != NULL && !slot->closing;
    if (found) {
        *ret_call = (struct domain_write_call){.key = slot->open->key, .slot = slot};
        slot->writes++;
    }
    pthread_mutex_unlock(&domain->mutex);
    return found;
}

bool domain_refuses(struct domain *domain, size_t service, const struct trace_id *trace,
                    const char **ret_reason)
{
    bool refused = false;
    pthread_mutex_lock(&domain->mutex);
    struct domain_slot *slot = slot_find(domain, service, trace);
    bool over = slot != NULL && slot->handlers != NULL && (slot->open == NULL || slot->closing);
    if (domain->fenced_until_ms != 0 || over) {
        (void)refuse(domain, slot, over ? ended_reason : started_reason, ret_reason);
        refused = true;
    }
    pthread_mutex_unlock(&domain->mutex);
    return refused;
}
