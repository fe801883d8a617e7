/* The report as a whole: calls, traces and what is outside both, torn calls, bounds, threads; and
 * the figures for the metrics page. With --measure it prints what a write costs. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>
#include <pthread.h>

#include "holdfast/clock.h"
#include "observe_command.h"

#define FAM(part)                                                                                  \
    "{\"findAndModify\": \"resources\", \"query\": {\"$and\": [{\"project\": \"p\", \"app\": "     \
    "\"a\"}]}, \"update\": {\"$set\": {\"" part "\": {\"x\": 1}, \"keyId\": \"{app,project}\", "   \
    "\"references\": []}}, \"upsert\": true, \"new\": true, \"lsid\": {\"id\": 1}, \"$db\": "      \
    "\"emco\"}"
#define FAM_SHAPE(fields) "findAndModify emco.resources {app,project} $set{" fields "} upsert"
#define DELETE_ALL                                                                                 \
    "{\"delete\": \"resources\", \"deletes\": [{\"q\": {\"a\": 1}, \"limit\": 0}], \"$db\": "      \
    "\"emco\"}"

static const struct observe_writer orchestrator = {
    .user = "admin.orch", .client = "10.0.0.1:5000", .application = "orchestrator"};
static const struct observe_writer clm = {
    .user = "admin.clm", .client = "[fd00::2]:5001", .application = "clm"};

static void write_as(struct observe *observe, uint64_t call, const struct trace_id *trace,
                     const struct observe_writer *writer, const char *json)
{
    struct test_command command = command_of(json);
    observe_write(observe, call, trace, writer, &command.view, &command.message, 100);
    command_done(&command);
}

/* The whole report as JSON, which must be JSON; to be freed with bson_destroy(). */
static bson_t *report_of(struct observe *observe)
{
    bson_t report = BSON_INITIALIZER;
    bson_error_t error;
    observe_report(observe, &report);
    assert_true(bson_validate(&report, BSON_VALIDATE_UTF8, NULL));
    char *json = bson_as_relaxed_extended_json(&report, NULL);
    bson_t *read = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (read == NULL) {
        fail_msg("%s: %s", error.message, json);
    }
    bson_free(json);
    bson_destroy(&report);
    return read;
}

static bson_iter_t at_path(const bson_t *report, const char *path)
{
    bson_iter_t start;
    bson_iter_t found;
    assert_true(bson_iter_init(&start, report));
    if (!bson_iter_find_descendant(&start, path, &found)) {
        char *json = bson_as_relaxed_extended_json(report, NULL);
        fail_msg("no %s in %s", path, json);
    }
    return found;
}

static const char *text_at(const bson_t *report, const char *path)
{
    bson_iter_t found = at_path(report, path);
    return bson_iter_utf8(&found, NULL);
}

static int64_t number_at(const bson_t *report, const char *path)
{
    bson_iter_t found = at_path(report, path);
    return bson_iter_as_int64(&found);
}

static uint32_t count_at(const bson_t *report, const char *path)
{
    bson_iter_t found = at_path(report, path);
    bson_iter_t inside;
    uint32_t count = 0;
    assert_true(bson_iter_recurse(&found, &inside));
    while (bson_iter_next(&inside)) {
        count++;
    }
    return count;
}

