"""The widget of a run, for notebooks that have anywidget."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class RunWidget(anywidget.AnyWidget):
    """A run's card, drawn anew whenever ``card`` changes."""

    _esm = Path(__file__).parent / "assets/widget.js"
    card = traitlets.Unicode("").tag(sync=True)
