"""A replica set of several nodes, made up: no server that could be had here runs more than one.

What is true to the protocol: hello (also the awaited one: setName, hosts, primary, electionId,
setVersion, topologyVersion, tags), elections with terms, replication of a log in order, write
concerns, rollback of what the majority never had, server transactions and retryable writes by lsid
and txnNumber whose outcome is replicated with the log, error codes and labels of a state change,
$clusterTime and operationTime, change streams of what the majority has, SCRAM-SHA-256, failCommand.
What is not: queries beyond fake_documents.py, unique indexes but for _id, disks (a node that was
killed has its whole log when it comes back), read concerns (a read sees what its node has).

Everything happens under one lock of the set, at once: a secondary has what its primary has unless
the test says otherwise (hold(), partition()). Nothing is random, and nothing takes time but
elections (`election_delay`).

    with FakeReplicaSet(3) as members:
        proxy = Proxy(members.uri)
        members.step_down()                 # the next node with the longest log becomes primary
        members.kill(members.primary)       # resets its connections; start() brings it back
        members.partition(node)             # clients reach it, the others do not: a stale primary
        members.heal(node)                  # it steps down and rolls back what only it has
        members.hold(); members.release()   # secondaries get nothing meanwhile
        members.fail("commitTransaction", close="after")   # carried out, and not answered
        members.on_command = lambda node, name, command: None
"""

import socket
import struct
import threading
import time

import bson
from bson.int64 import Int64
from bson.timestamp import Timestamp

from .fake_documents import CommandError
from .fake_node import Node, errors
from .wire import OP_QUERY, decode_message, encode_message, receive_message

BASE_TIME = 1700000000


class Entry:
    """What one write or one transaction did: [(namespace, key, before, after)]. `session`:
    (session, number, reply to keep, whether it is a transaction), replicated with it."""

    def __init__(self, term, time_, operations, session):
        self.term = term
        self.time = time_
        self.operations = operations
        self.session = session


