"""Submitting a scoring run: its plan, and its agents as one job array or on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.agents.arrays import Arrays
from hpctf.agents.plans import check_arrays, for_agents
from hpctf.common.files import make_folder
from hpctf.common.notes import notify
from hpctf.common.paths import EXPORT_SCRIPTS, SCORING_START, SCORING_WORKER
from hpctf.errors import UsageError, shown
from hpctf.estimator.request import as_json, request_of
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.models.onnx_model import loaded_file
from hpctf.models.training_code import checked_imports, unpack
from hpctf.planning.resources import Resources, notes_without_slurm
from hpctf.runs.provenance import Origin
from hpctf.scheduler.programs import ask, environment_of
from hpctf.scoring.definition import FORMATS, Definition, Scoring, write_definition
from hpctf.scoring.inputs import input_files, output_folder
from hpctf.scoring.resumption import Earlier, take_over
from hpctf.scoring.runtime import runtime_of
from hpctf.submission.local_executor import start_detached
from hpctf.submission.sbatch import uninterrupted
from hpctf.submission.submit import record_local_job

if TYPE_CHECKING:
    from hpctf.models.version import Version
    from hpctf.plan import Plan
    from hpctf.planning.planner import Planned
    from hpctf.run_folder.layout import RunFolder
    from hpctf.runs.submitting import Labels, Submitter

MOST_AGENTS = 10_000

RESOURCES = (
    *("compute_target", "use_gpu", "gpus_per_node", "cpus_per_task", "mem"),
    *("max_run_duration_seconds", "sbatch"),
)
"""Parameters of an estimator's that say what each job is given; a resumed run has them again."""

_HINT = "Score on this machine: --local."


@dataclass(frozen=True)
class Request:
    """What a person asks to be scored (`hpctf.score`).

    ``resources`` are an estimator's parameters: ``compute_target``, ``cpus_per_task`` and so on.
    """

    inputs: Sequence[str | os.PathLike[str]]
    out: str | os.PathLike[str]
    nodes: int = 1
    per_node: int = 1
    format: str = "npy"
    rows_per_part: int | None = None
    batch_size: int | None = None
    columns: Sequence[str] = ()
    python: str | None = None
    imports: Sequence[str] = ()
    allow_code: bool = False
    resources: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("nodes", "per_node", "rows_per_part", "batch_size"):
            value = getattr(self, name)
            optional = name in ("rows_per_part", "batch_size")
            if not (value is None and optional) and (type(value) is not int or value < 1):
                raise UsageError(f"{name} is {shown(value)}, but must be a whole number from 1 on.")
        if self.nodes * self.per_node > MOST_AGENTS:
            raise UsageError(
                f"nodes × per_node is {self.nodes * self.per_node}, more than {MOST_AGENTS}.",
                "Ask for fewer nodes, or fewer tasks per node.",
            )
        if self.format not in FORMATS:
            raise UsageError(
                f"format is {shown(self.format)}, but must be one of {', '.join(FORMATS)}."
            )


