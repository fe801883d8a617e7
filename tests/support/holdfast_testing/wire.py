"""MongoDB's wire protocol as far as tests need it: a raw client and a tap between two peers."""

import base64
import hashlib
import hmac
import itertools
import os
import socket
import struct
import threading
import time

import bson

OP_REPLY = 1
OP_QUERY = 2004
OP_COMPRESSED = 2012
OP_MSG = 2013
FLAG_CHECKSUM = 1
FLAG_MORE_TO_COME = 2
FLAG_EXHAUST_ALLOWED = 1 << 16
_request_ids = itertools.count(1)


def encode_message(command, flags=0, sequences=None, request_id=None):
    """An OP_MSG: kind 0, and a kind 1 section for each of sequences {"documents": [...]}."""
    body = struct.pack("<I", flags) + b"\x00" + bson.encode(command)
    for name, documents in (sequences or {}).items():
        content = name.encode() + b"\x00" + b"".join(map(bson.encode, documents))
        body += b"\x01" + struct.pack("<i", len(content) + 4) + content
    request_id = next(_request_ids) if request_id is None else request_id
    checksum = 4 if flags & FLAG_CHECKSUM else 0
    header = struct.pack("<iiii", 16 + len(body) + checksum, request_id, 0, OP_MSG)
    message = header + body
    return message + struct.pack("<I", crc32c(message)) if checksum else message


def encode_query(command, namespace="admin.$cmd"):
    """A legacy OP_QUERY, as drivers send their first hello."""
    body = struct.pack("<i", 0) + namespace.encode() + b"\x00" + struct.pack("<ii", 0, -1)
    body += bson.encode(command)
    return struct.pack("<iiii", 16 + len(body), next(_request_ids), 0, OP_QUERY) + body


def decode_message(message):
    """(command or reply document, flags) of an OP_MSG, OP_QUERY or OP_REPLY; sequences merged."""
    opcode = struct.unpack_from("<i", message, 12)[0]
    if opcode == OP_QUERY:
        at = message.index(b"\x00", 20) + 1 + 8
        return bson.decode(message[at:]), 0
    if opcode == OP_REPLY:
        return bson.decode(message[36:]), 0
    if opcode != OP_MSG:
        return {"$opcode": opcode}, 0
    flags = struct.unpack_from("<I", message, 16)[0]
    at, end = 20, len(message) - (4 if flags & FLAG_CHECKSUM else 0)
    document, sequences = {}, {}
    while at < end:
        kind = message[at]
        size = struct.unpack_from("<i", message, at + 1)[0]
        section = message[at + 1 : at + 1 + size]
        if kind == 0:
            document = bson.decode(section)
        else:
            name, _, rest = section[4:].partition(b"\x00")
            sequences[name.decode()] = bson.decode_all(rest)
        at += 1 + size
    document.update(sequences)
    return document, flags


