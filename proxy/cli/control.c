/*
 * The client of the control socket (control.h). One request, one answer, the connection's end is
 * the answer's: too little HTTP for a library.
 */
#include "cli/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/local_socket.h"

/* The daemon lists 1000 units at most. */
#define ANSWER_BYTES_MAX (4u * 1024u * 1024u)
/* A decision about a conflict waits for locks and for the server (engine/resolver.h). */
#define ANSWER_SECONDS 60

static enum status send_all(int descriptor, const char *text, struct error *ret_error)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t sent = send(descriptor, text, size, MSG_NOSIGNAL);
        if (sent < 0) {
            return error_set(ret_error, STATUS_IO, "holdfastd does not listen: %s",
                             strerror(errno));
        }
        text += sent;
        size -= (size_t)sent;
    }
    return STATUS_OK;
}

/* Everything up to the end, with a NUL behind it. */
static enum status receive_all(int descriptor, char *answer, struct error *ret_error)
{
    size_t size = 0;
    while (size < ANSWER_BYTES_MAX) {
        ssize_t received = recv(descriptor, answer + size, ANSWER_BYTES_MAX - size, 0);
        if (received < 0) {
            return error_set(ret_error, STATUS_IO, "holdfastd does not answer: %s",
                             strerror(errno));
        }
        if (received == 0) {
            answer[size] = '\0';
            return STATUS_OK;
        }
        size += (size_t)received;
    }
    return error_set(ret_error, STATUS_PROTOCOL, "holdfastd's answer has no end");
}

/* "HTTP/1.1 200 OK", header lines, an empty line, the body. Moves the body to the front. */
static enum status take_apart(char *answer, int *ret_code, struct error *ret_error)
{
    const char *body = strstr(answer, "\r\n\r\n");
    const char *code = strchr(answer, ' ');
    if (strncmp(answer, "HTTP/1.", 7) != 0 || body == NULL || code == NULL) {
        return error_set(ret_error, STATUS_PROTOCOL, "holdfastd's answer is not HTTP");
    }
    *ret_code = (int)strtol(code, NULL, 10);
    memmove(answer, body + 4, strlen(body + 4) + 1);
    return STATUS_OK;
}

enum status control_request(const struct cli_options *options, const char *method,
                            const char *target, int *ret_code, char **ret_body,
                            struct error *ret_error)
{
    const struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    char request[256];
    int descriptor = -1;
    enum status status =
        local_socket_connect(options->wal, LOCAL_SOCKET_CONTROL, &descriptor, ret_error);
    if (status != STATUS_OK) {
        return status == STATUS_NOT_FOUND
                   ? error_set(
                         ret_error, status,
                         "no holdfastd is alive on the journal in %.400s; what a dead one left "
                         "open is rolled back by holdfast recover",
                         options->wal)
                   : status;
    }
    (void)snprintf(request, sizeof request,
                   "%s %s HTTP/1.1\r\nHost: holdfastd\r\nContent-Length: 0\r\n"
                   "Connection: close\r\n\r\n",
                   method, target);
    (void)setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char *answer = malloc(ANSWER_BYTES_MAX + 1);
    status = answer == NULL ? error_set(ret_error, STATUS_MEMORY, "out of memory")
                            : send_all(descriptor, request, ret_error);
    if (status == STATUS_OK) {
        status = receive_all(descriptor, answer, ret_error);
    }
    if (status == STATUS_OK) {
        status = take_apart(answer, ret_code, ret_error);
    }
    (void)close(descriptor);
    if (status != STATUS_OK) {
        free(answer);
        return status;
    }
    *ret_body = answer;
    return STATUS_OK;
}