class FakeReplicaSet:
    """`users`: {name: password} of the database admin; then a login is needed. `tags`: of each
    node. `sharded`: each node says it is a mongos instead (all of them serve the same)."""

    def __init__(
        self, count=3, users=None, tags=None, name="fake", election_delay=0.0, sharded=False
    ):
        self.name = name
        self.users = dict(users or {})
        self.election_delay = election_delay
        self.sharded = sharded
        self.on_command = None
        self.commands = []  # (index of the node, command), all of them but hello
        self.term = 0
        self.holding = False
        self.changed = threading.Condition(threading.RLock())
        self._clock = 0
        self._failures = []
        self._closed = False
        self.nodes = [Node(self, i, (tags or {}).get(i, {})) for i in range(count)]
        for node in self.nodes:
            _serve(node)
        if not sharded:
            self.elect(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- Where it is

    @property
    def hosts(self):
        return [node.address for node in self.nodes]

    @property
    def uri(self):
        return self.uri_of()

    def uri_of(self, options="", user=None):
        login = f"{user}:{self.users[user]}@" if user else ""
        named = "" if self.sharded else f"replicaSet={self.name}"
        options = "&".join(filter(None, (named, options)))
        return f"mongodb://{login}{','.join(self.hosts)}/?{options}"

    @property
    def primary(self):
        """The node that the others follow; None while there is none."""
        with self.changed:
            able = [n for n in self.nodes if n.is_primary and n.up and not n.isolated]
            return next((n for n in able if n.term == self.term), None)

    @property
    def secondaries(self):
        with self.changed:
            return [n for n in self.nodes if n.up and not n.is_primary]

    def names(self):
        """The names of the commands that came, without what monitors ask."""
        return [next(iter(command)) for _, command in list(self.commands)]

    # ---- What happens to it

    def elect(self, index=None):
        """A new primary: this one, or the one with the longest log. None: no majority is there."""
        with self.changed:
            able = [n for n in self.nodes if n.up and not n.isolated]
            if len(able) * 2 <= len(self.nodes):
                return None
            best = max(able, key=lambda n: (n.last_term(), len(n.log), -n.index))
            winner = best if index is None else self.nodes[index]
            if (winner.last_term(), len(winner.log)) < (best.last_term(), len(best.log)):
                winner.follow(best)
            for node in able:
                node.resign()
            self.term += 1
            for node in able:
                node.term = self.term
            winner.become_primary()
            self.replicate()
            return winner

    def step_down(self, elect=True):
        """The primary gives up; connections stay, open transactions are gone."""
        with self.changed:
            former = self.primary
            if former is not None:
                former.resign()
            self.tell_others()
        if elect:
            self._elect_later(former)
        return former

    def kill(self, node):
        """As kill -9: its port is closed, its connections are reset."""
        with self.changed:
            was_primary = node is self.primary
            node.up = False
            node.forget()
            self.tell_others()
        _close(node)
        if was_primary:
            self._elect_later(None)

    def shut_down(self, node):
        """Cleanly: what is in the middle of something is told ShutdownInProgress."""
        with self.changed:
            node.ending = True
            node.resign()
            self.changed.notify_all()
        time.sleep(0.05)
        self.kill(node)
        with self.changed:
            node.ending = False
        self._elect_later(None)

    def start(self, node):
        with self.changed:
            node.begin_again()
            node.up = True
        _serve(node)
        with self.changed:
            if self.sharded:
                node.follow(next(n for n in self.nodes if n.up and n is not node))
                return
            self.replicate()
            if self.primary is None:
                self.elect()

    def partition(self, node):
        """The others see it no more, nor it them. A primary goes on believing that it is one."""
        with self.changed:
            was_primary = node is self.primary
            node.isolated = True
            self.tell_others()
        if was_primary:
            self._elect_later(node)

    def heal(self, node):
        with self.changed:
            node.isolated = False
            if node.term < self.term:
                node.resign()
            node.term = self.term
            self.replicate()
            self.tell_others()

    def hold(self):
        self.holding = True

    def release(self):
        with self.changed:
            self.holding = False
            self.replicate()

    def fail(self, name, times=1, code=None, labels=None, close=None, wait=0.0):
        """The next `times` commands of that name: an error, or the connection is closed "before"
        they are carried out or "after"; `wait` seconds before either."""
        failure = {"names": [name], "times": times, "code": code, "labels": labels}
        self._failures.append({**failure, "close": close, "wait": wait, "write_concern": None})

    def close(self):
        self._closed = True
        for node in self.nodes:
            with self.changed:
                node.up = False
                self.changed.notify_all()
            _close(node)

    # ---- For the nodes

    def tick(self):
        self._clock += 1
        return Timestamp(BASE_TIME, self._clock)

    def now(self):
        return Timestamp(BASE_TIME, max(1, self._clock))

    def note_time(self, timestamp):
        if timestamp.time == BASE_TIME:
            self._clock = max(self._clock, timestamp.inc)

    def replicate(self):
        """Under the lock: every secondary that can gets what its primary has."""
        primary = self.primary
        if primary is not None and not primary.isolated and not self.holding:
            for node in self.nodes:
                if node is not primary and node.up and not node.isolated:
                    node.term = self.term
                    node.follow(primary)
        self.changed.notify_all()

    def tell_others(self):
        """Under the lock: what hello says has changed."""
        for node in self.nodes:
            node.counter += 1
        self.changed.notify_all()

    def has_majority(self, entry, index, wanted=None):
        """Under the lock: whether enough nodes have this entry."""
        holders = sum(1 for n in self.nodes if len(n.log) > index and n.log[index] is entry)
        return holders >= (wanted or len(self.nodes) // 2 + 1)

    def take_failure(self, name):
        for failure in self._failures:
            if name in failure["names"] and failure["times"] != 0:
                failure["times"] -= 1
                return failure
        return None

    def set_fail_point(self, command):
        """configureFailPoint: failCommand."""
        data = command.get("data", {})
        mode = command["mode"]
        self._failures = [f for f in self._failures if not f.get("point")]
        if mode == "off":
            return
        self._failures.append(
            {
                "point": True,
                "names": data.get("failCommands", []),
                "times": mode["times"] if isinstance(mode, dict) else -1,
                "code": data.get("errorCode"),
                "labels": data.get("errorLabels"),
                "close": "before" if data.get("closeConnection") else None,
                "wait": data.get("blockTimeMS", 0) / 1000 if data.get("blockConnection") else 0.0,
                "write_concern": data.get("writeConcernError"),
            }
        )

    def _elect_later(self, avoided):
        def run():
            with self.changed:
                if self._closed or self.sharded or self.primary is not None:
                    return
                able = [n for n in self.nodes if n.up and not n.isolated and n is not avoided]
                best = max(able, key=lambda n: (n.last_term(), len(n.log)), default=None)
                self.elect(best.index if best else None)

        if self.election_delay > 0:
            timer = threading.Timer(self.election_delay, run)
            timer.daemon = True
            timer.start()
        else:
            run()


# ---- Sockets


def _serve(node):
    node.listener = socket.create_server(("127.0.0.1", node.port or 0), backlog=256)
    node.port = node.listener.getsockname()[1]
    threading.Thread(target=_accept, args=(node, node.listener), daemon=True).start()


def _accept(node, listener):
    while True:
        try:
            peer = listener.accept()[0]
        except OSError:
            return
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        node.peers.add(peer)
        if node.listener is not listener:
            _reset(peer)
            return
        threading.Thread(target=_converse, args=(node, peer, node.process), daemon=True).start()


def _converse(node, peer, process):
    """One connection: a request, its reply, the next request."""
    link = {"user": None, "process": process}
    try:
        while (message := receive_message(peer)) is not None:
            command, flags = decode_message(message)
            reply = node.answer(link, command)
            if reply is None or node.process != process:
                break
            if flags & 2 == 0:
                peer.sendall(_encoded(message, reply))
            if link.pop("close", False):
                break
    except (OSError, bson.errors.BSONError):
        pass
    finally:
        node.peers.discard(peer)
        _reset(peer)


def _encoded(request, reply):
    request_id, opcode = struct.unpack_from("<i4xi", request, 4)
    if opcode == OP_QUERY:
        body = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(reply)
        return struct.pack("<iiii", 16 + len(body), 1, request_id, 1) + body
    message = encode_message(reply)
    return message[:8] + struct.pack("<i", request_id) + message[12:]


def _reset(peer):
    try:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    peer.close()


def _close(node):
    listener, node.listener = node.listener, None
    if listener is not None:
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        listener.close()
    for peer in list(node.peers):
        _reset(peer)


__all__ = ["CommandError", "Entry", "FakeReplicaSet", "Int64", "errors"]
