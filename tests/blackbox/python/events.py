"""Every kind of event, the close callback, keepalive: libvirt-python's event loop in a thread, calls in another."""
import sys
import threading
import time

import libvirt

uri, xml, stop = sys.argv[1], open(sys.argv[2]).read(), sys.stdin
libvirt.registerErrorHandler(lambda context, error: None, None)
libvirt.virEventRegisterDefaultImpl()


def loop():
    while True:
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=loop, daemon=True).start()
conn = libvirt.open(uri)
conn.setKeepAlive(1, 3)
seen, closed, ready = [], [], threading.Condition()


def note(what):
    with ready:
        seen.append(what)
        ready.notify_all()


def wait(what):
    with ready:
        assert ready.wait_for(lambda: what in seen, 60), (what, seen)


closes = threading.Event()
conn.registerCloseCallback(lambda conn, reason, opaque: (closed.append(reason), closes.set()), None)
callbacks = [
    conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                lambda c, d, event, detail, o: note(("life", d.name(), event, detail)), None),
    conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                                lambda c, d, kind, uri, o: note(("metadata", d.name(), kind, uri)), None),
    conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_TUNABLE,
                                lambda c, d, params, o: note(("tunable", d.name(), tuple(sorted(params.items())))), None),
    conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
                                lambda c, d, o: note(("reboot", d.name())), None),
]
conn.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE,
                             lambda c, n, event, detail, o: note(("network", n.name(), event)), None)
conn.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE,
                                 lambda c, p, event, detail, o: note(("pool", p.name(), event)), None)
conn.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_LIFECYCLE,
                            lambda c, s, event, detail, o: note(("secret", s.usageID(), event)), None)

dom = conn.defineXML(xml)
# Of one domain alone; the other one's are not for this callback.
one = conn.domainEventRegisterAny(dom, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                  lambda c, d, event, detail, o: note(("only", d.name(), event)), None)
other = conn.defineXML(xml.replace("one", "two"))
dom.create()
dom.suspend()
dom.resume()
dom.reboot()
dom.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "t", None, None, 0)
dom.setBlockIoTune("vda", {"total_iops_sec": 300})
dom.destroy()
dom.undefine()
for event in [("life", "one", 0, 0), ("life", "two", 0, 0), ("life", "one", 2, 0), ("life", "one", 3, 0),
              ("life", "one", 4, 0), ("reboot", "one"), ("metadata", "one", 1, None), ("life", "one", 5, 1),
              ("life", "one", 1, 0), ("only", "one", 1)]:
    wait(event)
tunable = [what for what in seen if what[0] == "tunable"]
assert tunable and ("blkdeviotune.total_iops_sec", 300) in tunable[0][2], tunable
lives = [what[2] for what in seen if what[0] == "life" and what[1] == "one"]
assert lives == [0, 2, 3, 4, 5, 1], lives
only = [what[1:] for what in seen if what[0] == "only"]
assert only == [("one", event) for event in (2, 3, 4, 5, 1)], only

net = conn.networkDefineXML("<network><name>n</name></network>")
net.undefine()
pool = conn.storagePoolDefineXML("<pool type='dir'><name>p</name><target><path>/nonexistent</path></target></pool>")
pool.undefine()
secret = conn.secretDefineXML("<secret><usage type='ceph'><name>s</name></usage></secret>")
secret.undefine()
for event in [("network", "n", 0), ("network", "n", 1), ("pool", "p", 0), ("pool", "p", 1), ("secret", "s", 0),
              ("secret", "s", 1)]:
    wait(event)

for number in callbacks + [one]:
    conn.domainEventDeregisterAny(number)
before = len(seen)
other.create()
other.destroy()
other.undefine()
# What is asked after them is answered after them: nothing can be on its way any more.
assert conn.isAlive() and conn.listAllDomains() == []
assert len(seen) == before, seen[before:]
for unknown in (77,):
    try:
        conn.domainEventRegisterAny(None, unknown, lambda *a: None, None)
        raise SystemExit("an event that does not exist")
    except libvirt.libvirtError:
        pass
print("listening", flush=True)
stop.readline()
# The daemon was ended meanwhile: whoever asked is told.
assert closes.wait(60) and closed[0] in (libvirt.VIR_CONNECT_CLOSE_REASON_EOF, libvirt.VIR_CONNECT_CLOSE_REASON_ERROR), closed
print("ok")
