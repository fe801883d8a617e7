/*
 * What is intact in a damaged data.mdb (salvage.h).
 *
 *   1. the pages are walked (pages.h): every row on a page that is sound by itself, and whose own
 *      checksum is right, is a candidate
 *   2. a candidate on a page that is in use twice, or called free, is dropped: it may be a former
 *      version of the row
 *   3. if anything was damaged, the file is read from end to end for the bytes with which a record
 *      begins. A record never changes and carries its own length, number and checksum, so that it
 * is known without a page that leads to it. Not on a free page: there a record may be one that was
 *      never committed. Two that differ under one LSN are doubtful, both
 *
 * Rows of units change, so that only the walk tells which version counts.
 */

#include "wal/salvage.h"

#include <stdlib.h>

/* How much of the file is looked at in one piece. */
#define PIECE_BYTES ((size_t)1 << 20)

static bool grow(void **items, size_t count, size_t *capacity, size_t item_size)
{
    if (count < *capacity) {
        return true;
    }
    size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    void *more = realloc(*items, wanted * item_size);
    if (more == NULL) {
        return false;
    }
    *items = more;
    *capacity = wanted;
    return true;
}

static void raise(uint64_t *highest, uint64_t number)
{
    *highest = number > *highest ? number : *highest;
}

/* ------------------------------------------------------------------ collecting */

void findings_add_record(struct findings *findings, const struct wal_record *record,
                         struct slice value, uint64_t offset, bool in_tail)
{
    void *items = findings->records;
    if (!grow(&items, findings->record_count, &findings->record_capacity,
              sizeof(*findings->records))) {
        findings->out_of_memory = true;
        return;
    }
    findings->records = items;
    findings->records[findings->record_count++] = (struct found_record){
        .lsn = record->lsn,
        .unit = record->unit,
        .previous_lsn = record->previous_lsn,
        .time_ms = record->time_ms,
        .offset = offset,
        .in_tail = in_tail ? value.data : NULL,
        .size = (uint32_t)value.size,
        .crc = slice_load_u32be(value.data + 12),
        .kind = record->kind,
    };
}

void findings_add_unit(struct findings *findings, const struct format_unit *row, uint64_t offset,
                       bool from_tail)
{
    void *items = findings->units;
    if (!grow(&items, findings->unit_count, &findings->unit_capacity, sizeof(*findings->units))) {
        findings->out_of_memory = true;
        return;
    }
    findings->units = items;
    findings->units[findings->unit_count++] =
        (struct found_unit){.row = *row, .offset = offset, .from_tail = from_tail};
}

static void add_row(struct findings *findings, struct found_row **rows, size_t *count,
                    size_t *capacity, struct slice key, struct slice value, uint64_t offset)
{
    void *items = *rows;
    uint8_t *bytes = malloc(key.size + value.size + 1); /* and a NUL behind: keys may be names */
    uint8_t *name = malloc(key.size + 1);
    if (bytes == NULL || name == NULL || !grow(&items, *count, capacity, sizeof(**rows))) {
        free(bytes);
        free(name);
        findings->out_of_memory = true;
        return;
    }
    *rows = items;
    memcpy(name, key.data, key.size);
    name[key.size] = 0;
    if (value.size > 0) {
        memcpy(bytes, value.data, value.size);
    }
    (*rows)[(*count)++] = (struct found_row){.offset = offset,
                                             .key = name,
                                             .key_size = key.size,
                                             .value = bytes,
                                             .value_size = value.size};
}

void findings_add_session(struct findings *findings, struct slice key, struct slice value,
                          uint64_t offset)
{
    add_row(findings, &findings->sessions, &findings->session_count, &findings->session_capacity,
            key, value, offset);
}

static void take_session(struct findings *findings, struct slice key, struct slice value,
                         uint64_t offset)
{
    struct format_session session;
    if (key.size > LIMIT_SESSION_KEY_BYTES ||
        format_session_get(key, value, &session, NULL) != STATUS_OK) {
        findings->damage_count++;
        findings->sessions_lost++;
        return;
    }
    findings_add_session(findings, key, value, offset);
}

