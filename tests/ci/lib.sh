# shellcheck shell=bash
# Shared by the scripts of this folder; sourced, never run.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$repo/.cache
venv=$cache/venv
# What costs minutes to make and does not depend on this checkout outlives it here.
host_cache=${DS01_HOST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ds01-test}
export repo cache venv host_cache

die() {
    echo "error: $*" >&2
    exit 1
}

# copy_tree DEST: the files a commit would hold (tracked and new, not ignored), symlinks kept.
copy_tree() {
    local dest=$1
    rm -rf "$dest"
    mkdir -p "$dest"
    git -C "$repo" ls-files -z --cached --others --exclude-standard |
        (cd "$repo" && while IFS= read -r -d '' path; do
            if [[ -e $path || -L $path ]]; then printf '%s\0' "$path"; fi
        done) |
        tar -C "$repo" --null --no-recursion -T - -cf - | tar -C "$dest" -xf -
}

# need COMMAND PACKAGE: fail with what to install.
need() {
    command -v "$1" >/dev/null || die "$1 is missing; run 'make setup' (Debian package $2)"
}
