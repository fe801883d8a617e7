"""What an interrupted instantiation leaves: contexts that nobody will complete, and units that nobody
will end. After the restart none is left, and the group can be instantiated."""

from holdfast_testing import ProxyFailed, holdfast
from play import new_things
from restarts import CLUSTERS, LEFT_BEHIND, SERVICES


class Interrupted:
    """Instantiations of some groups, each interrupted by a kill in its midst."""

    def __init__(self, stage):
        self.stage = stage
        self.groups = []
        self.before = stage.snapshot().of_contexts()

    def interrupt(self, kill, halt="network"):
        """One more; `kill` is dead then."""
        things = new_things()
        group = things.call("W4")
        assert self.stage.accept(group) == "201"
        self.groups.append(group.name)
        call = things.call("I")
        self.stage.halt_after(halt, 1)
        caller = self.stage.begin(call)
        self.stage.wait_halted(halt, caller)
        self.stage.kill([part for part in kill if self.stage.has(part)])
        if halt not in kill:
            self.stage.resume(halt)
        return caller

    def found(self):
        """After all is up again: the cell of the table."""
        self.stage.settle()
        left = self.stage.snapshot().of_contexts() - self.before
        told = []
        for group in self.groups:
            again = new_things().call("I")
            again.name, again.other = group, CLUSTERS
            told.append(self.stage.accept(again))
        return f"{left} documents of contexts; again: {', '.join(told)}"


CLEAN_ONE = "0 documents of contexts; again: 200"


def test_of_one_after_the_other(stages, page):
    """Three in a row, each by another kill."""

    def play(stage):
        interrupted = Interrupted(stage)
        for kill in (("orchestrator",), ("network",), SERVICES):
            caller = interrupted.interrupt(kill)
            stage.start([kill])
            caller.told()
        return interrupted.found()

    straight, held = stages.both(play)
    page.add(LEFT_BEHIND, "three, of three groups", straight, held)
    assert held == "0 documents of contexts; again: 200, 200, 200"
    assert straight.endswith("again: 409, 409, 409")


def open_units(stage):
    return len(stage.open_units()) if stage.held else 0


def test_stale_units_when_the_proxy_starts(stages, page):
    """Proxy and services died together: the journal shows the unit, the start ends it."""
    parts = ("proxy", *SERVICES)

    def play(stage):
        interrupted = Interrupted(stage)
        interrupted.interrupt(parts)
        stale = open_units(stage)
        stage.start([[part for part in parts if stage.has(part)]])
        assert open_units(stage) == 0
        return stale, interrupted.found()

    (_, straight), (stale, held) = stages.both(play)
    page.add(LEFT_BEHIND, "one, its unit ended by the proxy's next start", straight, held)
    assert (stale, held) == (1, CLEAN_ONE)
    assert straight.endswith("again: 409")


def test_stale_units_ended_by_the_operator(stages, page):
    """The proxy is not to start: `holdfast recover` does it, and says so."""
    parts = ("proxy", *SERVICES)

    def play(stage):
        interrupted = Interrupted(stage)
        interrupted.interrupt(parts)
        if stage.held:
            options = "--wal", stage.proxy.wal, "--upstream", stage.server.uri
            holdfast("recover", *options, check=0)
            assert open_units(stage) == 0
            assert stage.snapshot().of_contexts() == interrupted.before
        stage.start([[part for part in parts if stage.has(part)]])
        return interrupted.found()

    straight, held = stages.both(play)
    page.add(LEFT_BEHIND, "one, its unit ended by `holdfast recover`", straight, held)
    assert held == CLEAN_ONE
    assert straight.endswith("again: 409")


POINTS = ("undo_checked:1", "undo_restored:1", "undo_restored:2", "abort_undone:1")


def test_the_proxy_dies_in_its_recovery_again_and_again(stages, page):
    """At one step further each time; the last start has its way. (A build without crash points
    starts at once.)"""
    parts = ("proxy", *SERVICES)

    def play(stage):
        interrupted = Interrupted(stage)
        interrupted.interrupt(parts)
        for point in POINTS if stage.held else ():
            try:
                stage.proxy.start(crash_at=point)
            except ProxyFailed:
                continue
            assert point == POINTS[0], f"it did not get to {point}"
            break
        stage.start([[part for part in parts if stage.has(part) and not stage.runs(part)]])
        return interrupted.found()

    straight, held = stages.both(play)
    page.add(LEFT_BEHIND, "one, the proxy killed four times while it recovers", straight, held)
    assert held == CLEAN_ONE
    assert straight.endswith("again: 409")


