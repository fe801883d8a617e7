"""Who had sent a write dies, and the write arrives after that: while Holdfast rolls back, or, if that
died, when its next life has begun to recover. A relay before the server holds it on its way until
then."""

import functools
import threading
import time

import pytest
from checker import TORN
from conftest import Stages
from holdfast_testing import WireTap
from play import new_things, seen
from resources import DATABASE
from restarts import ON_ITS_WAY, SERVICES, TITLES, WRITES
from stage import Held, Straight

LATE = 0.2  # seconds after the kill, or after the next life of Holdfast has asked who is left
O, P, _, _ = SERVICES

# Which write of which call is on its way, and who dies then.
CASES = [
    ("W1", 1, (O,)),
    ("W7", 2, (O,)),
    ("W7", 4, (P,)),
    ("W8", 2, (P,)),
    ("W8", 2, (O,)),
    ("I", 4, SERVICES),
    ("W1", 1, ("proxy",)),
    ("I", 4, ("proxy",)),
    ("W7", 4, ("proxy", P)),
    ("W8", 2, ("proxy", *SERVICES)),
]


WRITE_COMMANDS = ("insert", "update", "delete", "findAndModify")


class OnItsWay:
    """The `number`-th write from now on that comes to the tap: it goes no further until arrives_late(),
    or the end of the block."""

    def __init__(self, tap, number):
        self._tap = tap
        self._left = number
        self._lock = threading.Lock()
        self._there, self._looked, self._go = (threading.Event() for _ in range(3))
        tap.before_request = self._before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._tap.before_request = None
        self._go.set()

    def _before(self, command):
        name = next(iter(command))
        if name == "serverStatus" and self._there.is_set():
            self._looked.set()
        if name not in WRITE_COMMANDS or command["$db"] != DATABASE:
            return
        with self._lock:
            self._left -= 1
            ours = self._left == 0
        if ours:
            self._there.set()
            self._go.wait(30)

    def wait(self):
        assert self._there.wait(20), "the write has not come"

    def arrives_late(self, at_recovery):
        """From now on. A thread's: it returns when the write goes on."""
        if at_recovery:
            self._looked.wait(20)
        time.sleep(LATE)
        self._go.set()


def tapped(kind):
    """A stage whose way to the server leads through a tap."""

    class Tapped(kind):
        beats = False  # only writes of the call come by

        def way_to_the_server(self):
            self.tap = WireTap(self.server.port)
            return self.tap.uri

        def close(self):
            super().close()
            self.tap.close()

    return Tapped


@pytest.fixture(scope="module")
def tapped_stages():
    with Stages(tapped(Straight), tapped(Held)) as made:
        yield made


def play(kind, number, kill, stage):
    things = new_things()
    for call in things.needed(kind):
        assert stage.accept(call)[0] == "2"
    call = things.call(kind)
    before = stage.snapshot()
    with OnItsWay(stage.tap, number) as write:
        caller = stage.begin(call)
        write.wait()
        killed = [part for part in kill if stage.has(part)]
        stage.kill(killed)
        late = threading.Thread(target=write.arrives_late, args=("proxy" in killed,))
        late.start()
        stage.start([killed])
        late.join()
    told = caller.told()
    stage.settle()
    return seen(stage, things, call, told, before)


def title(case):
    kind, number, kill = case
    dead = "all services" if kill == SERVICES else " and ".join(kill)
    dead = "proxy and all services" if len(kill) > len(SERVICES) else dead
    return f"{TITLES[kind]}, write {number} of {len(WRITES[kind])}: {dead}"


@pytest.mark.parametrize("case", CASES, ids=title)
def test_a_write_that_arrives_late(tapped_stages, page, case):
    _, _, kill = case
    without = kill != ("proxy",)
    straight, held = tapped_stages.both(functools.partial(play, *case), without)
    page.add(ON_ITS_WAY, title(case), straight, held)
    assert held.sound(), f"with Holdfast: {held}, its caller was told {held.told}"
    if without:
        assert straight.finding.state == TORN, f"without Holdfast: {straight}"
