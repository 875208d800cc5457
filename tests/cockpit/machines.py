"""Virtual machines: the list, the details, the life cycle, consoles, devices, snapshots, a new one, the end of one."""

import os
import subprocess

from browser import eventually
from cockpit import Machine

NAME = "shop"
MAC = "52:54:00:c0:c4:01"


def prepare(cockpit):
    """The one VM that is there before the page is opened."""
    if cockpit.kind == "mock":
        # The test driver's own domain names no machine, as in libvirt, and Cockpit shows no VM without one.
        cockpit.virsh("vol-create-as", "default-pool", "shop.qcow2", "64M", "--format", "qcow2")
        disk = "/default-pool/shop.qcow2"
        start, system = "<domain type='test'>", "<type arch='i686' machine='pc'>hvm</type>"
    else:
        disk = os.path.join(cockpit.state, "images", "shop.qcow2")
        cockpit.virsh("pool-create-as", "images", "dir", "--target", os.path.dirname(disk))
        cockpit.virsh("vol-create-as", "images", "shop.qcow2", "64M", "--format", "qcow2")
        start, system = "<domain type='qemu'>", f"""<type arch='x86_64' machine='pc'>hvm</type>
            <kernel>{cockpit.state}/kernel</kernel><initrd>{cockpit.state}/initrd</initrd>
            <cmdline>console=ttyS0 quiet ip=dhcp domus.say=cockpit</cmdline>"""
        if "default" not in cockpit.virsh("net-list", "--name"):
            cockpit.virsh("net-start", "default")
    cockpit.define("define", f"""{start}
        <name>{NAME}</name><memory unit='MiB'>256</memory><vcpu>2</vcpu>
        <os>{system}</os><features><acpi/></features>
        <cpu mode='custom'><model>qemu64</model></cpu>
        <devices>
          <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>
            <target dev='vda' bus='virtio'/></disk>
          <interface type='network'><mac address='{MAC}'/><source network='default'/><model type='virtio'/></interface>
          <console type='pty'/><graphics type='vnc' port='-1' autoport='yes'/><memballoon model='virtio'/>
        </devices></domain>""")


def seen(cockpit):
    vm, page = Machine(cockpit, NAME), cockpit.page
    with cockpit.step("the list shows the VM, shut off"):
        cockpit.go()
        page.wait_text(f"{vm.head}-state", "Shut off")
        assert page.text(f"{vm.head}-name") == NAME
    with cockpit.step("the details show memory, CPUs, machine, disk and network"):
        vm.open()
        vm.says("memory-count", "256 MiB")
        vm.says("cpu", "2 vCPUs, custom (qemu64)")
        vm.says("emulated-machine", "pc")
        vm.says("boot-order", "disk")
        vm.says("disks-vda-source-file", "shop.qcow2")
        vm.says("disks-vda-bus", "virtio")
        vm.says("network-1-mac", MAC)
        vm.says("network-1-source", "default")


def life_cycle(cockpit):
    vm, page, step = Machine(cockpit, NAME), cockpit.page, cockpit.step
    real = cockpit.kind == "qemu"
    with step("start"):
        page.click(f"{vm.head}-run")
        vm.is_in("Running")
        assert not page.exists(f"{vm.part}-needs-shutdown"), "the page says that changes are pending"
    if real:
        with step("the size of the disk of the running VM"):
            # Polled every ten seconds.
            vm.says("disks-vda-capacity", "0.06 GiB")
        consoles(cockpit, vm)
        with step("memory in use and the address that the guest leased"):
            eventually("memory is in use", lambda: " / 256 MiB" in page.text(f"{vm.part}-usage")
                       and "\n0 / 256" not in page.text(f"{vm.part}-usage"))
            # Asked once, when the page of the VM is opened.
            cockpit.go()
            vm.open()
            page.wait_text(f"{vm.part}-network-1-ipv4-address", "192.168.")
    with step("pause"):
        vm.menu("pause")
        vm.is_in("Paused")
    with step("resume"):
        vm.menu("resume")
        vm.is_in("Running")
    with step("reboot"):
        vm.confirmed("reboot")
        vm.is_in("Running")
    with step("force reboot"):
        vm.confirmed("forceReboot")
        vm.is_in("Running")
    with step("a non-maskable interrupt"):
        vm.confirmed("sendNMI")
        vm.is_in("Running")
    with step("force off"):
        vm.confirmed("forceOff")
        page.wait_text(f"{vm.head}-state", "Shut off")
    with step("start again, from the list"):
        cockpit.go()
        page.click(f"{vm.head}-run")
        page.wait_text(f"{vm.head}-state", "Running")
    with step("shut down"):
        vm.open()
        if real:
            # The power button does nothing before the guest listens.
            serial(cockpit, vm)
        page.click(f"{vm.head}-shutdown-button")
        cockpit.apply(f"{vm.head}-confirm-action-modal {vm.head}-off")
        page.wait_text(f"{vm.head}-state", "Shut off")