static void test_calls_of_the_http_boundary(void **state)
{
    (void)state;
    struct observe *observe = observe_new();
    for (int i = 0; i < 10; i++) {
        char target[64];
        snprintf(target, sizeof target, "/v2/projects/%d00/apps?x", i);
        uint64_t call = observe_call_begin(observe, "orch", "POST", target);
        assert_int_not_equal(call, 0);
        write_as(observe, call, NULL, &orchestrator, FAM("data"));
        write_as(observe, call, NULL, &orchestrator, FAM("appcontent"));
        if (i == 9) {
            write_as(observe, call, NULL, &clm, FAM("appcontent"));
        }
        observe_call_end(observe, call,
                         i < 7   ? OBSERVE_ANSWERED
                         : i < 9 ? OBSERVE_REFUSED
                                 : OBSERVE_UNANSWERED);
        observe_call_end(observe, call, OBSERVE_UNANSWERED); /* harmless */
    }
    uint64_t reading = observe_call_begin(observe, "orch", "GET", "/v2/projects");
    observe_call_end(observe, reading, OBSERVE_UNANSWERED);
    uint64_t single = observe_call_begin(observe, "orch", "PUT", "/v2/projects");
    write_as(observe, single, NULL, &orchestrator, FAM("data"));
    observe_call_end(observe, single, OBSERVE_ANSWERED);

    bson_t *report = report_of(observe);
    assert_int_equal(number_at(report, "calls"), 12);
    assert_int_equal(number_at(report, "callsMissed"), 0);
    assert_int_equal(count_at(report, "findings"), 1);
    assert_string_equal(text_at(report, "findings.0.service"), "orch");
    assert_string_equal(text_at(report, "findings.0.route"), "POST /v2/projects/{}/apps");
    assert_string_equal(text_at(report, "findings.0.toldBy"), "http");
    assert_string_equal(text_at(report, "findings.0.applications.0"), "orchestrator");
    assert_string_equal(text_at(report, "findings.0.applications.1"), "clm");
    assert_string_equal(text_at(report, "findings.0.users.0"), "admin.orch");
    assert_string_equal(text_at(report, "findings.0.clients.0"), "10.0.0.1");
    assert_string_equal(text_at(report, "findings.0.clients.1"), "[fd00::2]");
    assert_int_equal(count_at(report, "findings.0.sequence"), 2);
    assert_string_equal(text_at(report, "findings.0.sequence.0"),
                        FAM_SHAPE("data,keyId,references"));
    assert_string_equal(text_at(report, "findings.0.sequence.1"),
                        FAM_SHAPE("appcontent,keyId,references") " +");
    assert_int_equal(number_at(report, "findings.0.writesPerCall.min"), 2);
    assert_int_equal(number_at(report, "findings.0.writesPerCall.max"), 3);
    bson_iter_t mean = at_path(report, "findings.0.writesPerCall.mean");
    assert_true(bson_iter_double(&mean) > 2.09 && bson_iter_double(&mean) < 2.11);
    assert_int_equal(number_at(report, "findings.0.calls"), 10);
    assert_int_equal(number_at(report, "findings.0.callsError"), 0);
    assert_int_equal(number_at(report, "findings.0.torn"), 3);
    assert_int_equal(number_at(report, "findings.0.bytes"), 2100);
    assert_non_null(strstr(text_at(report, "findings.0.suggestion"), "one domain"));
    assert_int_equal(count_at(report, "outsideCalls"), 0);
    bson_destroy(report);
    assert_null(observe_free(observe));
}

static void test_suggestions(void **state)
{
    (void)state;
    struct observe *observe = observe_new();
    struct trace_id trace = {{1}};
    uint64_t call = observe_call_begin(observe, "a", "POST", "/two");
    write_as(observe, call, NULL, &orchestrator, FAM("data"));
    write_as(observe, call, NULL, &orchestrator, DELETE_ALL);
    observe_call_end(observe, call, OBSERVE_ANSWERED);
    call = observe_call_begin(observe, "a", "POST", "/many");
    write_as(observe, call, NULL, &orchestrator, DELETE_ALL);
    observe_call_end(observe, call, OBSERVE_ANSWERED);
    write_as(observe, 0, &trace, &orchestrator, FAM("data"));
    write_as(observe, 0, &trace, &orchestrator, FAM("more"));
    write_as(observe, 0, NULL, NULL, DELETE_ALL);
    observe_tick(observe, clock_monotonic_ms() + OBSERVE_TRACE_IDLE_MS + 1);
    bson_t *report = report_of(observe);
    assert_int_equal(count_at(report, "findings"), 3);
    for (uint32_t i = 0; i < 3; i++) {
        char path[40];
        snprintf(path, sizeof path, "findings.%u.route", i);
        const char *route = text_at(report, path);
        const char *wanted = strcmp(route, "POST /two") == 0    ? "http.listen"
                             : strcmp(route, "POST /many") == 0 ? "unit.multiWrites"
                                                                : "comment";
        snprintf(path, sizeof path, "findings.%u.suggestion", i);
        assert_non_null(strstr(text_at(report, path), wanted));
    }
    assert_non_null(strstr(text_at(report, "outsideCalls.0.suggestion"), "unit.multiWrites"));
    bson_destroy(report);
    observe_free(observe);
}

