"""unit.writes: deferred. A transaction of several collections whose writes all come with its commit:
all or nothing, whoever dies at whatever step of that, or refuses, or breaks off; acknowledged means
kept, and a commit that is asked again is answered truthfully.

Also the other ways in which carrying them out fails: a document that was changed around the proxy, a
missing right, a new validator, a full journal, a broken connection.
"""

import os
import signal
import time

import bson
import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from four_writes import run_commands
from holdfast_testing import Connection, ProxyFailed, WireTap, build_bin
from kill_orders import FULL, KEPT_SECONDS, Client, bring_back, serves, wait_stopped

NO_SUCH_TRANSACTION = 251
WRITE_CONFLICT = 112
DUPLICATE_KEY = 11000
UNAUTHORIZED = 13
VALIDATION = 121
OUT_OF_DISK_SPACE = 14031
BEFORE = [{"_id": key, "v": key, "x": {"y": [1, 2.5]}} for key in range(1, 5)]
AFTER = {
    1: {**BEFORE[0], "v": 101},
    2: {**BEFORE[1], "v": 102},
    4: BEFORE[3],
    5: {"_id": 5, "v": 5},
    6: {"_id": 6, "v": 6},
}
# Sent together with the commit, in this order.
OPERATIONS = 5


def names(name):
    return name, f"{name}_b"


def commands(name):
    """Seven writes: inserts, updates and a removal in one collection, two kinds in another."""
    one, other = names(name)

    def update(collection, key):
        return {"update": collection, "updates": [{"q": {"_id": key}, "u": {"$inc": {"v": 100}}}]}

    return (
        {"insert": one, "documents": [{"_id": 5, "v": 5}]},
        update(one, 1),
        {"delete": one, "deletes": [{"q": {"_id": 3}, "limit": 1}]},
        {"insert": other, "documents": [{"_id": 5, "v": 5}, {"_id": 6, "v": 6}]},
        update(other, 1),
        {"insert": one, "documents": [{"_id": 6, "v": 6}]},
        {"findAndModify": one, "query": {"_id": 2}, "update": {"$inc": {"v": 100}}},
    )


def run(port, name, lsid, read, end, tell):
    """The transaction. `read`: it looks before it ends, so that all is written then."""
    reads = [{"find": names(name)[1]}] if read else []
    run_commands(port, [*commands(name), *reads], lsid, end, tell)


class Script:
    """The transaction, and what the two collections hold without and with it."""

    def __init__(self, stack, name):
        self.name = name
        self.lsid = {"id": bson.Binary(os.urandom(16), 4)}
        for collection in names(name):
            stack.direct[DATABASE][collection].insert_many(BEFORE)
        self.told = {}

    def take(self, what, detail):
        self.told[what] = detail

    def run(self, port, end="commit", read=False):
        run(port, self.name, self.lsid, read, end, lambda news: self.take(*news))

    def absent(self):
        return [{document["_id"]: document for document in BEFORE}] * 2

    def whole(self):
        other = {**AFTER, 2: BEFORE[1], 3: BEFORE[2]}
        return [AFTER, other]

    def check(self, stack):
        """True: it is there."""
        stored = [stack.stored(collection) for collection in names(self.name)]
        assert stored in (self.whole(), self.absent()), f"torn: {stored}"
        is_whole = stored == self.whole()
        assert is_whole or "committed" not in self.told, "an acknowledged commit is gone"
        assert not is_whole or "wanted" in self.told, "there without a commit"
        return is_whole

    def ask_commit_again(self, stack, is_whole):
        with Connection(stack.proxy.port) as raw:
            reply = RawTransaction(raw, lsid=self.lsid).commit()
        if is_whole:
            assert reply["ok"] == 1, reply
        else:
            assert reply["code"] == NO_SUCH_TRANSACTION and is_transient(reply), reply

    def check_all(self, stack):
        """Also: its documents are free."""
        is_whole = self.check(stack)
        self.ask_commit_again(stack, is_whole)
        with Connection(stack.proxy.port) as raw:
            other = RawTransaction(raw)
            for collection in names(self.name):
                for key in range(1, 7):
                    change = {"q": {"_id": key}, "u": {"$set": {"o": 1}}, "upsert": True}
                    reply = other.run({"update": collection, "updates": [change]})
                    assert reply["ok"] == 1 and "writeErrors" not in reply, reply
            assert other.abort()["ok"] == 1
        assert self.check(stack) == is_whole
        return is_whole


