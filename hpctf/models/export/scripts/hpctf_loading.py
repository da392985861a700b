"""Loads models as Keras and TensorFlow have saved them; part of ``save.py``, and of what scores
(`hpctf.scoring.worker.tensorflow_model`)."""

import importlib
import json
import os
import re
import sys
import zipfile
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
from hpctf_answers import Refused
from hpctf_custom import Code


class Loaded:
    """A model that is ready to be called.

    ``inputs`` are the specs of what ``call`` takes, in their order; it returns what is named in
    ``outputs``. ``tracked`` holds the variables and tables, ``layers`` are Keras' own.
    ``in_single`` returns a ``call`` that computes in single precision, if there is one.
    """

    def __init__(
        self,
        tracked: Any,
        call: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[str],
        layers: Sequence[Any] = (),
        keras: str = "",
        in_single: Optional[Callable[[], Callable[..., Any]]] = None,
    ) -> None:
        self.tracked = tracked
        self.call = call
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.layers = list(layers)
        self.keras = keras
        self.in_single = in_single


def load_keras(
    path: str, kind: str, code: Code, imports: Sequence[str], allow_code: bool
) -> Loaded:
    """Load a ``.keras`` or ``.h5`` file with the Keras that wrote it.

    Parameters
    ----------
    code
        The training's code, which defines layers of its own.
    imports
        Modules that define them, as far as they were named.
    allow_code
        Whether Lambda layers are loaded, whose code lies in the file.
    """
    keras = _keras_for(_written_by(path, kind))
    custom = code.named(imports) if imports else {}
    unknown = ""
    while True:
        try:
            model = keras.models.load_model(
                path, custom_objects=custom, compile=False, safe_mode=not allow_code
            )
            break
        except (TypeError, ValueError) as error:
            name = _unknown_in(str(error)) or _passed_over(str(error), path, kind, custom)
            if not name or name == unknown:
                raise _not_loaded(error) from None
            custom.update(code.defining(name))
            unknown = name
    layers = list(_layers_below(model))
    inputs, pack = _inputs_of(model, layers, keras)

    def call(*tensors: Any) -> Any:
        return tf.nest.flatten(model(pack(tensors), training=False))

    def in_single() -> Callable[..., Any]:
        text = model.to_json()
        for half in ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16"):
            text = text.replace('"%s"' % half, '"float32"')
        twin = keras.models.model_from_json(text, custom_objects=custom)
        twin.set_weights(model.get_weights())
        return lambda *tensors: tf.nest.flatten(twin(pack(tensors), training=False))

    outputs = _names_of_outputs(model)
    name = "tf-keras" if keras.__name__ == "tf_keras" else "Keras"
    by = f"{name} {keras.__version__}"
    return Loaded(model, call, inputs, outputs, layers, by, in_single)


def _not_loaded(error: Exception) -> Refused:
    text = str(error).strip()
    first = next(iter(text.splitlines()), type(error).__name__)
    if "ambda" in text and ("safe" in text or "unsafe" in text):
        return Refused("It holds a Lambda layer, whose code lies in the file.", "--allow-code")
    if "No model config" in text or "No model found in config" in text:
        return Refused(
            "The file holds weights without a model.", "Save the model: model.save('model.keras')."
        )
    return Refused(f"Keras cannot load it: {first}")


def _unknown_in(text: str) -> str:
    """Return the class or function that Keras says not to know; empty if it says something else."""
    found = re.search(r"Could not (?:locate|deserialize) (?:class|function) '?([\w.>]+)", text)
    found = found or re.search(r"Unknown (?:layer|object|\w+ function): ?'?([\w.>]+)", text)
    return found.group(1) if found else ""


def _passed_over(text: str, path: str, kind: str, custom: Dict[str, Any]) -> str:
    """Return the first class of a training's own that a file names and that is not known yet, if
    Keras 2.15 has taken such a class's name for the layer itself; empty if it says something else.
    """
    if text != "'str' object is not callable" or kind != "keras":
        return ""
    with zipfile.ZipFile(path) as archive:
        left = [json.loads(archive.read("config.json").decode())]
    while left:
        part = left.pop(0)
        if isinstance(part, dict):
            name, module = part.get("registered_name"), str(part.get("module") or "")
            is_own = module.partition(".")[0] not in ("", "builtins", "keras", "tf_keras")
            if name and is_own and not {name, part.get("class_name")} & custom.keys():
                return str(name)
            left += part.values()
        elif isinstance(part, list):
            left += part
    return ""


