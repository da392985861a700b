"""What can go wrong, each with an exit code and a way out.

HpctfError (exit 2)
├── UsageError           the person asked for something that cannot be: nothing was touched
│   ├── HostlistError    text that is not a Slurm host list
│   └── ClusterSpecError roles that do not fit the tasks, or a TF_CONFIG that cannot be passed
├── SiteError (exit 3)   the site's configuration is wrong
├── BuildError (exit 3)  a training environment cannot be built, or is not to be touched
├── SchedulerError (exit 3)  Slurm refused, or could not be asked
│   └── SubmissionError  sbatch said no: its own words are kept
├── ExportError (exit 3)  a model cannot be exported, or a tool refused, or could not be reached
├── StagingError (exit 3)  data cannot be copied to a node's own disk
├── ServiceError (exit 3)  a service cannot be reached, failed to start, or refused a request
├── UntrustedPath (exit 3)  others could change what would be executed as the person
├── RunNotFound          no run of that name
├── ModelNotFound        no registered model of that name, version or alias
├── RunFolderError (exit 3)  a run folder cannot be written, or must not be trusted
│   ├── UnreadableRun    a document of a run is missing, damaged, foreign, or of a newer hpctf
│   └── UnreadableModel  the same of a registered model, or its files are not what was registered
└── TrainingFailed (exit 1)  the training itself failed, or was cancelled
"""

from __future__ import annotations


class HpctfError(Exception):
    """Base of every error that hpctf raises on purpose.

    Parameters
    ----------
    message
        What went wrong: the thing, its value, and the rule it breaks.
    hint
        What to do now; shown on a line of its own.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class UsageError(HpctfError, ValueError):
    """The request cannot be met; nothing was written or submitted."""


class HostlistError(UsageError):
    """Text that Slurm's host list grammar does not allow."""


class ClusterSpecError(UsageError):
    """Roles and tasks that do not make a cluster TensorFlow can use."""


class SiteError(HpctfError):
    """A site configuration that is missing or wrong."""

    exit_code = 3


class BuildError(HpctfError):
    """A training environment that cannot be built, found whole, or removed."""

    exit_code = 3


class SchedulerError(HpctfError):
    """The scheduler refused, or could not be asked."""

    exit_code = 3


class SubmissionError(SchedulerError):
    """The scheduler did not take the job."""


class ExportError(HpctfError):
    """A model cannot be exported, or a tool that runs are exported to refused."""

    exit_code = 3


class StagingError(HpctfError):
    """Data, or an environment, cannot be brought to a node's own disk."""

    exit_code = 3


class ServiceError(HpctfError):
    """A service that cannot be reached, did not start, or refused a request."""

    exit_code = 3


class UntrustedPath(HpctfError):
    """What would be executed as the person can be changed by somebody who is not trusted."""

    exit_code = 3


class RunNotFound(UsageError):
    """No run, or more than one, answers to the name."""


class ModelNotFound(UsageError):
    """No registered model answers to the name, version or alias."""


class RunFolderError(HpctfError):
    """A run folder that cannot be written, or that must not be trusted."""

    exit_code = 3


class UnreadableRun(RunFolderError):
    """A run whose folder does not hold what it must; all other runs are as they were.

    Parameters
    ----------
    folder
        The run folder.
    file
        The file in it that is wrong, and `reason` how.
    """

    def __init__(self, folder: str, file: str, reason: str, hint: str | None = None) -> None:
        run_id = folder.rstrip("/").rpartition("/")[2]
        super().__init__(
            f"Cannot read run {run_id}: {file}: {reason}.",
            hint or f"Restore {folder}/{file} from a backup, if you have one.",
        )
        self.run_id = run_id
        self.file = file
        self.reason = reason


class UnreadableModel(RunFolderError):
    """A registered model that is damaged, or no longer what was registered."""


class TrainingFailed(HpctfError):
    """The training ended without success."""

    exit_code = 1


def shown(value: object, most: int = 200) -> str:
    """Return ``repr(value)`` for a message: cut in the middle where it is long, and without
    walking through all of a value that holds itself or far more than anybody reads."""
    import reprlib

    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = most
    short.maxlevel = 2
    return short.repr(value)


def did_you_mean(word: str, known: list[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest of `known`, or the empty string."""
    import difflib

    near = difflib.get_close_matches(word[:100], known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
