#!/usr/bin/env bash
# Runs every check and test of the project. The last line of the output is
#   N passed, N failed, N skipped
# summed over formatting, clippy and all test binaries; the exit status is 1 when anything failed.
# A test that cannot run on this machine prints "SKIP name: reason"; it is counted as skipped, never as passed.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
cd "$here/.." || exit
export CARGO_TERM_COLOR=never

passed=0 failed=0 skipped=0
work=$(mktemp -d /tmp/domus-test.XXXXXX)
helpers=()
# shellcheck disable=SC2329 # called by the trap
clean() {
    [ ${#helpers[@]} = 0 ] || kill "${helpers[@]}" 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

pass() { passed=$((passed + 1)); say "ok   $1"; }
fail() { failed=$((failed + 1)); say "FAIL $1"; }
skip() { skipped=$((skipped + 1)); say "SKIP $1: $2"; }

# ---- set-up: what cannot be installed shows as skipped tests, not as a broken run -------------------------------------

if ! "$here/setup.sh"; then
    if [ "$(id -u)" = 0 ]; then
        fail "setup"
    else
        skip "setup" "not root; tests that need what is missing are skipped"
    fi
fi
if guest=$("$here/guest-image.sh"); then
    export DOMUS_GUEST=$guest
else
    skip "guest image" "could not be built; tests that boot a guest are skipped"
fi

# ---- formatting and lints --------------------------------------------------------------------------------------------

if cargo fmt --version >/dev/null 2>&1; then
    cargo fmt --check >"$work/fmt" 2>&1 && pass "rustfmt" || { head -n 60 "$work/fmt"; fail "rustfmt"; }
else
    skip "rustfmt" "the component is not installed (rustup component add rustfmt)"
fi
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --locked --all-targets -- -D warnings >"$work/clippy" 2>&1 && pass "clippy" ||
        { tail -n 100 "$work/clippy"; fail "clippy"; }
else
    skip "clippy" "the component is not installed (rustup component add clippy)"
fi

# ---- tests -----------------------------------------------------------------------------------------------------------

# Built first, so that a test's time is its own and a compiler error is told apart from a failed test.
if ! cargo test --locked --no-run --quiet >"$work/build" 2>&1; then
    tail -n 100 "$work/build"
    fail "build of the tests"
else
    # Into a file rather than a pipe: a process that a test left behind would keep a pipe open, and the run waiting.
    : >"$work/tests"
    tail -n +1 -f "$work/tests" &
    helpers=($!)
    "$here/stall.sh" "$work/tests" "${DOMUS_TEST_STALL:-900}" &
    helpers+=($!)
    cargo test --locked --no-fail-fast -- --show-output >>"$work/tests" 2>&1 </dev/null
    status=$?
    sleep 1.5 # tail looks once a second where there is no inotify
    kill "${helpers[@]}"
    wait "${helpers[@]}" 2>/dev/null
    helpers=()
    # "test result: ok. 12 passed; 0 failed; 1 ignored; ..." per binary. A skipped test returned normally, so libtest
    # counts it as passed: take it out there.
    read -r p f i < <(awk '/^test result: / { for (n = 1; n <= NF; n++) { if ($n == "passed;") p += $(n-1);
        if ($n == "failed;") f += $(n-1); if ($n == "ignored;") i += $(n-1) } } END { print p+0, f+0, i+0 }' "$work/tests")
    s=$(grep -c '^SKIP ' "$work/tests")
    passed=$((passed + p - s))
    failed=$((failed + f))
    skipped=$((skipped + i + s))
    stalls=0
    while read -r stalled; do
        stalls=$((stalls + 1)) failed=$((failed + 1))
        say "FAIL ${stalled#STALL }"
    done < <(grep '^STALL ' "$work/tests")
    # A test binary that died (a signal, an abort) prints no result line.
    if [ "$status" != 0 ] && [ "$f$stalls" = 00 ]; then
        fail "a test binary ended without a result"
    fi
    if [ "$s" != 0 ]; then
        say "skipped:"
        grep '^SKIP ' "$work/tests" | sort
    fi
fi

say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
