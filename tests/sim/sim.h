#ifndef HOLDFAST_TESTS_SIM_SIM_H
#define HOLDFAST_TESTS_SIM_SIM_H

/*
 * A deterministic simulation of the whole proxy: one process, one thread, no socket, no disk, no
 * real time. What runs is the product itself, from main() down to the journal's rows; only what
 * lies around it is put in its place when the simulator is linked:
 *
 *   clients.c (a small driver) --+                             +-- server.c, database.c (a server)
 *                                |                             |
 *          network.c: sockets and libevent's loop        mongoc.c: libmongoc's client
 *                                |                             |
 *                +---------------+--- holdfastd as it is ------+--------------+
 *                |                                             |              |
 *          threads.c: pthread, semaphores, sleep       store.c: LMDB     system.c: clock, random,
 *                                                          tail.c: its tail  exit
 *
 * Threads of the product are fibers (fiber.c): the seed decides which goes on, wherever one could
 * be preempted, and where the process dies. memory.c throws away all that the process had. model.c
 * knows what must hold of the data, whatever happened, and checks it at the end of each run.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------ one run (run.c) */

/* Which faults a run may meet; drawn from the seed, or given. */
struct sim_profile {
    unsigned clients;
    unsigned operations;      /* of each client */
    unsigned crash_points;    /* chance in 10,000 that the process dies at a place it passes */
    unsigned crashes_max;     /* of the process, in the whole run */
    unsigned crashes_random;  /* at any moment */
    unsigned cuts;            /* connections cut */
    unsigned server_restarts; /* the server ends, and comes back with all that it had */
    bool server_loses;        /* ... without what it had not synced */
    bool power_cuts;          /* what the store had not synced is lost with the process */
    unsigned store_failure;   /* chance in 10,000 that a commit of the store fails for good */
    bool store_full;          /* for a while there is no room */
    bool strangers;           /* somebody writes around the proxy */
    bool shows_connections;   /* the server tells its clients' addresses */
    bool clock_jumps;         /* of the wall clock */
    unsigned slow;            /* chance in 1,000 that a message is slow */
    unsigned preempt;         /* chance in 1,000 that a thread is preempted where it may be */
    bool deferred;            /* unit.writes: transactions are written with their commit */
};

enum sim_writes {
    SIM_WRITES_DRAWN, /* deferred in every other seed or so */
    SIM_WRITES_IMMEDIATE,
    SIM_WRITES_DEFERRED,
};

struct sim {
    uint64_t seed;
    bool verbose;
    bool logs; /* the product logs more, and takes another course */
    bool allow_server_loss;
    bool full; /* store_full in each seed */
    enum sim_writes writes;
    struct sim_profile profile;
    uint64_t now_us; /* monotonic; begins somewhere */
    int64_t wall_offset_us;
    uint64_t steps;
    uint64_t trace; /* hash of the whole schedule: equal for equal runs */
    bool faults_over;
    uint64_t breaks; /* of the process and of connections, closed or cut, so far */
    bool failed;
    char failure[512];
};

extern struct sim sim;

/* Simulated time after which, and steps after which, a run counts as hung. */
#define SIM_TIME_MAX_US ((uint64_t)1800 * 1000 * 1000)
#define SIM_STEPS_MAX ((uint64_t)3000000)

/* A line of the schedule: part of the trace, shown with --verbose. */
void sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Shown with --verbose, no part of the trace. */
void sim_show(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A promise is broken: the run ends at the next step. The first one counts. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ------------------------------------------------------------------ random.c */

void random_seed(uint64_t seed);
uint64_t random_next(void);
uint64_t random_below(uint64_t bound); /* 0 if bound is 0 */
bool random_chance(uint64_t part, uint64_t whole);
/* Of the seed alone: takes nothing from the stream. */
bool random_coin(uint64_t seed);

/* ------------------------------------------------------------------ fiber.c */

struct fiber;

/* `product`: it belongs to the process under test and dies with it. */
struct fiber *fiber_start(const char *name, bool product, void *(*run)(void *), void *argument);
struct fiber *fiber_current(void); /* NULL: the scheduler */
bool fiber_is_product(void);       /* the current one */
/* Waits for fiber_wake_*(object) or the time; false: the time came first. UINT64_MAX: none. */
bool fiber_wait(const void *object, uint64_t until_us);
void fiber_wake_one(const void *object);
void fiber_wake_all(const void *object);
void fiber_sleep(uint64_t us);
void fiber_yield(void);
/* Where a thread may be preempted; harmless outside of fibers. */
void fiber_preempt(void);
bool fiber_has_ended(const struct fiber *fiber);
/* The socket that this fiber has registered last (network.c). */
void **fiber_slot(void);
/* The process ends here and now: never returns. */
_Noreturn void fiber_abandon(void);
void fiber_kill_product(void);
void fiber_reset(void);

/* Something happens at a time, in the scheduler. */
void schedule_at(uint64_t at_us, void (*run)(void *object, uint64_t number), void *object,
                 uint64_t number);
void schedule_after(uint64_t us, void (*run)(void *object, uint64_t number), void *object,
                    uint64_t number);
/* One step; false: nothing is left that could ever happen. */
bool schedule_step(void);

/* ------------------------------------------------------------------ memory.c */

/* Memory of the simulator's own; the product's is thrown away with its process. */
void *sim_malloc(size_t size);
void *sim_realloc(void *memory, size_t size);
void sim_free(void *memory);

void memory_begin(void);          /* once */
void memory_forget_product(void); /* heap, and every variable as it was at the start */
size_t memory_product_blocks(void);

/* Bytes that the simulator keeps. */
struct bytes {
    uint8_t *data;
    size_t size;
    size_t capacity;
};
void bytes_append(struct bytes *bytes, const void *data, size_t size);
void bytes_consume(struct bytes *bytes, size_t size);
void bytes_free(struct bytes *bytes);

/* ------------------------------------------------------------------ process.c: holdfastd's lives
 */

void process_start(void *object, uint64_t number);
bool process_is_serving(void); /* it lives and listens */
bool process_is_alive(void);
/* How often it was started. */
unsigned process_lives(void);
/* Dies where it is: from a fiber of the product, or from the scheduler. */
void process_die(const char *reason);
/* It has called _exit(), or its main() returned. */
_Noreturn void process_exit(int code);
void process_check(void);     /* after each step: clears away what has died */
void process_terminate(void); /* SIGTERM */
bool process_is_asked_to_end(void);
bool process_ended_cleanly(void);
/* A place where it may die (crash points, and others of the simulator). */
void process_place(const char *name);
/* In all runs so far: where it died, and how often. */
void process_show_deaths(void);
bool process_has_died_at(const char *name);
void process_reset(void);
/* For threads.c: a signal for the main thread, and its sigtimedwait(); 0: none came in time. */
void process_signal(int signal_number);
int process_wait_signal(uint64_t us);

/* ------------------------------------------------------------------ system.c */

/* Whether in all runs so far it has died at every crash point; tells where not. */
bool system_died_everywhere(void);
/* The process has ended: what it had the kernel wait for does not come any more. */
void system_disarm(void);

/* ------------------------------------------------------------------ faults.c */

void faults_draw(void);     /* the profile, from the seed */
void faults_schedule(void); /* what happens at which time */
uint64_t faults_latency(void);
void faults_over(void);

#endif
