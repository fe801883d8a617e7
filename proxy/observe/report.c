/*
 * The observe report (observe.h) as BSON. It works on copies of what was found: no mutex is held
 * while it is written.
 *
 * Invariant: all texts have passed text_clean(), or are ours, so that they are valid UTF-8.
 */
#include "observe/observe_private.h"

static const char *const list_names[PEOPLE_KINDS] = {
    [PEOPLE_APPLICATIONS] = "applications",
    [PEOPLE_USERS] = "users",
    [PEOPLE_HOSTS] = "clients",
};

static const char *const one_names[PEOPLE_KINDS] = {
    [PEOPLE_APPLICATIONS] = "application",
    [PEOPLE_USERS] = "user",
    [PEOPLE_HOSTS] = "client",
};

#define SUGGEST_MULTI_WRITES                                                                       \
    "One command writes several documents: unit.multiWrites undoes it after a crash (keep), or "   \
    "after "                                                                                       \
    "any error (strict)."

static const char *suggestion_of(const struct finding *finding)
{
    if (finding->writes_max == 1) {
        return SUGGEST_MULTI_WRITES;
    }
    if (finding->applications_max > 1) {
        return finding->sum.by == OBSERVED_BY_HTTP
                   ? "Several applications write in one call: put these services into one domain "
                     "of the http boundary."
                   : "Several applications write in one trace: front them with the http boundary "
                     "(http.listen), in one domain.";
    }
    return finding->sum.by == OBSERVED_BY_HTTP
               ? "Several writes for one call of this route: front this service with http.listen "
                 "and the boundary http, so that each call is all or nothing."
               : "Several writes in one trace: front this service with the http boundary "
                 "(http.listen), or let it name its units in the comment of its commands.";
}

static void append_index(bson_t *array, uint32_t index, const char *text)
{
    char buffer[16];
    const char *key = NULL;
    size_t size = bson_uint32_to_string(index, &key, buffer, sizeof buffer);
    bson_append_utf8(array, key, (int)size, text, -1);
}

static void append_people(bson_t *document, const struct people *people)
{
    for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
        bson_t list;
        BSON_APPEND_ARRAY_BEGIN(document, list_names[kind], &list);
        for (uint8_t i = 0; i < people->counts[kind]; i++) {
            append_index(&list, i, text_string(people->names[kind][i]));
        }
        bson_append_array_end(document, &list);
    }
}

static void append_sequence(bson_t *document, const struct sequence *sequence)
{
    char step[SEQUENCE_STEP_BYTES];
    bson_t list;
    BSON_APPEND_ARRAY_BEGIN(document, "sequence", &list);
    for (uint32_t i = 0; i < sequence->count; i++) {
        sequence_step(sequence, i, step);
        append_index(&list, i, step);
    }
    if (sequence->longer) {
        append_index(&list, sequence->count, TEXT_MORE);
    }
    bson_append_array_end(document, &list);
}

static void append_writes(bson_t *document, const struct finding *finding)
{
    bson_t writes;
    BSON_APPEND_DOCUMENT_BEGIN(document, "writesPerCall", &writes);
    BSON_APPEND_INT64(&writes, "min", (int64_t)finding->writes_min);
    BSON_APPEND_INT64(&writes, "max", (int64_t)finding->writes_max);
    BSON_APPEND_DOUBLE(&writes, "mean", (double)finding->sum.writes / (double)finding->counted);
    bson_append_document_end(document, &writes);
}

static void append_finding(bson_t *list, uint32_t index, const struct finding *finding)
{
    char buffer[16];
    const char *key = NULL;
    size_t size = bson_uint32_to_string(index, &key, buffer, sizeof buffer);
    const struct observed_call *sum = &finding->sum;
    bson_t document;
    bson_append_document_begin(list, key, (int)size, &document);
    BSON_APPEND_UTF8(&document, "service", text_string(sum->service));
    BSON_APPEND_UTF8(&document, "route", sum->route == NULL ? "" : text_string(sum->route));
    BSON_APPEND_UTF8(&document, "toldBy", sum->by == OBSERVED_BY_HTTP ? "http" : "trace");
    append_people(&document, &sum->people);
    append_sequence(&document, &sum->sequence);
    append_writes(&document, finding);
    BSON_APPEND_INT64(&document, "calls", (int64_t)finding->item.count);
    BSON_APPEND_INT64(&document, "callsError", (int64_t)finding->item.error);
    BSON_APPEND_INT64(&document, "torn", (int64_t)finding->torn);
    BSON_APPEND_INT64(&document, "bytes", (int64_t)sum->bytes);
    BSON_APPEND_UTF8(&document, "suggestion", suggestion_of(finding));
    bson_append_document_end(list, &document);
}

static void append_findings(bson_t *document, struct observe *observe)
{
    size_t count = 0;
    uint32_t told = 0;
    struct finding *list = findings_list(observe->findings, &count);
    bson_t findings;
    BSON_APPEND_ARRAY_BEGIN(document, "findings", &findings);
    while (told < count && findings.len < OBSERVE_REPORT_BYTES_MAX) {
        append_finding(&findings, told, &list[told]);
        told++;
    }
    bson_append_array_end(document, &findings);
    BSON_APPEND_INT64(document, "findingsLeftOut", (int64_t)(count - told));
    findings_list_free(observe->findings, list, count);
}

static void append_one_outside(bson_t *list, uint32_t index, const struct outside *outside)
{
    char buffer[16];
    const char *key = NULL;
    size_t size = bson_uint32_to_string(index, &key, buffer, sizeof buffer);
    bson_t document;
    bson_append_document_begin(list, key, (int)size, &document);
    for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
        const struct text *name = outside->names[kind];
        BSON_APPEND_UTF8(&document, one_names[kind], name == NULL ? "" : text_string(name));
    }
    BSON_APPEND_UTF8(&document, "shape", text_string(outside->shape));
    BSON_APPEND_INT64(&document, "writes", (int64_t)outside->item.count);
    BSON_APPEND_INT64(&document, "writesError", (int64_t)outside->item.error);
    BSON_APPEND_INT64(&document, "bytes", (int64_t)outside->bytes);
    if (outside->several) {
        BSON_APPEND_UTF8(&document, "suggestion", SUGGEST_MULTI_WRITES);
    }
    bson_append_document_end(list, &document);
}

static void append_outside(bson_t *document, struct observe *observe)
{
    size_t count = 0;
    uint32_t told = 0;
    struct outside *list = outside_list(observe->findings, &count);
    bson_t outside;
    BSON_APPEND_ARRAY_BEGIN(document, "outsideCalls", &outside);
    while (told < count && outside.len < OBSERVE_REPORT_BYTES_MAX / 2) {
        append_one_outside(&outside, told, &list[told]);
        told++;
    }
    bson_append_array_end(document, &outside);
    BSON_APPEND_INT64(document, "outsideLeftOut", (int64_t)(count - told));
    outside_list_free(observe->findings, list, count);
}

void observe_report(struct observe *observe, bson_t *document)
{
    struct calls_figures figures;
    calls_figures_get(observe->calls, &figures);
    BSON_APPEND_INT64(
        document, "calls",
        (int64_t)(figures.calls[OBSERVED_BY_HTTP] + figures.calls[OBSERVED_BY_TRACE]));
    BSON_APPEND_INT64(document, "callsMissed", (int64_t)figures.missed);
    append_findings(document, observe);
    append_outside(document, observe);
}
