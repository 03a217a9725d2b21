#!/bin/bash
# SPDX-License-Identifier: MIT
#
# nbd beside qemu-nbd: who may come when, when it ends, what clients see and get, with every option that has to do with it;
# each program's clients on the other's server; lists of servers.
. "$(dirname "$0")/lib.sh"
export CORRAL_AIO

mkdir bin
ln -s "$CORRAL" bin/qemu-nbd
ours=$SCRATCH/bin/qemu-nbd theirs=$(command -v qemu-nbd)
sock=$SCRATCH/sock uri="nbd+unix:///?socket=$SCRATCH/sock"

create base.qcow2 8M
qio -f qcow2 base.qcow2 -- "write -P 1 0 4M"
create -b base.qcow2 -F qcow2 disk.qcow2
qio -f qcow2 disk.qcow2 -- "write -P 2 1M 1M" "write -z 3M 64k"
qemu-img snapshot -c then disk.qcow2
qio -f qcow2 disk.qcow2 -- "write -P 3 1500k 100k"
qemu-img bitmap --add disk.qcow2 since
qio -f qcow2 disk.qcow2 -- "write -P 4 2M 70k"
head -c 3000000 /dev/urandom >disk.raw
truncate -s 4M disk.raw

# up PROGRAM ARGUMENT...: it serves at $sock when this returns
up() {
	rm -f "$sock" started
	"$@" -k "$sock" --pid-file="$SCRATCH/started" </dev/null >server.0.log 2>&1 &
	server=$!
	SERVERS[$server]=server.0.log
	for _ in $(seq 500); do
		[ -s started ] && return
		kill -0 $server 2>/dev/null || fail "$*: has ended: $(cat server.0.log)"
		sleep 0.01
	done
	fail "$*: doesn't listen"
}

down() { # STATUS
	local status=0
	wait $server || status=$?
	unset "SERVERS[$server]"
	equal "$status" "$1" "the status of the server"
}

running() { kill -0 $server 2>/dev/null || fail "$1: the server has ended"; }

alike() { # WHAT COMMAND...: the same standard output on both servers, which $options start
	local what=$1 out=()
	shift
	for program in "$theirs" "$ours"; do
		up "$program" -t "${options[@]}"
		out+=("$("$@" 2>&1 | sed '/block_size_preferred\|opt block\|content:/d')")
		kill $server
		down 0
	done
	equal "${out[1]}" "${out[0]}" "$what, with ${options[*]}"
}

# ---- what clients see ----

content() { nbdcopy "$uri" - | sha256sum; }

shown() { # both programs' lists of the same server, and what nbdinfo says of it
	"$theirs" -L -k "$sock"
	"$ours" -L -k "$sock"
	nbdinfo "nbd+unix:///there?socket=$sock"
	nbdinfo --map=qemu:dirty-bitmap:since "nbd+unix:///there?socket=$sock"
	nbdinfo --map=qemu:allocation-depth "nbd+unix:///there?socket=$sock"
}
for access in "--discard=unmap -e 0" "--discard=unmap -e 1" "-r -e 3"; do
	# shellcheck disable=SC2206 # words are meant
	options=($access -f qcow2 -A -B since -x there -D "a description" disk.qcow2)
	alike "what is shown" shown
done
options=(-A -f raw disk.raw)
alike "a raw disk" content
options=(-A -r -f raw -o 1048576 disk.raw)
alike "a part" content
options=(-A -r --image-opts driver=raw,offset=512,size=1M,file.driver=file,file.filename=disk.raw)
alike "a part by options" content
for snapshot in then snapshot.id=1 snapshot.name=then; do
	options=(-A -f qcow2 -l $snapshot disk.qcow2)
	alike "snapshot $snapshot" content
done

# ---- who writes what where ----

for program in "$ours" "$theirs"; do
	cp disk.qcow2 work.qcow2
	qemu_reads work.qcow2 before.raw
	up "$program" -s -f qcow2 work.qcow2
	qio -f raw "$uri" -- "write -P 9 0 2M" "read -P 9 0 2M" >/dev/null
	down 0
	qemu-img compare -q -f raw -F qcow2 before.raw work.qcow2 || fail "$program -s has written"
	up "$program" --discard=unmap --detect-zeroes=unmap --cache=none -f qcow2 work.qcow2
	"$CORRAL" io -f raw -c "write -P 0 0 512k" -c "write -P 7 5M 64k" -c "write -P 0 5M 64k" "$uri" >/dev/null
	down 0
	qemu-img map --output=json -f qcow2 work.qcow2 >map.json
	cmp -s map.json map.last 2>/dev/null || [ ! -e map.last ] || fail "zeros are detected elsewhere: $(diff map.json map.last)"
	mv map.json map.last
	clean work.qcow2
	up "$program" -r -f qcow2 work.qcow2
	fails 'permission|read-only' qemu-io -f raw -c "write 0 1k" "$uri"
	kill $server 2>/dev/null || true
	wait $server || true
	unset "SERVERS[$server]"
