#!/usr/bin/env bash
# newest_core.sh [--setup-only|--site]: the newest ansible-core, as an admin with a newer machine has
# it: the artefact is built, installed and documented. With --site that artefact's site.yml runs in
# check mode and for real, on the lab that `lab-site` leaves running. With --setup-only: only make
# the environment.
# shellcheck source=tests/ci/newest_python.sh
source "$(dirname "$0")/newest_python.sh"

work=$cache/newest

# What the artefact is made of; the paths too, since a file may have moved.
state_of_tree() {
    # A link to a folder is no file to sha256sum(1); what it leads to is listed itself.
    (list_files) | (cd "$repo" && (xargs -0 sha256sum 2>/dev/null || true)) | sha256sum
}

artefact() {
    rm -rf "$work"
    copy_tree "$work/tree"
    inside "$repo/tests/ci/check_collection.sh" "$newest_bin" "$work"
    state_of_tree >"$work/.made-of"
}

site() {
    echo "--- site.yml $*"
    inside env ANSIBLE_CONFIG="$work/ansible.cfg" ANSIBLE_COLLECTIONS_PATH="$work/collections" \
        ANSIBLE_HOME="$work/home" ANSIBLE_INJECT_FACT_VARS=false ANSIBLE_NOCOLOR=1 ANSIBLE_TIMEOUT=60 \
        "$newest_bin/ansible-playbook" -i "$repo/inventories/lab/hosts.yml" ds01.infra.site "$@" 2>&1 | tee "$work/site.log"
    # A play that matched no host ends with status 0 too, and has proved nothing.
    grep -qE '^ds01-lab +: ok=[1-9]' "$work/site.log" || die "site.yml ran on no host"
}

prepare_newest
case ${1:-} in
    --setup-only) ;;
    --site)
        lab_dir=${DS01_LAB_DIR:-$cache/lab}
        [[ -e $lab_dir/ssh_config ]] || die "the lab is not up ($lab_dir): this stage runs after lab-site"
        # Made by newest-core a moment ago, or here where this stage runs alone.
        [[ $(cat "$work/.made-of" 2>/dev/null) == "$(state_of_tree)" ]] || artefact
        site --check --diff
        # As an admin does it who is root by sudo; all other plays on the lab come as root.
        site -e ansible_user=dana
        ;;
    *) artefact ;;
esac
