"""The orchestrator's calls that all services work on.

    POST /groups/GROUP/instantiate {token, clusters}   its context, the placement and the network
                                                       controller's parts for each cluster, the
                                                       monitor's watch; then the context is complete,
                                                       and the group gets + "Instantiated"
    POST /groups/GROUP/terminate   {token}             all that is removed, + "Terminated"

The context's id is the token.
"""

import flask
from contexts import context_key, find_context
from resources import PROJECT, VERSION, Refused, cluster_key, other_work
from routes_apps import actions_of, add_action, need_settled

routes = flask.Blueprint("contexts", __name__)


@routes.post("/groups/<group>/instantiate")
def instantiate(group):
    app, body = flask.current_app, flask.request.json
    store, token, clusters = app.resources, body["token"], body["clusters"]
    store.need(PROJECT, VERSION, *map(cluster_key, clusters))
    actions = actions_of(store, group)
    need_settled(actions, group)
    if find_context(store, group) is not None:
        raise Refused(409, f"the group {group} has a context already")
    key = context_key(group, token)
    store.put_part(key, "data", {"token": token, "of": len(clusters)})
    other_work()
    for peer in (app.placement, app.network, app.monitor):
        peer.call("PUT", f"/contexts/{group}/{token}", {"token": token, "clusters": clusters})
        other_work()
    store.put_part(key, "stateInfo", {"token": token, "state": "Instantiated"})
    other_work()
    action = {"state": "Instantiated", "token": token, "revision": actions[-1]["revision"] + 1}
    add_action(store, group, {**action, "context": token})
    return {"ok": True}


@routes.post("/groups/<group>/terminate")
def terminate(group):
    app, token = flask.current_app, flask.request.json["token"]
    store = app.resources
    actions = actions_of(store, group)
    found = find_context(store, group)
    if found is None or "stateInfo" not in found:
        raise Refused(409, f"the group {group} is not instantiated, or only half")
    context = found["context"]
    for peer in (app.monitor, app.network, app.placement):
        peer.call("DELETE", f"/contexts/{group}/{context}")
        other_work()
    store.remove(context_key(group, context))
    other_work()
    action = {"state": "Terminated", "token": token, "revision": actions[-1]["revision"] + 1}
    add_action(store, group, {**action, "context": context})
    return {"ok": True}
