#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that bend the beginning of TLS, each followed by an honest one.

tls.py SOCKET CA [CERTIFICATE]      (CERTIFICATE: of a client that mustn't get in, "-cert.pem" and "-key.pem" left out)
"""

import ssl
import struct
import sys

import nbd

sock, ca = sys.argv[1:3]


def bare():
    client = nbd.Client(sock, handshake=False)
    client.greet()
    return client


def answer(client, option, data=b""):
    client.option(option, data)
    return client.option_reply()[1]


def wrapped(client):
    context = ssl.create_default_context(cafile=ca)
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    return client


def honest():
    client = bare()
    assert answer(client, nbd.OPT_STARTTLS) == nbd.ACK
    wrapped(client).go()
    client.write(4096, b"t" * 300000)
    assert client.read(4096, 300000) == b"t" * 300000
    return client


def gone(client):
    try:
        client.receive(1)
    except (nbd.Gone, ssl.SSLError):
        return
    raise AssertionError("still there")


def everything_else_is_refused():
    client = bare()
    for option in (nbd.OPT_LIST, nbd.OPT_STRUCTURED, nbd.OPT_EXTENDED, nbd.OPT_INFO, nbd.OPT_GO, nbd.OPT_SET_META, 99):
        assert answer(client, option, bytes(6)) == nbd.ERR_TLS_REQD, option
    assert answer(client, nbd.OPT_STARTTLS, b"x") == nbd.ERR_INVALID
    assert answer(client, nbd.OPT_ABORT) == nbd.ACK
    gone(client)
    client = bare()
    client.option(nbd.OPT_EXPORT_NAME)
    gone(client)


def a_second_time():
    client = bare()
    assert answer(client, nbd.OPT_STARTTLS) == nbd.ACK
    wrapped(client)
    assert answer(client, nbd.OPT_STARTTLS) == nbd.ERR_INVALID
    client.go()
    client.disconnect()


def injected():
    """What comes in clear with STARTTLS must not be taken for what comes encrypted."""
    client = bare()
    client.send(
        struct.pack(">8sII", nbd.IHAVEOPT, nbd.OPT_STARTTLS, 0) + struct.pack(">8sII", nbd.IHAVEOPT, nbd.OPT_LIST, 0)
    )
    try:
        client.option_reply()
        wrapped(client)
        raise AssertionError("injected text goes unnoticed")
    except (nbd.Gone, ssl.SSLError, ConnectionError):
        pass


def garbage():
    for data in (b"G" * 1000, b"\x16\x03\x01\xff\xff" + bytes(70000), b"\x15\x03\x01\x00\x02\x02\x28"):
        client = bare()
        assert answer(client, nbd.OPT_STARTTLS) == nbd.ACK
        try:
            client.send(data)
            while client.socket.recv(1000):
                pass
        except (nbd.Gone, OSError):
            pass
        client.close()
    client = bare()
    assert answer(client, nbd.OPT_STARTTLS) == nbd.ACK
    client.close()


def cut_in_the_middle():
    """The connection ends without a word, with requests under way."""
    client = honest()
    for i in range(50):
        client.submit(nbd.READ, 0, 1 << 20)
    client.socket.close()


def stranger(certificate):
    client = bare()
    assert answer(client, nbd.OPT_STARTTLS) == nbd.ACK
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate + "-cert.pem", certificate + "-key.pem")
    try:
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        client.go()
        raise AssertionError("a stranger is let in")
    except (nbd.Gone, ssl.SSLError, ConnectionError):
        pass


if len(sys.argv) > 3:
    stranger(sys.argv[3])
    sys.exit()
everything_else_is_refused()
a_second_time()
injected()
garbage()
cut_in_the_middle()
dawdler = bare()
assert answer(dawdler, nbd.OPT_STARTTLS) == nbd.ACK
dawdler.send(b"\x16\x03")
honest().disconnect()
gone(dawdler)  # after its 10 seconds
honest().disconnect()
