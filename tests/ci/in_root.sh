#!/usr/bin/env bash
# in_root.sh ROOT PATH... -- COMMAND...: run the command in ROOT, with each PATH the same as here.
# Called in a mount namespace of its own, so that the mounts end with the command.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

root=$1
shift
paths=(/proc /sys /dev)
while [[ $1 != -- ]]; do
    paths+=("$1")
    shift
done
shift
for path in "${paths[@]}"; do
    mkdir -p "$root$path"
    mount --rbind "$path" "$root$path"
done
here=$PWD
# The caller's PATH names programs of the other system.
exec chroot "$root" /usr/bin/env -C "$here" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C.UTF-8 "$@"
