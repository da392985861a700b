"""The run that a process belongs to."""

import atexit
import io
import json
import os
import re
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

from . import artifacts
from .journal import Journal
from .offline import Printer
from .run_metrics import CHILDREN, JOURNALS, Tracked
from .values import json_tree, scalar, scalars

_journals: Dict[str, Journal] = {}


class Run:
    """The run that a training process belongs to, as its environment tells.

    Get it with `get_context`, in a script that hpctf runs or in one that is tried out by hand.
    Every rank may log: each writes a file of its own (docs/tracking.md). Outside of a job what is
    logged is printed.

    Parameters
    ----------
    environ
        The process's variables; those that begin with HPCTF_ tell of the run.

    Attributes
    ----------
    id, experiment
        Names of the run; outside of a job ``OfflineRun_`` and a random word, and ``offline``.
    role, index
        What this process is: ``chief``, ``worker`` or ``ps``, and which one of its kind.
    rank, local_rank, world_size
        Its number among all processes and among those of its node, and how many there are.
    outputs, checkpoints
        Folders: what is kept with the run, and what outlives its restarts as well. Outside of a
        job ``outputs`` and ``checkpoints`` where the script runs.
    restart_count
        How often the run's job was started again: 0 at first.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.id = environ.get("HPCTF_RUN_ID") or "OfflineRun_" + os.urandom(16).hex()
        self.experiment = environ.get("HPCTF_EXPERIMENT", "offline")
        self.role = environ.get("HPCTF_ROLE", "worker")
        self.index = int(environ.get("HPCTF_INDEX", 0))
        self.rank = int(environ.get("HPCTF_RANK", 0))
        self.local_rank = int(environ.get("HPCTF_LOCAL_RANK", 0))
        self.world_size = int(environ.get("HPCTF_WORLD_SIZE", 1))
        self.outputs = Path(environ.get("HPCTF_OUTPUTS_DIR", "outputs")).absolute()
        self.checkpoints = Path(environ.get("HPCTF_CHECKPOINT_DIR", "checkpoints")).absolute()
        self.restart_count = int(environ.get("HPCTF_RESTART_COUNT", 0))
        self.offline = "HPCTF_RUN_ID" not in environ
        self.parent: Optional[Run] = None
        self._use(environ.get("HPCTF_RUN_FOLDER"))

    def _use(self, folder: Optional[str], prepare: Optional[Callable[[], None]] = None) -> None:
        """Write to the run folder, or nowhere; `prepare` makes the folder."""
        self._folder = folder
        self._journal = _journal(folder, self._rank_name, self.restart_count, prepare)
        self._scalar = self._journal.scalar

    @classmethod
    def get_context(
        cls, allow_offline: bool = True, *, environ: Optional[Mapping[str, str]] = None
    ) -> "Run":
        """Return the run of this process.

        Parameters
        ----------
        allow_offline
            Whether a process outside of any run gets an offline run, as in Azure ML.
        environ
            The variables to read; by default the process's own.

        Raises
        ------
        RuntimeError
            There is no run, and `allow_offline` is false.
        """
        run = cls(os.environ if environ is None else environ)
        if run.offline and not allow_offline:
            raise RuntimeError(
                "Run.get_context(allow_offline=False): this process belongs to no run. "
                "Start the script with: hpctf submit"
            )
        return run

    def log(self, name: str, value: Any, step: Optional[int] = None) -> None:
        """Log a number, a string or a bool under a name; again for a curve.

        It is in the operating system's hands when the call returns, in a few microseconds: it
        stays if the process is killed.

        Parameters
        ----------
        value
            Python's own, or one element of numpy, TensorFlow, Keras or PyTorch. NaN and infinities
            are kept as they are.
        step
            What it belongs to, such as the epoch; by default its place among the name's values.

        Raises
        ------
        TypeError
            The value is none of these. A full disk raises nothing: training goes on.
        """
        if not self._scalar(name, value, step):
            self._log(name, "value", scalar(value, f"log({name!r}, ...)"), step)

    def log_list(self, name: str, values: Iterable[Any], step: Optional[int] = None) -> None:
        """Log a list of values under a name; lists that are logged later are added to its end."""
        self._log(name, "list", scalars(values, f"log_list({name!r}, ...)"), step)

    def log_row(self, name: str, *, step: Optional[int] = None, **columns: Any) -> None:
        """Log one row of a table: ``run.log_row("speed", batch=64, images=1200.0)``."""
        what = f"log_row({name!r}, ...)"
        self._log(name, "row", {key: scalar(value, what) for key, value in columns.items()}, step)

    def log_table(self, name: str, value: Mapping[str, Any], step: Optional[int] = None) -> None:
        """Log a table: a mapping from each column's name to its list of values, or to one value."""
        what = f"log_table({name!r}, ...)"
        if not isinstance(value, Mapping):
            raise TypeError(f"{what} takes a mapping from column to values, not {value!r}")
        self._log(name, "table", json_tree(value, what), step)

    def log_image(
        self,
        name: str,
        path: Union[str, "os.PathLike[str]", None] = None,
        plot: Any = None,
        step: Optional[int] = None,
    ) -> None:
        """Log an image: the file at `path`, or `plot`, a matplotlib figure (or pyplot itself).

        It is copied now, and found as ``images/<name>_<step>.png`` among the run's files. A full
        disk raises nothing, as with `log`.
        """
        if (path is None) == (plot is None):
            raise TypeError(f"log_image({name!r}, ...) takes either a path or a plot")
        ending = ".png" if path is None else artifacts.split_ending(os.fspath(path))[1]
        mark = int(time.time() * 1000) if step is None else step
        kept = artifacts.image_name(name, mark, self._rank_name if self.rank else "", ending)
        if path is not None and not os.path.isfile(path):
            raise FileNotFoundError(f"log_image: there is no file {os.fspath(path)!r}.")
        try:
            if self._folder is not None and path is None:
                artifacts.save_figure(self._folder, kept, plot)
            elif self._folder is not None:
                artifacts.keep_file(self._folder, kept, path)
        except OSError as error:
            self._journal.lose(error, kept)
            return
        self._log(name, "image", kept, step)

    def log_confusion_matrix(
        self,
        name: str,
        value: Any,
        labels: Optional[Iterable[Any]] = None,
        step: Optional[int] = None,
    ) -> None:
        """Log a confusion matrix, rows the true classes.

        Parameters
        ----------
        value
            The n × n counts, or Azure ML's form, as a mapping or as JSON:
            ``{"data": {"class_labels": [...], "matrix": [[...]]}}``.
        labels
            The n classes' names; by default 0 to n - 1.
        """
        what = f"log_confusion_matrix({name!r}, ...)"
        value = json.loads(value) if isinstance(value, str) else value
        if isinstance(value, Mapping):
            value = value.get("data", value)
            value, labels = value["matrix"], value.get("class_labels", labels)
        matrix = scalars(value, what)
        named = list(range(len(matrix))) if labels is None else scalars(labels, what)
        if any(not isinstance(row, list) or len(row) != len(named) for row in [named, *matrix]):
            raise ValueError(
                f"{what} takes n × n counts and n labels, but got {len(matrix)} rows and "
                f"{len(named)} labels"
            )
        self._log(name, "confusion_matrix", {"class_labels": named, "matrix": matrix}, step)

    def tag(self, key: str, value: Any = None) -> None:
        """Give the run a tag, or a tag another value; runs are found by their tags."""
        self._journal.append({"tag": str(key), "value": scalar(value, f"tag({key!r}, ...)")})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Give the run several tags."""
        for key, value in tags.items():
            self.tag(key, value)

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Give the run properties, which never change once they are set."""
        for key, value in properties.items():
            what = f"add_properties({{{key!r}: ...}})"
            self._journal.append({"property": str(key), "value": scalar(value, what)})

    def progress(self, **done: Any) -> None:
        """Say how far the training is: ``run.progress(epoch=3, epochs=12)``."""
        self._journal.append({"progress": {k: scalar(v, "progress()") for k, v in done.items()}})

    def upload_file(self, name: str, path_or_stream: Any) -> None:
        """Keep a copy of a file, or of what a stream holds, with the run, under `name`; one of
        that name is replaced.

        What lies in ``./outputs`` is kept without being asked for. A file that cannot be kept is
        an error, as in Azure ML: OSError, with a full disk, too.
        """
        if self._folder is None:
            artifacts.place_of("", name)
            print(f"upload_file: {path_or_stream} as {name}", flush=True)
        else:
            artifacts.keep_file(self._folder, name, path_or_stream)

    def upload_folder(self, name: str, path: Union[str, "os.PathLike[str]"]) -> None:
        """Keep copies of all files below a folder with the run, below `name`."""
        if self._folder is None:
            print(f"upload_folder: {os.fspath(path)} as {name}", flush=True)
        else:
            artifacts.keep_folder(self._folder, name, path)

    def register_model(
        self,
        model_name: str,
        model_path: Optional[str] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        model_framework: Optional[str] = None,
        model_framework_version: Optional[str] = None,
        description: Optional[str] = None,
    ) -> Any:
        """Register a file or folder of the run as the next version of a model, and return it, with
        its ``name``, ``version`` and ``id``. One rank should, not each.

        Parameters
        ----------
        model_path
            What the run has kept: ``outputs/model.keras``; by default `model_name`.
        tags, properties, description
            What is said of the model. Properties never change once they are set.

        Raises
        ------
        RuntimeError
            It is not registered; the error says why.
        """
        if self._folder is None:
            print(f"register_model: {model_path or model_name} as {model_name}", flush=True)
            return None
        from .registering import register

        about = {
            "tags": tags,
            "properties": properties,
            "description": description,
            "framework": model_framework,
            "framework-version": model_framework_version,
        }
        return register(self._folder, model_name, model_path, about)

    def flush(self) -> None:
        """Wait until all that was logged is on the disk, or at the file server."""
        self._journal.flush()

    def child_run(self, name: Optional[str] = None) -> "Run":
        """Return a run of its own within this one, such as a fold of a cross-validation.

        Ranks that name the same child, and a restarted job, get the same one. It ends by
        `complete` or `fail`, at the end of a ``with`` block, or with its parent.
        """
        word = os.urandom(4).hex() if name is None else str(name)
        if not re.match(r"^[\w.-]{1,64}$", word) or word.startswith("."):
            raise ValueError(
                f"A child run's name is {name!r}, but must be of letters, digits, _, - and ."
            )
        child = Run.__new__(type(self))
        child.__dict__.update(self.__dict__)
        child.id, child.parent = f"{self.id}_{word}", self
        if self._folder is None:
            child._use(None)
            return child
        folder = os.path.join(self._folder, CHILDREN, child.id)
        about = {"id": child.id, "name": word, "parent": self.id}
        child._use(folder, partial(_make_child, folder, about, self._folder))
        try:
            _make_child(folder, about, self._folder)
        except OSError as error:  # tried again with the first record
            self._journal.lose(error, folder)
        return child

    def complete(self) -> None:
        """Say that a child run is done. A run itself is, once all of its ranks have ended."""
        self._end("Completed")

    def fail(self, error_details: Any = None) -> None:
        """Say that a child run has failed; a run itself fails by its script's exit code."""
        self._end("Failed", str(error_details or ""))

    def _end(self, state: str, reason: str = "") -> None:
        if self.parent is not None:
            self._journal.append({"ended": {"state": state, "reason": reason}})
        self.flush()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.complete()
        else:
            self.fail(f"{kind.__name__}: {error}")

    def get_metrics(self, name: Optional[str] = None) -> Dict[str, Any]:
        """Return what was logged, by name, in the forms of Azure ML's ``get_metrics``.

        One value, or the list of all; of rows and tables a mapping from column to values. Of what
        several ranks have logged, the first rank's.
        """
        return self._tracked().metrics(name)

    def get_tags(self) -> Dict[str, Any]:
        """Return the run's tags."""
        return self._tracked().tags()

    def get_properties(self) -> Dict[str, Any]:
        """Return the run's properties."""
        return self._tracked().properties()

    def get_children(self) -> List[str]:
        """Return the ids of the child runs."""
        return [child.id for child in self._tracked().children()]

    def _tracked(self) -> Tracked:
        return self._journal if isinstance(self._journal, Printer) else Tracked(self._folder or "")

    def _log(self, name: str, kind: str, content: Any, step: Optional[int]) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"A metric's name is {name!r}, but must be a word or more.")
        record = {"name": name, kind: content}
        if step is not None:
            record["step"] = _whole(step, name)
        self._journal.append(record)

    @property
    def _rank_name(self) -> str:
        return f"{self.role}-{self.index}"

    def __repr__(self) -> str:
        name = f"id={self.id!r}, experiment={self.experiment!r}"
        return f"Run({name}, role={self.role!r}, index={self.index})"


