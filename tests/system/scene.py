"""What the catalogues of isolation anomalies are played on, at each level."""

from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection


class Scene:
    """Documents {_id, v}, three units on them, and somebody outside."""

    def __init__(self, stack, name, kind=RawTransaction, values=(10, 20)):
        self.stack, self.name = stack, name
        documents = [{"_id": key, "v": value} for key, value in enumerate(values, start=1)]
        stack.direct[DATABASE][name].insert_many(documents)
        self.connections = [Connection(stack.proxy.port) for _ in range(4)]
        self.outside = self.connections[3]
        self.units = [kind(connection) for connection in self.connections[:3]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            connection.__exit__()

    def plain(self, command):
        return self.outside.run({**command, "$db": DATABASE})

    def write(self, who, key, value):
        return self.units[who].update(self.name, {"_id": key}, {"$set": {"v": value}})

    def read(self, who=None, query=None):
        """{_id: v} as a unit sees it, or who is in none."""
        command = {"find": self.name, "filter": query or {}}
        reply = self.plain(command) if who is None else self.units[who].run(command)
        assert reply["ok"] == 1, reply
        return {d["_id"]: d["v"] for d in reply["cursor"]["firstBatch"]}

    def commit(self, who):
        assert self.units[who].commit()["ok"] == 1

    def stored(self):
        return {key: d["v"] for key, d in self.stack.stored(self.name).items()}