static void test_traces(void **state)
{
    (void)state;
    struct observe *observe = observe_new();
    uint64_t now = clock_monotonic_ms() + 10;
    observe_tick(observe, now);
    for (uint8_t i = 1; i <= 100; i++) {
        struct trace_id trace = {{i, i}};
        write_as(observe, 0, &trace, &clm, FAM("data"));
        write_as(observe, 0, &trace, &clm, FAM("data"));
    }
    observe_tick(observe, now + OBSERVE_TRACE_IDLE_MS - 1);
    struct trace_id last = {{100, 100}};
    write_as(observe, 0, &last, &clm, FAM("data"));
    bson_t *report = report_of(observe);
    assert_int_equal(number_at(report, "calls"), 0);
    bson_destroy(report);

    observe_tick(observe, now + OBSERVE_TRACE_IDLE_MS);
    report = report_of(observe);
    assert_int_equal(number_at(report, "calls"), 99);
    assert_string_equal(text_at(report, "findings.0.service"), "clm");
    assert_string_equal(text_at(report, "findings.0.route"), "");
    assert_string_equal(text_at(report, "findings.0.toldBy"), "trace");
    assert_int_equal(number_at(report, "findings.0.calls"), 99);
    assert_int_equal(number_at(report, "findings.0.torn"), 0);
    bson_destroy(report);

    /* the same trace-id again is another call */
    observe_tick(observe, now + 3 * OBSERVE_TRACE_IDLE_MS);
    write_as(observe, 0, &last, &clm, FAM("data"));
    observe_tick(observe, now + 6 * OBSERVE_TRACE_IDLE_MS);
    report = report_of(observe);
    assert_int_equal(number_at(report, "calls"), 101);
    assert_int_equal(number_at(report, "findings.0.calls"), 100);
    assert_int_equal(number_at(report, "findings.0.writesPerCall.max"), 3);
    bson_destroy(report);

    /* one that never is idle ends all the same */
    for (uint64_t at = now + 13000; at < now + 13000 + 2 * OBSERVE_TRACE_LIFE_MS; at += 1000) {
        observe_tick(observe, at);
        write_as(observe, 0, &last, &clm, FAM("data"));
    }
    report = report_of(observe);
    assert_int_equal(number_at(report, "calls"), 102);
    bson_destroy(report);

    /* none at all is no trace */
    struct trace_id none = {{0}};
    write_as(observe, 0, &none, NULL, FAM("data"));
    report = report_of(observe);
    assert_int_equal(number_at(report, "outsideCalls.0.writes"), 1);
    bson_destroy(report);
    observe_free(observe);
}

static void test_writes_outside_calls(void **state)
{
    (void)state;
    struct observe *observe = observe_new();
    uint64_t call = observe_call_begin(observe, "a", "POST", "/x");
    observe_call_end(observe, call, OBSERVE_ANSWERED);
    for (int i = 0; i < 3; i++) {
        write_as(observe, call, NULL, &clm, FAM("data")); /* late */
        write_as(observe, 0, NULL, &orchestrator, FAM("data"));
        write_as(observe, 0, NULL, &orchestrator, FAM("data"));
    }
    write_as(observe, 77, NULL, &clm, FAM("other")); /* no such call */
    const struct observe_writer port = {
        .user = "admin.clm", .client = "[fd00::2]:9", .application = "clm"};
    write_as(observe, 0, NULL, &port, FAM("data"));
    bson_t *report = report_of(observe);
    assert_int_equal(count_at(report, "outsideCalls"), 3);
    assert_string_equal(text_at(report, "outsideCalls.0.application"), "orchestrator");
    assert_string_equal(text_at(report, "outsideCalls.0.user"), "admin.orch");
    assert_string_equal(text_at(report, "outsideCalls.0.client"), "10.0.0.1");
    assert_string_equal(text_at(report, "outsideCalls.0.shape"),
                        FAM_SHAPE("data,keyId,references"));
    assert_int_equal(number_at(report, "outsideCalls.0.writes"), 6);
    assert_int_equal(number_at(report, "outsideCalls.0.bytes"), 600);
    assert_int_equal(number_at(report, "outsideCalls.1.writes"), 4);
    assert_int_equal(number_at(report, "findingsLeftOut"), 0);
    bson_destroy(report);
    observe_free(observe);
}

