"""API calls as units on the native engine: each is one transaction of the server, made by the proxy."""

import json
import signal
import threading

import pymongo
import pymongo.server_api
import pytest
from conftest import DATABASE, check_lives
from holdfast_testing import Connection, WireTap, holdfast, wait_until
from holdfast_testing.wire import encode_message
from http_stack import Gate, HttpStack, InBackground, call, reconnected, settled
from instance_stack import Instances
from pymongo.errors import DuplicateKeyError, OperationFailure
from test_http_crash import is_open
from test_http_domains import Domains, Fronted, comment_of, traced
from test_native import Authenticated

NO_SUCH, NOT_IN_TRANSACTION = 251, 263
MORE_TO_COME = 2
ALICE = {
    "username": "alice",
    "password": "secret",
    "authSource": "admin",
    "authMechanism": "SCRAM-SHA-256",
}


@pytest.fixture(scope="module")
def stack():
    with HttpStack(
        {"http.callTimeout": "1500ms"},
        between=lambda server: WireTap(server.port),
        mode="replicaset",
    ) as made:
        yield made


@pytest.fixture(autouse=True)
def lives_and_settled(request):
    yield
    if "stack" in request.fixturenames:
        made = request.getfixturevalue("stack")
        made.between.before_request = made.between.before_reply = None
        check_lives(made.proxy)
        settled(made)


@pytest.fixture
def collection(stack, name):
    stack.direct[DATABASE].create_collection(name)
    return stack.collection(name)


def newest(proxy):
    return json.loads(holdfast("units", "--json", "--wal", proxy.wal).stdout)["units"][-1]


def ours(tap):
    """Commands of transactions that reached the server."""
    return [command for _, command in tap.commands if command.get("autocommit") is False]


def endings(tap):
    """... that end one, of any user. Only the proxy's own connection has to say whose session it
    is."""
    ends = ("commitTransaction", "abortTransaction")
    probes = {str(c["lsid"]) for c in ours(tap) if c["$db"] == "holdfast"}  # of the proxy's start
    return [c for c in ours(tap) if next(iter(c)) in ends and str(c["lsid"]) not in probes]


def test_stable_api(stack, collection, name):
    """The end of a call has the API parameters of its commands, which mongod wants."""

    def read_and_write(_):
        api = pymongo.server_api.ServerApi("1")
        with pymongo.MongoClient(stack.proxy.uri, server_api=api) as client:
            client[DATABASE][name].count_documents({})
            client[DATABASE][name].insert_one({"_id": 1})
        return 200

    stack.service.handlers["/api"] = read_and_write
    stack.between.commands.clear()
    assert stack.call("/api").status == 200
    assert set(stack.stored(name)) == {1}
    sent = [(next(iter(c)), c.get("apiVersion")) for c in ours(stack.between)]
    assert sent == [(c, "1") for c in ("aggregate", "insert", "commitTransaction")]


@pytest.mark.parametrize("code", [201, 302])
def test_commits(stack, collection, name, code):
    """All writes of the call are one transaction, committed before the answer; until then nobody
    else sees any of it."""
    seen = []

    def handler(_):
        collection.insert_many([{"_id": 1}, {"_id": 2}])
        collection.update_one({"_id": 1}, {"$set": {"v": 1}})
        seen.append(stack.stored(name))
        collection.find_one_and_delete({"_id": 2})
        return code

    stack.service.handlers["/x"] = handler
    stack.between.commands.clear()
    assert stack.call("/x").status == code
    assert seen == [{}] and stack.stored(name) == {1: {"_id": 1, "v": 1}}
    unit = newest(stack.proxy)
    assert (unit["state"], unit["boundary"], unit["name"]) == ("committed", "http", "POST /x")
    sent = ours(stack.between)
    assert len({str(command["lsid"]) for command in sent}) == 1 and len(sent) == 4
    assert [bool(command.get("startTransaction")) for command in sent] == [True, False, False, False]
    assert sent[3]["commitTransaction"] == 1 and sent[3]["writeConcern"] == {"w": "majority"}


