#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that mustn't notice that their daemon is followed by another one, and successors that fail.

    handover.py nbd SOCKET STOP          load over NBD until there is a file STOP; the disk's first 64 MiB
    handover.py vhost SOCKET STOP        load over vhost-user; the next 64 MiB
    handover.py fake CONTROL STEP        a successor that goes as far as STEP (connect, takeover, freeze, send, ready) and dies;
                                         with "-" before it: that hangs there until the daemon says what it thinks of that
    handover.py tls SOCKET CERTIFICATE   connects with TLS, waits for the end of the connection, and says how it was

A client prints how many requests it had answered, and how long the longest took: that is the gap that it has seen.
"""

import json
import os
import random
import socket
import ssl
import struct
import sys
import threading
import time

import nbd
import vhost_user

MIB = 1 << 20
AREA = 16 * MIB  # of each NBD connection


class Longest:
    def __init__(self):
        self.requests, self.seconds = 0, 0.0

    def count(self, begun):
        self.requests += 1
        self.seconds = max(self.seconds, time.monotonic() - begun)

    def print(self, name):
        print(f"{name}: {self.requests} requests, the longest took {self.seconds * 1000:.0f} ms")


def nbd_connection(path, stop, first, longest, failures):
    """What was written is what is read, whoever reads it."""
    try:
        client, rng = nbd.Client(path), random.Random(first)
        written = {}
        while not os.path.exists(stop):
            begun, block = time.monotonic(), rng.randrange(AREA // (256 << 10))
            offset, length = first + block * (256 << 10), rng.choice((512, 4096, 65536, 256 << 10))
            if rng.random() < 0.1:
                client.flush()
            elif block in written and rng.random() < 0.5:
                assert client.read(offset, len(written[block])) == written[block], f"wrong content at {offset}"
            else:
                data = rng.randbytes(512) * (length // 512)
                client.write(offset, data)
                written[block] = data + written.get(block, b"")[length:]
            longest.count(begun)
        client.close()
    except BaseException as e:  # noqa: BLE001 - whatever it is, the main thread says it
        failures.append(e)
        raise


def nbd_load(path, stop):
    longest, failures = Longest(), []
    threads = [
        threading.Thread(target=nbd_connection, args=(path, stop, i * AREA, longest, failures)) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    longest.print("nbd")
    return 1 if failures else 0


def vhost_load(path, stop):
    front, rng, longest = vhost_user.Front(path), random.Random(7), Longest()
    blocks, written, flying = 64 * MIB // 65536, {}, {}

    def done():
        slot = front.wait()
        kind, block, data, begun = flying.pop(slot)
        if kind == vhost_user.IN:
            assert front.data(slot, len(data)) == data, f"wrong content in block {block}"
        elif kind == vhost_user.OUT:
            written[block] = data + written.get(block, b"")[len(data) :]
        longest.count(begun)

    def offer(kind, block=0, data=b"", length=0):
        slot = front.offer(kind, 64 * MIB // 512 + block * 128, data if kind == vhost_user.OUT else b"", length)
        flying[slot] = (kind, block, data, time.monotonic())

    while not os.path.exists(stop):
        while front.free:
            block, busy = rng.randrange(blocks), {f[1] for f in flying.values()}
            if block in busy:
                break
            if rng.random() < 0.05:
                offer(vhost_user.FLUSH, -1)
            elif block in written and rng.random() < 0.5:
                offer(vhost_user.IN, block, written[block], len(written[block]))
            else:
                offer(vhost_user.OUT, block, rng.randbytes(512) * rng.choice((1, 8, 128)))
        done()
    while flying:
        done()
    for block, data in written.items():
        offer(vhost_user.IN, block, data, len(data))
        done()
    longest.print("vhost-user")
    return 0


def fake(control, step):
    hangs, step = step.startswith("-"), step.lstrip("-")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(60)
    sock.connect(control)
    lines = sock.makefile("r")

    def end():
        if hangs:
            print(lines.readline(), end="")
        os._exit(0)

    if step == "connect":
        end()
    sock.sendall(b'{"takeover": {"version": 1}}\n')
    assert "return" in json.loads(lines.readline())
    if step == "takeover":
        end()
    sock.sendall(b'{"freeze": {}}\n')
    states = json.loads(lines.readline())["return"]["states"]
    if step == "freeze":
        end()
    sock.sendall(b'{"send": {}}\n')
    if step == "half":
        sock.recv(1)
        end()
    left = sum(s["bytes"] + -(-s["fds"] // 8) for s in states)
    while left > 0:
        data, _, _, _ = socket.recv_fds(sock, left, 8)
        left -= len(data)
    if step == "send":
        end()
    assert step == "ready"
    sock.sendall(b'{"ready": ')
    end()
    return 1


def tls(path, certificate):
    client = nbd.Client(path, handshake=False)
    client.greet()
    client.option(nbd.OPT_STARTTLS)
    assert client.option_reply()[1] == nbd.ACK
    context = ssl.create_default_context(cafile=certificate)
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost", suppress_ragged_eofs=False)
    client.go()
    client.write(0, b"x" * 512)
    print("connected", flush=True)
    print("a clean end" if client.socket.recv(1) == b"" else "more")
    return 0


if __name__ == "__main__":
    sys.exit({"nbd": nbd_load, "vhost": vhost_load, "fake": fake, "tls": tls}[sys.argv[1]](*sys.argv[2:]))
