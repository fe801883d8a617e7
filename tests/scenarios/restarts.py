"""The restart scenarios: which call, in the middle of what, who is killed, who comes up first.

Calls are those of deploy/sample; a kind's name is that of its calls.py.
"""

import dataclasses
import itertools

from calls import KINDS, OTHER_KINDS, Call
from stage import CONTROLLERS, SERVICES

TITLES = {kind: title for kind, (title, _) in (KINDS | OTHER_KINDS).items()}
EVERYTHING = (*SERVICES, "proxy", "server")
CLUSTERS = ["base-0", "base-1"]

CHAPTERS = (
    "A service, in the middle of a call",
    "The orchestrator, while another service works for it",
    "While a write is on its way, which arrives after the kill",
    "All services at once",
    "The proxy",
    "The server",
    "The node: services, proxy and server at once",
    "What interrupted instantiations leave behind",
)
IN_A_CALL, WHILE_OTHERS_WORK, ON_ITS_WAY, ALL_SERVICES, *_ = CHAPTERS
THE_PROXY, THE_SERVER, THE_NODE, LEFT_BEHIND = CHAPTERS[4:]

# Who writes in a call, write by write.
O, P, N, M = SERVICES
WRITES = {
    "W1": (O, O),
    "W2": (O, O, O, O),
    "W3": (O, O),
    "W4": (O, O),
    "W5": (O, O),
    "W6": (O, O),
    "W7": (O, O, O, P, P),
    "W8": (O, P, O),
    "W9": (O, O, O),
    "W10": (O, O, O, O),
    "W11": (O, O, O),
    "W12": (O, O, O),
    "W12d": (O, O, O),
    "I": (O, P, P, N, N, M, M, O, O),
    "T": (M, N, N, P, P, O, O),
    "P": (N, N),
    "Pd": (N, N),
    "S": (M, M),
    "R": (M, M),
}

# The acknowledged calls that a kind needs before it.
NEEDS = {
    "W2": ("W1",),
    "W3": ("W1", "W4", "one"),
    "W5": ("W4",),
    "W6": ("W4", "W4 target"),
    "W8": ("W7",),
    "W10": ("W9",),
    "W11": ("W9", "W10"),
    "W12d": ("W12",),
    "I": ("W4",),
    "T": ("W4", "I"),
    "Pd": ("P",),
    "S": ("W4", "I"),
    "R": ("W4", "I"),
}


class Things:
    """The calls of one play, about things that no other play touches."""

    def __init__(self, number):
        self.number = number
        self.tokens = itertools.count(1)
        self.context = None

    def call(self, kind):
        kind, _, role = kind.partition(" ")
        name, other = f"{role or 'it'}-{self.number}", None
        token = f"T{self.number}.{next(self.tokens)}"
        match kind:
            case "W2":
                other = name  # an app of that name
            case "W3":
                name, other = (name, "intent"), name
            case "W6":
                other = f"target-{self.number}"
            case "W10" | "W11":
                other = CLUSTERS
            case "I":
                other, self.context = CLUSTERS, token
            case "T":
                other = (self.context, CLUSTERS)
            case "S":
                other = (self.context, CLUSTERS[0])
            case "R":
                other = self.context
        return Call(kind, token, name, other)

    def needed(self, kind):
        return [self.call(needed) for needed in NEEDS.get(kind, ())]


@dataclasses.dataclass(frozen=True)
class Scenario:
    """`kill` die at once: when the `after`-th write of `halt` in the call is done, or, without
    `halt`, as soon as the call is acknowledged. They come up in `order`, by default all at once.
    `tears`: without Holdfast the call is torn. `either`: its services can finish it after all, or
    find that they cannot, as the moment has it: which parts are there is not told."""

    chapter: str
    title: str
    kind: str
    kill: tuple
    halt: str = None
    after: int = 1
    order: tuple = ()
    tears: bool = True
    either: bool = False

    @property
    def id(self):
        return self.title.replace(" ", "-").replace(",", "").replace(":", "")

    def killed_on(self, stage):
        return [part for part in self.kill if stage.has(part)]

    def order_on(self, stage):
        order = self.order or (self.kill,)
        return [[part for part in group if stage.has(part)] for group in order]


def each_service():
    """Each service in the middle of each kind of request that it takes."""
    for service in SERVICES:
        for kind, writers in WRITES.items():
            if service in writers:
                title = f"{service}: {TITLES[kind]}"
                yield Scenario(IN_A_CALL, title, kind, (service,), service)


def orchestrator_while_others_work():
    for kind, controllers in (("I", CONTROLLERS), ("T", CONTROLLERS), ("W8", (P,))):
        for controller in controllers:
            title = f"{TITLES[kind]}: {controller} goes on alone"
            yield Scenario(WHILE_OTHERS_WORK, title, kind, (O,), controller)


def all_services():
    for kind, halt in (("I", N), ("T", P), ("W7", P), ("W5", O), ("S", M)):
        yield Scenario(ALL_SERVICES, f"all four: {TITLES[kind]}", kind, SERVICES, halt)


def proxy():
    for kind, halt in (("W1", O), ("W5", O), ("I", N), ("R", M)):
        title = f"the proxy, the services go on: {TITLES[kind]}"
        yield Scenario(THE_PROXY, title, kind, ("proxy",), halt)
    yield Scenario(THE_PROXY, "the proxy and the orchestrator: put app", "W1", ("proxy", O), O)
    title = "the proxy and all services: instantiate group"
    yield Scenario(THE_PROXY, title, "I", ("proxy", *SERVICES), M)


def server():
    for kind, halt in (("W1", O), ("W7", P), ("I", M)):
        title = f"the server, the services try again: {TITLES[kind]}"
        yield Scenario(THE_SERVER, title, kind, ("server",), halt, tears=False, either=True)
    title = "the server and the orchestrator: instantiate group"
    yield Scenario(THE_SERVER, title, "I", ("server", O), N, either=True)


def node():
    groups = {"services": SERVICES, "proxy": ("proxy",), "server": ("server",)}
    for order in itertools.permutations(groups):
        title = f"instantiate group; up again: {', '.join(order)}"
        parts = tuple(groups[name] for name in order)
        yield Scenario(THE_NODE, title, "I", EVERYTHING, M, order=parts)
    title = "right after an acknowledged call: instantiate group"
    yield Scenario(THE_NODE, title, "I", EVERYTHING, tears=False)


def short():
    yield from each_service()
    yield from orchestrator_while_others_work()
    yield from all_services()
    yield from proxy()
    yield from server()
    yield from node()


def matrix():
    """After every write of every kind, every choice of what is killed: minutes."""
    for kind, writers in WRITES.items():
        for position, writer in enumerate(writers):
            after = writers[: position + 1].count(writer)
            kills = {
                writer: (writer,),
                O: (O,),
                "all services": SERVICES,
                "the proxy": ("proxy",),
                "the proxy and the orchestrator": ("proxy", O),
                "the proxy and all services": ("proxy", *SERVICES),
                "the node": EVERYTHING,
            }
            for name, kill in kills.items():
                if O not in writers and O in kill and len(kill) < len(SERVICES):
                    continue  # it has no part in this call
                title = f"{TITLES[kind]}, after write {position + 1} of {len(writers)}: {name}"
                yield Scenario(TITLES[kind], title, kind, kill, writer, after, tears=False)
