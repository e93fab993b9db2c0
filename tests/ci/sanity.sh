#!/usr/bin/env bash
# ansible-test sanity on a copy of the tree, at the path that it insists on.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"

# ansible-test makes an environment for each of its tests and fetches pip's installer for them
# from a server of its own. Python carries pip already, so a two-line installer does the same and
# the package registry is all that is needed.
offer_pip_installer() {
    local internal versions version target
    internal=$("$venv/bin/python" -c 'import ansible_test, pathlib; print(pathlib.Path(ansible_test.__file__).parent)')
    versions=$(grep -ohE "pip='[0-9.]+'" "$internal/_internal/python_requirements.py" | tr -dc '0-9.\n')
    [[ -n $versions ]] || die "no pip version found in $internal; has ansible-test changed?"
    for version in $versions; do
        target=$HOME/.ansible/test/cache/get_pip_${version//./_}.py
        [[ ! -e $target ]] || continue
        mkdir -p "$(dirname "$target")"
        printf 'import ensurepip\n\nensurepip.bootstrap(upgrade=True, default_pip=True)\n' >"$target"
    done
}

offer_pip_installer
tree=$cache/sanity/ansible_collections/ds01/infra
copy_tree "$tree"
cd "$tree"
# In a repository of its own ansible-test sees these files and not the ones of the checkout around.
git -c init.defaultBranch=main init -q
git add -A
version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$venv/bin/ansible-test" sanity --venv --python "$version" --color no "$@"
