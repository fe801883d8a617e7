/* Which process of the server this proxy works with (server_process.h). One mutex, short. */
#include "upstream/server_process.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct server_process {
    pthread_mutex_t mutex;
    void (*on_changed)(void *context);
    void *context;
    bool told; /* the server tells its process */
    bool changed;
    uint8_t id[UPSTREAM_PROCESS_BYTES];
};

struct server_process *server_process_new(void (*changed)(void *context), void *context)
{
    struct server_process *process = calloc(1, sizeof *process);
    if (process != NULL) {
        (void)pthread_mutex_init(&process->mutex, NULL);
        process->on_changed = changed;
        process->context = context;
    }
    return process;
}

struct server_process *server_process_free(struct server_process *process)
{
    if (process != NULL) {
        (void)pthread_mutex_destroy(&process->mutex);
        free(process);
    }
    return NULL;
}

void server_process_set(struct server_process *process, const uint8_t *id)
{
    pthread_mutex_lock(&process->mutex);
    process->told = id != NULL;
    process->changed = false;
    if (id != NULL) {
        memcpy(process->id, id, sizeof process->id);
    }
    pthread_mutex_unlock(&process->mutex);
}

/* The mutex is held. */
static bool is_other(const struct server_process *process, const uint8_t *id)
{
    return process->told && (id == NULL || memcmp(id, process->id, sizeof process->id) != 0);
}

bool server_process_is(struct server_process *process, const uint8_t *id)
{
    pthread_mutex_lock(&process->mutex);
    bool is = !is_other(process, id);
    pthread_mutex_unlock(&process->mutex);
    return is;
}

bool server_process_check(struct server_process *process, const uint8_t *id)
{
    pthread_mutex_lock(&process->mutex);
    bool other = is_other(process, id);
    bool first = other && !process->changed;
    process->changed = process->changed || other;
    bool allowed = !process->changed;
    pthread_mutex_unlock(&process->mutex);
    if (first) {
        process->on_changed(process->context);
    }
    return allowed;
}

bool server_process_has_changed(struct server_process *process)
{
    pthread_mutex_lock(&process->mutex);
    bool changed = process->changed;
    pthread_mutex_unlock(&process->mutex);
    return changed;
}

enum status server_process_check_upstream(struct server_process *process, struct upstream *upstream,
                                          struct error *ret_error)
{
    struct upstream_description server;
    enum status status = upstream_describe(upstream, &server, ret_error);
    if (status == STATUS_OK) {
        upstream_pin(upstream);
    }
    if (status == STATUS_OK &&
        !server_process_check(process, server.has_process_id ? server.process_id : NULL)) {
        return error_set(ret_error, STATUS_UNREACHABLE,
                         "the server has restarted: what it may have lost is repaired first");
    }
    return status;
}
