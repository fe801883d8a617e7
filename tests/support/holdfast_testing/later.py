"""A call that may have to wait for another one."""

import threading


class Later:
    """A call in a thread of its own. `within`: seconds, after which its result is too late."""

    def __init__(self, call, within=10):
        self._within = within
        self._value = self._error = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call):
        try:
            self._value = call()
        except Exception as error:  # for whoever asks for the result
            self._error = error

    def waits(self, seconds=0.15):
        """Whether there is no result yet, after a head start of so many seconds."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def result(self):
        """What the call returned, or raises what it raised."""
        assert not self.waits(self._within), "it still waits"
        if self._error is not None:
            raise self._error
        return self._value
