#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: completions.sh CORRAL COMPLETIONS      what the shells complete is what the help says
set -euo pipefail
corral=$1 completions=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for shell in bash zsh fish; do
	"$completions" "$corral" $shell >"$scratch/$shell"
	if command -v $shell >/dev/null; then
		$shell -n "$scratch/$shell"
	else
		echo "no $shell here to read its file"
	fi
done

# expect WORDS COMMAND-LINE...: what bash completes at its end
# shellcheck disable=SC1091,SC2034
expect() {
	local wanted=$1
	shift
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
	_corral
	[ "${COMPREPLY[*]}" = "$wanted" ] || {
		echo "$*: '${COMPREPLY[*]}' instead of '$wanted'"
		exit 1
	}
}
. "$scratch/bash"
expect map corral ma
expect --start-offset corral map --sta
expect "human json" corral map --output ""
expect "leaks all" corral check -r ""
expect qcow2 corral info -f q
expect "writeback writethrough" corral check -T w
expect "" corral map some-file
echo "bash completes what the help says"
