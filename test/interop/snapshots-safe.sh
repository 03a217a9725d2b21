#!/bin/bash
# SPDX-License-Identifier: MIT
#
# An image with internal snapshots is written through Corral: the snapshots keep what they held, can be read, gone back to
# and deleted by QEMU afterwards, and every refcount is right at each step.
. "$(dirname "$0")/lib.sh"

MIB=$((1 << 20))
SIZE=$((6 * MIB + 512))

# work IMAGE SEED UNIT
work() {
	serve "$1"
	python3 "$INTEROP/traffic.py" run model --seed "$2" --ops 150 --unit "$3" --discard-zeroes -- -f raw "$URI" ||
		fail "$1: writing"
	stop
	clean "$1"
	holds "$1"
}

# holds IMAGE: as the model says
holds() {
	qemu_reads "$1" now.raw
	python3 "$INTEROP/traffic.py" verify model now.raw || fail "$1: wrong data"
}

# snapshot_holds IMAGE NAME
snapshot_holds() {
	qemu-img convert -f qcow2 -O raw -l "snapshot.name=$2" "$1" then.raw
	same then.raw "$2.raw" "$1: snapshot $2"
}

# keeps IMAGE UNIT OPTIONS
keeps() {
	local image=$1 name
	create -o "cluster_size=$2,$3" "$image" $SIZE
	python3 "$INTEROP/traffic.py" new model $SIZE
	work "$image" 1 "$2"
	for name in one two; do
		qemu-img snapshot -c $name "$image"
		qemu_reads "$image" $name.raw
		cp model $name.model
		cp model.trimmed $name.model.trimmed
		work "$image" 2 "$2"
	done
	snapshot_holds "$image" one
	snapshot_holds "$image" two
	qemu-img snapshot -d one "$image"
	clean "$image"
	work "$image" 3 "$2"
	snapshot_holds "$image" two
	qemu-img snapshot -a two "$image"
	clean "$image"
	serve "$image" --read-only
	corral_reads back.raw
	stop
	same back.raw two.raw "$image: gone back to"
	cp two.model model
	cp two.model.trimmed model.trimmed
	work "$image" 4 "$2"
	snapshot_holds "$image" two
	qemu-img snapshot -d two "$image"
	clean "$image"
	holds "$image"
	say "$image: ok, $SECONDS s"
}

needs nbdcopy
keeps default 65536 compat=1.1
keeps tiny 512 refcount_bits=2
keeps v2 4096 compat=0.10
passed
