/*
 * The simulator: runs one seed after the other, and says which one broke a promise.
 *
 *   start --> clients work, faults come --> no more faults --> every document written once more
 *         --> SIGTERM --> the process has ended cleanly --> model_check()
 */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients.h"
#include "database.h"
#include "ledger.h"
#include "model.h"
#include "network.h"
#include "server.h"
#include "sim.h"
#include "store.h"

/* After this the faults end, whatever is still to do. */
#define FAULTS_END_US 8000000u
/* A boot does not take place at the beginning of time. */
#define BOOT_US ((uint64_t)1000 * 1000000)

/* Of real time; a run takes milliseconds. More means that something waits for the real world. */
#define RUN_SECONDS_MAX 120u

struct sim sim;

/* ------------------------------------------------------------------ notes */

static void print_line(const char *text)
{
    printf("%12.6f  %s\n", (double)(sim.now_us - BOOT_US) / 1e6, text);
}

void sim_note(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (const char *at = text; *at != '\0'; at++) {
        sim.trace = (sim.trace ^ (uint8_t)*at) * 0x100000001B3u;
    }
    if (sim.verbose) {
        print_line(text);
    }
}

void sim_show(const char *format, ...)
{
    char text[1200];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (sim.verbose) {
        print_line(text);
    }
}

void sim_fail(const char *format, ...)
{
    char text[sizeof sim.failure];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!sim.failed) {
        sim.failed = true;
        memcpy(sim.failure, text, sizeof text);
    }
    sim_note("FAILED: %s", text);
}

/* ------------------------------------------------------------------ one run */

static void step(void)
{
    bool alive = schedule_step();
    process_check();
    if (!alive) {
        sim_fail("nothing can ever happen any more");
    } else if (sim.steps > SIM_STEPS_MAX || sim.now_us - BOOT_US > SIM_TIME_MAX_US) {
        sim_fail("it does not come to an end");
    }
}

static void run_until(bool (*over)(void))
{
    while (!sim.failed && !over()) {
        step();
    }
}

static bool clients_done_or_late(void)
{
    return clients_are_done() || sim.now_us - BOOT_US > FAULTS_END_US;
}

static void begin(uint64_t seed)
{
    bool verbose = sim.verbose;
    bool logs = sim.logs;
    bool allow_loss = sim.allow_server_loss;
    bool full = sim.full;
    enum sim_writes writes = sim.writes;
    sim = (struct sim){.seed = seed,
                       .verbose = verbose,
                       .logs = logs,
                       .allow_server_loss = allow_loss,
                       .full = full,
                       .writes = writes,
                       .now_us = BOOT_US,
                       .wall_offset_us = (int64_t)1700000000 * 1000000};
    random_seed(seed);
    faults_draw();
    clients_prepare();
    model_begin_run();
    server_start(NULL, 0);
    process_start(NULL, 0);
    clients_start();
    faults_schedule();
}

static void end(void)
{
    clients_reset();
    process_reset();
    fiber_reset();
    network_reset();
    server_reset();
    sim_store_reset();
    ledger_reset();
    database_reset();
    model_reset();
}

static void run_seed(uint64_t seed)
{
    (void)alarm(RUN_SECONDS_MAX);
    begin(seed);
    run_until(clients_done_or_late);
    faults_over();
    run_until(clients_are_done);
    clients_start_last();
    run_until(clients_are_done);
    if (!sim.failed) {
        process_terminate();
    }
    run_until(process_ended_cleanly);
    if (!sim.failed) {
        model_check();
    }
    if (sim.failed && fiber_current() == NULL) {
        fiber_kill_product();
    }
    end();
}

/* ------------------------------------------------------------------ many */

static void on_abort(int signal_number)
{
    char text[96];
    int size = snprintf(text, sizeof text, "seed %llu: the process aborts (signal %d)\n",
                        (unsigned long long)sim.seed, signal_number);
    (void)fflush(stdout);
    (void)!write(STDOUT_FILENO, text, (size_t)size);
    _Exit(1);
}

static uint64_t traced(uint64_t seed)
{
    run_seed(seed);
    return sim.trace;
}

static bool run_one(uint64_t seed, bool twice)
{
    uint64_t trace = traced(seed);
    if (twice && !sim.failed && traced(seed) != trace) {
        sim_fail("a second run of the seed took another course");
    }
    if (sim.failed) {
        printf("seed %llu: %s\n", (unsigned long long)seed, sim.failure);
        (void)fflush(stdout);
        return false;
    }
    return true;
}

static int usage(void)
{
    printf("usage: sim [--seed N | --from N --count N] [options]\n"
           "  --verbose      shows the schedule of each run\n"
           "  --log          with what the product logs, which is another schedule\n"
           "  --twice        runs each seed twice, and compares the schedules\n"
           "  --keep-going   goes on after a seed that failed\n"
           "  --deaths       shows where the process died, and fails if it never did at some\n"
           "                 crash point\n"
           "  --no-loss      a server that crashes keeps what it had not synced\n"
           "  --full         in each seed the journal has no room for a while\n"
           "  --immediate    unit.writes: immediate in each seed; without it the seed draws\n"
           "  --deferred     unit.writes: deferred in each seed\n");
    return 2;
}

int main(int argument_count, char **arguments)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"from", required_argument, NULL, 'f'},
        {"count", required_argument, NULL, 'c'},
        {"verbose", no_argument, NULL, 'v'},
        {"log", no_argument, NULL, 'o'},
        {"twice", no_argument, NULL, '2'},
        {"no-loss", no_argument, NULL, 'l'},
        {"keep-going", no_argument, NULL, 'k'},
        {"full", no_argument, NULL, 'u'},
        {"deaths", no_argument, NULL, 'd'},
        {"immediate", no_argument, NULL, 'i'},
        {"deferred", no_argument, NULL, 'w'},
        {NULL, 0, NULL, 0},
    };
    uint64_t from = 1;
    uint64_t count = 1000;
    uint64_t failures = 0;
    bool twice = false;
    bool keep_going = false;
    bool deaths = false;
    int option;
    sim.allow_server_loss = true;
    while ((option = getopt_long(argument_count, arguments, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            from = strtoull(optarg, NULL, 10);
            count = 1;
            break;
        case 'f':
            from = strtoull(optarg, NULL, 10);
            break;
        case 'c':
            count = strtoull(optarg, NULL, 10);
            break;
        case 'v':
            sim.verbose = true;
            break;
        case 'o':
            sim.logs = true;
            break;
        case '2':
            twice = true;
            break;
        case 'l':
            sim.allow_server_loss = false;
            break;
        case 'k':
            keep_going = true;
            break;
        case 'd':
            deaths = true;
            break;
        case 'u':
            sim.full = true;
            break;
        case 'i':
            sim.writes = SIM_WRITES_IMMEDIATE;
            break;
        case 'w':
            sim.writes = SIM_WRITES_DEFERRED;
            break;
        default:
            return usage();
        }
    }
    (void)signal(SIGABRT, on_abort);
    (void)signal(SIGALRM, on_abort);
    (void)signal(SIGSEGV, on_abort);
    memory_begin();
    for (uint64_t seed = from; seed < from + count && (failures == 0 || keep_going); seed++) {
        failures += run_one(seed, twice) ? 0 : 1;
    }
    if (deaths) {
        process_show_deaths();
        failures += system_died_everywhere() ? 0 : 1;
    }
    if (failures == 0) {
        printf("%llu seeds from %llu: every promise was kept\n", (unsigned long long)count,
               (unsigned long long)from);
    }
    return failures == 0 ? 0 : 1;
}
