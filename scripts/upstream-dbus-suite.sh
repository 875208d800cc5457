#!/usr/bin/env bash
# Runs libvirt-dbus's own test suite, unmodified, with domusd's test driver in place of libvirt-dbus.
#
#   scripts/upstream-dbus-suite.sh [pytest arguments]
#
# The tests are libvirt's (LGPL) and are not kept here: Debian's source package is downloaded once into the cache, and
# its checksum is compared. Everything else the suite sees is as upstream: its harness starts a session bus, then for
# every test a service that must own org.libvirt within a second and be gone after SIGTERM.
# DOMUSD names another binary than this tree's debug build.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
cd "$here/.."
export LC_ALL=C.UTF-8

version=1.4.1
tarball=libvirt-dbus_$version.orig.tar.xz
checksum=101ca3d018e7fdb8a5ab4482debb7cb0d181743beea2d20f3998b18e107d84e1
python=/usr/bin/python3

work=$(mktemp -d /tmp/domus-upstream.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

missing() {
    "$python" -c 'import dbus, gi, pytest' 2>/dev/null && have dbus-daemon xz && return 1
    return 0
}
if missing; then
    [ "$(id -u)" = 0 ] || die "python3-dbus, python3-gi, python3-pytest, dbus-daemon and xz-utils are needed"
    say "installing python3-dbus, python3-gi, python3-pytest, dbus-daemon, xz-utils"
    packages=(python3-dbus python3-gi python3-pytest dbus-daemon xz-utils)
    apt=(apt-get -qq -y -o DPkg::Lock::Timeout=600 -o APT::Install-Recommends=false -o Dpkg::Use-Pty=0)
    export DEBIAN_FRONTEND=noninteractive
    "${apt[@]}" install "${packages[@]}" >"$work/log" 2>&1 ||
        { "${apt[@]}" update >>"$work/log" 2>&1 && "${apt[@]}" install "${packages[@]}" >>"$work/log" 2>&1; } ||
        { cat "$work/log" >&2; die "apt-get could not install: ${packages[*]}"; }
fi

is_whole() { [ -e "$1" ] && echo "$checksum  $1" | sha256sum --check --status; }

cache=$(cache_dir)
mkdir -p "$cache"
if ! is_whole "$cache/$tarball"; then
    # A private copy of the sources with deb-src in it: the machine's own are left as they are. Only the original
    # tarball matters, so a mirror that lacks the package's other files is no failure.
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    uri=$(apt-get indextargets --format '$(CODENAME)|$(REPO_URI)' 'Created-By: Packages' | sed -n "s/^$codename|//p" | head -n1)
    [ -n "$uri" ] || die "apt's sources name no mirror for $codename"
    mkdir -p "$work/parts" "$work/lists/partial" "$work/download"
    printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$uri" "$codename" \
        /usr/share/keyrings/debian-archive-keyring.gpg >"$work/parts/source.sources"
    options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists"
        -o APT::Update::Post-Invoke-Success= -o APT::Sandbox::User=root -o Acquire::Retries=3)
    apt-get -qq "${options[@]}" update
    (cd "$work/download" && apt-get -qq "${options[@]}" source --download-only libvirt-dbus >"$work/log" 2>&1) || true
    is_whole "$work/download/$tarball" || { cat "$work/log" >&2; die "cannot download $tarball, or it is another one"; }
    mv "$work/download/$tarball" "$cache/"
fi
tar -C "$work" -xf "$cache/$tarball"

if [ -z "${DOMUSD:-}" ]; then
    cargo build --locked --quiet --bin domusd --bin domus-run
    DOMUSD=${CARGO_TARGET_DIR:-$PWD/target}/debug/domusd
fi
DOMUSD=$(realpath "$DOMUSD")
# The harness runs $abs_top_builddir/src/libvirt-dbus --session. State is new for every process, as upstream's is.
mkdir -p "$work/build/src" "$work/roots"
: >"$work/domusd.toml"
cat >"$work/build/src/libvirt-dbus" <<SERVICE
#!/bin/sh
exec "$DOMUSD" --config "$work/domusd.toml" --root "$work/roots/\$\$" --mock "\$@" 2>>"$work/service.log"
SERVICE
chmod 755 "$work/build/src/libvirt-dbus"

cd "$work/libvirt-dbus-$version/tests"
status=0
abs_top_builddir=$work/build PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -p no:cacheprovider "$@" || status=$?
if grep -q panicked "$work/service.log"; then
    grep -A5 panicked "$work/service.log" >&2
    die "the service panicked"
fi
exit $status
