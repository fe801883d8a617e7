"""The two sides that a program runs on, and the form in which their answers are compared.

`native`: a one-node replica set, with its own transactions. `holdfast`: a standalone through
holdfastd. Fresh databases are made past the proxy, and looked at past it when a program is over.
"""

import datetime
import itertools
import socket
import uuid

import bson
import program as programs
from bson.int64 import Int64
from holdfast_testing import Connection, Proxy, Server, encode_message

WAIT = 5  # no step takes that long, unless it waits for a transaction that nobody ends
SETTINGS = {
    # A held document is a conflict at once, as it is to native transactions.
    "unit.lockWait": "0",
    # Nothing crashes here: what is compared does not depend on it.
    "wal.durability": "process",
}
_runs = itertools.count(1)


class Blocked(Exception):
    """A step was not answered: it waits for a transaction."""


class Side:
    def __init__(self, name, server, port):
        self.name = name
        self.server = server
        self.port = port
        self.direct = Connection(server.port, timeout=30)
        self.connections = {}

    def connection(self, session):
        if session not in self.connections:
            self.connections[session] = Connection(self.port, timeout=WAIT)
        return self.connections[session]

    def forget(self, session):
        self.connections.pop(session).socket.close()

    def close(self):
        for connection in [self.direct, *self.connections.values()]:
            connection.socket.close()


