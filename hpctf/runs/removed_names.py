"""Names that newer numpy, TensorFlow and Keras no longer have, and what to write or pass instead.

Sources: numpy's ``__expired_attributes__`` and ``__former_attrs__``, and its release notes from
1.20 to 2.4; TensorFlow's ``tf.compat.v1``, which has what TensorFlow 2 left out; Keras 3.
"""

from __future__ import annotations

TF_1 = (
    "If it is written for TensorFlow 1: replace 'import tensorflow as tf' by "
    "'import tensorflow.compat.v1 as tf; tf.disable_v2_behavior()' (and in 'from tensorflow import "
    "...' tensorflow by tensorflow.compat.v1)."
)
LEGACY_KERAS = "--env TF_USE_LEGACY_KERAS=1"

PATTERNS = [
    (
        r"AttributeError: 'Variable' object has no attribute 'ref'",
        "a function of horovod.tensorflow was given variables of Keras 3",
        f"Use Keras 2: pass {LEGACY_KERAS}. Or give Horovod's tape and functions the tf.Variables: "
        "[v.value for v in model.variables].",
    ),
    (
        r"Trainer\.(\w+\(\) got an unexpected keyword argument '\w+')",
        "the script is written for Keras 2: in Keras 3, {1}",
        f"Leave that argument out, or use Keras 2: pass {LEGACY_KERAS}.",
    ),
    (
        r"Argument\(s\) not recognized: (\{.+\})",
        "the script is written for Keras 2: Keras 3 does not know the arguments {1}",
        f"Write learning_rate for lr, leave others out, or use Keras 2: pass {LEGACY_KERAS}.",
    ),
    (
        r"`(\w+)` is not available with Keras 3",
        "the script uses {1} of TensorFlow 1 (tf.layers, tf.nn.rnn_cell), which needs Keras 2",
        f"Use Keras 2: pass {LEGACY_KERAS}.",
    ),
    (
        r"TBNotInstalledError: .*?(tf\.\S+|$)",
        "TensorBoard is not installed in the training's Python, {python}, and {1} needs it",
        "Install it there: pass --pip 'setuptools<81' --pip tensorboard.",
    ),
    (
        r"No module named 'tensorflow\.(examples)",
        "the script reads its data with the tutorials of TensorFlow 1 (tensorflow.{1}), which "
        "TensorFlow 2 does not have",
        "Pass the data with --input data=FILE, and read numpy.load(os.environ['HPCTF_INPUT_DATA']) "
        "in their place; or use tf.keras.datasets.",
    ),
    (
        r"(?:module 'tensorflow\S*' has no attribute|No module named) '(?:tensorflow\.)?(contrib)",
        "the script uses tf.{1}, which ended with TensorFlow 1",
        "Write that part anew, with tf.keras or the package that has it now (tf-slim, "
        "tensorflow-probability, tensorflow-addons).",
    ),
    (
        r"module 'tensorflow\S*' has no attribute '(estimator)'",
        "the script uses tf.{1}, which TensorFlow no longer has since 2.16",
        "Use the last TensorFlow that has it: pass --framework-version 2.15.",
    ),
    (
        r"module 'tensorflow[\w.]*' has no attribute '(\w+)'"
        r"|module 'keras[\w.]*\.(?:initializers|losses|metrics)' has no attribute '(\w+)'"
        r"|cannot import name '(\w+)' from '(?:tensorflow|keras[\w.]*\.(?:initializers|losses|"
        r"metrics)\b)"
        r"|No module named 'tensorflow\.(\w+)'",
        "TensorFlow 2 has no {1} where the script looks for it",
        TF_1,
    ),
    (
        r"^\w+: (.*(?:(?:not|un)\w* .*\beager (?:execution|mode)|\beager execution is enabled).*)"
        r"|^RuntimeError: (The Session graph is empty.*)",
        "the script builds a graph as in TensorFlow 1, but TensorFlow 2 runs eagerly: {1}",
        TF_1,
    ),
    (
        r"`np\.(\w+)` was (?:removed|a deprecated alias)|module 'numpy' has no attribute '(\w+)'"
        r"|cannot import name '(\w+)' from 'numpy'",
        "this numpy no longer has np.{1}",
        "Write {instead} in its place. If it is a package that uses it, use a newer one (--pip).",
    ),
]
"""(pattern, meaning, advice); ``{1}`` is the first group that is found."""