@pytest.mark.parametrize("code", [400, 409, 500])
def test_the_services_own_error_rolls_back(stack, collection, name, code):
    """... and passes unchanged; the documents are free when the caller has its answer."""

    def handler(_):
        collection.insert_one({"_id": 1})
        return code, {"theirs": "x"}

    stack.service.handlers["/x"] = handler
    answer = stack.call("/x")
    assert answer.status == code and answer.json == {"theirs": "x"}
    stack.direct[DATABASE][name].insert_one({"_id": 1, "by": "another"})


def test_a_call_that_only_reads(stack, collection, name):
    """Its transaction is left, and the journal knows nothing of it."""
    before = newest(stack.proxy)["unit"] if stack.proxy.units() else 0

    def handler(_):
        return 200 if collection.find_one({}) is None else 500

    stack.service.handlers["/x"] = handler
    stack.between.commands.clear()
    assert stack.call("/x").status == 200
    assert [next(iter(command)) for command in ours(stack.between)] == ["find", "abortTransaction"]
    assert (newest(stack.proxy)["unit"] if stack.proxy.units() else 0) == before


# ---- reads, and what is no part of a transaction


def test_reads_are_of_the_call(stack, collection, name):
    """They see its own writes, whichever of the service's connections they come by, and one moment
    of everything else: what is committed meanwhile is news to the call, and a WriteConflict."""
    stack.direct[DATABASE][name].insert_many([{"_id": 1, "v": 1}, {"_id": 2, "v": 1}])

    def handler(_):
        seen = [collection.find_one({"_id": 1})["v"]]
        stack.direct[DATABASE][name].update_one({"_id": 2}, {"$set": {"v": 2}})
        seen.append(collection.find_one({"_id": 2})["v"])
        collection.insert_many([{"_id": i, "v": 5} for i in range(10, 20)])
        with pymongo.MongoClient(stack.proxy.uri) as other:
            seen.append(len(list(other[DATABASE][name].find({"v": 5}, batch_size=3))))
        seen.append(collection.count_documents({"v": 5}))
        seen.append(collection.estimated_document_count())
        seen.append(collection.distinct("v"))
        totals = [{"$group": {"_id": None, "sum": {"$sum": "$v"}}}]
        seen.append(next(collection.aggregate(totals))["sum"])
        return 200, seen

    stack.service.handlers["/x"] = handler
    assert stack.call("/x").json == [1, 1, 10, 10, 12, [1, 5], 52]


def test_counts(stack, collection, name):
    """A transaction takes no `count`: it is done as an aggregation, and answered as what it was."""
    stack.direct[DATABASE][name].insert_many([{"_id": i, "even": i % 2 == 0} for i in range(10)])
    run = stack.service.client[DATABASE].command

    def handler(_):
        counts = [
            run("count", name),
            run("count", name, query={"even": True}),
            run("count", name, query={"_id": {"$gt": 2}}, skip=2, limit=3),
            run("count", name, limit=-4),
            run("count", name + "_nothing"),
        ]
        assert not any("cursor" in count for count in counts)
        return 200, [count["n"] for count in counts]

    stack.service.handlers["/x"] = handler
    stack.between.commands.clear()
    assert stack.call("/x").json == [10, 5, 3, 4, 0]
    assert not any("count" in command for _, command in stack.between.commands)


