"""``hpctf env``: training environments, built, shown, locked and removed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import answer_json, json_option, say, set_option, site_option
from hpctf.cli.help_groups import GroupedCommand, in_group
from hpctf.cli.training_options import asked_of, estimator_options
from hpctf.common.notes import notify
from hpctf.common.terminal import data
from hpctf.common.units import clock, file_size
from hpctf.errors import BuildError, UsageError
from hpctf.estimator.distribution import BACKENDS
from hpctf.estimator.parameter import ENVIRONMENT, OUTPUT, SLURM
from hpctf.estimator.parameters import OPTIONS
from hpctf.estimator.software import PACKAGES

if TYPE_CHECKING:
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.environment.store import Environment, Store
    from hpctf.site.model import Site


@click.group()
def env() -> None:
    """Build, list, show, lock and remove training environments."""


@env.command(cls=GroupedCommand)
@estimator_options(lambda parameter: parameter.name in PACKAGES)
@in_group(
    ENVIRONMENT,
    click.option("--backend", type=click.Choice(BACKENDS), help="mpi adds Horovod."),
    click.option("--use-gpu", is_flag=True, help="Install TensorFlow for GPUs."),
    click.option(
        "--locked", metavar="RUN|FILE", help="Rebuild a run's environment, or a lock file's."
    ),
    click.option("--spec", metavar="FILE", help="The spec that hpctf env show --json prints."),
)
@in_group(SLURM, site_option, set_option)
@in_group(
    OUTPUT,
    click.option("--dry-run", is_flag=True, help="Print what it would be called; build nothing."),
    json_option,
)
def build(site: str | None, settings: tuple[str, ...], **options: Any) -> None:
    """Build an environment, unless it exists, and print its interpreter.

    TensorFlow is always in it; --backend mpi adds Horovod, built for it and this machine's MPI.
    """
    from hpctf.environment.build import ensure
    from hpctf.environment.progress import telling
    from hpctf.environment.store import Store
    from hpctf.site.loading import load_site

    of = load_site(site, settings=settings)
    store = Store(of)
    spec = _spec(options, of)
    if isinstance(spec, Path):
        say(f"It is there as it was: {spec}")
        _answer(spec.parents[2].name, spec, True, options["as_json"])
        return
    if options["dry_run"]:
        _answer(spec.key, store.python_of(spec), store.is_ready(spec), options["as_json"])
        return
    if store.is_ready(spec):
        say(f"Environment {spec.key} is ready.")
    with telling() as tell:
        python = ensure(spec, of, tell)
    _answer(spec.key, python, True, options["as_json"])


def _spec(options: dict[str, Any], site: Site) -> EnvironmentSpec | Path:
    """Return what to build, or the interpreter of what a lock names and is still there."""
    from hpctf.environment.lock import environment_of, locked_spec, read_lock
    from hpctf.environment.resolve import SoftwareRequest, spec_for
    from hpctf.environment.spec import spec_from
    from hpctf.environment.store import Store

    names = [key for key, (parameter, _) in OPTIONS.items() if parameter.name in PACKAGES]
    packages = [name for name in (*names, "backend", "use_gpu") if options[name]]
    if options["locked"] or options["spec"]:
        given = [name for name in ("locked", "spec") if options[name]] + packages
        if len(given) > 1:
            one, other = (f"--{name.replace('_', '-')}" for name in given[:2])
            raise UsageError(
                f"{one} says all that an environment is made of; {other} cannot add.",
                "Leave one of the two out.",
            )
    if options["spec"]:
        return spec_from(_read_json(options["spec"]))
    if options["locked"]:
        lock = read_lock(_lock_file(options["locked"], site))
        there = environment_of(lock, Store(site))
        return locked_spec(lock, site, notify) if there is None else there.python
    if not packages:
        raise UsageError(
            "The request names no packages.",
            "Pass some (--pip scikit-learn), or a --framework-version.",
        )
    asked = SoftwareRequest(
        base=Path.cwd(),
        **asked_of({name: options[name] for name in names}),
        mpi=options["backend"] == "mpi",
        gpu=options["use_gpu"],
    )
    spec = spec_for(asked, site)
    if spec.tensorflow and not options["framework_version"]:
        say(f"No version of TensorFlow is named: taking {spec.tensorflow}, which is tested.")
    return spec


def _read_json(file: str) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8") as stream:  # a pipe, too: <(command)
            found = json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"The spec {file!r} cannot be read: {error}.",
            "Pass what hpctf env show --json has printed.",
        ) from None
    if not isinstance(found, dict):
        raise UsageError(
            f"The spec {file!r} is no mapping.",
            "Pass what hpctf env show --json has printed.",
        )
    return found


def _lock_file(named: str, site: Site) -> Path:
    """Return the lock file that RUN or FILE stands for."""
    from hpctf.environment.store import LOCK_FILE
    from hpctf.run_folder.layout import find_run
    from hpctf.runs.root import runs_root_of

    if os.sep in named or os.path.isfile(named):
        return Path(named)
    found = find_run(runs_root_of(site), named).path / LOCK_FILE
    if not found.is_file():
        raise UsageError(
            f"Run {found.parent.name} has no {LOCK_FILE}: its environment was not built by hpctf.",
            "Name a run whose environment hpctf built, or list the environments: hpctf env list.",
        )
    return found


def _answer(key: str, python: Path, ready: bool, as_json: bool) -> None:
    if as_json:
        answer_json({"name": key, "python": str(python), "ready": ready})
    else:
        click.echo(str(python))


@env.command("list")
@site_option
@set_option
@json_option
def list_environments(site: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """List the environments of the site's store, and what is being built."""
    from hpctf.environment.build_folder import builders, described

    store = _store(site, settings)
    rows = [_row(one) for one in store.environments()]
    at_work = {folder.name: builders(folder) for folder in store.folders()}
    building = [(key, who) for key, several in at_work.items() for who in several]
    if as_json:
        rows += [{"name": key, "ready": False, "builder": who} for key, who in building]
        answer_json(rows)
        return
    for row in rows:
        named = {"TensorFlow": row["checked"].get("tensorflow")}
        named["Horovod"] = row["checked"].get("horovod")
        versions = ", ".join(f"{name} {version}" for name, version in named.items() if version)
        when = clock(row["created"], "%Y-%m-%d %H:%M")
        size = file_size(row["size_bytes"])
        click.echo(f"{row['name']:36} {size:>8}  {when}  {row['user']}  {versions}")
    for key, who in building:
        click.echo(f"{key:36} is being built by {described(who)}")
    if not rows and not building:
        say(f"There are no environments in {store.root}.")


