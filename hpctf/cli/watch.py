"""The command `watch`: one screen that follows a run."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import open_run, say, site_option
from hpctf.client.hpctf.within import open_file
from hpctf.common.terminal import visible
from hpctf.common.units import elapsed
from hpctf.run_folder.layout import LAST
from hpctf.run_folder.ownership import own_target
from hpctf.runs.status.state import describe

if TYPE_CHECKING:
    from pathlib import Path

    from hpctf.cli.watch_view import View
    from hpctf.run import Run
    from hpctf.runs.status.state import RunState
    from hpctf.runs.status.wait import Following

_FOLLOWED = 16
"""Ranks whose files are read: no screen shows many more, and each look asks the file server."""
_LOG_BYTES = 16384
"""What is read of a log's end."""
_PLAIN_S = 10.0
"""Shortest time between two plain lines with metrics."""
_ANSWER_S = 0.5


@click.command()
@click.argument("run_name", metavar="[RUN]", default=LAST)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between updates.",
)
@site_option
def watch(run_name: str, interval: float, site: str | None) -> None:
    """Follow RUN on one screen: state, ranks, epochs, curves, CPU and memory, GPUs, log.

    Leave with q or Ctrl-C: the run continues. If stdout is not a terminal, print a line
    for each change. Exit 1 if RUN did not complete.
    """
    from hpctf.cli.terminal import can_show
    from hpctf.runs.status.wait import Following

    run = open_run(run_name, site)
    if run.folder.is_study:
        from hpctf.cli.tune_views import watch as watch_study
        from hpctf.hyperdrive_run import HyperDriveRun

        watch_study(HyperDriveRun(run.folder), interval)
        return
    watcher = Watcher(run, Following(run.folder))
    goes_on = f"run {run.id} continues. Come back with: hpctf watch {run.id}"
    try:
        final = _on_screen(watcher, interval) if can_show() else _in_lines(watcher, interval)
    except KeyboardInterrupt:
        say(f"Interrupted: {goes_on}")
        raise
    if final is None:
        say(f"{goes_on[0].upper()}{goes_on[1:]}")
        return
    _conclude(run, watcher.view(final))
    run.raise_for(final)


def _on_screen(watcher: Watcher, interval: float) -> RunState | None:
    """Draw until the run has ended, and return its state; None if somebody has left before."""
    from hpctf.cli.terminal import Screen
    from hpctf.cli.watch_view import paint

    status = watcher.status()
    if status is not None and status.final:
        return status
    with Screen() as screen:
        while True:
            if status is not None:
                if status.final:
                    return status
                screen.draw(paint(watcher.view(status), *screen.size))
            if "q" in screen.pause(interval if status else _ANSWER_S).lower():
                return None
            status = watcher.status(0.0)


def _in_lines(watcher: Watcher, interval: float) -> RunState:
    """Print a line for each change of the state, and now and then one of metrics, to the end."""
    from hpctf.cli.watch_view import told, used_now

    before = words = ""
    told_at = began = time.monotonic()
    while True:
        status = watcher.status()
        now = time.monotonic()
        if status is not None:
            if describe(status) != before:
                before = describe(status)
                click.echo(f"[{elapsed(now - began)}] {before}")
            if status.final:
                return status
            view = watcher.view(status)
            new = told(view)
            if new != words and (not words or now - told_at >= _PLAIN_S):
                words, told_at = new, now
                click.echo(
                    f"[{elapsed(now - began)}] " + "; ".join(filter(None, [new, used_now(view)]))
                )
        time.sleep(interval)


def _conclude(run: Run, view: View) -> None:
    """Print how it ended."""
    from hpctf.cli.watch_view import told

    click.echo(f"{run.id}: {describe(view.status)}")
    used = run.get_efficiency()
    for line in filter(None, (told(view), used and f"used {used}")):
        click.echo(line)
    click.echo(f"folder {run.folder.path}")


@dataclass
class Watcher:
    """A run, its status, and what it has written, read anew for each picture."""

    run: Run
    following: Following

    def __post_init__(self) -> None:
        from hpctf.run_folder.rank_states import ranks_of
        from hpctf.tracking.live import Live

        ranks = [f"{role}-{index}" for role, index in ranks_of(self.run.plan)]
        self._live = Live(self.run.folder.path, ranks[:_FOLLOWED])
        self._record: dict[str, Any] = self.run.folder.read_record()

    def status(self, timeout: float = _ANSWER_S) -> RunState | None:
        """Return the status, or None if it is not known yet."""
        return self.following.status(timeout)

    def view(self, status: RunState) -> View:
        """Return all that there is to show now."""
        from hpctf.cli.watch_view import View, log_lines

        self._live.look()
        samples = {rank: one.last for rank, one in self._live.samples.items()}
        log = self._log(status)
        plan = self.run.plan
        if not self._record.get("job_id"):
            self._record = self.run.folder.read_record()
        job = self._record.get("job_id") or "-"
        return View(
            id=self.run.id,
            about=visible(f"job {job}  {plan['site']}/{plan['target']}  {plan['backend']}"),
            status=status,
            submitted=float(self._record.get("submitted") or time.time()),
            now=time.time(),
            progress=self._live.progress,
            series={visible(name): one for name, one in self._live.series().items()},
            samples={rank: one for rank, one in samples.items() if one is not None},
            log_name=log.name,
            log=log_lines(_end_of(log)),
        )

    def _log(self, status: RunState) -> Path:
        """Return the log that tells most now: of a failed rank, the first one's, or the job's."""
        from hpctf.run_folder.rank_states import first_failure

        failed = first_failure(status.ranks)
        folder = self.run.folder
        name = failed.name if failed else status.ranks[0].name
        build_log = own_target(folder.build_log, folder.path)
        logs = [folder.logs / f"{name}.log", folder.job_log, build_log]
        return next((log for log in logs if log.exists() and log.stat().st_size), logs[0])


def _end_of(log: Path) -> str:
    try:
        with open_file(log) as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LOG_BYTES))
            return stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
