"""``hpctf completion``, and the names that shells complete: they lie on the disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

if TYPE_CHECKING:
    from pathlib import Path

    _Text = click.ParamType[str]
else:
    _Text = click.ParamType  # which takes no type before click 8.4

_VARIABLE = "_HPCTF_COMPLETE"
"""What the scripts set when they ask for completions (`hpctf.cli.COMPLETING`)."""
_SHELLS = ("bash", "zsh", "fish")
_MOST = 200
"""Names that are offered at most, the latest first."""


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete hpctf's commands, options, runs and models.

    \b
    bash:  echo 'eval "$(hpctf completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(hpctf completion zsh)"' >> ~/.zshrc
    fish:  hpctf completion fish > ~/.config/fish/completions/hpctf.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(context.find_root().command, {}, "hpctf", _VARIABLE).source())


class Named(_Text):
    """What an argument or option takes, as far as completing it goes."""

    name = "text"

    def __init__(self, find: Callable[[str | None], Iterable[str]]) -> None:
        self._find = find

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin with what is typed; none if anything is wrong."""
        try:
            known = self._find(ctx.params.get("site"))
            # What a terminal would act on comes from whoever named it, and is not offered.
            names = (name for name in known if name.startswith(incomplete) and name.isprintable())
            return [CompletionItem(name) for name in islice(dict.fromkeys(names), _MOST)]
        except Exception:  # a shell shows nothing of it, and the command itself will say it
            return []


class Placed(_Text):
    """A path, which the shell completes by itself."""

    name = "text"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the shell's own way."""
        return [CompletionItem(incomplete, type=self._kind)]


def complete_names(command: click.Command) -> click.Command:
    """Return a command whose arguments and options complete what they name."""
    for parameter in command.params:
        if type(parameter.type) is not click.types.StringParamType:
            continue
        kind = _kind_of(parameter)
        if kind is not None:
            parameter.type = kind
    return command


def _kind_of(parameter: click.Parameter) -> _Text | None:
    flag = parameter.opts[-1] if isinstance(parameter, click.Option) else ""
    if flag in _OPTIONS:
        return Named(_OPTIONS[flag])
    metavar = parameter.metavar or (parameter.name or "").upper()
    words = re.findall(r"[A-Z]+(?:=[A-Z]+)?", metavar)
    named = next((word for word in _WORDS if word in words), None)
    if named is not None:
        return Named(_WORDS[named])
    placed = next((word for word in _PATHS if word in words), None)
    return None if placed is None else Placed(_PATHS[placed])


def _root(site: str | None) -> Path:
    from hpctf.runs.root import runs_root_of

    return runs_root_of(site)


def _runs(site: str | None) -> Iterable[str]:
    from hpctf.run_folder.layout import run_folders

    yield "@last"
    for run in run_folders(_root(site)):
        yield run.id


def _studies(site: str | None) -> Iterable[str]:
    from hpctf.run_folder.layout import run_folders

    return (run.id for run in run_folders(_root(site)) if run.is_study)


def _experiments(site: str | None) -> Iterable[str]:
    from hpctf.run_folder.layout import experiment_names

    return experiment_names(_root(site))


def _runs_and_experiments(site: str | None) -> Iterable[str]:
    yield from _experiments(site)
    yield from _runs(site)


def _tags(site: str | None) -> Iterable[str]:
    """Yield the tags that the latest runs were submitted with."""
    from hpctf.run_folder.layout import run_folders

    for run in islice(run_folders(_root(site)), _MOST):
        for key, value in (run.read_record()["request"].get("tags") or {}).items():
            yield f"{key}={value}"


def _models(site: str | None) -> Iterable[str]:
    from hpctf.models.registry import registry_of

    registry = registry_of(site)
    for name in registry.names():
        yield name
        yield from (f"{name}@{alias}" for alias in registry.aliases(name))


def _services(site: str | None) -> Iterable[str]:
    from hpctf.serving.record import all_services, services_root

    return (service.name for service in all_services(services_root(site)))


def _targets(site: str | None) -> Iterable[str]:
    from hpctf.site.loading import load_site

    return load_site(site).targets


def _sites(_: str | None) -> Iterable[str]:
    from hpctf.site.discovery import site_files

    return site_files()


_OPTIONS: dict[str, Callable[[str | None], Iterable[str]]] = {
    "--experiment": _experiments,
    "--target": _targets,
    "--site": _sites,
    "--tag": _tags,
    "--run": _runs,
}
_WORDS: dict[str, Callable[[str | None], Iterable[Any]]] = {
    "EXPERIMENT": _runs_and_experiments,
    "RUN": _runs,
    "A": _runs,
    "B": _runs,
    "STUDY": _studies,
    "MODEL": _models,
    "SERVICE": _services,
    "KEY=VALUE": _tags,
}
_PATHS = {
    **dict.fromkeys(("SCRIPT", "FILE", "PATH", "INPUTS", "EXE", "NOTEBOOK", "JOB"), "file"),
    **dict.fromkeys(("DIR", "FOLDER"), "dir"),
}
