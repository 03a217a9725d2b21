#!/bin/bash
# SPDX-License-Identifier: MIT
#
# commit: the disk reads as before, in the overlay and in what was committed to; the overlay is empty or as it was; bitmaps stay;
# both checkers are content; the words are qemu-img's.
. "$(dirname "$0")/lib.sh"
export CORRAL_AIO

make_chain() {
	create base.qcow2 6M
	qio -f qcow2 base.qcow2 -- "write -P 1 0 6M"
	create -b base.qcow2 -F qcow2 mid.qcow2
	qio -f qcow2 mid.qcow2 -- "write -P 2 1M 300k" "write -z 3M 1M"
	create -b mid.qcow2 -F qcow2 "$@" top.qcow2 8M
	qio -f qcow2 top.qcow2 -- "write -P 3 1200k 200k" "write -z -u 4500k 100k" "write -P 4 7M 100k"
	qemu-img bitmap --add top.qcow2 kept
	qemu_reads top.qcow2 before.raw
}

holds() { qemu-img compare -q -f raw -F qcow2 before.raw "$1" || fail "$1 doesn't hold what the overlay held"; }

for options in cluster_size=64k cluster_size=4k extended_l2=on; do
	make_chain -o $options
	equal "$("$CORRAL" commit top.qcow2)" "Image committed." "what commit says"
	for image in top mid; do
		holds $image.qcow2
		clean $image.qcow2
	done
	qemu-img map --output=json top.qcow2 | grep '"depth": 0' | grep -q '"present": true' && fail "the overlay isn't empty"
	qemu-img info top.qcow2 | grep -q 'name: kept' || fail "the bitmap is gone"
done

make_chain
qemu_reads top.qcow2 before.raw
cp top.qcow2 top.was
equal "$("$CORRAL" commit -q -d top.qcow2)" "" "-q"
holds mid.qcow2
qemu-img map --output=json top.qcow2 | grep -q '"depth": 0' || fail "-d empties the overlay"

make_chain
equal "$("$CORRAL" commit -b base.qcow2 top.qcow2)" "Image committed." "-b"
holds base.qcow2
holds top.qcow2
clean base.qcow2

# A raw base.
head -c 3000000 /dev/urandom >raw
truncate -s 3M raw
create -b raw -F raw over.qcow2 5M
qio -f qcow2 over.qcow2 -- "write -P 5 1M 1M" "write -P 6 4M 64k"
qemu_reads over.qcow2 before.raw
"$CORRAL" commit over.qcow2 >/dev/null
same before.raw raw "a raw base"
holds over.qcow2

# words ARGUMENT...: both refuse it, with the same text and status
words() {
	local ours=0 theirs=0
	"$CORRAL" commit "$@" >ours.txt 2>&1 || ours=$?
	qemu-img commit "$@" >theirs.txt 2>&1 || theirs=$?
	equal "$ours" "$theirs" "the status of commit $*"
	equal "$(sed '/^Try /d; s/^corral: \(commit: \)\?//' ours.txt)" "$(sed '/^Try /d; s/^qemu-img: //' theirs.txt)" "commit $*"
}
words
words -X over.qcow2
words -t what over.qcow2
words -b missing over.qcow2
words base.qcow2

# Somebody reads the base: it isn't written.
serve mid.qcow2 --read-only
create -b mid.qcow2 -F qcow2 new.qcow2
fails 'in use' "$CORRAL" commit new.qcow2
stop

passed
