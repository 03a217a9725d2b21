#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Repair of tables, pointers and refcounts, for versions, cluster sizes and refcount widths. See repair-lib.sh.
. "$(dirname "$0")/lib.sh"
. "$INTEROP/repair-lib.sh"
needs jq

# all_kinds IMAGE: the kinds of damage that aren't tried with every geometry
all_kinds() {
	repaired "refcount of the header too low" "$1" same 0 same refcount:0 =0
	repaired "table leaked" "$1" same 0 other l1:0 =0
	repaired "data leaked" "$1" same 0 other l2:0:0 =0
	repaired "no COPIED, data" "$1" same 0 same l2:0:0 '&0x7fffffffffffffff'
	repaired "no COPIED, table" "$1" same 0 same l1:0 '&0x7fffffffffffffff'
	repaired "refcount block far outside" "$1" same 0 same reftable:0 =0x7ffffffe00000
	repaired "refcount block unaligned" "$1" other 0 same reftable:0 '|0x100'
	repaired "refcount block used twice" "$1" other 0 same reftable:1 =reftable:0
	repaired "refcount block on the L1 table" "$1" other 0 same reftable:0 =byte:40
	repaired "refcount table far outside" "$1" other 0 same byte:48 =0x7ffffffe00000
	repaired "refcount table on the L1 table" "$1" other 0 same byte:48 =byte:40
	repaired "refcount table at 0" "$1" other 0 same byte:48 =0
	repaired "data outside of the file" "$1" same 2 other l2:0:0 =0x7ffffffe00000
	repaired "table outside of the file" "$1" same 2 other l1:0 =0x7ffffffe00000
	repaired "reserved bits, data" "$1" same 2 other l2:0:0 '|0x2'
	repaired "reserved bits, table" "$1" same 2 other l1:0 '|0x2'
	repaired "data on the refcount table" "$1" same 0 other l2:0:0 =byte:48
	repaired "data on a refcount block" "$1" other 0 other l2:0:0 =reftable:0
	if [ -n "$wide" ]; then
		repaired "data on its own L2 table" "$1" same 0 other l2:0:0 '=l1:0'
		repaired "data twice" "$1" same 0 other l2:0:0 =l2:0:1
	fi
}

# ---- tables, pointers, refcounts, for every geometry ----
shapes=(
	64k,compat=0.10 512,compat=0.10 512,refcount_bits=1 4k,refcount_bits=2 64k,refcount_bits=4 4k,refcount_bits=8
	64k,refcount_bits=16 2M,refcount_bits=16 512,refcount_bits=32 2M,refcount_bits=64 64k,lazy_refcounts=on
)
for shape in "${shapes[@]}"; do
	image=${shape//[=,.]/-}
	create -o "cluster_size=$shape" "$image" 16M
	qio -f qcow2 "$image" -- "write -P 1 0 2M" "write -P 2 8M 1M"
	data=$(bend "$image" l2:0:0)
	case $shape in *bits=1) wide= ;; *) wide=yes ;; esac
	repaired "refcount too low" "$image" same 0 same "refcount:$data" =0
	repaired "refcount block missing" "$image" same 0 same reftable:0 =0
	repaired "data on the L1 table" "$image" same 0 other l2:0:0 =byte:40
	[ -z "$wide" ] || repaired "refcount too high" "$image" same 0 same "refcount:$data" =3
	case $shape in 64k,compat=0.10 | 512,refcount_bits=1) all_kinds "$image" ;; esac
	rm "$image"
done

say "$CASES damaged images"
passed
