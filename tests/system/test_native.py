"""Native engine: a unit is a transaction of the server, a replica set of one node here.

Transactions pass as they are, and the journal holds COMMITTING before a commit leaves. What a lost
answer, a killed proxy and a killed server leave behind is asked of the server, never guessed.
"""

import json
import time
import uuid

import bson
import pymongo
import pytest
from bson import json_util
from bson.binary import UuidRepresentation
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Proxy, ProxyFailed, Server, WireTap, encode_message, holdfast, wait_until
from holdfast_testing.metrics import Metrics
from holdfast_testing.server import server_kind

UNKNOWN_ERROR, NO_SUCH_TRANSACTION = 8, 251
AS_IS = json_util.JSONOptions(uuid_representation=UuidRepresentation.UNSPECIFIED)

pytestmark = pytest.mark.usefixtures("unhooked")


@pytest.fixture(scope="module")
def stack():
    with Stack(between=lambda server: WireTap(server.port), mode="replicaset") as made:
        made.direct[DATABASE].create_collection("c")
        yield made


@pytest.fixture
def raw(stack):
    with Connection(stack.proxy.port, 30) as connection:
        yield connection


def units(wal, state="all"):
    done = holdfast("units", "--json", "--state", state, "--wal", wal)
    return json.loads(done.stdout)["units"]


def show(wal, unit):
    return json_util.loads(holdfast("show", unit, "--json", "--wal", wal).stdout, json_options=AS_IS)


def unit_of(wal, transaction):
    """The newest unit of a raw transaction, as `show` tells it; None: it was not journaled."""
    for unit in reversed(units(wal)):
        shown = show(wal, unit["unit"])
        if (shown["lsid"], shown["txnNumber"]) == (transaction.lsid["id"], transaction.number):
            return shown
    return None


def ended(wal, transaction):
    """The same, once its outcome, which nobody waits for, is in the journal."""

    def look():
        unit = unit_of(wal, transaction)
        return unit if unit is not None and unit["state"] != "committing" else None

    return wait_until(look, 10, "the transaction's outcome is journaled")


def is_commit(command):
    return "commitTransaction" in command


def is_hello(reply):
    """The proxy looks after the server on connections of its own."""
    return "maxWireVersion" in reply


def cut_once(which):
    """A hook of the tap: cuts the connection that carries the first message which is `which`."""
    cut = []

    def hook(document):
        if which(document) and not cut:
            cut.append(document)
            return False
        return None

    return hook


def inserted(stack, _id):
    return stack.direct[DATABASE]["c"].count_documents({"_id": _id}) == 1


# ---------------------------------------------------------------- as it is


def test_passes_byte_for_byte(stack, raw):
    """Every field of a transaction's commands reaches the server as the driver sent it."""
    stack.between.commands.clear()
    unit = RawTransaction(raw)
    first = {
        "insert": "c",
        "documents": [{"_id": uuid.uuid4().hex, "a": 1.0}],
        "readConcern": {"level": "snapshot"},
        "comment": "kept",
    }
    assert unit.run(first)["ok"] == 1
    commit = {"commitTransaction": 1, "writeConcern": {"w": "majority", "wtimeout": 5000}}
    assert unit.run(commit, "admin", begin=False)["ok"] == 1
    seen = [command for _, command in stack.between.commands if "lsid" in command]
    fields = {"lsid": unit.lsid, "txnNumber": Int64(1), "autocommit": False}
    assert seen == [
        {**first, **fields, "startTransaction": True, "$db": DATABASE},
        {**commit, **fields, "$db": "admin"},
    ]


def test_plain_commands_pass(stack, raw):
    """A retryable write keeps its number: retries are the server's."""
    stack.between.commands.clear()
    command = {
        "insert": "c", "documents": [{"_id": uuid.uuid4().hex}],
        "lsid": {"id": bson.Binary.from_uuid(uuid.uuid4())}, "txnNumber": Int64(7), "$db": DATABASE,
    }  # fmt: skip
    assert raw.run(command)["n"] == 1
    assert [c for _, c in stack.between.commands if "txnNumber" in c] == [command]


