"""The calls that other tools make, in their order: what virt-manager asks when it connects, shows and polls, and what the
terraform provider (go-libvirt) does from an empty host to a running domain and back. Facts of the tools, not their code."""
import os
import sys
import threading

import libvirt

who, uri, work = sys.argv[1:4]
libvirt.registerErrorHandler(lambda context, error: None, None)


def code(call, *arguments):
    """The code of the error that a call must end with."""
    try:
        call(*arguments)
    except libvirt.libvirtError as error:
        return error.get_error_code()
    raise SystemExit("%s%s succeeded" % (call, arguments))


def domain_xml(name, disk):
    os_type = "<os><type arch='x86_64'>hvm</type></os>"
    return """<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>%s<devices>
      <disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='pool' volume='%s'/>
        <target dev='vda' bus='virtio'/></disk>
      <console type='pty'/><graphics type='vnc' autoport='yes'/></devices></domain>""" % (name, os_type, disk)


def terraform():
    conn = libvirt.open(uri)
    conn.getLibVersion()
    assert "<capabilities>" in conn.getCapabilities()
    assert "<domainCapabilities>" in conn.getDomainCapabilities(None, None, None, None)

    # A pool: looked for, defined, built, started.
    assert code(conn.storagePoolLookupByName, "pool") == libvirt.VIR_ERR_NO_STORAGE_POOL
    xml = "<pool type='dir'><name>pool</name><target><path>%s/pool</path></target></pool>" % work
    pool = conn.storagePoolDefineXML(xml)
    pool.build(0)
    pool.setAutostart(1)
    pool.create(0)
    pool.refresh(0)
    assert conn.storagePoolLookupByUUIDString(pool.UUIDString()).name() == "pool"
    assert pool.info()[0] == libvirt.VIR_STORAGE_POOL_RUNNING and "<path>" in pool.XMLDesc(0)

    # A base image that is uploaded, and a volume over it; volumes are known by their keys from then on.
    size = 1 << 20
    volume_xml = "<volume><name>%s</name><capacity unit='B'>%d</capacity><target><format type='%s'/></target>%s</volume>"
    base = pool.createXML(volume_xml % ("base", size, "raw", ""), 0)
    assert code(pool.createXML, volume_xml % ("base", size, "raw", ""), 0) == libvirt.VIR_ERR_STORAGE_VOL_EXIST
    stream = conn.newStream(0)
    base.upload(stream, 0, size, 0)
    left = bytearray(b"t" * size)
    stream.sendAll(lambda stream, count, opaque: take(left, count), None)
    stream.finish()
    base = conn.storageVolLookupByKey(base.key())
    assert base.info()[1] == size and base.storagePoolLookupByVolume().name() == "pool"
    backing = "<backingStore><path>%s</path><format type='raw'/></backingStore>" % base.path()
    disk = pool.createXML(volume_xml % ("disk", size * 2, "qcow2", backing), 0)
    assert "backingStore" in disk.XMLDesc(0) and conn.storageVolLookupByPath(disk.path()).key() == disk.key()

    # A network: hosts come and go while it runs.
    assert code(conn.networkLookupByName, "net") == libvirt.VIR_ERR_NO_NETWORK
    network = conn.networkDefineXML(
        "<network><name>net</name><bridge name='tfbr0'/><dns enable='yes'/><ip address='198.51.100.1' prefix='24'/></network>")
    network.setAutostart(1)
    assert network.isActive() == 0 and network.bridgeName() == "tfbr0"
    host = "<host ip='198.51.100.7'><hostname>seven</hostname></host>"
    flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
    add, delete = libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE
    network.update(add, libvirt.VIR_NETWORK_SECTION_DNS_HOST, -1, host, flags)
    assert "seven" in network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    network.update(delete, libvirt.VIR_NETWORK_SECTION_DNS_HOST, -1, host, flags)

    # A domain: defined, started, watched, found again, ended.
    assert code(conn.lookupByUUIDString, "2fbd1d85-719f-4be8-aeb4-3a0d2fea9aff") == libvirt.VIR_ERR_NO_DOMAIN
    domain = conn.defineXML(domain_xml("vm", "disk"))
    domain.setAutostart(1)
    domain.create()
    domain = conn.lookupByUUIDString(domain.UUIDString())
    assert domain.state(0)[0] == libvirt.VIR_DOMAIN_RUNNING and domain.autostart() == 1
    assert "<disk " in domain.XMLDesc(0)
    assert domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, 0) == {}
    assert code(domain.create) == libvirt.VIR_ERR_OPERATION_INVALID
    domain.destroy()
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                         | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
    assert code(domain.state, 0) == libvirt.VIR_ERR_NO_DOMAIN

    network.undefine()
    pool.refresh(0)
    for volume in (disk, base):
        volume.delete(0)
    assert code(conn.storageVolLookupByKey, base.key()) == libvirt.VIR_ERR_NO_STORAGE_VOL
    pool.destroy()
    pool.delete(0)
    pool.undefine()
    assert code(conn.storagePoolLookupByName, "pool") == libvirt.VIR_ERR_NO_STORAGE_POOL
    assert conn.isAlive() == 1
    conn.close()


def take(left, count):
    part = bytes(left[:count])
    del left[:count]
    return part


