#!/usr/bin/env python3
"""The orchestrator's second service: on which nodes of a cluster something may be placed.

    placement.py --listen PORT --mongo URI

Plain http.server, plain pymongo writes. Nothing in here knows of Holdfast.

    PUT    /nodes/CLUSTER {token}   W7   two parts of one document
    DELETE /nodes/CLUSTER           W8   its removal
"""

import argparse
import http.server
import json
import sys

from pymongo.errors import PyMongoError
from resources import Refused, Resources, cluster_key, other_work, placement_key, text


def put_nodes(store, cluster, body):
    store.need(cluster_key(cluster))
    key = placement_key(cluster)
    store.put_part(key, "clusterNodes", {"token": body["token"], "content": text(4500)})
    other_work()
    store.put_part(key, "clusterLabels", {"token": body["token"], "content": text(4100)})


def delete_nodes(store, cluster, _body):
    store.need(placement_key(cluster))
    store.remove(placement_key(cluster))


ROUTES = {"PUT": put_nodes, "DELETE": delete_nodes}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {"ok": True})

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        try:
            match self.path.strip("/").split("/"):
                case ["nodes", cluster]:
                    ROUTES[self.command](self.server.resources, cluster, body)
                    self.answer(200, {"ok": True})
                case _:
                    self.answer(404, {"error": "no such path"})
        except Refused as refused:
            self.answer(refused.code, {"error": str(refused)})
        except PyMongoError as error:
            self.answer(500, {"error": str(error)[:500]})

    do_DELETE = do_PUT

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--mongo", required=True)
    options = parser.parse_args()
    server = Server(("127.0.0.1", options.listen), Handler)
    server.resources = Resources(options.mongo)
    server.serve_forever()


if __name__ == "__main__":
    main()
