#!/usr/bin/env bash
# The whole way once: Nova's domain XML in, a running VM out, over D-Bus; then a container on the same bridge.
#
# Everything happens in a directory and in a network namespace of its own, so nothing on this machine changes except
# for packages that are installed when they are missing. All of it is gone when the script ends, however it ends.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
cd "$here/.."
export PATH="$PATH:/usr/sbin:/sbin"

# ---- outside: what is needed, then again inside a network and a mount namespace ---------------------------------------

if [ "${1:-}" != --inside ]; then
    [ "$(id -u)" = 0 ] || die "the demo needs root: it makes a network namespace, a bridge and a tap"
    "$here/setup.sh"
    guest=$("$here/guest-image.sh")
    cargo build --release --locked
    exec unshare --net --mount -- "${BASH_SOURCE[0]}" --inside "$guest" "$PWD/target/release"
fi
guest=$2 bin=$3
unset DOMUS_ROOT

bold='' dim='' green='' off=''
if [ -t 1 ]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' off=$'\e[0m'
fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$off"; }
show() { # COMMAND...: print it as typed, then its output
    printf '%s$ domus %s%s\n' "$green" "$*" "$off"
    "$bin/domus" --root "$root" "$@"
}
ms_since() { # START END (microseconds, from $EPOCHREALTIME without its dot)
    printf '%d.%d ms' $((($2 - $1) / 1000)) $((($2 - $1) / 100 % 10))
}
now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

work=$(mktemp -d /tmp/domus-demo.XXXXXX)
chmod 755 "$work"
root=$work/root
daemon=''
finish() {
    status=$?
    trap '' INT TERM
    if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
        for guest in "$name" "${container:-}"; do
            [ -z "$guest" ] || "$bin/domus" --root "$root" destroy "$guest" >/dev/null 2>&1 || true
        done
        "$bin/domus" --root "$root" undefine "$name" >/dev/null 2>&1 || true
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    if [ $status != 0 ] && [ $status != 130 ] && [ -e "$work/domusd.log" ]; then
        printf '\n-- the last lines of the daemon'\''s log\n' >&2
        tail -n 30 "$work/domusd.log" >&2
        find "$root/log" -type f 2>/dev/null | while read -r file; do
            printf -- '-- %s\n' "$file" >&2
            tail -n 10 "$file" >&2
        done
    fi
    # A guest that destroy could not reach would hold this directory in its arguments.
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        if [ "$pid" != $$ ] && tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -q "qemu-system.*$work/"; then
            kill -9 "$pid" 2>/dev/null || true
        fi
    done
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- what a Nova host has prepared before it calls libvirt ------------------------------------------------------------

template=examples/nova-vm.xml
value() { sed -n "s/.*$1.*/\1/p" "$template" | head -n1; }
name=$(value '<name>\([^<]*\)<\/name>')
uuid=$(value '<uuid>\([^<]*\)<\/uuid>')
bridge=qbr769dc43b-19
address=192.0.2.11

step "A place like a compute node's: a bridge, a base image, an overlay, a kernel"
ip link set lo up
ip link add "$bridge" type bridge
ip addr add 192.0.2.1/24 dev "$bridge"
ip link set "$bridge" up
instance=$work/instances/$uuid
mkdir -p "$instance" "$work/instances/_base"
cp --sparse=always "$guest/base.raw" "$work/instances/_base/base"
cp "$guest/kernel" "$instance/vmlinuz"
cp "$guest/initrd" "$instance/initrd.img"
disk=$instance/disk.qcow2
qemu-img create -q -f qcow2 -F raw -b "$work/instances/_base/base" "$disk"
note "bridge $bridge with 192.0.2.1/24, in a network namespace of its own"
note "disk: $(qemu-img info --backing-chain "$disk" | sed -n 's/^file format: //p' | paste -sd' ' | sed 's/ / over /')"
sed -e "s|@DIR@|$instance|g; s|@BRIDGE@|$bridge|g" \
    -e "s|<cmdline>.*</cmdline>|<cmdline>console=ttyS0 no_timer_check earlyprintk=ttyS0,115200 ip=$address::192.0.2.1:255.255.255.0::eth0:off</cmdline>|" \
    "$template" >"$work/nova-vm.xml"
note "XML: examples/nova-vm.xml ($(grep -c . "$template") lines, as Nova writes them) with these paths put in"

step "domusd, with all it owns below one directory"
# In a session of its own, so that ^C reaches this script alone, which then stops the guest through the daemon.
setsid "$bin/domusd" --root "$root" >"$work/domusd.log" 2>&1 &
daemon=$!
started=$(now)
until [ -S "$root/run/dbus-sock" ] && "$bin/domus" --root "$root" version >/dev/null 2>&1; do
    kill -0 "$daemon" 2>/dev/null || die "the daemon ended"
    [ $(($(now) - started)) -lt 20000000 ] || die "the daemon did not come up within 20 s"
    sleep 0.01
done
show version

step "define and start, over D-Bus"
show define "$work/nova-vm.xml"
log=$instance/console.log
(
    until [ -s "$log" ]; do read -rt 0.002 <> <(:) || true; done
    now >"$work/first-byte"
) &
watcher=$!
created=$(now)
show start "$name"
running=$(now)
wait "$watcher" || true
show list --all

step "ping from the bridge"
busybox=/bin/busybox
answered=''
for _ in $(seq 150); do
    if "$busybox" ping -c 1 -W 1 "$address" >/dev/null 2>&1; then
        answered=$(now)
        break
    fi
    sleep 0.1
done
[ -n "$answered" ] || { tail -n 20 "$log" >&2; die "the guest did not answer"; }
"$busybox" ping -c 3 -i 0.2 "$address" 2>/dev/null || "$busybox" ping -c 3 "$address"

step "its serial line"
for _ in $(seq 50); do
    grep -q 'domus-guest: ready' "$log" && break
    sleep 0.1
done
tr -d '\r' <"$log" | grep -aE 'Linux version|DMI:|domus-guest' | cut -c1-118 | sed "s/^/  $dim/; s/\$/$off/"

step "a container beside it, on the same bridge"
container=busybox tree=$work/container ct_address=192.0.2.10
mkdir -p "$tree/bin" "$tree/etc"
cp "$busybox" "$tree/bin/busybox"
for applet in sh init ip ping; do ln -s busybox "$tree/bin/$applet"; done
printf '::respawn:/bin/sh\n' >"$tree/etc/inittab"
sed -e "s|<source dir='[^']*'/>|<source dir='$tree'/>|" -e "s|<source bridge='[^']*'/>|<source bridge='$bridge'/>|" \
    -e "s|<ip address='[^']*'|<ip address='$ct_address'|" examples/busybox-container.xml >"$work/container.xml"
show define "$work/container.xml"
ct_created=$(now)
show start "$container"
ct_running=$(now)
show list --all
for _ in $(seq 50); do
    "$busybox" ping -c 1 -W 1 "$ct_address" >/dev/null 2>&1 && break
    sleep 0.1
done
"$busybox" ping -c 2 "$ct_address"
note "the container's root is this user outside:" \
    "$("$bin/domus" --root "$root" dumpxml "$container" | sed -n "s/.*<uid start='0' target='\([0-9]*\)'.*/\1/p")"
note "and from the container to the VM, typed into its console:"
(
    sleep 0.5
    printf 'ping -c 2 %s\n' "$address"
    sleep 2
) | "$bin/domus" --root "$root" --timeout 4 console "$container" 2>/dev/null |
    tr -d '\r' | grep -aE 'bytes from|packets transmitted' | tee "$work/from-container" | sed 's/^/  /' || true
grep -q "bytes from $address" "$work/from-container" || die "the container did not reach the VM"

step "what the daemon knows about them"
show dominfo "$name"
show domstats "$name"

step "how long it took"
note "start (D-Bus Create -> QMP says running -> reply)   $(ms_since "$created" "$running")   with the client's own start"
note "start -> first byte on the serial line              $(ms_since "$created" "$(cat "$work/first-byte")")"
note "start -> first answer to ping                       $(ms_since "$created" "$answered")"
note "container: start (the whole call)                   $(ms_since "$ct_created" "$ct_running")   with the client's own start"

step "and all the way back"
stopping=$(now)
show destroy "$container"
note "destroy took $(ms_since "$stopping" "$(now)")"
show undefine "$container"
stopping=$(now)
show destroy "$name"
note "destroy took $(ms_since "$stopping" "$(now)")"
show undefine "$name"
show list --all
left=$(ip -br link show type tun; ip -br link show type veth)
[ -z "$left" ] || die "an interface is left: $left"
[ "$(stat -c %u "$disk")" = 0 ] || die "the disk's owner was not restored"
note "no tap, no process left; the images have their former owner"
