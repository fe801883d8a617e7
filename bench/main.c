/*
 * holdfast-bench: the load driver (options.h, run.h, report.h) and its stub service (service.h).
 */
#include <stdio.h>

#include "bench/options.h"
#include "bench/report.h"
#include "bench/run.h"
#include "bench/service.h"

enum exit_code {
    EXIT_WITHOUT_ERROR = 0,
    EXIT_WITH_ERRORS = 1,
    EXIT_CANNOT_RUN = 2,
};

int main(int argument_count, char **arguments)
{
    static struct run_result result; /* too large for a stack */
    struct bench_options options;
    enum bench_action action = BENCH_RUN;
    struct error error = {0};
    if (bench_options_parse(argument_count, arguments, &action, &options, &error) != STATUS_OK) {
        fprintf(stderr, "holdfast-bench: %s\n", error.message);
        return EXIT_CANNOT_RUN;
    }
    if (action == BENCH_HELP) {
        bench_options_help();
        return EXIT_WITHOUT_ERROR;
    }
    if (action == BENCH_VERSION) {
        printf("holdfast-bench %s\n", HOLDFAST_VERSION);
        return EXIT_WITHOUT_ERROR;
    }
    if (action == BENCH_SERVE) {
        if (service_serve(&options, &error) != STATUS_OK) {
            fprintf(stderr, "holdfast-bench: %s\n", error.message);
            return EXIT_CANNOT_RUN;
        }
        return EXIT_WITHOUT_ERROR;
    }
    if (run(&options, &result, &error) != STATUS_OK) {
        fprintf(stderr, "holdfast-bench: %s\n", error.message);
        return EXIT_CANNOT_RUN;
    }
    if (options.json) {
        report_json(&options, &result);
    } else {
        report_text(&options, &result);
    }
    return result.errors > 0 ? EXIT_WITH_ERRORS : EXIT_WITHOUT_ERROR;
}
