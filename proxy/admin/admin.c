/*
 * The admin server's pages (admin.h) and what they know.
 *
 *   starting --> recovering (journal) --> serving (engine, router) --> draining
 *       `-> standby -^
 *
 * The main thread writes struct facts under the mutex; a page takes a copy and looks at the rest
 * through functions of other layers that any thread may call.
 */
#include "admin/admin.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/assets.h"
#include "admin/conflicts.h"
#include "admin/control.h"
#include "admin/decisions.h"
#include "admin/facts.h"
#include "admin/http.h"
#include "admin/metrics.h"
#include "admin/open_units.h"
#include "admin/query.h"
#include "admin/status.h"
#include "admin/token.h"
#include "base/local_socket.h"
#include "engine/resolver.h"
#include "holdfast/clock.h"
#include "net/listening.h"

struct admin {
    struct admin_http *http;    /* NULL: not wanted */
    int descriptor;             /* that it listens on */
    struct admin_http *control; /* NULL: not yet, or no more */
    const char *directory;      /* of the control socket; NULL: not yet */
    pthread_mutex_t mutex;
    struct admin_facts facts; /* the mutex */
    struct histogram recovery;
    struct admin_token token; /* the mutex */
};

static struct admin_facts facts_now(struct admin *admin)
{
    pthread_mutex_lock(&admin->mutex);
    struct admin_facts facts = admin->facts;
    pthread_mutex_unlock(&admin->mutex);
    return facts;
}

static enum admin_token_result permit(void *context, const char *authorization)
{
    struct admin *admin = context;
    pthread_mutex_lock(&admin->mutex);
    struct admin_token token = admin->token;
    pthread_mutex_unlock(&admin->mutex);
    return admin_token_check(&token, authorization);
}

/* ------------------------------------------------------------------ pages */

static int write_health(void *context, const char *query, struct evbuffer *body)
{
    (void)query;
    (void)context;
    (void)evbuffer_add_printf(body, "{\"alive\":true}\n");
    return 200;
}

static int write_ready(void *context, const char *query, struct evbuffer *body)
{
    (void)query;
    struct admin_facts facts = facts_now(context);
    struct admin_judgement judgement;
    bson_t document = BSON_INITIALIZER;
    admin_facts_judge(&facts, &judgement);
    BSON_APPEND_BOOL(&document, "ready", judgement.ready);
    BSON_APPEND_UTF8(&document, "state", judgement.state);
    if (!judgement.ready) {
        BSON_APPEND_UTF8(&document, "reason", judgement.reason);
    }
    BSON_APPEND_INT64(&document, "unitsOpen", (int64_t)judgement.units);
    BSON_APPEND_INT64(&document, "callsOpen", (int64_t)judgement.calls);
    BSON_APPEND_BOOL(&document, "safeToRemove", judgement.safe_to_remove);
    char *text = bson_as_relaxed_extended_json(&document, NULL);
    bson_destroy(&document);
    (void)evbuffer_add_printf(body, "%s\n", text == NULL ? "{}" : text);
    bson_free(text);
    return judgement.ready ? 200 : 503;
}

static int write_status(void *context, const char *query, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    uint64_t units = query_number(query, "units", ADMIN_UNITS_LISTED_MAX);
    char *text = admin_status_json(&facts, (size_t)units);
    if (text == NULL) {
        (void)evbuffer_add_printf(body, "{\"error\":\"out of memory\"}\n");
        return 503;
    }
    (void)evbuffer_add_printf(body, "%s\n", text);
    bson_free(text);
    return 200;
}

static int write_metrics(void *context, const char *accept, struct evbuffer *body,
                         const char **content_type)
{
    struct admin_facts facts = facts_now(context);
    return admin_metrics_write(&facts, accept, body, content_type);
}

static int write_observe(void *context, const char *query, struct evbuffer *body)
{
    (void)query;
    struct admin_facts facts = facts_now(context);
    if (facts.observe == NULL) {
        (void)evbuffer_add_printf(body, "{\"error\":\"nothing is observed%s\"}\n",
                                  facts.phase == ADMIN_SERVING ? "" : ": not serving");
        return 404;
    }
    bson_t report = BSON_INITIALIZER;
    observe_report(facts.observe, &report);
    char *text = bson_as_relaxed_extended_json(&report, NULL);
    bson_destroy(&report);
    if (text == NULL) {
        (void)evbuffer_add_printf(body, "{\"error\":\"the report cannot be written\"}\n");
        return 503;
    }
    (void)evbuffer_add_printf(body, "%s\n", text);
    bson_free(text);
    return 200;
}

