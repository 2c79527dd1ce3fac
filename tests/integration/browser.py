# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven by chromedriver over its HTTP API: for pages that the program makes."""

import base64
import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

import harness


class Browser:
    """with Browser() as b: b.open(path); b.run("return document.title")"""

    def __init__(self):
        self.driver = shutil.which("chromedriver")
        self.chromium = shutil.which("chromium")
        if not self.driver or not self.chromium:
            raise harness.Unavailable("no chromium and chromedriver on the PATH")

    def __enter__(self):
        self.port = harness.free_port()
        self.home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.child = subprocess.Popen([self.driver, f"--port={self.port}"], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            harness.wait_until(lambda: self.call("GET", "/status")["ready"], "chromedriver ready")
            made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                "goog:chromeOptions": {"binary": self.chromium, "args": [
                    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
                    f"--user-data-dir={self.home.name}"]}}}})
            self.session = f"/session/{made['sessionId']}"
        except BaseException:
            self.child.kill()
            self.child.wait()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.call("DELETE", self.session)
        finally:
            self.child.terminate()
            self.child.wait()
            self.home.cleanup()

    def call(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method,
                                         headers={"Content-Type": "application/json"},
                                         data=json.dumps(body if body is not None else {}).encode()
                                         if method == "POST" else None)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()[:800]) from None

    def devtools(self, command, **parameters):
        return self.call("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def view(self, width, height=900, dark=False):
        """As if on a screen of this size; below 500 as on a phone."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                      mobile=width < 500)
        self.devtools("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, path):
        self.call("POST", f"{self.session}/url", {"url": f"file://{path}"})
        # What a new size changes is drawn with the next frame.
        self.call("POST", f"{self.session}/execute/async", {
            "script": "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))", "args": []})

    def run(self, script, *args):
        return self.call("POST", f"{self.session}/execute/sync", {"script": script, "args": list(args)})

    def log(self, kind):
        """Since the last call: "browser", the console; "performance", what DevTools were told."""
        return self.call("POST", f"{self.session}/se/log", {"type": kind})

    def complaints(self):
        return [e["message"] for e in self.log("browser") if e["level"] in ("SEVERE", "WARNING")]

    def requests(self):
        """What pages of files have asked for."""
        events = [json.loads(e["message"])["message"] for e in self.log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [s["request"]["url"] for s in sent if s["documentURL"].startswith("file:")]

    def key(self, value):
        self.call("POST", f"{self.session}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": [
            {"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]}]})

    def picture(self, path, height=None):
        """The page from its top, whole or so many pixels of it."""
        width, whole = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={
            "x": 0, "y": 0, "width": width, "height": min(whole, height or whole), "scale": 1})
        with open(path, "wb") as f:
            f.write(base64.b64decode(shot["data"]))

