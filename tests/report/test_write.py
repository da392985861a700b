"""`hpctf report`: where it writes, what it takes, and what it never tells."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow
from hpctf.report.html import render_run
from hpctf.report.write import gather_all, report_html
from tests.support.projects import hpctf, project
from tests.support.reported import SECRETS, submit
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with two runs of one experiment; the second one failed."""
    folder = tmp_path_factory.mktemp("reported")
    for rate in (0.002, 0.1):
        submit(folder / "runs", folder, rate=rate, fail=rate == 0.1)
    return folder / "runs"


@pytest.fixture(scope="module")
def runs(root: Path) -> list[Run]:
    """The runs, the latest first."""
    return list(Experiment("logs", site="local", runs_root=root).get_runs())


def report(root: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[Any]:
    env = {"HPCTF_RUNS_ROOT": str(root), "HPCTF_SITE": "local"}
    return hpctf("report", *words, cwd=cwd, env=env)


def test_the_answer_is_the_path_of_the_file(root: Path, runs: list[Run], tmp_path: Path) -> None:
    done = report(root, tmp_path, "@last")
    assert done.stdout == f"{runs[0].id}.html\n", done.stderr
    assert runs[0].id in (tmp_path / done.stdout.strip()).read_text()
    assert report(root, tmp_path, "logs").stdout == "logs.html\n"
    compared = report(root, tmp_path, "--compare", *(run.id for run in runs))
    assert compared.stdout == "compared-runs.html\n"
    named = report(root, tmp_path, "logs", "--compare", *(run.id for run in runs), "-o", "x.html")
    assert named.stdout == "x.html\n"


def test_a_report_replaces_reports_and_nothing_else(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<p>years of work</p>")
    done = report(root, tmp_path, "@last", "--out", "mine.html")
    assert done.returncode == 2 and "is no report of hpctf's" in done.stderr
    assert mine.read_text() == "<p>years of work</p>"
    for words in (["--force"], []):  # it is a report, the second time
        assert report(root, tmp_path, "@last", "--out", "mine.html", *words).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none"], "There is no run 'none'"),
        (["@last", "@last"], "--compare"),
        (["@last", "--compare"], "two runs or more"),
        (["@last", "--out", "no/such/x.html"], "There is no folder"),
    ],
)
def test_what_cannot_be_is_said(root: Path, tmp_path: Path, words: list[str], said: str) -> None:
    done = report(root, tmp_path, *words)
    assert done.returncode == 2 and said in done.stderr
    assert list(tmp_path.glob("*.html")) == []


def test_json_has_all_that_the_report_tells(root: Path, tmp_path: Path) -> None:
    done = report(root, tmp_path, "@last", "--json")
    (told,) = json.loads(done.stdout)
    assert told["state"] == "Failed" and told["settings"]["parameters"]["rate"] == "0.1"
    assert {"loss", "with gaps"} <= {panel["name"] for panel in told["curves"]}
    assert [child["name"] for child in told["children"]] == ["fold-0", "fold-1"]
    assert "outputs/<img src=x onerror=alert(2)>.txt" in [one["name"] for one in told["files"]]
    assert list(tmp_path.glob("*.html")) == []


def test_a_failure_is_told_with_the_end_of_its_log(runs: list[Run]) -> None:
    text = report_html(runs[:1])
    assert "failed with exit code 3" in text
    assert "the password is" in text


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_gets_out(runs: list[Run], secret: str) -> None:
    assert secret in (runs[0].folder.logs / "worker-0.log").read_text()
    for text in (report_html(runs[:1]), report_html(runs), json.dumps(gather_all(runs))):
        assert secret not in text
        assert "(hidden)" in text


def test_runs_that_are_compared_tell_in_what_they_differ(runs: list[Run]) -> None:
    text = report_html(runs)
    assert "Parameters that differ" in text
    assert '<span class="differs">rate</span>' in text


def test_two_runs_that_are_compared_tell_the_lines_of_code_that_differ(
    root: Path, runs: list[Run], tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "runs", symlinks=True)
    one, other = (Run(tmp_path / "runs" / run.experiment / run.id) for run in runs)
    script = next(other.folder.snapshot.glob("*.py"))
    script.write_text(script.read_text() + "print('</pre><script>alert(1)</script>')\n")
    text = report_html([one, other])
    assert "Code, line by line" in text
    assert f"{script.name}: changed, +1 −0" in text
    assert "+print(&#39;&lt;/pre&gt;&lt;script&gt;alert(1)" in text
    assert "Code, line by line" not in report_html([one, one])
    assert f"hpctf resubmit {one.id}" in report_html([one])


def test_a_run_that_goes_on_is_told_to(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
    source = project(tmp_path / "project", text=script)
    experiment = Experiment("test", site="local", runs_root=tmp_path / "runs")
    run = experiment.submit(TensorFlow(source, entry_script="train.py"))
    wait_until(lambda: run.status == "Running")
    going = report_html([run])
    gate.touch()
    run.wait_for_completion()
    assert "The run was not over when this was made" in going
    assert "The run was not over" not in report_html([run])


def test_64_ranks_have_a_row_and_a_line_each(runs: list[Run]) -> None:
    (told,) = gather_all(runs[:1])
    row, panel = told["timeline"]["rows"][0], told["curves"][0]
    names = [f"worker-{rank}" for rank in range(64)]
    told["timeline"]["rows"] = [{**row, "name": name} for name in names]
    lines = [{**panel["lines"][0], "label": name, "shown": name == names[0]} for name in names]
    told["curves"] = [{**panel, "lines": lines}]
    text = render_run(told)
    assert all(text.count(f'<th scope="row">{name}</th>') >= 2 for name in names)
    assert 'class="scroll timeline many"' in text


def test_a_functions_run_and_one_that_never_began_have_reports(tmp_path: Path) -> None:
    experiment = Experiment("test", site="local", runs_root=tmp_path / "runs")
    run = experiment.submit(TensorFlow(function=dict, arguments={"rate": 0.1}))
    run.wait_for_completion()
    (told,) = gather_all([run])
    assert told["settings"]["parameters"] == {"rate": "0.1"} and run.id in render_run(told)
    run.folder.update_record(job_id=None)
    for path in run.folder.state.iterdir():
        path.write_text("")
    run.folder.final.unlink()
    (told,) = gather_all([run])
    assert (told["timeline"], told["duration"]) == (None, None) and told["why"]
    assert 'id="timeline"' not in render_run(told)
