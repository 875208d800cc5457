#!/usr/bin/env bash
# OpenStack Nova's own libvirt driver, from PyPI and unmodified, against domusd: once with QEMU guests, once with
# containers (tests/nova/drive.py has the steps). Downloads Nova the first time, so it is no part of `make test`.
#
#   scripts/nova.sh [qemu|lxc]...
#
# DOMUS_BIN names a directory with built binaries; without it they are built. NOVA_VERSION names a release; the newest
# when empty. Everything runs in network and mount namespaces of its own and is gone afterwards.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
cd "$here/.."
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C.UTF-8
[ "$(id -u)" = 0 ] || die "this needs root: it starts a daemon, guests and bridges"

if [ -z "${DOMUS_NOVA_INSIDE:-}" ]; then
    "$here/setup.sh"
    if [ -z "${DOMUS_BIN:-}" ]; then
        cargo build --locked --bins
        DOMUS_BIN=$PWD/target/debug
    fi
    have python3 losetup mkfs.ext4 || die "python3, util-linux and e2fsprogs are needed"
    /usr/bin/python3 -c 'import libvirt, venv' 2>/dev/null ||
        apt-get -qq install -y --no-install-recommends python3-libvirt python3-venv >/dev/null
    venv=$(cache_dir)/nova-${NOVA_VERSION:-newest}
    if [ ! -e "$venv/complete" ]; then
        note "installing Nova ${NOVA_VERSION:-} from PyPI"
        rm -rf "$venv"
        /usr/bin/python3 -m venv "$venv"
        # Debian's binding alone: its other modules are too old for Nova.
        /usr/bin/python3 -c 'import libvirt, os; print(os.path.dirname(libvirt.__file__))' | while read -r dir; do
            ln -s "$dir"/libvirt*.py "$dir"/libvirtmod*.so "$venv"/lib/python3*/site-packages/
        done
        "$venv/bin/pip" -q install "nova${NOVA_VERSION:+==$NOVA_VERSION}"
        touch "$venv/complete"
    fi
    export DOMUS_BIN DOMUS_NOVA_INSIDE=$venv
    exec unshare --net --mount --propagation private "$0" "$@"
fi

venv=$DOMUS_NOVA_INSIDE
guest=$("$here/guest-image.sh")
work=$(mktemp -d /var/tmp/domus-nova.XXXXXX)
chmod 755 "$work"
daemon=''
finish() {
    status=$?
    trap '' INT TERM
    if [ -n "$daemon" ]; then
        for kind in qemu lxc; do
            "$DOMUS_BIN/domus" -q --root "$work/root" -c $kind list --name 2>/dev/null |
                while read -r name; do [ -z "$name" ] || "$DOMUS_BIN/domus" -q --root "$work/root" -c $kind destroy "$name"; done || true
        done
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    [ $status = 0 ] || { printf -- '-- end of the daemon'\''s log\n' >&2; tail -n 20 "$work/domusd.log" >&2; }
    awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/mounts | sort -r |
        while read -r mount; do umount -l "$mount"; done
    losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v work="$work/" 'index($2, work) == 1 { print $1 }' |
        while read -r loop; do losetup -d "$loop"; done
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

ip link set lo up
mkdir -p "$work/guest"
cp "$guest/kernel" "$guest/initrd" "$work/guest/"
cp --sparse=always "$guest/base.raw" "$work/guest/image.qemu"

# A root file system for containers, as an image service has it.
tree=$work/tree
mkdir -p "$tree"/{bin,sbin,dev,proc,sys,etc,run,tmp}
cp /bin/busybox "$tree/bin/"
for name in sh sleep echo cat; do ln -s busybox "$tree/bin/$name"; done
cat >"$tree/sbin/init" <<'EOS'
#!/bin/sh
echo "domus-guest: ready in a container"
while :; do sleep 1000; done
EOS
chmod 755 "$tree/sbin/init"
truncate -s 32M "$work/guest/image.lxc"
mkfs.ext4 -q -F -d "$tree" "$work/guest/image.lxc"

setsid "$DOMUS_BIN/domusd" --root "$work/root" >"$work/domusd.log" 2>&1 &
daemon=$!
for _ in $(seq 500); do
    [ -S "$work/root/run/libvirt-sock" ] && break
    kill -0 "$daemon" 2>/dev/null || die "the daemon ended"
    sleep 0.02
done

failed=0
[ $# -gt 0 ] || set -- qemu lxc
for kind in "$@"; do
    ln -sf "image.$kind" "$work/guest/image"
    mkdir -p "$work/$kind/instances" "$work/$kind/locks"
    say "Nova $("$venv/bin/python" -c 'from importlib.metadata import version; print(version("nova"))'), virt_type=$kind"
    "$venv/bin/python" tests/nova/drive.py "$kind:///system?socket=$work/root/run/libvirt-sock" "$kind" \
        "$work/$kind" "$work/guest" 2>"$work/$kind.log" || { failed=1; tail -n 60 "$work/$kind.log" >&2; }
    left=$(ip -o link show | grep -o 'tapnova0\|qbr[0-9a-f-]*\|veth[0-9a-f-]*' | sort -u | paste -sd' ' || true)
    [ -z "$left" ] || { say "left behind: $left"; failed=1; }
done
exit $failed
