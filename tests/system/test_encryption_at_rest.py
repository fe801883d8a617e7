"""An encrypted journal: no document of anybody is in its files, a crash is recovered from as ever,
and the command line needs the key file to show what units wrote."""

import base64
import json
import os
import pathlib
import urllib.request

import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, ProxyFailed, admin_port, holdfast
from holdfast_testing.memory import Memory, anonymous_bytes

MARKER = "the account of Mrs Miller"


@pytest.fixture
def key_file(tmp_path):
    return make_key_file(tmp_path / "journal.key")


def make_key_file(path, mode=0o600):
    path.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    path.chmod(mode)
    return path


def kill_with_open_unit(stack, name):
    with Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        unit.insert(name, {"_id": 1, "text": MARKER})
        assert unit.commit()["ok"] == 1
        unit = RawTransaction(raw)
        unit.update(name, {"_id": 1}, {"$set": {"text": f"no more {MARKER}"}})
        unit.insert(name, {"_id": 2, "text": MARKER})
        stack.proxy.kill()


def holds_marker(directory):
    files = [file for file in pathlib.Path(directory).rglob("*") if file.is_file()]
    return [file for file in files if MARKER.encode() in file.read_bytes()]


def test_recovery_and_command_line(key_file, tmp_path, name):
    settings = {"wal.encryptionKeyFile": key_file, "upstream.fenceWait": "100ms"}
    with Stack(settings) as stack:
        wal = stack.proxy.wal
        kill_with_open_unit(stack, name)
        assert not holds_marker(wal)

        key = ("--wal", wal, "--wal-key-file", key_file)
        units = json.loads(holdfast("units", *key, "--json", check=0).stdout)["units"]
        for unit in units:
            shown = holdfast("show", unit["unit"], *key, check=0).stdout
            assert MARKER in shown
        without = holdfast("show", units[0]["unit"], "--wal", wal, check=2)
        assert "--wal-key-file" in without.stderr and MARKER not in without.stdout
        assert "2 units" in holdfast("verify", "--wal", wal, check=0).stdout
        assert "2 units" in holdfast("verify", *key, check=0).stdout
        salvaged = tmp_path / "salvaged"
        holdfast("salvage", *key, "--to", salvaged, check=0)
        assert not holds_marker(salvaged)
        assert MARKER in holdfast("export", "--wal", salvaged, *key[2:], check=0).stdout

        stack.proxy.start()
        assert stack.stored(name) == {1: {"_id": 1, "text": MARKER}}
        assert not holds_marker(wal)


def test_key_files(key_file, tmp_path, name):
    other = make_key_file(tmp_path / "other.key")
    with Stack({"wal.encryptionKeyFile": key_file}) as stack:
        wal = stack.proxy.wal
        kill_with_open_unit(stack, name)
        for settings, says in (
            ({}, "name its key file"),
            ({"wal.encryptionKeyFile": other}, "not the key file"),
            ({"wal.encryptionKeyFile": tmp_path / "none"}, str(tmp_path / "none")),
            (
                {"wal.encryptionKeyFile": make_key_file(tmp_path / "open.key", 0o644)},
                "chmod 600",
            ),
        ):
            stack.proxy.settings = settings
            with pytest.raises(ProxyFailed, match=says):
                stack.proxy.start()

        changed = holdfast(
            "change-key", "--wal", wal, "--wal-key-file", key_file, "--to", other, check=0
        )
        assert str(other) in changed.stdout
        old = holdfast("units", "--wal", wal, "--wal-key-file", key_file, check=2)
        assert "not the key file" in old.stderr
        stack.proxy.settings = {"wal.encryptionKeyFile": other}
        stack.proxy.start()
        assert stack.stored(name) == {1: {"_id": 1, "text": MARKER}}


def test_a_journal_is_encrypted_from_some_day_on(key_file, name):
    """Records from before stay readable in it, until they are pruned and the file is compacted."""
    with Stack({"wal.retention": "30m"}) as stack:
        stack.proxy.client()[DATABASE][name].insert_one({"_id": 0, "text": f"{MARKER} before"})
        stack.proxy.stop()
        stack.proxy.settings["wal.encryptionKeyFile"] = key_file
        stack.proxy.start()
        kill_with_open_unit(stack, name)
        stack.proxy.start()
        stack.proxy.stop()
        assert holds_marker(stack.proxy.wal)
        key = ("--wal", stack.proxy.wal, "--wal-key-file", key_file)
        holdfast(
            *("prune", "--before", "0s", "--yes", "--compact", *key, "--upstream", stack.server.uri),
            check=0,
        )
        assert not holds_marker(stack.proxy.wal)
        stack.proxy.start()


def test_looking_at_units_takes_little_memory(key_file, name):
    """/units, for which nobody needs a token, holds one decrypted image at a time, not those of all
    writes."""
    settings = {"wal.encryptionKeyFile": key_file, "admin.listen": "127.0.0.1:0"}
    with Stack(settings) as stack, Connection(stack.proxy.port) as raw:
        stack.direct[DATABASE][name].insert_one({"_id": 1, "text": "x" * (4 << 20)})
        unit = RawTransaction(raw)
        for number in range(8):
            assert unit.update(name, {"_id": 1}, {"$set": {"n": number}})["n"] == 1
        url = f"http://127.0.0.1:{admin_port(stack.proxy)}/units"
        before = anonymous_bytes(stack.proxy.process)
        with Memory(stack.proxy.process) as memory:
            with urllib.request.urlopen(url, timeout=20) as answer:
                listed = json.load(answer)["units"]
        assert listed[0]["writes"] == 8 and listed[0]["namespaces"] == [f"{DATABASE}.{name}"]
        assert memory.peak - before < 24 << 20
