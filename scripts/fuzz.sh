#!/usr/bin/env bash
# Runs every fuzz target for a while and reports how many inputs it executed.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]     DOMUS_FUZZ=stable|libfuzzer chooses the engine
#
# With a nightly compiler and cargo-fuzz the targets run under libFuzzer, which is led by coverage; else on stable with
# the harness of fuzz/src/harness.rs. DOMUS_CORPUS names a directory with further definitions to start from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(xml argv qmp spec dbus rpc)

engine=${DOMUS_FUZZ:-}
if [ -z "$engine" ]; then
    engine=stable
    if cargo +nightly --version >/dev/null 2>&1 && cargo fuzz --version >/dev/null 2>&1; then
        engine=libfuzzer
    fi
fi
echo "engine: $engine, $seconds s for each of ${targets[*]}"

failed=0
case $engine in
stable)
    cargo build --release --quiet --manifest-path fuzz/Cargo.toml
    bin=${CARGO_TARGET_DIR:-fuzz/target}/release
    for target in "${targets[@]}"; do
        "$bin/$target" --seconds "$seconds" --corpus "fuzz/corpus/$target" || failed=1
    done
    ;;
libfuzzer)
    for target in "${targets[@]}"; do
        mkdir -p "fuzz/corpus/$target"
        # libFuzzer starts from files.
        case $target in
        xml | argv) find tests/fixtures examples src/qemu/command/testdata ${DOMUS_CORPUS:+"$DOMUS_CORPUS"} -name '*.xml' \
            -exec cp -t "fuzz/corpus/$target" {} + ;;
        spec) find tests/fixtures -name '*.json' -exec cp -t "fuzz/corpus/$target" {} + ;;
        esac
        cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
            -print_final_stats=1 2>&1 | tee "fuzz/corpus/$target.log" | grep -E 'ERROR|panicked|stat::|Done|artifact' ||
            true
        grep -q 'ERROR' "fuzz/corpus/$target.log" && failed=1
    done
    ;;
*)
    echo "DOMUS_FUZZ is 'stable' or 'libfuzzer', not '$engine'" >&2
    exit 2
    ;;
esac
exit $failed