def test_a_lost_update_is_a_conflict(stack, collection, name):
    """What the call has read and somebody has changed since is not overwritten."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 1})

    def handler(_):
        value = collection.find_one({"_id": 1})["v"]
        stack.direct[DATABASE][name].update_one({"_id": 1}, {"$inc": {"v": 10}})
        collection.update_one({"_id": 1}, {"$set": {"v": value + 1}})
        return 200

    stack.service.handlers["/x"] = handler
    assert stack.call("/x").status == 500  # the service's own, for a WriteConflict that it let pass
    assert stack.service.errors.pop()[1].code == 112
    assert stack.stored(name)[1]["v"] == 11


def test_cursors_of_others_go_beside(stack, collection, name):
    """A cursor that was opened before the call goes on during it, outside of its transaction."""
    stack.direct[DATABASE][name].insert_many([{"_id": i} for i in range(10)])
    cursor = collection.find({}, batch_size=2)
    first = next(cursor)

    def handler(_):
        collection.insert_one({"_id": 99})
        return 200, len(list(cursor))

    stack.service.handlers["/x"] = handler
    assert first == {"_id": 0} and stack.call("/x").json == 9
    assert 99 in stack.stored(name)


def test_namespaces_in_a_call(stack, collection, name):
    """They are made and dropped at once and stay; where the call has been it is refused, for that
    would wait for the call, and the call for it."""
    other = stack.collection(name + "_other")

    def handler(_):
        other.create_index("a")
        collection.insert_one({"_id": 1})
        other.create_index("b")
        for refused in (
            lambda: collection.create_index("a"),
            collection.drop,
            lambda: list(collection.aggregate([{"$out": name + "_out"}])),
            lambda: other.database.client.drop_database("nothing"),
        ):
            with pytest.raises(OperationFailure) as caught:
                refused()
            assert caught.value.code == NOT_IN_TRANSACTION
        collection.insert_one({"_id": 2})
        return 409

    stack.service.handlers["/x"] = handler
    assert stack.call("/x").status == 409, stack.service.errors
    assert set(stack.direct[DATABASE][name + "_other"].index_information()) == {"_id_", "a_1", "b_1"}
    assert stack.stored(name) == {}


def test_reads_of_the_servers_own_pass(stack, collection, name):
    """A transaction refuses them, and that would end the call's unit."""

    def handler(_):
        collection.insert_one({"_id": 1})
        client = stack.service.client
        for database in ("admin", "config", "local"):
            assert client[database][name].find_one() is None
        assert client[DATABASE]["system.views"].find_one() is None
        collection.insert_one({"_id": 2})
        return 200

    stack.service.handlers["/x"] = handler
    stack.between.commands.clear()
    assert stack.call("/x").status == 200
    assert set(stack.stored(name)) == {1, 2}
    assert ["find" in command for command in ours(stack.between)].count(True) == 0


def test_what_shows_no_documents_passes(stack, collection, name):
    def handler(_):
        collection.insert_one({"_id": 1})
        client = stack.service.client
        assert name in client[DATABASE].list_collection_names()
        assert client.admin.command("ping")["ok"] == 1
        assert client[DATABASE].command("explain", {"find": name})["ok"] == 1
        with collection.watch(max_await_time_ms=10) as changes:
            assert changes.try_next() is None
        return 200

    stack.service.handlers["/x"] = handler
    assert stack.call("/x").status == 200, stack.service.errors
    assert set(stack.stored(name)) == {1}


# ---- errors


@pytest.mark.parametrize("code", [200, 500])
def test_an_error_ends_the_unit(stack, collection, name, code):
    """The service gets the server's own error, and NoSuchTransaction for its later writes; its reads
    show what is committed. Whatever it answers: nothing of the call is left, and 2xx is 503."""
    stack.direct[DATABASE][name].insert_one({"_id": 1})

    def handler(_):
        collection.insert_one({"_id": 2})
        with pytest.raises(DuplicateKeyError):
            collection.insert_one({"_id": 1})
        with pytest.raises(OperationFailure) as caught:
            collection.insert_one({"_id": 3})
        assert caught.value.code == NO_SUCH
        assert [document["_id"] for document in collection.find()] == [1]
        return code, {"theirs": 1}

    stack.service.handlers["/x"] = handler
    answer = stack.call("/x")
    if code == 200:
        assert (answer.status, answer.reason) == (503, "rolledBack") and "Retry-After" in answer.headers
        assert answer.json["message"].endswith("ended it.")  # all of the sentence
    else:
        assert (answer.status, answer.json) == (500, {"theirs": 1})
    assert set(stack.stored(name)) == {1}
    stack.direct[DATABASE][name].insert_many([{"_id": 2}, {"_id": 3}])


