#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What nbd-extended.sh asks a server of: the image is the one that it makes.

nbd_extended.py SOCKET
"""

import struct
import sys

import nbd

K, M, G = 1 << 10, 1 << 20, 1 << 30
SIZE = 8 * G
EINVAL, ENOSPC = 22, 28
HOLE, ZERO = 1, 2
ALLOCATION, DEPTH, B0, B1 = (
    "base:allocation",
    "qemu:allocation-depth",
    "qemu:dirty-bitmap:b0",
    "qemu:dirty-bitmap:b1",
)
ALL = [ALLOCATION, DEPTH, B0, B1]
sock = sys.argv[1]


def refused(error, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except OSError as e:
        assert e.errno == error, f"error {e.errno}, not {error}"
        return
    raise AssertionError("isn't refused")


def opened(contexts=(), extended=True):
    return nbd.Chunked(sock, b"disk", [c.encode() for c in contexts], extended)


def wildcards():
    client = nbd.Client(sock, handshake=False)
    client.greet()
    client.option(nbd.OPT_STRUCTURED)
    assert client.option_reply()[1] == nbd.ACK
    meta = lambda option, *queries: list(nbd.Chunked.meta(client, option, b"disk", [q.encode() for q in queries]))
    assert meta(nbd.OPT_LIST_META) == ALL
    assert meta(nbd.OPT_LIST_META, "base:") == [ALLOCATION]
    assert meta(nbd.OPT_LIST_META, "qemu:") == [DEPTH, B0, B1]
    assert meta(nbd.OPT_LIST_META, "qemu:dirty-bitmap:") == [B0, B1]
    assert meta(nbd.OPT_LIST_META, B1, "other:", B1) == [B1]
    assert meta(nbd.OPT_SET_META, "base:", "qemu:", "qemu:dirty-bitmap:") == []
    assert meta(nbd.OPT_SET_META, B1, ALLOCATION, B1) == [ALLOCATION, B1]


def order_of_options():
    client = nbd.Client(sock, handshake=False)
    client.greet()
    for option, data, want in (
        (nbd.OPT_EXTENDED, b"x", nbd.ERR_INVALID),
        (nbd.OPT_STRUCTURED, b"", nbd.ACK),
        (nbd.OPT_EXTENDED, b"", nbd.ACK),
        (nbd.OPT_EXTENDED, b"", nbd.ERR_INVALID),
        (nbd.OPT_STRUCTURED, b"", nbd.ERR_EXT_HEADER_REQD),
    ):
        client.option(option, data)
        assert client.option_reply()[1] == want, (option, data)


def selection_of_another_export():
    """The empty name means the same disk here, so the selection holds."""
    client = nbd.Chunked(sock, b"disk", [ALLOCATION.encode()])
    assert client.extents(0, 4 * K) == {1: [(4 * K, 0)]}


def whole(extents):
    assert sum(length for length, _ in extents) == SIZE, "doesn't cover the disk"
    return extents


def contexts_at_once(extended):
    client = opened(ALL, extended)
    assert list(client.ids.values()) == [1, 2, 3, 4], client.ids
    length = SIZE if extended else 4 * G - 64 * K
    found = client.extents(0, length)
    assert list(found) == [1, 2, 3, 4]
    if extended:
        assert whole(found[2])[:3] == [(512 * K, 2), (1 * M, 1), (4 * G - 1536 * K, 0)], found[2][:4]
        assert whole(found[3]) == [(5 * G, 0), (128 * K, 1), (3 * G - 128 * K, 0)], found[3]
        assert found[4] == found[3]
        flags = {offset: f for offset, f in positions(whole(found[1]))}
        assert flags[0] == 0 and flags[1536 * K] == HOLE | ZERO and flags[5 * G] == 0 and flags[7 * G] == 0, flags
    one = client.extents(0, length, flags=nbd.FLAG_REQ_ONE)
    assert all(len(e) == 1 for e in one.values()), one
    refused(EINVAL, client.extents, SIZE - 1, 2)
    refused(EINVAL, client.extents, 0, 0)


def positions(extents):
    at = 0
    for length, flags in extents:
        yield at, flags
        at += length


def status_payload():
    client = opened(ALL)
    assert client.flags & 1 << 12, "payloads aren't offered"
    ask = lambda length, *ids, offset=0: client.extents(
        offset, data=struct.pack(f">Q{len(ids)}I", length, *ids)
    )
    assert list(ask(SIZE, 3)) == [3]
    assert list(ask(1 * M, 4, 1)) == [1, 4]
    assert ask(64 * K, 3, offset=5 * G) == {3: [(64 * K, 1)]}
    for ids in ((5,), (0,), (3, 3), (1 << 31,), ()):
        refused(EINVAL, ask, SIZE, *ids)
    refused(EINVAL, ask, SIZE + 1, 3)
    refused(EINVAL, ask, 0, 3)
    refused(EINVAL, client.extents, 0, data=b"short")
    refused(EINVAL, client.extents, 0, data=bytes(9))
    refused(EINVAL, client.extents, 0, data=bytes(8 + 4 * 1000))
    few = opened([ALLOCATION])
    refused(EINVAL, few.extents, 0, data=struct.pack(">QI", 4096, 3))
    none = opened()
    refused(EINVAL, none.extents, 0, 4096)
    assert list(few.extents(0, 4096)) == [1]


def data_and_long_requests():
    client = opened()
    for offset in (3 * G, 6 * G):
        assert client.chunks(nbd.WRITE, offset, data=b"w" * 4096) == [(nbd.NONE, b"")]
        assert client.chunk_offset == offset
    assert client.chunks(nbd.WRITE, 3 * G, data=b"x" * 512, flags=nbd.FLAG_FUA) == [(nbd.NONE, b"")]
    (kind, payload), = client.chunks(nbd.READ, 3 * G, 1024)
    assert kind == nbd.OFFSET_DATA and payload == struct.pack(">Q", 3 * G) + b"x" * 512 + b"w" * 512
    assert client.chunks(nbd.READ, 2 * G, 1 * M)[0][0] == nbd.OFFSET_HOLE
    (kind, payload), = client.chunks(nbd.READ, 2 * G, 1 * M, flags=nbd.FLAG_DF)
    assert kind == nbd.OFFSET_DATA and len(payload) == 1 * M + 8
    # More than 32 bits of length, which no compact request could say.
    assert client.chunks(nbd.WRITE_ZEROES, 2 * G, 5 * G - 1) == [(nbd.NONE, b"")]
    (kind, payload), = client.chunks(nbd.READ, 6 * G, 512)
    assert payload[8:] == bytes(512)
    assert client.chunks(nbd.READ, 7 * G - 1, 2, flags=nbd.FLAG_DF)[0][1][8:] == b"\0\1"
    assert client.chunks(nbd.TRIM, 2 * G, 4 * G + 1 * M)[0][0] == nbd.NONE
    assert client.chunks(nbd.FLUSH)[0][0] == nbd.NONE
    assert client.chunks(nbd.CACHE, 0, 1 * M)[0][0] == nbd.NONE
    refused(ENOSPC, client.chunks, nbd.WRITE_ZEROES, 2 * G, SIZE)
    refused(EINVAL, client.chunks, nbd.TRIM, 1 << 63, 1 << 63)
    refused(EINVAL, client.chunks, nbd.READ, 0, 32 * M + 1)
    refused(EINVAL, client.chunks, nbd.READ, 0, 1 << 40)
    # A payload where there should be none is taken off the stream, and the connection lives.
    for command in (nbd.READ, nbd.TRIM, nbd.FLUSH, nbd.CACHE, nbd.WRITE_ZEROES, 99):
        refused(EINVAL, client.chunks, command, 0, data=b"p" * 777)
    assert client.chunks(nbd.FLUSH)[0][0] == nbd.NONE
    # Whoever forgets to say that a write has a payload is understood.
    client.handle += 1
    client.send(struct.pack(">IHHQQQ", nbd.EXTENDED_REQUEST, 0, nbd.WRITE, client.handle, 1 * G, 512) + b"f" * 512)
    assert client.chunk()[1] == nbd.NONE
    assert client.chunks(nbd.READ, 1 * G, 512)[0][1][8:] == b"f" * 512
    # Too much of it ends the connection, after an answer.
    client.send(struct.pack(">IHHQQQ", nbd.EXTENDED_REQUEST, nbd.FLAG_PAYLOAD, nbd.WRITE, 1, 0, 1 << 50))
    assert client.chunk()[1] == nbd.ERROR
    try:
        client.receive(1)
        raise AssertionError("still there")
    except nbd.Gone:
        pass


def the_other_requests_magic():
    for extended in (True, False):
        client = opened(extended=extended)
        client.send(struct.pack(">IHHQQQ", nbd.REQUEST if extended else nbd.EXTENDED_REQUEST, 0, 3, 1, 0, 0))
        try:
            client.receive(1)
            raise AssertionError("still there")
        except nbd.Gone:
            pass


def blktap():
    """EXPORT_NAME with a NUL at its end, and an answer without zeroes."""
    client = nbd.Client(sock, handshake=False)
    client.receive(18)
    client.send(struct.pack(">I", 3))
    client.option(nbd.OPT_EXPORT_NAME, b"disk\0")
    size, _ = struct.unpack(">QH", client.receive(10))
    assert size == SIZE
    assert client.read(0, 512) == b"\1" * 512


wildcards()
order_of_options()
selection_of_another_export()
for mode in (True, False):
    contexts_at_once(mode)
status_payload()
data_and_long_requests()
the_other_requests_magic()
blktap()
