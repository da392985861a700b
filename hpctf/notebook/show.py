"""`Run.show`: a card that keeps up with a run while the notebook's kernel is free."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpctf.common.terminal import visible
from hpctf.errors import HpctfError
from hpctf.notebook.cards import numbers, run_card, study_card
from hpctf.run_folder.rank_states import ranks_of
from hpctf.runs.status.query import look
from hpctf.runs.status.state import describe
from hpctf.runs.status.wait import Following
from hpctf.tracking.live import Live
from hpctf.tracking.metrics import Reading
from hpctf.tuning.study import Study

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder

FOLLOWED = 16
"""Ranks whose journals are read, as `hpctf watch` does."""
_ANSWER_S = 5.0


def show(run: RunFolder, interval_s: float) -> None:
    """Show a run in the notebook's cell, and keep it up to date until the run is over.

    Without a notebook its state is printed once.
    """
    if not in_notebook():
        print(run_in_words(run))
        return
    card = LiveCard(run)
    update = _displayed(card.html(), run_in_words(run))
    if not card.over:
        words = (card, update, interval_s)
        threading.Thread(target=_keep_up, args=words, name=f"show {run.id}", daemon=True).start()


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def run_in_words(run: RunFolder) -> str:
    """Return a run's state and last metrics in a line; of a study how far it is."""
    if run.is_study:
        from hpctf.tuning.overview import in_words, overview

        return visible(f"{run.id}: {in_words(overview(Study(run)))}")
    last = {name: one.value for name, one in Reading(run.path).last_metrics().items()}
    words = ", ".join(f"{name} {value}" for name, value in numbers(last).items())
    return visible(f"{run.id}: {describe(look(run))}" + (f"; {words}" if words else ""))


class LiveCard:
    """A run's card, which reads only what is new.

    ``over`` tells whether nothing will change any more.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.over = False
        self._following = Following(run)
        ranks = [f"{role}-{index}" for role, index in ranks_of(run.plan)]
        self._live = Live(run.path, ranks[:FOLLOWED])
        self._study = Study(run) if run.is_study else None

    def html(self) -> str:
        """Return the card as it is now.

        Raises
        ------
        HpctfError
            What keeps the state from being told.
        """
        status = self._following.status(_ANSWER_S) or look(self.run)
        if self._study is not None:
            self.over = status.final
            return study_card(self._study, status)
        self._live.look()
        if status.final:
            self.over = True
            return run_card(self.run, status, progress=self._live.progress)
        return run_card(self.run, status, self._live.series(), self._live.progress)


def _keep_up(card: LiveCard, update: Callable[[str], None], interval_s: float) -> None:
    """Draw a run's card anew until the run is over or its folder is gone; what keeps it from being
    told stands there for as long as that lasts."""
    pause, before, run = threading.Event(), "", card.run
    while not card.over and run.path.exists():
        pause.wait(interval_s)
        try:
            html = card.html()
        except Exception as error:  # nobody else is there who could go on
            from markupsafe import escape

            words = str(error) if isinstance(error, (HpctfError, OSError)) else repr(error)
            html = f"<p>{escape(words)}</p>"
            card = LiveCard(run)  # one that has failed would say the same for ever
        if html != before:
            before = html
            update(html)


def _displayed(html: str, words: str) -> Callable[[str], None]:
    """Show HTML in the cell, and return what replaces it: by a widget where there is anywidget,
    else by Jupyter's own updates."""
    from IPython import display as ipython

    display: Any = ipython.display
    try:
        from hpctf.notebook.widget import RunWidget
    except ImportError:
        handle = display(_bundle(html, words), raw=True, display_id=True)
        return lambda new: handle.update(_bundle(new, words), raw=True)
    widget: Any = RunWidget(card=html)
    display(widget)

    def change(new: str) -> None:
        widget.card = new

    return change


def _bundle(html: str, words: str) -> dict[str, str]:
    return {"text/html": html, "text/plain": words}