static void take_property(struct findings *findings, struct slice key, struct slice value,
                          uint64_t offset)
{
    char name[FORMAT_PROPERTY_NAME_BYTES_MAX + 1] = "";
    struct slice content;
    bool named = key.size > 0 && key.size < sizeof(name) && memchr(key.data, 0, key.size) == NULL;
    if (named) {
        memcpy(name, key.data, key.size);
    }
    if (!named || format_property_get(name, value, &content, NULL) != STATUS_OK) {
        findings->damage_count++;
        findings->properties_lost++;
        return;
    }
    add_row(findings, &findings->properties, &findings->property_count,
            &findings->property_capacity, key, content, offset);
}

static void on_row(void *context, enum store_table table, struct slice key, struct slice value,
                   uint64_t offset)
{
    struct findings *findings = context;
    struct wal_record record;
    struct format_unit unit;
    uint64_t number = 0;
    bool numbered = table != STORE_SESSIONS && table != STORE_PROPERTIES;
    if (numbered && format_key_get(key, &number, NULL) != STATUS_OK) {
        findings->damage_count++;
    } else if (table == STORE_RECORDS) {
        findings->record_rows++;
        raise(&findings->highest_lsn, number);
        if (format_record_get(number, value, &record, NULL) == STATUS_OK) {
            findings_add_record(findings, &record, value, offset, false);
        } else {
            findings->damage_count++;
        }
    } else if (table == STORE_UNITS) {
        raise(&findings->highest_unit, number);
        if (format_unit_get(number, value, &unit, NULL) == STATUS_OK) {
            raise(&findings->highest_lsn, unit.unit.last_lsn);
            findings_add_unit(findings, &unit, offset, false);
        } else {
            findings->damage_count++;
        }
    } else if (table == STORE_SESSIONS) {
        take_session(findings, key, value, offset);
    } else if (table == STORE_PROPERTIES) {
        take_property(findings, key, value, offset);
    } else {
        findings->damage_count += format_open_get(number, value, NULL) == STATUS_OK ? 0 : 1;
    }
}

static void on_damage(void *context, uint64_t offset, const char *message)
{
    struct findings *findings = context;
    (void)offset;
    (void)message;
    findings->damage_count++;
}

/* ------------------------------------------------------------------ dropping and sorting */

static void free_row(struct found_row *row)
{
    free(row->key);
    free(row->value);
}

/* Keeps what lies on pages that belong to one place only; returns how many are left. */
static size_t drop_rows(const struct findings *findings, struct found_row *rows, size_t count,
                        uint64_t *lost)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (pages_is_used_once(findings->pages, rows[i].offset)) {
            rows[kept++] = rows[i];
        } else {
            free_row(&rows[i]);
            *lost += 1;
        }
    }
    return kept;
}

static void drop_doubtful_pages(struct findings *findings)
{
    size_t kept = 0;
    for (size_t i = 0; i < findings->record_count; i++) {
        if (pages_is_used_once(findings->pages, findings->records[i].offset)) {
            findings->records[kept++] = findings->records[i];
        }
    }
    findings->record_count = kept;
    kept = 0;
    for (size_t i = 0; i < findings->unit_count; i++) {
        if (pages_is_used_once(findings->pages, findings->units[i].offset)) {
            findings->units[kept++] = findings->units[i];
        }
    }
    findings->unit_count = kept;
    findings->session_count =
        drop_rows(findings, findings->sessions, findings->session_count, &findings->sessions_lost);
    findings->property_count = drop_rows(findings, findings->properties, findings->property_count,
                                         &findings->properties_lost);
}

static int compare_records(const void *a_void, const void *b_void)
{
    const struct found_record *a = a_void;
    const struct found_record *b = b_void;
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn ? 1 : 0;
}

static int compare_units(const void *a_void, const void *b_void)
{
    const struct found_unit *a = a_void;
    const struct found_unit *b = b_void;
    uint64_t left = a->row.unit.unit;
    uint64_t right = b->row.unit.unit;
    return left < right ? -1 : left > right ? 1 : 0;
}

