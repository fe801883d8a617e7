"""Native engine: a unit is a transaction of the server, a replica set of one node here.

Transactions pass as they are, and the journal holds COMMITTING before a commit leaves. What a lost
answer, a killed proxy and a killed server leave behind is asked of the server, never guessed.
"""

import json
import time
import uuid

import bson
import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Proxy, ProxyFailed, Server, WireTap, holdfast, wait_until
from holdfast_testing.metrics import Metrics

NO_SUCH_TRANSACTION = 251


@pytest.fixture(scope="module")
def stack():
    with Stack(between=lambda server: WireTap(server.port), mode="replicaset") as made:
        made.direct[DATABASE].create_collection("c")
        yield made


@pytest.fixture(autouse=True)
def tap(request):
    yield
    if "stack" in request.fixturenames:
        made = request.getfixturevalue("stack")
        made.between.before_request = made.between.before_reply = None


@pytest.fixture
def raw(stack):
    with Connection(stack.proxy.port, 30) as connection:
        yield connection


def units(wal):
    return [json.loads(line) for line in holdfast("units", "--json", "--wal", wal).stdout.splitlines()]


def show(wal, unit):
    return json.loads(holdfast("show", unit, "--json", "--wal", wal).stdout)


def unit_of(wal, transaction):
    """The unit of a raw transaction, once its outcome is in the journal, or its COMMITTING."""
    wanted = str(transaction.lsid["id"].as_uuid()).replace("-", "")
    for unit in units(wal):
        shown = show(wal, unit["unit"])
        if wanted in json.dumps(shown).replace("-", ""):
            return unit
    return None


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
