"""How much memory a process takes."""

import threading
import time


def anonymous_bytes(process):
    """Its memory of its own; 0 if it is just ending."""
    with open(f"/proc/{process.pid}/status") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


class Memory:
    """The most memory of its own (not the journal's map) that a process was seen with."""

    def __init__(self, process):
        self.process = process
        self.peak = 0
        self._running = True
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._running = False
        self._thread.join()

    def _watch(self):
        while self._running and self.process.running():
            self.peak = max(self.peak, anonymous_bytes(self.process))
            time.sleep(0.005)
