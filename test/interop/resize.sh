#!/bin/bash
# SPDX-License-Identifier: MIT
#
# corral resize beside qemu-img resize: the same words, the same exit status, the same disk, and an image that both find
# in order. What each of them has made larger or smaller the other reads, and goes on with.
. "$(dirname "$0")/lib.sh"

SIZE=$((3 << 20))

# both PROGRAM-INDEPENDENT-ARGS: runs both with FILE replaced by a copy of the image for each, compares words and status
both() {
	local theirs ours args=("${@//FILE/qemu.img}") mine=("${@//FILE/corral.img}")
	theirs=$(qemu-img resize "${args[@]}" 2>&1 && echo succeeds || echo "status $?")
	ours=$("$CORRAL" resize "${mine[@]}" 2>&1 && echo succeeds || echo "status $?")
	theirs=${theirs//qemu-img: /corral: }
	theirs=${theirs//qemu.img/corral.img}
	[ "$theirs" = "$ours" ] || fail "resize $*: $ours
instead of: $theirs"
}

# pair OPTIONS SIZE: two images made alike
pair() {
	qemu-img create -q -f qcow2 ${1:+-o "$1"} qemu.img "$2"
	cp qemu.img corral.img
}

# alike WHAT: both disks read the same, both images are sound, both say the same of themselves
alike() {
	local f
	for f in qemu.img corral.img; do
		qemu-img check -q -f qcow2 "$f" || fail "$1: qemu-img check $f"
		"$CORRAL" check "$f" >check.log 2>&1 || fail "$1: corral check $f: $(cat check.log)"
	done
	qemu-img compare -q -s -f qcow2 -F qcow2 qemu.img corral.img || fail "$1: the disks differ"
	diff <(qemu-img info --output=json qemu.img | grep -v '"actual-size"\|qemu.img') \
		<(qemu-img info --output=json corral.img | grep -v '"actual-size"\|corral.img') || fail "$1: info differs"
}

# filled: the same content in both
filled() {
	local f
	for f in qemu.img corral.img; do
		qemu-io -f qcow2 "$@" "$f" >/dev/null
	done
}

# ---- words ----

pair "" $SIZE
both FILE 4M
both FILE +1M
both FILE 2M
both --shrink FILE 2M
both --shrink FILE -- -512k
both -f qcow2 FILE +1000
both FILE -9M
both FILE 0
both FILE +0
both --preallocation=metadata FILE 1M
both --preallocation=much FILE 9M
both FILE much
both FILE -
both FILE 7E
both FILE 100000P
both -q FILE +1M
alike words
qemu-img create -q -f raw qemu.img 10000 && cp qemu.img corral.img
both -f raw FILE 12345
both -f raw --preallocation=metadata FILE 20k
both -f raw --preallocation=falloc FILE 64k
both -f raw --preallocation=full FILE 128k
both -f raw --shrink FILE 5000
both -f raw --preallocation=full --shrink FILE 100
cmp qemu.img corral.img || fail "raw: the images differ"
pair compat=0.10 $SIZE
for f in qemu.img corral.img; do qemu-img snapshot -c s $f; done
both FILE +1M
both --shrink FILE 1M
"$CORRAL" resize corral.img >/dev/null 2>&1 && fail "no size at all is accepted"
"$CORRAL" resize corral.img corral.img 1M >/dev/null 2>&1 && fail "two images are accepted"

# ---- disks ----

for options in "" compat=0.10 extended_l2=on cluster_size=512 cluster_size=2M refcount_bits=1 lazy_refcounts=on; do
	pair "$options" 6M
	filled -c "write -P 7 0 6M"
	both --shrink FILE 2M
	alike "$options, shrunk"
	both FILE 9M
	alike "$options, grown again"
	filled -c "write -P 9 1990k 1M"
	both --shrink FILE -- -5001k
	alike "$options, shrunk again"
done

# Inside of a cluster, too, new space reads zeros; QEMU 7.2 shows there what the disk once held.
pair "" $SIZE
filled -c "write -P 7 0 $SIZE"
"$CORRAL" resize -q --shrink corral.img 1000448
"$CORRAL" resize -q corral.img $SIZE
reads=$(qemu-io -f qcow2 -r -c "read -P 7 0 1000448" -c "read -P 0 1000448 $((SIZE - 1000448))" corral.img)
grep -q failed <<<"$reads" && fail "shrunk and grown inside of a cluster: $reads"

# What is preallocated is mapped, as qemu-img has it.
for mode in off metadata falloc full; do
	for options in "" extended_l2=on; do
		pair "$options" 1M
		both --preallocation=$mode FILE 5M
		alike "$options, preallocation=$mode"
		for f in qemu.img corral.img; do
			qemu-img map --output=json -f qcow2 $f | sed 's/, "offset": [0-9]*//' >$f.map
			echo $(($(stat -c %b $f) / 2048)) >$f.space
		done
		diff qemu.img.map corral.img.map || fail "$options, preallocation=$mode: mapped differently"
		diff qemu.img.space corral.img.space || fail "$options, preallocation=$mode: another space, in MiB"
	done
done

# The file ends with its content.
pair "" 3G
filled -c "write -P 3 2900M 10M" -c "write -P 4 0 5M"
both --shrink FILE 100M
alike "a large one, shrunk"
[ "$(stat -c %s corral.img)" -le "$(($(stat -c %s qemu.img) + 65536))" ] ||
	fail "the file has $(stat -c %s corral.img) bytes, qemu-img's $(stat -c %s qemu.img)"

# Snapshots keep theirs; backing files stay hidden; data files follow.
pair "" $SIZE
filled -c "write -P 5 0 $SIZE"
qemu-img snapshot -c s qemu.img && cp qemu.img corral.img
both --shrink FILE 1M
alike "with a snapshot"
"$CORRAL" snapshot -a s corral.img && qemu-img snapshot -a s qemu.img
alike "back at the snapshot"

qemu-img create -q -f raw base.img 4M && qemu-io -f raw -c "write -P 6 0 4M" base.img >/dev/null
for compat in 0.10 1.1; do # where QEMU 7.2 gives up with the older one
	qemu-img create -q -f qcow2 -o compat=$compat -b base.img -F raw corral.img 3M
	"$CORRAL" resize -q --shrink corral.img 1500k
	"$CORRAL" resize -q corral.img 5M
	reads=$(qemu-io -f qcow2 -r -c "read -P 6 0 1500k" -c "read -P 0 1500k 3620k" corral.img)
	grep -q failed <<<"$reads" && fail "over a longer backing file, compat=$compat: $reads"
	clean corral.img
done

for raw in off on; do
	qemu-img create -q -f qcow2 -o "data_file=corral.data,data_file_raw=$raw" corral.img $SIZE
	qemu-io -f qcow2 -c "write -P 8 0 $SIZE" corral.img >/dev/null
	"$CORRAL" resize -q --shrink corral.img 1M
	[ "$(stat -c %s corral.data)" = $((1 << 20)) ] || fail "the data file has $(stat -c %s corral.data) bytes"
	"$CORRAL" resize -q --preallocation falloc corral.img 2M
	[ "$(stat -c %s corral.data)" = $((2 << 20)) ] || fail "the data file has $(stat -c %s corral.data) bytes"
	qemu-img check -q corral.img || fail "data file: check"
	qemu-io -f qcow2 -r -c "read -P 8 0 1M" -c "read -P 0 1M 1M" corral.img | grep -q failed && fail "data file: content"
done

passed
