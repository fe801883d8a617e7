"""At each write of a gRPC call over two services one of them dies, or the proxy, the server, or all.
They come back; the call is whole or absent in both services' documents, and whole if its caller was
told so; the next call goes through.
"""

import itertools
import time

import pytest
from grpc_clusters import ADD, DELETE, Asked, ClusterStack
from holdfast_testing import wait_until
from kill_orders import FULL, KEPT_SECONDS, ORDERS, bring_back, serves, wait_stopped

# The writes of the two calls: of `clusters` and `placement`, in their order.
WRITES = {"add": 5, "delete": 3}
PLACES = [
    ("add", "unit_sent"),
    ("add", "unit_answered"),
    ("delete", "unit_sent"),
    ("delete", "unit_answered"),
]
ENDS = [
    ("add", "commit_requested:1"),
    ("add", "commit_durable:1"),
    ("delete", "commit_requested:1"),
    ("delete", "commit_durable:1"),
    ("refused", "undo_restored:1"),
    ("refused", "abort_durable:1"),
]
VICTIMS = {
    "clusters": ("clusters",),
    "placement": ("placement",),
    "proxy": ("proxy",),
    "server": ("server",),
    "services": ("clusters", "placement"),
    "all": ("clusters", "placement", "proxy", "server"),
}


def steps():
    for kind, point in PLACES:
        for number in range(1, WRITES[kind] + 1):
            yield kind, f"{point}:{number}"
    yield from ENDS


def cases():
    """Every third step, and each end, with one victim in turn; all of everything if FULL."""
    victims, orders = itertools.cycle(VICTIMS), itertools.cycle(ORDERS)
    made = []
    for place, (kind, step) in enumerate(steps()):
        if not FULL and place % 3 != 0 and (kind, step) not in ENDS[:4]:
            continue
        for victim in VICTIMS if FULL else (next(victims),):
            for order in ORDERS if FULL else (next(orders),):
                made.append((kind, step, victim, order))
    return made


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    made = ClusterStack(tmp_path_factory.mktemp("clusters"))
    yield made
    assert made.proxy.stop() == 0
    made.close()


def begin(stack, name, kind):
    request = {"collection": name, "cluster": "c", "token": "t", "refuse": kind == "refused"}
    if kind == "delete":
        for part, fields in WHOLE.items():
            stack.direct.test[name].insert_one({**fields, "kind": part, "cluster": "c"})
    return request


TOKEN = {"token": "before"}
WHOLE = {
    "cluster": {"data": TOKEN, "stateInfo": TOKEN},
    "cloudConfig": {"config": TOKEN},
    "placement": {"clusterNodes": TOKEN, "clusterLabels": TOKEN},
}


@pytest.mark.parametrize("kind,step,victim,order", cases())
def test_kill_in_a_call_over_two_services(swept, name, kind, step, victim, order):
    stack = swept
    request = begin(stack, name, kind)
    kept = time.monotonic() + KEPT_SECONDS
    stack.proxy.kill()
    stack.proxy.start(stop_at=step)
    wait_until(
        lambda: any(entry["msg"] == "Domain open" for entry in stack.proxy.log()),
        20,
        "the fence of the start is over",
    )
    stack.ready()
    time.sleep(max(0, kept - time.monotonic()))
    asked = Asked(stack.port, DELETE if kind == "delete" else ADD, request)
    assert wait_stopped(stack.proxy, seconds=10), f"{step} was not reached"
    killed = VICTIMS[victim]
    for each in (stack.clusters, stack.placement):
        if each.role in killed:
            each.kill()
    bring_back(stack, killed, order)
    for each in (stack.clusters, stack.placement):
        if each.role in killed:
            each.start()
    status = asked.end()
    serves(stack, name)
    stack.ready()
    before, after = kind == "delete", kind == "add"
    is_whole = stack.whole(name, "c")
    if status == "OK":
        assert is_whole == after, "acknowledged, and not there"
    if kind == "refused":
        assert not is_whole
    assert is_whole in (before, after)
    stack.call_goes_through(name)
    assert stack.whole(name, "c") == is_whole
    stack.proxy.verify()
