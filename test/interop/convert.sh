#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What corral convert makes of an image is what qemu-img reads in it, whatever the formats and options; both checkers find
# nothing to complain of, and the map is qemu-img's own. Its refusals are qemu-img's, and a target is never half done in silence.
. "$(dirname "$0")/lib.sh"
export CORRAL_AIO

MIB=$((1 << 20))
convert() { "$CORRAL" convert "$@" || fail "convert $*"; }

# Text, noise, zeros as data, holes, and an end inside a cluster.
seq 1 400000 >numbers
{
	head -c $((2 * MIB)) numbers
	head -c $MIB /dev/urandom
	head -c $MIB /dev/zero
	for ((i = 0; i < 40; i++)); do
		head -c 5632 /dev/urandom
		head -c 30208 /dev/zero
	done
} >raw
truncate -s $((12 * MIB)) raw
head -c 700000 /dev/urandom >>raw
truncate -s $((20 * MIB + 1536)) raw

# arrived IMAGE [FORMAT]: it holds what raw holds, and is sound
arrived() {
	qemu-img compare -q -f raw -F "${2:-qcow2}" raw "$1" || fail "$1 isn't what was converted"
	[ "${2:-qcow2}" = raw ] || clean "$1"
}

# ---- formats and options ----

for options in cluster_size=512 cluster_size=4k cluster_size=2M extended_l2=on compat=0.10 refcount_bits=1 lazy_refcounts=on; do
	convert -f raw -O qcow2 -o $options raw made.qcow2
	arrived made.qcow2
	convert -f qcow2 -O raw made.qcow2 back.raw
	same raw back.raw "qcow2 with $options, and back"
	convert -O qcow2 made.qcow2 again.qcow2
	arrived again.qcow2
done
for type in zlib zstd; do
	qemu-img create -q -f qcow2 -o compression_type=$type probe.qcow2 1M 2>/dev/null || continue
	convert -c -O qcow2 -o compression_type=$type raw made.qcow2
	arrived made.qcow2
	"$CORRAL" map --output=json made.qcow2 | grep -q '"data": true}' || fail "$type: nothing is compressed"
	convert -m 3 made.qcow2 back.raw
	same raw back.raw "$type, and back"
done
convert -O qcow2 raw made.qcow2

# Holes are found as qemu-img finds them.
convert -f raw raw ours.raw
qemu-img convert -f raw -O raw raw theirs.raw
same ours.raw theirs.raw
equal "$(qemu-img map --output=json -f raw ours.raw)" "$(qemu-img map --output=json -f raw theirs.raw)" "holes"
convert -S 0 -O qcow2 raw full.qcow2
arrived full.qcow2
qemu-img map --output=json full.qcow2 | grep -q '"data": false' && fail "-S 0 leaves holes"

# ---- several sources, snapshots, backing files ----

cp raw made.raw
convert -O qcow2 made.qcow2 numbers raw joined.qcow2
cat made.raw numbers >joined.raw
truncate -s %512 joined.raw
cat raw >>joined.raw
qemu-img compare -q joined.raw joined.qcow2 || fail "several sources: not one after the other"

cp made.qcow2 snap.qcow2
qemu-img snapshot -c one snap.qcow2
qio -f qcow2 snap.qcow2 -- "write -P 9 1M 3M"
for name in one 1 snapshot.name=one snapshot.id=1,snapshot.name=one; do
	convert -l $name -O qcow2 snap.qcow2 old.qcow2
	arrived old.qcow2
done
fails 'Failed to load snapshot' "$CORRAL" convert -l two snap.qcow2 none.raw
fails 'Failed to load snapshot' "$CORRAL" convert -l snapshot.id=1,snapshot.name=two snap.qcow2 none.raw
[ ! -e none.raw ] || fail "a target was made for a source that couldn't be opened"

