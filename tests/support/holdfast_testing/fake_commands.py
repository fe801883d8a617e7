"""What a node of the fake replica set (fake_node.py) does with documents, change streams, logins."""

import base64
import hashlib
import hmac
import os
from types import SimpleNamespace

import bson
from bson.int64 import Int64

from . import fake_documents as documents
from .fake_documents import CommandError, key_of

errors = SimpleNamespace(
    UNAUTHORIZED=13,
    AUTHENTICATION_FAILED=18,
    NAMESPACE_EXISTS=48,
    COMMAND_NOT_FOUND=59,
    CURSOR_NOT_FOUND=43,
    WRITE_CONCERN_FAILED=64,
    SHUTDOWN=91,
    WRITE_CONFLICT=112,
    STEPPED_DOWN=189,
    TRANSACTION_TOO_OLD=225,
    NO_SUCH_TRANSACTION=251,
    NOT_PRIMARY=10107,
    DUPLICATE_KEY=11000,
    INTERRUPTED=11602,
    NOT_PRIMARY_NO_SECONDARY=13435,
)
LOCK_WAIT_S = 5.0



class DocumentCommands:
    # ---- Writes of documents

    def _do_insert(self, link, command, view):
        namespace = namespace_of(command)
        written, failures = 0, []
        for index, document in enumerate(command["documents"]):
            document = dict(document)
            document.setdefault("_id", bson.ObjectId())
            try:
                view.put(namespace, key_of(document["_id"]), document, insert=True)
                written += 1
            except CommandError as error:
                if error.code != errors.DUPLICATE_KEY:
                    raise
                failures.append(_write_error(index, error))
                if command.get("ordered", True):
                    break
        return {"n": written, **({"writeErrors": failures} if failures else {})}

    def _do_update(self, link, command, view):
        namespace = namespace_of(command)
        found, modified, upserted, failures = 0, 0, [], []
        for index, update in enumerate(command["updates"]):
            try:
                at = view.find(namespace, update["q"])
                at = at if update.get("multi") else at[:1]
                for key, document in at:
                    after = documents.updated(document, update["u"])
                    modified += after != document
                    view.put(namespace, key, after)
                found += len(at)
                if not at and update.get("upsert"):
                    made = documents.upserted(update["q"], update["u"])
                    view.put(namespace, key_of(made["_id"]), made, insert=True)
                    upserted.append({"index": index, "_id": made["_id"]})
                    found += 1
            except CommandError as error:
                if error.code != errors.DUPLICATE_KEY:
                    raise
                failures.append(_write_error(index, error))
                if command.get("ordered", True):
                    break
        reply = {"n": found, "nModified": modified}
        if upserted:
            reply["upserted"] = upserted
        return {**reply, **({"writeErrors": failures} if failures else {})}

    def _do_delete(self, link, command, view):
        namespace, count = namespace_of(command), 0
        for delete in command["deletes"]:
            at = view.find(namespace, delete["q"])
            for key, _ in at[:1] if delete.get("limit") else at:
                view.put(namespace, key, None)
                count += 1
        return {"n": count}

    def _do_findandmodify(self, link, command, view):
        namespace, query = namespace_of(command), command.get("query", {})
        at = view.find(namespace, query, command.get("sort"))
        last = {"updatedExisting": bool(at), "n": int(bool(at))}
        if command.get("remove"):
            if at:
                view.put(namespace, at[0][0], None)
            return {"lastErrorObject": {"n": len(at[:1])}, "value": at[0][1] if at else None}
        if at:
            key, before = at[0]
            after = documents.updated(before, command["update"])
            view.put(namespace, key, after)
        elif command.get("upsert"):
            before, after = None, documents.upserted(query, command["update"])
            view.put(namespace, key_of(after["_id"]), after, insert=True)
            last.update(n=1, upserted=after["_id"])
        else:
            before = after = None
        value = after if command.get("new") else before
        value = value and documents.projected(value, command.get("fields"))
        return {"lastErrorObject": last, "value": value}

    # ---- Reads

    def _do_find(self, link, command, view=None):
        view = view or View(self, None)
        found = [d for _, d in view.find(namespace_of(command), command.get("filter", {}))]
        found = documents.ordered(found, command.get("sort"))[command.get("skip", 0) :]
        limit = command.get("limit", 0)
        found = found[:limit] if limit else found
        found = [documents.projected(d, command.get("projection")) for d in found]
        size = command.get("batchSize", 101)
        return self._cursor(namespace_of(command), found, size, command.get("singleBatch"))

    def _cursor(self, namespace, found, size, single=False):
        identity = 0
        if len(found) > size and not single:
            self._next_cursor += 1
            identity = self._next_cursor
            self.cursors[identity] = {"namespace": namespace, "rest": found[size:]}
        cursor = {"id": Int64(identity), "ns": namespace, "firstBatch": found[:size]}
        return {"cursor": cursor}

    def _do_aggregate(self, link, command, view=None):
        pipeline = command["pipeline"]
        if pipeline and "$changeStream" in pipeline[0]:
            return self._change_stream(command)
        namespace = f"{command['$db']}.{command['aggregate']}"
        view = view or View(self, None)
        if pipeline and "$documents" in pipeline[0]:
            found, pipeline = pipeline[0]["$documents"], pipeline[1:]
        else:
            found = [d for _, d in view.find(namespace, {})]
        found = documents.aggregated(found, pipeline)
        return self._cursor(namespace, found, command.get("cursor", {}).get("batchSize", 101))

    def _do_count(self, link, command, view=None):
        view = view or View(self, None)
        return {"n": len(view.find(namespace_of(command), command.get("query", {})))}

    def _do_distinct(self, link, command, view=None):
        view = view or View(self, None)
        values = {}
        for _, document in view.find(namespace_of(command), command.get("query", {})):
            found, value = documents.look_up(document, command["key"])
            for one in (value if isinstance(value, list) else [value]) if found else []:
                values.setdefault(key_of(one), one)
        return {"values": list(values.values())}

    def _do_getmore(self, link, command):
        cursor = self.cursors.get(command["getMore"])
        if cursor is None:
            raise CommandError(
                errors.CURSOR_NOT_FOUND,
                f"cursor id {command['getMore']} not found",
                ["ResumableChangeStreamError"],
            )
        if "position" in cursor:
            return self._more_changes(command["getMore"], cursor, command)
        size = command.get("batchSize", len(cursor["rest"]))
        batch, cursor["rest"] = cursor["rest"][:size], cursor["rest"][size:]
        identity = command["getMore"] if cursor["rest"] else 0
        if not identity:
            del self.cursors[command["getMore"]]
        named = {"id": Int64(identity), "ns": cursor["namespace"], "nextBatch": batch}
        return {"cursor": named}

    def _do_killcursors(self, link, command):
        for identity in command["cursors"]:
            self.cursors.pop(identity, None)
        return {"cursorsKilled": command["cursors"]}


