/*
 * Command line of `holdfast`: one table of commands makes the dispatch and the help.
 *
 * Threads: main only, before anything else.
 */

#include "cli/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "cli/moment.h"
#include "cli/option_table.h"

#define CONNECT_MS_DEFAULT 10000
#define FENCE_MS_DEFAULT 2000
#define INTERVAL_MS_DEFAULT 2000
#define BATCH_MAX 1000 /* documents of one unit */
#define SETTLE_MS_DEFAULT 1000
#define LIMIT_MS_DEFAULT 600000
#define HELP_COLUMN 19 /* where the help of an option begins, less the indent */

const struct cli_command cli_commands[] = {
    {"status", "", "what the journal holds and whom it belongs to",
     "Prints the journal's id, its database, how it was last closed, its records and how many\n"
     "units are open or in conflict. With --upstream also the server and its lease. Works while\n"
     "holdfastd runs.\n"
     "\n"
     "Example: holdfast status --wal /var/lib/holdfast --upstream mongodb://localhost:27017\n",
     cli_status},
    {"units", "", "the units in the journal, oldest first",
     "Prints one line per unit: its number, state, boundary, when it began, how many writes it\n"
     "made, for whom, and why it ended. --state open|committed|aborted|conflict|committing shows "
     "only\n"
     "those. Works while holdfastd runs; then open units are at work, not left behind.\n"
     "--locks shows the units open in a living holdfastd, how many locks each holds and which\n"
     "unit it waits for.\n"
     "\n"
     "Example: holdfast units --wal /var/lib/holdfast --state conflict\n",
     cli_units},
    {"show", "UNIT", "one unit: its records, writes and images",
     "Prints all records of a unit and each document as it was before and after each write. For a\n"
     "unit in conflict, what was expected and what was found stand side by side. Works while\n"
     "holdfastd runs. The output contains the documents' contents.\n"
     "\n"
     "Example: holdfast show 4711 --wal /var/lib/holdfast\n",
     cli_show},
    {"recover", "", "roll back what a dead holdfastd left open",
     "Does what holdfastd does at its start: waits until nothing sent earlier can still arrive,\n"
     "then rolls back every open unit, newest first. A unit whose documents somebody else has\n"
     "changed since is set aside as a conflict, and nothing of it is touched. May be interrupted\n"
     "and run again. Needs --upstream; refuses a journal that a running holdfastd owns.\n"
     "--dry-run says what would be done and changes no document of yours.\n"
     "\n"
     "Example: holdfast recover --wal /var/lib/holdfast --upstream mongodb://localhost:27017\n",
     cli_recover},
    {"rollback", "UNIT", "roll back one open unit of a living holdfastd",
     "For a unit that holds locks others wait for (units --locks). Its client's next command is\n"
     "answered NoSuchTransaction. One whose command is at work is rolled back behind it, unless\n"
     "that commits it, as a plain write does. Waits for the end, and says which it was; ends with\n"
     "1 unless it was rolled back. What a dead holdfastd left open is for holdfast recover.\n"
     "\n"
     "Example: holdfast rollback 4711 --wal /var/lib/holdfast\n",
     cli_rollback},
    {"drain", "", "have a living holdfastd take nothing new, and wait",
     "New connections, API calls and units are refused from then on, open ones go on. Waits until\n"
     "none is left; then holdfastd can be ended without rolling anything back. It does not end by\n"
     "itself, and takes clients again only after a restart. /readyz tells the same.\n"
     "\n"
     "Example: holdfast drain --wal /var/lib/holdfast\n",
     cli_drain},
    {"upgrade", "", "have another process of the program take a living one's place",
     "For a new version: replace the program's file, then run this. What SIGUSR2 to holdfastd\n"
     "begins: the file at its path is started with the same arguments and environment, and takes\n"
     "over its sockets, its journal and its connections when no unit is open; clients see no more\n"
     "than a moment's wait. Units that are open longer than upgrade.wait are rolled back. If the "
     "new\n"
     "process cannot serve, the old one goes on, and this says why and ends with 1.\n"
     "\n"
     "Example: holdfast upgrade --wal /var/lib/holdfast\n",
     cli_upgrade},
    {"top", "", "what a living holdfastd is doing, again and again",
     "Shows units a second, how long commits and syncs of the disk take, who waits for locks, how\n"
     "full the journal is, how many of its records the server may still lose, and the open units.\n"
     "Keys: a, w, l and u sort them by age, writes, locks and number; q quits. Where it does not\n"
     "write to a terminal, and with --once, it looks twice and prints what was in between; with\n"
     "--json one object a line, until it is ended or, with --once, once.\n"
     "\n"
     "Example: holdfast top --wal /var/lib/holdfast\n",
     cli_top},
    {"resolve", "UNIT", "decide a unit in conflict: keep, restore or apply",
     "A unit is in conflict if somebody else changed one of its documents around the proxy. "
     "Without\n"
     "a choice, shows each document as it was before the unit, as the unit left it, and as it is\n"
     "now. With one of\n"
     "  --keep     leaves all documents as they are now\n"
     "  --restore  makes them what they were before the unit: the unit did not happen\n"
     "  --apply    makes them what the unit left: the unit happened\n"
     "shows what changes, asks, and does it: all documents or none, also if it is killed. A "
     "living\n"
     "holdfastd does it itself, with the documents locked; a stopped one's journal needs "
     "--upstream.\n"
     "--yes does not ask. The admin page also decides document by document.\n"
     "\n"
     "Example: holdfast resolve 4711 --restore --wal /var/lib/holdfast\n",
     cli_resolve},
    {"verify", "", "check every record of the journal",
     "Reads every record and checks its checksum, its place in its unit and the indexes, in a\n"
     "process of its own. Changes nothing. Works while holdfastd runs.\n"
     "\n"
     "Example: holdfast verify --wal /var/lib/holdfast\n",
     cli_verify},
    {"salvage", "", "make a new journal of what is intact in a damaged one",
     "Reads a journal that holdfast verify calls damaged, without trusting its pages, and makes a\n"
     "new one, with the same id, in the directory --to names: of all units of which every record "
     "is\n"
     "intact. The others are listed with what is known of them: look at their documents. The\n"
     "damaged journal is not changed. Needs a stopped holdfastd.\n"
     "\n"
     "Example: holdfast salvage --wal /var/lib/holdfast --to /var/lib/holdfast-salvaged\n",
     cli_salvage},
    {"change-key", "", "encrypt the journal's keys with another key file",
     "Wraps the data keys of an encrypted journal with the key in another file, in one step:\n"
     "before it the old file opens the journal, after it only the new one. No record is "
     "rewritten.\n"
     "Needs a stopped proxy. Make the new file with: openssl rand -base64 32\n\n"
     "Example: holdfast change-key --wal DIR --wal-key-file OLD --to NEW\n",
     cli_change_key},
    {"observe", "", "which services write several times per call",
     "Asks a living holdfastd which service, by which route, wrote several times for one call: "
     "the\n"
     "writes in their order without any value, how many calls there were, how many ended between\n"
     "their writes without a good answer (torn), and which boundary would make them all or "
     "nothing.\n"
     "A call is known from the http boundary, or from the traceparent in the writes' comment. A\n"
     "write that was repeated is shown once with a +, a loop in brackets: (a b)+.\n"
     "\n"
     "Example: holdfast observe --wal /var/lib/holdfast\n",
     cli_observe},
    {"export", "", "units and their writes as JSON lines",
     "Writes two kinds of lines to standard output: {\"type\": \"unit\", ...}, then for each of "
     "its\n"
     "writes {\"type\": \"write\", ...} with the document before and after it, in canonical "
     "Extended\n"
     "JSON. --records writes the journal's records as they are instead, in the order of their "
     "LSNs.\n"
     "  --unit N              only this unit\n"
     "  --from, --until WHEN  only units that ended there; with --records, records from there\n"
     "  --namespace DB.COLL   only writes to this collection, and the units that have some\n"
     "WHEN is an LSN, a time (2026-01-02T03:04:05Z), or how long ago (2h). Works while holdfastd\n"
     "runs. Says on standard error how far it is if that is a terminal, or with --progress.\n"
     "\n"
     "Example: holdfast export --wal /var/lib/holdfast --from 2h --namespace shop.orders\n",
     cli_export},
    {"replay", "", "bring a restored backup forward",
     "Moves every document of the restored database at --onto URI to its last committed image in\n"
     "the journal, up to --until WHEN or the journal's end. A document that is none of its images\n"
     "was written by somebody else: it is listed as a conflict and stays as it is. May be\n"
     "interrupted and run again; a second run changes nothing. Refuses a database that is being\n"
     "served, that is not the journal's (--set upstream.takeover=ID vouches for it), and a backup\n"
     "that is older than what the journal still has.\n"
     "  --from WHEN  the backup holds everything that had ended before; by default the database\n"
     "               tells. Give it where the backup is not of one moment, such as a dump that "
     "was\n"
     "               taken during writes: when the dump began\n"
     "  --until WHEN leaves out what was committed later. The journal is refused afterwards, for\n"
     "               it knows a future that has not happened: start holdfastd with an empty one\n"
     "  --dry-run    says what would be done\n"
     "  --yes        finish in spite of conflicts, or although records are missing\n"
     "WHEN is an LSN, a time (2026-01-02T03:04:05Z), or how long ago (2h).\n"
     "\n"
     "Example: holdfast replay --wal DIR --onto mongodb://localhost:27017 --until 2h\n",
     cli_replay},
    {"backup", "", "run a dump, so that what is restored of it can be made whole",
     "Runs COMMAND (mongodump and its like) while services go on writing, and puts into --to DIR "
     "from\n"
     "where to where in the journal that was, with a copy of the journal. What the dump has of "
     "units\n"
     "that were at work, after-restore makes whole. Retention removes nothing meanwhile.\n"
     "  --pause  has the living holdfastd hold all writes, of units and plain ones, once the open "
     "units\n"
     "           have ended: the dump is of one moment. They wait as for a lock (unit.lockWait), "
     "then\n"
     "           are refused. Ends with the command, after --limit, or when holdfast dies\n"
     "COMMAND stands behind --, and its exit code is this one's.\n"
     "\n"
     "Example: holdfast backup --wal DIR --to BACKUP -- mongodump --out BACKUP/dump\n",
     cli_backup, .takes_command = true},
    {"after-restore", "", "make a restored backup and the journal one again",
     "After the dump of holdfast backup was restored to the server at --onto: checks that journal "
     "and\n"
     "backup belong together, moves each document that units wrote to what was committed, sets "
     "lease,\n"
     "probe and identity, and says what it did and how to go on. Goes to the end of the journal in "
     "the\n"
     "backup, or of the one that --wal names, which may know more: --until WHEN ends earlier. "
     "Exit\n"
     "code 1, --dry-run, --yes and being interrupted are as with replay.\n"
     "\n"
     "Example: holdfast after-restore --backup BACKUP --onto mongodb://localhost:27017\n",
     cli_after_restore, .without_wal = true},
    {"check-restore", "", "what to do after restoring a backup",
     "Tells whether the database at --upstream is the journal's, up to which LSN the backup holds\n"
     "everything, what a replay would do, and the next step. Takes --from and --until as replay\n"
     "does. Changes nothing. Exit code 0: the database is where the journal is.\n"
     "\n"
     "Example: holdfast check-restore --wal DIR --upstream mongodb://localhost:27017\n",
     cli_check_restore},
    {"prune", "", "remove ended units from the journal now",
     "Removes units that ended before --before WHEN (a time or how long ago, 24h if not given), "
     "but\n"
     "none that the server may not have made durable yet. A living holdfastd does it itself, by\n"
     "its wal.retention if --before is not given; without one it needs --upstream, for the server\n"
     "tells what it has.\n"
     "Drivers may ask for 30 minutes how a commit ended: for less, --yes is needed.\n"
     "  --compact  gives the room back to the disk: makes a copy without the free room and puts "
     "it\n"
     "             in the journal's place. Only while holdfastd is stopped and nobody reads. Alone "
     "it\n"
     "             removes no unit and needs no --upstream.\n"
     "  --dry-run  says how many units would go\n"
     "\n"
     "Example: holdfast prune --compact --before 6h --wal DIR --upstream "
     "mongodb://localhost:27017\n",
     cli_prune},
    {"migrate", "ACTION DIR", "change the shape of documents, step by step",
     "Applies the migration files of DIR (NUMBER_NAME.yaml or .json) through the running "
     "holdfastd,\n"
     "while services go on writing: in batches, each one journaled unit. ACTION is\n"
     "  status    what is applied, what is pending, and what can still be undone; ends with 1 "
     "where\n"
     "            something is pending, half done, changed or missing\n"
     "  dry-run   the steps that up would take, and how many documents match now; writes nothing\n"
     "  up        applies what is pending, or goes on where it was stopped or killed\n"
     "  down      undoes the newest one, with --to N all above N: by the journal's before-images\n"
     "            where a document is still what the migration made of it (others are listed, and\n"
     "            left: exit code 1), or by the file's down section\n"
     "  baseline  notes what is pending up to --to N as applied, and carries nothing out\n"
     "  repair    takes changed files of what is applied for right\n"
     "The versions are kept in the database, in holdfast_migrations. One process at a time: "
     "another\n"
     "one waits for --wait, and ends with 3. With --wal, status tells whether the journal can "
     "undo\n"
     "it, and down does so; beside a running holdfastd. The files' grammar: docs/MIGRATIONS.md.\n"
     "\n"
     "Example: holdfast migrate up migrations --proxy mongodb://localhost:27018/shop\n",
     cli_migrate, .without_wal = true, .takes_action = true},
    {"scrub", "", "find documents that contradict each other, and fix them",
     "Finds what earlier crashes left behind, by the rules of a file (docs/SCRUB.md): references "
     "that\n"
     "lead nowhere, missing partners, parts of different calls, counters that are wrong, states "
     "that\n"
     "nobody ends, duplicates. A finding is looked at a second time before it counts, so services\n"
     "may go on; MOVING are those that changed in between. Shows for each rule how many there "
     "are,\n"
     "some of them, and the commands that put them right. Reads from the server (--upstream) or "
     "from\n"
     "a running holdfastd (--proxy); the server sorts keys, on its disk if they are many.\n"
     "  --fix  asks for each rule, and does it through holdfastd: each finding in a unit of its "
     "own,\n"
     "         which looks once more and leaves alone what has changed\n"
     "  --yes  does not ask\n"
     "Exit code 1: something was found and is left.\n"
     "\n"
     "Example: holdfast scrub --rules FILE --proxy mongodb://localhost:27018\n",
     cli_scrub, .without_wal = true},
    {NULL, NULL, NULL, NULL, NULL},
};

