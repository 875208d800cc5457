#!/usr/bin/env bash
# Runs the benchmarks; they make a network and a mount namespace of their own. Arguments pick sections:
#   scripts/bench.sh vm container control pool daemon xml libvirtd rpc bus
# Peers are measured where they are installed: libvirtd, python3-libvirt, lxc, libvirt-dbus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo bench --locked --bench domus -- "$@"
