#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The server promises "can multi conn": a flush on one connection covers what was answered on every other. So when it is
# killed after that flush, everything is there. A write with FUA needs no flush at all.
. "$(dirname "$0")/lib.sh"

# A client of four connections: three write, the fourth flushes. state.bin is what the disk must hold, before and after.
cat >client.py <<'END'
import random
import sys

sys.path.insert(0, sys.argv[1])
import nbd

FRESH = 4 << 20  # from here on each round finds clusters that were never written

sock, seed = sys.argv[2], int(sys.argv[3])
rnd = random.Random(seed)
disk = bytearray(open("state.bin", "rb").read())
clients = [nbd.Client(sock) for _ in range(4)]
assert all(c.flags & nbd.CAN_MULTI_CONN for c in clients), "can multi conn isn't offered"
assert all(c.flags & nbd.SEND_FLUSH and c.flags & nbd.SEND_FUA for c in clients), "flush or FUA isn't offered"


def place():
    length = rnd.choice([512, 4096, 65536, rnd.randint(1, 200) * 512])
    return rnd.randrange((FRESH - length) // 512) * 512, length


for _ in range(30):
    offset, length = place()
    client = rnd.choice(clients[:3])
    if rnd.random() < 0.2:
        client.call(nbd.WRITE_ZEROES, offset, length)
        disk[offset : offset + length] = bytes(length)
    else:
        data = rnd.randbytes(length)
        client.write(offset, data)
        disk[offset : offset + length] = data
clients[3].flush()
offset, length = place()
data = rnd.randbytes(length)
clients[0].write(offset, data, nbd.FLAG_FUA)
disk[offset : offset + length] = data

# A write that is answered while another's flush is under way is no part of that, but of the next.
offset = FRESH + seed * 65536
data = rnd.randbytes(65536)
early = clients[0].submit(nbd.FLUSH)
clients[1].write(offset, data)
clients[3].flush()
disk[offset : offset + len(data)] = data
assert not any(clients[0].wait([early]).values())
open("state.bin", "wb").write(disk)
END

# survives IMAGE ROUNDS
survives() {
	local round
	truncate -s 0 state.bin
	truncate -s 8M state.bin
	for ((round = 1; round <= $2; round++)); do
		serve "$1"
		python3 client.py "$INTEROP" "$SOCK" $round || fail "$1, round $round: the client"
		crash
		sound "$1"
		qemu_reads "$1" now.raw
		same state.bin now.raw "$1, round $round: flushed data is lost"
	done
}

create image 8M
survives image 6
create -o cluster_size=512 tiny 8M
survives tiny 6
passed