def deferred(**settings):
    return {"unit.writes": "deferred", "upstream.fenceWait": "100ms", **settings}


@pytest.fixture(scope="module")
def swept():
    with Stack(deferred()) as made:
        yield made
        made.proxy.verify()


# ---------------------------------------------------------------- the proxy dies

# Where -> (how it gets there, which times of reaching it are tried, which by HOLDFAST_SWEEP=full).
EACH = range(1, OPERATIONS + 1)
POINTS = {
    "unit_journaled": ("commit", (1,), EACH),
    "unit_sent": ("commit", (1, 3, OPERATIONS), EACH),
    "unit_answered": ("commit", (2, OPERATIONS), EACH),
    "commit_requested": ("commit", (1,), (1,)),
    "commit_durable": ("commit", (1,), (1,)),
    "commit_acknowledged": ("commit", (), (1,)),
    "wal_batch_put": ("commit", (1,), (1, 2, 3)),
    "wal_batch_durable": ("commit", (1,), (1, 2, 3)),
    "unit_replied": ("commit", (7,), range(1, 8)),
    "abort_requested": ("read, abort", (), (1,)),
    "undo_restored": ("read, abort", (4,), range(1, 8)),
    "abort_undone": ("read, abort", (), (1,)),
}
CASES = [
    (point, how, number)
    for point, (how, quick, full) in POINTS.items()
    for number in (full if FULL else quick)
]
MAY_BE_MISSED = {"wal_batch_put", "wal_batch_durable"}


@pytest.mark.parametrize(("point", "how", "number"), CASES)
def test_the_proxy_dies(swept, name, point, how, number):
    stack = swept
    script = Script(stack, name)
    stack.proxy.restart(crash_at=f"{point}:{number}")
    script.run(stack.proxy.port, how.split()[-1], how.startswith("read"))
    assert "refused" not in script.told, script.told
    try:
        died = stack.proxy.process.wait(1) == -signal.SIGKILL
    except Exception:  # noqa: BLE001 (still running: the place was not reached)
        died = False
    assert died or (number > 1 and point in MAY_BE_MISSED), f"{point}:{number} was not reached"
    stack.proxy.restart()
    is_whole = script.check_all(stack)
    if point.startswith("unit_") or how != "commit":
        assert not is_whole
    if point in ("commit_durable", "commit_acknowledged"):
        assert is_whole


def test_recovery_dies_too(swept, name):
    """At each of its steps in turn, behind a crash in the middle of the sending."""
    stack = swept
    script = Script(stack, name)
    stack.proxy.restart(crash_at="unit_sent:4")
    script.run(stack.proxy.port)
    assert stack.proxy.process.wait(5) == -signal.SIGKILL
    for crash_at in ("undo_checked", "undo_restored:1", "undo_restored:3", "abort_undone"):
        with pytest.raises(ProxyFailed) as failed:
            stack.proxy.start(crash_at=crash_at)
        assert failed.value.code == -signal.SIGKILL
    stack.proxy.start()
    assert not script.check_all(stack)


# ---------------------------------------------------------------- the server dies, or both


DEATHS = [
    ("unit_sent:2", ("server",), "server first"),
    ("commit_durable", ("server",), "server first"),
    ("unit_sent:3", ("proxy", "server"), "proxy first"),
    ("commit_durable", ("proxy", "server"), "together"),
    ("unit_sent:2", ("client",), None),
]
MORE_DEATHS = [
    ("unit_journaled:1", ("server",), "server first"),
    ("unit_answered:4", ("server",), "server first"),
    ("commit_requested", ("server",), "server first"),
    ("unit_answered:5", ("proxy", "server"), "server first"),
    ("unit_journaled:1", ("client",), None),
]


