#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `corral info` says what `qemu-img info` says, to people and as JSON. It opens nothing but the image, however the header
# tempts it; --backing-chain follows it within the policy.
. "$(dirname "$0")/lib.sh"
needs jq

# agrees IMAGE [OPTION...]
agrees() {
	qemu-img info "$@" >theirs || fail "qemu-img info $*"
	"$CORRAL" info "$@" >ours || fail "corral info $*"
	same ours theirs "info $*"
	qemu-img info --output=json "$@" >theirs
	"$CORRAL" info --output=json "$@" >ours
	equal "$(jq -s '.[0] == .[1]' ours theirs)" true "info --output=json $*: $(cat ours theirs)"
}

# ---- shapes ----
for options in cluster_size=512 cluster_size=2M,refcount_bits=1 refcount_bits=64,lazy_refcounts=on compat=0.10 \
	extended_l2=on compression_type=zstd data_file=data,data_file_raw=on; do
	create -o $options image 123M
	agrees image
	rm image
done
for size in 0 512 999k 1000M 1001M 1023M 5T 1000P; do
	create -o cluster_size=2M image $size
	agrees image
done
head -c 3000 /dev/urandom >raw
agrees raw
agrees raw -f raw
create image 1M
agrees image -f raw
: >empty
agrees empty

# ---- backing files, which need not be there ----
mkdir sub
create -b raw -F raw overlay
agrees overlay
agrees "$PWD/overlay"
for name in nowhere sub/nowhere /nowhere ../nowhere nbd://nowhere/x file:nowhere 'json:{"driver":"null-co"}' 'a b'; do
	create -u -b "$name" -F raw sub/named 1M
	agrees sub/named
done
create -u -o compat=0.10,backing_file=nowhere,backing_fmt=qcow2 sub/named 1M
agrees sub/named

# ---- snapshots and bitmaps ----
create image 64M
qemu-img snapshot -c first image
qemu-img snapshot -c 'a second one, with a name that is long' image
agrees image
qemu-img bitmap --add -g 4096 image one
qemu-img bitmap --add --disable image 'number two'
agrees image

# ---- states ----
create image 1M
python3 "$INTEROP/header.py" set image incompatible 0 1
agrees image
create image 1M
qemu-io -f qcow2 -c 'write 0 1M' image >/dev/null
agrees image

# ---- chains ----
create -b overlay -F qcow2 top 5M
agrees top --backing-chain
agrees raw --backing-chain
fails allow "$CORRAL" info --backing-chain --allow none top
create -u -b /etc/hostname -F raw top 1M
fails -- '--allow' "$CORRAL" info --backing-chain top
create -u -b mid -F qcow2 top 1M
create -u -b ./top -F qcow2 mid 1M
fails 'circle' "$CORRAL" info --backing-chain top

# Data files aren't opened, not even that of a layer below.
create -o data_file=outside mid 1M
create -b mid -F qcow2 top 1M
rm outside
agrees top --backing-chain

# ---- text from outside can't control a terminal ----
create -u -b $'evil\e[31m' -F raw top 1M
! "$CORRAL" info top | grep -q $'\e' || fail "an escape sequence got through"
"$CORRAL" info --output=json top | jq -e '."backing-filename" == "evil\u001b[31m"' >said || fail "JSON doesn't have the name as it is"

# ---- it opens nothing but the image ----
if command -v strace >/dev/null; then
	create -b overlay -F qcow2 top 5M
	ASAN_OPTIONS=detect_leaks=0 CORRAL_AIO=threads strace -f -e trace=open,openat,openat2 -o trace "$CORRAL" info top >said
	! grep -E 'overlay|raw' trace || fail "info opened a backing file"
fi

# ---- nothing is believed ----
create image 1M
python3 "$INTEROP/bend.py" image byte:56 '|0x10000'
fails 'snapshot' "$CORRAL" info image
fails 'No such file' "$CORRAL" info nowhere
fails 'directory|regular file' "$CORRAL" info sub
passed
