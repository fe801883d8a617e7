/*
 * Messages and descriptors between two processes: what is sent comes whole and in order, with its
 * descriptors; the end, and what is no message, is told.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/channel.h"

static int ends[2];

static int before(void **state)
{
    struct error error;
    (void)state;
    return channel_pair(ends, &error) == STATUS_OK ? 0 : -1;
}

static int after(void **state)
{
    (void)state;
    (void)close(ends[0]);
    (void)close(ends[1]);
    return 0;
}

static struct channel_message receive(void)
{
    struct channel_message message;
    struct error error = {0};
    if (channel_receive(ends[1], &message, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return message;
}

static void test_message_with_descriptors(void **state)
{
    struct error error;
    int pipes[2];
    char byte = 'x';
    (void)state;
    assert_int_equal(pipe(pipes), 0);
    assert_false(channel_is_ready(ends[1], 0));
    assert_int_equal(channel_send(ends[0], 7, slice_text("hello"), pipes, 2, &error), STATUS_OK);
    assert_int_equal(channel_send(ends[0], 8, (struct slice){0}, NULL, 0, &error), STATUS_OK);
    assert_true(channel_is_ready(ends[1], 0));
    struct channel_message first = receive();
    assert_int_equal(first.kind, 7);
    assert_int_equal(first.size, 5);
    assert_memory_equal(first.payload, "hello", 5);
    assert_true((fcntl(first.descriptors[0], F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(write(first.descriptors[1], "y", 1), 1);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    int taken = first.descriptors[0];
    channel_message_free(&first);
    assert_int_equal(fcntl(taken, F_GETFD), -1);
    channel_message_free(&first);
    struct channel_message second = receive();
    assert_int_equal(second.kind, 8);
    assert_int_equal(second.size, 0);
    assert_int_equal(second.descriptors[0], -1);
    channel_message_free(&second);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

#define LARGE_BYTES (3u * 1024u * 1024u)

static void *send_large(void *memory)
{
    struct error error;
    return channel_send(ends[0], 1, slice_make(memory, LARGE_BYTES), NULL, 0, &error) == STATUS_OK
               ? memory
               : NULL;
}

/* More than a socket holds. */
static void test_large_message(void **state)
{
    pthread_t sender;
    void *sent = NULL;
    uint8_t *memory = malloc(LARGE_BYTES);
    (void)state;
    assert_non_null(memory);
    memset(memory, 'm', LARGE_BYTES);
    assert_int_equal(pthread_create(&sender, NULL, send_large, memory), 0);
    struct channel_message message = receive();
    assert_int_equal(pthread_join(sender, &sent), 0);
    assert_ptr_equal(sent, memory);
    assert_int_equal(message.size, LARGE_BYTES);
    assert_memory_equal(message.payload, memory, LARGE_BYTES);
    channel_message_free(&message);
    free(memory);
}

static void test_the_end(void **state)
{
    struct channel_message message;
    struct error error;
    (void)state;
    assert_int_equal(send(ends[0], "\5\0\0", 3, 0), 3); /* in the middle of a header */
    assert_int_equal(shutdown(ends[0], SHUT_RDWR), 0);
    assert_true(channel_is_ready(ends[1], 0));
    assert_int_equal(channel_receive(ends[1], &message, &error), STATUS_UNREACHABLE);
    assert_int_equal(channel_receive(ends[1], &message, &error), STATUS_UNREACHABLE);
    assert_int_equal(channel_send(ends[1], 1, slice_text("x"), NULL, 0, &error),
                     STATUS_UNREACHABLE);
}

static void test_too_large(void **state)
{
    static const uint8_t header[8] = {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0};
    struct channel_message message;
    struct error error;
    (void)state;
    assert_int_equal(send(ends[0], header, sizeof header, 0), sizeof header);
    assert_int_equal(channel_receive(ends[1], &message, &error), STATUS_PROTOCOL);
    assert_int_equal(
        channel_send(ends[0], 1, slice_make(header, CHANNEL_PAYLOAD_MAX + 1), NULL, 0, &error),
        STATUS_INVALID);
}

static void test_what_is_no_channel(void **state)
{
    struct error error;
    int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)state;
    assert_int_equal(channel_inherited(other, &error), STATUS_INVALID);
    assert_int_equal(channel_inherited(0, &error), STATUS_INVALID);
    assert_int_equal(channel_inherited(-1, &error), STATUS_INVALID);
    assert_int_equal(channel_inherited(1000000, &error), STATUS_INVALID);
    assert_int_equal(channel_inherited(ends[0], &error), STATUS_OK);
    (void)close(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, before, after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_message_with_descriptors),
        TEST(test_large_message),
        TEST(test_the_end),
        TEST(test_too_large),
        TEST(test_what_is_no_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
