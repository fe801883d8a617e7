/* See report.h. */
#include "bench/report/run_report.h"

#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static double per_second(const struct run_result *result)
{
    return result->measured_ns == 0 ? 0 : (double)result->operations / seconds(result->measured_ns);
}

static double micros(const struct run_result *result, double percent)
{
    return (double)histogram_percentile(&result->latency, percent) / 1e3;
}

/* 0 for a process that has ended meanwhile. */
static double process_cpu(const struct run_process *process)
{
    if (process->after.cpu_ns < process->before.cpu_ns) {
        return 0;
    }
    return seconds(process->after.cpu_ns - process->before.cpu_ns);
}

static double retries_each(const struct run_result *result)
{
    uint64_t transactions = result->contended.transactions.operations;
    return transactions == 0 ? 0 : (double)result->retries / (double)transactions;
}

static void print_figures(const char *what, const struct contended_figures *figures)
{
    printf("%-12s %" PRIu64 "; waits p50 %.0f us, max %.0f us, %.1f times; a writer has %" PRIu64
           " to %" PRIu64 ", median %" PRIu64 "\n",
           what, figures->waits.count, (double)histogram_percentile(&figures->waits, 50) / 1e3,
           (double)figures->longest_ns / 1e3, contended_unfairness(figures), figures->fewest,
           figures->most, figures->median);
}

static void print_contended(const struct run_result *result)
{
    print_figures("transactions", &result->contended.transactions);
    if (result->contended.plain.operations > 0) {
        print_figures("plain", &result->contended.plain);
    }
    printf("retries      %" PRIu64 ", %.2f a transaction\n", result->retries, retries_each(result));
}

void run_report_text(const struct load_options *options, const struct run_result *result)
{
    printf("load         %s, %u connections, %.1f s on %s\n", load_name(options->kind),
           options->connections, seconds(result->measured_ns), options->target);
    if (options->kind == LOAD_IDLE) {
        printf("held         %" PRIu64 " connections\n", result->operations);
    } else {
        printf("operations   %" PRIu64 ", %.0f a second\n", result->operations, per_second(result));
        printf("latency      p50 %.0f us, p95 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n",
               micros(result, 50), micros(result, 95), micros(result, 99), micros(result, 99.9),
               micros(result, 100));
        if (result->reply_bytes > 0) {
            printf("volume       %.1f MB/s\n", per_second(result) * result->reply_bytes / 1e6);
        }
    }
    if (options->rate > 0) {
        printf("open loop    %.10g a second, unanswered %" PRIu64
               "; once begun p50 %.0f us, p99 %.0f us\n",
               options->rate, result->unanswered,
               (double)histogram_percentile(&result->service, 50) / 1e3,
               (double)histogram_percentile(&result->service, 99) / 1e3);
    }
    if (options->kind == LOAD_UNIT) {
        printf("retries      %" PRIu64 "\n", result->retries);
    }
    if (options->kind == LOAD_CONTENDED || options->kind == LOAD_ACCOUNTS) {
        print_contended(result);
    }
    for (int i = 1; i < RUN_STATUSES; i++) {
        if (result->statuses[i] > 0) {
            printf("status %d   %" PRIu64 "\n", i, result->statuses[i]);
        }
    }
    printf("own CPU      %.2f s\n", seconds(result->own_cpu_ns));
    for (size_t i = 0; i < options->pid_count; i++) {
        const struct run_process *process = &result->processes[i];
        printf("process %-8ld CPU %.2f s, memory %" PRIu64 " KiB, %" PRIu64 " KiB at the start\n",
               (long)process->pid, process_cpu(process), process->after.rss_bytes / 1024,
               process->at_start.rss_bytes / 1024);
    }
    printf("errors       %" PRIu64 "\n", result->errors);
    if (result->errors > 0) {
        printf("first error  %s\n", result->first_error);
    }
}

static void append_processes(bson_t *document, const struct load_options *options,
                             const struct run_result *result)
{
    bson_t array;
    BSON_APPEND_ARRAY_BEGIN(document, "processes", &array);
    for (size_t i = 0; i < options->pid_count; i++) {
        const struct run_process *process = &result->processes[i];
        char key[24];
        bson_t each;
        snprintf(key, sizeof key, "%zu", i);
        BSON_APPEND_DOCUMENT_BEGIN(&array, key, &each);
        BSON_APPEND_INT64(&each, "pid", process->pid);
        BSON_APPEND_DOUBLE(&each, "cpuSeconds", process_cpu(process));
        BSON_APPEND_INT64(&each, "rssBytesAtStart", (int64_t)process->at_start.rss_bytes);
        BSON_APPEND_INT64(&each, "rssBytesAfter", (int64_t)process->after.rss_bytes);
        bson_append_document_end(&array, &each);
    }
    bson_append_array_end(document, &array);
}

