"""At each named step of a unit's life somebody dies: its client, the server, or all; they come back
in any order, and the promises hold: all or nothing; acknowledged means kept, also what the server
lost; a commit asked again is answered truthfully; locks are free; no conflict that nobody caused.

The proxy stops itself at the step, so that the others die exactly there. Its own death alone is
test_crash_sweep.py's. HOLDFAST_SWEEP=full: every case in every order; without it each step with
each victim, the orders in turn.
"""

import contextlib
import itertools
import time
import uuid

import bson
import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from four_writes import Script, run
from holdfast_testing import Connection
from kill_orders import FULL, KEPT_SECONDS, ORDERS, Asker, Client, bring_back, serves, wait_stopped

# Where the proxy stands -> (which end of the unit gets there, which times of reaching it).
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
    "wal_batch_put": ("commit", EACH_WRITE),
    "wal_batch_durable": ("commit", EACH_WRITE),
    "wal_checkpointed": ("commit", (1,)),
}
# Start-up may write batches of its own, and some hold several groups.
MAY_BE_MISSED = {"wal_batch_put", "wal_batch_durable", "wal_checkpointed"}
VICTIMS = {
    "client": ("client",),
    "server": ("server",),
    "client and server": ("client", "server"),
    "proxy and server": ("proxy", "server"),
    "all": ("client", "proxy", "server"),
}
QUICK_VICTIMS = ("client", "server", "all")
ORDERED = ("client first", *ORDERS)


def cases():
    orders = itertools.cycle(ORDERED)
    for point, (end, times) in POINTS.items():
        for victims in VICTIMS if FULL else QUICK_VICTIMS:
            # In turn, so that each write of the four has its victim.
            some = [times[QUICK_VICTIMS.index(victims) % len(times)]] if not FULL else times
            for number in some:
                if victims == "client":
                    yield point, end, number, victims, "-"
                    continue
                for order in ORDERED if FULL else (next(orders),):
                    yield point, end, number, victims, order


@pytest.fixture(scope="module")
def swept():
    with Stack({"upstream.fenceWait": "100ms"}) as made:
        yield made


def kill(stack, client, victims, order):
    """The victims die, and are there again. The answer to `commit asked again` by who was first."""
    if "client" in victims:
        client.kill()
    if victims == ("client",):
        stack.proxy.resume()
        return
    bring_back(stack, victims, "server first" if order == "client first" else order)


@pytest.mark.parametrize("point,end,number,victims,order", list(cases()))
def test_kill(swept, name, point, end, number, victims, order):
    stack = swept
    script = Script(stack, name)
    kept = time.monotonic() + KEPT_SECONDS
    stack.proxy.kill()
    stack.proxy.start(stop_at=f"{point}:{number}")
    time.sleep(max(0, kept - time.monotonic()))
    client = Client(run, stack.proxy.port, name, script.lsid, end)
    # A checkpoint comes when nothing has been appended for a moment.
    after = 5 if point == "wal_checkpointed" else 0.05
    stopped = wait_stopped(stack.proxy, client, after=after)
    assert stopped or (number > 1 and point in MAY_BE_MISSED), f"{point}:{number} was not reached"
    if stopped:
        asker = None
        if order == "client first" and end == "commit":
            client.kill()
            asker = Asker(stack.proxy.port, RawTransaction(None, lsid=script.lsid).commit)
        kill(stack, client, VICTIMS[victims], order)
    for news in client.end():
        script.take(*news)
    if stopped and asker is not None and (reply := asker.wait())["ok"] == 1:
        script.take("committed", None)
        script.take("wanted", None)
    check(stack, script)


RETRYABLE_POINTS = (
    "unit_resolved",
    "unit_locked",
    "unit_journaled",
    "unit_sent",
    "unit_answered",
    "commit_requested",
    "commit_durable",
    "wal_batch_put",
    "wal_batch_durable",
)


def retryable_cases():
    orders = itertools.cycle(ORDERS)
    for place, point in enumerate(RETRYABLE_POINTS):
        some = VICTIMS if FULL else (QUICK_VICTIMS[place % len(QUICK_VICTIMS)],)
        for victims in some:
            for order in ORDERS if FULL else (next(orders),):
                yield point, victims, order


def write_once(port, command, tell):
    with contextlib.suppress(OSError), Connection(port) as raw:
        reply = raw.run(command)
        if reply is not None:
            tell(("answered", reply))


@pytest.mark.parametrize("point,victims,order", list(retryable_cases()))
def test_kill_in_a_retryable_write(swept, name, point, victims, order):
    """A plain write with a retry number: done once, however often it is sent again."""
    stack = swept
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 1})
    kept = time.monotonic() + KEPT_SECONDS
    command = {
        "update": name,
        "updates": [{"q": {"_id": 1}, "u": {"$inc": {"v": 1}}}],
        "lsid": {"id": bson.Binary.from_uuid(uuid.uuid4())},
        "txnNumber": Int64(1),
        "$db": DATABASE,
    }
    stack.proxy.kill()
    stack.proxy.start(stop_at=point)
    time.sleep(max(0, kept - time.monotonic()))
    client = Client(write_once, stack.proxy.port, command)
    assert wait_stopped(stack.proxy, client), f"{point} was not reached"
    kill(stack, client, VICTIMS[victims], order)
    news = client.end()
    serves(stack, name)
    value = stack.stored(name)[1]["v"]
    assert value in (1, 2)
    for _, reply in news:
        assert reply["n"] == 1 and value == 2, reply
    for _ in range(2):
        with Connection(stack.proxy.port) as raw:
            assert raw.run(command)["n"] == 1
        assert stack.stored(name) == {1: {"_id": 1, "v": 2}}
    stack.proxy.verify()


def check(stack, script):
    serves(stack, script.name)
    is_whole = script.check(stack)
    script.ask_commit_again(stack, is_whole)
    script.check_unlocked(stack)
    assert script.check(stack) == is_whole
    stack.proxy.verify()
    if FULL:
        stack.proxy.restart()
        assert script.check(stack) == is_whole
        script.ask_commit_again(stack, is_whole)
