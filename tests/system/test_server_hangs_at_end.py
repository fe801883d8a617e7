"""SIGTERM while the server is there and does not answer: the end comes in a bounded time.

What could not be undone stays open in the journal, which says so, and the next start does it.
"""

import concurrent.futures
import json
import signal
import time

from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, encode_message, holdfast, wait_until

# Ten seconds for draining, five for what waits for the server, and what a busy machine adds.
BOUND_S = 30


def attributes(proxy, message):
    return [entry.get("attr", {}) for entry in proxy.log() if entry["msg"] == message]


def units(wal):
    listed = holdfast("units", "--json", "--state", "all", "--wal", wal).stdout
    return [unit["state"] for unit in json.loads(listed)["units"]]


def end_beside_hanging_server(stack, first):
    """SIGSTOP of the server, SIGTERM of holdfastd: how long that took, and with which code."""
    stack.server.pause()
    try:
        first()
        since = time.monotonic()
        stack.proxy.process.send(signal.SIGTERM)
        code = stack.proxy.process.wait(BOUND_S + 30)
        return time.monotonic() - since, code
    finally:
        stack.server.resume()


def journaled():
    with Stack() as stack, Connection(stack.proxy.port, 60) as one, Connection(stack.proxy.port, 60) as two:
        stack.direct[DATABASE]["c"].insert_many([{"_id": 1, "v": 0}, {"_id": 2, "v": 0}])
        for number, connection in enumerate((one, two), start=1):
            unit = RawTransaction(connection)
            assert unit.update("c", {"_id": number}, {"$set": {"v": 1}})["ok"] == 1
        seconds, code = end_beside_hanging_server(stack, lambda: None)
        assert seconds < BOUND_S, stack.proxy.process.tail()
        assert code == 0, stack.proxy.process.tail()
        said = attributes(stack.proxy, "The journal is left as after a crash: the next start recovers")
        assert [entry["units"] for entry in said] == [2], stack.proxy.process.tail()
        assert units(stack.proxy.wal).count("open") == 2
        stack.proxy.start()
        assert {d["v"] for d in stack.direct[DATABASE]["c"].find()} == {0}


def native():
    with Stack(mode="replicaset") as stack, Connection(stack.proxy.port, 60) as one:
        stack.direct[DATABASE].create_collection("c")
        unit = RawTransaction(one)
        assert unit.insert("c", {"_id": 1})["ok"] == 1
        assert unit.commit()["ok"] == 1  # of a connection without a login the server is asked first
        assert unit.next().insert("c", {"_id": 2})["ok"] == 1
        # Its answer does not come: the commit is in doubt, and the server is asked.
        commit = {"commitTransaction": 1, "lsid": unit.lsid, "txnNumber": Int64(unit.number)}
        commit |= {"autocommit": False, "$db": "admin"}

        def send_commit():
            one.send(encode_message(commit))
            wait_until(lambda: "committing" in units(stack.proxy.wal), 20, "the commit is journaled")

        seconds, code = end_beside_hanging_server(stack, send_commit)
        assert seconds < BOUND_S, stack.proxy.process.tail()
        assert code == 0, stack.proxy.process.tail()
        stack.proxy.start()
        assert units(stack.proxy.wal) != ["committing"]


def test_sigterm_while_the_server_hangs():
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(journaled), pool.submit(native)]:
            done.result()
