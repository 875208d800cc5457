"""Named steps with a verdict, a screenshot of each, and what went wrong beneath the page."""

import contextlib
import os
import re
import traceback

ALERT = "[class*='-c-alert'].pf-m-danger, [class*='-c-alert'].pf-m-warning"

# What the page complains about with every daemon: this is its own doing.
OWN_COMPLAINTS = (
    "Scrollbar test exception", "status of 404", "Content Security Policy", "is deprecated",
    "aria-label or aria-labelledby", "Tried changing state of a disconnected RFB object",
    # It asks for a snapshot while it deletes it.
    "Domain snapshot not found",
    # The page asks QEMU to resize the guest's screen to the window; VGA without a driver has one size.
    "Server did not accept the resize request",
)


class Steps:
    def __init__(self, browser, shots):
        self.browser, self.shots = browser, shots
        self.passed, self.failed = 0, []

    @contextlib.contextmanager
    def step(self, name):
        """Whatever goes wrong inside fails this step alone; the next one begins from where the page is."""
        number = self.passed + len(self.failed) + 1
        error = None
        try:
            yield
        except Exception:  # pylint: disable=broad-except
            error = traceback.format_exc()
        try:
            alerts = self.browser.evaluate(
                f"[...document.querySelectorAll({ALERT!r})].map(e => e.innerText.replaceAll('\\n', ' '))")
            if alerts and not error:
                error = f"the page shows: {'; '.join(alerts)}"
            self.browser.screenshot(os.path.join(self.shots, f"{number:02}-{re.sub('[^a-z0-9]+', '-', name.lower())}.png"))
        except Exception:  # pylint: disable=broad-except
            error = error or traceback.format_exc()
        print(f"{'FAIL' if error else 'ok  '} {number:2} {name}", flush=True)
        if error:
            self.failed.append(name)
            print("     " + error.strip().replace("\n", "\n     "), flush=True)
        else:
            self.passed += 1

    def summary(self):
        print(f"{self.passed} passed, {len(self.failed)} failed" + (f": {', '.join(self.failed)}" if self.failed else ""))
        return not self.failed


def foreign_complaints(complaints):
    return [text for text in complaints if not any(own in text for own in OWN_COMPLAINTS)]


def refused_calls(monitor_log):
    """Calls to org.libvirt that were answered with an error, as (member, message), from dbus-monitor's output."""
    calls, refused = {}, []
    with open(monitor_log, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    for i, line in enumerate(lines):
        if line.startswith("method call ") and "destination=org.libvirt " in line:
            words = dict(word.rstrip(";").split("=", 1) for word in line.split() if "=" in word)
            calls[words["sender"], words["serial"]] = f"{words['path']} {words['interface']}.{words['member']}"
        elif line.startswith("error "):
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            call = calls.get((line.split("-> destination=")[1].split()[0], words["reply_serial"]))
            if call:
                text = lines[i + 1].strip() if i + 1 < len(lines) else ""
                refused.append((call, text.removeprefix("string ").strip('"')))
    return refused
