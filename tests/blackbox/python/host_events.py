"""Events of networks, pools, secrets and node devices as libvirt-python hears them, a line for each."""
import sys
import threading

import libvirt

uri, stop = sys.argv[1], sys.stdin
libvirt.virEventRegisterDefaultImpl()


def loop():
    while True:
        libvirt.virEventRunDefaultImpl()


def say(*words):
    print(*words, flush=True)


threading.Thread(target=loop, daemon=True).start()
conn = libvirt.open(uri)
conn.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE,
                             lambda c, n, event, detail, o: say("network", n.UUIDString(), event), None)
conn.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE,
                                 lambda c, p, event, detail, o: say("pool", p.UUIDString(), event), None)
conn.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH,
                                 lambda c, p, o: say("pool", p.UUIDString(), "refresh"), None)
conn.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_LIFECYCLE,
                            lambda c, s, event, detail, o: say("secret", s.UUIDString(), event), None)
conn.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_VALUE_CHANGED,
                            lambda c, s, o: say("secret", s.UUIDString(), "value"), None)
conn.nodeDeviceEventRegisterAny(None, libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE,
                                lambda c, d, event, detail, o: say("device", d.name(), event), None)
say("listening")
stop.readline()
