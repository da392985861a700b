"""Azure ML's Run as a script of hpctf's has it: names and meanings of ``azureml.core.Run`` (v1).

Scripts get it by ``from azureml.core import Run`` where Azure ML's own package is not installed
(hpctf/startup/azureml.py). What it has and has not is in docs/from-azure-ml.md.
"""

import os
import re
import sys
import traceback
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NoReturn, Optional, Sequence

from . import artifacts, run_context
from .refusing import refusal
from .values import json_tree, scalar


def _refuse(what: str, instead: str) -> NoReturn:
    words = f"{what} is Azure ML's, and not there in a run of hpctf: {instead}"
    raise refusal(NotImplementedError, f"{words} (docs/from-azure-ml.md).")


def _refused(what: str, instead: str) -> Any:
    """Return a method that is Azure ML's, and only says what to do instead."""

    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(what, instead)

    return method


class Experiment(str):
    """The experiment's name, with the attributes that Azure ML's has."""

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self)

    workspace = property(_refused("experiment.workspace", "there is no workspace on a cluster"))
    start_logging = _refused(
        "experiment.start_logging()", "say Run.get_context(), and child_run() for one more"
    )


class Run(run_context.Run):
    """The run of this process, as Azure ML's scripts know it; hpctf's own names are there too."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.experiment = Experiment(self.experiment)
        self._name = self.id

    @property
    def name(self) -> str:
        """The run's id, or the name that a child run was given."""
        return self._name

    display_name = name

    @property
    def number(self) -> int:
        """A number that grows from run to run: when it was submitted, in milliseconds."""
        return number_of(self.id)

    @property
    def tags(self) -> Dict[str, Any]:
        """The run's tags."""
        return self.get_tags()

    @property
    def properties(self) -> Dict[str, Any]:
        """The run's properties."""
        return self.get_properties()

    @property
    def status(self) -> str:
        """``Running``: who asks is."""
        return "Running"

    def get_status(self) -> str:
        """Return `status`."""
        return self.status

    def get_details(self) -> Dict[str, Any]:
        """Return what a script can know of its run, under Azure ML's names."""
        return {
            "runId": self.id,
            "status": self.status,
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "logFiles": {name: name for name in self.get_file_names() if name.startswith("logs/")},
        }

    def log(  # type: ignore[override]
        self, name: str, value: Any, description: str = "", step: Optional[int] = None
    ) -> None:
        """Log a value; hpctf keeps no descriptions."""
        super().log(name, value, step)

    def log_list(  # type: ignore[override]
        self, name: str, value: Iterable[Any], description: str = "", step: Optional[int] = None
    ) -> None:
        """Log a list of values."""
        super().log_list(name, value, step)

    def log_row(self, name: str, description: Optional[str] = None, **columns: Any) -> None:
        """Log a row of a table; each keyword is a column, ``step`` as well."""
        what = f"log_row({name!r}, ...)"
        self._log(name, "row", {key: scalar(value, what) for key, value in columns.items()}, None)

    def log_table(  # type: ignore[override]
        self, name: str, value: Mapping[str, Any], description: str = "", step: Optional[int] = None
    ) -> None:
        """Log a table: a mapping from column to values."""
        super().log_table(name, value, step)

    def log_image(  # type: ignore[override]
        self,
        name: str,
        path: Optional[str] = None,
        plot: Any = None,
        description: str = "",
        step: Optional[int] = None,
    ) -> None:
        """Log an image, or a figure of matplotlib's."""
        super().log_image(name, path, plot, step)

    def log_confusion_matrix(  # type: ignore[override]
        self, name: str, value: Any, description: str = ""
    ) -> None:
        """Log a confusion matrix in Azure ML's form."""
        super().log_confusion_matrix(name, value)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Log an accuracy table in Azure ML's form."""
        self._log_chart(name, "accuracy_table", value)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Log predictions in Azure ML's form."""
        self._log_chart(name, "predictions", value)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Log residuals in Azure ML's form."""
        self._log_chart(name, "residuals", value)

    def _log_chart(self, name: str, kind: str, value: Any) -> None:
        self._log(name, kind, json_tree(value, f"log_{kind}({name!r}, ...)"), None)

    def upload_file(
        self, name: str, path_or_stream: Any, datastore_name: Optional[str] = None
    ) -> None:
        """Keep a copy of a file, or of what a stream holds, with the run."""
        super().upload_file(name, path_or_stream)

    def upload_files(
        self, names: Sequence[str], paths: Sequence[str], *args: Any, **kwargs: Any
    ) -> None:
        """Keep copies of files, each under its own name."""
        if len(names) != len(paths):
            raise ValueError(
                f"upload_files takes a name a path, but got {len(names)} names and {len(paths)} "
                "paths."
            )
        for position, name in enumerate(names):
            self.upload_file(name, paths[position])

    def upload_folder(  # type: ignore[override]
        self, name: str, path: str, datastore_name: Optional[str] = None
    ) -> None:
        """Keep copies of all files below a folder with the run."""
        super().upload_folder(name, path)

    def get_file_names(self) -> List[str]:
        """Return the names of the run's files so far, sorted."""
        return [] if self._folder is None else artifacts.names(self._folder)

    def download_file(
        self, name: str, output_file_path: Optional[str] = None, *args: Any, **kwargs: Any
    ) -> None:
        """Copy a file of the run's; by default into the current folder."""
        if name not in self.get_file_names():
            raise FileNotFoundError(f"Run {self.id} has no file {name!r}.")
        target = output_file_path or os.path.basename(name)
        if os.path.isdir(target):
            target = os.path.join(target, os.path.basename(name))
        artifacts.copy_whole(artifacts.place_of(self._folder or "", name), target)

    def download_files(
        self,
        prefix: Optional[str] = None,
        output_directory: Optional[str] = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Copy all files whose names begin with `prefix`, keeping the names."""
        for name in self.get_file_names():
            if name.startswith(prefix or ""):
                self.download_file(name, os.path.join(output_directory or ".", name))

    def get_metrics(
        self, name: Optional[str] = None, recursive: bool = False, *args: Any, **kwargs: Any
    ) -> Dict[str, Any]:
        """Return what was logged, by name; with `recursive` child runs' too, in lists."""
        found = super().get_metrics(name)
        for child in self.get_children() if recursive else ():
            for known, value in child.get_metrics(name).items():
                before = found.get(known, [])
                found[known] = [*(before if isinstance(before, list) else [before]), value]
        return found

    def child_run(
        self, name: Optional[str] = None, run_id: Optional[str] = None, outputs: Any = None
    ) -> "Run":
        """Return a run within this one; ranks that name the same child get the same."""
        word = name or run_id
        fit = None if word is None else re.sub(r"[^\w.-]+", "_", word).lstrip(".")[:64]
        child = super().child_run(fit or None)
        child._name = word or child.id  # type: ignore[attr-defined]
        return child  # type: ignore[return-value]

    def create_children(
        self,
        count: Optional[int] = None,
        tag_key: Optional[str] = None,
        tag_values: Optional[Sequence[Any]] = None,
    ) -> List["Run"]:
        """Return `count` child runs, or one a tag value."""
        if (count is None) == (tag_values is None) or (tag_key is None) != (tag_values is None):
            raise ValueError("create_children takes count, or tag_key with tag_values.")
        if tag_values is None:
            return [self.child_run() for _ in range(count or 0)]
        children = []
        for value in tag_values:
            children.append(self.child_run())
            children[-1].tag(str(tag_key), value)
        return children

    def get_children(self, *args: Any, **kwargs: Any) -> Iterator["Run"]:  # type: ignore[override]
        """Yield the child runs."""
        for known in self._tracked().children():
            yield self.child_run(known.name)

    def fail(self, error_details: Any = None, error_code: Any = None) -> None:
        """Let the run fail: the process ends here, with exit code 1.

        What became of a run is what became of its script, so a script that has failed must not go
        on. A child run is marked as failed, and the script goes on.

        Raises
        ------
        SystemExit
            It is no child run.
        """
        super().fail(error_details)
        if self.parent is None:
            if sys.exc_info()[0] is not None:
                traceback.print_exc()
            raise refusal(SystemExit, f"Run.fail(): {error_details or error_code or 'no details'}")

    def cancel(self) -> None:
        """Mark a child run as canceled; a run itself is canceled from outside.

        Raises
        ------
        NotImplementedError
            It is no child run.
        """
        if self.parent is None:
            _refuse("run.cancel()", "end the script (sys.exit), or: hpctf cancel " + self.id)
        self._end("Canceled")

    def register_model(self, model_name: str, *args: Any, **more: Any) -> Any:
        """Register a file or folder of the run as the next version of a model, and return it
        (`hpctf.Run.register_model`).

        Data sets and sample inputs are left out: they lie in a workspace.
        """
        for name in _OF_A_WORKSPACE:
            more.pop(name, None)
        return super().register_model(model_name, *args[:6], **more)

    def flush(self, timeout_seconds: int = 300) -> None:
        """Wait until all that was logged is on the disk."""
        super().flush()

    @property
    def input_datasets(self) -> "Inputs":
        """The paths of the run's inputs, by name; data that are mounted are paths in Azure ML,
        too."""
        begin = len(_INPUT)
        return Inputs(
            (key[begin:], path) for key, path in os.environ.items() if key[:begin] == _INPUT
        )

    remove_tags = _refused("run.remove_tags()", "give the tag another value: run.tag(key, value)")
    output_datasets = property(
        _refused("run.output_datasets", "write to ./outputs: it is kept with the run")
    )
    submit_child = _refused(
        "run.submit_child()", "submit from a login node, or log to run.child_run(name)"
    )
    get_secret = get_secrets = _refused(
        "run.get_secret()", "pass --env NAME=VALUE, or read a file that only you can read"
    )
    get_environment = _refused(
        "run.get_environment()", "see run.json in the folder HPCTF_RUN_FOLDER"
    )
    take_snapshot = _refused(
        "run.take_snapshot()", "the source folder is kept with the run already"
    )


_INPUT = "AZUREML_DATAREFERENCE_"
_OF_A_WORKSPACE = (
    *("datasets", "sample_input_dataset", "sample_output_dataset", "resource_configuration"),
)


class Inputs(Dict[str, str]):
    """Paths by the names of inputs; one that is not there says how to submit it."""

    def __missing__(self, name: str) -> NoReturn:
        _refuse(
            f"run.input_datasets[{name!r}]",
            f"name the data when you submit (inputs={{{name!r}: '/path'}}, --input {name}=/path)",
        )


def number_of(run_id: str) -> int:
    """Return a number that grows from run to run, read from a run's id; 0 if it has none."""
    stamp = re.search(r"_(\d{10,})_[0-9a-f]{6}", run_id)
    return int(stamp.group(1)) if stamp else 0
