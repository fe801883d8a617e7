"""The orchestrator's calls for clusters, logical clouds and certificates (W7 to W12).

Their sizes are those of real ones.

    PUT    /clusters/CLUSTER       {token}            W7   three writes, two by placement.py
    DELETE /clusters/CLUSTER                          W8   three documents, one by placement.py
    PUT    /clouds/CLOUD           {token}            W9   a logical cloud: three parts of one
    POST   /clouds/CLOUD/ready     {token, clusters}  W10  two documents for each of its clusters
    POST   /clouds/CLOUD/terminate {token}            W11  removes half of them, then + "Terminated"
    PUT    /certificates/CERT      {token}            W12  three documents
    DELETE /certificates/CERT                         W12  and their removal
"""

import random

import flask
from resources import (
    PROJECT,
    PROVIDER,
    Refused,
    cloud_config_key,
    cluster_config_key,
    cluster_key,
    other_work,
    reference,
    text,
)

routes = flask.Blueprint("clouds", __name__)


def cloud_key(name):
    return {**PROJECT, "logicalCloud": name}


def cluster_reference_key(cloud, cluster):
    return {**cloud_key(cloud), "clusterReference": cluster}


def certificate_keys(name):
    """The certificate, its enrollment and its distribution."""
    key = {**PROVIDER, "caCert": name}
    return [
        key,
        {**key, "caCertEnrollment": "enrollment"},
        {**key, "caCertDistribution": "distribution"},
    ]


def part(token, size):
    return {"token": token, "content": text(size)}


@routes.put("/clusters/<name>")
def put_cluster(name):
    store, token = flask.current_app.resources, flask.request.json["token"]
    store.need(PROVIDER)
    key = cluster_key(name)
    if store.find(key) is not None:
        raise Refused(409, f"the cluster {name} exists")
    metadata = {"name": name, "description": "", "userdata1": token}
    store.put_part(key, "data", {"metadata": metadata, "spec": text(200)})
    other_work()
    store.put_part(key, "stateInfo", part(token, 150))
    other_work()
    store.put_part(cluster_config_key(name), "config", part(token, random.randint(7700, 15000)))
    other_work()
    flask.current_app.placement.call("PUT", f"/nodes/{name}", {"token": token})
    return {"ok": True}, 201


@routes.delete("/clusters/<name>")
def delete_cluster(name):
    store = flask.current_app.resources
    key = cluster_key(name)
    store.need(PROVIDER, key)
    need_no_dependents(store, key)
    store.remove(key)
    other_work()
    flask.current_app.placement.call("DELETE", f"/nodes/{name}")
    other_work()
    store.remove(cluster_config_key(name))
    return {"ok": True}


def need_no_dependents(store, key):
    """Check, then act."""
    if store.count(key) != 1:
        raise Refused(409, f"{key} has children")
    if store.count({"references": {"$elemMatch": reference(key)}}) != 0:
        raise Refused(409, f"{key} is referred to")


@routes.put("/clouds/<name>")
def put_cloud(name):
    store, token = flask.current_app.resources, flask.request.json["token"]
    store.need(PROJECT)
    key = cloud_key(name)
    if store.find(key) is not None:
        raise Refused(409, f"the logical cloud {name} exists")
    metadata = {"name": name, "description": "", "userdata1": token}
    store.put_part(key, "data", {"metadata": metadata, "spec": text(900)})
    other_work()
    store.put_part(key, "privatekey", part(token, 3200))
    other_work()
    created = {"state": "Created", "token": token}
    store.put_part(key, "stateInfo", {"actions": [created], "token": token})
    return {"ok": True}, 201


@routes.post("/clouds/<name>/ready")
def make_cloud_ready(name):
    store, body = flask.current_app.resources, flask.request.json
    clusters, token = body["clusters"], body["token"]
    store.need(PROJECT, cloud_key(name), *map(cluster_key, clusters))
    for number, cluster in enumerate(clusters):
        if number > 0:
            other_work()
        references = [reference(cluster_key(cluster))]
        certificate = {**part(token, 2400), "of": len(clusters)}
        store.put_part(cluster_reference_key(name, cluster), "certificate", certificate, references)
        other_work()
        store.put_part(cloud_config_key(cluster, name), "config", part(token, 10800))
    return {"ok": True}


@routes.post("/clouds/<name>/terminate")
def terminate_cloud(name):
    store, token = flask.current_app.resources, flask.request.json["token"]
    cloud = store.need(PROJECT, cloud_key(name))
    configs = store.collection.find({"level": "1", "namespace": name}, {"cloudConfigCluster": 1})
    for config in list(configs):
        store.remove(cloud_config_key(config["cloudConfigCluster"], name))
        other_work()
    terminated = {"state": "Terminated", "token": token}
    state = cloud["stateInfo"]
    store.put_part(
        cloud_key(name), "stateInfo", {**state, "actions": [*state["actions"], terminated]}
    )
    return {"ok": True}


@routes.put("/certificates/<name>")
def put_certificate(name):
    store, token = flask.current_app.resources, flask.request.json["token"]
    certificate, enrollment, distribution = certificate_keys(name)
    store.need(PROVIDER)
    if store.find(certificate) is not None:
        raise Refused(409, f"the certificate {name} exists")
    metadata = {"name": name, "description": "", "userdata1": token}
    store.put_part(certificate, "data", {"metadata": metadata, "spec": text(600)})
    other_work()
    store.put_part(enrollment, "stateInfo", part(token, 180))
    other_work()
    store.put_part(distribution, "stateInfo", part(token, 180))
    return {"ok": True}, 201


@routes.delete("/certificates/<name>")
def delete_certificate(name):
    store = flask.current_app.resources
    certificate, enrollment, distribution = certificate_keys(name)
    store.need(PROVIDER, certificate)
    for key in (distribution, enrollment):
        store.remove(key)
        other_work()
    need_no_dependents(store, certificate)
    store.remove(certificate)
    return {"ok": True}