def test_driver(stack):
    """pymongo's transactions, with its retries, reads and options, as against the server."""
    key = uuid.uuid4().hex
    with stack.proxy.client() as client, client.start_session() as session:
        collection = client[DATABASE]["c"]

        def body(inside):
            collection.insert_one({"_id": key, "n": 0}, session=inside)
            for _ in range(3):
                collection.update_one({"_id": key}, {"$inc": {"n": 1}}, session=inside)
            assert collection.find_one({"_id": key}, session=inside)["n"] == 3
            assert collection.find_one({"_id": key}) is None
            return "done"

        assert session.with_transaction(body) == "done"
        with session.start_transaction():
            collection.delete_one({"_id": key}, session=session)
            session.abort_transaction()
        assert collection.find_one({"_id": key})["n"] == 3
        assert client.is_mongos


# ---------------------------------------------------------------- the journal


def test_commit_is_journaled(stack, raw):
    """Who, what and when: user, client, session, commands; of a transaction that wrote."""
    key = uuid.uuid4().hex
    unit = RawTransaction(raw)
    unit.run({"find": "c", "filter": {"_id": key}})
    unit.insert("c", {"_id": key})
    unit.update("c", {"_id": key}, {"$set": {"a": 1}})
    assert unit.commit()["ok"] == 1
    shown = ended(stack.proxy.wal, unit)
    assert shown["state"] == "committed" and shown["boundary"] == "driver"
    assert shown["client"].startswith("127.0.0.1:") and shown["user"] == ""
    committing = shown["committing"]
    assert committing["txnNumber"] == 1 and "left" not in committing
    assert committing["commands"] == [
        {"insert": "c", "documents": [{"_id": key}], "$db": DATABASE},
        {"update": "c", "updates": [{"q": {"_id": key}, "u": {"$set": {"a": 1}}}], "$db": DATABASE},
    ]
    text = holdfast("show", shown["unit"], "--wal", stack.proxy.wal).stdout
    assert "txnNumber 1\n" in text and text.count("\ncommand ") == 2
    lines = holdfast("export", "--unit", shown["unit"], "--wal", stack.proxy.wal).stdout.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["unit", "committing"]


def test_documents_in_sequences_are_journaled(stack):
    """The audit has what a driver sends beside the body."""
    key = uuid.uuid4().hex
    with stack.proxy.client() as client, client.start_session() as session:
        with session.start_transaction():
            documents = [{"_id": f"{key}.{i}"} for i in range(3)]
            client[DATABASE]["c"].insert_many(documents, session=session)
        every = (show(stack.proxy.wal, unit["unit"]) for unit in units(stack.proxy.wal))
        unit = next(shown for shown in every if shown["lsid"] == session.session_id["id"])
    assert unit["committing"]["commands"][0]["documents"] == documents


def test_reads_are_not_journaled(stack, raw):
    """A transaction that only reads costs the journal nothing, and one that aborts neither."""
    unit = RawTransaction(raw)
    unit.run({"find": "c", "filter": {}})
    assert unit.commit()["ok"] == 1
    other = RawTransaction(raw)
    other.insert("c", {"_id": uuid.uuid4().hex})
    assert other.abort()["ok"] == 1
    assert unit_of(stack.proxy.wal, unit) is None and unit_of(stack.proxy.wal, other) is None


def test_durable_before_it_leaves(stack, raw):
    """When the server gets the commit its COMMITTING record can be read from the journal."""
    seen = []
    unit = RawTransaction(raw)
    unit.insert("c", {"_id": uuid.uuid4().hex})

    def look(command):
        if is_commit(command):
            seen.append(unit_of(stack.proxy.wal, unit))

    stack.between.before_request = look
    assert unit.commit()["ok"] == 1
    assert [shown["state"] for shown in seen] == ["committing"]


