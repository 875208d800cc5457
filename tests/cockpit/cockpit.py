"""What all steps share: the page of cockpit-machines and the daemon behind it, seen through virsh."""

import os
import subprocess

from browser import Browser, eventually
from steps import Steps

PAGE = "http://127.0.0.1:9090/cockpit/@localhost/machines/index.html"
MODAL = "[class*='-c-modal-box']:not([class*='__'])"
PLACES = {"vms": "#virtual-machines-listing", "storages": "#storage-pools-listing", "networks": "#networks-listing"}


class Cockpit:
    def __init__(self, kind, state):
        self.kind, self.state = kind, state
        self.uri = "qemu:///system" if kind == "qemu" else "test+unix:///default?socket=/run/libvirt/libvirt-sock"
        self.page = Browser(state)
        self.steps = Steps(self.page, os.path.join(state, "shots"))
        self.step = self.steps.step

    def virsh(self, *arguments):
        done = subprocess.run(["virsh", "-c", self.uri, *arguments], text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def define(self, kind, xml):
        """With `virsh define`, `net-define` ..., from a document."""
        path = os.path.join(self.state, "definition.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(xml)
        self.virsh(kind, path)

    def go(self, place="vms"):
        """Another place of the page, by its address, as a bookmark would."""
        page = self.page
        if (page.evaluate("location.href") or "").startswith(PAGE):
            # What a failed step left open.
            page.evaluate(f"document.querySelector({MODAL + ' [class*=__close] button'!r})?.click()")
            page.evaluate(f"location.hash = '#/{place}'")
        else:
            page.open(f"{PAGE}#/{place}")

        part = PLACES.get(place, "#vm-details")

        def there():
            # Without KVM the page warns first.
            if page.exists("#ignore-hw-virtualization-disabled-btn"):
                page.click("#ignore-hw-virtualization-disabled-btn")
            return page.exists(part)
        eventually(f"the page shows {place}", there)

    # ---- dialogs -----------------------------------------------------------------------------------------------------

    def apply(self, button=None):
        """Presses the dialog's button that does it, and waits until the dialog is done."""
        button = button or f"{MODAL} [class*='__footer'] button:is(.pf-m-primary, .pf-m-danger)"
        self.page.click(button)
        gone = f"!document.querySelector({MODAL!r})"
        problem = f"[...document.querySelectorAll({MODAL + ' .pf-m-danger[class*=alert]'!r})].map(e => e.innerText).join(' ')"

        def done():
            words = self.page.evaluate(problem)
            if words:
                raise RuntimeError(f"the dialog says: {words}")
            return self.page.evaluate(gone)
        eventually("the dialog closes", done)

    def choose(self, group, text):
        """Types into a field that offers what fits, and takes the offer: a path of the host, an operating system."""
        self.page.type(f"{group} input", text, leave=False)
        option = f"""[...document.querySelectorAll("[class*='-c-menu__list'] button")].find(e => e.innerText.startsWith({text!r}))"""
        eventually(f"{text} is offered", lambda: self.page.evaluate(f"!!({option})"))
        self.page.evaluate(f"({option}).click()")


class Machine:
    """A VM's part of the page."""

    def __init__(self, cockpit, name):
        self.cockpit, self.page, self.name = cockpit, cockpit.page, name
        # Parts of the VM's own page, and of its row in the list and its header.
        self.part, self.head = f"#vm-{name}", f"#vm-{name}-system"

    def open(self):
        self.cockpit.go(f"vm?name={self.name}&connection=system")
        self.page.wait_for(f"{self.head}-state")

    def says(self, part, text):
        self.page.wait_text(f"{self.part}-{part}", text)

    def click(self, part):
        self.page.click(f"{self.part}-{part}")

    def menu(self, action):
        """An entry of the menu of further actions."""
        self.page.click(f"{self.head}-action-kebab")
        self.page.click(f"{self.head}-{action}")

    def confirmed(self, action):
        """The same, where a dialog asks again."""
        self.menu(action)
        self.cockpit.apply(f"{self.head}-confirm-action-modal {self.head}-{action}")

    def is_in(self, state):
        """Both the page and the daemon say so."""
        self.page.wait_text(f"{self.head}-state", state)
        assert self.cockpit.virsh("domstate", self.name) == state.lower()

    def xml(self, *options):
        return self.cockpit.virsh("dumpxml", self.name, *options)
