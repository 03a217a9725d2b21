#!/bin/bash
# SPDX-License-Identifier: MIT
#
# compare, measure and dd: the text, the numbers and the exit status of qemu-img's, for the same arguments.
. "$(dirname "$0")/lib.sh"
export CORRAL_AIO

# alike COMMAND ARGUMENT...: both say the same, but for the name in front, and end with the same status
alike() {
	local ours=0 theirs=0
	timeout 20 "$CORRAL" "$@" >ours.txt 2>&1 || ours=$?
	timeout 20 qemu-img "$@" >theirs.txt 2>&1 || theirs=$?
	equal "$ours" "$theirs" "the status of $*"
	equal "$(sed "/^Try /d; s/^corral: \($1: \)\?//" ours.txt)" \
		"$(sed '/^Try /d; s/^qemu-img: //; s/\(Could not open .*\): Could not open .*: /\1: /' theirs.txt)" "$*"
}

head -c 3000000 /dev/urandom >a.raw
truncate -s 10M a.raw
cp a.raw b.raw
printf x | dd of=b.raw bs=1 seek=9000000 conv=notrunc status=none
cp a.raw longer.raw
truncate -s 11M longer.raw
cp longer.raw written.raw
printf x | dd of=written.raw bs=1 seek=11000000 conv=notrunc status=none
qemu-img convert -O qcow2 a.raw a.qcow2
qemu-img convert -c -O qcow2 b.raw b.qcow2
qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 over.qcow2 12M
qio -f qcow2 over.qcow2 -- "write -P 5 1M 100k" "write -z 2M 64k"

alike compare
alike compare a.raw
alike compare -X a.raw b.raw
alike compare -T what a.raw b.raw
alike compare -f raw -F raw a.raw a.raw
"$CORRAL" compare -p -f raw -F raw a.raw a.raw | tr "\r" "\n" | grep -q "(100.00/100%)" || fail "compare -p shows nothing"
alike compare -f raw -F raw a.raw b.raw
alike compare -q -f raw -F raw a.raw b.raw
alike compare -f raw -F qcow2 a.raw a.qcow2
alike compare -f raw -F qcow2 b.raw a.qcow2
alike compare -f raw -F qcow2 b.raw b.qcow2
alike compare -f raw -F raw a.raw longer.raw
alike compare -f raw -F raw longer.raw a.raw
alike compare -f raw -F raw a.raw written.raw
alike compare -s -f raw -F raw a.raw longer.raw
alike compare -s -f qcow2 -F qcow2 a.qcow2 a.qcow2
alike compare b.qcow2 over.qcow2
check_status 2 "$CORRAL" compare a.raw missing.raw
fails 'No such file' "$CORRAL" compare a.raw missing.raw

alike measure
alike measure a b
alike measure --size 1M a.raw
alike measure --size 1x
alike measure --output what a.raw
alike measure -l x --size 1M
alike measure -f raw --size 1M
for size in 0 1 512 10M 1G 64G 1T; do
	for options in "" -ocluster_size=4k -ocluster_size=2M -orefcount_bits=64 -orefcount_bits=1 -oextended_l2=on -ocompat=0.10 \
		-opreallocation=full -opreallocation=metadata; do
		# shellcheck disable=SC2086
		alike measure -O qcow2 $options --size $size
	done
done
alike measure -O qcow2 -o cluster_size=512 --size 1P
alike measure -O raw --size 10M
qemu-img bitmap --add a.qcow2 one
qemu-img bitmap --add -g 512 a.qcow2 "another one"
for image in a.raw a.qcow2 b.qcow2 over.qcow2; do
	alike measure -O raw $image
	alike measure -O qcow2 $image
	alike measure -O qcow2 --output json $image
	alike measure -O qcow2 -o cluster_size=512 $image
	alike measure -O qcow2 -o cluster_size=2M $image
done

# dd_alike OPERAND...: the same words, and the same image
dd_alike() {
	rm -f out.img
	timeout 20 "$CORRAL" dd "$@" of=out.img >ours.txt 2>&1 || true
	mv out.img ours.img 2>/dev/null || : >ours.img
	timeout 20 qemu-img dd "$@" of=out.img >theirs.txt 2>&1 || true
	[ -e out.img ] || : >out.img
	equal "$(sed 's/^corral: //' ours.txt)" "$(sed 's/^qemu-img: //' theirs.txt)" "dd $*"
	qemu-img compare -q ours.img out.img || fail "dd $*: the images differ"
	equal "$(qemu-img info ours.img | grep virtual)" "$(qemu-img info out.img | grep virtual)" "dd $*"
}
alike dd
alike dd if=a.raw
alike dd if=a.raw of=x what=1
alike dd if=a.raw of=x bs=0
alike dd if=a.raw of=x bs=x
alike dd if=a.raw of=x count=-1
dd_alike -f raw if=a.raw
dd_alike -f raw if=a.raw bs=1M count=3 skip=1
dd_alike -f raw if=a.raw bs=1000 count=30
dd_alike -f raw if=a.raw bs=64k count=1000
dd_alike -f raw if=a.raw bs=1M skip=4
dd_alike -O qcow2 if=over.qcow2 bs=512 count=5001 skip=3

passed
