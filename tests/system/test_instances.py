"""Instances of a service: as many calls at once as there are, each with its own writes and a unit of
its own, nothing in the service changed. What an exclusive domain promises, each instance does."""

import json
import random
import threading
import uuid

import grpc
import pymongo
import pytest
from conftest import check_lives
from grpc_stack import Caller as GrpcCaller
from grpc_stack import GrpcService
from holdfast_testing import ProxyFailed, holdfast, http2, wait_until
from holdfast_testing.metrics import Metrics
from http_stack import QUIET_SECONDS, Gate, InBackground, Service
from instance_stack import Instances

COUNT = 3
SETTINGS = {"http.callTimeout": "3s", "unit.lockWait": "300ms"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Instances(tmp_path_factory.mktemp("instances"), COUNT, SETTINGS) as made:
        yield made


@pytest.fixture(autouse=True)
def lives(request):
    yield
    if "stack" in request.fixturenames:
        made = request.getfixturevalue("stack")
        check_lives(made.proxy)
        wait_until(lambda: made.free() == COUNT, 20, "every instance is free again")


def all_at_once(stack, path):
    """A call on each instance, all of them held in their handlers: (gate, callers)."""
    gates = [Gate() for _ in stack.instances]
    unused = iter(gates)
    lock = threading.Lock()

    def handler(number, database, request):
        with lock:
            gate = next(unused)
        gate.stop_here()
        return 200

    stack.handle(path, handler)
    callers = [InBackground(stack.listen, path) for _ in gates]
    for gate in gates:
        gate.wait_reached()
    return gates, callers


# ---- many at once


def test_as_many_calls_at_once_as_instances_each_a_unit_of_its_own(stack, name):
    together = threading.Barrier(COUNT)

    def handler(number, database, request):
        database[name].insert_one({"_id": f"{request.path}:1", "by": number})
        together.wait(20)  # all of them are open, and have written
        database[name].insert_one({"_id": f"{request.path}:2", "by": number})
        return 500 if request.path.endswith("?1") else 201

    stack.handle("/together", handler)
    calls = [InBackground(stack.listen, f"/together?{n}") for n in range(COUNT)]
    assert [call.wait().status for call in calls] == [201, 500, 201]
    stored = stack.stored(name)
    assert set(stored) == {f"/together?{n}:{w}" for n in (0, 2) for w in (1, 2)}
    assert len({document["by"] for document in stored.values()}) == 2


def test_one_that_finds_no_instance_waits_and_a_get_does_not(stack):
    gates, callers = all_at_once(stack, "/held")
    stack.handle("/next", lambda number, database, request: 200)
    waiting = InBackground(stack.listen, "/next")
    wait_until(lambda: stack.domain()["callsWaiting"] == 1, 10, "it waits")
    assert stack.call("/next", method="GET").status == 200
    assert waiting.running() and stack.domain()["callsOpen"] == COUNT
    gates[1].go.set()
    assert waiting.wait().status == 200
    for gate in gates:
        gate.go.set()
    assert [caller.wait().status for caller in callers] == [200] * COUNT


def test_streams_of_one_http2_connection_run_at_once(stack, name):
    together = threading.Barrier(COUNT)

    def handler(number, database, request):
        database[name].insert_one({"_id": request.path})
        together.wait(20)
        return 201

    stack.handle("/streams", handler)
    with http2.Caller(stack.listen) as caller:
        streams = [caller.begin("POST", f"/streams?{n}", b"{}") for n in range(COUNT)]
        assert [caller.wait(stream).status for stream in streams] == [201] * COUNT
    assert len(stack.stored(name)) == COUNT


def test_reads_see_what_their_own_call_has_written_and_not_what_others_have(stack, name):
    seen, gates = {}, {"/a": Gate(), "/b": Gate()}

    def handler(number, database, request):
        path = request.path
        database[name].insert_one({"_id": path})
        gates[path].stop_here()
        seen[path] = [document["_id"] for document in database[name].find()]
        return 200

    for path in gates:
        stack.handle(path, handler)
    callers = [InBackground(stack.listen, path) for path in gates]
    for gate in gates.values():
        gate.wait_reached()
    for gate in gates.values():
        gate.go.set()
    assert [caller.wait().status for caller in callers] == [200, 200]
    assert "/a" in seen["/a"] and "/b" in seen["/b"]
    # Who reads while the other is open does not see it; of two at least one does.
    assert ["/a"] in seen.values() or ["/b"] in seen.values()


# ---- calls that meet


def test_two_that_write_one_document_do_not_lose_an_update(stack, name):
    """The second waits for the first, and then has to be told: it began before the first's commit."""
    stack.direct["test"][name].insert_one({"_id": 1, "n": 0})
    first, tried = Gate(), threading.Event()

    def one(number, database, request):
        database[name].update_one({"_id": 1}, {"$inc": {"n": 1}})
        first.stop_here()
        return 200

    def two(number, database, request):
        database[name].insert_one({"_id": "two"})
        first.wait_reached()
        tried.set()
        database[name].update_one({"_id": 1}, {"$inc": {"n": 1}})
        return 200

    stack.handle("/one", one)
    stack.handle("/two", two)
    callers = [InBackground(stack.listen, path) for path in ("/one", "/two")]
    assert tried.wait(10)
    first.go.set()
    assert callers[0].wait().status == 200
    assert callers[1].wait().status == 500  # what it was refused with: a WriteConflict
    assert stack.stored(name) == {1: {"_id": 1, "n": 1}}
    assert stack.call("/two").status == 200
    assert stack.stored(name) == {1: {"_id": 1, "n": 2}, "two": {"_id": "two"}}


def test_two_that_wait_for_each_other_end_at_once(stack, name):
    stack.direct["test"][name].insert_many([{"_id": 1, "n": 0}, {"_id": 2, "n": 0}])
    together = threading.Barrier(2)

    def handler(number, database, request):
        first, second = (1, 2) if request.path.endswith("?0") else (2, 1)
        database[name].update_one({"_id": first}, {"$inc": {"n": 1}})
        together.wait(20)
        database[name].update_one({"_id": second}, {"$inc": {"n": 1}})
        return 200

    stack.handle("/cross", handler)
    callers = [InBackground(stack.listen, f"/cross?{n}") for n in range(2)]
    statuses = sorted(caller.wait().status for caller in callers)
    assert statuses[1] == 500 and statuses[0] in (200, 500)
    counts = [document["n"] for document in stack.stored(name).values()]
    assert counts == ([1, 1] if statuses[0] == 200 else [0, 0])


# ---- handlers that live on


def test_a_handler_that_outlives_its_call_fences_its_instance_only(stack, name):
    gate, refused, who = Gate(), [], []

    def slow(number, database, request):
        who.append(number)
        database[name].insert_one({"_id": "early"})
        gate.stop_here()
        with pytest.raises(pymongo.errors.OperationFailure) as error:
            database[name].insert_one({"_id": "late"})
        refused.append(error.value.code)
        return 200

    def quick(number, database, request):
        who.append(number)
        database[name].insert_one({"quick": number})
        return 200

    stack.handle("/slow", slow)
    stack.handle("/quick", quick)
    answer = InBackground(stack.listen, "/slow").wait()
    assert (answer.status, answer.reason) == (503, "timeout")
    assert stack.stored(name) == {}
    for _ in range(2 * COUNT):
        assert stack.call("/quick").status == 200
    assert who[0] not in who[1:]
    assert stack.instance(who[0])["fenced"]
    gate.go.set()
    wait_until(lambda: stack.free() == COUNT, 10, "its instance is free again")
    assert refused == [251]
    assert "late" not in stack.stored(name)


def test_a_handler_whose_connection_broke_is_fenced_until_it_is_silent(stack, name):
    gate, done = Gate(), threading.Event()

    def broken(number, database, request):
        database[name].insert_one({"_id": 1})
        stack.instances[number].service.drop(request)
        gate.stop_here()
        try:
            database[name].insert_one({"_id": 2})
        except pymongo.errors.OperationFailure:
            done.set()

    stack.handle("/broken", broken)
    assert stack.call("/broken").reason == "serviceLost"
    assert stack.free() == COUNT - 1
    gate.go.set()
    assert done.wait(10)
    wait_until(lambda: stack.free() == COUNT, 10 * QUIET_SECONDS + 10, "the quiet period is over")
    assert stack.stored(name) == {}


def test_what_an_instance_writes_beside_its_calls_is_in_none_of_another(stack, name):
    """A background task on an instance without a call, while another instance has one."""
    gate, who = Gate(), []

    def handler(number, database, request):
        who.append(number)
        database[name].insert_one({"_id": "call"})
        gate.stop_here()
        return 500

    stack.handle("/other", handler)
    caller = InBackground(stack.listen, "/other")
    gate.wait_reached()
    idle = next(n for n in range(COUNT) if n != who[0])
    before = stack.instance(idle)["writesOutside"]
    stack.instances[idle].service.client["test"][name].insert_one({"_id": "beside"})
    gate.go.set()
    assert caller.wait().status == 500
    assert set(stack.stored(name)) == {"beside"}
    assert stack.instance(idle)["writesOutside"] == before + 1


# ---- each call's writes are in its unit, whatever is at work


def random_call(stack, number, seed):
    """Its writes carry its number; the service answers what it is asked to."""
    dice = random.Random(seed)
    wanted = dice.choice([201, 201, 201, 500])
    body = {"call": number, "writes": dice.randint(1, 4), "end": wanted}
    return wanted, stack.call("/random", body, headers={"Content-Type": "application/json"})


def exported(stack, name):
    """Of each unit the numbers that its writes carry, and its state."""
    done = holdfast("export", "--wal", stack.proxy.wal, "--namespace", f"test.{name}", check=0)
    units = {}
    for line in map(json.loads, done.stdout.splitlines()):
        if line["type"] == "unit":
            units[line["unit"]] = (line["state"], [])
        else:
            document = line["after"] or line["before"]
            units[line["unit"]][1].append(int(document["call"]["$numberInt"]))
    return units


def test_the_writes_of_many_calls_are_each_in_their_own_unit(stack, name, seed):
    def handler(number, database, request):
        asked = json.loads(request.payload)
        for write in range(asked["writes"]):
            database[name].insert_one({"_id": f"{asked['call']}:{write}", "call": asked["call"]})
        return asked["end"]

    stack.handle("/random", handler)
    ended, lock = {}, threading.Lock()

    def caller(first):
        for number in range(first, first + 12):
            ended_as = random_call(stack, number, f"{seed}:{number}")
            with lock:
                ended[number] = ended_as

    threads = [threading.Thread(target=caller, args=(first * 100,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 6 * 12
    assert all(answer.status == wanted for wanted, answer in ended.values())
    units = exported(stack, name)
    owners = [set(numbers) for _, numbers in units.values()]
    assert all(len(owner) == 1 for owner in owners), owners
    assert len(units) == len(ended)  # no call of two units either
    for state, numbers in units.values():
        assert state == ("committed" if ended[numbers[0]][0] == 201 else "aborted"), state
    stored = {document["call"] for document in stack.stored(name).values()}
    assert stored == {number for number, (wanted, _) in ended.items() if wanted == 201}


# ---- the rest of what the boundary promises


def test_a_repeated_request_is_carried_out_once(stack, name):
    gate = Gate()

    def handler(number, database, request):
        database[name].insert_one({"work": 1})
        gate.stop_here()
        return 201

    stack.handle("/once", handler)
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = InBackground(stack.listen, "/once", headers=headers)
    gate.wait_reached()
    assert stack.call("/once", headers=headers).reason == "idempotencyKeyInUse"
    gate.go.set()
    assert first.wait().status == 201
    again = stack.call("/once", headers=headers)
    assert (again.status, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert len(stack.stored(name)) == 1


def test_figures(stack, name):
    stack.handle(
        "/count", lambda number, database, request: database[name].insert_one({}) and 200
    )
    before = stack.domain()
    for _ in range(2 * COUNT):
        assert stack.call("/count").status == 200
    after = stack.domain()
    assert after["committed"] == before["committed"] + 2 * COUNT
    for one, other in zip(before["instances"], after["instances"]):
        assert other["calls"] == one["calls"] + 2  # in turn
        assert other["writesInCalls"] == one["writesInCalls"] + 2
        assert other["mongoConnections"] >= 1 and other["reached"] and not other["callOpen"]
    metrics = Metrics(stack.proxy)
    assert metrics.get("holdfast_domain_instances", domain="shop") == COUNT
    assert metrics.get("holdfast_domain_instances_unreached", domain="shop") == 0


def both_at_once(stack, name, target="/both?"):
    """A call on each of two instances; the second of them is rolled back."""
    together = threading.Barrier(2)

    def handler(number, database, request):
        database[name].insert_one({"_id": f"{request.path}:1"})
        together.wait(20)
        database[name].insert_one({"_id": f"{request.path}:2"})
        return 500 if request.path.endswith("?1") else 201

    stack.handle("/both", handler)
    callers = [InBackground(stack.listen, f"{target}{n}") for n in range(2)]
    assert [caller.wait().status for caller in callers] == [201, 500]


def test_instances_are_known_by_their_app_names(tmp_path, name):
    def named(one, two):
        one.app_name, two.app_name = "shop-1", "shop-2"

    with Instances(tmp_path, 2, SETTINGS, change=named) as stack:
        both_at_once(stack, name)
        assert set(stack.stored(name)) == {"/both?0:1", "/both?0:2"}


def test_instances_that_speak_grpc(tmp_path, name):
    with Instances(tmp_path, 2, SETTINGS, services=False) as stack:
        together = threading.Barrier(2)
        for instance in stack.instances:
            service = instance.service = GrpcService(instance.uri, instance.port)

            def add(request, context, collection=service.client["test"][name]):
                collection.insert_one({"_id": f"{request['n']}:1"})
                together.wait(20)
                collection.insert_one({"_id": f"{request['n']}:2"})
                if request["n"] == 1:
                    context.abort(grpc.StatusCode.NOT_FOUND, "no")
                return {}

            service.on("/shop.Orders/Add", add)
        with GrpcCaller(stack.listen) as caller:
            asked = [caller.begin("/shop.Orders/Add", {"n": n}) for n in range(2)]
            assert asked[0].result() == {}
            assert asked[1].exception().code() == grpc.StatusCode.NOT_FOUND
            assert set(stack.stored(name)) == {"0:1", "0:2"}
            # One is away: whoever finds that out is told so, and no one else.
            stack.instances[0].service.stop().wait(10)
            stack.instances[1].service.on("/shop.Orders/Alone", lambda request, context: {})
            states = [caller.status("/shop.Orders/Alone") for _ in range(4)]
            assert set(states) <= {"OK", "UNAVAILABLE"}
            for one, next_one in zip(states, states[1:]):
                assert "OK" in (one, next_one), states


def test_an_upgrade_keeps_each_connection_with_its_instance(tmp_path, name):
    with Instances(tmp_path, 2, SETTINGS) as stack:
        both_at_once(stack, name, "/both?before?")
        stack.proxy.upgrade()
        both_at_once(stack, name, "/both?after?")
        assert {each.split("?")[1] for each in stack.stored(name)} == {"before", "after"}
        assert len(stack.stored(name)) == 4


def test_a_call_that_is_looked_on_moves_from_an_instance_that_is_away(tmp_path, name):
    with Instances(tmp_path, 2, {"unit.boundary": "observe"}, services=False) as stack:
        away, there = stack.instances
        there.service = Service(there.uri, there.port)

        def handler(request):
            there.service.client["test"][name].insert_one({"_id": request.path})
            return 201

        there.service.handlers["/one"] = handler
        assert [stack.call(f"/one?{n}").status for n in range(4)] == [201] * 4
        assert len(stack.stored(name)) == 4
        others = [stack.instance(n)["otherRequests"] for n in range(2)]
        assert others == [0, 0]


# ---- refused at the start


@pytest.mark.parametrize(
    "change,reason",
    [
        (lambda one, two: setattr(two, "mongo", one.mongo), "is another listener's as well"),
        (lambda one, two: setattr(two, "port", one.port), "is another's as well"),
        (lambda one, two: setattr(two, "host", "localhost"), None),
    ],
    ids=["mongo", "http", "names"],
)
def test_two_that_cannot_be_told_apart_are_refused(tmp_path, change, reason):
    def both(one, two):
        change(one, two)
        if reason is None:  # two names of one address
            two.port = one.port

    with pytest.raises(ProxyFailed) as failed:
        Instances(tmp_path, 2, services=False, change=both).close()
    assert failed.value.code != 0
    assert (reason or "two of its instances are one address") in failed.value.output
