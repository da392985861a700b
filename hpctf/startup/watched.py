"""What is done when a watched module is imported; `sitecustomize` loads it at the first of them."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Dict, Optional, Tuple

from . import azureml, horovod_keras, horovod_rates, keras_choice, preflight, profiling, tried

Act = Callable[[ModuleType], None]


def _tensorflow_comes(module: ModuleType) -> None:
    preflight.compare_software()
    keras_choice.choose()


_ACTS: Dict[str, Tuple[Optional[Act], Optional[Act]]] = {
    "azureml.core": (None, azureml.tell_of_the_real_one),
    "tensorflow": (_tensorflow_comes, profiling.watch),
    "keras": (keras_choice.refuse_keras_3, None),
    "horovod.tensorflow": (preflight.check_horovod, None),
    "horovod.tensorflow.keras": (horovod_keras.refuse_keras_3, horovod_keras.put_right),
    "horovod.keras": (horovod_keras.refuse_keras_3, horovod_rates.put_right),
    "horovod.common.basics": (None, preflight.watch_horovods_world),
    "mpi4py.MPI": (None, preflight.watch_mpi4pys_world),
}
"""What is done before a module runs, and after it."""


def found(name: str, path: Any, target: Any, but: Any) -> Optional[ModuleSpec]:
    """Return what all finders `but` one find, with a loader that looks; or None."""
    tried.note(name)
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_spec", None)
        spec: Optional[ModuleSpec] = (
            find(name, path, target) if find and finder is not but else None
        )
        if spec is not None:
            if spec.loader is not None and name in _ACTS:
                spec.loader = Looking(spec.loader, *_ACTS[name])  # type: ignore[assignment]
            return spec
    if name == "tf_keras":
        keras_choice.tell_what_is_missing()
    return None


class Looking:
    """A loader that does something before and after it runs its module; in all else it is the
    loader that it was made of."""

    def __init__(self, loader: Any, before: Optional[Act], after: Optional[Act]) -> None:
        self._loader = loader
        self._before = before
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_loader"], name)

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Return the loader's module, or None."""
        made: Optional[ModuleType] = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, unless it would train wrong: then an `ImportError` says so."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        if self._before:
            self._before(module)
        self._loader.exec_module(module)
        if self._after:
            self._after(module)
