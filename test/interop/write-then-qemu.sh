#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Whatever Corral writes, QEMU finds whole: random overlapping writes, zeroes and discards through NBD into images of many
# shapes. After a clean stop both checkers are content, and both programs read what the model says.
. "$(dirname "$0")/lib.sh"
needs nbdcopy

MIB=$((1 << 20))
SIZE=$((6 * MIB + 3 * 512))
seed=0

# image_is_the_model IMAGE MODEL
image_is_the_model() {
	clean "$1"
	qemu_reads "$1" "$1.qemu"
	python3 "$INTEROP/traffic.py" verify "$2" "$1.qemu" || fail "$1: QEMU reads something else"
	serve "$1" --read-only
	corral_reads "$1.corral"
	stop
	same "$1.qemu" "$1.corral" "Corral reads something else"
	rm -f "$1.qemu" "$1.corral"
}

# writes_survive NAME UNIT OPTION...: the image NAME and NAME.model are there
writes_survive() {
	local image=$1 unit=$2
	shift 2
	seed=$((seed + 1))
	serve "$image"
	python3 "$INTEROP/traffic.py" run "$image.model" --seed $seed --unit "$unit" "$@" -- -f raw "$URI" ||
		fail "$image: writing"
	stop
	image_is_the_model "$image" "$image.model"
	say "$image: ok, ${SECONDS} s"
}

# make NAME ARGUMENT...: by Corral and by QEMU in turn
make() {
	if [ $((seed % 2)) = 0 ]; then
		"$CORRAL" create -q "${@:2}" "$1" $SIZE || fail "corral create ${*:2} $1"
	else
		create "${@:2}" "$1" $SIZE
	fi
}

# shape NAME UNIT OPTIONS [TRAFFIC-OPTION...]: an image without a backing file
shape() {
	make "$1" -o "cluster_size=$2,$3"
	python3 "$INTEROP/traffic.py" new "$1.model" $SIZE
	writes_survive "$1" "$2" --discard-zeroes "${@:4}"
}

shape tiny-rb1 512 refcount_bits=1 --ops 200
shape tiny-rb64 512 refcount_bits=64 --ops 200
shape rb8 4096 refcount_bits=8
shape default 65536 compat=1.1
shape v2 65536 compat=0.10
shape lazy 16384 lazy_refcounts=on
shape metadata 32768 preallocation=metadata
SIZE=$((40 * MIB)) shape huge 2097152 refcount_bits=32 --ops 100
shape metadata-tiny 1024 preallocation=metadata,refcount_bits=4 --ops 150

# Overlays: what shows through, and what is copied up
head -c $((3 * MIB + 512)) /dev/urandom >bottom.raw
create -o cluster_size=4096 -b bottom.raw -F raw middle.qcow2 $((5 * MIB))
qio -f qcow2 middle.qcow2 -- "write -P 1 1M 300k" "write -z 2M 100k" "write -P 2 4M 64k"
qemu_reads middle.qcow2 middle.flat
before=$(sha256sum bottom.raw middle.qcow2)

# overlay NAME UNIT OPTIONS BACKING FORMAT FLAT [TRAFFIC-OPTION...]
overlay() {
	make "$1" -o "cluster_size=$2,$3" -b "$4" -F "$5"
	python3 "$INTEROP/traffic.py" new "$1.model" $SIZE "$6"
	writes_survive "$1" "$2" "${@:7}"
}

overlay over-qcow2 65536 compat=1.1 middle.qcow2 qcow2 middle.flat --discard-zeroes
overlay tiny-over-raw 512 refcount_bits=16 bottom.raw raw bottom.raw --discard-zeroes --ops 200
overlay v2-over-raw 65536 compat=0.10 bottom.raw raw bottom.raw
overlay big-over-small 1048576 refcount_bits=16 middle.qcow2 qcow2 middle.flat --discard-zeroes --ops 150
equal "$(sha256sum bottom.raw middle.qcow2)" "$before" "the backing files changed"

# A whole disk copied in at once
make copied.qcow2
head -c $SIZE /dev/urandom >copied.model
head -c $((SIZE / 512)) /dev/zero >copied.model.trimmed
serve copied.qcow2
nbdcopy --flush copied.model "$URI"
stop
image_is_the_model copied.qcow2 copied.model
passed
