# shellcheck shell=bash
# Sourced by newest_core.sh: a place where the newest ansible-core runs, which needs Python 3.12.
# Where the distribution's own Python is older, that is a small Debian root, entered with chroot
# in a mount namespace of its own: native speed, no daemon, and nothing to unmount afterwards.

# shellcheck source=tests/ci/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release=trixie
newest_root=
export newest_bin=

# The archive this machine's own apt uses, so that a site's mirror is used here too.
debian_mirror() {
    local found
    # shellcheck disable=SC2016  # apt expands these, not the shell
    found=$(apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian|//p' | sed -n 1p)
    echo "${DS01_LAB_MIRROR:-$found}"
}

# A root whose content is made of packages only, so its name says all about it.
make_root() {
    newest_root=$host_cache/root-$release-1
    [[ ! -d $newest_root ]] || return 0
    need mmdebstrap mmdebstrap
    local mirror tarball=$host_cache/root.$$.tar new=$newest_root.$$
    mirror=$(debian_mirror)
    [[ -n $mirror ]] || die "apt knows no Debian archive; set DS01_LAB_MIRROR to the URI of one"
    echo "making a $release root for Python 3.13 (once, about half a minute)"
    mkdir -p "$host_cache"
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,openssh-client \
        "$release" "$tarball" "deb $mirror $release main"
    mkdir "$new"
    # Unpacked by this user, owned by this user: no root needed. Device nodes come from outside.
    tar -C "$new" --exclude='./dev/*' -xf "$tarball"
    rm -f "$tarball"
    mv -T "$new" "$newest_root" || rm -rf "$new"
}

# inside COMMAND...: run it where the newest core lives, with the same paths as out here.
inside() {
    if [[ -z $newest_root ]]; then
        "$@"
        return
    fi
    local map=()
    ((EUID == 0)) || map=(--map-root-user)
    unshare --mount --propagation private "${map[@]}" -- \
        "$repo/tests/ci/in_root.sh" "$newest_root" "$repo" "$host_cache" "$HOME" /tmp -- "$@"
}

newer_python() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))' 2>/dev/null
}

# Wheels are fetched by the tools' pip out here, which knows the site's mirror and certificates.
fetch_wheels() {
    local version=$1 wheels=$2 glibc machine platforms=() minor
    glibc=$(inside "$python" -c 'import os; print(os.confstr("CS_GNU_LIBC_VERSION").rpartition(".")[2])')
    machine=$(uname -m)
    for ((minor = glibc; minor >= 17; minor--)); do
        platforms+=(--platform "manylinux_2_${minor}_$machine")
    done
    platforms+=(--platform "manylinux2014_$machine")
    "$venv/bin/python" -m pip download -qq --no-deps --require-hashes --only-binary :all: \
        --implementation cp --python-version "$version" "${platforms[@]}" \
        -d "$wheels" -r "$repo/requirements/newest.txt"
}

# Set newest_bin to a folder with the newest core's commands, making it if need be.
prepare_newest() {
    local python=${DS01_NEWEST_PYTHON:-/usr/bin/python3} version place wheels
    if ! newer_python "$python"; then
        make_root
        python=/usr/bin/python3
        inside "$python" -c 'import ensurepip, sys, venv; assert sys.version_info >= (3, 12)' ||
            die "the root $newest_root has no Python 3.12 or newer; remove it and try again"
    fi
    version=$(inside "$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    place=$host_cache/newest-$version-$(sha256sum "$repo/requirements/newest.txt" | head -c 16)
    newest_bin=$place/bin
    [[ ! -e $place/.complete ]] || return 0
    wheels=$(mktemp -d)
    fetch_wheels "$version" "$wheels"
    rm -rf "$place"
    inside "$python" -m venv "$place"
    inside "$place/bin/python" -m pip install -qq --no-index --find-links "$wheels" --no-deps \
        --require-hashes -r "$repo/requirements/newest.txt"
    rm -rf "$wheels"
    touch "$place/.complete"
}