def serial(cockpit, vm):
    """Opens the serial console and waits until the guest's shell there does what is typed."""
    page = cockpit.page
    page.click("#pf-v6-c-console__type-selector")
    page.click("#SerialConsole")
    terminal = f"#{vm.name}-terminal"
    page.wait_for(f"{terminal} .xterm-accessibility-tree")
    asked = 0

    def answered():
        # What is typed while the guest boots may be lost: it is typed again now and then.
        nonlocal asked
        if asked % 30 == 0:
            page.on(f"{terminal} textarea", "el.focus(); return true")
            page.keys("echo $((6*7))-answers")
        asked += 1
        return "42-answers" in (page.text(terminal) or "")
    eventually("the guest's shell answers on the serial console", answered, 180)


def consoles(cockpit, vm):
    page, step = cockpit.page, cockpit.step
    with step("the serial console takes input and shows what the guest says"):
        serial(cockpit, vm)
    with step("the VNC console shows the guest's screen"):
        page.click("#pf-v6-c-console__type-selector")
        page.click("#VncConsole")
        page.wait_for("#vnc-display-container-minimized canvas")
        lit = """(() => { const c = document.querySelector('#vnc-display-container-minimized canvas');
            if (c.width < 320) return false;
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            for (let i = 0; i < d.length; i += 4) if (d[i] > 100) return true; return false; })()"""
        eventually("the screen is not black", lambda: page.evaluate(lit))


def settings(cockpit):
    """Changes of a VM that is shut off."""
    vm, page, step = Machine(cockpit, NAME), cockpit.page, cockpit.step
    with step("autostart on and off"):
        vm.open()
        for word in ("enable", "disable"):
            page.click(f"{vm.part}-autostart-switch")
            page.wait_for(f"{vm.part}-autostart-switch{':checked' if word == 'enable' else ':not(:checked)'}")
            # The switch moves before the daemon has answered.
            eventually(f"autostart is {word}d", lambda word=word: any(
                line.split() == ["Autostart:", f"{word}"] for line in cockpit.virsh("dominfo", NAME).splitlines()))
    with step("more memory"):
        vm.click("memory-count button")
        page.type(f"{vm.part}-memory-modal-max-memory", "384")
        page.type(f"{vm.part}-memory-modal-memory", "320")
        cockpit.apply(f"{vm.part}-memory-modal-save")
        vm.says("memory-count", "320 MiB")
        xml = vm.xml()
        assert "<memory unit='KiB'>393216<" in xml and "<currentMemory unit='KiB'>327680<" in xml, xml
    with step("fewer CPUs"):
        vm.click("cpu button")
        page.type("#machines-vcpu-count-field input", "1")
        page.type("#machines-vcpu-max-field input", "1")
        cockpit.apply("#machines-cpu-modal-dialog-apply")
        vm.says("cpu", "1 vCPU")
        assert "<vcpu placement='static'>1</vcpu>" in vm.xml()
    with step("rename there and back"):
        for name in (f"{NAME}-2", NAME):
            vm.menu("rename")
            page.type("#rename-dialog-new-name", name)
            cockpit.apply("#rename-dialog-confirm")
            vm = Machine(cockpit, name)
            page.wait_text(f"{vm.head}-state", "Shut off")
    with step("a description"):
        vm.menu("edit-description")
        page.type("#edit-description-dialog-description", "sells things")
        cockpit.apply("#edit-description-dialog-confirm")
        eventually("the description is there", lambda: "<description>sells things</description>" in vm.xml())


def devices(cockpit):
    """Devices that come and go, of a VM that is shut off."""
    vm, page, step = Machine(cockpit, NAME), cockpit.page, cockpit.step
    pool = "default-pool" if cockpit.kind == "mock" else "images"
    with step("a new disk, with a new volume"):
        vm.open()
        vm.click("disks-adddisk")
        page.select(f"{vm.part}-disks-adddisk-new-select-pool", pool)
        page.type(f"{vm.part}-disks-adddisk-new-name", "second.qcow2")
        page.type(f"{vm.part}-disks-adddisk-new-size", "16")
        page.select(f"{vm.part}-disks-adddisk-new-unit", "MiB")
        cockpit.apply(f"{vm.part}-disks-adddisk-dialog-add")
        page.wait_for(f"{vm.part}-disks-vdb-bus")
        assert "second.qcow2" in cockpit.virsh("vol-list", pool)
        assert "second.qcow2" in vm.xml()
    with step("the disk is removed and its volume deleted"):
        page.click(f"{vm.part}-disks-vdb-action-kebab")
        page.click(f"#delete-{vm.part[1:]}-disks-vdb")
        cockpit.apply("#delete-resource-modal-secondary")
        page.wait_gone(f"{vm.part}-disks-vdb-bus")
        assert "second.qcow2" not in cockpit.virsh("vol-list", pool) and "second.qcow2" not in vm.xml()
    with step("a second network interface"):
        vm.click("add-iface-button")
        page.select(f"{vm.part}-add-iface-source", "default")
        page.click(f"{vm.part}-add-iface-set-mac")
        page.type(f"{vm.part}-add-iface-mac", "52:54:00:c0:c4:02")
        cockpit.apply(f"{vm.part}-add-iface-add")
        vm.says("network-2-mac", "52:54:00:c0:c4:02")
    with step("the interface is removed"):
        page.click(f"{vm.part}-iface-2-action-kebab")
        page.click(f"#delete-{vm.part[1:]}-iface-2")
        cockpit.apply("#delete-resource-modal-primary")
        page.wait_gone(f"{vm.part}-network-2-mac")
        assert "52:54:00:c0:c4:02" not in vm.xml()
    with step("a watchdog"):
        vm.click("watchdog-button")
        page.click("#reset")
        cockpit.apply("#watchdog-dialog-apply")
        vm.says("watchdog-state", "Reset")
        assert "<watchdog " in vm.xml()