@pytest.mark.parametrize("limit, kept, left", [("0", 0, None), ("150", 1, 2)])
def test_audit_is_bounded(limit, kept, left):
    """unit.auditBytes: commands beyond it are counted, 0 keeps and counts none."""
    with Stack({"unit.auditBytes": limit}, mode="replicaset") as stack:
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            stack.direct[DATABASE].create_collection("c")
            for i in range(3):
                assert unit.insert("c", {"_id": i, "text": "x" * 20})["n"] == 1
            assert unit.commit()["ok"] == 1
            committing = ended(stack.proxy.wal, unit)["committing"]
    assert len(committing.get("commands", [])) == kept and committing.get("left") == left


def test_refused_commit(stack, raw):
    """What the server says of a failed transaction reaches the client as it is, and the journal."""
    key = uuid.uuid4().hex
    stack.direct[DATABASE]["c"].insert_one({"_id": key})
    unit = RawTransaction(raw)
    assert unit.insert("c", {"_id": key})["writeErrors"][0]["code"] == 11000
    reply = unit.commit()
    assert reply["code"] == NO_SUCH_TRANSACTION and is_transient(reply)
    assert ended(stack.proxy.wal, unit)["state"] == "aborted"


def test_full_journal():
    """No room for COMMITTING: the transaction is aborted at the server, and may be run again."""
    with Stack({"wal.quota": "16MiB", "unit.auditBytes": "16MiB"}, mode="replicaset") as stack:
        stack.direct[DATABASE].create_collection("c")
        with Connection(stack.proxy.port, 30) as raw:
            for number in range(8):
                unit = RawTransaction(raw)
                assert unit.insert("c", {"_id": number, "text": "x" * 4_000_000})["n"] == 1
                reply = unit.commit()
                if reply["ok"] != 1:
                    break
            assert is_transient(reply) and "journal is full" in reply["errmsg"]
            other = RawTransaction(raw)  # no lock is left
            other.run({"find": "c", "filter": {"_id": number}})
            assert other.commit()["ok"] == 1
        assert not inserted(stack, number) and inserted(stack, 0)


# ---------------------------------------------------------------- a lost answer


@pytest.mark.parametrize("direction", ["before_reply", "before_request"])
def test_lost_answer(stack, raw, direction):
    """The commit's connection breaks, behind or before the server: it is asked again, with write
    concern majority, and the client gets the outcome where it waits."""
    key = uuid.uuid4().hex
    unit = RawTransaction(raw)
    unit.insert("c", {"_id": key})
    stack.between.commands.clear()
    pending = []

    def cut_reply(reply):
        if pending and not pending[0] and not is_hello(reply):
            pending[0] = True
            return False
        return None

    def note(command):
        if is_commit(command) and not pending:
            pending.append(direction == "before_request")
            return False if direction == "before_request" else None
        return None

    stack.between.before_request, stack.between.before_reply = note, cut_reply
    assert unit.commit()["ok"] == 1
    assert inserted(stack, key)
    commits = [command for _, command in stack.between.commands if is_commit(command)]
    assert len(commits) == 2 and commits[1]["writeConcern"] == {"w": "majority", "wtimeout": 10000}
    assert commits[1]["lsid"] == unit.lsid and commits[1]["txnNumber"] == 1
    assert ended(stack.proxy.wal, unit)["state"] == "committed"
    stack.between.before_request = stack.between.before_reply = None
    assert raw.run({"find": "c", "filter": {"_id": key}, "$db": DATABASE})["cursor"]["firstBatch"]


