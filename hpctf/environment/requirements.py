"""Reading pip requirements, as people and requirements files write them.

Source of the grammar: PEP 508 (through `packaging`), and pip's requirements file format. What hpctf
cannot honour is refused with its file and line before anything is built.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.absence import absence_of
from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.site.yaml_files import NotReadable, named, parse_toml, read_text

if TYPE_CHECKING:
    from packaging.requirements import Requirement


@dataclass(frozen=True)
class Sources:
    """Where pip packages come from, as requirements files say it; the site's come on top.

    ``no_binary`` and ``only_binary`` are names of packages, or ``:all:``.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requirements:
    """What was asked of pip, in one form.

    Parameters
    ----------
    lines
        Requirements as pip reads them; local paths are absolute.
    constraints
        The same, from ``-c`` files.
    local
        Folders and files of this machine among the lines, each with its content's digest.
    """

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    local: tuple[tuple[str, str], ...] = ()
    hashes: bool = False

    def of(self, names: Iterable[str]) -> list[Requirement]:
        """Return the requirements on packages of these names (in lower case, with ``-``)."""
        wanted = set(names)
        return [found for found in map(requirement_of, self.lines) if name_of(found) in wanted]

    def without(self, names: Iterable[str]) -> Requirements:
        """Return all but the requirements on packages of these names."""
        dropped = set(names)
        kept = [line for line in self.lines if name_of(requirement_of(line)) not in dropped]
        return replace(self, lines=tuple(kept))


