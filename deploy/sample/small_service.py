"""What the smaller services share: plain http.server, JSON in and out, nothing of Holdfast.

    routes = {"PUT /nodes/*": put_nodes, ...}    # put_nodes(store, segment, ..., body)
    main(routes, __doc__)                        # --listen PORT --mongo URI

A `*` is one segment of the path. `body` is the request's JSON, of a GET its query. What a handler
returns is the answer.
"""

import argparse
import http.server
import json
import sys
import urllib.parse

from pymongo.errors import PyMongoError
from resources import Refused, Resources


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlsplit(self.path)
        body = json.loads(content) if content else dict(urllib.parse.parse_qsl(url.query))
        try:
            answer = self.route(url.path, body)
            if answer is None:
                self.answer(404, {"error": "no such path"})
            else:
                self.answer(200, answer)
        except Refused as refused:
            self.answer(refused.code, {"error": str(refused)})
        except PyMongoError as error:
            self.answer(500, {"error": str(error)[:500]})

    do_GET = do_PUT = do_POST = do_DELETE = handle_request

    def route(self, path, body):
        """What its handler returns; None if there is none."""
        segments = path.strip("/").split("/")
        for route, handler in self.server.routes.items():
            method, _, pattern = route.partition(" /")
            wanted = pattern.split("/")
            if method != self.command or len(wanted) != len(segments):
                continue
            pairs = list(zip(wanted, segments, strict=True))
            if all(want in ("*", segment) for want, segment in pairs):
                captured = [segment for want, segment in pairs if want == "*"]
                return handler(self.server.resources, *captured, body) or {"ok": True}
        return None

    def answer(self, code, document):
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main(routes, description):
    serve(routes, argument_parser(description).parse_args())


def argument_parser(description):
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--mongo", required=True)
    return parser


def serve(routes, options):
    server = Server(("127.0.0.1", options.listen), Handler)
    server.routes = {"GET /": lambda _store, _body: {"ok": True}, **routes}
    server.resources = Resources(options.mongo)
    server.serve_forever()
