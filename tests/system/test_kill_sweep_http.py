"""At each named step of an API call's unit the service dies, the server, or all with the proxy.
They come back in any order; the call is whole or absent, and whole if its caller was told so; the next
call goes through.
"""

import http.client
import itertools
import pathlib
import sys
import threading
import time

import pytest
from conftest import Stack
from four_writes import Script
from holdfast_testing import Proxy, Server, port_for_restarts, wait_until
from holdfast_testing.service import Service
from http_stack import call
from kill_orders import FULL, KEPT_SECONDS, ORDERS, bring_back, serves, wait_stopped

SERVICE = pathlib.Path(__file__).parent / "four_writes_service.py"
EACH_WRITE = (1, 2, 3, 4)
POINTS = {
    "unit_locked": (201, EACH_WRITE),
    "unit_journaled": (201, EACH_WRITE),
    "unit_sent": (201, EACH_WRITE),
    "unit_answered": (201, EACH_WRITE),
    "unit_replied": (201, EACH_WRITE),
    "commit_requested": (201, (1,)),
    "commit_durable": (201, (1,)),
    "abort_requested": (500, (1,)),
    "undo_checked": (500, (1,)),
    "undo_restored": (500, EACH_WRITE),
    "abort_undone": (500, (1,)),
    "abort_durable": (500, (1,)),
}
VICTIMS = {
    "service": ("service",),
    "server": ("server",),
    "service and proxy": ("service", "proxy"),
    "all": ("service", "proxy", "server"),
}


def cases():
    """Each step with one of the victims in turn, all of them if FULL."""
    orders, victims_turn = itertools.cycle(ORDERS), itertools.cycle(VICTIMS)
    made = []
    for place, (point, (status, times)) in enumerate(POINTS.items()):
        for victims in VICTIMS if FULL else (next(victims_turn),):
            for number in times if FULL else (times[place % len(times)],):
                for order in ORDERS if FULL else (next(orders),):
                    made.append((f"{point}:{number}", status, victims, order))
    return made


class CallStack:
    """Server, proxy with --http-listen, and the service behind it."""

    def __init__(self):
        self.server = Server()
        self.direct = self.server.client()
        self.http_port, port = port_for_restarts(), port_for_restarts()
        self.proxy = Proxy(
            self.server,
            {"upstream.fenceWait": "100ms", "http.quietPeriod": "300ms"},
            options=[
                *("--http-listen", f"127.0.0.1:{self.http_port}"),
                *("--http-service", f"127.0.0.1:{port}"),
            ],
        )
        arguments = [sys.executable, str(SERVICE), str(port), self.proxy.uri]
        self.service = Service("service", arguments, port)

    stored = Stack.stored

    def close(self):
        self.service.kill()
        self.direct.close()
        self.proxy.close()
        self.server.close()


@pytest.fixture(scope="module")
def swept():
    made = CallStack()
    yield made
    assert made.proxy.stop() == 0
    made.close()


class Caller:
    """A call on a thread of its own: its status, None without a whole answer."""

    def __init__(self, port, path):
        self.status = None
        self._thread = threading.Thread(target=self._run, args=(port, path), daemon=True)
        self._thread.start()

    def _run(self, port, path):
        try:
            self.status = call(port, path, timeout=30).status
        except (OSError, http.client.HTTPException):
            pass

    def end(self):
        self._thread.join(40)
        assert not self._thread.is_alive(), "the call has not ended"
        return self.status


def call_goes_through(stack, name):
    """Also the fence of what was cut off is over."""
    script = Script(stack, name)
    time.sleep(0.05)

    def answered():
        try:
            return call(stack.http_port, f"/{name}/201").status == 201
        except (OSError, http.client.HTTPException):
            return False

    wait_until(answered, 30, "calls are admitted again", 0.2)
    script.told = {"wanted": None, "committed": None}
    assert script.check(stack)


@pytest.mark.parametrize("point,status,victims,order", cases())
def test_kill_in_a_call(swept, name, point, status, victims, order):
    stack = swept
    script = Script(stack, name)
    kept = time.monotonic() + KEPT_SECONDS
    stack.proxy.kill()
    stack.proxy.start(stop_at=point)
    wait_until(
        lambda: any(entry["msg"] == "Domain open" for entry in stack.proxy.log()),
        20,
        "the fence of the start is over",
    )
    call(stack.service.port, "/", method="GET")  # it has connected again
    time.sleep(max(0, kept - time.monotonic()))
    caller = Caller(stack.http_port, f"/{name}/{status}")
    assert wait_stopped(stack.proxy, seconds=10), f"{point} was not reached"
    killed = VICTIMS[victims]
    if "service" in killed:
        stack.service.kill()
    bring_back(stack, killed, order)
    if "service" in killed:
        stack.service.start()
    script.told = {"wanted": None} if status == 201 else {}
    if caller.end() == 201:
        script.told["committed"] = None
    serves(stack, name)
    is_whole = script.check(stack)
    call_goes_through(stack, name + "next")
    script.check_unlocked(stack)
    assert script.check(stack) == is_whole
    stack.proxy.verify()
