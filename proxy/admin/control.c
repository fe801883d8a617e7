/* Acting on the living proxy (control.h). */
#include "admin/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/finish.h"

static bool parse_unit(const char *query, uint64_t *ret_unit)
{
    char *end = NULL;
    if (strncmp(query, "unit=", 5) != 0 || query[5] < '0' || query[5] > '9') {
        return false;
    }
    errno = 0;
    *ret_unit = strtoull(query + 5, &end, 10);
    return errno == 0 && *end == '\0';
}

int admin_control_rollback(const struct admin_facts *facts, const char *query,
                           struct evbuffer *body)
{
    static const char reason[] = "an operator rolled it back";
    uint64_t id = 0;
    bool found = false;
    if (!parse_unit(query, &id)) {
        (void)evbuffer_add_printf(body, "which unit? /rollback?unit=NUMBER\n");
        return 400;
    }
    if (facts->phase != ADMIN_SERVING) {
        (void)evbuffer_add_printf(body, "the proxy is %s\n", admin_phase_name(facts->phase));
        return 503;
    }
    struct unit *unit = unit_table_take(facts->engine->units, id, reason, &found);
    if (unit != NULL) {
        rollback_detached(facts->engine, unit, reason);
    }
    if (!found) {
        (void)evbuffer_add_printf(body, "unit %" PRIu64 " is not open\n", id);
        return 404;
    }
    (void)evbuffer_add_printf(body,
                              unit != NULL ? "unit %" PRIu64 " is being rolled back\n"
                                           : "unit %" PRIu64
                                             " is at work and will be rolled back behind it\n",
                              id);
    return 200;
}
