"""How the sample services use mongo: one collection, plain reads and writes, nothing else.

A document has key fields at its top (project, compositeApp, ...), `keyId` (their names), one
subdocument for each *part* (data, stateInfo, ...) and `references` to others. "Insert" is to look
for parents and references, then a findAndModify that upserts one part; "remove" is to count
children and references, then deleteOne.
"""

import random
import sys
import time

import halt
import pymongo
from pymongo import ReturnDocument
from pymongo.errors import AutoReconnect, PyMongoError

DATABASE = "emco"
COLLECTION = "resources"
PROJECT = {"project": "p1"}
VERSION = {**PROJECT, "compositeApp": "ca1", "compositeAppVersion": "v1"}
PROVIDER = {"clusterProvider": "provider1"}
TRIES = 100  # of a write whose connection broke, 50 ms apart


class Refused(Exception):
    """The service's own answer 4xx."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


def key_id(key):
    return "{" + ",".join(sorted(key)) + "}"


def reference(key):
    return {"key": dict(key), "keyid": key_id(key)}


def text(size):
    """Something of that many characters that does not compress to nothing."""
    return random.randbytes(size // 2).hex()


def other_work():
    """What lies between two writes, checks and calls to others: 1 to 4 ms."""
    time.sleep(random.uniform(0.001, 0.004))


class Resources:
    """The collection, as the services see it."""

    def __init__(self, uri):
        self.collection = pymongo.MongoClient(uri)[DATABASE][COLLECTION]

    def find(self, key):
        return self.collection.find_one({**key, "keyId": key_id(key)})

    def need(self, *keys):
        """Parents and references: each must be there. Returns the last one."""
        for key in keys:
            found = self.find(key)
            if found is None:
                raise Refused(404, f"no {key}")
        return found

    def count(self, key):
        return self.collection.count_documents(dict(key))

    def put_part(self, key, part, value, references=()):
        """Inserts or updates one part of a document."""
        change = {part: value, "keyId": key_id(key), "references": list(references)}
        self._write(
            lambda: self.collection.find_one_and_update(
                {"$and": [dict(key)]},
                {"$set": change},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        )

    def set_fields(self, key, fields):
        self._write(
            lambda: self.collection.update_one({**key, "keyId": key_id(key)}, {"$set": fields})
        )

    def remove(self, key):
        self._write(lambda: self.collection.delete_one({**key, "keyId": key_id(key)}))

    def remove_all(self, key, last):
        """One by one, all documents whose key differs from this one in its field `last` only."""
        others = {name: value for name, value in key.items() if name != last}
        found = self.collection.find({**others, "keyId": key_id(key)}, {last: 1})
        for value in sorted(document[last] for document in found):
            self.remove({**others, last: value})
            other_work()

    def _write(self, write):
        """Tried again while the connection breaks, as careful services do: each is idempotent."""
        for left in reversed(range(TRIES)):
            try:
                written = write()
                halt.after_write()
                return written
            except AutoReconnect:
                if left == 0:
                    raise
                time.sleep(0.05)
            except PyMongoError as error:
                print(f"write refused: {error}"[:300], file=sys.stderr, flush=True)
                raise


# Keys that more than one file needs.


def group_key(name):
    return {**VERSION, "deploymentIntentGroup": name}


def cluster_key(name):
    return {**PROVIDER, "cluster": name}


def cluster_config_key(name):
    """The cloud configuration of a cluster itself."""
    place = {"cloudConfigClusterProvider": "provider1", "cloudConfigCluster": name}
    return {**place, "level": "0", "namespace": "default"}


def cloud_config_key(cluster, cloud):
    """The cloud configuration that a logical cloud has on a cluster."""
    place = {"cloudConfigClusterProvider": "provider1", "cloudConfigCluster": cluster}
    return {**place, "level": "1", "namespace": cloud}


def placement_key(name):
    return {"hpaPlcProvider": "provider1", "hpaPlcCluster": name}
