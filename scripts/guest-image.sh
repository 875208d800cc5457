#!/usr/bin/env bash
# Builds the guest that the demo and the tests boot, and prints the directory that holds it:
#   kernel     a Debian cloud kernel (bzImage), unpacked from its package, never installed
#   initrd     busybox, the virtio modules and scripts/guest/init; ready some seconds after power-on without KVM
#   base.raw   a raw disk whose first bytes are a text; the guest prints it, which proves a backing chain
# Kept in the cache (see cache_dir in lib.sh) under a name that depends on everything that goes in; a second call costs
# some milliseconds. Needs scripts/setup.sh to have run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 022

modules=(virtio_pci virtio_net virtio_blk virtio_scsi virtio_console virtio_balloon virtio-rng button evdev)

cache=$(cache_dir)
mkdir -p "$cache"
key=$(cat "${BASH_SOURCE[0]}" "$here/guest/init" /bin/busybox | sha256sum | cut -c1-16)
image=$cache/guest-$key
if [ -e "$image/complete" ]; then
    say "$image"
    exit 0
fi

exec 9>"$cache/lock"
flock 9
if [ -e "$image/complete" ]; then # made by the one we waited for
    say "$image"
    exit 0
fi
have cpio gzip busybox || die "run scripts/setup.sh first"

# ---- the kernel: the package that linux-image-cloud-amd64 points at, only unpacked ------------------------------------

fetch_kernel() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)
    [ -n "$package" ] || return 1
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package" >"$work/log" 2>&1) || return 1
    printf '%s\n' "$work"/linux-image-*.deb
}

work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
kernel=$cache/kernel
if [ ! -e "$kernel/complete" ]; then
    printf '  fetching a guest kernel\n' >&2
    if ! deb=$(fetch_kernel); then
        [ "$(id -u)" = 0 ] && apt-get -qq update >"$work/log" 2>&1 || true
        deb=$(fetch_kernel) || { cat "$work/log" >&2; die "cannot download Debian's linux-image-cloud-amd64"; }
    fi
    rm -rf "$kernel"
    mkdir "$kernel"
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$kernel" --wildcards './boot/vmlinuz-*' '*/kernel/drivers/*' \
        '*/kernel/net/core/*' '*/kernel/lib/*' 2>"$work/log" || [ -e "$kernel"/boot/vmlinuz-* ] || die "cannot unpack $deb"
    touch "$kernel/complete"
fi
vmlinuz=$(printf '%s\n' "$kernel"/boot/vmlinuz-* | tail -n1)

# ---- the initramfs ---------------------------------------------------------------------------------------------------

root=$work/root
mkdir -p "$root/bin" "$root/modules" "$work/new"
cp /bin/busybox "$root/bin/busybox"
cp "$here/guest/init" "$root/init"
chmod 755 "$root/init" "$root/bin/busybox"

# add_module NAME: NAME with what it depends on before it, uncompressed. A name that is no file is built in.
added=' '
add_module() {
    local name=$1 file dependency
    case $added in *" ${name//-/_} "*) return ;; esac
    added="$added${name//-/_} "
    file=$(find "$kernel" -name "${name//[-_]/[-_]}.ko*" | head -n1)
    [ -n "$file" ] || return 0
    case $file in
    *.xz) busybox unxz -c "$file" ;;
    *.gz) busybox zcat "$file" ;;
    *) cat "$file" ;;
    esac >"$root/modules/$name.ko"
    for dependency in $(tr '\0' '\n' <"$root/modules/$name.ko" | sed -n 's/^depends=//p' | tr ',' ' '); do
        add_module "$dependency"
    done
    printf '%s\n' "$name.ko" >>"$root/modules/list"
}
for module in "${modules[@]}"; do
    add_module "$module"
done

cp "$vmlinuz" "$work/new/kernel"
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -n -6) >"$work/new/initrd"
truncate -s 16M "$work/new/base.raw"
printf 'domus base image\n' | dd of="$work/new/base.raw" conv=notrunc status=none
touch "$work/new/complete"
rm -rf "$image"
mv "$work/new" "$image"
say "$image"