def name_of(requirement: Requirement) -> str:
    """Return a package's name in the one form that all of its spellings have (PEP 503)."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(requirement.name)


def requirement_of(line: str) -> Requirement:
    """Return the requirement of a line that has been read before."""
    from packaging.requirements import Requirement

    return Requirement(line.partition(" --hash=")[0])


class Reader:
    """Collects the requirements of lists and files.

    Its methods raise `UsageError` for a line that is no requirement, and for options that hpctf
    cannot honour: with file and line.
    """

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._constraints: dict[str, None] = {}
        self._local: dict[str, str] = {}
        self._sources = Sources()
        self._hashes = False
        self._open: list[Path] = []

    def found(self) -> Requirements:
        """Return what has been read."""
        return Requirements(
            tuple(self._lines),
            tuple(self._constraints),
            self._sources,
            tuple(sorted(self._local.items())),
            self._hashes,
        )

    def packages(self, packages: Iterable[str], base: Path, what: str = "pip_packages") -> None:
        """Read a list of requirements; `base` is the folder that local paths are seen from."""
        for position, text in enumerate(packages):
            where = f"{what}[{position}]"
            if not text.strip() or text.strip().startswith("-"):
                raise UsageError(
                    f"{where} is {shown(text)}, which names no package.",
                    "pip's options belong in a requirements file: pip_requirements_file.",
                )
            self.line(text.strip(), where, base)

    def entry(self, text: str, where: str, base: Path, constraint: bool = False) -> None:
        """Read a line of a requirements file, or an item of a conda file's pip section."""
        if text.startswith("-"):
            self._option(text, where, base, constraint)
        else:
            self.line(text, where, base, constraint)

    def file(self, path: Path, constraint: bool = False, asked_by: str = "") -> None:
        """Read a requirements file, and those that it includes."""
        path = Path(os.path.abspath(path))
        if path in self._open:
            raise UsageError(f"{asked_by}: {named(path)} includes itself.", "Remove that -r line.")
        try:
            text = read_text(path)
        except FileNotFoundError:
            by = f"{asked_by}: the" if asked_by else "The"
            raise UsageError(
                f"{by} requirements file {named(path)} {absence_of(path)}.", "Check the path."
            ) from None
        except NotReadable as error:
            raise UsageError(error.told("requirements file", path)) from None
        self._open.append(path)
        for number, line in _joined_lines(text):
            self.entry(line, named(path, number), path.parent, constraint)
        self._open.pop()

    def line(self, text: str, where: str, base: Path, constraint: bool = False) -> None:
        """Read one requirement."""
        line, *options = re.split(r"\s+(?=--)", text.strip())
        hashes = sorted(_hash_of(option, where) for option in options)
        if _is_path(line):
            path = _path_of(line, base)
            self._local[path] = digest_of(path, where)
            name = f"{_package_at(path, where)}{_extras_of(line)}"
            requirement = f"{name} @ {Path(path).as_uri()}"
        else:
            requirement = self._checked(line, where, base)
        whole = " ".join([requirement, *hashes])
        (self._constraints if constraint else self._lines)[whole] = None
        self._hashes = self._hashes or bool(hashes)

    def _checked(self, line: str, where: str, base: Path) -> str:
        from packaging.requirements import InvalidRequirement, Requirement

        if re.match(r"[a-z+]+://", line):
            raise UsageError(
                f"{where}: {shown(line)} does not say which package it is.", f"Write: NAME @ {line}"
            )
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UsageError(
                f"{where}: {shown(line)} is no requirement: {reason}.",
                "Requirements look like NAME, NAME==1.2 or NAME[extra]>=1,<2 (PEP 508).",
            ) from None
        if requirement.url and requirement.url.startswith("file:"):
            path = _path_of(requirement.url, base)
            requirement.url = Path(path).as_uri()
            self._local[path] = digest_of(path, where)
        return str(requirement)

    def _option(self, line: str, where: str, base: Path, constraint: bool) -> None:
        name, value = _option_and_value(line, where)
        sources = self._sources
        if name in ("-r", "--requirement", "-c", "--constraint"):
            if "://" in value:
                raise UsageError(
                    f"{where}: {line}: only files of this machine are read.",
                    "Download it, and name the file.",
                )
            limits = constraint or name in ("-c", "--constraint")
            self.file(base / os.path.expanduser(value), limits, where)
        elif name in ("-i", "--index-url"):
            self._sources = replace(sources, index_url=value)
        elif name in _FLAGS:
            self._sources = replace(sources, **{_FLAGS[name]: True})  # type: ignore[arg-type]
        elif name in _LISTS:
            if name in ("-f", "--find-links") and "://" not in value:
                value = str(base / os.path.expanduser(value))
            values = {**dict.fromkeys(getattr(sources, _LISTS[name])), value: None}
            changes: dict[str, Any] = {_LISTS[name]: tuple(values)}
            self._sources = replace(sources, **changes)
        elif name in ("-e", "--editable"):
            raise UsageError(
                f"{where}: an editable package changes after the environment is named and built.",
                f"Leave out {name} to install it as it is now, or put it into source_directory.",
            )
        elif name not in ("--prefer-binary", "--require-hashes"):
            raise UsageError(
                f"{where}: hpctf does not know the option {shown(name)}."
                f"{did_you_mean(name, _OPTIONS)}",
                f"It reads: {', '.join(_OPTIONS)}, and --hash behind a requirement.",
            )


_OPTIONS = [
    *("-r", "-c", "--index-url", "--extra-index-url", "--find-links", "--no-index", "--pre"),
    *("--no-binary", "--only-binary", "--prefer-binary", "--require-hashes"),
]
_BARE = ("--no-index", "--pre", "--prefer-binary", "--require-hashes")
_FLAGS = {"--no-index": "no_index", "--pre": "pre"}
_LISTS = {
    "--extra-index-url": "extra_index_urls",
    "-f": "find_links",
    "--find-links": "find_links",
    "--no-binary": "no_binary",
    "--only-binary": "only_binary",
}
"""Options, by the field of `Sources` that they set or add to."""


