"""Instances of a service, each a process of its own: one is killed in the middle of its call, and the
others go on; all are killed with the proxy; and calls by the hundred while instances die and come
back."""

import http.client
import pathlib
import random
import sys
import threading
import time

import pytest
from conftest import check_lives
from holdfast_testing import wait_until
from holdfast_testing.service import Service
from http_stack import QUIET_SECONDS, InBackground
from instance_stack import Instances

SERVICE = pathlib.Path(__file__).parent / "instance_service.py"
COUNT = 3


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    directory = tmp_path_factory.mktemp("instances")
    with Instances(directory, COUNT, {"http.callTimeout": "20s"}, services=False) as made:
        made.processes = [
            Service(f"instance {n}", [sys.executable, SERVICE, each.port, each.uri], each.port)
            for n, each in enumerate(made.instances)
        ]
        yield made
        for process in made.processes:
            process.kill()


@pytest.fixture(autouse=True)
def whole(stack):
    yield
    check_lives(stack.proxy)
    for process in stack.processes:
        if not process.running():
            process.start()
    wait_until(lambda: stack.free() == COUNT, 20, "every instance is free again")
    wait_until(lambda: stack.domain()["callsWaiting"] == 0, 20, "and nobody waits")


def holding(stack, name, call, others=()):
    """A call that has written twice and is never answered: its caller, and its instance."""
    before = [each["writesInCalls"] for each in stack.domain()["instances"]]
    caller = InBackground(stack.listen, f"/{name}/{call}/2/0", timeout=60)

    def found():
        for number, each in enumerate(stack.domain()["instances"]):
            written = each["writesInCalls"] - before[number]
            if number not in others and each["callOpen"] and written >= 2:
                return number + 1
        return 0

    return caller, wait_until(found, 20, "it has written") - 1


def test_an_instance_is_killed_in_its_call_and_the_others_go_on(stack, name):
    first, one = holding(stack, name, "first")
    second, other = holding(stack, name, "second", others=[one])
    stack.processes[one].kill()
    answer = first.wait()
    assert (answer.status, answer.reason) == (503, "serviceLost")
    assert second.running()  # it is none of its business
    # The third takes all that comes; nobody is sent to the dead one, or told of it.
    for number in range(6):
        assert stack.call(f"/{name}/{number}/2/201").status == 201
        assert stack.call("/", method="GET").status == 200
    assert not stack.instance(one)["callOpen"]
    stack.processes[one].start()
    stored = {document["call"] for document in stack.stored(name).values()}
    assert stored == {str(number) for number in range(6)} | {"second"}  # which is open
    before = stack.instance(one)["calls"]
    wait_until(
        lambda: stack.call(f"/{name}/again/0/201").status == 201
        and stack.instance(one)["calls"] > before,
        20,
        "it works again",
    )
    stack.processes[other].kill()
    assert second.wait().reason == "serviceLost"
    assert "second:0" not in stack.stored(name)


def test_a_call_moves_from_an_instance_that_is_away(stack, name):
    """None that can be reached is left out, and none of the callers notices."""
    for process in stack.processes[1:]:
        process.kill()
    time.sleep(1.1)  # what is known of the dead is forgotten: the next ones find out again
    answers = [stack.call(f"/{name}/{number}/1/201").status for number in range(8)]
    assert answers == [201] * 8 and len(stack.stored(name)) == 8
    stack.processes[0].kill()
    answer = stack.call(f"/{name}/none/1/201")
    assert (answer.status, answer.reason) == (503, "serviceLost")
    assert stack.free() == COUNT  # nothing ran: nothing is fenced


def test_the_proxy_is_killed_with_a_call_on_each(stack, name):
    others = []
    for number in range(COUNT):
        others.append(holding(stack, name, number, others)[1])
    assert sorted(others) == list(range(COUNT))
    stack.proxy.restart()
    assert stack.stored(name) == {}
    started = time.monotonic()
    assert stack.call(f"/{name}/after/1/201").status in (201, 500)  # a pool may hold what broke
    assert time.monotonic() - started > QUIET_SECONDS / 2  # it has waited for the fence
    for process in stack.processes:
        process.restart()


def test_instances_and_proxy_are_killed_at_random(stack, name, seed):
    dice = random.Random(seed)
    done, told, lock = threading.Event(), {}, threading.Lock()

    def caller(first):
        for call in range(first, first + 1000):
            if done.is_set():
                return
            status = 201 if call % 4 else 500
            try:
                answer = stack.call(f"/{name}/{call}/3/{status}", timeout=30).status
            except (OSError, http.client.HTTPException):
                answer = None
            with lock:
                told[call] = answer
            if answer is None:
                time.sleep(0.05)

    callers = [threading.Thread(target=caller, args=(n * 1000,)) for n in range(4)]
    for thread in callers:
        thread.start()
    for kill in range(5):
        time.sleep(dice.uniform(0.05, 0.3))
        if kill == 2:
            stack.proxy.restart()
        process = dice.choice(stack.processes)
        process.kill()
        process.start()
    done.set()
    for thread in callers:
        thread.join()
    wait_until(lambda: stack.free() == COUNT, 20, "all has ended")
    written = {}
    for document in stack.stored(name).values():
        written[int(document["call"])] = written.get(int(document["call"]), 0) + 1
    assert set(written.values()) <= {3}, "torn"
    assert any(answer == 201 for answer in told.values())
    for call, answer in told.items():
        if answer is not None and answer < 400:
            assert call in written, f"{call} was acknowledged"
        elif answer is not None:
            assert call not in written, f"{call} was told to be undone"
    stack.proxy.verify()
