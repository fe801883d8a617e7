"""One node of the fake replica set (fake_replica_set.py): its log, sessions and transactions, and
its answers; what they do with documents is in fake_commands.py."""

import hashlib
import time

import bson
from bson.int64 import Int64

from . import fake_documents as documents
from .fake_commands import ChangeStreams, DocumentCommands, Logins, View, errors, namespace_of
from .fake_documents import CommandError

NAMES = {
    13: "Unauthorized",
    18: "AuthenticationFailed",
    43: "CursorNotFound",
    59: "CommandNotFound",
    64: "WriteConcernFailed",
    91: "ShutdownInProgress",
    112: "WriteConflict",
    115: "CommandNotSupported",
    189: "PrimarySteppedDown",
    225: "TransactionTooOld",
    251: "NoSuchTransaction",
    10107: "NotWritablePrimary",
    11000: "DuplicateKey",
    11600: "InterruptedAtShutdown",
    11602: "InterruptedDueToReplStateChange",
    13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary",
}
STATE_CHANGES = {91, 189, 10107, 11600, 11602, 13435, 13436}
RETRYABLE = STATE_CHANGES | {6, 7, 89, 134, 262, 9001}
TRANSIENT = STATE_CHANGES | {112, 246, 251, 267}
WRITES = {"insert", "update", "delete", "findAndModify", "create", "createIndexes", "drop"}
WRITES |= {"dropDatabase", "dropIndexes", "collMod"}
READS = {"find", "aggregate", "count", "distinct", "listCollections", "listIndexes", "getMore"}
OPEN_TO_ALL = {"hello", "isMaster", "ismaster", "saslStart", "saslContinue", "buildInfo", "ping"}
HELLO = {"hello", "isMaster", "ismaster"}

