#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Images with extended L2 entries: what QEMU makes of subclusters Corral reads alike and maps alike, what Corral writes QEMU
# finds whole, and both may take turns. Clusters from the smallest that may have subclusters to the largest.
. "$(dirname "$0")/lib.sh"
needs nbdcopy jq

MIB=$((1 << 20))
SIZE=$((5 * MIB + 3 * 512))
seed=0

head -c $((2 * MIB + 512)) /dev/urandom >bottom.raw

# extended NAME CLUSTER [OPTION...]: made by Corral and by QEMU in turn
extended() {
	if [ $((seed % 2)) = 0 ]; then
		"$CORRAL" create -q -o "extended_l2=on,cluster_size=$2" "${@:3}" "$1" "$SIZE" || fail "corral create $1"
	else
		create -o "extended_l2=on,cluster_size=$2" "${@:3}" "$1" "$SIZE"
	fi
}

model() { python3 "$INTEROP/traffic.py" new "$@"; }

# traffic MODEL UNIT ARGUMENT...: random requests, by QEMU or through Corral's server. What is discarded reads zeros where it
# is whole units: clusters for QEMU, subclusters for Corral.
traffic() {
	seed=$((seed + 1))
	python3 "$INTEROP/traffic.py" run "$1" --seed $seed --unit "$2" --discard-zeroes "${@:3}" ||
		fail "$1: traffic of seed $seed"
}

# agree IMAGE: no errors by either check; both programs read the model; the maps are the same
agree() {
	local image=$1
	clean "$image"
	qemu_reads "$image" theirs.raw
	python3 "$INTEROP/traffic.py" verify "$image.model" theirs.raw || fail "$image: QEMU reads something else"
	serve "$image" --read-only
	corral_reads ours.raw
	stop
	same ours.raw theirs.raw "$image"
	# Of a sparse file with large clusters QEMU tells the holes inside of the data as well.
	[ "${cluster:-0}" -gt 65536 ] || maps_agree "$image"
}

maps_agree() {
	qemu-img map --output=json "$1" >theirs.map
	"$CORRAL" map --output=json "$1" >ours.map || fail "corral map $1"
	equal "$(jq -s '.[0] == .[1]' ours.map theirs.map)" true "map $1: $(diff ours.map theirs.map || true)"
}

# shape CLUSTER NAME [OPTION...]: QEMU's image, then written through Corral, then by both in turn
shape() {
	local cluster=$1 image=$2 round raw=()
	local unit=$((cluster / 32))
	shift 2
	[[ $* != *bottom.raw* ]] || raw=(bottom.raw)
	extended "$image" "$cluster" "$@"
	equal "$("$CORRAL" info --output=json "$image" | jq '."format-specific".data."extended-l2"')" true "info $image"
	model "$image.model" $SIZE "${raw[@]}"
	traffic "$image.model" "$cluster" --ops 60 -- -f qcow2 "$image"
	agree "$image"
	serve "$image"
	traffic "$image.model" $unit --ops 100 -- -f raw "$URI"
	traffic "$image.model" "$cluster" --ops 60 -- -f raw "$URI"
	stop
	agree "$image"
	for round in 1 2; do
		traffic "$image.model" "$cluster" --ops 30 -- -f qcow2 "$image"
		serve "$image"
		traffic "$image.model" $unit --ops 30 -- -f raw "$URI"
		stop
		agree "$image"
	done
	say "$image: ok, $SECONDS s"
}

shape 16384 small
shape 16384 small-over-raw -b bottom.raw -F raw
shape 65536 usual-over-raw -b bottom.raw -F raw
shape 65536 data-file -o data_file=outside.raw -b bottom.raw -F raw
shape 16384 data-file-raw -o data_file=raw.raw,data_file_raw=on
cmp <(head -c $SIZE raw.raw) theirs.raw || fail "the raw data file isn't what the disk reads"
SIZE=$((33 * MIB + 512)) shape 2097152 huge
shape 2097152 huge-over-raw -b bottom.raw -F raw

# ---- subclusters one by one: what is told and what is read ----

extended hand 65536 -b bottom.raw -F raw
qio -f qcow2 hand -- "write -P 1 0 2k" "write -P 2 6k 100" "write -z 4k 2k" "write -z -u 64k 32k" "write -P 3 130k 30k" \
	"write -z 140k 8k" "discard 128k 64k" "write -P 4 256k 128k" "write -z 300k 40k"
maps_agree hand
qemu_reads hand hand.raw
serve hand
qio -f raw "$URI" -- "read -P 1 0 2k" "read -P 0 4k 2k" "read -P 2 6k 100" "read -P 0 64k 32k" "read -P 0 128k 64k" \
	"write -P 5 32k 1k" "write -P 6 71k 3k" "write -z 256k 2k" "discard 260k 10k" "write -z -u 320k 64k"
stop
clean hand
maps_agree hand
qio -f qcow2 hand -- "read -P 1 0 2k" "read -P 5 32k 1k" "read -P 6 71k 3k" "read -P 0 64k 7k" "read -P 0 256k 2k" \
	"read -P 4 258k 2k" "read -P 0 260k 10k" "read -P 4 270k 30k" "read -P 0 320k 64k"
qemu_reads hand now.raw
cmp <(head -c 34816 now.raw | tail -c 1024) <(head -c 34816 bottom.raw | tail -c 1024) ||
	fail "what lies beside a write of half a subcluster is not the backing file's"

# ---- internal snapshots: subclusters of shared clusters are copied, and the snapshot stays ----

for cluster in 16384 65536; do
	image=snapshots.$cluster
	extended $image $cluster -b bottom.raw -F raw
	model $image.model $SIZE bottom.raw
	traffic $image.model $cluster --ops 50 -- -f qcow2 $image
	for name in one two; do
		qemu-img snapshot -c $name $image
		qemu_reads $image $name.raw
		serve $image
		traffic $image.model $((cluster / 32)) --ops 50 -- -f raw "$URI"
		stop
		agree $image
	done
	for name in one two; do
		qemu-img convert -f qcow2 -O raw -l snapshot.name=$name $image then.raw
		same then.raw $name.raw "$image: snapshot $name"
	done
	qemu-img snapshot -d one $image
	agree $image
	serve $image
	traffic $image.model $((cluster / 32)) --ops 50 -- -f raw "$URI"
	stop
	agree $image
	say "$image: ok, $SECONDS s"
done
# ---- compressed clusters in extended tables: written by QEMU, read, written to in part and zeroed in part by Corral ----

extended packed 65536 -b bottom.raw -F raw
qio -f qcow2 packed -- "write -c -P 1 0 64k" "write -c -P 2 64k 64k" "write -c -P 3 256k 64k" "write -c -P 4 320k 64k"
serve packed
qio -f raw "$URI" -- "read -P 1 0 64k" "read -P 2 64k 64k" "write -P 5 3k 1k" "read -P 1 0 3k" "read -P 1 4k 60k" \
	"write -z 70k 8k" "discard 260k 20k" "discard 320k 64k" "write -P 6 300k 100" "flush"
stop
clean packed
maps_agree packed
qio -f qcow2 packed -- "read -P 1 0 3k" "read -P 5 3k 1k" "read -P 1 4k 60k" "read -P 2 64k 6k" "read -P 0 70k 8k" \
	"read -P 2 78k 50k" "read -P 3 256k 4k" "read -P 0 260k 20k" "read -P 3 280k 20k" "read -P 6 300k 100" "read -P 0 320k 64k"
passed