@pytest.mark.parametrize(
    ("point", "victims", "order"), DEATHS + MORE_DEATHS if FULL else DEATHS
)
def test_others_die(swept, name, point, victims, order):
    """While the proxy stands at that step."""
    stack = swept
    script = Script(stack, name)
    kept = time.monotonic() + KEPT_SECONDS
    number = "" if ":" in point else ":1"
    stack.proxy.kill()
    stack.proxy.start(stop_at=point + number)
    time.sleep(max(0, kept - time.monotonic()))
    client = Client(run, stack.proxy.port, name, script.lsid, False, "commit")
    assert wait_stopped(stack.proxy, client), f"{point} was not reached"
    if "client" in victims:
        client.kill()
        script.take("wanted", None)
        stack.proxy.resume()
    else:
        bring_back(stack, victims, order)
    for news in client.end():
        script.take(*news)
    serves(stack, name)
    is_whole = script.check_all(stack)
    if point == "commit_durable":
        assert is_whole
    stack.proxy.verify()


# ---------------------------------------------------------------- it cannot be carried out


@pytest.fixture(scope="module")
def stack():
    with Stack(deferred(), between=lambda server: WireTap(server.port)) as made:
        yield made
        made.proxy.verify()


pytestmark = pytest.mark.usefixtures("unhooked")


class PutOff:
    """The script up to its end: all of it is put off."""

    def __init__(self, stack, name, connection):
        self.stack, self.name = stack, name
        self.script = Script(stack, name)
        self.unit = RawTransaction(connection, lsid=self.script.lsid)
        self.write()

    def write(self):
        for command in commands(self.name):
            reply = self.unit.run(command)
            assert reply["ok"] == 1 and "writeErrors" not in reply, reply
        assert self.stored() == self.script.absent()

    def stored(self):
        return [self.stack.stored(collection) for collection in names(self.name)]

    def direct(self, number):
        return self.stack.direct[DATABASE][names(self.name)[number]]

    def check_rolled_back(self, changed=None):
        """`changed`: what somebody did around the proxy, {(collection, _id): document}."""
        expected = [dict(one) for one in self.script.absent()]
        for (number, key), document in (changed or {}).items():
            if document is None:
                del expected[number][key]
            else:
                expected[number][key] = document
        assert self.stored() == expected
        assert self.unit.commit()["code"] == NO_SUCH_TRANSACTION
        assert [u for u in self.stack.proxy.units() if u["state"].lower() in ("open", "conflict")] == []


@pytest.fixture
def put_off(stack, name, raw):
    return PutOff(stack, name, raw)


