#!/usr/bin/env python3
"""A small orchestrator for edge clusters, as they are written: Flask, plain pymongo writes.

    orchestrator.py --listen PORT --mongo URI --placement PORT [--network PORT --monitor PORT]

Its calls write two to nine parts of documents, some of them together with other services
(placement.py; for an instantiation network.py and monitor.py, too). Nothing in here knows of
Holdfast: what differs with it are the addresses. routes_*.py have its calls, resources.py how they
use mongo.
"""

import argparse
import http.client
import json

import flask
import routes_apps
import routes_clouds
import routes_contexts
import waitress
from pymongo.errors import PyMongoError
from resources import Refused, Resources

THREADS = 24


class Peer:
    """Another service, by HTTP."""

    def __init__(self, name, port):
        self.name, self.port = name, port

    def call(self, method, path, body=None):
        if self.port is None:
            raise ConnectionError(f"there is no {self.name} service")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body or {}), headers)
            response = connection.getresponse()
            answer = response.read().decode()
        finally:
            connection.close()
        if response.status >= 300:
            raise ConnectionError(f"the {self.name} service: {response.status} {answer}")


def make_app(options):
    app = flask.Flask("orchestrator")
    app.resources = Resources(options.mongo)
    app.placement = Peer("placement", options.placement)
    app.network = Peer("network", options.network)
    app.monitor = Peer("monitor", options.monitor)
    for part in (routes_apps, routes_clouds, routes_contexts):
        app.register_blueprint(part.routes)
    app.add_url_rule("/", view_func=lambda: {"ok": True})
    app.register_error_handler(Refused, lambda refused: ({"error": str(refused)}, refused.code))
    for failure in (PyMongoError, OSError, http.client.HTTPException):
        app.register_error_handler(failure, lambda error: ({"error": str(error)[:500]}, 500))
    return app


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--mongo", required=True)
    parser.add_argument("--placement", type=int, required=True)
    parser.add_argument("--network", type=int)
    parser.add_argument("--monitor", type=int)
    options = parser.parse_args()
    app = make_app(options)
    waitress.serve(app, listen=f"127.0.0.1:{options.listen}", threads=THREADS, _quiet=True)


if __name__ == "__main__":
    main()
