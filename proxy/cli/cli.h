#ifndef HOLDFAST_CLI_CLI_H
#define HOLDFAST_CLI_CLI_H

/*
 * The program `holdfast`: looks into a journal, recovers it, verifies it, decides conflicts, brings
 * restored backups forward, exports and prunes; finds and fixes contradictions between documents.
 *
 * Exit codes, the same for every command:
 *   0  done, and nothing is left for an operator
 *   1  done, and something is left: a unit in conflict, or damage
 *   2  could not run (options, no such journal, in use, no server)
 *   3  another process does the same work (migrate)
 * backup, once it runs, ends with the exit code of its command.
 *
 * What was asked for goes to standard output, everything else to standard error. A reader that
 * closes the pipe early ends the output, never a recovery.
 */

#include <stdbool.h>
#include <stdint.h>

enum cli_exit {
    CLI_CLEAN = 0,
    CLI_LEFT = 1,
    CLI_FAILED = 2,
    CLI_BUSY = 3,
};

/* A place in the journal, as the operator gave it. */
struct cli_moment {
    enum {
        CLI_MOMENT_NONE,
        CLI_MOMENT_LSN,
        CLI_MOMENT_TIME, /* milliseconds since 1970 */
    } kind;
    uint64_t value;
};

struct cli_options {
    const char *wal;       /* --wal DIR */
    const char *upstream;  /* --upstream URI, or NULL */
    const char *state;     /* units --state, or NULL */
    const char *key_file;  /* --wal-key-file FILE, or NULL */
    const char *target;    /* salvage, backup --to DIR, change-key --to FILE, or NULL */
    const char *takeover;  /* --set upstream.takeover=ID, or NULL */
    uint64_t unit;         /* show UNIT, export --unit; 0: none */
    const char *onto;      /* replay --onto URI, or NULL */
    const char *namespace; /* export --namespace, or NULL */
    struct cli_moment from;
    struct cli_moment until;
    struct cli_moment before; /* prune --before */
    uint64_t connect_ms;
    uint64_t fence_ms;
    const char *choice; /* resolve: "keep", "restore" or "apply"; NULL: only look */
    bool json;
    bool dry_run;
    bool yes;             /* resolve: do not ask; replay, prune: see their help */
    bool records;         /* export: the records as they are */
    bool progress;        /* export, replay: say how far it is, also where nobody seems to look */
    bool compact;         /* prune: shrink the file as well */
    bool once;            /* top: print once and end */
    uint64_t interval_ms; /* top: between two looks */
    bool locks;           /* units: of the living daemon, with whom they wait for */
    const char *rules;    /* scrub --rules FILE, or NULL */
    const char *rule;     /* scrub --rule NAME, or NULL: all */
    const char *proxy;    /* scrub, migrate --proxy URI, or NULL */
    bool fix;             /* scrub */
    uint64_t settle_ms;   /* scrub: between two looks */
    bool pause;           /* backup: hold all writes */
    uint64_t limit_ms;    /* backup: the pause at most */
    bool without_journal; /* backup */
    const char *backup;   /* after-restore --backup DIR, or NULL */
    char *const *command; /* backup: what stands behind --, or NULL */
    const char *action;   /* migrate ACTION */
    const char *folder;   /* migrate ... DIR */
    const char *database; /* migrate --database, or NULL */
    const char *way;      /* migrate --by: "journal" or "file"; NULL: the best */
    uint64_t wait_ms;     /* migrate --wait */
    uint64_t throttle_ms; /* migrate --throttle */
    uint64_t batch;       /* migrate --batch; 0: the default */
    bool out_of_order;    /* migrate --out-of-order */
};

/* One command: its name, what --help says, and the function. */
struct cli_command {
    const char *name;
    const char *arguments;
    const char *summary;
    const char *help;
    enum cli_exit (*run)(const struct cli_options *options);
    bool takes_command; /* words behind its name, or behind -- */
    bool without_wal;   /* it looks into no journal: --wal is not needed */
    bool takes_action;  /* ACTION DIR behind its name */
};

/* Ends with an entry whose name is NULL. */
extern const struct cli_command cli_commands[];

/* All of the program; the result is its exit code. */
int cli_main(int argument_count, char **arguments);

enum cli_exit cli_status(const struct cli_options *options);
enum cli_exit cli_units(const struct cli_options *options);
enum cli_exit cli_show(const struct cli_options *options);
enum cli_exit cli_recover(const struct cli_options *options);
enum cli_exit cli_rollback(const struct cli_options *options);
enum cli_exit cli_drain(const struct cli_options *options);
enum cli_exit cli_upgrade(const struct cli_options *options);
enum cli_exit cli_resolve(const struct cli_options *options);
enum cli_exit cli_top(const struct cli_options *options);
enum cli_exit cli_observe(const struct cli_options *options);
enum cli_exit cli_verify(const struct cli_options *options);
enum cli_exit cli_export(const struct cli_options *options);

enum cli_exit cli_replay(const struct cli_options *options);
enum cli_exit cli_backup(const struct cli_options *options);
enum cli_exit cli_after_restore(const struct cli_options *options);
enum cli_exit cli_check_restore(const struct cli_options *options);
enum cli_exit cli_scrub(const struct cli_options *options);
enum cli_exit cli_prune(const struct cli_options *options);
enum cli_exit cli_salvage(const struct cli_options *options);
enum cli_exit cli_change_key(const struct cli_options *options);
enum cli_exit cli_migrate(const struct cli_options *options);

#endif
