#!/usr/bin/env python3
"""The output in docs/RUNBOOK.md, from real runs.

A block of the page after a line `<!-- recorded: NAME -->` is what record() yields under that name. Paths and
ports are written as an operator has them; everything else is as it came. `--update` writes the page.
"""

import json
import pathlib
import re
import socket
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/RUNBOOK.md"
BLOCK = re.compile(r"(<!-- recorded: ([\w-]+) -->\n```\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)
WAL, SERVER, LISTEN = "/var/lib/holdfast", "mongodb://localhost:27017", "127.0.0.1:27018"

sys.path.insert(0, str(ROOT / "tests/support"))
from holdfast_testing import Proxy, Server, holdfast, wait_until  # noqa: E402


class Play:
    """One server with one holdfastd, and commands typed beside it."""

    def __init__(self):
        self.server = Server()
        self.proxy = Proxy(self.server)
        self.client = self.proxy.client(appname="shop")
        self.accounts = self.client.shop.accounts
        self.straight = self.server.client().shop.accounts

    def close(self):
        self.client.close()
        self.proxy.close()
        self.server.close()

    def readable(self, text):
        for ours, theirs in (
            (self.proxy.wal, WAL),
            (self.server.uri.rstrip("/"), SERVER),
            (self.server.address, "127.0.0.1:27017"),
            (self.proxy.address, LISTEN),
            (f"host {socket.gethostname()}", "host db1"),
            (f"on {socket.gethostname()}", "on db1"),
        ):
            text = text.replace(ours, theirs)
        # libmongoc's counters of a process that was killed lie about, and a new one has its number.
        text = re.sub(r".*mongoc: Falling back to malloc for counters.*\n?", "", text)
        return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")) + "\n"

    def type(self, *words, upstream=False):
        """A command of holdfast, as typed, with what it answers and how it ends."""
        typed = ["holdfast", *words, "--wal", WAL] + (["--upstream", SERVER] if upstream else [])
        given = [*words, "--wal", self.proxy.wal] + (
            ["--upstream", self.server.uri] if upstream else []
        )
        done = holdfast(*given)
        ending = f"(exit code {done.returncode})\n" if done.returncode else ""
        return f"$ {' '.join(typed)}\n" + self.readable(done.stdout + done.stderr) + ending

    def log(self, *components):
        """Its lines of these components."""
        lines = [line for line in self.proxy.process.lines if line.startswith("{")]
        wanted = [line for line in lines if any(f'"c":"{name}"' in line for name in components)]
        return self.readable("\n".join(wanted))

    def newest_unit(self):
        said = holdfast("units", "--wal", self.proxy.wal, "--json").stdout
        return str(max(unit["unit"] for unit in json.loads(said)["units"]))

    def half_a_transfer(self):
        """A transaction that has written twice and not ended."""
        session = self.client.start_session()
        session.start_transaction()
        self.accounts.update_one({"_id": "alice"}, {"$inc": {"balance": -30}}, session=session)
        self.accounts.update_one({"_id": "bob"}, {"$inc": {"balance": 30}}, session=session)
        return session

    def refused_start(self, wal):
        other = Proxy(self.server, wal=wal, start=False)
        _, output = other.run_to_end(40)
        said = [line for line in output.splitlines() if line.startswith("holdfastd: ")]
        return self.readable("\n".join(said)).replace(str(wal), WAL)


def record():
    """{NAME: text}, in some seconds."""
    play = Play()
    try:
        return dict(scenes(play))
    finally:
        play.close()


def scenes(play):
    play.accounts.insert_many([{"_id": "alice", "balance": 100}, {"_id": "bob", "balance": 20}])
    session = play.half_a_transfer()
    yield "locks", play.type("units", "--locks")
    unit = play.newest_unit()
    yield "rollback", play.type("rollback", unit)
    del session

    play.half_a_transfer()
    play.proxy.kill()
    yield "killed", play.type("status", upstream=True)
    yield "left-open", play.type("units", "--state", "open")
    yield "dry-run", play.type("recover", "--dry-run", upstream=True)
    play.proxy.start()
    yield "started", play.log("recovery")

    session = play.half_a_transfer()
    play.straight.update_one({"_id": "bob"}, {"$set": {"balance": 999}})
    session.abort_transaction()
    yield "conflicts", play.type("units", "--state", "conflict")
    unit = play.newest_unit()
    yield "look", play.type("resolve", unit, upstream=True)

    yield "second", play.refused_start(play.proxy.wal + "-other")
    yield "same-journal", play.refused_start(play.proxy.wal)

    play.proxy.process.lines.clear()
    with play.client.start_session() as done, done.start_transaction():
        play.accounts.insert_one({"_id": "carol", "balance": 7}, session=done)
    play.server.restart()
    wait_until(lambda: "Recovery finished" in play.log("recovery"), 30, "it recovers")
    yield "server-crash", play.log("recovery")
    assert play.straight.find_one({"_id": "carol"}), "an acknowledged unit is lost"

    assert play.proxy.stop() == 0
    yield "decide", play.type("resolve", unit, "--restore", "--yes", upstream=True)
    yield "sound", play.type("verify")
    yield "lost-journal", play.refused_start(play.proxy.wal + "-empty")


MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "TIME"),
    (r"\b[0-9a-f]{24,32}\b", "ID"),
    (r"\bpid \d+", "pid N"),
    (r"\d+ ms ago|\d+ s ago", "AGO"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"(?m)^(used|commits|records|lease) .*$", r"\1"),
    (r'"(survivedLsn|unitsInDoubt|documentsLost|redone)":\d+', r'"\1":N'),
    (r" +\d+\.\d ", " AGE "),
    (r"(?m)^\{.*Unit redone.*\n", ""),  # only if the server has lost it
    (r" +", " "),
)


def masked(text):
    """What is the same in every run."""
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    return text


def main():
    recorded = record()
    if sys.argv[1:] == ["--update"]:
        page = PAGE.read_text()
        PAGE.write_text(
            BLOCK.sub(lambda found: found[1] + recorded.get(found[2], found[3]) + found[4], page)
        )
    else:
        for name, text in recorded.items():
            print(f"== {name}\n{text}")


if __name__ == "__main__":
    main()
