"""A failing program made small, and printed as a script that runs by itself."""

import copy

import compare

ATTEMPTS_MAX = 400


def shrink(pair, program, first):
    """A program with as few steps, documents and parts of commands as still differ as `first`."""
    attempts = [ATTEMPTS_MAX]

    def fails(candidate):
        if attempts[0] == 0:
            return False
        attempts[0] -= 1
        finding = compare.check(pair, candidate).finding
        return finding is not None and _kind(finding) == _kind(first)

    program = copy.deepcopy(program)
    changed = True
    while changed and attempts[0] > 0:
        changed = False
        for path in list(_lists(program)):
            if _shrink_list(program, path, fails):
                changed = True
    return program


def _kind(finding):
    blocked = [one == "blocked" for one in (finding.native, finding.holdfast)]
    return finding.place is None, blocked


def _lists(program):
    """Paths of the lists whose elements can be left out, steps first."""
    yield ("steps",)
    yield ("indexes",)
    yield ("create",)
    for name in program["documents"]:
        yield ("documents", name)
    for number, step in enumerate(program["steps"]):
        for key in ("documents", "updates", "deletes", "ops"):
            if isinstance(step["command"].get(key), list) and len(step["command"][key]) > 1:
                yield ("steps", number, "command", key)


def _at(program, path):
    for key in path[:-1]:
        program = program[key]
    return program, path[-1]


def _shrink_list(program, path, fails):
    try:
        holder, key = _at(program, path)
        whole = holder[key]
        if not isinstance(whole, list):
            return False
    except (IndexError, KeyError):
        return False
    changed = False
    size = max(1, len(whole) // 2)
    while size >= 1:
        place = 0
        while place < len(holder[key]):
            before = holder[key]
            holder[key] = before[:place] + before[place + size :]
            if (path[-1] in ("updates", "deletes", "ops") and not holder[key]) or not fails(
                program
            ):
                holder[key] = before
                place += size
            else:
                changed = True
        size //= 2
    return changed


# ---------------------------------------------------------------- the script

SCRIPT = '''#!/usr/bin/env python3
"""Seed {seed}: {what}

    python3 THIS NATIVE_PORT HOLDFAST_PORT SERVER_PORT

NATIVE_PORT: a one-node replica set; HOLDFAST_PORT: holdfastd in front of a standalone that listens
on SERVER_PORT. Needs pymongo, for BSON.
"""

import datetime, socket, struct, sys, uuid
import bson
from bson import Binary, Decimal128, Int64, ObjectId

CREATE = {create}
INDEXES = {indexes}
DOCUMENTS = {documents}
STEPS = [
{steps}
]


def run(peer, command):
    send(peer, command)
    return receive(peer)


def send(peer, command):
    body = struct.pack("<IB", 0, 0) + bson.encode(command)
    peer.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body)


def receive(peer):
    message = b""
    while len(message) < 16 or len(message) < struct.unpack_from("<i", message)[0]:
        message += peer.recv(1 << 20)
    reply = bson.decode(message[21:])
    return {{k: v for k, v in reply.items() if k not in ("$clusterTime", "operationTime")}}


def play(port, server_port):
    database, begun, sessions, cursors = "p" + uuid.uuid4().hex[:8], set(), {{}}, {{}}
    direct = socket.create_connection(("127.0.0.1", server_port))
    peers = {{}}
    for name in CREATE:
        run(direct, {{"create": name, "$db": database}})
    if INDEXES:
        run(direct, {{"createIndexes": "c0", "indexes": INDEXES, "$db": database}})
    for name, documents in DOCUMENTS.items():
        if documents:
            some = {{"insert": name, "documents": documents, "ordered": False}}
            run(direct, {{**some, "$db": database}})
    for step in STEPS:
        command, session = dict(step["command"]), step.get("session")
        if "nsInfo" in command:
            command["nsInfo"] = [{{"ns": database + one["ns"]}} for one in command["nsInfo"]]
        if "cursor" in step:
            cursor = Int64(cursors.get(step["cursor"], 0))
            more = "getMore" in command
            command.update({{"getMore": cursor}} if more else {{"cursors": [cursor]}})
        if session:
            command["lsid"] = sessions.setdefault(session, {{"id": Binary.from_uuid(uuid.uuid4())}})
            command["txnNumber"] = Int64(step["number"])
        if step.get("transaction"):
            owner = (session, step["number"])
            first = owner not in begun and not next(iter(command)).endswith("Transaction")
            begun.add(owner)
            if step.get("start", first):
                command["startTransaction"] = True
            command["autocommit"] = False
        command["$db"] = step.get("db", database)
        for who in (session, "beside"):
            if who not in peers:
                peers[who] = socket.create_connection(("127.0.0.1", port))
        if "beside" in step:
            send(peers["beside"], {{**step["beside"], "$db": database}})
        reply = run(peers[session], command)
        print("   ", reply)
        if "beside" in step:
            print("    beside:", receive(peers["beside"]))
        if "label" in step and "cursor" in reply:
            cursors[step["label"]] = reply["cursor"]["id"]
    for name in ("c0", "c1", "c2"):
        print("   ", name, run(direct, {{"find": name, "$db": database}})["cursor"]["firstBatch"])


native, holdfast, server = map(int, sys.argv[1:])
print("native")
play(native, native)
print("holdfast")
play(holdfast, server)
'''


def script(program, what):
    steps = "\n".join(f"    {step!r}," for step in _literals(program["steps"]))
    return SCRIPT.format(
        seed=program["seed"],
        what=what,
        create=program["create"],
        indexes=program["indexes"],
        documents=repr(_literals(program["documents"])),
        steps=steps,
    )


class _Literal(str):
    def __repr__(self):
        return str(self)


def _literals(value):
    """What repr() writes so that Python reads it back: Int64 writes itself as an int."""
    from bson.int64 import Int64

    if isinstance(value, dict):
        return {key: _literals(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_literals(one) for one in value]
    if isinstance(value, Int64):
        return _Literal(f"Int64({int(value)})")
    return value