static void sort_records(struct findings *findings)
{
    if (findings->record_count > 0) {
        qsort(findings->records, findings->record_count, sizeof(*findings->records),
              compare_records);
    }
}

/* After sorting: one record an LSN. Copies of one record are one. */
static void unite_records(struct findings *findings)
{
    size_t kept = 0;
    for (size_t i = 0; i < findings->record_count; i++) {
        const struct found_record *record = &findings->records[i];
        struct found_record *former = kept > 0 ? &findings->records[kept - 1] : NULL;
        if (former != NULL && former->lsn == record->lsn) {
            former->doubtful = former->doubtful || former->crc != record->crc ||
                               former->size != record->size || former->unit != record->unit;
        } else {
            findings->records[kept++] = *record;
        }
    }
    findings->record_count = kept;
}

/* By key; those of one key by their transaction, then by their place. */
static int compare_sessions(const void *a_void, const void *b_void)
{
    const struct found_row *a = a_void;
    const struct found_row *b = b_void;
    int order = slice_compare(slice_make(a->key, a->key_size), slice_make(b->key, b->key_size));
    if (order != 0) {
        return order;
    }
    int64_t left = (int64_t)slice_load_u64be(a->value);
    int64_t right = (int64_t)slice_load_u64be(b->value);
    if (left != right) {
        return left < right ? -1 : 1;
    }
    return a->offset < b->offset ? -1 : a->offset > b->offset ? 1 : 0;
}

/* The newest transaction of a session wins, as in the tables. */
static void unite_sessions(struct findings *findings)
{
    size_t kept = 0;
    struct found_row *rows = findings->sessions;
    if (findings->session_count > 0) {
        qsort(rows, findings->session_count, sizeof(*rows), compare_sessions);
    }
    for (size_t i = 0; i < findings->session_count; i++) {
        if (kept > 0 && slice_equal(slice_make(rows[kept - 1].key, rows[kept - 1].key_size),
                                    slice_make(rows[i].key, rows[i].key_size))) {
            free_row(&rows[--kept]);
        }
        rows[kept++] = rows[i];
    }
    findings->session_count = kept;
}

void findings_sort(struct findings *findings)
{
    sort_records(findings);
    unite_records(findings);
    unite_sessions(findings);
    if (findings->unit_count > 0) {
        qsort(findings->units, findings->unit_count, sizeof(*findings->units), compare_units);
    }
}

/* ------------------------------------------------------------------ records by their own bytes */

/* Whether the record at `offset` of the file is intact and not known yet. */
static void try_record(struct findings *findings, size_t known, uint64_t offset)
{
    uint8_t header[FORMAT_RECORD_HEADER_BYTES];
    struct wal_record record;
    if (!pages_read(findings->pages, offset, sizeof(header), header)) {
        return;
    }
    uint64_t size = (uint64_t)slice_load_u32be(header + 8) + sizeof(header);
    uint64_t lsn = slice_load_u64be(header + 24);
    struct found_record wanted = {.lsn = lsn};
    if (size > FORMAT_PAYLOAD_BYTES_MAX || offset > pages_file_bytes(findings->pages) ||
        size > pages_file_bytes(findings->pages) - offset ||
        pages_is_free(findings->pages, offset) ||
        (known > 0 &&
         bsearch(&wanted, findings->records, known, sizeof(wanted), compare_records) != NULL)) {
        return;
    }
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) {
        findings->out_of_memory = true;
        return;
    }
    struct slice value = slice_make(bytes, size);
    if (pages_read(findings->pages, offset, size, bytes) &&
        format_record_get(lsn, value, &record, NULL) == STATUS_OK) {
        raise(&findings->highest_lsn, record.lsn);
        raise(&findings->highest_unit, record.unit);
        findings_add_record(findings, &record, value, offset, false);
    }
    free(bytes);
}

