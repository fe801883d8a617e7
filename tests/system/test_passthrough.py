"""What the proxy has no business with passes through unchanged; what is not the protocol harms
nobody else."""

import os
import random
import struct
import time

import bson
import gridfs
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from conftest import DATABASE, Stack
from holdfast_testing import Connection, encode_message, wait_until
from holdfast_testing.wire import (
    FLAG_CHECKSUM,
    FLAG_EXHAUST_ALLOWED,
    FLAG_MORE_TO_COME,
    OP_MSG,
    decode_message,
    receive_message,
)
from pymongo import DeleteOne, InsertOne, MongoClient, UpdateOne, WriteConcern
from pymongo.errors import OperationFailure


def test_crud(collection):
    """Every plain write and read answers what the server answers."""
    assert collection.insert_one({"_id": 1, "a": 1}).inserted_id == 1
    assert len(collection.insert_many([{"_id": i} for i in range(2, 5)]).inserted_ids) == 3
    result = collection.update_one({"_id": 1}, {"$set": {"a": 2}})
    assert (result.matched_count, result.modified_count) == (1, 1)
    assert collection.update_many({}, {"$set": {"b": 1}}).modified_count == 4
    assert collection.replace_one({"_id": 2}, {"c": 1}).modified_count == 1
    assert collection.find_one_and_update({"_id": 1}, {"$inc": {"a": 1}})["a"] == 2
    assert collection.update_one({"_id": 9}, {"$set": {"x": 1}}, upsert=True).upserted_id == 9
    assert collection.delete_one({"_id": 9}).deleted_count == 1
    assert collection.delete_many({"b": 1}).deleted_count == 3
    assert list(collection.find()) == [{"_id": 2, "c": 1}]
    assert collection.distinct("c") == [1]


def test_cursors(collection):
    """getMore goes to the connection that opened the cursor; killCursors too."""
    collection.insert_many([{"_id": i} for i in range(1000)])
    assert [d["_id"] for d in collection.find(batch_size=7).sort("_id")] == list(range(1000))
    cursor = collection.find(batch_size=2)
    next(cursor)
    cursor.close()
    assert collection.count_documents({}) == 1000


def test_many_clients_cursors_do_not_mix(stack, collection):
    """Cursors open at the same time on one pool each go on where they were."""
    collection.insert_many([{"_id": i} for i in range(300)])
    cursors = [collection.find(batch_size=5).sort("_id") for _ in range(10)]
    for expected in range(300):
        assert [next(cursor)["_id"] for cursor in cursors] == [expected] * 10


def test_aggregation(collection):
    collection.insert_many([{"_id": i, "k": i % 3, "v": i} for i in range(30)])
    grouped = collection.aggregate(
        [{"$group": {"_id": "$k", "sum": {"$sum": "$v"}}}, {"$sort": {"_id": 1}}]
    )
    assert [entry["sum"] for entry in grouped] == [135, 145, 155]


def test_bulk_and_its_errors(collection):
    """Ordered and unordered bulks: counts, indexes and codes of errors are the server's."""
    collection.insert_one({"_id": 1})
    result = collection.bulk_write(
        [InsertOne({"_id": 2}), UpdateOne({"_id": 1}, {"$set": {"a": 1}}), DeleteOne({"_id": 2})]
    )
    assert (result.inserted_count, result.modified_count, result.deleted_count) == (1, 1, 1)
    with pytest.raises(Exception) as caught:
        collection.insert_many([{"_id": 3}, {"_id": 1}, {"_id": 4}], ordered=False)
    errors = caught.value.details["writeErrors"]
    assert [(error["index"], error["code"]) for error in errors] == [(1, 11000)]
    assert sorted(d["_id"] for d in collection.find()) == [1, 3, 4]


def test_large_bulk(collection):
    """One command of 20,000 documents, sent as a document sequence."""
    collection.insert_many([{"_id": i} for i in range(20000)])
    assert collection.count_documents({}) == 20000


def test_message_of_40_megabytes(stack, collection):
    """A message near the protocol's limit of 48,000,000 bytes, in and, in batches, out: also as a
    unit."""
    documents = [{"_id": i, "data": os.urandom(13_300_000)} for i in range(3)]
    collection.insert_many(documents)
    for document in documents:
        assert collection.find_one({"_id": document["_id"]})["data"] == document["data"]
    assert sum(len(d["data"]) for d in collection.find()) == 3 * 13_300_000


def test_large_find(collection):
    """Replies of many megabytes are whole and in order."""
    content = "x" * 10000
    collection.insert_many([{"_id": i, "c": content} for i in range(3000)])
    found = list(collection.find().sort("_id"))
    assert [d["_id"] for d in found] == list(range(3000))
    assert all(d["c"] == content for d in found)