CHANGES = {
    "an updated one is changed": (0, 1, {"_id": 1, "v": "stranger"}),
    "the last one is changed": (1, 1, {"_id": 1, "v": "stranger"}),
    "an updated one is removed": (0, 2, None),
    "the removed one is changed": (0, 3, {"_id": 3, "v": "stranger"}),
    "the removed one is removed": (0, 3, None),
    "an inserted one is inserted": (1, 6, {"_id": 6, "v": "stranger"}),
}
# Which command writes it.
CHANGED_BY = {
    "an updated one is changed": 2,
    "the last one is changed": 5,
    "an updated one is removed": 2,
    "the removed one is changed": 3,
    "the removed one is removed": 3,
    "an inserted one is inserted": 4,
}
WAYS = {
    "commit": lambda unit, name: unit.commit(),
    "read": lambda unit, name: unit.run({"find": names(name)[0]}),
    "write": lambda unit, name: unit.update(names(name)[0], {"v": 4}, {"$set": {"v": 0}}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", CHANGES)
def test_changed_around_the_proxy(put_off, what, way):
    """Between the write and what carries it out: the whole transaction is undone, the stranger's
    change stays, and the error says that it is to be run again."""
    number, key, document = CHANGES[what]
    collection = put_off.direct(number)
    if document is None:
        collection.delete_one({"_id": key})
    else:
        collection.replace_one({"_id": key}, document, upsert=True)
    reply = WAYS[way](put_off.unit, put_off.name)
    assert reply["ok"] == 0 and reply["code"] == WRITE_CONFLICT and is_transient(reply), reply
    put_off.check_rolled_back({(number, key): document})


@pytest.mark.parametrize("sent", range(1, OPERATIONS + 1))
@pytest.mark.parametrize("what", CHANGES)
def test_changed_while_it_is_carried_out(put_off, stack, what, sent):
    """In the last moment before one of the commands is sent: what is written then is undone, what is
    not is left as the stranger has it, and nothing is set aside but what nobody could tell apart."""
    number, key, document = CHANGES[what]

    def change(_):
        collection = put_off.direct(number)
        if document is None:
            done = collection.delete_one({"_id": key})
        else:
            done = collection.replace_one({"_id": key}, document, upsert=True)
        print(done.raw_result)

    hook = Hook(stack, sent, request=change)
    reply = put_off.unit.commit()
    assert hook.met
    if what == "an inserted one is inserted" and sent <= 4:
        assert reply["code"] == DUPLICATE_KEY, reply
    elif sent <= CHANGED_BY[what]:
        assert reply["code"] == WRITE_CONFLICT and is_transient(reply), reply
    else:
        # It is written already: the commit is good, or a stranger changes what is committed.
        assert reply["ok"] == 1, reply
        return
    put_off.check_rolled_back({(number, key): document})


def test_one_of_several_removed_ones(stack, name, raw):
    """It is known which was a stranger's: the others come back, that one does not."""
    stack.direct[DATABASE][name].insert_many(BEFORE)
    unit = RawTransaction(raw)
    for key in (1, 2, 3):
        assert unit.delete(name, {"_id": key})["n"] == 1
    hook = Hook(stack, 1, request=lambda _: stack.direct[DATABASE][name].delete_one({"_id": 2}))
    reply = unit.commit()
    assert hook.met and reply["code"] == WRITE_CONFLICT and is_transient(reply), reply
    assert sorted(stack.stored(name)) == [1, 3, 4]
    assert [u for u in stack.proxy.units() if u["state"].lower() in ("open", "conflict")] == []


@pytest.mark.parametrize("way", ["commit", "read"])
def test_a_driver_runs_it_again(stack, client, name, way):
    """with_transaction, whose first try meets a change around the proxy."""
    one, other = (client[DATABASE][collection] for collection in names(name))
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 1})
    tries = []

    def body(session):
        tries.append(None)
        other.insert_one({"_id": len(tries)}, session=session)
        one.update_one({"_id": 1}, {"$inc": {"v": 1}}, session=session)
        if len(tries) == 1:
            stack.direct[DATABASE][name].update_one({"_id": 1}, {"$inc": {"v": 10}})
        if way == "read":
            assert one.find_one({}, session=session) == {"_id": 1, "v": 12}

    with client.start_session() as session:
        session.with_transaction(body)
    assert len(tries) == 2
    assert stack.stored(name) == {1: {"_id": 1, "v": 12}}
    assert sorted(stack.stored(names(name)[1])) == [2]


@pytest.mark.parametrize("way", WAYS)
def test_a_validator_from_elsewhere(put_off, way):
    """Set around the proxy behind the writes."""
    collection = put_off.direct(1)
    collection.database.command("collMod", collection.name, validator={"v": {"$lt": 50}})
    reply = WAYS[way](put_off.unit, put_off.name)
    assert reply["ok"] == 0 and reply["code"] == VALIDATION, reply
    put_off.check_rolled_back()


