#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Persistent bitmaps, shared with QEMU: what either program added, follows what the other writes, to the granule; what one
# says about an edit, the other says. A session that is killed leaves bitmaps that both call inconsistent.
. "$(dirname "$0")/lib.sh"
needs nbdinfo qemu-nbd jq

SIZE=$((20 * 1024 * 1024 + 512))

# dirty_by_qemu IMAGE BITMAP: "offset length" of each dirty run, as QEMU tells
dirty_by_qemu() {
	qemu_serve "$1" --read-only -B "$2"
	nbdinfo --map="qemu:dirty-bitmap:$2" "$QEMU_URI" | awk '$3 == 1 { print $1, $2 }'
	crash "$QEMU_SERVER"
}

# expected GRANULARITY: the same of the ranges "offset length" on stdin
expected() {
	python3 -c '
import sys
size, unit = int(sys.argv[1]), int(sys.argv[2])
granules = set()
for line in sys.stdin:
    at, n = map(int, line.split())
    granules.update(range(at // unit, (at + n - 1) // unit + 1))
run = []
for g in sorted(granules):
    if run and run[-1][1] == g * unit:
        run[-1][1] = (g + 1) * unit
    else:
        run.append([g * unit, (g + 1) * unit])
for a, b in run:
    print(a, min(b, size) - a)
' $SIZE "$1"
}

# ranges SEED: some of every kind of change, "offset length command"
ranges() {
	python3 -c '
import random, sys
r = random.Random(int(sys.argv[1]))
size = int(sys.argv[2])
for i in range(12):
    at = r.randrange(size // 512) * 512
    n = min(r.choice([512, 1024, 5120, 70000 // 512 * 512, 1 << 20]), size - at)
    print(at, n, r.choice(["write", "write", "write -z", "write -z -u", "discard"]))
' "$1" $SIZE
}

commands() { awk '{ at = $1; n = $2; $1 = $2 = ""; print $0, at, n }' "$1"; }

# written_by corral|qemu IMAGE RANGES
written_by() {
	local commands=()
	mapfile -t commands < <(commands "$3")
	if [ "$1" = qemu ]; then
		qio -f qcow2 "$2" -- "${commands[@]}"
	else
		serve "$2"
		qio -f raw "$URI" -- "${commands[@]}"
		stop
	fi
}

# follows IMAGE BITMAP GRANULARITY RANGES
follows() {
	dirty_by_qemu "$1" "$2" >theirs
	cut -d' ' -f1,2 "$4" | expected "$3" >ours
	same ours theirs "bitmap $2 of $1"
}

# ---- what is written is what is dirty ----

# shape OPTIONS GRANULARITY...
shape() {
	local image=image unit
	rm -f $image
	create -o "$1" $image $SIZE
	for unit in "${@:2}"; do
		"$CORRAL" bitmap --add -g "$unit" $image "ours$unit" || fail "adding"
		qemu-img bitmap --add -g "$unit" $image "theirs$unit"
	done
	clean $image
	: >ranges.all
	for session in 1 2 3 4; do
		ranges "$session" >ranges.now
		cat ranges.now >>ranges.all
		if [ $((session % 2)) = 1 ]; then
			written_by corral $image ranges.now
		else
			written_by qemu $image ranges.now
		fi
		clean $image
	done
	for unit in "${@:2}"; do
		follows $image "ours$unit" "$unit" ranges.all
		follows $image "theirs$unit" "$unit" ranges.all
	done
	say "$1: ok, ${SECONDS} s"
}

shape cluster_size=65536 512 65536 1048576
shape cluster_size=512 512 4096
shape cluster_size=2M 65536
shape refcount_bits=1,cluster_size=4096 2147483648 16384

# ---- edits are alike, to the letter ----

# The names that QEMU makes up for nodes, and the program's own, aside.
plain() { sed -E "s/^(corral|qemu-img): //; s/'#block[0-9]+'/'NODE'/; s/'(ours|theirs)\.qcow2'/'NODE'/g; s/(ours|theirs)\.qcow2/IMAGE/g"; }

# alike ARGUMENT...: IMAGE stands for the image
alike() {
	local a=0 b=0
	"$CORRAL" bitmap "${@//IMAGE/ours.qcow2}" >ours 2>&1 || a=$?
	qemu-img bitmap "${@//IMAGE/theirs.qcow2}" >theirs 2>&1 || b=$?
	equal $a $b "status of bitmap $*: $(cat ours)"
	plain <ours >ours.plain
	plain <theirs >theirs.plain
	same ours.plain theirs.plain "bitmap $*"
	"$CORRAL" info --output=json ours.qcow2 | jq -S '."format-specific".data.bitmaps | sort_by(.name)?' >ours
	qemu-img info --output=json theirs.qcow2 | jq -S '."format-specific".data.bitmaps | sort_by(.name)?' >theirs
	same ours theirs "info after bitmap $*"
	clean ours.qcow2
}

create other.qcow2 $SIZE
qemu-img bitmap --add -g 4k other.qcow2 source
qio -f qcow2 other.qcow2 -- "write 1M 4k" "write 9M 100k"
create larger.qcow2 $((SIZE * 2))
qemu-img bitmap --add larger.qcow2 source
create ours.qcow2 $SIZE
qio -f qcow2 ours.qcow2 -- "write 0 1M"
cp ours.qcow2 theirs.qcow2

alike --add IMAGE b0
alike --add IMAGE b0
alike --add -g 512 IMAGE b1
alike --add -g 4k --disable IMAGE b2
alike --add -g 3 IMAGE no
alike --add -g 256 IMAGE no
alike --add -g 4G IMAGE no
alike --add -g nonsense IMAGE no
alike --add IMAGE ''
alike IMAGE b0
alike --add IMAGE
alike --remove -g 64k IMAGE b0
alike --merge b1 -F qcow2 IMAGE b0
alike --clear -b other.qcow2 IMAGE b0
for action in --remove --clear --enable --disable; do alike $action IMAGE nothing; done
alike --merge nothing IMAGE b0
alike --merge source -b other.qcow2 -F qcow2 IMAGE b0
alike --merge source -b larger.qcow2 -F qcow2 IMAGE b0
alike --merge b0 IMAGE b2
alike --disable --merge b2 --enable IMAGE b1
for name in b0 b1 b2; do
	dirty_by_qemu ours.qcow2 $name >ours
	dirty_by_qemu theirs.qcow2 $name >theirs
	[ -s ours ] || fail "$name is empty"
	same ours theirs "merged bitmap $name"
done
alike --clear IMAGE b2
alike --remove IMAGE b0
alike --remove IMAGE b1
alike --remove --add --remove IMAGE b2
create -o compat=0.10 ours.qcow2 1M
cp ours.qcow2 theirs.qcow2
fails 'Cannot store dirty bitmaps in qcow2 v2 files' "$CORRAL" bitmap --add ours.qcow2 b

# ---- a disabled bitmap stays as it is, an enabled one is inconsistent after a crash ----

create image.qcow2 $SIZE
"$CORRAL" bitmap --add image.qcow2 live
"$CORRAL" bitmap --add --merge source -b other.qcow2 --disable image.qcow2 still
serve image.qcow2
qio -f raw "$URI" -- "write 2M 64k"
crash
equal "$(qemu-img info --output=json image.qcow2 | jq -c '[."format-specific".data.bitmaps[] | [.name, .flags]]')" \
	'[["live",["in-use","auto"]],["still",[]]]' "flags after a crash"
sound image.qcow2
fails "Bitmap 'live' is inconsistent and cannot be used" "$CORRAL" bitmap --clear image.qcow2 live
fails "Bitmap 'live' is inconsistent and cannot be used" qemu-img bitmap --clear image.qcow2 live
printf '1048576 4096\n9437184 102400\n' >ranges.now
follows image.qcow2 still 65536 ranges.now
serve image.qcow2
qio -f raw "$URI" -- "write 3M 64k"
stop
"$CORRAL" bitmap --remove image.qcow2 live
clean image.qcow2
follows image.qcow2 still 65536 ranges.now

# ---- another size ----

"$CORRAL" bitmap --enable image.qcow2 still
qemu-img resize -q image.qcow2 30M
qemu-img bitmap --disable image.qcow2 still
qemu-img resize -q image.qcow2 40M
SIZE=$((40 * 1024 * 1024))
follows image.qcow2 still 65536 ranges.now
"$CORRAL" bitmap --enable image.qcow2 still
written_by corral image.qcow2 <(echo "$((39 << 20)) 512 write")
echo "$((39 << 20)) 512" >>ranges.now
follows image.qcow2 still 65536 ranges.now
clean image.qcow2

passed