def test_bytes_are_kept(stack, collection):
    """Field order, number types, nulls, dotted and dollar names, duplicates: byte for byte."""
    raw_document = bson.encode(
        {
            "_id": 1,
            "b": bson.Int64(1),
            "a": 1.0,
            "n": None,
            "d": {"x.y": 1, "$z": 2},
            "r": bson.Regex("a", "i"),
            "t": bson.Timestamp(5, 6),
            "bin": bson.Binary(b"\x00\xff", 128),
            "dec": bson.Decimal128("1.10"),
            "mm": [bson.MinKey(), bson.MaxKey()],
        }
    )
    options = CodecOptions(document_class=RawBSONDocument)
    stored = collection.with_options(codec_options=options)
    stored.insert_one(RawBSONDocument(raw_document))
    direct = stack.direct[DATABASE].get_collection(collection.name, codec_options=options)
    assert direct.find_one({}).raw == stored.find_one({}).raw == raw_document


def test_unacknowledged_writes(collection):
    """w:0: nothing is answered, everything arrives, and the connection goes on."""
    silent = collection.with_options(write_concern=WriteConcern(w=0))
    for i in range(50):
        silent.insert_one({"_id": i})
    silent.update_one({"_id": 0}, {"$set": {"a": 1}})
    silent.delete_one({"_id": 1})
    wait_until(lambda: collection.count_documents({}) == 49, 10, "49 documents")
    assert collection.find_one({"_id": 0}) == {"_id": 0, "a": 1}


def test_unacknowledged_then_acknowledged_on_one_connection(raw, name):
    """The reply after a moreToCome request is that of the next request."""
    for i in range(20):
        raw.send(
            encode_message(
                {"insert": name, "writeConcern": {"w": 0}, "$db": DATABASE},
                flags=FLAG_MORE_TO_COME,
                sequences={"documents": [{"_id": i}]},
            )
        )
        assert raw.run({"ping": 1, "$db": "admin"}) is not None
    assert raw.run({"count": name, "$db": DATABASE})["n"] == 20


def test_exhaust_cursor(stack, collection):
    """getMore with exhaustAllowed: one request, replies until the cursor is empty."""
    collection.insert_many([{"_id": i} for i in range(100)])
    with Connection(stack.proxy.port) as raw:
        find = {"find": collection.name, "sort": {"_id": 1}, "batchSize": 10, "$db": DATABASE}
        cursor = raw.run(find)["cursor"]
        got = [d["_id"] for d in cursor["firstBatch"]]
        while cursor["id"] != 0:
            more = {"getMore": bson.Int64(cursor["id"]), "collection": collection.name}
            raw.send(
                encode_message(
                    {**more, "batchSize": 10, "$db": DATABASE}, flags=FLAG_EXHAUST_ALLOWED
                )
            )
            flags = FLAG_MORE_TO_COME
            while flags & FLAG_MORE_TO_COME:
                reply, flags = decode_message(receive_message(raw.socket))
                assert reply["ok"] == 1, reply
                cursor = reply["cursor"]
                got += [d["_id"] for d in cursor["nextBatch"]]
        assert got == list(range(100))
        assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1


def test_checksum(raw, name):
    """A request with a CRC-32C is accepted and answered."""
    insert = {"insert": name, "documents": [{"_id": 1}], "$db": DATABASE}
    assert raw.run(insert, flags=FLAG_CHECKSUM)["n"] == 1


def test_pipelined_requests(raw, name):
    """Several requests in one packet are answered in order."""
    inserts = [{"insert": name, "documents": [{"_id": i}], "$db": DATABASE} for i in range(20)]
    raw.send(b"".join(map(encode_message, inserts)))
    assert [raw.receive()["n"] for _ in inserts] == [1] * 20


def test_request_byte_by_byte(raw):
    """A message may arrive in any pieces."""
    for byte in encode_message({"ping": 1, "$db": "admin"}):
        raw.send(bytes([byte]))
    assert raw.receive()["ok"] == 1


def test_gridfs(client):
    bucket = gridfs.GridFSBucket(client[DATABASE], bucket_name="files")
    content = os.urandom(3_000_000)
    file_id = bucket.upload_from_stream("name", content)
    assert bucket.open_download_stream(file_id).read() == content
    bucket.delete(file_id)


