#!/usr/bin/env bash
# Makes a minimal Debian with systemd as its init, as a directory tree, and prints that directory.
#
#   scripts/debian-tree.sh [PACKAGE...]      PACKAGEs come beside systemd, dbus, udev, iproute2, kmod and procps
#
# Kept in the cache (DOMUS_CACHE, see cache_dir in lib.sh) under a name that depends on release and packages; a second
# call costs some milliseconds. Downloads packages (about 100 MB) from the mirror this machine's apt uses; DOMUS_MIRROR
# and DOMUS_SUITE name others. Needs root and debootstrap, which it installs when it is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"
umask 022

packages=systemd-sysv,dbus,udev,iproute2,kmod,procps
for package in "$@"; do
    packages=$packages,$package
done
# shellcheck disable=SC1091
release=$(. /etc/os-release && [ "$ID" = debian ] && printf '%s' "${VERSION_CODENAME:-}") || release=''
suite=${DOMUS_SUITE:-${release:-bookworm}}
mirror=${DOMUS_MIRROR:-$(apt-get indextargets --format '$(CODENAME)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sed -n "s/^$suite|//p" | head -n1)}
mirror=${mirror:-http://deb.debian.org/debian}

cache=$(cache_dir)
key=$(printf '%s %s' "$packages" "$(sha256sum <"${BASH_SOURCE[0]}")" | sha256sum | cut -c1-12)
tree=$cache/debian-$suite-$key
if [ -e "$tree.complete" ]; then
    say "$tree"
    exit 0
fi
[ "$(id -u)" = 0 ] || die "making a Debian tree needs root"
mkdir -p "$cache"
exec 9>"$cache/lock-debian"
flock 9
if [ -e "$tree.complete" ]; then # made by the one we waited for
    say "$tree"
    exit 0
fi
if ! have debootstrap; then
    note "installing debootstrap" >&2
    apt-get -qq -o APT::Install-Recommends=false -o DPkg::Lock::Timeout=600 install debootstrap >&2
fi

log=$cache/debootstrap.log
rm -rf "$tree" "$tree.new"
trap 'rm -rf "$tree.new"' EXIT
trap 'exit 130' INT TERM
note "making a minimal Debian $suite (a minute or two; $log)" >&2
debootstrap --variant=minbase --include="$packages" "$suite" "$tree.new" "$mirror" >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "debootstrap failed"; }
# What makes every machine from this tree the same one, or this machine: each gets its own.
rm -f "$tree.new/etc/hostname" "$tree.new/var/lib/dbus/machine-id" "$tree.new"/var/cache/apt/archives/*.deb
: >"$tree.new/etc/machine-id"
mv "$tree.new" "$tree"
touch "$tree.complete"
say "$tree"
