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
 * What comes in any number is in the file only: `services:`, a sequence of struct config_service.
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

enum config_io_uring {
    CONFIG_IO_URING_AUTO, /* where the kernel lets us */
    CONFIG_IO_URING_OFF,
};

enum config_unit_writes {
    CONFIG_UNIT_WRITES_IMMEDIATE,
    CONFIG_UNIT_WRITES_DEFERRED, /* a driver's transaction is written with its commit */
};

enum config_unit_reads {
    CONFIG_UNIT_READS_COMMITTED,
    CONFIG_UNIT_READS_LOCAL, /* what the server holds, uncommitted writes of units too */
};

enum config_isolation {
    CONFIG_ISOLATION_SNAPSHOT,
    CONFIG_ISOLATION_SERIALIZABLE, /* units lock what they read */
};

enum config_boundary {
    CONFIG_BOUNDARY_ALL,
    CONFIG_BOUNDARY_OBSERVE, /* no unit is made, writes pass as they are; only the report */
};

enum config_standby {
    CONFIG_STANDBY_OFF,
    CONFIG_STANDBY_ON, /* wait for the end of whoever serves, then take over */
};

/* In the order of mongod's net.tls.mode. */
enum config_tls_mode {
    CONFIG_TLS_DISABLED,
    CONFIG_TLS_ALLOW,  /* clients with and without */
    CONFIG_TLS_PREFER, /* the same here: the proxy is no member of a set */
    CONFIG_TLS_REQUIRE,
};

enum config_tls_clients {
    CONFIG_TLS_CLIENTS_WITH,     /* with a CAFile, a client without a certificate is refused */
    CONFIG_TLS_CLIENTS_OPTIONAL, /* it is not */
};

enum config_tls_version {
    CONFIG_TLS_1_2,
    CONFIG_TLS_1_3,
};

enum config_correlation {
    CONFIG_CORRELATION_EXCLUSIVE, /* one mutating call at a time in a domain */
    CONFIG_CORRELATION_TRACE,     /* many, told apart by the traceparent of their writes */
};

enum config_reads {
    CONFIG_READS_OWN,  /* a call that only reads never waits */
    CONFIG_READS_WAIT, /* it waits until no mutating call is open */
};

/* What a service is spoken to by. */
enum config_upstream_protocol {
    CONFIG_UPSTREAM_AUTO,  /* gRPC by HTTP/2, all else by HTTP/1.1, with TLS as ALPN says */
    CONFIG_UPSTREAM_HTTP1, /* gRPC is refused */
    CONFIG_UPSTREAM_H2C,   /* HTTP/2 without TLS, by prior knowledge */
    CONFIG_UPSTREAM_H2,    /* HTTP/2 with TLS, agreed by ALPN */
};

enum config_upstream_tls {
    CONFIG_UPSTREAM_TLS_DISABLED,
    CONFIG_UPSTREAM_TLS_REQUIRE,
};

enum config_background {
    CONFIG_BACKGROUND_PASS,   /* a write while no call is open is a plain one */
    CONFIG_BACKGROUND_REFUSE, /* it is refused */
};

/*
 * One HTTP service in front of which the proxy stands. Every field is a text of its own, "" for
 * none. Exactly one of `mongo`, `application` and `address` is set; in the service that
 * http.listen stands for none is: its connections are all those of net.listen that no other
 * service claims.
 *
 * One with instances has neither `service` nor any of the three; each instance has `service` and
 * one of the three, and nothing else.
 */
struct config_service {
    char *name;        /* unique */
    char *listen;      /* HOST:PORT for its callers, port 0 picks one */
    char *service;     /* HOST:PORT where the service itself listens */
    char *inside;      /* HOST:PORT for calls from services of its domain */
    char *peers;       /* IP addresses, comma separated: on `listen` they count as inside */
    char *mongo;       /* HOST:PORT of a mongo listener of its own */
    char *application; /* appName: what its driver gives as appName on net.listen */
    char *address;     /* the IP address it connects to net.listen from, as inet_ntop() writes it */
    char *domain;      /* services of one domain share the call; default: the service's name */
    char *protocol;    /* upstreamProtocol; "": http.upstreamProtocol */
    char *tls_mode;    /* upstreamTls; "", as the next three: what http.upstreamTls says */
    char *tls_ca_file; /* upstreamTlsCAFile */
    char *tls_certificate_key_file;   /* upstreamTlsCertificateKeyFile */
    char *tls_server_name;            /* upstreamTlsServerName */
    struct config_service *instances; /* NULL: it has none */
    size_t instances_count;
};

