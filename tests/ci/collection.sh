#!/usr/bin/env bash
# Build the collection, install the artefact, and check what a site would get from it.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"

work=$cache/artefact
rm -rf "$work"
copy_tree "$work/tree"
"$repo/tests/ci/check_collection.sh" "$venv/bin" "$work"
