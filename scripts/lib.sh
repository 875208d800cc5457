# Small helpers that every script here sources: no state, no side effects at load time.
# shellcheck shell=bash

say()  { printf '%s\n' "$*"; }
note() { printf '  %s\n' "$*"; }
die()  { printf 'error: %s\n' "$*" >&2; exit 1; }

# have COMMAND...: true when all of them are found, sbin included (a plain user's PATH often lacks it)
have() {
    local c
    for c in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$c" >/dev/null 2>&1 || return 1
    done
}

# The directory that keeps the unpacked guest kernel and the images made from it, shared by all checkouts of a user.
cache_dir() { printf '%s\n' "${DOMUS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/domus}"; }
