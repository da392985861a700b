"""Whether the ranks of a run fit together: looked at as soon as it can be, and said in a sentence.

As TensorFlow is imported, the versions that a rank has are compared with those of the first rank
that came; as MPI starts, its library and the size of its world. No rank waits for another: the
first to come writes down what it has, in the run folder's ``state/``, and each later one compares.
"""

import json
import os
import platform
import sys
from contextlib import suppress
from functools import wraps
from types import ModuleType
from typing import Any, Callable, Dict, NoReturn, Optional

from . import this_rank, tried
from .mpi_library import library_version
from .this_rank import SKIP
from .versions import versions

_own: Dict[str, Any] = {"mode": None, "pid": None}


def begin(mode: Optional[str], pid: int) -> None:
    """Note which process is the training's, and how it was started (`sitecustomize.PREFLIGHT`)."""
    if mode and this_rank.variable(SKIP) != "1":
        _own.update(mode=mode, pid=pid)


def compare_software() -> None:
    """End the run if this rank's versions differ from another's."""
    if _concerned():
        _compare("software", {"Python": platform.python_version(), **versions()})


def check_horovod(module: ModuleType) -> None:
    """End the run if Horovod was built for another TensorFlow: it could not be loaded, or crash.

    Source: ``metadata.json``, which Horovod's build writes into its package.
    """
    if not _concerned():
        return
    package = os.path.dirname(os.path.dirname(str(getattr(module, "__file__", ""))))
    built_for = _read(os.path.join(package, "metadata.json")).get("tensorflow")
    there = versions()
    have = there.get("TensorFlow")
    if _series(built_for) and _series(have) and _series(built_for) != _series(have):
        _refuse(
            f"Horovod {there.get('Horovod', '')} in {package} was built for TensorFlow "
            f"{built_for}, but TensorFlow {have} is there. Let hpctf build the environment "
            "(--pip), or build Horovod anew: pip install --no-cache-dir --force-reinstall "
            "--no-deps horovod."
        )


def watch_horovods_world(module: Any) -> None:
    """Have Horovod's world looked at as soon as it is there (``hvd.init()``)."""
    own = module.HorovodBasics.init

    @wraps(own)
    def init(self: Any, *args: Any, **kwargs: Any) -> Any:
        _compare_library()
        done = own(self, *args, **kwargs)
        comm = args[0] if args else kwargs.get("comm")
        if comm is not None and comm != []:  # a part of the world, chosen by the script
            _leave_world(library="Horovod", size=self.size(), rank=self.rank(), part=True)
        else:
            _look_at_world("Horovod", self.size(), self.rank(), not _has_mpi(self))
        return done

    module.HorovodBasics.init = init


def watch_mpi4pys_world(module: Any) -> None:
    """Look at the world that ``from mpi4py import MPI`` has started, or the script starts later."""
    package = tried.importing_package()
    if module.Is_initialized():
        _look_at_mpi4pys_world(module, package)
        return
    for name in ("Init", "Init_thread"):
        setattr(module, name, _then_looking(getattr(module, name), module, package))


def _then_looking(own: Callable[..., Any], module: Any, package: str) -> Callable[..., Any]:
    @wraps(own)
    def init(*args: Any, **kwargs: Any) -> Any:
        done = own(*args, **kwargs)
        _look_at_mpi4pys_world(module, package)
        return done

    return init


def _look_at_mpi4pys_world(module: Any, package: str) -> None:
    _compare_library()
    world = module.COMM_WORLD
    _look_at_world("mpi4py", world.Get_size(), world.Get_rank(), by=package)


def _has_mpi(basics: Any) -> bool:
    """Whether Horovod works over MPI: where it was built without, each rank is alone under srun."""
    try:
        return bool(basics.mpi_enabled())
    except (AttributeError, ValueError):  # of another version
        return True


def _look_at_world(library: str, size: int, rank: int, gloo: bool = False, by: str = "") -> None:
    """Put a rank's world on record, and end the run if it is not the run's."""
    _leave_world(library=library, size=size, rank=rank, **({"by": by} if by else {}))
    planned = this_rank.world_size()
    if not _concerned() or not this_rank.trains_with_others() or size == planned:
        return
    what = "alone in its MPI world" if size == 1 else f"in an MPI world of {size}"
    says = f"{this_rank.name()} on {this_rank.host()} is {what}, but the run has {planned} ranks"
    launcher = this_rank.variable("HPCTF_LAUNCHER", "the launcher")
    if gloo:
        _refuse(
            f"{says}: its Horovod was built without MPI, and Gloo does not know what {launcher} "
            "starts. Let hpctf build the environment (--pip), or build Horovod with "
            "HOROVOD_WITH_MPI=1."
        )
    _refuse(
        f"{says}: its MPI library ({library_version() or 'unknown'}) and {launcher} do not find "
        "each other. Set the launcher that fits in the site file (mpi: {launcher, plugin}); hpctf "
        "doctor --job finds out which does."
    )


def _leave_world(**what: Any) -> None:
    """Put a world on record; one of a process that the script has started counts less."""
    this_rank.leave("world", **what, **({} if _concerned() else {"child": True}))


def _compare_library() -> None:
    version = library_version() if _concerned() else None
    if version:
        _compare("mpi", {"MPI": version})


def _concerned() -> bool:
    """Whether this process is the one to look at, and not a child that it has forked."""
    return _own["mode"] is not None and _own["pid"] == os.getpid()


def _compare(what: str, mine: Dict[str, str]) -> None:
    first = _first(what, {"rank": this_rank.name(), "host": this_rank.host(), "versions": mine})
    theirs = first.get("versions", mine)
    others = [label for label in {**theirs, **mine} if mine.get(label) != theirs.get(label)]
    if others:
        here = f"{this_rank.name()} on {this_rank.host()} has {_listed(mine, others)}"
        there = f"{first.get('rank')} on {first.get('host')} has {_listed(theirs, others)}"
        _refuse(
            f"{here}, but {there}. Give all nodes the same environment: one on a shared file "
            "system, such as hpctf builds (--pip), or the same modules."
        )


def _listed(versions: Dict[str, str], labels: Any) -> str:
    have = (
        f"{label} {versions[label]}" if label in versions else f"no {label}" for label in labels
    )
    return " and ".join(have)


def _first(what: str, mine: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the first rank to come has left: this one's own, if it is the first."""
    place = _place(what)
    if not os.path.exists(place):
        draft = f"{place}.{this_rank.name()}"
        with suppress(OSError):  # another one was first; or nothing can be written, nor compared
            with open(draft, "w", encoding="utf-8") as stream:
                json.dump(mine, stream)
            os.link(draft, place)  # whole or not at all, and by one rank alone
        if os.path.exists(draft):
            os.unlink(draft)
    return _read(place) or mine


def _place(what: str) -> str:
    name = f"{what}-{this_rank.variable('HPCTF_RESTART_COUNT', '0')}"
    if _own["mode"] == "program":  # each of its Pythons is compared with its like alone
        name += sys.executable.replace("/", "-")[-200:]
    return os.path.join(this_rank.variable("HPCTF_RUN_FOLDER"), "state", name + ".json")


def _read(place: str) -> Dict[str, Any]:
    try:
        with open(place, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _series(version: Any) -> Optional[str]:
    """Return ``2.21`` of ``2.21.0``: what a build fits; None if it is no such version."""
    parts = str(version).split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and parts[0].isdigit() else None


def _refuse(words: str) -> NoReturn:
    this_rank.end(f"preflight: {words} (--env {SKIP}=1 trains all the same.)")
