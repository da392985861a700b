"""The GPUs that a rank sees: how busy they are, how full their memory is, and the energy they use.

By NVIDIA's management library (NVML) through nvidia-ml-py, imported only where there seems to be a
GPU. Nothing goes wrong where that fails: the file of samples says why, once.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_CHOSEN = "CUDA_VISIBLE_DEVICES"
_OF_A_CONTAINER = "NVIDIA_VISIBLE_DEVICES"
_ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
"""Millijoules since the driver was loaded: of Volta and later, but not of a part of a GPU (MIG)."""
_NONE = ("", "-1", "none", "void", "NoDevFiles")


class Gpus:
    """The GPUs that a process with the environment `env` sees.

    `about` has ``gpus``, what they are called and their ids, or ``no_gpus``, why they cannot be
    asked.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.about: dict[str, Any] = {}
        self._nvml: Any = None
        self._devices: list[Any] = []
        self._energy: list[int | None] = []
        if not are_there(env):
            return
        try:
            if sys.flags.no_site:  # the wrapper's Python has looked for no packages yet
                import site

                site.main()
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._devices = [self._device(name) for name in _names(env, pynvml)]
            self.about["gpus"] = [self._name(device) for device in self._devices]
            self._energy = [self._ask(_ENERGY, device) for device in self._devices]
        except Exception as error:  # no package, no driver, no such device: NVML's are many
            self.about["no_gpus"] = f"{type(error).__name__}: {error}"

    def row(self) -> dict[str, Any]:
        """Return use (percent of the time since NVML's last look), memory (bytes) and energy
        (joules since the first look) of each."""
        found: dict[str, Any] = {}
        for number, device in enumerate(self._devices):
            # Each of its own: a part of a GPU (MIG) knows its memory, but not its use.
            use = self._ask("nvmlDeviceGetUtilizationRates", device)
            held = self._ask("nvmlDeviceGetMemoryInfo", device)
            if use is not None:
                found[f"gpu{number}_use"] = int(use.gpu)
            if held is not None:
                found[f"gpu{number}_memory"] = int(held.used)
                found[f"gpu{number}_memory_total"] = int(held.total)
            began = self._energy[number]
            if began is not None:
                energy = self._ask(_ENERGY, device)
                if energy is not None and energy >= began:  # the driver may have been loaded anew
                    found[f"gpu{number}_energy"] = (energy - began) // 1000
        return found

    def _ask(self, question: str, device: Any) -> Any:
        try:
            return getattr(self._nvml, question)(device)
        except Exception:
            return None

    def _device(self, name: str) -> Any:
        if name.isdigit():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(name))
        return self._nvml.nvmlDeviceGetHandleByUUID(name)

    def _name(self, device: Any) -> str:
        words = [self._ask(f"nvmlDeviceGet{what}", device) for what in ("Name", "UUID")]
        known = [word.decode() if isinstance(word, bytes) else word for word in words if word]
        return " ".join(known)


def are_there(env: Mapping[str, str]) -> bool:
    """Whether the process may see a GPU: by its variables, else by the node's devices."""
    if _CHOSEN in env:
        return env[_CHOSEN].split(",")[0] not in _NONE
    if env.get(_OF_A_CONTAINER, "void") not in _NONE:
        return True
    names = os.listdir("/dev")
    return any(name.startswith("nvidia") and name[6:].isdigit() for name in names)


def _names(env: Mapping[str, str], nvml: Any) -> list[str]:
    """Return the devices' numbers or ids, in the order in which the training counts them. NVML
    shows a job's own devices alone, where Slurm or a container's runtime hides the others."""
    chosen = env.get(_CHOSEN)
    if chosen is None:
        return [str(number) for number in range(nvml.nvmlDeviceGetCount())]
    return [name.strip() for name in chosen.split(",")]
