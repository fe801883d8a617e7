"""What holds in the orchestrator's database whenever nobody is calling it.

Judged from the documents alone: data and content of one token, all parts or none, no group stuck at
Updated, a parent for each document, no reference that leads nowhere.
"""

import collections

from contexts import context_watch_key
from judge import key_of, token_of
from resources import (
    PROJECT,
    PROVIDER,
    VERSION,
    cluster_config_key,
    cluster_key,
    key_id,
    placement_key,
)
from routes_clouds import certificate_keys, cloud_key

# The last key field of a document, by which it is told from its parent; the deepest first.
LAST_FIELDS = (
    "genericAppPlacementIntent",
    "genericPlacementIntent",
    "contextPlacement",
    "contextNetwork",
    "contextWatch",
    "contextStatus",
    "context",
    "deploymentIntentGroup",
    "appProfile",
    "compositeProfile",
    "app",
    "clusterReference",
    "logicalCloud",
    "cluster",
    "caCertEnrollment",
    "caCertDistribution",
    "caCert",
    "networkPolicyRules",
    "networkPolicy",
)


def last_field(key):
    return next((field for field in LAST_FIELDS if field in key), None)


def parent_of(key):
    """The key of the document that must be there as long as this one is; None for a root."""
    if "cloudConfigCluster" in key and key["level"] == "0":
        return cluster_key(key["cloudConfigCluster"])
    if "cloudConfigCluster" in key:
        return cloud_key(key["namespace"])
    if "hpaPlcCluster" in key:
        return cluster_key(key["hpaPlcCluster"])
    if key in (PROJECT, PROVIDER):
        return None
    if key == VERSION:
        return PROJECT
    own = last_field(key)
    return {field: value for field, value in key.items() if field != own}


def broken_rules(documents):
    """A line for each rule that a document or a set of them breaks."""
    for document in documents.all:
        key = key_of(document)
        yield from duplicate_rule(documents, key)
        yield from parent_rules(documents, document, key)
        rule = RULES.get(last_field(key))
        if rule is not None:
            yield from (f"{why}: {key_id(key)} {key}" for why in rule(documents, document, key))
    yield from migration_rules(documents)
    yield from profile_rules(documents)
    yield from cluster_rules(documents)
    yield from certificate_rules(documents)


def duplicate_rule(documents, key):
    if len(documents.with_key(key)) > 1:
        yield f"there twice: {key}"


def parent_rules(documents, document, key):
    parent = parent_of(key)
    if parent is not None and not documents.has(parent):
        yield f"without a parent: {key}"
    for reference in document["references"]:
        if not documents.has(reference["key"]):
            yield f"{key} refers to what is not there: {reference['key']}"


def same_token(document, *parts):
    """All parts are there, of one call."""
    tokens = {token_of(document, part) for part in parts}
    if len(tokens) > 1 or tokens == {None}:
        yield "parts of more than one call, or missing"


def app_rules(_documents, document, _key):
    yield from same_token(document, "data", "appcontent")


def appprofile_rules(_documents, document, _key):
    yield from same_token(document, "data", "profilecontent")
    yield from app_named(document)


def app_intent_rules(_documents, document, _key):
    yield from app_named(document)


def app_named(document):
    if document.get("app") != document.get("data", {}).get("spec", {}).get("appname"):
        yield "not under the app that it names"


def group_rules(documents, document, key):
    actions = document.get("stateInfo", {}).get("actions")
    if not actions or "data" not in document:
        yield "a group without data or state"
        return
    if actions[0]["token"] != token_of(document, "data"):
        yield "data and state of two calls"
    if actions[-1]["state"] == "Updated" and "contextId" not in actions[-1]:
        yield "stuck at Updated"
    own = [action for action in actions if "context" in action]
    contexts = {found["context"] for found in documents.below(key) if "context" in found}
    running = {own[-1]["context"]} if own and own[-1]["state"] == "Instantiated" else set()
    if contexts != running:
        yield f"its contexts are {sorted(contexts)}, and should be {sorted(running)}"
    yield from refresh_rules(documents, document, running)


