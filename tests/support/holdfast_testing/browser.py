"""A real browser without a window: Debian's chromium, spoken to by its DevTools protocol over a pair
of pipes. No driver program, no library: a command is one JSON object, ended by a NUL."""

import base64
import json
import os
import pathlib
import shutil
import tempfile
import threading
import time

from .process import Process

KEYS = {
    "Tab": (9, "Tab", ""),
    "Enter": (13, "Enter", "\r"),
    "Escape": (27, "Escape", ""),
    " ": (32, "Space", " "),
    "ArrowDown": (40, "ArrowDown", ""),
}


def find_browser():
    """The path of a Chromium, or None. HOLDFAST_BROWSER names one."""
    named = os.environ.get("HOLDFAST_BROWSER")
    return named or shutil.which("chromium") or shutil.which("google-chrome")


class BrowserError(Exception):
    pass


class Browser:
    """One process; give it to close(). Each page has a session of its own, as a private window."""

    def __init__(self):
        self._profile = tempfile.mkdtemp(prefix="holdfast-browser-")
        down_read, self._down = os.pipe()
        self._up, up_write = os.pipe()
        command = [
            find_browser(),
            "--headless=new",
            "--no-sandbox",  # tests may run as root, and load nothing but our own page
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._profile}",
            "about:blank",
        ]
        # The protocol's pipes are the browser's descriptors 3 and 4.
        os.set_inheritable(down_read, True)
        os.set_inheritable(up_write, True)
        script = 'exec 3<&"$0" 4>&"$1"; shift 1; exec "$@"'
        self._process = Process(
            ["bash", "-c", script, str(down_read), str(up_write), *command],
            name="chromium",
            keep_descriptors=(down_read, up_write),
        )
        os.close(down_read)
        os.close(up_write)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._answers = {}
        self._next = 0
        self._ended = False
        self._listeners = {}
        threading.Thread(target=self._read, daemon=True).start()
        self.version = self.send("Browser.getVersion")["product"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._process.running():
            self._process.kill()
        os.close(self._down)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _read(self):
        rest = b""
        while True:
            received = os.read(self._up, 1 << 20)
            if not received:
                break
            *messages, rest = (rest + received).split(b"\0")
            for message in map(json.loads, messages):
                self._take(message)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, message):
        if "id" in message:
            with self._changed:
                self._answers[message["id"]] = message
                self._changed.notify_all()
        else:
            listener = self._listeners.get(message.get("sessionId"))
            if listener is not None:
                listener(message["method"], message["params"])

    def send(self, method, session=None, timeout=60, **parameters):
        with self._changed:
            self._next += 1
            number = self._next
            message = {"id": number, "method": method, "params": parameters}
            if session is not None:
                message["sessionId"] = session
            data = json.dumps(message).encode() + b"\0"
            while data:
                data = data[os.write(self._down, data) :]
            until = time.monotonic() + timeout
            while number not in self._answers:
                if self._ended or not self._changed.wait(until - time.monotonic()):
                    raise BrowserError(f"{method}: no answer\n{self._process.tail()}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def page(self, **options):
        return Page(self, **options)


class Page:
    """One window. `errors`: what its console complained of, exceptions and refused loads included."""

    def __init__(self, browser, width=1280, height=900, dark=False):
        self._browser = browser
        self._context = browser.send("Target.createBrowserContext")["browserContextId"]
        target = browser.send(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )
        attached = browser.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        self.errors = []
        browser._listeners[self._session] = self._listen
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.view(width, height, dark)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._browser.send("Target.disposeBrowserContext", browserContextId=self._context)

    def _listen(self, method, parameters):
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.errors.append(str(parameters["args"]))

    def send(self, method, **parameters):
        return self._browser.send(method, self._session, **parameters)

    def view(self, width, height, dark=False):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def goto(self, url):
        self.send("Page.navigate", url=url)

    def evaluate(self, expression):
        """The value of a JavaScript expression, which may be a promise."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, expression, what, timeout=30):
        """Until the expression is true; returns its value."""
        until = time.monotonic() + timeout
        while True:
            try:
                value = self.evaluate(expression)
            except BrowserError:  # between two pages
                value = None
            if value:
                return value
            if time.monotonic() > until:
                text = self.evaluate("document.body.innerText")
                raise AssertionError(f"never happened: {what}\n{text}\n{self.errors}")
            time.sleep(0.05)

    def text(self):
        return self.evaluate("document.body.innerText")

    def wait_text(self, text, timeout=30):
        self.wait(f"document.body.innerText.includes({json.dumps(text)})", text, timeout)

    def click(self, selector):
        """As a mouse does, so that what is covered or disabled is not clicked."""
        script = f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            if (element === null) return null;
            element.scrollIntoView({{block: "center"}});
            const box = element.getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2];
        }})()"""
        x, y = self.wait(script, f"{selector} is there")
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    def press(self, key, shift=False):
        code, name, text = KEYS[key]
        parameters = {
            "key": key,
            "code": name,
            "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
        }
        down = "keyDown" if text else "rawKeyDown"
        self.send("Input.dispatchKeyEvent", type=down, text=text, **parameters)
        self.send("Input.dispatchKeyEvent", type="keyUp", **parameters)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def screenshot(self, path, whole=True):
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        pathlib.Path(path).write_bytes(base64.b64decode(answer["data"]))
