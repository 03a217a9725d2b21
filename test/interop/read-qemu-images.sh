#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Whatever QEMU writes, Corral reads: every cluster size and many refcount widths, both versions, chains of unlike layers,
# zero clusters of either kind, preallocated metadata. Its block status agrees with that of QEMU's own server.
. "$(dirname "$0")/lib.sh"
needs nbdcopy nbdinfo qemu-nbd

MIB=$((1 << 20))
head -c $((2 * MIB)) /dev/urandom >noise

# map_of_qemu IMAGE OUT
map_of_qemu() {
	qemu_serve "$1" --read-only
	nbdinfo --map --json "$QEMU_URI" >"$2"
	stop "$QEMU_SERVER"
}

# reads_like_qemu IMAGE MODE [--exact]: MODE is ro or rw; either way the image stays as it is
reads_like_qemu() {
	local image=$1 options=()
	[ "$2" = rw ] || options=(--read-only)
	qemu_reads "$image" expected.raw
	map_of_qemu "$image" theirs.json
	serve "$image" "${options[@]}"
	corral_reads got.raw
	nbdinfo --map --json "$URI" >ours.json
	equal "$(nbdinfo --size "$URI")" "$(stat -c %s expected.raw)" "$image: the size"
	stop
	same expected.raw got.raw "$image"
	python3 "$INTEROP/blockstatus.py" expected.raw ours.json theirs.json "${@:3}" || fail "$image: block status"
	clean "$image"
	rm expected.raw got.raw
}

# scatter IMAGE UNIT SIZE: data, plain zeroes, zeroes over data, discards, a ragged end
scatter() {
	local u=$2 size=$3
	qio -f qcow2 "$1" -- \
		"write -s noise 0 $((2 * u + 512))" \
		"write -P 17 $((7 * u - 512)) $((3 * u + 1024))" \
		"write -z $((4 * u)) $((2 * u))" \
		"write -z $((8 * u)) $u" \
		"write -P 33 $((12 * u)) $((4 * u))" \
		"write -z -u $((13 * u)) $((2 * u))" \
		"write -P 34 $((13 * u + 512)) 512" \
		"discard $((15 * u)) $u" \
		"write -s noise $((size - 3 * u / 2 / 512 * 512 - 512)) $((u + 512))" \
		"write -P 35 $((size - 512)) 512"
}

# ---- every cluster size, with widths and versions in turn ----
widths=(1 8 16 64 2 4 32)
i=0
for bits in 9 10 11 12 13 14 15 16 17 18 19 20 21; do
	unit=$((1 << bits)) width=${widths[i % 7]} compat=1.1
	size=$((20 * unit + 1536))
	[ $size -gt $((3 * MIB)) ] || size=$((3 * MIB + 1536))
	if [ "$width" = 16 ]; then
		compat=0.10
	fi
	[ $((i % 2)) = 0 ] && mode=rw || mode=ro
	create -o "cluster_size=$unit,refcount_bits=$width,compat=$compat" image $size
	scatter image $unit $size
	reads_like_qemu image $mode --exact
	i=$((i + 1))
done
say "cluster sizes: ok, $SECONDS s"

# ---- preallocated metadata, written to here and there; an image without any data ----
for unit in 512 65536; do
	create -o "cluster_size=$unit,preallocation=metadata" image $((4 * MIB))
	qio -f qcow2 image -- "write -P 5 1M 10k" "write -z 2M 128k" "write -P 6 3M 512" "write -z -u 3M 64k"
	reads_like_qemu image ro
done
create image 1T
serve image
qemu-img map --output=json -f raw "$URI" >map.json
stop
python3 - <<'END' || fail "an empty terabyte isn't all zero: $(cat map.json)"
import json
extents = json.load(open("map.json"))
assert sum(e["length"] for e in extents) == 1 << 40 and all(e["zero"] for e in extents)
END
say "preallocation: ok, $SECONDS s"

# ---- chains: unlike cluster sizes and lengths, the longest on top, in the middle or below ----
# chain NAME BASE-SIZE MIDDLE-SIZE TOP-SIZE BASE-UNIT MIDDLE-UNIT TOP-UNIT TOP-COMPAT
chain() {
	mkdir "$1"
	head -c "$2" /dev/urandom >"$1/base.raw"
	dd if=/dev/zero of="$1/base.raw" bs=4096 seek=64 count=64 conv=notrunc status=none
	(
		cd "$1"
		create -o "cluster_size=$5" -b base.raw -F raw low.qcow2 "$2"
		create -o "cluster_size=$6" -b low.qcow2 -F qcow2 middle.qcow2 "$3"
		create -o "cluster_size=$7,compat=$8" -b middle.qcow2 -F qcow2 top.qcow2 "$4"
	)
	qio -f qcow2 "$1/low.qcow2" -- "write -P 1 64k 100k" "write -z 300k 64k"
	qio -f qcow2 "$1/middle.qcow2" -- "write -P 2 100k 100k" "write -z 700k 200k" "write -P 3 $(($3 - 5120)) 5120"
	qio -f qcow2 "$1/top.qcow2" -- "write -P 4 150k 3k" "write -z 800k 64k" "write -z -u 96k 64k" \
		"write -P 5 $(($4 - 512)) 512"
	reads_like_qemu "$1/top.qcow2" rw
	reads_like_qemu "$1/top.qcow2" ro
	rm -r "${SCRATCH:?}/$1"
}
chain growing $((1 * MIB + 512)) $((2 * MIB)) $((3 * MIB + 1024)) 65536 4096 512 1.1
chain shrinking $((3 * MIB)) $((2 * MIB + 512)) $((1 * MIB + 512)) 512 65536 2097152 1.1
chain uneven $((2 * MIB + 512)) $((1 * MIB + 1536)) $((4 * MIB)) 4096 1048576 65536 0.10
passed
