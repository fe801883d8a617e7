/*
 * Small sends that wait for the end of the loop's turn: nothing is lost, doubled or out of order,
 * whether they leave by io_uring or one by one, and what goes wrong is told. The peers are sockets
 * that the test reads itself.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "holdfast/write_permit.h"
#include "net/send_queue.h"
#include "net/send_ring.h"
#include "net/stream.h"

/* More than go at a time. */
#define STREAMS (SEND_QUEUE_STREAMS + 6u)
#define LARGE (SEND_QUEUE_STREAM_BYTES + 1u)
#define TEXT_BYTES 32u

struct end {
    struct stream stream;
    int peer;
    bool drained;
    enum status received;
};

struct rig {
    struct worker_pool *pool;
    struct end ends[STREAMS];
    struct worker_task task;
    struct worker_task second_task;
    sem_t done;
    sem_t go_on;
    void (*act)(struct rig *rig);
};

static bool with_ring;

static struct rig *rig_of_task(struct worker_task *task)
{
    return (struct rig *)(void *)((uint8_t *)task - offsetof(struct rig, task));
}

static void on_task(struct worker_task *task)
{
    struct rig *rig = rig_of_task(task);
    rig->act(rig);
    (void)sem_post(&rig->done);
}

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0) {
    }
}

/* Within one turn of the loop. */
static void run(struct rig *rig, void (*act)(struct rig *rig))
{
    rig->act = act;
    rig->task.run = on_task;
    worker_post(worker_pool_get(rig->pool, 0), &rig->task);
    wait_for(&rig->done);
}

static void on_readable(void *context)
{
    struct end *end = context;
    uint8_t memory[64];
    size_t size = 0;
    end->received = stream_receive(&end->stream, memory, sizeof memory, &size);
}

static void on_drained(void *context)
{
    struct end *end = context;
    end->drained = true;
}

static const struct stream_callbacks callbacks = {.readable = on_readable, .drained = on_drained};

