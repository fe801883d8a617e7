"""Failover of the replica set or cluster behind the proxy: real drivers, and a fake set of three
nodes (no server of several nodes can be had here; fake_replica_set.py says what is true of it).

Clients keep their connections where the protocol allows it; what was on its way is answered as a
mongos would, so that drivers ride through.
"""

import subprocess
import threading
import time
import uuid

import bson
import pymongo
import pytest
from bson.int64 import Int64
from holdfast_testing import (
    Connection,
    FakeReplicaSet,
    Later,
    Proxy,
    ProxyFailed,
    ask_control,
    build_bin,
    encode_query,
    wait_until,
)
from holdfast_testing.metrics import Metrics

HOST_UNREACHABLE = 6
CURSOR_NOT_FOUND = 43
FAILED_TO_SATISFY = 133
NO_SUCH_TRANSACTION = 251
RETRYABLE = "RetryableWriteError"
TRANSIENT = "TransientTransactionError"


@pytest.fixture
def members():
    with FakeReplicaSet(3) as made:
        yield made


@pytest.fixture
def proxy(members):
    with Proxy(members.uri, {"admin.listen": "127.0.0.1:0"}) as made:
        yield made
        assert made.process.running(), made.process.tail(60)
        assert made.stop() == 0


@pytest.fixture
def client(proxy):
    with proxy.client() as made:
        yield made


@pytest.fixture
def raw(proxy):
    with Connection(proxy.port, 30) as made:
        yield made


def new_session():
    return {"id": bson.Binary.from_uuid(uuid.uuid4())}


def insert(identity, **fields):
    return {"insert": "c", "documents": [{"_id": identity}], "$db": "test", **fields}


def current(proxy):
    return ask_control(proxy, "/status")[1]["upstream"]["current"]


def events(proxy):
    return [e["attr"]["reason"] for e in proxy.log() if e["c"] == "event"]


def stored(members):
    """What the primary has: {_id: document}."""
    with members.changed:
        return {d["_id"]: d for d in members.primary.data.get("test.c", {}).values()}


def once(members, name, act):
    """At the first command of that name on the primary `act` is called, which returns what the
    hook returns."""

    def hook(node, command_name, command):
        if command_name == name and not done:
            done.append(node)
            return act(node)
        return None

    done = []
    members.on_command = hook


# ---------------------------------------------------------------- one connection


def test_a_connection_goes_on_after_a_step_down(members, proxy, raw):
    first = members.primary
    assert raw.run(insert(1))["ok"] == 1
    members.step_down()
    wait_until(lambda: current(proxy) == members.primary.address, 10, "the proxy has noticed")
    assert raw.run(insert(2))["ok"] == 1
    assert members.primary is not first
    assert set(stored(members)) == {1, 2}
    assert raw.run({"find": "c", "$db": "test"})["cursor"]["firstBatch"] == [{"_id": 1}, {"_id": 2}]


def test_who_learns_first_that_the_primary_has_stepped_down_is_not_sent_there_again(members, raw):
    """The monitor need not have noticed: the server's own error does."""
    assert raw.run(insert(1))["ok"] == 1
    members.election_delay = 0.5
    members.fail("insert", code=10107)
    reply = raw.run(insert(2, lsid=new_session(), txnNumber=Int64(1)))
    assert reply["code"] == 10107
    assert RETRYABLE in reply["errorLabels"]
    assert raw.run(insert(2))["ok"] == 1  # asks the server anew what it is


def test_a_write_whose_server_dies_may_be_retried_on_the_same_connection(members, raw):
    write = insert(1, lsid=new_session(), txnNumber=Int64(1))
    assert raw.run(insert(0))["ok"] == 1

    def die_after(node):
        threading.Timer(0.05, members.kill, [node]).start()
        return "after"

    once(members, "insert", die_after)
    reply = raw.run(write)
    assert (reply["ok"], reply["code"]) == (0, HOST_UNREACHABLE)
    assert reply["errorLabels"] == [RETRYABLE]
    assert raw.run(write)["n"] == 1  # the next primary has its outcome
    assert set(stored(members)) == {0, 1}


def test_what_is_no_retryable_write_gets_no_label(members, raw):
    assert raw.run(insert(0))["ok"] == 1
    for command in (insert(1), {"find": "c", "$db": "test"}, {"ping": 1, "$db": "test"}):
        once(members, next(iter(command)), lambda node: False)
        reply = raw.run(command)
        assert (reply["code"], reply.get("errorLabels")) == (HOST_UNREACHABLE, None)
    once(members, "aggregate", lambda node: False)
    reply = raw.run({"aggregate": "c", "pipeline": [], "cursor": {}, "$db": "test"})
    assert reply["errorLabels"] == ["ResumableChangeStreamError"]


