"""Azure ML's datastores: a folder of the shared file system, and paths in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hpctf.azureml.refusing import OfSite, refuses
from hpctf.common.files import PRIVATE_UMASK, cannot_write, make_folder
from hpctf.common.processes import user_name
from hpctf.errors import UsageError, shown
from hpctf.runs.root import runs_root_of

FOLDER = ".azureml-"
"""What the folder of a person's datastore in the runs root begins with: no experiment can be
called so."""

DEFAULT_DATASTORE = "workspaceblobstore"

_DEFAULTS = (DEFAULT_DATASTORE, "workspacefilestore", "workspaceartifactstore")


class OnDisk:
    """A path that scripts get as an argument or as an input.

    The script finds an input of a `name` in HPCTF_INPUT_<NAME>, too.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.on_disk = path
        self.name = name

    def __str__(self) -> str:
        return str(self.on_disk)

    def __fspath__(self) -> str:
        return str(self.on_disk)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.on_disk)!r})"

    def checked(self) -> str:
        """Return the path; raise UsageError if nothing is there."""
        if not os.path.lexists(self.on_disk):
            raise UsageError(
                f"The data {shown(str(self.on_disk))} do not exist.",
                "Copy them there, or name the path where they are: "
                "Dataset.File.from_files('/path').",
            )
        return str(self.on_disk)


_Self = TypeVar("_Self", bound="Mounted")


class Mounted(OnDisk):
    """A path that scripts read where it is, however Azure ML would have brought it to them."""

    def as_mount(self: _Self, path_on_compute: str | None = None, overwrite: bool = False) -> _Self:
        """Return it: files are on the shared file system already."""
        return self

    as_download = as_mount


@refuses("DataReference")
@dataclass(eq=False, repr=False)
class DataReference(Mounted):
    """A path in a datastore."""

    datastore: Datastore | None = None
    data_reference_name: str | None = None
    path_on_datastore: str | None = None
    mode: str = "mount"
    path_on_compute: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        place = _place(self.datastore, self.path_on_datastore)
        super().__init__(place, self.data_reference_name)

    def path(
        self, path: str | None = None, data_reference_name: str | None = None
    ) -> DataReference:
        """Return a path below this one."""
        below = os.path.join(self.path_on_datastore or "", path or "")
        return DataReference(self.datastore, data_reference_name, below)

    def to_config(self) -> DataReference:
        """Return it, for ``RunConfiguration.data_references``."""
        return self

    @staticmethod
    def create(
        data_reference_name: str | None = None,
        datapath: DataPath | None = None,
        datapath_compute_binding: object = None,
    ) -> DataReference:
        """Return what a `DataPath` names."""
        if datapath is None:
            raise UsageError("DataReference.create() needs a datapath.", "Pass a DataPath(...).")
        return datapath.create_data_reference(data_reference_name)


@dataclass(eq=False)
class DataPathComputeBinding:
    """How a job is to get data: files are on the shared file system, and need no way to it."""

    mode: str = "mount"
    path_on_compute: str | None = None
    overwrite: bool = False
    is_input: bool = True


@refuses("DataPath")
@dataclass(eq=False, repr=False)
class DataPath(OnDisk):
    """A path in a datastore, or what `Run._get_outputs_datapath` returns."""

    datastore: Datastore | None = None
    path_on_datastore: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        super().__init__(_place(self.datastore, self.path_on_datastore), self.name)

    @property
    def datastore_name(self) -> str | None:
        """The datastore's name."""
        return None if self.datastore is None else self.datastore.name

    def create_data_reference(
        self, data_reference_name: str | None = None, datapath_compute_binding: object = None
    ) -> DataReference:
        """Return the path as a `DataReference`."""
        name = data_reference_name or self.name
        return DataReference(self.datastore, name, self.path_on_datastore)

    @staticmethod
    def create_from_data_reference(data_reference: DataReference) -> DataPath:
        """Return what a `DataReference` names."""
        return DataPath(None, str(data_reference.on_disk), data_reference.name)


