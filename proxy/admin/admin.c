/*
 * The admin server's pages (admin.h) and what they know.
 *
 *   starting --> recovering (journal) --> serving (engine, router) --> draining
 *
 * The main thread writes struct facts under the mutex; a page takes a copy and looks at the rest
 * through functions of other layers that any thread may call.
 */
#include "admin/admin.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/facts.h"
#include "admin/http.h"
#include "admin/status.h"
#include "holdfast/clock.h"

struct admin {
    struct admin_http *http;
    pthread_mutex_t mutex;
    struct admin_facts facts; /* the mutex */
};

static struct admin_facts facts_now(struct admin *admin)
{
    pthread_mutex_lock(&admin->mutex);
    struct admin_facts facts = admin->facts;
    pthread_mutex_unlock(&admin->mutex);
    return facts;
}

/* ------------------------------------------------------------------ pages */

static int write_health(void *context, struct evbuffer *body)
{
    (void)context;
    (void)evbuffer_add_printf(body, "alive\n");
    return 200;
}

static int write_ready(void *context, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    char reason[ADMIN_REASON_BYTES];
    if (admin_facts_ready(&facts, reason)) {
        (void)evbuffer_add_printf(body, "ready\n");
        return 200;
    }
    (void)evbuffer_add_printf(body, "not ready: %s\n", reason);
    return 503;
}

static int write_status(void *context, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    char *text = admin_status_json(&facts);
    if (text == NULL) {
        (void)evbuffer_add_printf(body, "{\"error\":\"out of memory\"}\n");
        return 503;
    }
    (void)evbuffer_add_printf(body, "%s\n", text);
    bson_free(text);
    return 200;
}

static const struct admin_http_page pages[] = {
    {"/healthz", "text/plain; charset=utf-8", write_health},
    {"/readyz", "text/plain; charset=utf-8", write_ready},
    {"/status", "application/json", write_status},
};

/* ------------------------------------------------------------------ the main thread's side */

enum status admin_start(const char *host_and_port, struct admin **ret_admin,
                        struct error *ret_error)
{
    struct admin *admin = calloc(1, sizeof *admin);
    if (admin == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    (void)pthread_mutex_init(&admin->mutex, NULL);
    admin->facts.started_ms = clock_monotonic_ms();
    enum status status = admin_http_start(host_and_port, pages, sizeof(pages) / sizeof(pages[0]),
                                          admin, &admin->http, ret_error);
    if (status != STATUS_OK) {
        (void)pthread_mutex_destroy(&admin->mutex);
        free(admin);
        return status;
    }
    *ret_admin = admin;
    return STATUS_OK;
}

const char *admin_address(const struct admin *admin)
{
    return admin == NULL ? NULL : admin_http_address(admin->http);
}

void admin_recovering(struct admin *admin, struct wal *wal)
{
    if (admin != NULL) {
        pthread_mutex_lock(&admin->mutex);
        admin->facts.phase = ADMIN_RECOVERING;
        admin->facts.wal = wal;
        pthread_mutex_unlock(&admin->mutex);
    }
}

void admin_serving(struct admin *admin, struct engine *engine, struct router *router)
{
    if (admin != NULL) {
        pthread_mutex_lock(&admin->mutex);
        admin->facts.phase = ADMIN_SERVING;
        admin->facts.engine = engine;
        admin->facts.router = router;
        admin->facts.upstream_seen_ms = clock_monotonic_ms();
        pthread_mutex_unlock(&admin->mutex);
    }
}

void admin_upstream_seen(struct admin *admin, const char *failure)
{
    if (admin == NULL) {
        return;
    }
    pthread_mutex_lock(&admin->mutex);
    (void)snprintf(admin->facts.upstream_failure, sizeof admin->facts.upstream_failure, "%s",
                   failure == NULL ? "" : failure);
    if (failure == NULL) {
        admin->facts.upstream_seen_ms = clock_monotonic_ms();
    }
    pthread_mutex_unlock(&admin->mutex);
}

void admin_draining(struct admin *admin)
{
    if (admin != NULL) {
        pthread_mutex_lock(&admin->mutex);
        admin->facts.phase = ADMIN_DRAINING;
        pthread_mutex_unlock(&admin->mutex);
    }
}

struct admin *admin_stop(struct admin *admin)
{
    if (admin != NULL) {
        admin_http_stop(admin->http);
        (void)pthread_mutex_destroy(&admin->mutex);
        free(admin);
    }
    return NULL;
}
