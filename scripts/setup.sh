#!/usr/bin/env bash
# Installs what domus needs to run guests and its tests on Debian 12 or 13, and nothing that is there already.
#
#   scripts/setup.sh            install what is missing (root), create the QEMU user when there is none
#   scripts/setup.sh --check    install nothing; print what is missing, exit status 1 when something is
#
# It starts no service, changes no apt source, and does nothing (in a few milliseconds) when nothing is missing.
# A machine whose qemu-utils came from backports, without backports in its sources, gets QEMU from the same suite: a
# private copy of the sources with that suite added is used for the one installation and thrown away.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"

check_only=no
[ "${1:-}" = --check ] && check_only=yes

# ---- what is missing -------------------------------------------------------------------------------------------------

qemu_packages=()
other_packages=()
have qemu-system-x86_64 || qemu_packages+=(qemu-system-x86)
have qemu-img || qemu_packages+=(qemu-utils)
[ -e /usr/share/seabios/bios-256k.bin ] || [ -e /usr/share/qemu/bios-256k.bin ] || qemu_packages+=(seabios qemu-system-data)
have busybox && busybox 2>/dev/null | grep -qw ping && [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 ||
    other_packages+=(busybox-static)
have ip tc || other_packages+=(iproute2)
have nft || other_packages+=(nftables)
have dnsmasq || other_packages+=(dnsmasq-base)
have dbus-daemon || other_packages+=(dbus-daemon)
have dbus-send || other_packages+=(dbus-bin)
have virsh || other_packages+=(libvirt-clients)
# With python3-libvirt, which the tests use by itself as well.
have virt-install || other_packages+=(virtinst)
have xmllint || other_packages+=(libxml2-utils)
have cpio || other_packages+=(cpio)
have gzip || other_packages+=(gzip)
have setpriv unshare || other_packages+=(util-linux)
have useradd || other_packages+=(passwd)
have cc || other_packages+=(gcc libc6-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || other_packages+=(ca-certificates)

# The user that QEMU runs as: libvirt's where libvirt is installed (its images then have the right owner already), else
# one of our own. Never nobody: that one belongs to everybody.
need_user=no
getent passwd libvirt-qemu >/dev/null || getent passwd domus-qemu >/dev/null || need_user=yes

if [ ${#qemu_packages[@]} = 0 ] && [ ${#other_packages[@]} = 0 ] && [ $need_user = no ]; then
    exit 0
fi
if [ $check_only = yes ]; then
    [ ${#qemu_packages[@]} = 0 ] && [ ${#other_packages[@]} = 0 ] ||
        say "missing packages: ${qemu_packages[*]:-} ${other_packages[*]:-}"
    [ $need_user = no ] || say "missing user: libvirt-qemu or domus-qemu"
    exit 1
fi
[ "$(id -u)" = 0 ] || die "some packages are missing (${qemu_packages[*]:-} ${other_packages[*]:-}); run $0 as root"

# ---- installing ------------------------------------------------------------------------------------------------------

work=$(mktemp -d /tmp/domus-setup.XXXXXX)
chmod 755 "$work"
policy=/usr/sbin/policy-rc.d
made_policy=no
cleanup() {
    [ $made_policy = no ] || rm -f "$policy"
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# No package may start a daemon behind the user's back (and on machines without an init, none could).
if [ ! -e "$policy" ] && [ -d /usr/sbin ]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

# Extra apt options; the backports case below replaces the sources through them.
apt_options=(-o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 -o APT::Install-Recommends=false -o Dpkg::Use-Pty=0)
log=$work/log

# run_apt ARGS...: quiet, the output only shown when it fails
run_apt() {
    if ! apt-get -qq "${apt_options[@]}" "$@" >"$log" 2>&1; then
        return 1
    fi
}

# Another apt may hold the lists' lock, which (unlike dpkg's) has no waiting option.
update() {
    local try
    for try in $(seq 60); do
        run_apt update && return 0
        grep -q 'Could not get lock' "$log" || break
        [ "$try" = 1 ] && note "waiting for another apt to finish"
        sleep 2
    done
    # One broken third-party source makes update fail although Debian's own lists arrived: go on, install will tell.
    return 0
}

updated=no
install() { # [-t SUITE] PACKAGE...
    note "installing $*"
    if [ $updated = no ] && ! compgen -G "$lists/*_Packages*" >/dev/null; then
        update
        updated=yes
    fi
    run_apt install -y "$@" && return 0
    if [ $updated = no ]; then # stale lists name files that the mirror no longer has
        update
        updated=yes
        run_apt install -y "$@" && return 0
    fi
    cat "$log" >&2
    die "apt-get could not install: $*"
}
lists=/var/lib/apt/lists

installed_version() { dpkg-query -W -f='${db:Status-Status} ${Version}\n' "$1" 2>/dev/null | sed -n 's/^installed //p'; }

# The backports suite that the installed QEMU packages came from, or nothing. QEMU's packages depend on each other by
# exact version, so a part that came from backports makes all the others come from there as well.
backports_suite() {
    local package version codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    for package in qemu-utils qemu-system-common qemu-system-data qemu-block-extra qemu-guest-agent; do
        version=$(installed_version "$package")
        case $version in
        *~bpo*) echo "$codename-backports" && return 0 ;;
        esac
    done
}

# Whether the sources of this machine know SUITE already.
suite_known() { apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' 2>/dev/null | grep -qx "$1"; }

# A private copy of the machine's sources, with SUITE added from the mirror that its own release comes from.
add_suite() {
    local suite=$1 codename=${1%-backports} uri
    uri=$(apt-get indextargets --format '$(CODENAME)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n "s/^$codename|//p" | head -n1)
    [ -n "$uri" ] || die "apt's sources name no mirror for $codename: add $suite to them"
    local key=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$work/parts" "$work/lists/partial"
    cp /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources "$work/parts/" 2>/dev/null || true
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$uri" "$suite" "$key" \
        >"$work/parts/domus-backports.sources"
    apt_options+=(-o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists"
        -o APT::Update::Post-Invoke-Success= -o APT::Sandbox::User=root)
    lists=$work/lists
}

say "setting up this machine:"
if [ ${#other_packages[@]} -gt 0 ]; then
    install "${other_packages[@]}"
fi
if [ ${#qemu_packages[@]} -gt 0 ]; then
    suite=$(backports_suite)
    if [ -n "$suite" ]; then
        suite_known "$suite" || add_suite "$suite"
        updated=no
        install -t "$suite" "${qemu_packages[@]}"
    else
        install "${qemu_packages[@]}"
    fi
fi

# After the packages, because they create the group kvm.
if [ $need_user = yes ]; then
    note "creating the system user domus-qemu"
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin domus-qemu
    if getent group kvm >/dev/null; then
        usermod --append --groups kvm domus-qemu
    fi
fi
have qemu-system-x86_64 qemu-img || die "QEMU is still missing after the installation"
note "done: $(qemu-system-x86_64 --version | head -n1)"
