"""What this machine has besides Slurm: environment modules, an MPI, network interfaces."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from hpctf.environment.toolchain import mpi_in
from hpctf.errors import SchedulerError
from hpctf.scheduler import commands

_MARK = "hpctf-modules-begin"
_END = "hpctf: that was all"
_ASK_MODULES = (
    f'echo; echo {_MARK}; type module >/dev/null 2>&1 || exit 0; echo "${{LMOD_VERSION:+lmod}}"; '
    f"module -t avail 2>&1; echo; echo {_END}"
)
_MPI = re.compile(r"^(open|cray-|intel-?|i|mva|hpcx-?)?mp(i|ich|t)[0-9]?\b", re.IGNORECASE)
_KINDS = {"Open MPI": "openmpi", "Intel(R) MPI": "intel", "Version": "mpich"}
_CUDA = re.compile(r"^(cuda|cudatoolkit|cudnn|nccl|rocm|nvhpc)\b", re.IGNORECASE)
_INFINIBAND = "32"
"""ARPHRD_INFINIBAND (linux/if_arp.h), which /sys/class/net/*/type says."""


@dataclass(frozen=True)
class Modules:
    """Environment modules: ``kind`` is lmod or environment-modules, empty where there are none."""

    kind: str = ""
    names: tuple[str, ...] = ()

    @property
    def mpi(self) -> tuple[str, ...]:
        """Those that are named like an MPI, such as ``openmpi/4.1.4``."""
        return tuple(name for name in self.names if _MPI.match(_last_word(name)))

    @property
    def cuda(self) -> tuple[str, ...]:
        """Those that are named like CUDA and what goes with it."""
        return tuple(name for name in self.names if _CUDA.match(_last_word(name)))


@dataclass(frozen=True)
class Mpi:
    """The MPI on PATH: ``kind`` is openmpi, mpich, intel or other, empty where there is none.

    ``speaks`` are the plugins of srun that its processes can be started by, as far as it says.
    """

    kind: str = ""
    version: str = ""
    speaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Interface:
    """A network interface of this machine."""

    name: str
    up: bool
    infiniband: bool


def find_modules(timeout: float) -> Modules:
    """Ask a login shell for the modules that it offers; `SchedulerError` says that it does not
    answer."""
    return parse_modules(commands.run(["bash", "-lc", _ASK_MODULES], timeout))


def parse_modules(text: str) -> Modules:
    """Read what the login shell said after its profile: the kind, and ``module -t avail``."""
    _, found, answer = text.rpartition(f"{_MARK}\n")
    lines = answer.partition(f"\n{_END}\n")[0].splitlines()
    if not found or not lines:
        return Modules()
    names = [re.sub(r"[(<][^)>]*[)>]", "", line).strip().rstrip("/") for line in lines[1:]]
    kept = [name for name in names if name and not name.endswith(":") and " " not in name]
    return Modules(lines[0] or "environment-modules", tuple(dict.fromkeys(kept)))


def _last_word(name: str) -> str:
    """Return the part of a module's name that says what it is: ``openmpi`` of
    ``mpi/openmpi/4.1``, ``openmpi-x86_64`` of ``mpi/openmpi-x86_64``."""
    parts = [part for part in name.split("/") if not part[:1].isdigit()]
    return parts[-1] if parts else name


def find_mpi(timeout: float) -> Mpi:
    """Ask the mpirun on PATH what it is; `SchedulerError` says that it does not answer."""
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        return Mpi()
    said = commands.run([mpirun, "--version"], timeout, errors_too=True)
    info = ""
    if shutil.which("ompi_info"):
        with contextlib.suppress(SchedulerError):
            info = commands.run(["ompi_info", "--parsable"], timeout)
    return Mpi(*parse_mpi(said, info))


def parse_mpi(said: str, info: str = "") -> tuple[str, str, tuple[str, ...]]:
    """Return kind, version and srun's plugins of ``mpirun --version`` and ``ompi_info``."""
    name, version = mpi_in(said)
    kind = _KINDS.get(name, "other")
    return kind, version, _speaks(kind, version, info) if version else ()


def _speaks(kind: str, version: str, info: str) -> tuple[str, ...]:
    """Return the plugins of srun that an MPI understands. Open MPI 5 knows PMIx alone; 4 has
    components for it (``pmix3x``, or ``ext3x`` for a PMIx of the system's) and for Slurm's own
    PMI-2 (``s2``), as it was built. MPICH and Intel MPI take PMI-2 without more."""
    if kind != "openmpi":
        return ("pmi2",)
    if int(version.partition(".")[0]) >= 5:
        return ("pmix",)
    components = set(re.findall(r"^mca:pmix:([^:]+):", info, re.MULTILINE))
    pmix = any(re.match(r"(ext|pmix)\d", name) for name in components)
    return (*(["pmix"] if pmix else []), *(["pmi2"] if "s2" in components else []))


def find_interfaces(root: Path = Path("/sys/class/net")) -> tuple[Interface, ...]:
    """Return this machine's network interfaces but the loopback, by name."""
    found = []
    for folder in sorted(root.glob("*")):
        state, kind = _read(folder / "operstate"), _read(folder / "type")
        if folder.name != "lo" and folder.is_dir():
            found.append(Interface(folder.name, state == "up", kind == _INFINIBAND))
    return tuple(found)


RUNTIMES = ("apptainer", "singularity", "ch-run")
"""Programs that run containers."""


def ephemeral_ports(path: str = "/proc/sys/net/ipv4/ip_local_port_range") -> tuple[int, int]:
    """Return the ports that Linux gives out by itself (ip(7)); its default where it is hidden."""
    words = _read(path).split()
    return (int(words[0]), int(words[1])) if len(words) == 2 else (32768, 60999)


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