def virt_manager():
    libvirt.virEventRegisterDefaultImpl()
    running = [True]

    def pump():
        while running[0]:
            libvirt.virEventRunDefaultImpl()

    libvirt.virEventAddTimeout(100, lambda *arguments: None, None)
    threading.Thread(target=pump, daemon=True).start()

    # Connecting. An interactive client offers to answer questions; none is asked.
    asked = []
    kinds = [libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE]
    conn = libvirt.openAuth(uri, [kinds, lambda credentials, opaque: asked.append(credentials) or -1, None], 0)
    assert not asked
    conn.setKeepAlive(20, 1)
    conn.getURI(), conn.getVersion(), conn.getLibVersion(), conn.getHostname(), conn.getType(), conn.getInfo()
    conn.isSecure(), conn.isEncrypted()
    assert "<host>" in conn.getCapabilities()
    heard = []
    seen = threading.Condition()

    def note(*arguments):
        with seen:
            heard.append(arguments)
            seen.notify_all()

    events = [
        "LIFECYCLE", "BALLOON_CHANGE", "TRAY_CHANGE", "DEVICE_REMOVED", "DEVICE_ADDED", "AGENT_LIFECYCLE", "DISK_CHANGE",
        "PMSUSPEND", "PMWAKEUP", "TUNABLE", "WATCHDOG", "IO_ERROR", "GRAPHICS", "RTC_CHANGE", "CONTROL_ERROR", "REBOOT",
    ]
    callbacks = [
        conn.domainEventRegisterAny(None, getattr(libvirt, "VIR_DOMAIN_EVENT_ID_" + event), note, event) for event in events]
    networks = conn.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, note, "network")
    pools = [conn.storagePoolEventRegisterAny(None, event, note, "pool") for event in (
        libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH)]
    devices = [conn.nodeDeviceEventRegisterAny(None, event, note, "device") for event in (
        libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, libvirt.VIR_NODE_DEVICE_EVENT_ID_UPDATE)]
    conn.registerCloseCallback(note, "close")

    # What is there: everything is listed, and each is described.
    conn.listAllDomains()
    for network in conn.listAllNetworks():
        network.XMLDesc(0), network.isActive(), network.autostart(), network.isPersistent()
        network.DHCPLeases() if network.isActive() else None
    for pool in conn.listAllStoragePools():
        pool.XMLDesc(0), pool.info(), pool.autostart(), pool.isActive()
    for device in conn.listAllDevices():
        device.XMLDesc(0), device.name(), device.parent()
    for interface in conn.listAllInterfaces():
        interface.XMLDesc(0), interface.isActive(), interface.MACString()
    conn.getDomainCapabilities(None, "x86_64", None, "qemu", 0)
    conn.getCPUModelNames("x86_64", 0)

    # A new machine, as its assistant makes one: started once for the installation, then kept.
    pool = conn.storagePoolCreateXML("<pool type='dir'><name>pool</name><target><path>%s</path></target></pool>" % work, 0)
    volume = pool.createXML(
        "<volume><name>disk</name><capacity>1048576</capacity><target><format type='qcow2'/></target></volume>", 0)
    xml = domain_xml("vm", "disk")
    domain = conn.createXML(xml, 0)
    assert domain.isPersistent() == 0
    assert conn.defineXML(xml.replace("<memory", "<uuid>%s</uuid><memory" % domain.UUIDString())).isPersistent() == 1
    with seen:
        assert seen.wait_for(lambda: any(one[-1] == "LIFECYCLE" and one[2] == 2 for one in heard), 60), heard

    # Its window: definitions, state, and each second the statistics.
    domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    domain.info(), domain.state(), domain.isActive(), domain.autostart(), domain.hasManagedSaveImage(0), domain.OSType()
    assert domain.listAllSnapshots() == []
    domain.jobInfo(), domain.maxMemory(), domain.maxVcpus(), domain.securityLabel(), domain.controlInfo()
    domain.setMemoryStatsPeriod(5, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    groups = (libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL | libvirt.VIR_DOMAIN_STATS_VCPU
              | libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_BLOCK | libvirt.VIR_DOMAIN_STATS_INTERFACE)
    for _ in range(3):
        ((same, stats),) = conn.getAllDomainStats(groups, 0)
        assert same.UUIDString() == domain.UUIDString() and stats["state.state"] == 1 and "cpu.time" in stats, stats
        domain.memoryStats()
        conn.getMemoryStats(-1, 0), conn.getCPUStats(-1, 0)
    # Its settings, applied and put back; a title for the list.
    conn.defineXML(inactive)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "the machine", None, None,
                       libvirt.VIR_DOMAIN_AFFECT_CONFIG | libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert domain.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None) == "the machine"
    domain.setAutostart(1), domain.setAutostart(0)
    # Its buttons.
    domain.suspend(), domain.resume(), domain.reboot(0)
    screen = conn.newStream(0)
    assert domain.screenshot(screen, 0, 0).startswith("image/")
    assert screen.recv(2) == b"P6"
    screen.abort()
    console = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
    domain.openConsole(None, console, 0)
    console.abort()
    display = domain.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
    assert os.read(display, 4) == b"RFB "
    os.close(display)
    domain.destroy()
    domain.rename("vm2", 0)
    assert conn.lookupByName("vm2").UUIDString() == domain.UUIDString()
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
    volume.delete(0)
    pool.destroy()

    # Going.
    for callback in callbacks:
        conn.domainEventDeregisterAny(callback)
    conn.networkEventDeregisterAny(networks)
    [conn.storagePoolEventDeregisterAny(callback) for callback in pools]
    [conn.nodeDeviceEventDeregisterAny(callback) for callback in devices]
    conn.unregisterCloseCallback()
    running[0] = False
    conn.close()


{"terraform": terraform, "virt-manager": virt_manager}[who]()
print("ok")
