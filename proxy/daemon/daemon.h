#ifndef HOLDFAST_DAEMON_DAEMON_H
#define HOLDFAST_DAEMON_DAEMON_H

/*
 * holdfastd put together: what one process holds, and the steps of its life, which main() takes in
 * order. All of it runs in the main thread.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "admin/admin.h"
#include "base/config.h"
#include "engine/engine.h"
#include "engine/native.h"
#include "engine/settler.h"
#include "net/tls.h"
#include "net/watchdog.h"
#include "observe/observe.h"
#include "recover/lease.h"
#include "recover/lease_keeper.h"
#include "recover/pruner.h"
#include "recover/recovery.h"
#include "route/router.h"
#include "service/services.h"
#include "telemetry/telemetry.h"
#include "upstream/server_process.h"
#include "upstream/topology.h"
#include "upstream/upstream.h"

#define DAEMON_EXIT_CANNOT_RUN 2

/* What has become of upgrades since the first process of this chain. */
struct upgrade_history {
    uint64_t generation; /* of this process; the first is 1 */
    uint64_t failed;
    char failure[384]; /* of the last one that failed; "" */
};

struct upgrade;

/* Each NULL where there is no TLS. */
struct daemon_tls {
    struct tls *net;       /* with clients */
    struct tls *http;      /* with callers */
    struct tls *upstream;  /* with the server, of the clients' own connections */
    struct tls **services; /* with each, in the order of config_services_complete(); NULL: plain */
    size_t service_count;
};

/* Zeroed before daemon_start(); each part is NULL until its step. */
struct daemon {
    int argument_count; /* for reading the configuration again */
    char **arguments;
    struct config config;
    struct daemon_tls tls;
    struct admin *admin;
    struct wal *wal;
    struct upstream *upstream;
    char upstream_name[300]; /* HOST:PORT of the (first) server; from daemon_start_topology() on */
    struct lease lease;
    bool leased;
    bool native;      /* the server's own transactions: no lease, no probe, no locks of ours */
    bool told_to_end; /* by a signal while it was a standby */
    struct lease_keeper *keeper;
    bool alone;                /* nothing of an earlier life can reach the server any more */
    bool recovered;            /* no unit of an earlier life is open */
    struct watchdog *watchdog; /* NULL unless a service manager wants one */
    struct worker_pool *workers;
    struct engine engine;
    struct pruner *pruner;
    struct observe *observe;
    struct services *services;
    struct router *router;
    struct server_process *process;
    struct topology *topology;            /* NULL: one server, which is not followed */
    enum upstream_topology upstream_kind; /* at the start */
    struct topology_view topology_before; /* its thread's */
    _Atomic(struct router *) follower;
    struct settler *settler;
    struct probe probe; /* on the server after the recovery at the start */
    struct telemetry *telemetry;
    bool stood_by;                  /* for somebody else, before it became the owner */
    bool draining;                  /* told to, without an end */
    struct upgrade *upgrade;        /* that is under way; NULL: none */
    struct upgrade_history history; /* of the processes before this one, and of this one */
    char *program;                  /* what an upgrade starts; NULL: it is not known */
    bool succeeding;                /* `predecessor` is a channel to the process before this one */
    int predecessor;
    pid_t predecessor_pid;
    uint64_t journal_free_at_ms; /* it has died: what it held is free by then; 0: it has not */
    int journal_lock;            /* that it has handed over; 0: none */
    bool handed_over; /* another process has journal and clients: only what is left is freed */
    bool left_open;   /* at the end something was open: the next start recovers */
    bool upstream_lost;
    bool journal_nearly_full;
    pthread_t main_thread;
    uint64_t descriptors; /* how many this process may have */
};

/* ---- The whole life */

/*
 * Everything up to listening. On an error daemon_stop() ends what was begun; `told_to_end` is set
 * where a signal ended a standby.
 *
 * Errors: what the steps below return.
 */
MUST_CHECK enum status daemon_start(struct daemon *daemon, struct error *ret_error);