enum { OPTIONS_MAX = 64 };

/* As getopt_long() wants it. */
static void make_long_options(struct option ret_options[OPTIONS_MAX])
{
    size_t count = 0;
    for (const struct cli_option *each = cli_option_table; each->name != NULL; each++) {
        assert(count + 1 < OPTIONS_MAX);
        ret_options[count++] = (struct option){
            each->name, each->value == NULL ? no_argument : required_argument, NULL, each->letter};
    }
    ret_options[count] = (struct option){0};
}

static const struct cli_command *command_find(const char *name)
{
    for (const struct cli_command *command = cli_commands; command->name != NULL; command++) {
        if (strcmp(command->name, name) == 0) {
            return command;
        }
    }
    return NULL;
}

static bool parse_whole(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    *ret_number = number;
    *ret_rest = end;
    return true;
}

/* "500ms", "2s", "1m"; a bare number is milliseconds. At most ten minutes. */
static bool parse_duration(const char *text, uint64_t *ret_ms)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}};
    uint64_t number = 0;
    const char *rest = NULL;
    if (!parse_whole(text, &number, &rest) || number > 600000) {
        return false;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(rest, units[i].name) == 0 && number * units[i].factor <= 600000) {
            *ret_ms = number * units[i].factor;
            return true;
        }
    }
    return false;
}

