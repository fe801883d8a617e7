"""Fixtures of the system tests: a server with a proxy in front, and a fresh collection name."""

import itertools
import os
import random
import uuid

import bson
import pytest
from bson.int64 import Int64
from holdfast_testing import Connection, Proxy, Server

# Before anything imports gRPC: a server that is started, which is a fork, is none of its business.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

DATABASE = "test"
_numbers = itertools.count(1)


def end_cleanly(proxy, kind):
    """By SIGTERM, if it runs: a clean end is part of every test that has not failed (kind: None)."""
    if proxy.process.running() and proxy.stop() != 0 and kind is None:
        raise AssertionError(f"SIGTERM: no clean end\n{proxy.process.tail()}")


class Stack:
    """A server and a proxy in front of it. A journal belongs to one database: both come in pairs.

    between: makes of the server a relay (a WireTap) through which the proxy reaches it.
    environment: of the proxy, beside ours.
    """

    def __init__(self, settings=None, between=None, environment=None, **server_options):
        self.server = Server(**server_options)
        self.between = None
        try:
            self.between = between and between(self.server)
            upstream = self.between.uri if self.between else self.server
            self.proxy = Proxy(upstream, settings, environment=environment)
        except BaseException:
            self.close()
            raise
        self.direct = self.server.client()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            end_cleanly(self.proxy, kind)
        finally:
            self.direct.close()
            self.proxy.close()
            self.close()

    def close(self):
        if self.between is not None:
            self.between.close()
        self.server.close()

    def stored(self, collection, query=None):
        """What the server holds, asked past the proxy: {_id: document}."""
        return {d["_id"]: d for d in self.direct[DATABASE][collection].find(query or {})}


class RawTransaction:
    """A transaction spoken command by command, with no driver that retries or adds anything."""

    def __init__(self, connection, lsid=None, number=1):
        self.connection = connection
        self.lsid = lsid or {"id": bson.Binary.from_uuid(uuid.uuid4())}
        self.number = number
        self.begun = False

    def run(self, command, database=DATABASE, connection=None, begin=None):
        message = dict(command)
        message["lsid"] = self.lsid
        message["txnNumber"] = Int64(self.number)
        begin = not self.begun if begin is None else begin
        if begin:
            message["startTransaction"] = True
        message["autocommit"] = False
        message["$db"] = database
        self.begun = True
        return (connection or self.connection).run(message)

    def insert(self, collection, *documents, **options):
        return self.run({"insert": collection, "documents": list(documents)}, **options)

    def update(self, collection, query, update, **options):
        updates = [{"q": query, "u": update}]
        return self.run({"update": collection, "updates": updates}, **options)

    def delete(self, collection, query, **options):
        return self.run({"delete": collection, "deletes": [{"q": query, "limit": 1}]}, **options)

    def commit(self, connection=None):
        return self.run({"commitTransaction": 1}, "admin", connection, begin=False)

    def abort(self, connection=None):
        return self.run({"abortTransaction": 1}, "admin", connection, begin=False)

    def next(self):
        self.number += 1
        self.begun = False
        return self


def is_transient(reply):
    """An error reply that tells the driver to run the whole transaction again."""
    return reply["ok"] == 0 and "TransientTransactionError" in reply.get("errorLabels", [])


@pytest.fixture
def unhooked(request):
    """The next test meets the stack's WireTap without what this one has hung into it."""
    yield
    if "stack" in request.fixturenames:
        made = request.getfixturevalue("stack")
        made.between.before_request = made.between.before_reply = None


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "1s"}) as made:
        yield made


def check_lives(proxy):
    """A daemon that died under a test is that test's failure, with what it said; the next test gets
    a living one."""
    if not proxy.process.running():
        said = proxy.process.tail(60)
        proxy.start()
        pytest.fail(f"holdfastd died\n{said}")


@pytest.fixture(autouse=True)
def daemon_lives(request):
    yield
    if "stack" in request.fixturenames:
        check_lives(request.getfixturevalue("stack").proxy)


@pytest.fixture
def seed():
    """Of a random test: HOLDFAST_TEST_SEED, or one that it prints, to be given back."""
    value = int(os.environ.get("HOLDFAST_TEST_SEED", random.SystemRandom().randrange(1 << 31)))
    print(f"HOLDFAST_TEST_SEED={value}")
    return value


@pytest.fixture
def client(stack):
    with stack.proxy.client() as made:
        yield made


@pytest.fixture
def raw(stack):
    with Connection(stack.proxy.port) as made:
        yield made


@pytest.fixture
def outside(stack):
    """A connection that is in no unit, beside one that is."""
    with Connection(stack.proxy.port) as made:
        yield made


def transaction(stack):
    """Of a connection of its own; ended with the test."""
    with Connection(stack.proxy.port) as connection:
        made = RawTransaction(connection)
        yield made
        if made.begun:
            made.abort()


unit = pytest.fixture(transaction, name="unit")


@pytest.fixture
def name():
    """A collection that no other test uses."""
    return f"c{next(_numbers)}"


@pytest.fixture
def collection(client, name):
    return client[DATABASE][name]