/* Names that would break out of JSON, of a line or of a terminal; and ever new ones. */
static void test_hostile_names(void **state)
{
    (void)state;
    struct observe *observe = observe_new();
    char many[600];
    memset(many, 'y', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    const struct observe_writer hostile = {
        .user = many, .client = "\x1b[2J", .application = "\"}\n\xff\xc2\x9b{$x"};
    uint64_t call = observe_call_begin(observe, "s\"\n\xfe", "PO\"ST", "/a\"\n/\xff/%0a");
    for (int i = 0; i < 3000; i++) {
        char json[300];
        snprintf(
            json, sizeof json,
            "{\"delete\": \"x%c%c%c\", \"deletes\": [{\"q\": {\"f\\\"%d\": 1}, \"limit\": 1}], "
            "\"$db\": \"d\"}",
            'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676, i % 7);
        write_as(observe, i % 2 == 0 ? call : 0, NULL, &hostile, json);
    }
    observe_call_end(observe, call, OBSERVE_ANSWERED);
    bson_t *report = report_of(observe);
    assert_int_equal(count_at(report, "findings"), 1);
    assert_string_equal(text_at(report, "findings.0.service"), "s\"?\?");
    assert_string_equal(text_at(report, "findings.0.route"), "OTHER /{}/{}/{}");
    assert_string_equal(text_at(report, "findings.0.applications.0"), "\"}?\?\?\?{$x");
    assert_string_equal(text_at(report, "findings.0.clients.0"), "?[2J");
    assert_int_equal(strlen(text_at(report, "findings.0.users.0")), 128);
    assert_int_equal(count_at(report, "findings.0.sequence"), OBSERVE_SEQUENCE_MAX + 1);
    assert_int_equal(number_at(report, "findings.0.writesPerCall.max"), 1500);
    assert_true(count_at(report, "outsideCalls") <= OBSERVE_FINDINGS_MAX);
    assert_true(count_at(report, "outsideCalls") > 900);
    bson_destroy(report);
    observe_free(observe);
}

static void test_too_many_calls(void **state)
{
    (void)state;
    static uint64_t calls[OBSERVE_CALLS_MAX];
    struct observe *observe = observe_new();
    for (size_t i = 0; i < OBSERVE_CALLS_MAX; i++) {
        calls[i] = observe_call_begin(observe, "a", "POST", "/x");
        assert_int_not_equal(calls[i], 0);
    }
    assert_int_equal(observe_call_begin(observe, "a", "POST", "/x"), 0);
    struct trace_id trace = {{1}};
    write_as(observe, 0, &trace, &clm, FAM("data")); /* no place: outside */
    for (size_t i = 0; i < OBSERVE_CALLS_MAX; i += 2) {
        observe_call_end(observe, calls[i], OBSERVE_ANSWERED);
    }
    uint64_t again = observe_call_begin(observe, "a", "POST", "/x");
    assert_int_not_equal(again, 0);
    bson_t *report = report_of(observe);
    assert_int_equal(number_at(report, "callsMissed"), 2);
    assert_int_equal(number_at(report, "calls"), OBSERVE_CALLS_MAX / 2);
    assert_int_equal(number_at(report, "outsideCalls.0.writes"), 1);
    bson_destroy(report);
    observe_free(observe); /* with calls open */
}

/* Findings as large as they may be: the report ends in time, and says how many it left out. */
static void test_report_is_bounded(void **state)
{
    (void)state;
    struct observe *observe = observe_new();
    for (int i = 0; i < 3000; i++) {
        uint64_t call = observe_call_begin(observe, "a", "POST", "/x");
        for (int write = 0; write < 12; write++) {
            char json[900];
            snprintf(json, sizeof json,
                     "{\"delete\": \"%c%c%c%080d\", \"deletes\": [{\"q\": {\"w%c%050d\": 1, "
                     "\"v%050d\": 1, \"u%050d\": 1}, \"limit\": 1}], \"$db\": \"d\"}",
                     'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676, write, 'a' + write, write,
                     write, write);
            write_as(observe, call, NULL, &clm, json);
        }
        observe_call_end(observe, call, OBSERVE_ANSWERED);
    }
    bson_t report = BSON_INITIALIZER;
    observe_report(observe, &report);
    assert_true(report.len < OBSERVE_REPORT_BYTES_MAX * 2);
    assert_true(number_at(&report, "findingsLeftOut") > 0);
    assert_true(number_at(&report, "findings.0.callsError") > 0);
    assert_true(number_at(&report, "findings.0.calls") >
                number_at(&report, "findings.0.callsError"));
    bson_destroy(&report);
    observe_free(observe);
}

static void test_metrics(void **state)
{
    (void)state;
    struct observe *observe = observe_new();
    uint64_t call = observe_call_begin(observe, "a", "POST", "/x");
    (void)observe_call_begin(observe, "a", "POST", "/y");
    write_as(observe, call, NULL, &clm, FAM("data"));
    write_as(observe, call, NULL, &clm, FAM("data"));
    observe_call_end(observe, call, OBSERVE_REFUSED);
    write_as(observe, 0, NULL, &clm, FAM("data"));
    char *text = NULL;
    size_t size = 0;
    struct exposition page = {.out = open_memstream(&text, &size)};
    observe_metrics(observe, &page);
    (void)fclose(page.out);
    static const char *const lines[] = {
        "# TYPE holdfast_observe_calls_total counter\n",
        "\nholdfast_observe_calls_open{by=\"http\"} 1\n",
        "\nholdfast_observe_calls_total{by=\"http\"} 1\n",
        "\nholdfast_observe_calls_total{by=\"trace\"} 0\n",
        "\nholdfast_observe_multi_write_calls_total{by=\"http\"} 1\n",
        "\nholdfast_observe_torn_calls_total 1\n",
        "\nholdfast_observe_missed_calls_total 0\n",
        "\nholdfast_observe_writes_total{by=\"http\"} 2\n",
        "\nholdfast_observe_writes_total{by=\"none\"} 1\n",
        "\nholdfast_observe_write_bytes_total{by=\"http\"} 200\n",
        "\nholdfast_observe_texts_refused_total 0\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (strstr(text, lines[i]) == NULL) {
            fail_msg("no %s in %s", lines[i], text);
        }
    }
    free(text);
    observe_free(observe);
}

static void test_nobody_observes(void **state)
{
    (void)state;
    assert_null(observe_free(NULL));
    assert_int_equal(observe_call_begin(NULL, "a", "POST", "/x"), 0);
    write_as(NULL, 5, NULL, &clm, FAM("data"));
    observe_call_end(NULL, 5, OBSERVE_ANSWERED);
    observe_tick(NULL, 5);
    struct observe *observe = observe_new();
    observe_call_end(observe, 0, OBSERVE_ANSWERED);
    observe_tick(observe, 0);
    observe_free(observe);
}

/* ------------------------------------------------------------------ threads */

struct crowd {
    struct observe *observe;
    uint8_t number;
};

enum { CROWD = 4, CROWD_CALLS = 2000 };

static void *crowd_member(void *context)
{
    const struct crowd *crowd = context;
    struct test_command commands[2] = {command_of(FAM("data")), command_of(FAM("more"))};
    for (int i = 0; i < CROWD_CALLS; i++) {
        char target[32];
        struct trace_id trace = {{(uint8_t)i, (uint8_t)(i >> 8), 1}}; /* shared by all */
        snprintf(target, sizeof target, "/x/%d", i % 50);
        uint64_t call = observe_call_begin(crowd->observe, "a", "POST", target);
        for (size_t write = 0; write < 4; write++) {
            struct test_command *command = &commands[write % 2];
            observe_write(crowd->observe, write < 2 ? call : 0, write < 2 ? NULL : &trace,
                          crowd->number % 2 == 0 ? &clm : &orchestrator, &command->view,
                          &command->message, 10);
        }
        observe_write(crowd->observe, 0, NULL, &clm, &commands[0].view, &commands[0].message, 1);
        observe_call_end(crowd->observe, call, OBSERVE_ANSWERED);
        if (i % 100 == 0) {
            observe_tick(crowd->observe, clock_monotonic_ms());
            bson_t report = BSON_INITIALIZER;
            observe_report(crowd->observe, &report);
            bson_destroy(&report);
        }
    }
    command_done(&commands[0]);
    command_done(&commands[1]);
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    struct observe *observe = observe_new();
    pthread_t threads[CROWD];
    struct crowd crowd[CROWD];
    for (size_t i = 0; i < CROWD; i++) {
        crowd[i] = (struct crowd){.observe = observe, .number = (uint8_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_member, &crowd[i]), 0);
    }
    for (size_t i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
    }
    observe_tick(observe, clock_monotonic_ms() + 100000);
    bson_t *report = report_of(observe);
    int64_t calls = 0;
    for (uint32_t i = 0; i < count_at(report, "findings"); i++) {
        char path[40];
        snprintf(path, sizeof path, "findings.%u.toldBy", i);
        if (strcmp(text_at(report, path), "http") == 0) {
            snprintf(path, sizeof path, "findings.%u.calls", i);
            calls += number_at(report, path);
        }
    }
    assert_int_equal(calls, CROWD * CROWD_CALLS);
    assert_int_equal(number_at(report, "outsideCalls.0.writes"), CROWD * CROWD_CALLS);
    bson_destroy(report);
    observe_free(observe);
}

/* ------------------------------------------------------------------ what it costs */

static double ns_since(const struct timespec *began, int times)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return ((double)(now.tv_sec - began->tv_sec) * 1e9 + (double)(now.tv_nsec - began->tv_nsec)) /
           times;
}