@pytest.fixture(scope="module")
def guarded():
    users = [("bob", "bob", [("readWrite", DATABASE)]), ("eve", "eve", [("read", DATABASE)])]
    with Stack(deferred(), auth=True, users=users) as made:
        yield made
        made.proxy.verify()


@pytest.fixture
def bob(guarded):
    with Connection(guarded.proxy.port) as made:
        assert made.login("bob", "bob")["ok"] == 1
        yield made


@pytest.fixture
def eve(guarded):
    with Connection(guarded.proxy.port) as made:
        assert made.login("eve", "eve")["ok"] == 1
        yield made


@pytest.mark.parametrize("way", WAYS)
def test_without_the_right(guarded, eve, name, way):
    """Who may read and not write: her locks are all she gets, and the error comes with the commit."""
    put_off = PutOff(guarded, name, eve)
    reply = WAYS[way](put_off.unit, name)
    assert reply["ok"] == 0 and reply["code"] == UNAUTHORIZED, reply
    assert not is_transient(reply), reply
    put_off.check_rolled_back()


def test_what_another_one_has_put_off(guarded, bob, eve, name):
    """Is not hers to carry out, knowing session and number."""
    put_off = PutOff(guarded, name, bob)
    with Connection(guarded.proxy.port) as nobody:
        for connection in (eve, nobody):
            for do in (
                put_off.unit.commit,
                put_off.unit.abort,
                lambda other: put_off.unit.run({"find": name}, connection=other),
            ):
                assert do(connection)["ok"] == 0
                assert put_off.stored() == put_off.script.absent()
    assert put_off.unit.commit()["ok"] == 1
    assert put_off.stored() == put_off.script.whole()


class Hook:
    """What becomes of the n-th write that the server is sent from now on, or of its answer."""

    def __init__(self, stack, number, request=None, reply=None):
        self.left = number
        self.request, self.reply = request, reply
        self.met = False
        stack.between.before_request = self._before_request
        stack.between.before_reply = self._before_reply
        self.stack = stack

    def _before_request(self, command):
        kind = next(iter(command))
        if kind in ("insert", "update", "delete") and command["$db"] == DATABASE:
            self.left -= 1
            if self.left == 0:
                self.met = True
                changed = self.request(command) if callable(self.request) else self.request
                return changed if isinstance(changed, (dict, bool)) else None
        return None

    def _before_reply(self, reply):
        if self.met and self.reply is not None and "n" in reply:
            answer, self.reply = self.reply, None
            return False if answer == "cut" else answer
        return None


@pytest.mark.parametrize("what", ["request", "reply"])
@pytest.mark.parametrize("number", [1, 3, OPERATIONS])
@pytest.mark.parametrize("way", ["commit", "read"])
def test_the_connection_breaks(put_off, stack, number, what, way):
    """Before one of the writes is at the server, or before its answer is here: all is undone, and
    the client, whose own connection ends, is told so when it asks."""
    hook = Hook(stack, number, request=False) if what == "request" else Hook(stack, number, reply="cut")
    reply = WAYS[way](put_off.unit, put_off.name)
    assert hook.met and reply is None, reply
    with Connection(stack.proxy.port) as again:
        answer = put_off.unit.commit(again)
        assert answer["code"] == NO_SUCH_TRANSACTION and is_transient(answer), answer
        put_off.unit.connection = again
        put_off.check_rolled_back()


def test_a_driver_whose_connection_breaks(stack, client, name):
    """It asks for the commit again, is told the truth, and runs the transaction again."""
    tries = []

    def body(session):
        tries.append(None)
        for collection in names(name):
            client[DATABASE][collection].insert_one({"_id": 1}, session=session)
        if len(tries) == 1:
            Hook(stack, 2, reply="cut")

    with client.start_session() as session:
        session.with_transaction(body)
    assert len(tries) == 2
    assert [sorted(stack.stored(collection)) for collection in names(name)] == [[1], [1]]


