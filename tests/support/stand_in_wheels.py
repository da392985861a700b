"""Packages and a conda to build with in seconds.

The packages stand in for TensorFlow and tf-keras, nothing else: whatever is around them (uv, pip,
virtual environments, locks, links, processes) is real. tests/environment/test_horovod.py builds
with the real ones. The conda program stands in for micromamba, which no machine of ours can get.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpctf.environment.resolve import SoftwareRequest, spec_for
from hpctf.environment.spec import EnvironmentSpec
from hpctf.site.loading import load_site
from hpctf.site.model import Site
from tests.conftest import ROOT
from tests.support.built import OLDER_TENSORFLOW
from tests.support.waiting import HANGS_S

_GATED = """
import os, time
__version__ = {version!r}
gate = os.environ.get("TEST_GATE")
if gate:
    open(gate + ".reached", "w").close()
    while not os.path.exists(gate):
        time.sleep(0.02)
if os.environ.get("TEST_BREAK"):
    raise ImportError("libcudart.so.11 is broken")
"""
"""The stand-in TensorFlow: its import, which is the check of a build, waits for TEST_GATE."""

OLDER_VERSION = f"{OLDER_TENSORFLOW}.1"
"""The older of its versions."""


def make_wheel(
    folder: Path, name: str, version: str, text: str = "", module: str = "", needs: str = ""
) -> Path:
    """Write a wheel of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{module or name}/__init__.py": text or f"__version__ = {version!r}\n",
        f"{stem}.dist-info/METADATA": metadata,
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in files) + f"{stem}.dist-info/RECORD,,\n"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {**files, f"{stem}.dist-info/RECORD": record}.items():
            archive.writestr(file, content)
    return path


def make_wheels(folder: Path) -> Path:
    """Make a folder of wheels that environments can be built from without any network."""
    for version in (OLDER_VERSION, "2.21.0"):
        text = _GATED.format(version=version)
        make_wheel(folder, "tensorflow_cpu", version, text, "tensorflow")
        make_wheel(folder, "tf_keras", version, needs="tensorflow")
    make_wheel(folder, "tensorflow", "2.21.0", "raise ImportError('the wrong one')\n")
    make_wheel(folder, "tensorboard", "2.20.0")
    make_wheel(folder, "tiny", "1.0")
    make_wheel(folder, "tiny", "1.1")
    make_wheel(folder, "needy", "1.0", needs="tensorflow>=2")
    return folder


def make_site(folder: Path, wheels: Path, umask: str = "0077", **environments: Any) -> Path:
    """Write the file of a site whose packages are those wheels and no others."""
    settings = {"store": str(folder / "store"), "find_links": [str(wheels)], "offline": True}
    path = folder / "site.yaml"
    content = {"name": "test", "scheduler": "local", "umask": umask}
    path.write_text(json.dumps({**content, "environments": {**settings, **environments}}))
    return path


def ask(site: Path, base: Path | None = None, **asked: Any) -> tuple[EnvironmentSpec, Site]:
    """Return what a person asks for, as it would be built on a site of a file."""
    loaded = load_site(site)
    return spec_for(SoftwareRequest(base=base or site.parent, **asked), loaded), loaded


def env_command(*words: str | Path, site: Path) -> list[str]:
    """Return the command ``hpctf env``."""
    code = "from hpctf.cli import main; main()"
    action, *rest = map(str, words)
    return [sys.executable, "-c", code, "env", action, "--site", str(site), *rest]


def hpctf_env(
    *words: str | Path, site: Path, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``hpctf env`` to its end."""
    done = subprocess.run(
        env_command(*words, site=site),
        env=_environment(site, variables),
        cwd=site.parent,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def start_env(*words: str | Path, site: Path, **variables: str) -> subprocess.Popen[str]:
    """Start ``hpctf env``."""
    return subprocess.Popen(
        env_command(*words, site=site),
        env=_environment(site, variables),
        cwd=site.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _environment(site: Path, variables: Mapping[str, str]) -> dict[str, str]:
    own = {"HPCTF_RUNS_ROOT": str(site.parent / "runs"), "PYTHONPATH": str(ROOT)}
    return {**os.environ, **own, **variables}


CONDA = """#!{python}
# Stands in for micromamba: 'create' makes a virtual environment with records as conda's.
import json, os, pathlib, subprocess, sys
words = sys.argv[1:]
prefix = pathlib.Path(words[words.index("-p") + 1])
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
condarc = os.environ["CONDARC"]
seen = {{"variables": dict(os.environ), "home": sorted(os.listdir(os.environ["HOME"])),
    "mode": os.stat(condarc).st_mode & 0o777, "condarc": json.load(open(condarc))}}
pathlib.Path({log!r} + ".seen").write_text(json.dumps(seen))
print("channels", seen["condarc"])
if "--file" in words:
    lines = pathlib.Path(words[words.index("--file") + 1]).read_text().splitlines()[1:]
else:
    options = {{"-c", "-p"}}
    specs = [w for i, w in enumerate(words) if i and w[0] != "-" and words[i - 1] not in options]
    if "no-such-package" in specs:
        sys.exit("error    libmamba Could not solve for environment specs")
    lines = [f"https://conda.example/linux-64/{{s.replace('=', '-')}}-0.conda#0123" for s in specs]
subprocess.run([{base!r}, "-m", "venv", "--without-pip", str(prefix)], check=True)
(prefix / "conda-meta").mkdir()
for line in lines:
    url, _, md5 = line.partition("#")
    record = prefix / "conda-meta" / (url.rpartition("/")[2] + ".json")
    record.write_text(json.dumps({{"url": url, "md5": md5}}))
"""


def make_conda(folder: Path, base: str) -> tuple[Path, Path]:
    """Return the stand-in for micromamba, and the file that notes how it was called."""
    log = folder / "conda-calls"
    program = folder / "micromamba"
    program.write_text(CONDA.format(python=sys.executable, log=str(log), base=base))
    program.chmod(0o755)
    return program, log