/* --set KEY=VALUE, with the keys of holdfastd that mean something here. */
static enum status parse_set(const char *text, struct cli_options *options, struct error *ret_error)
{
    const char *value = strchr(text, '=');
    size_t size = value == NULL ? 0 : (size_t)(value - text);
    uint64_t *duration = NULL;
    if (value == NULL) {
        return error_set(ret_error, STATUS_INVALID, "--set %.100s: expected KEY=VALUE", text);
    }
    value++;
    if (size == 17 && strncmp(text, "upstream.takeover", size) == 0) {
        options->takeover = value;
        return STATUS_OK;
    }
    if (size == 12 && strncmp(text, "upstream.uri", size) == 0) {
        options->upstream = value;
        return STATUS_OK;
    }
    if (size == 21 && strncmp(text, "wal.encryptionKeyFile", size) == 0) {
        options->key_file = value;
        return STATUS_OK;
    }
    if (size == 13 && strncmp(text, "wal.directory", size) == 0) {
        options->wal = value;
        return STATUS_OK;
    }
    if (size == 18 && strncmp(text, "upstream.fenceWait", size) == 0) {
        duration = &options->fence_ms;
    } else if (size == 23 && strncmp(text, "upstream.connectTimeout", size) == 0) {
        duration = &options->connect_ms;
    } else {
        return error_set(ret_error, STATUS_INVALID, "--set %.100s: holdfast has no such key", text);
    }
    if (!parse_duration(value, duration)) {
        return error_set(ret_error, STATUS_INVALID,
                         "--set %.100s: expected a time up to 10m, for example 2s", text);
    }
    return STATUS_OK;
}

