"""What the services have in common that tests kill: a process of its own, `PORT MONGO_URI` on its
command line, one thread for each connection.
"""

import http.server
import sys

import pymongo


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def database(self):
        return self.server.client["test"]

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    client = None

    def handle_error(self, *_):
        pass


def serve(handler):
    port, uri = int(sys.argv[1]), sys.argv[2]
    server = _Server(("127.0.0.1", port), handler)
    server.client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000)
    server.serve_forever()