def _written_by(path: str, kind: str) -> str:
    """Return the version of Keras that wrote a file, as the file itself says."""
    try:
        if kind == "keras":
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json").decode())["keras_version"])
        import h5py

        with h5py.File(path, "r") as file:
            version = file.attrs.get("keras_version", "2")
            return version.decode() if isinstance(version, bytes) else str(version)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise Refused(
            f"{os.path.basename(path)!r} is not a model that Keras has saved.",
            "Save it with model.save('outputs/model.keras'), and register that.",
        ) from None


def _keras_for(version: str) -> Any:
    """Return the Keras of this environment that reads what another one of its kind wrote."""
    major = version.partition(".")[0]
    major = "2" if major in ("0", "1") else major
    for name in ("keras", "tf_keras", "tensorflow.keras"):
        try:
            found = importlib.import_module(name)
        except ImportError:
            continue
        if str(getattr(found, "__version__", "")).partition(".")[0] == major:
            return found
    if major == "2" and hasattr(tf, "keras") and tf.keras.__version__.startswith("2"):
        return tf.keras
    raise Refused(
        f"Keras {version} wrote it, and {sys.executable} has none that reads it.",
        "Name a Python that has: --python EXE (Keras 2 is tf-keras from TensorFlow 2.16 on).",
    )


def _layers_below(model: Any) -> Any:
    flatten = getattr(model, "_flatten_layers", None)
    return flatten(include_self=True, recursive=True) if flatten else [model]


def _inputs_of(model: Any, layers: List[Any], keras: Any) -> Tuple[List[Any], Callable[..., Any]]:
    """Return the specs of a model's inputs, and what packs their tensors as it takes them."""
    structure = _input_structure(model)
    if structure is None:
        structure = _built_with(model, layers)
    if structure is None:
        raise Refused(
            "The file does not say what inputs the model takes.",
            "Call the model before it is saved, or write it with model.export('outputs/model').",
        )
    flat = tf.nest.flatten(structure)
    names = names_of([_name_of(model, one, index) for index, one in enumerate(flat)])
    specs = []
    for one, name in zip(flat, names):
        if getattr(one, "sparse", False) or getattr(one, "ragged", False):
            raise Refused(f"Its input {name!r} is sparse or ragged, which ONNX has not.")
        specs.append(tf.TensorSpec(tuple(one.shape), one.dtype, name))
    return specs, lambda tensors: tf.nest.pack_sequence_as(structure, list(tensors))


def _input_structure(model: Any) -> Any:
    """Return the symbolic inputs of a functional or sequential model; None of any other."""
    functional = getattr(model, "_functional", None) or model
    for name in ("_inputs_struct", "_nested_inputs"):
        found = getattr(functional, name, None)
        if found is not None:
            single = isinstance(found, (list, tuple)) and len(found) == 1
            return found[0] if single and getattr(model, "_functional", None) else found
    try:
        found = model.inputs
    except (AttributeError, ValueError):
        return None
    if not found or not hasattr(found[0], "shape"):
        return None
    return found[0] if len(found) == 1 else list(found)


def _built_with(model: Any, layers: List[Any]) -> Any:
    """Return specs of what a subclassed model was called with before it was saved."""
    if hasattr(model, "save_spec") and model.save_spec() is not None:
        (found, *_), _ = model.save_spec()
        return found
    config: Dict[str, Any] = (getattr(model, "get_build_config", None) or dict)() or {}
    shapes = config.get("input_shape") or list((config.get("shapes_dict") or {}).values())
    if not shapes:
        return None
    whole = any(type(layer).__name__ == "Embedding" for layer in layers)
    kind = "int32" if whole else "float32"
    return _specs_of_shapes(shapes, kind)


