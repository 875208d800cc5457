#!/usr/bin/python3
"""Clicks through cockpit-machines in a headless Chromium, against a running domusd (scripts/cockpit.sh starts both).

Every step ends with what the page itself shows, and where the daemon knows better, virsh is asked as well. Prints one
line per step and what the page's console and the daemon complained about; exits with 1 when a step failed.

    drive.py {mock|qemu} STATE_DIR [PART]...
"""

import os
import sys

import host
import machines
from cockpit import Cockpit
from steps import foreign_complaints, refused_calls

# Calls that answer with an error in a run without faults, and why.
EXPECTED_REFUSALS = (
    # Addresses are asked of leases, of the neighbour table and of the guest's agent; our guests have none.
    "guest agent is not configured", "guest agent is not connected", "InterfaceAddresses: Requested operation is not valid: domain is not running",
    # The page looks again at a VM or a snapshot that it has just deleted.
    "Domain not found: no domain with matching uuid", "no domain snapshot with matching name",
)

PARTS = {
    "seen": machines.seen, "life": machines.life_cycle, "settings": machines.settings, "devices": machines.devices,
    "snapshots": machines.snapshots, "new": machines.new_ones, "pools": host.pools, "networks": host.networks,
    "end": machines.end,
}

# Not there yet: snapshots of QEMU guests; virt-install knows no operating system to install in the test driver's guests.
LACKING = {"qemu": ("snapshots",), "mock": ("new",)}


def complaints(cockpit):
    with cockpit.step("the page's console has no error"):
        found = foreign_complaints(cockpit.page.complaints)
        assert not found, "\n".join(found)
    with cockpit.step("no call of the page was refused"):
        refused = [f"{call}: {text}" for call, text in refused_calls(os.path.join(cockpit.state, "monitor.log"))]
        refused = [line for line in refused if not any(part in line for part in EXPECTED_REFUSALS)]
        assert not refused, "\n".join(refused)


def main():
    kind, state, *parts = sys.argv[1:]
    cockpit = Cockpit(kind, state)
    try:
        machines.prepare(cockpit)
        for part in parts or (part for part in PARTS if part not in LACKING[kind]):
            PARTS[part](cockpit)
        complaints(cockpit)
    finally:
        cockpit.page.close()
    return 0 if cockpit.steps.summary() else 1


if __name__ == "__main__":
    sys.exit(main())
