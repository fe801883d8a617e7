/*
 * holdfast-bench: the load driver (suite.h), its stub service (stub/service.h), its bare relay
 * (peer/relay.h), its fake server (peer/instant.h).
 */
#include <signal.h>
#include <stdio.h>

#include "bench/options.h"
#include "bench/peer/instant.h"
#include "bench/peer/relay.h"
#include "bench/report/reports.h"
#include "bench/report/run_report.h"
#include "bench/stub/service.h"
#include "bench/suite.h"

enum exit_code {
    EXIT_WITHOUT_ERROR = 0,
    EXIT_WITH_ERRORS = 1,
    EXIT_CANNOT_RUN = 2,
    EXIT_WORSE = 3,
};

static int cannot_run(const struct error *error)
{
    fprintf(stderr, "holdfast-bench: %s\n", error->message);
    return EXIT_CANNOT_RUN;
}

static void interrupt(int signal)
{
    (void)signal;
    run_interrupted = 1;
}

/* What was started is ended, and what was measured is told. */
static void catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = interrupt};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

/* One load, one target, once. */
static int run_single(const struct bench_options *options, const struct target *target)
{
    static struct run_result result; /* too large for a stack */
    struct load_options load;
    struct error error = {0};
    enum status status = cells_single(options, &load, &error);
    if (status == STATUS_OK) {
        load.target = target->where;
        load.address = target->address;
        if (target->given_pid > 0 && load.pid_count < LOAD_PIDS_MAX) {
            load.pids[load.pid_count++] = target->given_pid;
        }
        status = run(&load, NULL, &result, &error);
    }
    if (status != STATUS_OK) {
        return cannot_run(&error);
    }
    if (options->json) {
        run_report_json(&load, &result);
    } else {
        run_report_text(&load, &result);
    }
    return result.errors > 0 ? EXIT_WITH_ERRORS : EXIT_WITHOUT_ERROR;
}

static int run_suite(const struct bench_options *options, struct targets *targets)
{
    struct suite suite;
    struct error error = {0};
    bool worse = false;
    enum status status = suite_run(options, targets, &suite, &error);
    if (status == STATUS_OK) {
        status = reports_make(&suite, &worse, &error);
    }
    uint64_t errors = suite_errors(&suite);
    suite_free(&suite);
    if (status != STATUS_OK) {
        return cannot_run(&error);
    }
    return errors > 0 ? EXIT_WITH_ERRORS : worse ? EXIT_WORSE : EXIT_WITHOUT_ERROR;
}

static int run_loads(const struct bench_options *options)
{
    struct targets targets;
    struct error error = {0};
    catch_interrupts();
    if (reports_check(options, &error) != STATUS_OK) {
        return cannot_run(&error);
    }
    enum status status = targets_start(options, &targets, &error);
    int code = status != STATUS_OK ? cannot_run(&error)
               : bench_options_single(options) && targets.targets[0].kind == TARGET_ADDRESS
                   ? run_single(options, &targets.targets[0])
                   : run_suite(options, &targets);
    targets_stop(&targets);
    return code;
}

int main(int argument_count, char **arguments)
{
    static struct bench_options options;
    enum bench_command command = BENCH_RUN;
    struct error error = {0};
    enum status status = bench_options_parse(argument_count, arguments, &command, &options, &error);
    if (status != STATUS_OK) {
        return cannot_run(&error);
    }
    switch (command) {
    case BENCH_HELP:
        bench_options_help();
        return EXIT_WITHOUT_ERROR;
    case BENCH_VERSION:
        printf("holdfast-bench %s\n", HOLDFAST_VERSION);
        return EXIT_WITHOUT_ERROR;
    case BENCH_SERVICE:
        status = service_serve(&options.serve, &error);
        return status == STATUS_OK ? EXIT_WITHOUT_ERROR : cannot_run(&error);
    case BENCH_RELAY:
        status = relay_serve(&options.serve, &error);
        return status == STATUS_OK ? EXIT_WITHOUT_ERROR : cannot_run(&error);
    case BENCH_INSTANT:
        status = instant_serve(&options.serve, &error);
        return status == STATUS_OK ? EXIT_WITHOUT_ERROR : cannot_run(&error);
    case BENCH_RUN:
        break;
    }
    return run_loads(&options);
}