class Pair:
    """Both sides, alive for as many programs as one likes."""

    def __init__(self):
        self.servers = [Server(mode="replicaset"), Server()]
        self.proxy = Proxy(self.servers[1], SETTINGS)
        self.sides = [
            Side("native", self.servers[0], self.servers[0].port),
            Side("holdfast", self.servers[1], self.proxy.port),
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for side in self.sides:
            side.close()
        self.proxy.close()
        for server in self.servers:
            server.close()

    def run(self, program):
        """[(native's, Holdfast's) answer to each step], (native's, Holdfast's) documents."""
        database = f"p{next(_runs)}"
        runs = [_Run(side, program, database) for side in self.sides]
        answers = []
        try:
            for run in runs:
                run.set_up()
            for step in program["steps"]:
                for run in runs:
                    run.send(step)
                answers.append(tuple(run.receive(step) for run in runs))
                if any(run.blocked for run in runs):
                    break
        finally:
            for run in runs:
                run.end_transactions()
        stored = tuple(run.stored() for run in runs)
        return answers, stored


class _Run:
    """One program on one side."""

    def __init__(self, side, program, database):
        self.side = side
        self.program = program
        self.database = database
        self.sessions = {}
        self.begun = set()
        self.cursors = {}
        self.blocked = False
        self.known = _object_ids(program)

    def set_up(self):
        for name in self.program["create"]:
            self.past({"create": name})
        if self.program["indexes"]:
            self.past({"createIndexes": "c0", "indexes": self.program["indexes"]})
        for name, documents in self.program["documents"].items():
            if documents:
                self.past({"insert": name, "documents": documents, "ordered": False})

    def past(self, command):
        return self.side.direct.run({**command, "$db": self.database})

    def message(self, step):
        """The command as it is sent."""
        message = {key: self.placed(key, value) for key, value in step["command"].items()}
        if "cursor" in step:
            cursor = Int64(self.cursors.get(step["cursor"], 0))
            message.update({"getMore": cursor} if "getMore" in message else {"cursors": [cursor]})
        session = step.get("session")
        if session is not None:
            lsid = self.sessions.setdefault(session, {"id": bson.Binary.from_uuid(uuid.uuid4())})
            message["lsid"] = lsid
            if "number" in step:
                message["txnNumber"] = Int64(step["number"])
        if step.get("transaction"):
            owner = (session, step["number"])
            first = owner not in self.begun and programs.name_of(step) not in programs.ENDS
            self.begun.add(owner)
            if step.get("start", first):
                message["startTransaction"] = True
            message["autocommit"] = False
        message["$db"] = step.get("db", self.database)
        return message

    def placed(self, key, value):
        if key == "nsInfo":
            return [{"ns": self.database + one["ns"]} for one in value]
        return value

    def send(self, step):
        if "beside" in step:
            beside = {"command": step["beside"]}
            self.side.connection("beside").send(encode_message(self.message(beside)))
        session = step.get("session", "plain")
        self.side.connection(session).send(encode_message(self.message(step)))

    def receive(self, step):
        """The answer in the form in which it is compared; of a step with "beside", both."""
        answer = self.receive_from(step.get("session", "plain"), step)
        if "beside" in step:
            return answer, self.receive_from("beside", {"command": step["beside"]})
        return answer

    def receive_from(self, session, step):
        try:
            reply = self.side.connection(session).receive()
        except socket.timeout:
            self.blocked = True
            self.side.forget(session)
            return "blocked"
        if reply is None:
            self.side.forget(session)
            return "connection closed"
        cursor = reply.get("cursor")
        if isinstance(cursor, dict) and "label" in step:
            self.cursors[step["label"]] = cursor.get("id", 0)
        return reply

    def end_transactions(self):
        with Connection(self.side.port, timeout=30) as last:
            for session, number in sorted(self.begun):
                last.run(
                    {
                        "abortTransaction": 1,
                        "lsid": self.sessions[session],
                        "txnNumber": Int64(number),
                        "autocommit": False,
                        "$db": "admin",
                    }
                )

    def stored(self):
        found = {}
        for name in ("c0", "c1", "c2"):
            reply = self.past({"find": name, "singleBatch": True, "batchSize": 10000})
            documents = [canonical(one, self.known) for one in reply["cursor"]["firstBatch"]]
            found[name] = sorted(documents, key=repr)
        self.past({"dropDatabase": 1})
        return found


# ---------------------------------------------------------------- the form that is compared

PASSING = {
    "$clusterTime",
    "operationTime",
    "electionId",
    "opTime",
    "recoveryToken",
    "retriedStmtIds",
}
COUNTS = {
    "n",
    "nModified",
    "nErrors",
    "nInserted",
    "nMatched",
    "nUpserted",
    "nDeleted",
    "ok",
    "code",
}


def _object_ids(value):
    if isinstance(value, bson.ObjectId):
        return {value}
    if isinstance(value, dict):
        return set().union(*map(_object_ids, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(_object_ids, value))
    return set()


def canonical(value, known):
    """A value with its types and its order, without what differs from run to run."""
    if isinstance(value, dict):
        return tuple((key, canonical(one, known)) for key, one in value.items())
    if isinstance(value, list):
        return [canonical(one, known) for one in value]
    if isinstance(value, bson.ObjectId) and value not in known:
        return "a generated ObjectId"
    if isinstance(value, datetime.datetime) and value.year > 2021:
        return "now"
    return (type(value).__name__, str(value) if isinstance(value, float) else value)


def reply_form(reply, known, ordered=True):
    """A reply: order of its own fields and texts do not count, those of documents do."""
    if not isinstance(reply, dict):
        return reply
    form = {}
    for key, value in reply.items():
        if key in PASSING or (key == "value" and value is None):
            continue
        if key == "errmsg":
            form[key] = bool(value)
        elif key in COUNTS:
            form[key] = float(value)
        elif key in ("cursor", "lastErrorObject") and isinstance(value, dict):
            form[key] = _cursor_form(value, known, ordered)
        elif key == "writeErrors":
            form[key] = [reply_form(one, known) for one in value]
        elif key == "errorLabels":
            form[key] = sorted(value)
        elif key == "cursorsKilled":
            form[key] = len(value)
        elif key == "values":
            form[key] = sorted((canonical(one, known) for one in value), key=repr)
        else:
            form[key] = canonical(value, known)
    return form


def _cursor_form(cursor, known, ordered):
    form = {}
    for key, value in cursor.items():
        if key == "id":
            form[key] = bool(value)
        elif key in ("firstBatch", "nextBatch"):
            results = cursor.get("ns") == "admin.$cmd.bulkWrite"
            one_form = reply_form if results else canonical
            form[key] = [one_form(one, known) for one in value]
            if not ordered:
                form[key].sort(key=repr)
        elif key == "ns":
            form[key] = value.partition(".")[2]
        else:
            form[key] = canonical(value, known)
    return form
