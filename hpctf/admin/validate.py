"""Whether a site works: every batch script that it can come to, and each of its templates.

Every backend is rendered for every target, and looked at by bash, by shellcheck where it is there,
and by sbatch itself (``--test-only``) where there is a Slurm.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctf.admin.template_rules import check_templates
from hpctf.common.paths import TEMPLATES
from hpctf.errors import SiteError, UsageError
from hpctf.estimator.tensorflow import BACKENDS, ParameterServer, TensorFlow
from hpctf.plan import Plan
from hpctf.planning.planner import make_plan
from hpctf.scheduler.programs import ask
from hpctf.site.layers import Layers
from hpctf.site.model import Site, Target
from hpctf.submission.script import render, render_local

OK, WRONG, SKIPPED = "ok", "wrong", "skipped"
LOOKS = ("script", "bash", "shellcheck", "sbatch")
"""What each case is looked at by, in order."""

_PATIENCE_S = 60


@dataclass
class Case:
    """A backend on a target; the backend says more where there are several ways: ``ps (hetjob)``.

    ``looks`` has ``ok``, ``wrong`` or ``skipped`` for each of `LOOKS` that was taken; ``note`` says
    why something was skipped. ``warnings`` are what shellcheck would write otherwise, though it is
    no error.
    """

    target: str
    backend: str
    looks: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    note: str = ""

    def found(self, look: str, problems: list[str]) -> bool:
        """Keep what a look has found; return whether all is well."""
        self.looks[look] = WRONG if problems else OK
        self.problems += problems
        return not problems


@dataclass(frozen=True)
class Validation:
    """What `validate` has found: for every backend on every target, and in each template of the
    site's own, by file."""

    site: str
    cases: tuple[Case, ...]
    templates: dict[str, list[str]]

    @property
    def problems(self) -> list[str]:
        """All problems, each once."""
        found = [one for told in self.templates.values() for one in told]
        found += [one for case in self.cases for one in case.problems]
        return list(dict.fromkeys(found))

    @property
    def warnings(self) -> list[str]:
        """All warnings, each once."""
        return list(dict.fromkeys(one for case in self.cases for one in case.warnings))


def validate(site: Site, layers: Layers, *, ask_slurm: bool = True) -> Validation:
    """Look at all that a site says and at all that can come of it.

    The layers that it was made of tell the line of what Slurm refuses. With `ask_slurm`, ``sbatch
    --test-only`` looks at the scripts, where there is an sbatch: not for another cluster's site.
    """
    templates: dict[str, list[str]] = {}
    if site.templates is not None and os.path.isdir(site.templates):
        found = check_templates(site.templates)
        templates = {file: [str(one) for one in told] for file, told in found.items()}
    with tempfile.TemporaryDirectory(prefix="hpctf-validate-") as folder:
        (Path(folder) / "train.py").touch()
        looker = _Looker(site, layers, Path(folder), ask_slurm)
        cases = [looker.look(*case) for case in _cases(site, folder)]
    for case in cases:
        case.problems = [one for one in case.problems if not _told_before(one, case, templates)]
    return Validation(site.name, tuple(cases), templates)


def _told_before(problem: str, case: Case, templates: dict[str, list[str]]) -> bool:
    """Return whether a case's problem is one of a template's, which rendering has met too."""
    place = problem.split(": ")[0]
    for file, told in templates.items():
        if place in {one.split(": ")[0] for one in told}:
            return True
        own = os.path.basename(file) == f"{case.backend.split()[0]}.sbatch.j2"
        if own and told and place.startswith(TEMPLATES):  # a required block, missed in ours
            return True
    return False


def _cases(site: Site, folder: str) -> Iterator[tuple[str, str, TensorFlow, bool]]:
    """Yield (target, backend's name, estimator, whether as a job array)."""
    for name, target in site.targets.items():
        for backend in BACKENDS:
            if backend == "ps":
                placements = ("shared",) if site.scheduler == "local" else ("hetjob", "shared")
                for placement in placements:
                    training = ParameterServer(1, 1, placement=placement)
                    asked = _asked(folder, name, target, distributed_training=training)
                    yield name, f"ps ({placement})", asked, False
                continue
            nodes = 1 if backend == "single" else min(2, target.max_nodes or 2)
            label = f"mpi ({site.mpi.launcher})" if backend == "mpi" else backend
            asked = _asked(folder, name, target, distributed_backend=backend, node_count=nodes)
            yield name, label, asked, False
        if site.scheduler == "slurm" and "array" not in (*site.drop, *target.drop):
            yield name, "single (array)", _asked(folder, name, target), True


