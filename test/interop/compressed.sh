#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Compressed images of QEMU's are read, and written over, whatever their compression, cluster size and refcount width; and
# what Corral compresses QEMU reads. After all of it QEMU finds every reference counted.
. "$(dirname "$0")/lib.sh"
needs nbdcopy qemu-nbd
: "${WRITE_COMPRESSED:?the program of that name}"

KIB=1024 MIB=$((1 << 20))
SIZE=$((6 * MIB + 1536))

# Text, code, noise that doesn't shrink, zeros; clusters of every kind, and the last one isn't whole.
seq 1 250000 >numbers
{
	head -c $MIB numbers
	head -c $MIB "$(command -v qemu-img)"
	head -c $MIB /dev/urandom
	for ((i = 0; i < 16; i++)); do
		head -c $((32 * KIB)) /dev/urandom
		printf '%*s' $((32 * KIB)) ''
	done
	head -c $MIB /dev/zero
	tail -c $((MIB + 1536)) numbers
} >raw
equal "$(stat -c %s raw)" $SIZE "the size of the data"
zstd=yes
qemu-img create -q -f qcow2 -o compression_type=zstd probe 1M >/dev/null 2>&1 || zstd=""
[ -n "$zstd" ] || say "qemu-img has no zstd: left out"

# like_raw IMAGE WHAT: by QEMU's reading and by Corral's
like_raw() {
	qemu_reads "$1" theirs.raw
	same raw theirs.raw "$2: QEMU's reading"
	serve "$1" --read-only
	corral_reads ours.raw
	stop
	same raw ours.raw "$2: Corral's reading"
	rm theirs.raw ours.raw
}

# Compressed clusters have data and no offset.
shows_compressed() {
	"$CORRAL" map --output=json "$1" >map.json
	qemu-img map --output=json "$1" >theirs.json
	python3 - <<'END' || fail "$1: the map doesn't show what is compressed: $(cat map.json)"
import json
ours, theirs = json.load(open("map.json")), json.load(open("theirs.json"))
assert ours == theirs
assert any(e["data"] and "offset" not in e for e in ours)
END
}

# Parts of clusters, whole ones, zeroes, discards, and the same on the raw file.
write_over() {
	local file
	for file in "-f raw $1" "-f raw raw"; do
		# shellcheck disable=SC2086
		qio $file -- "write -P 1 100 5000" "write -P 2 300k 200k" "write -z 700k 70000" "write -P 3 1000k 1M" \
			"write -z -u 2200k 900k" "write -P 4 4100k 3k" "write -P 5 $((SIZE - 1024)) 1024" "flush"
	done
}

cp raw original.raw
for options in cluster_size=512 cluster_size=4k cluster_size=64k cluster_size=2M refcount_bits=1 refcount_bits=2 \
	compat=0.10 extended_l2=on ${zstd:+compression_type=zstd compression_type=zstd,cluster_size=512} \
	${zstd:+compression_type=zstd,cluster_size=2M,refcount_bits=1}; do
	cp original.raw raw
	qemu-img convert -c -f raw -O qcow2 -o "$options" raw image
	shows_compressed image
	like_raw image "$options, by QEMU"
	serve image
	write_over "$URI"
	stop
	clean image
	like_raw image "$options, written over"

	cp original.raw raw
	rm image
	create -o "$options" image $SIZE
	"$WRITE_COMPRESSED" image raw
	clean image
	like_raw image "$options, by Corral"
	case $options in
	*cluster_size=512*) ;; # a sector is all of it
	*) shows_compressed image ;;
	esac
	# QEMU compresses only where nothing is.
	qio -f qcow2 image -- "discard 2M 2M" "write -c -P 7 2M 2M" "write -P 8 5M 100k"
	qio -f raw raw -- "write -P 7 2M 2M" "write -P 8 5M 100k"
	"$WRITE_COMPRESSED" image raw
	clean image
	like_raw image "$options, by both"
	say "$options: ok, $SECONDS s"
	rm image
done

# ---- a compressed image below another one ----
cp original.raw raw
qemu-img convert -c -f raw -O qcow2 raw base.qcow2
create -b base.qcow2 -F qcow2 -o cluster_size=4k image $SIZE
serve image
write_over "$URI"
stop
clean image
like_raw image "a compressed image below"
passed
