"""HTTP/2 at the front: the same calls by another protocol, on the same port; and what a caller may
not do to it."""

import contextlib
import http.client
import socket
import ssl
import struct
import threading
import time

import grpc
import pytest
from conftest import check_lives
from grpc_stack import Caller as GrpcCaller
from grpc_stack import GrpcStack
from holdfast_testing import Authority, http2, wait_until
from http_stack import Gate, HttpStack, call, settled

SETTINGS = {"http.callTimeout": "1s", "http.maxAnswer": "1MiB"}


@pytest.fixture(scope="module")
def stack():
    """Its service speaks HTTP/1.1."""
    with HttpStack(SETTINGS) as made:
        yield made


@pytest.fixture(autouse=True)
def lives(request):
    yield
    if "stack" in request.fixturenames:
        made = request.getfixturevalue("stack")
        check_lives(made.proxy)
        made.service.handlers.clear()
        settled(made)


@pytest.fixture
def caller(stack):
    with http2.Caller(stack.http_port) as made:
        yield made


def write(stack, name, *ids):
    for each in ids:
        stack.collection(name).insert_one({"_id": each})


# ---- a service of HTTP/1.1


@pytest.mark.parametrize("status,kept", [(201, {1, 2}), (500, set())])
def test_a_call_is_a_unit(stack, caller, name, status, kept):
    def handler(request):
        write(stack, name, 1, 2)
        assert request.headers["Host"] == "localhost"
        assert request.headers["Cookie"] == "a=1; b=2"
        return status, {"got": request.payload.decode()}

    stack.service.handlers["/x"] = handler
    cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("content-length", "3")]
    answer = caller.ask("POST", "/x?y=1", b"abc", headers=cookies)
    assert (answer.status, answer.body) == (status, b'{"got": "abc"}')
    assert answer.headers["content-type"] == "application/json"
    assert "connection" not in answer.headers and "transfer-encoding" not in answer.headers
    assert set(stack.stored(name)) == kept


def test_http1_and_http2_on_one_port(stack, caller):
    stack.service.handlers["/x"] = lambda _: 200
    assert caller.ask("GET", "/x").status == 200
    assert call(stack.http_port, "/x", method="GET").status == 200
    with socket.create_connection(("127.0.0.1", stack.http_port), 10) as peer:
        peer.sendall(
            b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
        assert peer.recv(1000).startswith(b"HTTP/1.1 200")  # an offer, not taken up


def test_a_preface_that_comes_byte_by_byte(stack):
    stack.service.handlers["/x"] = lambda _: 200
    with contextlib.closing(http2.connect(stack.http_port)) as peer:
        for byte in http2.PREFACE:
            peer.sendall(bytes([byte]))
        peer.sendall(http2.frame(http2.SETTINGS))
        assert peer.recv(9)[3] == http2.SETTINGS


def test_answers_without_a_body(stack, caller):
    stack.service.handlers["/x"] = lambda _: 204
    head = caller.ask("HEAD", "/x")
    assert (head.status, head.body) == (204, b"")
    stack.service.handlers["/x"] = lambda _: (200, {"a": 1})
    head = caller.ask("HEAD", "/x")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "8")
    assert caller.ask("GET", "/x").body == b'{"a": 1}'


def test_a_caller_that_waits_for_100(stack, caller):
    stack.service.handlers["/x"] = lambda request: (200, {"size": len(request.payload)})
    stream = caller.begin(
        "POST", "/x", headers=[("expect", "100-continue"), ("content-length", "3")], end=False, body=b""
    )
    answer = caller.answers[stream]
    while not answer.interim:
        assert caller.receive()
    assert answer.interim[0][":status"] == "100"
    caller.send(stream, b"abc")
    assert caller.wait(stream).body == b'{"size": 3}'