def _asked(folder: str, name: str, target: Target, **more: Any) -> TensorFlow:
    return TensorFlow(
        folder, entry_script="train.py", compute_target=name, use_gpu=bool(target.gpus), **more
    )


class _Looker:
    """Looks at the cases of one site."""

    def __init__(self, site: Site, layers: Layers, folder: Path, ask_slurm: bool) -> None:
        self.site = site
        self.layers = layers
        self.script = folder / "job.sbatch"
        self.refused: dict[tuple[str, str], str] = {}
        self.sbatch = shutil.which("sbatch") if ask_slurm and site.scheduler == "slurm" else None
        self.root = os.path.abspath(os.path.expanduser(os.path.expandvars(site.runs_root)))

    def look(self, target: str, backend: str, estimator: TensorFlow, array: bool) -> Case:
        """Return what is found of one case; each look is taken only if those before it are well."""
        case = Case(target, backend)
        try:
            planned = make_plan(
                estimator,
                self.site,
                run_id="validate_0_000000",
                experiment="validate",
                run_folder=f"{self.root}/validate/validate_0_000000",
            )
        except UsageError as error:
            case.looks["script"] = SKIPPED
            case.note = f"not possible here: {error.message}"
            return case
        except SiteError as error:
            case.found("script", str(error).splitlines())
        else:
            self._look_at_script(case, planned.plan, array)
        return case

    def _look_at_script(self, case: Case, plan: Plan, array: bool) -> None:
        local = self.site.scheduler == "local"
        if local and not plan.launch.modules:
            case.looks["script"] = OK
            case.note = "this machine runs it without a batch script"
            return
        folders = tuple(f"{plan.run_folder}{letter}" for letter in "ab") if array else ()
        try:
            text = render_local(plan) if local else render(plan, folders, keep=False)
        except SiteError as error:
            case.found("script", [error.message])
            return
        if not case.found("script", [] if local else self._parts(plan, text)):
            return
        self.script.write_text(text, encoding="utf-8", errors="surrogateescape")
        if not case.found("bash", self._bash(case)):
            return
        if shutil.which("shellcheck"):
            case.found("shellcheck", self._shellcheck(case))
        if self.sbatch:
            self._sbatch(case)

    def _parts(self, plan: Plan, text: str) -> list[str]:
        """Return what a script lacks without which no run comes of it."""
        name = f"{plan.backend}.sbatch.j2"
        own = os.path.join(self.site.templates or "", name)
        where = own if os.path.isfile(own) else self.layers.origin(("templates",))
        needed = {
            "#SBATCH --job-name=": "the directives",
            f"{plan.launch.start} rank ": "a step of hpctf's ranks",
            f"{plan.launch.start} conclude ": "hpctf's end ('conclude')",
        }
        lacks = [what for sign, what in needed.items() if sign not in text.replace("'", "")]
        if not lacks:
            return []
        return [
            f"{where}: the script of backend {plan.backend!r} lacks {' and '.join(lacks)}: no run "
            f'would come of it. Let its template extend "hpctf/{name}".'
        ]

    def _bash(self, case: Case) -> list[str]:
        done = _run("bash", "-n", self.script)
        if done.returncode == 0:
            return []
        for key in ("prologue", "epilogue"):
            lines = getattr(self.site, key)
            for end in range(1, len(lines) + 1):
                alone = _run("bash", "-n", text="\n".join(lines[:end]) + "\n")
                if alone.returncode and (end == len(lines) or "unexpected end" not in alone.stderr):
                    origin = self.layers.origin((key, end - 1))
                    words = re.sub(r"\Abash: line \d+: ", "", alone.stderr.strip())
                    return [f"{origin}: {key}: bash: {words.splitlines()[0]}"]
        return [f"{_named(case)}: bash: {done.stderr.strip()}".replace(str(self.script), "line")]

    def _shellcheck(self, case: Case) -> list[str]:
        done = _run("shellcheck", "-s", "bash", "-S", "warning", "-f", "gcc", self.script)
        found = re.findall(r":(\d+):\d+: (\w+): (.+)", done.stdout)
        told: dict[str, list[str]] = {"error": [], "warning": []}
        for number, level, message in found:
            told[level].append(self._of_line(case, number, message))
        case.warnings += told["warning"]
        return told["error"]

    def _of_line(self, case: Case, number: str, message: str) -> str:
        """Return shellcheck's complaint with the place that the script's line comes from."""
        lines = self.script.read_text("utf-8", "replace").splitlines()
        at = min(int(number), len(lines)) - 1
        for key in ("prologue", "epilogue"):
            for position, text in enumerate(getattr(self.site, key)):
                if text and (text == lines[at] or text.splitlines()[0] == lines[at]):
                    origin = self.layers.origin((key, position))
                    return f"{origin}: {key}: shellcheck: {message}"
        line = f"line {number}: {lines[at].strip()[:100]!r}"
        return f"{_named(case)}: shellcheck: {message} ({line})"

    def _sbatch(self, case: Case) -> None:
        try:
            done = _run("sbatch", "--test-only", self.script)
        except subprocess.TimeoutExpired:
            case.looks["sbatch"] = SKIPPED
            case.note = f"sbatch did not answer within {_PATIENCE_S} s"
            return
        words = " ".join(
            line.removeprefix("sbatch: ").removeprefix("error: ").strip()
            for line in done.stderr.splitlines()
        )
        if done.returncode and _AWAY.search(words):
            case.looks["sbatch"] = SKIPPED
            case.note = f"Slurm could not be asked: {words}"
            return
        case.found("sbatch", [self._refusal(case, words)] if done.returncode else [])

    def _refusal(self, case: Case, words: str) -> str:
        """Return Slurm's refusal with the key that it is about, and where that is said."""
        key = next((key for sign, key in _ABOUT if sign.search(words)), None)
        names = [case.target]
        if case.backend == "ps (hetjob)" and self.site.ps.target:
            names.append(self.site.ps.target)
        asked = [(name, *_value(self.site, name, key)) for name in names]
        asked.sort(key=lambda one: str(one[1]) not in words)  # the one that Slurm names goes first
        for name, value, path in asked:
            if value is not None:
                where = f"{self.layers.origin(path)}: target {name!r}"
                return f"{where}: Slurm refuses {key} {value!r}: {words}"
        origin = self.layers.origin(("targets", case.target))
        told = f"{origin}: {_named(case)}: Slurm refuses the job: {words}"
        return self.refused.setdefault((case.target, words), told)