def test_client_asks_before_the_proxy(stack, raw):
    """An answer that tells a driver to ask again: it does, and the proxy only if it does not."""
    commits = lambda unit: [
        c for _, c in stack.between.commands if is_commit(c) and c["lsid"] == unit.lsid
    ]

    def answer_first(reply):
        if len(stack.between.commands) and is_commit(stack.between.commands[-1][1]) and not told:
            told.append(time.monotonic())
            return {**reply, "writeConcernError": {"code": 64, "errmsg": "made up"}}
        return None

    for _ in range(5):  # a machine that stalls for a second proves nothing
        told = []
        stack.between.commands.clear()
        asks = RawTransaction(raw)
        asks.insert("c", {"_id": uuid.uuid4().hex})
        stack.between.before_reply = answer_first
        assert "writeConcernError" in asks.commit()
        assert asks.commit()["ok"] == 1
        if time.monotonic() - told[0] < 1.0:
            break
    assert ended(stack.proxy.wal, asks)["state"] == "committed"
    assert len(commits(asks)) == 2

    told = []
    leaves = RawTransaction(raw)
    leaves.insert("c", {"_id": uuid.uuid4().hex})
    assert "writeConcernError" in leaves.commit()
    assert ended(stack.proxy.wal, leaves)["state"] == "committed"
    assert len(commits(leaves)) == 2


def test_client_hears_more_than_the_proxy(stack, raw):
    """The proxy was told that the outcome cannot be told: a conflict. Its client asks once more, and
    the server has committed: the conflict is settled, in the same unit."""
    key = uuid.uuid4().hex
    unit = RawTransaction(raw)
    unit.insert("c", {"_id": key})
    stack.between.commands.clear()
    seen = []

    def answer(reply):
        if not is_commit(stack.between.commands[-1][1]) or is_hello(reply):
            return None
        seen.append(reply)
        if len(seen) == 1:
            return False  # the client's: it is lost
        return {"ok": 0.0, "code": 225, "codeName": "TransactionTooOld", "errmsg": "made up"}

    stack.between.before_reply = answer
    assert unit.commit()["ok"] == 0
    assert len(seen) == 2
    assert ended(stack.proxy.wal, unit)["state"] == "conflict"
    again = unit.commit()  # still no certain answer: it stays as it is
    assert again["ok"] == 0 and not is_transient(again)
    stack.between.before_reply = None
    assert unit.commit()["ok"] == 1
    settled = lambda: unit_of(stack.proxy.wal, unit)["state"] == "committed"
    wait_until(settled, 10, "the conflict is settled")
    assert inserted(stack, key)
    ours = [u for u in units(stack.proxy.wal) if show(stack.proxy.wal, u["unit"])["lsid"] == unit.lsid["id"]]
    assert len(ours) == 1, ours
    assert unit.next().insert("c", {"_id": uuid.uuid4().hex})["ok"] == 1
    assert unit.commit()["ok"] == 1


def test_client_leaves_while_it_is_asked(stack):
    """Nobody waits for it any more: the journal gets the outcome all the same."""
    unit = RawTransaction(Connection(stack.proxy.port))
    unit.insert("c", {"_id": uuid.uuid4().hex})
    stack.between.before_request = lambda command: False if is_commit(command) else None
    unit.connection.send(encode_message({**commit_of(unit), "$db": "admin"}))
    wait_until(lambda: unit_of(stack.proxy.wal, unit) is not None, 10, "it is journaled")
    unit.connection.socket.close()
    time.sleep(0.3)
    assert unit_of(stack.proxy.wal, unit)["state"] == "committing"
    stack.between.before_request = None
    assert ended(stack.proxy.wal, unit)["state"] == "committed"


def commit_of(unit):
    return {
        "commitTransaction": 1, "lsid": unit.lsid, "txnNumber": Int64(unit.number),
        "autocommit": False,
    }  # fmt: skip


def test_driver_retries(stack):
    """A driver whose own connection breaks sends the commit again; it is done once."""
    key = uuid.uuid4().hex
    stack.direct[DATABASE]["c"].insert_one({"_id": key, "n": 0})
    with WireTap(stack.proxy.port) as tap:
        with pymongo.MongoClient(tap.uri) as client, client.start_session() as session:
            session.start_transaction()
            client[DATABASE]["c"].update_one({"_id": key}, {"$inc": {"n": 1}}, session=session)
            tap.before_request = cut_once(is_commit)
            session.commit_transaction()
    assert stack.direct[DATABASE]["c"].find_one({"_id": key})["n"] == 1


