#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Corral's and QEMU's snapshots are each other's: whoever makes, deletes or applies one, the other reads the same from it,
# goes on with it, and finds every refcount right. The list looks the same; extra data that nobody knows survives.
. "$(dirname "$0")/lib.sh"

corral() { "$CORRAL" "$@" >"$SCRATCH/output" 2>&1 || fail "corral $*: $(cat "$SCRATCH/output")"; }

# by PROGRAM ACTION NAME IMAGE, with either program
by() {
	if [ "$1" = corral ]; then
		corral snapshot "$2" "$3" "$4"
	else
		qemu-img snapshot "$2" "$3" "$4" || fail "qemu-img snapshot $2 $3"
	fi
	clean "$4"
}

# write_some IMAGE PATTERN: here and there, sizes of all kinds
write_some() {
	qio -f qcow2 "$1" -- "write -P $2 0 70k" "write -P $2 $((0x$2 * 1000))k 3k" "write -z 300k 100k" \
		"discard $((500 + 0x$2))k 64k" "write -P $2 $((SIZE - 512)) 512"
}

# snapshot_is IMAGE NAME: both programs read what it held when it was made
snapshot_is() {
	qemu-img convert -f qcow2 -O raw -l "snapshot.name=$2" "$1" then.raw
	same then.raw "$2.raw" "$1: snapshot $2, as QEMU reads it"
	serve "$1" --snapshot "$2"
	corral_reads then.raw
	stop
	same then.raw "$2.raw" "$1: snapshot $2"
}

disk_is() {
	qemu_reads "$1" now.raw
	same now.raw "$2" "$1: the disk"
}

# back_and_forth IMAGE OPTIONS: makers and destroyers take turns
back_and_forth() {
	local image=$1 one two
	create -o "$2" "$image" $SIZE
	for pair in "corral qemu" "qemu corral" "corral corral"; do
		read -r one two <<<"$pair"
		write_some "$image" 1
		by "$one" -c first "$image"
		qemu_reads "$image" first.raw
		write_some "$image" 2
		by "$two" -c second "$image"
		qemu_reads "$image" second.raw
		write_some "$image" 3
		clean "$image"
		snapshot_is "$image" first
		snapshot_is "$image" second
		by "$two" -a first "$image"
		disk_is "$image" first.raw
		write_some "$image" 4
		clean "$image"
		snapshot_is "$image" first
		by "$one" -d first "$image"
		snapshot_is "$image" second
		write_some "$image" 5
		by "$one" -a second "$image"
		disk_is "$image" second.raw
		by "$two" -d second "$image"
		disk_is "$image" second.raw
		equal "$(qemu-img snapshot -l "$image")" "" "$image: snapshots left"
	done
	say "$image: ok, $SECONDS s"
}

many() {
	local i
	create -o cluster_size=4096 many 8M
	for i in $(seq 40); do
		qio -f qcow2 many -- "write -P $i $((i * 128))k 200k"
		corral snapshot -c "s$i" many
	done
	clean many
	same <(qemu-img snapshot -l many) <("$CORRAL" snapshot -l many) "the list"
	for i in $(seq 2 2 40); do corral snapshot -d "s$i" many; done
	clean many
	same <(qemu-img snapshot -l many) <("$CORRAL" snapshot -l many) "the list"
	equal "$(qemu-img snapshot -l many | awk 'NR > 2 { n++ } END { print n }')" 20 "snapshots"
	qio -f qcow2 many -- "write -P 99 0 8M"
	corral snapshot -a s21 many
	qio -f qcow2 many -- "read -P 21 $((21 * 128))k 200k" "read -P 20 $((20 * 128))k 128k" "read -P 0 5500k 1M"
	for i in $(seq 1 2 39); do corral snapshot -d "s$i" many; done
	clean many
}

