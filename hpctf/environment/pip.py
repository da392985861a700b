"""Virtual environments and what is installed in them, with uv or with pip."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpctf.common.files import PRIVATE_FILE, write_atomic
from hpctf.environment.build_commands import Commands
from hpctf.environment.configuration import toml_lines
from hpctf.environment.indexes import Indexes
from hpctf.errors import BuildError


@dataclass(frozen=True)
class Pip:
    """The program that installs pip packages.

    Parameters
    ----------
    cache
        Where uv keeps what it has downloaded; beside the environments, so that it can link files
        rather than copy them.
    work
        Takes the files that it reads its requirements from.
    """

    kind: Literal["uv", "pip"]
    commands: Commands
    indexes: Indexes
    cache: Path
    work: Path

    def make(self, folder: Path, interpreter: str, seed: bool) -> Path:
        """Make a virtual environment and return its Python; `seed` puts pip itself into it."""
        what = f"Making a virtual environment with {interpreter}"
        if self.kind == "uv":
            words = [uv(), "venv", "--no-project", "--no-python-downloads", "--python", interpreter]
            self._run([*words, folder], what)
        else:
            self._run([interpreter, "-I", "-m", "venv", folder], what)
        python = folder / "bin" / "python"
        if seed and self.kind == "uv":
            self.install(python, ["pip"], "Installing pip")
        return python

    def install(
        self,
        python: Path,
        requirements: Sequence[str],
        what: str,
        *,
        constraints: Sequence[str] = (),
        instead: Sequence[str] = (),
        dependencies: bool = True,
        from_indexes: bool = True,
    ) -> None:
        """Install packages.

        Parameters
        ----------
        instead
            Packages that no dependency may bring in, since others stand for them.
        dependencies
            Whether what the packages need is installed, too.
        """
        if not requirements:
            return
        private = self.indexes.private if from_indexes else ()
        lines = [*private, *requirements]
        words: list[str | Path] = ["-r", self.file("requirements.txt", lines)]
        if constraints:
            words += ["-c", self.file("constraints.txt", constraints)]
        if not dependencies:
            words += ["--no-deps"]
        if from_indexes:
            words += self.indexes.words
        if self.kind == "uv":
            if instead and dependencies:
                never = [f"{name} ; python_version < '3'" for name in instead]
                words += ["--override", self.file("overrides.txt", never)]
            words = ["--python", python, "--no-progress", *words]
            local = [line.partition(" @ ")[0] for line in requirements if " @ file:" in line]
            variables = self._variables()
            # uv would take what it has built of an older content of these folders.
            if "--offline" in self.indexes.words and local:
                variables["UV_CACHE_DIR"] = str(self.work / "uv")  # it refuses to refresh then
            else:
                for name in local:
                    words += ["--refresh-package", name.partition("[")[0]]
            self.commands.run([uv(), "pip", "install", *words], what, variables)
        else:
            words = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", *words]
            self._run([python, "-I", "-m", "pip", "install", *words], what)

    def freeze(self, python: Path) -> list[str]:
        """Return the exact versions of all that is installed, one a line, sorted."""
        what = "Listing what is installed"
        if self.kind == "uv":
            said = self._run([uv(), "pip", "freeze", "--python", python], what, answers=True)
        else:
            said = self._run([python, "-I", "-m", "pip", "freeze", "--all"], what, answers=True)
        lines = {line.strip() for line in said.splitlines()}
        return sorted(line for line in lines if line and not line.startswith(("#", "-")))

    def _variables(self) -> dict[str, str]:
        variables = dict(self.indexes.variables)
        if self.kind == "uv":
            variables["UV_CACHE_DIR"] = self.commands.variables.get("UV_CACHE_DIR", str(self.cache))
            variables["UV_NO_PROGRESS"] = "1"
            variables["UV_CONFIG_FILE"] = str(self.file("uv.toml", toml_lines(self.indexes.uv)))
        return variables

    def _run(self, words: Sequence[str | Path], what: str, answers: bool = False) -> str:
        return self.commands.run(words, what, self._variables(), answers=answers)

    def file(self, name: str, lines: Iterable[str]) -> Path:
        """Write lines for a program to read, some of which may hold passwords."""
        path = self.work / name
        write_atomic(path, "".join(f"{line}\n" for line in lines), PRIVATE_FILE)
        return path


def uv() -> str:
    """Return the path of the uv that is installed with hpctf, or the one on PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    if os.access(beside, os.X_OK):
        return beside
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise BuildError(
            "There is no uv here to build environments with.",
            "Install it (pip install uv), or let the site build with pip (environments.pip: pip).",
        )
    return found
