/*
 * The table of options (option_table.h).
 */
#include "cli/option_table.h"

#include <stddef.h>
#include <string.h>

const struct cli_option cli_option_table[] = {
    {"wal", "DIR", OPTION_WAL, NULL,
     "the journal's directory (required, but for migrate, scrub\nand after-restore)"},
    {"wal-key-file", "FILE", OPTION_WAL_KEY_FILE, NULL, "opens an encrypted journal"},
    {"upstream", "URI", OPTION_UPSTREAM, "status recover resolve check-restore prune scrub",
     "the server, mongodb://host:port, as given to holdfastd"},
    {"upstream-file", "FILE", OPTION_UPSTREAM_FILE,
     "status recover resolve check-restore prune scrub",
     "the same, read from a file that nobody else can read"},
    {"onto", "URI", OPTION_ONTO, "replay after-restore", "the server with the restored database"},
    {"state", "STATE", OPTION_STATE, "units",
     "open, committed, aborted, conflict or all (default)"},
    {"locks", NULL, OPTION_LOCKS, "units", "the living holdfastd's, and who waits for whom"},
    {"keep", NULL, OPTION_KEEP, "resolve", "leave all documents as they are now"},
    {"restore", NULL, OPTION_RESTORE, "resolve", "make them what they were before the unit"},
    {"apply", NULL, OPTION_APPLY, "resolve", "make them what the unit left"},
    {"to", "DIR", OPTION_TO, "salvage", "where the new journal is made"},
    {"to", "DIR", OPTION_TO, "backup", "the backup: its marks, and the journal's copy"},
    {"to", "FILE", OPTION_TO, "change-key", "the new key file"},
    {"to", "N", OPTION_TO, "migrate", "up to version N, or down to it; 0: undo all"},
    {"proxy", "URI", OPTION_PROXY, "migrate scrub",
     "the running holdfastd, as services reach it:\nmongodb://host:port/database"},
    {"proxy-file", "FILE", OPTION_PROXY_FILE, "migrate scrub",
     "the same, read from a file that nobody else can read"},
    {"database", "NAME", OPTION_DATABASE, "migrate", "another database than the URI's"},
    {"wait", "TIME", OPTION_WAIT, "migrate", "for another process that migrates, at most 10m; 0"},
    {"batch", "N", OPTION_BATCH, "migrate", "documents of one unit, at most; 100"},
    {"throttle", "TIME", OPTION_THROTTLE, "migrate", "a pause between two units, such as 50ms; 0"},
    {"by", "WAY", OPTION_BY, "migrate",
     "down: journal or file (its down section); by default\nthe journal, if it has everything"},
    {"out-of-order", NULL, OPTION_OUT_OF_ORDER, "migrate",
     "up: also what has a lower number than what is applied"},
    {"unit", "N", OPTION_UNIT, "export", "only this unit"},
    {"namespace", "DB.COLL", OPTION_NAMESPACE, "export", "only writes to this collection"},
    {"records", NULL, OPTION_RECORDS, "export", "the journal's records as they are"},
    {"from", "WHEN", OPTION_FROM, "export replay check-restore after-restore",
     "an LSN, a time (2026-01-02T03:04:05Z) or how long ago\n(2h)"},
    {"until", "WHEN", OPTION_UNTIL, "export replay check-restore after-restore", "the same"},
    {"before", "WHEN", OPTION_BEFORE, "prune",
     "units that ended before: a time or how long ago; 24h"},
    {"compact", NULL, OPTION_COMPACT, "prune", "give the room back to the disk"},
    {"progress", NULL, OPTION_PROGRESS, "export replay after-restore migrate",
     "say how far it is, also to a file"},
    {"rules", "FILE", OPTION_RULES, "scrub", "what has to hold (docs/SCRUB.md)"},
    {"rule", "NAME", OPTION_RULE, "scrub", "only this one of them"},
    {"fix", NULL, OPTION_FIX, "scrub", "put right what is found, each in a unit of its own"},
    {"settle", "TIME", OPTION_SETTLE, "scrub", "between two looks at what is found; 1s"},
    {"pause", NULL, OPTION_PAUSE, "backup", "hold all writes while the command runs"},
    {"limit", "TIME", OPTION_LIMIT, "backup", "for that long at most; 10m"},
    {"without-journal", NULL, OPTION_WITHOUT_JOURNAL, "backup", "make no copy of the journal"},
    {"backup", "DIR", OPTION_BACKUP, "after-restore", "what holdfast backup has made"},
    {"once", NULL, OPTION_ONCE, "top", "print once, and end"},
    {"interval", "TIME", OPTION_INTERVAL, "top", "between two looks, for example 500ms; 2s"},
    {"dry-run", NULL, OPTION_DRY_RUN, "recover resolve replay after-restore prune",
     "say what would be done, change nothing"},
    {"yes", NULL, OPTION_YES, "resolve replay prune scrub",
     "do not ask; see the command's own help"},
    {"json", NULL, OPTION_JSON, NULL, "JSON (MongoDB Extended JSON, relaxed) instead of text"},
    {"set", "KEY=VALUE", OPTION_SET,
     "status recover resolve replay check-restore after-restore prune",
     "upstream.takeover=ID vouches for a lost journal's\n"
     "database; upstream.fenceWait=2s: how long to wait for\n"
     "late writes; upstream.connectTimeout=10s"},
    {"help", NULL, 'h', NULL, "this text; holdfast help COMMAND of one command"},
    {"version", NULL, 'V', NULL, "the version"},
    {NULL, NULL, 0, NULL, NULL},
};

bool cli_option_is_of(const struct cli_option *option, const struct cli_command *command)
{
    if (option->commands == NULL) {
        return true;
    }
    size_t size = strlen(command->name);
    for (const char *each = option->commands; each != NULL && each[0] != '\0';) {
        size_t length = strcspn(each, " ");
        if (length == size && strncmp(each, command->name, size) == 0) {
            return true;
        }
        each += length + (each[length] == ' ' ? 1 : 0);
    }
    return false;
}