static int write_rollback(void *context, const char *query, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    return admin_control_rollback(&facts, query, body);
}

static int write_prune(void *context, const char *query, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    return admin_control_prune(&facts, query, body);
}

static int write_units(void *context, const char *query, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    return admin_units_write(&facts, query, body);
}

static int write_waits(void *context, const char *query, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    return admin_waits_write(&facts, query, body);
}

static int write_conflicts(void *context, const char *query, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    return admin_conflicts_write(&facts, query, body);
}

static void begin_conflict(void *context, const char *query, struct admin_http_later *later)
{
    struct admin_facts facts = facts_now(context);
    admin_conflict_begin(&facts, query, later);
}

static void begin_resolve(void *context, const char *query, struct admin_http_later *later)
{
    struct admin_facts facts = facts_now(context);
    admin_resolve_begin(&facts, query, later);
}

/* For who wants to know whether his token is right before he needs it. */
static int write_token(void *context, const char *query, struct evbuffer *body)
{
    (void)context;
    (void)query;
    (void)evbuffer_add_printf(body, "{\"token\":\"right\"}\n");
    return 200;
}

static int write_drain(void *context, const char *query, struct evbuffer *body)
{
    (void)query;
    struct admin_facts facts = facts_now(context);
    return admin_control_drain(&facts, body);
}

static int write_upgrade(void *context, const char *query, struct evbuffer *body)
{
    (void)query;
    struct admin_facts facts = facts_now(context);
    return admin_control_upgrade(&facts, body);
}

static int write_backup(void *context, const char *query, struct evbuffer *body)
{
    struct admin_facts facts = facts_now(context);
    return admin_control_backup(&facts, query, body);
}

#define TEXT "text/plain; charset=utf-8"
#define JSON "application/json"

/*
 * Those behind the first PORT_PAGES are also the control socket's, which only the daemon's own user
 * can reach: nobody is a stranger there, and no token is asked for.
 */
static const struct admin_http_page pages[] = {
    {"/healthz", JSON, .write = write_health},
    {"/token", JSON, .write = write_token, .secret = true},
    {"/readyz", JSON, .write = write_ready},
    {"/metrics", TEXT, .write_accepted = write_metrics},
    {"/status", JSON, .write = write_status, .guarded = true},
    {"/observe", JSON, .write = write_observe, .guarded = true},
    {"/units", JSON, .write = write_units, .guarded = true},
    {"/waits", JSON, .write = write_waits, .guarded = true},
    {"/conflicts", JSON, .write = write_conflicts, .guarded = true},
    {"/conflict", JSON, .begin = begin_conflict, .secret = true},
    {"/resolve", JSON, .acts = true, .begin = begin_resolve},
    {"/rollback", TEXT, .acts = true, .write = write_rollback},
    {"/prune", JSON, .acts = true, .write = write_prune},
    {"/drain", JSON, .acts = true, .write = write_drain},
    {"/upgrade", JSON, .acts = true, .write = write_upgrade},
    {"/backup", JSON, .acts = true, .write = write_backup},
};
enum { PORT_PAGES = 2, PAGES = sizeof pages / sizeof pages[0] };

/* ------------------------------------------------------------------ the main thread's side */

struct admin *admin_new(void)
{
    struct admin *admin = calloc(1, sizeof *admin);
    if (admin != NULL) {
        (void)pthread_mutex_init(&admin->mutex, NULL);
        admin->facts.started_ms = clock_monotonic_ms();
        admin->facts.recovery = &admin->recovery;
        admin->facts.generation = 1;
        admin->facts.upgrade_state = "none";
        admin->descriptor = -1;
    }
    return admin;
}

void admin_set_token(struct admin *admin, const char *text)
{
    pthread_mutex_lock(&admin->mutex);
    admin_token_set(&admin->token, text);
    pthread_mutex_unlock(&admin->mutex);
}