def test_indexes_and_collections(client, collection):
    collection.create_index("a", unique=True)
    assert "a_1" in collection.index_information()
    collection.insert_one({"a": 1})
    with pytest.raises(OperationFailure) as caught:
        collection.insert_one({"a": 1})
    assert caught.value.code == 11000
    assert collection.name in client[DATABASE].list_collection_names()
    collection.drop()
    assert collection.name not in client[DATABASE].list_collection_names()


def test_errors_pass(client):
    """An error of the server arrives with its code."""
    with pytest.raises(OperationFailure) as caught:
        client.admin.command("noSuchCommandAnywhere")
    assert caught.value.code == 59


def test_retryable_write_is_not_an_error(stack, name):
    """A mongos persona makes drivers send txnNumber with plain writes; a standalone refuses it."""
    with stack.proxy.client(retryWrites=True) as client:
        client[DATABASE][name].insert_one({"_id": 1})
        client[DATABASE][name].update_one({"_id": 1}, {"$inc": {"n": 1}})
    assert stack.stored(name) == {1: {"_id": 1, "n": 1}}


# ---------------------------------------------------------------- authentication


@pytest.fixture(scope="module")
def secured():
    with Stack(auth=True, users=[("bob", "pass word", [("readWrite", DATABASE)])]) as made:
        yield made


def test_scram_login(secured, name):
    """A user logs in at the server, through the proxy, and has that user's rights only."""
    with secured.proxy.client(user=("bob", "pass word")) as client:
        client[DATABASE][name].insert_one({"_id": 1})
        with pytest.raises(OperationFailure) as caught:
            client["elsewhere"][name].insert_one({"_id": 1})
        assert caught.value.code == 13


def test_wrong_password(secured):
    with secured.proxy.client(user=("bob", "wrong")) as client:
        with pytest.raises(OperationFailure) as caught:
            client[DATABASE]["c"].find_one()
        assert caught.value.code == 18


def test_no_login(secured, name):
    """The proxy's own credential is nobody else's."""
    with secured.proxy.client() as client:
        with pytest.raises(OperationFailure) as caught:
            client[DATABASE][name].insert_one({"_id": 1})
        assert caught.value.code == 13


def test_transaction_has_the_users_rights(secured, name):
    """Inside a transaction too: filters are resolved and writes are sent as the user."""
    secured.direct["elsewhere"]["c"].insert_one({"_id": 1})
    with secured.proxy.client(user=("bob", "pass word")) as client:
        with client.start_session() as session:
            with session.start_transaction():
                client[DATABASE][name].insert_one({"_id": 2}, session=session)
        with client.start_session() as session:
            session.start_transaction()
            with pytest.raises(OperationFailure) as caught:
                client["elsewhere"]["c"].update_one({}, {"$set": {"a": 1}}, session=session)
            assert caught.value.code == 13
            session.abort_transaction()
    assert secured.direct["elsewhere"]["c"].find_one() == {"_id": 1}
    assert list(secured.stored(name)) == [2]


# ---------------------------------------------------------------- change streams


def test_change_stream():
    """A change stream is a cursor as any other; the upstream must be a replica set."""
    with Stack({"unit.engine": "journaled"}, mode="replicaset") as stack:
        with stack.proxy.client() as client:
            with client[DATABASE]["c"].watch(max_await_time_ms=200) as stream:
                client[DATABASE]["c"].insert_one({"_id": 1})
                change = wait_until(stream.try_next, 10, "the change arrives")
                assert change["operationType"] == "insert"
                assert change["documentKey"] == {"_id": 1}


# ---------------------------------------------------------------- not the protocol


def header(length, opcode=OP_MSG):
    return struct.pack("<iiii", length, 1, 0, opcode)


def message(body, opcode=OP_MSG):
    return header(16 + len(body), opcode) + body


