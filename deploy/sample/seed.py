#!/usr/bin/env python3
"""What is there before the first call: roots, and clusters that nobody removes.

seed.py --mongo URI       again, it changes nothing
"""

import argparse

import pymongo
from planner import BASE_CLUSTERS
from resources import (
    COLLECTION,
    DATABASE,
    PROJECT,
    PROVIDER,
    VERSION,
    cluster_config_key,
    cluster_key,
    key_id,
    placement_key,
)


def seed(collection):
    content = {"token": "seed"}
    documents = [(key, ["data"]) for key in (PROJECT, VERSION, PROVIDER)]
    documents += [({**VERSION, "compositeProfile": "profile1"}, ["data"])]
    for name in BASE_CLUSTERS:
        documents += [(cluster_key(name), ["data", "stateInfo"])]
        documents += [(cluster_config_key(name), ["config"])]
        documents += [(placement_key(name), ["clusterNodes", "clusterLabels"])]
    for key, parts in documents:
        parts = dict.fromkeys(parts, content)
        whole = {**key, **parts, "keyId": key_id(key), "references": []}
        if collection.find_one({**key, "keyId": whole["keyId"]}) is None:
            collection.insert_one(whole)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mongo", required=True)
    with pymongo.MongoClient(parser.parse_args().mongo) as client:
        seed(client[DATABASE][COLLECTION])


if __name__ == "__main__":
    main()
