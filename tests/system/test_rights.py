"""A client never gains rights through the proxy: what a user may not do at the server, she may not do
by any boundary, any read of what units have written, or by knowing another's session or name."""

import itertools
import os
import uuid

import bson
import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, holdfast
from holdfast_testing.wire import encode_message
from http_stack import HttpStack
from pymongo.errors import OperationFailure

SECRET, OWN = "secret", "own"
UNAUTHORIZED = 13
NO_SUCH_TRANSACTION = 251
MINE = "mine"  # eve's database, where the server knows no roles of one collection
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def stack():
    users = [
        ("bob", "bob", [("readWrite", DATABASE)]),
        ("eve", "eve", [("readWrite", MINE)]),
    ]
    with Stack({"unit.lockWait": "200ms"}, auth=True, users=users) as made:
        narrow(made)
        yield made


def narrow(stack):
    """Eve gets rights on one collection of bob's own database as well, if the server has roles for
    that: then nothing but the collection tells the two apart."""
    direct = stack.direct
    actions = ["find", "insert", "update", "remove"]
    resource = {"db": DATABASE, "collection": OWN}
    try:
        direct[DATABASE].command(
            "createRole", "one", privileges=[{"resource": resource, "actions": actions}], roles=[]
        )
        granted = {"roles": [{"role": "one", "db": DATABASE}]}
        direct.admin.command("grantRolesToUser", "eve", **granted)
        with Connection(stack.server.port) as eve:
            assert eve.login("eve", "eve")["ok"] == 1
            if eve.run({"find": SECRET, "$db": DATABASE})["ok"] == 1:  # a role of the database
                direct.admin.command("revokeRolesFromUser", "eve", **granted)
    except OperationFailure:
        pass  # no such roles: her other database is left


@pytest.fixture
def bob(stack):
    with Connection(stack.proxy.port) as made:
        assert made.login("bob", "bob")["ok"] == 1
        yield made


@pytest.fixture
def eve(stack):
    with Connection(stack.proxy.port) as made:
        assert made.login("eve", "eve")["ok"] == 1
        yield made


def lsid():
    return {"id": bson.Binary(uuid.uuid4().bytes, 4)}


def reads(collection=SECRET):
    """Every way to read one document or all of them."""
    yield {"find": collection}
    yield {"find": collection, "filter": {"_id": 1}}
    yield {"find": collection, "filter": {"_id": 2}, "projection": {"secret": 1}}
    yield {"find": collection, "filter": {"_id": {"$in": [1, 2]}}}
    yield {"aggregate": collection, "pipeline": [], "cursor": {}}
    yield {"aggregate": collection, "pipeline": [{"$match": {"_id": 1}}], "cursor": {}}
    yield {"count": collection}
    yield {"distinct": collection, "key": "secret"}
    yield {
        "aggregate": OWN,
        "pipeline": [{"$unionWith": collection}],
        "cursor": {},
        "$db": DATABASE,
    }
    lookup = {"from": collection, "localField": "_id", "foreignField": "_id", "as": "x"}
    yield {"aggregate": OWN, "pipeline": [{"$lookup": lookup}], "cursor": {}}


def writes(collection=SECRET):
    yield {"insert": collection, "documents": [{"_id": f"eve{next(numbers)}"}]}
    yield {"insert": collection, "documents": [{"_id": f"a{next(numbers)}"}, {"_id": "b"}]}
    for query in ({"_id": 1}, {"_id": 2}, {}):
        update = {"q": query, "u": {"$set": {"by": "eve"}}}
        yield {"update": collection, "updates": [update]}
        yield {"update": collection, "updates": [{**update, "multi": True}]}
        yield {"delete": collection, "deletes": [{"q": query, "limit": 1}]}
        yield {"delete": collection, "deletes": [{"q": query, "limit": 0}]}
        yield {"findAndModify": collection, "query": query, "update": {"$set": {"by": "eve"}}}
        yield {"findAndModify": collection, "query": query, "remove": True}
    upsert = {"q": {"_id": 77}, "u": {"$set": {"by": "eve"}}, "upsert": True}
    yield {"update": collection, "updates": [upsert]}


def namespace_writes(collection=SECRET):
    """These wait until no unit is in their collection."""
    yield {"drop": collection}
    yield {"createIndexes": collection, "indexes": [{"key": {"x": 1}, "name": "x"}]}
    yield {"aggregate": OWN, "pipeline": [{"$out": collection}], "cursor": {}}


def is_refused(reply):
    """An error, with nothing of what the documents hold in it."""
    codes = [error["code"] for error in reply.get("writeErrors", [])]
    return (reply["ok"] == 0 and "s3cret" not in str(reply)) or UNAUTHORIZED in codes


def assert_refused(connection, command, **more):
    reply = connection.run({**command, "$db": DATABASE, **more})
    assert is_refused(reply), (command, more, reply)


