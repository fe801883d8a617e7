#!/usr/bin/env python3
"""The orchestrator's network controller: who may talk to whom.

    network.py --listen PORT --mongo URI

    PUT    /policies/POLICY    {token}             a policy, then its rules: two documents
    DELETE /policies/POLICY                        their removal
    PUT    /contexts/GROUP/ID  {token, clusters}   its part of an instantiation: a document for each
                                                   cluster
    DELETE /contexts/GROUP/ID                      and their removal
"""

from contexts import context_network_key, policy_key, policy_rules_key
from resources import PROJECT, Refused, cluster_key, other_work, text
from small_service import main


def put_policy(store, name, body):
    store.need(PROJECT)
    if store.find(policy_key(name)) is not None:
        raise Refused(409, f"the policy {name} exists")
    metadata = {"name": name, "description": "", "userdata1": body["token"]}
    store.put_part(policy_key(name), "data", {"metadata": metadata, "spec": text(300)})
    other_work()
    rules = {"token": body["token"], "content": text(2000)}
    store.put_part(policy_rules_key(name), "data", rules)


def delete_policy(store, name, _body):
    store.need(policy_key(name), policy_rules_key(name))
    store.remove(policy_rules_key(name))
    other_work()
    store.remove(policy_key(name))


def put_context(store, group, context, body):
    for cluster in body["clusters"]:
        store.need(cluster_key(cluster))
        data = {"token": body["token"], "content": text(1800)}
        store.put_part(context_network_key(group, context, cluster), "data", data)
        other_work()


def delete_context(store, group, context, _body):
    store.remove_all(context_network_key(group, context, ""), "contextNetwork")


ROUTES = {
    "PUT /policies/*": put_policy,
    "DELETE /policies/*": delete_policy,
    "PUT /contexts/*/*": put_context,
    "DELETE /contexts/*/*": delete_context,
}

if __name__ == "__main__":
    main(ROUTES, __doc__)