def test_a_stream_is_a_call_many_at_once(stack, caller, name):
    """Reads run beside the call that is open; calls queue, one by one, none is lost."""
    gate = Gate()

    def slow(_):
        gate.stop_here()
        write(stack, name, 0)
        return 201

    def quick(request):
        write(stack, name, int(request.path.rsplit("=", 1)[1]))
        return 201

    stack.service.handlers.update({"/slow": slow, "/quick": quick, "/read": lambda _: 200})
    first = caller.begin("POST", "/slow")
    gate.wait_reached()
    others = [caller.begin("POST", f"/quick?n={number}") for number in range(1, 40)]
    assert caller.ask("GET", "/read").status == 200
    assert stack.stored(name) == {}
    gate.go.set()
    assert {caller.wait(each).status for each in (first, *others)} == {201}
    assert set(stack.stored(name)) == set(range(40))


def test_refusals_are_the_fronts_own_answers(stack, caller):
    gate = Gate()
    stack.service.handlers["/slow"] = lambda _: gate.stop_here() or 200
    stream = caller.begin("POST", "/slow")
    answer = caller.wait(stream)
    assert answer.status == 503 and b'"reason": "timeout"' in answer.body
    assert answer.headers["retry-after"] == "1"
    gate.go.set()


def test_a_reset_is_a_caller_that_hung_up(stack, caller, name):
    """Whole, its call goes on to its answer; not whole, it is undone; queued, it never begins."""
    gate, ran = Gate(), []

    def handler(_):
        write(stack, name, 1)
        gate.stop_here()
        write(stack, name, 2)
        return 201

    stack.service.handlers.update({"/x": handler, "/late": lambda _: ran.append(1) or 200})
    first = caller.begin("POST", "/x")
    gate.wait_reached()
    queued = caller.begin("POST", "/late")
    time.sleep(0.1)
    caller.reset(queued)
    caller.reset(first)
    gate.go.set()
    wait_until(lambda: set(stack.stored(name)) == {1, 2}, 10, "it is committed")
    settled(stack)
    assert not ran
    half = caller.begin("POST", "/late", b"x" * 100_000, end=False)
    time.sleep(0.1)
    caller.reset(half)
    settled(stack)
    assert not ran


def test_a_caller_that_gives_no_window_holds_no_domain(stack, name):
    """Its answer is whole, its call durable; the next one does not wait for it."""

    def handler(_):
        write(stack, name, 1)
        return 200, {"x": "y" * 500_000}

    stack.service.handlers.update({"/x": handler, "/next": lambda _: 200})
    with http2.Caller(stack.http_port, window=0, acknowledges=False) as stalled:
        stream = stalled.begin("POST", "/x")
        wait_until(lambda: set(stack.stored(name)) == {1}, 10, "it has written")
        started = time.monotonic()
        assert call(stack.http_port, "/next", timeout=5).status == 200
        assert time.monotonic() - started < 4
        while stalled.receive(0.2):
            pass
        assert stalled.answers[stream].status == 200 and stalled.answers[stream].body == b""


def test_a_request_that_never_ends_is_cut_off(stack, caller, name):
    """Beyond what is read ahead its call begins, and http.callTimeout ends it."""
    stack.service.handlers["/x"] = lambda _: 200
    stream = caller.begin("POST", "/x", b"x" * 70_000, end=False)
    answer = caller.wait(stream, 10)
    assert answer.status == 503


# ---- what callers may not


def raw(stack):
    peer = http2.connect(stack.http_port)
    peer.sendall(http2.PREFACE + http2.frame(http2.SETTINGS))
    return peer


def end_of(peer, timeout=10):
    """All that comes until the connection ends."""
    peer.settimeout(timeout)
    got = b""
    try:
        while data := peer.recv(1 << 16):
            got += data
    except ConnectionError:
        pass
    return got


def goaway_code(got):
    """Of the last frame of that kind; None without one."""
    at, code = 0, None
    while at + 9 <= len(got):
        size = int.from_bytes(got[at : at + 3], "big")
        if got[at + 3] == http2.GOAWAY:
            code = int.from_bytes(got[at + 13 : at + 17], "big")
        at += 9 + size
    return code


REQUEST = b"\x83\x87\x84\x41\x01a"  # POST, https, /, :authority a
CALM = 11