def first_of(command):
    """The same command with the first of its writes only."""
    (key,) = {"documents", "updates"} & set(command)
    return {**command, key: command[key][:1]}


@pytest.mark.parametrize("number", [1, 2, 4])
def test_interrupted(put_off, stack, number):
    """killOp, maxTimeMS, a shutdown: a command of several writes has done some, nobody knows which."""
    interrupted = {"ok": 0.0, "errmsg": "operation was interrupted", "code": 11601}
    hook = Hook(stack, number, request=first_of, reply=interrupted)
    reply = put_off.unit.commit()
    assert hook.met
    assert (reply["ok"], reply["code"]) == (0, 11601), reply
    put_off.check_rolled_back()


def test_the_server_is_started_anew(swept, name):
    """Behind the writes: their transaction has ended, nothing of it is there."""
    with Connection(swept.proxy.port) as raw:
        put_off = PutOff(swept, name, raw)
        time.sleep(KEPT_SECONDS)
        swept.server.restart()
        serves(swept, name)
        with Connection(swept.proxy.port) as again:
            reply = put_off.unit.commit(again)
            assert reply["code"] == NO_SUCH_TRANSACTION and is_transient(reply), reply
        assert put_off.stored() == put_off.script.absent()


def test_a_crash_behind_a_rollback(swept, name):
    """A unit that was rolled back, with nothing refused, is no obstacle when what a server has lost
    is looked for."""
    script = Script(swept, name)
    time.sleep(KEPT_SECONDS)
    script.run(swept.proxy.port, "abort", read=True)
    assert "aborted" in script.told, script.told
    swept.proxy.kill()
    swept.server.restart()
    swept.proxy.start()
    assert not script.check_all(swept)


# ---------------------------------------------------------------- the journal's disk


@pytest.fixture
def faulty(tmp_path):
    environment = {
        "LD_PRELOAD": str(build_bin() / "disk_fault.so"),
        "HOLDFAST_DISK_FAULT": str(tmp_path / "fault"),
    }
    with Stack(deferred(), environment=environment) as made:
        made.fault = tmp_path / "fault"
        yield made


def fill(raw, name):
    """Large units until one is refused."""
    for count in range(100):
        unit = RawTransaction(raw)
        reply = unit.insert(name, {"_id": count, "x": "x" * (1 << 20)})
        if reply["ok"] != 1:
            return reply
        assert unit.commit()["ok"] == 1
    raise AssertionError("a full disk refused nothing")


@pytest.mark.parametrize("way", WAYS)
def test_the_journal_is_full(faulty, name, way):
    """Found when they are carried out: nothing of the unit is anywhere; with room it is as before."""
    with Connection(faulty.proxy.port) as raw, Connection(faulty.proxy.port) as other:
        put_off = PutOff(faulty, name, raw)
        faulty.fault.write_text("full")
        assert fill(other, f"{name}_full")["code"] == OUT_OF_DISK_SPACE
        reply = WAYS[way](put_off.unit, name)
        assert reply["ok"] == 0 and reply["code"] == OUT_OF_DISK_SPACE, reply
        assert is_transient(reply) or way != "commit", reply
        put_off.check_rolled_back()
        faulty.fault.write_text("")
        put_off.unit.next()
        put_off.write()
        assert put_off.unit.commit()["ok"] == 1
        assert put_off.stored() == put_off.script.whole()


def test_the_disk_fails(faulty, name):
    """The process ends, nothing was sent, and the next one finds all or nothing."""
    with Connection(faulty.proxy.port) as raw:
        put_off = PutOff(faulty, name, raw)
        faulty.fault.write_text("eio")
        try:
            assert put_off.unit.commit() is None, "a commit was answered"
        except ConnectionError:
            pass
        assert faulty.proxy.process.wait(10) == 70
    assert put_off.stored() == put_off.script.absent()
    faulty.fault.write_text("")
    faulty.proxy.start()
    assert not put_off.script.check(faulty)
