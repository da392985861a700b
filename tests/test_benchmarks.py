"""The benchmarks measure what can be had without Slurm, TensorFlow and other launchers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import Figure, Figures, value
from tests.conftest import ROOT, run_python


@pytest.mark.slow
def test_quick_benchmarks_write_figures_and_the_page(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "performance.md"
    words = ("--quick", "--results", str(results), "--page", str(page))
    done = run_python("-m", "benchmarks", *words, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr

    measured = {path.stem: json.loads(path.read_text()) for path in results.iterdir()}
    assert {"submit", "listing", "cluster_spec", "snapshots", "wrapper"} <= measured.keys()
    text = page.read_text()
    for result in measured.values():
        assert result["figures"]
        for figure in result["figures"]:
            assert figure["values"] and min(figure["values"]) > 0, figure
            assert figure["case"] in text


def test_a_goal_is_held_against_the_figure_in_its_unit() -> None:
    rows = (Figure("a search", "s", (57.0,), 200), Figure("a search", "best", (0.4,), 200))
    assert value("a search", 200, "best")(Figures(rows)) == 0.4
    assert value("a search", 200)(Figures(rows)) == 57.0, "the first"