def lose(which, direction, sent):
    """For WireTap: the first command that `which` takes never arrives, or its answer does not."""

    def request(command):
        if which(command) and not sent:
            sent.append(command)
            return False if direction == "request" else None
        return None

    def reply(document):
        if direction == "reply" and len(sent) == 1 and "ismaster" not in document:
            sent.append(document)
            return False
        return None

    return request, reply


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_lost_answer_of_the_commit(stack, collection, name, direction):
    """It is asked for again elsewhere; the caller gets the service's answer only when that is known."""

    def handler(_):
        collection.insert_many([{"_id": 1}, {"_id": 2}])
        return 201

    stack.service.handlers["/x"] = handler
    tap = stack.between
    tap.before_request, tap.before_reply = lose(
        lambda command: "commitTransaction" in command, direction, []
    )
    assert stack.call("/x").status == 201
    assert set(stack.stored(name)) == {1, 2}
    wait_until(lambda: newest(stack.proxy)["state"] == "committed", 10, "it is committed")


def test_the_service_goes_on_while_a_commit_is_asked_for(stack, collection, name):
    """The connection that was lent for the commit broke: it is given back at once, not when the
    server has said how the commit ended."""
    gate, sent = Gate(), []

    def handler(_):
        collection.insert_one({"_id": 1})
        return 201

    def before_request(command):
        if "commitTransaction" not in command:
            return None
        sent.append(command)
        return False if len(sent) == 1 else gate.stop_here()

    stack.service.handlers["/x"] = handler
    collection.find_one()  # the service's only connection is there
    stack.between.before_request = before_request
    caller = stack.begin("/x")
    gate.wait_reached()
    with pymongo.timeout(5):
        assert collection.find_one() in (None, {"_id": 1})
    assert caller.running()
    gate.go.set()
    assert caller.wait().status == 201
    assert set(stack.stored(name)) == {1}


def test_the_server_has_lost_the_transaction(stack, collection, name):
    """As after a failover: 503, and nothing is there."""

    def handler(_):
        collection.insert_one({"_id": 1})
        return 201

    stack.service.handlers["/x"] = handler
    stack.between.before_request = lambda command: (
        {"ok": 0.0, "code": NO_SUCH, "errmsg": "no such", "errorLabels": ["TransientTransactionError"]}
        if "commitTransaction" in command
        else None
    )
    answer = stack.call("/x")
    assert (answer.status, answer.reason) == (503, "rolledBack") and "Retry-After" in answer.headers
    wait_until(lambda: newest(stack.proxy)["state"] == "aborted", 10, "it is aborted")


def test_lost_answer_of_a_write(stack, collection, name):
    """Whether it was done nobody knows: the unit is rolled back, and 2xx is 503."""
    cut = []

    def handler(_):
        collection.insert_one({"_id": 1})
        with pytest.raises(pymongo.errors.PyMongoError):
            collection.insert_one({"_id": 2})
        return 200

    stack.service.handlers["/x"] = handler
    tap = stack.between
    tap.before_request, tap.before_reply = lose(
        lambda command: command.get("documents") == [{"_id": 2}], "request", cut
    )
    answer = stack.call("/x")
    assert cut and (answer.status, answer.reason) == (503, "rolledBack")
    assert stack.stored(name) == {}


# ---- handlers that live on, timeouts, connections


def test_timeout(stack, collection, name):
    """503, the transaction is aborted at once, and what the handler still writes is refused."""
    gate, late = Gate(), []

    def handler(_):
        collection.insert_one({"_id": 1})
        gate.stop_here()
        try:
            collection.insert_one({"_id": 2})
        except OperationFailure as error:
            late.append(error.code)
        return 200

    stack.service.handlers["/x"] = handler
    answer = stack.call("/x")
    assert (answer.status, answer.reason) == (503, "timeout")
    stack.direct[DATABASE][name].insert_one({"_id": 1, "by": "another"})
    gate.go.set()
    wait_until(lambda: late == [NO_SUCH], 10, "the late write is refused")
    assert stack.stored(name) == {1: {"_id": 1, "by": "another"}}


