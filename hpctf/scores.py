"""Batch scoring, as a script or a notebook asks for it: `hpctf.score`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpctf.model import Model
from hpctf.run import Run
from hpctf.runs.site_choice import ChosenSite
from hpctf.runs.submitting import Labels, submitter
from hpctf.scoring.resumption import earlier_run
from hpctf.scoring.submit import RESOURCES, Request, submit_scoring
from hpctf.tracking.metrics import checked_tags

if TYPE_CHECKING:
    from hpctf.site.model import Site


def score(
    model: Model | str,
    inputs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    nodes: int = 1,
    per_node: int = 1,
    format: str = "npy",
    rows_per_part: int | None = None,
    batch_size: int | None = None,
    columns: Sequence[str] = (),
    python: str | None = None,
    imports: Sequence[str] = (),
    allow_code: bool = False,
    experiment: str = "score",
    site: Site | ChosenSite | str | None = None,
    runs_root: str | os.PathLike[str] | None = None,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    on_note: Any = None,
    **resources: Any,
) -> Run:
    """Submit a run in which a registered model scores the rows of files, and return the run.

        run = hpctf.score("digits@champion", "rows/*.parquet", "scores", nodes=3)
        run.wait_for_completion()
        numpy.load("scores/predictions.npy")  # a row for each row of the input, in its order

    Parameters
    ----------
    model
        ``digits``, ``digits:3`` or ``digits@champion``, or a `Model`.
    inputs
        Files (.npy, .npz, .csv, .parquet), folders of them, or patterns.
    out
        The folder to write, which must not be there yet.
    nodes, per_node
        On how many nodes rows are scored, each a job of its own, and by how many processes on each.
    format
        ``npy``, ``csv`` or ``parquet``.
    rows_per_part, batch_size
        How many rows are scored, and put on record, at a time; and how many the model is given at a
        time. By default both are chosen by their size.
    columns
        Of a table, the columns that are the model's one input; by default all.
    python
        The interpreter to score with; by default hpctf's own environment for ONNX, and that of the
        model's run for all else.
    imports, allow_code
        As `hpctf.export_onnx` has them: code that a model of Keras needs, beyond what its run has.
    experiment, name, tags, on_note
        As `hpctf.Experiment.submit` has them.
    site, runs_root
        As `hpctf.Experiment` has them.
    resources
        Parameters of `hpctf.TensorFlow` that say what each job is given: ``compute_target``,
        ``use_gpu``, ``cpus_per_task``, ``memory``, ``max_run_duration_seconds``, ``sbatch``.

    Raises
    ------
    UsageError, ModelNotFound, SiteError
        The request cannot be met: nothing was written.
    RunFolderError, SubmissionError
        The file system or the scheduler refused: nothing was left behind.
    """
    request = Request(
        inputs=[inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs),
        out=out,
        nodes=nodes,
        per_node=per_node,
        format=format,
        rows_per_part=rows_per_part,
        batch_size=batch_size,
        columns=list(columns),
        python=python,
        imports=[imports] if isinstance(imports, str) else list(imports),
        allow_code=allow_code,
        resources=resources,
    )
    place = submitter(experiment, site, runs_root)
    found = model if isinstance(model, Model) else Model(model, site=place.site)
    labels = Labels(checked_tags(tags or {}))
    return Run(submit_scoring(place, found.folder, found.path, request, labels, on_note, name))


def resume_scoring(
    run: Run,
    *,
    nodes: int | None = None,
    per_node: int | None = None,
    batch_size: int | None = None,
    python: str | None = None,
    imports: Sequence[str] = (),
    allow_code: bool = False,
    site: Site | ChosenSite | str | None = None,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    on_note: Any = None,
    **resources: Any,
) -> Run:
    """Submit a run that scores what an earlier one has left: it was cancelled, its jobs were lost,
    the disk was full, or parts of it have failed.

    What the earlier run has scored is kept, and the output is that of both. The model, the inputs,
    the output and its format are the earlier run's, and so is what is not passed.

    Parameters
    ----------
    run
        The earlier run, which is over.
    nodes, per_node, batch_size, python, imports, allow_code, site, name, tags, on_note, resources
        As `score` has them.

    Raises
    ------
    UsageError
        The run is not over, has scored all of its rows, or its inputs have changed since.
    ModelNotFound, SiteError, RunFolderError, SubmissionError
        As of `score`.
    """
    earlier = earlier_run(run.folder)
    was, record = earlier.definition, run.folder.read_record()
    asked = record["request"] or {}
    kept = {name: asked[name] for name in RESOURCES if asked.get(name) is not None}
    agents = run.plan["roles"][0]["count"]
    request = Request(
        inputs=was.files,
        out=was.out,
        nodes=agents // was.per_job if nodes is None else nodes,
        per_node=was.per_job if per_node is None else per_node,
        format=was.format,
        rows_per_part=was.rows_per_part,
        batch_size=was.batch_size if batch_size is None else batch_size,
        columns=was.columns,
        python=was.python if python is None else python,
        imports=list(imports) or was.model["imports"],
        allow_code=allow_code or was.model["allow_code"],
        resources={**kept, **resources},
    )
    chosen = site_of(run) if site is None else site
    place = submitter(run.experiment, chosen, run.folder.path.parent.parent)
    found = Model(was.model["id"], site=place.site)
    labels = Labels(checked_tags(tags or {}))
    folder = submit_scoring(
        place, found.folder, found.path, request, labels, on_note, name, earlier
    )
    return Run(folder)


def site_of(run: Run) -> ChosenSite:
    """Return the site of a scoring run, as it was requested."""
    asked = run.folder.read_record()["request"] or {}
    return ChosenSite(asked.get("site"), asked.get("settings") or [])
