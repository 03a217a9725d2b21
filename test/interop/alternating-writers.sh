#!/bin/bash
# SPDX-License-Identifier: MIT
#
# One image, written by Corral and by QEMU in turn, twenty times: each takes over what the other left, and the image stays
# what the model says.
. "$(dirname "$0")/lib.sh"

MIB=$((1 << 20))
SIZE=$((8 * MIB + 512))
ROUNDS=20

# alternates NAME UNIT
alternates() {
	local image=$1 round
	for ((round = 1; round <= ROUNDS; round++)); do
		local work=(python3 "$INTEROP/traffic.py" run "$image.model" --seed $round --ops 40 --unit "$2")
		work+=(--discard-zeroes --)
		if [ $((round % 2)) = 1 ]; then
			serve "$image"
			"${work[@]}" -f raw "$URI" || fail "$image, round $round: Corral"
			stop
		else
			"${work[@]}" -f qcow2 "$image" || fail "$image, round $round: QEMU"
		fi
		clean "$image"
		qemu_reads "$image" "$image.raw"
		python3 "$INTEROP/traffic.py" verify "$image.model" "$image.raw" || fail "$image, round $round: wrong data"
	done
	say "$image: ok, $SECONDS s"
}

create -o cluster_size=512,refcount_bits=2 tiny $SIZE
python3 "$INTEROP/traffic.py" new tiny.model $SIZE
alternates tiny 512

head -c $((3 * MIB)) /dev/urandom >base.raw
create -b base.raw -F raw overlay $SIZE
python3 "$INTEROP/traffic.py" new overlay.model $SIZE base.raw
alternates overlay 65536
passed
