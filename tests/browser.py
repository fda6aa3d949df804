"""A headless Chromium or Chrome, driven through its DevTools protocol: opens a page, presses keys, takes pictures, tells what the console said."""

import base64
import io
import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

import numpy as np
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SIGNS = {" ": ("Space", 32), "ArrowLeft": ("ArrowLeft", 37), "ArrowRight": ("ArrowRight", 39), "Home": ("Home", 36), "End": ("End", 35)}


def executable():
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser with one page; `log` holds what the console said, `requests` the addresses that the page asked for."""

    def __init__(self, *options):
        from websockets.sync.client import connect  # only where there is a browser

        self.folder = tempfile.mkdtemp(prefix="browser-")
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--hide-scrollbars",
        ]
        flags += ["--hide-scrollbars", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions"]
        command = [executable(), *flags, *options, "--remote-debugging-port=0", f"--user-data-dir={self.folder}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = self._port(seconds=60)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                page = next(target for target in json.load(answer) if target["type"] == "page")
            self.socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        except BaseException:
            self.process.kill()
            raise
        self.log, self.requests, self._count = [], [], 0
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _port(self, seconds):
        told = pathlib.Path(self.folder) / "DevToolsActivePort"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if told.exists() and (lines := told.read_text().split()):
                return int(lines[0])
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the browser did not start, exit status {self.process.poll()}")

    def call(self, method, **parameters):
        self._count += 1
        self.socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=120))
            if message.get("id") == self._count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def _note(self, message):
        method, said = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.log.append(f"{said['type']}: " + " ".join(str(part.get("value", part.get("description"))) for part in said["args"]))
        elif method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.log.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded":
            self.log.append(f"{said['entry']['level']}: {said['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    def open(self, address, *, width=1280, height=860, dark=False, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if mobile else 1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.log, self.requests = [], []
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", str(result)))
        return result["result"].get("value")

    def until(self, expression, seconds=60):
        end = time.monotonic() + seconds
        while not (value := self.js(expression)):
            if time.monotonic() > end:
                raise AssertionError(f"never true in {seconds} s: {expression}; console: {self.log}")
            time.sleep(0.03)
        return value

    def press(self, key):
        code, number = SIGNS[key]
        said = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", **said, **({"text": " "} if key == " " else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **said)

    def click(self, selector, x, y):
        """Click x, y pixels from the top left corner of an element."""
        element = f"document.querySelector({json.dumps(selector)})"
        left, top = self.js(f"{element}.scrollIntoView({{block: 'center'}}), (r => [r.x, r.y])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=left + x, y=top + y, button="left", buttons=1, clickCount=1)

    def picture(self, selector=None, path=None):
        """What is on the screen, or of one element, (H, W, 3) of uint8."""
        # Two frames, so that what was drawn is there.
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        clip = {}
        if selector is not None:
            self.js(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
            place = "(r => ({x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height}))"
            clip = {"clip": {**self.js(f"{place}(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"), "scale": 1}}
        content = base64.b64decode(self.call("Page.captureScreenshot", format="png", **clip)["data"])
        if path is not None:
            pathlib.Path(path).write_bytes(content)
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def close(self):
        try:
            self.call("Browser.close")
        except Exception:
            self.process.kill()
        self.socket.close()
        self.process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)
