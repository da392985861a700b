"""``hpctf models``: the registry of models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import answer_json, json_option, open_run, plain_table, say, site_option
from hpctf.cli.models_export import export
from hpctf.cli.run_options import yes_option
from hpctf.cli.services import deploy
from hpctf.common.terminal import visible
from hpctf.common.units import clock, file_size
from hpctf.errors import UsageError
from hpctf.estimator.words import pairs

if TYPE_CHECKING:
    from hpctf.model import Model
    from hpctf.models.registry import Registry
    from hpctf.models.version import Version

_MODEL = click.argument("name", metavar="MODEL")


@click.group()
def models() -> None:
    """Register models; list, download, name and export them.

    \b
    hpctf models register digits outputs/model.keras --run @last
    hpctf models alias digits:1 champion
    hpctf models download digits@champion --to models

    MODEL is a name (its latest version), NAME:3 or NAME@ALIAS.
    """


models.add_command(export)


@models.command()
@click.argument("name")
@click.argument("path")
@click.option(
    "--run", "run_name", metavar="RUN", help="PATH is one of this run's files or folders."
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="KEY=VALUE",
    help="A tag to find it by; can be repeated.",
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="KEY=VALUE",
    help="A property, which can never change.",
)
@click.option("--description", help="A description for other people.")
@click.option("--framework", help="Such as TensorFlow or Onnx (default: taken from its files).")
@click.option("--framework-version", help="The framework's version (default: the run's).")
@click.option("--alias", "aliases", multiple=True, help="An alias to point at this version.")
@site_option
@json_option
def register(
    name: str,
    path: str,
    run_name: str | None,
    tags: tuple[str, ...],
    properties: tuple[str, ...],
    description: str | None,
    framework: str | None,
    framework_version: str | None,
    aliases: tuple[str, ...],
    site: str | None,
    as_json: bool,
) -> None:
    """Register PATH as the next version of the model NAME.

    PATH is a file or folder here, or with --run one of that run's (hpctf files RUN), which is kept
    on record with its metrics, lock file and code.
    """
    from hpctf.model import Model
    from hpctf.models.names import check_alias

    for alias in aliases:
        check_alias(alias)
    about: dict[str, Any] = {
        "tags": pairs("The tag", tags),
        "properties": pairs("The property", properties),
        "description": description,
        "model_framework": framework,
        "model_framework_version": framework_version,
        "site": site,
    }
    if run_name is None:
        model = Model.register(path, name, **about)
    else:
        model = open_run(run_name, site).register_model(name, path, **about)
    for alias in aliases:
        model.set_alias(alias)
    say(f"{model.record.path}, {file_size(model.record.bytes)}: {model.folder.path}")
    if as_json:
        answer_json(model.get_details())
    else:
        click.echo(model.id)


@models.command("list")
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="Only models with this tag."
)
@click.option("--run", "run_id", metavar="ID", help="Only models that this run made.")
@click.option("--latest", is_flag=True, help="Only each model's latest version.")
@site_option
@json_option
def list_(
    name: str | None,
    tags: tuple[str, ...],
    run_id: str | None,
    latest: bool,
    site: str | None,
    as_json: bool,
) -> None:
    """List the versions of all models, or of NAME, the latest first."""
    from hpctf.model import Model

    wanted = [tag.split("=", 1) if "=" in tag else tag for tag in tags]
    found = Model.list(name, wanted, run_id=run_id, latest=latest, site=site)
    if as_json:
        answer_json([model.get_details() for model in found])
        return
    if not found:
        chosen = name or wanted or run_id
        say("There are no such models." if chosen else "No model is registered yet.")
        return
    rows = [
        (
            model.id,
            " ".join(f"@{alias}" for alias in model.aliases),
            clock(model.record.registered),
            file_size(model.record.bytes),
            model.record.kind,
            model.run_id or "-",
        )
        for model in found
    ]
    plain_table(("MODEL", "ALIASES", "REGISTERED", "SIZE", "KIND", "RUN"), rows)


@models.command()
@_MODEL
@site_option
@json_option
def show(name: str, site: str | None, as_json: bool) -> None:
    """Show what MODEL is, what made it, and whether its files are unchanged."""
    from hpctf.errors import UnreadableModel
    from hpctf.model import Model

    model = Model(name, site=site)
    try:
        model.folder.verified()
        problem = None
    except UnreadableModel as error:
        problem = error
    if as_json:
        answer_json({**model.get_details(), "verified": problem is None})
    else:
        for key, value in _lines(model):
            click.echo(f"{key + ':':<14}{visible(str(value))}")
    if problem is not None:
        raise problem


def _lines(model: Model) -> list[tuple[str, Any]]:
    record, labels, run = model.record, model.folder.labels(), model.record.run
    lines: list[tuple[str, Any]] = [("Model", model.id)]
    lines += [("Alias", f"@{alias}") for alias in model.aliases]
    lines += [("Description", labels.description)] if labels.description else []
    framework = " ".join(filter(None, (record.framework, record.framework_version)))
    lines += [
        ("Registered", f"{clock(record.registered)} by {record.user}"),
        ("Kind", f"{record.kind}{f', {framework}' if framework else ''}"),
        ("Files", f"{len(record.files)}, {file_size(record.bytes)}"),
        ("Path", model.folder.path / "files" / record.path),
    ]
    if run is not None:
        gone = "" if Path(run.folder, "run.json").exists() else " (no longer there)"
        lines += [("Run", f"{run.id}{gone}"), ("Git commit", run.git_commit or "-")]
        lines += [("Environment", run.environment or "-")]
        lines += [("On record", model.folder.run)] if model.folder.run.exists() else []
        lines += [("Parameter", f"{key}={value}") for key, value in run.parameters.items()]
        lines += [("Metric", f"{key}={value}") for key, value in run.metrics.items()]
    lines += [("Tag", f"{key}={value}") for key, value in labels.tags.items()]
    return lines + [("Property", f"{key}={value}") for key, value in labels.properties.items()]


@models.command()
@_MODEL
@click.option("--to", "folder", default=".", show_default=True, help="Folder to copy to.")
@click.option("-f", "--force", is_flag=True, help="Replace a file or folder of that name.")
@site_option
def download(name: str, folder: str, force: bool, site: str | None) -> None:
    """Copy the file or folder of MODEL, with its checksums verified."""
    from hpctf.model import Model

    click.echo(Model(name, site=site).download(folder, exist_ok=force))


@models.command()
@_MODEL
@click.option("--to", metavar="DIR", required=True, help="A new folder.")
@site_option
def mlflow(name: str, to: str, site: str | None) -> None:
    """Write MODEL as an MLflow model: a folder that MLflow loads, serves and registers."""
    from hpctf.export.mlflow_model import write_mlflow_model
    from hpctf.model import Model

    click.echo(str(write_mlflow_model(Model(name, site=site), Path(to))))


@models.command()
@_MODEL
@click.argument("alias", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias; its version stays.")
@site_option
@json_option
def alias(name: str, alias: str | None, remove: bool, site: str | None, as_json: bool) -> None:
    """Point ALIAS at MODEL, a version; without ALIAS, list the model's aliases."""
    from hpctf.models.names import reference
    from hpctf.models.registry import registry_of

    registry, wanted = registry_of(site), reference(name)
    if alias is not None and remove:
        registry.remove_alias(wanted.name, alias)
        say(f"{wanted.name}@{alias} is removed.")
        return
    version = registry.find(wanted)
    if remove:
        raise UsageError("Name the alias to remove: hpctf models alias NAME ALIAS --remove")
    if alias is not None:
        registry.set_alias(version, alias)
        say(f"{version.name}@{alias} is version {version.number} now.")
        return
    known = registry.aliases(version.name)
    if as_json:
        answer_json(known)
        return
    for one, number in known.items():
        click.echo(f"@{one}  {version.name}:{number}")


