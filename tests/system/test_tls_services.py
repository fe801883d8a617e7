"""TLS towards the services behind the HTTP boundary: what is agreed by ALPN, who is believed, and what
becomes of a call when it is not."""

import contextlib
import functools
import http.client
import json
import pathlib
import signal
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from conftest import check_lives
from grpc_stack import Caller as GrpcCaller
from grpc_stack import FrontedStack, GrpcService, GrpcStack
from holdfast_testing import Authority, Process, http2, wait_until
from http_stack import HttpStack, call, settled
from instance_stack import Instances
from tls_service import context, credentials

KEYS = "http.upstreamTls."
FENCED = {"http.quietPeriod": "20s"}  # a call that comes through has met no fence


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "Another authority")


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue("service")


def towards(authority, **more):
    return {KEYS + "mode": "requireTLS", KEYS + "CAFile": authority.file, **more}


class TlsStack(HttpStack):
    """Its service speaks HTTP/1.1 by TLS: `context`, which a test may change."""

    def __init__(self, tls, settings=None):
        super().__init__(settings, tls=tls)


class BothStack(HttpStack):
    """Its service speaks both protocols, as ALPN says; `handler(request)` is that of HTTP/2."""

    def __init__(self, tls, handler, settings=None):
        super().__init__(settings)
        self.service._server.shutdown()
        self.service._server.server_close()
        self.http1 = []
        self.both = http2.Service(handler, self.service.port, tls, self.serve_http1)

    def serve_http1(self, peer):
        self.http1.append(peer)
        with contextlib.suppress(OSError):
            self.service._server.finish_request(peer, ("127.0.0.1", 0))
        peer.close()

    def close(self):
        if hasattr(self, "both"):
            self.both.close()
            self.service.client.close()
            self.service = None
        super().close()


def logged(stack, message, reason):
    return [
        entry
        for entry in stack.proxy.log()
        if message in entry["msg"] and reason in entry["attr"].get("reason", "")
    ]


def told(stack, message, reason):
    wait_until(lambda: logged(stack, message, reason), 10, f"the log says: {message} {reason}")


def write(stack, name, *ids):
    for each in ids:
        stack.collection(name).insert_one({"_id": each})


# ---- HTTP/1.1


@pytest.fixture(scope="module")
def stack(authority, certificate):
    with TlsStack(context(certificate, "http/1.1"), towards(authority, **FENCED)) as made:
        made.service.handlers["/x"] = lambda _: 200
        wait_until(lambda: made.call("/x").status == 200, 30, "the fence of the start is over")
        yield made


@pytest.fixture(autouse=True)
def lives(request):
    yield
    if "stack" in request.fixturenames:
        check_lives(request.getfixturevalue("stack").proxy)


@pytest.mark.parametrize("status,kept", [(200, {1, 2}), (500, set())])
def test_calls_are_units(stack, name, status, kept):
    """As without: bodies of megabytes either way, one connection for many requests."""

    def handler(request):
        assert isinstance(request.connection, ssl.SSLSocket)
        write(stack, name, 1, 2)
        return status, {"size": len(request.payload), "x": "x" * 2_000_000}

    stack.service.handlers["/big"] = handler
    accepted = stack.service.accepted
    connection = http.client.HTTPConnection("127.0.0.1", stack.http_port, timeout=20)
    with contextlib.closing(connection):
        for _ in range(2):
            connection.request("POST", "/x", b"y" * 70_000)
            assert connection.getresponse().read() == b'{"status": 200}'
        connection.request("POST", "/big", b"y" * 3_000_000)
        answer = connection.getresponse()
        said = json.loads(answer.read())
    assert (answer.status, said["size"], len(said["x"])) == (status, 3_000_000, 2_000_000)
    assert set(stack.stored(name)) == kept
    assert stack.service.accepted == accepted + 1
    with http2.Caller(stack.http_port) as caller:
        assert caller.ask("POST", "/x", b"").status == 200