static void measure(void)
{
    enum { TIMES = 1000000 };
    struct observe *observe = observe_new();
    struct test_command first = command_of(FAM("data"));
    struct test_command second = command_of(FAM("appcontent"));
    struct timespec began;
    struct shape shape;
    uint32_t used = 0;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
    for (int i = 0; i < TIMES; i++) {
        shape_make(&first.view, &first.message, &shape);
        used += (uint32_t)shape.size;
    }
    printf("shape_make             %6.0f ns (%s)\n", ns_since(&began, TIMES), shape.text);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
    for (int i = 0; i < TIMES; i++) {
        observe_write(observe, 0, NULL, &clm, &first.view, &first.message, 100);
    }
    printf("write outside          %6.0f ns\n", ns_since(&began, TIMES));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
    for (int i = 0; i < TIMES; i++) {
        struct trace_id trace = {{1, (uint8_t)(i >> 1), (uint8_t)(i >> 9), (uint8_t)(i >> 17)}};
        if (i % 4096 == 0) {
            observe_tick(observe, clock_monotonic_ms() + 3000 + (uint64_t)i);
        }
        observe_write(observe, 0, &trace, &clm, i % 2 == 0 ? &first.view : &second.view,
                      i % 2 == 0 ? &first.message : &second.message, 100);
    }
    printf("write of a trace (2)   %6.0f ns\n", ns_since(&began, TIMES));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
    for (int i = 0; i < TIMES / 2; i++) {
        uint64_t call = observe_call_begin(observe, "orch", "POST", "/v2/projects/p1/apps");
        observe_write(observe, call, NULL, &clm, &first.view, &first.message, 100);
        observe_write(observe, call, NULL, &clm, &second.view, &second.message, 100);
        observe_call_end(observe, call, OBSERVE_ANSWERED);
    }
    printf("call of two writes     %6.0f ns, begin and end included\n",
           ns_since(&began, TIMES / 2));
    uint64_t call = observe_call_begin(observe, "orch", "POST", "/v2/projects/p1/apps");
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
    for (int i = 0; i < TIMES; i++) {
        observe_write(observe, call, NULL, &clm, i % 2 == 0 ? &first.view : &second.view,
                      i % 2 == 0 ? &first.message : &second.message, 100);
    }
    printf("write of a call        %6.0f ns%s\n", ns_since(&began, TIMES), used == 0 ? "!" : "");
    command_done(&first);
    command_done(&second);
    observe_free(observe);
}

int main(int argument_count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_of_the_http_boundary),
        cmocka_unit_test(test_suggestions),
        cmocka_unit_test(test_traces),
        cmocka_unit_test(test_writes_outside_calls),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_too_many_calls),
        cmocka_unit_test(test_report_is_bounded),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_nobody_observes),
        cmocka_unit_test(test_many_threads),
    };
    if (argument_count > 1 && strcmp(arguments[1], "--measure") == 0) {
        measure();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