def test_several_connections_and_a_get_beside(stack, collection, name):
    """A GET sees what the open call has written, as without Holdfast; writes of several connections
    are one transaction."""
    gate = Gate()

    def handler(_):
        def write(number):
            with pymongo.MongoClient(stack.proxy.uri) as client:
                client[DATABASE][name].insert_one({"_id": number})

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gate.stop_here()
        return 500

    stack.service.handlers["/x"] = handler
    stack.service.handlers["/get"] = lambda _: (200, len(list(collection.find())))
    call = stack.begin("/x")
    gate.wait_reached()
    assert stack.call("/get", method="GET").json == 4
    gate.go.set()
    assert call.wait().status == 500
    assert stack.call("/get", method="GET").json == 0


def test_a_service_without_a_connection_left():
    """Of one that opens a connection for each piece of work none is left that could end the
    transaction: the proxy does it by its own, in the name of its user."""
    users = [("alice", "secret", [("readWrite", DATABASE)])]
    with HttpStack(between=Authenticated, mode="replicaset", auth=users, **ALICE) as stack:
        stack.direct[DATABASE].create_collection("c")

        def handler(request):
            with pymongo.MongoClient(stack.proxy.uri, **ALICE) as client:
                client[DATABASE]["c"].insert_one({"_id": 1})
            return int(request.payload)

        stack.service.handlers["/x"] = handler
        assert stack.call("/x", 409).status == 409
        wait_until(lambda: stack.call("/x", 200).status == 200, 10, "the documents are free")
        assert set(stack.stored("c")) == {1}
        assert newest(stack.proxy)["user"] == "admin.alice"
        assert any("uid" in command["lsid"] for command in endings(stack.between))


def test_users():
    """The call's transaction is committed with the rights of its user, on a connection of its
    service. It is one user's: another one's write is refused and ends it, a read is refused."""
    users = [(user, "secret", [("readWrite", DATABASE)]) for user in ("alice", "bob")]
    with HttpStack(between=Authenticated, mode="replicaset", auth=users, **ALICE) as stack:
        stack.direct[DATABASE].create_collection("c")
        collection, refused = stack.collection("c"), []

        def handler(request):
            collection.insert_one({"_id": 1})
            with pymongo.MongoClient(stack.proxy.uri, **{**ALICE, "username": "bob"}) as client:
                for command in (client[DATABASE]["c"].find_one, client[DATABASE]["c"].insert_one):
                    if command.__name__ in request.path:
                        with pytest.raises(OperationFailure) as caught:
                            command({"_id": 2})
                        refused.append(caught.value.code)
            return 200

        for path in ("/alone", "/find_one", "/insert_one"):
            stack.service.handlers[path] = handler
        assert stack.call("/alone").status == 200
        assert newest(stack.proxy)["user"] == "admin.alice"
        assert not any("uid" in command["lsid"] for command in endings(stack.between))
        stack.direct[DATABASE]["c"].delete_many({})
        assert stack.call("/find_one").status == 200
        stack.direct[DATABASE]["c"].delete_many({})
        assert stack.call("/insert_one").status == 503
        assert refused == [NOT_IN_TRANSACTION, NOT_IN_TRANSACTION] and stack.stored("c") == {}


def test_who_has_not_logged_in_ends_no_call():
    """The server is asked whether that matters before anything of the call's unit is touched."""
    users = [("alice", "secret", [("readWrite", DATABASE)])]
    strangers = ({"find": "c"}, {"insert": "c", "documents": [{}]})
    with HttpStack(between=Authenticated, mode="replicaset", auth=users, **ALICE) as stack:
        stack.direct[DATABASE].create_collection("c")

        def handler(_):
            for number in (1, 2):  # before the call's first command, and after it
                with Connection(stack.proxy.port) as raw:
                    replies = [raw.run({**command, "$db": DATABASE}) for command in strangers]
                assert [reply.get("code") for reply in replies] == [13, 13]
                stack.collection("c").insert_one({"_id": number})
            return 200

        stack.service.handlers["/x"] = handler
        assert stack.call("/x").status == 200
        assert set(stack.stored("c")) == {1, 2}


