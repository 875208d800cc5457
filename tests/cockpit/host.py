"""Storage pools, volumes and networks."""

import os

from browser import eventually


def pools(cockpit):
    page, step = cockpit.page, cockpit.step
    row, target = "#pool-wares-system", os.path.join(cockpit.state, "wares")
    os.makedirs(target)
    with step("a storage pool is created"):
        cockpit.go("storages")
        page.click("#create-storage-pool")
        page.type("#storage-pool-dialog-name", "wares")
        cockpit.choose("#storage-pool-dialog-target", target)
        # It would be started with the host: the dialog's own choice.
        page.wait_for("#storage-pool-dialog-autostart:checked")
        cockpit.apply()
        page.wait_text(f"{row}-state", "inactive")
        eventually("the pool is there, with autostart",
                   lambda: "wares" in cockpit.virsh("pool-list", "--inactive", "--autostart", "--name").split())
    with step("the pool is activated"):
        page.click("#activate-pool-wares-system")
        page.wait_text(f"{row}-state", "active")
        page.wait_for("#deactivate-pool-wares-system")
        assert "wares" in cockpit.virsh("pool-list", "--name").split()
    with step("the pool's overview"):
        page.click("tr[data-row-id=pool-wares-system] [class*=table__toggle] button")
        page.wait_text(f"{row}-target-path", target)
        page.wait_text(f"{row}-persistent", "yes")
        page.wait_text(f"{row}-autostart", "yes")
        page.wait_text(f"{row}-type", "dir")
    with step("a volume is created"):
        page.click("tbody:has(tr[data-row-id=pool-wares-system]) button[id^=pf-tab-1-]")
        page.click("#wares-system-create-volume-button")
        page.type("#create-volume-dialog-name", "apples.qcow2")
        page.type("#create-volume-dialog-size", "8")
        page.select("#create-volume-dialog-unit", "MiB")
        cockpit.apply()
        page.wait_for(f"{row}-volume-apples\\.qcow2-name")
        assert "apples.qcow2" in cockpit.virsh("vol-list", "wares")
        assert "8.00 MiB" in cockpit.virsh("vol-info", "apples.qcow2", "wares")
    with step("the volume is deleted"):
        page.click("[aria-label='Storage pool wares Volumes'] tbody input[type=checkbox]")
        page.click("#storage-volumes-delete")
        page.wait_gone(f"{row}-volume-apples\\.qcow2-name")
        assert "apples.qcow2" not in cockpit.virsh("vol-list", "wares")
    with step("the pool is deactivated"):
        page.click("#deactivate-pool-wares-system")
        page.wait_text(f"{row}-state", "inactive")
    with step("the pool is deleted"):
        page.click(f"{row}-action-kebab")
        page.click("[id*=delete][id*=wares]")
        cockpit.apply()
        page.wait_gone(f"{row}-state")
        assert "wares" not in cockpit.virsh("pool-list", "--all", "--name").split()


def networks(cockpit):
    page, step = cockpit.page, cockpit.step
    row = "#network-alley-system"
    with step("a network is defined"):
        cockpit.go("networks")
        page.wait_text("#network-default-system-state", "active")
        page.click("#create-network")
        page.type("#create-network-name", "alley")
        page.type("#create-network-ipv4-address", "192.168.222.1")
        page.click("#create-network-ipv4-dhcp")
        page.type("#create-network-ipv4-dhcp-range-start", "192.168.222.100")
        page.type("#create-network-ipv4-dhcp-range-end", "192.168.222.200")
        cockpit.apply()
        page.wait_text(f"{row}-state", "inactive")
        page.wait_text(f"{row}-forwarding", "NAT")
    with step("the network is activated"):
        page.click("#activate-network-alley-system")
        page.wait_for("#deactivate-network-alley-system")
        assert "alley" in cockpit.virsh("net-list", "--name").split()
    with step("the network's overview"):
        page.click("tr[data-row-id=network-alley-system] [class*=table__toggle] button")
        page.wait_text(f"{row}-ipv4-address", "192.168.222.1")
        page.wait_text(f"{row}-ipv4-dhcp-range", "192.168.222.100 - 192.168.222.200")
    with step("the network's autostart on and off"):
        for word in ("yes", "no"):
            page.click(f"{row}-autostart")
            page.wait_for(f"{row}-autostart{':checked' if word == 'yes' else ':not(:checked)'}")
            assert cockpit.virsh("net-info", "alley").split("Autostart:")[1].split()[0] == word
    with step("a fixed address for a guest"):
        page.click(f"{row}-static-host-entries-add")
        page.type("#add-new-static-entry-mac-address", "52:54:00:c0:c4:09")
        page.type("#add-new-static-entry-ip-address", "192.168.222.9")
        cockpit.apply("#add-new-static-entry-save")
        assert "ip='192.168.222.9'" in cockpit.virsh("net-dumpxml", "alley")
    with step("the network is deactivated"):
        page.click("#deactivate-network-alley-system")
        page.wait_text(f"{row}-state", "inactive")
    with step("the network is deleted"):
        page.click(f"{row}-action-kebab")
        page.click("#delete-network-alley-system")
        cockpit.apply()
        page.wait_gone(f"{row}-state")
        assert "alley" not in cockpit.virsh("net-list", "--all", "--name").split()
