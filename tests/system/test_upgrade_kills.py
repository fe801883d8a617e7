"""kill -9 of either process at any step of an upgrade loses nothing: the other one serves, or a new start
recovers."""

import signal
import threading

import pymongo
import pytest
from bank import ACCOUNTS, check, open_accounts
from conftest import DATABASE
from holdfast_testing import Proxy, Server, Successor, build_bin, holdfast, wait_until
from pymongo.errors import PyMongoError

# Where the old process is killed. The new one takes over, whatever it has been given by then.
OLD = [
    "upgrade_started",
    "upgrade_paused",
    "upgrade_resting",
    "upgrade_journal_closed",
    "upgrade_journal_given",
    "upgrade_giving",
    "upgrade_given",
]
# Where the new one is. The old one goes on as if nothing had happened, and later starts its own
# program again; once the new one serves, its end is that of any holdfastd.
NEW = {
    "upgrade_prepared": "goes on serving",
    "upgrade_waiting": "goes on serving",
    "upgrade_journal_taken": "started again",
    "upgrade_serving": "started again",
    "upgrade_taking": None,
}


class Teller:
    """Transfers money in transactions, also through the end of a process; knows what it was told is done."""

    def __init__(self, uri, number):
        self.number = number
        self.acknowledged = set()
        self.ending = threading.Event()
        self.client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=20000)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        bank = self.client[DATABASE]
        count = 0
        while not self.ending.is_set():
            count += 1
            transfer = f"{self.number}/{count}"
            source, target = count % ACCOUNTS, (count * 7 + self.number) % ACCOUNTS
            entry = {"_id": transfer, "from": source, "to": target, "amount": 1}

            def body(session):
                accounts = bank.accounts
                accounts.update_one({"_id": source}, {"$inc": {"balance": -1}}, session=session)
                accounts.update_one({"_id": target}, {"$inc": {"balance": 1}}, session=session)
                bank.transfers.insert_one(entry, session=session)

            try:
                with self.client.start_session() as session:
                    session.with_transaction(body)
                self.acknowledged.add(transfer)
            except PyMongoError:
                pass  # not acknowledged: it may be there, whole

    def end(self):
        self.ending.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.client.close()


class Bank:
    """A server, a proxy whose program can be replaced, and tellers at work."""

    def __init__(self, directory):
        self.path = directory / "holdfastd"
        self.server = Server()
        self.direct = self.server.client()
        self.proxy = Proxy(self.server, {"upgrade.wait": "3s"}, program=self.path, start=False)
        open_accounts(self.direct[DATABASE])
        self.acknowledged = set()
        self.numbers = 0
        Successor.expect()

    def open(self, old=None, new=None):
        """Starts the proxy, to die at `old`; an upgrade's new process dies at `new`."""
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(build_bin() / "holdfastd")
        self.proxy.start(crash_at=old)
        if new is not None:
            script = f'HOLDFAST_CRASH_AT={new} exec -a "$0" {build_bin() / "holdfastd"} "$@"'
            other = self.path.with_suffix(".new")
            other.write_text(f"#!/bin/bash\n{script}\n")
            other.chmod(0o755)
            other.rename(self.path)
        self.tellers = []
        for _ in range(3):
            self.numbers += 1
            self.tellers.append(Teller(self.proxy.uri, self.numbers))
        self.wait_for_progress()

    def said(self, text):
        return [entry for entry in self.proxy.log() if text in entry["msg"]]

    def wait_for_progress(self):
        before = [len(teller.acknowledged) for teller in self.tellers]
        wait_until(
            lambda: all(len(t.acknowledged) > n for t, n in zip(self.tellers, before)),
            60,
            f"every teller gets on\n{self.proxy.process.tail()}",
        )

    def close(self):
        """The tellers end, the proxy ends cleanly, and the books are right."""
        for teller in self.tellers:
            teller.end()
            self.acknowledged |= teller.acknowledged
        assert self.proxy.stop() == 0, self.proxy.process.tail()
        check(self.direct[DATABASE], self.acknowledged)
        self.proxy.verify()
        units = holdfast("units", "--state", "open", "--wal", self.proxy.wal, "--json", check=0)
        assert '"unit"' not in units.stdout, units.stdout


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    made = Bank(tmp_path_factory.mktemp("bank"))
    yield made
    made.proxy.close()
    made.direct.close()
    made.server.close()


@pytest.mark.parametrize("point", OLD)
def test_the_old_process_dies(bank, point):
    bank.open(old=point)
    former = bank.proxy.process
    former.send(signal.SIGUSR2)
    began = wait_until(lambda: bank.said("Upgrade begins") or died(former), 30, "it begins")
    pid = began[0]["attr"]["pid"]
    former.succeeded = True
    assert former.wait() == -signal.SIGKILL
    bank.proxy.process = Successor(former, pid)
    bank.wait_for_progress()
    bank.close()


def died(process):
    assert process.running(), process.tail()


@pytest.mark.parametrize("point", NEW)
def test_the_new_process_dies(bank, point):
    bank.open(new=point)
    former = bank.proxy.process
    former.send(signal.SIGUSR2)
    if NEW[point] is None:
        assert former.wait() == 0
        bank.proxy.start()
    else:
        wait_until(lambda: bank.said(NEW[point]), 60, NEW[point])
    if NEW[point] == "started again":
        handed = wait_until(lambda: bank.said("Handed over"), 60, "it is handed over")
        bank.proxy.process = Successor(former, handed[0]["attr"]["pid"])
        assert former.wait() == 0
    bank.wait_for_progress()
    bank.close()


@pytest.mark.parametrize("point", ["upgrade_paused", "upgrade_journal_closed"])
def test_both_die(bank, point):
    """A new start recovers."""
    bank.open(old=point)
    former = bank.proxy.process
    former.send(signal.SIGUSR2)
    began = wait_until(lambda: bank.said("Upgrade begins"), 30, "it begins")
    former.succeeded = True
    assert former.wait() == -signal.SIGKILL
    Successor(former, began[0]["attr"]["pid"]).kill()
    bank.proxy.start()
    bank.wait_for_progress()
    bank.close()
