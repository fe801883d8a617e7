"""Plays a scenario on a stage, and says what became of its call."""

import dataclasses
import itertools

from checker import ABSENT, TORN, WHOLE, Finding
from restarts import Things

_numbers = itertools.count(1)


def new_things():
    return Things(next(_numbers))


@dataclasses.dataclass
class Outcome:
    finding: Finding
    told: str  # what the caller was told
    again: str = ""  # what it is told when it then makes the call again
    units_left: int = 0  # that nobody has ended
    beats_lost: int = 0  # of the monitor's background task
    either: bool = False

    def sound(self):
        """What Holdfast promises."""
        return (
            self.finding.state in (WHOLE, ABSENT)
            and not self.finding.lost
            and not self.finding.broken
            and self.again[:1] in ("", "2")
            and self.units_left == 0
            and self.beats_lost == 0
        )

    def __str__(self):
        if self.either and self.sound():
            return "whole or absent"
        text = "torn" if self.either and self.finding.state == TORN else str(self.finding)
        if self.again:
            text += f"; again: {self.again}"
        if self.units_left:
            text += f"; {self.units_left} units left"
        if self.beats_lost:
            text += "; beats lost"
        return text


def play(scenario, stage):
    things = new_things()
    for call in things.needed(scenario.kind):
        assert stage.accept(call)[0] == "2", f"{call.title()}: {call.outcome}"
    call = things.call(scenario.kind)
    before = stage.snapshot()

    if scenario.halt is not None:
        stage.halt_after(scenario.halt, scenario.after)
    caller = stage.begin(call)
    if scenario.halt is not None:
        stage.wait_halted(scenario.halt, caller)
    else:
        assert caller.told()[0] == "2", f"{call.title()}: {caller.told()}"
    stage.kill(scenario.killed_on(stage))
    if scenario.halt is not None and scenario.halt not in scenario.kill:
        stage.resume(scenario.halt)
    stage.start(scenario.order_on(stage))

    told = caller.told()
    stage.settle()
    outcome = seen(stage, things, call, told, before)
    outcome.either = scenario.either
    return outcome


def seen(stage, things, call, told, before):
    """What became of a call, once all is quiet; then it is made again if it is not there."""
    beats_lost = stage.beats_lost()
    after = stage.snapshot()
    outcome = Outcome(Finding(call, before, after), told, beats_lost=beats_lost)
    if outcome.finding.state != WHOLE:
        again = things.call(call.kind)
        again.other = call.other
        outcome.again = stage.accept(again)
    if stage.held:
        outcome.units_left = len(stage.open_units())
    return outcome
