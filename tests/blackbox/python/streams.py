"""Volumes up and down, with holes, given up half way; a console both ways."""
import os
import socket
import sys
import time

import libvirt

what, uri, place = sys.argv[1:4]
libvirt.registerErrorHandler(lambda context, error: None, None)
conn = libvirt.open(uri)


def volumes():
    pool = conn.storagePoolLookupByName("p")
    size = 3 * 1024 * 1024 + 5
    data = os.urandom(size)
    xml = "<volume><name>%s</name><capacity>%d</capacity><target><format type='raw'/></target></volume>"
    volume = pool.createXML(xml % ("v", size))
    stream = conn.newStream()
    volume.upload(stream, 0, size, 0)
    sent = 0
    while sent < size:
        sent += stream.send(data[sent:sent + 200_000])
    stream.finish()
    back = bytearray()
    stream = conn.newStream()
    volume.download(stream, 0, 0, 0)
    stream.recvAll(lambda stream, part, opaque: back.extend(part) and None, None)
    stream.finish()
    assert bytes(back) == data, (len(back), size)

    # Holes stay holes.
    source = os.open(os.path.join(place, "sparse"), os.O_RDWR | os.O_CREAT)
    os.ftruncate(source, 8 << 20)
    os.pwrite(source, b"end", (8 << 20) - 3)
    sparse = pool.createXML((xml % ("s", 8 << 20)).replace("<target>", "<allocation>0</allocation><target>"))
    stream = conn.newStream()
    sparse.upload(stream, 0, 8 << 20, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)

    def hole(stream, opaque):
        at = os.lseek(source, 0, os.SEEK_CUR)
        end = os.lseek(source, 0, os.SEEK_END)
        try:
            data = os.lseek(source, at, os.SEEK_DATA)
        except OSError:
            data = end
        if data > at or at == end:
            found = (False, data - at)
        else:
            found = (True, os.lseek(source, at, os.SEEK_HOLE) - at)
        os.lseek(source, at, os.SEEK_SET)
        return found

    stream.sparseSendAll(lambda s, count, o: os.read(source, count), hole,
                         lambda s, length, o: os.lseek(source, length, os.SEEK_CUR), None)
    stream.finish()
    got, holes = bytearray(), []
    stream = conn.newStream()
    sparse.download(stream, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
    stream.sparseRecvAll(lambda s, part, o: got.extend(part) and None,
                         lambda s, length, o: holes.append(length), None)
    stream.finish()
    assert got.endswith(b"end") and len(got) + sum(holes) == 8 << 20 and sum(holes) > 4 << 20, (len(got), holes)

    # Given up by the one side, then by the other.
    stream = conn.newStream()
    volume.download(stream, 0, 0, 0)
    stream.recv(1000)
    stream.abort()
    while True:
        # As in libvirt, the end of what was given up is not waited for.
        stream = conn.newStream()
        try:
            volume.upload(stream, 0, 10, 0)
            break
        except libvirt.libvirtError as error:
            if "still in use" not in str(error):
                raise
            time.sleep(0.01)
    try:
        stream.send(b"x" * 5000)
        stream.finish()
        raise SystemExit("more than was announced")
    except libvirt.libvirtError as error:
        assert "announced" in str(error), error
    assert pool.isActive()


def console():
    dom = conn.lookupByName(place)
    stream = conn.newStream()
    dom.openConsole(None, stream, 0)
    try:
        conn.lookupByName(place).openConsole(None, conn.newStream(), libvirt.VIR_DOMAIN_CONSOLE_SAFE)
        raise SystemExit("two at once")
    except libvirt.libvirtError as error:
        assert "Active console session" in str(error), error
    stream.send(b"echo typed-$((40 + 2))\n")
    shown = b""
    while b"typed-42" not in shown:
        shown += stream.recv(4096)
    # A second one may take it over; the first one ends.
    second = conn.newStream()
    dom.openConsole(None, second, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    second.send(b"echo again-$((40 + 3))\n")
    shown = b""
    while b"again-43" not in shown:
        shown += second.recv(4096)
    second.finish()


def channel():
    dom = conn.lookupByName(place)
    stream = conn.newStream()
    dom.openChannel("org.example.0", stream, 0)
    try:
        dom.openChannel(None, conn.newStream(), 0)
        raise SystemExit("two at once")
    except libvirt.libvirtError as error:
        assert "Active console session" in str(error), error
    second = conn.newStream()
    dom.openChannel(None, second, libvirt.VIR_DOMAIN_CHANNEL_FORCE)
    # Nobody in the guest reads it, but QEMU takes it.
    assert second.send(b"hello") == 5
    second.finish()
    # A display's own greeting comes over a descriptor that libvirt passed.
    screen = dom.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
    assert os.read(screen, 12).startswith(b"RFB 003."), "a VNC server"
    os.close(screen)
    ours, theirs = socket.socketpair()
    dom.openGraphics(0, theirs.fileno(), libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
    theirs.close()
    assert ours.recv(12).startswith(b"RFB 003."), "the same over a socket of ours"
    memory = dom.memoryPeek(0xFFFF0, 16, libvirt.VIR_MEMORY_PHYSICAL)
    assert len(memory) == 16 and any(memory), "where a PC begins"
    try:
        dom.openGraphicsFD(7, 0)
        raise SystemExit("a display that is not there")
    except libvirt.libvirtError as error:
        assert "No graphics backend with index 7" in str(error), error
    try:
        dom.openChannel("org.example.1", conn.newStream(), 0)
        raise SystemExit("a channel that is not there")
    except libvirt.libvirtError as error:
        assert "cannot find channel org.example.1" in str(error), error


def die():
    """Leaves in the middle of everything."""
    pool = conn.storagePoolLookupByName("p")
    volume = pool.storageVolLookupByName("v")
    up, down = conn.newStream(), conn.newStream()
    volume.download(down, 0, 0, 0)
    down.recv(1000)
    other = pool.createXML("<volume><name>w</name><capacity>1048576</capacity></volume>")
    other.upload(up, 0, 1 << 20, 0)
    up.send(b"x" * 100_000)
    print("ok", flush=True)
    os.kill(os.getpid(), 9)


{"volumes": volumes, "console": console, "channel": channel, "die": die}[what]()
print("ok")
