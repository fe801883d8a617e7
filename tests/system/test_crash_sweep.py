"""The proxy dies at each named step of a unit's life, restarts, and the promises hold:
all or nothing; acknowledged means kept; a commit asked again is answered truthfully."""

import re
import signal

import pytest
from conftest import Stack
from four_writes import Script
from holdfast_testing import ProxyFailed

# Where to die -> (which end of the unit gets there, which times of reaching it are tried).
# The unit has four writes: insert, update, findAndModify upsert, delete.
EACH_WRITE = (1, 2, 3, 4)
POINTS = {
    "unit_resolved": ("commit", (1, 2, 3)),  # an insert knows its document beforehand
    "unit_locked": ("commit", EACH_WRITE),
    "unit_journaled": ("commit", EACH_WRITE),
    "unit_sent": ("commit", EACH_WRITE),
    "unit_answered": ("commit", EACH_WRITE),
    "unit_replied": ("commit", EACH_WRITE),
    "commit_requested": ("commit", (1,)),
    "commit_durable": ("commit", (1,)),
    "commit_acknowledged": ("commit", (1,)),
    "abort_requested": ("abort", (1,)),
    "undo_checked": ("abort", (1,)),
    "undo_restored": ("abort", EACH_WRITE),
    "abort_undone": ("abort", (1,)),
    "abort_durable": ("abort", (1,)),
    "recovery_fenced": ("recovery", (1,)),
    "recovery_unit_done": ("recovery", (1,)),
    "recovery_finished": ("recovery", (1,)),
    "wal_batch_put": ("commit", (1, 2, 3, 4, 5, 6)),
    "wal_batch_durable": ("commit", (1, 2, 3, 4, 5, 6)),
    "wal_checkpointed": ("commit", (1, 2)),
}
CASES = [
    (point, end, time) for point, (end, times) in POINTS.items() for time in times
]
# A batch may hold more or fewer groups than one, and start-up may write some of its own: these are
# reached the first time for certain, later times only perhaps.
MAY_BE_MISSED = {"wal_batch_put", "wal_batch_durable", "wal_checkpointed", "undo_restored"}


@pytest.fixture(scope="module")
def swept():
    with Stack({"upstream.fenceWait": "100ms"}) as made:
        yield made
        made.proxy.verify()


def run_until_dead(stack, script, end):
    """Runs the script; True if the proxy died by its own SIGKILL meanwhile."""
    script.run(stack.proxy.port, end)
    try:
        return stack.proxy.process.wait(1) == -signal.SIGKILL
    except Exception:  # noqa: BLE001 (still running: the place was not reached)
        return False


def start_to_die(stack, crash_at):
    """True if it accepts; False if it died on the way there, as it was told to."""
    try:
        stack.proxy.start(crash_at=crash_at)
        return True
    except ProxyFailed as failed:
        assert failed.code == -signal.SIGKILL, failed
        return False


@pytest.mark.parametrize("point,end,time", CASES, ids=lambda value: str(value))
def test_crash(swept, name, point, end, time):
    """One place, one time of reaching it; then a restart, and another to see that it stays so."""
    stack = swept
    stack.proxy.kill()
    crash_at = f"{point}:{time}"
    if end == "recovery":
        stack.proxy.start(crash_at="unit_replied:3")
        script = Script(stack, name)
        assert run_until_dead(stack, script, "commit")
        died = not start_to_die(stack, crash_at)
        if not died:  # finished, and dies while or after it begins to accept
            died = run_until_dead(stack, Script(stack, name + "unused"), "abort")
    else:
        script = Script(stack, name)
        died = True
        if start_to_die(stack, crash_at):
            died = run_until_dead(stack, script, end)
    assert died or (time > 1 and point in MAY_BE_MISSED), f"{crash_at} was not reached"

    if stack.proxy.process.running():
        stack.proxy.kill()
    stack.proxy.start()
    is_whole = script.check(stack)
    script.ask_commit_again(stack, is_whole)
    assert open_units(stack) == []
    stack.proxy.restart()
    assert script.check(stack) == is_whole
    script.ask_commit_again(stack, is_whole)


def test_crash_in_recovery_again_and_again(swept, name):
    """Recovery is itself interrupted at each of its steps, in turn, on one journal."""
    stack = swept
    stack.proxy.kill()
    stack.proxy.start(crash_at="unit_replied:4")
    script = Script(stack, name)
    assert run_until_dead(stack, script, "commit")
    for crash_at in (
        "recovery_fenced",
        "undo_checked",
        "undo_restored:1",
        "undo_restored:2",
        "abort_undone",
        "abort_durable",
        "recovery_unit_done",
        "recovery_finished",
    ):
        if start_to_die(stack, crash_at):
            stack.proxy.kill()
    stack.proxy.start()
    assert not script.check(stack)
    assert open_units(stack) == []


def open_units(stack):
    return [u for u in stack.proxy.units() if re.match("open|conflict", u.get("state", ""))]
