"""A service behind the HTTP boundary that speaks gRPC, whose handlers are functions of the test.

As http_stack.py has it for HTTP: in the test's own process, plain grpcio and pymongo, nothing of
Holdfast in it. Messages are JSON, so that no compiler of protocol files is needed.
"""

import json
import os
from concurrent import futures

import grpc
import pymongo
from holdfast_testing import ask_control, wait_until
from http_stack import FrontedStack

KINDS = {
    "unary": (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    "client": (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    "server": (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    "both": (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}


def encode(message):
    return json.dumps(message).encode()


class GrpcService:
    """A gRPC server with `handlers` {"/shop.Orders/Add": function(request, context)}."""

    def __init__(
        self, mongo_uri, port=0, threads=16, server_options=(), credentials=None, **client_options
    ):
        self.handlers = {}
        self.errors = []  # what handlers were refused: (method, exception)
        self.client = pymongo.MongoClient(
            mongo_uri, serverSelectionTimeoutMS=10000, **client_options
        )
        service = self

        class Generic(grpc.GenericRpcHandler):
            def service(self, details):
                return service._find(details.method)

        self._generic = Generic()
        self._threads = threads
        self._options = [("grpc.so_reuseport", 0), *server_options]
        self._credentials = credentials  # None: no TLS
        self.port = port
        self.restart()

    def restart(self):
        """A new server, after stop()."""
        self._server = grpc.server(
            futures.ThreadPoolExecutor(self._threads), options=self._options
        )
        self._server.add_generic_rpc_handlers([self._generic])
        address = f"127.0.0.1:{self.port}"
        self.port = (
            self._server.add_secure_port(address, self._credentials)
            if self._credentials
            else self._server.add_insecure_port(address)
        )
        self._server.start()

    def stop(self, grace=None):
        """An event; without grace its handlers' connections break at once."""
        return self._server.stop(grace)

    def _find(self, method):
        if method not in self.handlers:
            return None
        kind, function = self.handlers[method]

        def guarded(request, context):
            try:
                return function(request, context)
            except pymongo.errors.PyMongoError as error:
                self.errors.append((method, error))
                context.abort(grpc.StatusCode.ABORTED, str(error))

        return KINDS[kind][0](
            guarded, request_deserializer=json.loads, response_serializer=encode
        )

    def on(self, method, function, kind="unary"):
        self.handlers[method] = (kind, function)

    def close(self):
        self._server.stop(None).wait(10)
        self.client.close()


class Caller:
    """A channel of its own."""

    def __init__(self, port, credentials=None, options=()):
        address = f"localhost:{port}" if credentials else f"127.0.0.1:{port}"
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), *options]
        self.channel = (
            grpc.secure_channel(address, credentials, options)
            if credentials
            else grpc.insecure_channel(address, options)
        )

    def method(self, name, kind="unary"):
        return getattr(self.channel, KINDS[kind][1])(
            name, request_serializer=encode, response_deserializer=json.loads
        )

    def call(self, name, message=None, timeout=20, metadata=None):
        """The answer; grpc.RpcError for another status than OK."""
        return self.method(name)(message or {}, timeout=timeout, metadata=metadata)

    def status(self, name, message=None, **options):
        """The name of its status."""
        try:
            self.call(name, message, **options)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    def begin(self, name, message=None, timeout=20):
        return self.method(name).future(message or {}, timeout=timeout)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class GrpcStack(FrontedStack):
    """With a GrpcService, and a Caller."""

    caller = None

    def __init__(self, settings=None, options=()):
        super().__init__(settings, options=options)

    def start_service(self, mongo_uri, port):
        self.service = GrpcService(mongo_uri, port)
        self.caller = Caller(self.http_port)

    def figures(self):
        """Of its domain, as /status has them."""
        _, status = ask_control(self.proxy, "/status")
        return status["domains"][0]

    def descriptors(self):
        """How many files and sockets the proxy has open."""
        return len(os.listdir(f"/proc/{self.proxy.process.pid}/fd"))

    def settled(self):
        """Until nothing of a fence is left: a call goes through at once, and can write."""

        def handler(*_):
            self.collection("settled").replace_one({"_id": 1}, {}, upsert=True)
            return {}

        self.service.on("/test/Settled", handler)
        wait_until(
            lambda: self.caller.status("/test/Settled") == "OK", 20, "calls are admitted again"
        )

    def close(self):
        if self.caller is not None:
            self.caller.close()
        super().close()
