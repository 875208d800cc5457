#!/usr/bin/env bash
# cockpit-machines, as Debian packages it, against domusd: a headless Chromium clicks through the page, once with the
# test driver and once with QEMU guests (tests/cockpit/drive.py has the steps). Installs Cockpit and Chromium the first
# time, so it is no part of `make test`.
#
#   scripts/cockpit.sh [mock|qemu]...
#
# DOMUS_BIN names a directory with built binaries; without it they are built. DOMUS_COCKPIT_OUT is where screenshots and
# logs go; without it they are kept only when a step fails. Everything runs in network, mount and process namespaces of
# its own with a message bus of its own, and is gone afterwards.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
cd "$here/.."
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C.UTF-8
[ "$(id -u)" = 0 ] || die "this needs root: it starts a daemon, guests and networks"

# What is missing, Cockpit from backports where apt knows them: its page changes from year to year.
install_packages() {
    local packages=(chromium cockpit-machines cockpit-bridge cockpit-ws dbus-bin dbus-daemon gir1.2-libosinfo-1.0
        osinfo-db python3-gi python3-libvirt python3-websocket virtinst)
    local package suite policy=/usr/sbin/policy-rc.d missing=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}-backports")
    for i in "${!missing[@]}"; do
        case ${missing[i]} in
        cockpit-*) ! apt-cache madison "${missing[i]}" | grep -q " $suite/" || missing[i]+=/$suite ;;
        esac
    done
    say "installing ${missing[*]}"
    # No package may start a daemon behind the user's back: among them is another owner of org.libvirt.
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 -o APT::Install-Recommends=false \
        -o Dpkg::Use-Pty=0 install "${missing[@]}" >/dev/null
}

if [ -z "${DOMUS_COCKPIT_INSIDE:-}" ]; then
    "$here/setup.sh"
    (install_packages)
    version=$(dpkg-query -W -f='${Version}' cockpit-machines)
    dpkg --compare-versions "$version" ge 320 ||
        die "cockpit-machines $version has another page: on Debian 12, add bookworm-backports to apt's sources and remove it"
    if [ -z "${DOMUS_BIN:-}" ]; then
        cargo build --locked --bins
        DOMUS_BIN=$PWD/target/debug
    fi
    "$here/guest-image.sh" >/dev/null
    work=$(mktemp -d /var/tmp/domus-cockpit.XXXXXX)
    chmod 755 "$work"
    export DOMUS_BIN DOMUS_COCKPIT_INSIDE=$work
    unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc "$0" "$@" &
    inside=$!
    # The script inside ends its daemons in order; it is the first process there, and so a child of unshare.
    trap 'pkill -P $inside 2>/dev/null || true; wait $inside || true; rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    status=0
    wait $inside || status=$?
    if [ $status != 0 ] && [ -z "${DOMUS_COCKPIT_OUT:-}" ]; then
        say "screenshots and logs: $work"
        trap - EXIT
    fi
    exit $status
fi

# Debian's own programs: the page's scripts and our driver use modules of Debian's python3.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

guest=$("$here/guest-image.sh")
out=${DOMUS_COCKPIT_OUT:-}
work=$DOMUS_COCKPIT_INSIDE
started=()
state=''
stop_all() {
    local i name
    # Guests outlive their daemon, and their cgroups outlive them: they are ended by it, first.
    if [ -S "$state/root/run/dbus-sock" ]; then
        "$DOMUS_BIN/domus" -q --root "$state/root" list --name | while read -r name; do
            [ -z "$name" ] || "$DOMUS_BIN/domus" -q --root "$state/root" destroy "$name" || true
        done
    fi
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        kill "${started[i]}" 2>/dev/null || true
        wait "${started[i]}" 2>/dev/null || true
    done
    started=()
}
trap stop_all EXIT
trap 'exit 130' INT TERM

# start LOG COMMAND...: in the background, to be stopped by its pid
start() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 &
    started+=($!)
}

# await WHAT COMMAND...: until it succeeds
await() {
    local what=$1
    shift
    for _ in $(seq 1500); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.02
    done
    die "not there in time: $what"
}

