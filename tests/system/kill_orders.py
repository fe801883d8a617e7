"""Who dies while the proxy stands at a named step, and in which order they come back.

The proxy is told to stop itself at the step (holdfast/crash_point.h), with all its threads; then
others can be killed, and it goes on or is killed there.
"""

import functools
import multiprocessing
import multiprocessing.forkserver
import os
import sys
import threading
import time

from conftest import DATABASE
from holdfast_testing import Connection, ProxyFailed, wait_until

FULL = os.environ.get("HOLDFAST_SWEEP") == "full"
# A killed server loses its last 100 ms, now and then its last 300: what a case rests on has to be
# older.
KEPT_SECONDS = 0.5
HEAD_START_SECONDS = 0.15

ORDERS = ("server first", "proxy first", "together")


@functools.lru_cache(maxsize=1)
def _clients():
    """A clean process without threads, of which each client is a fork. It imports what clients need
    only once, if it finds it: by the environment, for Python 3.11 forgets to hand it sys.path."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["four_writes", "kill_orders"])
    former = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    multiprocessing.forkserver.ensure_running()
    if former is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = former
    return context


class Client:
    """work(*arguments, tell) in a process of its own, which can be killed."""

    def __init__(self, work, *arguments):
        self._news, theirs = _clients().Pipe(duplex=False)
        self._process = _clients().Process(
            target=_work, args=(work, arguments, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def running(self):
        return self._process.is_alive()

    def kill(self):
        self._process.kill()
        self._process.join()

    def end(self):
        """Waits for its end. All that it told before."""
        self._process.join(20)
        assert not self._process.is_alive(), "the client still waits for an answer"
        news = []
        try:
            while self._news.poll():
                news.append(self._news.recv())
        except EOFError:
            pass
        return news


def _work(work, arguments, pipe):
    work(*arguments, pipe.send)


def wait_stopped(proxy, client=None, seconds=5, after=0.05):
    """True once it stands at its step; False if the step was not reached: the client has ended, or
    the proxy has, or the time is over. The last steps come up to `after` seconds after the client's
    answer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if proxy.process.stands_still():
            return True
        if not proxy.process.running() or (client is not None and not client.running()):
            until = min(until, time.monotonic() + after)
            client = None
        time.sleep(0.005)
    return False


def bring_back(stack, killed, order):
    """Kills who of "proxy" and "server" is to die while the proxy stands still; then both are there
    again, in this order. A proxy that lives goes on where it stands, and is started again if it
    ends by itself."""
    if "server" in killed:
        stack.server.kill()
    if "proxy" in killed:
        stack.proxy.kill()
    steps = {
        "server first": (_server_back, _proxy_back),
        "proxy first": (_proxy_back_soon, _server_back),
        "together": (_proxy_back_soon, _server_back),
    }[order]
    waiting = []
    for step in steps:
        waiting.append(step(stack, killed, order))
    for wait in waiting:
        wait()


def bring_up(proxy):
    """Until it accepts; started again if it ends by itself, as a supervisor does."""
    for _ in range(5):
        try:
            proxy.wait_accepting(30)
            return
        except ProxyFailed:
            proxy.launch()
    raise AssertionError(f"holdfastd does not start:\n{proxy.process.tail()}")


def _server_back(stack, killed, _order):
    if "server" in killed:
        stack.server.start()
    return lambda: None


def _proxy_back(stack, killed, order):
    _proxy_back_soon(stack, killed, order)()
    return lambda: None


def _proxy_back_soon(stack, killed, order):
    proxy = stack.proxy
    if "proxy" not in killed:
        proxy.resume()
    else:
        proxy.launch()
    if order == "proxy first":
        time.sleep(HEAD_START_SECONDS)

    return lambda: bring_up(proxy)


class Asker:
    """Asks from now on, until there is an answer: the first of all to be back."""

    def __init__(self, port, ask):
        self.answer = None
        self._thread = threading.Thread(target=self._run, args=(port, ask), daemon=True)
        self._thread.start()

    def _run(self, port, ask):
        until = time.monotonic() + 30
        while self.answer is None and time.monotonic() < until:
            try:
                with Connection(port) as raw:
                    self.answer = ask(raw)
            except OSError:
                time.sleep(0.02)

    def wait(self):
        self._thread.join(40)
        assert self.answer is not None, "there was no answer"
        return self.answer


def open_units(stack):
    unfinished = ("open", "conflict")
    return [unit for unit in stack.proxy.units() if unit.get("state", "").startswith(unfinished)]


def serves(stack, collection):
    """Until a command passes, which is when what the server may have lost is there again, and no
    unit is left open; a conflict would be one that nobody caused."""
    answered = Asker(stack.proxy.port, lambda raw: raw.run({"find": collection, "$db": DATABASE}))
    assert answered.wait()["ok"] == 1, answered.answer
    wait_until(lambda: open_units(stack) == [], 10, f"no unit is open: {open_units(stack)}")