struct config {
    /* net */
    char *net_listen;                  /* net.listen, --listen: HOST:PORT, port 0 picks one */
    uint64_t net_connections_max;      /* net.maxIncomingConnections: 1..1000000, default 20000 */
    uint64_t net_threads;              /* net.threads: 0 (one per core, default)..256 */
    enum config_io_uring net_io_uring; /* net.ioUring: auto | off */
    uint64_t net_handshake_ms;         /* net.handshakeTimeout: 100ms..10m, default 30s */
    uint64_t net_stall_ms;             /* net.stallTimeout: 1s..1h, default 60s */
    uint64_t net_address_max; /* net.maxConnectionsPerAddress: 0 (no bound, default)..1000000 */
    /* net.tls */
    enum config_tls_mode net_tls_mode;  /* net.tls.mode: disabled | allowTLS | ... | requireTLS */
    char *net_tls_certificate_key_file; /* net.tls.certificateKeyFile */
    char *net_tls_ca_file;              /* net.tls.CAFile: set, clients show a certificate */
    enum config_tls_clients net_tls_clients; /* net.tls.allowConnectionsWithoutCertificates */
    enum config_tls_version net_tls_version; /* net.tls.minVersion: TLS1_2 | TLS1_3 */
    /* upstream */
    char *upstream_uri;           /* upstream.uri, --upstream: mongodb://... one host */
    char *upstream_uri_file;      /* upstream.uriFile: a file that holds it; then it is not given */
    uint64_t upstream_connect_ms; /* upstream.connectTimeout: 10ms..10m, default 10s */
    uint64_t upstream_fence_ms;   /* upstream.fenceWait: 0..10m, default 2s */
    char *upstream_takeover;      /* upstream.takeover: journal id in hex, or empty (default) */
    enum config_standby upstream_standby; /* upstream.standby, --standby: off (default) | on */
    /* wal */
    char *wal_directory;                /* wal.directory, --wal */
    char *wal_key_file;                 /* wal.encryptionKeyFile; "": not encrypted */
    enum wal_durability wal_durability; /* wal.durability: power (default) | process */
    uint64_t wal_quota_bytes;           /* wal.quota: 16MiB..16TiB, default 64GiB */
    uint64_t wal_retention_ms;          /* wal.retention: 30m..10y, default 24h */
    /* unit */
    enum config_engine unit_engine; /* unit.engine: auto (default) | journaled | native */
    uint64_t unit_audit_bytes;      /* unit.auditBytes: 0..16MiB, default 64KiB */
    uint64_t unit_lock_wait_ms;     /* unit.lockWait: 0..10m, default 5s */
    uint64_t unit_lifetime_ms;      /* unit.lifetime: 1s..24h, default 60s */
    enum config_retryable_writes unit_retryable_writes; /* unit.retryableWrites: once | pass */
    enum config_multi_writes unit_multi_writes;         /* unit.multiWrites: keep | strict | off */
    enum config_unit_reads unit_reads;                  /* unit.reads: committed | local */
    enum config_unit_writes unit_writes;                /* unit.writes: immediate | deferred */
    enum config_isolation unit_isolation; /* unit.isolation: snapshot | serializable */
    enum config_boundary unit_boundary;   /* unit.boundary: all | observe */
    uint64_t unit_writes_max;             /* unit.maxWrites: 1..10000000, default 100000 */
    uint64_t unit_bytes_max; /* unit.maxBytes: 1MiB..1TiB, default 256MiB, images + commands */
    uint64_t unit_count_max; /* unit.maxOpen: 1..1000000, default 10000 */
    uint64_t unit_locks_max; /* unit.maxLocks: 1..100000000, default 1000000 */
    /* admin */
    char *admin_listen;     /* admin.listen, --admin: HOST:PORT, empty: none */
    char *admin_token_file; /* admin.tokenFile: who sends what it holds may change something */
    /* http; the first four are http.* of one service more, see config_services_complete() */
    char *http_listen;                        /* http.listen, --http-listen */
    char *http_service;                       /* http.service, --http-service */
    char *http_inside;                        /* http.inside */
    char *http_peers;                         /* http.peers: IP addresses, comma separated */
    enum config_correlation http_correlation; /* http.correlation: exclusive | trace */
    enum config_reads http_reads;             /* http.reads: own | wait */
    enum config_background http_background;   /* http.backgroundWrites: pass | refuse */
    enum config_upstream_protocol http_upstream_protocol; /* http.upstreamProtocol: auto | ... */
    uint64_t http_call_timeout_ms;  /* http.callTimeout: 100ms..24h, default 30s */
    uint64_t http_queue_wait_ms;    /* http.queueWait: 0..24h, default 10s */
    uint64_t http_queue_length;     /* http.queueLength: 0..100000, default 1000 */
    uint64_t http_quiet_ms;         /* http.quietPeriod: 0..10m, default 5s */
    uint64_t http_answer_bytes_max; /* http.maxAnswer: 1KiB..1GiB, default 16MiB */
    char *http_routes;              /* http.routes: rules as text, not parsed here */
    /* http.idempotency */
    uint64_t http_idempotency_keep_ms;    /* http.idempotency.keep: 0..10y, default 24h */
    uint64_t http_idempotency_bytes_max;  /* http.idempotency.quota: 64KiB..64TiB, default 1GiB */
    uint64_t http_idempotency_body_max;   /* http.idempotency.maxBody: 1KiB..32MiB, default 1MiB */
    uint64_t http_idempotency_answer_max; /* http.idempotency.maxAnswer: 1KiB..8MiB, default 1MiB */
    char *http_idempotency_identity;      /* http.idempotency.identityHeader: or empty */
    /* http.tls */
    enum config_tls_mode http_tls_mode;  /* http.tls.mode: as net.tls.mode */
    char *http_tls_certificate_key_file; /* http.tls.certificateKeyFile; empty: net.tls's */
    char *http_tls_ca_file;              /* http.tls.CAFile */
    /* http.upstreamTls: with services */
    enum config_upstream_tls http_upstream_tls_mode; /* .mode: disabled | requireTLS */
    char *http_upstream_tls_ca_file;                 /* .CAFile; empty: the system's authorities */
    char *http_upstream_tls_certificate_key_file;    /* .certificateKeyFile; empty: none is shown */
    char *http_upstream_tls_server_name;             /* .serverName; empty: the address's host */
    /* log */
    enum log_level log_level; /* log.level: debug | info (default) | warning | error */
    char *log_path;           /* log.path: a file, empty: standard error */
    /* upgrade */
    uint64_t upgrade_wait_ms; /* upgrade.wait: 0..10m, default 10s */
    /* trace */
    char *trace_endpoint;   /* trace.endpoint: http://..., empty: none */
    uint64_t trace_percent; /* trace.percent: 0..100, default 100 */
    /* event */
    char *event_webhook;             /* event.webhook: http://..., empty: none */
    char *event_webhook_secret_file; /* event.webhookSecretFile */
    /* not keys */
    struct config_service *services; /* services: in the file's order */
    size_t services_count;           /* 0..CONFIG_SERVICES_MAX */
    char *admin_token;               /* of admin.tokenFile or HOLDFAST_ADMIN_TOKEN; NULL: none */
    char *event_webhook_secret;      /* of event.webhookSecretFile or its variable; NULL: none */
    bool check_only;                 /* --check-config */
};

