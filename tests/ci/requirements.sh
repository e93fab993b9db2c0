#!/usr/bin/env bash
# Make the hash-pinned requirement files anew. Review the difference before you commit it.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$venv/bin/python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -qq uv

# lock PYTHON NAME [OPTION…]: for that Python version and all newer ones, with the hashes of every
# wheel.
lock() {
    "$work/venv/bin/uv" pip compile --quiet --upgrade --universal --generate-hashes \
        --no-annotate --no-emit-index-url --no-emit-find-links \
        --custom-compile-command 'make requirements' \
        --python-version "$1" "$2.in" -o "$2.txt" "${@:3}"
}

cd "$repo"
lock 3.11 requirements/dev
lock 3.11 requirements/sdist --no-deps
lock 3.12 requirements/newest
lock 3.10 files/runtime/requirements
