#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `corral create` makes the image that `qemu-img create` makes, byte for byte and with the same words, for every cluster
# size, refcount width and version; where its layout is its own, QEMU finds nothing wrong with it. What QEMU refuses it
# refuses, and an image that is there and in use, or that wasn't to be touched, stays as it was.
. "$(dirname "$0")/lib.sh"

MIB=$((1 << 20))

# both OPTIONS [ARGUMENT...]: the images ours and theirs, and what was said of them
both() {
	local options=()
	[ -z "$1" ] || options=(-o "$1")
	shift
	rm -f image
	qemu-img create -f qcow2 "${options[@]}" image "$@" >theirs.out || fail "qemu-img create ${options[*]} $*"
	mv image theirs
	"$CORRAL" create -f qcow2 "${options[@]}" image "$@" >ours.out || fail "corral create ${options[*]} $*"
	mv image ours
	same ours.out theirs.out "${options[*]} $*"
}

alike() {
	both "$@"
	same ours theirs "$*"
	check_status 0 "$CORRAL" check ours
}

# sound_too: a layout of our own
sound_too() {
	both "$@"
	clean ours
	qemu-io -f qcow2 -c "write -P 1 0 4k" ours >/dev/null
	clean ours
	rm ours theirs
}

# ---- the same bytes ----
for size in 0 1000 1G; do alike "" $size; done
for cluster in 512 1k 2k 4k 8k 16k 32k 64k 128k 256k 512k 1M 2M; do alike cluster_size=$cluster 300M; done
for width in 1 2 4 8 16 32 64; do alike "refcount_bits=$width" 1T; done
alike compat=0.10 10G
alike compat=0.10,cluster_size=512 10M
alike compat=v3,lazy_refcounts=on 1G
alike lazy_refcounts=off,preallocation=off 1.5G
alike preallocation=metadata 100M
alike preallocation=metadata,cluster_size=512,refcount_bits=8 100k
alike cluster_size=2M 1P
alike size=12M
truncate -s 3000 base.raw
qemu-img create -q -f qcow2 base.qcow2 5M
alike "" -b base.raw -F raw
alike "" -b base.qcow2 -F qcow2
alike "" -b base.qcow2 -F qcow2 7M
alike cluster_size=512 -b base.qcow2 -F qcow2
alike compat=0.10,cluster_size=8k,backing_file=base.qcow2,backing_fmt=qcow2
alike "" -u -b 'no,such=file' -F raw 1M
alike "backing_file=a,,b,backing_fmt=raw" -u 1M
"$CORRAL" create -f raw ours.raw 1000 >ours.out
qemu-img create -f raw theirs.raw 1000 >theirs.out
equal "$(sed s/ours/theirs/ ours.out)" "$(cat theirs.out)" "what is said of a raw image"
same ours.raw theirs.raw

# ---- other bytes, no worse ----
sound_too preallocation=metadata 5G
sound_too preallocation=metadata,cluster_size=512,refcount_bits=64 40M
sound_too preallocation=metadata,cluster_size=4k,refcount_bits=1 1G
sound_too cluster_size=512 20G

# ---- refused ----
refused() {
	local regex=$1
	shift
	fails "$regex" "$CORRAL" create "$@"
	[ ! -e refused ] || fail "corral create $*: there is a file now"
}
refused 'size parameter' refused
refused 'Invalid image size' refused 1X
refused 'between 0 and' refused 99999999999T
refused 'too large' refused 8000P
refused 'Cluster size' -o cluster_size=3000 refused 1M
refused 'Cluster size' -o cluster_size=4M refused 1M
refused 'Refcount width' -o refcount_bits=9 refused 1M
refused 'Refcount width' -o refcount_bits=128 refused 1M
refused 'refcount widths' -o compat=0.10,refcount_bits=8 refused 1M
refused 'Lazy refcounts' -o compat=0.10,lazy_refcounts=on refused 1M
refused "'maybe'|'on' or 'off'" -o lazy_refcounts=maybe refused 1M
refused "'1.2'" -o compat=1.2 refused 1M
refused "'full'" -o preallocation=full refused 1M
refused "'colour'" -o colour=red refused 1M
refused "'vmdk'" -f vmdk refused 1M
refused 'without backing format' -b base.qcow2 refused 1M
refused "'vmdk'" -b base.qcow2 -F vmdk refused 1M
refused 'No such file' -b nowhere -F raw refused 1M
refused 'only once' -o size=1M refused 1M
refused 'hide the backing file' -o preallocation=metadata -b base.qcow2 -F qcow2 refused
refused "don't fit|most is" -u -b "$(printf 'x%.0s' {1..1000})" -F raw -o cluster_size=1k refused 1M
refused 'No such file' nowhere/refused 1M
refused 'not supported' -f raw -b base.raw -F raw refused 1M

# ---- what is there ----
qemu-img create -q -f qcow2 there 1M
before=$(sha256sum there)
fails 'backing file itself|same filename' "$CORRAL" create -b there -F qcow2 ./there 1M
fails 'Lazy' "$CORRAL" create -o compat=0.10,lazy_refcounts=on there 2M
serve there
fails 'lock|in use' "$CORRAL" create there 2M
stop
equal "$(sha256sum there)" "$before" "an image that was in use or not to be touched"
"$CORRAL" create -q there 2M >said
equal "$(cat said)" "" "what -q says"
qemu-img create -q -f qcow2 theirs 2M
same there theirs "an image made over another"
passed
