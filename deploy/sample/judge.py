"""Judges calls by what the database holds once everything is quiet.

Each call writes its token into each of its parts:
    torn   some of its writes are there, others are not
    lost   it was acknowledged (2xx) and is not wholly there
A call that was not acknowledged may be whole or absent. rules.py judges the same database without
looking at calls.
"""

import collections

from calls import KINDS, OTHER_KINDS
from contexts import (
    context_key,
    context_network_key,
    context_placement_key,
    context_status_key,
    context_watch_key,
    policy_key,
    policy_rules_key,
)
from resources import (
    cloud_config_key,
    cluster_config_key,
    cluster_key,
    group_key,
    key_id,
    placement_key,
)
from routes_apps import app_intent_key, app_key, placement_intent_key, profile_key
from routes_clouds import certificate_keys, cloud_key, cluster_reference_key


class Documents:
    """All that the collection holds, by key."""

    def __init__(self, collection):
        self.all = list(collection.find({}))
        self._by_key = collections.defaultdict(list)
        for document in self.all:
            self._by_key[_identity(key_of(document))].append(document)

    def with_key(self, key):
        return self._by_key.get(_identity(key), [])

    def get(self, key):
        """The document, empty if there is none."""
        found = self.with_key(key)
        return found[0] if found else {}

    def has(self, key):
        return bool(self.with_key(key))

    def below(self, key):
        """Those whose key has all fields of this one, and more."""
        return [
            found
            for found in self.all
            if all(found.get(name) == value for name, value in key.items())
            and found["keyId"] != key_id(key)
        ]

    def states(self, key, token):
        """What a call has added to the states of a group or cloud."""
        actions = self.get(key).get("stateInfo", {}).get("actions", [])
        return [action["state"] for action in actions if action["token"] == token]


def key_of(document):
    return {name: document[name] for name in document["keyId"].strip("{}").split(",")}


def _identity(key):
    return key_id(key), tuple(sorted(key.items()))


def token_of(document, part):
    value = document.get(part, {})
    return value.get("token") or value.get("metadata", {}).get("userdata1")


def writes_there(call, documents):
    """For each write of the call, whether its effect is there."""

    def has_token(key, *parts):
        return [token_of(documents.get(key), part) == call.token for part in parts]

    def names_its_app(key):
        return [documents.get(key).get("app") == call.other]

    if call.kind in OTHER_KINDS:
        return context_writes_there(call, documents, has_token)
    match call.kind:
        case "W1":
            return has_token(app_key(call.name), "data", "appcontent")
        case "W2":
            key = profile_key(call.name)
            there = has_token(key, "data", "profilecontent")
            return there if call.replaces else there + names_its_app(key)
        case "W3":
            key = app_intent_key(*call.name)
            return has_token(key, "data") + names_its_app(key)
        case "W4":
            key = group_key(call.name)
            return has_token(key, "data") + [documents.states(key, call.token) == ["Created"]]
        case "W5":
            states = documents.states(group_key(call.name), call.token)
            return [states.count("Updated") == 1, states.count("Instantiated") == 1]
        case "W6":
            source = documents.states(group_key(call.name), call.token)
            target = documents.states(group_key(call.other), call.token)
            return [source == ["Updated"], target == ["Instantiated"]]
        case "one":
            return has_token(placement_intent_key(call.name), "data")
    return cloud_writes_there(call, documents, has_token)


def cloud_writes_there(call, documents, has_token):
    """The same for W7 to W12."""
    certificates = certificate_keys(call.name)
    match call.kind:
        case "W7":
            return (
                has_token(cluster_key(call.name), "data", "stateInfo")
                + has_token(cluster_config_key(call.name), "config")
                + has_token(placement_key(call.name), "clusterNodes", "clusterLabels")
            )
        case "W8":
            keys = cluster_key(call.name), placement_key(call.name), cluster_config_key(call.name)
            return [not documents.has(key) for key in keys]
        case "W9":
            key = cloud_key(call.name)
            return has_token(key, "data", "privatekey", "stateInfo")
        case "W10":
            there = []
            for cluster in call.other:
                there += has_token(cluster_reference_key(call.name, cluster), "certificate")
                if not (call.followed and call.followed.seen):
                    there += has_token(cloud_config_key(cluster, call.name), "config")
            return there
        case "W11":
            configs = [cloud_config_key(cluster, call.name) for cluster in call.other]
            terminated = documents.states(cloud_key(call.name), call.token) == ["Terminated"]
            return [terminated, *(not documents.has(key) for key in configs)]
        case "W12":
            parts = "data", "stateInfo", "stateInfo"
            pairs = zip(certificates, parts, strict=True)
            return [there for key, part in pairs for there in has_token(key, part)]
        case "W12d":
            return [not documents.has(key) for key in certificates]
    raise AssertionError(call.kind)


def context_keys(group, context, clusters):
    """What the controllers put into a context."""
    keys = context_placement_key, context_network_key
    return [key(group, context, cluster) for key in keys for cluster in clusters]


def context_writes_there(call, documents, has_token):
    """The same for the calls of OTHER_KINDS."""
    match call.kind:
        case "I":
            there = has_token(context_key(call.name, call.token), "data", "stateInfo")
            for key in context_keys(call.name, call.token, call.other):
                there += has_token(key, "data")
            there += has_token(context_watch_key(call.name, call.token), "data", "stateInfo")
            states = documents.states(group_key(call.name), call.token)
            return [*there, states == ["Instantiated"]]
        case "T":
            context, clusters = call.other
            keys = [context_key(call.name, context), context_watch_key(call.name, context)]
            keys += context_keys(call.name, context, clusters)
            keys += [context_status_key(call.name, context, cluster) for cluster in clusters]
            states = documents.states(group_key(call.name), call.token)
            return [states == ["Terminated"], *(not documents.has(key) for key in keys)]
        case "P":
            keys = policy_key(call.name), policy_rules_key(call.name)
            return [there for key in keys for there in has_token(key, "data")]
        case "Pd":
            return [not documents.has(key(call.name)) for key in (policy_key, policy_rules_key)]
        case "S":
            context, cluster = call.other
            there = has_token(context_status_key(call.name, context, cluster), "data")
            return there + has_token(context_watch_key(call.name, context), "summary")
        case "R":
            there = has_token(context_watch_key(call.name, call.other), "refreshed")
            return there + has_token(group_key(call.name), "status")
    raise AssertionError(call.kind)


class Verdict:
    """Of one kind of call."""

    def __init__(self, name):
        self.name = name
        self.calls = self.acknowledged = self.torn = self.lost = 0

    def add(self, call, there):
        self.calls += 1
        self.acknowledged += call.acknowledged
        self.torn += any(there) and not all(there)
        self.lost += call.acknowledged and not all(there)


def judge(calls, documents):
    """{kind: Verdict}, and a line for each call that was torn or lost."""
    verdicts = {kind: Verdict(name) for kind, (name, _) in KINDS.items()}
    findings = []
    for call in reversed(calls):  # those that followed are judged before those they replaced
        there = writes_there(call, documents)
        followed = call.followed is not None and call.followed.seen
        call.seen = any(there) or followed
        if followed and call.kind != "W10":
            there = [True]
        verdicts[call.kind].add(call, there)
        if (any(there) or call.acknowledged) and not all(there):
            findings.append(
                f"{call.title()}: {sum(there)} of its {len(there)} writes "
                f"are there; its caller was told: {call.outcome} ({call.token})"
            )
    return verdicts, findings
