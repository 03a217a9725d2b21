#!/bin/bash
# SPDX-License-Identifier: MIT
#
# rebase: the disk reads as before on the new chain, for both programs, whichever of them did it, wherever it was killed; no
# more is copied than differs; bitmaps stay; both checkers are content.
. "$(dirname "$0")/lib.sh"
export CORRAL_AIO

# Three chains that are alike in part, of different lengths and formats.
create old-base.qcow2 6M
qio -f qcow2 old-base.qcow2 -- "write -P 1 0 4M" "write -P 9 5M 100k"
create -b old-base.qcow2 -F qcow2 old.qcow2
qio -f qcow2 old.qcow2 -- "write -P 2 1M 300k" "write -z 3M 1M"
create -o cluster_size=4k -b old-base.qcow2 -F qcow2 new.qcow2
qio -f qcow2 new.qcow2 -- "write -P 2 1M 100k" "write -P 5 2000k 3k" "write -z 5M 64k"
create short.qcow2 2M
qio -f qcow2 short.qcow2 -- "write -P 1 0 2M"
qemu-img convert -O raw old.qcow2 long.raw
truncate -s 9M long.raw
qio -f raw long.raw -- "write -P 7 6M 3M"

top_make() { # OPTIONS
	rm -f top.qcow2
	create -b old.qcow2 -F qcow2 "$@" top.qcow2 7M
	qio -f qcow2 top.qcow2 -- "write -P 3 1200k 200k" "write -z -u 4500k 100k" "write -P 4 6500k 100k"
	qemu_reads top.qcow2 before.raw
}

holds() { # WHAT
	qemu-img compare -q -f raw -F qcow2 before.raw top.qcow2 || fail "$1: qemu-img reads something else"
	"$CORRAL" compare -q -f raw -F qcow2 before.raw top.qcow2 || fail "$1: corral reads something else"
	clean top.qcow2
	equal "$("$CORRAL" check -q top.qcow2 2>&1)" "" "$1: corral check"
}

stands_on() { equal "$(qemu-img info --output=json top.qcow2 | python3 -c 'import json, sys; print(json.load(sys.stdin).get("backing-filename"))')" "$1" "the backing file"; }

# Back and forth, by one program and the other.
for options in cluster_size=64k cluster_size=4k extended_l2=on compat=0.10; do
	top_make -o $options
	for to in new.qcow2 long.raw short.qcow2 old-base.qcow2 old.qcow2; do
		"$CORRAL" rebase -b $to -F ${to##*.} top.qcow2
		holds "$options, corral, $to"
		stands_on $to
	done
	top_make -o $options
	"$CORRAL" rebase -b short.qcow2 -F qcow2 top.qcow2
	qemu-img rebase -b long.raw -F raw top.qcow2
	holds "$options, qemu-img after corral"
	"$CORRAL" rebase -b new.qcow2 -F qcow2 top.qcow2
	holds "$options, corral after qemu-img"
	"$CORRAL" rebase -b '' top.qcow2
	holds "$options, none"
	stands_on None
	"$CORRAL" rebase -b long.raw -F raw top.qcow2
	holds "$options, from none"
done

# Nothing is copied that is the same: onto a copy of the old chain, and onto a layer of it that the layer between only repeats.
top_make
bytes=$(stat -c %s top.qcow2)
qemu-img convert -O qcow2 old.qcow2 same.qcow2
"$CORRAL" rebase -b same.qcow2 -F qcow2 top.qcow2
holds "the same content"
equal "$(stat -c %s top.qcow2)" "$bytes" "the size after a rebase onto the same content"

# What is copied can be compressed; bitmaps and snapshots' own data stay.
top_make
qemu-img bitmap --add top.qcow2 kept
qemu-img snapshot -c s top.qcow2
"$CORRAL" rebase -c -b '' top.qcow2
holds "compressed"
[ "$("$CORRAL" check --output=json top.qcow2 | python3 -c 'import json, sys; print(json.load(sys.stdin)["compressed-clusters"])')" -gt 20 ] ||
	fail "nothing is compressed"
qemu-img info top.qcow2 | grep -q 'name: kept' || fail "the bitmap is gone"

# With limits or encryption above, it is the image below that gets another backing file.
printf secret >key
create -b old.qcow2 -F qcow2 --object secret,id=k,file=key -o encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10 luks.qcow2
qemu-io --object secret,id=k,file=key --image-opts driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=k \
	-c "write -P 6 700k 50k" >/dev/null
luks() { qemu-img compare -q --object secret,id=k,file=key --image-opts "driver=$1" driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=k; }
qemu-img convert --object secret,id=k,file=key --image-opts -O raw driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=k before.raw
"$CORRAL" rebase --object secret,id=k,file=key --key-secret k -b new.qcow2 -F qcow2 luks.qcow2
luks raw,file.filename=before.raw || fail "an encrypted overlay reads something else"

# Only the name: nobody looks.
top_make
"$CORRAL" rebase -u -b /nowhere/base -F raw top.qcow2
stands_on /nowhere/base
fails 'base' "$CORRAL" rebase -b new.qcow2 -F qcow2 top.qcow2
"$CORRAL" rebase -u -b old.qcow2 -F qcow2 top.qcow2
holds "-u there and back"

# A base that is being written: its lock is heard, and -U goes past it.
serve new.qcow2
fails 'in use' "$CORRAL" rebase -b new.qcow2 -F qcow2 top.qcow2
holds "refused"
"$CORRAL" rebase -U -b new.qcow2 -F qcow2 top.qcow2
stop
holds "-U"

# Killed anywhere it reads as before, and the same command goes on.
create big-old.qcow2 64M
qio -f qcow2 big-old.qcow2 -- "write -P 11 0 64M"
create big-new.qcow2 64M
qio -f qcow2 big-new.qcow2 -- "write -P 12 10M 30M"
create -b big-old.qcow2 -F qcow2 top.qcow2
qemu_reads top.qcow2 before.raw
for ms in 005 010 020 035 050 070 100; do
	"$CORRAL" rebase -b big-new.qcow2 -F qcow2 top.qcow2 &
	sleep 0.$ms
	kill -9 $! 2>/dev/null || true
	wait $! || true
	until qemu-io -r -f qcow2 -c length top.qcow2 >/dev/null 2>&1; do sleep 0.01; done # a ring lets go a little later
	qemu-img compare -q -f raw -F qcow2 before.raw top.qcow2 || fail "killed after $ms ms, it reads something else"
done
"$CORRAL" rebase -b big-new.qcow2 -F qcow2 top.qcow2
"$CORRAL" check -q -r leaks top.qcow2 || true
holds "after all"
stands_on big-new.qcow2

passed
