#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check.py CORRAL: `corral check` beside `qemu-img check`, on a large image whose metadata is preallocated.

The two take turns, ROUNDS times each; medians of wall clock, processor time and the largest resident set. Needs qemu-img.
SIZE is the image's (1T), FILE an image that is there already, JSON a file for the figures.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

corral = os.path.abspath(sys.argv[1])
rounds = int(os.environ.get("ROUNDS", "5"))
size = os.environ.get("SIZE", "1T")


def measure(command):
    begin = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    took = time.monotonic() - begin
    if status != 0:
        sys.exit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def compare(image):
    commands = {
        "qemu-img": ["qemu-img", "check", "-f", "qcow2", image],
        "corral": [corral, "check", "-f", "qcow2", image],
    }
    figures = {name: [] for name in commands}
    for command in commands.values():
        measure(command)  # the page cache is warm for both
    for _ in range(rounds):
        for name, command in commands.items():
            figures[name].append(measure(command))
    return {name: [statistics.median(column) for column in zip(*runs)] for name, runs in figures.items()}


def main():
    with tempfile.TemporaryDirectory(prefix="corral-bench.", dir=os.environ.get("TMPDIR", "/var/tmp")) as work:
        image = os.environ.get("FILE") or os.path.join(work, "image")
        if not os.environ.get("FILE"):
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", image, size], check=True
            )
        medians = compare(image)
    for name, (wall, processor, rss) in medians.items():
        print(f"{name:9} {wall:7.3f} s   {processor:7.3f} s of processor   {rss:7.1f} MiB resident")
    ratios = [theirs / ours for theirs, ours in zip(medians["qemu-img"], medians["corral"])]
    print(f"qemu-img / corral: {ratios[0]:.1f} x time, {ratios[1]:.1f} x processor, {ratios[2]:.1f} x memory")
    if os.environ.get("JSON"):
        with open(os.environ["JSON"], "w") as out:
            json.dump({"medians": medians, "ratios": ratios, "rounds": rounds, "size": size}, out, indent=1)


main()
