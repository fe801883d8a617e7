"""What a caller does next, and to which of the things that it has made.

Callers work on things of their own, so that what is torn is torn by kills and not by two callers at
once; only one group in SHARED_UPDATES of all updates is everybody's. A thing whose last call was
not acknowledged is not touched again: its caller cannot know what is there.
"""

import threading

from calls import KINDS, Call

BASE_CLUSTERS = ["base-0", "base-1", "base-2", "base-3"]  # that are there from the start
SHARED_UPDATES = 0.2
REPLACED = 0.3  # of the apps and profiles that are put
# Calls after which nothing is left to be seen of the one before.
REPLACING = {("W1", "W1"), ("W2", "W2"), ("W7", "W8"), ("W10", "W11"), ("W12", "W12d")}


class Thing:
    def __init__(self, name, last):
        self.name = name
        self.last = last  # the last acknowledged call about it
        self.used = set()  # the kinds of calls that were made about it


class SharedGroup:
    """The group that all callers update; another one when it was left in doubt."""

    def __init__(self):
        self._lock = threading.Lock()
        self.name = None

    def offer(self, name):
        """True: it is taken, and its caller's no more."""
        with self._lock:
            if self.name is not None:
                return False
            self.name = name
            return True

    def drop(self, name):
        with self._lock:
            if self.name == name:
                self.name = None


class Planner:
    """Of one caller. next_call(), then done() with its outcome."""

    def __init__(self, caller, chance, shared):
        self.caller, self.chance, self.shared = caller, chance, shared
        self.things = {
            sort: [] for sort in ("app", "profile", "group", "cluster", "cloud", "certificate")
        }
        self.in_hand = []  # the things that the call under way is about
        self.number = 0

    def next_call(self, kind=None):
        """Of that kind, or of any; of another if there is nothing yet that it could be about."""
        if kind is None:
            kind = self.chance.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
        self.number += 1
        self.in_hand = []
        return getattr(self, "plan_" + kind)()

    def done(self, call):
        """Takes note of how it ended."""
        if not call.acknowledged:
            if not self.in_hand:
                self.shared.drop(call.name)
            return
        for sort, thing in self.in_hand:
            if thing.name != call.other:  # the target of a migration goes on as before
                thing.last = call
                thing.used.add(call.kind)
            removed = call.kind in ("W8", "W12d")
            if not removed and not (call.kind == "W4" and self.shared.offer(thing.name)):
                self.things[sort].append(thing)

    # ---- kinds

    def plan_W1(self):
        return self.put("W1", "app")

    def plan_W2(self):
        if self.chance.random() < REPLACED and self.things["profile"]:
            thing = self.take("profile")
            return self.about("W2", thing, thing.last.other)
        app = self.take("app", lambda app: "W2" not in app.used)
        if app is None:
            return self.plan_W1()
        app.used.add("W2")
        self.in_hand = []
        self.things["app"].append(app)
        return self.about("W2", self.new("profile"), app.name)

    def plan_W3(self):
        group = self.take("group", lambda group: "one" in group.used)
        if group is not None and self.things["app"]:
            call = self.about("W3", group, self.chance.choice(self.things["app"]).name)
            call.name = (group.name, f"intent-{self.number}")
            return call
        if group is not None:
            self.give_back("group", group)
            return self.plan_W1()
        return self.plan_one()

    def plan_one(self):
        group = self.take("group", lambda group: "one" not in group.used)
        return self.plan_W4() if group is None else self.about("one", group)

    def plan_W4(self):
        return self.about("W4", self.new("group"))

    def plan_W5(self):
        shared = self.shared.name
        if shared is not None and self.chance.random() < SHARED_UPDATES:
            return Call("W5", self.token(), shared)
        group = self.take("group", lambda group: "W6" not in group.used)
        return self.plan_W4() if group is None else self.about("W5", group)

    def plan_W6(self):
        source, target = (
            self.take("group", lambda group: "W6" not in group.used) for _ in range(2)
        )
        if target is None:
            if source is not None:
                self.give_back("group", source)
            return self.plan_W4()
        return self.about("W6", source, target.name)

    def plan_W7(self):
        return self.about("W7", self.new("cluster"))

    def plan_W8(self):
        cluster = self.take("cluster")
        return self.plan_W7() if cluster is None else self.about("W8", cluster)

    def plan_W9(self):
        return self.about("W9", self.new("cloud"))

    def plan_W10(self):
        cloud = self.take("cloud", lambda cloud: cloud.used == {"W9"})
        if cloud is None:
            return self.plan_W9()
        clusters = self.chance.sample(BASE_CLUSTERS, self.chance.randint(1, len(BASE_CLUSTERS)))
        return self.about("W10", cloud, clusters)

    def plan_W11(self):
        cloud = self.take("cloud", lambda cloud: cloud.last.kind == "W10")
        return self.plan_W10() if cloud is None else self.about("W11", cloud, cloud.last.other)

    def plan_W12(self):
        return self.about("W12", self.new("certificate"))

    def plan_W12d(self):
        certificate = self.take("certificate")
        return self.plan_W12() if certificate is None else self.about("W12d", certificate)

    # ---- things

    def put(self, kind, sort):
        replaced = self.chance.random() < REPLACED and self.things[sort]
        return self.about(kind, self.take(sort) if replaced else self.new(sort))

    def token(self):
        return f"T{self.caller}.{self.number}"

    def new(self, sort):
        thing = Thing(f"{sort}-{self.caller}-{self.number}", None)
        self.in_hand.append((sort, thing))
        return thing

    def take(self, sort, fits=lambda thing: True):
        """One that fits, at random; None if there is none. done() puts it back."""
        fitting = [thing for thing in self.things[sort] if fits(thing)]
        if not fitting:
            return None
        thing = self.chance.choice(fitting)
        self.things[sort].remove(thing)
        self.in_hand.append((sort, thing))
        return thing

    def give_back(self, sort, thing):
        self.in_hand.remove((sort, thing))
        self.things[sort].append(thing)

    def about(self, kind, thing, other=None):
        call = Call(kind, self.token(), thing.name, other, replaces=thing.last is not None)
        if thing.last is not None and (thing.last.kind, kind) in REPLACING:
            thing.last.followed = call
        return call