# ---- several services, many calls


@pytest.mark.parametrize("code,kept", [(201, {1, 2}), (500, set())])
def test_a_call_that_spans_two_services(tmp_path, name, code, kept):
    """One transaction over the connections of both."""
    one, two = Fronted("one", domain="both"), Fronted("two", domain="both")
    with Domains(tmp_path, one, two, mode="replicaset") as stack:
        stack.direct[DATABASE].create_collection(name)

        def outer(_):
            one.collection(name).insert_one({"_id": 1})
            assert call(two.inside, "/inner").status == 200
            return code

        def inner(_):
            two.collection(name).insert_one({"_id": 2})
            return 200 if two.collection(name).count_documents({}) == 2 else 500

        one.service.handlers["/outer"], two.service.handlers["/inner"] = outer, inner
        assert one.call("/outer").status == code
        assert stack.stored(name) == kept


def test_many_calls_at_once_by_trace(tmp_path, name):
    """All are open at the same time, each a transaction; every second one fails. Reads belong to
    the call whose traceparent they carry, like writes; without one they are of none."""
    one, together = Fronted("one"), threading.Barrier(8, timeout=20)
    with Domains(tmp_path, one, mode="replicaset", http_correlation="trace") as stack:
        stack.direct[DATABASE].create_collection(name)

        def handler(request):
            number, comment = int(request.path.split("?")[1]), comment_of(request)
            collection = one.collection(name)
            collection.insert_one({"_id": number}, comment=comment)
            together.wait()
            collection.insert_one({"_id": number + 100}, comment=comment)
            assert {d["_id"] for d in collection.find(comment=comment)} == {number, number + 100}
            assert number not in {d["_id"] for d in collection.find()}
            return 200 if number % 2 else 500

        one.service.handlers["/"] = handler
        callers = [InBackground(one.listen, f"/?{number}", **traced(number)) for number in range(8)]
        assert [caller.wait().status for caller in callers] == [500, 200] * 4
        assert stack.stored(name) == {1, 3, 5, 7, 101, 103, 105, 107}


def test_many_calls_at_once_by_instances(tmp_path, name):
    """One on each instance, each a transaction that its reads are in, too."""
    together = threading.Barrier(3, timeout=20)
    with Instances(tmp_path, 3, mode="replicaset") as stack:
        stack.direct[DATABASE].create_collection(name)

        def handler(number, database, request):
            database[name].insert_one({"_id": request.path})
            together.wait()
            seen = [document["_id"] for document in database[name].find()]
            together.wait()
            return (500 if request.path.endswith("1") else 201), seen

        stack.handle("/x", handler)
        calls = [InBackground(stack.listen, f"/x?{number}") for number in range(3)]
        answers = [call.wait() for call in calls]
        assert [answer.status for answer in answers] == [201, 500, 201]
        assert [answer.json for answer in answers] == [[f"/x?{number}"] for number in range(3)]
        assert set(stack.stored(name)) == {"/x?0", "/x?2"}
        warnings = [entry["msg"] for entry in stack.proxy.log() if entry["s"] == "W"]
        assert any("another holdfastd fronts these services" in each for each in warnings)


# ---- whatever dies


@pytest.fixture(scope="module")
def crash_stack():
    with HttpStack({"http.quietPeriod": "300ms"}, mode="replicaset") as made:
        yield made