def test_an_upgrade_goes_through(stack):
    def handler(request):
        request.connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        while data := request.connection.recv(1000):
            request.connection.sendall(data)
        request.close_connection = True

    stack.service.handlers["/echo"] = handler
    with socket.create_connection(("127.0.0.1", stack.http_port), 10) as peer:
        peer.sendall(
            b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        assert peer.recv(1000).startswith(b"HTTP/1.1 101")
        peer.sendall(b"ping")
        assert peer.recv(1000) == b"ping"


@pytest.mark.parametrize("wrong", ["stranger", "name", "expired", "none"])
def test_a_service_that_is_not_believed_gets_no_byte(stack, authority, stranger, name, wrong):
    """503, nothing was sent or fenced, the log says why; when it is mended the next call goes."""
    said = {
        "stranger": "certificate",
        "name": "hostname mismatch|IP address mismatch",
        "expired": "certificate has expired",
        "none": "does not speak TLS",
    }[wrong]
    certificate = {
        "stranger": lambda: stranger.issue("service"),
        "name": lambda: authority.issue("service", "DNS:other.example"),
        "expired": lambda: authority.issue("service", days=-1),
        "none": lambda: None,
    }[wrong]()

    def handler(_):
        write(stack, name, 1)
        return 200

    stack.service.handlers["/add"] = handler
    proper = stack.service.tls
    stack.service.tls = context(certificate, "http/1.1") if certificate else None
    try:
        answer = stack.call("/add")
        assert (answer.status, answer.reason) == (503, "serviceLost")
        assert answer.headers["Retry-After"] == "1"
    finally:
        stack.service.tls = proper
    wait_until(
        lambda: any(logged(stack, "Cannot connect to the service", each) for each in said.split("|")),
        10,
        f"the log says {said}",
    )
    assert stack.stored(name) == {}
    assert stack.call("/add", timeout=5).status == 200
    assert set(stack.stored(name)) == {1}


def test_a_service_without_alpn_speaks_http1(stack, certificate):
    proper = stack.service.tls
    stack.service.tls = context(certificate)
    try:
        assert stack.call("/x").status == 200
    finally:
        stack.service.tls = proper
    with GrpcCaller(stack.http_port) as caller, pytest.raises(grpc.RpcError) as caught:
        caller.call("/a.B/C")
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "notHttp2" in caught.value.details()
    assert stack.call("/x", timeout=5).status == 200, "nothing is fenced"


# ---- HTTP/2, and what is agreed


def test_auto_follows_what_the_service_chooses(authority, certificate, name):
    seen = []

    def handler(request):
        seen.append(request.headers)
        stack.collection(name).insert_one({"_id": request.body.decode()})
        request.answer(200, b"by http2", trailers=[("x-sum", "7")])

    tls = context(certificate, "h2", "http/1.1")
    with BothStack(tls, handler, towards(authority)) as stack:
        stack.service.handlers["/up"] = lambda _: (200, "by http1")
        settled_both(stack, seen)
        assert call(stack.http_port, "/one", "a").body == b"by http2"
        with http2.Caller(stack.http_port) as caller:
            answer = caller.ask("POST", "/two", b"b")
            assert (answer.body, answer.trailers) == (b"by http2", {"x-sum": "7"})
        assert [each[":scheme"] for each in seen[-2:]] == ["https"] * 2
        assert seen[-2][":authority"] == f"127.0.0.1:{stack.http_port}"
        upgrade = {"Upgrade": "websocket", "Connection": "upgrade"}
        assert call(stack.http_port, "/up", method="GET", headers=upgrade).body == b'"by http1"'
        # It does not speak HTTP/2 any more: one call may be told so, nothing is fenced.
        before = len(stack.http1)
        stack.both.tls = context(certificate, "http/1.1")
        stack.both.drop()
        statuses = [call(stack.http_port, "/up", timeout=5).status for _ in range(3)]
        assert statuses in ([503, 200, 200], [200, 200, 200])
        assert len(stack.http1) > before
        stack.both.tls = tls
        # What was kept goes on; new ones are asked again, and find HTTP/2.
        wait_until(
            lambda: call(stack.http_port, "/again", "c").body == b"by http2", 10, "HTTP/2 again"
        )
        assert {'"a"', "b", '"c"'} <= set(stack.stored(name))


def test_auto_follows_what_each_instance_chooses(authority, certificate, tmp_path):
    """As in the middle of a deployment: of two instances only one speaks HTTP/2. Nobody is told of it. One
    that does not any more may cost one request, and is not taken for one that is away."""
    where = []

    def by_http1(number, peer):
        with contextlib.suppress(OSError):
            while peer.recv(4096).endswith(b"\r\n\r\n"):
                where.append(("http1", number))
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        peer.close()

    def by_http2(number, request):
        where.append(("http2", number))
        request.answer(200)

    def statuses(count):
        where.clear()
        return [stack.call("/x", method="GET").status for _ in range(count)]

    with contextlib.ExitStack() as ends:
        settings = {"services": False, "more": "    upstreamTlsServerName: localhost\n"}
        stack = ends.enter_context(Instances(tmp_path, 2, towards(authority), **settings))
        first, second = (
            http2.Service(
                functools.partial(by_http2, number),
                instance.port,
                context(certificate, *protocols),
                functools.partial(by_http1, number),
            )
            for number, instance, protocols in zip(
                range(2), stack.instances, (["h2", "http/1.1"], ["http/1.1"])
            )
        )
        ends.callback(first.close)
        ends.callback(second.close)
        assert statuses(20) == [200] * 20
        assert set(where) == {("http2", 0), ("http1", 1)} and where.count(("http2", 0)) > 5
        first.tls = second.tls
        first.drop()
        assert statuses(8).count(503) <= 1
        assert where.count(("http1", 0)) > 1, where


def settled_both(stack, seen):
    wait_until(lambda: call(stack.http_port, "/begin", "0").status == 200, 20, "calls are admitted")
    seen.clear()


def test_h2_is_asked_for_and_nothing_else_will_do(authority, certificate, stranger, name):
    def handler(request):
        stack.collection(name).insert_one({"_id": request.body.decode()})
        request.answer(200, b"done")

    settings = towards(authority, **{"http.upstreamProtocol": "h2", **FENCED})
    with BothStack(context(certificate, "h2"), handler, settings) as stack:
        wait_until(lambda: call(stack.http_port, "/", "0").status == 200, 30, "the fence is over")
        kinds = [
            (context(certificate, "http/1.1"), 502, "notHttp2"),
            (context(certificate), 502, "notHttp2"),
            (context(stranger.issue("service"), "h2"), 503, "serviceLost"),
            (None, 503, "serviceLost"),
        ]
        for number, (tls, status, reason) in enumerate(kinds):
            proper, stack.both.tls = stack.both.tls, tls
            stack.both.drop()
            wait_until(lambda: not connected(stack), 10, "the connection has gone")
            answer = call(stack.http_port, "/", f"bad {number}")
            assert (answer.status, answer.reason) == (status, reason), number
            stack.both.tls = proper
            assert call(stack.http_port, "/", f"good {number}", timeout=5).status == 200
        told(stack, "Cannot connect to the service", "certificate")
        told(stack, "Cannot connect to the service", "does not speak TLS")
        assert set(stack.stored(name)) == {'"0"', *(f'"good {n}"' for n in range(len(kinds)))}


def connected(stack):
    """Connections of the proxy to the service, as the kernel has them."""
    port = f"{stack.service.port:04X}"
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [
        line for line in lines if line.split()[2].endswith(f":{port}") and line.split()[3] == "01"
    ]


# ---- certificates of our own


@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_a_service_that_wants_a_certificate(authority, stranger, certificate, name, tmp_path, protocol):
    """A refusal is told in the log, with TLS 1.2 why; with 1.3 it comes after the handshake, as a
    connection that breaks. SIGHUP reads the new file, and the next call goes through."""
    own = tmp_path / "own.pem"
    own.touch(0o600)
    own.write_text(stranger.issue("holdfast").read_text())
    tls = context(certificate, "h2", "http/1.1")
    tls.verify_mode = ssl.CERT_REQUIRED
    if protocol == "http1":
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.load_verify_locations(authority.file)

    def handler(request):
        stack.collection(name).insert_one({"_id": 1})
        request.answer(200)

    def handler1(_):
        write(stack, name, 1)
        return 200

    settings = towards(
        authority, **{KEYS + "certificateKeyFile": own, "http.upstreamProtocol": protocol}
    )
    with BothStack(tls, handler, settings) as stack:
        stack.service.handlers["/add"] = handler1
        assert call(stack.http_port, "/add").status == 503
        if protocol == "http1":
            told(stack, "Cannot connect to the service", "unknown ca")
        else:
            messages = ("The service broke off", "Cannot connect to the service")
            said = lambda: any(logged(stack, message, "") for message in messages)
            wait_until(said, 10, "the log says that the service broke off")
        assert stack.stored(name) == {}
        own.write_text(authority.issue("holdfast").read_text())
        stack.proxy.process.send(signal.SIGHUP)
        told_again = lambda: any(
            entry["attr"].get("setting") == "http.upstreamTls"
            for entry in stack.proxy.log()
            if entry["msg"] == "Certificates read again"
        )
        wait_until(told_again, 10, "it is read again")
        wait_until(lambda: call(stack.http_port, "/add").status == 200, 10, "it is let in")
        assert set(stack.stored(name)) == {1}


def test_a_name_of_its_own(authority, name):
    """serverName in place of the address's host: it is sent (SNI), and checked."""
    names = []
    tls = context(authority.issue("service", "DNS:orders.example"), "http/1.1")
    tls.sni_callback = lambda _, asked, __: names.append(asked)
    settings = towards(authority, **{KEYS + "serverName": "orders.example"})
    with TlsStack(tls, settings) as stack:
        settled(stack)
        assert set(names) == {"orders.example"}


# ---- gRPC, and the end of a service


class TlsGrpcStack(GrpcStack):
    """TLS on both sides."""

    def __init__(self, authority, certificate, settings=None):
        self.tls = authority, certificate
        front = {"http.tls.mode": "requireTLS", "http.tls.certificateKeyFile": certificate}
        super().__init__({**front, **towards(authority), **(settings or {})})

    def start_service(self, mongo_uri, port):
        authority, certificate = self.tls
        self.service = GrpcService(mongo_uri, port, credentials=credentials(certificate))
        self.caller = GrpcCaller(
            self.http_port, grpc.ssl_channel_credentials(authority.file.read_bytes())
        )


def test_grpc_by_tls_on_both_sides(authority, certificate, name):
    def handler(request, call_context):
        write(stack, name, *request["ids"])
        if request.get("fail"):
            call_context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        return {"x": "x" * 300_000}

    with TlsGrpcStack(authority, certificate) as stack:
        stack.service.on("/shop.Orders/Add", handler)
        stack.settled()
        assert len(stack.caller.call("/shop.Orders/Add", {"ids": [1, 2]})["x"]) == 300_000
        status = stack.caller.status("/shop.Orders/Add", {"ids": [3], "fail": True})
        assert status == "RESOURCE_EXHAUSTED"
        calls = [stack.caller.begin("/shop.Orders/Add", {"ids": [10 + n]}) for n in range(20)]
        assert all(each.result(20) for each in calls)
        assert set(stack.stored(name)) == {1, 2, *range(10, 30)}


class KilledStack(FrontedStack):
    """Its service is a process of its own."""

    def __init__(self, kind, certificate, settings):
        self.kind, self.certificate = kind, certificate
        super().__init__(settings)

    def start_service(self, mongo_uri, port):
        self.service = Killed(self.kind, mongo_uri, port, self.certificate)


class Killed:
    def __init__(self, *arguments):
        self.arguments = arguments
        self.client = contextlib.nullcontext()
        self.client.close = lambda: None
        self.start()

    def start(self):
        program = pathlib.Path(__file__).with_name("tls_service.py")
        self.process = Process([sys.executable, program, *self.arguments], name="service")
        self.wait_for("ready")

    def wait_for(self, word):
        self.process.wait_for_line(lambda line: line == word or None, 30, f"it says {word}")

    def close(self):
        self.process.kill()


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_kill_9_in_the_middle_of_a_call(authority, certificate, name, kind):
    """What the call wrote is rolled back; the same call to the service's next life is whole."""
    with KilledStack(kind, certificate, towards(authority)) as stack:

        def add(**request):
            if kind == "grpc":
                with GrpcCaller(stack.http_port) as caller:
                    return caller.status("/shop.Orders/Add", {"collection": name, **request})
            return call(stack.http_port, "/add", {"collection": name, **request}).status

        running = ThreadPoolExecutor(1).submit(add, stop=True)
        stack.service.wait_for("written")
        stack.service.process.kill()
        assert running.result(30) in (503, "UNAVAILABLE")
        assert stack.stored(name) == {}
        stack.service.start()
        started = time.monotonic()
        wait_until(lambda: add() in (200, "OK"), 20, "calls are admitted again")
        assert set(stack.stored(name)) == {1, 2}
        assert time.monotonic() - started < 15

