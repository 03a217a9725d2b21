#!/bin/bash
# SPDX-License-Identifier: MIT
#
# corral amend does what qemu-img amend does: each amendment is made by both, of the same image. Afterwards info says the
# same of both, field by field, the disk and each snapshot read the same, and both programs find both images sound; what one
# refuses the other refuses in the same words, and then Corral's image hasn't changed by a byte.
. "$(dirname "$0")/lib.sh"
needs jq cmp

AMENDED=0 REFUSED=0

# What the file itself is, and what only one of the two can tell, isn't compared.
describe() {
	qemu-img info --output=json "${@:2}" "$1" |
		jq -S 'del(.filename, ."full-backing-filename", ."actual-size", .children, .snapshots[]?."date-sec")'
}

words() { sed -E 's/^(qemu-img|corral): //; s/qemu-img rebase/corral rebase/' "$1"; }

# ours_and_theirs OPTION...: both amend their image; sets OURS and THEIRS to the statuses
ours_and_theirs() {
	OURS=0 THEIRS=0
	qemu-img amend "$@" theirs.qcow2 >theirs.out 2>theirs.err || THEIRS=$?
	"$CORRAL" amend "$@" ours.qcow2 >ours.out 2>ours.err || OURS=$?
}

declare -A SNAPSHOTS=() # IDs of those of each image

reads_the_same() {
	local id
	qemu-img convert -f qcow2 -O raw "$1" after.raw
	same after.raw "$2.raw" "$3: $1"
	for id in ${SNAPSHOTS[$2]}; do
		qemu-img convert -f qcow2 -l "snapshot.id=$id" -O raw "$1" after.raw
		same after.raw "$2.$id.raw" "$3: snapshot $id of $1"
	done
}

# made IMAGE: it is as it is to stay; notes what it holds
made() {
	local id
	qemu-img convert -f qcow2 -O raw "$1" "$1.raw"
	SNAPSHOTS[$1]=$(qemu-img info --output=json "$1" | jq -r '.snapshots[]?.id')
	for id in ${SNAPSHOTS[$1]}; do
		qemu-img convert -f qcow2 -l "snapshot.id=$id" -O raw "$1" "$1.$id.raw"
	done
}

# amends IMAGE OPTION...: both do, and it comes to the same
amends() {
	local image=$1 what
	shift
	what="$image: amend $*"
	cp "$image" ours.qcow2
	cp "$image" theirs.qcow2
	ours_and_theirs -f qcow2 "$@"
	equal "$THEIRS" 0 "$what: qemu-img's status: $(cat theirs.err)"
	equal "$OURS" 0 "$what: status: $(cat ours.err)"
	[ ! -s ours.out ] || fail "$what: it said: $(cat ours.out)"
	describe ours.qcow2 >ours.json
	describe theirs.qcow2 >theirs.json
	same ours.json theirs.json "$what"
	AMENDED=$((AMENDED + 1))
}

# keeps IMAGE OPTION...: the same, and what it holds stays
keeps() {
	[ -v "SNAPSHOTS[$1]" ] || made "$1"
	amends "$@"
	reads_the_same ours.qcow2 "$1" "$*"
	clean ours.qcow2
}

# refuses IMAGE OPTION...: both do, in the same words. No engine has a part in that: it is shown with one of them.
refuses() {
	local image=$1 what
	[ "$CORRAL_AIO" = threads ] || return 0
	shift
	what="$image: amend $*"
	cp "$image" ours.qcow2
	cp "$image" theirs.qcow2
	ours_and_theirs "$@"
	equal "$OURS" "$THEIRS" "$what: status: $(cat ours.err)"
	equal "$(words ours.err)" "$(words theirs.err)" "$what: words"
	[ "$OURS" != 0 ] || fail "$what: isn't refused"
	same ours.qcow2 "$image" "$what: the image has changed"
	REFUSED=$((REFUSED + 1))
}

# ---- images ----

qemu-img create -q -f raw base.raw 5M
qio -f raw base.raw -- "write -P 11 0 5M"

# fill IMAGE: data, zero clusters with space and without, over data and over nothing
fill() {
	qio "$1" -- "write -P 1 0 700k" "write -z 100k 200k" "write -z -u 400k 128k" "write -z 1M 1M" "write -P 2 3M 300k" \
		"discard 3M 64k" "write -z 6M 512k" "write -P 3 7M 4k"
}

