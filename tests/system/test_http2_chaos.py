"""Callers that do anything, over a service that comes and goes: afterwards nothing is left of it."""

import contextlib
import random
import struct
import threading
import time

import grpc
import h2.exceptions
from grpc_stack import Caller, GrpcStack
from holdfast_testing import http2, wait_until

SECONDS = 4
SETTINGS = {
    "http.callTimeout": "500ms",
    "http.quietPeriod": "100ms",
    "http.queueWait": "1s",
    "http.routes": "!POST /query/*",
    "http.maxAnswer": "200KiB",
}


def serve(stack, rng):
    def add(_, context):
        stack.collection("chaos").insert_one({})
        time.sleep(rng.choice((0, 0, 0, 0.2)))
        if rng.random() < 0.2:
            context.abort(grpc.StatusCode.ABORTED, "no")
        return {"text": "y" * rng.choice((1, 1000, 100_000, 300_000))}

    def answers(*_):
        for number in range(rng.choice((1, 10, 2000))):
            yield {"n": number, "text": "z" * 100}

    stack.service.on("/a.B/Add", add)
    stack.service.on("/query/List", answers, "server")
    stack.service.on("/query/Echo", lambda requests, _: iter(requests), "both")


def grpc_calls(stack, rng, until):
    while time.monotonic() < until:
        with Caller(stack.http_port) as caller, contextlib.suppress(grpc.RpcError):
            for _ in range(rng.randint(1, 20)):
                patience = rng.choice((0.02, 0.2, 3))
                kind = rng.randrange(3)
                if kind == 0:
                    text = "x" * rng.choice((1, 90_000, 300_000))
                    caller.call("/a.B/Add", {"text": text}, timeout=patience)
                elif kind == 1:
                    listed = caller.method("/query/List", "server")({}, timeout=patience)
                    for _ in listed:
                        if rng.random() < 0.005:
                            listed.cancel()
                else:
                    asked = iter([{"text": "e" * 20_000}] * rng.randint(1, 30))
                    for _ in caller.method("/query/Echo", "both")(asked, timeout=patience):
                        pass


def raw_calls(stack, rng, until):
    message = b"\0" + struct.pack(">I", 2) + b"{}"
    headers = [("content-type", "application/grpc"), ("te", "trailers")]
    while time.monotonic() < until:
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            window = rng.choice((0, 10, 65535, 1 << 20))
            with http2.Caller(stack.http_port, window=window, acknowledges=rng.random() < 0.7) as it:
                streams = []
                for _ in range(rng.randint(1, 30)):
                    path = rng.choice(("/a.B/Add", "/query/List", "/query/None"))
                    end = rng.random() < 0.8
                    streams.append(it.begin("POST", path, message, headers=headers, end=end))
                    if rng.random() < 0.4:
                        it.reset(rng.choice(streams))
                    if rng.random() < 0.3:
                        it.receive(0.02)


def come_and_go(stack, rng, until):
    while time.monotonic() < until:
        time.sleep(rng.random())
        stack.service.stop(rng.choice((None, 0.2))).wait(5)
        stack.service.restart()


def test_nothing_is_left_of_it(seed):
    with GrpcStack(SETTINGS) as stack:
        serve(stack, random.Random(seed))
        until = time.monotonic() + SECONDS
        threads = [
            threading.Thread(target=work, args=(stack, random.Random(seed + number), until))
            for number, work in enumerate(
                (grpc_calls, grpc_calls, raw_calls, raw_calls, come_and_go)
            )
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        stack.service.errors.clear()
        stack.settled()
        stack.caller.close()
        wait_until(lambda: stack.figures()["callsOpen"] == 0, 10, "no call is open")
        wait_until(lambda: stack.descriptors() < 60, 10, "connections are closed")
