"""The unit of the sweeps: four writes (insert, update, findAndModify upsert, delete), and what must
be true of it whatever died in the middle.
"""

import os

import bson
from conftest import DATABASE, RawTransaction, is_transient
from holdfast_testing import Connection

BEFORE = [{"_id": "u", "v": 1, "x": {"y": [1, 2.5]}}, {"_id": "d", "gone": False}]
AFTER = [
    {"_id": "i", "new": True},
    {"_id": "u", "v": 2, "x": {"y": [1, 2.5]}},
    {"_id": "k", "k": 1, "p": 1},
]


def writes(name):
    """The commands, without what makes them a transaction."""
    upsert = {"findAndModify": name, "query": {"$and": [{"k": 1}]}, "upsert": True}
    return (
        {"insert": name, "documents": [{"_id": "i", "new": True}]},
        {"update": name, "updates": [{"q": {"_id": "u"}, "u": {"$inc": {"v": 1}}}]},
        {**upsert, "update": {"$set": {"p": 1}}, "new": True},
        {"delete": name, "deletes": [{"q": {"_id": "d"}, "limit": 1}]},
    )


def run(port, name, lsid, end, tell):
    run_commands(port, writes(name), lsid, end, tell)


def run_commands(port, commands, lsid, end, tell):
    """One transaction until `end` ("commit" or "abort"), or until the proxy is gone. What its
    client knows goes to tell(): "wanted", "committed", "aborted", and "refused" with the reply."""
    try:
        with Connection(port) as raw:
            unit = RawTransaction(raw, lsid=lsid)
            for command in commands:
                reply = unit.run(command)
                if reply is None:
                    return
                if reply["ok"] != 1 or "writeErrors" in reply:
                    tell(("refused", reply))
                    return
            if end == "commit":
                tell(("wanted", None))
            reply = unit.commit() if end == "commit" else unit.abort()
            if reply is not None and reply["ok"] == 1:
                tell(("committed" if end == "commit" else "aborted", None))
            elif reply is not None:
                tell(("refused", reply))
    except OSError:
        pass


class Script:
    """The unit, and what the collection holds without and with it."""

    def __init__(self, stack, name):
        self.name = name
        self.lsid = {"id": bson.Binary(os.urandom(16), 4)}
        stack.direct[DATABASE][name].insert_many(BEFORE)
        self.told = {}  # what its client knows

    def run(self, port, end):
        run(port, self.name, self.lsid, end, lambda news: self.take(*news))
        assert "refused" not in self.told, self.told

    def take(self, what, detail):
        self.told[what] = detail

    def check(self, stack):
        """True: it is there. It is whole or absent, and whole if that was acknowledged."""
        stored = stack.stored(self.name)
        for key in [key for key, document in stored.items() if document.get("k") == 1]:
            upserted = stored.pop(key)  # its _id was made by the proxy
            assert "k" not in stored, "two documents of one key"
            stored["k"] = {**upserted, "_id": "k"}
        absent = {document["_id"]: document for document in BEFORE}
        whole = {document["_id"]: document for document in AFTER}
        assert stored in (whole, absent), f"torn: {stored}"
        if "committed" in self.told:
            assert stored == whole, "an acknowledged commit is gone"
        if "wanted" not in self.told:
            assert stored == absent, "there without a commit"
        return stored == whole

    def ask_commit_again(self, stack, is_whole):
        with Connection(stack.proxy.port) as raw:
            self.check_commit_reply(RawTransaction(raw, lsid=self.lsid).commit(), is_whole)

    def check_commit_reply(self, reply, is_whole):
        if is_whole:
            assert reply["ok"] == 1, reply
        else:
            assert reply["ok"] == 0 and reply["code"] == 251, reply
            assert is_transient(reply), reply

    def check_unlocked(self, stack):
        """Somebody else can write each of its documents; nothing of that stays."""
        with Connection(stack.proxy.port) as raw:
            other = RawTransaction(raw)
            for command in writes(self.name):
                if "insert" in command:
                    command = {
                        "update": self.name,
                        "updates": [{"q": {"_id": "i"}, "u": {"$set": {"o": 1}}, "upsert": True}],
                    }
                reply = other.run(command)
                assert reply is not None and reply["ok"] == 1, reply
                assert "writeErrors" not in reply, reply
            assert other.abort()["ok"] == 1
