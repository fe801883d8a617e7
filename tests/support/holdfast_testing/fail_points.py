"""Fail points of mongod, by a relay: for the tests of the driver specifications.

It answers `configureFailPoint` itself and makes these, as mongod does; everything else passes:

    failCommand                   an error instead of a command's execution, a closed connection, a
                                  delay, or a write concern error added to the reply
    onPrimaryTransactionalWrite   a write with a transaction number is carried out, and its
                                  connection closed before the reply; with
                                  failBeforeCommitExceptionCode it is not carried out

A fake: SecantusDB has failCommand, but without the labels that mongod adds to such an error, and not
the other; and what never reaches a server, as a commit that Holdfast keeps to itself, no server can
make fail. A command with several writes counts once for onPrimaryTransactionalWrite.
"""

import struct
import threading
import time

import bson

from .wire import FLAG_MORE_TO_COME, OP_MSG, OP_QUERY, WireTap, encode_message

ALIASES = {"isMaster": "hello", "ismaster": "hello", "findandmodify": "findAndModify"}
WRITES = {"insert", "update", "delete", "findAndModify", "bulkWrite"}
NAMES = {
    6: "HostUnreachable",
    7: "HostNotFound",
    24: "LockTimeout",
    50: "MaxTimeMSExpired",
    64: "WriteConcernFailed",
    79: "UnknownReplWriteConcern",
    89: "NetworkTimeout",
    91: "ShutdownInProgress",
    100: "UnsatisfiableWriteConcern",
    112: "WriteConflict",
    134: "ReadConcernMajorityNotAvailableYet",
    189: "PrimarySteppedDown",
    246: "SnapshotUnavailable",
    251: "NoSuchTransaction",
    262: "ExceededTimeLimit",
    267: "PreparedTransactionInProgress",
    391: "ReauthenticationRequired",
    462: "IngressRequestRateLimitExceeded",
    9001: "SocketException",
    10107: "NotWritablePrimary",
    11600: "InterruptedAtShutdown",
    11601: "Interrupted",
    11602: "InterruptedDueToReplStateChange",
    13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary",
}
# Of which mongod says that the command may be sent again.
RETRYABLE = {6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}
TRANSIENT = {24, 112, 246, 267}
NO_SUCH_TRANSACTION = 251


def labels_of(command, code, of_write_concern=False):
    """What mongod adds to an error with this code."""
    name = next(iter(command))
    ends = name in ("commitTransaction", "abortTransaction")
    labels = []
    if command.get("autocommit") is False and not of_write_concern:
        transient = code in TRANSIENT or code == NO_SUCH_TRANSACTION
        if transient or (code in RETRYABLE and not ends):
            labels.append("TransientTransactionError")
    may_be_retried = "txnNumber" in command and (ends or "autocommit" not in command)
    if may_be_retried and code in RETRYABLE and not labels:
        labels.append("RetryableWriteError")
    return labels


class _Point:
    """One that is on. take(): whether it fires now."""

    def __init__(self, mode, data):
        self.data = data
        self._times = mode.get("times") if isinstance(mode, dict) else None
        self._skip = mode.get("skip", 0) if isinstance(mode, dict) else 0

    def take(self):
        if self._skip > 0:
            self._skip -= 1
            return False
        if self._times is None:
            return True
        self._times -= 1
        return self._times >= 0


class _Connection:
    """Of one client: what it is called, and what is to become of replies on their way."""

    def __init__(self):
        self.application = None
        self.replies = {}  # request id: function of the reply, that returns another; None cuts


