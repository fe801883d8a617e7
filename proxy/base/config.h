#ifndef HOLDFAST_BASE_CONFIG_H
#define HOLDFAST_BASE_CONFIG_H

/*
 * The daemon's configuration: one table of keys (config_keys.h) makes this struct, the YAML keys,
 * the command line options and their help.
 *
 * Order of precedence, later wins: defaults, the --config file, options and --set from left to
 * right. In YAML a key `net.listen` is written as mongod.conf does:
 *
 *     net:
 *       listen: 127.0.0.1:27018
 *
 * On the command line it is `--net.listen VALUE`, `--set net.listen=VALUE`, or its short name
 * (`--listen VALUE`). An unknown key, a value outside its range, a key given twice in a file or a
 * missing file is STATUS_INVALID; the message names file and line, or the option.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/log.h"
#include "holdfast/wal.h"

enum config_engine {
    CONFIG_ENGINE_AUTO,
    CONFIG_ENGINE_JOURNALED,
    CONFIG_ENGINE_NATIVE,
};

enum config_retryable_writes {
    CONFIG_RETRYABLE_WRITES_ONCE,
    CONFIG_RETRYABLE_WRITES_PASS,
};

enum config_multi_writes {
    CONFIG_MULTI_WRITES_KEEP,
    CONFIG_MULTI_WRITES_STRICT,
    CONFIG_MULTI_WRITES_OFF,
};

struct config {
    /* net */
    char *net_listen;             /* net.listen, --listen: HOST:PORT, port 0 picks one */
    uint64_t net_connections_max; /* net.maxIncomingConnections: 1..1000000, default 20000 */
    uint64_t net_threads;         /* net.threads: 0 (one per core, default)..256 */
    /* upstream */
    char *upstream_uri;           /* upstream.uri, --upstream: mongodb://... one host */
    uint64_t upstream_connect_ms; /* upstream.connectTimeout: 10ms..10m, default 10s */
    uint64_t upstream_fence_ms;   /* upstream.fenceWait: 0..10m, default 2s */
    char *upstream_takeover;      /* upstream.takeover: journal id in hex, or empty (default) */
    /* wal */
    char *wal_directory;                /* wal.directory, --wal */
    enum wal_durability wal_durability; /* wal.durability: power (default) | process */
    uint64_t wal_quota_bytes;           /* wal.quota: 16MiB..16TiB, default 64GiB */
    uint64_t wal_retention_ms;          /* wal.retention: 30m..10y, default 24h */
    /* unit */
    enum config_engine unit_engine; /* unit.engine: auto (default) | journaled | native */
    uint64_t unit_lock_wait_ms;     /* unit.lockWait: 0..10m, default 5s */
    uint64_t unit_lifetime_ms;      /* unit.lifetime: 1s..24h, default 60s */
    enum config_retryable_writes unit_retryable_writes; /* unit.retryableWrites: once | pass */
    enum config_multi_writes unit_multi_writes;         /* unit.multiWrites: keep | strict | off */
    uint64_t unit_writes_max; /* unit.maxWrites: 1..10000000, default 100000 */
    uint64_t unit_bytes_max;  /* unit.maxBytes: 1MiB..1TiB, default 256MiB, images + commands */
    uint64_t unit_count_max;  /* unit.maxOpen: 1..1000000, default 10000 */
    uint64_t unit_locks_max;  /* unit.maxLocks: 1..100000000, default 1000000 */
    /* admin */
    char *admin_listen; /* admin.listen, --admin: HOST:PORT, empty: none */
    /* http (accepted, not built yet: main refuses with a clear message) */
    char *http_listen;  /* http.listen, --http-listen */
    char *http_service; /* http.service, --http-service */
    /* log */
    enum log_level log_level; /* log.level: debug | info (default) | warning | error */
    /* not keys */
    bool check_only; /* --check-config */
};

/* What the caller should do after config_from_arguments(). */
enum config_action {
    CONFIG_RUN,
    CONFIG_EXIT, /* --help or --version was printed to standard output */
};

/*
 * Fills *ret_config from defaults, file and arguments. Required: net.listen, upstream.uri,
 * wal.directory. The caller gives it to config_free() also after a failure.
 */
MUST_CHECK enum status config_from_arguments(int argument_count, char **arguments,
                                             struct config *ret_config,
                                             enum config_action *ret_action,
                                             struct error *ret_error);

/*
 * Puts what may change while the proxy runs from `next`, read anew by config_from_arguments(), into
 * `running`. `changed` is called for each key that differs: `live` says that it was taken over;
 * otherwise `running` keeps its value and a restart is needed.
 */
void config_take_over(struct config *running, const struct config *next,
                      void (*changed)(void *context, const char *key, bool live), void *context);

/* Releases what config_from_arguments() made. NULL and zeros are harmless. */
void config_free(struct config *config);

#endif
