"""Journals of every format version that there was: read, verified, recovered, taken over.

tests/fixtures/journal-N was made by the programs that wrote version N (make_journal_fixture), and is
never made anew. What they said of it, today's must say, too; they may say more.
"""

import base64
import json
import lzma
import os
import pathlib
import shutil

import bson
import pytest
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from conftest import RawTransaction
from holdfast_testing import Connection, Proxy, Server, build_bin, holdfast
from holdfast_testing.backup import contents
from test_bad_input import change_format_version

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
VERSIONS = sorted(FIXTURES.glob("journal-*"))


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def old(request, tmp_path):
    """(its directory in the tests, a copy of the journal)"""
    wal = tmp_path / "wal"
    wal.mkdir(mode=0o700)
    data = lzma.decompress((request.param / "data.mdb.xz").read_bytes())
    (wal / "data.mdb").write_bytes(data)
    if (request.param / "tail.wal.xz").exists():
        (wal / "tail.wal").write_bytes(lzma.decompress((request.param / "tail.wal.xz").read_bytes()))
    return request.param, wal


@pytest.fixture
def server(old):
    """What the server held when the proxy was killed."""
    with Server() as started, started.client() as client:
        for namespace, documents in read_json(old[0], "server.json")["atCrash"].items():
            database, name = namespace.split(".", 1)
            raw = [RawBSONDocument(base64.b64decode(document)) for document in documents]
            client[database][name].insert_many(raw)
        started.direct = client
        yield started


def read_json(directory, name):
    return json.loads((directory / name).read_text())


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def says_at_least(now, then):
    """All that was said then is said now; fields may have been added to objects."""
    if isinstance(then, dict):
        return all(key in now and says_at_least(now[key], then[key]) for key in then)
    if isinstance(then, list):
        return len(now) == len(then) and all(map(says_at_least, now, then))
    return now == then


def held(client):
    return {
        namespace: sorted(base64.b64encode(raw).decode() for raw in rows.values())
        for namespace, rows in contents(client, ("holdfast",)).items()
    }


def journal_id(wal):
    """To vouch with: what is in the fixture is a copy of a journal that was not closed."""
    return json.loads(holdfast("status", "--json", "--wal", wal).stdout)["journal"]


def recovered(directory):
    documents = read_json(directory, "server.json")["recovered"]
    return {namespace: sorted(rows) for namespace, rows in documents.items()}


def test_it_is_read_as_it_was(old):
    directory, wal = old
    for name, arguments in (
        ("export.jsonl", ("export",)),
        ("records.jsonl", ("export", "--records")),
    ):
        now = lines(holdfast(*arguments, "--wal", wal, check=0).stdout)
        assert says_at_least(now, lines((directory / name).read_text())), name
    now = json.loads(holdfast("units", "--json", "--wal", wal, check=1).stdout)
    assert says_at_least(now, read_json(directory, "units.json"))
    now = json.loads(holdfast("verify", "--json", "--wal", wal, check=0).stdout)
    assert says_at_least(now, read_json(directory, "verify.json"))


def test_it_is_recovered(old, server):
    directory, wal = old
    vouched = f"upstream.takeover={journal_id(wal)}"
    holdfast(
        "recover", "--wal", wal, "--upstream", server.uri, "--set", vouched, check=1
    )  # its conflict is left
    assert held(server.direct) == recovered(directory)
    states = [
        unit["state"] for unit in json.loads(holdfast("units", "--json", "--wal", wal).stdout)["units"]
    ]
    assert states == ["aborted", "committed", "committed", "aborted", "conflict", "aborted"]
    holdfast("prune", "--compact", "--wal", wal, check=0)
    holdfast("verify", "--wal", wal, check=0)


def test_holdfastd_takes_it_over(old, server):
    """It recovers, still knows the answer to a retried write, and goes on."""
    directory, wal = old
    vouched = {"upstream.takeover": journal_id(wal)}
    with Proxy(server, vouched, wal=wal) as proxy, Connection(proxy.port) as connection:
        assert held(server.direct) == recovered(directory)
        reply = connection.run({
            "insert": "c", "documents": [{"_id": "once"}], "txnNumber": Int64(1), "$db": "test",
            "lsid": {"id": bson.Binary(bytes(range(16)), 4)},
        })  # fmt: skip
        assert reply["n"] == 1 and "writeErrors" not in reply
        unit = RawTransaction(connection)
        unit.insert("c", {"_id": "next"})
        assert unit.commit()["ok"] == 1
        assert proxy.stop() == 0
    holdfast("verify", "--wal", wal, check=0)


def test_it_goes_on_through_an_upgrade_in_place(old, server, tmp_path):
    """From one program to another, both on a journal of the old format: what was committed before is
    known, and what is open meanwhile is not lost. The programs are two copies of today's."""
    directory, wal = old
    path = tmp_path / "holdfastd"
    shutil.copy(build_bin() / "holdfastd", path)
    vouched = {"upstream.takeover": journal_id(wal), "upgrade.wait": "20s"}
    with Proxy(server, vouched, wal=wal, program=path) as proxy, Connection(proxy.port) as connection:
        other = path.with_suffix(".new")
        shutil.copy(build_bin() / "holdfastd", other)
        with other.open("ab") as copy:
            copy.write(b"another version")
        other.rename(path)
        unit = RawTransaction(connection)
        assert unit.insert("c", {"_id": "open"})["ok"] == 1
        proxy.begin_upgrade()
        assert unit.commit()["ok"] == 1
        proxy.finish_upgrade()
        assert os.readlink(f"/proc/{proxy.process.pid}/exe") == str(path)
        reply = connection.run({
            "insert": "c", "documents": [{"_id": "once"}], "txnNumber": Int64(1), "$db": "test",
            "lsid": {"id": bson.Binary(bytes(range(16)), 4)},
        })  # fmt: skip
        assert reply["n"] == 1 and "writeErrors" not in reply
        assert unit.commit()["ok"] == 1
        unit = unit.next()
        unit.insert("c", {"_id": "next"})
        assert unit.commit()["ok"] == 1
        assert proxy.stop() == 0
        assert server.direct.test.c.count_documents({"_id": {"$in": ["open", "next"]}}) == 2
    holdfast("verify", "--wal", wal, check=0)


def test_a_newer_one_is_refused_by_every_command_and_stays_as_it_is(old, server):
    _, wal = old
    assert change_format_version(str(wal))
    data = (wal / "data.mdb").read_bytes()
    for command in (
        ("status",),
        ("units",),
        ("export",),
        ("verify",),
        ("show", "3"),
        ("recover", "--upstream", server.uri),
        ("replay", "--onto", server.uri),
        ("check-restore", "--upstream", server.uri),
        ("prune", "--compact", "--before", "0s", "--yes"),
    ):
        done = holdfast(*command, "--wal", wal)
        assert done.returncode == 2, command
        assert "version 999" in done.stderr and "versions 1 to" in done.stderr, done.stderr
    code, output = Proxy(server, wal=wal, start=False).run_to_end()
    assert code == 2 and "version 999" in output
    assert (wal / "data.mdb").read_bytes() == data
