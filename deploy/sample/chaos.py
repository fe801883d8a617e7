"""kill -9 in the middle of calls, again and again."""

import collections
import random
import threading
import time

# What a kill ends, how often it is chosen, and whether there is a Holdfast to it. What was ended is
# started again at once.
KILLS = {
    "orchestrator": (4, False),
    "placement service": (3, False),
    "both services": (2, False),
    "server": (3, False),
    "everything at once": (1, False),
    "proxy": (4, True),
    "proxy and orchestrator": (1, True),
    "proxy and server": (1, True),
}
NOTES = {
    "proxy": "its handlers live on",
    "server": "it loses the last of what it had acknowledged",
}
WITHIN = 0.02  # seconds after a call was sent: somewhere between its writes
CALLS_BETWEEN = 2  # acknowledged after all is up again, before the next kill


class Chaos:
    """`count` kills, spread over the calls of `load`."""

    def __init__(self, stack, load, count, seed):
        self.stack, self.load, self.count = stack, load, count
        self.kills = collections.Counter()
        self.failure = None
        self._random = random.Random(f"{seed}.kills")
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def over(self):
        return not self._thread.is_alive()

    def total(self):
        return sum(self.kills.values())

    def _run(self):
        try:
            for number in range(1, self.count + 1):
                acknowledged = self.load.acknowledged + CALLS_BETWEEN
                self.load.wait_for(self.load.count * number // (self.count + 1), acknowledged, 60)
                if self.load.over():
                    return
                self.load.wait_for_a_call(1)
                time.sleep(self._random.uniform(0, WITHIN))
                self._kill()
        except BaseException as error:  # noqa: BLE001 (shown by the round)
            self.failure = error
            raise
        finally:
            self.load.enough.set()

    def _kill(self):
        fitting = {
            what: weight
            for what, (weight, needs_proxy) in KILLS.items()
            if self.stack.proxy is not None or not needs_proxy
        }
        what = self._random.choices(list(fitting), list(fitting.values()))[0]
        for victim in self._victims(what):
            victim.kill()
        self.kills[what] += 1
        self.stack.start_what_is_dead()

    def _victims(self, what):
        stack = self.stack
        proxy = [stack.proxy] if stack.proxy is not None else []
        return {
            "orchestrator": [stack.orchestrator],
            "placement service": [stack.placement],
            "both services": stack.services,
            "server": [stack.server],
            "everything at once": [*proxy, stack.server, *stack.services],
            "proxy": proxy,
            "proxy and orchestrator": [*proxy, stack.orchestrator],
            "proxy and server": [*proxy, stack.server],
        }[what]