static enum status check_state(const char *state, struct error *ret_error)
{
    static const char *const names[] = {"open",     "committed",  "aborted",
                                        "conflict", "committing", "all"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(state, names[i]) == 0) {
            return STATUS_OK;
        }
    }
    return error_set(ret_error, STATUS_INVALID,
                     "--state %.50s: expected open, committed, aborted, conflict or all", state);
}

static enum status take_choice(const char *choice, struct cli_options *options,
                               struct error *ret_error)
{
    if (options->choice != NULL && strcmp(options->choice, choice) != 0) {
        return error_set(ret_error, STATUS_INVALID, "--%s and --%s: only one can be done",
                         options->choice, choice);
    }
    options->choice = choice;
    return STATUS_OK;
}

static enum status take_unit(const char *text, struct cli_options *options, struct error *ret_error)
{
    const char *rest = NULL;
    if (!parse_whole(text, &options->unit, &rest) || rest[0] != '\0' || options->unit == 0) {
        return error_set(ret_error, STATUS_INVALID, "%.50s is not a unit's number", text);
    }
    return STATUS_OK;
}

/* As the arguments, for the life of the process. */
static char *upstream_text;
static char *proxy_text;

static enum status take_file(const char *what, char **kept, const char **ret_text,
                             struct error *ret_error)
{
    char *text = NULL;
    enum status status = secret_file_read(what, optarg, &text, ret_error);
    if (status == STATUS_OK) {
        secret_free(*kept);
        *kept = text;
        *ret_text = text;
    }
    return status;
}

