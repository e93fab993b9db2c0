#!/usr/bin/env bash
# The newest ansible-core, as an admin with a newer machine has it: the artefact is built,
# installed and documented, and site.yml runs in check mode and for real on the lab host.
# Needs the lab that `lab-site` leaves running. With --setup-only: only make the environment.
# shellcheck source=tests/ci/newest_python.sh
source "$(dirname "$0")/newest_python.sh"

prepare_newest
[[ ${1:-} != --setup-only ]] || exit 0

work=$cache/newest
rm -rf "$work"
copy_tree "$work/tree"
failed=0
inside "$repo/tests/ci/check_collection.sh" "$newest_bin" "$work" || failed=1

lab_dir=${DS01_LAB_DIR:-$cache/lab}
[[ -e $lab_dir/ssh_config ]] || die "the lab is not up ($lab_dir): this stage runs after lab-site"

site() {
    echo "--- site.yml $*"
    inside env ANSIBLE_CONFIG="$work/ansible.cfg" ANSIBLE_COLLECTIONS_PATH="$work/collections" \
        ANSIBLE_HOME="$work/home" ANSIBLE_INJECT_FACT_VARS=false ANSIBLE_NOCOLOR=1 ANSIBLE_TIMEOUT=60 \
        "$newest_bin/ansible-playbook" -i "$repo/inventories/lab/hosts.yml" ds01.infra.site "$@" 2>&1 | tee "$work/site.log"
    # A play that matched no host ends with status 0 too, and has proved nothing.
    grep -qE '^ds01-lab +: ok=[1-9]' "$work/site.log" || die "site.yml ran on no host"
}
site --check --diff
site
exit "$failed"
