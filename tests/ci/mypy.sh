#!/usr/bin/env bash
# mypy --strict: the runtime with the domain and the host adapters it shares, then the plugins
# under the name they have in Ansible, then the tests and their tools.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"

cd "$repo"
run() {
    echo "mypy --strict $*"
    "$venv/bin/mypy" --strict --config-file pyproject.toml "$@" || failed=1
}
failed=0
MYPYPATH=files/runtime run --cache-dir "$cache/mypy/runtime" -p ds01
MYPYPATH=$cache/collections run --cache-dir "$cache/mypy/plugins" -p ansible_collections.ds01.infra.plugins
# Tests reach for what a module imports, in order to replace it.
MYPYPATH=files/runtime:tests:tests/ci:tests/lab run --cache-dir "$cache/mypy/tests" --implicit-reexport \
    tests/ci tests/lab tests/native tests/property tests/unit
exit "$failed"
