"""Draws growth as an SVG picture; runs in the environment that has matplotlib.

    python curves.py PICTURE <CURVES

CURVES is a JSON object: `size` names the horizontal axis; `curves` has, by name, points of a size
and the median, least and greatest value.
"""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot


def main(path: str) -> None:
    """Draw all curves, both axes logarithmic."""
    content = json.load(sys.stdin)
    # The same values give the same file.
    pyplot.rcParams.update({"svg.hashsalt": "hpctf", "svg.fonttype": "none", "font.size": 9})
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for name, points in content["curves"].items():
        sizes, medians, least, greatest = zip(*points)  # noqa: B905
        [line] = axes.plot(sizes, medians, marker="o", markersize=3, label=name)
        axes.fill_between(sizes, least, greatest, alpha=0.15, color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel=content["size"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, metadata={"Date": None})


main(sys.argv[1])
