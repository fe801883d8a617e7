/* See child.h. */
#include "bench/peer/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 5u
#define CANNOT_EXECUTE 127

void child_words_add(struct child_words *words, const char *format, ...)
{
    char *word = NULL;
    va_list arguments;
    va_start(arguments, format);
    int size = vasprintf(&word, format, arguments);
    va_end(arguments);
    if (size < 0 || words->count > CHILD_ARGUMENTS_MAX) {
        words->count = CHILD_ARGUMENTS_MAX + 1; /* it cannot be started */
        if (size >= 0) {
            free(word);
        }
        return;
    }
    if (words->count == CHILD_ARGUMENTS_MAX) {
        words->count++;
        free(word);
        return;
    }
    words->words[words->count++] = word;
}

void child_words_free(struct child_words *words)
{
    for (size_t i = 0; i < CHILD_ARGUMENTS_MAX; i++) {
        free(words->words[i]);
    }
    memset(words, 0, sizeof *words);
}

void child_pause(uint32_t ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&time, NULL);
}

/* In the new process: only what is safe behind a fork. */
static void execute(const struct child_words *words, int log, pid_t parent)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setpgid(0, 0); /* what is typed on the terminal is for the bench */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (getppid() == parent && nothing >= 0 && dup2(nothing, 0) == 0 && dup2(log, 1) == 1 &&
        dup2(log, 2) == 2) {
        execvp(words->words[0], words->words);
    }
    _exit(CANNOT_EXECUTE);
}

enum status child_start(const char *name, const char *log, const struct child_words *words,
                        struct child *ret_child, struct error *ret_error)
{
    struct child child = {0};
    char path[512];
    if (words->count == 0 || words->count > CHILD_ARGUMENTS_MAX) {
        return error_set(ret_error, STATUS_LIMIT, "%s: too many options", name);
    }
    if (!child_find(words->words[0], path)) {
        return error_set(ret_error, STATUS_NOT_FOUND, "%s: there is no program %s", name,
                         words->words[0]);
    }
    snprintf(child.log, sizeof child.log, "%s", log);
    snprintf(child.name, sizeof child.name, "%s", name);
    int descriptor = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        return error_set(ret_error, STATUS_IO, "cannot write %s: %s", log, strerror(errno));
    }
    pid_t parent = getpid();
    child.pid = fork();
    if (child.pid == 0) {
        execute(words, descriptor, parent);
    }
    (void)close(descriptor);
    if (child.pid < 0) {
        return error_set(ret_error, STATUS_IO, "cannot start %s: %s", name, strerror(errno));
    }
    *ret_child = child;
    return STATUS_OK;
}

bool child_running(const struct child *child)
{
    siginfo_t ended = {0};
    return child->pid > 0 &&
           waitid(P_PID, (id_t)child->pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           ended.si_pid == 0;
}

void child_end(struct child *child, int signal, uint32_t wait_ms)
{
    if (child == NULL || child->pid <= 0) {
        return;
    }
    (void)kill(child->pid, signal);
    for (uint32_t past = 0; past < wait_ms && child_running(child); past += POLL_MS) {
        child_pause(POLL_MS);
    }
    if (child_running(child)) {
        (void)kill(child->pid, SIGKILL);
    }
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    child->pid = 0;
}

void child_last_words(const struct child *child, char *text, size_t size)
{
    FILE *file = fopen(child->log, "re");
    text[0] = '\0';
    if (file == NULL) {
        return;
    }
    if (fseek(file, -(long)(size - 1), SEEK_END) != 0) {
        rewind(file);
    }
    size_t got = fread(text, 1, size - 1, file);
    text[got] = '\0';
    while (got > 0 && text[got - 1] == '\n') {
        text[--got] = '\0';
    }
    fclose(file);
}

static bool find_line(const char *path, const char *mark, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    while (file != NULL && !found && getline(&line, &capacity, file) > 0) {
        const char *at = strstr(line, mark);
        found = at != NULL && strchr(at, '\n') != NULL; /* the whole of it has been written */
        if (found) {
            snprintf(text, size, "%.*s", (int)strcspn(at, "\n"), at);
        }
    }
    free(line);
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

bool child_wait_for(const struct child *child, const char *mark, uint32_t wait_ms, char *text,
                    size_t size)
{
    for (uint32_t past = 0;; past += POLL_MS) {
        if (find_line(child->log, mark, text, size)) {
            return true;
        }
        if (past >= wait_ms || !child_running(child)) {
            return find_line(child->log, mark, text, size);
        }
        child_pause(POLL_MS);
    }
}

bool child_find(const char *program, char ret_path[512])
{
    const char *path = getenv("PATH");
    if (strchr(program, '/') != NULL || path == NULL) {
        snprintf(ret_path, 512, "%s", program);
        return access(program, X_OK) == 0;
    }
    while (*path != '\0') {
        size_t size = strcspn(path, ":");
        int used = snprintf(ret_path, 512, "%.*s/%s", (int)size, path, program);
        if (used > 0 && used < 512 && access(ret_path, X_OK) == 0) {
            return true;
        }
        path += size + (path[size] == ':' ? 1 : 0);
    }
    return false;
}
