"""A damaged journal, with the real daemon, server and programs: the start is refused with what is
wrong and what to do, nothing of it reaches the database, `verify` says where it is, and what `salvage`
makes of it recovers the rest."""

import contextlib
import json
import os
import random
import shutil

import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, Proxy, holdfast

PAGE = 4096


class Damaged(Stack):
    """"c" was changed by a unit that committed. Then two units are open when the proxy is killed: one
    on document "a", one on "b". The second has a mark in its journal by which it is found in the file."""

    def __init__(self, name):
        super().__init__({"upstream.fenceWait": "200ms"})
        self.name = name
        with open(self.file(), "rb") as file:
            self.older = file.read()
        self.before = {n: {"_id": n, "v": 1} for n in "abc"}
        self.direct[DATABASE][name].insert_many(list(self.before.values()))
        self.committed = {"_id": "c", "v": 2}
        with contextlib.ExitStack() as undo:
            for document, mark in ("c", ""), ("a", "plain"), ("b", "MARK-OF-THE-SECOND"):
                unit = RawTransaction(undo.enter_context(Connection(self.proxy.port)))
                update = {"$set": {"v": 2}} if document == "c" else {"$set": {"v": mark}}
                assert unit.update(name, {"_id": document}, update)["ok"] == 1
                if document == "c":
                    assert unit.commit()["ok"] == 1
                    # The tail begins anew then, behind the end of `older`.
                    self.proxy.wait_for_tables(name.encode())
            self.journal = json.loads(self._status().stdout)["journal"]
            self.proxy.wait_for_tables(b"MARK-OF-THE-SECOND")
            self.proxy.kill()
        self.left = self.stored(name)
        assert self.left["b"]["v"] == "MARK-OF-THE-SECOND"

    def _status(self):
        return holdfast("status", "--wal", self.proxy.wal, "--json")

    def file(self, name="data.mdb"):
        return os.path.join(self.proxy.wal, name)

    def change(self, change, name="data.mdb"):
        """Changes the bytes of a file of the journal, in place."""
        with open(self.file(name), "r+b") as file:
            data = bytearray(file.read())
            change(data)
            file.seek(0)
            file.truncate()
            file.write(data)

    def flip_mark(self):
        def flip(data):
            at = data.find(b"MARK-OF-THE-SECOND")
            while at >= 0:  # former versions of the page, too
                data[at + 3] ^= 0x20
                at = data.find(b"MARK-OF-THE-SECOND", at + 1)

        self.change(flip)
        self.change(flip, "tail.wal")  # which may have it from before the tables had it

    def refused(self, wal=None):
        proxy = Proxy(self.server, self.proxy.settings, wal=wal or self.proxy.wal, start=False)
        code, output = proxy.run_to_end()
        assert code == 2, output
        return output

    def salvage(self, to, check):
        done = holdfast("salvage", "--wal", self.proxy.wal, "--to", to, "--json", check=check)
        return json.loads(done.stdout)


@pytest.fixture
def damaged(name):
    with Damaged(name) as made:
        yield made


def verified(wal):
    done = holdfast("verify", "--wal", wal, "--json", check=1)
    return json.loads(done.stdout)["damage"]


