"""A run, from the moment it is submitted to long after it has ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hpctf.errors import UsageError, did_you_mean
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.logs import LogPrinter
from hpctf.run_folder.rank_states import ranks_of
from hpctf.runs.kept_files import copy_file, names_of
from hpctf.runs.status.query import details, look, scheduler_of
from hpctf.runs.status.state import RunState
from hpctf.scheduler.jobs import Scheduler
from hpctf.tracking.metrics import Reading

if TYPE_CHECKING:
    from hpctf.child_run import ChildRun
    from hpctf.client.hpctf.run_context import Run as RunContext
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.model import Model
    from hpctf.runs.explain.why import Explanation
    from hpctf.site.model import Site
    from hpctf.tracking.efficiency import Efficiency


class Run(Reading):
    """One submitted training, by its run folder or the path of it."""

    def __init__(self, folder: RunFolder | str | os.PathLike[str]) -> None:
        self.folder = RunFolder(folder.path if isinstance(folder, RunFolder) else Path(folder))
        if not os.path.lexists(self.folder.record_file):
            raise UsageError(
                f"{str(self.folder.path)!r} is not a run's folder.", "List the runs: hpctf runs."
            )
        super().__init__(self.folder.path)

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, experiment={self.experiment!r}, job_id={self.job_id!r})"

    def _repr_html_(self) -> str:
        from hpctf.notebook.cards import run_card

        return run_card(self.folder)

    @staticmethod
    def get_context(allow_offline: bool = True) -> RunContext:
        """Return the run that this very process belongs to, for training scripts.

        It is what scripts get where hpctf is not installed, too: see
        `hpctf.client.hpctf.run_context.Run`.
        """
        from importlib import import_module

        # By the name that scripts know it by: a process has one journal.
        context: RunContext = import_module("hpctf.run_context").Run.get_context(allow_offline)
        return context

    @property
    def id(self) -> str:
        """The run's id: its folder's name, and its job's."""
        return self.folder.id

    @property
    def experiment(self) -> str:
        """The name of its experiment."""
        return self.folder.experiment

    @property
    def plan(self) -> dict[str, Any]:
        """``plan.json``: everything that was to run."""
        return self.folder.plan

    @property
    def job_id(self) -> str | None:
        """Slurm's job id, of a het job the leader's; None before submission."""
        return self.folder.job_id

    @property
    def cluster(self) -> str | None:
        """The Slurm cluster that has the job, if it is not the one of this machine."""
        cluster = self.folder.read_record().get("cluster")
        return None if cluster is None else str(cluster)

    def scheduler(self) -> Scheduler:
        """Return the scheduler that has the run's job."""
        return scheduler_of(self.folder)

    @property
    def status(self) -> str:
        """The state's name, as in Azure ML: Queued, Running, Completed ..."""
        return self.look().state

    def get_status(self) -> str:
        """Return `status`."""
        return self.status

    def look(self) -> RunState:
        """Return state, reason, exit code and ranks, asking the scheduler unless it is settled."""
        return look(self.folder)

    def get_details(self) -> dict[str, Any]:
        """Return all that is known of the run, ready for JSON.

        At least ``id``, ``experiment``, ``state``, ``reason``, ``job_id``, ``exit_code`` and
        ``roles`` (each with ``role``, ``index``, ``host``, ``state``, ``exit_code``, ``signal``).
        """
        return details(self.folder, self.look())

    def get_children(self) -> list[ChildRun]:
        """Return the child runs that the training has made, in their order."""
        from hpctf.child_run import ChildRun

        children = self._children()
        state = self.status if children else ""
        return [ChildRun(child, state) for child in children]

    def get_system_metrics(self) -> dict[str, dict[str, list[Any]]]:
        """Return what the ranks' processes used of their nodes, sampled while they ran.

        Returns
        -------
        dict
            By rank (``worker-0``) its columns, as long as each other, with None where a sample
            lacks one: ``time`` (seconds since the epoch), ``seconds`` (that the sample is of),
            ``host``, ``cpu`` (cores), ``memory`` and ``memory_peak`` (bytes), ``processes``,
            ``gpu0_use`` (percent), ``gpu0_memory`` and so on.
        """
        from hpctf.tracking.samples import columns, read_samples

        ranks = [f"{role}-{index}" for role, index in ranks_of(self.plan)]
        return {rank: columns(one) for rank, one in read_samples(self.folder.path, ranks).items()}

    def get_efficiency(self) -> Efficiency | None:
        """Return what each node's ranks used of what was requested; None if nothing was sampled."""
        from hpctf.runs.energy import node_energies
        from hpctf.tracking.efficiency import efficiency

        return efficiency(self.folder.path, self.plan, node_energies([self.folder]).get(self.id))

    def show(self, interval_s: float = 1.0) -> None:
        """Show the run in a notebook, and keep that up to date while the kernel is free.

        Elsewhere its state is printed. Raises what keeps the state from being told.
        """
        from hpctf.notebook.show import show

        show(self.folder, interval_s)

    def why(self) -> Explanation:
        """Return why the run waits, runs or failed, in plain words, and what can be done."""
        from hpctf.runs.explain.why import explain

        return explain(self.folder)

    def wait_for_completion(
        self,
        show_output: bool = False,
        raise_on_error: bool = True,
        on_change: Callable[[RunState, float], None] | None = None,
        stream: TextIO | None = None,
    ) -> RunState:
        """Wait until the run has ended and its job has left the queue.

        Interrupting the wait leaves the run going.

        Parameters
        ----------
        show_output
            Whether to print the first rank's log as it grows.
        raise_on_error
            Whether a run that did not complete raises.
        on_change
            Called with the status and the seconds waited, at every look.
        stream
            Where the log goes; by default stdout.

        Raises
        ------
        TrainingFailed
            With role, index, host, exit code and last log lines of the first rank that failed.
        """
        from hpctf.runs.status.wait import wait

        role, index = self.plan["roles"][0]["name"], 0
        log = self.folder.logs / f"{role}-{index}.log"
        printers = [LogPrinter(log, stream=stream)] if show_output else []
        status = wait(self.folder, on_change, printers)
        if raise_on_error:
            self.raise_for(status)
        return status

    def raise_for(self, status: RunState) -> None:
        """Raise `TrainingFailed` with the whole story unless the status is Completed."""
        from hpctf.runs.failure import failure_of

        failure = failure_of(self.folder, status)
        if failure is not None:
            raise failure

    def cancel(self) -> None:
        """Cancel the run; one that has ended stays as it is.

        Raises
        ------
        SchedulerError
            The scheduler refused, or did not say that the job is still this run's.
        """
        from hpctf.runs.cancelling import cancel

        cancel(self.folder)

    def resubmit(self, on_note: Callable[[str], None] | None = None, **changes: Any) -> Run:
        """Submit the run again, with its code, environment and request, and return the new one.

        Parameters
        ----------
        on_note
            Called with each note; by default it is logged, or printed to stderr.
        changes
            ``trust`` (True lets the code of a run that you have not submitted run as you),
            ``site``, ``settings``, ``experiment``, ``name``, and all that the estimator takes but
            code and packages: ``node_count=4``, ``arguments=["--epochs", "9"]`` (they replace all
            arguments of the script), ``resume_from=run`` to go on from its checkpoints.

        Raises
        ------
        UsageError
            It cannot be submitted again, or not so (`hpctf.runs.resubmission.resubmission`).
        """
        from hpctf.runs.resubmission import resubmission

        where = {name: changes.pop(name, None) for name in _WHERE}
        trust = bool(changes.pop("trust", False))
        again = resubmission(self.folder, changes, trust=trust, **where)
        return Run(again.submit(on_note))

    def then(
        self,
        estimator: TensorFlow,
        when: str = "ok",
        on_note: Callable[[str], None] | None = None,
        **where: Any,
    ) -> Run:
        """Submit a training that starts once this run has ended, and return its run.

        Parameters
        ----------
        when
            How this run must end: ``ok`` (it completed), ``any`` or ``failed``.
        on_note, where
            As in `Experiment.submit`: ``experiment``, ``site`` (this run's), ``name``, ``tags``.

        Raises
        ------
        UsageError, SchedulerError
            This run has ended otherwise, or Slurm cannot wait for it.
        """
        from hpctf.runs.successor import Successor

        return Run(Successor(**where).submit_after(self.folder, estimator, when, on_note))

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        *,
        site: Site | str | None = None,
        models_root: str | os.PathLike[str] | None = None,
    ) -> Model:
        """Register a file or folder of the run as the next version of a model, and return it.

        Parameters
        ----------
        model_path
            One of `get_file_names`, or a folder of them: ``outputs/model.keras``; by default
            `model_name`.
        tags, properties, description
            What is said of the model. Properties never change once they are set.
        model_framework, model_framework_version
            By default TensorFlow and its version in the run, where the files are of its formats.
        site, models_root
            Where models lie, as `hpctf.Model` has it.

        Raises
        ------
        UsageError
            The run has no such file or folder, or the name is not valid.
        RunFolderError
            The file system refuses.
        """
        from hpctf.model import Model, about_of

        about = about_of(tags, properties, description, model_framework, model_framework_version)
        return Model.of_run(
            self.folder, model_name, model_path, about, site=site, models_root=models_root
        )

    def delete(self) -> None:
        """Remove the run with its folder (`hpctf.runs.housekeeping.removal.remove`)."""
        from hpctf.runs.housekeeping.removal import remove

        remove(self.folder.root, [self.folder])

    def archive(self, to: str | os.PathLike[str] | None = None) -> Path:
        """Archive the run as one file, and return it (`hpctf.runs.housekeeping.archives`)."""
        from hpctf.runs.housekeeping.archives import archive

        folder = None if to is None else Path(to)
        return archive(self.folder.root, [self.folder], folder)[0].file

    def result(self, trust: bool = False) -> Any:
        """Return the first rank's result: a function's value, or how the script's rank ended
        (`results`)."""
        return self.results(trust)[0]

    def results(self, trust: bool = False) -> list[Any]:
        """Wait, and return every rank's result in rank order.

        A function's value; None for ranks that ran TensorFlow's server in its stead. For a script
        a mapping with ``rank``, ``role``, ``index``, ``host`` and ``exit_code``.

        Parameters
        ----------
        trust
            Whether the results of a run that you have not submitted may be read: one that you have
            copied, or restored from somebody's archive. They are pickles, and run code as you.

        Raises
        ------
        TrainingFailed
            The run did not complete.
        RunFolderError
            The files are not the user's own, or others may write them (a pickle runs code), or
            the run's record does not name its job.
        """
        if self.folder.is_study:
            raise UsageError(
                f"Run {self.id} is a study: its trials have results.", f"hpctf result {self.id}_0"
            )
        self.wait_for_completion()
        from hpctf.run_folder.trusted_results import trusted_results
        from hpctf.runs.results import unpickled

        with trusted_results(self.folder.path, trust=trust) as submitit:
            values = unpickled(self.folder, submitit)
        if self.plan["entry"]["kind"] == "script":
            return values
        serving = [
            role["runs"] == "server" for role in self.plan["roles"] for _ in range(role["count"])
        ]
        return [None if server else value for server, value in zip(serving, values, strict=True)]

    def get_file_names(self) -> list[str]:
        """Return the names of the run's files, sorted: ``outputs/...``, ``logs/...``,
        ``checkpoints/...``, ``snapshot/...`` for what the script wrote into its working directory,
        and what it has uploaded by the names that it chose."""
        return names_of(self.folder)

    def download_file(self, name: str, output_file_path: str | os.PathLike[str] = ".") -> Path:
        """Copy one of `get_file_names` to a file or folder, and return where it lies now.

        Raises
        ------
        UsageError
            The run has no such file.
        """
        names = self.get_file_names()
        if name not in names:
            known = "Its files: " + (", ".join(names[:8]) or "none")
            raise UsageError(
                f"Run {self.id} has no file {name!r}.{did_you_mean(name, names)}", known
            )
        return copy_file(self.folder, name, output_file_path)

    def download_files(
        self, prefix: str = "outputs/", output_directory: str | os.PathLike[str] = "."
    ) -> list[Path]:
        """Copy every file whose name begins with `prefix`, keeping the names below the folder."""
        names = [name for name in self.get_file_names() if name.startswith(prefix)]
        return list(self.copy_files(names, output_directory))

    def copy_files(
        self, names: Iterable[str], output_directory: str | os.PathLike[str]
    ) -> Iterator[Path]:
        """Copy files that `get_file_names` has returned, and yield where each lies now."""
        for name in names:
            yield copy_file(self.folder, name, Path(output_directory) / name)


_WHERE = ("site", "settings", "experiment", "name")
_ENDINGS = {"Failed": "failed", "Canceled": "was cancelled"}
