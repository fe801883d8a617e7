"""HTTP/2 by hand: a caller that does what callers do, and what they should not; and a service whose
frames the test sends itself."""

import contextlib
import socket
import struct
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, stream=0, payload=b"", flags=0):
    """The bytes of a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def connect(port, tls=None):
    """A connected socket; `tls`: an SSLContext, for localhost."""
    peer = socket.create_connection(("127.0.0.1", port), 20)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(peer, server_hostname="localhost") if tls else peer


class Answer:
    """What came on a stream so far."""

    def __init__(self):
        self.status = None
        self.headers = {}
        self.interim = []
        self.body = bytearray()
        self.trailers = None
        self.ended = False
        self.reset = None  # the code

    @property
    def over(self):
        return self.ended or self.reset is not None


class Caller:
    """A connection. `window`: what it gives a stream at first; without `acknowledges` it gives no
    more, whatever it gets."""

    def __init__(self, port, tls=None, window=65535, acknowledges=True):
        self.socket = connect(port, tls)
        config = h2.config.H2Configuration(header_encoding="utf-8")
        self.state = h2.connection.H2Connection(config)
        self.state.initiate_connection()
        self.state.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.acknowledges = acknowledges
        self.answers = {}
        self.goaway = None
        self.closed = False
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def flush(self):
        self.socket.sendall(self.state.data_to_send())

    def begin(self, method, path, body=None, headers=(), trailers=None, end=True):
        """The number of its stream. With body None nothing follows the head."""
        stream = self.state.get_next_available_stream_id()
        fields = [(":method", method), (":path", path), (":scheme", "http")]
        fields += [(":authority", "localhost"), *headers]
        whole = body is None and trailers is None and end
        self.answers[stream] = Answer()
        self.state.send_headers(stream, fields, end_stream=whole)
        self.flush()
        if not whole:
            self.send(stream, body or b"", end and trailers is None)
            if trailers is not None:
                self.state.send_headers(stream, trailers, end_stream=True)
                self.flush()
        return stream

    def send(self, stream, body, end=True):
        """As much at a time as the windows allow."""
        body = memoryview(body)
        while body or end:
            size = min(
                len(body),
                self.state.local_flow_control_window(stream),
                self.state.max_outbound_frame_size,
            )
            if body and size == 0:
                self.receive()
                if self.answers[stream].over:
                    return
                continue
            last = size == len(body)
            self.state.send_data(stream, bytes(body[:size]), end_stream=end and last)
            self.flush()
            body = body[size:]
            if last:
                return

    def reset(self, stream, code=8):
        self.state.reset_stream(stream, code)
        self.flush()

    def receive(self, timeout=20):
        """What comes next. False: nothing within that time, or the end."""
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        for event in self.state.receive_data(data):
            self.take(event)
        with contextlib.suppress(OSError):
            self.flush()
        return True

    def take(self, event):
        answer = self.answers.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event.error_code
        if answer is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            answer.interim.append(dict(event.headers))
        elif isinstance(event, h2.events.ResponseReceived):
            answer.headers = dict(event.headers)
            answer.status = int(answer.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.acknowledges:
                self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = event.error_code

    def wait(self, stream, timeout=20):
        """The answer, once it is over."""
        until = time.monotonic() + timeout
        while not self.answers[stream].over:
            left = until - time.monotonic()
            assert left > 0 and self.receive(left), (
                f"no answer: closed={self.closed} goaway={self.goaway}"
            )
        return self.answers[stream]

    def ask(self, method, path, body=None, **options):
        return self.wait(self.begin(method, path, body, **options))

    def wait_closed(self, timeout=20):
        """Until the peer has ended the connection."""
        until = time.monotonic() + timeout
        while not self.closed and time.monotonic() < until:
            self.receive(max(0.01, until - time.monotonic()))
        assert self.closed


class Request:
    """One that came to a Service: its stream there, its head, all of its body and trailers."""

    def __init__(self, connection, stream, headers):
        self.connection, self.stream = connection, stream
        self.headers = dict(headers)
        self.body = bytearray()
        self.trailers = None

    def answer(self, status, body=b"", headers=(), trailers=None):
        state = self.connection.state
        with self.connection.lock:
            state.send_headers(self.stream, [(":status", str(status)), *headers])
            state.send_data(self.stream, body, end_stream=trailers is None)
            if trailers is not None:
                state.send_headers(self.stream, trailers, end_stream=True)
            self.connection.flush()

    def reset(self, code):
        with self.connection.lock:
            self.connection.state.reset_stream(self.stream, code)
            self.connection.flush()


class _Connection:
    def __init__(self, peer):
        self.socket = peer
        self.lock = threading.RLock()
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.state = h2.connection.H2Connection(config)
        self.state.initiate_connection()

    def flush(self):
        self.socket.sendall(self.state.data_to_send())

    def go_away(self, last, code=0):
        with self.lock:
            self.socket.sendall(frame(GOAWAY, 0, struct.pack(">II", last, code)))


class Service:
    """Speaks HTTP/2; `handler(request)` is called with each whole one, on its connection's thread,
    and answers, or not. `tls`: an SSLContext for connections that come from now on; one that agrees on
    something else than h2 is given to `other`, as a socket."""

    def __init__(self, handler, port=0, tls=None, other=None):
        self.handler = handler
        self.tls = tls
        self.other = other
        self.connections = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._meet, args=(peer,), daemon=True).start()

    def _meet(self, peer):
        if self.tls is not None:
            try:
                peer = self.tls.wrap_socket(peer, server_side=True)
            except OSError:
                peer.close()
                return
            if self.other is not None and peer.selected_alpn_protocol() != "h2":
                self.other(peer)
                return
        connection = _Connection(peer)
        self.connections.append(connection)
        self._serve(connection)

    def _serve(self, connection):
        requests = {}
        try:
            connection.flush()
            while data := connection.socket.recv(1 << 16):
                with connection.lock:
                    events = connection.state.receive_data(data)
                    connection.flush()
                for event in events:
                    self._take(connection, requests, event)
        except OSError:
            pass
        except h2.exceptions.ProtocolError:
            with contextlib.suppress(OSError):  # what is not HTTP/2 ends the connection
                connection.flush()
                connection.socket.shutdown(socket.SHUT_RDWR)

    def _take(self, connection, requests, event):
        stream = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.RequestReceived):
            requests[stream] = Request(connection, stream, event.headers)
        elif isinstance(event, h2.events.DataReceived):
            requests[stream].body += event.data
            with connection.lock:
                connection.state.acknowledge_received_data(event.flow_controlled_length, stream)
                connection.flush()
        elif isinstance(event, h2.events.TrailersReceived):
            requests[stream].trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            self.handler(requests.pop(stream))

    def drop(self):
        """All connections break."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def close(self):
        self._listener.close()
        self.drop()
