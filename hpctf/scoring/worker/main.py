"""A worker: it answers what its agent asks, a JSON document a line, until its stdin ends.

    {"do": "plan"}                {"parts": 10, "rows": 100000}
    {"do": "score", "part": 3}    {"rows": 10000}, or {"failed": "data.csv, ..."}
    {"do": "join", "failed": {}}  {"rows": 100000}

``{"fatal": "..."}`` says that no other part can be scored either.
"""

import json
import os
import sys
import traceback
from typing import Any, Dict, Optional

from .errors import Fatal, Wrong
from .inputs import Source, open_source
from .joining import join
from .models import Model, load_model
from .parts import write_part
from .picks import Picks, picks_of, take
from .plan import PLAN, make_plan


class Worker:
    """One process that scores parts of a run, by ``score.json`` in the run's folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(os.path.join(folder, "score.json"), encoding="utf-8") as stream:
            self.definition: Dict[str, Any] = json.load(stream)
        self._model: Optional[Model] = None
        self._plan: Optional[Dict[str, Any]] = None
        self._open: Optional[Source] = None
        self._picks: Optional[Picks] = None

    @property
    def model(self) -> Model:
        """The model, loaded when it is first needed."""
        if self._model is None:
            about = self.definition["model"]
            try:
                self._model = load_model(about)
            except Fatal:
                raise
            except Exception as error:
                traceback.print_exc()
                words = "{}: {}".format(type(error).__name__, str(error).strip().split("\n")[0])
                raise Fatal("Model {} cannot be loaded: {}".format(about["id"], words)) from None
        return self._model

    @property
    def plan(self) -> Dict[str, Any]:
        """The parts, which were planned before."""
        if self._plan is None:
            with open(os.path.join(self.folder, PLAN), encoding="utf-8") as stream:
                self._plan = json.load(stream)
        return self._plan

    def answer(self, asked: Dict[str, Any]) -> Dict[str, Any]:
        """Do what is asked, and return what to say of it."""
        if asked["do"] == "plan":
            return make_plan(self.folder, self.definition, self.model.inputs)
        if asked["do"] == "join":
            return join(self.folder, self.definition, self.plan, asked["failed"])
        return self._score(asked["part"])

    def _score(self, number: int) -> Dict[str, Any]:
        file, first, rows, offset = self.plan["parts"][number]
        path = self.definition["files"][file]
        where = f"{path}, rows {first} to {first + rows - 1}"
        model = self.model
        try:
            if self._open is None or self._open.path != path:
                self._open = open_source(path)
                self._picks = picks_of(model.inputs, self._open, self.definition["columns"])
            assert self._picks is not None
            feeds = take(model.inputs, self._open, self._picks, first, rows, offset)
            outputs = model.score(feeds, rows, self.definition["batch_size"])
        except Wrong as error:
            return {"failed": f"{where}: {error}"}
        except Exception as error:
            traceback.print_exc()
            words = "{}: {}".format(type(error).__name__, str(error).strip().split("\n")[0])
            return {"failed": f"{where}: {words}"}
        write_part(self.folder, number, outputs)
        return {"rows": rows}


def serve(folder: str) -> int:
    """Answer until nobody asks any more, and return the exit code."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is for the log
    worker = Worker(folder)
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except (Fatal, Wrong) as error:
            answer = {"fatal": str(error)}
        except OSError as error:
            traceback.print_exc()
            answer = {"fatal": f"{error.filename or folder}: {error.strerror or error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0
