# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# What the first process of a guest begins with, whatever it does then. Lines that begin with @@ are for whoever watches; FAILED and
# GUEST PASSED are for the script that booted it.
export PATH=/sbin:/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1

say() { echo "@@ $*"; }

finish() {
	sync
	poweroff -f
	sleep 60
}

fail() {
	dmesg | tail -n 20
	echo "FAILED $*"
	finish
}

wait_for() { # DEVICE TRIES
	local tries=0
	until [ -b "$1" ]; do
		tries=$((tries + 1))
		[ $tries -lt "$2" ] || fail "no $1"
		usleep 50000
	done
}

load_modules() {
	local module
	while read -r module; do
		insmod "/modules/$module" || fail "insmod $module"
	done </modules/order
}