static enum status take_batch(struct cli_options *options, struct error *ret_error)
{
    const char *rest = NULL;
    return parse_whole(optarg, &options->batch, &rest) && rest[0] == '\0' && options->batch >= 1 &&
                   options->batch <= BATCH_MAX
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID,
                           "--batch %.50s: expected a number from 1 to %d", optarg, BATCH_MAX);
}

static enum status take_way(struct cli_options *options, struct error *ret_error)
{
    options->way = optarg;
    return strcmp(optarg, "journal") == 0 || strcmp(optarg, "file") == 0
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID, "--by %.50s: expected journal or file",
                           optarg);
}

static enum status take_duration(const char *option, const char *text, uint64_t *ret_ms,
                                 struct error *ret_error)
{
    return parse_duration(text, ret_ms)
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID,
                           "%s %.50s: expected a time up to 10m, for example 2s", option, text);
}

static enum status take_interval(const char *text, struct cli_options *options,
                                 struct error *ret_error)
{
    if (!parse_duration(text, &options->interval_ms) || options->interval_ms < 100) {
        return error_set(ret_error, STATUS_INVALID,
                         "--interval %.50s: expected a time from 100ms to 10m, for example 2s",
                         text);
    }
    return STATUS_OK;
}

static enum status take_option(int letter, struct cli_options *options, enum options_action *action,
                               char **arguments, struct error *ret_error)
{
    switch (letter) {
    case OPTION_WAL:
        options->wal = optarg;
        return STATUS_OK;
    case OPTION_UPSTREAM:
        options->upstream = optarg;
        return STATUS_OK;
    case OPTION_UPSTREAM_FILE:
        return take_file("--upstream-file", &upstream_text, &options->upstream, ret_error);
    case OPTION_PROXY:
        options->proxy = optarg;
        return STATUS_OK;
    case OPTION_PROXY_FILE:
        return take_file("--proxy-file", &proxy_text, &options->proxy, ret_error);
    case OPTION_DATABASE:
        options->database = optarg;
        return STATUS_OK;
    case OPTION_WAIT:
        return take_duration("--wait", optarg, &options->wait_ms, ret_error);
    case OPTION_THROTTLE:
        return take_duration("--throttle", optarg, &options->throttle_ms, ret_error);
    case OPTION_BATCH:
        return take_batch(options, ret_error);
    case OPTION_BY:
        return take_way(options, ret_error);
    case OPTION_OUT_OF_ORDER:
        options->out_of_order = true;
        return STATUS_OK;
    case OPTION_JSON:
        options->json = true;
        return STATUS_OK;
    case OPTION_DRY_RUN:
        options->dry_run = true;
        return STATUS_OK;
    case OPTION_KEEP:
        return take_choice("keep", options, ret_error);
    case OPTION_RESTORE:
        return take_choice("restore", options, ret_error);
    case OPTION_APPLY:
        return take_choice("apply", options, ret_error);
    case OPTION_LOCKS:
        options->locks = true;
        return STATUS_OK;
    case OPTION_UNIT:
        return take_unit(optarg, options, ret_error);
    case OPTION_ONTO:
        options->onto = optarg;
        return STATUS_OK;
    case OPTION_NAMESPACE:
        options->namespace = optarg;
        return STATUS_OK;
    case OPTION_FROM:
        return moment_parse("--from", optarg, &options->from, ret_error);
    case OPTION_UNTIL:
        return moment_parse("--until", optarg, &options->until, ret_error);
    case OPTION_BEFORE:
        return moment_parse("--before", optarg, &options->before, ret_error);
    case OPTION_RECORDS:
        options->records = true;
        return STATUS_OK;
    case OPTION_PROGRESS:
        options->progress = true;
        return STATUS_OK;
    case OPTION_COMPACT:
        options->compact = true;
        return STATUS_OK;
    case OPTION_TO:
        options->target = optarg;
        return STATUS_OK;
    case OPTION_WAL_KEY_FILE:
        options->key_file = optarg;
        return STATUS_OK;
    case OPTION_ONCE:
        options->once = true;
        return STATUS_OK;
    case OPTION_INTERVAL:
        return take_interval(optarg, options, ret_error);
    case OPTION_RULES:
        options->rules = optarg;
        return STATUS_OK;
    case OPTION_RULE:
        options->rule = optarg;
        return STATUS_OK;
    case OPTION_FIX:
        options->fix = true;
        return STATUS_OK;
    case OPTION_SETTLE:
        return take_duration("--settle", optarg, &options->settle_ms, ret_error);
    case OPTION_LIMIT:
        return take_duration("--limit", optarg, &options->limit_ms, ret_error);
    case OPTION_PAUSE:
        options->pause = true;
        return STATUS_OK;
    case OPTION_WITHOUT_JOURNAL:
        options->without_journal = true;
        return STATUS_OK;
    case OPTION_BACKUP:
        options->backup = optarg;
        return STATUS_OK;
    case OPTION_YES:
        options->yes = true;
        return STATUS_OK;
    case OPTION_STATE:
        options->state = optarg;
        return check_state(optarg, ret_error);
    case OPTION_SET:
        return parse_set(optarg, options, ret_error);
    case 'h':
        *action = OPTIONS_HELP;
        return STATUS_OK;
    case 'V':
        *action = OPTIONS_VERSION;
        return STATUS_OK;
    case ':':
        return error_set(ret_error, STATUS_INVALID, "%.100s needs a value", arguments[optind - 1]);
    default:
        return error_set(ret_error, STATUS_INVALID,
                         "unknown option %.100s; holdfast --help lists them",
                         arguments[optind - 1]);
    }
}