# ---------------------------------------------------------------- a killed proxy


@pytest.fixture(scope="module")
def crash_server():
    with Server(mode="replicaset", sync=True) as server:
        server.client()[DATABASE].create_collection("c")
        yield server


@pytest.mark.parametrize("point", ["native_committing", "native_sent", "native_answered"])
def test_killed_in_commit(crash_server, point):
    """kill -9 between COMMITTING durable and the answer: recovery asks the server, which commits it
    or says that it has."""
    with Proxy(crash_server) as proxy:
        proxy.kill()
        proxy.start(crash_at=point)
        key = uuid.uuid4().hex
        unit = RawTransaction(Connection(proxy.port))
        unit.insert("c", {"_id": key})
        commit_lost(unit)
        assert unit_of(proxy.wal, unit)["state"] == "committing"
        proxy.start()
        assert unit_of(proxy.wal, unit)["state"] == "committed"
        with crash_server.client() as direct:
            assert direct[DATABASE]["c"].count_documents({"_id": key}) == 1
        with Connection(proxy.port) as again:  # the driver's own retry, through the new proxy
            assert unit.commit(again)["ok"] == 1
        assert proxy.stop() == 0


def test_killed_in_recovery(crash_server):
    """kill -9 when the server has said it and the journal does not: asked once more."""
    with Proxy(crash_server) as proxy:
        unit = left_committing(crash_server, proxy)
        with pytest.raises(ProxyFailed):
            proxy.start(crash_at="native_asked")
        assert unit_of(proxy.wal, unit)["state"] == "committing"
        proxy.start()
        assert unit_of(proxy.wal, unit)["state"] == "committed"


def commit_lost(unit, connection=None):
    """The connection ends instead of an answer."""
    try:
        assert unit.commit(connection) is None
    except ConnectionError:
        pass


def left_committing(server, proxy):
    """A transaction of which the journal holds COMMITTING and nobody knows the outcome."""
    proxy.kill()
    proxy.start(crash_at="native_sent")
    unit = RawTransaction(Connection(proxy.port))
    unit.insert("c", {"_id": uuid.uuid4().hex})
    commit_lost(unit)
    assert unit_of(proxy.wal, unit)["state"] == "committing"
    return unit


def test_recover_by_hand(crash_server):
    """`holdfast recover` asks, on the journal of a stopped proxy; --dry-run does not."""
    with Proxy(crash_server) as proxy:
        unit = left_committing(crash_server, proxy)
        where = ["--wal", proxy.wal, "--upstream", crash_server.uri]
        looked = json.loads(holdfast("recover", "--dry-run", "--json", *where, check=1).stdout)
        assert looked["notAsked"] == 1 and looked["units"][0]["result"] == "committing"
        done = json.loads(holdfast("recover", "--json", *where, check=0).stdout)
        assert done["committed"] == 1 and done["units"][0]["result"] == "committed"
        assert unit_of(proxy.wal, unit)["state"] == "committed"
        assert "engine      native\n" in holdfast("status", "--wal", proxy.wal).stdout
        assert holdfast("verify", "--wal", proxy.wal, check=0)
        proxy.start()


# ---------------------------------------------------------------- a killed server


def test_lost_with_the_server(crash_server):
    """A transaction that the server lost: NoSuchTransaction, to be run again; never anything else."""
    with Proxy(crash_server) as proxy:
        unit = RawTransaction(Connection(proxy.port))
        unit.insert("c", {"_id": uuid.uuid4().hex})
        crash_server.restart()
        with Connection(proxy.port) as again:
            reply = unit.commit(again)
        assert reply["code"] == NO_SUCH_TRANSACTION and is_transient(reply)
        assert ended(proxy.wal, unit)["state"] == "aborted"


