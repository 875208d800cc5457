#!/usr/bin/env bash
# Runs tests/inguest/run.sh as root in a virtual machine that has what a build machine often has not: systemd as PID 1,
# all cgroup v2 controllers, AppArmor. No KVM is needed (the machine is emulated), and nothing of this machine changes.
#
#   scripts/inguest.sh             the tests; the last line is "N passed, N failed, N skipped"
#   scripts/inguest.sh COMMAND     that command instead, with the checkout as working directory
#
# DOMUS_KERNEL_DEB   a Debian linux-image package (not the "cloud" flavour); without it the current one is downloaded
# DOMUS_CACHE        where the Debian tree, its image and the kernel are kept (see cache_dir in lib.sh)
# DOMUS_BIN          directory with domusd, domus and domus-run (target/debug); without it they and the tests are built
# DOMUS_INGUEST_RAM, DOMUS_INGUEST_CPUS, DOMUS_INGUEST_SECONDS: 2048 MiB, 2, 900
#
# The checkout is the guest's, read-only and at the same path (test binaries have paths in them); its root is a throw-away
# layer over the image. Downloads packages the first time, so it is no part of `make test`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
cd "$here/.."
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 022
[ "$(id -u)" = 0 ] || die "this needs root: it makes a Debian tree and reads it as a file server"
"$here/setup.sh"
have mkfs.ext4 || die "mkfs.ext4 is missing: install e2fsprogs"

# ---- what runs inside ------------------------------------------------------------------------------------------------

if [ -z "${DOMUS_BIN:-}" ]; then
    cargo build --locked --bins
    DOMUS_BIN=target/debug
fi
tests=''
if [ $# = 0 ]; then
    # "Executable unittests src/lib.rs (target/debug/deps/x-0123)" becomes "src/lib.rs target/debug/deps/x-0123".
    tests=$(cargo test --locked --no-run 2>&1 | sed -n 's/^ *Executable \(unittests \)*\([^ ]*\) (\(.*\))$/\2 \3/p')
    [ -n "$tests" ] || die "the tests cannot be built: cargo test --no-run"
fi

cache=$(cache_dir)
tree=$("$here/debian-tree.sh" qemu-system-x86 qemu-utils busybox-static dbus-bin apparmor)
work=$(mktemp -d /var/tmp/domus-inguest.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# ---- kernel ----------------------------------------------------------------------------------------------------------

kernel_package() { # prints a file
    if [ -n "${DOMUS_KERNEL_DEB:-}" ]; then
        printf '%s\n' "$DOMUS_KERNEL_DEB"
        return
    fi
    local name
    name=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)
    [ -n "$name" ] || die "apt knows no linux-image-amd64: run apt-get update, or set DOMUS_KERNEL_DEB"
    local deb
    deb=$(find "$cache" -maxdepth 1 -name "${name}_*.deb" | head -n1)
    if [ -z "$deb" ]; then
        note "downloading $name" >&2
        (cd "$cache" && apt-get -qq -o APT::Sandbox::User=root download "$name" >&2) || die "cannot download $name"
        deb=$(find "$cache" -maxdepth 1 -name "${name}_*.deb" | head -n1)
    fi
    printf '%s\n' "$deb"
}
deb=$(kernel_package)
kernel=$cache/kernel-$(basename "$deb" .deb)
if [ ! -e "$kernel.complete" ]; then
    rm -rf "$kernel"
    note "unpacking $(basename "$deb")" >&2
    dpkg-deb -x "$deb" "$kernel"
    version=$(ls "$kernel/lib/modules")
    # The tree's own depmod: a build machine without modules of its own has none.
    unshare --mount --propagation private -- bash -c \
        'mount --bind "$0" "$1/mnt" && exec chroot "$1" depmod -b /mnt "$2"' "$kernel" "$tree" "$version"
    touch "$kernel.complete"
fi
version=$(ls "$kernel/lib/modules")

# ---- image and initramfs ---------------------------------------------------------------------------------------------

image=$tree.ext4
if [ ! -e "$image" ]; then
    note "making the image" >&2
    truncate -s 3G "$work/image"
    mkfs.ext4 -q -F -d "$tree" -L domus "$work/image"
    cp --sparse=always "$work/image" "$image.new"
    mv "$image.new" "$image"
    rm "$work/image"
fi

root=$work/initramfs
mkdir -p "$root/bin" "$root/modules" "$root/newroot"
cp /bin/busybox "$root/bin/busybox"
cp tests/inguest/init "$root/init"
chmod 755 "$root/init"
# modules.dep: "FILE: what FILE needs, and what that needs, the first to load last"
for module in virtio_pci virtio_blk crc32c_generic ext4 9pnet_virtio 9p; do
    sed -n "s|^\([^:]*/${module//[-_]/[-_]}\.ko[^:]*\):\(.*\)|\1\2|p" "$kernel/lib/modules/$version/modules.dep" |
        tr ' ' '\n' | tac
done | awk 'NF && !seen[$0]++' | while read -r file; do
    file=$kernel/lib/modules/$version/$file
    name=$(basename "$file")
    case $file in
    *.xz) name=${name%.xz} && busybox unxz -c "$file" ;;
    *.zst) name=${name%.zst} && zstd -dc "$file" ;;
    *) cat "$file" ;;
    esac >"$root/modules/${name%.xz}"
    printf '%s\n' "${name%.xz}" >>"$root/modules/list"