def test_a_transaction_is_transiently_lost_with_its_server(members, raw):
    part = {"lsid": new_session(), "txnNumber": Int64(1), "autocommit": False}
    assert raw.run(insert(1, **part, startTransaction=True))["ok"] == 1
    once(members, "insert", lambda node: members.kill(node) or False)
    reply = raw.run(insert(2, **part))
    assert (reply["code"], reply["errorLabels"]) == (HOST_UNREACHABLE, [TRANSIENT])
    reply = raw.run(insert(2, **part))  # it is unknown to the next primary
    assert (reply["code"], reply["errorLabels"]) == (NO_SUCH_TRANSACTION, [TRANSIENT])
    assert stored(members) == {}


def test_a_cursor_ends_with_its_server(members, proxy, raw):
    raw.run({"insert": "c", "documents": [{"_id": i} for i in range(5)], "$db": "test"})
    found = raw.run({"find": "c", "batchSize": 2, "$db": "test"})
    members.step_down()
    wait_until(lambda: current(proxy) == members.primary.address, 10, "the proxy has noticed")
    more = {"getMore": found["cursor"]["id"], "collection": "c", "$db": "test"}
    assert raw.run(more)["code"] == CURSOR_NOT_FOUND


def test_a_command_waits_for_an_election(members, raw):
    assert raw.run(insert(1))["ok"] == 1
    members.election_delay = 1.0
    members.kill(members.primary)
    began = time.monotonic()
    assert raw.run(insert(2))["ok"] == 1
    assert time.monotonic() - began > 0.5


def test_a_hello_waits_for_no_election(members, proxy, raw):
    """A driver's monitor goes on taking the proxy for a living mongos."""
    assert raw.run(insert(1))["ok"] == 1
    told = raw.run({"hello": 1, "$db": "admin"})
    members.election_delay = 3600
    members.kill(members.primary)
    wait_until(lambda: current(proxy) == "", 10, "the proxy has noticed")
    assert events(proxy) == ["PrimaryLost"]
    with Connection(proxy.port, 5) as new:
        for connection in (raw, new):
            again = connection.run({"hello": 1, "$db": "admin"})
            changing = {"localTime", "connectionId", "$clusterTime", "operationTime"}
            assert {k: v for k, v in again.items() if k not in changing} == {
                k: v for k, v in told.items() if k not in changing
            }
        new.send(encode_query({"isMaster": 1}))
        assert new.receive()["msg"] == "isdbgrid"
        with pymongo.MongoClient(proxy.uri, serverSelectionTimeoutMS=2000) as client:
            assert client.is_mongos
        waits = Later(lambda: new.run(insert(2)))
        assert waits.waits()
        members.elect()
        assert waits.result()["ok"] == 1
    assert raw.run(insert(3))["ok"] == 1


def test_a_service_is_known_by_the_hello_that_no_server_answered(members, tmp_path):
    """A driver names its appName in its first hello only."""
    config = tmp_path / "holdfast.yaml"
    config.write_text(
        "services: [{name: one, listen: '127.0.0.1:0', service: '127.0.0.1:9', appName: one}]\n"
    )
    settings = {"http.backgroundWrites": "refuse", "admin.listen": "127.0.0.1:0"}
    with Proxy(members.uri, settings, options=["--config", str(config)]) as proxy:
        with Connection(proxy.port, 30) as before:
            assert before.run(insert(1))["ok"] == 1  # nobody's
        members.election_delay = 3600
        members.kill(members.primary)
        wait_until(lambda: current(proxy) == "", 10, "the proxy has noticed")
        with Connection(proxy.port, 30) as during:
            client = {"application": {"name": "one"}}
            assert during.run({"hello": 1, "client": client, "$db": "admin"})["ok"] == 1
            members.elect()
            assert during.run(insert(2))["ok"] == 0
        assert set(stored(members)) == {1}


def test_a_command_waits_only_so_long():
    with FakeReplicaSet(3) as members:
        uri = members.uri_of("serverSelectionTimeoutMS=700")
        with Proxy(uri) as proxy, Connection(proxy.port, 30) as raw:
            assert raw.run(insert(1))["ok"] == 1
            members.election_delay = 3600
            members.kill(members.primary)
            reply = raw.run(insert(2, lsid=new_session(), txnNumber=Int64(1)))
            assert (reply["code"], reply["errorLabels"]) == (FAILED_TO_SATISFY, [RETRYABLE])
            members.elect()
            assert raw.run(insert(3))["ok"] == 1


