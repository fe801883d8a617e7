/*
 * The table of keys. conf/holdfast.yaml shows the same keys with the same defaults; a test holds
 * the two together.
 *
 * Threads: constant data.
 */

#include "base/config_keys.h"

#include <string.h>

/* In the order of the enums' values. */
static const char *const durability_choices[] = {"power", "process", NULL};
static const char *const engine_choices[] = {"auto", "journaled", "native", NULL};
static const char *const retryable_choices[] = {"once", "pass", NULL};
static const char *const multi_choices[] = {"keep", "strict", "off", NULL};
static const char *const boundary_choices[] = {"all", "observe", NULL};
static const char *const correlation_choices[] = {"exclusive", "trace", NULL};
static const char *const reads_choices[] = {"own", "wait", NULL};
static const char *const unit_reads_choices[] = {"committed", "local", NULL};
static const char *const background_choices[] = {"pass", "refuse", NULL};
static const char *const standby_choices[] = {"off", "on", NULL};
static const char *const level_choices[] = {"debug", "info", "warning", "error", NULL};
_Static_assert(WAL_DURABILITY_POWER == 0 && WAL_DURABILITY_PROCESS == 1, "durability_choices");
_Static_assert(CONFIG_ENGINE_JOURNALED == 1 && CONFIG_ENGINE_NATIVE == 2, "engine_choices");
_Static_assert(CONFIG_RETRYABLE_WRITES_PASS == 1, "retryable_choices");
_Static_assert(CONFIG_MULTI_WRITES_STRICT == 1 && CONFIG_MULTI_WRITES_OFF == 2, "multi_choices");
_Static_assert(CONFIG_BOUNDARY_OBSERVE == 1, "boundary_choices");
_Static_assert(CONFIG_CORRELATION_TRACE == 1, "correlation_choices");
_Static_assert(CONFIG_READS_WAIT == 1, "reads_choices");
_Static_assert(CONFIG_UNIT_READS_LOCAL == 1, "unit_reads_choices");
_Static_assert(CONFIG_BACKGROUND_REFUSE == 1, "background_choices");
_Static_assert(CONFIG_STANDBY_ON == 1, "standby_choices");
_Static_assert(LOG_DEBUG == 0 && LOG_ERROR == 3, "level_choices");

const struct config_group config_groups[] = {
    {"net", "Where clients connect"},
    {"upstream", "The MongoDB server behind the proxy"},
    {"wal", "The journal"},
    {"unit", "Units: atomic groups of writes"},
    {"admin", "Health, readiness and status, by HTTP"},
    {"http", "API calls as units: the proxy in front of a service's HTTP port"},
    {"log", "Log lines, on standard error"},
};
const size_t config_groups_count = sizeof(config_groups) / sizeof(config_groups[0]);

#define AT(field) offsetof(struct config, field)

