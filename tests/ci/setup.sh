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

# The first of these packages that this Debian has, or the last one.
pick_package() {
    while (($# > 1)) && ! apt-cache show --no-all-versions "$1" >/dev/null 2>&1; do shift; done
    echo "$1"
}

missing_packages() {
    local -a words
    while read -r -a words; do
        [[ ${words[0]:-#} != \#* ]] || continue
        PATH=$PATH:/usr/sbin:/sbin command -v "${words[0]}" >/dev/null ||
            pick_package "${words[@]:1}"
    done <"$repo/tests/ci/packages.txt"
    if [[ $python == /usr/bin/python3 ]] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo python3-venv
    fi
}

# Units that start at boot.
enabled_units() {
    find /etc/systemd/system -path '*.wants/*' -printf '%f\n' 2>/dev/null | sort -u
}

# apt_install SUDO... -- PACKAGE...: of docker.io and haproxy only the programs are wanted. Debian
# would start their services now (unless the file that invoke-rc.d(8) asks says no) and at each boot.
apt_install() {
    local policy=/usr/sbin/policy-rc.d status=0 before unit ours=
    local -a sudo=()
    while [[ $1 != -- ]]; do sudo+=("$1") && shift; done
    shift
    before=$(enabled_units)
    if [[ ! -e $policy ]]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" install -m 755 /dev/stdin "$policy"
    fi
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@" || status=$?
    [[ -z $ours ]] || "${sudo[@]}" rm -f "$policy"
    for unit in $(comm -13 <(echo "$before") <(enabled_units)); do
        "${sudo[@]}" systemctl disable --quiet "$unit"
    done
    return "$status"
}

install_packages() {
    local -a packages sudo=()
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]})) || return 0
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "as root, run: apt-get install ${packages[*]}"
        sudo=(sudo)
    fi
    "${sudo[@]}" apt-get update -q
    mapfile -t packages < <(missing_packages) # now that it is known what there is
    echo "installing ${packages[*]}"
    apt_install "${sudo[@]}" -- "${packages[@]}" ||
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
