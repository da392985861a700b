"""Building an environment: all of it, checked, or nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpctf.common.files import cannot_write, write_atomic, write_json
from hpctf.common.notes import notify
from hpctf.common.processes import user_name
from hpctf.common.secrets import hidden, without_credentials
from hpctf.common.signals import handling
from hpctf.common.trusted_path import check as check_trusted
from hpctf.common.trusted_path import check_chosen
from hpctf.environment import tensorflow_versions
from hpctf.environment.alike import cache_tag, checked_before, most_alike, site_packages_of
from hpctf.environment.build_commands import Commands
from hpctf.environment.build_folder import Attempt, alone, attempt, sweep
from hpctf.environment.bytecode import compile_modules, link_compiled, not_compiled
from hpctf.environment.conda import channels_of, conda_maker, set_variables, stem_of
from hpctf.environment.conda_file import package_name
from hpctf.environment.horovod import NEEDS, TOOLS, horovod_wheel, keep_wheel
from hpctf.environment.indexes import indexes_of
from hpctf.environment.interpreters import check_python, doubts
from hpctf.environment.lock import Lock, check_as_locked, explicit_packages, installers, pins
from hpctf.environment.pip import Pip
from hpctf.environment.progress import Tell, tell_nobody
from hpctf.environment.requirements import digest_of, name_of, requirement_of
from hpctf.environment.smoke_test import check, check_mpi
from hpctf.environment.spec import EnvironmentSpec
from hpctf.environment.store import (
    CACHE,
    CURRENT,
    LOCK_FILE,
    LOGS,
    RECORD,
    WHEELS,
    Environment,
    Store,
)
from hpctf.environment.toolchain import environment_with, mpi_of
from hpctf.errors import BuildError, HpctfError
from hpctf.scheduler.programs import environment_of
from hpctf.site.model import Site

_KERAS = "tf-keras"


def ensure(spec: EnvironmentSpec, site: Site, tell: Tell = tell_nobody) -> Path:
    """Return the interpreter of an environment, which is built first if it is not ready.

    Whoever else builds the same environment meanwhile is waited for. `tell` takes the words of each
    step.

    Raises
    ------
    BuildError
        It cannot be built, or fails its check: nothing of it is left but the log.
    SiteError
        The store, a module or a program of the site's is not there.
    """
    store = Store(site)
    if store.is_ready(spec):
        return store.python_of(spec)
    folder = store.prepare(spec.key)
    # A job's time limit, which sends SIGTERM, leaves nothing behind, just as an interrupt.
    with handling({signal.SIGTERM: _end}), alone(folder, store.umask, tell):
        if store.is_ready(spec):
            tell(f"Environment {spec.key} has been built meanwhile")
            return store.python_of(spec)
        for build_id in sweep(folder):
            tell(f"Removed what was left of build {build_id}, whose builder is gone")
        _drop_broken_link(folder)
        tell(f"Building environment {spec.key} in {store.root}")
        try:
            with attempt(folder, store.umask) as made:
                _Build(spec, site, store, made, tell).run()
        except OSError as error:
            told = cannot_write(error.filename or store.root, error)
            raise BuildError(
                told.message,
                "Make room there, or name another folder: environments.store in the site file.",
            ) from None
    if not store.is_ready(spec):
        raise BuildError(
            f"Environment {spec.key} was removed while it was built.", "Build it again."
        )
    return store.python_of(spec)


def _drop_broken_link(folder: Path) -> None:
    """Remove a link whose environment is gone: its removal was cut off."""
    link = folder / CURRENT
    if os.path.islink(link) and not os.path.exists(link / RECORD):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


class _Build:
    """One attempt, step by step."""

    def __init__(
        self, spec: EnvironmentSpec, site: Site, store: Store, made: Attempt, tell: Tell
    ) -> None:
        self.spec = spec
        self.site = site
        self.store = store
        self.made = made
        self.tell = tell
        self.start = time.time()
        here = environment_with(spec.modules)
        if spec.horovod:
            check_mpi(spec, mpi_of(here))
        variables = environment_of(spec.kind if spec.kind == "conda" else "pip", here)
        self.commands = Commands(made.log, variables, store.umask)
        self.indexes = indexes_of(spec.sources, site.environments, here, store.trusted)
        self.channels: dict[str, Any] = {}
        self.digest = "md5"
        secrets = self.indexes.secrets
        if spec.kind == "conda":
            self.channels, of_channels = channels_of(spec, here, store.trusted)
            secrets |= of_channels
        if site.environments.proxy:
            self.channels.pop("proxy_servers", None)
        self.commands = replace(self.commands, secrets=secrets)
        self.tell = lambda words: tell(hidden(words, secrets))
        cache = store.make(CACHE) / f"uv-{user_name()}"
        for used in (cache, variables.get("UV_CACHE_DIR") or cache):
            check_trusted(used, "uv's cache", store.trusted)
        self.pip = Pip(site.environments.pip, self.commands, self.indexes, cache, made.work)

    def run(self) -> None:
        """Build, check, record, and make the link that says that it is ready."""
        self._check_local_packages()
        try:
            python = self._make()
            self._install(python)
            tensorflow = self._tensorflow_of(python)
            self._install_keras(python, tensorflow)
            wheel = self._install_horovod(python, tensorflow)
            lock = self._lock(python)
            others = most_alike(self.store, self.spec, lock)
            self._compile(python, others)
            found = self._check(python, lock, others)
            if wheel is not None:
                keep_wheel(self.spec, tensorflow, wheel, self.store.make(WHEELS))
            self._record(found, lock)
        except BuildError as error:
            raise self._with_log(error) from None
        self._finish()

    def _check_local_packages(self) -> None:
        for path, digest in self.spec.local:
            check_chosen(path, "The local package", self.store.trusted)
            if digest_of(path) != digest:
                raise BuildError(
                    f"{path!r} has changed since the environment was named after its content.",
                    "Ask for it again.",
                )

    def _make(self) -> Path:
        spec, folder = self.spec, self.made.folder
        if spec.kind == "conda":
            maker = conda_maker(self.site, self.store, self.pip, self.channels)
            self.tell(f"Making the conda environment with {maker.program}")
            self.digest = maker.digest
            made = maker.make(folder, spec)
            set_variables(folder, spec.variables)
            return made
        check_python(spec.python, self.store.trusted)
        doubt = doubts(spec.python)
        mine = os.geteuid() != 0 and os.stat(spec.python).st_uid in (os.geteuid(), 0)
        if doubt and not (self.store.umask & 0o077 == 0o077 and mine):
            notify(doubt)
        self.tell(f"Making a virtual environment with Python {spec.python_version}, {spec.python}")
        return self.pip.make(folder, spec.python, seed=bool(spec.horovod) and not spec.locked)

    def _install(self, python: Path) -> None:
        spec = self.spec
        if spec.locked:
            self.tell(f"Installing {len(spec.locked)} packages in the versions of the lock")
            self.pip.install(python, spec.locked, "Installing the packages", dependencies=False)
            return
        wanted = [line for line in spec.pip if _name(line) != _KERAS]
        names = {_name(line) for line in wanted}
        wanted += [spec.tensorflow] if spec.tensorflow else []
        if spec.horovod:
            wanted += [need for need in (*NEEDS, *TOOLS) if _name(need) not in names]
        shown = ", ".join([*([spec.tensorflow] if spec.tensorflow else []), *spec.pip][:8])
        self.tell(f"Installing {shown or 'packages'}")
        # Another package than ``tensorflow`` may bring it.
        names = {_name(line) for line in wanted}
        stands = not names.isdisjoint(tensorflow_versions.NAMES) and "tensorflow" not in names
        instead = ["tensorflow"] if stands else []
        self.pip.install(
            python, wanted, "Installing the packages", constraints=spec.constraints, instead=instead
        )
        installed = {_name_of_pin(pin) for pin in self.pip.freeze(python)} if instead else set()
        if {"tensorflow", "tensorflow-cpu"} <= installed:
            raise BuildError(
                "A package brings in 'tensorflow' beside 'tensorflow-cpu': their files mix.",
                "Let the site build with uv (environments.pip: uv), or name the package "
                "'tensorflow' (environments.tensorflow).",
            )

    def _tensorflow_of(self, python: Path) -> str:
        """Return the version of TensorFlow that is installed; empty without one."""
        code = "import sys\nfrom importlib import metadata\nfor name in sys.argv[1:]:\n"
        code += "    try: print(metadata.version(name)); break\n"
        code += "    except metadata.PackageNotFoundError: pass"
        words: list[str | Path] = [python, "-I", "-c", code, *tensorflow_versions.NAMES]
        return self.commands.run(words, "Looking for TensorFlow", answers=True).strip()

    def _install_keras(self, python: Path, tensorflow: str) -> None:
        """Install the Keras that Horovod trains with; its dependencies would bring a TensorFlow."""
        series = tensorflow_versions.series(tensorflow)
        named = [line for line in self.spec.pip if _name(line) == _KERAS]
        if self.spec.locked or (not named and (not series or "dev" in tensorflow)):
            return
        if not named and series and series < tensorflow_versions.KERAS_3_FROM:
            return
        wanted = named or [f"{_KERAS}=={tensorflow.split('.')[0]}.{tensorflow.split('.')[1]}.*"]
        self.tell(f"Installing {wanted[0]}")
        self.pip.install(python, wanted, f"Installing {_KERAS}", dependencies=False)

    def _install_horovod(self, python: Path, tensorflow: str) -> Path | None:
        if not self.spec.horovod:
            return None
        if not tensorflow:
            raise BuildError(
                "The request includes Horovod, but the packages bring no TensorFlow.",
                "Leave --framework-version or the packages' TensorFlow in, or use "
                "--backend collective, which needs no Horovod.",
            )
        if self.spec.gpu and not self.spec.gpu_operations:
            notify(
                "The site does not say environments.horovod.gpu_operations: "
                "Horovod sums in the host's memory, not on the GPUs."
            )
        wheels = self.store.root / WHEELS
        wheel = horovod_wheel(self.spec, python, tensorflow, wheels, self.pip, self.tell)
        check_trusted(wheel, "The wheel of Horovod", self.store.trusted)
        self.pip.install(
            python, [wheel.as_uri()], "Installing Horovod", dependencies=False, from_indexes=False
        )
        return wheel

    def _compile(self, python: Path, others: list[Environment]) -> None:
        """Compile what no other environment has compiled already."""
        ours = site_packages_of(self.made.folder)
        if ours is None or self.site.environments.pip != "uv":  # pip has compiled what it installs
            return
        tag = cache_tag(self.spec)
        for theirs in filter(None, (site_packages_of(other.current) for other in others)):
            link_compiled(ours, theirs, tag)
        compile_modules(python, not_compiled(ours, tag), self.made.work, self.commands)

    def _check(self, python: Path, lock: Lock, others: list[Environment]) -> dict[str, Any]:
        if not self._brings_tensorflow():
            return {}
        before = checked_before(self.spec, lock, others)
        if before is not None:
            self.tell(f"Its TensorFlow is that of environment {before['key']}, which was checked")
            return dict(before["checked"])
        what = "a sum of two ranks with Horovod" if self.spec.horovod else "TensorFlow's import"
        self.tell(f"Checking it: {what}")
        found = check(self.spec, python, self.commands, self.made.work, self.site.mpi)
        if found.get("ranks") == 1:
            notify("There is no mpirun here: one rank was checked, not two.")
        words = f"TensorFlow {found['tensorflow']}"
        if "horovod" in found:
            words += f", Horovod {found['horovod']}, {found['mpi_library']}"
        self.tell(f"It works: {words}")
        return found

    def _brings_tensorflow(self) -> bool:
        spec = self.spec
        pip = {_name(line) for line in (*spec.pip, *spec.locked)}
        conda = {package_name(line) for line in spec.conda}
        conda |= {stem_of(line).rsplit("-", 2)[0] for line in spec.locked_conda}
        return bool(
            spec.tensorflow or spec.horovod or (pip | conda) & set(tensorflow_versions.NAMES)
        )

    def _lock(self, python: Path) -> Lock:
        site_packages = site_packages_of(self.made.folder)
        by = installers(site_packages) if site_packages and self.spec.kind == "conda" else {}
        packages = pins(self.pip.freeze(python), by)
        conda = without_credentials(explicit_packages(self.made.folder, self.digest))
        made = Lock(self.spec.key, self.spec, packages, tuple(conda))
        check_as_locked(made)
        return made

    def _record(self, found: dict[str, Any], lock: Lock) -> None:
        folder = self.made.folder
        mode = 0o666 & ~self.store.umask
        write_atomic(folder / LOCK_FILE, lock.text(), mode)
        self._keep_log(folder / "build.log")
        record = {
            "key": self.spec.key,
            "build_id": folder.name,
            "user": user_name(),
            "host": os.uname().nodename,
            "created": self.start,
            "seconds": round(time.time() - self.start, 1),
            "size_bytes": _size(folder),
            "checked": found,
            "packages": list(lock.packages),
            "conda": list(map(stem_of, lock.conda)),
            "spec": self.spec.public(),
        }
        write_json(folder / RECORD, record, mode)

    def _finish(self) -> None:
        """Make the link. Whoever comes second removes what is theirs: the first one is as good."""
        link = self.made.folder.with_name(CURRENT)
        try:
            os.symlink(self.made.folder.name, link)
        except FileExistsError:
            if os.readlink(link) != self.made.folder.name:  # NFS may answer so to a repeated call
                self.tell("Somebody else has built it meanwhile: theirs is used")
                self.made.discard()
                return
        self.tell(f"Environment {self.spec.key} is ready")

    def _keep_log(self, to: Path) -> None:
        """Keep the log, whose programs may have printed what they were given in confidence."""
        text = self.made.log.read_text(encoding="utf-8", errors="replace")
        write_atomic(to, hidden(text, self.commands.secrets), 0o666 & ~self.store.umask)
        self.made.log.unlink()

    def _with_log(self, error: BuildError) -> BuildError:
        """Keep the log of a build that failed, and say where it is."""
        kept = self.store.root / LOGS / f"{self.spec.key}-{self.made.folder.name}.log"
        log = self.made.log
        try:
            self.store.make(LOGS)
            if log.exists():
                self._keep_log(kept)
            else:
                os.replace(self.made.folder / "build.log", kept)
        except (OSError, HpctfError):
            return error
        return BuildError(f"{error.message}\n  The whole log: {kept}", error.hint)


def _name(line: str) -> str:
    return name_of(requirement_of(line))


def _name_of_pin(pin: str) -> str:
    return _name(pin) if "://" not in pin else pin.partition(" ")[0]


def _size(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, file)).st_blocks * 512
    return total