def _value(site: Site, name: str, key: str | None) -> tuple[object, tuple[str, ...]]:
    """Return (value, path) of what a target asks Slurm for by an option."""
    if key is None:
        return None, ()
    target = site.targets[name]
    if key in target.directives:
        return target.directives[key], ("targets", name, "directives", key)
    attribute = {"time": "time_limit"}.get(key, key)
    if getattr(target, attribute, None) is not None:
        return getattr(target, attribute), ("targets", name, attribute)
    return site.directives.get(key), ("directives", key)


def _named(case: Case) -> str:
    return f"target {case.target!r}, {case.backend}"


def _run(*command: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return ask([str(word) for word in command], _PATIENCE_S, text=text)


_AWAY = re.compile(
    r"Unable to contact slurm controller|Connection (refused|timed out)|controller not responding"
    r"|Socket timed out|Zero Bytes|resolve.*slurmctld|Could not establish a configuration",
    re.IGNORECASE,
)

_ABOUT = [
    (re.compile(rf"\b{sign}", re.IGNORECASE), key)
    for sign, key in [
        ("partition name|(invalid|unknown) partition|partition (not|specified)", "partition"),
        ("account", "account"),
        ("qos", "qos"),
        ("reservation", "reservation"),
        ("feature|constraint", "constraint"),
        ("time limit", "time"),
        ("cluster", "clusters"),
        ("memory", "mem"),
        ("licenses?", "licenses"),
    ]
]
"""What Slurm says (slurm_errno.c), and the option that it is about."""
