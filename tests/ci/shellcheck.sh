#!/usr/bin/env bash
# Check every shell script of the tree, found by its name or its first line.
# shellcheck source=tests/ci/lib.sh
source "$(dirname "$0")/lib.sh"
need shellcheck shellcheck

cd "$repo"
scripts=()
while IFS= read -r -d '' path; do
    [[ -f $path && ! -L $path ]] || continue
    if [[ $path == *.sh ]] || head -c 64 "$path" | sed -n 1p | grep -aE '^#!.*\b(ba|da)?sh\b' >/dev/null; then
        scripts+=("$path")
    fi
done < <(list_files)
((${#scripts[@]})) || die "no shell script found, which cannot be"
shellcheck --external-sources "${scripts[@]}"
echo "${#scripts[@]} scripts checked"
