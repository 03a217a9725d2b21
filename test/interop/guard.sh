#!/bin/bash
# SPDX-License-Identifier: MIT
#
# An image whose L2 entries point to its tables, or whose refcounts say that tables are free: what a client writes there
# fails, the tables stay what they are, the image is marked corrupt, and both programs find it so.
. "$(dirname "$0")/lib.sh"

place() { python3 "$INTEROP/bend.py" image.qcow2 "$1"; }

# refused WHAT OFFSET GUEST STATUS: a write to the guest address must fail and leave the cluster at OFFSET alone; both
# programs' check then ends with this status
refused() {
	local before after
	before=$(dd if=image.qcow2 bs=65536 skip=$(($2 / 65536)) count=1 status=none | sha256sum)
	serve image.qcow2
	qemu-io -f raw -c "write -P 9 $3 64k" "$URI" >write.log 2>&1 && ! grep -qi "error" write.log &&
		fail "$1: the write succeeded"
	qemu-io -f raw -c "write -P 9 1M 64k" "$URI" >write.log 2>&1 && ! grep -qi "error" write.log &&
		fail "$1: a later write succeeded"
	qemu-io -f raw -r -c "read -P 1 64k 64k" "$URI" | grep -q failed && fail "$1: what is in order can't be read"
	kill -TERM "$SERVER"
	ended "$SERVER" 20 || fail "$1: the server doesn't end"
	wait "$SERVER" || true
	unset "SERVERS[$SERVER]"
	grep -q "Marking image as corrupt: Preventing invalid write on metadata (overlaps with $1)" "$LOG" ||
		fail "$1: the log doesn't say so: $(cat "$LOG")"
	after=$(dd if=image.qcow2 bs=65536 skip=$(($2 / 65536)) count=1 status=none | sha256sum)
	# In the block the search for leaks gives back what the bent entry named before.
	[ "$before" = "$after" ] || [ "$1" = "refcount block" ] || fail "$1 was written to"
	qemu-img info image.qcow2 | grep -q "corrupt: true" || fail "$1: not marked corrupt"
	serve_fails "corrupt" image.qcow2
	check_status "$4" qemu-img check -f qcow2 image.qcow2
	check_status "$4" "$CORRAL" check image.qcow2
}

fresh() {
	create image.qcow2 64M
	qemu-io -f qcow2 -c "write -P 1 0 256k" image.qcow2 >/dev/null
	L1=$(place byte:40) L2=$(place l1:0) TABLE=$(place byte:48) BLOCK=$(place reftable:0)
}

for what in "active L1 table:L1" "active L2 table:L2" "refcount table:TABLE" "refcount block:BLOCK"; do
	fresh
	at=${what#*:}
	at=$((${!at} * 65536))
	python3 "$INTEROP/bend.py" image.qcow2 l2:0:0 "=$(printf %#x $((at | 1 << 63)))"
	refused "${what%:*}" $at 0 2
	[ "$what" = "refcount block:BLOCK" ] && continue
	fresh
	python3 "$INTEROP/bend.py" image.qcow2 "refcount:$((at / 65536))" =0
	refused "${what%:*}" $at 2M 0 # what was wrong, the refcount, is right now
done

passed