PING = bson.encode({"ping": 1, "$db": "admin"})
NOT_THE_PROTOCOL = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "random": random.Random(1).randbytes(1000),
    "length 0": header(0) + bytes(100),
    "length 15": header(15) + bytes(100),
    "length only a header": header(16),
    "negative length": header(-1) + bytes(100),
    "length over the limit": header(48000001) + bytes(100),
    "largest length": header(2**31 - 1) + bytes(100),
    "unknown opcode": message(bytes(10), 1234),
    "OP_REPLY from a client": message(bytes(40), 1),
    "flags only": message(bytes(4)),
    "unknown section kind": message(bytes(4) + b"\x07" + PING),
    "no kind 0 section": message(bytes(4) + b"\x01" + struct.pack("<i", 6) + b"d\x00"),
    "two kind 0 sections": message(bytes(4) + b"\x00" + PING + b"\x00" + PING),
    "unknown required flag": message(struct.pack("<I", 1 << 5) + b"\x00" + PING),
    "document longer than message": message(
        bytes(4) + b"\x00" + struct.pack("<i", 5000) + PING[4:]
    ),
    "document shorter than its end": message(bytes(4) + b"\x00" + struct.pack("<i", 4) + PING[4:]),
    "sequence with negative size": message(
        bytes(4) + b"\x00" + PING + b"\x01" + struct.pack("<i", -5) + b"d\x00"
    ),
    "sequence longer than message": message(
        bytes(4) + b"\x00" + PING + b"\x01" + struct.pack("<i", 5000) + b"d\x00"
    ),
    "wrong checksum": message(struct.pack("<I", FLAG_CHECKSUM) + b"\x00" + PING + bytes(4)),
    "string without end": message(
        bytes(4) + b"\x00" + struct.pack("<i", 12) + b"\x02a\x00\xff\xff\xff\x7f\x00"
    ),
    "OP_QUERY without end": message(bytes(4) + b"admin.$cmd", 2004),
    "OP_QUERY of another collection": message(
        bytes(4) + b"test.c\x00" + struct.pack("<ii", 0, -1) + bson.encode({}), 2004
    ),
}


@pytest.mark.parametrize("data", NOT_THE_PROTOCOL.values(), ids=NOT_THE_PROTOCOL.keys())
def test_not_the_protocol(stack, raw, data):
    """Its connection is closed, or answered with an error; no other connection feels it."""
    assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1
    with Connection(stack.proxy.port, timeout=5) as hostile:
        hostile.send(data)
        try:
            answer = receive_message(hostile.socket)
        except ConnectionError:
            answer = None
        if answer is not None:
            assert decode_message(answer)[0].get("ok", 0) == 0
    assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1
    assert stack.proxy.process.running()


def test_closing_is_logged(stack):
    """Whoever looks for the reason finds a line."""
    before = len(stack.proxy.log())
    with Connection(stack.proxy.port, timeout=5) as hostile:
        hostile.send(NOT_THE_PROTOCOL["largest length"])
        assert hostile.closed_by_peer()
    wait_until(lambda: len(stack.proxy.log()) > before, 5, "a log line")


def test_truncated_messages(stack, raw):
    """A client that goes away in the middle of a message, at every length."""
    whole = encode_message({"insert": "truncated", "documents": [{"a": 1}], "$db": DATABASE})
    for size in range(len(whole)):
        with Connection(stack.proxy.port) as cut:
            cut.send(whole[:size])
    assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1
    time.sleep(0.1)
    assert stack.stored("truncated") == {}


def test_mutated_messages(stack, raw, name):
    """A thousand messages with flipped bytes: the daemon lives."""
    chance = random.Random(7)
    whole = encode_message(
        {"find": name, "filter": {"a": [1, {"b": "c"}]}, "$db": DATABASE},
        sequences={"documents": [{"_id": 1}]},
    )
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with Connection(stack.proxy.port) as hostile:
            hostile.send(bytes(data))
    assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1
    assert stack.proxy.process.running()


def test_deep_document(stack, raw):
    """Nesting beyond the limit is an error or the end of the connection, not of the daemon."""
    document = b"\x05\x00\x00\x00\x00"
    for _ in range(5000):
        inner = b"\x03a\x00" + document + b"\x00"
        document = struct.pack("<i", len(inner) + 4) + inner
    inner = b"\x02find\x00\x02\x00\x00\x00c\x00\x02$db\x00\x05\x00\x00\x00test\x00"
    inner += b"\x03filter\x00" + document + b"\x00"
    command = struct.pack("<i", len(inner) + 4) + inner
    with Connection(stack.proxy.port, timeout=5) as hostile:
        hostile.send(message(bytes(4) + b"\x00" + command))
        try:
            answer = hostile.receive()
        except ConnectionError:
            answer = None
        assert answer is None or answer["ok"] == 0
    # A server may die of it (the pinned test server does): the claim is about the daemon alone.
    assert stack.proxy.process.running()
    time.sleep(0.3)
    if not stack.server.running():
        stack.server.restart()


def test_many_idle_connections(stack):
    """Two hundred connections that say nothing, or half a header, hinder nobody."""
    idle = [Connection(stack.proxy.port) for _ in range(200)]
    for connection in idle[::2]:
        connection.send(header(100)[:9])
    with stack.proxy.client() as client:
        assert client.admin.command("ping")["ok"] == 1
    for connection in idle:
        connection.socket.close()
    with MongoClient(stack.proxy.uri) as client:
        assert client.admin.command("ping")["ok"] == 1
