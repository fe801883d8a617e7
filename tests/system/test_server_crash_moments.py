"""Moments at which a crash of the server could be met badly: the very first start, several crashes
in a row, the end of the proxy, commands that the server has half refused.
"""

import contextlib
import signal
import time

import bank
import pytest
from conftest import DATABASE, Stack
from four_writes import Script, run
from holdfast_testing import Connection, Proxy, Server
from kill_orders import KEPT_SECONDS, Client, bring_up, open_units, serves, wait_stopped

SETTINGS = {"upstream.fenceWait": "100ms"}


class FirstStart:
    """A server and a journal that nobody has used."""

    def __init__(self):
        self.server = Server()
        self.direct = self.server.client()
        self.proxy = Proxy(self.server, SETTINGS, start=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.direct.close()
        self.proxy.close()
        self.server.close()

    stored = Stack.stored


@pytest.mark.parametrize("victims", ["server", "proxy and server"])
@pytest.mark.parametrize("point", ["probe_made", "recovery_finished:2"])
def test_the_first_start(name, point, victims):
    """What it had written to the server first of all is lost: that is no other database, and no
    probe that somebody has taken away."""
    with FirstStart() as stack:
        stack.proxy.launch(stop_at=point)
        assert wait_stopped(stack.proxy, seconds=10)
        stack.server.kill()
        if victims == "proxy and server":
            stack.proxy.kill()
            stack.proxy.launch()
        stack.server.start()
        stack.proxy.resume()
        bring_up(stack.proxy)
        script = Script(stack, name)
        script.run(stack.proxy.port, "commit")
        serves(stack, name)
        assert script.check(stack)


def test_a_probe_that_was_deleted(ended, name):
    """By hand, while the server lives: it has lost nothing, so that what is newer stays."""
    stack = ended
    stack.proxy.kill()
    stack.proxy.start()
    script = Script(stack, name)
    script.run(stack.proxy.port, "commit")
    stack.proxy.kill()
    stack.direct[DATABASE][name].update_one({"_id": "u"}, {"$set": {"v": 7}})
    assert stack.direct.holdfast.state.delete_one({"_id": "probe"}).deleted_count == 1
    stack.proxy.start()
    assert stack.stored(name)["u"]["v"] == 7
    assert open_units(stack) == []


@pytest.fixture(scope="module")
def made_once():
    with Stack(SETTINGS) as made:
        yield made


@pytest.fixture
def ended(made_once):
    """With a server that runs, whatever the test before left."""
    if not made_once.server.running():
        made_once.server.start()
    return made_once


ENDS = [
    ("commit", "commit_durable", "before"),
    ("commit", "commit_durable", "after"),
    ("commit", "unit_answered:2", "before"),
    ("commit", "unit_answered:2", "after"),
    ("abort", "undo_restored:2", "before"),
    ("abort", "undo_restored:2", "after"),
    ("abort", "undo_restored:2", "never"),
]


@pytest.mark.parametrize("end,point,server_back", ENDS)
def test_the_proxy_is_to_end_while_the_server_crashes(ended, name, end, point, server_back):
    """SIGTERM comes while a unit is on its way and the server is killed: whatever cannot be
    finished any more is left to the next start."""
    stack = ended
    script = Script(stack, name)
    time.sleep(KEPT_SECONDS)
    stack.proxy.kill()
    stack.proxy.start(stop_at=point)
    client = Client(run, stack.proxy.port, name, script.lsid, end)
    assert wait_stopped(stack.proxy, client)
    stack.server.kill()
    if server_back == "before":
        stack.server.start()
    stack.proxy.process.send(signal.SIGTERM)
    stack.proxy.resume()
    if server_back == "after":
        time.sleep(0.2)
        stack.server.start()
    # Without a server it waits for it as long as it may drain, and for nobody a second time.
    code = stack.proxy.process.wait(40 if server_back == "never" else 20)
    assert code in (0, 2), stack.proxy.process.tail()
    if server_back == "never":
        stack.server.start()
    stack.proxy.start()
    for news in client.end():
        script.take(*news)
    serves(stack, name)
    is_whole = script.check(stack)
    script.ask_commit_again(stack, is_whole)
    script.check_unlocked(stack)
    stack.proxy.verify()


def test_the_proxy_is_to_end_while_it_recovers(ended, name):
    """SIGTERM in the middle of the recovery: it is finished, then the proxy ends."""
    stack = ended
    script = Script(stack, name)
    time.sleep(KEPT_SECONDS)
    stack.proxy.kill()
    stack.proxy.start(stop_at="restart_handed_over")
    script.run(stack.proxy.port, "commit")
    stack.server.restart()
    assert wait_stopped(stack.proxy)
    stack.proxy.process.send(signal.SIGTERM)
    stack.proxy.resume()
    assert stack.proxy.process.wait(20) == 0, stack.proxy.process.tail()
    stack.proxy.start()
    assert script.check(stack)


def test_crashes_in_quick_succession():
    """The server is killed again as soon as it answers, with clients that want on: none of them
    sees an error that a driver does not handle, and all are served in the end."""
    with Stack(SETTINGS) as stack:
        bank.open_accounts(stack.direct[DATABASE])
        time.sleep(KEPT_SECONDS)
        workers = [bank.start_worker(stack.proxy.uri, f"q.{i}") for i in range(4)]
        for round_ in range(3):
            time.sleep(1)
            for pause in (0, 0.05, 0.1, 0):
                stack.server.restart()
                time.sleep(pause)
        before = [len(worker.lines) for worker in workers]
        until = time.monotonic() + 15
        while any(len(w.lines) <= n for w, n in zip(workers, before)):
            assert time.monotonic() < until, "a client is not served any more"
            assert all(worker.running() for worker in workers), workers[0].tail()
            time.sleep(0.1)
        for worker in workers:
            worker.kill()
        acknowledged = set().union(*map(bank.acknowledged_by, workers))
        serves(stack, "accounts")
        bank.check(stack.direct[DATABASE], acknowledged)
        assert acknowledged
        stack.proxy.verify()


@pytest.mark.parametrize(
    "point", ["unit_journaled", "unit_sent", "unit_answered", "commit_requested", "commit_durable"]
)
def test_half_of_a_command_was_refused(ended, name, point):
    """The server had refused one of the documents, which only the proxy's memory knew: the document
    that was in the way is left alone."""
    stack = ended
    stack.direct[DATABASE][name].insert_one({"_id": 2, "mine": True})
    time.sleep(KEPT_SECONDS)
    stack.proxy.kill()
    stack.proxy.start(stop_at=point)
    client = Client(insert_three, stack.proxy.port, name)
    assert wait_stopped(stack.proxy, client)
    stack.server.restart()
    stack.proxy.resume()
    answered = bool(client.end())
    serves(stack, name)
    stored = stack.stored(name)
    assert stored.pop(2) == {"_id": 2, "mine": True}
    assert stored in ({}, {1: {"_id": 1}, 3: {"_id": 3}})
    assert stored or not answered
    assert open_units(stack) == []


def insert_three(port, name, tell):
    command = {
        "insert": name,
        "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}],
        "ordered": False,
        "$db": DATABASE,
    }
    with contextlib.suppress(OSError), Connection(port) as raw:
        reply = raw.run(command)
        if reply is not None and reply["ok"] == 1:
            tell(("answered", reply["n"]))