static void append_statuses(bson_t *document, const struct run_result *result)
{
    bson_t statuses;
    BSON_APPEND_DOCUMENT_BEGIN(document, "statuses", &statuses);
    for (int i = 1; i < RUN_STATUSES; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        if (result->statuses[i] > 0) {
            BSON_APPEND_INT64(&statuses, key, (int64_t)result->statuses[i]);
        }
    }
    bson_append_document_end(document, &statuses);
}

static void append_figures(bson_t *document, const char *name, const struct run_result *result,
                           const struct contended_figures *figures)
{
    bson_t each;
    double measured = result->measured_ns == 0 ? 1 : seconds(result->measured_ns);
    BSON_APPEND_DOCUMENT_BEGIN(document, name, &each);
    BSON_APPEND_INT64(&each, "operationsTotal", (int64_t)figures->operations);
    BSON_APPEND_DOUBLE(&each, "perSecond", (double)figures->waits.count / measured);
    BSON_APPEND_DOUBLE(&each, "waitP50Micros",
                       (double)histogram_percentile(&figures->waits, 50) / 1e3);
    BSON_APPEND_DOUBLE(&each, "waitMaxMicros", (double)figures->longest_ns / 1e3);
    BSON_APPEND_DOUBLE(&each, "maxByMedian", contended_unfairness(figures));
    BSON_APPEND_INT64(&each, "fewest", (int64_t)figures->fewest);
    BSON_APPEND_INT64(&each, "median", (int64_t)figures->median);
    BSON_APPEND_INT64(&each, "most", (int64_t)figures->most);
    bson_append_document_end(document, &each);
}

static void append_open_loop(bson_t *document, const struct load_options *options,
                             const struct run_result *result)
{
    bson_t service;
    BSON_APPEND_DOUBLE(document, "rate", options->rate);
    BSON_APPEND_INT64(document, "unanswered", (int64_t)result->unanswered);
    BSON_APPEND_DOCUMENT_BEGIN(document, "serviceMicros", &service);
    BSON_APPEND_DOUBLE(&service, "p50", (double)histogram_percentile(&result->service, 50) / 1e3);
    BSON_APPEND_DOUBLE(&service, "p99", (double)histogram_percentile(&result->service, 99) / 1e3);
    BSON_APPEND_DOUBLE(&service, "max", (double)result->service.max / 1e3);
    bson_append_document_end(document, &service);
}

void run_report_json(const struct load_options *options, const struct run_result *result)
{
    bson_t document = BSON_INITIALIZER;
    bson_t latency;
    BSON_APPEND_UTF8(&document, "load", load_name(options->kind));
    BSON_APPEND_UTF8(&document, "target", options->target);
    BSON_APPEND_INT64(&document, "connections", options->connections);
    BSON_APPEND_DOUBLE(&document, "seconds", seconds(result->measured_ns));
    BSON_APPEND_INT64(&document, "operations", (int64_t)result->operations);
    BSON_APPEND_INT64(&document, "operationsTotal", (int64_t)result->operations_total);
    BSON_APPEND_DOUBLE(&document, "operationsPerSecond", per_second(result));
    BSON_APPEND_INT64(&document, "errors", (int64_t)result->errors);
    if (result->errors > 0) {
        BSON_APPEND_UTF8(&document, "firstError", result->first_error);
    }
    BSON_APPEND_INT64(&document, "retries", (int64_t)result->retries);
    if (options->kind == LOAD_CONTENDED || options->kind == LOAD_ACCOUNTS) {
        BSON_APPEND_DOUBLE(&document, "retriesPerTransaction", retries_each(result));
        append_figures(&document, "transactions", result, &result->contended.transactions);
        append_figures(&document, "plain", result, &result->contended.plain);
    }
    if (options->rate > 0) {
        append_open_loop(&document, options, result);
    }
    if (result->reply_bytes > 0) {
        BSON_APPEND_DOUBLE(&document, "megabytesPerSecond",
                           per_second(result) * result->reply_bytes / 1e6);
    }
    if (load_is_http(options)) {
        append_statuses(&document, result);
    }
    BSON_APPEND_DOCUMENT_BEGIN(&document, "latencyMicros", &latency);
    BSON_APPEND_DOUBLE(&latency, "p50", micros(result, 50));
    BSON_APPEND_DOUBLE(&latency, "p95", micros(result, 95));
    BSON_APPEND_DOUBLE(&latency, "p99", micros(result, 99));
    BSON_APPEND_DOUBLE(&latency, "p999", micros(result, 99.9));
    BSON_APPEND_DOUBLE(&latency, "max", micros(result, 100));
    bson_append_document_end(&document, &latency);
    BSON_APPEND_DOUBLE(&document, "ownCpuSeconds", seconds(result->own_cpu_ns));
    append_processes(&document, options, result);
    char *text = bson_as_relaxed_extended_json(&document, NULL);
    puts(text);
    bson_free(text);
    bson_destroy(&document);
}
