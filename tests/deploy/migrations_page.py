#!/usr/bin/env python3
"""The output in docs/MIGRATIONS.md, from real runs, as runbook.py has it for its page. `--update` writes it."""

import pathlib
import shutil
import sys
import tempfile

from runbook import BLOCK, ROOT, WAL, masked

PAGE = ROOT / "docs/MIGRATIONS.md"
EXAMPLES = ("0001_order_state.yaml", "0002_split_name.yaml")

from holdfast_testing import Proxy, Server, holdfast  # noqa: E402 (runbook.py makes it known)


class Play:
    """A server with orders, its holdfastd, and a directory of migrations."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-migrations-"))
        self.server = Server()
        self.proxy = Proxy(self.server)
        self.client = self.proxy.client()
        self.orders = self.client.shop.orders
        self.orders.insert_many(
            [{"_id": i, "customer": "Ada Lovelace", "total": i} for i in range(1000)]
        )
        for name in EXAMPLES:
            shutil.copy(ROOT / "docs/examples" / name, self.folder)

    def close(self):
        self.client.close()
        self.proxy.close()
        self.server.close()
        shutil.rmtree(self.folder)

    def type(self, action, *words, wal=False):
        journal = ["--wal", self.proxy.wal] if wal else []
        uri = f"{self.proxy.uri}shop"
        given = ["migrate", action, self.folder, *words, "--proxy", uri, *journal]
        done = holdfast(*given)
        text = " ".join(["$ holdfast", *map(str, given)]) + f"\n{done.stdout}{done.stderr}"
        for ours, theirs in (
            (str(self.folder), "migrations"),
            (uri, "mongodb://localhost:27018/shop"),
            (self.proxy.wal, WAL),
        ):
            text = text.replace(ours, theirs)
        ending = f"(exit code {done.returncode})\n" if done.returncode else ""
        return "\n".join(line.rstrip() for line in text.splitlines()) + "\n" + ending


def record():
    """{NAME: text}."""
    play = Play()
    try:
        return dict(scenes(play))
    finally:
        play.close()


def scenes(play):
    before = list(play.orders.find())
    yield "dry-run", play.type("dry-run")
    yield "up", play.type("up", "--to", "1")
    yield "status", play.type("up") + play.type("status", wal=True)
    play.orders.update_one({"_id": 17}, {"$set": {"state": "shipped"}})
    yield "down", play.type("down", wal=True)
    changed = play.orders.find_one({"_id": 17})
    assert changed["state"] == "shipped" and changed["lastName"] == "Lovelace"
    for order in before:
        if order["_id"] != 17:
            assert play.orders.find_one({"_id": order["_id"]}) == {**order, "state": "open"}


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
