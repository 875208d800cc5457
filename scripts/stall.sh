#!/usr/bin/env bash
# stall.sh OUTPUT SECONDS: ends test binaries that stand still, and says where they stand.
#
# OUTPUT is the file that `cargo test` writes to. libtest has no time limit of its own: one test that waits for ever would
# keep the whole run waiting. When the file has not grown for SECONDS, what the test binary and its descendants are
# doing is printed, a line "STALL binary: tests" is added to OUTPUT, and they are killed; cargo goes on with the next
# binary. Runs until it is killed.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
output=$(readlink -f "$1") limit=$2

# The test binaries: what cargo started with its output there. A daemon or a guest has an output of its own.
binaries() {
    local fd pid
    for fd in /proc/[0-9]*/fd/1; do
        pid=${fd#/proc/} pid=${pid%%/*}
        [ "$(readlink "$fd" 2>/dev/null)" = "$output" ] || continue
        case $(readlink "/proc/$pid/exe" 2>/dev/null) in */deps/*) say "$pid" ;; esac
    done
}

# A process and all below it, itself first.
family() {
    cat /proc/[0-9]*/status 2>/dev/null | awk -v root="$1" '
        $1 == "Pid:" { pid = $2 }
        $1 == "PPid:" { children[$2] = children[$2] " " pid }
        END { for (todo = root; todo != ""; ) {
            split(todo, now, " "); todo = ""
            for (i = 1; i in now; i++) { print now[i]; todo = todo children[now[i]] }
            split("", now)
        } }'
}

# The tests of a binary that have begun or not yet begun, but not ended.
unfinished() {
    local exe
    exe=$(readlink "/proc/$1/exe") || return
    comm -23 <(timeout 20 "$exe" --list --format terse 2>/dev/null </dev/null | sed -n 's/: test$//p' | sort) \
        <(sed -n 's/^test \(.*\) \.\.\. .*/\1/p' "$output" | sort)
}

describe() {
    local task log
    printf '  process %s: %s\n' "$1" "$(tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | cut -c1-200)"
    for task in "/proc/$1/task/"*; do
        printf '    %-16s %s in %s, system call %s\n' "$(cat "$task/comm" 2>/dev/null)" \
            "$(sed -n 's/^State:\t//p' "$task/status" 2>/dev/null)" "$(cat "$task/wchan" 2>/dev/null)" \
            "$(cut -d' ' -f1-4 "$task/syscall" 2>/dev/null)"
        sed 's/^/      /' "$task/stack" 2>/dev/null | head -n 6
    done
    log=$(readlink "/proc/$1/fd/2" 2>/dev/null)
    if [ -f "$log" ] && [ "$log" != "$output" ]; then tail -n 20 "$log" | sed 's/^/    | /'; fi
}

while sleep 1; do
    [ $(($(date +%s) - $(stat -c %Y "$output"))) -ge "$limit" ] || continue
    for binary in $(binaries); do
        name=$(basename "$(readlink "/proc/$binary/exe")")
        tests=$(unfinished "$binary" | head -n 20 | tr '\n' ' ')
        members=$(family "$binary")
        report=$(say "no test of $name ended in $limit s"
            for pid in $members; do describe "$pid"; done
            say "STALL $name: ${tests:-none is left; it does not exit}")
        say "$report" >>"$output"
        # shellcheck disable=SC2086 # a list of numbers
        kill -KILL $members 2>/dev/null
    done
done
