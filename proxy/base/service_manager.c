/*
 * Telling a service manager (service_manager.h).
 *
 * The protocol is a line NAME=VALUE or several in one datagram, which systemd promises to keep. It
 * is spoken here because libsystemd would bring five libraries for it into every container, where
 * nobody listens.
 *
 * Invariant: `descriptor` is connected, or -1. It does not change while other threads run.
 */
#include "base/service_manager.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int descriptor = -1;
static uint64_t watchdog_ms = 0;

/* What was taken out of the environment, for a successor. */
static char socket_text[sizeof(struct sockaddr_un) + sizeof "NOTIFY_SOCKET="];
static char watchdog_text[64];

/* A decimal number of at most 18 digits, and nothing else. 0: it is none. */
static uint64_t whole_number(const char *text)
{
    uint64_t number = 0;
    size_t digits = 0;
    while (text != NULL && text[digits] >= '0' && text[digits] <= '9' && digits < 18) {
        number = number * 10 + (uint64_t)(text[digits++] - '0');
    }
    return text != NULL && text[digits] == '\0' ? number : 0;
}

/* A path, or @ and a name in the kernel's own space of names. */
static enum status connect_to(const char *name, struct error *ret_error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || size < 2 || size >= sizeof address.sun_path) {
        return error_set(ret_error, STATUS_INVALID, "NOTIFY_SOCKET: %.200s is no socket's name",
                         name);
    }
    memcpy(address.sun_path, name, size);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    } else {
        length++; /* a path ends with its NUL */
    }
    int made = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (made < 0 || connect(made, (struct sockaddr *)&address, length) != 0) {
        enum status status = error_set(ret_error, STATUS_INVALID, "NOTIFY_SOCKET: %.200s: %s", name,
                                       strerror(errno));
        if (made >= 0) {
            (void)close(made);
        }
        return status;
    }
    descriptor = made;
    return STATUS_OK;
}

enum status service_manager_begin(struct error *ret_error)
{
    const char *name = getenv("NOTIFY_SOCKET");
    const char *process = getenv("WATCHDOG_PID");
    enum status status = STATUS_OK;
    if (name != NULL && name[0] != '\0') {
        status = connect_to(name, ret_error);
    }
    /* A watchdog may be meant for the process that started this one. */
    if (descriptor >= 0 && (process == NULL || whole_number(process) == (uint64_t)getpid())) {
        watchdog_ms = whole_number(getenv("WATCHDOG_USEC")) / 1000;
    }
    if (descriptor >= 0) {
        (void)snprintf(socket_text, sizeof socket_text, "NOTIFY_SOCKET=%s", name);
    }
    if (watchdog_ms > 0) {
        (void)snprintf(watchdog_text, sizeof watchdog_text, "WATCHDOG_USEC=%llu",
                       (unsigned long long)watchdog_ms * 1000u);
    }
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    return status;
}

/* Nobody who reads slowly may hold the proxy up: then the message is dropped. */
static void tell(const char *message, size_t size)
{
    if (descriptor >= 0) {
        (void)send(descriptor, message, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

/* `state` is "" or a line with its end. */
static void tell_status(const char *state, const char *status)
{
    char message[SERVICE_MANAGER_STATUS_BYTES + 64];
    int size = snprintf(message, sizeof message, "%sSTATUS=%.*s", state,
                        (int)SERVICE_MANAGER_STATUS_BYTES, status);
    for (char *at = message + strlen(state); *at != '\0'; at++) {
        if (*at == '\n') {
            *at = ' '; /* else it would begin a variable */
        }
    }
    tell(message, (size_t)size);
}

void service_manager_ready(const char *status)
{
    tell_status("READY=1\n", status);
}

void service_manager_status(const char *status)
{
    tell_status("", status);
}

void service_manager_stopping(const char *status)
{
    tell_status("STOPPING=1\n", status);
}

void service_manager_hand_over(int64_t process)
{
    char message[64];
    int size = snprintf(message, sizeof message, "MAINPID=%lld", (long long)process);
    tell(message, (size_t)size);
}

size_t service_manager_environment(char **texts, size_t max)
{
    size_t count = 0;
    if (socket_text[0] != '\0' && count < max) {
        texts[count++] = socket_text;
    }
    if (watchdog_text[0] != '\0' && count < max) {
        texts[count++] = watchdog_text;
    }
    return count;
}

uint64_t service_manager_watchdog_ms(void)
{
    return watchdog_ms;
}

void service_manager_alive(void)
{
    static const char message[] = "WATCHDOG=1";
    tell(message, sizeof message - 1);
}

void service_manager_end(void)
{
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    descriptor = -1;
    watchdog_ms = 0;
}
