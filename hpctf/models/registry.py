"""The registry of models: folders on the shared file system, and no server.

``<models root>/<name>/<number>`` is a version, which nobody changes once it is there;
``@<alias>`` beside it leads to one (docs/models.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpctf.common.files import cannot_write, make_folder, write_json
from hpctf.common.folders import remove_tree
from hpctf.common.notes import notify
from hpctf.common.numbered import hidden_name, numbers, remove_abandoned, take_number
from hpctf.common.processes import name_of_user
from hpctf.common.trusted_path import ONLY_ME, Trusted, check_place
from hpctf.errors import (
    ModelNotFound,
    RunFolderError,
    UnreadableModel,
    UsageError,
    did_you_mean,
)
from hpctf.models import files, origin, sources
from hpctf.models.aliases import aliases, remove_alias, set_alias, version_of
from hpctf.models.names import LATEST, Reference, check_model_name
from hpctf.models.record import OfRun, Record, kind_of
from hpctf.models.root import FOLDER, models_root_of
from hpctf.models.version import Version, is_made_by
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import owner_of
from hpctf.runs.status.query import look
from hpctf.site.loading import load_site
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by

_OF_TENSORFLOW = ("keras", "h5", "saved_model")


@dataclass(frozen=True)
class About:
    """What a person says of a model as they register it."""

    framework: str | None = None
    framework_version: str | None = None
    description: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[str, list[str]] = field(default_factory=dict)
    sample_input: str | None = None
    sample_output: str | None = None
    resources: Mapping[str, Any] | None = None


NOTHING_SAID = About()


@dataclass(frozen=True)
class Registry:
    """The models of one models root.

    ``umask`` is what they are made with, ``trusted`` who besides the person may exchange what lies
    on the way to them.
    """

    root: Path
    umask: int
    trusted: Trusted = ONLY_ME

    def register_run(
        self, name: str, run: RunFolder, path: str, about: About = NOTHING_SAID
    ) -> Version:
        """Register what a run has kept under a name, such as ``outputs/model``, as `register` does.

        Raises
        ------
        UsageError
            The run has no file or folder of that name.
        """
        check_model_name(name)
        state = look(run)
        source = sources.of_run(run, path, state.final)
        return self.register(name, source, about, run, origin.origin_of(run, state.state))

    def register(
        self,
        name: str,
        source: sources.Source,
        about: About = NOTHING_SAID,
        run: RunFolder | None = None,
        of_run: OfRun | None = None,
    ) -> Version:
        """Register a model as the next version of its name, and return that.

        Raises
        ------
        UsageError
            The name is not one, or a file changes meanwhile: no version was made.
        UntrustedPath
            Everybody may exchange the folder.
        RunFolderError
            The file system refuses.
        """
        folder = self.root / check_model_name(name)
        check_place(folder, "The folder of models", self.trusted)
        record = _record(name, source, about, run, of_run)
        made = folder / hidden_name()
        try:
            self._make_above(folder)
            remove_abandoned(folder)
            make_folder(made, self.umask)
            self._fill(made, record, source, run)
            number = take_number(made, lambda path: is_made_by(path, record.id))
        except OSError as error:
            raise cannot_write(made, error, key="models_root") from None
        finally:
            with contextlib.suppress(OSError):
                remove_tree(made)
        return Version(folder / str(number))

    def _make_above(self, folder: Path) -> None:
        for place in reversed([folder, *folder.parents]):
            if not place.is_dir():
                with contextlib.suppress(FileExistsError):  # made by somebody else meanwhile
                    make_folder(place, self.umask)
                    if place == self.root and place.name == FOLDER:
                        # Who comes first to a runs root that many share keeps nobody out.
                        place.chmod(stat.S_IMODE(place.parent.stat().st_mode))

    def _fill(
        self, made: Path, record: Record, source: sources.Source, run: RunFolder | None
    ) -> None:
        taken = files.take_over(source, made, self.umask)
        make_folder(made / "changes", self.umask)
        if run is not None:
            origin.keep(run, made, self.umask)
        replace(record, files=taken).write(made)

    def names(self) -> list[str]:
        """Return the names of the models that have versions, sorted."""
        try:
            found = sorted(os.listdir(self.root))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise RunFolderError(
                f"The models under {self.root} cannot be listed: {error.strerror}.",
                "Ask their owner, or name another models root: HPCTF_MODELS_ROOT.",
            ) from None
        return [name for name in found if not name.startswith(".") and self.numbers(name)]

    def numbers(self, name: str) -> list[int]:
        """Return the numbers of a model's versions that were not removed, in their order."""
        folder = self.root / name
        try:
            found = [Version(folder / str(number)) for number in numbers(folder)]
        except PermissionError:  # somebody else's, who lets nobody read them
            return []
        return [version.number for version in found if not version.is_removed]

    def versions(self, name: str | None = None) -> Iterator[Version]:
        """Yield the versions of all models, or of one: by name, the latest first."""
        for one in self.names() if name is None else [name]:
            for number in reversed(self.numbers(one)):
                yield Version(self.root / one / str(number))

    def readable(
        self, name: str | None = None, tell: Callable[[str], None] = notify
    ) -> Iterator[Version]:
        """Yield the versions that can be read, as `versions` does; `tell` gets what is wrong with
        the others."""
        for version in self.versions(name):
            try:
                _ = version.record
            except UnreadableModel as error:
                tell(error.message)
            except ModelNotFound:  # removed meanwhile
                continue
            else:
                yield version

    def find(self, wanted: Reference) -> Version:
        """Return the version that is meant: the latest, if none is named.

        Raises
        ------
        ModelNotFound
            There is no such model, version or alias.
        """
        folder = self.root / wanted.name
        there = self.numbers(wanted.name)
        taken = numbers(folder) if there or os.access(folder, os.R_OK) else []
        number = wanted.version
        if wanted.alias is not None:
            number = version_of(folder, wanted.alias)
        if number is not None and number in taken:
            version = Version(folder / str(number))
            version.check_there()
            return version
        if not there:
            raise self._no_model(wanted.name)
        if wanted.version is None and wanted.alias is None:
            return Version(folder / str(there[-1]))
        if wanted.alias is None:
            raise ModelNotFound(
                f"Model {wanted.name!r} has no version {wanted.version}.",
                f"Its versions: {', '.join(map(str, there[-8:]))}.",
            )
        known = [LATEST, *aliases(folder)]
        raise ModelNotFound(
            f"Model {wanted.name!r} has no alias {wanted.alias!r}."
            f"{did_you_mean(wanted.alias, known)}",
            f"Set it: hpctf models alias {wanted.name}:{there[-1]} {wanted.alias}",
        )

    def _no_model(self, name: str) -> ModelNotFound:
        where = f"under {self.root}"
        return ModelNotFound(
            f"There is no model {name!r} {where}.{did_you_mean(name, self.names())}",
            "'hpctf models list' lists them; HPCTF_MODELS_ROOT names another root.",
        )

    def aliases(self, name: str) -> dict[str, int]:
        """Return the versions of a model's aliases by their names."""
        return aliases(self.root / name)

    def set_alias(self, version: Version, alias: str) -> None:
        """Let an alias of the model stand for a version.

        Raises
        ------
        RunFolderError
            The file system refuses.
        """
        version.check_there()
        try:
            set_alias(version.path.parent, alias, version.number)
        except OSError as error:
            raise _alias_stays(version.path.parent, error) from None

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias; its version stays.

        Raises
        ------
        ModelNotFound
            The model has no such alias.
        RunFolderError
            The file system refuses.
        """
        folder = self.root / check_model_name(name)
        try:
            is_removed = remove_alias(folder, alias)
        except OSError as error:
            raise _alias_stays(folder, error) from None
        if not is_removed:
            known = ", ".join(self.aliases(name)) or "none"
            raise ModelNotFound(f"Model {name!r} has no alias {alias!r}.", f"Its aliases: {known}.")

    def reason_to_stay(self, version: Version) -> str | None:
        """Return why a version must not be removed; None if it may be."""
        owner = owner_of(version.path)
        if owner is not None:
            return f"it belongs to {owner}"
        names = [
            name for name, number in self.aliases(version.name).items() if number == version.number
        ]
        if names:
            return (
                f"it is @{names[0]}. Give the alias to another version (hpctf models alias "
                f"{version.name}:N {names[0]}) or remove it (--remove)"
            )
        return None

    def remove(self, version: Version) -> None:
        """Remove a version; its number is never given to another one.

        Raises
        ------
        UsageError
            It must stay: it belongs to somebody else, or has an alias.
        RunFolderError
            The file system refuses; removing it again goes on.
        """
        reason = self.reason_to_stay(version)
        if reason is not None:
            raise UsageError(f"Model {version.id} must stay: {reason}.")
        if not version.is_half_removed:
            version.check_there()
        about = {"by": name_of_user(os.geteuid()), "time": round(time.time(), 3)}
        try:
            if not version.is_removed:
                write_json(version.path / files.REMOVED, about)
            files.free(version.path)
        except OSError as error:
            raise RunFolderError(
                f"Model {version.id} cannot be removed: {str(error.filename)!r}: {error.strerror}.",
                f"'hpctf models rm {version.id}' completes the removal.",
            ) from None


def registry_of(
    site: Site | str | None = None, models_root: str | os.PathLike[str] | None = None
) -> Registry:
    """Return the registry of a site, or that of another models root."""
    found = site if isinstance(site, Site) else load_site(site)
    return Registry(models_root_of(found, models_root), int(found.umask, 8), trusted_by(found))


def _alias_stays(folder: Path, error: OSError) -> RunFolderError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return cannot_write(folder, error, key="models_root")
    owner = owner_of(folder) if folder.is_dir() else None
    return RunFolderError(
        f"Cannot change an alias of model {folder.name!r}: {str(folder)!r}: {error.strerror}.",
        owner and f"The folder belongs to {owner}.",
    )


def _record(
    name: str, source: sources.Source, about: About, run: RunFolder | None, of_run: OfRun | None
) -> Record:
    kind = kind_of(source.path, source.files)
    framework, version = about.framework, about.framework_version
    if framework is None and kind in _OF_TENSORFLOW:
        framework = "TensorFlow"
        version = origin.tensorflow_of(run) if run is not None and version is None else version
    return Record(
        id=os.urandom(16).hex(),
        name=name,
        path=source.path,
        files={},
        registered=round(time.time(), 3),
        user=name_of_user(os.geteuid()),
        host=os.uname().nodename,
        kind=kind,
        framework=framework,
        framework_version=version,
        description=about.description,
        tags=dict(about.tags),
        properties=dict(about.properties),
        datasets=dict(about.datasets),
        sample_input=about.sample_input,
        sample_output=about.sample_output,
        resources=None if about.resources is None else dict(about.resources),
        run=of_run,
    )
