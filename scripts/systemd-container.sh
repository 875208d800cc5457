#!/usr/bin/env bash
# A whole Debian with systemd as an unprivileged container: starts, reboots, shuts down, leaves nothing.
#
# The tree (scripts/debian-tree.sh) is a read-only template under an overlay with shifted ids: root inside is an
# unprivileged id outside, and no file is chowned. The container has no network of the host's. Downloads packages the
# first time, so it is no part of `make test`. DOMUS_BIN names a directory with built binaries; without it they are
# built. Prints what it found, one line each; the exit status is 1 when something failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
cd "$here/.."
[ "$(id -u)" = 0 ] || die "this needs root: it starts a daemon and a container"
tree=$("$here/debian-tree.sh")
if [ -z "${DOMUS_BIN:-}" ]; then
    cargo build --locked --bins
    DOMUS_BIN=$PWD/target/debug
fi

name=systemd-test
work=$(mktemp -d /var/tmp/domus-systemd.XXXXXX)
chmod 755 "$work"
root=$work/root
daemon='' failed=0
domus() { "$DOMUS_BIN/domus" -q --root "$root" -c lxc "$@"; }
finish() {
    status=$?
    trap '' INT TERM
    if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
        domus destroy $name >/dev/null 2>&1 || true
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    if [ $status != 0 ] || [ $failed != 0 ]; then
        printf -- '-- end of the console\n' >&2
        tail -n 20 "$work/console.log" >&2 2>/dev/null || true
        printf -- '-- end of the daemon'\''s log\n' >&2
        tail -n 20 "$work/domusd.log" >&2 2>/dev/null || true
    fi
    rm -rf "$work"
    exit $((status ? status : failed))
}
trap finish EXIT
trap 'exit 130' INT TERM

ok() { say "ok   $*"; }
bad() { failed=1; say "FAIL $*"; }
check() { # TEXT COMMAND...
    local text=$1
    shift
    if "$@"; then ok "$text"; else bad "$text"; fi
}
now_ms() { printf '%s' $((${EPOCHREALTIME/[.,]/} / 1000)); }
# within SECONDS COMMAND...: waits until the command succeeds
within() {
    local end=$(($(now_ms) + $1 * 1000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt $end ] || return 1
        sleep 0.1
    done
}

# The status record names the supervisor; the container's init is its only child, after each reboot another.
field() { grep -oh "\"$1\":\"\{0,1\}[^,\"}]*" "$root"/run/records/lxc/*.json | head -n1 | sed 's/.*[:"]//'; }
init_of() { tr -d ' ' <"/proc/$1/task/$1/children"; }
start_time() { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; }
# Not there, or only its exit status is (this machine's own init may be slow to collect it).
gone() { ! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null; }
# inside COMMAND...: runs it in the container, through the same entry the daemon has
inside() {
    local argv='' word init
    init=$(init_of "$supervisor")
    for word in "$@"; do
        argv="$argv${argv:+,}\"$word\""
    done
    printf '{"version":1,"init":%s,"init_start":%s,"user_namespace":true,"drop_caps":[],"seccomp":true,"program":{"argv":[%s],"env":[["PATH","/usr/sbin:/usr/bin:/sbin:/bin"]],"dir":null,"user":null,"group":null}}' \
        "$init" "$(start_time "$init")" "$argv" >"$work/enter.json"
    "$DOMUS_BIN/domus-run" enter 3<"$work/enter.json"
}
state() { inside /usr/bin/systemctl is-system-running 2>/dev/null || true; }
up() { case $(state) in running | degraded | maintenance) ;; *) return 1 ;; esac; }
booted() { # WHAT: waits for the end of the boot, and looks at it
    within 120 up || true
    local state
    state=$(state)
    if [ "$state" = running ]; then
        ok "$1: systemd says $state; $(inside /usr/bin/systemd-analyze time | head -n1)"
    else
        bad "$1: systemd says '$state'; failed units: $(inside /usr/bin/systemctl --failed --plain --no-legend | cut -d' ' -f1 | paste -sd' ')"
    fi
}

# ---- define and start ------------------------------------------------------------------------------------------------

sed -e "s|<name>[^<]*|<name>$name|" \
    -e "s|<filesystem type='mount'>|<filesystem type='template'>|" \
    -e "s|<source dir='[^']*'/>|<source name='$tree'/>|" \
    -e "s|<console type='pty'/>|<console type='pty'><log file='$work/console.log' append='off'/></console>|" \
    examples/systemd-container.xml >"$work/container.xml"
"$DOMUS_BIN/domusd" --root "$root" >"$work/domusd.log" 2>&1 &
daemon=$!
within 20 domus version || die "the daemon did not come up"
domus define "$work/container.xml" >/dev/null
started=$(now_ms)
domus start $name >/dev/null
supervisor=$(field supervisor)
# The random part of the run's id: in the name of everything the run makes, with or without systemd's escapes.
run=$(ls "$root/run/lxc")
run=${run##*-}
groups() { find /sys/fs/cgroup -type d -name "*$run*" 2>/dev/null | sort; }
[ -n "$(groups)" ] || bad "the run has no cgroup"
ok "start: $(($(now_ms) - started)) ms until the daemon says running"
booted "boot"
say "     $(($(now_ms) - started)) ms from the call to the end of the boot"

# ---- what it is like inside ------------------------------------------------------------------------------------------

init=$(init_of "$supervisor")
read -r _ outside _ <"/proc/$init/uid_map"
check "root inside is uid $outside outside" [ "$outside" != 0 ]
mounts=$(inside /usr/bin/cat /proc/self/mounts)
check "one cgroup mount inside, of version 2" [ "$(grep -c ' cgroup2\? ' <<<"$mounts") $(grep -c '^[^ ]* /sys/fs/cgroup cgroup2 ' <<<"$mounts")" = "1 1" ]
check "the host name is the domain's" [ "$(inside /usr/bin/uname -n)" = $name ]

# ---- reboot from inside: same domain, same id, another init -----------------------------------------------------------

id=$(domus domid $name)
inside /usr/bin/systemctl reboot >/dev/null 2>&1 || true
another() { [ "$(init_of "$supervisor")" != "$init" ] && [ -n "$(init_of "$supervisor")" ]; }
check "reboot from inside: another init" within 60 another
booted "boot after the reboot"
check "the domain still has id $id" [ "$(domus domid $name)" = "$id" ]

# ---- the daemon goes and comes; the container runs on ----------------------------------------------------------------

init=$(init_of "$supervisor")
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
"$DOMUS_BIN/domusd" --root "$root" >>"$work/domusd.log" 2>&1 &
daemon=$!
within 20 domus version || die "the daemon did not come up again"
check "a killed daemon finds it again" [ "$(domus domstate $name) $(init_of "$supervisor")" = "running $init" ]

# ---- shutdown --------------------------------------------------------------------------------------------------------

started=$(now_ms)
domus shutdown $name >/dev/null
is_off() { [ "$(domus domstate $name)" = "shut off" ]; }
if within 100 is_off; then
    ok "shutdown: $(($(now_ms) - started)) ms until shut off, $(domus domstate --reason $name)"
else
    bad "shutdown: it is $(domus domstate --reason $name)"
fi
no_process() { gone "$init" && gone "$supervisor"; }
check "nothing is left: processes" within 5 no_process
check "nothing is left: run directory, status record" [ -z "$(ls "$root/run/lxc" "$root/run/records/lxc" | grep -v :)" ]
check "nothing is left: cgroups" [ -z "$(groups)" ]
check "nothing is left: mounts" [ -z "$(grep -F "$work" /proc/self/mounts)" ]
