#!/usr/bin/env bash
# check_collection.sh BIN WORK: build and install the tree at WORK/tree with the Ansible in BIN,
# and check the installed collection with it.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"

bin=$1
work=$2
collections=$work/collections
installed=$collections/ansible_collections/ds01/infra
# The checkout's ansible.cfg and collections path must not lend the artefact what it lacks.
export ANSIBLE_CONFIG=$work/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$collections ANSIBLE_HOME=$work/home
echo '[defaults]' >"$ANSIBLE_CONFIG"

cd "$work"
"$bin/ansible" --version | sed -n 1p
"$bin/ansible-galaxy" collection build --force --output-path "$work" "$work/tree"
artefact=$(echo "$work"/ds01-infra-*.tar.gz)
"$bin/ansible-galaxy" collection install --force --offline -p "$collections" "$artefact"
"$bin/python" "$repo/tests/ci/check_artefact.py" "$work/tree" "$installed"
"$bin/python" "$repo/tests/ci/check_docs_of_plugins.py" "$installed"
for playbook in "$installed"/playbooks/*.yml; do
    [[ -e $playbook ]] || die "the collection has no playbook"
    # By the full name, as an admin calls it: Ansible finds it only where that is an identifier.
    "$bin/ansible-playbook" --syntax-check -i "$repo/inventories/lab" "ds01.infra.$(basename "$playbook" .yml)"
done
echo "$(find "$installed/playbooks" -name '*.yml' | wc -l) playbooks found by name"
