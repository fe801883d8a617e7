"""Units of many and of large documents: the daemon's memory stays bounded, and what is refused is
refused with a clear error."""

import threading

import bson
import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, Memory, Proxy, Server, WireTap, anonymous_bytes, wait_until
from pymongo.errors import OperationFailure

MEGABYTE = 1 << 20


# Computed by the proxy; by the server, which the after-images are learned from.
@pytest.mark.parametrize("update", ["$set", "$push"])
def test_update_many_with_a_large_value(name, update):
    """A value that goes into many documents is held for a few of them at a time."""
    with Stack({"unit.maxBytes": "1GiB"}) as stack:
        stack.direct[DATABASE][name].insert_many([{"_id": i} for i in range(120)])
        with stack.proxy.client() as client, Memory(stack.proxy.process) as memory:
            value = "x" * MEGABYTE
            result = client[DATABASE][name].update_many({}, {update: {"v": value}})
        assert (result.matched_count, result.modified_count) == (120, 120)
        assert memory.peak < 160 * MEGABYTE, memory.peak
        assert stack.direct[DATABASE][name].count_documents({"v": value}) == 120


def test_small_updates_that_make_large_documents(name):
    """What the server's answers add counts towards unit.maxBytes at once."""
    grow = [{"$set": {"v": {"$concat": ["$v"] * 10}}}]
    with Stack({"unit.maxBytes": "32MiB"}) as stack:
        documents = [{"_id": i, "v": "x" * (MEGABYTE // 5)} for i in range(60)]
        stack.direct[DATABASE][name].insert_many(documents)
        with stack.proxy.client() as client, Memory(stack.proxy.process) as memory:
            with pytest.raises(OperationFailure, match="unit.maxBytes") as caught:
                client[DATABASE][name].update_many({}, grow)
        assert caught.value.code == 257
        assert memory.peak < 160 * MEGABYTE, memory.peak
        assert list(stack.stored(name).values()) == documents


@pytest.mark.parametrize("write", ["update", "delete", "insert"])
def test_no_command_is_larger_than_a_server_takes(name, write):
    """Many documents go to the server in commands of at most 16 MiB and a little: mongod closes the
    connection of a longer one."""
    # So that the images of all come close to 16 MiB, and their commands beyond.
    size, count = {"update": (16_700, 500), "delete": (166_000, 200), "insert": (16_700, 1001)}[write]
    documents = [{"_id": i, "v": "x" * size} for i in range(count)]
    with Server() as server, WireTap(server.port) as tap, Proxy(tap.uri) as proxy:
        direct = server.client()[DATABASE][name]
        if write != "insert":
            direct.insert_many(documents)
        with proxy.client() as client:
            collection = client[DATABASE][name]
            if write == "update":
                assert collection.update_many({}, {"$set": {"w": 1}}).modified_count == count
            elif write == "delete":
                assert collection.delete_many({}).deleted_count == count
            else:
                collection.insert_many(documents)
        sent = [len(bson.encode(command)) for _, command in tap.commands if write in command]
    assert max(sent) > 7 * MEGABYTE
    assert max(sent) <= 16 * MEGABYTE + 16 * 1024


# Not interrupted; killed while the document is on its way back; before it is.
@pytest.mark.parametrize("crash_at", [None, "undo_restored:1", "undo_checked:1"])
def test_a_document_that_the_server_made_large(name, crash_at):
    """Both images together do not fit one command: the rollback takes two steps, and goes on
    between them after a crash."""
    with Stack({"upstream.fenceWait": "100ms"}) as stack:
        before = {"_id": 1, "a": "x" * (5 * MEGABYTE)}
        stack.direct[DATABASE][name].insert_one(before)
        if crash_at:
            stack.proxy.restart(crash_at=crash_at)
        with Connection(stack.proxy.port, timeout=60) as raw:
            unit = RawTransaction(raw)
            grow = [{"$set": {"b": {"$concat": ["$a", "$a"]}}}]
            assert unit.update(name, {"_id": 1}, grow)["ok"] == 1
            assert len(stack.stored(name)[1]["b"]) == 10 * MEGABYTE
            if crash_at:
                unit.run({"abortTransaction": 1}, "admin", begin=False)
            else:
                assert unit.abort()["ok"] == 1
        if crash_at:
            stack.proxy.process.wait()
            between = stack.stored(name)[1]
            assert ("holdfast" in between) == (crash_at == "undo_restored:1")
            stack.proxy.start()
        assert stack.stored(name) == {1: before}
        assert [unit["state"] for unit in stack.proxy.units()] == ["aborted"]


@pytest.mark.parametrize("how", ["abort", "recovery"])
def test_rolling_back_a_large_unit(name, how):
    """A rollback reads the images one after the other: it takes memory by the number of documents,
    not by their size."""
    settings = {"unit.maxBytes": "1GiB", "upstream.fenceWait": "100ms"}
    with Stack(settings) as stack, Connection(stack.proxy.port, timeout=60) as raw:
        before = [{"_id": i, "v": "x" * MEGABYTE} for i in range(100)]
        stack.direct[DATABASE][name].insert_many(before)
        unit = RawTransaction(raw)
        update = {"q": {}, "u": {"$set": {"w": 1}}, "multi": True}
        assert unit.run({"update": name, "updates": [update]})["nModified"] == 100
        start = anonymous_bytes(stack.proxy.process)
        if how == "abort":
            with Memory(stack.proxy.process) as memory:
                assert unit.abort()["ok"] == 1
        else:
            stack.proxy.kill()
            killed, start = stack.proxy.process, 0
            starting = threading.Thread(target=stack.proxy.start)
            starting.start()
            wait_until(lambda: stack.proxy.process is not killed, 5, "it is started again")
            with Memory(stack.proxy.process) as memory:
                starting.join()
        assert memory.peak - start < 50 * MEGABYTE, (memory.peak, start)
        assert list(stack.stored(name).values()) == before
        assert [unit["state"] for unit in stack.proxy.units()] == ["aborted"]


@pytest.mark.parametrize("in_unit", [True, False])
@pytest.mark.parametrize("write", ["update", "delete"])
def test_more_documents_than_a_unit_may_write(name, write, in_unit):
    """What a search finds is bounded while it is collected: the error says by what, nothing was
    written, and neither memory nor locks are kept."""
    statement = {
        "update": {"updates": [{"q": {}, "u": {"$set": {"v": 1}}, "multi": True}]},
        "delete": {"deletes": [{"q": {}, "limit": 0}]},
    }[write]
    documents = [{"_id": f"{i:06}" + "x" * 1000, "v": 0} for i in range(20_000)]
    with Server() as server, WireTap(server.port) as tap:
        server.client()[DATABASE][name].insert_many(documents)
        with Proxy(tap.uri, {"unit.maxBytes": "4MiB"}) as proxy:
            with Connection(proxy.port, timeout=60) as raw:
                run = RawTransaction(raw).run if in_unit else raw.run
                start = anonymous_bytes(proxy.process)
                with Memory(proxy.process) as memory:
                    reply = run({write: name, **statement, "$db": DATABASE})
                assert (reply["ok"], reply["code"]) == (0, 257), reply
                assert "matches more documents" in reply["errmsg"]
                assert "unit.maxBytes" in reply["errmsg"]
                assert memory.peak - start < 60 * MEGABYTE, (memory.peak, start)
                sent = [command for _, command in tap.commands if name in command.values()]
                assert not any(write in command for command in sent), "nothing of it has left"
                kept = anonymous_bytes(proxy.process) - start
                for _ in range(3):
                    assert raw.run({write: name, **statement, "$db": DATABASE})["code"] == 257
                grown = anonymous_bytes(proxy.process) - start
                assert grown < kept + 4 * MEGABYTE, (kept, grown)
                assert [unit["state"] for unit in proxy.units()] in ([], ["aborted"])
                few = {"q": {"_id": documents[0]["_id"]}, "u": {"$set": {"v": 1}}}
                reply = raw.run({"update": name, "updates": [few], "$db": DATABASE})
                assert reply["nModified"] == 1
        assert server.client()[DATABASE][name].count_documents({"v": 0}) == len(documents) - 1
