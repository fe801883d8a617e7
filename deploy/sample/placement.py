#!/usr/bin/env python3
"""The orchestrator's placement controller: on which nodes of a cluster something may be placed.

    placement.py --listen PORT --mongo URI

    PUT    /nodes/CLUSTER      {token}            W7   two parts of one document
    DELETE /nodes/CLUSTER                         W8   its removal
    PUT    /contexts/GROUP/ID  {token, clusters}       its part of an instantiation: a document for
                                                       each cluster
    DELETE /contexts/GROUP/ID                          and their removal
"""

from contexts import context_placement_key
from resources import cluster_key, other_work, placement_key, text
from small_service import main


def put_nodes(store, cluster, body):
    store.need(cluster_key(cluster))
    key = placement_key(cluster)
    store.put_part(key, "clusterNodes", {"token": body["token"], "content": text(4500)})
    other_work()
    store.put_part(key, "clusterLabels", {"token": body["token"], "content": text(4100)})


def delete_nodes(store, cluster, _body):
    store.need(placement_key(cluster))
    store.remove(placement_key(cluster))


def put_context(store, group, context, body):
    for cluster in body["clusters"]:
        store.need(cluster_key(cluster), placement_key(cluster))
        data = {"token": body["token"], "content": text(1200)}
        store.put_part(context_placement_key(group, context, cluster), "data", data)
        other_work()


def delete_context(store, group, context, _body):
    store.remove_all(context_placement_key(group, context, ""), "contextPlacement")


ROUTES = {
    "PUT /nodes/*": put_nodes,
    "DELETE /nodes/*": delete_nodes,
    "PUT /contexts/*/*": put_context,
    "DELETE /contexts/*/*": delete_context,
}

if __name__ == "__main__":
    main(ROUTES, __doc__)