@pytest.fixture
def unit(stack, bob):
    """Bob's open unit: it has changed document 1, deleted document 2, inserted document 3."""
    stack.direct[DATABASE][SECRET].drop()
    stack.direct[DATABASE][SECRET].insert_many(
        [{"_id": i, "secret": f"s3cret {i}"} for i in (1, 2)]
    )
    made = RawTransaction(bob, number=next(numbers))
    assert made.update(SECRET, {"_id": 1}, {"$set": {"secret": "s3cret new"}})["nModified"] == 1
    assert made.delete(SECRET, {"_id": 2})["n"] == 1
    assert made.insert(SECRET, {"_id": 3, "secret": "s3cret 3"})["n"] == 1
    yield made
    assert made.commit()["ok"] == 1
    assert stack.stored(SECRET) == {
        1: {"_id": 1, "secret": "s3cret new"},
        3: {"_id": 3, "secret": "s3cret 3"},
    }


def test_reads(stack, unit, eve):
    """Neither what the server holds nor the before-images of a unit."""
    for command in reads():
        assert_refused(eve, command)
        inside = RawTransaction(eve)
        reply = inside.run(command)
        assert is_refused(reply), (command, reply)
        inside.abort()


def test_without_a_login(stack, unit):
    """Nor who has not logged in."""
    with Connection(stack.proxy.port) as nobody:
        for command in reads():
            assert_refused(nobody, command)
        for command in writes():
            inside = RawTransaction(nobody)
            reply = inside.run(command)
            assert is_refused(reply), (command, reply)
            inside.abort()


def test_writes(stack, unit, eve):
    """In a transaction, or under a name of her own: nothing is written, and nothing of another's unit
    is touched."""
    for command in writes():
        inside = RawTransaction(eve)
        reply = inside.run(command)
        assert is_refused(reply), (command, reply)
        inside.abort()
        name = f"eve{next(numbers)}"
        assert_refused(eve, command, comment={"unit": name, "begin": True})
        eve.run({"abortUnit": name, "$db": "admin"})


def test_plain_writes(stack, bob, eve):
    """Plain and retryable ones, and those of the collection itself: with no unit inside, for whose
    documents they wait."""
    stack.direct[DATABASE][SECRET].drop()
    stack.direct[DATABASE][SECRET].insert_one({"_id": 1, "secret": "s3cret 1"})
    with Connection(stack.proxy.port) as nobody:
        for command in [*writes(), *namespace_writes()]:
            assert_refused(eve, command)
            assert_refused(nobody, command)
        for command in writes():
            assert_refused(eve, command, lsid=lsid(), txnNumber=Int64(1))
    assert stack.stored(SECRET) == {1: {"_id": 1, "secret": "s3cret 1"}}


def test_her_own_goes_through(stack, unit, eve):
    """What she may do she may do by every boundary: the refusals above are not of the proxy's making."""
    database = MINE
    assert eve.run({"insert": OWN, "documents": [{"_id": 1}], "$db": database})["n"] == 1
    inside = RawTransaction(eve)
    assert inside.run({"insert": OWN, "documents": [{"_id": 2}]}, database)["n"] == 1
    assert inside.commit()["ok"] == 1
    named = {"unit": f"eve{next(numbers)}", "begin": True, "last": True}
    command = {"insert": OWN, "documents": [{"_id": 3}], "comment": named, "$db": database}
    assert eve.run(command)["n"] == 1
    reply = eve.run({"find": OWN, "$db": database})
    assert [d["_id"] for d in reply["cursor"]["firstBatch"]] == [1, 2, 3]


def test_anothers_session_and_number(stack, unit, bob, eve):
    """Bob's session and number in eve's hands: no commit, no rollback, no write, and not the kept
    answer of his retryable write."""
    for what in (
        lambda: unit.commit(eve),
        lambda: unit.abort(eve),
        lambda: unit.insert(SECRET, {"_id": 4}, connection=eve),
        lambda: unit.run({"find": SECRET}, connection=eve),
    ):
        assert is_refused(what())
    for command in ("endSessions", "killSessions"):
        eve.run({command: [unit.lsid], "$db": "admin"})
    eve.run({"killAllSessions": [], "$db": "admin"})
    retryable = {
        "findAndModify": "kept",
        "query": {"_id": 1},
        "update": {"$set": {"secret": "s3cret"}},
        "upsert": True,
        "new": True,
        "lsid": lsid(),
        "txnNumber": Int64(5),
        "$db": DATABASE,
    }
    first = bob.run(retryable)
    assert first["ok"] == 1 and bob.run(retryable)["value"] == first["value"]
    reply = eve.run(retryable)
    assert is_refused(reply), reply