def flood(kind):
    """(what is sent again and again, how often is too often)"""
    ping = http2.frame(http2.PING, 0, bytes(8))
    settings = http2.frame(http2.SETTINGS, 0, b"\0\4\0\0\xff\xff")
    return {"ping": ping, "settings": settings}[kind]


def send_until_closed(peer, pieces):
    try:
        for piece in pieces:
            peer.sendall(piece)
        return False
    except OSError:
        return True


@pytest.mark.parametrize("kind", ["ping", "settings"])
def test_floods_end_the_connection(stack, kind):
    peer = raw(stack)
    many = flood(kind) * 1000
    drain = threading.Thread(target=lambda: end_of(peer, 20), daemon=True)
    drain.start()
    assert send_until_closed(peer, [many] * 200) or not drain.join(10)
    drain.join(10)
    assert not drain.is_alive()


def test_rapid_resets_end_the_connection(stack):
    """CVE-2023-44487: requests taken back at once, far more than a caller could want."""
    peer = raw(stack)
    got = []
    drain = threading.Thread(target=lambda: got.append(end_of(peer, 20)), daemon=True)
    drain.start()

    def requests():
        for number in range(20_000):
            stream = 2 * number + 1
            yield http2.frame(http2.HEADERS, stream, REQUEST, 5) + http2.frame(
                http2.RST_STREAM, stream, b"\0\0\0\x08"
            )

    send_until_closed(peer, requests())
    drain.join(20)
    assert not drain.is_alive()
    assert goaway_code(got[0]) in (CALM, None)
    assert call(stack.http_port, "/x", method="GET").status == 404  # others are served


def test_a_continuation_flood_ends_the_connection(stack):
    peer = raw(stack)
    pieces = [http2.frame(http2.HEADERS, 1, REQUEST, 1)]
    pieces += [http2.frame(http2.CONTINUATION, 1, b"") for _ in range(1000)]
    send_until_closed(peer, pieces)
    end_of(peer)


def test_a_header_bomb_ends_the_connection(stack):
    """A field of 4 KB in the table, named by one byte again and again."""
    peer = raw(stack)
    field = b"\x40\x01x\x7f\xa1\x1e" + b"y" * (127 + 0x21 + 0x1E * 128)
    block = REQUEST + field + b"\xbe" * 12_000
    send_until_closed(peer, [http2.frame(http2.HEADERS, 1, block[:16_000], 5)])
    end_of(peer)


def test_a_head_that_is_too_large_is_431_and_only_that(stack, caller):
    stack.service.handlers["/x"] = lambda _: 200
    large = [(f"x-{number}", "y" * 4000) for number in range(16)]
    assert caller.ask("GET", "/x", headers=large).status == 431
    assert caller.ask("GET", "/x").status == 200


def test_no_more_streams_than_were_allowed(stack):
    gate = Gate()
    stack.service.handlers["/slow"] = lambda _: gate.stop_here() or 200
    peer = raw(stack)
    head = b"\x82\x87\x44\x05/slow\x41\x01a"  # GET: they pass, and wait
    for number in range(130):
        peer.sendall(http2.frame(http2.HEADERS, 2 * number + 1, head, 5))
    gate.wait_reached()
    peer.settimeout(5)
    got = b""
    while got.count(struct.pack(">I", 7)) < 30:
        got += peer.recv(1 << 16)  # REFUSED_STREAM, or the end
    gate.go.set()
    peer.close()


def test_nonsense_ends_the_connection(stack):
    for piece in (
        http2.frame(http2.DATA, 1, b"x"),
        http2.frame(http2.HEADERS, 2, REQUEST, 5),
        http2.frame(http2.WINDOW, 0, bytes(4)),
        http2.frame(http2.PUSH, 1, bytes(4)),
        b"\xff" * 100,
    ):
        peer = raw(stack)
        peer.sendall(piece)
        assert goaway_code(end_of(peer)) not in (None, 0)


