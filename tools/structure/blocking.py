#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Nothing that a coroutine reaches blocks: the rooms can't even call what would.

usage: blocking.py ARCHIVE...      (libroom_NAME.a, as the plain gcc build makes them)

Object files tell what they import, through whatever macro or header it came. A room may import what some room defines,
and the pure functions below. What else a room or a single file needs stands in a table with the reason beside it.
"""

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

PURE = set(
    """
    memchr memcmp memcpy memmem memmove mempcpy memrchr memset rawmemchr explicit_bzero
    strcasecmp strchr strchrnul strcmp strcpy strcspn strlen strncasecmp strncmp strncpy strnlen strpbrk strrchr strsep
    strspn
    strerror strstr stpcpy strerror_r __xpg_strerror_r strerrorname_np strerrordesc_np strtol strtoll strtoul strtoull
    __isoc23_strtol __isoc23_strtoll __isoc23_strtoul __isoc23_strtoull
    __ctype_b_loc __ctype_tolower_loc tolower toupper
    snprintf vsnprintf sscanf __isoc99_sscanf
    malloc calloc realloc reallocarray free aligned_alloc posix_memalign strdup strndup __strdup asprintf vasprintf
    qsort bsearch
    __errno_location __assert_fail abort __stack_chk_fail _GLOBAL_OFFSET_TABLE_ __tls_get_addr
    __udivti3 __umodti3 __divti3 __popcountdi2
    """.split()
)

# What else a file imports (a room: all its files), and why that can't hold up a coroutine. "*" is whatever it likes.
ALLOWED = {
    "co_stack.c": ("memory for stacks, no I/O", "mmap munmap mprotect madvise sysconf"),
    "co_overflow.c": ("a signal handler, and what installs it", "raise sigaction sigaltstack sigemptyset write"),
    "co_switch_ucontext.c": ("the switch itself", "getcontext makecontext swapcontext"),
    "io_posix.c": ("runs on helper threads, but for what never waits", "*"),
    "io_address.c": ("runs on helper threads", "*"),
    "io_memory.c": ("runs on helper threads, but for a signal handler", "*"),
    "io_pool.c": (
        "helper threads; locks are held for a few instructions; the eventfd never blocks",
        "eventfd read write close pthread_create pthread_join pthread_sigmask sigfillset sigdelset sigemptyset"
        " pthread_mutex_init pthread_mutex_destroy pthread_mutex_lock pthread_mutex_unlock"
        " pthread_cond_init pthread_cond_destroy pthread_cond_signal pthread_cond_broadcast pthread_cond_wait",
    ),
    "io_sandbox.c": ("system calls that never wait, once, before anything is served", "*"),
    "io_sandbox_calls.c": ("the same", "seccomp_*"),
    "io_signal.c": ("the descriptor doesn't block", "signalfd read pthread_sigmask sigemptyset sigaddset"),
    "io_threads.c": ("the wait of the scheduler's loop, outside every coroutine", "poll ppoll"),
    "io_uring.c": (
        "submits, or is the wait of the scheduler's loop",
        "__io_uring_get_cqe io_uring_queue_init_params io_uring_queue_exit io_uring_register_ring_fd"
        " io_uring_get_probe_ring io_uring_free_probe io_uring_submit io_uring_submit_and_get_events"
        " io_uring_submit_and_wait_timeout io_uring_get_events"
        " syscall",
    ),
    "qcow2_compress.c": (
        "computes, on helper threads, and allocates",
        "inflate inflateInit2_ inflateEnd deflate deflateInit2_ deflateEnd isal_deflate_stateless isal_deflate_stateless_init"
        " libdeflate_alloc_decompressor libdeflate_free_decompressor libdeflate_deflate_decompress"
        " ZSTD_createCCtx ZSTD_freeCCtx ZSTD_compressCCtx ZSTD_defaultCLevel ZSTD_createDCtx ZSTD_freeDCtx"
        " ZSTD_decompressDCtx ZSTD_findFrameCompressedSize ZSTD_isError",
    ),
    "nbd_list.c": ("for programs without a coroutine", "nbd_*"),
    "nbd_link.c": ("calls that only begin something, or report; names are looked up on a helper thread", "nbd_*"),
    "crypto_gcrypt.c": ("computes; locks are held for a few instructions", "gcry_* pthread_once"),
    "crypto_random.c": ("waits only where the kernel has just begun and has none yet", "getrandom"),
    "api": ("parses options, in memory", "json_* strtod ldexp"),
    "export_nbd_tls.c": ("computes on memory; handshakes on helper threads", "gnutls_*"),
    "export_nbd_tls_creds.c": ("reads its files before there is a coroutine", "gnutls_*"),
    "cli_bench_load.c": ("asks what it has used, before and after", "getrusage"),
    "cli_io.c": ("a read of standard input when it has something, or has ended", "read"),
    "cli_io_control.c": ("what its user wants it to die of", "raise"),
    "cli_scratch.c": ("a temporary file is made, and its name removed: no data", "mkstemp close unlink"),
    "cli_nbd.c": ("has itself ended by a signal; waits for its process when there is no coroutine any more", "raise waitpid close"),
    "cli_nbd_attach.c": ("a process of its own; the server writes a byte", "*"),
    "cli_secret.c": ("reads a passphrase before there is a coroutine", "open read close"),
    "cli_serve_log.c": ("what takes files is done before there is a coroutine; a few lines a second", "fopen tzset"),
    "cli_systemd.c": (
        "looks at what was inherited before there is a coroutine; a datagram that doesn't wait",
        "fcntl close getpid strsep unsetenv socket connect send",
    ),
    "cli_serve_sandbox.c": ("looks a user up before there is a coroutine", "getpwnam getgrnam"),
    "cli_map.c": ("writes its picture when there is no coroutine any more", "fopen"),
    "cli_background.c": ("forks before there is a coroutine; a byte and a pid file when ready", "*"),
    "cli": (
        "talks to its user: a few lines on standard output",
        "printf puts putchar fputs fputc fprintf vprintf vfprintf fwrite fflush perror stdout stderr setvbuf exit getenv isatty"
        " putc _IO_putc open_memstream fclose getopt_long getopt optarg optind opterr optopt signal"
        " sigtimedwait sigemptyset sigaddset pthread_sigmask program_invocation_short_name"
        " clock_gettime getpid getrlimit setrlimit localtime_r strftime json_* strtod frexp ldexp",
    ),
}

ENTRY = re.compile(r"^.*\[(?:.*/)?([^/\]]+)\.o\]: (\S+) (\w)")


def symbols(archive, *options):
    """(object, symbol) pairs; the object of src/a/b.c is called a_b.c."""
    out = subprocess.run(["nm", "-A", "-P", *options, archive], check=True, capture_output=True, text=True).stdout
    return [(m.group(1), m.group(2)) for m in map(ENTRY.match, out.splitlines()) if m]


def plain(symbol):
    """memcpy of __memcpy_chk, which checks a size that the compiler knows; mmap of mmap64."""
    checked = re.fullmatch(r"__(\w+)_chk", symbol)
    return (checked.group(1) if checked else symbol).removesuffix("64")


def room_of(archive):
    return re.fullmatch(r"libroom_(\w+)\.a", Path(archive).name).group(1)


def allowed(symbol, room, name):
    patterns = [p for key in (room, name) if key in ALLOWED for p in ALLOWED[key][1].split()]
    return symbol in PURE or any(fnmatchcase(symbol, p) for p in patterns)


def check(archives):
    ours = {symbol for archive in archives for _, symbol in symbols(archive, "--defined-only", "-g")}
    for archive in archives:
        room = room_of(archive)
        for name, symbol in symbols(archive, "-u"):
            known = symbol in ours or allowed(symbol, room, name) or allowed(plain(symbol), room, name)
            if not known:
                yield f"{name}: calls {plain(symbol)}, which is not known never to block"


def main():
    guilty = sorted(set(check(sys.argv[1:])))
    print("\n".join(guilty) or f"{len(sys.argv) - 1} rooms import nothing that blocks")
    sys.exit(1 if guilty else 0)


if __name__ == "__main__":
    main()
