#!/usr/bin/env bash
# Starts and destroys a container with an interface on a bridge again and again, and fails (exit status 1) when anything
# is more at the end than it was after the first 50 rounds: descriptors, threads and memory of the daemon, cgroups,
# links, mounts, processes, files.
#   DOMUS_SOAK_CYCLES=N   rounds (1000)
#   DOMUS_SOAK_BIN=DIR    where domusd, domus and domus-run are (target/release, built first)
# Everything is in a directory, a network namespace and a cgroup partition of its own.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
cd "$here/.."
export PATH="$PATH:/usr/sbin:/sbin"

cycles=${DOMUS_SOAK_CYCLES:-1000}
first=50
if [ "${1:-}" != --inside ]; then
    skip() { say "SKIP soak: $1"; exit 0; }
    [ "$(id -u)" = 0 ] || skip "needs root: it makes namespaces and containers"
    [ -x /bin/busybox ] || skip "no /bin/busybox (package busybox-static)"
    have ip unshare || skip "no ip or unshare (packages iproute2, util-linux)"
    [ "$cycles" -gt "$first" ] || die "DOMUS_SOAK_CYCLES must be above $first"
    if [ -z "${DOMUS_SOAK_BIN:-}" ]; then
        cargo build --release --locked
        DOMUS_SOAK_BIN=$PWD/target/release
    fi
    exec unshare --net --mount -- "${BASH_SOURCE[0]}" --inside "$DOMUS_SOAK_BIN"
fi
bin=$2
unset DOMUS_ROOT

name=soak-$$
work=$(mktemp -d /tmp/domus-soak.XXXXXX)
chmod 755 "$work"
daemon=''
finish() {
    status=$?
    trap '' INT TERM
    if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
        "$bin/domus" --root "$work/root" destroy "$name" >/dev/null 2>&1 || true
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    [ "$status" = 0 ] || tail -n 20 "$work/domusd.log" >&2 || true
    find /sys/fs/cgroup -mindepth 2 -maxdepth 2 -type d -name "$name" -exec rmdir {} + 2>/dev/null || true
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir -p "$work/root" "$work/c/bin"
cp /bin/busybox "$work/c/bin/busybox"
printf '[lxc]\npartition = "/%s"\n' "$name" >"$work/root/domusd.toml"
cat >"$work/c.xml" <<XML
<domain type='lxc'>
  <name>$name</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type>exe</type><init>/bin/busybox</init><initarg>sleep</initarg><initarg>100000</initarg></os>
  <devices>
    <filesystem type='mount'><source dir='$work/c'/><target dir='/'/></filesystem>
    <interface type='bridge'><source bridge='soakbr'/><guest dev='eth0'/></interface>
    <console type='pty'/>
  </devices>
</domain>
XML
ip link set lo up
ip link add soakbr type bridge
ip link set soakbr up
"$bin/domusd" --root "$work/root" >"$work/domusd.log" 2>&1 &
daemon=$!
domus() { "$bin/domus" --quiet --root "$work/root" "$@"; }
for _ in $(seq 100); do
    [ ! -S "$work/root/run/dbus-sock" ] || break
    kill -0 "$daemon" 2>/dev/null || die "the daemon ended at its start"
    sleep 0.1
done
domus -c lxc define "$work/c.xml" >/dev/null

# Names and numbers, one per line. RSS is in KiB.
measure() {
    # What the kernel finishes later (dead namespaces) and idle threads have their time.
    sleep 2
    printf 'descriptors %d\n' "$(ls "/proc/$daemon/fd" | wc -l)"
    printf 'RSS %d\n' "$(awk '/^VmRSS/ { print $2 }' "/proc/$daemon/status")"
    printf 'cgroups %d\n' "$(find /sys/fs/cgroup -mindepth 3 -type d -path "*/$name/*" | wc -l)"
    printf 'links %d\n' "$(tail -n +3 /proc/net/dev | wc -l)"
    printf 'mounts %d\n' "$(wc -l <"/proc/$daemon/mountinfo")"
    printf 'processes %d\n' "$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -o "supervise[ ]$name " | wc -l)"
    printf 'children %d\n' "$(cat "/proc/$daemon/task/"*/children | wc -w)"
    printf 'files %d\n' "$(find "$work/root/run" "$work/root/state" | wc -l)"
    printf 'id-ranges %d\n' "$(grep -ls "^$work/" /run/domus-ids/* 2>/dev/null | wc -l)"
}

rounds() { # COUNT
    local round
    for round in $(seq "$1"); do
        domus start "$name" >/dev/null || die "start number $round failed"
        domus destroy "$name" >/dev/null || die "destroy number $round failed"
    done
}

begin=${EPOCHREALTIME/[.,]/}
rounds "$first"
before=$(measure)
rounds $((cycles - first))
after=$(measure)
say "$cycles rounds in $(((${EPOCHREALTIME/[.,]/} - begin) / 1000000)) s"
failed=0
printf '%-12s %10s %10s\n' what "after $first" "after $cycles"
while read -r what old && read -r _ new <&3; do
    # The allocator's share of luck: a real leak of a kilobyte per round is above it with a thousand.
    slack=0
    [ "$what" != RSS ] || slack=1024
    verdict=''
    if [ "$new" -gt $((old + slack)) ]; then
        verdict='  GROWS'
        failed=1
    fi
    printf '%-12s %10d %10d%s\n' "$what" "$old" "$new" "$verdict"
done <<<"$before" 3<<<"$after"
exit $failed