def test_requests_that_no_text_could_say(stack, caller):
    stack.service.handlers["/x"] = lambda _: 200
    answer = caller.ask("GET", "/x", headers=[("x", "a\x7fb")])
    assert answer.status == 400 or answer.reset is not None
    with contextlib.closing(raw(stack)) as peer:
        path = b"\x82\x87\x44\x0b/x HTTP/1.1\x41\x01a"  # GET "/x HTTP/1.1"
        peer.sendall(http2.frame(http2.HEADERS, 1, path, 5))
        peer.sendall(http2.frame(http2.GOAWAY, 0, bytes(8)))
        got = end_of(peer)
    assert b"\x8c" in got or bytes([0, 0, 4, http2.RST_STREAM]) in got, got  # 400, or reset


# ---- a service of HTTP/2


class Http2Stack(HttpStack):
    """Its service's frames are the test's own: `handler(request)`."""

    def __init__(self, handler, settings=None):
        super().__init__({"http.upstreamProtocol": "h2c", **SETTINGS, **(settings or {})})
        self.service._server.shutdown()
        self.service._server.server_close()
        self.http2 = http2.Service(handler, self.service.port)

    def close(self):
        if hasattr(self, "http2"):
            self.http2.close()
            self.service._server = self.http2  # is closed
            self.service.client.close()
            self.service = None
        super().close()


def test_requests_of_both_protocols_reach_a_service_of_http2(name):
    seen, trailers = [], []

    def handler(request):
        seen.append(request.headers)
        trailers.append(request.trailers)
        if request.headers[":method"] == "POST":
            stack.collection(name).insert_one({"_id": request.body.decode()})
        request.answer(200, b"got " + request.body, [("x-a", "b")], [("x-sum", "7")])

    with Http2Stack(handler) as stack:
        answer = call(stack.http_port, "/one?a=b", "x")
        assert (answer.status, answer.body, answer.headers["x-a"]) == (200, b'got "x"', "b")
        with http2.Caller(stack.http_port) as caller:
            answer = caller.ask("POST", "/two", b"y", trailers=[("x-end", "z")])
            assert (answer.status, answer.body) == (200, b"got y")
            assert answer.trailers == {"x-sum": "7"} and trailers == [None, {"x-end": "z"}]
            assert caller.ask("GET", "/three").status == 200
        with socket.create_connection(("127.0.0.1", stack.http_port), 10) as peer:
            peer.sendall(b"GET /four HTTP/1.1\r\nHost: a\r\n\r\n")
            peer.shutdown(socket.SHUT_WR)  # it sends no more, and waits for its answer
            assert peer.recv(1000).startswith(b"HTTP/1.1 200")
        assert [each[":path"] for each in seen] == ["/one?a=b", "/two", "/three", "/four"]
        assert all(each[":scheme"] == "http" for each in seen)
        assert set(stack.stored(name)) == {'"x"', "y"}
        assert call(stack.http_port, "/up", headers={"Upgrade": "websocket", "Connection": "upgrade"}).status == 501