class FailPoints(WireTap):
    """In front of 127.0.0.1:`port`. `fired`: the names of the commands that each fail point has hit.

    of_member: a relay in front of a member of a replica set: its hello names the relay instead, so
    that a driver does not go by.
    """

    def __init__(self, port, of_member=False):
        self.fired = {"failCommand": [], "onPrimaryTransactionalWrite": []}
        self._points = {}
        self._lock = threading.Lock()
        self._connections = {}
        self._member = f"127.0.0.1:{port}" if of_member else None
        super().__init__(port)

    def _relay(self, source, target, request):
        client = source if request else target
        self._connections.setdefault(client, _Connection())
        try:
            super()._relay(source, target, request)
        finally:
            self._connections.pop(client, None)

    def _pass_on(self, message, document, flags, source, target, request):
        connection = self._connections[source if request else target]
        if request:
            if struct.unpack_from("<i", message, 12)[0] in (OP_MSG, OP_QUERY):
                if self._request(connection, message, document, flags, source):
                    return
            target.sendall(message)
            return
        target.sendall(self._reply(connection, message, document))

    def _request(self, connection, message, command, flags, client):
        """True if it is answered here."""
        name = ALIASES.get(next(iter(command)), next(iter(command)))
        if name == "configureFailPoint":
            client.sendall(_answer(message, self._configure(command)))
            return True
        if name == "hello" and "client" in command:
            connection.application = command["client"].get("application", {}).get("name")
        data = self._fire("onPrimaryTransactionalWrite", connection, name, command)
        if data is not None:
            if "failBeforeCommitExceptionCode" in data:
                raise ConnectionAbortedError
            _when_answered(connection, message, lambda _: None)
            return False
        data = self._fire("failCommand", connection, name, command)
        if data is None:
            return False
        if data.get("closeConnection"):
            raise ConnectionAbortedError
        if data.get("blockConnection"):
            time.sleep(data["blockTimeMS"] / 1000)
        if "errorCode" in data:
            if not flags & FLAG_MORE_TO_COME:
                client.sendall(_answer(message, _error(command, data)))
            return True
        if "writeConcernError" in data:
            _when_answered(connection, message, lambda reply: _with_concern(command, data, reply))
        return False

    def _configure(self, command):
        with self._lock:
            if command["mode"] == "off":
                self._points.pop(command["configureFailPoint"], None)
            else:
                point = _Point(command["mode"], command.get("data", {}))
                self._points[command["configureFailPoint"]] = point
        return {"count": 0, "ok": 1.0}

    def _fire(self, kind, connection, name, command):
        """What the fail point says is to be done with this command, or None."""
        with self._lock:
            point = self._points.get(kind)
            if point is None:
                return None
            if kind == "failCommand":
                wanted = [ALIASES.get(one, one) for one in point.data.get("failCommands", ())]
                application = point.data.get("appName", connection.application)
                meant = name in wanted and application == connection.application
            else:
                meant = name in WRITES and "txnNumber" in command
            if not meant or not point.take():
                return None
            self.fired[kind].append(name)
            return point.data

    def _reply(self, connection, message, document):
        change = connection.replies.pop(struct.unpack_from("<i", message, 8)[0], None)
        changed = change(document) if change else document
        if changed is None:
            raise ConnectionAbortedError
        if self._member and "hosts" in changed:
            relay = f"127.0.0.1:{self.port}"
            changed = {
                key: [relay] if value == [self._member] else relay if value == self._member else value
                for key, value in changed.items()
            }
        return message if changed is document else _changed(message, changed)


def _when_answered(connection, message, change):
    connection.replies[struct.unpack_from("<i", message, 4)[0]] = change


def _error(command, data):
    code = data["errorCode"]
    labels = data.get("errorLabels")
    labels = labels_of(command, code) if labels is None else labels
    return {
        "ok": 0.0,
        "errmsg": "Failing command via 'failCommand' failpoint",
        "code": code,
        "codeName": NAMES.get(code, f"Location{code}"),
        **({"errorLabels": labels} if labels else {}),
    }


def _with_concern(command, data, reply):
    """Carried out, and its write concern failed."""
    error = data["writeConcernError"]
    labels = data.get("errorLabels", error.get("errorLabels"))
    labels = labels_of(command, error.get("code"), True) if labels is None else labels
    reply = {**reply, "writeConcernError": error}
    return {**reply, "errorLabels": labels} if labels else reply


def _answer(request, document):
    answer = bytearray(encode_message(document))
    answer[8:12] = request[4:8]
    return bytes(answer)


def _changed(message, document):
    opcode = struct.unpack_from("<i", message, 12)[0]
    body = message[16:20] + b"\x00" if opcode == OP_MSG else message[16:36]
    body += bson.encode(document)
    return struct.pack("<i", 16 + len(body)) + message[4:16] + body