done

# ---- when it ends, and who waits ----

for program in "$ours" "$theirs"; do
	up "$program" -f raw disk.raw
	"$ours" -L -k "$sock" >/dev/null
	"$theirs" -L -k "$sock" >/dev/null
	sleep 0.1
	running "$program, asked for a list"
	nbdinfo --size "$uri" >/dev/null
	down 0
	[ -e "$sock" ] && fail "$program leaves its socket"

	up "$program" -t -e 2 -f raw disk.raw
	for _ in 1 2 3; do nbdinfo --size "$uri" >/dev/null; done
	running "$program -t"
	kill $server
	down 0

	# One client at a time: the second one waits for the first one to go, and is served.
	up "$program" -t -f raw disk.raw
	mkfifo hold
	qemu-io -r -f raw "$uri" <hold >first.log 2>&1 &
	first=$!
	exec 9>hold
	echo length >&9
	until grep -q MiB first.log; do sleep 0.02; done
	nbdinfo --size "$uri" >second.log 9>&- &
	second=$!
	sleep 0.2
	[ -s second.log ] && fail "$program serves two, where one is the most"
	exec 9>&-
	wait $first $second
	equal "$(cat second.log)" 4194304 "$program: what the second client got"
	rm hold
	kill $server
	down 0
done

# ---- the background ----

for program in "$ours" "$theirs"; do
	rm -f "$sock"
	equal "$("$program" --fork --pid-file="$SCRATCH/pid" -k "$sock" -f raw disk.raw)" "" "what $program --fork prints"
	pid=$(cat pid)
	kill -0 "$pid"
	nbdinfo --size "$uri" >/dev/null
	for _ in $(seq 300); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.01
	done
	kill -0 "$pid" 2>/dev/null && fail "$program: the background goes on"
done

# ---- TLS ----

mkdir tls psk
{
	certtool --generate-privkey --key-type ecdsa --outfile tls/ca-key.pem
	certtool --generate-self-signed --load-privkey tls/ca-key.pem --outfile tls/ca-cert.pem --template /dev/stdin <<<$'cn = us\nca\ncert_signing_key'
	for who in server client; do
		certtool --generate-privkey --key-type ecdsa --outfile tls/$who-key.pem
		certtool --generate-certificate --load-ca-certificate tls/ca-cert.pem --load-ca-privkey tls/ca-key.pem \
			--load-privkey tls/$who-key.pem --outfile tls/$who-cert.pem --template /dev/stdin \
			<<<$'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_'"$who"$'\nsigning_key\nencryption_key'
	done
	psktool -u somebody -p psk/keys.psk
} >/dev/null 2>&1
port=$((20000 + $$ % 20000))
for kind in x509 psk; do
	dir=$SCRATCH/tls user=
	[ $kind = psk ] && dir=$SCRATCH/psk user=,username=somebody
	for program in "$ours" "$theirs"; do
		"$program" -t -b 127.0.0.1 -p $port --object tls-creds-$kind,id=t,dir=$dir,endpoint=server --tls-creds t -f raw disk.raw &
		server=$!
		SERVERS[$server]=server.0.log
		for client in "$ours" "$theirs"; do
			listed=""
			for _ in $(seq 50); do
				listed=$("$client" -L -b localhost -p $port --object tls-creds-$kind,id=c,dir=$dir,endpoint=client$user \
					--tls-creds c 2>/dev/null) && break
				sleep 0.1
			done
			case $listed in *"size:  4194304"*) ;; *) fail "$client lists of $program, $kind: $listed" ;; esac
		done
		fails '.' "$ours" -L -b localhost -p $port
		kill $server
		down 0
		port=$((port + 1))
	done
done

# As corral: a line says where; guessing a raw image is refused.
up "$CORRAL" nbd -f raw disk.raw
for _ in $(seq 100); do
	[ -s server.0.log ] && break
	sleep 0.01
done
equal "$(cat server.0.log)" "corral: serving disk.raw at nbd+unix:///?socket=$sock" "what corral nbd says"
nbdinfo --size "$uri" >/dev/null
down 0
fails 'raw is never guessed' "$CORRAL" nbd -k "$sock" disk.raw

passed