@pytest.mark.skipif(server_kind() == "mongod", reason="mongod keeps how transactions ended")
@pytest.mark.parametrize("choice, state", [("--apply", "committed"), ("--restore", "aborted")])
@pytest.mark.parametrize("living", [True, False])
def test_outcome_unknown(crash_server, choice, state, living):
    """Proxy and server killed, and the server has forgotten: a conflict, for an operator to end."""
    with Proxy(crash_server) as proxy:
        unit = left_committing(crash_server, proxy)
        crash_server.restart()
        proxy.start()
        shown = unit_of(proxy.wal, unit)
        assert shown["state"] == "conflict" and "outcome unknown" in shown["outcome"]["reason"]
        assert holdfast("units", "--wal", proxy.wal, "--state", "conflict").returncode == 1
        where = ["--wal", proxy.wal, "--upstream", crash_server.uri]
        if not living:
            assert proxy.stop() == 0
        holdfast("resolve", shown["unit"], choice, "--yes", *where, check=0)
        assert unit_of(proxy.wal, unit)["state"] == state
        if living:
            assert proxy.stop() == 0


@pytest.mark.skipif(server_kind() == "mongod", reason="mongod keeps how transactions ended")
def test_asked_again_of_a_server_that_has_forgotten(crash_server):
    """The answer to a commit was lost on the way to the driver, which asks again, and the server has
    restarted and forgotten: the driver must not take that for "run it again"."""
    with Proxy(crash_server) as proxy:
        unit = RawTransaction(Connection(proxy.port))
        unit.insert("c", {"_id": uuid.uuid4().hex})
        assert unit.commit()["ok"] == 1
        with Connection(proxy.port) as again:
            assert unit.commit(again)["ok"] == 1
        crash_server.restart()
        with Connection(proxy.port) as again:
            reply = unit.commit(again)
        assert reply["code"] == UNKNOWN_ERROR and not is_transient(reply)
        assert "had committed" in reply["errmsg"]
        assert ended(proxy.wal, unit)["state"] == "committed"
        assert len(units(proxy.wal)) == 1


def pretend_to_keep(tap):
    """The server's answers as if it kept transactions on its disk, as mongod does."""
    asked = []

    def before_request(command):
        asked.append(command.get("find") == "transactions")

    def before_reply(reply):
        if asked and asked[-1] and "cursor" in reply:
            reply["cursor"]["firstBatch"] = [{"_id": 1}]
            return reply
        return None

    tap.before_request, tap.before_reply = before_request, before_reply


def test_lost_commit_of_a_server_that_keeps_them(crash_server):
    """A server that keeps how transactions ended is believed after its restart. (A relay adds to
    the test server's answers that it does.)"""
    with WireTap(crash_server.port) as tap:
        pretend_to_keep(tap)
        with Proxy(tap.uri) as proxy:
            unit = RawTransaction(Connection(proxy.port))
            unit.insert("c", {"_id": uuid.uuid4().hex})
            proxy.kill()
            proxy.start(crash_at="native_committing")
            with Connection(proxy.port) as raw:
                commit_lost(unit, raw)
            assert unit_of(proxy.wal, unit)["state"] == "committing"
            crash_server.restart()
            proxy.start()
            shown = unit_of(proxy.wal, unit)
            assert shown["state"] == "aborted" and "never acknowledged" in shown["outcome"]["reason"]
            assert shown["committing"]["left"] == -1


@pytest.mark.parametrize("code, reason", [(225, "cannot tell"), (13, "impersonate")])
def test_server_will_not_say(crash_server, code, reason):
    """A newer transaction of the session, or another user's: recovery leaves it to an operator. (A
    relay answers so: the test server has neither.)"""
    with WireTap(crash_server.port) as tap:
        with Proxy(tap.uri) as proxy:
            unit = left_committing(crash_server, proxy)
            refuse_commits(tap, unit, code)
            proxy.start()
            shown = unit_of(proxy.wal, unit)
            assert shown["state"] == "conflict" and reason in shown["outcome"]["reason"]


