"""Azure ML's data sets: files of the shared file system, named by their paths.

``as_mount()`` and ``as_download()`` give the path to the script.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hpctf.azureml.datastore import Datastore, Mounted, OnDisk, copy_file
from hpctf.azureml.refusing import OfSite, refuses
from hpctf.errors import UsageError, shown

_ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")
_PATTERN = re.compile(r"[*?\[]")


class FileDatasetFactory:
    """``Dataset.File``: data sets of files."""

    @staticmethod
    def from_files(
        path: Any, validate: bool = True, partition_format: str | None = None, is_file: bool = False
    ) -> FileDataset:
        """Return the data set of what paths name; ``*`` and ``**`` stand for more of them.

        Parameters
        ----------
        path
            A path, a `DataPath` or `DataReference`, ``(datastore, path)``, or a list of these.

        Raises
        ------
        UsageError
            An address: nodes of clusters have no Internet as a rule; or nothing is there.
        """
        if partition_format is not None:
            raise UsageError(
                "from_files() has no partition_format in hpctf.",
                "Read the parts of the paths in the script.",
            )
        given = path if isinstance(path, list) else [path]
        return FileDataset([_place(one) for one in given])

    @staticmethod
    def upload_directory(
        src_dir: str,
        target: Any,
        pattern: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> FileDataset:
        """Copy a folder into a datastore, and return the data set of it."""
        datastore, path = target if isinstance(target, tuple) else (target.datastore, str(target))
        found = glob.glob(f"{src_dir}/{pattern or '**'}", recursive=True)
        files = [name for name in found if os.path.isfile(name)]
        return FileDataset([datastore.upload_files(files, src_dir, path, overwrite).on_disk])


@refuses("TabularDatasetFactory")
class TabularDatasetFactory:
    """``Dataset.Tabular``: refused, name by name."""


@refuses("FileDataset")
class FileDataset:
    """Files by their paths: those of files and folders, and patterns of them."""

    def __init__(self, places: Sequence[Path]) -> None:
        self.places = tuple(places)
        self.name: str | None = None
        self.description: str | None = None
        self.tags: dict[str, str] = {}
        self.version: int | None = None
        missing = [place for place in self.places if not _matches(place)]
        if missing or not self.places:
            what = shown(str(missing[0])) if missing else "no path"
            raise UsageError(
                f"Dataset.File.from_files(): {what} does not exist.",
                "Name files or folders that the cluster's nodes can read.",
            )

    def __repr__(self) -> str:
        return f"FileDataset({[str(place) for place in self.places]})"

    @property
    def on_disk(self) -> Path:
        """Where it is: the one file, or the folder of all files."""
        if len(self.places) == 1 and not _PATTERN.search(str(self.places[0])):
            return self.places[0]
        return Path(os.path.commonpath([str(_fixed(place)) for place in self.places]))

    def files(self) -> dict[str, Path]:
        """Return all files by their paths from `on_disk` on."""
        top = self.on_disk if self.on_disk.is_dir() else self.on_disk.parent
        found: dict[str, Path] = {}
        for place in self.places:
            for match in _matches(place):
                inside = match.rglob("*") if match.is_dir() else [match]
                files = [path for path in inside if path.is_file()]
                found |= {str(path.relative_to(top)): path for path in files}
        return dict(sorted(found.items()))

    def to_path(self) -> list[str]:
        """Return the files' paths in the data set."""
        return [f"/{name}" for name in self.files()]

    def download(
        self,
        target_path: str | None = None,
        overwrite: bool = False,
        ignore_not_found: bool = False,
    ) -> list[str]:
        """Copy all files, and return where they are now."""
        top = Path(target_path or ".")
        files = self.files().items()
        return [str(copy_file(path, top / name, overwrite)) for name, path in files]

    @contextmanager
    def mount(self, mount_point: str | None = None) -> Iterator[OnDisk]:
        """Enter a context whose ``mount_point`` is where the files are."""
        mounted = OnDisk(self.on_disk)
        mounted.mount_point = str(self.on_disk)  # type: ignore[attr-defined]
        yield mounted

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """Return the path for the script, also found in HPCTF_INPUT_<NAME>."""
        return DatasetConsumptionConfig(name, self)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return the path for the script: it reads the files where they are."""
        return DatasetConsumptionConfig(None, self)

    as_download = as_mount

    def register(
        self,
        workspace: OfSite,
        name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        create_new_version: bool = False,
    ) -> FileDataset:
        """Give it a name, by which `Dataset.get_by_name` finds it in this Python session."""
        self.name, self.description, self.version = name, description, 1
        self.tags = dict(tags or {})
        Dataset.registered[name] = self
        return self


@refuses("DatasetConsumptionConfig")
@dataclass(eq=False, repr=False)
class DatasetConsumptionConfig(Mounted):
    """The path of a data set, as a script gets it."""

    name: str | None
    dataset: FileDataset
    mode: str = "mount"
    path_on_compute: str | None = None

    def __post_init__(self) -> None:
        super().__init__(self.dataset.on_disk, self.name)


@refuses("Dataset")
class Dataset:
    """Data sets: of files, for `hpctf.azureml.Dataset.File.from_files`."""

    File = FileDatasetFactory
    Tabular = TabularDatasetFactory
    registered: ClassVar[dict[str, FileDataset]] = {}
    """Those that `FileDataset.register` has named, in this Python session."""

    @staticmethod
    def get_by_name(workspace: OfSite, name: str, version: Any = "latest") -> FileDataset:
        """Return a data set that was registered in this Python session.

        Raises
        ------
        UsageError
            There is none of that name: hpctf keeps no register of data sets.
        """
        if name not in Dataset.registered:
            raise UsageError(
                f"No data set {shown(name)} was registered in this session, and hpctf keeps no "
                "register of data sets.",
                "Name its files: Dataset.File.from_files('/path').",
            )
        return Dataset.registered[name]

    @staticmethod
    def get_all(workspace: OfSite) -> dict[str, FileDataset]:
        """Return the data sets that were registered in this Python session, by name."""
        return dict(Dataset.registered)


def is_address(text: str) -> bool:
    """Whether a text is the address of a file elsewhere, and not a path."""
    return _ADDRESS.match(text) is not None


def _place(given: Any) -> Path:
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Datastore):
        return given[0].place(str(given[1]))
    if isinstance(given, OnDisk):
        return given.on_disk
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(
            f"Dataset.File.from_files() takes paths, not {shown(given)}.",
            "Name files or folders that the cluster's nodes can read.",
        )
    text = os.fspath(given)
    if is_address(text):
        raise UsageError(
            f"Dataset.File.from_files() takes paths, but {shown(text)} is an address.",
            "Download it once to a folder that the nodes can read, and name that folder: "
            f"wget -P DIR {text}",
        )
    return Path(os.path.abspath(os.path.expanduser(text)))


def _fixed(place: Path) -> Path:
    """Return the folder above the first part of a path that is a pattern; of a file, its own."""
    for above in reversed([place, *place.parents]):
        if _PATTERN.search(above.name):
            return above.parent
    return place if place.is_dir() else place.parent


def _matches(place: Path) -> list[Path]:
    if place.exists():
        return [place]
    return [Path(name) for name in sorted(glob.glob(str(place), recursive=True))]