def snapshots(cockpit):
    vm, page, step = Machine(cockpit, NAME), cockpit.page, cockpit.step
    with step("a snapshot"):
        vm.open()
        vm.click("add-snapshot-button")
        page.type("#snapshot-create-dialog-name", "before")
        page.type("#snapshot-create-dialog-description", "before the change")
        cockpit.apply()
        vm.says("snapshot-0-name", "before")
        vm.says("snapshot-0-description", "before the change")
        assert cockpit.virsh("snapshot-list", NAME, "--name").split() == ["before"]
    with step("back to the snapshot"):
        page.click(f"{vm.part}-snapshot-0-revert")
        cockpit.apply()
        vm.is_in("Shut off")
    with step("the snapshot is deleted"):
        page.click(f"#delete-{vm.part[1:]}-snapshot-0")
        cockpit.apply("#delete-resource-modal-primary")
        page.wait_gone(f"{vm.part}-snapshot-0-name")
        assert not cockpit.virsh("snapshot-list", NAME, "--name")


def new_ones(cockpit):
    """VMs that the page makes with virt-install and virt-clone, which reach the daemon by libvirt's own protocol."""
    page, step = cockpit.page, cockpit.step
    image, disc = os.path.join(cockpit.state, "images", "old.qcow2"), os.path.join(cockpit.state, "disc.iso")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "16M"], check=True)
    with open(disc, "wb") as file:
        file.truncate(1 << 20)

    def fill_in(name, memory):
        page.type("#vm-name", name)
        cockpit.choose("#os-select-group", "Debian 11")
        page.select("#memory-size-unit-select", "MiB")
        page.type("#memory-size", memory)

    with step("a VM is imported from a disk image"):
        cockpit.go()
        page.click("#import-existing-vm")
        cockpit.choose("#source-disk-group", image)
        fill_in("stall", "128")
        cockpit.apply("#create-and-run")
        stall = Machine(cockpit, "stall")
        stall.is_in("Running")
        stall.open()
        stall.says("memory-count", "128 MiB")
        stall.says("disks-vda-source-file", "old.qcow2")
    with step("a VM is cloned"):
        stall.confirmed("forceOff")
        stall.is_in("Shut off")
        stall.menu("clone")
        cockpit.apply()
        clone = Machine(cockpit, "stall-clone")
        cockpit.go()
        clone.is_in("Shut off")
        clone.open()
        clone.says("disks-vda-source-file", "old-clone.qcow2")
    with step("a VM is created from an installation disc, with a new volume"):
        cockpit.go()
        page.click("#create-new-vm")
        page.select("#source-type", "file")
        cockpit.choose("#source-file-group", disc)
        fill_in("kiosk", "192")
        page.select("#storage-limit-unit-select", "MiB")
        page.type("#storage-limit", "32")
        cockpit.apply("#create-and-run")
        kiosk = Machine(cockpit, "kiosk")
        kiosk.is_in("Running")
        kiosk.open()
        kiosk.says("memory-count", "192 MiB")
        assert "kiosk.qcow2" in cockpit.virsh("vol-list", "default")
    with step("the installation ends when the VM is forced off"):
        kiosk.confirmed("forceOff")
        kiosk.is_in("Shut off")
        # virt-install looks once a second, and fails when the VM is gone before it saw it stop.
        eventually("virt-install has ended", lambda: subprocess.run(
            ["pgrep", "-f", "/virt-install"], stdout=subprocess.DEVNULL, check=False).returncode == 1)
    for name in ("kiosk", "stall", "stall-clone"):
        with step(f"{name} is deleted"):
            delete(cockpit, Machine(cockpit, name))


def delete(cockpit, vm):
    vm.open()
    vm.menu("delete")
    cockpit.apply()
    cockpit.page.wait_for("#virtual-machines-listing")
    cockpit.page.wait_gone(f"{vm.head}-state")
    assert vm.name not in cockpit.virsh("list", "--all", "--name").split()


def end(cockpit):
    vm, page = Machine(cockpit, NAME), cockpit.page
    with cockpit.step("the running VM is deleted with its disk"):
        vm.open()
        page.click(f"{vm.head}-run")
        vm.is_in("Running")
        delete(cockpit, vm)
        if cockpit.kind == "qemu":
            assert not os.path.exists(os.path.join(cockpit.state, "images", "shop.qcow2")), "the image is still there"
