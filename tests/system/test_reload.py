"""SIGHUP: the configuration is read again, while clients work."""

import signal
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, is_transient
from holdfast_testing import Connection, Proxy, Server, wait_until


class Configured:
    """A proxy with a configuration file that a test rewrites."""

    def __init__(self, server, path):
        self.path = path
        self.write(lock_wait="20s")
        self.proxy = Proxy(server, options=["--config", str(path)])

    def write(self, lock_wait="20s", level="info", more="", unit="", threads=2):
        self.path.write_text(
            f"net:\n  threads: {threads}\n"
            f"unit:\n  lockWait: {lock_wait}\n{unit}log:\n  level: {level}\n{more}"
        )

    def messages(self):
        return [
            (entry["msg"], entry.get("attr", {}).get("key"))
            for entry in self.proxy.log()
            if entry["c"] == "config"
        ]

    def reload(self, ends="Configuration read again"):
        """SIGHUP; what the log says from then on."""
        seen = len(self.messages())
        self.proxy.process.send(signal.SIGHUP)

        def said():
            new = self.messages()[seen:]
            return new if new and new[-1][0] == ends else None

        return wait_until(said, 20, f"the log says: {ends}")[:-1]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with Server() as server:
        made = Configured(server, tmp_path_factory.mktemp("reload") / "holdfast.yaml")
        try:
            yield made
            assert made.proxy.stop() == 0, made.proxy.process.tail(60)
        finally:
            made.proxy.close()


@pytest.fixture
def configured(running):
    """The settings as they were at the start, whatever the test before has left."""
    running.write()
    running.reload()
    return running


def lock_wait(configured, name):
    """How long a second transaction waits for the first one's document, in seconds."""
    port = configured.proxy.port
    with Connection(port) as one, Connection(port) as two:
        first, second = RawTransaction(one), RawTransaction(two)
        assert first.insert(name, {"_id": 1})["ok"]
        began = time.monotonic()
        assert is_transient(second.insert(name, {"_id": 1}))
        waited = time.monotonic() - began
        assert first.abort()["ok"]
    return waited


def test_a_live_key_takes_effect(configured, name):
    """A shorter unit.lockWait holds for the next write, without a restart."""
    pid = configured.proxy.process.pid
    configured.write(lock_wait="200ms")
    assert configured.reload() == [("Setting changed", "unit.lockWait")]
    assert 0.15 < lock_wait(configured, name) < 10
    assert configured.proxy.process.pid == pid
    assert configured.reload() == []


def test_a_units_lifetime_takes_effect(configured, name):
    """An open unit that is older than the new unit.lifetime is rolled back."""
    with Connection(configured.proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.insert(name, {"_id": 1})["ok"]
        configured.write(unit="  lifetime: 1s\n")
        assert configured.reload() == [("Setting changed", "unit.lifetime")]
        with configured.proxy.client(readConcernLevel="available") as client:
            wait_until(lambda: not list(client[DATABASE][name].find()), 20, "it is rolled back")
        assert is_transient(unit.insert(name, {"_id": 2}))


def test_limits_take_effect(configured, name):
    """unit.maxWrites, unit.maxOpen and net.maxIncomingConnections bound what begins next."""
    with Connection(configured.proxy.port) as one, Connection(configured.proxy.port) as two:
        unit = RawTransaction(one)
        assert unit.insert(name, {"_id": 1})["ok"]
        configured.write(unit="  maxWrites: 1\n  maxOpen: 1\n", more="net.maxIncomingConnections: 2\n")
        changed = {key for what, key in configured.reload() if what == "Setting changed"}
        assert changed == {"unit.maxWrites", "unit.maxOpen", "net.maxIncomingConnections"}
        assert RawTransaction(two).insert(name, {"_id": 2})["ok"] == 0
        with Connection(configured.proxy.port) as third:
            assert third.closed_by_peer()
        assert unit.insert(name, {"_id": 3})["ok"] == 0


def test_what_needs_a_restart_is_named(configured, name):
    """A key that cannot change while the proxy runs is named each time; the others are taken."""
    configured.write(threads=1, lock_wait="300ms", more="wal:\n  quota: 32GiB\n")
    wanted = [
        ("This setting needs a restart to change", "net.threads"),
        ("This setting needs a restart to change", "wal.quota"),
        ("Setting changed", "unit.lockWait"),
    ]
    assert configured.reload() == wanted
    assert configured.reload() == wanted[:2]
    assert lock_wait(configured, name) < 10


@pytest.mark.parametrize(
    "text,said",
    [
        ("unit:\n  lockWait: 1ms\nlog:\n  level: loud\n", "holdfast.yaml:4: log.level"),
        ("unit:\n  lockWait: 1ms\n  nonsense: 1\n", "holdfast.yaml:3: unknown key unit.nonsense"),
        ("unit: [", "not YAML"),
        ("unit:\n  lockWait: 1ms\n  engine: native\n  isolation: serializable\n", "does not have"),
        (None, "cannot read"),
    ],
)
def test_a_bad_file_changes_nothing(configured, name, text, said):
    """Not even what stood in it before the mistake; a good one is taken afterwards."""
    configured.write(lock_wait="1s")
    configured.reload()
    if text is None:
        configured.path.unlink()
    else:
        configured.path.write_text(text)
    assert configured.reload("The new configuration is refused; the running one stays") == []
    reason = [entry for entry in configured.proxy.log() if entry["c"] == "config"][-1]
    assert said in reason["attr"]["reason"]
    assert 0.9 < lock_wait(configured, name) < 15
    configured.write(lock_wait="1s", level="debug")
    assert configured.reload() == [("Setting changed", "log.level")]


def test_reload_under_load(configured, name):
    """Many reloads while transactions run: none fails for it, none is torn."""
    done = []
    ended = threading.Event()

    def work(number):
        with configured.proxy.client() as client:
            numbers = client[DATABASE][name]
            while not ended.is_set():
                with client.start_session() as session, session.start_transaction():
                    numbers.insert_one({"w": number}, session=session)
                    numbers.insert_one({"w": number}, session=session)
                done.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    try:
        for turn in range(20):
            configured.write(
                lock_wait=f"{20 + turn % 2}s",
                unit=f"  maxWrites: {1000 + turn % 2}\n  lifetime: {60 + turn % 2}s\n",
            )
            configured.reload()
    finally:
        ended.set()
        for worker in workers:
            worker.join()
    with configured.proxy.client() as client:
        assert client[DATABASE][name].count_documents({}) == 2 * len(done) > 0
