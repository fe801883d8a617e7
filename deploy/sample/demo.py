#!/usr/bin/env python3
"""The driver of deploy/demo: two rounds of calls and kills, and what is left of them.

The services of both rounds are the same programs (orchestrator.py, placement.py); what differs are
the addresses that they are started with.

    stack.py    server, services, Holdfast          load.py, planner.py, calls.py   the callers
    chaos.py    the kills                           judge.py, rules.py              the judgement
"""

import argparse
import collections
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests/support"))

from chaos import KILLS, NOTES, Chaos  # noqa: E402
from holdfast_testing import ProcessError, ProxyFailed, holdfast  # noqa: E402
from judge import Documents, judge  # noqa: E402
from load import CALLERS, Load  # noqa: E402
from rules import broken_rules  # noqa: E402
from stack import HeldStack, Stack  # noqa: E402

FINDINGS_SHOWN = 6


class Round:
    """Calls and kills on one stack, and the judgement after everything was started again."""

    def __init__(self, title, stack, options):
        self.title, self.stack = title, stack
        self.load = Load(stack.callers_port, options.calls, options.seed)
        self.chaos = Chaos(stack, self.load, options.kills, options.seed)

    def play(self):
        began = time.monotonic()
        self.load.start()
        self.chaos.start()
        shown = began
        while not (self.load.over() and self.chaos.over()):
            time.sleep(0.1)
            for part in (self.load, self.chaos):
                if part.failure is not None:
                    raise part.failure
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                self._progress()
        self.seconds = time.monotonic() - began
        self._progress()
        self._judge()

    def _progress(self):
        load, chaos = self.load, self.chaos
        print(
            f"  {self.title}: {load.made()} of {load.count} calls, "
            f"{load.acknowledged} acknowledged, {chaos.total()} of {chaos.count} kills",
            flush=True,
        )

    def _judge(self):
        self.refused_writes = self.stack.refused_writes()
        self.stack.restart_everything()
        with self.stack.server.client() as direct:
            documents = Documents(self.stack.collection(direct))
        self.verdicts, self.findings = judge(self.load.calls, documents)
        self.broken = list(broken_rules(documents))
        self.outcomes = collections.Counter(call.outcome for call in self.load.calls)

    def sums(self):
        verdicts = self.verdicts.values()
        names = "calls", "acknowledged", "torn", "lost"
        return [sum(getattr(verdict, name) for verdict in verdicts) for name in names]

    def clean(self):
        return not (self.findings or self.broken or self.load.stuck or self.load.odd)


def show_table(straight, held):
    heads = "calls", "acked", "torn", "lost"
    columns = "".join(f"{head:>7}" for head in heads)
    print(f"\n{'':36}{'straight at the server':>28}{'':4}{'through Holdfast':>28}")
    print(f"{'':36}{columns}{'':4}{columns}")
    rows = [
        (
            f"{'' if kind == 'one' else kind:5}{verdict.name}",
            figures(verdict),
            figures(held.verdicts[kind]),
        )
        for kind, verdict in straight.verdicts.items()
    ]
    rows.append(("total", straight.sums(), held.sums()))
    for name, *sides in rows:
        print(f"{name:36}" + f"{'':4}".join("".join(f"{n:>7}" for n in side) for side in sides))
    for name, left, right in side_by_side(straight, held):
        print(f"{name:36}{left:>28}{'':4}{right:>28}")


def figures(verdict):
    return verdict.calls, verdict.acknowledged, verdict.torn, verdict.lost


def side_by_side(straight, held):
    """The rows below the calls: (name, straight, held)."""
    both = (straight, held)

    def row(name, figure):
        return name, *map(figure, both)

    yield row("rules broken in the database", lambda side: len(side.broken))
    yield row("409: half of an earlier call found", lambda side: len(side.load.stuck))
    yield row("answered 503, tried again", lambda side: side.load.busy)
    yield row("answered 500", lambda side: side.outcomes["500"])
    yield row("callers that hung up", lambda side: side.outcomes["hung up"])
    yield "late writes that were refused", "-", held.refused_writes
    for what, (_, needs_proxy) in KILLS.items():
        note = f", {NOTES[what]}" if what in NOTES else ""
        left = "-" if needs_proxy else straight.chaos.kills[what]
        yield f"kill -9: {what}{note}", left, held.chaos.kills[what]
    yield row("seconds", lambda side: round(side.seconds))


def show_findings(side):
    lines = side.findings + side.broken
    lines += [f"{call.title()} was refused: {body!r}" for call, body in side.load.stuck]
    lines += [f"{call.title()}: {what}" for call, what in side.load.odd]
    for line in lines[:FINDINGS_SHOWN]:
        print("  " + line)
    if len(lines) > FINDINGS_SHOWN:
        print(f"  ... and {len(lines) - FINDINGS_SHOWN} more")


def show_journal(proxy):
    """A few lines of what the journal tells: some units that were committed, some rolled back."""
    print("\n$ holdfast units --wal DIR")
    header, *units = holdfast("units", "--wal", proxy.wal).stdout.splitlines() or [""]
    undone = [line for line in units if " aborted " in line]
    kept = [line for line in units if " aborted " not in line]
    shown = [*kept[-4:], *undone[-6:]]
    print("\n".join([header, *shown]))
    print(f"... and {len(units) - len(shown)} more; {len(undone)} of {len(units)} were rolled back")
    print("\n$ holdfast status --wal DIR")
    print(holdfast("status", "--wal", proxy.wal).stdout.rstrip())


def play(title, stack, options):
    print(f"\n{title}")
    one = Round(title.split(":")[0], stack, options)
    one.play()
    return one


def main():
    parser = argparse.ArgumentParser(prog="deploy/demo", description="Holdfast's demonstration.")
    parser.add_argument("--calls", type=int, default=1000, help="calls in each round (1000)")
    parser.add_argument("--kills", type=int, default=100, help="kills in each round (100)")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.randrange(1 << 31)
    print(
        f"\nEach round: {options.calls} calls from {CALLERS} callers at a service that works with a"
        f"\nsecond one, {options.kills} times kill -9 in mid-call, one call in twenty hung up by"
        f"\nits caller (seed {options.seed}). The services write plainly, without transactions, and"
        "\nknow nothing of Holdfast: only the addresses that they are started with differ."
    )
    straight_stack = Stack()
    try:
        straight = play("Round 1: straight at the server, as it is today", straight_stack, options)
    finally:
        straight_stack.close()
    print("  What is left of it, for example:")
    show_findings(straight)

    stack = HeldStack()
    try:
        held = play("Round 2: through Holdfast", stack, options)
        show_table(straight, held)
        show_journal(stack.proxy)
    finally:
        stack.close()
    return conclude(straight, held)


def conclude(straight, held):
    if not held.clean():
        print("\nFAILED: through Holdfast nothing may be torn, lost or found half done:")
        show_findings(held)
        return 1
    print("\nThrough Holdfast no call was torn and none was lost.")
    if straight.clean():
        print("This time none was torn without it either; kills are random, try again.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ProcessError, ProxyFailed, AssertionError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)
