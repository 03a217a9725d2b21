#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every pair of the format's options, made and written by QEMU and by Corral in turn.

    matrix.py CORRAL [--rows FIRST:LAST] [--alternate] [--list]

The rows cover every legal pair of values of FACTORS at least once. For each row, once with an image that qemu-img has made
and once with one by Corral (--alternate: by one of them):

    the maker creates it; where it is to hold compressed clusters, qemu-img puts them in
    QEMU writes random traffic, Corral (through NBD) as well, QEMU again
    after each of the three, both read the same, which is what the model says; both checks are clean
    info --output=json is equal, field by field

A table of the rows with the result of each is printed; the exit status is 1 if one failed.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KIB = 1024
SIZE = 4096 * KIB + 1536
FACTORS = {
    "compat": ["1.1", "0.10"],
    "cluster_size": [512, 4 * KIB, 16 * KIB, 64 * KIB, 2048 * KIB],
    "refcount_bits": [16, 1, 2, 8, 64],
    "compressed": ["no", "zlib", "zstd"],
    "extended_l2": ["off", "on"],
    "data_file": ["no", "yes", "raw"],
    "lazy_refcounts": ["off", "on"],
    "encrypt": ["no", "luks"],
    "preallocation": ["off", "metadata", "falloc", "full"],
    "backing": ["no", "qcow2", "raw"],
}
NAMES = list(FACTORS)
PASSPHRASE = "correct horse"


def legal(row):
    """row: a dictionary, which may lack factors. What qemu-img refuses, or can't put into one image."""
    get = row.get
    if get("compat") == "0.10" and (
        get("refcount_bits", 16) != 16
        or get("compressed") == "zstd"
        or get("extended_l2") == "on"
        or get("data_file", "no") != "no"
        or get("lazy_refcounts") == "on"
    ):
        return False
    if get("extended_l2") == "on" and get("cluster_size", 65536) < 16 * KIB:
        return False
    if get("data_file", "no") != "no" and get("compressed", "no") != "no":
        return False
    if get("data_file") == "raw" and get("backing", "no") != "no":
        return False
    if get("data_file") == "raw" and get("encrypt", "no") != "no":
        return False
    if get("encrypt", "no") != "no" and get("compressed", "no") != "no":
        return False
    # Version 2 has no zero clusters: QEMU makes such images, and a guest reads noise from them; Corral doesn't make them.
    if get("encrypt", "no") != "no" and get("compat") == "0.10" and get("preallocation", "off") != "off":
        return False
    if get("preallocation", "off") != "off" and get("compressed", "no") != "no":
        return False
    if get("preallocation", "off") != "off" and get("backing", "no") != "no":
        return get("extended_l2", "on") == "on"
    return True


def pairs(row):
    return {frozenset(p) for p in itertools.combinations([(n, row[n]) for n in row], 2)}


def rows():
    """Greedy: the next row covers as many pairs that are still missing as a few hundred tries find."""
    dice = random.Random(1)
    missing = set()
    for a, b in itertools.combinations(NAMES, 2):
        for x, y in itertools.product(FACTORS[a], FACTORS[b]):
            if legal({a: x, b: y}) and completed(dice, {a: x, b: y}):
                missing.add(frozenset([(a, x), (b, y)]))
    result = []
    while missing:
        seeds = sorted(missing, key=lambda p: sorted(map(str, p)))[:1]
        best = max((completed(dice, dict(seeds[0])) for _ in range(300)), key=lambda r: len(pairs(r) & missing))
        missing -= pairs(best)
        result.append(best)
    return result


def completed(dice, row):
    """The row with the other factors drawn; None where no draw is legal."""
    for _ in range(200):
        full = dict(row)
        for name in dice.sample(NAMES, len(NAMES)):
            if name not in full:
                choices = [v for v in FACTORS[name] if legal({**full, name: v})]
                if not choices:
                    break
                full[name] = dice.choice(choices)
        if len(full) == len(NAMES) and legal(full):
            return {n: full[n] for n in NAMES}
    return None


