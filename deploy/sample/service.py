#!/usr/bin/env python3
"""A small service as orchestrators of edge clusters have them: API calls that write twice.

    service.py --listen PORT --mongo URI

Every write is a findAndModify upsert of one part of a document, found by its key; every call looks
for parents first, and does a little work between its two writes. With HOLDFAST=on in the
environment each call's body runs inside the driver's ordinary with_transaction(), which a
standalone server cannot do by itself; without it the same body runs as plain writes, as such
services do today. Nothing else differs.

    POST /apps      {name, token, content}   an app: data, then its content
    POST /digs      {name, token}            a deployment intent group: data, then state "Created"
    POST /digs/NAME {token}                  its update: + "Updated", work, + "Instantiated"
    POST /clusters  {name, token}            a cluster: five parts in three documents
    POST /clouds    {name, token}            a logical cloud: three parts of one document
    POST /clouds/NAME/clusters {name, token, count}
                                             its clusters: two documents for each of them
    POST /certificates   {name, token}       a certificate: three documents
    DELETE /certificates/NAME                and its removal
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

    def remove(self, key):
        self.collection.delete_one(dict(key), session=self.session)

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


def text(size):
    """Something of that many characters that does not compress to nothing."""
    return random.randbytes(size // 2).hex()


def put_app(store, body):
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


# What the larger calls write, in this order: (key, part, bytes). The sizes are those of real ones.


def cluster_parts(name):
    key = {"clusterProvider": "provider1", "cluster": name}
    placement = {"hpaPlacement": "nodes", **key}
    return [
        (key, "data", 550),
        (key, "stateInfo", 300),
        ({"cloudConfig": "kubeconfig", **key}, "config", 10800),
        (placement, "clusterNodes", 9000),
        (placement, "clusterLabels", 8600),
    ]


def cloud_parts(name):
    key = {"project": "p1", "logicalCloud": name}
    return [(key, "data", 900), (key, "privatekey", 3200), (key, "stateInfo", 300)]


def cloud_cluster_parts(name, count):
    parts = []
    for number in range(count):
        key = {"project": "p1", "clusterReference": f"{name}-{number}"}
        parts += [(key, "certificate", 2400), ({"cloudConfig": "kubeconfig", **key}, "config", 10800)]
    return parts


def certificate_parts(name):
    key = {"project": "p1", "certificate": name}
    return [
        (key, "data", 750),
        ({"enrollment": "app", **key}, "stateInfo", 290),
        ({"distribution": "app", **key}, "stateInfo", 290),
    ]


def put_parts(store, parts, body):
    """A call that creates: nothing of it may be there; every part gets the call's token."""
    if store.find(parts[0][0]) is not None:
        raise Refused(409, f"{parts[0][0]} exists")
    for number, (key, part, size) in enumerate(parts):
        if number > 0:
            other_services()
        store.put_part(key, part, {"token": body["token"], "content": text(size)})


def put_cloud_clusters(store, cloud, body):
    store.need(cloud_parts(cloud)[0][0])
    put_parts(store, cloud_cluster_parts(body["name"], body["count"]), body)


def remove_certificate(store, name):
    keys = [key for key, _, _ in certificate_parts(name)]
    store.need(keys[0])
    for key in reversed(keys):
        store.remove(key)
        other_services()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {"ok": True})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.carry_out(lambda: self.route(body))

    def do_DELETE(self):
        self.carry_out(self.route_delete)

    def carry_out(self, route):
        try:
            self.run_call(route())
            self.answer(201, {"ok": True})
        except Refused as refused:
            self.answer(refused.code, {"error": str(refused)})
        except PyMongoError as error:
            self.answer(500, {"error": str(error)[:500]})

    def route(self, body):
        match self.path.strip("/").split("/"):
            case ["apps"]:
                return lambda store: put_app(store, body)
            case ["digs"]:
                return lambda store: put_dig(store, body)
            case ["digs", name]:
                return lambda store: update_dig(store, name, body)
            case ["clusters"]:
                return lambda store: put_parts(store, cluster_parts(body["name"]), body)
            case ["clouds"]:
                return lambda store: put_parts(store, cloud_parts(body["name"]), body)
            case ["clouds", cloud, "clusters"]:
                return lambda store: put_cloud_clusters(store, cloud, body)
            case ["certificates"]:
                return lambda store: put_parts(store, certificate_parts(body["name"]), body)
        raise Refused(404, "no such path")

    def route_delete(self):
        match self.path.strip("/").split("/"):
            case ["certificates", name]:
                return lambda store: remove_certificate(store, name)
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