class ChangeStreams:
    # ---- Change streams: what the majority has

    def _change_stream(self, command):
        options = command["pipeline"][0]["$changeStream"]
        token = options.get("resumeAfter") or options.get("startAfter")
        start = options.get("startAtOperationTime")
        position = len(self.log)
        if token:
            time_, operation = token["_data"].split("-")
            position = next(
                (i for i, e in enumerate(self.log) if e.time.inc == int(time_)), len(self.log)
            )
            skip = int(operation) + 1
        else:
            skip = 0
            if start:
                position = next((i for i, e in enumerate(self.log) if e.time >= start), position)
        collection = command["aggregate"]
        namespace = f"{command['$db']}." + ("" if collection == 1 else str(collection))
        self._next_cursor += 1
        cursor = {"position": position, "skip": skip, "prefix": namespace, "last": token}
        cursor["namespace"] = namespace
        self.cursors[self._next_cursor] = cursor
        reply = {"id": Int64(self._next_cursor), "ns": namespace, "firstBatch": []}
        reply["postBatchResumeToken"] = token or self._token(cursor)
        return {"cursor": reply}

    def _token(self, cursor):
        """Of everything before its position."""
        before = [e for e in self.log[: cursor["position"]]]
        inc = before[-1].time.inc if before else 0
        return cursor["last"] or {"_data": f"{inc}-{len(before[-1].operations) if before else 0}"}

    def _changes(self, cursor):
        found = []
        while cursor["position"] < len(self.log):
            entry = self.log[cursor["position"]]
            if not self.set.has_majority(entry, cursor["position"]):
                break
            for number, (namespace, _, before, after) in enumerate(entry.operations):
                if number < cursor["skip"] or not namespace.startswith(cursor["prefix"]):
                    continue
                found.append(_event(entry, number, namespace, before, after))
            cursor["skip"] = 0
            cursor["position"] += 1
        return found

    def _more_changes(self, identity, cursor, command):
        found = []

        def some():
            found.extend(self._changes(cursor))
            return bool(found)

        self._wait(some, command.get("maxTimeMS", 1000))
        if found:
            cursor["last"] = found[-1]["_id"]
        reply = {"id": Int64(identity), "ns": cursor["namespace"], "nextBatch": found}
        reply["postBatchResumeToken"] = self._token(cursor)
        return {"cursor": reply}


