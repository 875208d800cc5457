"""Typed parameters there and back, the structures libvirt-python makes of answers, and many threads."""
import sys
import threading

import libvirt

uri, xml = sys.argv[1], open(sys.argv[2]).read()
libvirt.registerErrorHandler(lambda context, error: None, None)
conn = libvirt.open(uri)
dom = conn.defineXML(xml)
dom.create()


def refused(code, call, *arguments):
    try:
        call(*arguments)
    except libvirt.libvirtError as error:
        assert error.get_error_code() == code, (error.get_error_code(), str(error))
        return
    raise SystemExit("%s succeeded" % call)


# Typed parameters of every type that there is.
assert dom.setBlockIoTune("vda", {"total_bytes_sec": 5000, "group_name": "g"}, libvirt.VIR_DOMAIN_AFFECT_CONFIG) == 0
tune = dom.blockIoTune("vda", libvirt.VIR_DOMAIN_AFFECT_CONFIG)
assert (tune["total_bytes_sec"], tune["group_name"], tune["read_iops_sec"]) == (5000, "g", 0), tune
refused(libvirt.VIR_ERR_INVALID_ARG, dom.setBlockIoTune, "vdz", {"total_bytes_sec": 1})
dom.setMemoryParameters({"hard_limit": 70000}, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
assert dom.memoryParameters(libvirt.VIR_DOMAIN_AFFECT_CONFIG)["hard_limit"] == 70000
for _, stats in conn.getAllDomainStats():
    assert stats["state.state"] == 1 and stats["balloon.maximum"] == 8192, stats
assert conn.getMemoryParameters() is not None

# Structures.
info = dom.guestInfo()
assert info["os.id"] == "test" and info["user.0.login-time"] == 1500, info
assert [(fs[0], fs[2]) for fs in dom.fsInfo()] == [("/", "ext4"), ("/boot", "ext4")], dom.fsInfo()
assert dom.setTime({"seconds": 5, "nseconds": 6}) == 0
assert 5 <= dom.getTime()["seconds"] < 1000
assert (dom.fsFreeze(), dom.fsThaw()) == (2, 2)
assert dom.guestVcpus() == {"vcpus": "0", "online": "0", "offlinable": ""}, dom.guestVcpus()
assert "lo" in dom.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
assert dom.jobStats() == {} or dom.jobStats()["type"] == 0, dom.jobStats()
assert dom.jobInfo()[0] == 0
assert dom.blockPeek("vda", 2, 5) == b"musdo", dom.blockPeek("vda", 2, 5)
refused(libvirt.VIR_ERR_NO_SUPPORT, dom.memoryPeek, 0, 8, libvirt.VIR_MEMORY_VIRTUAL)
assert dom.info()[0] == libvirt.VIR_DOMAIN_RUNNING and dom.isPersistent()
refused(libvirt.VIR_ERR_NO_DOMAIN, conn.lookupByName, "nobody")

# One connection, many threads: each gets the answer to its own question.
for number in range(8):
    conn.defineXML(xml.replace("one", "t%d" % number))
failures = []


def work(number):
    try:
        own = libvirt.open(uri)
        for round in range(60):
            for connection in (conn, own):
                name = "t%d" % ((number + round) % 8)
                found = connection.lookupByName(name)
                assert found.name() == name and ">%s<" % name in found.XMLDesc(), name
                refused(libvirt.VIR_ERR_NO_DOMAIN, connection.lookupByName, "x%d" % number)
        own.close()
    except BaseException as error:
        failures.append(repr(error))


threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
for number in range(8):
    conn.lookupByName("t%d" % number).undefine()
dom.destroy()
dom.undefine()
print("ok")
