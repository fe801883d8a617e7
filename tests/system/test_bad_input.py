"""What an operator can get wrong: a clear message, a non-zero exit or a refused unit, and nothing
lost."""

import os
import random
import shutil
import socket
import subprocess
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, Proxy, Server, build_bin, free_port, holdfast, wait_until
from holdfast_testing.wire import crc32c


@pytest.fixture(scope="module")
def server():
    with Server() as made:
        yield made


def refused(proxy, *words, code=None):
    """The daemon ends by itself, non-zero, with a message that holds one of `words`."""
    exit_code, output = proxy.run_to_end()
    assert exit_code > 0, output
    if code is not None:
        assert exit_code == code
    assert any(word in output.lower() for word in words), output
    return output


def make_unit(port, name, commit=True):
    with Connection(port) as raw:
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": 1})["ok"] == 1
        if commit:
            assert unit.commit()["ok"] == 1


# ---------------------------------------------------------------- journals


def test_journal_of_another_database(name):
    """A journal that belongs to another server's data is refused, and left as it is."""
    with Stack() as stack, Server() as other:
        make_unit(stack.proxy.port, name)
        assert stack.proxy.stop() == 0
        stranger = Proxy(other, wal=stack.proxy.wal, start=False)
        refused(stranger, "another database", "other database", "belongs", "identity")
        stack.proxy.start()
        assert sorted(stack.stored(name)) == [1]


def test_empty_journal_on_a_database_that_has_one(tmp_path, name):
    """The database knows that it had a journal: an empty one in its place is refused."""
    with Stack() as stack:
        make_unit(stack.proxy.port, name)
        assert stack.proxy.stop() == 0
        stranger = Proxy(stack.server, wal=tmp_path / "wal", start=False)
        refused(stranger, "journal")
        stack.proxy.start()


def test_stale_copy_of_the_journal(tmp_path, name):
    """An older copy of the journal is refused: it lacks units that were acknowledged since."""
    with Stack() as stack:
        make_unit(stack.proxy.port, name)
        assert stack.proxy.stop() == 0
        shutil.copytree(stack.proxy.wal, tmp_path / "copy")
        stack.proxy.start()
        for i in range(5):
            make_unit(stack.proxy.port, f"{name}x{i}")
        time.sleep(0.3)
        assert stack.proxy.stop() == 0
        stale = Proxy(stack.server, wal=tmp_path / "copy", start=False)
        refused(stale, "stale", "older", "copy")
        stack.proxy.start()


def test_owned_by_a_live_proxy(name):
    """One journal, one proxy: the second is refused and says who has it."""
    with Stack() as stack:
        second = Proxy(stack.server, wal=stack.proxy.wal, start=False)
        output = refused(second, "owned", "in use", "lock")
        assert str(stack.proxy.process.pid) in output
        make_unit(stack.proxy.port, name)
        assert sorted(stack.stored(name)) == [1]


def test_database_of_a_live_proxy(tmp_path, name):
    """One standalone, one proxy that makes units: a second journal for it is refused."""
    with Stack() as stack:
        second = Proxy(stack.server, wal=tmp_path / "wal", start=False)
        refused(second, "journal", "owned", "proxy")
        make_unit(stack.proxy.port, name)


def data_file(wal):
    files = [os.path.join(wal, f) for f in os.listdir(wal) if f.endswith(".mdb")]
    return next(f for f in files if "lock" not in os.path.basename(f))


def records(path):
    """Offsets of the journal's records in its file: each begins with the same magic number."""
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("seed", range(3))
def test_flipped_byte(seed, name):
    """A flipped byte in a record: `verify` finds it, the daemon refuses or works, never crashes."""
    marker = f"marker-{seed}-{name}".encode() * 4
    with Stack() as stack:
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            unit.insert(name, {"_id": 1, "m": marker.decode()})
            stack.proxy.wait_for_tables(marker)
            stack.proxy.kill()
        path = data_file(stack.proxy.wal)
        content = records(path)
        at = content.find(marker)
        assert at > 0, "the document is not in the journal"
        at += random.Random(seed).randrange(len(marker))
        while at > 0:  # freed pages may hold copies: damage them all
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(bytes([content[at] ^ 0x40]))
            at = content.find(marker, at + 1)
        done = holdfast("verify", "--wal", stack.proxy.wal)
        assert done.returncode not in (0, -6, -11), done.stdout + done.stderr
        output = refused(stack.proxy, "corrupt", "checksum", "crc", "damage")
        assert "lsn" in output.lower() or "record" in output.lower()