static void open_streams(struct rig *rig)
{
    const struct timeval patience = {.tv_sec = 5}; /* what never comes is to fail, not to hang */
    for (size_t i = 0; i < STREAMS; i++) {
        struct end *end = &rig->ends[i];
        int sockets[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
        assert_int_equal(fcntl(sockets[0], F_SETFL, O_NONBLOCK), 0);
        assert_int_equal(
            setsockopt(sockets[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
        end->peer = sockets[1];
        end->received = STATUS_NOT_FOUND;
        stream_init(&end->stream);
        end->stream.gathers = true;
        assert_int_equal(
            stream_open(&end->stream, worker_pool_get(rig->pool, 0), sockets[0], &callbacks, end),
            STATUS_OK);
    }
}

static void close_streams(struct rig *rig)
{
    for (size_t i = 0; i < STREAMS; i++) {
        stream_close(&rig->ends[i].stream);
    }
}

static struct rig *rig_new(void)
{
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    (void)sem_init(&rig->done, 0, 0);
    (void)sem_init(&rig->go_on, 0, 0);
    assert_int_equal(worker_pool_start(1, &rig->pool, NULL), STATUS_OK);
    if (with_ring) {
        worker_pool_allow_ring(rig->pool);
    }
    run(rig, open_streams);
    return rig;
}

static void rig_free(struct rig *rig)
{
    run(rig, close_streams);
    worker_pool_stop(rig->pool);
    for (size_t i = 0; i < STREAMS; i++) {
        (void)close(rig->ends[i].peer);
    }
    (void)sem_destroy(&rig->done);
    (void)sem_destroy(&rig->go_on);
    free(rig);
}

static void send_text(struct rig *rig, size_t stream, const char *what)
{
    char text[TEXT_BYTES];
    int size = snprintf(text, sizeof text, "%s %zu;", what, stream);
    assert_int_equal(
        stream_send(&rig->ends[stream].stream, slice_make((const uint8_t *)text, (size_t)size)),
        STATUS_OK);
}

/* Until it has all, or the end. A thread that has closed a ring is woken up once for that: EINTR.
 */
static ssize_t receive(const struct rig *rig, size_t stream, void *memory, size_t size)
{
    size_t received = 0;
    while (received < size) {
        ssize_t some = recv(rig->ends[stream].peer, (char *)memory + received, size - received, 0);
        if (some < 0 && errno == EINTR) {
            continue;
        }
        if (some <= 0) {
            return received == 0 ? some : (ssize_t)received;
        }
        received += (size_t)some;
    }
    return (ssize_t)received;
}

static void assert_arrives(const struct rig *rig, size_t stream, const char *what)
{
    char expected[TEXT_BYTES];
    char found[TEXT_BYTES] = "";
    int size = snprintf(expected, sizeof expected, "%s %zu;", what, stream);
    assert_int_equal(receive(rig, stream, found, (size_t)size), size);
    assert_string_equal(found, expected);
}

static void assert_nothing(const struct rig *rig, size_t stream)
{
    char found;
    assert_int_equal(recv(rig->ends[stream].peer, &found, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static uint8_t large[LARGE];

static void assert_large_arrives(const struct rig *rig, size_t stream)
{
    static uint8_t found[LARGE];
    assert_int_equal(receive(rig, stream, found, sizeof found), sizeof found);
    assert_memory_equal(found, large, sizeof found);
}

/* ------------------------------------------------------------------ tests */

static void send_several(struct rig *rig)
{
    for (size_t i = 0; i < STREAMS; i++) {
        send_text(rig, i, "first");
    }
    assert_nothing(rig, STREAMS - 1);
    for (size_t i = 0; i < STREAMS; i += 3) {
        assert_int_equal(stream_send(&rig->ends[i].stream, slice_make(large, sizeof large)),
                         STATUS_OK);
    }
    for (size_t i = 0; i < STREAMS; i++) {
        send_text(rig, i, "last");
    }
}

static void test_all_arrive_in_order(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    for (size_t i = 0; i < sizeof large; i++) {
        large[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    for (int turn = 0; turn < 3; turn++) {
        run(rig, send_several);
        for (size_t i = 0; i < STREAMS; i++) {
            assert_arrives(rig, i, "first");
            if (i % 3 == 0) {
                assert_large_arrives(rig, i);
            }
            assert_arrives(rig, i, "last");
            assert_nothing(rig, i);
        }
    }
    rig_free(rig);
}

static void send_and_flush_one(struct rig *rig)
{
    send_text(rig, 0, "waits");
    send_text(rig, 1, "goes");
    stream_flush(&rig->ends[1].stream);
    assert_arrives(rig, 1, "goes");
    assert_nothing(rig, 0);
}

static void test_flush_sends_at_once(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    run(rig, send_and_flush_one);
    assert_arrives(rig, 0, "waits");
    assert_nothing(rig, 1);
    rig_free(rig);
}

/* Of each of two streams 64 pieces a turn, so that the kernel is full at some of them. */
static size_t pieces_sent;

static void send_pieces(struct rig *rig)
{
    char piece[101];
    for (int i = 0; i < 64; i++, pieces_sent++) {
        (void)snprintf(piece, sizeof piece, "%100zu", pieces_sent);
        for (size_t s = 0; s < 2; s++) {
            assert_int_equal(
                stream_send(&rig->ends[s].stream, slice_make((const uint8_t *)piece, 100)),
                STATUS_OK);
        }
    }
}

static void assert_is_drained(struct rig *rig)
{
    for (size_t s = 0; s < 2; s++) {
        assert_true(rig->ends[s].drained);
        assert_int_equal(stream_pending(&rig->ends[s].stream), 0);
    }
}

static void test_what_the_kernel_does_not_take_is_kept(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    pieces_sent = 0;
    for (int turn = 0; turn < 300; turn++) {
        run(rig, send_pieces);
    }
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < pieces_sent; i++) {
            char expected[101];
            char found[101] = "";
            (void)snprintf(expected, sizeof expected, "%100zu", i);
            assert_int_equal(receive(rig, s, found, 100), 100);
            assert_string_equal(found, expected);
        }
        assert_nothing(rig, s);
    }
    run(rig, assert_is_drained);
    rig_free(rig);
}

static void send_and_end(struct rig *rig)
{
    for (size_t i = 0; i < 4; i++) {
        send_text(rig, i, "bye");
    }
    stream_close(&rig->ends[0].stream);
    stream_abort(&rig->ends[1].stream);
    assert_true(stream_shutdown(&rig->ends[2].stream));
}

static void test_an_end_comes_behind_what_was_sent(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    char none;
    run(rig, send_and_end);
    assert_arrives(rig, 0, "bye");
    assert_int_equal(receive(rig, 0, &none, 1), 0);
    assert_int_equal(receive(rig, 1, &none, 1), 0); /* of an abort nothing but the end */
    assert_arrives(rig, 2, "bye");
    assert_int_equal(receive(rig, 2, &none, 1), 0);
    assert_arrives(rig, 3, "bye");
    assert_nothing(rig, 3);
    rig_free(rig);
}

static void break_one(struct rig *rig)
{
    for (size_t i = 0; i < 3; i++) {
        send_text(rig, i, "now");
    }
    (void)close(
        rig->ends[1].peer); /* behind the loop's back: its event comes later than the send */
    rig->ends[1].peer = -1;
}

static void assert_one_is_broken(struct rig *rig)
{
    assert_int_equal(rig->ends[1].received, STATUS_UNREACHABLE);
    assert_true(rig->ends[1].stream.ended && rig->ends[1].stream.broken);
    assert_int_equal(stream_send(&rig->ends[1].stream, slice_make(large, 1)), STATUS_UNREACHABLE);
    assert_int_equal(rig->ends[0].received, STATUS_NOT_FOUND);
    assert_false(rig->ends[0].stream.ended || rig->ends[2].stream.ended);
}

static void nothing(struct rig *rig)
{
    (void)rig;
}

static void test_a_break_is_told_and_is_nobody_elses(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    run(rig, break_one);
    assert_arrives(rig, 0, "now");
    assert_arrives(rig, 2, "now");
    run(rig, nothing);
    run(rig, assert_one_is_broken);
    rig_free(rig);
}

/* Of ends 0 and 1: a peer that has answered, will answer no more, and takes nothing. */
static void refuse_all(struct rig *rig)
{
    rig->ends[1].stream.gathers = false;
    rig->ends[1].stream.sends = NULL;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(send(rig->ends[i].peer, "answer", 6, 0), 6);
        assert_int_equal(shutdown(rig->ends[i].peer, SHUT_RDWR), 0);
    }
    send_text(rig, 0, "late");
    assert_int_equal(stream_send(&rig->ends[1].stream, slice_make(large, 1)), STATUS_UNREACHABLE);
}

static void read_to_the_end(struct rig *rig)
{
    for (size_t i = 0; i < 2; i++) {
        uint8_t memory[64];
        size_t size = 0;
        while (stream_receive(&rig->ends[i].stream, memory, sizeof memory, &size) == STATUS_OK) {
        }
        assert_true(rig->ends[i].stream.ended);
    }
    /* Nobody was told that what is behind the last answer was not sent: so its end is a break. */
    assert_true(rig->ends[0].stream.broken);
    /* Who was told decides by the end of the answer whether it is whole. */
    assert_false(rig->ends[1].stream.broken);
}

static void test_an_answer_before_a_failed_send_is_read(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    run(rig, refuse_all);
    run(rig, nothing); /* the loop has seen what came in the turn before */
    run(rig, read_to_the_end);
    rig_free(rig);
}

static void send_nothing(struct rig *rig)
{
    assert_int_equal(stream_send(&rig->ends[0].stream, slice_make(NULL, 0)), STATUS_OK);
    assert_null(rig->ends[0].stream.queued);
}

static void test_nothing_is_not_queued(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    run(rig, send_nothing);
    rig_free(rig);
}

static void send_with_and_without_permit(struct rig *rig)
{
    rig->ends[1].stream.transport = &stream_transport_permitted;
    write_permit_set(true);
    for (size_t i = 0; i < 3; i++) {
        send_text(rig, i, "now");
    }
    write_permit_set(false); /* it is asked for when they leave, not before */
}

static void test_nothing_leaves_without_a_permit(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    char none;
    run(rig, send_with_and_without_permit);
    assert_arrives(rig, 0, "now");
    assert_arrives(rig, 2, "now");
    assert_int_equal(receive(rig, 1, &none, 1), 0);
    run(rig, nothing);
    run(rig, assert_one_is_broken);
    write_permit_set(true);
    rig_free(rig);
}

static void block(struct rig *rig)
{
    wait_for(&rig->go_on);
}

static void on_second_task(struct worker_task *task)
{
    struct rig *rig = (struct rig *)(void *)((uint8_t *)task - offsetof(struct rig, second_task));
    send_text(rig, 0, "end");
    send_text(rig, 1, "end");
}

static void *end_pool(void *pool)
{
    worker_pool_end(pool);
    return NULL;
}

/* The task that sends and the one that ends the loop are taken from the mailbox together, so that
   the loop is broken off within the turn. */
static void test_the_last_turn_sends_too(void **state)
{
    (void)state;
    struct rig *rig = rig_new();
    pthread_t ender;
    rig->act = block;
    rig->task.run = on_task;
    worker_post(worker_pool_get(rig->pool, 0), &rig->task);
    rig->second_task.run = on_second_task;
    (void)usleep(20000);
    worker_post(worker_pool_get(rig->pool, 0), &rig->second_task);
    assert_int_equal(pthread_create(&ender, NULL, end_pool, rig->pool), 0);
    (void)usleep(20000);
    (void)sem_post(&rig->go_on);
    (void)pthread_join(ender, NULL);
    assert_arrives(rig, 0, "end");
    assert_arrives(rig, 1, "end");
    worker_pool_stop(rig->pool);
    for (size_t i = 0; i < STREAMS; i++) {
        (void)close(rig->ends[i].stream.descriptor);
        (void)close(rig->ends[i].peer);
    }
    (void)sem_destroy(&rig->done);
    (void)sem_destroy(&rig->go_on);
    free(rig);
}

static int one_by_one(void **state)
{
    (void)state;
    with_ring = false;
    return 0;
}

static int by_ring(void **state)
{
    (void)state;
    with_ring = true;
    struct send_ring *ring = send_ring_new(1);
    if (ring == NULL) {
        print_message("no io_uring here (%s): they are sent one by one again\n", strerror(errno));
    }
    send_ring_free(ring);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_arrive_in_order),
        cmocka_unit_test(test_flush_sends_at_once),
        cmocka_unit_test(test_what_the_kernel_does_not_take_is_kept),
        cmocka_unit_test(test_an_end_comes_behind_what_was_sent),
        cmocka_unit_test(test_a_break_is_told_and_is_nobody_elses),
        cmocka_unit_test(test_an_answer_before_a_failed_send_is_read),
        cmocka_unit_test(test_nothing_is_not_queued),
        cmocka_unit_test(test_nothing_leaves_without_a_permit),
        cmocka_unit_test(test_the_last_turn_sends_too),
    };
    int failed = cmocka_run_group_tests_name("one by one", tests, one_by_one, NULL);
    return failed + cmocka_run_group_tests_name("by io_uring", tests, by_ring, NULL);
}
