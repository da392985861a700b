"""Values as training scripts have them, and as they stand in a journal.

JSON knows neither NaN nor infinity: they stand as ``{"float": "nan"}``, ``"inf"`` and ``"-inf"``,
so that each line of a journal is JSON for every reader. So do whole numbers that are larger than
any float.
"""

import math
import sys
from collections.abc import Mapping
from typing import Any, List

LARGEST = int(sys.float_info.max)
"""The largest whole number that is kept as one; `-LARGEST` is the smallest."""

_NOT_FINITE = "float"


def scalar(value: Any, what: str) -> Any:
    """Return a number, a string, a bool or None as JSON has it; of any other single value its text.

    Parameters
    ----------
    value
        Python's own, or one element of numpy, TensorFlow, Keras or PyTorch.
    what
        How the caller names it, for the error.

    Raises
    ------
    TypeError
        It has several elements, or none yet.
    """
    if isinstance(value, float):
        return _float(value)
    if value is None or isinstance(value, (bool, int, str)):
        return _builtin(value)
    found = _element(value, what)
    if isinstance(found, float):
        return _float(found)
    if isinstance(found, (bool, int, str)):
        return _builtin(found)
    has_several = isinstance(found, (list, tuple, set, frozenset, Mapping))
    if has_several or getattr(found, "shape", ()) != () or hasattr(found, "graph"):
        raise _refusal(value, what)
    known = _other(found)
    if known is None:
        raise _refusal(value, what)
    return known


def scalars(values: Any, what: str) -> List[Any]:
    """Return a list, tuple, array or tensor, of any depth, with elements as `scalar` makes them."""
    if hasattr(values, "tolist") or hasattr(values, "numpy"):
        values = _array(values, what).tolist()
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise TypeError(f"{what} takes a list, not {values!r}")
    return [_nested(value, what) for value in values]


def json_tree(value: Any, what: str) -> Any:
    """Return mappings and lists of values, of any depth, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): json_tree(inner, what) for key, inner in value.items()}
    return _nested(value, what)


def restored(value: Any) -> Any:
    """Return what `scalar` and its like were given, from JSON."""
    if isinstance(value, dict):
        if len(value) == 1 and _NOT_FINITE in value:
            return float(value[_NOT_FINITE])
        return {key: restored(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [restored(inner) for inner in value]
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        return math.inf if value > 0 else -math.inf  # hpctf writes none
    return value


def _other(value: Any) -> Any:
    """Return a number as a float, and anything else as the text that its type has for it, if any: a
    training must not end for what it logs."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    try:
        return _float(float(value))  # Decimal, Fraction, numpy's longdouble
    except OverflowError:
        return _float(math.inf if value > 0 else -math.inf)
    except Exception:
        kind: Any = type(value)
        if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
            return None
        return str(value)  # complex numbers, dates, paths, enumerations


def _float(value: float) -> Any:
    return float(value) if math.isfinite(value) else {_NOT_FINITE: repr(float(value))}


def _builtin(value: Any) -> Any:
    """Return a value of Python's own type: numpy's str_, an IntEnum and the like are more."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    number = int(value)
    return number if -LARGEST <= number <= LARGEST else _other(number)


def _nested(value: Any, what: str) -> Any:
    if isinstance(value, (list, tuple)) or (getattr(value, "shape", None) not in (None, ())):
        return scalars(value, what)
    if isinstance(value, Mapping):
        return json_tree(value, what)
    return scalar(value, what)


def _array(value: Any, what: str) -> Any:
    """Return a tensor's or a variable's values, as numpy's or as what has ``tolist``."""
    if hasattr(value, "detach"):  # PyTorch
        value = value.detach().cpu()
    if hasattr(value, "numpy"):
        try:
            return value.numpy()
        except (AttributeError, NotImplementedError, RuntimeError):
            raise _symbolic(value, what) from None
    return value


def _element(value: Any, what: str) -> Any:
    """Return the one element of an array or tensor, of Python's own type."""
    found = _array(value, what)
    if hasattr(found, "item"):
        try:
            found = found.item()
        except (ValueError, TypeError, RuntimeError):
            raise _refusal(value, what) from None
    return found


def _refusal(value: Any, what: str) -> TypeError:
    if hasattr(value, "graph") or type(value).__name__ == "KerasTensor":
        return _symbolic(value, what)
    shape = getattr(value, "shape", None)
    of_shape = f" of shape {tuple(shape)}" if shape else ""
    return TypeError(
        f"{what} takes a number, a string or a bool, not a {type(value).__name__}{of_shape}. For "
        "several numbers there are log_list, log_row and log_table."
    )


def _symbolic(value: Any, what: str) -> TypeError:
    return TypeError(
        f"{what} got {type(value).__name__}, which has no value yet: inside a tf.function there "
        "are only symbols. Return it from the function, and log what was returned."
    )