def test_anothers_name(stack, unit, bob, eve):
    """A unit in comments of bob's: eve neither joins, ends nor rolls it back."""
    name = f"unit{next(numbers)}"
    begin = {"insert": "named", "documents": [{"_id": name}], "$db": DATABASE}
    assert bob.run({**begin, "comment": {"unit": name, "begin": True}})["n"] == 1
    assert_refused(eve, {**begin, "documents": [{"_id": "e"}]}, comment={"unit": name})
    for command in ("commitUnit", "abortUnit"):
        assert is_refused(eve.run({command: name, "$db": "admin"}))
    with Connection(stack.proxy.port) as nobody:
        for command in ("commitUnit", "abortUnit"):
            assert is_refused(nobody.run({command: name, "$db": "admin"}))
    assert bob.run({"commitUnit": name, "$db": "admin"})["ok"] == 1
    assert name in stack.stored("named")


def test_the_proxys_own_database(stack, unit, eve):
    """Lease and probe are the proxy's: a user reaches them by her own rights at the server only."""
    for command in ({"find": "state"}, {"delete": "state", "deletes": [{"q": {}, "limit": 0}]}):
        reply = eve.run({**command, "$db": "holdfast"})
        assert is_refused(reply), reply


def test_login_and_logout_change_the_rights(stack, unit):
    """One connection, other users: rights are those of the moment."""
    with Connection(stack.proxy.port) as one:
        assert one.login("bob", "bob")["ok"] == 1
        assert one.run({"find": SECRET, "$db": DATABASE})["ok"] == 1
        if one.run({"logout": 1, "$db": "admin"})["ok"] != 1:
            pytest.skip("the server has no logout")
        assert one.login("eve", "eve")["ok"] == 1
        reply = one.run({"find": SECRET, "filter": {"_id": 1}, "$db": DATABASE})
        assert is_refused(reply), reply


def test_in_an_api_call():
    """While a call of bob's service is open, eve's connection to the same listener belongs to the
    call, but has eve's rights."""
    users = [("bob", "bob", [("readWrite", DATABASE)]), ("eve", "eve", [("readWrite", MINE)])]
    with HttpStack(auth=users, username="bob", password="bob", authSource="admin") as stack:
        stack.direct[DATABASE][SECRET].insert_one({"_id": 1, "secret": "s3cret 1"})

        def handler(_):
            collection = stack.collection(SECRET)
            collection.update_one({"_id": 1}, {"$set": {"secret": "s3cret new"}})
            with Connection(stack.proxy.port) as eve:
                assert eve.login("eve", "eve")["ok"] == 1
                for command in [*reads(), *writes()]:
                    assert_refused(eve, command)
            return 200

        stack.service.handlers["/"] = handler
        assert stack.call("/").status == 200
        assert stack.stored(SECRET) == {1: {"_id": 1, "secret": "s3cret new"}}


def test_the_journal_is_closed(stack, tmp_path):
    """Directory and files are for the daemon's user alone, also where the directory was open."""

    def modes(folder):
        return {name: os.stat(os.path.join(folder, name)).st_mode & 0o777 for name in os.listdir(folder)}

    assert os.stat(stack.proxy.wal).st_mode & 0o777 == 0o700
    assert set(modes(stack.proxy.wal).values()) == {0o600}
    holdfast("status", "--wal", stack.proxy.wal, check=0)


class Impatient(Connection):
    """Sends another command beside the last step of a login: before it, or right behind it, while
    that is not answered."""

    before = behind = None

    def run(self, command, **options):
        if not command.get("saslContinue"):
            return super().run(command, **options)
        if self.before:
            super().run(self.before)
        self.send(encode_message(command) + (encode_message(self.behind) if self.behind else b""))
        reply = self.receive()
        if self.behind:
            self.receive()
        return reply


def test_a_login_beside_another(stack):
    """A login that only begins, as bob, does not lend his name to eve's, which ends meanwhile."""
    begin = {
        "saslStart": 1,
        "mechanism": "SCRAM-SHA-256",
        "payload": b"n,,n=bob,r=" + b"x" * 24,
        "$db": "admin",
    }
    inside = {key: value for key, value in begin.items() if key != "$db"}
    hello = {"hello": 1, "speculativeAuthenticate": {**inside, "db": "admin"}, "$db": "admin"}
    for where, command in itertools.product(("before", "behind"), (begin, hello)):
        with Connection(stack.proxy.port) as bob, Impatient(stack.proxy.port) as eve:
            assert bob.login("bob", "bob")["ok"] == 1
            setattr(eve, where, command)
            reply = eve.login("eve", "eve")
            assert where == "before" or (reply["ok"] == 1 and reply["done"]), reply
            unit = RawTransaction(bob)
            assert unit.insert(OWN, {"_id": next(numbers)})["ok"] == 1
            for reply in (unit.commit(eve), unit.abort(eve)):
                assert reply["ok"] == 0 and reply["code"] == NO_SUCH_TRANSACTION, (where, reply)
            assert unit.commit()["ok"] == 1
