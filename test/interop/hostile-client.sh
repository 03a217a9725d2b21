#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Clients that lie, stop half-way, ask for too much or come by the hundred: the server lives, keeps its memory in bounds
# and serves the honest ones meanwhile. One that only has to read refuses to write.
. "$(dirname "$0")/lib.sh"

create image 32M
serve image
python3 "$INTEROP/hostile.py" "$SOCK" "$SERVER" || fail "see above"
alive
stop
clean image

sum=$(sha256sum image)
serve image --read-only
PYTHONPATH=$INTEROP python3 - "$SOCK" <<'END' || fail "a read-only server was written to"
import sys

import nbd

EPERM = 1
client = nbd.Client(sys.argv[1])
assert client.flags & nbd.READ_ONLY, "the export isn't marked read-only"
for command, data in ((nbd.WRITE, b"x" * 512), (nbd.TRIM, b""), (nbd.WRITE_ZEROES, b"")):
    handle = client.submit(command, 0, 512, data)
    error = client.wait([handle])[handle]
    assert error == EPERM, f"command {command} gets error {error}"
client.read(0, 4096)
client.disconnect()
END
stop
equal "$(sha256sum image)" "$sum" "a read-only server's image"
passed
