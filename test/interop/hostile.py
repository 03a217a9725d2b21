#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that break the rules of NBD, each followed by an honest one that must be served.

hostile.py SOCKET PID
"""

import os
import random
import struct
import sys
import time

import nbd

MIB = 1 << 20
HANDSHAKE_DEADLINE = 10
MEMORY_LIMIT = 400 * MIB
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP = 1, 5, 22, 28, 75, 95

sock, server = sys.argv[1], int(sys.argv[2])
rnd = random.Random(1)


def bare():
    return nbd.Client(sock, handshake=False)


def greeted():
    client = bare()
    client.greet()
    return client


def honest(client=None):
    """Is served, soon."""
    client = client or nbd.Client(sock, timeout=10)
    data = rnd.randbytes(4096)
    client.write(8192, data)
    assert client.read(8192, 4096) == data, "an honest client reads something else"
    return client


def drained(client, seconds=5):
    """What the server still says until it hangs up; None if it doesn't."""
    client.socket.settimeout(seconds)
    said = b""
    try:
        while True:
            part = client.socket.recv(65536)
            if not part:
                return said
            said += part
    except ConnectionResetError:
        return said
    except TimeoutError:
        return None


def hung_up(client, why):
    assert drained(client) is not None, f"the server doesn't hang up after {why}"


# ---- the handshake ----


def comes_and_goes():
    for _ in range(50):
        bare().close()


def garbage_for_flags():
    for _ in range(20):
        client = bare()
        client.receive(18)
        client.send(rnd.randbytes(1000))
        client.close()


def unknown_client_flags():
    client = bare()
    client.receive(18)
    client.send(struct.pack(">I", 0xFFFFFFFF))
    hung_up(client, "unknown client flags")


def wrong_option_magic():
    client = greeted()
    client.send(b"IHATEOPT" + struct.pack(">II", nbd.OPT_GO, 0))
    hung_up(client, "a wrong option magic")


def unknown_option():
    client = greeted()
    client.option(0x7FFF, b"whatever")
    option, kind, _ = client.option_reply()
    assert option == 0x7FFF and kind == (1 << 31 | 1), f"an unknown option gets {kind:#x}"
    client.go()
    honest(client).disconnect()


def option_longer_than_sane():
    for length in (0xFFFFFFFF, 0x80000000, 40 * MIB):
        client = greeted()
        client.option(nbd.OPT_GO, b"x" * 4096, length)
        client.close()


def lying_lengths():
    """Lengths inside an option that don't fit it: an error reply or the end, never a reply that says fine."""
    payloads = [
        b"",
        b"\0\0",
        struct.pack(">I", 0xFFFFFFFF) + b"\0\0",
        struct.pack(">I", 5) + b"abc" + struct.pack(">H", 0),
        struct.pack(">I", 0) + struct.pack(">H", 0xFFFF),
        struct.pack(">I", 0) + struct.pack(">H", 2) + b"\0",
        struct.pack(">I", 4097) + b"n" * 4097 + struct.pack(">H", 0),
    ]
    for option in (nbd.OPT_INFO, nbd.OPT_GO):
        for payload in payloads:
            client = greeted()
            client.option(option, payload)
            try:
                _, kind, _ = client.option_reply()
                assert kind & 1 << 31, f"option {option} with {payload[:16]!r} gets {kind:#x}"
            except nbd.Gone:
                pass
            client.close()


def unknown_export():
    client = greeted()
    name = b"no such export"
    client.option(nbd.OPT_EXPORT_NAME, name)
    assert drained(client) == b"", "an unknown export is served"


def half_handshakes():
    whole = struct.pack(">I", 3) + struct.pack(">8sII", nbd.IHAVEOPT, nbd.OPT_GO, 6) + bytes(6)
    for cut in range(len(whole)):
        client = bare()
        client.send(whole[:cut])
        client.close()


# ---- requests ----


def wrong_request_magic():
    client = nbd.Client(sock)
    client.send(b"\xff" * 28)
    hung_up(client, "a wrong request magic")


def unknown_command():
    client = nbd.Client(sock)
    handle = client.submit(0x77, 0, 512)
    assert client.wait([handle])[handle] in (EINVAL, ENOTSUP)
    honest(client).disconnect()


def out_of_bounds():
    client = nbd.Client(sock)
    size = client.size
    ranges = [(size, 512), (size - 512, 1024), ((1 << 64) - 512, 512), ((1 << 64) - 512, 1024), ((1 << 63), 4096)]
    for offset, length in ranges:
        for command in (nbd.READ, nbd.TRIM, nbd.WRITE_ZEROES):
            handle = client.submit(command, offset, length)
            error = client.wait([handle])[handle]
            assert error in (EINVAL, ENOSPC, EIO), f"command {command} at {offset:#x} + {length}: error {error}"
        handle = client.submit(nbd.WRITE, offset, data=bytes(length))
        error = client.wait([handle])[handle]
        assert error in (EINVAL, ENOSPC, EIO), f"a write at {offset:#x} + {length}: error {error}"
    honest(client).disconnect()