static void search_file(struct findings *findings)
{
    static const char magic[] = {'H', 'F', 'W', 'R'};
    uint64_t file_bytes = pages_file_bytes(findings->pages);
    size_t known = findings->record_count; /* those are sorted */
    uint8_t *piece = malloc(PIECE_BYTES);
    if (piece == NULL) {
        findings->out_of_memory = true;
        return;
    }
    /* Pieces overlap by one magic number less a byte. */
    for (uint64_t at = 0; at < file_bytes; at += PIECE_BYTES - (sizeof(magic) - 1)) {
        uint64_t left = file_bytes - at;
        size_t size = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        if (!pages_read(findings->pages, at, size, piece)) {
            break; /* a bad block of the disk: what is behind it is looked at page by page */
        }
        const uint8_t *place = piece;
        while ((place = memmem(place, size - (size_t)(place - piece), magic, sizeof(magic))) !=
               NULL) {
            try_record(findings, known, at + (uint64_t)(place - piece));
            place++;
        }
    }
    free(piece);
}

/* ------------------------------------------------------------------ the whole */

enum status salvage_find(const char *directory, struct findings *findings, struct error *ret_error)
{
    struct pages_visitor visitor = {
        .row = on_row, .damage = on_damage, .context = findings, .large_values = true};
    enum status status = pages_open(directory, &findings->pages, ret_error);
    if (status == STATUS_OK) {
        status = pages_walk(findings->pages, 0, &visitor, &findings->result, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    drop_doubtful_pages(findings);
    sort_records(findings);
    unite_records(findings);
    if (findings->damage_count > 0) {
        search_file(findings);
    }
    findings_sort(findings);
    return findings->out_of_memory ? error_set(ret_error, STATUS_MEMORY, "out of memory")
                                   : STATUS_OK;
}

void findings_free(struct findings *findings)
{
    findings->cipher = cipher_close(findings->cipher);
    for (size_t i = 0; i < findings->session_count; i++) {
        free_row(&findings->sessions[i]);
    }
    for (size_t i = 0; i < findings->property_count; i++) {
        free_row(&findings->properties[i]);
    }
    free(findings->records);
    free(findings->units);
    free(findings->sessions);
    free(findings->properties);
    tail_contents_free(&findings->tail);
    pages_close(findings->pages);
}

const struct found_record *findings_record(const struct findings *findings, uint64_t lsn)
{
    struct found_record wanted = {.lsn = lsn};
    return findings->record_count == 0 ? NULL
                                       : bsearch(&wanted, findings->records, findings->record_count,
                                                 sizeof(wanted), compare_records);
}

struct found_unit *findings_unit_to_change(struct findings *findings, uint64_t unit)
{
    const struct found_unit *found = findings_unit(findings, unit);
    return found == NULL ? NULL : &findings->units[found - findings->units];
}

const struct found_unit *findings_unit(const struct findings *findings, uint64_t unit)
{
    struct found_unit wanted = {.row.unit.unit = unit};
    return findings->unit_count == 0 ? NULL
                                     : bsearch(&wanted, findings->units, findings->unit_count,
                                               sizeof(wanted), compare_units);
}

const struct found_row *findings_property(const struct findings *findings, const char *name)
{
    for (size_t i = 0; i < findings->property_count; i++) {
        if (strcmp((const char *)findings->properties[i].key, name) == 0) {
            return &findings->properties[i];
        }
    }
    return NULL;
}

enum status findings_read(const struct findings *findings, const struct found_record *found,
                          uint8_t **ret_bytes, struct wal_record *ret_record,
                          struct error *ret_error)
{
    uint8_t *bytes = malloc(found->size);
    if (bytes == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    bool is_read = true;
    if (found->in_tail != NULL) {
        memcpy(bytes, found->in_tail, found->size);
    } else {
        is_read = pages_read(findings->pages, found->offset, found->size, bytes);
    }
    enum status status =
        is_read
            ? format_record_get(found->lsn, slice_make(bytes, found->size), ret_record, ret_error)
            : error_set(ret_error, STATUS_IO, "a record cannot be read a second time");
    if (status != STATUS_OK) {
        free(bytes);
        return status;
    }
    *ret_bytes = bytes;
    return STATUS_OK;
}
