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

# The files a commit would hold (tracked and new, not ignored), each ended by a zero byte. Where the
# source came as an archive, without git's records, that is everything but what was made here.
list_files() {
    cd "$repo"
    if [[ -e .git ]]; then
        git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' path; do
            if [[ -e $path || -L $path ]]; then printf '%s\0' "$path"; fi
        done
    else
        find . -path ./.cache -prune -o -name __pycache__ -prune -o ! -type d -printf '%P\0'
    fi
}

# copy_tree DEST: those files at another place, links kept.
copy_tree() {
    local dest=$1
    rm -rf "$dest"
    mkdir -p "$dest"
    (list_files) | tar -C "$repo" --null --no-recursion -T - -cf - | tar -C "$dest" -xf -
}

# need COMMAND PACKAGE: fail with what to install.
need() {
    command -v "$1" >/dev/null || die "$1 is missing; run 'make setup' (Debian package $2)"
}