@refuses("Datastore")
class Datastore:
    """A folder of the shared file system, in the runs root.

    Raises
    ------
    UsageError
        It is not the default datastore: a cluster has no others.
    """

    def __init__(self, workspace: OfSite, name: str | None = None) -> None:
        if name is not None and name not in _DEFAULTS:
            raise UsageError(
                f"There is no datastore {shown(name)}: on a cluster, jobs read data from files.",
                "Name the path: Dataset.File.from_files('/path'), or inputs={'name': '/path'}.",
            )
        self.workspace = workspace
        self.name = name or DEFAULT_DATASTORE
        self.datastore_type = "folder"
        self.folder = runs_root_of(workspace.site) / f"{FOLDER}{user_name()}"

    def __repr__(self) -> str:
        return f"Datastore(name={self.name!r}, folder={str(self.folder)!r})"

    @staticmethod
    def get(workspace: OfSite, datastore_name: str | None = None) -> Datastore:
        """Return the default datastore."""
        return Datastore(workspace, datastore_name)

    get_default = get

    def place(self, path: str | None) -> Path:
        """Return where a path of the datastore is; one that leads out is refused."""
        inside = os.path.normpath(os.path.join("/", path or ""))
        if ".." in (path or "").split("/"):
            raise UsageError(
                f"The path {shown(path)} leads out of the datastore.",
                "Name a path inside it, without '..'.",
            )
        return Path(os.path.normpath(f"{self.folder}{inside}"))

    def path(
        self, path: str | None = None, data_reference_name: str | None = None
    ) -> DataReference:
        """Return a path in the datastore."""
        return DataReference(self, data_reference_name, path)

    def as_mount(self, path_on_compute: str | None = None) -> DataReference:
        """Return the datastore's folder."""
        return self.path()

    as_download = as_mount

    def upload(
        self,
        src_dir: str,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Copy all files below a folder into the datastore."""
        files = [str(path) for path in sorted(Path(src_dir).rglob("*")) if path.is_file()]
        if not os.path.isdir(src_dir):
            raise UsageError(
                f"src_dir {shown(src_dir)} is not a folder.",
                "To upload single files, use upload_files([...]).",
            )
        return self.upload_files(files, src_dir, target_path, overwrite, show_progress)

    def upload_files(
        self,
        files: Iterable[str],
        relative_root: str | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Copy files into the datastore, with their paths from `relative_root` on."""
        top = self.place(target_path)
        for file in files:
            below = os.path.relpath(file, relative_root or os.path.dirname(file))
            target = self.place(os.path.join(target_path or "", below))
            copy_file(Path(file), target, overwrite, self)
        _make(top, self.folder)
        return self.path(target_path)

    def download(
        self,
        target_path: str,
        prefix: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> int:
        """Copy the files whose paths begin with `prefix`; return how many there were."""
        number = 0
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if path.is_file() and name.startswith((prefix or "").lstrip("./")):
                copy_file(path, Path(target_path) / name, overwrite)
                number += 1
        return number


def _place(datastore: Datastore | None, path: str | None) -> Path:
    return Path(path or "") if datastore is None else datastore.place(path)


def copy_file(source: Path, target: Path, overwrite: bool, within: Datastore | None = None) -> Path:
    """Copy a file unless it is there; return where it is."""
    if target.exists() and not overwrite:
        return target
    if not os.access(source, os.R_OK):
        raise UsageError(
            f"{shown(str(source))} cannot be read, or is not there.",
            "Name a file or folder that you can read.",
        )
    try:
        if within is None:
            target.parent.mkdir(parents=True, exist_ok=True)
        else:
            _make(target.parent, within.folder)
        shutil.copyfile(source, target)
    except OSError as error:
        raise cannot_write(target, error) from None
    return target


def _make(folder: Path, top: Path) -> None:
    """Make a folder of a datastore and those above it, private as runs are."""
    for path in reversed([folder, *folder.parents]):
        if path.is_dir():
            continue
        if path == top or path.is_relative_to(top):
            make_folder(path, PRIVATE_UMASK)
        else:
            path.mkdir(exist_ok=True)
