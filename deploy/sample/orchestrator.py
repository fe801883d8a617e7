#!/usr/bin/env python3
"""A small orchestrator for edge clusters, as they are written: Flask, plain pymongo writes.

    orchestrator.py --listen PORT --mongo URI --placement PORT

Its calls write two to eight parts of documents, some of them together with a second service (see
placement.py). Nothing in here knows of Holdfast: what differs with it are the three addresses.
routes_apps.py and routes_clouds.py have its calls, resources.py how they use mongo.
"""

import argparse
import http.client
import json

import flask
import routes_apps
import routes_clouds
import waitress
from pymongo.errors import PyMongoError
from resources import Refused, Resources

THREADS = 24


class Placement:
    """The placement service, by HTTP."""

    def __init__(self, port):
        self.port = port

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body or {}), headers)
            response = connection.getresponse()
            answer = response.read().decode()
        finally:
            connection.close()
        if response.status >= 300:
            raise ConnectionError(f"the placement service: {response.status} {answer}")


def make_app(mongo, placement_port):
    app = flask.Flask("orchestrator")
    app.resources = Resources(mongo)
    app.placement = Placement(placement_port)
    app.register_blueprint(routes_apps.routes)
    app.register_blueprint(routes_clouds.routes)
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
    options = parser.parse_args()
    app = make_app(options.mongo, options.placement)
    waitress.serve(app, listen=f"127.0.0.1:{options.listen}", threads=THREADS, _quiet=True)


if __name__ == "__main__":
    main()
