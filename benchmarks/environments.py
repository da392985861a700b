"""How long an environment takes to build: the first, and others that differ from it by a package.

    python benchmarks/environments.py FOLDER [--framework-version 2.21] [--backend single]

FOLDER takes the store, and keeps uv's downloads between calls: the second call measures without the
network's share. Needs the packages' index.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

MORE = ("colorama", "toolz", "more-itertools")


def main() -> None:
    """Print the seconds of each build, the whole process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--framework-version", default="2.21")
    parser.add_argument("--backend", default="single")
    given = parser.parse_args()

    store = given.folder.absolute() / "store"
    store.mkdir(parents=True, exist_ok=True)
    for old in store.glob("tf*"):
        shutil.rmtree(old)
    site = store.parent / "site.yaml"
    site.write_text(f"name: bench\nscheduler: local\nenvironments: {{store: {store}}}\n")

    words = [sys.executable, "-m", "hpctf", "env", "build", "--site", str(site)]
    words += ["--backend", given.backend, "--framework-version", given.framework_version]
    for number in range(len(MORE) + 1):
        packages = [f"--pip={name}" for name in MORE[:number]]
        began = time.perf_counter()
        subprocess.run([*words, *packages], check=True, capture_output=True)
        what = f"with {MORE[number - 1]} besides" if number else "TensorFlow alone"
        print(f"{time.perf_counter() - began:6.1f} s  {what}")


if __name__ == "__main__":
    main()
