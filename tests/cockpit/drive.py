#!/usr/bin/python3
"""Clicks through cockpit-machines in a headless Chromium, against a running domusd (scripts/cockpit.sh starts both).

Every step ends with what the page itself shows; where the page cannot know better than the daemon, virsh is asked as
well. Prints one line per step and what the page's console and the daemon complained about; exits with 1 when a step
failed.

    drive.py {mock|qemu} STATE_DIR
"""

import os
import subprocess
import sys

from browser import Browser, eventually
from steps import Steps, foreign_complaints, refused_calls

PAGE = "http://127.0.0.1:9090/cockpit/@localhost/machines/index.html"
VM = "shop"
MAC = "52:54:00:c0:c4:01"

# Calls that answer with an error in a run without faults, and why.
EXPECTED_REFUSALS = (
    # Asked of leases, of the neighbour table and of the guest's agent; our guest has none.
    "guest agent is not configured",
)


class Run:
    def __init__(self, kind, state):
        self.kind, self.state = kind, state
        self.uri = "qemu:///system" if kind == "qemu" else "test+unix:///default?socket=/run/libvirt/libvirt-sock"
        self.browser = Browser(state)
        self.steps = Steps(self.browser, os.path.join(state, "shots"))
        self.vm = f"vm-{VM}-system"

    def virsh(self, *arguments, **options):
        done = subprocess.run(["virsh", "-c", self.uri, *arguments], text=True, capture_output=True, check=False, **options)
        if done.returncode != 0:
            raise RuntimeError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    # ---- going about the page ----------------------------------------------------------------------------------------

    def go(self, place="vms"):
        """Another place of the page, by its address, as a bookmark would."""
        page = self.browser
        if not (page.evaluate("location.href") or "").startswith(PAGE):
            page.open(f"{PAGE}#/{place}")
        else:
            page.evaluate(f"location.hash = '#/{place}'")
        parts = ("#virtual-machines-listing", "#vm-details", "#storage-pools-listing", "#networks-listing")

        def there():
            # Without KVM the page warns first.
            if page.exists("#ignore-hw-virtualization-disabled-btn"):
                page.click("#ignore-hw-virtualization-disabled-btn")
            return any(page.exists(part) for part in parts)
        eventually(f"the page shows {place}", there)

    def details(self):
        self.go(f"vm?name={VM}&connection=system")
        self.browser.wait_for(f"#{self.vm}-state")

    def menu(self, action):
        """An entry of the VM's menu of further actions."""
        self.browser.click(f"#{self.vm}-action-kebab")
        self.browser.click(f"#{self.vm}-{action}")

    def confirmed(self, action):
        """The same, with a dialog that asks again."""
        self.menu(action)
        self.browser.click(f"#{self.vm}-{action}-modal #{self.vm}-{action}, .pf-v6-c-modal-box__footer .pf-m-primary")

    def in_state(self, state, virsh_state=None):
        self.browser.wait_text(f"#{self.vm}-state", state)
        assert self.virsh("domstate", VM) == (virsh_state or state.lower())

    # ---- what is there before the page is opened ---------------------------------------------------------------------

    def prepare(self):
        if self.kind == "mock":
            self.virsh("vol-create-as", "default-pool", "shop.qcow2", "1G", "--format", "qcow2")
            disk, boot = "/default-pool/shop.qcow2", "<type arch='i686' machine='pc'>hvm</type>"
        else:
            disk = os.path.join(self.state, "images", "shop.qcow2")
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
            boot = f"""<type arch='x86_64' machine='pc'>hvm</type>
                <kernel>{self.state}/kernel</kernel><initrd>{self.state}/initrd</initrd>
                <cmdline>console=ttyS0 quiet domus.say=cockpit</cmdline>"""
            self.virsh("net-start", "default") if "default" not in self.virsh("net-list", "--name") else None
        xml = f"""<domain type='{'test' if self.kind == 'mock' else 'qemu'}'>
            <name>{VM}</name><memory unit='MiB'>256</memory><vcpu>2</vcpu>
            <os>{boot}</os><features><acpi/></features><cpu mode='host-model'/>
            <devices>
              <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>
                <target dev='vda' bus='virtio'/></disk>
              <interface type='network'><mac address='{MAC}'/><source network='default'/><model type='virtio'/></interface>
              <console type='pty'/><graphics type='vnc' port='-1' autoport='yes'/><memballoon model='virtio'/>
            </devices></domain>"""
        path = os.path.join(self.state, "shop.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(xml)
        self.virsh("define", path)

    # ---- the steps ---------------------------------------------------------------------------------------------------

    def life_cycle(self):
        page, step, vm = self.browser, self.steps.step, self.vm
        with step("the list shows the VM, shut off"):
            self.go()
            page.wait_text(f"#{vm}-state", "Shut off")
            assert page.text(f"#vm-{VM}-system-name") == VM
        with step("the details show memory, CPUs, machine, disk and network"):
            self.details()
            page.wait_text(f"#vm-{VM}-memory-count", "256 MiB")
            page.wait_text(f"#vm-{VM}-cpu", "2 vCPUs")
            page.wait_text(f"#vm-{VM}-emulated-machine", "pc")
            page.wait_text(f"#vm-{VM}-disks-vda-source-file", "shop.qcow2")
            page.wait_text(f"#vm-{VM}-disks-vda-bus", "virtio")
            page.wait_text(f"#vm-{VM}-network-1-mac", MAC)
            page.wait_text(f"#vm-{VM}-network-1-source", "default")
        with step("start"):
            page.click(f"#{vm}-run")
            self.in_state("Running")

    def complaints(self):
        with self.steps.step("the page's console has no error"):
            found = foreign_complaints(self.browser.complaints)
            assert not found, "\n".join(found)
        with self.steps.step("no call of the page was refused"):
            refused = [(call, text) for call, text in refused_calls(os.path.join(self.state, "monitor.log"))
                       if not any(part in f"{call}: {text}" for part in EXPECTED_REFUSALS)]
            assert not refused, "\n".join(f"{call}: {text}" for call, text in refused)


def main():
    kind, state = sys.argv[1:]
    run = Run(kind, state)
    try:
        run.prepare()
        run.life_cycle()
        run.complaints()
    finally:
        run.browser.close()
    return 0 if run.steps.summary() else 1


if __name__ == "__main__":
    sys.exit(main())