const struct config_key config_keys[] = {
    {.name = "net.listen",
     .option = "listen",
     .type = CONFIG_TYPE_LISTEN,
     .offset = AT(net_listen),
     .standard = "",
     .required = true,
     .help = "HOST:PORT on which drivers connect; port 0 picks a free one and logs it"},
    {.name = "net.maxIncomingConnections",
     .type = CONFIG_TYPE_NUMBER,
     .offset = AT(net_connections_max),
     .standard = "20000",
     .smallest = "1",
     .largest = "1000000",
     .live = true,
     .help = "client connections at a time; one more is closed at once"},
    {.name = "net.threads",
     .type = CONFIG_TYPE_NUMBER,
     .offset = AT(net_threads),
     .standard = "0",
     .smallest = "0",
     .largest = "256",
     .help = "event-loop workers; 0 is one per processor core"},

    {.name = "upstream.uri",
     .option = "upstream",
     .type = CONFIG_TYPE_URI,
     .offset = AT(upstream_uri),
     .standard = "",
     .required = true,
     .help = "mongodb:// URI of one server; a user in it is used for images and recovery only"},
    {.name = "upstream.uriFile",
     .type = CONFIG_TYPE_FILE,
     .offset = AT(upstream_uri_file),
     .standard = "",
     .help = "file that holds the URI, for one with a password; or HOLDFAST_UPSTREAM_URI is set"},
    {.name = "upstream.connectTimeout",
     .type = CONFIG_TYPE_DURATION,
     .offset = AT(upstream_connect_ms),
     .standard = "10s",
     .smallest = "10ms",
     .largest = "10m",
     .help = "how long a connection to the server may take to come up"},
    {.name = "upstream.fenceWait",
     .type = CONFIG_TYPE_DURATION,
     .offset = AT(upstream_fence_ms),
     .standard = "2s",
     .smallest = "0",
     .largest = "10m",
     .help = "how long recovery waits for writes that were sent before and may still arrive"},
    {.name = "upstream.takeover",
     .type = CONFIG_TYPE_HEX,
     .offset = AT(upstream_takeover),
     .standard = "",
     .help = "id of another journal whose claim on the server you vouch is dead"},

    {.name = "upstream.standby",
     .option = "standby",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(upstream_standby),
     .standard = "off",
     .choices = standby_choices,
     .help = "on: while another holdfastd serves this journal or server, wait for its end"},

    {.name = "wal.directory",
     .option = "wal",
     .type = CONFIG_TYPE_PATH,
     .offset = AT(wal_directory),
     .standard = "",
     .required = true,
     .help = "the journal's directory, on a local filesystem; made if its parent is there"},
    {.name = "wal.encryptionKeyFile",
     .option = "wal-key-file",
     .type = CONFIG_TYPE_FILE,
     .offset = AT(wal_key_file),
     .standard = "",
     .help = "encrypt what is in the journal with the key in this file"},
    {.name = "wal.durability",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(wal_durability),
     .standard = "power",
     .choices = durability_choices,
     .help = "power survives a power cut; process survives kill -9 of the proxy only"},
    {.name = "wal.quota",
     .type = CONFIG_TYPE_SIZE,
     .offset = AT(wal_quota_bytes),
     .standard = "64GiB",
     .smallest = "16MiB",
     .largest = "16TiB",
     .help = "the journal's largest size; at it new units are refused"},
    {.name = "wal.retention",
     .type = CONFIG_TYPE_DURATION,
     .offset = AT(wal_retention_ms),
     .standard = "24h",
     .smallest = "30m",
     .largest = "10y",
     .live = true,
     .help = "how long units that ended stay in the journal"},

    {.name = "unit.engine",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(unit_engine),
     .standard = "auto",
     .choices = engine_choices,
     .help = "auto takes what the server's topology asks for; native is not built yet"},
    {.name = "unit.lockWait",
     .type = CONFIG_TYPE_DURATION,
     .offset = AT(unit_lock_wait_ms),
     .standard = "5s",
     .smallest = "0",
     .largest = "10m",
     .live = true,
     .help = "how long a write waits for another unit's document before a WriteConflict"},
    {.name = "unit.lifetime",
     .type = CONFIG_TYPE_DURATION,
     .offset = AT(unit_lifetime_ms),
     .standard = "60s",
     .smallest = "1s",
     .largest = "24h",
     .live = true,
     .help = "a unit older than this is rolled back"},
    {.name = "unit.retryableWrites",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(unit_retryable_writes),
     .standard = "once",
     .choices = retryable_choices,
     .help = "once: plain writes that a driver may retry are journaled, and done once"},
    {.name = "unit.multiWrites",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(unit_multi_writes),
     .standard = "keep",
     .choices = multi_choices,
     .help = "whether a plain command that writes several documents is a unit of its own"},
    {.name = "unit.reads",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(unit_reads),
     .standard = "committed",
     .choices = unit_reads_choices,
     .help = "committed: nobody sees what others' open units have written; local: everybody does"},
    {.name = "unit.boundary",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(unit_boundary),
     .standard = "all",
     .choices = boundary_choices,
     .help = "observe: no unit is made, writes pass as they are; only the report"},
    {.name = "unit.maxWrites",
     .type = CONFIG_TYPE_NUMBER,
     .offset = AT(unit_writes_max),
     .standard = "100000",
     .smallest = "1",
     .largest = "10000000",
     .live = true,
     .help = "document writes of one unit"},
    {.name = "unit.maxBytes",
     .type = CONFIG_TYPE_SIZE,
     .offset = AT(unit_bytes_max),
     .standard = "256MiB",
     .smallest = "1MiB",
     .largest = "1TiB",
     .live = true,
     .help = "images and commands of one unit"},
    {.name = "unit.maxOpen",
     .type = CONFIG_TYPE_NUMBER,
     .offset = AT(unit_count_max),
     .standard = "10000",
     .smallest = "1",
     .largest = "1000000",
     .live = true,
     .help = "units open at a time"},
    {.name = "unit.maxLocks",
     .type = CONFIG_TYPE_NUMBER,
     .offset = AT(unit_locks_max),
     .standard = "1000000",
     .smallest = "1",
     .largest = "100000000",
     .live = true,
     .help = "documents that all open units together have locked; 200 bytes of memory each"},

    {.name = "admin.listen",
     .option = "admin",
     .type = CONFIG_TYPE_LISTEN,
     .offset = AT(admin_listen),
     .standard = "",
     .help = "HOST:PORT of the admin server; one that is not loopback needs a token"},
    {.name = "admin.tokenFile",
     .type = CONFIG_TYPE_FILE,
     .offset = AT(admin_token_file),
     .standard = "",
     .help = "file with the token for what changes something; or HOLDFAST_ADMIN_TOKEN is set"},

    {.name = "http.listen",
     .option = "http-listen",
     .type = CONFIG_TYPE_LISTEN,
     .offset = AT(http_listen),
     .standard = "",
     .help = "HOST:PORT on which calls of the service come in"},
    {.name = "http.service",
     .option = "http-service",
     .type = CONFIG_TYPE_CONNECT,
     .offset = AT(http_service),
     .standard = "",
     .help = "HOST:PORT of the service that answers them"},
    {.name = "http.inside",
     .type = CONFIG_TYPE_LISTEN,
     .offset = AT(http_inside),
     .standard = "",
     .help = "HOST:PORT for calls from services of the same domain: they join the open call"},
    {.name = "http.peers",
     .type = CONFIG_TYPE_ADDRESSES,
     .offset = AT(http_peers),
     .standard = "",
     .help = "IP addresses whose calls on http.listen join the open call as well"},
    {.name = "http.correlation",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(http_correlation),
     .standard = "exclusive",
     .choices = correlation_choices,
     .help = "one mutating call at a time, or many if writes carry a traceparent"},
    {.name = "http.reads",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(http_reads),
     .standard = "own",
     .choices = reads_choices,
     .help = "wait: a call that only reads waits until no mutating call is open"},
    {.name = "http.backgroundWrites",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(http_background),
     .standard = "pass",
     .choices = background_choices,
     .help = "pass: writes of a service while no call is open are plain ones; refuse: an error"},
    {.name = "http.callTimeout",
     .type = CONFIG_TYPE_DURATION,
     .offset = AT(http_call_timeout_ms),
     .standard = "30s",
     .smallest = "100ms",
     .largest = "24h",
     .live = true,
     .help = "a call that takes longer is rolled back; at most unit.lifetime"},
    {.name = "http.queueWait",
     .type = CONFIG_TYPE_DURATION,
     .offset = AT(http_queue_wait_ms),
     .standard = "10s",
     .smallest = "0",
     .largest = "24h",
     .live = true,
     .help = "how long a call waits for its turn before it is answered 503"},
    {.name = "http.queueLength",
     .type = CONFIG_TYPE_NUMBER,
     .offset = AT(http_queue_length),
     .standard = "1000",
     .smallest = "0",
     .largest = "100000",
     .live = true,
     .help = "calls of one domain that wait for their turn; one more is answered 503"},
    {.name = "http.quietPeriod",
     .type = CONFIG_TYPE_DURATION,
     .offset = AT(http_quiet_ms),
     .standard = "5s",
     .smallest = "0",
     .largest = "10m",
     .live = true,
     .help = "how long no late write may come before calls begin again after a lost one"},
    {.name = "http.maxAnswer",
     .type = CONFIG_TYPE_SIZE,
     .offset = AT(http_answer_bytes_max),
     .standard = "16MiB",
     .smallest = "1KiB",
     .largest = "1GiB",
     .help = "the largest answer of a mutating call: it is held until the call is durable"},
    {.name = "http.routes",
     .type = CONFIG_TYPE_TEXT,
     .offset = AT(http_routes),
     .standard = "",
     .help = "what mutates beside the methods: \"GET /refresh, !POST /search\""},

    {.name = "log.level",
     .type = CONFIG_TYPE_CHOICE,
     .offset = AT(log_level),
     .standard = "info",
     .choices = level_choices,
     .live = true,
     .help = "the least severe lines that are written"},
};
const size_t config_keys_count = sizeof(config_keys) / sizeof(config_keys[0]);

const struct config_key *config_key_find(const char *name)
{
    for (size_t i = 0; i < config_keys_count; i++) {
        if (strcmp(config_keys[i].name, name) == 0) {
            return &config_keys[i];
        }
    }
    return NULL;
}

bool config_group_exists(const char *name)
{
    for (size_t i = 0; i < config_groups_count; i++) {
        if (strcmp(config_groups[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}