ip link set lo up
# Sockets and pid files of this run alone, at the places where Cockpit and libvirt's clients look for them.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/libvirt /run/lock
# virt-install makes a pool of libvirt's directory of images.
mount -t tmpfs -o mode=755 tmpfs /var/lib/libvirt
mkdir -p /var/lib/libvirt/images
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$work/bus
unset DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR
# Cockpit takes the home directory from here: what its programs keep there must not land in the real one.
export HOME=$work/home
awk -F: -v OFS=: -v home="$HOME" '$1 == "root" { $6 = home } { print }' /etc/passwd >"$work/passwd"
mount --bind "$work/passwd" /etc/passwd
# Our own bus configuration: no service is activated, everybody here may do everything. Cockpit's bridge leaves match
# rules behind with every page of a VM; the limit is that of Debian's session buses.
cat >"$work/bus.conf" <<EOB
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>$DBUS_SYSTEM_BUS_ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <limit name="max_match_rules_per_connection">50000</limit>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
EOB

# page_for_the_test_driver: Cockpit speaks to the QEMU driver and to nothing else. A copy of its page, where Cockpit
# looks for pages of a user's own, says the test driver's names instead; nothing else is changed.
page_for_the_test_driver() {
    local page=$HOME/.local/share/cockpit/machines
    mkdir -p "${page%/*}"
    cp -r /usr/share/cockpit/machines "$page"
    gzip -d "$page/index.js.gz"
    sed -Ei -e 's,/org/libvirt/QEMU,/org/libvirt/Test,g' -e 's,qemu:///([$]?[{][^}]*[}]|system),test+unix:///default?socket=/run/libvirt/libvirt-sock,g' \
        -e 's,"qemu:///"[+][[:alnum:].]*,"test+unix:///default?socket=/run/libvirt/libvirt-sock",g' "$page/index.js"
    ! grep -o '.\{20\}qemu:///.\{20\}' "$page/index.js" || die "the page has names of the QEMU driver that were not replaced"
}

had_pool=no
[ ! -e /default-pool ] || had_pool=yes
failed=0
[ $# -gt 0 ] || set -- mock qemu
for kind in "$@"; do
    state=$work/$kind
    rm -rf "$HOME"
    mkdir -p "$HOME" "$state/images" "$state/shots"
    cp "$guest/kernel" "$guest/initrd" "$state/"
    options=(--root "$state/root" --system --libvirt-directory /run/libvirt)
    if [ "$kind" = mock ]; then
        options+=(--mock)
        page_for_the_test_driver
    fi
    start "$state/bus.log" dbus-daemon --config-file "$work/bus.conf" --nofork
    await "the message bus" dbus-send --system --dest=org.freedesktop.DBus --print-reply / org.freedesktop.DBus.GetId
    start "$state/domusd.log" "$DOMUS_BIN/domusd" "${options[@]}"
    await "domusd on the bus" dbus-send --system --dest=org.libvirt --print-reply / org.freedesktop.DBus.Peer.Ping
    start "$state/monitor.log" dbus-monitor --system "destination=org.libvirt" "type='error'"
    start "$state/ws.log" /usr/lib/cockpit/cockpit-ws --no-tls --address 127.0.0.1 --port 9090 --local-session cockpit-bridge
    await "cockpit-ws" bash -c ': </dev/tcp/127.0.0.1/9090'
    say "cockpit-machines $(dpkg-query -W -f='${Version}' cockpit-machines), $kind"
    # DOMUS_COCKPIT_PARTS names parts of the driver, when one is looked for.
    # shellcheck disable=SC2086
    python3 -B tests/cockpit/drive.py "$kind" "$state" ${DOMUS_COCKPIT_PARTS:-} &
    started+=($!)
    # In the background, for a signal has to end this script at once.
    wait $! || failed=1
    stop_all
    # The page makes the directory of a disk before a snapshot, on the host, where the test driver's disks are not.
    [ "$kind" != mock ] || [ "$had_pool" = yes ] || rmdir /default-pool 2>/dev/null || true
    ! grep -A5 panicked "$state/domusd.log" || failed=1
    if [ -n "$out" ]; then
        mkdir -p "$out/$kind"
        cp "$state"/*.log "$out/$kind/"
        cp -r "$state/shots/." "$out/$kind/"
    fi
done
exit $failed
