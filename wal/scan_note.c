/* What a verification finds, in the memory that it shares with its parent (scan.h). */

#include "wal/scan.h"

#include <inttypes.h>
#include <stdio.h>

#define DAMAGE_MAX (sizeof(((struct wal_verification *)NULL)->damage) / sizeof(struct wal_damage))

void scan_note_damage(struct scan *scan, const struct wal_damage *damage)
{
    struct wal_verification *found = &scan->found;
    if (found->damage_count < DAMAGE_MAX) {
        found->damage[found->damage_count] = *damage;
    }
    found->damage_count++;
}

void scan_note(struct scan *scan, uint64_t lsn, const char *message)
{
    struct wal_damage damage = {.lsn = lsn, .offset = WAL_NO_OFFSET};
    snprintf(damage.message, sizeof(damage.message), "%.255s", message);
    scan_note_damage(scan, &damage);
}

void scan_note_unit(struct scan *scan, uint64_t lsn, uint64_t unit, const char *what)
{
    struct wal_damage damage = {.lsn = lsn, .unit = unit, .offset = WAL_NO_OFFSET};
    snprintf(damage.message, sizeof(damage.message), "unit %" PRIu64 ": %.200s", unit, what);
    scan_note_damage(scan, &damage);
}

void scan_note_whose(struct scan *scan, uint64_t lsn, uint64_t unit)
{
    struct wal_verification *found = &scan->found;
    for (size_t i = 0; i < found->damage_count && i < DAMAGE_MAX; i++) {
        if (found->damage[i].lsn == lsn && found->damage[i].unit == 0) {
            found->damage[i].unit = unit;
        }
    }
}

void scan_now_doing(struct scan *scan, const char *doing)
{
    snprintf(scan->doing, sizeof(scan->doing), "%s", doing);
    scan->at = 0;
}

bool scan_is_end(struct scan *scan, enum status status, const struct error *error)
{
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        scan_note(scan, 0, error->message);
    }
    return status != STATUS_OK;
}
