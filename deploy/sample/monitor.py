#!/usr/bin/env python3
"""The status monitor: what clusters report about what the orchestrator has instantiated.

    monitor.py --listen PORT --mongo URI [--background-mongo URI]

    PUT    /contexts/GROUP/ID    {token, clusters}  begins to watch: two parts of one document
    DELETE /contexts/GROUP/ID                       ends it: all reports, then the watch
    POST   /groups/GROUP/status  {token, cluster}   a cluster's report, then the sum of all
    GET    /groups/GROUP/refresh ?token=TOKEN       a GET that writes, to two documents

With --background-mongo it also beats: a task of its own that writes beside all calls.
"""

import threading
import time

import pymongo
from contexts import context_status_key, context_watch_key, find_context
from pymongo.errors import PyMongoError
from resources import COLLECTION, DATABASE, Refused, group_key, other_work, text
from small_service import argument_parser, serve

BEAT = {"monitorBeat": "monitor1"}
BEAT_PERIOD = 0.2  # seconds


def put_context(store, group, context, body):
    key, token = context_watch_key(group, context), body["token"]
    store.put_part(key, "data", {"token": token, "clusters": body["clusters"]})
    other_work()
    store.put_part(key, "stateInfo", {"token": token, "state": "Watching"})


def delete_context(store, group, context, _body):
    store.remove_all(context_status_key(group, context, ""), "contextStatus")
    store.remove(context_watch_key(group, context))


def watch_of(store, group):
    """The key of what is watched."""
    found = find_context(store, group)
    if found is None:
        raise Refused(409, f"the group {group} is not instantiated")
    key = context_watch_key(group, found["context"])
    store.need(key)
    return key


def put_status(store, group, body):
    watch, token = watch_of(store, group), body["token"]
    context, cluster = watch["context"], body["cluster"]
    report = {"token": token, "state": "Running", "content": text(1500)}
    store.put_part(context_status_key(group, context, cluster), "data", report)
    other_work()
    reports = store.count({**group_key(group), "context": context, "contextStatus": {"$gt": ""}})
    store.put_part(watch, "summary", {"token": token, "reports": reports})


def refresh(store, group, body):
    watch, token = watch_of(store, group), body["token"]
    store.put_part(watch, "refreshed", {"token": token})
    other_work()
    summary = store.find(watch).get("summary", {}).get("reports", 0)
    status = {"token": token, "context": watch["context"], "reports": summary}
    store.put_part(group_key(group), "status", status)
    return {"reports": summary}


ROUTES = {
    "PUT /contexts/*/*": put_context,
    "DELETE /contexts/*/*": delete_context,
    "POST /groups/*/status": put_status,
    "GET /groups/*/refresh": refresh,
}


def beat(uri):
    """One higher each time, from where the last life ended. Says which beat was acknowledged."""
    collection = pymongo.MongoClient(uri)[DATABASE][COLLECTION]
    number = None
    while True:
        try:
            if number is None:
                number = (collection.find_one(BEAT) or {"beat": 0})["beat"]
            collection.update_one(BEAT, {"$set": {"beat": number + 1}}, upsert=True)
            number += 1
            print(f"beat {number}", flush=True)
        except PyMongoError:
            pass  # once more
        time.sleep(BEAT_PERIOD)


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--background-mongo")
    options = parser.parse_args()
    if options.background_mongo:
        threading.Thread(target=beat, args=(options.background_mongo,), daemon=True).start()
    serve(ROUTES, options)


if __name__ == "__main__":
    main()