def test_a_damaged_record_of_an_open_unit(damaged, name, tmp_path):
    """It is never applied, and neither is anything else until somebody has looked."""
    damaged.flip_mark()
    said = damaged.refused()
    assert "CRC-32C does not match" in said and "holdfast verify" in said
    assert "A damaged journal" in said
    assert damaged.stored(name) == damaged.left
    found = verified(damaged.proxy.wal)
    assert len(found) == 1 and found[0]["lsn"] > 0 and found[0]["unit"] > 0
    with open(damaged.file(), "rb") as file:
        file.seek(found[0]["offset"])
        assert file.read(4) == b"HFWR"
    assert found[0]["page"] == found[0]["offset"] // PAGE
    human = holdfast("verify", "--wal", damaged.proxy.wal, check=1).stdout
    assert f"LSN {found[0]['lsn']}, unit {found[0]['unit']}, byte {found[0]['offset']}" in human

    kept = damaged.salvage(tmp_path / "new", check=1)
    assert kept["unitsLost"] == 1 and kept["journal"] == damaged.journal
    (unit,) = kept["lost"]
    assert unit["unit"] == found[0]["unit"] and str(found[0]["lsn"]) in unit["reason"]
    holdfast("verify", "--wal", tmp_path / "new", check=0)
    assert "copy of the journal" in damaged.refused(tmp_path / "new")
    with Proxy(
        damaged.server,
        {**damaged.proxy.settings, "upstream.takeover": damaged.journal},
        wal=tmp_path / "new",
    ) as proxy:
        # The whole one is rolled back, the committed one stays, the lost one is left as it was.
        assert damaged.stored(name) == {
            "a": damaged.before["a"],
            "b": damaged.left["b"],
            "c": damaged.committed,
        }
        with proxy.client() as client:
            client[DATABASE][name].update_one({"_id": "a"}, {"$set": {"v": 7}})
        assert proxy.stop() == 0
    assert damaged.stored(name)["a"]["v"] == 7


def test_a_damaged_page_that_leads_to_everything(damaged, name, tmp_path):
    """The root of the records is lost; the records are found by their own bytes."""

    with open(damaged.file(), "rb") as file:
        whole = file.read()
    damaged.flip_mark()
    page = verified(damaged.proxy.wal)[0]["page"]

    def zero_header(data):
        data[:] = whole
        data[page * PAGE : page * PAGE + 16] = bytes(16)

    damaged.change(zero_header)
    assert "page " in damaged.refused()
    assert damaged.stored(name) == damaged.left
    assert any("the table records" in entry["message"] for entry in verified(damaged.proxy.wal))
    kept = damaged.salvage(tmp_path / "new", check=0)
    assert kept["unitsLost"] == 0 and kept["unitsKept"] == 3
    settings = {**damaged.proxy.settings, "upstream.takeover": damaged.journal}
    with Proxy(damaged.server, settings, wal=tmp_path / "new") as proxy:
        assert proxy.stop() == 0
    assert damaged.stored(name) == {**damaged.before, "c": damaged.committed}


def test_a_damaged_record_of_a_committed_unit_stops_nothing(damaged, name):
    """Recovery does not need it; whoever asks for it is told."""

    def flip(data):
        at = data.find(b"HFWR\x01\x03")  # COMMIT
        while at >= 0:
            data[at + 60] ^= 1
            at = data.find(b"HFWR\x01\x03", at + 1)

    damaged.change(flip)
    assert "CRC-32C" in verified(damaged.proxy.wal)[0]["message"]
    damaged.proxy.start()
    assert damaged.stored(name) == {**damaged.before, "c": damaged.committed}


def test_tables_of_an_older_moment_beside_the_tail(damaged, name, tmp_path):
    """What was committed since is neither there nor in the tail, which begins behind it."""
    with open(damaged.file(), "wb") as file:
        file.write(damaged.older)
    said = damaged.refused()
    assert "tail.wal begins with record" in said and "not of the same moment" in said
    assert "holdfast verify" in said and damaged.stored(name) == damaged.left
    assert "not of the same moment" in verified(damaged.proxy.wal)[0]["message"]
    human = holdfast("verify", "--wal", damaged.proxy.wal, check=1).stdout
    assert "structure: tail.wal begins with record" in human
    for command in ("status", "units", "export"):
        assert "tail" in holdfast(command, "--wal", damaged.proxy.wal, check=2).stderr
    with open(damaged.file(), "rb") as file:
        assert file.read() == damaged.older
    assert damaged.salvage(tmp_path / "new", check=1)["endLost"] is True


