#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Corral called qemu-img beside qemu-img: the same commands on the same inputs, and whether anything tells them apart.

usage: golden.py CORRAL [--file NAME] [--only WORD] [--show] [--jobs N]

Cases are data: each file NAME.cases holds some, which are run in order, by both programs, each in a folder of its own.

    # what it is about
    = setup: a shell command, run once in both folders; not compared ($QEMU_IMG and $QEMU_IO are the real tools;
                                        $CORRAL makes what they are slow at)
    create -f qcow2 a.qcow2 1M          a command line of qemu-img, compared
    qemu-io -c "read 0 1k" a.qcow2      ... of qemu-io, or qemu-nbd
    convert a b   ! raw b               ... and then: the content of b, as raw data (the real qemu-img reads it)
    create a 1M   ! bytes a             ... the bytes of a
    amend ... a   ! info a              ... what the real qemu-img says of a, as JSON
    commit a      ! check a             ... and that the real qemu-img finds nothing wrong with a
    locked a : resize a 2M              while another process (the real qemu-io) has a open for writing
    reading a : snapshot -c x a         ... or for reading

Compared are standard output, standard error and exit status. Differences that are meant are listed in `differences`:

    file.cases  command line (a regular expression of all of it)  what differs: out err status image
        the reason, on lines that are indented

A difference that isn't listed there fails the test, and so does a listed one that doesn't occur any more. Every reason has
to be in docs/compatibility.md, word by word.
"""

import argparse
import concurrent.futures
import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS = 20  # of one command
TOOLS = ("qemu-img", "qemu-io", "qemu-nbd")


class Side:
    """One program, and the folder that it works in."""

    def __init__(self, folder, programs, corral):
        self.folder, self.programs, self.corral = folder, programs, corral
        folder.mkdir()

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}
        # Leak reports would be a difference of their own kind: the sanitizer's run of the suite looks for them elsewhere.
        return {**env, "LC_ALL": "C", "TZ": "UTC", "QEMU_IMG": shutil.which("qemu-img"), "QEMU_IO": shutil.which("qemu-io"),
                "CORRAL": str(self.corral)}

    def shell(self, command):
        subprocess.run(["bash", "-euc", command], cwd=self.folder, check=True, env=self.environment(), timeout=SECONDS,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def run(self, command):
        """Of one command line: what it printed, complained of, and its exit status."""
        words = shlex.split(command)
        tool = words.pop(0) if words and words[0] in TOOLS else "qemu-img"
        done = subprocess.run([self.programs[tool], *words], cwd=self.folder, env=self.environment(), timeout=SECONDS,
                              stdin=subprocess.DEVNULL, capture_output=True)
        return {"out": self.plain(done.stdout), "err": self.plain(done.stderr), "status": done.returncode}

    def plain(self, text):
        """Without what differs between two runs of one program: times, the folder, names of nodes."""
        text = text.decode(errors="replace").replace(str(self.folder), "FOLDER")
        for tool, program in self.programs.items():
            text = text.replace(program, tool)
        text = re.sub(r"\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", text)
        text = re.sub(r'"date-n?sec": \d+', '"date": 0', text)
        text = re.sub(r"(uuid: |\"uuid\": \")[0-9a-f-]{36}", r"\1UUID", text)
        text = re.sub(r"#block\d+", "#block", text)
        text = re.sub(r"(\s*\(\d+\.\d\d/100%\)\s*)+", " PROGRESS ", text)
        text = re.sub(r"completed in [0-9.]+ seconds", "completed in TIME", text)
        text = re.sub(r"\d[\d:.]* sec; .*? ops/sec\)", "TIME", text)  # of qemu-io
        return ordered(text.rstrip())


def ordered(text):
    """JSON has no order: what is JSON is written again, sorted."""
    try:
        return json.dumps(json.loads(text), sort_keys=True, indent=1)
    except ValueError:
        return text


# ---- what is left behind ----

def raw_of(side, name):
    out = side.folder / "content"
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", name, out.name], cwd=side.folder, check=True, timeout=SECONDS,
                   capture_output=True)
    content = out.read_bytes()
    out.unlink()
    return content


def bytes_of(side, name):
    return (side.folder / name).read_bytes()


def info_of(side, name):
    done = subprocess.run(["qemu-img", "info", "-U", "--output=json", name], cwd=side.folder, check=True, timeout=SECONDS,
                          capture_output=True)
    info = json.loads(done.stdout)
    info.pop("actual-size", None)  # how a host stores it is not the image
    return side.plain(json.dumps(info).encode())


def check_of(side, name):
    done = subprocess.run(["qemu-img", "check", "-U", name], cwd=side.folder, timeout=SECONDS, capture_output=True)
    return done.returncode


LOOKS = {"raw": raw_of, "bytes": bytes_of, "info": info_of, "check": check_of}


def look(side, what):
    kind, *names = what.split()
    try:
        return [LOOKS[kind](side, name) for name in names]
    except (OSError, subprocess.CalledProcessError) as e:
        return f"{kind}: {type(e).__name__}"


# ---- cases ----

HOLDERS = {"locked": [], "reading": ["-r"]}


class Holder:
    """A process that has an image open."""

    def __init__(self, side, how, image):
        read, self.write = os.pipe()
        self.process = subprocess.Popen(["qemu-io", *HOLDERS[how], "-f", "qcow2", image], cwd=side.folder, stdin=read,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.close(read)
        os.write(self.write, b"length\n")
        while b"iB" not in (line := self.process.stdout.readline()):
            if not line:
                raise RuntimeError(f"qemu-io can't open {image}")

    def close(self):
        os.close(self.write)
        self.process.stdout.close()
        self.process.wait(SECONDS)


class Case:
    def __init__(self, file, line, number):
        self.file, self.number = file, number
        line, _, look_at = line.partition(" ! ")
        held, colon, command = line.partition(" : ")
        self.look_at = look_at.strip()
        self.holder = held.split() if colon else None
        self.command = (command if colon else line).strip()

    def run(self, side):
        holder = Holder(side, *self.holder) if self.holder else None
        try:
            result = side.run(self.command)
        except subprocess.TimeoutExpired:
            result = {"out": "", "err": f"no end within {SECONDS} s", "status": "timeout"}
        finally:
            if holder:
                holder.close()
        result["image"] = look(side, self.look_at) if self.look_at else None
        return result


def read_cases(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield line if line.startswith("=") else Case(path.stem, line, number)


class Difference:
    """One that is meant."""

    def __init__(self, line):
        self.file, rest = line.split(None, 1)
        self.pattern, *self.kinds = shlex.split(rest)
        self.reason, self.met = "", False

    def fits(self, case, kinds):
        return (re.fullmatch(self.file, case.file) and re.fullmatch(self.pattern, case.command)
                and set(kinds) <= set(self.kinds))


def read_differences():
    found = []
    for line in (HERE / "differences").read_text().splitlines():
        if line.startswith((" ", "\t")):
            found[-1].reason = (found[-1].reason + " " + line.strip()).strip()
        elif line.strip() and not line.startswith("#"):
            found.append(Difference(line))
    return found


# ---- running ----

def run_file(path, corral, only, scratch):
    """(case, kinds of difference, real result, our result) of each case of a file."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    links = folder / "bin"
    links.mkdir()
    for tool in TOOLS:
        (links / tool).symlink_to(corral)
    real = Side(folder / "real", {tool: shutil.which(tool) for tool in TOOLS}, corral)
    mine = Side(folder / "mine", {tool: str(links / tool) for tool in TOOLS}, corral)
    results = []
    for case in read_cases(path):
        if isinstance(case, str):
            for side in (real, mine):
                side.shell(case[1:])
            continue
        if only and only not in case.command and only not in case.file:
            for side in (real, mine):
                case.run(side)
            continue
        a, b = case.run(real), case.run(mine)
        results.append((case, [k for k in a if a[k] != b[k]], a, b))
    return results