def _row(one: Environment) -> dict[str, Any]:
    record = one.record()
    names = ("user", "host", "created", "seconds", "size_bytes", "checked")
    head = {"name": one.key, "ready": True, "python": str(one.python)}
    return {**head, **{name: record.get(name) for name in names}}


@env.command()
@site_option
@set_option
@json_option
@click.argument("name")
def show(name: str, site: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Show what an environment consists of; NAME may be any part of its name that is unique."""
    one = _store(site, settings).find(name)
    record = one.record()
    if as_json:
        more = {"packages": record["packages"], "conda": record.get("conda", [])}
        answer_json({**_row(one), **more, "spec": record["spec"]})
        return
    spec, checked = record["spec"], record["checked"]
    asked = [spec["tensorflow"], *spec["pip"], *spec["conda"]]
    when = clock(record["created"])
    lines = {
        "name": one.key,
        "python": f"{one.python} ({spec['python_version']})",
        "built": f"{when} by {record['user']} on {record['host']}, in {record['seconds']:.0f} s",
        "size": file_size(record["size_bytes"]),
        "request": ", ".join(filter(None, asked)),
        "checked": ", ".join(f"{key} {value}" for key, value in checked.items()),
        "log": str(one.current / "build.log"),
        "packages": " ".join(record["packages"]),
    }
    if record.get("conda"):
        lines["conda"] = " ".join(record["conda"])
    for key, value in lines.items():
        click.echo(f"{key + ':':11} {value}")


@env.command()
@site_option
@set_option
@click.argument("name", metavar="NAME|SPEC")
def lock(name: str, site: str | None, settings: tuple[str, ...]) -> None:
    """Print the exact versions of all packages of an environment.

    NAME is the name of an environment, SPEC a file that describes one. The output is a requirements
    file; 'env build --locked FILE' rebuilds the same environment from it.
    """
    store = _store(site, settings)
    if name.endswith(".json"):
        from hpctf.environment.spec import spec_from

        name = spec_from(_read_json(name)).key
    data(store.find(name).lock.read_text("utf-8"))


@env.command()
@site_option
@set_option
@click.option("--stale", is_flag=True, help="Remove what interrupted builds have left.")
@click.option("--force", is_flag=True, help="Remove it even if a run uses it now.")
@json_option
@click.argument("names", nargs=-1, metavar="[NAME]...")
def remove(
    names: tuple[str, ...],
    site: str | None,
    settings: tuple[str, ...],
    stale: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Remove environments; with --force, also those that an active run of yours uses."""
    from hpctf.environment.build_folder import remove as remove_one
    from hpctf.environment.build_folder import remove_stale

    if not names and not stale:
        raise UsageError("Name what to remove (hpctf env list), or pass --stale.")
    store = _store(site, settings)
    chosen = {one.key: one for one in map(store.find, names)}
    if not force:
        for one in chosen.values():
            _refuse_what_is_used(one, site)
    removed = []
    for one in chosen.values():
        remove_one(one, store)
        say(f"Removed {one.key}")
        removed.append(one.key)
    if stale:
        left = remove_stale(store)
        builds = f"{len(left)} half build{'s' if len(left) > 1 else ''}"
        say(f"Removed {builds}: {', '.join(left)}" if left else "Nothing is stale.")
        removed += left
    if as_json:
        answer_json(removed)


def _refuse_what_is_used(one: Environment, site: str | None) -> None:
    from hpctf.runs.housekeeping.dependents import active_runs_with
    from hpctf.runs.root import runs_root_of

    using = active_runs_with(runs_root_of(site), one.folder)
    if using:
        raise BuildError(
            f"Environment {one.key} is used by {', '.join(using[:5])}.",
            "Let them end, cancel them, or pass --force.",
        )


def _store(site: str | None, settings: tuple[str, ...]) -> Store:
    from hpctf.environment.store import Store
    from hpctf.site.loading import load_site

    return Store(load_site(site, settings=settings))