class Failure(Exception):
    pass


def run(*command, ok=(0,)):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    if done.returncode not in ok:
        raise Failure(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stdout.strip()[-600:]}")
    return done.stdout


class Image:
    def __init__(self, corral, row, folder):
        self.corral, self.row, self.folder = corral, row, folder
        self.path = folder / "image"
        self.model = folder / "model"
        self.secret = folder / "secret"
        self.secret.write_text(PASSPHRASE)
        self.encrypted = row["encrypt"] != "no"
        self.size = SIZE if row["cluster_size"] < 2048 * KIB else 5 * SIZE
        self.seed = 0

    def options(self):
        row = self.row
        text = [f"{n}={row[n]}" for n in ("compat", "cluster_size", "refcount_bits", "extended_l2", "lazy_refcounts")]
        text += [f"preallocation={row['preallocation']}"]
        if row["compressed"] != "no":
            text += [f"compression_type={row['compressed']}"]
        if row["data_file"] != "no":
            text += [f"data_file={self.folder / 'data'}", f"data_file_raw={'on' if row['data_file'] == 'raw' else 'off'}"]
        if self.encrypted:
            text += [f"encrypt.format={row['encrypt']}", "encrypt.key-secret=s", "encrypt.iter-time=60"]
        return ",".join(text)

    def secret_object(self):
        return ["--object", f"secret,id=s,file={self.secret}"] if self.encrypted else []

    def qemu_image(self):
        if not self.encrypted:
            return ["-f", "qcow2", self.path]
        return ["--image-opts", f"driver=qcow2,encrypt.key-secret=s,file.driver=file,file.filename={self.path}"]

    def corral_image(self):
        return [*self.secret_object(), *(["--key-secret", "s"] if self.encrypted else []), self.path]

    # ---- making it ----

    def backing_make(self):
        kind = self.row["backing"]
        if kind == "no":
            return []
        base = self.folder / "base"
        size = self.size // 2 // 512 * 512
        run("qemu-img", "create", "-q", "-f", kind, base, size)
        run("qemu-io", "-f", kind, base, "-c", f"write -P 201 0 {size}", "-c", f"write -z {size // 3} 100k")
        return ["-b", base, "-F", kind]

    def create(self, maker):
        tool = ["qemu-img", "create", "-q", "-f", "qcow2"] if maker == "qemu" else [self.corral, "create", "-q"]
        backing = self.backing_make()
        for attempt in range(9):
            try:
                run(*tool, *self.secret_object(), "-o", self.options(), *backing, self.path, self.size)
                break
            except Failure as failure:  # of qemu-img, now and then, when it measures how fast it derives keys
                if attempt == 8 or "accurate CPU usage" not in str(failure):
                    raise
        if self.row["compressed"] != "no":
            self.fill_compressed(backing)
        self.dump_model()

    def fill_compressed(self, backing):
        """qemu-img convert -n keeps the image as its maker has made it."""
        source = self.folder / "source"
        run("qemu-img", "create", "-q", "-f", "raw", source, self.size)
        run("qemu-io", "-f", "raw", source, "-c", f"write -P 7 0 {self.size // 4}", "-c", f"write -P 9 {self.size // 2} 700k")
        run("qemu-img", "convert", "-n", "-c", "-f", "raw", "-O", "qcow2", source, self.path)

    def dump_model(self):
        self.flatten(self.model)
        Path(f"{self.model}.trimmed").write_bytes(bytes(self.size // 512))

    # ---- reading and writing it ----

    def flatten(self, to):
        run("qemu-img", "convert", *self.secret_object(), "-O", "raw", *self.qemu_image(), to)

    def traffic(self, *target):
        self.seed += 1
        zeroes = [] if self.row["compat"] == "0.10" else ["--discard-zeroes"]
        run(sys.executable, HERE / "traffic.py", "run", self.model, "--seed", self.seed, "--ops", 90, "--unit", self.row["cluster_size"],
            *zeroes, "--", *target)

    def qemu_writes(self):
        self.traffic(*self.secret_object(), *self.qemu_image())

    def served(self, act, *options):
        sock = self.folder / "sock"
        sock.unlink(missing_ok=True)
        server = subprocess.Popen(
            [self.corral, "serve", "--nbd", f"unix:{sock}", *options, *self.corral_image()],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            line = server.stdout.readline()
            if not sock.exists():
                raise Failure(f"corral serve: {line}{server.stdout.read()}")
            act(f"nbd+unix:///?socket={sock}")
        finally:
            server.send_signal(signal.SIGTERM)
            rest = server.communicate(timeout=60)[0]
        if server.returncode != 0:
            raise Failure(f"corral serve ended with {server.returncode}: {rest}")

    def corral_writes(self):
        self.served(lambda uri: self.traffic("-f", "raw", uri))

    # ---- judging it ----

    def verify(self, path, who):
        try:
            run(sys.executable, HERE / "traffic.py", "verify", self.model, path)
        except Failure as f:
            raise Failure(f"as {who} reads it: {f}") from None

    def judge(self):
        flat = self.folder / "flat"
        self.flatten(flat)
        self.verify(flat, "QEMU")
        self.served(lambda uri: run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, flat), "--read-only")
        self.verify(flat, "Corral")
        run("qemu-img", "check", "-q", *self.secret_object(), *self.qemu_image())
        run(self.corral, "check", "-q", self.path)
        if self.row["data_file"] == "raw":
            # QEMU makes it as long as whole clusters.
            (self.folder / "raw").write_bytes((self.folder / "data").read_bytes()[: self.size])
            self.verify(self.folder / "raw", "a reader of the raw data file")

    def info_compare(self):
        theirs = json.loads(run("qemu-img", "info", "--output=json", self.path))
        ours = json.loads(run(self.corral, "info", "--output=json", self.path))
        differ = {k: (theirs.get(k), ours.get(k)) for k in {*theirs, *ours} if theirs.get(k) != ours.get(k)}
        if differ:
            raise Failure(f"info differs (QEMU, Corral): {differ}")

    def all(self, maker):
        self.create(maker)
        for write in (self.qemu_writes, self.corral_writes, self.qemu_writes):
            write()
            self.judge()
        self.info_compare()


def one(corral, row, maker):
    with tempfile.TemporaryDirectory(prefix="corral-matrix.") as folder:
        try:
            Image(corral, row, Path(folder)).all(maker)
        except (Failure, subprocess.TimeoutExpired) as failure:
            return str(failure)
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corral", type=os.path.realpath)
    parser.add_argument("--rows", default=":")
    parser.add_argument("--alternate", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    first, last = (int(x) if x else None for x in options.rows.split(":"))
    table = list(enumerate(rows()))[first:last]
    print("  # " + " ".join(f"{n[:13]:>13}" for n in NAMES) + "  by QEMU  by Corral")
    bad, began = [], time.monotonic()
    for number, row in table:
        print(f"{number:3} " + " ".join(f"{row[n]!s:>13}" for n in NAMES), end="", flush=True)
        for maker in ("qemu", "corral"):
            if options.list or (options.alternate and (maker == "qemu") != (number % 2 == 0)):
                print(f"{'-':>9}", end="")
                continue
            failure = one(options.corral, row, maker)
            print(f"{'ok' if failure is None else 'FAILED':>9}", end="", flush=True)
            if failure:
                bad.append(f"row {number}, made by {maker}: {failure}")
        print(flush=True)
    print(f"{len(table)} rows, {len(bad)} failures, {time.monotonic() - began:.0f} s")
    print("\n".join(bad))
    sys.exit(1 if bad else 0)


main()