def refresh_rules(documents, document, running):
    """The group's status and its watch's come from one refresh."""
    group = document["deploymentIntentGroup"]
    for context in running:
        watch = documents.get(context_watch_key(group, context))
        status = document.get("status", {})
        ours = status.get("token") if status.get("context") == context else None
        if token_of(watch, "refreshed") != ours:
            yield "a refresh of one document only"


def context_rules(documents, document, key):
    yield from same_token(document, "data", "stateInfo")
    below = documents.below(key)
    for part in "contextPlacement", "contextNetwork":
        number = sum(part in found for found in below)
        if number != document.get("data", {}).get("of"):
            yield f"{number} of {document['data']['of']} {part}"
    if sum("contextWatch" in found for found in below) != 1:
        yield "nobody watches it"


def watch_rules(documents, document, key):
    yield from same_token(document, "data", "stateInfo")
    context = {name: value for name, value in key.items() if name != "contextWatch"}
    reports = sum("contextStatus" in found for found in documents.below(context))
    if reports != document.get("summary", {}).get("reports", 0):
        yield f"{reports} reports, its sum says otherwise"


def policy_rules(documents, document, key):
    rules = documents.get({**key, "networkPolicyRules": "rules"})
    if token_of(rules, "data") != token_of(document, "data"):
        yield "half a policy"


def cloud_rules(documents, document, key):
    yield from same_token(document, "data", "privatekey", "stateInfo")
    references = [
        found
        for found in documents.all
        if found.get("logicalCloud") == key["logicalCloud"] and "clusterReference" in found
    ]
    configs = [
        found
        for found in documents.all
        if found.get("namespace") == key["logicalCloud"] and found.get("level") == "1"
    ]
    of = {found["certificate"]["of"] for found in references}
    if references and of != {len(references)}:
        yield "ready on some of its clusters only"
    actions = document.get("stateInfo", {}).get("actions", [])
    terminated = any(action["state"] == "Terminated" for action in actions)
    if len(configs) != (0 if terminated else len(references)):
        yield f"{len(configs)} of {len(references)} configurations, terminated: {terminated}"


RULES = {
    "app": app_rules,
    "appProfile": appprofile_rules,
    "genericAppPlacementIntent": app_intent_rules,
    "deploymentIntentGroup": group_rules,
    "logicalCloud": cloud_rules,
    "context": context_rules,
    "contextWatch": watch_rules,
    "networkPolicy": policy_rules,
}


def migration_rules(documents):
    """The source is Updated if and only if the target is Instantiated, for each context id."""
    halves = collections.defaultdict(set)
    for document in documents.all:
        for action in document.get("stateInfo", {}).get("actions", []):
            if "contextId" in action:
                halves[action["contextId"]].add(action["state"])
    for context, states in halves.items():
        if states != {"Updated", "Instantiated"}:
            yield f"half a migration, {context}: {states}"


def profile_rules(documents):
    """At most one profile for each app of a composite profile."""
    profiles = [found for found in documents.all if "appProfile" in found and "app" in found]
    for (profile, app), number in collections.Counter(
        (found["compositeProfile"], found["app"]) for found in profiles
    ).items():
        if number > 1:
            yield f"{number} profiles of {profile} for {app}"


def cluster_rules(documents):
    """Its three documents with all parts of one call, or none."""
    names = {found["cluster"] for found in documents.all if "cluster" in found}
    names |= {found["hpaPlcCluster"] for found in documents.all if "hpaPlcCluster" in found}
    for name in names:
        cluster, placement = documents.get(cluster_key(name)), documents.get(placement_key(name))
        parts = [(cluster, "data"), (cluster, "stateInfo")]
        parts += [(documents.get(cluster_config_key(name)), "config")]
        parts += [(placement, "clusterNodes"), (placement, "clusterLabels")]
        if len({token_of(*part) for part in parts}) > 1:
            yield f"half a cluster: {name}"


def certificate_rules(documents):
    """The certificate, its enrollment and its distribution, or none."""
    for name in {found["caCert"] for found in documents.all if "caCert" in found}:
        parts = zip(certificate_keys(name), ("data", "stateInfo", "stateInfo"), strict=True)
        if len({token_of(documents.get(key), part) for key, part in parts}) > 1:
            yield f"half a certificate: {name}"
