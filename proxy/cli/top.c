/*
 * `holdfast top` (cli.h): what a living holdfastd is doing, again and again.
 *
 *   sample --> screen --> wait for the interval, a key, or another size of the window --> sample
 *                             `--> q, SIGINT, SIGTERM: the terminal as it was, end
 *
 * On a terminal it draws with a handful of ANSI sequences that every terminal of the last decades
 * knows (alternate screen, cursor, bold): too few for a library of their own. Elsewhere, and with
 * --once, it prints once, and with --json an object a line.
 *
 * Invariant: however it ends, and while it is stopped (SIGTSTP), the terminal is as it was found.
 * Main thread; handlers set flags, and signals are let in only while it waits.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/output.h"
#include "cli/top.h"
#include "holdfast/clock.h"

#define ENTER "\033[?1049h\033[?25l\033[?7l" /* other screen, no cursor, no wrapping */
#define LEAVE "\033[?7h\033[?25h\033[?1049l"
#define HOME "\033[H"
#define CLEAR_LINE "\033[K\n"
#define CLEAR_BELOW "\033[J"

static volatile sig_atomic_t told_to_end;
static volatile sig_atomic_t told_to_stop;

static void on_signal(int number)
{
    told_to_end = told_to_end || number == SIGINT || number == SIGTERM || number == SIGHUP;
    told_to_stop = told_to_stop || number == SIGTSTP;
}

struct top {
    const struct cli_options *options;
    struct top_sample *before;
    struct top_sample *now;
    struct top_view view;
    struct termios found;
    struct termios ours;
    sigset_t outside; /* let in while it waits */
    char failure[256];
};

/* ------------------------------------------------------------------ the terminal */

static void terminal_enter(struct top *top)
{
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &top->ours);
    fputs(ENTER, stdout);
    fflush(stdout);
}

static void terminal_leave(struct top *top)
{
    fputs(LEAVE, stdout);
    fflush(stdout);
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &top->found);
}

static bool terminal_open(struct top *top)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t ours;
    if (tcgetattr(STDIN_FILENO, &top->found) != 0) {
        return false;
    }
    top->ours = top->found;
    top->ours.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    (void)sigemptyset(&ours);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)sigaction(numbers[i], &action, NULL);
        (void)sigaddset(&ours, numbers[i]);
    }
    (void)sigprocmask(SIG_BLOCK, &ours, &top->outside);
    terminal_enter(top);
    return true;
}

static void read_size(struct top *top)
{
    struct winsize size;
    top->view.columns = 80;
    top->view.lines = 24;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
        top->view.columns = size.ws_col;
        top->view.lines = size.ws_row;
    }
}

/* ------------------------------------------------------------------ drawing */

/* Line by line over what is there, so that nothing flickers; no more lines than there are. */
static void draw(struct top *top)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL) {
        return;
    }
    read_size(top);
    top->view.styled = true;
    top->view.failure = top->failure[0] == '\0' ? NULL : top->failure;
    top_screen_write(memory, top->before, top->now, &top->view);
    (void)fclose(memory);
    fputs(HOME, stdout);
    size_t lines = 0;
    for (char *at = text; *at != '\0' && lines + 1 < top->view.lines; lines++) {
        char *end = strchr(at, '\n');
        printf("%.*s" CLEAR_LINE, (int)(end - at), at);
        at = end + 1;
    }
    static const char *const names[] = {
#define X(name, key, text) text,
        TOP_ORDER_LIST(X)
#undef X
    };
    char help[120];
    (void)snprintf(help, sizeof help, "sorted by %s; a age, w writes, l locks, u unit; q quits",
                   names[top->view.order]);
    fputs(CLEAR_BELOW, stdout);
    printf("\033[%zu;1H%.*s\033[K", top->view.lines, (int)top->view.columns, help);
    fflush(stdout);
    free(text);
}

/* ------------------------------------------------------------------ sampling */

