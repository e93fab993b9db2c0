#!/usr/bin/env bash
# Build the collection, install the artefact, and check what a site would get from it.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"

work=$cache/artefact
installed=$work/collections/ansible_collections/ds01/infra
# The checkout's ansible.cfg and collections path must not lend the artefact what it lacks.
export ANSIBLE_CONFIG=/dev/null ANSIBLE_COLLECTIONS_PATH=$work/collections ANSIBLE_HOME=$work/home

rm -rf "$work"
copy_tree "$work/tree"
"$venv/bin/ansible-galaxy" collection build --output-path "$work" "$work/tree"
artefact=$(echo "$work"/ds01-infra-*.tar.gz)
"$venv/bin/ansible-galaxy" collection install --offline -p "$work/collections" "$artefact"

cd "$work"
"$venv/bin/python" "$repo/tests/ci/check_artefact.py" "$repo" "$installed"
"$venv/bin/python" "$repo/tests/ci/check_docs_of_plugins.py" "$installed"
for playbook in "$installed"/playbooks/*.yml; do
    "$venv/bin/ansible-playbook" --syntax-check -i "$installed/inventories/lab" "ds01.infra.$(basename "$playbook" .yml)"
done
