#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Images damaged in one place each: `corral check` says what `qemu-img check` says, line by line, with the same totals and
# the same exit status. And an image in which a cluster serves two purposes, which QEMU takes for sound, is called corrupt.
. "$(dirname "$0")/lib.sh"
needs jq

CASES=0
DAMAGE=

# both_check IMAGE: leaves {qemu,corral}.{err,json}; sets STATUS, that of both
both_check() {
	local status=0
	STATUS=0
	qemu-img check -f qcow2 --output=json "$1" >qemu.json 2>qemu.err || STATUS=$?
	"$CORRAL" check --output=json "$1" >corral.json 2>corral.err || status=$?
	equal "$status" "$STATUS" "$1: the exit status, $DAMAGE; $(tail -n 3 corral.err)"
}

# bent STATUS IMAGE [WHERE CHANGE]...: a damaged copy of IMAGE, about which both agree
bent() {
	local expected=$1 image=$2
	shift 2
	DAMAGE=$*
	cp "$image" bent
	[ $# = 0 ] || python3 "$INTEROP/bend.py" bent "$@"
	both_check bent
	equal "$STATUS" "$expected" "$image: QEMU's verdict on $DAMAGE"
	sed -i '/^Use qemu-img amend/d' qemu.err # advice, not a finding
	diff qemu.err corral.err >differ || fail "$image: they find different things in $DAMAGE: $(head -n 9 differ)"
	equal "$(jq -s '.[0] == .[1]' qemu.json corral.json)" true "$image: equal totals, $DAMAGE: $(cat qemu.json corral.json)"
	CASES=$((CASES + 1))
}

# ---- the kinds of damage, on a plain image of any shape; $2 is its cluster size ----
plain_damage() {
	local image=$1 cluster=$2 first
	first=$(python3 "$INTEROP/bend.py" "$image" l2:0:0)
	bent 0 "$image"
	# refcounts against references
	bent 2 "$image" refcount:$first =0
	bent 2 "$image" refcount:0 =0
	# entries of L2 tables
	bent 2 "$image" l2:0:0 '|0x2'
	bent 2 "$image" l2:0:0 '|0x3000000000000000'
	bent 2 "$image" l2:0:0 =$((0x7ffffffff0000 & -cluster))
	bent 2 "$image" l2:0:0 =l2:0:1
	bent 2 "$image" l2:0:0 '=byte:48'
	bent 2 "$image" l2:0:0 '=byte:40'
	bent 2 "$image" l2:0:0 '=l1:0'
	bent 2 "$image" l2:0:0 '&0x7fffffffffffffff'
	bent 3 "$image" l2:0:0 =0
	# entries of the L1 table
	bent 2 "$image" l1:0 '|0x4'
	bent 2 "$image" l1:0 '|0x0100000000000000'
	bent 2 "$image" l1:0 '&0x7fffffffffffffff'
	bent 2 "$image" l1:0 =$((0x7ffffffff0000 & -cluster))
	bent 3 "$image" l1:0 =0
	# the refcount table
	bent 2 "$image" reftable:0 =0
	bent 2 "$image" reftable:0 =$((0x7ffffffff0000 & -cluster))
	bent 2 "$image" reftable:1 =reftable:0
}

for shape in 512,refcount_bits=64 4096,refcount_bits=1 65536,compat=0.10 2097152,refcount_bits=4; do
	rm -f plain
	create -o "cluster_size=$shape" plain 8M
	qio -f qcow2 plain -- "write -P 1 0 6M"
	plain_damage plain "${shape%%,*}"
done

# ---- misplaced pointers, where a cluster has room for them ----
create aligned 8M
qio -f qcow2 aligned -- "write -P 1 0 1M" "write -z 1M 64k" "write -P 3 2M 64k" "write -z 2M 64k"
bent 2 aligned refcount:5 =2
bent 2 aligned l2:0:0 '|0x200'
bent 2 aligned l2:0:32 '|0x200'
bent 2 aligned l1:0 '|0x200'
bent 2 aligned l2:0:16 '|0x8000000000000080'

# ---- entries of 16 bytes ----
create -o extended_l2=on extended 8M
qio -f qcow2 extended -- "write -P 1 0 1M" "write -P 2 2M 4k" "write -z 3M 64k"
bent 0 extended
bent 2 extended l2:0:1 '|0x100000000'
bent 2 extended l2:0:0 =l2:0:2
bent 2 extended l2:0:61 =1
bent 3 extended l2:0:64 =0 l2:0:65 =0

# ---- guest data in a file of its own ----
create -o data_file=data,data_file_raw=on external 8M
qio -f qcow2 external -- "write -P 1 0 1M"
bent 0 external
bent 2 external l2:0:3 '&0x7fffffffffffffff'
bent 2 external l2:0:3 '|0x4000000000000000'

# ---- compressed clusters share host clusters ----
create compressed 4M
qio -f qcow2 compressed -- "write -c -P 1 0 64k" "write -c -P 2 64k 64k" "write -P 3 128k 64k"
bent 0 compressed
bent 2 compressed l2:0:0 '|0x8000000000000000'
bent 2 compressed l2:0:0 =0x40007ffff0000000
bent 3 compressed l2:0:0 =0 l2:0:1 =0
bent 2 compressed refcount:5 =1

# ---- snapshots ----
create snapshots 4M
qio -f qcow2 snapshots -- "write -P 1 0 1M"
qemu-img snapshot -c first snapshots
qio -f qcow2 snapshots -- "write -P 2 0 512k"
qemu-img snapshot -c second snapshots
bent 0 snapshots
bent 2 snapshots l2:0:0 '|0x8000000000000000'
bent 2 snapshots snapshot:0 '|0x200'
bent 2 snapshots snapshot:8 '|0x4000000000000000'
bent 2 snapshots snapshot:0 =0x7ffffffff0000

# ---- bitmaps ----
create bitmaps 4M
qemu-img bitmap --add -g 65536 bitmaps one
bent 0 bitmaps
bent 2 bitmaps bitmap:0 =0x7ffffffff0000
bent 2 bitmaps bitmap:0 =byte:40
# Here QEMU gives up without a verdict.
cp bitmaps bent
python3 "$INTEROP/bend.py" bent bitmap:0 =0x2
check_status 1 qemu-img check bent
check_status 2 "$CORRAL" check bent

# ---- a file cut short ----
create short 8M
qio -f qcow2 short -- "write -P 1 0 4M"
truncate -s 1M short
bent 2 short

# ---- only here: a data cluster that is an L2 table as well, with the refcount to match ----
create twice 1G
qio -f qcow2 twice -- "write -P 1 0 128k" "write -P 2 512M 64k"
python3 "$INTEROP/bend.py" twice l2:0:0 =l1:1 l2:0:0 '&0x7fffffffffffffff' l1:1 '&0x7fffffffffffffff'
cluster=$(python3 "$INTEROP/bend.py" twice l1:1)
python3 "$INTEROP/bend.py" twice "refcount:$cluster" =2
check_status 3 qemu-img check -q twice
check_status 2 "$CORRAL" check twice
grep -q "ERROR cluster $cluster is used both as" "$SCRATCH/output" || fail "the double use isn't told: $(cat "$SCRATCH/output")"

# ---- what isn't qcow2 ----
truncate -s 1M raw
check_status 63 "$CORRAL" check raw
check_status 63 "$CORRAL" check -f raw short
check_status 1 "$CORRAL" check -f qcow2 raw
check_status 1 "$CORRAL" check nowhere

say "$CASES damaged images, and both said the same"
passed
