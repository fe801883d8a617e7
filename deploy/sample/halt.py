"""A test's hook: the service stands still right after a write that the test names.

SAMPLE_HALT names a file. While it holds a number N, the N-th write from then on is the last one: the
process stops itself (SIGSTOP) and the file is gone. Whoever put it there then kills what he likes,
and lets the others go on (SIGCONT). Without SAMPLE_HALT nothing of this happens.
"""

import os
import pathlib
import signal
import threading

_name = os.environ.get("SAMPLE_HALT")
_file = pathlib.Path(_name) if _name else None
_lock = threading.Lock()


def after_write():
    if _file is None:
        return
    with _lock:
        try:
            left = int(_file.read_text()) - 1
        except FileNotFoundError:
            return
        if left > 0:
            _file.write_text(str(left))
            return
        _file.unlink()
        # This very thread takes the signal before it goes on; the whole process stops with it.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
