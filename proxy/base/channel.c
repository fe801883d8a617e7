/*
 * Messages with descriptors between two processes (channel.h).
 *
 * The header goes out by one call with the descriptors attached, and is asked for by itself: so the
 * kernel never hands out descriptors with bytes of another message.
 *
 * Any thread, one at a time per end.
 */
#include "base/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define HEADER_BYTES 8u

static const struct timeval answer_time = {.tv_sec = CHANNEL_ANSWER_MS / 1000u};

static bool prepare(int end)
{
    return setsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &answer_time, sizeof answer_time) == 0 &&
           setsockopt(end, SOL_SOCKET, SO_SNDTIMEO, &answer_time, sizeof answer_time) == 0;
}

enum status channel_pair(int ret_ends[2], struct error *ret_error)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return error_set(ret_error, STATUS_LIMIT, "cannot make a pair of sockets: %s",
                         strerror(errno));
    }
    if (!prepare(ends[0]) || !prepare(ends[1])) {
        int failure = errno;
        (void)close(ends[0]);
        (void)close(ends[1]);
        return error_set(ret_error, STATUS_LIMIT, "cannot prepare a pair of sockets: %s",
                         strerror(failure));
    }
    ret_ends[0] = ends[0];
    ret_ends[1] = ends[1];
    return STATUS_OK;
}

enum status channel_inherited(int end, struct error *ret_error)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    if (end < 3 || getsockopt(end, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
        domain != AF_UNIX || fcntl(end, F_SETFD, FD_CLOEXEC) != 0 || !prepare(end)) {
        return error_set(ret_error, STATUS_INVALID, "descriptor %d is no channel", end);
    }
    return STATUS_OK;
}

static enum status send_all(int end, const uint8_t *bytes, size_t size)
{
    size_t sent = 0;
    while (sent < size) {
        ssize_t took = send(end, bytes + sent, size - sent, MSG_NOSIGNAL);
        if (took < 0 && errno == EINTR) {
            continue;
        }
        if (took <= 0) {
            return STATUS_UNREACHABLE;
        }
        sent += (size_t)took;
    }
    return STATUS_OK;
}

static enum status send_header(int end, uint8_t header[HEADER_BYTES], const int *descriptors,
                               size_t count)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(CHANNEL_DESCRIPTORS_MAX * sizeof(int))];
    struct iovec bytes = {.iov_base = header, .iov_len = HEADER_BYTES};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    ssize_t took;
    memset(control, 0, sizeof control);
    if (count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(head), descriptors, count * sizeof(int));
    }
    do {
        took = sendmsg(end, &message, MSG_NOSIGNAL);
    } while (took < 0 && errno == EINTR);
    /* So few bytes go whole, or not at all. */
    return took == (ssize_t)HEADER_BYTES ? STATUS_OK : STATUS_UNREACHABLE;
}

enum status channel_send(int end, uint32_t kind, struct slice payload, const int *descriptors,
                         size_t descriptor_count, struct error *ret_error)
{
    uint8_t header[HEADER_BYTES];
    if (payload.size > CHANNEL_PAYLOAD_MAX || descriptor_count > CHANNEL_DESCRIPTORS_MAX) {
        return error_set(ret_error, STATUS_INVALID, "a message of %zu bytes is too large",
                         payload.size);
    }
    slice_store_u32le(header, (uint32_t)payload.size);
    slice_store_u32le(header + 4, kind);
    if (send_header(end, header, descriptors, descriptor_count) != STATUS_OK ||
        send_all(end, payload.data, payload.size) != STATUS_OK) {
        return error_set(ret_error, STATUS_UNREACHABLE, "the other process takes no message: %s",
                         strerror(errno));
    }
    return STATUS_OK;
}

bool channel_is_ready(int end, int wait_ms)
{
    struct pollfd look = {.fd = end, .events = POLLIN};
    return poll(&look, 1, wait_ms) > 0;
}

/* 0: all of it; else STATUS_UNREACHABLE. */
static enum status receive_all(int end, uint8_t *bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = recv(end, bytes + done, size - done, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return STATUS_UNREACHABLE;
        }
        done += (size_t)got;
    }
    return STATUS_OK;
}

static void take_descriptors(struct msghdr *message, int descriptors[CHANNEL_DESCRIPTORS_MAX])
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
            size_t size = head->cmsg_len - CMSG_LEN(0);
            memcpy(descriptors, CMSG_DATA(head), size);
        }
    }
}

static enum status receive_header(int end, uint8_t header[HEADER_BYTES],
                                  int descriptors[CHANNEL_DESCRIPTORS_MAX])
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(CHANNEL_DESCRIPTORS_MAX * sizeof(int))];
    struct iovec bytes = {.iov_base = header, .iov_len = HEADER_BYTES};
    struct msghdr message = {.msg_iov = &bytes,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t got;
    memset(control, 0, sizeof control);
    do {
        got = recvmsg(end, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return STATUS_UNREACHABLE;
    }
    take_descriptors(&message, descriptors);
    return receive_all(end, header + got, HEADER_BYTES - (size_t)got);
}

enum status channel_receive(int end, struct channel_message *ret_message, struct error *ret_error)
{
    uint8_t header[HEADER_BYTES];
    struct channel_message message = {.descriptors = {-1, -1}};
    enum status status = receive_header(end, header, message.descriptors);
    if (status == STATUS_OK) {
        message.size = slice_load_u32le(header);
        message.kind = slice_load_u32le(header + 4);
        if (message.size > CHANNEL_PAYLOAD_MAX) {
            status = STATUS_PROTOCOL;
        } else if (message.size > 0 && (message.payload = malloc(message.size)) == NULL) {
            status = STATUS_MEMORY;
        } else {
            status = receive_all(end, message.payload, message.size);
        }
    }
    if (status != STATUS_OK) {
        channel_message_free(&message);
        return error_set(ret_error, status, "%s",
                         status == STATUS_MEMORY ? "out of memory"
                         : status == STATUS_PROTOCOL
                             ? "the other process sends what is no message"
                             : "the other process has ended, or says nothing");
    }
    *ret_message = message;
    return STATUS_OK;
}

void channel_message_free(struct channel_message *message)
{
    for (size_t i = 0; i < CHANNEL_DESCRIPTORS_MAX; i++) {
        if (message->descriptors[i] >= 0) {
            (void)close(message->descriptors[i]);
        }
        message->descriptors[i] = -1;
    }
    free(message->payload);
    message->payload = NULL;
    message->size = 0;
}
