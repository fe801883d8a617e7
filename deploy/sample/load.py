"""The callers: they call the orchestrator, think, hang up in mid-call now and then, and go on.

A 503 with Retry-After is tried again after a short wait, as a new call under a new token: the one
before may be whole or absent, like everything that was not acknowledged. A 500 makes callers wait
as well.
"""

import random
import threading
import time

from calls import request_of
from holdfast_testing import HttpCall, NotConnected
from planner import Planner, SharedGroup

CALLERS = 8
HANG_UPS = 0.05  # of all calls
CALL_TIMEOUT = 60
WAIT_AT_MOST = 0.3  # seconds, of what Retry-After asks for: the demo is short
WAIT_AFTER_500 = 0.6


class Load:
    """At least `count` calls at `port` by CALLERS threads, besides those that were answered 503.

    It goes on until `enough` is set as well.
    """

    def __init__(self, port, count, seed):
        self.port, self.count, self.seed = port, count, seed
        self.enough = threading.Event()
        self.calls = []
        self.acknowledged = 0
        self.sent = 0
        self.busy = 0  # calls that were answered 503
        self.stuck = []  # 409: the service met what an earlier call had left half done
        self.odd = []  # answers that nobody should get
        self.failure = None
        self._changed = threading.Condition()
        self._shared = SharedGroup()
        self._threads = [
            threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CALLERS)
        ]

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def over(self):
        return not any(thread.is_alive() for thread in self._threads)

    def made(self):
        """The calls that count."""
        return len(self.calls) - self.busy

    def wait_for(self, made, acknowledged, timeout):
        """Until so many were made and acknowledged, or the load or the timeout is over."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self.made() < made or self.acknowledged < acknowledged:
                if self.over() or time.monotonic() > deadline:
                    return
                self._changed.wait(0.2)

    def wait_for_a_call(self, timeout):
        """Until one more was sent, or the timeout is over."""
        with self._changed:
            sent = self.sent
            self._changed.wait_for(lambda: self.sent > sent, timeout)

    def _run(self, number):
        try:
            chance = random.Random(f"{self.seed}.{number}")
            planner = Planner(number, chance, self._shared)
            again = None
            while self.failure is None and not (self.made() >= self.count and self.enough.is_set()):
                time.sleep(chance.uniform(0, 0.02))  # callers think
                call = planner.next_call(again)
                with self._changed:
                    self.calls.append(call)
                self._make(call, chance)
                planner.done(call)
                again = call.kind if call.outcome == "503" else None
        except BaseException as error:  # noqa: BLE001 (shown by the round)
            self.failure = error
            raise

    def _make(self, call, chance):
        hangs_up_after = chance.uniform(0.001, 0.1) if chance.random() < HANG_UPS else None
        wait = 0
        try:
            with self._send(request_of(call, chance)) as under_way:
                with self._changed:
                    self.sent += 1
                    self._changed.notify_all()
                if hangs_up_after is None:
                    wait = self._take_answer(call, under_way.answer())
                else:
                    time.sleep(hangs_up_after)
                    call.outcome = "hung up"
        except OSError:
            call.outcome = "no answer"
            wait = 0.05
        with self._changed:
            self.acknowledged += call.acknowledged
            self.busy += call.outcome == "503"
            self._changed.notify_all()
        time.sleep(wait)

    def _send(self, what):
        """A call that finds nobody listening was not made: it waits until somebody does."""
        deadline = time.monotonic() + CALL_TIMEOUT
        while True:
            try:
                return HttpCall(self.port, *what, timeout=CALL_TIMEOUT)
            except NotConnected:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.03)

    def _take_answer(self, call, answer):
        """Returns how long to wait before the next call."""
        call.outcome = str(answer.status)
        if answer.status == 409:
            self.stuck.append((call, answer.body))
        elif answer.status == 503:
            after = answer.headers.get("Retry-After", "")
            if not after.isdigit():
                self.odd.append((call, f"503 with Retry-After {after!r}"))
                return WAIT_AT_MOST
            return min(int(after), WAIT_AT_MOST)
        elif answer.status == 500:
            return WAIT_AFTER_500
        elif not answer.accepted:
            self.odd.append((call, f"{answer.status} {answer.body[:200]}"))
        return 0