def test_another_format_version(name):
    """A journal of a newer format is refused, with both versions named; it stays as it is."""
    with Stack() as stack:
        make_unit(stack.proxy.port, name)
        assert stack.proxy.stop() == 0
        assert change_format_version(stack.proxy.wal), "no format version in the journal's file"
        assert "999" in refused(stack.proxy, "version")
        done = holdfast("units", "--wal", stack.proxy.wal)
        assert done.returncode == 2
        assert "version" in (done.stdout + done.stderr).lower()


def change_format_version(wal):
    """Sets the format version to 999: four bytes after the row's name, then their CRC-32C."""
    path = data_file(wal)
    content = bytearray(records(path))
    name = b".format"
    at = content.find(name)
    changed = False
    while at > 0:
        value = at + len(name)
        old = bytes(content[value : value + 4])
        for order in ("big", "little"):
            if content[value + 4 : value + 8] == crc32c(name + old).to_bytes(4, order):
                new = (999).to_bytes(4, order)
                content[value : value + 8] = new + crc32c(name + new).to_bytes(4, order)
                changed = True
                break
        at = content.find(name, value)
    with open(path, "wb") as file:
        file.write(content)
    return changed


def test_directory_is_a_file(server, tmp_path):
    """The journal's place cannot be written: the message names it."""
    (tmp_path / "file").write_text("no directory")
    proxy = Proxy(server, wal=tmp_path / "file" / "wal", start=False)
    assert str(tmp_path) in refused(proxy, "directory")


def test_directory_of_something_else(server, tmp_path):
    """Files that are no journal are not overwritten."""
    (tmp_path / "wal").mkdir()
    for name in ("data.mdb", "journal.mdb"):
        (tmp_path / "wal" / name).write_bytes(b"precious" * 1000)
    proxy = Proxy(server, wal=tmp_path / "wal", start=False)
    exit_code, output = proxy.run_to_end()
    contents = {(tmp_path / "wal" / n).read_bytes() for n in ("data.mdb", "journal.mdb")}
    assert exit_code > 0, output
    assert contents == {b"precious" * 1000}


# ---------------------------------------------------------------- upstreams


def test_unreachable_upstream(tmp_path):
    settings = {"upstream.connectTimeout": "500ms"}
    proxy = Proxy(f"mongodb://127.0.0.1:{free_port()}/", settings, tmp_path / "wal", start=False)
    refused(proxy, "upstream", "connect", "reach")


def test_upstream_that_is_not_mongodb(tmp_path):
    """A web server, say: it answers, but not in the protocol."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    peer = listener.accept()[0]
                    peer.recv(1000)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    peer.close()
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        uri = f"mongodb://127.0.0.1:{listener.getsockname()[1]}/"
        settings = {"upstream.connectTimeout": "1s"}
        refused(Proxy(uri, settings, tmp_path / "wal", start=False), "upstream")


def test_silent_upstream(tmp_path):
    """It accepts and says nothing: the start ends within its time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"mongodb://127.0.0.1:{listener.getsockname()[1]}/"
        settings = {"upstream.connectTimeout": "500ms"}
        refused(Proxy(uri, settings, tmp_path / "wal", start=False), "upstream")


def test_wrong_password_upstream(tmp_path):
    with Server(auth=True) as secured:
        uri = secured.uri.replace("correct%20horse", "wrong")
        settings = {"upstream.connectTimeout": "1s"}
        refused(Proxy(uri, settings, tmp_path / "wal", start=False), "auth")


def test_upstream_goes_and_comes(name):
    """While the server is down units are errors; when it is back, all goes on."""
    with Stack() as stack:
        make_unit(stack.proxy.port, name)
        time.sleep(0.3)
        stack.server.kill()
        try:
            with Connection(stack.proxy.port, timeout=20) as raw:
                reply = RawTransaction(raw).insert(name, {"_id": 2})
                assert reply is None or reply["ok"] == 0
        except ConnectionError:
            pass
        assert stack.proxy.process.running()
        stack.server.start()

        def works():
            try:
                make_unit(stack.proxy.port, name + "after")
                return True
            except (AssertionError, ConnectionError, TypeError, socket.timeout):
                return False

        wait_until(works, 20, "units work again", 0.3)
        assert list(stack.stored(name + "after")) == [1]


# ---------------------------------------------------------------- ports and options


