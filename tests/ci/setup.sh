#!/usr/bin/env bash
# Install what the other stages need: Debian packages, the Python tools, the collection's path.
# Nothing is done twice: a second run only compares.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"

# The distribution's Python first: apt can complete it with venv, which it cannot for others.
find_python() {
    local candidate
    for candidate in "${DS01_PYTHON:-}" /usr/bin/python3 python3.13 python3.12 python3.11; do
        [[ -n $candidate ]] || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11, 3.12 or 3.13 found; install python3 or set DS01_PYTHON to one"
}

missing_packages() {
    local command package
    while read -r command package; do
        [[ -n $command && $command != \#* ]] || continue
        PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || echo "$package"
    done <"$repo/tests/ci/packages.txt"
    if [[ $python == /usr/bin/python3 ]] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo python3-venv
    fi
}

install_packages() {
    local -a packages
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]})) || return 0
    local apt=(apt-get)
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "as root, run: apt-get install ${packages[*]}"
        apt=(sudo apt-get)
    fi
    echo "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${apt[@]}" update -q
    "${apt[@]}" install -q -y --no-install-recommends "${packages[@]}" ||
        die "apt-get could not install: ${packages[*]}"
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]} == 0)) || die "still missing after the installation: ${packages[*]}"
}

make_venv() {
    local want
    want=$("$python" --version)$'\n'$(cat "$repo"/requirements/{dev,sdist}.txt | sha256sum)
    if [[ -x $venv/bin/python && $(cat "$venv/.stamp" 2>/dev/null) == "$want" ]]; then
        return 0
    fi
    echo "installing the Python tools with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install -qq --no-deps --require-hashes --only-binary :all: \
        -r "$repo/requirements/dev.txt"
    "$venv/bin/python" -m pip install -qq --no-deps --require-hashes --no-build-isolation \
        -r "$repo/requirements/sdist.txt"
    "$venv/bin/python" -m pip check
    printf '%s' "$want" >"$venv/.stamp"
}

link_collection() {
    mkdir -p "$cache/collections/ansible_collections/ds01"
    ln -sfn "$repo" "$cache/collections/ansible_collections/ds01/infra"
}

python=$(find_python)
install_packages
make_venv
link_collection
echo "ready: $("$venv/bin/python" --version), $("$venv/bin/ansible" --version | sed -n 1p)"
