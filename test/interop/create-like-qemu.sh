#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `corral create` makes the image that `qemu-img create` makes, byte for byte and with the same words, for every cluster
# size, refcount width and version; where its layout is its own, QEMU finds nothing wrong with it. What QEMU refuses it
# refuses, and an image that is there and in use, or that wasn't to be touched, stays as it was.
. "$(dirname "$0")/lib.sh"
needs jq

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

# with_data OPTIONS SIZE [ARGUMENT...]: with the data file `data`; QEMU's may be longer than the disk, by part of a cluster
with_data() {
	local length
	rm -f image data
	qemu-img create -f qcow2 -o "data_file=data,$1" image "${@:2}" >theirs.out || fail "qemu-img create $*"
	mv image theirs
	length=$(stat -c %s data)
	rm data
	"$CORRAL" create -f qcow2 -o "data_file=data,$1" image "${@:2}" >ours.out || fail "corral create $*"
	same ours.out theirs.out "data_file, $*"
	same image theirs "data_file, $*"
	check_status 0 "$CORRAL" check image
	equal "$(stat -c %s data)" "$("$CORRAL" info --output=json image | jq '."virtual-size"')" "$*: the data file's size"
	[ "$length" -ge "$(stat -c %s data)" ] || fail "$*: QEMU's data file has $length bytes"
	cmp -n "$(stat -c %s data)" data /dev/zero || fail "$*: the data file doesn't read zeros"
	mv image ours
}

# space_of FILE: bytes that it takes on the host
space_of() { echo $(($(stat -c %b "$1") * 512)); }

# takes LEAST MOST FILE
takes() { [ "$1" -le "$(space_of "$3")" ] && [ "$(space_of "$3")" -le "$2" ] || fail "$3 takes $(space_of "$3") bytes"; }

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
alike preallocation=metadata 1001k
alike preallocation=metadata,cluster_size=2M 3000k
for mode in falloc full; do
	alike preallocation=$mode 1001k
	alike preallocation=$mode,compat=0.10 70k
	alike preallocation=$mode,cluster_size=4k 4M
	alike preallocation=$mode,cluster_size=512 1100
	alike preallocation=$mode,cluster_size=512 132k
	alike preallocation=$mode,cluster_size=512,refcount_bits=64 70k
	alike preallocation=$mode,cluster_size=512,refcount_bits=64 2300k
	takes $((2300 * 1024)) $((2400 * 1024)) ours
done
alike preallocation=metadata,cluster_size=4k 4M
takes 0 $((64 * 1024)) ours
alike compression_type=zstd 1G
alike compression_type=zlib 1G
alike extended_l2=on 10G
alike extended_l2=on,cluster_size=16k,compression_type=zstd,lazy_refcounts=on 100M
alike extended_l2=off 1G
for mode in metadata falloc full; do
	alike extended_l2=on,preallocation=$mode 1001k
	alike extended_l2=on,cluster_size=16k,preallocation=$mode 30M
done
with_data cluster_size=64k 1G
with_data data_file_raw=off 1001k
with_data data_file_raw=on 1001k
with_data data_file_raw=on,cluster_size=512 1001k
with_data preallocation=metadata,cluster_size=2M 3000k
with_data preallocation=metadata,extended_l2=on 1001k
takes 0 4096 data
for mode in falloc full; do
	with_data preallocation=$mode 1001k
	takes $((1001 * 1024)) $((1010 * 1024)) data
	with_data preallocation=$mode,data_file_raw=on,cluster_size=4k 3M
	takes $((3 * MIB)) $((3 * MIB + 8192)) data
done
alike cluster_size=2M 1P
alike size=12M
truncate -s 3000 base.raw
qemu-img create -q -f qcow2 base.qcow2 5M
alike "" -b base.raw -F raw
alike "" -b base.qcow2 -F qcow2
alike "" -b base.qcow2 -F qcow2 7M
alike cluster_size=512 -b base.qcow2 -F qcow2
alike compat=0.10,cluster_size=8k,backing_file=base.qcow2,backing_fmt=qcow2
for mode in off metadata falloc full; do
	alike extended_l2=on,preallocation=$mode -b base.qcow2 -F qcow2 7M
done
with_data cluster_size=64k 7M -b base.qcow2 -F qcow2
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
sound_too preallocation=falloc,cluster_size=512,refcount_bits=64 6M

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
refused "'much'" -o preallocation=much refused 1M
refused "mode: metadata" -f raw -o preallocation=metadata refused 1M
refused "'lzma'" -o compression_type=lzma refused 1M
refused "'on' or 'off'" -o extended_l2=maybe refused 1M
refused 'at least 16384' -o extended_l2=on,cluster_size=8k refused 1M
for option in extended_l2=on compression_type=zstd data_file=data; do
	refused 'compatibility level 1.1' -o compat=0.10,$option refused 1M
done
refused 'requires data-file' -o data_file_raw=on refused 1M
refused 'at the same time' -o data_file=data,data_file_raw=on -b base.qcow2 -F qcow2 refused
refused 'local file' -o data_file=nbd://localhost/x refused 1M
refused 'local file' -o data_file= refused 1M
refused "parameter 'data_file'" -f raw -o data_file=data refused 1M
refused "'colour'" -o colour=red refused 1M
refused "'vmdk'" -f vmdk refused 1M
refused 'without backing format' -b base.qcow2 refused 1M
refused "'vmdk'" -b base.qcow2 -F vmdk refused 1M
refused 'No such file' -b nowhere -F raw refused 1M
refused 'only once' -o size=1M refused 1M
for mode in metadata falloc full; do
	refused 'only be used at the same time if extended_l2 is on' -o preallocation=$mode -b base.qcow2 -F qcow2 refused
done
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
fails 'in use' "$CORRAL" create -o data_file=there ./there 2M
fails 'backing file itself' "$CORRAL" create -o data_file=there -b there -F qcow2 over 2M
equal "$(sha256sum there)" "$before" "an image that was to be its own data file, or that of its overlay"
mkdir sub
"$CORRAL" create -q -o data_file=data.raw sub/image 1M
[ -e sub/data.raw ] || fail "the data file isn't beside the image"
"$CORRAL" create -q there 2M >said
equal "$(cat said)" "" "what -q says"
qemu-img create -q -f qcow2 theirs 2M
same there theirs "an image made over another"
passed