create -b made.qcow2 -F qcow2 over.qcow2 $((24 * MIB))
qio -f qcow2 over.qcow2 -- "write -P 5 100k 200k" "write -z 3M 1M" "write -P 6 21M 64k" "write -z 22M 128k"
convert -O qcow2 -B made.qcow2 -F qcow2 over.qcow2 ours.qcow2
qemu-img convert -O qcow2 -B made.qcow2 -F qcow2 over.qcow2 theirs.qcow2
qemu-img compare -q over.qcow2 ours.qcow2 || fail "-B: content"
clean ours.qcow2
equal "$(qemu-img map --output=json ours.qcow2 | tr -d ' ' | sed 's/,"offset.*//')" \
	"$(qemu-img map --output=json theirs.qcow2 | tr -d ' ' | sed 's/,"offset.*//')" "the maps with -B"

# ---- bitmaps ----

cp made.qcow2 marked.qcow2
qemu-img bitmap --add -g 32k marked.qcow2 one
qemu-img bitmap --add --disable marked.qcow2 two
qio -f qcow2 marked.qcow2 -- "write -P 9 1M 100k"
convert --bitmaps -O qcow2 marked.qcow2 ours.qcow2
qemu-img convert --bitmaps -O qcow2 marked.qcow2 theirs.qcow2
clean ours.qcow2
equal "$(qemu-img info --output=json ours.qcow2 | grep -A20 bitmaps)" \
	"$(qemu-img info --output=json theirs.qcow2 | grep -A20 bitmaps)" "bitmaps"
qemu-img bitmap --add marked.qcow2 copy
qemu-img bitmap --merge one -b ours.qcow2 -F qcow2 marked.qcow2 copy || fail "QEMU doesn't take the copied bitmap"

# ---- a target that is there ----

head -c $((24 * MIB)) /dev/urandom >there.raw
convert -n -f raw -O raw raw there.raw
cmp -n "$(stat -c %s raw)" raw there.raw || fail "-n: content"
equal "$(stat -c %s there.raw)" $((24 * MIB)) "-n keeps the size"
create there.qcow2 $((20 * MIB + 1536))
qio -f qcow2 there.qcow2 -- "write -P 3 0 20M"
convert -n -O qcow2 raw there.qcow2
arrived there.qcow2
create there.qcow2 $((20 * MIB + 1536))
convert -n --target-is-zero -O qcow2 raw there.qcow2
arrived there.qcow2
truncate -s 1M small.raw
fails 'output file is smaller than input file' "$CORRAL" convert -n -f raw raw small.raw
equal "$(stat -c %s small.raw)" $MIB "a target that is too small is left alone"

# ---- refusals in qemu-img's words ----

# words ARGUMENT...: both refuse it, with the same text and status
words() {
	local ours=0 theirs=0
	"$CORRAL" convert "$@" >ours.txt 2>&1 || ours=$?
	qemu-img convert "$@" >theirs.txt 2>&1 || theirs=$?
	equal "$ours" "$theirs" "the status of convert $*"
	equal "$(grep -v '^Try ' ours.txt | sed 's/^corral: \(convert: \)\?//')" \
		"$(grep -v '^Try ' theirs.txt | sed 's/^qemu-img: //')" "convert $*"
}
words
words raw
words -X raw b
words -m
words -m 17 raw b
words -m 0 raw b
words -S 3 raw b
words -S 1G raw b
words -c -C raw b
words -S 4k -C raw b
words -c -f raw -O raw raw b
words --target-is-zero raw b
words -n -o size=1 raw b
words -t what raw b
words -T what raw b
words -r 1x raw b
words -B made.qcow2 -O qcow2 raw b
words -B made.qcow2 -F qcow2 -O qcow2 raw raw b
words --skip-broken-bitmaps raw b
words --bitmaps -f raw raw b
words -l snapshot.what=1 raw b
fails 'in use' "$CORRAL" convert -f raw raw raw

# ---- progress ----

convert -p -f raw raw made.raw >progress
grep -q '(100.00/100%)' progress || fail "-p shows nothing: $(od -c progress | head)"
equal "$("$CORRAL" convert -p -q -f raw raw made.raw)" "" "-q keeps quiet"

passed