class Logins:
    # ---- SCRAM-SHA-256 (RFC 7677)

    def _do_saslstart(self, link, command):
        first = bytes(command["payload"]).decode().split(",", 2)[2]
        fields = dict(part.split("=", 1) for part in first.split(","))
        nonce = fields["r"] + base64.b64encode(os.urandom(12)).decode()
        salt = hashlib.sha256(fields["n"].encode()).digest()[:28]
        answer = f"r={nonce},s={base64.b64encode(salt).decode()},i=4096"
        link["login"] = {"user": fields["n"], "texts": [first, answer], "salt": salt}
        return {"conversationId": 1, "done": False, "payload": answer.encode(), "ok": 1.0}

    def _do_saslcontinue(self, link, command):
        login = link.get("login")
        payload = bytes(command["payload"]).decode()
        if login is None:
            raise CommandError(errors.AUTHENTICATION_FAILED, "Authentication failed.")
        if not payload:
            return {"conversationId": 1, "done": True, "payload": b""}
        bare, _, proof = payload.rpartition(",p=")
        password = self.set.users.get(login["user"], "")
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), login["salt"], 4096)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored = hashlib.sha256(client_key).digest()
        text = ",".join([*login["texts"], bare]).encode()
        wanted = bytes(
            a ^ b for a, b in zip(client_key, hmac.digest(stored, text, "sha256"), strict=True)
        )
        if login["user"] not in self.set.users or base64.b64decode(proof) != wanted:
            raise CommandError(errors.AUTHENTICATION_FAILED, "Authentication failed.")
        link["user"] = login["user"]
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        signature = base64.b64encode(hmac.digest(server_key, text, "sha256")).decode()
        return {"conversationId": 1, "done": True, "payload": f"v={signature}".encode()}


class View:
    """What one command sees and changes: a transaction's snapshot and writes, or the data."""

    def __init__(self, node, transaction, session=None):
        self.node = node
        self.transaction = transaction
        self.session = session
        self.operations = []  # outside of transactions

    def _collection(self, namespace):
        if namespace == "config.transactions":
            return self._transactions()
        source = self.node.data if self.transaction is None else self.transaction["data"]
        collection = dict(source.get(namespace, {}))
        for changed, key, _, after in self.operations:
            if changed == namespace:
                collection[key] = after
        return {k: d for k, d in collection.items() if d is not None}

    def _transactions(self):
        """What a server keeps there of each session's newest transaction."""
        found = {}
        for (identity, owner), known in self.node.sessions.items():
            lsid = {"id": bson.Binary(identity, 4), "uid": owner}
            state = {"state": "committed"} if known["committed"] else {}
            found[identity + owner] = {"_id": lsid, "txnNum": Int64(known["number"]), **state}
        return found

    def find(self, namespace, query, sort=None):
        found = [(k, d) for k, d in self._collection(namespace).items()]
        found = [(k, d) for k, d in found if documents.matches(d, query)]
        if sort:
            order = documents.ordered([d for _, d in found], sort)
            found.sort(key=lambda pair: order.index(pair[1]))
        return found

    def put(self, namespace, key, after, insert=False):
        if self.transaction is None:
            self._wait_for_owner(namespace, key)
        else:
            self._conflict_unless_free(namespace, key)
        before = self._collection(namespace).get(key)
        if insert and before is not None:
            raise CommandError(
                errors.DUPLICATE_KEY,
                f"E11000 duplicate key error collection: {namespace} index: _id_",
                keyPattern={"_id": 1},
                keyValue={"_id": after["_id"]},
            )
        if self.transaction is None:
            self.operations.append((namespace, key, before, after))
            return
        writes = self.transaction["writes"]
        first = writes[namespace, key][0] if (namespace, key) in writes else before
        writes[namespace, key] = (first, after)
        self.transaction["data"].setdefault(namespace, {})[key] = after

    def _owner(self, namespace, key):
        for session, transaction in self.node.transactions.items():
            if transaction is not self.transaction and (namespace, key) in transaction["writes"]:
                return session
        return None

    def _wait_for_owner(self, namespace, key):
        if not self.node._wait(lambda: self._owner(namespace, key) is None, LOCK_WAIT_S * 1000):
            raise CommandError(errors.WRITE_CONFLICT, "WriteConflict")

    def _conflict_unless_free(self, namespace, key):
        changed = self.node.last_change.get((namespace, key), -1)
        if self._owner(namespace, key) is not None or changed >= self.transaction["begun"]:
            raise CommandError(errors.WRITE_CONFLICT, "WriteConflict error: retry your operation")


def namespace_of(command):
    name = next(iter(command))
    return f"{command['$db']}.{command[name]}"


def _write_error(index, error):
    return {"index": index, "code": error.code, "errmsg": str(error), **error.fields}


def _event(entry, number, namespace, before, after):
    database, _, collection = namespace.partition(".")
    document = after or before
    event = {"_id": {"_data": f"{entry.time.inc}-{number}"}}
    inserted, deleted = before is None, after is None
    event["operationType"] = "insert" if inserted else "delete" if deleted else "replace"
    event["clusterTime"] = entry.time
    if after is not None:
        event["fullDocument"] = after
    event["ns"] = {"db": database, "coll": collection}
    event["documentKey"] = {"_id": document["_id"]}
    return event
