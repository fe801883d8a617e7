"""The orchestrator's calls for apps and deployment intent groups (W1 to W6).

Their sizes are those of real ones.

    PUT  /apps/APP               {token, content}  W1   an app: data, then its content
    PUT  /profiles/PROFILE       {token, app}      W2   a profile of an app: four writes
    PUT  /groups/GROUP/placement {token}                a placement intent: one write
    PUT  /groups/GROUP/intents/I {token, app}      W3   an app's intent: data, then its app
    PUT  /groups/GROUP           {token}           W4   a group: data, then "Created"
    POST /groups/GROUP/update    {token}           W5   + "Updated", then + "Instantiated"
    POST /groups/GROUP/migrate   {token, target}   W6   + "Updated" here, + "Instantiated" there
"""

import base64
import gzip

import flask
from resources import PROJECT, VERSION, Refused, group_key, other_work, reference, text

routes = flask.Blueprint("apps", __name__)
COMPOSITE_PROFILE = {**VERSION, "compositeProfile": "profile1"}


def app_key(name):
    return {**VERSION, "app": name}


def profile_key(name):
    return {**COMPOSITE_PROFILE, "appProfile": name}


def placement_intent_key(group):
    return {**group_key(group), "genericPlacementIntent": "placement"}


def app_intent_key(group, name):
    return {**placement_intent_key(group), "genericAppPlacementIntent": name}


def metadata(name, token):
    return {"name": name, "description": "", "userdata1": token}


@routes.put("/apps/<name>")
def put_app(name):
    store, body = flask.current_app.resources, flask.request.json
    store.need(PROJECT, VERSION)
    key = app_key(name)
    store.find(key)
    chart = base64.b64encode(gzip.compress(body["content"].encode(), 1)).decode()
    store.put_part(key, "data", {"metadata": metadata(name, body["token"]), "spec": text(200)})
    other_work()
    store.put_part(key, "appcontent", {"filecontent": chart, "token": body["token"]})
    return {"ok": True}, 201


@routes.put("/profiles/<name>")
def put_profile(name):
    store, body = flask.current_app.resources, flask.request.json
    app, token = body["app"], body["token"]
    store.need(PROJECT, VERSION, COMPOSITE_PROFILE, app_key(app))
    other = store.collection.find_one(
        {**COMPOSITE_PROFILE, "app": app, "appProfile": {"$ne": name}}
    )
    if other is not None:
        raise Refused(409, f"the app {app} has a profile already")
    key, references = profile_key(name), [reference(app_key(app))]
    data = {"metadata": metadata(name, token), "spec": {"appname": app}}
    store.put_part(key, "data", data, references)
    other_work()
    store.set_fields(key, {"app": app})
    other_work()
    store.put_part(key, "profilecontent", {"profile": text(900), "token": token}, references)
    other_work()
    store.set_fields(key, {"app": app})
    return {"ok": True}, 201


@routes.put("/groups/<group>/placement")
def put_placement_intent(group):
    store, body = flask.current_app.resources, flask.request.json
    store.need(PROJECT, VERSION, group_key(group))
    data = {"metadata": metadata("placement", body["token"]), "spec": {}}
    store.put_part(placement_intent_key(group), "data", data)
    return {"ok": True}, 201


@routes.put("/groups/<group>/intents/<name>")
def put_app_intent(group, name):
    store, body = flask.current_app.resources, flask.request.json
    app = body["app"]
    store.need(PROJECT, VERSION, group_key(group), placement_intent_key(group), app_key(app))
    key = app_intent_key(group, name)
    spec = {"appname": app, "intent": {"allOf": [{"clusterLabel": text(500)}]}}
    data = {"metadata": metadata(name, body["token"]), "spec": spec}
    store.put_part(key, "data", data, [reference(app_key(app))])
    other_work()
    store.set_fields(key, {"app": app})
    return {"ok": True}, 201


@routes.put("/groups/<group>")
def put_group(group):
    store, body = flask.current_app.resources, flask.request.json
    store.need(PROJECT, VERSION, COMPOSITE_PROFILE)
    key = group_key(group)
    if store.find(key) is not None:
        raise Refused(409, f"the group {group} exists")
    spec = {"profile": "profile1", "version": "v1", "overrideValues": text(500)}
    data = {"metadata": metadata(group, body["token"]), "spec": spec}
    references = [reference(COMPOSITE_PROFILE)]
    store.put_part(key, "data", data, references)
    other_work()
    created = {"state": "Created", "token": body["token"], "revision": 0}
    store.put_part(key, "stateInfo", {"actions": [created]}, references)
    return {"ok": True}, 201


def actions_of(store, group):
    """The states that a group has been through; it must not be half-way into the next one."""
    found = store.need(group_key(group))
    actions = found.get("stateInfo", {}).get("actions")
    if not actions:
        raise Refused(409, f"the group {group} has no state")
    return actions


def add_action(store, group, action):
    """Read, modify, write: without a guard, as these services do it."""
    actions = [*actions_of(store, group), action]
    store.put_part(
        group_key(group), "stateInfo", {"actions": actions}, [reference(COMPOSITE_PROFILE)]
    )


def need_settled(actions, group):
    if actions[-1]["state"] == "Updated":
        raise Refused(409, f"the group {group} is stuck at Updated")


@routes.post("/groups/<group>/update")
def update_group(group):
    store, token = flask.current_app.resources, flask.request.json["token"]
    actions = actions_of(store, group)
    need_settled(actions, group)
    revision = actions[-1]["revision"] + 1
    add_action(store, group, {"state": "Updated", "token": token, "revision": revision})
    other_work()
    add_action(store, group, {"state": "Instantiated", "token": token, "revision": revision})
    return {"ok": True}


@routes.post("/groups/<group>/migrate")
def migrate_group(group):
    store, body = flask.current_app.resources, flask.request.json
    token, target = body["token"], body["target"]
    context = {"token": token, "contextId": token}
    for name in (group, target):
        need_settled(actions_of(store, name), name)
    revision = actions_of(store, target)[-1]["revision"] + 1
    add_action(store, group, {"state": "Updated", "revision": revision, **context})
    other_work()
    add_action(store, target, {"state": "Instantiated", "revision": revision, **context})
    return {"ok": True}