def crc32c(data):
    """Castagnoli's CRC, bit by bit: fine for the small messages of tests."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def receive_exactly(peer, size):
    """`size` bytes, or None if the peer closed before."""
    parts = bytearray()
    while len(parts) < size:
        part = peer.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def receive_all(peer):
    """What comes until the peer ends the connection, in whatever way."""
    received = b""
    try:
        while chunk := peer.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


def receive_message(peer):
    """One whole message, or None at the end."""
    header = receive_exactly(peer, 16)
    if header is None:
        return None
    rest = receive_exactly(peer, struct.unpack_from("<i", header)[0] - 16)
    return None if rest is None else header + rest


class Connection:
    """A raw client: sends any bytes, reads whole messages."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.settimeout(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        message = receive_message(self.socket)
        return None if message is None else decode_message(message)[0]

    def run(self, command, **options):
        self.send(encode_message(command, **options))
        return self.receive()

    def login(self, user, password, database="admin"):
        """SCRAM-SHA-256 (RFC 7677), as a driver does it."""
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = f"n={user},r={nonce}"
        reply = self.run(
            {
                "saslStart": 1,
                "mechanism": "SCRAM-SHA-256",
                "payload": ("n,," + first).encode(),
                "options": {"skipEmptyExchange": True},
                "$db": database,
            }
        )
        if reply["ok"] != 1:
            return reply
        challenge = reply["payload"].decode()
        fields = dict(field.split("=", 1) for field in challenge.split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"])
        )
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        bare = "c=biws,r=" + fields["r"]
        message = ",".join((first, challenge, bare)).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
        again = {"saslContinue": 1, "conversationId": reply["conversationId"], "$db": database}
        reply = self.run({**again, "payload": f"{bare},p={proof}".encode()})
        if reply["ok"] == 1 and not reply["done"]:
            reply = self.run({**again, "payload": b""})
        return reply

    def closed_by_peer(self):
        """True when the peer ended the connection (within the timeout)."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except socket.timeout:
            return False


class WireTap:
    """A relay in front of 127.0.0.1:`port` that records every command sent through it.

    commands: list of (monotonic time, command document). The attribute `before_request`, a
    function of the command, runs before a request is passed on (sleep in it to delay, return False
    to cut the connection, a document to pass that on instead); `before_reply`, a function of the
    reply, likewise. `within_reply`, a function of the reply, runs when half of it is passed on.
    All connections have the same hooks: a hook of replies asks answered() whose reply it has.
    """

    def __init__(self, port):
        self.commands = []
        self.before_request = None
        self.before_reply = None
        self.within_reply = None
        self._upstream = port
        self._of_thread = threading.local()
        self._open_requests = {}  # of each client's socket: {request id: command}
        self._peers = set()
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def uri(self):
        return f"mongodb://127.0.0.1:{self.port}/"

    def names(self):
        """The name of every command seen, in order."""
        return [next(iter(command)) for _, command in list(self.commands)]

    def answered(self):
        """In a hook of replies: the command that this reply answers; {} if none of this tap's."""
        return self._of_thread.answered

    def cut(self):
        """Closes every connection that is open now."""
        for peer in list(self._peers):
            _hang_up(peer)

    def close(self):
        self._closing = True
        _hang_up(self._listener)
        self.cut()

    def _accept(self):
        while not self._closing:
            try:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._upstream), 10)
            except OSError:
                continue
            server.settimeout(None)
            for peer in (client, server):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._peers.add(peer)
            for source, target, request in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._relay, args=(source, target, request), daemon=True
                ).start()

    def _relay(self, source, target, request):
        client = source if request else target
        open_requests = self._open_requests.setdefault(client, {})
        try:
            while (message := receive_message(source)) is not None:
                document, flags = decode_message(message)
                request_id, response_to = struct.unpack_from("<ii", message, 4)
                if request:
                    self.commands.append((time.monotonic(), document))
                    open_requests[request_id] = document
                else:
                    self._of_thread.answered = open_requests.pop(response_to, {})
                hook = self.before_request if request else self.before_reply
                changed = None if hook is None else hook(document)
                if changed is False:
                    break
                replaced = isinstance(changed, dict)
                message = _with_document(message, changed) if replaced else message
                self._pass_on(message, document, flags, source, target, request)
        except OSError:
            pass
        finally:
            self._open_requests.pop(client, None)
            for peer in (source, target):
                _hang_up(peer)
                self._peers.discard(peer)

    def _pass_on(self, message, document, flags, source, target, request):
        """Sends one message; overridden by who answers it instead."""
        if not request and self.within_reply is not None:
            half = len(message) // 2
            target.sendall(message[:half])
            self.within_reply(document)
            message = message[half:]
        target.sendall(message)


def _with_document(message, document):
    """The same OP_MSG with another document."""
    request_id, response_to = struct.unpack_from("<ii", message, 4)
    body = message[16:20] + b"\x00" + bson.encode(document)
    return struct.pack("<iiii", 16 + len(body), request_id, response_to, OP_MSG) + body


def _hang_up(peer):
    try:
        peer.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    peer.close()