def test_an_old_caller_of_a_service_of_http2(name):
    """HTTP/1.0 knows neither chunks nor 1xx: the answer, whole, ends with its connection."""

    def handler(request):
        if request.headers[":method"] == "POST":
            stack.collection(name).insert_one({"_id": 1})
        with request.connection.lock:
            request.connection.state.send_headers(request.stream, [(":status", "103"), ("x-a", "b")])
            request.connection.state.send_headers(request.stream, [(":status", "200")])
            for number in range(25):
                end = number == 24
                request.connection.state.send_data(request.stream, b"x" * 10_000, end_stream=end)
            request.connection.flush()

    with Http2Stack(handler) as stack:
        for method in ("POST", "GET"):
            with socket.create_connection(("127.0.0.1", stack.http_port), 10) as peer:
                peer.sendall(f"{method} / HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
                got = b"".join(iter(lambda: peer.recv(65536), b""))
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            assert b"transfer-encoding" not in head.lower()
            assert body == b"x" * 250_000
        assert set(stack.stored(name)) == {1}


def test_two_content_types_do_not_hide_a_status_of_grpc(name):
    """Its service took it for gRPC, and said so in its answer."""

    def handler(request):
        stack.collection(name).insert_one({"_id": 1})
        request.answer(200, b"", [("content-type", "application/grpc")], [("grpc-status", "13")])

    with Http2Stack(handler) as stack, http2.Caller(stack.http_port) as caller:
        headers = [("content-type", "application/grpc"), ("content-type", "text/plain")]
        answer = caller.ask("POST", "/a.B/C", b"x", headers=headers)
        assert answer.trailers == {"grpc-status": "13"}
        assert stack.stored(name) == {}


def test_a_target_is_read_in_one_way(name):
    """A URL's host goes before Host, a query is none of its path, and what is neither is refused."""
    seen = []

    def handler(request):
        seen.append((request.headers[":authority"], request.headers[":path"]))
        request.answer(200)

    def status(target):
        with socket.create_connection(("127.0.0.1", stack.http_port), 10) as peer:
            peer.sendall(f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
            return int(peer.recv(1000).split()[1])

    with Http2Stack(handler) as stack:
        for target in ("/x?y", "HTTP://b/x", "http://b?y=/z", "http://b:1"):
            assert status(target) == 200
        assert seen == [("a", "/x?y"), ("b", "/x"), ("b", "/?y=/z"), ("b:1", "/")]
        for target in ("x?y=://b/search", "http:///x", "http://u@b/x", "http://b#/x", "*", "ftp://b/x"):
            assert status(target) == 400, target
        assert len(seen) == 4


@pytest.mark.parametrize("status,kept", [("0", {"a"}), ("8", set())])
def test_a_grpc_answer_with_a_content_length_keeps_its_trailers(name, status, kept):
    message = b"\0\0\0\0\2{}"

    def handler(request):
        stack.collection(name).insert_one({"_id": request.body[-1:].decode()})
        headers = [("content-type", "application/grpc"), ("content-length", str(len(message)))]
        request.answer(200, message, headers, [("grpc-status", status), ("x-a", "b")])

    with Http2Stack(handler, {"http.upstreamProtocol": "auto"}) as stack:
        with http2.Caller(stack.http_port) as caller:
            headers = [("content-type", "application/grpc"), ("te", "trailers")]
            answer = caller.ask("POST", "/a.B/C", b"\0\0\0\0\1a", headers=headers)
            assert (answer.status, answer.body) == (200, message)
            assert answer.trailers == {"grpc-status": status, "x-a": "b"}
        assert set(stack.stored(name)) == kept


def test_what_the_service_has_not_begun_is_sent_again(name):
    """REFUSED_STREAM, and a GOAWAY that leaves a request out: once more, on another connection."""
    seen = []

    def handler(request):
        seen.append(bytes(request.body))
        if len(seen) == 1:
            request.reset(7)
        elif len(seen) == 2:
            request.connection.go_away(request.stream - 2)
        else:
            stack.collection(name).insert_one({"_id": len(seen)})
            request.answer(200, b"done")

    with Http2Stack(handler) as stack:
        with http2.Caller(stack.http_port) as caller:
            assert caller.ask("POST", "/x", b"a" * 1000).status == 503  # twice is not tried
            assert caller.ask("POST", "/x", b"b" * 1000).body == b"done"
        assert seen == [b"a" * 1000, b"a" * 1000, b"b" * 1000]
        assert set(stack.stored(name)) == {3}


def test_a_head_of_thousands_of_short_lines(name):
    """More than nghttp2 sends by default: it goes out, or it is lost, once; nothing else is."""

    def handler(request):
        stack.collection(name).insert_one({"_id": request.headers[":path"]})
        request.answer(200, b"done")

    with Http2Stack(handler) as stack:
        lines = "a: b\r\n" * 4700
        with socket.create_connection(("127.0.0.1", stack.http_port), 10) as peer:
            peer.sendall(f"POST /long HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 0\r\n\r\n".encode())
            status = int(peer.recv(1000).split()[1])
        assert status in (200, 503)
        wait_until(lambda: call(stack.http_port, "/short", "x").status == 200, 10, "others go on")
        assert set(stack.stored(name)) == ({"/short", "/long"} if status == 200 else {"/short"})


def test_a_goaway_that_counts_a_call_in_lets_it_end(name):
    def handler(request):
        request.connection.go_away(request.stream)
        stack.collection(name).insert_one({"_id": request.body.decode()})
        time.sleep(0.1)
        request.answer(200, b"done")

    with Http2Stack(handler) as stack:
        with http2.Caller(stack.http_port) as caller:
            assert caller.ask("POST", "/x", b"a").body == b"done"
            assert caller.ask("POST", "/x", b"b").body == b"done"
        assert set(stack.stored(name)) == {"a", "b"}
        assert len(stack.http2.connections) == 2


def test_an_answer_that_breaks_off_rolls_back_and_fences(name):
    def handler(request):
        how = request.headers[":path"][1:]
        if how == "next":
            request.answer(200)
            return
        stack.collection(name).insert_one({"_id": how})
        if how == "half":
            request.connection.state.send_headers(request.stream, [(":status", "200")])
            request.connection.state.send_data(request.stream, b"half of it")
            request.connection.flush()
        if how == "reset":
            request.reset(2)
        else:
            stack.http2.drop()

    with Http2Stack(handler, {"http.quietPeriod": "500ms"}) as stack:
        with http2.Caller(stack.http_port) as caller:
            for how in ("reset", "drop", "half"):
                answer = caller.ask("POST", f"/{how}", b"")
                assert answer.status == 503 and b"serviceLost" in answer.body
                assert stack.stored(name) == {}
                started = time.monotonic()
                assert caller.ask("POST", "/next", b"").status == 200
                assert time.monotonic() - started > 0.2, "the handler may be alive: no fence"


def test_a_service_that_is_none_of_http2_is_told(name):
    """gRPC to a service of HTTP/1.1: nothing began, nothing is fenced."""
    with HttpStack({"http.quietPeriod": "20s"}) as stack, GrpcCaller(stack.http_port) as caller:
        stack.service.handlers["/x"] = lambda _: 200
        wait_until(
            lambda: call(stack.http_port, "/x").status == 200, 30, "the fence of the start is over"
        )
        with pytest.raises(grpc.RpcError) as caught:
            caller.call("/a.B/C")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "notHttp2" in caught.value.details()
        assert call(stack.http_port, "/x", timeout=5).status == 200


def test_grpc_is_refused_where_services_are_spoken_to_by_http1():
    with HttpStack({"http.upstreamProtocol": "http1"}) as stack:
        with GrpcCaller(stack.http_port) as caller:
            assert caller.status("/a.B/C") == "UNIMPLEMENTED"


# ---- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def context(authority, *protocols):
    made = ssl.create_default_context(cafile=authority.file)
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


def test_http2_over_tls_is_agreed_by_alpn(authority, name):
    certificate = authority.issue("proxy")
    settings = {"http.tls.mode": "requireTLS", "http.tls.certificateKeyFile": certificate}
    with GrpcStack(settings) as stack:
        stack.service.on(
            "/x.Y/Z", lambda *_: stack.collection(name).insert_one({"_id": 1}) and {"a": 1}
        )
        credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
        with GrpcCaller(stack.http_port, credentials) as caller:
            wait_until(lambda: caller.status("/x.Y/Z") in ("OK", "ABORTED"), 20, "it is admitted")
        assert set(stack.stored(name)) == {1}
        with http2.connect(stack.http_port, context(authority, "h2", "http/1.1")) as peer:
            assert peer.selected_alpn_protocol() == "h2"
        with http2.connect(stack.http_port, context(authority, "http/1.1")) as peer:
            assert peer.selected_alpn_protocol() == "http/1.1"
        with http2.connect(stack.http_port, context(authority, "spdy/3")) as peer:
            assert peer.selected_alpn_protocol() is None
        plain = http.client.HTTPSConnection(
            "localhost", stack.http_port, context=context(authority), timeout=10
        )
        plain.request("GET", "/none")
        assert plain.getresponse().status in (404, 503)  # the service speaks HTTP/2 only
