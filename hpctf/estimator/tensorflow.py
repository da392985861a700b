"""What a person asks for: the `TensorFlow` estimator, with Azure ML's names and meanings.

Its parameters are entries of `hpctf.estimator.parameters`. An estimator knows nothing of a site; it
checks what can be checked without one. `hpctf.planning.planner` makes a plan of it.
"""

from __future__ import annotations

from typing import Any

from hpctf.errors import UsageError, shown
from hpctf.estimator.distribution import (
    BACKENDS,
    COUNTS,
    SETTINGS,
    Distribution,
    Mpi,
    MultiWorker,
    ParameterServer,
)
from hpctf.estimator.parameter import documented
from hpctf.estimator.parameters import Parameters
from hpctf.estimator.software import refuse_contradictions
from hpctf.estimator.stage import Stage
from hpctf.estimator.validators import check_count

__all__ = ["BACKENDS", "Distribution", "Mpi", "MultiWorker", "ParameterServer", "TensorFlow"]


@documented
class TensorFlow(Parameters):
    """A TensorFlow training, described once and submitted anywhere.

    Parameters
    ----------
    {parameters}

    Raises
    ------
    UsageError
        Anything that cannot be: nothing has been written then.
    """

    backend: str
    pin_gpus: bool | None
    coordinator: bool
    chief: bool
    placement: str | None
    max_worker_restarts: int

    def _settle(self, values: dict[str, Any]) -> None:
        refuse_contradictions(self)
        backend, training = values["distributed_backend"], values["distributed_training"]
        if training is not None and not isinstance(training, Distribution):
            raise UsageError(
                "distributed_training must be Mpi(...), ParameterServer(...) or MultiWorker(...), "
                f"not {training!r}."
            )
        if training is not None and backend not in (None, training.backend):
            raise UsageError(
                f"distributed_backend is {backend!r}, but distributed_training is {training!r}.",
                "Give one of the two.",
            )
        if backend is None and training is None:
            self._refuse_counts_without_backend()
        self.backend = training.backend if training else backend or "single"
        if self.timeline and self.backend != "mpi":
            raise UsageError(
                f"timeline is Horovod's, but the backend is {self.backend!r}.",
                "Use profile (--profile): TensorFlow's profiler works with every backend.",
            )
        self._take_settings(training)
        self._take_staged()
        if self.max_worker_restarts and not self.chief:
            raise UsageError(
                f"max_worker_restarts is {self.max_worker_restarts}, but chief is False: workers "
                "decide then when the run ends, and cannot be started again meanwhile.",
                "Leave the chief, or use max_restarts, which starts the whole job again.",
            )
        if self.coordinator and not self.chief:
            raise UsageError(
                "ParameterServer(coordinator=True, chief=False): the coordinator is the chief.",
                "Set coordinator=False to run the script on every worker and ps.",
            )

    def _take_settings(self, training: Distribution | None) -> None:
        """Take the settings and the counts of `distributed_training`."""
        for kind, settings in SETTINGS.items():
            for name, setting in settings.items():
                value = setting.default
                if isinstance(training, kind):
                    value = getattr(training, name)
                    if setting.check is not None:
                        value = setting.check(name, value)
                setattr(self, name, value)

        for name in COUNTS:
            own, theirs = getattr(self, name), getattr(training, name, None)
            if theirs is not None and own not in (None, theirs):
                raise UsageError(
                    f"{name} is {own}, but {theirs} in distributed_training.",
                    "Give one of the two.",
                )
            setattr(self, name, check_count(name, theirs) or own)

    def _take_staged(self) -> None:
        """Have every input among `inputs`, and those that are staged among `stage`, too."""
        for name, path in self.stage.items():
            other = next((one for one in self.inputs if one.upper() == name.upper()), name)
            if other != name or self.inputs.get(name, path) != path:
                raise UsageError(
                    f"stage[{name!r}] is {shown(path)}, but inputs[{other!r}] is "
                    f"{shown(self.inputs[other])}, and HPCTF_INPUT_{name.upper()} holds one.",
                    "Give them names of their own, or leave one of them out.",
                )
        staged = {name: path for name, path in self.inputs.items() if isinstance(path, Stage)}
        self.stage = {name: str(path) for name, path in {**self.stage, **staged}.items()}
        self.inputs = {**self.inputs, **self.stage}

    def _refuse_counts_without_backend(self) -> None:
        for name in ("node_count", *COUNTS):
            value = getattr(self, name)
            if (value or 0) > 1 or (name == "parameter_server_count" and value):
                raise UsageError(
                    f"{name} is {value}, but no distributed_backend is named.",
                    "Choose one: 'mpi' (Horovod), 'ps' (parameter servers) or "
                    "'collective' (MultiWorkerMirroredStrategy).",
                )

    def command_line(self) -> list[str]:
        """Return the script's arguments, in order."""
        words: list[str] = []
        for key, value in self.script_params.items():
            words += [key] if value == "" else [key, value]
        if not isinstance(self.arguments, dict):
            words += [str(word) for word in self.arguments]
        return words