done
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -n -1) >"$work/initrd"

# ---- what the guest is given -----------------------------------------------------------------------------------------

share=$work/share
mkdir -p "$share"
make -s install-files BIN="$DOMUS_BIN" DESTDIR="$share/stage" >/dev/null
printf '%s\n' "$tests" >"$share/tests"
cp tests/inguest/domus-inguest.service "$share/"
if guest=$("$here/guest-image.sh"); then
    cp -r "$guest" "$share/guest"
fi
{
    printf '#!/bin/bash\ncd %q\n' "$PWD"
    if [ $# = 0 ]; then
        printf 'exec /bin/bash tests/inguest/run.sh\n'
    else
        printf '%q ' "$@"
        printf '\n'
    fi
} >"$share/command"

drive() { printf '%s\n' -fsdev "local,id=$1,path=$2,security_model=none$3" -device "virtio-9p-pci,fsdev=$1,mount_tag=$1"; }
mapfile -t drives < <(
    drive share "$share" ""
    drive modules "$kernel/lib/modules" ",readonly=on"
    drive checkout "$PWD" ",readonly=on,multidevs=remap"
)
started=$SECONDS
# The first serial line is the kernel's, the second the command's.
timeout --foreground -s KILL "${DOMUS_INGUEST_SECONDS:-900}" qemu-system-x86_64 -nodefaults -no-user-config \
    -display none -no-reboot -accel tcg,thread=multi -cpu max -M q35 \
    -m "${DOMUS_INGUEST_RAM:-2048}" -smp "${DOMUS_INGUEST_CPUS:-2}" \
    -serial "file:$work/console" -chardev stdio,id=out,signal=off -serial chardev:out \
    -kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initrd" \
    -drive "file=$image,format=raw,if=virtio,snapshot=on" -device virtio-rng-pci "${drives[@]}" \
    -append "console=ttyS0 panic=-1 quiet mitigations=off root=/dev/vda domus.checkout=$PWD \
systemd.unit=domus-inguest.target systemd.show_status=0 systemd.mask=systemd-udev-trigger.service \
systemd.mask=systemd-udev-settle.service systemd.mask=e2scrub_reap.service systemd.mask=systemd-random-seed.service \
systemd.mask=apt-daily.timer systemd.mask=apt-daily-upgrade.timer systemd.mask=systemd-timesyncd.service" \
    </dev/null | sed -u 's/\r$//' | tee "$work/out" || true
if [ ! -e "$share/status" ]; then
    printf -- '-- the guest gave no result; the end of its console\n' >&2
    tail -n 30 "$work/console" >&2
    say "0 passed, 1 failed, 0 skipped"
    exit 1
fi
note "in the guest for $((SECONDS - started)) s" >&2
if [ $# = 0 ]; then
    # Last, whatever the guest said after it.
    grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$work/out" | tail -n1
fi
exit "$(cat "$share/status")"
