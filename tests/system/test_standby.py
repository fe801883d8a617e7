"""A second holdfastd takes over when the first is gone, and never before: on the same journal, and on
copies of it that were made before and after. Nothing that the first had prepared follows, also if it
was only stopped and wakes up later."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request

import pymongo
import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, Process, Proxy, free_port, holdfast, wait_until

LEASE_VALID = 10  # seconds: what a successor waits for
LEASE_KILL = 8  # after so many, a first that was stopped is dead


@pytest.fixture
def pair():
    """A server with one holdfastd, and what makes others on copies of its journal."""
    with Pair() as made:
        yield made


class Pair(Stack):
    def __init__(self):
        super().__init__({"upstream.fenceWait": "500ms"})
        self.others = []
        self.directory = tempfile.mkdtemp(prefix="holdfast-copies-")

    def copy(self):
        """The journal as it is on the disk now. LMDB's lock file is not copied: it is made anew."""
        place = os.path.join(self.directory, f"copy{len(os.listdir(self.directory))}")
        os.mkdir(place)
        for name in ("tail.wal", "data.mdb"):
            shutil.copy(os.path.join(self.proxy.wal, name), place)
        return place

    def journal(self):
        done = holdfast("status", "--wal", self.proxy.wal, "--json", check=None)
        return json.loads(done.stdout)["journal"]

    def other(self, wal, takeover=None, standby=False, **keywords):
        settings = {"upstream.fenceWait": "500ms"}
        if takeover:
            settings["upstream.takeover"] = takeover
        options = ["--standby", "on"] if standby else []
        proxy = Proxy(self.server, settings, wal=wal, options=options, start=False, **keywords)
        self.others.append(proxy)
        return proxy

    def __exit__(self, *arguments):
        try:
            for proxy in self.others:
                proxy.close()
            super().__exit__(*arguments)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


