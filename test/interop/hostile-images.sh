#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Images from an attacker: each is judged rightly, costs little, opens nothing but itself, and is refused with its reason.
. "$(dirname "$0")/lib.sh"

needs strace
CORRAL_AIO=$CORRAL_AIO python3 "$INTEROP/hostile-images.py" "$CORRAL" || fail "see above"
passed
