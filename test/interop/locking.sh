#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Corral and QEMU keep out of each other's images: while one writes, the other can neither write nor read; readers go
# together; the locks end with the server, however it ends.
. "$(dirname "$0")/lib.sh"

create base 2M
qio -f qcow2 base -- "write -P 7 0 1M"
create -b base -F qcow2 image 2M

qemu_can() { qio -f qcow2 "$@" -- "read 0 512"; }
qemu_may_not() { fails 'lock' qemu-io -f qcow2 -c "read 0 512" "$@"; }

# ---- Corral writes ----
serve image
qemu_may_not image
qemu_may_not -r image
fails 'lock' qemu-img resize -q -f qcow2 image 4M
serve_fails 'lock|in use' image
serve_fails 'lock|in use' image --read-only
qemu-img info -U image >/dev/null || fail "qemu-img info -U can't look on"
# Its backing file: others may read it, nobody may write it.
qemu_may_not base
qemu_can -r base
create -b base -F qcow2 other 2M
first=$SERVER
serve other
qio -f raw "$URI" -- "read -P 7 0 64k" "write -P 8 0 64k"
stop
stop "$first"
qemu_can image
qemu_can base

# ---- kill -9 leaves no lock behind ----
serve image
crash
qemu_can image
serve image
stop

# ---- QEMU writes, or reads ----
qemu_serve image
serve_fails 'lock|in use' image
serve_fails 'lock|in use' image --read-only
serve_fails 'lock|in use' base
stop "$QEMU_SERVER"
qemu_serve image --read-only
serve_fails 'lock|in use' image
serve image --read-only
qio -r -f raw "$URI" -- "read -P 7 0 64k"
stop
stop "$QEMU_SERVER"

# ---- readers go together ----
serve image --read-only
first=$SERVER
serve image --read-only
qio -r -f raw "$URI" -- "read -P 7 0 1M"
qemu_can -r image
qemu_may_not image
serve_fails 'lock|in use' image
stop
stop "$first"
qemu_can image
passed