def test_a_primary_that_has_been_succeeded_is_not_believed(members, proxy, raw):
    stale = members.primary
    assert raw.run(insert(1))["ok"] == 1
    members.partition(stale)
    assert stale.is_primary
    wait_until(lambda: current(proxy) == members.primary.address, 10, "the proxy has noticed")
    with Connection(proxy.port) as new:
        for number, connection in enumerate((raw, new)):
            assert connection.run(insert(10 + number))["ok"] == 1
    assert set(stored(members)) == {1, 10, 11}
    members.heal(stale)
    assert raw.run(insert(20))["ok"] == 1
    assert set(stored(members)) == {1, 10, 11, 20}


# ---------------------------------------------------------------- drivers


@pytest.mark.parametrize("how", ["step_down", "kill", "shut_down"])
@pytest.mark.parametrize("at", ["update", "insert", "commitTransaction"])
def test_with_transaction_rides_through(members, client, how, at):
    counter = client.test.c
    counter.insert_one({"_id": "counter", "n": 0})

    def act(node):
        threading.Thread(target=getattr(members, how), args=[node][: how != "step_down"]).start()
        return "after" if at == "commitTransaction" and how == "kill" else None

    def work(session):
        counter.update_one({"_id": "counter"}, {"$inc": {"n": 1}}, session=session)
        counter.insert_one({"n": 1}, session=session)

    once(members, at, act)
    with client.start_session() as session:
        for _ in range(3):
            session.with_transaction(work)
    assert stored(members)["counter"]["n"] == 3
    assert len(stored(members)) == 4


def test_plain_writes_of_several_threads_ride_through(members, client):
    counter = client.test.c
    counter.insert_one({"_id": "counter", "n": 0})

    def write():
        for _ in range(20):
            counter.update_one({"_id": "counter"}, {"$inc": {"n": 1}})

    threads = [Later(write) for _ in range(4)]
    for _ in range(2):
        time.sleep(0.05)
        members.step_down()
    victim = members.primary
    members.kill(victim)
    for thread in threads:
        thread.result()
    members.start(victim)
    assert stored(members)["counter"]["n"] == 80


