#!/bin/bash
# SPDX-License-Identifier: MIT
#
# fio writes at random with 32 requests in flight and verifies what it wrote; overlapping requests of many sizes, too. What
# a client then reads is the same after a restart, and the image is clean.
. "$(dirname "$0")/lib.sh"
needs fio nbdcopy
fio --enghelp | grep -qw nbd || skip "this fio has no nbd engine"

# verified NAME OPTION...: one job that must end without an error
verified() {
	local name=$1
	shift
	fio --name="$name" --ioengine=nbd --uri="$URI" --iodepth=32 --verify=crc32c --verify_fatal=1 --verify_state_save=0 \
		--randseed=7 --group_reporting --output-format=normal "$@" >"fio.$name" 2>&1 ||
		fail "fio $name: $(grep -vE '^ *$' "fio.$name" | head -n 15)"
	grep -q 'err= 0' "fio.$name" || fail "fio $name says nothing of success: $(cat "fio.$name")"
}

# withstands NAME UNIT SIZE OPTIONS
withstands() {
	create -o "cluster_size=$2,$4" "$1" "$3"
	serve "$1"
	verified random --rw=randwrite --bs=4k --size="$3"
	verified overlapping --rw=randwrite --bsrange=512-96k --blockalign=512 --norandommap --serialize_overlap=1 \
		--size="$3" --io_size="$3" --fsync=200
	verified mixed --rw=randrw --rwmixread=40 --bsrange=4k-64k --blockalign=4k --size="$3" --verify_backlog=64
	corral_reads before.raw
	stop
	clean "$1"
	serve "$1" --read-only
	corral_reads after.raw
	stop
	same before.raw after.raw
	rm before.raw after.raw
	say "$1: ok, $SECONDS s"
}

withstands default 65536 24M compat=1.1
withstands tiny 512 6M refcount_bits=8
withstands huge 2097152 32M compat=1.1
passed
