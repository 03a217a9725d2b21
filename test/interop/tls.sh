#!/bin/bash
# SPDX-License-Identifier: MIT
#
# NBD with TLS: certificates, certificates of clients, shared keys, by libnbd and by QEMU; what comes before TLS counts for
# nothing; who isn't let in, and what the log says of it.
. "$(dirname "$0")/lib.sh"
needs certtool psktool nbdinfo nbdcopy

"$CORRAL" serve --tls-creds nowhere --nbd unix:x x 2>&1 | grep -q "built without" && skip "built without TLS"

# ---- an authority, a server, a client, and a stranger who has made an authority of his own ----

certify() { # FOLDER NAME TEMPLATE
	certtool --generate-privkey --key-type ecdsa --outfile "$1/$2-key.pem" 2>/dev/null
	printf '%s\n' "cn = $2" "expiration_days = 100" "$3" >template
	certtool --generate-certificate --load-privkey "$1/$2-key.pem" --load-ca-certificate "$1/ca-cert.pem" \
		--load-ca-privkey "$1/ca-key.pem" --template template --outfile "$1/$2-cert.pem" 2>/dev/null
}
for who in ours strange; do
	mkdir $who
	certtool --generate-privkey --key-type ecdsa --outfile $who/ca-key.pem 2>/dev/null
	printf '%s\n' "cn = authority of $who" "expiration_days = 100" ca cert_signing_key >template
	certtool --generate-self-signed --load-privkey $who/ca-key.pem --template template --outfile $who/ca-cert.pem 2>/dev/null
	certify $who server $'dns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nsigning_key'
	certify $who client $'tls_www_client\nsigning_key'
done
mkdir none half
cp ours/ca-cert.pem none/
cp ours/server-cert.pem half/
psktool -u alice -p keys >/dev/null 2>&1
psktool -u bob -p keys >/dev/null 2>&1
psktool -u alice -p wrong >/dev/null 2>&1

create image 64M
qio -f qcow2 image -- "write -P 7 1M 1M"
qemu_reads image expected

# ---- certificates ----

# at is where the server listens, by its line.
serve image --tls-creds ours --nbd 127.0.0.1:0 --nbd "unix:$SCRATCH/plain,tls=off" --log-level debug
read -r -t 20 line <&"$READY_FD"
AT=${line##* }
[[ $AT == nbds://127.0.0.1:* ]] || fail "says: $line"
AT=${AT%/}
nbdcopy "$AT/?tls-certificates=$PWD/none" copy
same copy expected "by nbdcopy with TLS"
head -c 3000000 /dev/urandom >data
truncate -s 64M data
nbdcopy data "$AT/?tls-certificates=$PWD/none"
nbdcopy "$AT/?tls-certificates=$PWD/none" copy
same copy data "written and read with TLS"
equal "$(nbdinfo --size "nbd+unix:///?socket=$SCRATCH/plain")" $((64 << 20)) "size without TLS, where that is permitted"
fails "." nbdinfo "$AT/?tls-certificates=$PWD/strange"
fails "." nbdinfo "${AT/nbds/nbd}/"
fails "." nbdinfo "$URI"
PORT=${AT##*:}
qemu-img info --object tls-creds-x509,id=t,dir=none,endpoint=client --image-opts \
	"driver=nbd,host=localhost,port=$PORT,tls-creds=t" | grep -q "64 MiB" || fail "QEMU doesn't get in"
qio --object tls-creds-x509,id=t,dir=none,endpoint=client --image-opts \
	"driver=nbd,host=localhost,port=$PORT,tls-creds=t" -- "aio_write -P 5 0 1M" "aio_write -P 6 1M 3M" "aio_read 32M 8M" \
	aio_flush "read -P 6 2M 2M" flush
PYTHONPATH=$INTEROP python3 "$INTEROP/tls.py" "$SOCK" none/ca-cert.pem || fail "see above"
alive
grep -qE "TLS1.3" "$LOG" || fail "the log doesn't name the version: $(cat "$LOG")"
grep -q "no TLS: " "$LOG" || fail "who failed isn't in the log"
stop

# ---- certificates of clients ----

serve image --tls-creds ours --tls-verify-peer --nbd 127.0.0.1:0
read -r -t 20 line <&"$READY_FD"
AT=${line##* }
AT=${AT%/}
equal "$(nbdinfo --size "$AT/?tls-certificates=$PWD/ours")" $((64 << 20)) "size for a client with a certificate"
fails "." nbdinfo --size "$AT/?tls-certificates=$PWD/none"
cp ours/ca-cert.pem strange/
fails "." nbdinfo --size "$AT/?tls-certificates=$PWD/strange"
PYTHONPATH=$INTEROP python3 "$INTEROP/tls.py" "$SOCK" none/ca-cert.pem strange/client || fail "see above"
alive
stop
grep -q "no TLS: its certificate: .*trusted" "$LOG" || fail "the log doesn't say what is wrong with it: $(cat "$LOG")"

# ---- shared keys ----

serve image --tls-psk keys --log-level debug
PSK="nbds+unix://USER@/?socket=$SOCK&tls-psk-file=$PWD"
for user in alice bob; do
	equal "$(nbdinfo --size "${PSK/USER/$user}/keys")" $((64 << 20)) "size for $user"
done
fails "." nbdinfo --size "${PSK/USER/alice}/wrong"
fails "." nbdinfo --size "${PSK/USER/carol}/keys"
fails "." nbdinfo --size "$URI"
mkdir qemukeys
cp keys qemukeys/keys.psk
qemu-img info --object tls-creds-psk,id=t,dir=qemukeys,endpoint=client,username=bob --image-opts \
	"driver=nbd,server.type=unix,server.path=$SOCK,tls-creds=t" | grep -q "64 MiB" || fail "QEMU doesn't get in with a key"
grep -q "user alice" "$LOG" || fail "the log doesn't name the user"
stop
clean image

# ---- what can't be ----

serve_fails "server-cert.pem" image --tls-creds none
serve_fails "server-cert.pem" image --tls-creds half
serve_fails "not lines of NAME:KEY" image --tls-psk data
serve_fails "nosuch" image --tls-psk nosuch
serve_fails "priorities 'NONSENSE'" image --tls-psk keys --tls-priority NONSENSE
serve_fails "needs --tls-creds" image --tls-verify-peer
passed