def test_port_taken(server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        proxy = Proxy(server, wal=tmp_path / "wal", start=False)
        proxy.port = taken.getsockname()[1]
        assert str(proxy.port) in refused(proxy, "address", "in use", "listen")


def daemon(*arguments):
    return subprocess.run(
        [str(build_bin() / "holdfastd"), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


GOOD = ["--listen", "127.0.0.1:0", "--upstream", "mongodb://127.0.0.1:1/", "--wal", "somewhere"]
BAD_OPTIONS = {
    "nothing": [],
    "unknown option": [*GOOD, "--nonsense"],
    "unknown key": [*GOOD, "--set", "unit.nonsense=1"],
    "no value": [*GOOD, "--set", "unit.lockWait"],
    "value out of range": [*GOOD, "--set", "net.threads=100000"],
    "value of another kind": [*GOOD, "--set", "unit.lockWait=soon"],
    "listen without port": ["--listen", "localhost", *GOOD[2:]],
    "port too large": ["--listen", "127.0.0.1:99999", *GOOD[2:]],
    "no uri": [*GOOD[:2], "--upstream", "localhost", *GOOD[4:]],
    "missing config": [*GOOD, "--config", "no-such-file.yaml"],
    "http alone": [*GOOD, "--http-listen", "127.0.0.1:0"],
    "http route": [*GOOD, "--set", "http.routes=POST"],
    "native has no such units": [
        *GOOD, "--set", "unit.engine=native", "--set", "unit.isolation=serializable"
    ],
    "uri that no driver takes": [*GOOD[:2], "--upstream", "mongodb://h:99999", *GOOD[4:]],
}


@pytest.mark.parametrize("arguments", BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_bad_options(tmp_path, arguments):
    """Non-zero, one clear sentence, nothing made; also by --check-config."""
    for extra in ([], ["--check-config"]):
        arguments = [str(tmp_path / "wal") if a == "somewhere" else a for a in arguments]
        done = daemon(*arguments, *extra)
        assert done.returncode == 2, done.stdout
        assert len(done.stderr.strip()) > 15
        assert not (tmp_path / "wal").exists()


@pytest.mark.parametrize(
    "text,line,key",
    [
        ("net:\n  listen: 127.0.0.1:0\n  nonsense: 1\n", 3, "net.nonsense"),
        ("unit:\n  lockWait: 5s\n  lockWait: 6s\n", 3, "unit.lockWait"),
        ("wal:\n  durability: perhaps\n", 2, "wal.durability"),
        ("net: [\n", 2, ""),
        ("- 1\n", 1, ""),
    ],
)
def test_bad_config_file(tmp_path, text, line, key):
    """The message names the file, the line and the key."""
    (tmp_path / "holdfast.yaml").write_text(text)
    done = daemon("--config", tmp_path / "holdfast.yaml", "--check-config")
    assert done.returncode == 2
    assert f"holdfast.yaml:{line}: " in done.stderr
    assert key in done.stderr


def test_check_config(tmp_path):
    """Valid: 0, and nothing is made, opened or asked, even where a start could not succeed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        (tmp_path / "holdfast.yaml").write_text(
            f"net:\n  listen: {taken}\nadmin:\n  listen: {taken}\n"
            f"upstream:\n  uri: mongodb://{taken}/\nwal:\n  directory: {tmp_path}/wal\n"
        )
        done = daemon("--config", tmp_path / "holdfast.yaml", "--check-config")
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()
    assert (done.returncode, done.stderr) == (0, "")
    assert "valid" in done.stdout
    assert not (tmp_path / "wal").exists()


def test_journal_is_full(name):
    """At the quota new units are refused with a clear error; reads and plain writes go on, and
    nothing is lost."""
    with Stack({"wal.quota": "16MiB"}) as stack, Connection(stack.proxy.port) as raw:
        kept, reply = [], None
        for number in range(100):
            unit = RawTransaction(raw)
            reply = unit.insert(name, {"_id": number, "t": "x" * 500_000})
            if reply["ok"] == 1:
                reply = unit.commit()
            if reply["ok"] != 1:
                break
            kept.append(number)
        assert reply["ok"] == 0 and len(reply["errmsg"]) > 10
        assert len(kept) > 5
        raw.run({"insert": name + "plain", "documents": [{"_id": 1}], "$db": DATABASE})
        assert sorted(stack.stored(name)) == kept
        stack.proxy.restart()
        assert sorted(stack.stored(name)) == kept