def submit_scoring(
    submitter: Submitter,
    version: Version,
    path: Path,
    request: Request,
    labels: Labels,
    on_note: Any = None,
    name: str | None = None,
    earlier: Earlier | None = None,
) -> RunFolder:
    """Submit a scoring run, and return its run folder.

    Parameters
    ----------
    version, path
        The registered model, and where its file or folder lies, verified.
    earlier
        The run to go on with: its parts are kept.

    Raises
    ------
    UsageError, SiteError
        The request cannot be met: nothing was written.
    RunFolderError, SubmissionError
        The file system or the scheduler refused: nothing was left behind.
    """
    site = submitter.site
    tell: Callable[[str], None] = notify if on_note is None else on_note
    resumed = [] if earlier is None else earlier.runs
    files, out = input_files(request.inputs), output_folder(request.out, resumed)
    is_local = site.scheduler != "slurm"
    if is_local and request.nodes != 1:
        raise UsageError(
            f"nodes is {request.nodes}, but site {site.name!r} is this machine, which is one node.",
            f"Let processes share it: --per-node {request.nodes}.",
        )
    if not is_local:
        check_arrays(site, _HINT)
    runtime = runtime_of(version, site, request.python, tell)
    modules = [*runtime.modules, *request.resources.get("modules", ())]
    estimator = TensorFlow(
        source_directory=SCORING_WORKER,
        entry_script="start.py",
        python=runtime.python,
        **{**request.resources, "modules": list(dict.fromkeys(modules))},
    )
    if is_local:
        for note in notes_without_slurm(replace(Resources.of(estimator), cpus=None), "the run"):
            tell(note)
    model = {
        "id": version.id,
        "kind": version.record.kind,
        "path": str(loaded_file(version, path) if version.record.kind == "onnx" else path),
        "scripts": EXPORT_SCRIPTS,
        "imports": list(checked_imports(request.imports, site)),
        "allow_code": request.allow_code,
    }

    def adapt(planned: Planned) -> Planned:
        if planned.plan.entry.container is not None:
            raise UsageError("Rows cannot be scored in a container.", "Leave --container out.")
        return for_agents(
            planned,
            site,
            jobs=request.nodes,
            per_job=request.per_node,
            start=SCORING_START,
            hint=_HINT,
        )

    def hand_over(plans: Sequence[Plan], _: Any, folders: Sequence[RunFolder]) -> None:
        folder, plan = folders[0], plans[0]
        code = None
        if version.record.kind in ("keras", "h5"):
            code = unpack(version, site, folder.path / "code", bool(request.imports))
        model["code"], model["script"] = (str(code.folder), code.script) if code else (None, "")
        definition = Definition(
            run=folder.id,
            model=model,
            files=files,
            out=out,
            format=request.format,
            rows_per_part=request.rows_per_part,
            batch_size=request.batch_size,
            columns=list(request.columns),
            per_job=request.per_node,
            resumed=resumed,
            python=request.python,
        )
        make_folder(folder.path / "parts", int(plan.umask, 8))
        write_definition(folder, definition)
        folder.update_record(kind="scoring")
        if earlier is not None and earlier.plan is not None:
            take_over(earlier, Scoring(folder))
        elif version.record.kind == "onnx":
            _plan_here(Scoring(folder), plan)
        if is_local:
            _start_here(folder, plan)
        else:
            arrays = Arrays(folder, plan, tell, "the scoring")
            arrays.begin()
            arrays.submit(request.nodes)

    asked = {"model": version.id, "inputs": files, "out": out, "format": request.format}
    origin = Origin(
        request={
            **request_of(estimator),
            **as_json({**submitter.chosen, **labels._asdict()}),
        },
        parameters=asked,
        source_directory=SCORING_WORKER,
        spec=runtime.spec,
    )
    return submitter.submit(
        [estimator], on_note, name, labels, origin, adapt=adapt, hand_over=hand_over
    )[0]


def _plan_here(scoring: Scoring, plan: Plan) -> None:
    """Cut the files into parts before anything is submitted, so that what does not fit is told at
    once; where the environment is not there yet, the first agent does it.

    Raises
    ------
    UsageError
        The files are not what the model takes, or the model cannot be loaded.
    """
    if not os.access(plan.entry.python, os.X_OK):
        return
    folder = scoring.folder
    words = [plan.entry.python, str(folder.snapshot / "start.py"), str(folder.path)]
    done = ask(words, kind="python", text='{"do": "plan"}\n')
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        raise UsageError(
            f"The model cannot be tried here: {last or 'it ended'}",
            "Load the model in Python to see the whole error, or score its ONNX export: "
            "hpctf models export.",
        ) from None
    if "fatal" in answer:
        raise UsageError(answer["fatal"])
    scoring.ledger.append("planned", **answer)


def _start_here(folder: RunFolder, plan: Plan) -> None:
    """Start the agents of a local run."""
    words = ["-I", "-S", SCORING_START, "agents", str(folder.path), "0"]
    with uninterrupted():
        process = start_detached(plan, words, environment_of("local"))
        record_local_job(folder, process.pid)