# share IMAGE: two snapshots, with changes between them and after
share() {
	qemu-img snapshot -c one "$1"
	qio "$1" -- "write -P 4 50k 300k" "write -z 500k 100k" "write -z -u 1M 256k"
	qemu-img snapshot -c two "$1"
	qio "$1" -- "write -P 5 1500k 100k" "write -z -u 0 64k"
}

create plain.qcow2 8M
fill plain.qcow2
create -o cluster_size=4k,refcount_bits=16 small.qcow2 8M
fill small.qcow2
create -F raw -b base.raw over.qcow2 8M
fill over.qcow2
create -o cluster_size=512,refcount_bits=8 tiny.qcow2 2M
qio tiny.qcow2 -- "write -P 1 0 1M" "write -z 300k 50k"
create shared.qcow2 8M
fill shared.qcow2
share shared.qcow2
create -o compat=0.10 old.qcow2 8M
qio old.qcow2 -- "write -P 1 0 700k" "write -P 2 3M 300k"
qemu-img snapshot -c one old.qcow2
create -o lazy_refcounts=on lazy.qcow2 4M
qio lazy.qcow2 -- "write -P 1 0 700k"
create -o extended_l2=on extended.qcow2 4M
qio extended.qcow2 -- "write -P 1 0 7k"
qemu-img convert -c -O qcow2 base.raw packed.qcow2
ZSTD=yes
qemu-img create -q -f qcow2 -o compression_type=zstd zstd.qcow2 4M >/dev/null 2>&1 || ZSTD=""

# ---- refcounts ----

for bits in 1 2 4 16 32 64; do
	keeps tiny.qcow2 -o refcount_bits=$bits
done
keeps plain.qcow2 -o refcount_bits=8
keeps over.qcow2 -o refcount_bits=1
keeps small.qcow2 -o refcount_bits=64
keeps shared.qcow2 -o refcount_bits=4
keeps packed.qcow2 -o refcount_bits=8
refuses shared.qcow2 -o refcount_bits=1
refuses packed.qcow2 -o refcount_bits=1
for bits in 0 3 128 -1 18446744073709551615; do
	refuses plain.qcow2 -o refcount_bits=$bits
done
for bits in x '' 4k; do
	refuses plain.qcow2 -o "refcount_bits=$bits"
done

# ---- versions ----

for image in plain small lazy shared; do
	keeps $image.qcow2 -o compat=0.10
done
keeps plain.qcow2 -o compat=v2
keeps tiny.qcow2 -o compat=0.10,refcount_bits=16
keeps old.qcow2 -o compat=1.1
keeps old.qcow2 -o compat=v3,lazy_refcounts=on
keeps old.qcow2 -o compat=1.1,refcount_bits=64
refuses tiny.qcow2 -o compat=0.10
refuses plain.qcow2 -o compat=0.10,refcount_bits=8
refuses old.qcow2 -o refcount_bits=8
refuses old.qcow2 -o lazy_refcounts=on
refuses plain.qcow2 -o compat=0.10,lazy_refcounts=on
refuses plain.qcow2 -o compat=2
refuses extended.qcow2 -o compat=0.10
if [ -n "$ZSTD" ]; then
	keeps zstd.qcow2 -o compat=0.10
	qemu-img convert -c -O qcow2 -o compression_type=zstd base.raw zstd.qcow2
	refuses zstd.qcow2 -o compat=0.10
fi

# Snapshots of a disk of another size can't be told of.
cp shared.qcow2 mixed.qcow2
qemu-img resize -q mixed.qcow2 9M
refuses mixed.qcow2 -o compat=0.10
keeps mixed.qcow2 -o refcount_bits=32
refuses shared.qcow2 -o compat=0.10,size=9M

# Version 2 has no bitmaps: QEMU leaves theirs behind as garbage, Corral takes them out, and says so.
cp plain.qcow2 bitmaps.qcow2
qemu-img bitmap --add bitmaps.qcow2 b0
keeps bitmaps.qcow2 -o compat=0.10
grep -q "can't have persistent bitmaps; those of the image (1) are gone" ours.err || fail "bitmaps: it says $(cat ours.err)"
keeps bitmaps.qcow2 -o refcount_bits=64
equal "$(qemu-img info --output=json ours.qcow2 | jq -r '."format-specific".data.bitmaps[0].name')" b0 "the bitmap"

