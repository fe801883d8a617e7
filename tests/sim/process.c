/*
 * The lives of the process under test.
 *
 *   process_start()  a fiber calls holdfastd's main(), which starts the other threads
 *   process_die()    at a place it passes, or at any moment: its fibers end where they are, its
 *                    connections break, its memory is forgotten; what the disk has stays
 *   ... and after a while it is started again, until the run is over
 *
 * Dying from one of its own fibers happens in two steps: the fiber goes to the scheduler for good,
 * and process_check() clears up there.
 */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger.h"
#include "network.h"
#include "server.h"
#include "sim.h"
#include "store.h"

/* A start that failed is tried again after this, as a supervisor would. */
#define RESTART_US 200000u
#define PLACES_MAX 64

int holdfastd_main(int argument_count, char **arguments);

static struct {
    bool alive;
    bool dying;
    bool power_cut;
    bool exited;
    int code;
    bool terminate;
    uint64_t pending; /* signals */
    bool ended_cleanly;
    unsigned crashes;
    unsigned lives;
} process;

/* Short waits, so that a run is short. */
static const char *const arguments[] = {
    "holdfastd",
    "--listen=127.0.0.1:27018",
    "--upstream=mongodb://127.0.0.1:27017",
    "--wal=/simulated",
    "--set=net.threads=2",
    "--set=unit.lockWait=500ms",
    "--set=unit.lifetime=5s",
    "--set=upstream.connectTimeout=500ms",
    "--set=unit.reads=local", /* the simulated server evaluates no aggregations */
    "--set=unit.writes=immediate",
    "--set=log.level=warning",
};
#define ARGUMENT_COUNT (sizeof arguments / sizeof arguments[0])

static void *life(void *argument)
{
    char *copies[ARGUMENT_COUNT + 1] = {NULL};
    (void)argument;
    for (size_t i = 0; i < ARGUMENT_COUNT; i++) {
        copies[i] = strdup(arguments[i]);
    }
    if (sim.profile.deferred) {
        free(copies[ARGUMENT_COUNT - 2]);
        copies[ARGUMENT_COUNT - 2] = strdup("--set=unit.writes=deferred");
    }
    if (sim.logs) {
        free(copies[ARGUMENT_COUNT - 1]);
        copies[ARGUMENT_COUNT - 1] = strdup("--set=log.level=info");
    }
    int code = holdfastd_main((int)ARGUMENT_COUNT, copies);
    for (size_t i = 0; i < ARGUMENT_COUNT; i++) {
        free(copies[i]);
    }
    process_exit(code);
}

void process_start(void *object, uint64_t number)
{
    (void)object;
    (void)number;
    assert(!process.alive);
    sim_note("the proxy starts");
    process.alive = true;
    process.dying = false;
    process.exited = false;
    process.pending = 0;
    process.lives++;
    (void)fiber_start("main", true, life, NULL);
}

bool process_is_alive(void)
{
    return process.alive;
}

unsigned process_lives(void)
{
    return process.lives;
}

bool process_is_serving(void)
{
    return process.alive && !process.dying && network_has_listener();
}

_Noreturn void process_exit(int code)
{
    process.dying = true;
    process.exited = true;
    process.code = code;
    fiber_abandon();
}

static void bury(void)
{
    bool clean = process.exited && process.code == 0 && process.terminate;
    sim_note("the proxy has ended: %s%s",
             !process.exited ? "killed"
             : clean         ? "as it was asked to"
                             : "by itself",
             process.power_cut ? ", and the power was cut" : "");
    fiber_kill_product();
    system_disarm();
    network_close_all(END_PRODUCT);
    server_forget_own();
    if (clean && memory_product_blocks() > 0) {
        sim_show("%zu blocks were not freed", memory_product_blocks());
    }
    memory_forget_product();
    ledger_forget_process();
    sim_store_crash(process.power_cut);
    process.alive = false;
    process.dying = false;
    process.power_cut = false;
    process.ended_cleanly = clean;
    if (!clean) {
        schedule_after(RESTART_US / 2 + random_below(RESTART_US), process_start, NULL, 0);
    }
}

void process_check(void)
{
    if (process.dying) {
        bury();
    }
}

/* ------------------------------------------------------------------ where it has died */

static struct {
    const char *name;
    uint64_t times;
} places[PLACES_MAX];

static void count_place(const char *name)
{
    size_t at = 0;
    while (at < PLACES_MAX - 1 && places[at].name != NULL && strcmp(places[at].name, name) != 0) {
        at++;
    }
    places[at].name = name;
    places[at].times++;
}

void process_show_deaths(void)
{
    for (size_t i = 0; i < PLACES_MAX && places[i].name != NULL; i++) {
        printf("%8llu died: %s\n", (unsigned long long)places[i].times, places[i].name);
    }
}

bool process_has_died_at(const char *name)
{
    for (size_t i = 0; i < PLACES_MAX && places[i].name != NULL; i++) {
        if (strcmp(places[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

void process_die(const char *reason)
{
    if (!process.alive || process.dying || process.ended_cleanly) {
        return;
    }
    sim_note("the proxy dies: %s", reason);
    sim.breaks++;
    process.crashes++;
    count_place(reason);
    process.dying = true;
    process.power_cut = sim.profile.power_cuts && random_chance(1, 2);
    if (fiber_is_product()) {
        fiber_abandon();
    }
}

/* What is seldom passed is a good place to die. */
static uint64_t weight_of(const char *name)
{
    static const char *const seldom[] = {"redo_", "restart_", "recovery_unit", "undo_", "abort_"};
    for (size_t i = 0; i < sizeof seldom / sizeof seldom[0]; i++) {
        if (strncmp(name, seldom[i], strlen(seldom[i])) == 0) {
            return 8;
        }
    }
    return 1;
}

void process_place(const char *name)
{
    if (fiber_is_product() && !sim.faults_over && process.crashes < sim.profile.crashes_max &&
        random_chance(sim.profile.crash_points * weight_of(name), 10000)) {
        process_die(name);
    }
}

void process_signal(int signal_number)
{
    process.pending |= (uint64_t)1 << signal_number;
    fiber_wake_all(&process.pending);
}

void process_terminate(void)
{
    process.terminate = true;
    process_signal(SIGTERM);
}

int process_wait_signal(uint64_t us)
{
    if (process.pending == 0 && !process.terminate) {
        (void)fiber_wait(&process.pending, sim.now_us + us);
    }
    for (int signal_number = 1; signal_number < 64; signal_number++) {
        if ((process.pending >> signal_number & 1) != 0) {
            process.pending &= ~((uint64_t)1 << signal_number);
            return signal_number;
        }
    }
    return process.terminate ? SIGTERM : 0; /* also a life that began later */
}

bool process_is_asked_to_end(void)
{
    return process.terminate;
}

bool process_ended_cleanly(void)
{
    return process.ended_cleanly;
}

void process_reset(void)
{
    memset(&process, 0, sizeof process);
    memory_forget_product();
}