/* What follows the command: nothing, UNIT, or ACTION DIR. */
static enum status take_arguments(const struct cli_command *command, int count, char **words,
                                  struct cli_options *options, struct error *ret_error)
{
    int expected = command->arguments[0] == '\0' ? 0 : command->takes_action ? 2 : 1;
    if (count < expected) {
        return error_set(ret_error, STATUS_INVALID, "%s needs %s%s", command->name,
                         expected == 1 ? "a " : "", command->arguments);
    }
    if (count > expected) {
        return error_set(ret_error, STATUS_INVALID, "%s: unexpected %.100s", command->name,
                         words[expected]);
    }
    if (expected == 2) {
        options->action = words[0];
        options->folder = words[1];
        return STATUS_OK;
    }
    return expected == 1 ? take_unit(words[0], options, ret_error) : STATUS_OK;
}

/* What is left after the options: COMMAND and its arguments. */
static enum status take_words(int count, char **words, enum options_action *action,
                              const struct cli_command **ret_command, struct cli_options *options,
                              struct error *ret_error)
{
    if (count > 0 && strcmp(words[0], "help") == 0) {
        *action = OPTIONS_HELP;
        words++;
        count--;
    }
    *ret_command = NULL;
    if (count == 0) {
        return *action == OPTIONS_RUN
                   ? error_set(ret_error, STATUS_INVALID, "which command? See holdfast --help")
                   : STATUS_OK;
    }
    *ret_command = command_find(words[0]);
    if (*ret_command == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "there is no command %.50s; holdfast --help lists them", words[0]);
    }
    if (*action != OPTIONS_RUN) {
        return STATUS_OK;
    }
    if ((*ret_command)->takes_command) {
        options->command = &words[1];
        return STATUS_OK;
    }
    return take_arguments(*ret_command, count - 1, words + 1, options, ret_error);
}

