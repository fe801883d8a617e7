/* Two streams that are each other's peer: as sockets are, but in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/stream_pair.h"

struct end {
    struct stream stream;
    int readable;
    int drained;
};

static void on_readable(void *context)
{
    ((struct end *)context)->readable++;
}

static void on_drained(void *context)
{
    ((struct end *)context)->drained++;
}

static const struct stream_callbacks callbacks = {.readable = on_readable, .drained = on_drained};

static struct event_base *base;
static struct end one;
static struct end other;
static uint8_t memory[4u * STREAM_PAIR_BYTES_MAX];

static int open_pair(void **state)
{
    (void)state;
    base = event_base_new();
    struct end *const ends[] = {&one, &other};
    struct stream_pair_end given[2];
    for (size_t i = 0; i < 2; i++) {
        memset(ends[i], 0, sizeof *ends[i]);
        stream_init(&ends[i]->stream);
        ends[i]->stream.half_open = true;
        given[i] = (struct stream_pair_end){
            .stream = &ends[i]->stream, .callbacks = &callbacks, .context = ends[i]};
    }
    assert_int_equal(stream_pair_open(base, &given[0], &given[1]), STATUS_OK);
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    stream_close(&one.stream);
    stream_close(&other.stream);
    stream_close(&other.stream);
    event_base_free(base);
    return 0;
}

static void turn(void)
{
    (void)event_base_loop(base, EVLOOP_NONBLOCK);
}

static enum status receive(struct end *end, size_t wanted, size_t *ret_size)
{
    return stream_receive(&end->stream, memory, wanted, ret_size);
}

static void test_bytes_come_from_the_loop(void **state)
{
    size_t size = 0;
    (void)state;
    assert_true(stream_pair_is_quiet(&other.stream));
    assert_int_equal(stream_send(&one.stream, slice_text("hello")), STATUS_OK);
    assert_int_equal(other.readable, 0);
    assert_false(stream_pair_is_quiet(&other.stream));
    turn();
    assert_int_equal(other.readable, 1);
    assert_int_equal(receive(&other, 2, &size), STATUS_OK);
    assert_int_equal(size, 2);
    assert_int_equal(receive(&other, 100, &size), STATUS_OK);
    assert_int_equal(size, 3);
    assert_memory_equal(memory, "llo", 3);
    assert_int_equal(receive(&other, 100, &size), STATUS_NOT_FOUND);
    turn();
    assert_int_equal(other.readable, 1);
    assert_int_equal(one.readable, 0);
}

/* What does not fit waits with its sender, and follows when there is room. */
static void test_no_more_than_fits(void **state)
{
    static uint8_t bytes[STREAM_PAIR_BYTES_MAX + 1000];
    size_t size = 0;
    (void)state;
    assert_int_equal(stream_send(&one.stream, slice_make(bytes, sizeof bytes)), STATUS_OK);
    assert_int_equal(stream_pending(&one.stream), 1000);
    turn();
    assert_int_equal(one.drained, 0);
    assert_int_equal(receive(&other, 10, &size), STATUS_OK);
    turn();
    assert_int_equal(stream_pending(&one.stream), 990);
    assert_int_equal(receive(&other, sizeof memory, &size), STATUS_OK);
    assert_int_equal(size, STREAM_PAIR_BYTES_MAX);
    turn();
    assert_int_equal(stream_pending(&one.stream), 0);
    assert_int_equal(one.drained, 1);
    assert_int_equal(receive(&other, sizeof memory, &size), STATUS_OK);
    assert_int_equal(size, 990);
}

static void test_an_end_comes_behind_the_bytes(void **state)
{
    size_t size = 0;
    (void)state;
    assert_int_equal(stream_send(&one.stream, slice_text("last")), STATUS_OK);
    stream_close(&one.stream);
    turn();
    assert_int_equal(other.readable, 1);
    assert_false(stream_pair_has_ended(&other.stream));
    assert_int_equal(receive(&other, 100, &size), STATUS_OK);
    assert_true(stream_pair_has_ended(&other.stream));
    assert_int_equal(receive(&other, 100, &size), STATUS_UNREACHABLE);
    assert_false(other.stream.broken);
    assert_int_equal(stream_send(&other.stream, slice_text("x")), STATUS_UNREACHABLE);
}

static void test_one_direction_ends(void **state)
{
    size_t size = 0;
    (void)state;
    assert_true(stream_shutdown(&one.stream));
    turn();
    assert_int_equal(receive(&other, 100, &size), STATUS_UNREACHABLE);
    assert_false(other.stream.broken);
    assert_int_equal(stream_send(&other.stream, slice_text("answer")), STATUS_OK);
    turn();
    assert_int_equal(receive(&one, 100, &size), STATUS_OK);
    assert_int_equal(size, 6);
}

static void test_an_abort_breaks_at_once(void **state)
{
    size_t size = 0;
    (void)state;
    assert_int_equal(stream_send(&one.stream, slice_text("lost")), STATUS_OK);
    stream_abort(&one.stream);
    turn();
    assert_int_equal(receive(&other, 100, &size), STATUS_UNREACHABLE);
    assert_true(other.stream.broken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes_come_from_the_loop, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_no_more_than_fits, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_an_end_comes_behind_the_bytes, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_one_direction_ends, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_an_abort_breaks_at_once, open_pair, close_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
