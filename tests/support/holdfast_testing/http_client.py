"""A small HTTP client that does what callers do: ask and wait, or hang up half-way."""

import http.client
import json
import socket
import time


class NotConnected(OSError):
    """Nobody accepts there: nothing was sent."""


class Answer:
    """A whole answer: `status`, `headers` (names in any case), `body` (bytes)."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def accepted(self):
        return 200 <= self.status < 300

    def json(self):
        return json.loads(self.body)


class HttpCall:
    """One request on a connection of its own, sent by the constructor.

    `body`: bytes, or what becomes JSON, or None.
    """

    def __init__(self, port, method, path, body=None, timeout=30, headers=None):
        self.socket = connect(port, timeout)
        try:
            self.socket.sendall(encode_request(method, path, body, headers))
        except OSError:
            self.socket.close()
            raise
        self.method = method

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hang_up()

    def answer(self):
        """The whole answer; OSError if there is none."""
        try:
            response = http.client.HTTPResponse(self.socket, method=self.method)
            response.begin()
            return Answer(response)
        except http.client.HTTPException as error:
            raise ConnectionError(f"no whole answer: {error!r}") from error
        finally:
            self.socket.close()

    def hang_up(self):
        self.socket.close()


def connect(port, timeout=30):
    """A connected socket; NotConnected if nobody accepts there."""
    try:
        peer = socket.create_connection(("127.0.0.1", port), timeout)
    except OSError as error:
        raise NotConnected(str(error)) from error
    if peer.getsockname() == peer.getpeername():  # a client that met itself: the port was free
        peer.close()
        raise NotConnected("nobody but ourselves")
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def encode_request(method, path, body=None, headers=None):
    """The bytes of a request that asks for a connection of its own."""
    if body is None:
        content = b""
    else:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Host": "localhost", "Connection": "close", **(headers or {})}
    if body is not None:
        fields.setdefault("Content-Type", "application/json")
    if content or method not in ("GET", "HEAD"):
        fields.setdefault("Content-Length", str(len(content)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + content


def request(port, method, path, body=None, timeout=30, headers=None):
    """Asks and waits: the Answer. NotConnected if nothing was sent, OSError if no answer came."""
    return HttpCall(port, method, path, body, timeout, headers).answer()


def request_until_answered(port, method, path, body=None, timeout=30):
    """Asks again while nobody accepts or the answer is 503: the first other Answer."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = request(port, method, path, body, timeout)
            if answer.status != 503:
                return answer
        except OSError as error:
            answer = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{method} {path}: not within {timeout:g} s, at last {answer!r}")
        time.sleep(0.05)
