"""Keys of what an instantiation makes: a context, and below it what each service puts there.

The orchestrator's context comes first and is completed last; in between come a document for each
cluster by the placement and the network controller, and the monitor's watch. A context that is there
but not complete keeps its group from being instantiated or terminated.
"""

from resources import PROJECT, group_key, key_id


def context_key(group, context):
    return {**group_key(group), "context": context}


def context_placement_key(group, context, cluster):
    return {**context_key(group, context), "contextPlacement": cluster}


def context_network_key(group, context, cluster):
    return {**context_key(group, context), "contextNetwork": cluster}


def context_watch_key(group, context):
    return {**context_key(group, context), "contextWatch": "watch"}


def context_status_key(group, context, cluster):
    return {**context_key(group, context), "contextStatus": cluster}


def policy_key(name):
    return {**PROJECT, "networkPolicy": name}


def policy_rules_key(name):
    return {**policy_key(name), "networkPolicyRules": "rules"}


def find_context(store, group):
    """The context that a group has, whole or not; None."""
    identity = {**group_key(group), "keyId": key_id(context_key(group, ""))}
    return store.collection.find_one(identity)
