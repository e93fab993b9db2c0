#!/usr/bin/env bash
# Generated pages must be what the code would generate now, and relative links must lead somewhere.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"

cd "$repo"
failed=0
PYTHONPATH=files/runtime "$venv/bin/python" tests/ci/docgen.py --check || failed=1
mapfile -d '' pages < <(list_files | grep -z '\.md$')
"$venv/bin/python" tests/ci/check_links.py "${pages[@]}" || failed=1
exit "$failed"
