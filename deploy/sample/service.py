#!/usr/bin/env python3
"""A small service as orchestrators of edge clusters have them: API calls that write twice.

    service.py --listen PORT --mongo URI

Every write is a findAndModify upsert of one part of a document, found by its key; every call looks
for parents first, and does a little work between its two writes. With HOLDFAST=on in the
environment each call's body runs inside the driver's ordinary with_transaction(), which a
standalone server cannot do by itself; without it the same body runs as plain writes, as such
services do today. Nothing else differs.

    POST /apps      {name, token, content}   W1: data, then the app's content
    POST /digs      {name, token}            W4: data, then the state "Created"
    POST /digs/NAME {token}                  W5: state + "Updated", work, state + "Instantiated"
"""

import argparse
import base64
import gzip
import http.server
import json
import os
import random
import sys
import time

import pymongo
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

DATABASE = "orchestrator"
COLLECTION = "resources"
VERSION_KEY = {"project": "p1", "compositeApp": "ca1", "compositeAppVersion": "v1"}


class Refused(Exception):
    """The service's own answer 4xx."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


def key_id(key):
    return "{" + ",".join(sorted(key)) + "}"


class Store:
    """The resources collection; `session` is None for plain writes."""

    def __init__(self, collection, session):
        self.collection = collection
        self.session = session

    def find(self, key):
        return self.collection.find_one(dict(key), session=self.session)

    def need(self, key):
        if self.find(key) is None:
            raise Refused(404, f"no parent {key}")

    def put_part(self, key, part, value, references=()):
        """The one write that these services have: an upsert of one part."""
        self.collection.find_one_and_update(
            {"$and": [dict(key)]},
            {"$set": {part: value, "keyId": key_id(key), "references": list(references)}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=self.session,
        )


def other_services():
    """The calls to other services and checks that lie between two writes: 1 to 4 ms."""
    time.sleep(random.uniform(0.001, 0.004))


def put_app(store, body):
    """W1"""
    store.need({"project": "p1"})
    store.need(VERSION_KEY)
    key = {**VERSION_KEY, "app": body["name"]}
    if store.find(key) is not None:
        raise Refused(409, "the app exists")
    metadata = {"name": body["name"], "description": "", "userdata1": body["token"]}
    store.put_part(key, "data", {"metadata": metadata, "spec": {}})
    chart = base64.b64encode(gzip.compress(body["content"].encode(), 6)).decode()
    other_services()
    store.put_part(key, "appcontent", {"filecontent": chart, "token": body["token"]})


def put_dig(store, body):
    """W4"""
    store.need({"project": "p1"})
    store.need(VERSION_KEY)
    key = {**VERSION_KEY, "deploymentIntentGroup": body["name"]}
    if store.find(key) is not None:
        raise Refused(409, "the deployment intent group exists")
    metadata = {"name": body["name"], "description": "", "userdata1": body["token"]}
    spec = {"profile": "profile1", "version": "v1", "logicalCloud": "default", "overrideValues": []}
    store.put_part(key, "data", {"metadata": metadata, "spec": spec})
    other_services()
    created = {"state": "Created", "token": body["token"], "revision": 0}
    store.put_part(key, "stateInfo", {"actions": [created], "token": body["token"]})


def update_dig(store, name, body):
    """W5"""
    key = {**VERSION_KEY, "deploymentIntentGroup": name}
    dig = store.find(key)
    if dig is None or "stateInfo" not in dig:
        raise Refused(404, "no such deployment intent group")
    state = dig["stateInfo"]
    last = state["actions"][-1]
    if last["state"] == "Updated":
        raise Refused(409, "an update was begun and never ended")
    revision = last["revision"] + 1
    updated = {"state": "Updated", "token": body["token"], "revision": revision}
    state = {"actions": [*state["actions"], updated], "token": body["token"]}
    store.put_part(key, "stateInfo", state)
    other_services()
    instantiated = {"state": "Instantiated", "token": body["token"], "revision": revision}
    state = {"actions": [*state["actions"], instantiated], "token": body["token"]}
    store.put_part(key, "stateInfo", state)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {"ok": True})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            self.run_call(self.route(body))
            self.answer(201, {"ok": True})
        except Refused as refused:
            self.answer(refused.code, {"error": str(refused)})
        except PyMongoError as error:
            self.answer(500, {"error": str(error)[:500]})

    def route(self, body):
        parts = self.path.strip("/").split("/")
        if parts == ["apps"]:
            return lambda store: put_app(store, body)
        if parts == ["digs"]:
            return lambda store: put_dig(store, body)
        if len(parts) == 2 and parts[0] == "digs":
            return lambda store: update_dig(store, parts[1], body)
        raise Refused(404, "no such path")

    def run_call(self, call):
        collection = self.server.mongo[DATABASE][COLLECTION]
        if not self.server.transactions:
            call(Store(collection, None))
            return
        with self.server.mongo.start_session() as session:
            session.with_transaction(lambda session: call(Store(collection, session)))

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
    server.mongo = pymongo.MongoClient(options.mongo, serverSelectionTimeoutMS=15000)
    server.transactions = os.environ.get("HOLDFAST") == "on"
    server.serve_forever()


if __name__ == "__main__":
    main()