NUMPY = {
    "Inf": "np.inf",
    "Infinity": "np.inf",
    "NINF": "-np.inf",
    "NZERO": "-0.0",
    "NaN": "np.nan",
    "PINF": "np.inf",
    "PZERO": "0.0",
    "infty": "np.inf",
    "bool": "bool (or np.bool_)",
    "complex": "complex (or np.complex128)",
    "float": "float (or np.float64)",
    "int": "int (or np.int64)",
    "long": "int (or np.int64)",
    "object": "object",
    "str": "str (or np.str_)",
    "unicode": "str (or np.str_)",
    "bool8": "np.bool_",
    "bytes0": "np.bytes_",
    "cfloat": "np.complex128",
    "clongfloat": "np.clongdouble",
    "complex_": "np.complex128",
    "float_": "np.float64",
    "int0": "np.intp",
    "longcomplex": "np.clongdouble",
    "longfloat": "np.longdouble",
    "object0": "np.object_",
    "singlecomplex": "np.complex64",
    "str0": "np.str_",
    "string_": "np.bytes_",
    "uint0": "np.uintp",
    "unicode_": "np.str_",
    "void0": "np.void",
    "DataSource": "np.lib.npyio.DataSource",
    "add_docstring": "np.lib.add_docstring",
    "add_newdoc": "np.lib.add_newdoc",
    "alltrue": "np.all",
    "byte_bounds": "np.lib.array_utils.byte_bounds",
    "compare_chararrays": "np.char.compare_chararrays",
    "cumproduct": "np.cumprod",
    "disp": "print",
    "format_parser": "np.rec.format_parser",
    "in1d": "np.isin",
    "issubclass_": "issubclass",
    "issubsctype": "np.issubdtype",
    "mat": "np.asmatrix",
    "product": "np.prod",
    "round_": "np.round",
    "row_stack": "np.vstack",
    "sometrue": "np.any",
    "tracemalloc_domain": "np.lib.tracemalloc_domain",
    "trapz": "np.trapezoid",
    "typeDict": "np.sctypeDict",
    "asfarray": "np.asarray(a, dtype=float)",
    "asscalar": "a.item()",
    "cast": "np.asarray(a, dtype=t)",
    "fastCopyAndTranspose": "a.T.copy()",
    "find_common_type": "np.result_type(*types)",
    "issctype": "issubclass(t, np.generic)",
    "msort": "np.sort(a, axis=0)",
    "nbytes": "np.dtype(t).itemsize",
    "obj2sctype": "np.dtype(t).type",
    "recfromcsv": "np.genfromtxt(file, delimiter=',')",
    "recfromtxt": "np.genfromtxt(file)",
    "safe_eval": "ast.literal_eval(text)",
    "sctype2char": "np.dtype(t).char",
    "set_string_function": "np.set_printoptions(formatter=formatter)",
    "source": "inspect.getsource(function)",
    "add_newdoc_ufunc": "nothing (it was numpy's own)",
    "deprecate": "warnings.warn(text, DeprecationWarning)",
    "deprecate_with_doc": "warnings.warn(text, DeprecationWarning)",
    "get_array_wrap": "a.__array_wrap__",
    "geterrobj": "np.geterr()",
    "lookfor": "nothing (it searched the documentation)",
    "maximum_sctype": "the widest type itself, such as np.float64,",
    "sctypes": "the types themselves, such as [np.float32, np.float64],",
    "set_numeric_ops": "the array's own __array_ufunc__",
    "seterrobj": "np.errstate(all='ignore')",
    "who": "locals()",
}


def instead_of(name: str) -> str:
    """Return what to write in the place of a name that numpy no longer has."""
    return NUMPY.get(name, "what numpy's release notes name")