def stopped(proxy):
    """True if it stands still; a dead one has no state."""
    try:
        text = pathlib.Path(f"/proc/{proxy.process.pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] == "T"


def refused(proxy):
    code, output = proxy.run_to_end(40)
    assert code == 2, output
    return output


def begun_unit(pair, name):
    """A unit with one write done; the document of the second is there."""
    pair.direct[DATABASE][name].insert_one({"_id": "u", "v": 1})
    raw = Connection(pair.proxy.port)
    unit = RawTransaction(raw)
    assert unit.insert(name, {"_id": "i"})["ok"] == 1
    return raw, unit


# ---------------------------------------------------------------- while the first lives


def test_a_copy_of_a_living_ones_journal_is_refused(pair, name):
    """Two on copies of one journal, on one machine: each has the lock of its own copy, and still the
    second makes no unit and leaves the first in peace."""
    raw, unit = begun_unit(pair, name)
    with raw:
        second = pair.other(pair.copy(), takeover=pair.journal())
        assert "in use by holdfastd" in refused(second)
        assert unit.update(name, {"_id": "u"}, {"$inc": {"v": 1}})["ok"] == 1
        assert unit.commit()["ok"] == 1
    assert pair.stored(name) == {"u": {"_id": "u", "v": 2}, "i": {"_id": "i"}}


def test_a_standby_waits_says_so_and_ends_cleanly(pair):
    port = free_port()
    second = pair.other(pair.copy(), standby=True)
    second.options += ["--admin", f"127.0.0.1:{port}"]
    process = second.process = _process(second)
    wait_until(
        lambda: "standby: the database is in use by holdfastd" in _ready(port)[1], 20, "it stands by"
    )
    assert _ready(port)[0] == 503
    assert _get(port, "/status")["proxy"]["phase"] == "standby"
    assert process.terminate(10) == 0
    assert pair.proxy.process.running()


def test_a_standby_stays_while_the_server_restarts(pair, name):
    """The first survives a restart of the server, and so does the one that is to be there for it."""
    port = free_port()
    second = pair.other(pair.copy(), standby=True)
    second.options += ["--admin", f"127.0.0.1:{port}"]
    process = second.process = _process(second)
    wait_until(lambda: "in use by holdfastd" in _ready(port)[1], 20, "it stands by")
    pair.server.kill()
    wait_until(lambda: "in use" not in _ready(port)[1], 20, "it cannot ask")
    pair.server.start()
    wait_until(lambda: "in use by holdfastd" in _ready(port)[1], 40, "it stands by again")
    assert pair.proxy.process.running()
    assert process.terminate(20) == 0


def test_a_standby_on_the_same_journal_takes_over_at_once(pair, name):
    """Both on one directory: the journal's lock tells it that the first is dead."""
    raw, _ = begun_unit(pair, name)
    port = free_port()
    second = pair.other(pair.proxy.wal, standby=True)
    second.options += ["--admin", f"127.0.0.1:{port}"]
    second.process = _process(second)
    wait_until(lambda: "owned by a running process" in _ready(port)[1], 20, "it stands by")
    assert _ready(port)[0] == 503
    with raw:
        pair.proxy.kill()
    killed = time.monotonic()
    wait_until(lambda: _ready(port)[0] == 200, 30, "the standby serves")
    assert time.monotonic() - killed < LEASE_VALID - 1
    assert pair.stored(name) == {"u": {"_id": "u", "v": 1}}


# ---------------------------------------------------------------- copies, after its death


def test_a_copy_made_after_a_kill_takes_over_on_a_word(pair, name):
    """Whether a copy has all that a killed one wrote nobody but the operator can know."""
    with pair.proxy.client() as client:
        client[DATABASE][name + "p"].insert_many([{"_id": n} for n in range(3)])
    raw, _ = begun_unit(pair, name)
    journal = pair.journal()
    with raw:
        pair.proxy.kill()
    copy = pair.copy()
    said = refused(pair.other(copy))
    assert "this is a copy of the journal" in said and journal in said
    second = pair.other(copy, takeover=journal)
    second.start()
    assert pair.stored(name) == {"u": {"_id": "u", "v": 1}}
    assert len(pair.stored(name + "p")) == 3
    # And now the first journal is the stale one, whoever vouches for what.
    second.kill()
    pair.proxy.settings["upstream.takeover"] = journal
    assert "stale copy" in refused(pair.proxy)


def test_a_copy_made_before_more_was_committed_is_refused(pair, name):
    """It would undo what was acknowledged: the unit is open in the copy, and committed since."""
    raw, unit = begun_unit(pair, name)
    with raw:
        copy = pair.copy()
        assert unit.commit()["ok"] == 1
        journal = pair.journal()
        pair.proxy.kill()  # perhaps before the lease has told of the commit
    assert "copy of the journal" in refused(pair.other(copy))
    assert pair.stored(name)["i"] == {"_id": "i"}
    pair.proxy.start()
    assert pair.stored(name)["i"] == {"_id": "i"}
    # From here on the lease knows more than the copy: not even a word helps.
    assert pair.proxy.stop() == 0
    assert "stale copy" in refused(pair.other(copy, takeover=journal))


def test_a_copy_of_a_cleanly_closed_journal_needs_no_word(pair, name):
    raw, unit = begun_unit(pair, name)
    with raw:
        assert unit.commit()["ok"] == 1
    assert pair.proxy.stop() == 0
    second = pair.other(pair.copy())
    second.start()
    assert pair.stored(name)["i"] == {"_id": "i"}


# ---------------------------------------------------------------- stopped, and awake again


def test_what_a_stopped_one_had_prepared_never_arrives(pair, name):
    """Stopped between the journal's record of a write and the write itself. Its successor undoes the
    unit; the write's guard would match again: only that it never leaves protects."""
    pair.proxy.kill()
    pair.proxy.start(crash_at="unit_journaled:2:stop")
    raw, unit = begun_unit(pair, name)
    journal = pair.journal()
    blocked = threading.Thread(target=_try, args=(unit, name), daemon=True)
    blocked.start()
    wait_until(lambda: stopped(pair.proxy), 10, "the first stands still")
    since = time.monotonic()
    second = pair.other(pair.copy(), takeover=journal, standby=True)
    second.start()
    assert time.monotonic() - since > LEASE_VALID - 3  # a renewal may be 2 s old
    assert pair.stored(name) == {"u": {"_id": "u", "v": 1}}
    pair.proxy.resume()
    time.sleep(1)
    assert pair.stored(name) == {"u": {"_id": "u", "v": 1}}
    assert pair.proxy.process.wait(5) == -signal.SIGKILL
    with second.client() as client:
        client[DATABASE][name].update_one({"_id": "u"}, {"$inc": {"v": 1}})
    with raw:
        blocked.join(10)
    assert pair.stored(name) == {"u": {"_id": "u", "v": 2}}


def test_one_that_was_stopped_for_a_moment_goes_on(pair, name):
    raw, unit = begun_unit(pair, name)
    with raw:
        pair.proxy.pause()
        time.sleep(LEASE_KILL - 5)
        pair.proxy.resume()
        assert unit.update(name, {"_id": "u"}, {"$inc": {"v": 1}})["ok"] == 1
        assert unit.commit()["ok"] == 1
    assert pair.stored(name) == {"u": {"_id": "u", "v": 2}, "i": {"_id": "i"}}


def test_one_whose_server_stands_still_lives_on(pair, name):
    """Without its server it cannot renew, and nobody else can take over: it sends nothing until the
    server answers, and is not killed."""
    with pair.proxy.client(serverSelectionTimeoutMS=30000) as client:
        collection = client[DATABASE][name]
        collection.insert_one({"_id": 1})
        pair.server.pause()
        time.sleep(LEASE_KILL + 4)
        assert pair.proxy.process.running()
        assert any("nothing is sent" in entry["msg"] for entry in pair.proxy.log())
        pair.server.resume()
        wait_until(
            lambda: any("renewed again" in entry["msg"] for entry in pair.proxy.log()),
            20,
            "the lease is renewed again",
        )
        wait_until(lambda: _insert(collection, 2), 20, "writes pass again")
    assert set(pair.stored(name)) == {1, 2}
    pair.proxy.verify()


def test_one_whose_server_was_gone_for_long_goes_on(pair, name):
    """kill -9 of the server, away for longer than the lease lives. It may have lost our last renewal,
    and even our lease: that is nobody else's then."""
    with pair.proxy.client(serverSelectionTimeoutMS=30000) as client:
        collection = client[DATABASE][name]
        assert _insert(collection, 1)
        pair.server.kill()
        time.sleep(LEASE_KILL + 3)
        pair.proxy.pause()  # it knows that it may not send, and so may stand still for long
        pair.server.start()
        with pair.server.client() as direct:
            # As if our taking the lease had been lost as well.
            direct["holdfast"]["state"].update_one({"_id": "lease"}, {"$inc": {"epoch": -1}})
        time.sleep(LEASE_KILL + 1)
        pair.proxy.resume()
        try:
            wait_until(lambda: _insert(collection, 2), 30, "writes pass again")
        except AssertionError as error:
            raise AssertionError(pair.proxy.process.tail(40)) from error
    assert pair.proxy.process.running()
    state = pair.direct["holdfast"]["state"]
    wait_until(lambda: state.find_one({"_id": "lease"})["epoch"] >= 1, 10, "the lease is ours again")


def test_transfers_on_both_sides_of_a_takeover(pair, name, seed):
    """Clients of the first under load when it is stopped, clients of the second after it took over,
    then the first wakes up: each transfer is whole or absent, and there if it was acknowledged."""
    chance = random.Random(seed)
    accounts = pair.direct[DATABASE][name]
    accounts.insert_many([{"_id": n, "balance": 100} for n in range(10)])
    acknowledged, clients = [], []
    clients += [Transfers(pair.proxy, name, acknowledged, chance.random()) for _ in range(4)]
    time.sleep(1 + chance.random())
    pair.proxy.pause()
    wait_until(lambda: stopped(pair.proxy), 10, "the first stands still")
    second = pair.other(pair.copy(), takeover=pair.journal(), standby=True)
    second.start()
    clients += [Transfers(second, name, acknowledged, chance.random()) for _ in range(2)]
    time.sleep(1)
    pair.proxy.resume()
    time.sleep(2)
    for client in clients:
        client.stop()
    pair.proxy.kill()
    assert second.stop() == 0
    ledger = pair.stored(name + "ledger")
    assert [entry for entry in acknowledged if entry not in ledger] == []
    balances = {n: 100 for n in range(10)}
    for entry in ledger.values():
        balances[entry["from"]] -= 1
        balances[entry["to"]] += 1
    assert {n: account["balance"] for n, account in pair.stored(name).items()} == balances
    assert len(ledger) > 20


class Transfers:
    """A client that moves money until it is stopped or its proxy is gone."""

    def __init__(self, proxy, name, acknowledged, seed):
        self.proxy, self.name, self.acknowledged = proxy, name, acknowledged
        self.chance = random.Random(seed)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.ending.set()
        self.thread.join(20)

    def _run(self):
        client = self.proxy.client(serverSelectionTimeoutMS=1000, retryWrites=False)
        with client, contextlib.suppress(pymongo.errors.PyMongoError):
            while not self.ending.is_set():
                with contextlib.suppress(pymongo.errors.OperationFailure):
                    self._transfer(client)

    def _transfer(self, client):
        accounts = client[DATABASE][self.name]
        ledger = client[DATABASE][self.name + "ledger"]
        giver, taker = self.chance.sample(range(10), 2)
        entry = f"{id(self)}-{self.chance.random()}"
        with client.start_session() as session, session.start_transaction():
            accounts.update_one({"_id": giver}, {"$inc": {"balance": -1}}, session=session)
            accounts.update_one({"_id": taker}, {"$inc": {"balance": 1}}, session=session)
            ledger.insert_one({"_id": entry, "from": giver, "to": taker}, session=session)
        self.acknowledged.append(entry)


# ---------------------------------------------------------------- helpers


def _try(unit, name):
    with contextlib.suppress(OSError):
        unit.update(name, {"_id": "u"}, {"$inc": {"v": 1}})


def _insert(collection, number):
    try:
        collection.insert_one({"_id": number})
        return True
    except pymongo.errors.DuplicateKeyError:
        return True
    except pymongo.errors.PyMongoError:
        return False


def _process(proxy):
    return Process(proxy.arguments(), name="holdfastd")


def _ready(port):
    """(status, text) of /readyz; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return json.load(answer)