def refuse_commits(tap, unit, code):
    asked = []

    def before_request(command):
        asked.append(is_commit(command) and command["lsid"] == unit.lsid)

    def before_reply(reply):
        if asked and asked[-1] and "isWritablePrimary" not in reply:
            return {"ok": 0.0, "code": code, "errmsg": "refused"}
        return None

    tap.before_request, tap.before_reply = before_request, before_reply


# ---------------------------------------------------------------- users


def test_session_of_a_user():
    """A user's commit whose answer is lost is asked for with the proxy's own credential."""
    users = [("alice", "secret", [("readWrite", DATABASE)])]
    with Stack(
        between=Authenticated, mode="replicaset", auth=True, users=users
    ) as stack, Connection(stack.proxy.port) as raw:
        stack.direct[DATABASE].create_collection("c")
        assert raw.login("alice", "secret")["ok"] == 1
        unit = RawTransaction(raw)
        assert unit.insert("c", {"_id": 1})["n"] == 1
        stack.between.before_request = cut_once(is_commit)
        assert unit.commit()["ok"] == 1
        stack.between.before_request = None
        shown = ended(stack.proxy.wal, unit)
        assert shown["state"] == "committed" and shown["user"] == "admin.alice"


class Authenticated(WireTap):
    def __init__(self, server):
        super().__init__(server.port)
        self._uri = server.uri.replace(str(server.port), str(self.port))

    @property
    def uri(self):
        return self._uri


# ---------------------------------------------------------------- what it is for


def start_fails(upstream, settings, *texts, **options):
    with pytest.raises(ProxyFailed) as caught:
        Proxy(upstream, settings, **options).close()
    for text in texts:
        assert text in caught.value.output
    return caught.value


def test_needs_transactions_of_the_server():
    with Server() as server:
        start_fails(server, {"unit.engine": "native"}, "unit.engine: native needs a server")


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"unit.isolation": "serializable"}, "unit.isolation: serializable"),
    ],
)
def test_what_it_does_not_have(crash_server, settings, text):
    """Refused at the start, by auto and by name, and by --check-config where it is named."""
    start_fails(crash_server, settings, text)
    start_fails(crash_server, {**settings, "unit.engine": "native"}, text)


def test_a_journal_has_one_engine(crash_server, tmp_path):
    """Neither engine takes the other's journal."""
    for first, second in (("native", "journaled"), ("journaled", "native")):
        wal = tmp_path / first
        with Proxy(crash_server, {"unit.engine": first}, wal=wal) as proxy:
            assert proxy.stop() == 0
        start_fails(crash_server, {"unit.engine": second}, f"a journal of the {first} engine", wal=wal)


def test_not_beside_a_journaled_proxy():
    """A live proxy with the journaled engine on the same replica set: its locks would be passed by."""
    with Server(mode="replicaset") as server:
        with Proxy(server, {"unit.engine": "journaled"}) as other:
            start_fails(server, {}, "a proxy with the journaled engine serves this server")
            assert other.stop() == 0
        with Proxy(server) as proxy:
            assert proxy.stop() == 0


def test_beside_each_other(crash_server):
    """Any number of proxies with this engine serve one replica set."""
    with Proxy(crash_server) as proxy, Proxy(crash_server) as second:
        for one in (proxy, second):
            with Connection(one.port) as raw:
                unit = RawTransaction(raw)
                unit.insert("c", {"_id": uuid.uuid4().hex})
                assert unit.commit()["ok"] == 1


def test_metrics(crash_server):
    with Proxy(crash_server, options=["--admin", "127.0.0.1:0"]) as proxy:
        with Connection(proxy.port) as raw:
            unit = RawTransaction(raw)
            unit.insert("c", {"_id": uuid.uuid4().hex})
            assert unit.commit()["ok"] == 1
        ended(proxy.wal, unit)
        figures = Metrics(proxy)
        labels = {"boundary": "driver", "engine": "native", "outcome": "committed"}
        assert figures.get("holdfast_units_total", **labels) == 1
