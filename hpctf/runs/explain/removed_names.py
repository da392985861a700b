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
WITH_ADDONS = "--framework-version 2.15 --pip tensorflow-addons"

PATTERNS = [
    (
        r"AttributeError: 'Variable' object has no attribute 'ref'",
        "a function of horovod.tensorflow was given variables of Keras 3",
        f"Use Keras 2: pass {LEGACY_KERAS}. Or give Horovod's tape and functions the tf.Variables: "
        "[v.value for v in model.variables].",
        "keras-3",
    ),
    (
        r"Trainer\.(\w+\(\) got an unexpected keyword argument '\w+')",
        "the script is written for Keras 2: in Keras 3, {1}",
        f"Leave that argument out, or use Keras 2: pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"Argument\(s\) not recognized: (\{.+\})",
        "the script is written for Keras 2: Keras 3 does not know the arguments {1}",
        f"Write learning_rate for lr, leave others out, or use Keras 2: pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"((?:ModelCheckpoint|TensorBoard|EarlyStopping|ReduceLROnPlateau|CSVLogger)\.__init__\(\) "
        r"got an unexpected keyword argument '\w+')"
        r"|(Unrecognized keyword arguments passed to \w+: \{.+\})",
        "the script is written for Keras 2: in Keras 3, {1}",
        f"Leave that argument out, or use Keras 2: pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"must end in `(\.[\w.]+)`|Invalid filepath extension for saving\. .*?`(\.keras)`",
        "the script saves a file as Keras 2 does: in Keras 3 its name must end in {1}",
        f"Let it end in {{1}}, or use Keras 2: pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"ValueError: (File format not supported: filepath=\S+) Keras 3 only",
        "the script loads what Keras 2 has saved, which Keras 3 does not read: {1}",
        f"Use Keras 2: pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"object has no attribute '(fit_generator|evaluate_generator|predict_generator|lr)'",
        "the script is written for Keras 2: Keras 3 has no {1}",
        "Write fit, evaluate and predict for those of generators and learning_rate for lr, or use "
        f"Keras 2: pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"object has no attribute '(predict_classes|predict_proba)'",
        "Keras no longer has {1}",
        "Write model.predict(x).argmax(axis=-1) for model.predict_classes(x), and model.predict(x) "
        "for model.predict_proba(x).",
        "keras-3",
    ),
    (
        r"TypeError: '(list)' object is not callable",
        "the script calls a {1}, such as an optimizer's variables, which are one in Keras 3",
        "Write optimizer.variables for optimizer.variables(), or use Keras 2: pass "
        f"{LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"KeyError: '((?:val_)?acc)'",
        "the history has no {1}: metrics have the names that they are compiled with",
        "Write accuracy for acc, and val_accuracy for val_acc (metrics=['accuracy']).",
        "keras-3",
    ),
    (
        r"(`keras\.optimizers\.legacy`) is not supported in Keras 3"
        r"|A (KerasTensor) cannot be used as input to a TensorFlow function"
        r"|(?:keras\.layers\.|'\S*keras\S*\.layers' has no attribute ')(experimental)\b"
        r"|'\S*keras\S*\.optimizers' has no attribute '(experimental)'",
        "the script is written for Keras 2: Keras 3 has no {1}, or does not take it here",
        f"Use Keras 2 (from tensorflow import keras): pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"No module named '(?:tensorflow\.)?(?:keras\.layers\.(\w+)|keras\.(engine)\b)",
        "Keras no longer has the module {1}",
        "Take its names from keras.layers.",
        "keras-3",
    ),
    (
        r"No module named '(?:tensorflow\.)?keras\.(utils|callbacks|optimizers|models)\.\w+",
        "Keras no longer has modules within keras.{1}",
        "Take its names from keras.{1}.",
        "keras-3",
    ),
    (
        r"No module named '(?:tensorflow\.)?keras\.(objectives)\b",
        "Keras no longer has keras.{1}",
        "Write keras.losses for keras.objectives.",
        "keras-3",
    ),
    (
        r"No module named '(?:tensorflow\.)?keras\.backend\.(\w+)",
        "Keras no longer has {1}",
        "Write tensorflow.keras.backend for keras.backend.tensorflow_backend.",
        "keras-3",
    ),
    (
        r"cannot import name '(\w+)' from '(?:tensorflow\.)?keras\.optimizers'",
        "Keras has no {1} among its optimizers",
        "Import the class itself, such as: from keras.optimizers import Adam.",
        "keras-3",
    ),
    (
        r"(?:cannot import name|has no attribute) '(multi_gpu_model)'",
        "Keras no longer has {1}",
        "Leave it out, and make and compile the model within tf.distribute.MirroredStrategy()."
        "scope(), which takes all GPUs.",
        "keras-3",
    ),
    (
        r"object has no attribute '(_set_inputs|_make_\w+_function)'",
        "Keras no longer has {1}, which was its own",
        "Leave that line out: a model that has been called, or compiled, needs none of it.",
        "keras-3",
    ),
    (
        r"object has no attribute '((?:in|out)put_shape|(?:in|out)bound_nodes"
        r"|get_(?:in|out)put_(?:shape_|mask_)?at)'",
        "the script is written for Keras 2: layers of Keras 3 have no {1}",
        f"Use Keras 2: pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"object has no attribute '(reset_states)'",
        "Keras no longer has {1} there",
        "Write reset_state for reset_states.",
        "keras-3",
    ),
    (
        r"(?:cannot import name|has no attribute) '(np_utils)'",
        "Keras no longer has {1}",
        "Take its functions from keras.utils.",
        "keras-3",
    ),
    (
        r"cannot import name '(CuDNN\w+)' from"
        r"|'\S*keras\S*\.layers' has no attribute '(CuDNN\w+)'",
        "Keras 3 has no {1}: LSTM and GRU use cuDNN by themselves",
        "Write keras.layers.LSTM for CuDNNLSTM, and keras.layers.GRU for CuDNNGRU.",
        "keras-3",
    ),
    (
        r"No module named 'keras\.preprocessing\.(\w+)'"
        r"|cannot import name '(\w+)' from 'keras\.preprocessing(?:\.\w+)?'",
        "the package keras, version 3, no longer has {1}",
        "Write tensorflow.keras.preprocessing for keras.preprocessing.",
        "keras-3",
    ),
    (
        r"No module named '(?:tensorflow\.)?keras\.(wrappers)\b",
        "Keras no longer has the wrappers for scikit-learn of that name ({1}.scikit_learn)",
        "Use keras.wrappers.SKLearnClassifier or keras.wrappers.SKLearnRegressor of Keras 3.",
        "keras-3",
    ),
    (
        r"'\S*keras\S*\.mixed_precision' has no attribute '(experimental)'"
        r"|cannot import name '(experimental)' from '\S*keras\.mixed_precision'",
        "mixed precision is no longer experimental in Keras ({1})",
        "Take Policy and LossScaleOptimizer from keras.mixed_precision, and write "
        "set_global_policy for set_policy.",
        "keras-3",
    ),
    (
        r"'\S*keras\S*\.backend' has no attribute '([gs]et_session)'",
        "Keras has no {1}, since TensorFlow 2 has no sessions",
        "Leave the session out (tf.config.set_visible_devices chooses a GPU); or write "
        f"tf.compat.v1.keras.backend for keras.backend, and pass {LEGACY_KERAS}.",
        "keras-3",
    ),
    (
        r"'keras\.backend' has no attribute '(\w+)'",
        "the script is written for Keras 2: the backend of Keras 3 has no {1}",
        "Write tensorflow.keras for keras.",
        "keras-3",
    ),
    (
        r"`(\w+)` is not available with Keras 3",
        "the script uses {1} of TensorFlow 1 (tf.layers, tf.nn.rnn_cell), which needs Keras 2",
        f"Use Keras 2: pass {LEGACY_KERAS}.",
        "tensorflow-1",
    ),
    (
        r"TBNotInstalledError: .*?(tf\.\S+|$)",
        "TensorBoard is not installed in the training's Python, {python}, and {1} needs it",
        "Install it there: pass --pip 'setuptools<81' --pip tensorboard.",
        "missing-module",
    ),
    (
        r"No module named 'tensorflow\.(examples)",
        "the script reads its data with the tutorials of TensorFlow 1 (tensorflow.{1}), which "
        "TensorFlow 2 does not have",
        "Pass the data with --input data=FILE, and read numpy.load(os.environ['HPCTF_INPUT_DATA']) "
        "in their place; or use tf.keras.datasets.",
        "tensorflow-1",
    ),
    (
        r"(?:module 'tensorflow\S*' has no attribute|No module named) '(?:tensorflow\.)?(contrib)",
        "the script uses tf.{1}, which ended with TensorFlow 1",
        "Write that part anew with tf.keras. Or take it from tensorflow_addons or tf_slim: pass "
        f"{WITH_ADDONS} --pip tf-slim.",
        "tensorflow-1",
    ),
    (
        r"No module named '(tensorflow_addons)",
        "{1} is not installed in the training's Python, {python}, and ended with TensorFlow 2.15",
        f"Pass {WITH_ADDONS}.",
        "tensorflow-1",
    ),
    (
        r"(?:No module named|cannot import name '\w+' from|module) '(tensorflow\.python\.keras)\b",
        "the script takes names from {1}, which is TensorFlow's own, and old",
        "Write tensorflow.keras for tensorflow.python.keras.",
        "keras-3",
    ),
    (
        r"module 'tensorflow\S*' has no attribute '(estimator)'"
        r"|cannot import name '(estimator)' from 'tensorflow'"
        r"|No module named 'tensorflow\.(estimator)",
        "the script uses tf.{1}, which TensorFlow no longer has since 2.16",
        "Use the last TensorFlow that has it: pass --framework-version 2.15.",
        "tensorflow-1",
    ),
    (
        r"module 'tensorflow(?!\.keras)[\w.]*' has no attribute '(\w+)'"
        r"|type object '(?:IteratorBase|TFLiteConverterV2)' has no attribute '(\w+)'"
        r"|module 'keras[\w.]*\.(?:initializers|losses|metrics)' has no attribute '(\w+)'"
        r"|cannot import name '(\w+)' from '(?:tensorflow(?!\.keras)"
        r"|keras[\w.]*\.(?:initializers|losses|metrics)\b)"
        r"|No module named 'tensorflow\.(\w+)'"
        r"|Dataset' object has no attribute '(make_\w+_iterator|output_(?:classes|shapes|types))'",
        "TensorFlow 2 has no {1} where the script looks for it",
        TF_1,
        "tensorflow-1",
    ),
    (
        r"module '[\w.]*\bkeras[\w.]*' has no attribute '(\w+)'"
        r"|cannot import name '(\w+)' from '(?:tensorflow\.)?keras\b[\w.]*'"
        r"|No module named '(?:tensorflow\.)?keras\.(\w+)",
        "Keras 3 has no {1} where the script looks for it",
        f"If it is written for Keras 2 (tensorflow.keras): pass {LEGACY_KERAS}. If it is older, "
        "look for the name of today at https://keras.io/api.",
        "keras-3",
    ),
    (
        r"^\w+: (.*(?:(?:not|un)\w* .*\beager (?:execution|mode)|\beager execution is enabled).*)"
        r"|^RuntimeError: (The Session graph is empty.*)",
        "the script builds a graph as in TensorFlow 1, but TensorFlow 2 runs eagerly: {1}",
        TF_1,
        "tensorflow-1",
    ),
    (
        r"'numpy\.ndarray' object has no attribute '(ptp|newbyteorder|itemset|tostring)'"
        r"|(binary mode of fromstring) is removed",
        "this numpy's arrays no longer have {1}",
        "Write {instead} in its place. If it is a package that uses it, use a newer one (--pip).",
        "numpy-2",
    ),
    (
        r"`np\.(\w+)` was (?:removed|a deprecated alias)|module 'numpy' has no attribute '(\w+)'"
        r"|cannot import name '(\w+)' from 'numpy'",
        "this numpy no longer has np.{1}",
        "Write {instead} in its place. If it is a package that uses it, use a newer one (--pip).",
        "numpy-2",
    ),
]
"""(pattern, meaning, advice, page); ``{1}`` in both is the first group that is found."""

ARRAYS = {
    "binary mode of fromstring": "np.frombuffer(data)",
    "itemset": "a[0] = 1",
    "newbyteorder": "a.view(a.dtype.newbyteorder())",
    "ptp": "np.ptp(a)",
    "tostring": "a.tobytes()",
}
"""What arrays no longer have since numpy 2, and what to write."""

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
    "math": "math",
    "rank": "np.ndim",
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
    return {**ARRAYS, **NUMPY}.get(name, "what numpy's release notes name")