def _journal(
    folder: Optional[str], rank: str, attempt: int, prepare: Optional[Callable[[], None]]
) -> Any:
    """Return this process's one journal of a folder; without a folder, one that prints."""
    if folder is None:
        return Printer()
    path = os.path.join(folder, JOURNALS, rank)
    if path not in _journals:
        journal = _journals[path] = Journal(path, attempt, prepare)
        atexit.register(journal.close)
    return _journals[path]


def _whole(step: Any, name: str) -> int:
    """Return a step as an int: it may be numpy's or TensorFlow's, or a float such as 3.0."""
    found = scalar(step, f"log({name!r}, ..., step=...)")
    if isinstance(found, (int, float)) and found == int(found):
        return int(found)
    shown = found if isinstance(found, dict) else repr(step)  # Python shows no huge numbers
    raise TypeError(f"The step of {name!r} is {shown}, but must be a whole number.")


def _make_child(folder: str, about: Dict[str, Any], parent: str) -> None:
    """Make a child run's folder, in one that is there: a run that was removed stays so."""
    os.stat(os.path.join(parent, JOURNALS))
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "child.json")
    if not os.path.exists(path):
        text = json.dumps({**about, "created": time.time()})
        artifacts.copy_whole(io.StringIO(text), path)
    os.makedirs(os.path.join(folder, JOURNALS), exist_ok=True)  # last: who finds it logs there
