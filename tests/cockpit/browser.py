"""A headless Chromium driven with the DevTools protocol: as much of it as driving one page needs."""

import base64
import json
import os
import subprocess
import time
import urllib.request

import websocket

# Longest wait for anything that a page shows. Machines are slow and shared; nothing waits longer than it must.
DEADLINE = 60


class PageError(Exception):
    """The page did not show what was expected."""


def eventually(what, probe, deadline=DEADLINE):
    """The first true result of `probe`, asked again and again."""
    end = time.monotonic() + deadline
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > end:
            raise PageError(f"not within {deadline} s: {what}")
        time.sleep(0.1)


class Browser:
    """One Chromium with one page. `complaints` are the errors of the page's console and its uncaught exceptions."""

    def __init__(self, state, size=(1400, 1100)):
        profile = os.path.join(state, "chromium")
        # The bus is the page's; the browser itself would ask it for bluetooth and power.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DBUS_")}
        # Root needs --no-sandbox; the browser sees nothing but our own page.
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--lang=en-US",
             "--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}",
             "about:blank"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(os.path.join(state, "chromium.log"), "wb"))
        self.complaints = []
        self.last_id = 0
        port_file = os.path.join(profile, "DevToolsActivePort")
        port = eventually("Chromium names its port", lambda: self._port(port_file))
        target = eventually("Chromium has a page", lambda: self._target(port))
        # A browser on a busy machine may think for long; an answer that never comes ends the run all the same.
        self.socket = websocket.create_connection(target, timeout=5 * DEADLINE, suppress_origin=True)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)

    def _port(self, path):
        if self.process.poll() is not None:
            raise PageError(f"chromium ended with {self.process.returncode}")
        try:
            with open(path, encoding="ascii") as file:
                return file.readline().strip()
        except FileNotFoundError:
            return None

    @staticmethod
    def _target(port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=DEADLINE) as reply:
            pages = [target for target in json.load(reply) if target["type"] == "page"]
        return pages and pages[0]["webSocketDebuggerUrl"]

    def close(self):
        try:
            self.call("Browser.close")
        except (OSError, websocket.WebSocketException):
            pass
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def call(self, method, **parameters):
        """A command of the protocol; events that arrive before its answer are looked at on the way."""
        self.last_id += 1
        self.socket.send(json.dumps({"id": self.last_id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.last_id:
                if "error" in message:
                    raise PageError(f"{method}: {message['error']}")
                return message["result"]
            self._event(message)

    def _event(self, message):
        parameters = message.get("params", {})
        match message.get("method"):
            case "Page.javascriptDialogOpening":
                # "Leave this page?" of a page with an open console. Nobody waits for this command's answer.
                self.socket.send(json.dumps({"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}))
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                text = details.get("exception", {}).get("description") or details.get("text", "")
                self.complaints.append(f"uncaught: {text[:600]}")
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                words = (str(a.get("value", a.get("description", self._preview(a)))) for a in parameters["args"])
                self.complaints.append(f"{parameters['type']}: {' '.join(words)[:600]}")
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                entry = parameters["entry"]
                self.complaints.append(f"log: {entry['text'][:300]} {entry.get('url', '')}")

    @staticmethod
    def _preview(argument):
        properties = argument.get("preview", {}).get("properties", [])
        return {entry["name"]: entry.get("value") for entry in properties}

    # ---- the page ----------------------------------------------------------------------------------------------------

    def open(self, url):
        self.call("Page.navigate", url=url)

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise PageError(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return answer["result"].get("value")

    def on(self, selector, body):
        """`body` with `el` being the only element that `selector` finds; None while there is none."""
        return self.evaluate(f"""(() => {{
            const all = [...document.querySelectorAll({json.dumps(selector)})];
            if (all.length > 1) throw new Error("ambiguous: " + {json.dumps(selector)} + " finds " + all.length);
            const el = all[0];
            return el ? (() => {{ {body} }})() : null;
        }})()""")

    def exists(self, selector):
        return self.evaluate(f"!!document.querySelector({json.dumps(selector)})")

    def text(self, selector):
        text = self.on(selector, "return el.innerText !== undefined ? el.innerText : el.textContent")
        return text and text.replace("\u00a0", " ")

    def wait_for(self, selector, deadline=DEADLINE):
        eventually(f"{selector} is there", lambda: self.exists(selector), deadline)

    def wait_gone(self, selector, deadline=DEADLINE):
        eventually(f"{selector} is gone", lambda: not self.exists(selector), deadline)

    def wait_text(self, selector, part, deadline=DEADLINE):
        try:
            eventually("", lambda: part in (self.text(selector) or ""), deadline)
        except PageError:
            raise PageError(f"not within {deadline} s: {selector} says {part!r}, but {self.text(selector)!r}") from None

    def wait_enabled(self, selector):
        disabled = 'return !el.disabled && el.getAttribute("aria-disabled") !== "true" && !el.classList.contains("pf-m-disabled")'
        eventually(f"{selector} can be used", lambda: self.on(selector, disabled))

    def click(self, selector):
        self.wait_enabled(selector)
        self.on(selector, "el.scrollIntoView({block: 'center'}); el.click(); return true")

    def type(self, selector, text, leave=True):
        """Replaces what is in a text field, as a user does who marks everything, types, and goes on to the next field."""
        self.wait_enabled(selector)
        self.on(selector, "el.scrollIntoView({block: 'center'}); el.focus(); el.select && el.select(); return true")
        self.call("Input.insertText", text=text)
        if leave:
            self.on(selector, "el.blur(); return true")

    def key(self, name, code, text=None):
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code, code=name, **extra)

    def keys(self, text):
        """Types into whatever has the focus, key by key, and ends with Return."""
        for letter in text:
            # A key that goes down as well: a terminal ignores the letter alone after a key that it took as a command.
            self.call("Input.dispatchKeyEvent", type="keyDown", key=letter, text=letter)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=letter)
        self.key("Enter", 13, "\r")

    def select(self, selector, value):
        """Chooses an option of a <select>, by its value."""
        self.wait_enabled(selector)
        found = self.on(selector, f"""
            if (![...el.options].some(o => o.value === {json.dumps(value)})) return false;
            Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, 'value').set.call(el, {json.dumps(value)});
            el.dispatchEvent(new Event('change', {{bubbles: true}}));
            return true;""")
        if not found:
            options = self.on(selector, "return [...el.options].map(o => o.value)")
            raise PageError(f"{selector} has no option {value!r}, but {options}")

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
