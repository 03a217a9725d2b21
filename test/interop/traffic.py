#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Seeded random traffic for qemu-io, and the model of what the disk must hold after it.

    traffic.py new MODEL SIZE [RAW]      the model of an empty disk, or of one that starts with RAW's bytes
    traffic.py run MODEL [OPTION...] -- QEMU-IO-ARGUMENT...
    traffic.py verify MODEL RAW          RAW is what somebody read from the disk

The model is a file of the disk's bytes; MODEL.trimmed beside it has a byte per sector that says whether the sector may
as well read as zeros, because a discard doesn't promise more there.
"""

import argparse
import random
import shutil
import subprocess
import sys

SECTOR = 512
LONGEST = 1 << 20
BATCH = 16


class Model:
    def __init__(self, path):
        self.path = path
        self.data = bytearray(open(path, "rb").read())
        self.trimmed = bytearray(open(path + ".trimmed", "rb").read())

    def save(self):
        open(self.path, "wb").write(self.data)
        open(self.path + ".trimmed", "wb").write(self.trimmed)

    def fill(self, offset, length, byte):
        self.data[offset : offset + length] = bytes([byte]) * length
        first, last = offset // SECTOR, (offset + length) // SECTOR
        self.trimmed[first:last] = bytes(last - first)

    def vague(self, offset, length):
        return any(self.trimmed[offset // SECTOR : (offset + length + SECTOR - 1) // SECTOR])

    def discard(self, offset, length, unit, promise):
        """promise: whole units read as zeros afterwards; what is left of the range may or may not."""
        end = offset + length
        first, last = -(-offset // unit) * unit, end // unit * unit
        if end == len(self.data):
            last = end
        for sector in range(offset // SECTOR, end // SECTOR):
            self.trimmed[sector] = 1
        if promise and first < last:
            self.fill(first, last - first, 0)


class Generator:
    def __init__(self, model, options):
        self.random = random.Random(options.seed)
        self.model = model
        self.options = options
        # Overlaps are what finds bugs: half of all requests gather at a few places.
        size = len(model.data)
        self.hot = [self.random.randrange(size // SECTOR) * SECTOR for _ in range(4)]
        self.pattern = 0

    def place(self):
        rnd, size, unit = self.random, len(self.model.data), self.options.unit
        length = rnd.choice(
            [
                rnd.randint(1, 8) * SECTOR,
                rnd.randint(1, max(1, 2 * unit // SECTOR)) * SECTOR,
                rnd.randint(1, 4) * unit,
                rnd.randint(1, 64) * 4096,
            ]
        )
        length = min(length, LONGEST, size)
        if rnd.random() < 0.5:
            offset = rnd.choice(self.hot) + rnd.randint(-4, 4) * unit + rnd.randint(-8, 8) * SECTOR
        else:
            offset = rnd.randrange(size)
        if rnd.random() < 0.4:
            offset = offset // unit * unit
        offset = max(0, min(offset, size - length)) // SECTOR * SECTOR
        return offset, min(length, size - offset)

    def ragged(self, offset, length):
        """The same range, less a few bytes at its ends; a sector that may be one of two stays whole."""
        first, last = self.random.randrange(SECTOR), self.random.randrange(SECTOR)
        if length > 2 * SECTOR and not self.model.vague(offset, length):
            return offset + first, length - first - last
        return offset, length

    def next_pattern(self):
        self.pattern = self.pattern % 255 + 1
        return self.pattern

    def one(self):
        offset, length = self.place()
        kind = self.random.choices(["write", "ragged", "zero", "unmap", "discard", "flush"], self.options.weights)[0]
        if kind == "flush":
            return ["flush"]
        if kind == "discard":
            self.model.discard(offset, length, self.options.unit, self.options.discard_zeroes)
            return [f"discard {offset} {length}"]
        if kind in ("zero", "unmap"):
            self.model.fill(offset, length, 0)
            return [f"write -z {'-u ' if kind == 'unmap' else ''}{offset} {length}"]
        if kind == "ragged":
            offset, length = self.ragged(offset, length)
        byte = self.next_pattern()
        self.model.fill(offset, length, byte)
        fua = "-f " if self.random.random() < 0.05 else ""
        commands = [f"write {fua}-P {byte} {offset} {length}"]
        if self.random.random() < 0.3:
            commands.append(f"read -P {byte} {offset} {length}")
        return commands

    def batch(self):
        """Requests in flight together; they share clusters but no sector, so that the outcome is defined."""
        commands, taken = [], []
        for _ in range(BATCH):
            offset, length = self.place()
            if any(offset < end and start < offset + length for start, end in taken):
                continue
            taken.append((offset, offset + length))
            if self.random.random() < 0.2:
                self.model.fill(offset, length, 0)
                commands.append(f"aio_write -q -z {self.random.choice(['', '-u '])}{offset} {length}")
            else:
                byte = self.next_pattern()
                self.model.fill(offset, length, byte)
                commands.append(f"aio_write -q -P {byte} {offset} {length}")
        return commands + ["aio_flush"]

    def commands(self):
        result = []
        while len(result) < self.options.ops:
            result += self.batch() if self.random.random() < 0.08 else self.one()
        return result


def run(options):
    model = Model(options.model)
    commands = Generator(model, options).commands()
    arguments = ["qemu-io", "-d", "unmap"] + options.arguments
    for command in commands:
        arguments += ["-c", command]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    bad = ("fail", "error", "invalid", "mismatch")
    complaints = [line for line in done.stdout.splitlines() if any(word in line.lower() for word in bad)]
    if done.returncode != 0 or complaints:
        tail = complaints[:5] or done.stdout.splitlines()[-5:]
        sys.exit(f"seed {options.seed}: qemu-io ended with {done.returncode}: " + "\n".join(tail))
    model.save()


def new(options):
    if options.raw:
        shutil.copyfile(options.raw, options.model)
    with open(options.model, "ab" if options.raw else "wb") as f:
        f.truncate(options.size)
    open(options.model + ".trimmed", "wb").write(bytes(options.size // SECTOR))


def verify(options):
    model = Model(options.model)
    got = open(options.raw, "rb").read()
    if len(got) != len(model.data):
        sys.exit(f"{options.raw}: {len(got)} bytes, expected {len(model.data)}")
    if got == model.data:
        return
    bad = []
    for sector in range(len(got) // SECTOR):
        at = sector * SECTOR
        read = got[at : at + SECTOR]
        if read != model.data[at : at + SECTOR] and not (model.trimmed[sector] and not any(read)):
            bad.append(at)
    if bad:
        at = bad[0]
        sys.exit(
            f"{options.raw}: {len(bad)} sectors differ from the model, the first at {at:#x}: "
            f"got {got[at:at + 4].hex()}..., expected {model.data[at:at + 4].hex()}..."
        )


def parse():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("new")
    sub.set_defaults(act=new)
    sub.add_argument("model")
    sub.add_argument("size", type=int)
    sub.add_argument("raw", nargs="?")
    sub = commands.add_parser("verify")
    sub.set_defaults(act=verify)
    sub.add_argument("model")
    sub.add_argument("raw")
    sub = commands.add_parser("run")
    sub.set_defaults(act=run)
    sub.add_argument("model")
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--ops", type=int, default=300)
    sub.add_argument("--unit", type=int, default=65536, help="the cluster size, which the ranges gather around")
    sub.add_argument("--discard-zeroes", action="store_true", help="whole clusters read as zeros after a discard")
    sub.add_argument("--weights", type=lambda s: [int(w) for w in s.split(",")], default=[50, 10, 10, 10, 10, 5],
                     help="of write, ragged write, zero, zero with unmap, discard, flush")
    sub.add_argument("arguments", nargs="+", help="what qemu-io is to open, and how")
    return parser.parse_args()


options = parse()
options.act(options)
