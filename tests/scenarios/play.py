"""Plays a scenario on a stage, and says what became of its call."""

import dataclasses
import itertools

from checker import ABSENT, WHOLE, Finding
from judge import writes_there
from restarts import Things

_numbers = itertools.count(1)


def new_things():
    return Things(next(_numbers))


@dataclasses.dataclass
class Outcome:
    finding: Finding
    told: str  # what the caller was told
    again: str = ""  # what it is told when it then makes the call again
    earlier_lost: int = 0  # acknowledged before, and not there any more
    units_left: int = 0  # that nobody has ended
    either: bool = False

    def sound(self):
        """What Holdfast promises."""
        return (
            self.finding.state in (WHOLE, ABSENT)
            and not self.finding.lost
            and not self.finding.broken
            and self.again[:1] in ("", "2")
            and self.earlier_lost == 0
            and self.units_left == 0
        )

    def __str__(self):
        if self.either and self.sound():
            return "whole or absent"
        text = str(self.finding)
        if self.again:
            text += f"; again: {self.again}"
        if self.earlier_lost:
            text += f"; {self.earlier_lost} earlier calls lost"
        if self.units_left:
            text += f"; {self.units_left} units left"
        return text


def play(scenario, stage):
    things = new_things()
    needed = things.needed(scenario.kind)
    for call in needed:
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
    after = stage.snapshot()
    outcome = Outcome(Finding(call, before, after), told, either=scenario.either)
    if outcome.finding.state == ABSENT:
        outcome.earlier_lost = sum(not all(writes_there(one, after.documents)) for one in needed)
    if outcome.finding.state != WHOLE:
        again = things.call(scenario.kind)
        again.other = call.other
        outcome.again = stage.accept(again)
    if stage.held:
        outcome.units_left = len(stage.open_units())
    return outcome