@models.command()
@click.argument("names", metavar="NAME:VERSION...", nargs=-1, required=True)
@click.option("--all", "every", is_flag=True, help="Remove all versions of these models.")
@yes_option
@site_option
def rm(names: tuple[str, ...], every: bool, yes: bool, site: str | None) -> None:
    """Remove versions of models. Their numbers are never used again."""
    from hpctf.models.registry import registry_of
    from hpctf.serving.record import services_root
    from hpctf.serving.uses import reason_to_stay

    registry = registry_of(site)
    found = _meant(registry, names, every)
    services = services_root(site)
    reasons = {
        version.id: registry.reason_to_stay(version) or reason_to_stay(version.path, services)
        for version in found
    }
    staying = [f"Model {id_} must stay: {reason}." for id_, reason in reasons.items() if reason]
    if staying:
        raise UsageError("\n".join(staying), "Nothing was removed.")
    say(f"To remove: {', '.join(reasons)}")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                "Cannot ask for confirmation: stdin is not a terminal. Nothing was removed.",
                "Pass --yes to proceed.",
            )
        if not click.confirm(f"Remove {'it' if len(found) == 1 else 'them'}?", err=True):
            return
    for version in found:
        registry.remove(version)
        click.echo(version.id)


def _meant(registry: Registry, names: tuple[str, ...], every: bool) -> list[Version]:
    """Return the versions to remove, each once; those that were half removed, too."""
    from hpctf.models.names import reference
    from hpctf.models.version import Version

    found: dict[str, Version] = {}
    for name in names:
        wanted = reference(name)
        if every:
            versions = list(registry.versions(registry.find(reference(wanted.name)).name))
        elif wanted.version is None:
            raise UsageError(
                f"{name!r} names no version to remove.",
                f"Name it: {wanted.name}:N, or pass --all to remove all of its versions.",
            )
        else:
            half = Version(registry.root / wanted.name / str(wanted.version))
            versions = [half] if half.is_half_removed else [registry.find(wanted)]
        found.update((version.id, version) for version in versions)
    return list(found.values())


models.add_command(deploy)