class Node(DocumentCommands, ChangeStreams, Logins):
    def __init__(self, members, index, tags):
        self.set = members
        self.index = index
        self.tags = tags
        self.port = None
        self.listener = None
        self.peers = set()
        self.up = True
        self.isolated = False
        self.ending = False
        self.is_primary = False
        self.term = 0
        self.log = []
        self.counter = 0
        self.process = bson.ObjectId()
        self.cursors = {}
        self.transactions = {}
        self._next_cursor = 1000 * (index + 1)
        self._rebuild()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    # ---- State, under the set's lock

    def last_term(self):
        return self.log[-1].term if self.log else 0

    def _rebuild(self):
        self.data = {}
        self.sessions = {}
        self.last_change = {}
        for index, entry in enumerate(self.log):
            self._apply(index, entry)

    def _apply(self, index, entry):
        for namespace, key, _, after in entry.operations:
            collection = self.data.setdefault(namespace, {})
            self.last_change[namespace, key] = index
            if after is None:
                collection.pop(key, None)
            else:
                collection[key] = after
        if entry.session is not None:
            session, number, reply, is_transaction = entry.session
            known = self.sessions.get(session)
            if known is None or known["number"] != number:
                known = {"number": number, "replies": [], "committed": False}
                self.sessions[session] = known
            known["committed"] = is_transaction
            known["replies"].append(reply)

    def follow(self, primary):
        common = 0
        while common < min(len(self.log), len(primary.log)):
            if self.log[common] is not primary.log[common]:
                break
            common += 1
        if common < len(self.log):
            self.log = self.log[:common]  # a rollback
            self._rebuild()
        for entry in primary.log[common:]:
            self.log.append(entry)
            self._apply(len(self.log) - 1, entry)

    def forget(self):
        """What is in memory only."""
        self.transactions = {}
        self.cursors = {}
        self.is_primary = False

    def resign(self):
        self.transactions = {}
        self.is_primary = False
        self.counter += 1

    def become_primary(self):
        self.is_primary = True
        self.set.tell_others()

    def begin_again(self):
        self.process = bson.ObjectId()
        self.forget()

    def append(self, operations, session):
        from .fake_replica_set import Entry

        entry = Entry(self.term, self.set.tick(), operations, session)
        holders = [n for n in self.set.nodes if n.up] if self.set.sharded else [self]
        for node in holders:
            node.log.append(entry)
            node._apply(len(node.log) - 1, entry)
        if self.term == self.set.term:
            self.set.replicate()
        return len(self.log) - 1

    # ---- Answers

    def answer(self, link, command):
        """A reply, or None: the connection ends."""
        name = next(iter(command))
        members = self.set
        hook = members.on_command
        changed = hook(self, name, command) if hook is not None and name not in HELLO else None
        if isinstance(changed, dict):
            return changed
        with members.changed:
            failure = None if name == "configureFailPoint" else members.take_failure(name)
            if name not in HELLO:
                members.commands.append((self.index, command))
        if failure is not None and failure["wait"]:
            time.sleep(failure["wait"])
        if changed is False or (failure is not None and failure["close"] == "before"):
            return None
        with members.changed:
            try:
                if failure is not None and failure["code"] is not None:
                    raise CommandError(failure["code"], "failCommand", failure["labels"] or ())
                self._check(link, name, command)
                reply = self._run(link, name, command)
            except CommandError as error:
                reply = self._error(name, command, error, failure)
            if failure is not None and failure["write_concern"]:
                reply["writeConcernError"] = failure["write_concern"]
                labels = failure["write_concern"].get("errorLabels") or failure["labels"]
                if labels:
                    reply["errorLabels"] = labels
            reply.setdefault("ok", 1.0)
            if name not in HELLO and (self.log or not members.users):
                reply["operationTime"] = self.log[-1].time if self.log else members.now()
                reply["$clusterTime"] = {
                    "clusterTime": members.now(),
                    "signature": {"hash": b"\0" * 20, "keyId": Int64(0)},
                }
        if changed == "after" or (failure is not None and failure["close"] == "after"):
            return None
        return reply

    def _error(self, name, command, error, failure):
        reply = {"ok": 0.0, "errmsg": str(error), "code": error.code}
        reply["codeName"] = NAMES.get(error.code, f"Location{error.code}")
        reply.update(error.fields)
        labels = list(error.labels)
        in_transaction = command.get("autocommit") is False
        ends = name in ("commitTransaction", "abortTransaction")
        given = failure is not None and failure["labels"] is not None
        if not given:
            if in_transaction and not ends and error.code in TRANSIENT:
                labels.append("TransientTransactionError")
            if name == "commitTransaction" and error.code == errors.NO_SUCH_TRANSACTION:
                labels.append("TransientTransactionError")
            retryable = "txnNumber" in command and not in_transaction
            if (retryable or ends) and error.code in RETRYABLE:
                labels.append("RetryableWriteError")
        if labels:
            reply["errorLabels"] = labels
        if error.code in STATE_CHANGES:
            reply["topologyVersion"] = self._version()
        return reply

    def _version(self):
        return {"processId": self.process, "counter": Int64(self.counter)}

    def _check(self, link, name, command):
        if self.ending and name not in HELLO:
            raise CommandError(errors.SHUTDOWN, "The server is in quiesce mode and will shut down")
        if self.set.users and link["user"] is None and name not in OPEN_TO_ALL:
            raise CommandError(errors.UNAUTHORIZED, f"command {name} requires authentication")
        if self.set.sharded:
            return
        writes = name in WRITES or command.get("autocommit") is False
        if writes and not self.is_primary:
            raise CommandError(errors.NOT_PRIMARY, "not primary")
        preference = command.get("$readPreference", {}).get("mode", "primary")
        if name in READS and not self.is_primary and preference == "primary" and name != "getMore":
            raise CommandError(errors.NOT_PRIMARY_NO_SECONDARY, "not primary and secondaryOk=false")
        self._wait_for_cluster_time(command)

    def _wait_for_cluster_time(self, command):
        after = (command.get("readConcern") or {}).get("afterClusterTime")
        gossiped = (command.get("$clusterTime") or {}).get("clusterTime")
        for one in (after, gossiped):
            if one is not None:
                self.set.note_time(one)
        if after is None:
            return
        if self.is_primary and (not self.log or self.log[-1].time < after):
            self.append([], None)  # a no-op
        self._wait(lambda: self.log and self.log[-1].time >= after, command.get("maxTimeMS", 10000))

    def _wait(self, condition, milliseconds):
        """Until it is so; False: not in time. An error if this node's state changes meanwhile."""
        until = time.monotonic() + milliseconds / 1000
        state = (self.process, self.is_primary, self.term)
        while not condition():
            left = until - time.monotonic()
            if left <= 0:
                return False
            self.set.changed.wait(left)
            if not self.up:
                raise CommandError(errors.SHUTDOWN, "the server is gone")
            if self.ending:
                raise CommandError(errors.SHUTDOWN, "The server is shutting down")
            if state != (self.process, self.is_primary, self.term):
                raise CommandError(errors.INTERRUPTED, "operation was interrupted")
        return True

    def _run(self, link, name, command):
        handler = getattr(self, "_do_" + name.lower().replace("ismaster", "hello"), None)
        if handler is None:
            raise CommandError(errors.COMMAND_NOT_FOUND, f"no such command: '{name}'")
        if name in ("commitTransaction", "abortTransaction"):
            return handler(link, command)
        if command.get("autocommit") is False:
            return self._in_transaction(link, handler, command)
        if name in ("insert", "update", "delete", "findAndModify"):
            return self._write(link, handler, command)
        return handler(link, command)

    # ---- Sessions

    @staticmethod
    def _session(link, command):
        return _session_key(command["lsid"], link)

    def _check_number(self, session, number):
        known = self.sessions.get(session)
        if known is not None and number < known["number"]:
            raise CommandError(errors.TRANSACTION_TOO_OLD, "txnNumber is older than the session's")
        return known if known is not None and known["number"] == number else None

    def _write(self, link, handler, command):
        """A write outside of transactions, which a driver may send again."""
        session, number = None, command.get("txnNumber")
        if number is not None:
            session = self._session(link, command)
            known = self._check_number(session, number)
            if known is not None and known["replies"]:
                return self._await_majority(command, dict(known["replies"][-1]), len(self.log) - 1)
        view = View(self, None)
        reply = handler(link, command, view)
        kept = None if session is None else (session, number, dict(reply), False)
        if not view.operations and kept is None:
            return reply
        index = self.append(view.operations, kept)
        return self._await_majority(command, reply, index)

    def _await_majority(self, command, reply, index):
        concern = command.get("writeConcern") or {}
        wanted = concern.get("w", "majority")
        if wanted in (0, 1) or index < 0:
            return reply
        if self.set.sharded:
            return reply
        entry = self.log[index]
        number = wanted if isinstance(wanted, int) else None
        failure = None
        try:
            if not self._wait(
                lambda: self.set.has_majority(entry, index, number),
                concern.get("wtimeout") or 3600000,
            ):
                failure = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "timed out"}
                failure["errInfo"] = {"wtimeout": True}
        except CommandError as error:
            failure = {"code": error.code, "codeName": NAMES[error.code], "errmsg": str(error)}
            if "txnNumber" in command:
                reply["errorLabels"] = ["RetryableWriteError"]
        if failure is not None:
            reply["writeConcernError"] = failure
        return reply

    def _in_transaction(self, link, handler, command):
        session, number = self._session(link, command), command["txnNumber"]
        known = self._check_number(session, number)
        open_now = self.transactions.get(session)
        if command.get("startTransaction"):
            if known is not None or (open_now and open_now["number"] >= number):
                raise CommandError(errors.NO_SUCH_TRANSACTION, "the transaction was begun before")
            open_now = {"number": number, "begun": len(self.log), "writes": {}, "data": {}}
            open_now["data"] = {n: dict(c) for n, c in self.data.items()}
            self.transactions[session] = open_now
        elif open_now is None or open_now["number"] != number:
            raise CommandError(
                errors.NO_SUCH_TRANSACTION,
                f"Given transaction number {number} does not match any in-progress transactions.",
            )
        try:
            view = View(self, open_now, session)
            reply = handler(link, command, view) if _takes_view(handler) else handler(link, command)
            if "writeErrors" in reply:
                raise _as_error(reply["writeErrors"][0])
            return reply
        except CommandError:
            self._end_transaction(session, open_now)
            raise

    def _end_transaction(self, session, transaction):
        if self.transactions.get(session) is transaction:
            del self.transactions[session]
        self.set.changed.notify_all()

    def _do_committransaction(self, link, command):
        session, number = self._session(link, command), command["txnNumber"]
        known = self._check_number(session, number)
        if known is not None and known["committed"]:
            return self._await_majority(command, {}, len(self.log) - 1)
        transaction = self.transactions.get(session)
        if transaction is None or transaction["number"] != number:
            raise CommandError(
                errors.NO_SUCH_TRANSACTION, f"Transaction {number} has been aborted or is unknown."
            )
        operations = [
            (namespace, key, before, after)
            for (namespace, key), (before, after) in transaction["writes"].items()
        ]
        self._end_transaction(session, transaction)
        index = self.append(operations, (session, number, {}, True))
        return self._await_majority(command, {}, index)

    def _do_aborttransaction(self, link, command):
        session = self._session(link, command)
        transaction = self.transactions.get(session)
        if transaction is None or transaction["number"] != command["txnNumber"]:
            raise CommandError(errors.NO_SUCH_TRANSACTION, "no such transaction")
        self._end_transaction(session, transaction)
        return {}

    def _do_endsessions(self, link, command):
        for one in command["endSessions"]:
            session = _session_key(one, link)
            if session in self.transactions:
                self._end_transaction(session, self.transactions[session])
        return {}

    # ---- Everything else

    def _do_hello(self, link, command):
        version = command.get("topologyVersion")
        if version and version["processId"] == self.process and "maxAwaitTimeMS" in command:
            until = time.monotonic() + command["maxAwaitTimeMS"] / 1000
            process = self.process
            while self.up and process == self.process and version["counter"] >= self.counter:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self.set.changed.wait(left)
        reply = self._describe()
        speculative = command.get("speculativeAuthenticate")
        if speculative and self.set.users:
            try:
                reply["speculativeAuthenticate"] = self._do_saslstart(link, speculative)
            except CommandError:
                pass
        if "saslSupportedMechs" in command:
            reply["saslSupportedMechs"] = ["SCRAM-SHA-256"]
        return reply

    def _describe(self):
        members = self.set
        reply = {"helloOk": True, "isWritablePrimary": self.is_primary, "ismaster": self.is_primary}
        if members.sharded:
            reply.update(isWritablePrimary=True, ismaster=True, msg="isdbgrid")
        else:
            known = [n for n in members.nodes if n.is_primary and n.up]
            known = [n for n in known if n is self or not (n.isolated or self.isolated)]
            reply.update(secondary=not self.is_primary, setName=members.name, setVersion=1)
            reply.update(hosts=members.hosts, me=self.address, tags=self.tags)
            if self.is_primary:
                reply["electionId"] = bson.ObjectId(f"7fffffff{self.term:016x}")
            if known:
                reply["primary"] = max(known, key=lambda n: n.term).address
            stamp = {"ts": self.log[-1].time if self.log else members.now(), "t": Int64(self.term)}
            now = time.time() if self.is_primary or not members.holding else time.time() - 200
            date = bson.datetime_ms.DatetimeMS(int(now * 1000))
            reply["lastWrite"] = {"opTime": stamp, "lastWriteDate": date}
            reply["lastWrite"].update(majorityOpTime=stamp, majorityWriteDate=date)
        reply.update(
            maxBsonObjectSize=16777216,
            maxMessageSizeBytes=48000000,
            maxWriteBatchSize=100000,
            localTime=bson.datetime_ms.DatetimeMS(int(time.time() * 1000)),
            logicalSessionTimeoutMinutes=30,
            connectionId=1,
            minWireVersion=0,
            maxWireVersion=21,
            readOnly=False,
            topologyVersion=self._version(),
        )
        return reply

    def _do_ping(self, link, command):
        return {}

    def _do_buildinfo(self, link, command):
        return {"version": "7.0.0", "versionArray": [7, 0, 0, 0], "fake": True}

    def _do_serverstatus(self, link, command):
        return {"process": "mongod", "connections": {"current": len(self.peers)}}

    def _do_getparameter(self, link, command):
        return {}

    def _do_connectionstatus(self, link, command):
        user = [{"user": link["user"], "db": "admin"}] if link["user"] else []
        return {"authInfo": {"authenticatedUsers": user, "authenticatedUserRoles": []}}

    def _do_configurefailpoint(self, link, command):
        self.set.set_fail_point(command)
        return {}

    def _do_killallsessions(self, link, command):
        self.transactions = {}
        return {}

    def _do_replsetstepdown(self, link, command):
        self.set.step_down()
        return {}

    def _do_create(self, link, command, view=None):
        if namespace_of(command) in self.data:
            raise CommandError(errors.NAMESPACE_EXISTS, "Collection already exists")
        self.data.setdefault(namespace_of(command), {})
        return {}

    def _do_createindexes(self, link, command, view=None):
        return {"numIndexesBefore": 1, "numIndexesAfter": 1 + len(command["indexes"])}

    def _do_dropindexes(self, link, command):
        return {}

    def _do_listindexes(self, link, command):
        index = {"v": 2, "key": {"_id": 1}, "name": "_id_"}
        return self._cursor(namespace_of(command), [index], 101)

    def _do_drop(self, link, command):
        return self._drop([namespace_of(command)], command)

    def _do_dropdatabase(self, link, command):
        prefix = command["$db"] + "."
        return self._drop([n for n in self.data if n.startswith(prefix)], command)

    def _drop(self, namespaces, command):
        operations = [
            (namespace, key, document, None)
            for namespace in namespaces
            for key, document in self.data.get(namespace, {}).items()
        ]
        index = self.append(operations, None) if operations else len(self.log) - 1
        return self._await_majority(command, {}, index)

    def _do_listcollections(self, link, command):
        prefix = command["$db"] + "."
        names = [n[len(prefix) :] for n, c in self.data.items() if n.startswith(prefix)]
        wanted = command.get("filter", {})
        found = [{"name": n, "type": "collection", "options": {}, "info": {}} for n in names]
        found = [d for d in found if documents.matches(d, wanted)]
        return self._cursor(prefix + "$cmd.listCollections", found, 1000)

    def _do_listdatabases(self, link, command):
        names = sorted({n.split(".")[0] for n in self.data})
        return {"databases": [{"name": n, "sizeOnDisk": 1, "empty": False} for n in names]}

def _session_key(lsid, link):
    """A session is its owner's: by the digest that a server makes of the name, or was told."""
    if "uid" in lsid:
        return (bytes(lsid["id"]), bytes(lsid["uid"]))
    owner = hashlib.sha256(f"{link['user']}@admin".encode()).digest() if link["user"] else b""
    return (bytes(lsid["id"]), owner)


def _takes_view(handler):
    return "view" in handler.__code__.co_varnames[: handler.__code__.co_argcount]


def _as_error(failure):
    fields = {k: v for k, v in failure.items() if k not in ("index", "code", "errmsg")}
    return CommandError(failure["code"], failure["errmsg"], **fields)
