#!/usr/bin/env bash
# Scores domus against a conformance corpus: documents, what libvirt makes of them, and a driver tools/score.py that
# calls any virsh-like program. Nothing of a corpus is part of this repository; its directory is an argument.
#
# usage: scripts/conformance.sh CORPUS_DIR [options of score.py: --family F, --check C, --only GLOB, -v, --keep DIR ...]
#
# Runs a daemon of its own in a directory of its own (QEMU and LXC drivers). Documents are defined, printed and
# undefined; no guest is ever started. PROFILE=release takes the release build.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
unset DOMUS_ROOT

[ $# -ge 1 ] && [ "${1#-}" = "$1" ] || die "usage: ${0##*/} CORPUS_DIR [options of its tools/score.py]"
corpus=$(cd "$1" && pwd) || die "no corpus at '$1'"
shift
[ -f "$corpus/tools/score.py" ] || die "'$corpus' has no tools/score.py: not a corpus"
have python3 || die "python3 is needed to run the corpus' tools"
cd "$here/.."

profile=${PROFILE:-debug}
if [ "$profile" = release ]; then cargo build --quiet --release --locked; else cargo build --quiet --locked; fi
bin=$PWD/${CARGO_TARGET_DIR:-target}/$profile

work=$(mktemp -d "${TMPDIR:-/var/tmp}/domus-conf.XXXXXX")
daemon=''
finish() {
    status=$?
    trap '' INT TERM
    if [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; then wait "$daemon" 2>/dev/null || true; fi
    if [ -n "${KEEP_LOG:-}" ]; then cp "$work/domusd.log" "$KEEP_LOG" 2>/dev/null || true; fi
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

options=(--root "$work/root" --log-level warn)
# The firmware the expected answers assume; its images need not exist.
if [ -d "$corpus/data/qemufirmwaredata" ]; then
    options+=(--firmware-path "$corpus/data/qemufirmwaredata")
fi
"$bin/domusd" "${options[@]}" >"$work/domusd.log" 2>&1 &
daemon=$!
for _ in $(seq 200); do
    [ ! -S "$work/root/run/dbus-sock" ] || break
    kill -0 "$daemon" 2>/dev/null || { cat "$work/domusd.log" >&2; die "domusd did not start"; }
    sleep 0.05
done
[ -S "$work/root/run/dbus-sock" ] || die "domusd opened no socket within 10 s"

# The shipped network has a name that the corpus uses.
"$bin/domus" --root "$work/root" -q net-undefine default || die "the network 'default' is not there to be undefined"

# The corpus tells the two drivers apart by the word lxc in the command. Paths of the daemon's own state are shown as
# libvirt's, which is what the expected answers hold.
status=0
python3 "$corpus/tools/score.py" --corpus "$corpus" \
    --virsh "$bin/domus --root $work/root -c qemu:///system" \
    --lxc "$bin/domus --root $work/root -c lxc:///system" \
    --path-map "$work/root/state/qemu=/var/lib/libvirt/qemu" \
    --path-map "$work/root/run/qemu=/run/libvirt/qemu" \
    --path-map "^/run/domus/qemu/RUN=/run/libvirt/qemu/domain--1-guest" \
    "$@" || status=$?
kill -0 "$daemon" 2>/dev/null || { tail -n 20 "$work/domusd.log" >&2; die "domusd ended during the run"; }
exit $status
