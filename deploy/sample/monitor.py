#!/usr/bin/env python3
"""The status monitor: what clusters report about what the orchestrator has instantiated.

    monitor.py --listen PORT --mongo URI

    PUT    /contexts/GROUP/ID    {token, clusters}  begins to watch: two parts of one document
    DELETE /contexts/GROUP/ID                       ends it: all reports, then the watch
    POST   /groups/GROUP/status  {token, cluster}   a cluster's report, then the sum of all
    GET    /groups/GROUP/refresh ?token=TOKEN       a GET that writes, to two documents
"""

from contexts import context_status_key, context_watch_key, find_context
from resources import Refused, group_key, other_work, text
from small_service import main


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

if __name__ == "__main__":
    main(ROUTES, __doc__)
