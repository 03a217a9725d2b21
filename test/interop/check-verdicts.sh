#!/bin/bash
# SPDX-License-Identifier: MIT
#
# An image with a snapshot and a bitmap, damaged in one place each: every field of the header that names a table or a feature,
# every kind of pointer, refcounts that are too high, torn header extensions. What `qemu-img check` says of it and what
# `corral check` says: 0 fine, 2 corrupt, 3 leaks; 1 where it can't be read as an image at all. Both end in time.
. "$(dirname "$0")/lib.sh"

# verdicts QEMU CORRAL IMAGE WHERE CHANGE...
verdicts() {
	local status=0 qemu=0 qemus=$1 corrals=$2 image=$3
	shift 3
	cp "$image" bent
	python3 "$INTEROP/bend.py" bent "$@"
	timeout 20 qemu-img check -f qcow2 bent >said 2>&1 || qemu=$?
	timeout 20 "$CORRAL" check bent >"$SCRATCH/output" 2>&1 || status=$?
	equal "$qemu" "$qemus" "$image: QEMU's verdict on $*: $(head -n 3 said)"
	equal "$status" "$corrals" "$image: the verdict on $*: $(head -n 3 "$SCRATCH/output")"
	VERDICTS=$((VERDICTS + 1))
}
VERDICTS=0 FAR=0x7ffffffff0000
create all 4M
qio -f qcow2 all -- "write -P 1 0 1M"
qemu-img snapshot -c one all
qemu-img bitmap --add all b0
while read -r qemu corral change; do
	# shellcheck disable=SC2086
	verdicts "$qemu" "$corral" all $change
done <<-END
	0 0 byte:72 |1
	0 0 byte:72 |2
	0 0 byte:80 |0x80
	0 0 byte:88 |0x80
	1 1 byte:72 |0x40
	1 1 byte:40 |0x200
	2 1 byte:40 =$FAR
	2 2 byte:40 =byte:48
	1 2 byte:48 |0x200
	2 2 byte:48 =$FAR
	2 2 byte:48 =byte:40
	1 2 byte:64 |0x200
	2 2 byte:64 =$FAR
	2 2 byte:64 =byte:40
	1 1 byte:60 |0x7fffffff00000000
	1 2 byte:56 =0x7fffffff00000001
	1 1 byte:24 =0x7fffffffffffffff
	1 1 byte:96 =0x0000000700000070
	1 1 byte:8 =0x7fffffff
	3 3 refcount:0 =2
	3 3 refcount:1 =2
	3 3 refcount:2 =7
	3 3 refcount:3 =5
	3 3 refcount:4 =9
	1 1 reftable:0 |0x200
	2 2 reftable:0 |1
	2 2 reftable:0 =l1:0
	2 2 reftable:0 =byte:40
	2 2 l2:0:16 =0x7ffffffff0001
	2 2 snapshot-l1:0 |0x200
	2 2 snapshot-l1:0 |4
	2 2 snapshot-l1:0 =$FAR
	3 3 snapshot-l1:0 =0
	2 2 snapshot-l2:0:0 |0x200
	2 2 snapshot-l2:0:0 |2
	2 2 snapshot-l2:0:0 =$FAR
	3 3 snapshot-l2:0:0 =0
	1 2 bitmaps:8 =0x30
	1 2 bitmaps:16 |0x200
	1 2 bitmaps:16 =$FAR
	1 1 bitmaps:0 =0x7fffffff00000000
	1 2 bitmaps:0 =0x200000000
	1 2 directory:0 |0x200
	2 2 directory:0 =$FAR
	1 2 directory:8 |0x7fffffff00000000
	1 2 directory:8 |0x10
	1 2 directory:16 |0xff00000000000000
	1 1 byte:112 =0xe2792aca7fffffff
	1 1 byte:112 =0xe2792aca0000ffff
	1 1 byte:112 =0x1234567800010000
	1 1 byte:112 =0x6803f8570000002f
	1 1 byte:112 =0x2385287500000010
	3 1 byte:112 =0
END
for bytes in 4 71 100; do
	cp all bent
	truncate -s $bytes bent
	check_status 1 qemu-img check -f qcow2 bent
	check_status 1 "$CORRAL" check -f qcow2 bent
done

say "$VERDICTS damaged images"
passed
