"""Units in conflict: what a stranger has changed is not taken back."""

import json

from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection, holdfast

BEFORE = {"u": {"_id": "u", "v": 1}, "d": {"_id": "d"}}
FOUND = {"u": {"_id": "u", "v": 65}, "i": {"_id": "i"}}
APPLIED = {"u": {"_id": "u", "v": 2}, "i": {"_id": "i"}}
# (choice, documents then stored, state of the unit, documents changed)
CHOICES = [
    ("--keep", FOUND, "aborted", 0),
    ("--restore", BEFORE, "aborted", 3),
    ("--apply", APPLIED, "committed", 1),
]


def make_conflict(stack, name, number=1):
    """The unit of an insert, rolled back by its client."""
    with Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": number})["ok"]
        stack.direct[DATABASE][name].update_one({"_id": number}, {"$set": {"stranger": True}})
        unit.abort()


class ThreeWrites:
    """An insert, an update and a delete in one unit, and a stranger's change in between. Which unit
    it is in the journal, `number`, is found by who sets it aside."""

    number = None

    def __init__(self, stack, name):
        self.stack, self.name = stack, name
        self.direct = stack.direct[DATABASE][name]
        self.direct.insert_many(list(BEFORE.values()))

    def write(self, connection):
        unit = RawTransaction(connection)
        assert unit.insert(self.name, {"_id": "i"})["ok"]
        assert unit.update(self.name, {"_id": "u"}, {"$inc": {"v": 1}})["ok"]
        assert unit.delete(self.name, {"_id": "d"})["ok"]
        return unit

    def stranger_writes(self):
        self.direct.update_one({"_id": "u"}, {"$set": {"v": 65}})

    def stored(self):
        return self.stack.stored(self.name)

    def state(self):
        listed = json.loads(holdfast("units", "--json", "--wal", self.stack.proxy.wal).stdout)
        return next(unit["state"] for unit in listed["units"] if unit["unit"] == self.number)
