"""The command line: `hpctf`. One module a command group, loaded when its command is called.

No logic that the Python API lacks: a command turns words into calls, and answers into words.
stdout carries the answer alone, stderr the story.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module

gc.set_threshold(100_000)  # importing makes many objects and no garbage: a tenth of the time

import click  # noqa: E402

from hpctf._version import __version__  # noqa: E402
from hpctf.common.progress import show_on  # noqa: E402
from hpctf.common.secrets import hidden  # noqa: E402
from hpctf.common.signals import keep_signals  # noqa: E402
from hpctf.common.terminal import guard  # noqa: E402
from hpctf.errors import HpctfError, RunFolderError, UsageError, did_you_mean  # noqa: E402

COMMANDS = {
    "init": ("hpctf.cli.init", "Make a project that trains: script, job file, .amlignore."),
    "submit": ("hpctf.cli.submit", "Submit a training script, or a job file."),
    "tune": ("hpctf.cli.tune", "Run a hyperparameter study of a script; view or stop it."),
    "resubmit": ("hpctf.cli.resubmit", "Submit a run again, as it was or changed."),
    "runs": ("hpctf.cli.runs", "List runs, the latest first; --rm removes them."),
    "status": ("hpctf.cli.runs", "Show the state of a run and of its ranks."),
    "why": ("hpctf.cli.runs", "Explain why a run waits, or why it failed."),
    "watch": ("hpctf.cli.watch", "Follow a run on one screen."),
    "wait": ("hpctf.cli.runs", "Wait for a run to end."),
    "cancel": ("hpctf.cli.runs", "Cancel runs."),
    "result": ("hpctf.cli.runs", "Print every rank's result."),
    "shell": ("hpctf.cli.shell", "Open a shell where a run's rank runs."),
    "logs": ("hpctf.cli.files", "Print the logs of a run."),
    "files": ("hpctf.cli.files", "List a run's outputs and logs."),
    "download": ("hpctf.cli.files", "Copy a run's files."),
    "diff": ("hpctf.cli.diff", "Compare two runs: parameters, code, environment, metrics."),
    "archive": ("hpctf.cli.housekeeping", "Pack each run into one file; restore it."),
    "du": ("hpctf.cli.housekeeping", "Show how much disk space runs take."),
    "metrics": ("hpctf.cli.metrics", "Show what runs have logged, as tables or curves."),
    "tag": ("hpctf.cli.metrics", "Add tags to a run."),
    "models": ("hpctf.cli.models", "Register models; list, download, name and export them."),
    "score": ("hpctf.cli.score", "Score the rows of files with a registered model."),
    "services": ("hpctf.cli.services", "List services, call, update and stop them."),
    "report": ("hpctf.cli.report", "Write a report on runs: one HTML file."),
    "export": ("hpctf.cli.export", "Write runs to MLflow, event files or CSV."),
    "tensorboard": ("hpctf.cli.tensorboard", "Start TensorBoard on runs."),
    "env": ("hpctf.cli.env", "Build training environments, list and remove them."),
    "site": ("hpctf.cli.site", "List, show, explain and validate sites; write one."),
    "config": ("hpctf.cli.config", "Show where each setting comes from."),
    "completion": (
        "hpctf.cli.completion",
        "Print the script that completes commands in a shell.",
    ),
    "migrate": ("hpctf.cli.migrate", "Convert a script or notebook written for Azure ML."),
    "doctor": ("hpctf.cli.doctor", "Examine a site, from here and on its nodes."),
    "docs": ("hpctf.cli.docs", "Read the documentation, or search it."),
}
GROUPS = {
    "Train": ("init", "submit", "tune", "resubmit", "cancel"),
    "Follow": ("runs", "status", "watch", "why", "logs", "wait", "shell"),
    "Results": ("metrics", "result", "files", "download", "diff", "report", "tag"),
    "Models": ("models", "score", "services"),
    "Keep": ("export", "tensorboard", "archive", "du"),
}
"""What `--help` lists commands under; those that are not here are about hpctf itself."""
_ITSELF = "Set up"
COMPLETING = "_HPCTF_COMPLETE"
"""Set where a shell asks for completions (`hpctf.cli.completion`)."""
INTERRUPTED = 130

_FIRST_DAY = """\
hpctf trains TensorFlow models on Slurm clusters, or on this machine.

The first day:
  hpctf init my-project                  make a project that trains
  hpctf submit my-project/job.yaml       submit it; this prints the run's id
  hpctf watch @last                      follow it on one screen
  hpctf why @last                        ask why it waits, or why it failed
  hpctf metrics @last --plot             see its curves
  hpctf download @last --to results      copy what it wrote to ./outputs

On a new cluster, run this once: hpctf site init, then hpctf doctor

"""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[name][0]), name)
        return _completing(command) if COMPLETING in os.environ else command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], list(COMMANDS))
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        listed = {name for names in GROUPS.values() for name in names}
        rest = tuple(name for name in COMMANDS if name not in listed)
        width = max(map(len, COMMANDS))
        for group, names in {**GROUPS, _ITSELF: rest}.items():
            with formatter.section(group):
                formatter.write_dl([(name.ljust(width), COMMANDS[name][1]) for name in names])


def _completing(command: click.Command) -> click.Command:
    """Return a command, and all under it, that completes what its arguments and options name."""
    from hpctf.cli.completion import complete_names

    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _completing(inner)
    return complete_names(command)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Train TensorFlow models on Slurm clusters, or on this machine."""
    if context.invoked_subcommand is None:
        formatter = context.make_formatter()
        context.command.format_commands(context, formatter)  # type: ignore[attr-defined]
        click.echo(_FIRST_DAY + formatter.getvalue().rstrip("\n"))
        click.echo("\nEach command has --help.")


def main() -> None:
    """Run the command line; every error of hpctf's own is one message and its exit code."""
    if COMPLETING in os.environ:  # whatever is wrong, the shell's line stays as it is
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    else:
        guard()
        show_on(sys.stderr)
    keep_signals()
    code = _run()
    gc.freeze()  # or Python would look through all modules once more, for a fifth of the time
    sys.exit(code)


def _run() -> int:
    try:
        code: int = cli.main(standalone_mode=False, complete_var=COMPLETING) or 0
        sys.stdout.flush()
        return code
    except HpctfError as error:
        print(hidden(f"hpctf: error: {error}"), file=sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # click makes it exit code 1
            return _reader_left()
        raise
    except OSError as error:
        try:
            os.getcwd()
        except OSError:
            print(_NO_FOLDER, file=sys.stderr)
            return UsageError.exit_code
        from hpctf.common.refusals import refused

        print(hidden(f"hpctf: error: {refused(error)}"), file=sys.stderr)
        return RunFolderError.exit_code


_NO_FOLDER = """\
hpctf: error: The folder that you are in no longer exists, and this command needs one.
  Change to another folder (cd), or pass absolute paths."""


def _reader_left() -> int:
    """Let what is still in stdout's buffer go nowhere: ``hpctf runs | head`` is no failure."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