def too_long():
    """More than the server said it takes: an error or the end."""
    for command in (nbd.READ, nbd.WRITE):
        client = nbd.Client(sock)
        try:
            handle = client.submit(command, 0, 0xFFFFFE00)
            assert client.wait([handle])[handle] in (EINVAL, EOVERFLOW, ENOSPC)
        except (nbd.Gone, TimeoutError):
            pass
        client.close()


def half_requests():
    header = struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.WRITE, 1, 0, 65536)
    for cut in list(range(1, 28, 3)) + [28, 29, 28 + 30000, 28 + 65535]:
        client = nbd.Client(sock)
        client.send((header + bytes(65536))[:cut])
        client.close()


def leaves_with_requests_in_flight():
    for _ in range(10):
        client = nbd.Client(sock)
        for i in range(64):
            client.submit(nbd.WRITE, i * 65536, data=rnd.randbytes(65536))
        for i in range(16):
            client.submit(nbd.READ, i * 65536, 65536)
        client.close()


def doesnt_read_its_replies():
    """Asks for 1.6 GB and takes nothing: it may not cost the server that memory, nor others their time."""
    greedy = [nbd.Client(sock) for _ in range(2)]
    for client in greedy:
        client.socket.settimeout(1)
        try:
            for _ in range(200):
                client.submit(nbd.READ, 0, 4 * MIB)
        except TimeoutError:
            pass
    for _ in range(20):
        honest().disconnect()
    memory = peak_memory()
    assert memory < MEMORY_LIMIT, f"the server's memory grew to {memory // MIB} MiB"
    for client in greedy:
        client.close()


def peak_memory():
    for line in open(f"/proc/{server}/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def mutated_sessions():
    """A valid session, with some bytes changed or cut off."""
    go = struct.pack(">I", 3) + struct.pack(">8sII", nbd.IHAVEOPT, nbd.OPT_GO, 6) + bytes(6)
    requests = [
        (nbd.WRITE, 0, 4096),
        (nbd.READ, 0, 8192),
        (nbd.FLUSH, 0, 0),
        (nbd.TRIM, 65536, 65536),
        (nbd.DISCONNECT, 0, 0),
    ]
    session = go
    for i, (command, offset, length) in enumerate(requests):
        session += struct.pack(">IHHQQI", nbd.REQUEST, 0, command, i, offset, length)
        if command == nbd.WRITE:
            session += rnd.randbytes(length)
    for _ in range(150):
        data = bytearray(session)
        for _ in range(rnd.randint(1, 4)):
            at = rnd.choice([rnd.randrange(60), rnd.randrange(len(data))])
            data[at] = rnd.choice([0, 1, 0x7F, 0x80, 0xFF, rnd.randrange(256)])
        if rnd.random() < 0.3:
            del data[rnd.randrange(len(data)) :]
        client = bare()
        try:
            client.send(bytes(data))
            client.socket.shutdown(1)
        except (nbd.Gone, OSError):
            pass
        assert drained(client) is not None, "the server doesn't hang up after the client did"
        client.close()


# ---- crowds ----


def crowd():
    """200 at once: those that came before are served meanwhile, and those that come after."""
    before = honest()
    guests = []
    for _ in range(200):
        try:
            guests.append(bare())
        except OSError:
            break
    honest(before)
    for client in guests:
        client.close()
    honest(before).disconnect()
    deadline = time.monotonic() + 10
    while True:
        try:
            honest().disconnect()
            return
        except (nbd.Gone, OSError):
            assert time.monotonic() < deadline, "the crowd has gone, but nobody is let in"
            time.sleep(0.05)


def dawdler_is_shown_out(dawdlers):
    """They have said nothing, or not enough, since this test began."""
    for client in dawdlers:
        assert drained(client, HANDSHAKE_DEADLINE + 5) is not None, "a handshake may take for ever"


def main():
    dawdlers = [bare(), greeted()]
    dawdlers[1].send(b"IHAVE")
    for act in (
        comes_and_goes,
        garbage_for_flags,
        unknown_client_flags,
        wrong_option_magic,
        unknown_option,
        option_longer_than_sane,
        lying_lengths,
        unknown_export,
        half_handshakes,
        wrong_request_magic,
        unknown_command,
        out_of_bounds,
        too_long,
        half_requests,
        leaves_with_requests_in_flight,
        doesnt_read_its_replies,
        mutated_sessions,
        crowd,
    ):
        try:
            act()
            honest().disconnect()
            os.kill(server, 0)
        except Exception as e:
            sys.exit(f"{act.__name__}: {type(e).__name__}: {e}")
    dawdler_is_shown_out(dawdlers)


main()
