"""Somebody dies while the proxy recovers, at its start or because its server has restarted: the
server once more, the proxy, or both; at each named step. They come back in any order, and the
promises hold as in test_kill_sweep.py.
"""

import itertools
import time

import pytest
from conftest import DATABASE, RawTransaction, Stack
from four_writes import Script, writes
from holdfast_testing import Connection
from kill_orders import (
    FULL,
    KEPT_SECONDS,
    ORDERS,
    Asker,
    bring_back,
    bring_up,
    serves,
    wait_stopped,
)

TRIES = 12
VICTIMS = {"server": ("server",), "proxy": ("proxy",), "proxy and server": ("proxy", "server")}

# Steps of the recovery of a proxy that was killed, and whether the server was killed with it.
AT_START = {
    "recovery_fenced": (False, (1,)),
    "undo_checked": (False, (1,)),
    "undo_restored": (False, (1, 3)),
    "abort_undone": (False, (1,)),
    "abort_durable": (False, (1,)),
    "recovery_unit_done": (False, (1,)),
    "recovery_finished": (True, (1,)),
    "redo_checked": (True, (1,)),
    "redo_moved": (True, (1, 2)),
    "probe_made": (True, (1,)),
}
# Steps of the recovery of a proxy that lives; it has made a probe at its start.
ALIVE = {
    "restart_handed_over": (1,),
    "recovery_fenced": (1,),
    "redo_checked": (1,),
    "redo_adopted": (1,),
    "redo_moved": (1, 2, 3),
    "recovery_unit_done": (1,),
    "probe_made": (2,),
}

AS_LOST = ("redo_moved",)  # how often it is reached is up to what the server has lost


def cases(points):
    """(point, victims, order): each step with each victims, the orders in turn."""
    return list(_cases(points))


def _cases(points):
    orders = itertools.cycle(ORDERS)
    for point, times in points:
        numbers = itertools.cycle(times)
        for victims in VICTIMS:
            for number in times if FULL else (next(numbers),):
                if victims == "proxy":
                    yield f"{point}:{number}", victims, "server first"
                    continue
                for order in ORDERS if FULL else (next(orders),):
                    yield f"{point}:{number}", victims, order


@pytest.fixture(scope="module")
def swept():
    with Stack({"upstream.fenceWait": "100ms"}) as made:
        yield made


class Work:
    """A unit that was committed, one that is open, and one that stands on a plain write."""

    def __init__(self, stack, name):
        self.stack = stack
        self.committed = Script(stack, name + "_committed")
        self.opened = Script(stack, name + "_open")
        self.plain = name + "_plain"
        stack.direct[DATABASE][self.plain].insert_one({"_id": 1, "v": 0})
        self.kept = time.monotonic() + KEPT_SECONDS

    def run(self):
        """The connection that carries the open unit."""
        time.sleep(max(0, self.kept - time.monotonic()))
        port = self.stack.proxy.port
        with Connection(port) as raw:
            change = [{"q": {"_id": 1}, "u": {"$set": {"v": 10}}}]
            reply = raw.run({"update": self.plain, "updates": change, "$db": DATABASE})
            assert reply["n"] == 1, reply
            unit = RawTransaction(raw)
            assert unit.update(self.plain, {"_id": 1}, {"$inc": {"v": 1}})["n"] == 1
            assert unit.commit()["ok"] == 1
        self.committed.run(port, "commit")
        open_one = Connection(port)
        unit = RawTransaction(open_one, lsid=self.opened.lsid)
        for command in writes(self.opened.name)[:3]:
            assert unit.run(command)["ok"] == 1
        return open_one

    def check(self):
        serves(self.stack, self.plain)
        assert self.stack.stored(self.plain) == {1: {"_id": 1, "v": 11}}
        assert self.committed.check(self.stack)
        assert not self.opened.check(self.stack)
        for script, is_whole in ((self.committed, True), (self.opened, False)):
            script.ask_commit_again(self.stack, is_whole)
            script.check_unlocked(self.stack)
        self.stack.proxy.verify()


@pytest.mark.parametrize(
    "point,victims,order", cases((point, times) for point, (_, times) in AT_START.items())
)
def test_kill_at_the_start(swept, name, point, victims, order):
    stack = swept
    step = point.split(":")[0]
    for number in range(TRIES):
        work = Work(stack, f"{name}_{number}")
        with work.run():
            stack.proxy.kill()
        if AT_START[step][0]:
            stack.server.restart()
        stack.proxy.launch(stop_at=point)
        stopped = wait_stopped(stack.proxy, seconds=3 if step in AS_LOST else 10)
        assert stopped or step in AS_LOST, f"{point} was not reached"
        if stopped:
            bring_back(stack, VICTIMS[victims], order)
        else:
            bring_up(stack.proxy)
        work.check()
        if stopped:
            return
    pytest.skip(f"this server lost nothing of that kind in {TRIES} crashes")


def stop_alive(stack, name, point, then):
    """The server is killed, and then() called while the proxy stands at the step."""
    stack.proxy.kill()
    stack.proxy.start(stop_at=point)
    for number in range(TRIES):
        work = Work(stack, f"{name}_{number}")
        with work.run():
            stack.server.restart()
            asker = Asker(stack.proxy.port, lambda raw: raw.run({"ping": 1, "$db": DATABASE}))
            stopped = wait_stopped(stack.proxy, seconds=3)
            if stopped:
                then()
        asker.wait()
        work.check()
        if stopped:
            return
    pytest.skip(f"this server lost nothing of that kind in {TRIES} crashes")


@pytest.mark.parametrize("point,victims,order", cases(ALIVE.items()))
def test_kill_while_alive(swept, name, point, victims, order):
    stop_alive(swept, name, point, lambda: bring_back(swept, VICTIMS[victims], order))


def restart_unnoticed(stack):
    """The server is another process, and whoever looks at his connection only now and then makes
    himself a new one without a word."""
    stack.server.restart()
    time.sleep(1.5)
    stack.proxy.resume()


def test_the_server_is_another_in_the_middle_of_a_start(swept, name):
    """What was undone in one process of the server is not told as kept to the next."""
    stack = swept
    work = Work(stack, name)
    with work.run():
        stack.proxy.kill()
    stack.proxy.launch(stop_at="abort_undone")
    assert wait_stopped(stack.proxy, seconds=10)
    restart_unnoticed(stack)
    bring_up(stack.proxy)
    work.check()


def test_the_server_is_another_in_the_middle_of_a_redo(swept, name):
    """Likewise what was redone."""
    stop_alive(swept, name, "redo_moved:3", lambda: restart_unnoticed(swept))
