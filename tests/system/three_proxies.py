"""Three proxies side by side on one replica set of one node, with a journal each, and who kills them."""

import contextlib
import json
import random
import threading
import time

from holdfast_testing import Proxy, Server, holdfast, wait_until
from holdfast_testing.proxy import parse_json_output

COUNT = 3
# Why recovery cannot be told how a commit ended: the client has gone on with its session, through
# another proxy, so it knew.
WENT_ON = "the server cannot tell any more whether it committed this"


class ThreeProxies:
    """settings: of each proxy. `uri` names all three, as three mongos."""

    def __init__(self, settings=None):
        self._held = contextlib.ExitStack()
        try:
            self.server = self._held.enter_context(Server("replicaset", sync=True))
            self.direct = self._held.enter_context(self.server.client())
            self.proxies = [
                self._held.enter_context(Proxy(self.server, settings)) for _ in range(COUNT)
            ]
        except BaseException:
            self._held.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._held.close()

    @property
    def uri(self):
        return "mongodb://" + ",".join(proxy.address for proxy in self.proxies) + "/"

    def stored(self, database, collection):
        return {d["_id"]: d for d in self.direct[database][collection].find()}

    def settle(self):
        """What every journal says in the end: {state: number of units}. Each is sound, and none has a
        commit whose outcome is open; what is set aside is so because its client had gone on."""
        states = {}
        for proxy in self.proxies:
            if not proxy.process.running():
                proxy.start()
            wait_until(lambda p=proxy: not in_state(p, "committing"), 30, "every commit is settled")
            assert proxy.stop() == 0
            holdfast("verify", "--wal", proxy.wal, check=0)
            for unit in in_state(proxy, "all"):
                states[unit["state"]] = states.get(unit["state"], 0) + 1
            for unit in in_state(proxy, "conflict"):
                text = holdfast("show", unit["unit"], "--wal", proxy.wal).stdout
                assert WENT_ON in text, text
        return states


def outcomes(proxy):
    """[(state, commands)] of what the journal of a proxy holds; commands that it does not know: []."""
    states, found = {}, []
    for line in holdfast("export", "--wal", proxy.wal, check=0).stdout.splitlines():
        told = json.loads(line)
        if told["type"] == "unit":
            states[told["unit"]] = told["state"]
        elif told["type"] == "committing":
            found.append((states[told["unit"]], told["committing"].get("commands", [])))
    return found


def in_state(proxy, state):
    done = holdfast("units", "--json", "--state", state, "--wal", proxy.wal)
    return parse_json_output(done.stdout)["units"]


class Killer:
    """Kills a proxy with -9 now and then, and starts it again after a while, until stopped."""

    def __init__(self, three, seed):
        self._three = three
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.kills = 0
        self.error = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self):
        try:
            while not self._stop.wait(self._chance.uniform(0.1, 0.8)):
                proxy = self._chance.choice(self._three.proxies)
                proxy.kill()
                self.kills += 1
                time.sleep(self._chance.choice([0, 0.1, 0.5]))
                proxy.start()
        except BaseException as error:  # told by the test
            self.error = error
