#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Guests on disks that Corral serves, one after another, and a table of what each came to.
#
#     test/vm/all.sh [BUILD-DIR]
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BUILD=$(realpath "${1:-$HERE/../../build}")
failed=0 table=""

# stage NAME SCRIPT [ARGUMENT...]
stage() {
	local name=$1 log start=$SECONDS result status
	shift
	log=$(mktemp)
	echo "== $name"
	"$HERE/$1" "$BUILD" "${@:2}" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	case $status in
	0) result=pass ;;
	77) result="skipped: $(sed -n 's/^FAIL: //p' "$log" | tail -n 1)" ;;
	*) result="FAILED: $(sed -n 's/^FAIL: //p' "$log" | tail -n 1)" failed=1 ;;
	esac
	rm "$log"
	table+=$(printf '%-44s %4d s  %s' "$name" $((SECONDS - start)) "$result")$'\n'
}

stage "install Debian, vhost-user-blk" install.sh
stage "boot it and work, vhost-user-blk" boot.sh vhost-user
stage "boot it and work, NBD" boot.sh nbd
stage "the server killed under load, vhost-user-blk" demo.sh killed
stage "the server followed under load, vhost-user-blk" demo.sh followed
stage "User-mode Linux as front end, vhost-user-blk" demo.sh uml
printf '\n%s' "$table"
exit $failed