enum status options_parse(int argument_count, char **arguments, enum options_action *ret_action,
                          const struct cli_command **ret_command, struct cli_options *ret_options,
                          struct error *ret_error)
{
    struct cli_options options = {.connect_ms = CONNECT_MS_DEFAULT,
                                  .fence_ms = FENCE_MS_DEFAULT,
                                  .interval_ms = INTERVAL_MS_DEFAULT,
                                  .settle_ms = SETTLE_MS_DEFAULT,
                                  .limit_ms = LIMIT_MS_DEFAULT};
    enum options_action action = OPTIONS_RUN;
    enum status status = STATUS_OK;
    int letter;
    struct option long_options[OPTIONS_MAX];
    make_long_options(long_options);
    optind = 0; /* so that tests may call this more than once */
    while ((letter = getopt_long(argument_count, arguments, ":hV", long_options, NULL)) != -1) {
        status = take_option(letter, &options, &action, arguments, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    status = take_words(argument_count - optind, arguments + optind, &action, ret_command, &options,
                        ret_error);
    if (status == STATUS_OK && action == OPTIONS_RUN && options.wal == NULL &&
        !(*ret_command)->without_wal) {
        status =
            error_set(ret_error, STATUS_INVALID, "--wal DIR is missing: where is the journal?");
    }
    if (status == STATUS_OK) {
        *ret_action = action;
        *ret_options = options;
    }
    return status;
}

/* One option, with its help in a column of its own. */
static void help_option(const struct cli_option *option)
{
    char words[64];
    int width =
        snprintf(words, sizeof(words), "--%s%s%s", option->name, option->value == NULL ? "" : " ",
                 option->value == NULL ? "" : option->value);
    printf("  %-*s", HELP_COLUMN, words);
    const char *line = option->help;
    size_t size = strcspn(line, "\n");
    if (width >= HELP_COLUMN) {
        printf("\n%*s", HELP_COLUMN + 2, "");
    }
    printf("%.*s\n", (int)size, line);
    while (line[size] != '\0') {
        line += size + 1;
        size = strcspn(line, "\n");
        printf("%*s%.*s\n", HELP_COLUMN + 2, "", (int)size, line);
    }
}

/* Those of a command, or those that all commands have. */
static void help_options(const struct cli_command *command)
{
    fputs("Options:\n", stdout);
    for (const struct cli_option *each = cli_option_table; each->name != NULL; each++) {
        if (command != NULL ? cli_option_is_of(each, command) : each->commands == NULL) {
            help_option(each);
        }
    }
    fputs("\nExit codes: 0 nothing left to do, 1 conflicts or damage left, 2 could not run,\n"
          "3 another process migrates.\n",
          stdout);
}

void options_help(const struct cli_command *command)
{
    if (command != NULL) {
        printf("Usage: holdfast %s%s%s%s [OPTION]...%s\n\nIn short: %s.\n\n%s%s", command->name,
               command->arguments[0] == '\0' ? "" : " ", command->arguments,
               command->takes_action  ? " --proxy URI"
               : command->without_wal ? ""
                                      : " --wal DIR",
               command->takes_command ? " -- COMMAND..." : "", command->summary, command->help,
               command->help[0] == '\0' ? "" : "\n");
        help_options(command);
        return;
    }
    fputs("Usage: holdfast COMMAND --wal DIR [OPTION]...\n"
          "\n"
          "Looks into the journal of holdfastd, and recovers it when holdfastd is not there to.\n"
          "\n"
          "Commands (holdfast help COMMAND tells more):\n",
          stdout);
    for (const struct cli_command *each = cli_commands; each->name != NULL; each++) {
        char usage[64];
        snprintf(usage, sizeof(usage), "%s %s", each->name, each->arguments);
        printf("  %-18s %s\n", usage, each->summary);
    }
    fputs("\n", stdout);
    help_options(NULL);
    fputs("\nWhere to begin:\n"
          "  holdfast status --wal /var/lib/holdfast                    is all well?\n"
          "  holdfast units --wal /var/lib/holdfast --state conflict    what waits for you\n"
          "  holdfast resolve 17 --wal /var/lib/holdfast                what a conflict is about\n"
          "  holdfast top --wal /var/lib/holdfast                       what is going on\n"
          "More: man holdfast; what to do after a crash is in docs/RUNBOOK.md.\n",
          stdout);
}