/* Drains for up to ten seconds, rolls back what is open, gives lease and journal back. A server
   that does not answer is waited for as upstream_stop_waiting() has it; what is open then is told
   (`left_open`), and is the next start's. Also after a start that failed half way. */
void daemon_stop(struct daemon *daemon);

/* A part of daemon_stop(): ends what works behind clients' commands, and the admin server. Nothing
   of this process changes anything any more but who keeps the lease. Once. */
void daemon_stop_engine(struct daemon *daemon);

/* A signal that asks for the end is pending; it stays so, for main(). */
bool daemon_is_told_to_end(void);

/* Takes no new connections, calls and units any more, and goes on serving what is open, until
   daemon_stop(). Harmless if it was called before. */
void daemon_drain(struct daemon *daemon);

/* ---- In place of another process, and giving way to one (upgrade.c, succeed.c) */

/* First: which program an upgrade starts. It may be replaced from then on. */
void daemon_note_program(struct daemon *daemon);

/* SIGUSR2: begins an upgrade, unless one is under way. That it cannot is told. */
void daemon_upgrade(struct daemon *daemon);
/* Goes on with it; often. True: another process serves now, and this one is to end. */
bool daemon_upgrade_step(struct daemon *daemon);
/* This process goes on serving. Harmless if none is under way. */
void daemon_upgrade_cancel(struct daemon *daemon, const char *reason);

/* First: whether this process was started to succeed another one. */
void daemon_note_predecessor(struct daemon *daemon);
/*
 * Takes what it hands down first, makes sure that this process will be able to serve, says so, and
 * waits for the journal. At once if there is no predecessor, or it has died. Errors: what would
 * keep it from serving; with `told_to_end` set: a signal, or the predecessor, has ended it.
 */
MUST_CHECK enum status daemon_await_journal(struct daemon *daemon, struct error *ret_error);
/* This process serves: takes over the clients. */
void daemon_succeed(struct daemon *daemon);
/* It cannot. Harmless without a predecessor. */
void daemon_fail_predecessor(struct daemon *daemon, const char *reason);

/* ---- What others are told */

/* Before the first event. Errors: STATUS_INVALID (a setting), STATUS_MEMORY, STATUS_IO. */
MUST_CHECK enum status daemon_start_telemetry(struct daemon *daemon, struct error *ret_error);

/* The server was spoken with. `failure`: why not, NULL if it went well. */
void daemon_tell_upstream(struct daemon *daemon, const char *failure);

/* `state`: as in struct admin_upgrade. */
void daemon_tell_upgrade(struct daemon *daemon, const char *state);

/* Every few seconds. */
void daemon_watch(struct daemon *daemon);

/* After somebody has renamed it. */
void daemon_reopen_log(void);

/* ---- Settings */

/*
 * What can be told of the settings without touching anything: --check-config and every start ask
 * it. Opening the upstream's URI connects to nobody yet.
 *
 * Errors: STATUS_INVALID (the message names the setting), STATUS_UNSUPPORTED, STATUS_MEMORY.
 */
MUST_CHECK enum status daemon_check_settings(const struct config *config, struct error *ret_error);

/* What SIGHUP may change; also of a running engine. */
void daemon_set_engine_limits(struct engine *engine, const struct config *config);

/*
 * SIGHUP: the file and the options once more. A configuration with any mistake is refused whole. A
 * good one is taken over here, and what other threads read of it is published as atomics, each of
 * which makes sense beside the old value of any other.
 */
void daemon_reload(struct daemon *daemon);

/*
 * Reads certificates and keys. Errors: STATUS_INVALID (the message names setting and file),
 * STATUS_MEMORY. Give the result to daemon_free_tls().
 */
MUST_CHECK enum status daemon_make_tls(const struct config *config, struct daemon_tls *ret_tls,
                                       struct error *ret_error);
/* Reads them again: new connections get the new ones. What is broken is told, and the old stays. */
void daemon_reload_tls(struct daemon *daemon);
void daemon_free_tls(struct daemon_tls *tls);

/* ---- The one owner */