static enum status take(struct top *top, struct error *ret_error)
{
    struct top_sample *next = top->before;
    enum status status = top_sample_take(top->options, next, ret_error);
    if (status != STATUS_OK) {
        /* What was before is gone, which only costs the rates of this moment. */
        *top->before = *top->now;
        return status;
    }
    top->before = top->now;
    top->now = next;
    return STATUS_OK;
}

static struct timespec timespec_of(uint64_t milliseconds)
{
    return (struct timespec){.tv_sec = (time_t)(milliseconds / 1000),
                             .tv_nsec = (long)(milliseconds % 1000) * 1000000L};
}

/* ------------------------------------------------------------------ waiting */

/* False: it ends. */
static bool take_key(struct top *top, char key)
{
    static const struct {
        char key;
        enum top_order order;
    } orders[] = {
#define X(name, key, text) {key, TOP_BY_##name},
        TOP_ORDER_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        if (orders[i].key == key) {
            top->view.order = orders[i].order;
        }
    }
    return key != 'q' && key != 'Q';
}

static void stop_for_a_while(struct top *top)
{
    told_to_stop = 0;
    terminal_leave(top);
    (void)raise(SIGSTOP);
    terminal_enter(top);
}

/* Until the time has come. False: it ends. */
static bool wait_and_draw(struct top *top, uint64_t until_ms)
{
    for (;;) {
        uint64_t now_ms = clock_monotonic_ms();
        uint64_t left_ms = until_ms > now_ms ? until_ms - now_ms : 0;
        struct timespec left = timespec_of(left_ms);
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = ppoll(&input, 1, &left, &top->outside);
        if (told_to_end) {
            return false;
        }
        if (told_to_stop) {
            stop_for_a_while(top);
        }
        if (ready == 0) {
            return true;
        }
        if (ready > 0) {
            char key = 'q';
            ssize_t got = read(STDIN_FILENO, &key, 1);
            if (got == 0 || (got < 0 && errno != EINTR) || !take_key(top, key)) {
                return false;
            }
        }
        draw(top); /* another order, another size */
    }
}

static enum cli_exit run_on_terminal(struct top *top)
{
    bool goes_on = true;
    while (goes_on) {
        draw(top);
        goes_on = wait_and_draw(top, clock_monotonic_ms() + top->options->interval_ms);
        struct error error = {0};
        top->failure[0] = '\0';
        if (goes_on && take(top, &error) != STATUS_OK) {
            (void)snprintf(top->failure, sizeof top->failure, "trying again: %.200s",
                           error.message);
        }
    }
    terminal_leave(top);
    return CLI_CLEAN;
}

static enum cli_exit run_elsewhere(struct top *top)
{
    const struct cli_options *options = top->options;
    struct timespec pause = timespec_of(options->interval_ms);
    bool once = options->once || !options->json;
    const struct top_view view = {.columns = SIZE_MAX, .order = TOP_BY_AGE};
    do {
        struct error error = {0};
        (void)nanosleep(&pause, NULL);
        if (take(top, &error) != STATUS_OK) {
            return output_failure(&error);
        }
        if (options->json) {
            top_json_write(stdout, top->before, top->now);
        } else {
            top_screen_write(stdout, top->before, top->now, &view);
        }
    } while (!once && fflush(stdout) == 0 && !ferror(stdout));
    return top->now->conflicts > 0 ? CLI_LEFT : CLI_CLEAN;
}

enum cli_exit cli_top(const struct cli_options *options)
{
    struct top top = {.options = options};
    struct error error = {0};
    enum cli_exit done = CLI_FAILED;
    top.before = calloc(1, sizeof *top.before);
    top.now = calloc(1, sizeof *top.now);
    enum status status = top.before == NULL || top.now == NULL
                             ? error_set(&error, STATUS_MEMORY, "out of memory")
                             : top_sample_take(options, top.now, &error);
    if (status != STATUS_OK) {
        done = output_failure(&error);
    } else {
        *top.before = *top.now;
        bool screen = !options->once && !options->json && isatty(STDOUT_FILENO) &&
                      isatty(STDIN_FILENO) && terminal_open(&top);
        done = screen ? run_on_terminal(&top) : run_elsewhere(&top);
    }
    free(top.before);
    free(top.now);
    return done;
}
