"""The cold import of TensorFlow by many ranks on a shared file system that is slow to open files.

    python -m benchmarks.staging PYTHON [--ranks 64] [--rate 2000] [--kind squashfs]

PYTHON is that of an environment which `hpctf env build` has made. One import is watched (strace)
for the files that it looks for and opens. Then ranks, which are processes of this machine, do the
same again without running what they read, since 64 imports would measure this machine's CPUs.

What is shared is throttled by a library that is loaded before the C library (LD_PRELOAD): all ranks
together look at, open and list at most RATE files a second of the environment, as they share a
metadata server, and the image comes at 1 GB a second. A node's own disk is not throttled. Needs gcc
and strace; no root, and no FUSE but squashfuse for ``--kind squashfs``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpctf.environment.image import ensure_image, image_of
from hpctf.environment.store import Environment
from hpctf.node.staging.area import ROOT, Area, remove_tree
from hpctf.node.staging.environments import bring
from hpctf.node.staging.mounting import mount, unmount

THROTTLE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int64_t *next_at;  /* shared by all ranks: when the server is free again, in nanoseconds */
static int64_t each;
static const char *below;
static size_t length;

__attribute__((constructor)) static void begin(void) {
  below = getenv("THROTTLE_BELOW");
  length = below ? strlen(below) : 0;
  each = 1000000000LL / atoll(getenv("THROTTLE_RATE"));
  int file = open(getenv("THROTTLE_CLOCK"), O_RDWR);
  next_at = mmap(0, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
}

static void wait_turn(const char *path) {
  if (!next_at || !path || strncmp(path, below, length)) return;
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  int64_t now = t.tv_sec * 1000000000LL + t.tv_nsec, old, mine;
  do {
    old = __atomic_load_n(next_at, __ATOMIC_RELAXED);
    mine = old > now ? old : now;
  } while (!__atomic_compare_exchange_n(next_at, &old, mine + each, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
  t.tv_sec = mine / 1000000000LL;
  t.tv_nsec = mine % 1000000000LL;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0));
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

int open64(const char *path, int flags, ...) {
  REAL(int, "open64", const char *, int, ...);
  va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more);
  wait_turn(path);
  return real(path, flags, mode);
}
int stat64(const char *path, struct stat64 *out) {
  REAL(int, "stat64", const char *, struct stat64 *);
  wait_turn(path);
  return real(path, out);
}
void *opendir(const char *path) {
  REAL(void *, "opendir", const char *);
  wait_turn(path);
  return real(path);
}
"""

RANK = """
import json, os, sys
calls, before, after = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
for kind, path in calls:
    path = path.replace(before, after, 1)
    try:
        if kind == "stat":
            os.stat(path)
        elif kind == "list":
            os.listdir(path)
        else:
            with open(path, "rb") as stream:
                stream.read(1 << 20)
    except OSError:
        pass
"""
"""Reads at most 1 MB of a file: the loader maps shared libraries, and touches a part of them."""

_CALL = re.compile(r'(openat|newfstatat|stat|open|readlink|access)\((?:AT_FDCWD, )?"([^"]+)"(.*)')


def main() -> None:
    """Print the seconds of one rank and of many, shared and staged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", type=Path)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--rate", type=int, default=2_000, help="files per second")
    parser.add_argument("--shared-ranks", type=int, default=8, help="how many share the slow one")
    parser.add_argument("--kind", choices=("squashfs", "tar"), default="squashfs")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()

    key = given.python.absolute().parents[2]
    build = os.path.realpath(key / "current")
    ensure_image(Environment(key), given.kind, 0o077)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), build, given.rate)
        bench.watch(f"{build}/bin/python")
        one = statistics.median(bench.ranks(1, build) for _ in range(given.rounds))
        many = bench.ranks(given.shared_ranks, build)
        staged = statistics.median(
            bench.staged(given.ranks, str(key), given.kind) for _ in range(given.rounds)
        )
    print(f"{len(bench.calls)} calls of one import, {given.rate} per second on the shared files")
    print(f"{one:8.2f} s  1 rank, shared")
    print(f"{many:8.2f} s  {given.shared_ranks} ranks, shared ({many / one:.1f} x)")
    print(f"{staged:8.2f} s  {given.ranks} ranks, staged, copying included ({staged / one:.1f} x)")


class Bench:
    """Ranks that look for the files of one import; `shared` is throttled."""

    def __init__(self, folder: Path, shared: str, rate: int) -> None:
        self._folder = folder
        self._shared = shared
        self._rate = rate
        self.calls: list[tuple[str, str]] = []
        source, self._library = folder / "throttle.c", folder / "throttle.so"
        source.write_text(THROTTLE)
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", self._library, source, "-ldl"]
        subprocess.run(list(map(str, command)), check=True)
        self._clock = folder / "clock"

    def watch(self, python: str) -> None:
        """Note what one import of TensorFlow looks for."""
        log = self._folder / "trace"
        command = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=file", "-o", str(log)]
        subprocess.run([*command, python, "-c", "import tensorflow"], capture_output=True)
        for line in log.read_text(errors="replace").splitlines():
            found = _CALL.search(line)
            if found and found[2].startswith(self._shared):
                kind = "list" if "O_DIRECTORY" in found[3] else "open"
                self.calls.append(("stat" if not found[1].startswith("open") else kind, found[2]))
        (self._folder / "calls").write_text(json.dumps(self.calls))

    def ranks(self, number: int, place: str) -> float:
        """Return the seconds until the last of so many ranks has read what lies at a place."""
        self._clock.write_bytes(bytes(8))
        env = {
            **os.environ,
            "LD_PRELOAD": str(self._library),
            "THROTTLE_BELOW": f"{self._shared}/",
            "THROTTLE_RATE": str(self._rate),
            "THROTTLE_CLOCK": str(self._clock),
        }
        words = [sys.executable, "-I", "-S", "-c", RANK, f"{self._folder}/calls"]
        began = time.perf_counter()
        children = [subprocess.Popen([*words, self._shared, place], env=env) for _ in range(number)]
        for child in children:
            if child.wait():
                sys.exit("a rank failed")
        return time.perf_counter() - began

    def staged(self, number: int, key: str, kind: str) -> float:
        """Return the same of a copy on this node's disk, with the time that bringing it takes."""
        area = Area(str(self._folder))
        job = f"{area.jobs}/bench"
        os.makedirs(job)
        began = time.perf_counter()
        size = os.stat(image_of(key, kind) or "").st_size
        where = bring(area, job, key, kind, keep=False)
        time.sleep(max(0.0, size / 1e9 - (time.perf_counter() - began)))  # a file server's 1 GB/s
        if where["image"]:
            os.makedirs(where["root"])
            problem = mount(where["image"], where["root"])
            if problem:
                sys.exit(problem)
        seconds = time.perf_counter() - began + self.ranks(number, where["root"])
        unmount(f"{job}/{ROOT}")
        remove_tree(job)
        return seconds


if __name__ == "__main__":
    main()
