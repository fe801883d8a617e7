"""All services die while many callers call: each of their calls is whole or absent, and whole if it
was acknowledged."""

from judge import writes_there
from play import new_things
from restarts import ALL_SERVICES, SERVICES

WAITING = ("W1", "W4", "W7", "W9", "W12", "P")


def play(stage):
    things = [new_things() for _ in range(2 * len(WAITING))]
    group = new_things()
    assert stage.accept(group.call("W4")) == "201"
    stage.halt_after("monitor", 1)
    callers = [stage.begin(group.call("I"))]
    stage.wait_halted("monitor", callers[0])
    for kind, one in zip(WAITING * 2, things, strict=True):
        callers.append(stage.begin(one.call(kind)))
    stage.kill(SERVICES)
    stage.start([SERVICES])
    for caller in callers:
        caller.told()
    stage.settle()
    documents = stage.snapshot().documents
    torn = lost = 0
    for caller in callers:
        there = writes_there(caller.call, documents)
        torn += any(there) and not all(there)
        lost += caller.call.acknowledged and not all(there)
    return torn, lost, len(callers)


def test_all_services_die_while_callers_wait(stages, page):
    straight, held = stages.both(play)
    cells = [
        "none torn, none lost" if (torn, lost) == (0, 0) else "torn" if torn else "lost"
        for torn, lost, _ in (straight, held)
    ]
    page.add(ALL_SERVICES, f"all four, with {held[2]} callers", *cells)
    assert held[:2] == (0, 0)
    assert straight[0] > 0
