# SPDX-License-Identifier: MIT
"""Who is measured: Corral, QEMU's storage daemon and tools, and the raw file; all asked the same."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

SECONDS = 120  # the longest that one run may take
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A run that gave no figures: told in the report, and the rest goes on."""


def run(command, **options):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, **options)
    except subprocess.TimeoutExpired as e:
        raise Failed(f"no end within {SECONDS} s: {' '.join(map(str, command))}") from e
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: {done.stderr.strip()[-300:]}")
    return done.stdout


def bench_options(what, direct):
    """Of corral bench and qemu-img bench."""
    options = ["-f", what.get("format", "qcow2"), "-c", what["requests"], "-d", what["depth"], "-s", what.get("bytes", 4096)]
    options += ["-S", what["step"]] if "step" in what else []
    options += ["-w"] if what.get("write") else []
    options += ["-t", "none"] if direct else []
    return [str(o) for o in options]


class Server:
    """A process with a socket, from start to end."""

    def __init__(self, command, socket):
        self.socket = socket
        socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Failed(f"{command[0]} doesn't serve: {self.process.stderr.read()[-300:]}")
            time.sleep(0.005)
        time.sleep(0.05)  # from the name to the listener

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Corral:
    name = "corral"

    def __init__(self, corral):
        self.corral = str(corral)

    def serve(self, protocol, image, socket, direct):
        where = ["--nbd", f"unix:{socket}"] if protocol == "nbd" else ["--vhost-user", str(socket)]
        return Server([self.corral, "serve", *where, "--cache", "none" if direct else "writeback",
                       "--log-level", "error", str(image)], socket)

    def bench(self, image, what, direct):
        """In process: requests a second and processor time for one."""
        said = json.loads(run([self.corral, "bench", "--output", "json", *bench_options(what, direct), str(image)]))
        return {"rate": said["requests-per-second"], "cpu_us": said["cpu-us-per-request"],
                "loop_longest_us": said["loop-longest-us"]}

    def tool(self, command, *arguments):
        return [self.corral, command, *map(str, arguments)]


class Qemu:
    """One version of it; folder: where Debian packages of it were unpacked, None: what is installed."""

    def __init__(self, folder=None):
        self.folder = folder
        self.name = "qemu-" + run([*self.program("qemu-img"), "--version"]).split()[2].rpartition(".")[0]

    @staticmethod
    def all():
        found = [Qemu()] if shutil.which("qemu-storage-daemon") and shutil.which("qemu-img") else []
        if os.environ.get("QEMU10"):
            found.append(Qemu(Path(os.environ["QEMU10"]).resolve()))
        return found

    def program(self, name):
        if not self.folder:
            return [name]
        libraries = ":".join(str(self.folder / p) for p in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"))
        loader = next(p for p in (self.folder / "usr/lib64/ld-linux-x86-64.so.2",
                                  self.folder / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
                                  self.folder / "lib64/ld-linux-x86-64.so.2") if p.exists())
        return [str(loader), "--library-path", libraries, str(self.folder / "usr/bin" / name)]

    def serve(self, protocol, image, socket, direct):
        cache = f"cache.direct={'on' if direct else 'off'}"
        nodes = ["--blockdev", f"driver=file,node-name=f,filename={image},aio=io_uring,discard=unmap,{cache}",
                 "--blockdev", f"driver=qcow2,node-name=q,file=f,discard=unmap,{cache}"]
        address = f"addr.type=unix,addr.path={socket}"
        if protocol == "nbd":
            export = ["--nbd-server", address, "--export", "type=nbd,id=e,node-name=q,name=,writable=on"]
        else:
            export = ["--export", f"type=vhost-user-blk,id=e,node-name=q,{address},writable=on,num-queues=1"]
        return Server([*self.program("qemu-storage-daemon"), *nodes, *export], socket)

    def bench(self, image, what, direct):
        requests = what["requests"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = run([*self.program("qemu-img"), "bench", "-i", "io_uring", *bench_options(what, direct), str(image)])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = float(said.partition("completed in ")[2].split()[0])
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"rate": requests / max(seconds, 1e-3), "cpu_us": cpu * 1e6 / requests}

    def tool(self, command, *arguments):
        return [*self.program("qemu-img"), command, *map(str, arguments)]


class Raw:
    """The physical limit: the raw file, through fio and io_uring."""

    name = "raw"

    def bench(self, image, what, direct):
        side = "write" if what.get("write") else "read"
        said = json.loads(run([
            "fio", "--name=raw", f"--filename={image}", "--ioengine=io_uring", "--output-format=json",
            f"--rw=rand{side}", f"--bs={what.get('bytes', 4096)}", f"--iodepth={what['depth']}",
            f"--number_ios={what['requests']}", f"--direct={int(direct)}", "--invalidate=0", "--norandommap",
            f"--size={what['disk']}", "--io_size=1t", "--time_based=0"]))["jobs"][0]
        cpu = (said["usr_cpu"] + said["sys_cpu"]) / 100 * said["job_runtime"] / 1000
        return {"rate": said[side]["iops"], "cpu_us": cpu * 1e6 / max(said[side]["total_ios"], 1)}


def load(client, protocol, server, **settings):
    """Requests to a server: rate, latencies, what they cost it."""
    before = server.cpu()
    said = json.loads(run([str(client), protocol, str(server.socket), *(f"{k}={v}" for k, v in settings.items())]))
    cpu = server.cpu() - before
    operation = said.get("write") if settings.get("reads", 100) < 50 else said.get("read")
    figures = {"rate": said["requests-per-second"], "cpu_us": cpu * 1e6 / settings["requests"],
               "client_cpu_us": said["client-cpu-seconds"] * 1e6 / settings["requests"], "rss": server.rss()}
    for name in ("p50", "p99", "p99.9", "max"):
        figures[name] = operation[name + "-us"]
    if "flush" in said:
        figures["flush_p50"] = said["flush"]["p50-us"]
    return figures