def _specs_of_shapes(shapes: Any, kind: str) -> Any:
    if isinstance(shapes, dict):
        return {key: _specs_of_shapes(value, kind) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return tf.TensorSpec([None, *shapes[1:]], kind)
    made = [_specs_of_shapes(shape, kind) for shape in shapes]
    return made[0] if len(made) == 1 else made


def _name_of(model: Any, one: Any, index: int) -> str:
    functional = getattr(model, "_functional", None) or model
    names = getattr(functional, "input_names", None) or []
    return str(names[index]) if index < len(names) else getattr(one, "name", None) or "input"


def _names_of_outputs(model: Any) -> List[str]:
    functional = getattr(model, "_functional", None) or model
    return [str(name) for name in getattr(functional, "output_names", None) or []]


def names_of(wanted: Sequence[str]) -> List[str]:
    """Return names as signatures take them, no two the same."""
    found: List[str] = []
    for one in wanted:
        name = re.sub(r"\W", "_", one.partition(":")[0]) or "input"
        name = name if name[0].isalpha() or name[0] == "_" else "_" + name
        count = 1
        while (name if count == 1 else "%s_%d" % (name, count)) in found:
            count += 1
        found.append(name if count == 1 else "%s_%d" % (name, count))
    return found


def names_of_answers(model: Loaded, count: int) -> List[str]:
    """Return the names of so many outputs: the model's own if it has any."""
    if len(model.outputs) == count:
        return names_of(model.outputs)
    return ["output_%d" % index for index in range(count)] if count > 1 else ["output"]


def answers(model: Loaded, inputs: Sequence[Any]) -> List[Any]:
    """Return a model's answers to arrays, as arrays that need no pickle."""
    tensors = [
        tf.constant(value.tolist() if value.dtype.kind in "OU" else value, spec.dtype)
        for spec, value in zip(model.inputs, inputs)
    ]
    found = []
    for tensor in model.call(*tensors):
        value = np.asarray(tensor)
        if value.dtype == object:
            value = np.array([text.decode("utf-8") for text in value.ravel()]).reshape(value.shape)
        found.append(value.astype("float32") if value.dtype.name == "bfloat16" else value)
    return found


def load_saved_model(path: str) -> Loaded:
    """Load a SavedModel, by its signature or by the one way in which it was called."""
    loaded = tf.saved_model.load(path)
    signatures = dict(loaded.signatures)
    function = signatures.get("serving_default") or signatures.get("serve")
    if function is None and len(signatures) == 1:
        function = next(iter(signatures.values()))
    if function is None and signatures:
        raise Refused(
            "It has the signatures {}, and none is serving_default.".format(
                ", ".join(sorted(signatures))
            ),
            "Save it with signatures={'serving_default': function}.",
        )
    if function is None:
        return _called(loaded)
    specs = function.structured_input_signature[1]
    names = sorted(specs)
    outputs = sorted(function.structured_outputs)

    def call(*tensors: Any) -> Any:
        found = function(**dict(zip(names, tensors)))
        return [found[name] for name in outputs]

    inputs = [tf.TensorSpec(specs[name].shape, specs[name].dtype, name) for name in names]
    return Loaded(loaded, call, inputs, outputs, keras=_writer_of(loaded))


def _called(loaded: Any) -> Loaded:
    """Return a ``tf.Module`` without signatures, by a ``__call__`` that takes tensors alone."""
    for function in getattr(vars(type(loaded)).get("__call__"), "concrete_functions", ()):
        args, others = function.structured_input_signature
        flat = tf.nest.flatten((args, others))
        specs = [one for one in flat if isinstance(one, tf.TensorSpec)]
        if not specs or any(one for one in flat if not isinstance(one, tf.TensorSpec)):
            continue
        names = names_of([spec.name or "input" for spec in specs])

        def call(*tensors: Any, of: Any = function) -> Any:
            return tf.nest.flatten(of(*tensors))

        inputs = [tf.TensorSpec(s.shape, s.dtype, name) for s, name in zip(specs, names)]
        return Loaded(loaded, call, inputs, [])
    raise Refused(
        "It has no signature, so that nobody can tell how it is called.",
        "Save it with tf.saved_model.save(module, folder, signatures=module.__call__"
        ".get_concrete_function(tf.TensorSpec([None, 8]))).",
    )


def _writer_of(loaded: Any) -> str:
    return f"Keras {loaded.keras_version}" if hasattr(loaded, "keras_version") else ""
