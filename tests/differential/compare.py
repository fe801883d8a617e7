"""Whether the two sides said and did the same; where not, whether it is a named difference."""

import differences
import program as programs
from sides import _object_ids, reply_form


class Finding:
    """A difference. `place`: of the step; None: the documents in the end."""

    def __init__(self, place, native, holdfast):
        self.place = place
        self.native = native
        self.holdfast = holdfast


class Outcome:
    """finding: the first difference that has no name, or None. named: {name: how often}."""

    def __init__(self):
        self.finding = None
        self.named = {}
        self.answers = []
        self.compared = 0


def check(pair, program):
    """Runs a program on both sides."""
    outcome = Outcome()
    answers, stored = pair.run(program)
    outcome.answers = answers
    steps = program["steps"]
    known = _object_ids(program)
    loose = programs.loose(steps)
    for place, (native, holdfast) in enumerate(answers):
        step = steps[place]
        pairs = [(step, native, holdfast)]
        if "beside" in step:
            pairs = [
                (step, native[0], holdfast[0]),
                ({"command": step["beside"]}, native[1], holdfast[1]),
            ]
        for one, left, right in pairs:
            outcome.compared += 1
            ordered = "sort" in one["command"] or programs.name_of(one) not in ("find", "getMore")
            forms = [reply_form(reply, known, ordered) for reply in (left, right)]
            if right != "blocked" and left == "blocked" and place == len(answers) - 1:
                left = {"blocked": True}
            context = differences.Context(
                program, place, one, left, right, forms, answers, loose.get(place), one is not step
            )
            if forms[0] == forms[1]:
                name, state = differences.parts(context), differences.OVER
                if name is None:
                    continue
            else:
                name, state = differences.name(context)
            if name is None:
                outcome.finding = Finding(place, left, right)
                return outcome
            outcome.named[name] = outcome.named.get(name, 0) + 1
            if state == differences.OVER:
                return outcome
    dated = "$currentDate" in repr(steps)
    if stored[0] != stored[1] and not (dated and differences.same_documents(*stored)):
        outcome.finding = Finding(None, stored[0], stored[1])
    return outcome