def test_a_tail_that_is_missing(damaged, name, tmp_path):
    """The proxy was killed: nobody knows what was in it."""
    os.rename(damaged.file("tail.wal"), tmp_path / "tail.wal")
    said = damaged.refused()
    assert "tail.wal" in said and damaged.stored(name) == damaged.left
    assert "tail.wal" in verified(damaged.proxy.wal)[0]["message"]
    kept = damaged.salvage(tmp_path / "new", check=1)
    assert kept["endLost"] is True and kept["unitsKept"] == 1 and kept["unitsLost"] == 2
    os.rename(tmp_path / "tail.wal", damaged.file("tail.wal"))
    damaged.proxy.start()
    assert damaged.stored(name) == {**damaged.before, "c": damaged.committed}


def test_killed_before_the_tables_have_it(name, tmp_path):
    """What was acknowledged last is in the tail alone: whoever looks has it, and so has a salvage."""
    with Stack({"upstream.fenceWait": "200ms"}) as stack:
        stack.proxy.stop()
        stack.proxy.start(crash_at="commit_durable")
        with Connection(stack.proxy.port) as connection:
            unit = RawTransaction(connection)
            assert unit.insert(name, {"_id": 1})["ok"] == 1
            with contextlib.suppress(ConnectionError, EOFError, OSError):
                unit.commit()
        stack.proxy.process.wait(timeout=20)
        holdfast("verify", "--wal", stack.proxy.wal, check=0)
        shown = json.loads(holdfast("units", "--wal", stack.proxy.wal, "--json", check=0).stdout)
        assert [entry["state"] for entry in shown["units"]] == ["committed"]
        done = holdfast(
            "salvage", "--wal", stack.proxy.wal, "--to", tmp_path / "new", "--json", check=0
        )
        kept = json.loads(done.stdout)
        assert kept["unitsKept"] == 1 and kept["unitsLost"] == 0 and kept["damageCount"] == 0
        again = json.loads(holdfast("units", "--wal", tmp_path / "new", "--json", check=0).stdout)
        assert again["units"] == shown["units"]
        stack.proxy.start()
        assert stack.stored(name) == {1: {"_id": 1}}


@pytest.mark.parametrize("what", ["missing", "empty", "noise", "other"])
def test_lmdbs_lock_file_does_not_matter(damaged, name, what):
    """It holds nothing but the readers of the moment."""
    lock = os.path.join(damaged.proxy.wal, "lock.mdb")
    os.remove(lock)
    if what == "empty":
        open(lock, "wb").close()
    elif what == "noise":
        with open(lock, "wb") as file:
            file.write(random.Random(1).randbytes(8192))
    elif what == "other":
        os.remove(os.path.join(damaged.proxy.wal, "owner.lock"))
    damaged.proxy.start()
    assert damaged.stored(name) == {**damaged.before, "c": damaged.committed}
    damaged.proxy.verify()


def test_damage_of_any_kind_with_the_daemon(damaged, name, tmp_path, seed):
    """Each start on a damaged copy ends with a message, or recovers what the original does; never by
    a signal. The seeded campaign with all kinds of damage is tests/crash/test_damage.c."""
    chance = random.Random(seed)
    size = os.path.getsize(damaged.file())
    for case in range(25):
        place = tmp_path / f"case{case}"
        place.mkdir()
        shutil.copy(damaged.file(), place)
        shutil.copy(damaged.file("tail.wal"), place)
        with open(place / "data.mdb", "r+b") as file:
            at = chance.randrange(size)
            if case % 3 == 0:
                at = at // PAGE * PAGE + chance.randrange(16)
            file.seek(at)
            if case % 5 == 4:
                file.truncate(at)
            else:
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << chance.randrange(8)]))
        done = holdfast(
            "recover", "--dry-run", "--wal", place, "--upstream", damaged.server.uri,
            "--set", f"upstream.takeover={damaged.journal}", "--set", "upstream.fenceWait=0",
        )  # fmt: skip
        assert done.returncode in (0, 1, 2), f"case {case}, byte {at}: {done}"
        assert done.returncode != 2 or done.stderr.strip(), f"case {case}, byte {at}: {done}"
        assert damaged.stored(name) == damaged.left