def _joined_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) of what is neither empty nor a comment; a ``\\`` joins lines."""
    start, pending = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        start = start if pending else number
        comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not comment:
            pending += raw[:-1] + " "
            continue
        line = re.sub(r"(^|\s+)#.*$", "", pending + ("" if comment else raw)).strip()
        pending = ""
        if line:
            yield start, _with_variables(line)
    if pending.strip():
        yield start, _with_variables(pending.strip())


def _with_variables(line: str) -> str:
    """Return a line with ``${NAME}`` replaced, as pip does; an unset one stays."""
    return re.sub(r"\$\{([A-Z0-9_]+)\}", lambda m: os.environ.get(m[1], m[0]), line)


def _option_and_value(line: str, where: str) -> tuple[str, str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(
            f"{where}: {shown(line)} cannot be read: {error}.",
            "Write it as pip's requirements files have it: name==version.",
        ) from None
    name, equals, value = words[0].partition("=")
    if not equals and re.match(r"-[a-z].", name) and not name.startswith("--"):
        name, value = name[:2], name[2:]  # -rother.txt
    rest = ([value] if value else []) + words[1:]
    if len(rest) != (0 if name in _BARE else 1):
        raise UsageError(f"{where}: {shown(line)} must be one option with its value.")
    return name, "".join(rest)


def _hash_of(option: str, where: str) -> str:
    if not re.match(r"--hash[= ][a-z0-9]+:[0-9a-f]+$", option):
        raise UsageError(f"{where}: behind a requirement only --hash=ALGORITHM:DIGEST may stand.")
    return option.replace("--hash ", "--hash=")


def _is_path(line: str) -> bool:
    bare = line.partition("[")[0]
    return bare.startswith((".", "/", "~", "file:")) or (
        " @ " not in line
        and (bare.endswith(".whl") or "/" in bare.partition("@")[0])
        and "://" not in bare
    )


def _extras_of(line: str) -> str:
    found = re.search(r"\[[\w, .-]*\]$", line)
    return found[0] if found else ""


def _path_of(line: str, base: Path) -> str:
    from urllib.parse import unquote, urlparse

    bare = line.removesuffix(_extras_of(line)).strip()
    if bare.startswith("file:"):
        bare = unquote(urlparse(bare).path)
    return os.path.abspath(base / os.path.expanduser(bare))


_IGNORED = {"__pycache__", ".git", "build", "dist", ".venv", ".mypy_cache", ".pytest_cache"}


def digest_of(path: str, where: str = "local package") -> str:
    """Return the digest of a local package's content: a file's, or that of the files of a folder
    that a build could read."""
    digest = hashlib.sha256()
    try:
        if not os.path.isdir(path):
            digest.update(Path(path).read_bytes())
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(
                name for name in folders if name not in _IGNORED and not name.endswith(".egg-info")
            )
            for name in sorted(files):
                file = os.path.join(folder, name)
                if os.path.isfile(file):
                    relative = os.path.relpath(file, path)
                    digest.update(f"{relative}\0{os.path.getsize(file)}\0".encode(errors="replace"))
                    digest.update(Path(file).read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"{where}: {shown(path)} {absence_of(path)}.",
            "Name a file, relative to the requirements file's folder.",
        ) from None
    except OSError as error:
        raise UsageError(
            f"{where}: {shown(path)} cannot be read: {error.strerror}.", "Make it readable for you."
        ) from None
    return digest.hexdigest()


def _package_at(path: str, where: str) -> str:
    if path.endswith(".whl"):
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        try:
            return str(parse_wheel_filename(os.path.basename(path))[0])
        except InvalidWheelFilename:
            raise UsageError(
                f"{where}: {shown(path)} is not a wheel's name.",
                "Keep the name that the wheel was built with: "
                "name-version-python-abi-platform.whl.",
            ) from None
    name = _project_name(path) if os.path.isdir(path) else None
    if name is None:
        raise UsageError(
            f"{where}: {shown(path)} does not say which package it is.",
            f"Write: NAME @ {Path(path).as_uri()}",
        )
    return name


def _project_name(folder: str) -> str | None:
    project = os.path.join(folder, "pyproject.toml")
    if os.path.isfile(project):
        try:
            name = parse_toml(read_text(Path(project))).get("project", {}).get("name")
        except NotReadable:
            return None
        if name:
            return str(name)
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(os.path.join(folder, "setup.cfg"), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return None
    return parser.get("metadata", "name", fallback=None)
