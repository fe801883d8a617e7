/* No admin port in the simulation, and nothing is sent anywhere: nothing on a client's path goes
   through it. */
#include "admin/admin.h"

static char nothing;

struct admin *admin_new(void)
{
    return (struct admin *)(void *)&nothing;
}

void admin_set_token(struct admin *admin, const char *text)
{
    (void)admin;
    (void)text;
}

enum status admin_listen(struct admin *admin, const char *host_and_port,
                         char ret_address[NETWORK_ADDRESS_TEXT_BYTES], struct error *ret_error)
{
    (void)admin;
    (void)host_and_port;
    ret_address[0] = '\0';
    (void)ret_error;
    return STATUS_OK;
}

enum status admin_control(struct admin *admin, const char *directory, struct error *ret_error)
{
    (void)admin;
    (void)directory;
    (void)ret_error;
    return STATUS_OK;
}

void admin_recovering(struct admin *admin, struct wal *wal)
{
    (void)admin;
    (void)wal;
}

void admin_serving(struct admin *admin, struct engine *engine, struct router *router,
                   struct services *services, struct observe *observe, struct pruner *pruner)
{
    (void)admin;
    (void)engine;
    (void)router;
    (void)services;
    (void)observe;
    (void)pruner;
}

void admin_upstream_seen(struct admin *admin, const char *failure)
{
    (void)admin;
    (void)failure;
}

void admin_draining(struct admin *admin)
{
    (void)admin;
}

struct admin *admin_stop(struct admin *admin)
{
    (void)admin;
    return NULL;
}

void admin_standby(struct admin *admin, const char *reason)
{
    (void)admin;
    (void)reason;
}

void admin_ending(struct admin *admin)
{
    (void)admin;
}

void admin_recovered(struct admin *admin, uint64_t duration_us)
{
    (void)admin;
    (void)duration_us;
}

void admin_telemetry(struct admin *admin, struct telemetry *telemetry)
{
    (void)admin;
    (void)telemetry;
}

enum status telemetry_start(const struct telemetry_options *options,
                            struct telemetry **ret_telemetry, struct error *ret_error)
{
    (void)options;
    (void)ret_error;
    *ret_telemetry = NULL;
    return STATUS_OK;
}

enum status telemetry_check_url(const char *url, struct error *ret_error)
{
    (void)url;
    (void)ret_error;
    return STATUS_OK;
}

struct telemetry *telemetry_stop(struct telemetry *telemetry)
{
    (void)telemetry;
    return NULL;
}

void admin_upgrade(struct admin *admin, const struct admin_upgrade *upgrade)
{
    (void)admin;
    (void)upgrade;
}
