/*
 * `holdfast status` (cli.h): one look at the journal, and with --upstream at the server's lease.
 */

#include <inttypes.h>
#include <string.h>

#include "cli/living.h"
#include "cli/output.h"
#include "recover/journal_status.h"

struct status_facts {
    struct journal_status journal;
    bool lives; /* a holdfastd does, on this journal */
    struct living living;
    bool has_server;
    struct upstream_description server;
    struct lease_state lease;
};

static const char *topology_name(enum upstream_topology topology)
{
    static const char *const names[] = {
        [UPSTREAM_STANDALONE] = "standalone",
        [UPSTREAM_REPLICA_SET] = "replica set",
        [UPSTREAM_SHARDED] = "sharded cluster",
    };
    return names[topology];
}

static enum status gather_server(const struct cli_options *options, struct status_facts *facts,
                                 struct error *ret_error)
{
    struct upstream *upstream = NULL;
    enum status status =
        upstream_open(options->upstream, options->connect_ms, &upstream, ret_error);
    if (status == STATUS_OK) {
        status = upstream_describe(upstream, &facts->server, ret_error);
    }
    if (status == STATUS_OK) {
        status = lease_read(upstream, &facts->lease, ret_error);
    }
    facts->has_server = status == STATUS_OK;
    upstream_close(upstream);
    return status;
}

static void append_lease(bson_t *document, const struct status_facts *facts)
{
    bson_t server;
    bson_t lease;
    BSON_APPEND_DOCUMENT_BEGIN(document, "server", &server);
    BSON_APPEND_UTF8(&server, "topology", topology_name(facts->server.topology));
    BSON_APPEND_INT32(&server, "wireVersionMax", facts->server.wire_version_max);
    if (facts->lease.exists) {
        BSON_APPEND_DOCUMENT_BEGIN(&server, "lease", &lease);
        BSON_APPEND_UTF8(&lease, "journal", facts->lease.journal);
        BSON_APPEND_BOOL(&lease, "ours", strcmp(facts->lease.journal, facts->journal.journal) == 0);
        BSON_APPEND_INT64(&lease, "epoch", facts->lease.epoch);
        BSON_APPEND_UTF8(&lease, "owner", facts->lease.owner);
        BSON_APPEND_UTF8(&lease, "host", facts->lease.host);
        BSON_APPEND_INT32(&lease, "pid", facts->lease.pid);
        BSON_APPEND_INT64(&lease, "lastLsn", facts->lease.last_lsn);
        BSON_APPEND_BOOL(&lease, "clean", facts->lease.clean);
        BSON_APPEND_INT64(&lease, "ageMillis", facts->lease.age_ms);
        bson_append_document_end(&server, &lease);
    } else {
        BSON_APPEND_NULL(&server, "lease");
    }
    bson_append_document_end(document, &server);
}

static void append_living(bson_t *document, const struct living *living)
{
    bson_t process;
    BSON_APPEND_DOCUMENT_BEGIN(document, "process", &process);
    BSON_APPEND_UTF8(&process, "version", living->version);
    BSON_APPEND_INT64(&process, "pid", living->pid);
    BSON_APPEND_UTF8(&process, "phase", living->phase);
    BSON_APPEND_INT64(&process, "generation", living->generation);
    BSON_APPEND_UTF8(&process, "upgrade", living->upgrade);
    BSON_APPEND_INT64(&process, "upgradesFailed", living->upgrades_failed);
    if (living->upgrade_failure[0] != '\0') {
        BSON_APPEND_UTF8(&process, "upgradeFailure", living->upgrade_failure);
    }
    bson_append_document_end(document, &process);
}

static void print_json(const struct status_facts *facts)
{
    bson_t document = BSON_INITIALIZER;
    journal_status_append(&document, &facts->journal);
    if (facts->lives) {
        append_living(&document, &facts->living);
    }
    if (facts->has_server) {
        append_lease(&document, facts);
    }
    output_bson_line(stdout, &document);
    bson_destroy(&document);
}

static void print_lease(const struct status_facts *facts)
{
    const struct lease_state *lease = &facts->lease;
    printf("server      %s, wire version %d\n", topology_name(facts->server.topology),
           facts->server.wire_version_max);
    if (!lease->exists) {
        printf("lease       none\n");
        return;
    }
    printf("lease       %s, epoch %" PRId64 ", LSN %" PRId64 ", %s\n",
           strcmp(lease->journal, facts->journal.journal) == 0 ? "this journal's"
                                                               : "another journal's",
           lease->epoch, lease->last_lsn,
           lease->clean                              ? "given back"
           : lease->age_ms < (int64_t)LEASE_VALID_MS ? "held"
                                                     : "not renewed any more");
    printf("owner       ");
    output_text(stdout, lease->owner);
    printf(" on ");
    output_text(stdout, lease->host);
    printf(", pid %d, renewed %" PRId64 " ms ago\n", lease->pid, lease->age_ms);
}

static void print_living(const struct living *living)
{
    printf("process     holdfastd %s, pid %" PRId64 ", generation %" PRId64 ", %s\n",
           living->version, living->pid, living->generation,
           strcmp(living->upgrade, "none") == 0 ? living->phase : "an upgrade is under way");
    if (living->upgrade_failure[0] != '\0') {
        printf("upgrade     the last one failed: ");
        output_text(stdout, living->upgrade_failure);
        printf("\n");
    }
}

static void print_text(const struct status_facts *facts)
{
    const struct wal_statistics *figures = &facts->journal.figures;
    printf("journal     %s\n", facts->journal.journal);
    printf("database    %s\n",
           facts->journal.identity[0] == '\0' ? "none yet" : facts->journal.identity);
    if (facts->journal.native) {
        printf("engine      native\n");
    }
    printf("epoch       %" PRIu64 "\n", facts->journal.epoch);
    printf("closed      %s\n", facts->journal.clean
                                   ? "cleanly"
                                   : "no: holdfastd is running, or ended without closing it");
    printf("records     %" PRIu64 ", LSN %" PRIu64 " to %" PRIu64 "\n", figures->records,
           figures->first_lsn, figures->last_lsn);
    printf("used        %" PRIu64 " bytes\n", figures->used_bytes);
    printf("commits     %" PRIu64 " of the journal's storage\n", figures->commits);
    printf("open        %" PRIu64 " units\n", figures->units_open);
    printf("conflict    %" PRIu64 " units\n", figures->units_conflict);
    if (facts->lives) {
        print_living(&facts->living);
    }
    if (facts->has_server) {
        print_lease(facts);
    }
}

enum cli_exit cli_status(const struct cli_options *options)
{
    struct status_facts facts = {0};
    struct error error = {0};
    struct wal *wal = output_open_journal(options);
    if (wal == NULL) {
        return CLI_FAILED;
    }
    enum status status = journal_status_read(wal, &facts.journal, &error);
    wal_close(wal, false);
    if (status == STATUS_OK) {
        struct error nobody = {0};
        facts.lives = living_look(options, &facts.living, &nobody) == STATUS_OK;
    }
    if (status == STATUS_OK && options->upstream != NULL) {
        status = gather_server(options, &facts, &error);
    }
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    if (options->json) {
        print_json(&facts);
    } else {
        print_text(&facts);
    }
    return facts.journal.figures.units_conflict > 0 ? CLI_LEFT : CLI_CLEAN;
}