/* Each is a few listening sockets and a domain at most; nobody has found a need for more. */
#define CONFIG_SERVICES_MAX 256u
/* Of one service; each has a mongo listener, or a rule that every new connection is held to. */
#define CONFIG_INSTANCES_MAX 256u

/* What the caller should do after config_from_arguments(). */
enum config_action {
    CONFIG_RUN,
    CONFIG_EXIT, /* --help or --version was printed to standard output */
};

/*
 * Fills *ret_config from defaults, file, arguments and secret files. Required: net.listen,
 * upstream.uri (or upstream.uriFile, or HOLDFAST_UPSTREAM_URI in the environment), wal.directory.
 * The caller gives it to config_free() also after a failure.
 */
MUST_CHECK enum status config_from_arguments(int argument_count, char **arguments,
                                             struct config *ret_config,
                                             enum config_action *ret_action,
                                             struct error *ret_error);

/*
 * Puts what may change while the proxy runs from `next`, read anew by config_from_arguments(), into
 * `running`. `changed` is called for each key that differs: `live` says that it was taken over;
 * otherwise `running` keeps its value and a restart is needed. The services are one key here,
 * "services", and not live.
 */
void config_take_over(struct config *running, const struct config *next,
                      void (*changed)(void *context, const char *key, bool live), void *context);

/*
 * The whole list of HTTP services, a copy of its own: those of the file, after the one that
 * http.listen and http.service stand for, if they are set. That one is named "service", in the
 * domain "default". An empty list is NULL and 0. The caller gives it to config_services_free().
 * Errors: STATUS_MEMORY.
 */
MUST_CHECK enum status config_services_complete(const struct config *config,
                                                struct config_service **ret_services,
                                                size_t *ret_count, struct error *ret_error);

/* What the service is spoken to by; its own word, or http.upstreamProtocol. */
enum config_upstream_protocol config_service_protocol(const struct config *config,
                                                      const struct config_service *service);

/* TLS with one service: its own words, or those of http.upstreamTls. */
#define CONFIG_HOST_BYTES 256u
struct config_service_tls {
    bool on;
    const char *ca_file; /* of the service or the configuration, as the next */
    const char *certificate_key_file;
    char server_name[CONFIG_HOST_BYTES]; /* what its certificate has to be for */
};
void config_service_tls(const struct config *config, const struct config_service *service,
                        struct config_service_tls *ret_tls);

/* NULL is harmless. */
void config_services_free(struct config_service *services, size_t count);

/* Releases what config_from_arguments() made. NULL and zeros are harmless. */
void config_free(struct config *config);

#endif
