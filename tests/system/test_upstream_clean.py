"""The journaled engine never sends a transaction field upstream: a standalone mongod would refuse
it, and the test server would silently run a transaction of its own."""

import pytest
from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection, Proxy, Server, WireTap, wait_until
from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import OperationFailure

FORBIDDEN_FIELDS = {"startTransaction", "autocommit", "txnNumber", "stmtId"}
FORBIDDEN_COMMANDS = {"commitTransaction", "abortTransaction"}


@pytest.fixture(scope="module")
def tapped():
    with Server() as server, WireTap(server.port) as tap:
        with Proxy(tap.uri, {"unit.lockWait": "200ms"}) as proxy:
            yield server, tap, proxy


def all_keys(value):
    """Every field name of a command outside the documents it carries."""
    for key, inner in value.items():
        yield key
        if key not in ("documents", "updates", "update", "filter", "query", "q", "pipeline"):
            if isinstance(inner, dict):
                yield from all_keys(inner)


def check_clean(tap):
    assert tap.commands
    for _, command in list(tap.commands):
        assert next(iter(command)) not in FORBIDDEN_COMMANDS
        found = FORBIDDEN_FIELDS.intersection(all_keys(command))
        assert not found, f"{found} in {str(command)[:500]}"
        assert command.get("writeConcern", {}).get("w") != 0


def test_units(tapped):
    """Every kind of statement, committed and aborted, and the reads between."""
    server, tap, proxy = tapped
    with proxy.client() as client:
        collection = client[DATABASE]["c"]
        for end in ("commit", "abort"):
            with client.start_session() as session:
                session.start_transaction()
                collection.insert_one({"_id": end}, session=session)
                collection.insert_many([{"_id": end + str(i)} for i in range(3)], session=session)
                collection.update_one({"_id": end}, {"$inc": {"a": 1}}, session=session)
                collection.replace_one({"_id": end}, {"b": 1}, session=session)
                collection.find_one_and_update(
                    {"$and": [{"k": end}]},
                    {"$set": {"v": 1}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                    session=session,
                )
                list(collection.find({}, session=session, batch_size=2))
                list(collection.aggregate([{"$match": {}}], session=session))
                collection.delete_one({"_id": end + "0"}, session=session)
                getattr(session, end + "_transaction")()
    check_clean(tap)


def test_errors_and_conflicts(tapped):
    server, tap, proxy = tapped
    server.client()[DATABASE]["d"].insert_one({"_id": 1})
    with Connection(proxy.port) as one, Connection(proxy.port) as two:
        first, second = RawTransaction(one), RawTransaction(two)
        first.update("d", {"_id": 1}, {"$set": {"a": 1}})
        assert second.update("d", {"_id": 1}, {"$set": {"a": 2}})["ok"] == 0
        first.insert("d", {"_id": 1})
        first.commit()
        unit = RawTransaction(one)
        unit.insert("d", {"_id": 2})
        one.run({"endSessions": [unit.lsid], "$db": "admin"})
    check_clean(tap)


def test_retryable_plain_writes(tapped):
    """Outside units too: a standalone refuses txnNumber on a plain write."""
    server, tap, proxy = tapped
    with proxy.client(retryWrites=True) as client:
        collection = client[DATABASE]["e"]
        collection.insert_one({"_id": 1})
        collection.update_one({"_id": 1}, {"$set": {"a": 1}})
        collection.find_one_and_update({"_id": 1}, {"$set": {"a": 2}})
        collection.delete_one({"_id": 1})
    check_clean(tap)


def test_recovery(tapped):
    """Nor does recovery after a kill."""
    server, tap, proxy = tapped
    with Connection(proxy.port) as raw:
        unit = RawTransaction(raw)
        unit.insert("f", {"_id": 1})
        proxy.restart()
    assert server.client()[DATABASE]["f"].find_one() is None
    check_clean(tap)


def test_unacknowledged_is_acknowledged_upstream(tapped):
    """w:0 goes upstream acknowledged, so that the proxy knows when the write is over."""
    server, tap, proxy = tapped
    with proxy.client() as client:
        silent = client[DATABASE].get_collection("g", write_concern=WriteConcern(w=0))
        silent.insert_one({"_id": 1})
        wait_until(lambda: client[DATABASE]["g"].count_documents({}) == 1, 5, "the document")
    check_clean(tap)


# Computed by the proxy and sent as an update; computed by the server.
@pytest.mark.parametrize("update", [{"$inc": {"v": 1}}, {"$mul": {"v": 2}}], ids=["ours", "server"])
def test_lost_reply_of_a_write(tapped, update):
    """The connection upstream breaks before the reply: the write counts as not known, its unit is
    rolled back, and the client is told to run it again."""
    server, tap, proxy = tapped
    server.client()[DATABASE]["h"].replace_one({"_id": 1}, {"v": 3}, upsert=True)
    with proxy.client() as client, client.start_session() as session:
        collection = client[DATABASE]["h"]
        session.start_transaction()
        collection.insert_one({"_id": 2}, session=session)

        def cut_writes(reply):
            return "lastErrorObject" not in reply and "nModified" not in reply

        tap.before_reply = cut_writes
        try:
            with pytest.raises(Exception) as caught:
                collection.update_one({"_id": 1}, update, session=session)
        finally:
            tap.before_reply = None
        if isinstance(caught.value, OperationFailure):
            assert caught.value.has_error_label("TransientTransactionError")
        session.abort_transaction()
    wait_until(
        lambda: list(server.client()[DATABASE]["h"].find()) == [{"_id": 1, "v": 3}],
        10,
        "the unit is rolled back",
    )
    check_clean(tap)