# What a snapshot holds in space that the disk keeps for zeros: QEMU 7.2 writes zeros there.
create -F raw -b base.raw kept.qcow2 1M
qio kept.qcow2 -- "write -P 9 0 1M"
qemu-img snapshot -c one kept.qcow2
qio kept.qcow2 -- "write -z 0 512k"
made kept.qcow2
cp kept.qcow2 ours.qcow2
"$CORRAL" amend -o compat=0.10 ours.qcow2
reads_the_same ours.qcow2 kept.qcow2 "zeros in space that a snapshot has"
clean ours.qcow2

# ---- lazy refcounts, backing file, size ----

keeps plain.qcow2 -o lazy_refcounts=on
keeps lazy.qcow2 -o lazy_refcounts=off
keeps lazy.qcow2 -o lazy_refcounts=yes,refcount_bits=1
refuses lazy.qcow2 -o lazy_refcounts=perhaps
keeps over.qcow2 -o backing_file=base.raw,backing_fmt=raw
for option in backing_file=other backing_file= backing_file=base.raw backing_fmt=raw backing_fmt=qcow2; do
	refuses over.qcow2 -o $option
done
refuses plain.qcow2 -o backing_file=base.raw
for size in 9M 12345856 8M 0; do
	amends plain.qcow2 -o size=$size
	clean ours.qcow2
	qemu-img compare -f qcow2 -F qcow2 ours.qcow2 theirs.qcow2 >/dev/null || fail "size=$size reads otherwise"
done
amends over.qcow2 -o size=20M
qemu-img compare ours.qcow2 theirs.qcow2 >/dev/null || fail "a size beyond that of the backing file reads otherwise"
for size in 10000001 x -1 ''; do
	refuses plain.qcow2 -o "size=$size"
done
refuses old.qcow2 -o size=20M
amends old.qcow2 -o size=20M,compat=1.1

# ---- data files ----

create -o data_file=data.raw data.qcow2 4M
qio data.qcow2 -- "write -P 1 0 1M"
keeps data.qcow2 -o refcount_bits=8
keeps data.qcow2 -o data_file=data.raw,lazy_refcounts=on
cp data.raw moved.raw
keeps data.qcow2 -o data_file=moved.raw
amends data.qcow2 -o data_file=
refuses data.qcow2 -o compat=0.10
refuses data.qcow2 -o data_file_raw=on
refuses plain.qcow2 -o data_file=data.raw
refuses plain.qcow2 -o data_file_raw=on
create -o data_file=raw.raw,data_file_raw=on raw.qcow2 4M
keeps raw.qcow2 -o data_file_raw=off
keeps raw.qcow2 -o data_file_raw=on

# ---- what there isn't ----

for option in cluster_size=4k preallocation=off compression_type=zlib extended_l2=on encryption=on encrypt.format=luks \
	encrypt.cipher-alg=aes-256 encrypt.key-secret=k nonsense=1 nocow=on; do
	refuses plain.qcow2 -o $option
done
refuses plain.qcow2 -o encrypt.state=active
refuses plain.qcow2 -o ""
refuses plain.qcow2 -o ,
refuses plain.qcow2 -o size=9M,
refuses plain.qcow2 -f raw -o size=9M
refuses plain.qcow2 -t sometimes -o size=9M
refuses plain.qcow2 -o size=9M,,x
for arguments in "-f raw -o help" "-f qcow2 -o help" "-o help plain.qcow2" "-f qcow2 -o size=1M,help"; do
	ours=0 theirs=0
	# shellcheck disable=SC2086
	qemu-img amend $arguments >theirs.out 2>theirs.err || theirs=$?
	# shellcheck disable=SC2086
	"$CORRAL" amend $arguments >ours.out 2>ours.err || ours=$?
	equal "$ours" "$theirs" "amend $arguments: status"
	same ours.out theirs.out "amend $arguments"
done
fails 'Must specify options' "$CORRAL" amend plain.qcow2
fails 'one image file name' "$CORRAL" amend -o size=9M
fails 'say --force' "$CORRAL" amend -o size=4M plain.qcow2
"$CORRAL" amend -p -o refcount_bits=64 plain.qcow2 | tr '\r' '\n' >progress
grep -q '^    (0.00/100%)$' progress && grep -q '^    (100.00/100%)$' progress || fail "-p says: $(cat progress)"
[ -z "$("$CORRAL" amend -p -q -o refcount_bits=16 plain.qcow2)" ] || fail "-q says something"

# An image in use is left alone.
serve plain.qcow2
fails 'lock' "$CORRAL" amend -o refcount_bits=8 plain.qcow2
stop
clean plain.qcow2

say "$AMENDED amended alike, $REFUSED refused alike"
passed
