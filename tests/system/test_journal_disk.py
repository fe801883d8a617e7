"""The disk under the journal fills up, or fails: what the clients see, and what is there after it.

disk_fault.so, preloaded into the daemon, fails the calls of its journal while a file says so."""

import pytest
from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection, Proxy, Server, build_bin

OUT_OF_DISK_SPACE = 14031
LARGE = "x" * (1 << 20)


class Faulty:
    """A server, and a proxy whose journal is on a disk that obeys fail()."""

    def __init__(self, directory):
        self.fault = directory / "fault"
        self.server = Server()
        environment = {
            "LD_PRELOAD": str(build_bin() / "disk_fault.so"),
            "HOLDFAST_DISK_FAULT": str(self.fault),
        }
        self.proxy = Proxy(self.server, environment=environment)
        self.direct = self.server.client()

    def fail(self, how):
        self.fault.write_text(how)

    def heal(self):
        self.fault.write_text("")

    def stored(self, name):
        return {d["_id"]: d for d in self.direct[DATABASE][name].find({})}

    def close(self):
        self.direct.close()
        self.proxy.close()
        self.server.close()


@pytest.fixture
def faulty(tmp_path):
    made = Faulty(tmp_path)
    try:
        yield made
    finally:
        made.close()


def fill_until_refused(raw, name):
    """New units with large documents, until one is refused: its reply, and how many were not."""
    for count in range(100):
        unit = RawTransaction(raw)
        reply = unit.insert(name, {"_id": f"large{count}", "x": LARGE})
        if reply["ok"] != 1:
            return reply, count
        assert unit.commit()["ok"] == 1
    raise AssertionError("a full disk refused nothing")


def test_full_disk(faulty, name):
    """New units are refused with a clear error, open ones commit and roll back, all else goes on;
    with room on the disk it is as before."""
    faulty.direct[DATABASE][name].insert_one({"_id": "old", "v": 1})
    with Connection(faulty.proxy.port) as raw:
        kept, undone = RawTransaction(raw), RawTransaction(raw)
        assert kept.insert(name, {"_id": "kept"})["ok"] == 1
        assert undone.update(name, {"_id": "old"}, {"$set": {"v": 2}})["ok"] == 1
        assert undone.insert(name, {"_id": "undone"})["ok"] == 1

        faulty.fail("full")
        refused, count = fill_until_refused(raw, name)
        assert refused["code"] == OUT_OF_DISK_SPACE, refused
        assert "journal is full" in refused["errmsg"], refused
        assert f"large{count}" not in faulty.stored(name)
        again = RawTransaction(raw).insert(name, {"_id": "small"})
        assert again["ok"] == 0 and again["code"] == OUT_OF_DISK_SPACE, again

        # A write into a unit that is open is refused, and rolls it back.
        late = undone.insert(name, {"_id": "late"})
        assert late["ok"] == 0 and late["code"] == OUT_OF_DISK_SPACE, late
        stored = faulty.stored(name)
        assert stored["old"] == {"_id": "old", "v": 1}
        assert "undone" not in stored and "late" not in stored
        assert kept.commit()["ok"] == 1

        found = raw.run({"find": name, "filter": {"_id": "kept"}, "$db": DATABASE})
        assert found["cursor"]["firstBatch"] == [{"_id": "kept"}], found
        plain = {"insert": name, "documents": [{"_id": "plain"}], "$db": DATABASE}
        assert raw.run(plain)["ok"] == 1

        faulty.heal()
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": "after"})["ok"] == 1
        assert unit.commit()["ok"] == 1
    assert faulty.proxy.process.running()
    assert {"kept", "plain", "after"} <= set(faulty.stored(name))
    assert faulty.proxy.stop() == 0
    faulty.proxy.verify()


def test_full_disk_at_the_start(faulty, name):
    """Recovery ends what was open, in the room that was kept for it."""
    with Connection(faulty.proxy.port) as raw:
        assert RawTransaction(raw).insert(name, {"_id": "open"})["ok"] == 1
        faulty.fail("full")
        faulty.proxy.restart()
    assert faulty.stored(name) == {}
    with Connection(faulty.proxy.port) as raw:
        reply = RawTransaction(raw).insert(name, {"_id": "new"})
        assert reply["ok"] == 0 and reply["code"] == OUT_OF_DISK_SPACE, reply
        assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1


def test_error_of_the_disk(faulty, name):
    """The process ends and says why; the next has everything acknowledged, and nothing half."""
    faulty.direct[DATABASE][name].insert_one({"_id": "old", "v": 1})
    with Connection(faulty.proxy.port) as raw:
        kept = RawTransaction(raw)
        assert kept.insert(name, {"_id": "kept"})["ok"] == 1
        assert kept.commit()["ok"] == 1
        doomed = RawTransaction(raw)
        assert doomed.update(name, {"_id": "old"}, {"$set": {"v": 2}})["ok"] == 1
        assert doomed.insert(name, {"_id": "doomed"})["ok"] == 1
        faulty.fail("eio")
        try:
            assert doomed.commit() is None, "a commit was answered"
        except ConnectionError:
            pass
    assert faulty.proxy.process.wait(10) == 70
    said = [entry for entry in faulty.proxy.log() if "could not be made durable" in entry["msg"]]
    assert said and said[0]["s"] == "E", faulty.proxy.process.tail()
    faulty.heal()
    faulty.proxy.start()
    # The commit that nobody was told of may have reached the disk or not, as a whole.
    kept = {"kept": {"_id": "kept"}}
    rolled_back = {**kept, "old": {"_id": "old", "v": 1}}
    committed = {**kept, "old": {"_id": "old", "v": 2}, "doomed": {"_id": "doomed"}}
    assert faulty.stored(name) in (rolled_back, committed)
    faulty.proxy.verify()
