"""The piece that runs a batch of writes as one unit through the running proxy (proxy/maintain/)."""

import random

import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Process, build_bin, wait_until


def worker(uri, name, count):
    return Process([str(build_bin() / "maintain_worker"), uri, name, str(count)], name="worker")


def acks(process):
    return [line.split()[1:] for line in list(process.lines) if line.startswith("ack ")]


def units_of(proxy, application):
    return [unit for unit in proxy.units() if unit.get("appName") == application]


def test_each_batch_is_one_unit_and_the_callers_error_rolls_it_back(stack, name):
    before = len(units_of(stack.proxy, "maintain_worker"))
    process = worker(stack.proxy.uri, name, 3)
    assert process.wait(30) == 0, process.output()
    units = units_of(stack.proxy, "maintain_worker")[before:]
    assert [(unit["state"], unit["writes"]) for unit in units] == [
        *[("committed", 2)] * 3,
        ("aborted", 1),
    ]
    assert stack.stored(name) == {"counter": {"_id": "counter", "n": 3}} | {
        number: {"_id": number} for number in range(3)
    }


def test_a_document_that_a_service_holds_is_waited_for(stack, raw, name):
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": "counter", "n": 100})
    process = worker(stack.proxy.uri, name, 1)
    wait_until(lambda: len(stack.proxy.units()) and units_of(stack.proxy, "maintain_worker"), 30, "it tries")
    assert unit.commit()["ok"] == 1
    assert process.wait(60) == 0, process.output()
    assert stack.stored(name)["counter"]["n"] == 101


def test_no_unit_is_lost_or_done_twice_while_the_proxy_is_killed(seed):
    """A commit whose answer was lost with the proxy is asked again of the one that comes back."""
    chance = random.Random(seed)
    with Stack() as stack:
        process = worker(stack.proxy.uri, "killed", 400)
        for _ in range(4):
            seen = len(acks(process))
            wait_until(
                lambda: len(acks(process)) > seen + chance.randrange(3) or not process.running(),
                30,
                "it goes on",
            )
            stack.proxy.restart()
        assert process.wait(120) == 0, process.output()
        assert len(acks(process)) == 400
        stored = stack.stored("killed")
        assert stored.pop("counter")["n"] == 400
        assert sorted(stored) == list(range(400))


@pytest.mark.parametrize("uri", ["mongodb://user@127.0.0.1:1/", "127.0.0.1:27017"])
def test_uris_that_cannot_work(uri):
    process = worker(uri, "x", 1)
    assert process.wait(30) == 1
    assert "the proxy's URI" in process.output()


def test_a_standalone_server_without_a_proxy_is_refused(stack):
    process = worker(stack.server.uri, "x", 1)
    assert process.wait(30) == 1
    assert "start holdfastd before the server" in process.output()