narrow() {
	create -o refcount_bits=1 one 1M
	corral snapshot -c empty one
	qio -f qcow2 one -- "write -P 1 0 128k"
	fails "one bit" "$CORRAL" snapshot -c full one
	clean one
	create -o refcount_bits=2 two 1M
	qio -f qcow2 two -- "write -P 1 0 128k"
	corral snapshot -c a two
	corral snapshot -c b two
	fails "as 2 bits can count" "$CORRAL" snapshot -c c two
	clean two
	qio -f qcow2 two -- "read -P 1 0 128k" "write -P 2 0 64k"
	equal "$("$CORRAL" snapshot -l two | awk 'NR > 2 { printf "%s ", $2 }')" "a b " "snapshots"
	corral snapshot -d a two
	corral snapshot -c c two
	clean two
	fails "as 2 bits can count" "$CORRAL" snapshot -a b two
	clean two
}

# A record with more extra data than anybody knows, and one without any (as old versions wrote them).
extra_data() {
	create -o compat=0.10,cluster_size=4096 extra 1M
	qio -f qcow2 extra -- "write -P 7 0 64k"
	qemu-img snapshot -c long extra
	qemu-img snapshot -c bare extra
	python3 "$INTEROP/snapshot-table.py" bend extra
	python3 "$INTEROP/snapshot-table.py" dump extra >before
	corral snapshot -c third extra
	corral snapshot -d third extra
	python3 "$INTEROP/snapshot-table.py" dump extra >after
	same before after "records that others wrote"
	qio -f qcow2 extra -- "write -P 8 0 64k"
	corral snapshot -a bare extra
	qio -f qcow2 extra -- "read -P 7 0 64k"
	clean extra
}

# The state of a virtual machine lies behind the end of the disk.
vm_state() {
	create state 1M
	python3 "$INTEROP/snapshot-table.py" state state
	qemu-img snapshot -c plain state
	corral snapshot -c both state
	clean state
	corral snapshot -a plain state
	corral snapshot -d plain state
	corral snapshot -d both state
	clean state
}

sizes() {
	create size 1M
	qio -f qcow2 size -- "write -P 1 0 1M"
	corral snapshot -c small size
	qemu-img resize -q size 3M
	qio -f qcow2 size -- "write -P 2 1M 2M"
	corral snapshot -c large size
	"$CORRAL" map --output json --snapshot small size >map.then
	corral snapshot -a small size
	same map.then <("$CORRAL" map --output json size) "the map"
	equal "$("$CORRAL" info --output json size | python3 -c 'import json,sys; print(json.load(sys.stdin)["virtual-size"])')" \
		$((1 << 20)) "the disk's size"
	qio -f qcow2 size -- "read -P 1 0 1M"
	clean size
	corral snapshot -a large size
	qio -f qcow2 size -- "read -P 1 0 1M" "read -P 2 1M 2M"
	clean size
}

words() {
	create words 1M
	fails "Could not delete snapshot 'nope': snapshot not found" "$CORRAL" snapshot -d nope words
	fails "Could not apply snapshot 'nope': Failed to load snapshot: No such file" "$CORRAL" snapshot -a nope words
	fails "Cannot mix" "$CORRAL" snapshot -l -c x words
	fails "Expecting one image file name" "$CORRAL" snapshot -l
	fails "there is no snapshot 'nope'" "$CORRAL" map --snapshot nope words
	serve_fails "there is no snapshot 'nope'" words --snapshot nope
	serve words
	fails "in use|lock" "$CORRAL" snapshot -c x words
	stop
	corral snapshot -c 2 words
	corral snapshot -c 1 words
	corral snapshot -d 2 words # the name of one, the ID of the other
	equal "$(qemu-img snapshot -l words | awk 'NR > 2 { print $1, $2 }')" "2 1" "the snapshot that is left"
}

needs nbdcopy
SIZE=$((6 << 20))
words
back_and_forth default compat=1.1
back_and_forth tiny cluster_size=512,refcount_bits=4
back_and_forth old compat=0.10,cluster_size=4096
SIZE=$((6 * (1 << 20) - 1536))
back_and_forth odd cluster_size=65536,refcount_bits=64
many
narrow
extra_data
vm_state
sizes
passed