def test_the_c_driver_rides_through(members, proxy):
    driver = subprocess.Popen(
        [str(build_bin() / "driver_libmongoc"), proxy.uri, "c", "200", "transactions"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(driver.stdout.readline, "")
        for line in lines:
            if line == "ack 20\n":
                break
        members.step_down()
        for line in lines:
            if line == "ack 60\n":
                break
        members.kill(members.primary)
        rest = list(lines)
        assert driver.wait(60) == 0
        assert rest[-1] == "ack 199\n"
    finally:
        driver.kill()
    found = [d for database in [members.primary.data] for d in database["test.c"].values()]
    assert next(d for d in found if d["_id"] == "counter")["n"] == 200
    assert len(found) == 401


def test_a_change_stream_resumes(members, client):
    values = client.test.c
    with values.watch(max_await_time_ms=100) as stream:
        values.insert_one({"_id": 1})
        assert stream.next()["documentKey"] == {"_id": 1}
        members.kill(members.primary)
        values.insert_one({"_id": 2})
        assert stream.next()["documentKey"] == {"_id": 2}
        members.step_down()
        values.insert_one({"_id": 3})
        assert stream.next()["documentKey"] == {"_id": 3}


# ---------------------------------------------------------------- logins


def test_who_has_logged_in_is_closed_and_comes_again():
    with FakeReplicaSet(3, users={"one": "secret", "own": "other"}) as members:
        uri = members.uri_of("authSource=admin&authMechanism=SCRAM-SHA-256", "own")
        with Proxy(uri) as proxy, Connection(proxy.port, 10) as raw:
            assert raw.login("one", "secret")["ok"] == 1
            assert raw.run(insert(1))["ok"] == 1
            with proxy.client(user=("one", "secret")) as client:
                client.test.c.insert_one({"_id": 2})
                members.step_down()
                assert raw.closed_by_peer()  # while nothing is on its way
                client.test.c.insert_one({"_id": 3})
                runs = []

                def work(session):
                    runs.append(1)
                    client.test.c.insert_one({"_id": 4}, session=session)
                    if len(runs) == 1:
                        members.kill(members.primary)
                    client.test.c.insert_one({"_id": 5}, session=session)

                with client.start_session() as session:
                    session.with_transaction(work)
            assert set(stored(members)) == {1, 2, 3, 4, 5}


# ---------------------------------------------------------------- a cluster


def test_another_mongos_takes_over():
    with FakeReplicaSet(2, sharded=True) as members:
        with Proxy(members.uri) as proxy, Connection(proxy.port, 30) as raw:
            with proxy.client() as client:
                assert raw.run(insert(1))["ok"] == 1
                used = {node for node, _ in members.commands if _["$db"] == "test"}
                assert len(used) == 1  # one at a time: a driver takes us for one mongos
                with client.start_session() as session:
                    session.with_transaction(
                        lambda s: client.test.c.insert_one({"_id": 2}, session=s)
                    )
                (first,) = used
                members.kill(members.nodes[first])
                assert raw.run(insert(3))["ok"] == 1
                with client.start_session() as session:
                    session.with_transaction(
                        lambda s: client.test.c.insert_one({"_id": 4}, session=s)
                    )
                assert len(members.nodes[1 - first].data["test.c"]) == 4


# ---------------------------------------------------------------- what is told


def test_status_metrics_and_events_tell_of_it(members, proxy, raw):
    assert raw.run(insert(1))["ok"] == 1
    first = members.primary.address
    upstream = ask_control(proxy, "/status")[1]["upstream"]
    assert (upstream["topology"], upstream["followed"], upstream["set"]) == (
        "replicaSet",
        True,
        "fake",
    )
    assert (upstream["current"], upstream["changes"]) == (first, 0)
    states = {server["server"]: server["state"] for server in upstream["servers"]}
    assert set(states) == set(members.hosts)
    assert sorted(states.values()) == ["primary", "secondary", "secondary"]
    members.kill(members.primary)
    second = members.primary.address
    wait_until(lambda: current(proxy) == second, 10, "the proxy has noticed")
    metrics = Metrics(proxy)
    assert metrics.get("holdfast_upstream_has_primary") == 1
    assert metrics.get("holdfast_upstream_primary_changes_total") == 1
    assert metrics.get("holdfast_upstream_servers", state="secondary") == 1
    assert metrics.get("holdfast_upstream_servers", state="unknown") == 1
    assert "PrimaryChanged" in events(proxy)
    said = [e["attr"] for e in proxy.log() if e["msg"] == "Commands go to this server now"]
    assert [s["server"] for s in said] == [first, second]


def test_one_seed_is_enough_and_options_without_effect_are_told(members):
    seed = members.secondaries[0].address
    uri = f"mongodb://{seed}/?replicaSet=fake&retryWrites=true&fooBar=1"
    with Proxy(uri) as proxy, Connection(proxy.port) as raw:
        assert raw.run(insert(1))["ok"] == 1
        assert current(proxy) == members.primary.address
        told = [
            e["attr"]["option"]
            for e in proxy.log()
            if e["msg"] == "An option of upstream.uri has no effect"
        ]
        assert told == ["retryWrites", "fooBar"]


def test_what_cannot_be_followed_is_refused(members):
    with pytest.raises(ProxyFailed) as failed:
        Proxy(members.uri, {"unit.engine": "journaled"})
    assert "name that one, without replicaSet=" in failed.value.output
    short = {"upstream.connectTimeout": "500ms"}
    with pytest.raises(ProxyFailed) as failed:
        Proxy(members.uri.replace("=fake", "=other"), short)
    assert "none of the servers of upstream.uri is a primary or a mongos" in failed.value.output
    members.election_delay = 3600
    members.step_down()
    with pytest.raises(ProxyFailed) as failed:
        Proxy(members.uri, short)
    assert f"{members.hosts[0]} secondary" in failed.value.output


def test_one_host_is_that_server_and_no_other(members):
    """Without replicaSet=, and with directConnection=true also with it."""
    primary = members.primary
    for options in ("", "?directConnection=true&replicaSet=fake"):
        with Proxy(f"mongodb://{primary.address}/{options}") as proxy:
            with Connection(proxy.port) as raw:
                assert raw.run({"ping": 1, "$db": "test"})["ok"] == 1
                upstream = ask_control(proxy, "/status")[1]["upstream"]
                assert (upstream["topology"], upstream["followed"]) == ("replicaSet", False)
    with Proxy(f"mongodb://{primary.address}/") as proxy, Connection(proxy.port) as raw:
        assert raw.run(insert(1))["ok"] == 1
        members.step_down()
        assert raw.run(insert(2))["code"] == 10107  # what the server says passes
        with pymongo.MongoClient(proxy.uri) as client:
            assert client.admin.command("ping")["ok"] == 1