enum status admin_listen(struct admin *admin, const char *host_and_port,
                         char ret_address[NETWORK_ADDRESS_TEXT_BYTES], struct error *ret_error)
{
    const struct admin_http_options options = {
        .pages = pages,
        .page_count = PAGES,
        .assets = admin_assets,
        .asset_count = admin_asset_count,
        .context = admin,
        .permit = permit,
    };
    int descriptor = -1;
    enum status status = listener_bind(host_and_port, &descriptor, ret_address, ret_error);
    if (status == STATUS_OK) {
        admin->descriptor = descriptor;
        status = admin_http_start(descriptor, &options, &admin->http, ret_error);
    }
    return status;
}

enum status admin_control(struct admin *admin, const char *directory, struct error *ret_error)
{
    const struct admin_http_options options = {
        .pages = pages + PORT_PAGES,
        .page_count = PAGES - PORT_PAGES,
        .context = admin,
    };
    int descriptor = -1;
    admin->directory = directory;
    pthread_mutex_lock(&admin->mutex);
    admin->facts.directory = directory;
    pthread_mutex_unlock(&admin->mutex);
    enum status status =
        local_socket_listen(directory, LOCAL_SOCKET_CONTROL, &descriptor, ret_error);
    return status == STATUS_OK ? admin_http_start(descriptor, &options, &admin->control, ret_error)
                               : status;
}

void admin_standby(struct admin *admin, const char *reason)
{
    pthread_mutex_lock(&admin->mutex);
    admin->facts.phase = ADMIN_STANDBY;
    (void)snprintf(admin->facts.standby, sizeof admin->facts.standby, "%s", reason);
    pthread_mutex_unlock(&admin->mutex);
}

void admin_recovering(struct admin *admin, struct wal *wal)
{
    pthread_mutex_lock(&admin->mutex);
    admin->facts.phase = ADMIN_RECOVERING;
    admin->facts.wal = wal;
    pthread_mutex_unlock(&admin->mutex);
}

void admin_serving(struct admin *admin, struct engine *engine, struct router *router,
                   struct services *services, struct observe *observe, struct pruner *pruner)
{
    pthread_mutex_lock(&admin->mutex);
    admin->facts.phase = ADMIN_SERVING;
    admin->facts.engine = engine;
    admin->facts.router = router;
    admin->facts.services = services;
    admin->facts.observe = observe;
    admin->facts.pruner = pruner;
    admin->facts.upstream_seen_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&admin->mutex);
}

void admin_recovered(struct admin *admin, uint64_t duration_us)
{
    histogram_observe(&admin->recovery, duration_us);
}

void admin_telemetry(struct admin *admin, struct telemetry *telemetry)
{
    pthread_mutex_lock(&admin->mutex);
    admin->facts.telemetry = telemetry;
    pthread_mutex_unlock(&admin->mutex);
}

void admin_upstream_seen(struct admin *admin, const char *failure)
{
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
    pthread_mutex_lock(&admin->mutex);
    admin->facts.phase = ADMIN_DRAINING;
    pthread_mutex_unlock(&admin->mutex);
}

void admin_upgrade(struct admin *admin, const struct admin_upgrade *upgrade)
{
    pthread_mutex_lock(&admin->mutex);
    admin->facts.generation = upgrade->generation;
    admin->facts.upgrades_failed = upgrade->failed;
    admin->facts.upgrade_state = upgrade->state;
    (void)snprintf(admin->facts.upgrade_failure, sizeof admin->facts.upgrade_failure, "%s",
                   upgrade->failure);
    pthread_mutex_unlock(&admin->mutex);
}

void admin_ending(struct admin *admin)
{
    admin_http_settle(admin->http); /* nobody who saw it serving is at it any more */
    if (admin->facts.engine != NULL) {
        resolver_refuse(admin->facts.engine->resolver); /* only what is at work is waited for */
    }
    admin->control = admin_http_stop(admin->control);
}

struct admin *admin_stop(struct admin *admin)
{
    if (admin != NULL) {
        admin_http_stop(admin->control);
        listening_forget(admin->descriptor);
        admin_http_stop(admin->http);
        if (admin->directory != NULL) {
            local_socket_remove(admin->directory, LOCAL_SOCKET_CONTROL);
        }
        (void)pthread_mutex_destroy(&admin->mutex);
        free(admin);
    }
    return NULL;
}