/* Errors: as wal_open(). */
MUST_CHECK enum status daemon_open_journal(struct daemon *daemon, struct error *ret_error);

/* Errors: as lease_acquire(). */
MUST_CHECK enum status daemon_acquire_lease(struct daemon *daemon, struct error *ret_error);

/* Errors: as lease_keeper_start(). */
/* Before the keeper, whose connection is another one: sets `alone`. */
MUST_CHECK enum status daemon_look_alone(struct daemon *daemon, struct error *ret_error);
MUST_CHECK enum status daemon_start_keeper(struct daemon *daemon, struct error *ret_error);

/*
 * Takes a step of the start. A standby takes it again as long as somebody else is the owner, or the
 * server is away: that is no reason to leave the place.
 *
 * Errors: those of the step.
 */
MUST_CHECK enum status daemon_in_turn(struct daemon *daemon,
                                      enum status (*step)(struct daemon *, struct error *),
                                      struct error *ret_error);

/* ---- Servers that are followed (upstream/topology.h) */

/*
 * Tells of the URI's options, and where it names several servers begins to follow them, until there
 * is one to work with. Errors: as topology_start() and topology_wait().
 */
MUST_CHECK enum status daemon_start_topology(struct daemon *daemon, struct error *ret_error);

/* The router is told of changes from now on. */
void daemon_follow_topology(struct daemon *daemon);

/* ---- Recovery */

/* Errors: as recovery_run(). */
MUST_CHECK enum status daemon_recover(struct daemon *daemon, struct error *ret_error);

/* After the server has restarted. What cannot be repaired here ends the process and is left to the
   next start: nothing was forwarded since. */
void daemon_recover_again(struct daemon *daemon);

/* ---- A service manager (base/service_manager.h) */

/* Begins to tell it, and to feed its watchdog; that it cannot be reached is logged. Errors: as
   watchdog_start(). */
MUST_CHECK enum status daemon_meet_manager(struct daemon *daemon, struct error *ret_error);

/* Clients are served: now, or again. */
void daemon_tell_serving(const struct daemon *daemon);

/* ---- The native engine (native.c): what is different with it */

/* Which engine the server and unit.engine make it. Errors: STATUS_UNSUPPORTED (they contradict, or
   the settings ask for what that engine does not have), those of upstream_describe(). */
MUST_CHECK enum status daemon_choose_engine(struct daemon *daemon, struct error *ret_error);

/* In place of lease, recovery, settler, rollbacks. Errors: as native_claim() and
   native_recover(), native_start(). */
MUST_CHECK enum status daemon_claim_native(struct daemon *daemon, struct error *ret_error);
MUST_CHECK enum status daemon_recover_native(struct daemon *daemon, struct error *ret_error);
MUST_CHECK enum status daemon_start_native(struct daemon *daemon, struct error *ret_error);

/* What a setting asks for that this engine does not have. STATUS_UNSUPPORTED. */
MUST_CHECK enum status daemon_check_native(const struct config *config, struct error *ret_error);

/* ---- What serves clients */

/* Workers and the engine's tables. Errors: STATUS_MEMORY, STATUS_LIMIT. */
MUST_CHECK enum status daemon_make_engine(struct daemon *daemon, struct error *ret_error);

/* The same, settler, rollbacks. Errors: as those parts'. */
MUST_CHECK enum status daemon_start_engine(struct daemon *daemon, struct error *ret_error);

/* What the engine must know of the server's habits. Errors: STATUS_UNREACHABLE. */
MUST_CHECK enum status daemon_learn_server(struct daemon *daemon, struct error *ret_error);

/* Listens: clients are served from here on. Errors: as router_start() and services_serve(). */
MUST_CHECK enum status daemon_start_router(struct daemon *daemon, struct error *ret_error);

/* Errors: as pruner_start(). */
MUST_CHECK enum status daemon_start_pruner(struct daemon *daemon, struct error *ret_error);

/* net.maxIncomingConnections, or fewer if there are not descriptors enough. */
uint64_t daemon_connections_max(const struct daemon *daemon);

#endif
