"""A service behind the HTTP boundary, whose handlers are functions of the test.

The service runs in the test's own process, so that a test can stop a handler between two of its
writes and let it go on when it likes. It is written as people write services: threads, plain
pymongo, nothing of Holdfast in it.
"""

import http.client
import http.server
import json
import socket
import threading

import pymongo
from conftest import DATABASE, Stack, end_cleanly
from holdfast_testing import Proxy, Server, port_for_restarts, wait_until

QUIET = "600ms"
QUIET_SECONDS = 0.6


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def reason(self):
        """Why Holdfast itself answered; None if it did not."""
        try:
            return self.json.get("reason")
        except (ValueError, AttributeError):
            return None


def call(port, path, body=None, method="POST", headers=None, timeout=20, source=None):
    """One request on a connection of its own. OSError or HTTPException without a whole answer."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=timeout, source_address=(source, 0) if source else None
    )
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


class InBackground:
    """A call on a thread of its own."""

    def __init__(self, port, path, **options):
        self.answer = None
        self.error = None
        self._thread = threading.Thread(
            target=self._run, args=(port, path), kwargs=options, daemon=True
        )
        self._thread.start()

    def _run(self, port, path, **options):
        try:
            self.answer = call(port, path, **options)
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def running(self):
        return self._thread.is_alive()

    def wait(self, timeout=20):
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the call has not ended"
        return self.answer


class Gate:
    """A place in a handler where it waits until the test lets it go on."""

    def __init__(self):
        self.reached = threading.Event()
        self.go = threading.Event()

    def stop_here(self):
        self.reached.set()
        assert self.go.wait(30), "nobody let the handler go on"

    def wait_reached(self):
        assert self.reached.wait(10), "the handler did not get there"


def read_chunks(file):
    """A chunked body; OSError if it breaks off."""
    pieces = []
    while line := file.readline().strip():
        size = int(line, 16)
        pieces.append(file.read(size))
        file.readline()
        if size == 0:
            return b"".join(pieces)
    raise ConnectionError("the body broke off")


class Service:
    """An HTTP server with `handlers` {path: function(request) -> status or (status, body)}. `tls`:
    an SSLContext for connections that come from now on; None: none."""

    def __init__(self, mongo_uri, port=0, tls=None, **client_options):
        self.handlers = {}
        self.tls = tls
        self.accepted = 0
        self.client = pymongo.MongoClient(
            mongo_uri, serverSelectionTimeoutMS=10000, **client_options
        )
        self.errors = []  # what handlers were refused: (path, exception)
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                service._handle(self)

            do_GET = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_POST

            def log_message(self, *_):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def get_request(self):
                peer, address = super().get_request()
                service.accepted += 1
                if service.tls is not None:  # the handshake is the handler thread's
                    peer = service.tls.wrap_socket(
                        peer, server_side=True, do_handshake_on_connect=False
                    )
                return peer, address

            def shutdown_request(self, request):
                """Closed with bytes unread, a connection is reset, and the answer may be lost."""
                try:
                    request.shutdown(socket.SHUT_WR)
                    request.settimeout(1)
                    while request.recv(65536):
                        pass
                except OSError:
                    pass
                self.close_request(request)

            def handle_error(self, *_):
                pass

        self._server = Threads(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _handle(self, request):
        if request.headers.get("Transfer-Encoding") == "chunked":
            request.payload = read_chunks(request.rfile)
        else:
            request.payload = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        path = request.path.split("?")[0]
        result = 404
        if path in self.handlers:
            try:
                result = self.handlers[path](request)
            except pymongo.errors.PyMongoError as error:
                self.errors.append((path, error))
                result = (500, {"error": str(error)})
        if result is None:  # the handler has dealt with the connection itself
            return
        status, body = result if isinstance(result, tuple) else (result, {"status": result})
        data = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)

    def drop(self, request):
        """The connection breaks without an answer; whoever runs the handler goes on."""
        request.close_connection = True
        request.connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self.client.close()


class FrontedStack:
    """Server, holdfastd with --http-listen, and a service behind it."""

    def __init__(self, settings=None, between=None, options=(), auth=(), mode="standalone"):
        self.server = Server(mode=mode, auth=bool(auth), users=auth)
        self.between = between and between(self.server)
        self.http_port = port_for_restarts()
        self.service = None
        self.proxy = None
        self.direct = self.server.client()
        settings = {"http.quietPeriod": QUIET, "upstream.fenceWait": "100ms", **(settings or {})}
        service_port = port_for_restarts()
        try:
            self.proxy = Proxy(
                self.between.uri if self.between else self.server,
                settings,
                options=[
                    *("--http-listen", f"127.0.0.1:{self.http_port}"),
                    *("--http-service", f"127.0.0.1:{service_port}"),
                    *options,
                ],
            )
            self.start_service(self.proxy.uri, service_port)
        except BaseException:
            self.close()
            raise

    def start_service(self, mongo_uri, port):
        """Sets self.service: something with `client` and close()."""
        raise NotImplementedError

    stored = Stack.stored

    def collection(self, name):
        """As the service sees it."""
        return self.service.client[DATABASE][name]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.service.client.close()  # without a proxy it would wait for one
        try:
            end_cleanly(self.proxy, kind)
            if kind is None:
                self.proxy.verify()
        finally:
            self.close()

    def close(self):
        self.direct.close()
        if self.service is not None:
            self.service.close()
        if self.proxy is not None:
            self.proxy.close()
        if self.between is not None:
            self.between.close()
        self.server.close()


class HttpStack(FrontedStack):
    """With a Service."""

    def __init__(
        self, settings=None, between=None, options=(), auth=(), mode="standalone", **client_options
    ):
        self.client_options = client_options
        super().__init__(settings, between, options, auth, mode)

    def start_service(self, mongo_uri, port):
        self.service = Service(mongo_uri, port, **self.client_options)

    def call(self, path, body=None, **options):
        return call(self.http_port, path, body, **options)

    def begin(self, path, **options):
        return InBackground(self.http_port, path, **options)


def settled(stack):
    """Until nothing of a fence is left, and no connection of the service that broke: a call goes
    through at once, and can write."""

    def handler(_):
        stack.collection("settled").replace_one({"_id": 1}, {}, upsert=True)
        return 200

    stack.service.handlers["/settled"] = handler
    wait_until(lambda: stack.call("/settled").status == 200, 20, "calls are admitted again")


def reconnected(stack):
    """After a restart of the proxy: the service's pool holds no connection that broke."""

    def answers():
        try:
            return stack.service.client.admin.command("ping")["ok"] == 1
        except pymongo.errors.AutoReconnect:
            return False

    for _ in range(3):
        wait_until(answers, 10, "the service has connected again")
