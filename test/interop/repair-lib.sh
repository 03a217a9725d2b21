# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Images damaged on purpose, then repaired: what the tests of it share; sourced after lib.sh. For each image: `corral check`
# counts what `qemu-img check` counts; `corral check -r all` repairs what can be; a second run has nothing to do; qemu-img
# check agrees with what is left; the guest reads what it should. Prints a row for each: what was found, what is left by
# Corral, what QEMU's own repair leaves, and what became of the content.
CASES=0
bend() { python3 "$INTEROP/bend.py" "$@"; }
header() { python3 "$INTEROP/header.py" "$@"; }

# totals JSON: corruptions, leaks, check-errors
totals() { jq -r '[.corruptions // 0, .leaks // 0, ."check-errors" // 0] | join("/")' "$1" 2>/dev/null || echo "-"; }

# check_both FILE COUNTS: same says that both must count the same; else QEMU gives up, or can't see it
check_both() {
	local status=0 qemu=0
	rm -f qemu.json
	qemu-img check -f qcow2 --output=json "$1" >qemu.json 2>qemu.err || qemu=$?
	"$CORRAL" check --output=json "$1" >corral.json 2>corral.err || status=$?
	if [ "$2" = same ]; then
		equal "$status" "$qemu" "$NAME: status; $(tail -n 2 corral.err)"
		equal "$(totals corral.json)" "$(totals qemu.json)" "$NAME: totals"
	fi
}

# qemu_left FILE: what is left by QEMU's repair of it
qemu_left() {
	cp "$1" theirs
	qemu-img check -f qcow2 -r all theirs >/dev/null 2>&1 || true
	local status=0
	qemu-img check -f qcow2 theirs >/dev/null 2>&1 || status=$?
	echo $status
}

# repaired NAME IMAGE COUNTS LEFT CONTENT [WHERE CHANGE]...
#   COUNTS   same, or other: what QEMU finds isn't compared
#   LEFT     the status of a check afterwards: 0, or 2 where something can't be put right
#   CONTENT  same: as before the damage; other: isn't known
repaired() {
	NAME="$2: $1"
	local name=$1 image=$2 counts=$3 left=$4 content=$5
	shift 5
	cp "$image" bent
	bend bent "$@"
	verdict "$name" "$image" "$counts" "$left" "$content"
}

# verdict NAME IMAGE COUNTS LEFT CONTENT: of the file bent
verdict() {
	local found theirs status=0
	check_both bent "$3"
	found=$(totals corral.json)
	theirs=$(qemu_left bent)
	"$CORRAL" check -r all bent >repair.out 2>&1 || status=$?
	equal "$status" "$4" "$NAME: what the repair leaves: $(tail -n 12 repair.out)"
	cp bent once
	status=0
	"$CORRAL" check -r all bent >again.out 2>&1 || status=$?
	equal "$status" "$4" "$NAME: what a second repair leaves"
	if grep -q 'found and repaired' again.out; then
		fail "$NAME: a second repair finds something: $(cat again.out)"
	fi
	same once bent "$NAME: a second repair changes the file"
	status=0
	qemu-img check -f qcow2 bent >qemu.out 2>&1 || status=$?
	[ "$4" != 0 ] || equal "$status" 0 "$NAME: qemu-img check afterwards: $(tail -n 5 qemu.out)"
	if [ "$5" = same ]; then
		qemu-img compare -q -f qcow2 -F qcow2 "$2" bent || fail "$NAME: the content has changed"
	fi
	printf '%-34s %-12s found %-10s left by us %s, by QEMU %s  content %s\n' "$1" "$2" "$found" "$4" "$theirs" "$5"
	CASES=$((CASES + 1))
}
