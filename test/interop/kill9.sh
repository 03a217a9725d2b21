#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The server is killed in the middle of its work, again and again on the same image: what a flush had covered is there,
# every other sector holds one of its own versions, and the image has leaks at most.
. "$(dirname "$0")/lib.sh"
needs nbdcopy

MIB=$((1 << 20))
SIZE=$((8 * MIB))
ROUNDS=10

# survives NAME UNIT OPTIONS
survives() {
	local image=$1 round client
	create -o "cluster_size=$2,$3" "$image" $SIZE
	for ((round = 1; round <= ROUNDS; round++)); do
		serve "$image"
		if [ $round -gt 1 ]; then
			corral_reads "$image.again"
			same "$image.raw" "$image.again" "Corral reads the wrong data in round $round"
		fi
		exec {CLIENT}< <(exec python3 "$INTEROP/crash.py" run "$image.state" "$SOCK" $round "$2")
		client=$!
		read -r <&"$CLIENT" || fail "$image, round $round"
		crash
		wait $client || fail "$image, round $round: the client failed"
		exec {CLIENT}<&-
		sound "$image"
		qemu_reads "$image" "$image.raw"
		python3 "$INTEROP/crash.py" judge "$image.state" "$image.raw" || fail "$image, round $round: wrong data"
	done
	say "$image: ok, $SECONDS s"
}

# What is left is repairable by QEMU, and a clean session of Corral then leaves nothing behind.
recovers() {
	local image=$1
	check_status 0 qemu-img check -q -r leaks "$image"
	serve "$image"
	qio -f raw "$URI" -- "write -P 1 1M 1M" "discard 3M 1M" "read -P 1 1M 1M"
	stop
	clean "$image"
}

survives default 65536 compat=1.1
recovers default
survives tiny 512 refcount_bits=8
recovers tiny
survives v2 4096 compat=0.10
recovers v2
passed
