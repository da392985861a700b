"""What entry scripts import of Azure ML, where its own packages are not installed."""

import importlib.util
import json
import os
import sys
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional

FAILED = "x-ms-run-function-failed"

_REQUESTS = (
    "azureml_inference_server_http.api.aml_request",
    "azureml.contrib.services.aml_request",
)
_RESPONSES = (
    "azureml_inference_server_http.api.aml_response",
    "azureml.contrib.services.aml_response",
)


def stand_in_for_azureml() -> None:
    """Let ``import`` find the few names that entry scripts need."""
    model = _stand_in("azureml.core.model")
    if model is not None:
        for module in (model, sys.modules["azureml.core"]):
            vars(module)["Model"] = Model
    for name in _REQUESTS:
        made = _stand_in(name)
        if made is not None:
            vars(made).update(rawhttp=_rawhttp(made), __getattr__=_request_class)
    for name in _RESPONSES:
        made = _stand_in(name)
        if made is not None:
            vars(made)["__getattr__"] = _response_class


def _stand_in(name: str) -> Optional[ModuleType]:
    """Return a new module that stands for one of a package; None if that package is installed.

    To look for the module itself would import the package, which takes Azure ML's seconds.
    """
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        made = ".".join(parts[:end])
        if made in sys.modules:
            continue
        if end <= 2 and importlib.util.find_spec(made) is not None:
            if end == 2:
                return None
            importlib.import_module(made)
            continue
        module = ModuleType(made)
        vars(module)["__path__"] = []
        sys.modules[made] = module
        if end > 1:
            setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], module)
    return sys.modules[name]


def wants_raw_requests() -> bool:
    """Return whether the script has used ``@rawhttp``."""
    modules = [sys.modules.get(name) for name in _REQUESTS]
    return any(getattr(module, "_rawHttpRequested", False) for module in modules)


def _rawhttp(module: ModuleType) -> Callable[[Any], Any]:
    def rawhttp(run: Any) -> Any:
        """Let ``run()`` get the request itself."""
        _werkzeug()
        vars(module)["_rawHttpRequested"] = True
        return run

    return rawhttp


def _request_class(name: str) -> Any:
    if name != "AMLRequest":
        raise AttributeError(name)
    return _werkzeug().Request


def _response_class(name: str) -> Any:
    if name != "AMLResponse":
        raise AttributeError(name)
    base = _werkzeug().Response

    class AMLResponse(base):  # type: ignore[misc,valid-type]
        """An answer with its own status and headers; None is an empty object."""

        default_mimetype = "text/html"

        def __init__(
            self,
            message: Any,
            status_code: int,
            response_headers: Dict[str, str] = {},  # noqa: B006 (Azure ML's own signature)
            json_str: bool = False,
            run_function_failed: bool = False,
        ) -> None:
            if message is None or json_str:
                text = json.dumps({} if message is None else message)
                super().__init__(text, status=status_code, mimetype="application/json")
            else:
                super().__init__(message, status=status_code)
                if "Content-Type" in response_headers:
                    self.headers.remove("Content-Type")
            self.headers[FAILED] = str(run_function_failed)
            for header, value in response_headers.items():
                for part in value.split(","):
                    self.headers.add_header(header, part.strip())

    return AMLResponse


def _werkzeug() -> Any:
    try:
        return importlib.import_module("werkzeug.wrappers")
    except ImportError:
        raise ImportError(
            "AMLRequest, AMLResponse and @rawhttp need werkzeug in the script's environment"
        ) from None


class Model:
    """Azure ML's name for what is registered."""

    @staticmethod
    def get_model_path(model_name: str, version: Any = None, _workspace: Any = None) -> str:
        """Return where the file or folder of a model that is deployed lies."""
        root = os.environ["HPCTF_ENTRY_MODELS"]
        folder = os.path.join(root, model_name)
        known: List[str] = sorted(os.listdir(folder), key=int) if os.path.isdir(folder) else []
        wanted = known[-1:] if version is None else [str(version)]
        if not set(wanted) <= set(known) or not known:
            raise LookupError("Model " + model_name + " is not deployed with this service")
        folder = os.path.join(folder, wanted[0])
        return os.path.join(folder, *os.listdir(folder)[:1])
