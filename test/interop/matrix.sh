#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Every pair of the format's options, in images that QEMU and Corral make and write in turn: see matrix.py, which can do
# more of them. The table of the rows is printed.
. "$(dirname "$0")/lib.sh"

python3 "$INTEROP/matrix.py" "$CORRAL" --alternate || fail "see above"
passed