@pytest.mark.parametrize("point", ["native_committing", "native_sent", "native_answered"])
def test_killed_in_commit(crash_stack, name, point):
    """kill -9 of the proxy around the commit: recovery asks the server, and who repeats the request
    under its key gets the first answer."""
    stack, calls = crash_stack, []
    stack.direct[DATABASE].create_collection(name)
    collection = stack.collection(name)

    def handler(_):
        calls.append(1)
        collection.insert_one({"_id": len(calls)})
        return 201, {"n": len(calls)}

    stack.service.handlers["/x"] = handler
    stack.proxy.restart(crash_at=f"{point}:1")
    reconnected(stack)
    wait_until(lambda: is_open(stack.proxy), 10, "the fence of the start is over")
    headers = {"Idempotency-Key": f'"{name}"'}
    caller = stack.begin("/x", headers=headers)
    assert stack.proxy.process.wait(20) in (-signal.SIGKILL, 137), "the point was not reached"
    caller.wait()
    assert caller.answer is None and newest(stack.proxy)["state"] == "committing"
    stack.proxy.start()
    assert newest(stack.proxy)["state"] == "committed"
    reconnected(stack)
    answer = stack.call("/x", headers=headers)
    assert (answer.status, answer.json) == (201, {"n": 1})
    assert "Idempotency-Replayed" in answer.headers
    assert set(stack.stored(name)) == {1} and len(calls) == 1


def test_killed_while_open(name):
    """kill -9 of the proxy in a call: its writes were never committed, and the server ends the
    transaction by itself. The handler that lives on is refused."""
    gate, late = Gate(), []
    with HttpStack({"http.quietPeriod": "5s"}, mode="replicaset") as stack:
        stack.direct[DATABASE].create_collection(name)
        collection = stack.collection(name)

        def handler(_):
            collection.insert_one({"_id": 1})
            gate.stop_here()
            for number in (2, 3):
                try:
                    collection.insert_one({"_id": number})
                except pymongo.errors.PyMongoError as error:
                    late.append(error)
            return 200

        stack.service.handlers["/x"] = handler
        caller = stack.begin("/x")
        gate.wait_reached()
        stack.proxy.kill()
        stack.proxy.start()
        gate.go.set()
        caller.wait()
        wait_until(lambda: len(late) == 2, 10, "the late writes are refused")
        assert late[-1].code == NO_SUCH and stack.stored(name) == {}


def test_the_server_is_killed(name):
    """Transactions that were open are gone with it: the call gets no 2xx."""
    gate = Gate()
    with HttpStack({"http.quietPeriod": "300ms"}, mode="replicaset") as stack:
        stack.direct[DATABASE].create_collection(name)
        collection = stack.collection(name)

        def handler(_):
            collection.insert_one({"_id": 1})
            gate.stop_here()
            return 201

        stack.service.handlers["/x"] = handler
        caller = stack.begin("/x")
        gate.wait_reached()
        stack.server.kill()
        stack.server.start()
        gate.go.set()
        answer = caller.wait()
        assert answer.status == 503 and set(stack.stored(name)) == set()


# ---- commands whose client wants no answer


def test_more_to_come(stack, collection, name):
    """The call waits for the server's answer to what runs beside it, whatever its client wants."""

    def handler(_):
        with Connection(stack.proxy.port) as raw:
            command = {
                "createIndexes": name,
                "indexes": [{"key": {"x": 1}, "name": "x"}],
                "writeConcern": {"w": 0},
                "$db": DATABASE,
            }
            raw.send(encode_message(command, flags=MORE_TO_COME))
            wait_until(
                lambda: "x" in stack.direct[DATABASE][name].index_information(), 5, "the index is there"
            )
        return 200

    stack.service.handlers["/x"] = handler
    assert stack.call("/x").status == 200


# ---- Idempotency-Key


def test_a_repeated_request(stack, collection, name):
    """What was answered is kept with the commit, also of a call that has written nothing."""

    def handler(request):
        if request.path == "/write":
            collection.insert_one({})
        return 201, {"n": collection.count_documents({})}

    stack.service.handlers["/write"] = stack.service.handlers["/read"] = handler
    for path in ("/write", "/read"):
        headers = {"Idempotency-Key": f'"{name}{path}"'}
        answers = [stack.call(path, headers=headers) for _ in range(2)]
        assert [answer.status for answer in answers] == [201, 201]
        assert answers[0].json == answers[1].json == {"n": 1}
        assert "Idempotency-Replayed" in answers[1].headers
    assert len(stack.stored(name)) == 1