def lines_of(value):
    return (value if isinstance(value, str) else repr(value)[:1000]).splitlines()


def report(case, kinds, a, b):
    print(f"{case.file}:{case.number}: {case.command}")
    for kind in kinds:
        for line in list(difflib.unified_diff(lines_of(a[kind]), lines_of(b[kind]), lineterm="", n=0))[2:22]:
            print(f"   {kind} {line}")


def judge(results, differences, show):
    bad = 0
    for case, kinds, a, b in results:
        meant = [d for d in differences if kinds and d.fits(case, kinds)]
        for difference in meant[:1]:
            difference.met = True
        if kinds and not meant:
            bad += 1
            report(case, kinds, a, b)
        elif show:
            print(f"{case.file}:{case.number}: {case.command}: {'meant' if meant else 'same'} {a['status']}")
    return bad


def judge_list(differences, everything):
    bad = 0
    page = " ".join((HERE / "../../docs/compatibility.md").read_text().split())
    for d in differences:
        if everything and not d.met:
            bad += 1
            print(f"differences: {d.file} {d.pattern}: doesn't occur any more")
        if not d.reason or d.reason not in page:
            bad += 1
            print(f"differences: {d.file} {d.pattern}: its reason isn't in docs/compatibility.md: '{d.reason}'")
    return bad


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corral")
    parser.add_argument("--file")
    parser.add_argument("--only")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if not all(shutil.which(tool) for tool in TOOLS):
        print(f"skipped: not all of {', '.join(TOOLS)} are here")
        sys.exit(77)
    start, bad, ran = time.monotonic(), 0, 0
    differences = read_differences()
    corral = Path(args.corral).resolve()
    with tempfile.TemporaryDirectory(prefix="corral-golden.") as scratch, \
            concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        paths = sorted(HERE.glob(f"{args.file or '*'}.cases"))
        for results in pool.map(lambda path: run_file(path, corral, args.only, scratch), paths):
            bad += judge(results, differences, args.show)
            ran += len(results)
    bad += judge_list(differences, not (args.only or args.file))
    meant = sum(d.met for d in differences)
    print(f"{ran} command lines, {meant} differences that are meant, {bad} that aren't; {time.monotonic() - start:.0f} s")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
