"""Compares what ONNX Runtime answers with what the model answered, and makes smaller variants: a
script for hpctf's own environment of exports.

A request holds ``models``; each has ``onnx``, ``reference`` (what ``save.py`` wrote), ``within``
and ``layers``; and for a variant ``quantize`` (``int8`` or ``fp16``), ``variant`` (the file to
write) and ``variant_within``. The answer has the largest difference, or why it is ``refused``.
"""

import os
import shutil
import time
import traceback
from typing import Any, Dict, List, Sequence

import onnx
import onnxruntime
from hpctf_answers import answer_request, first_line
from hpctf_compare import compare, questions, to_exact
from hpctf_names import shown

_ROUNDS = 15
_FASTER = 1.1
"""How much faster a variant must be to count as faster: times vary by less."""
_THROUGH = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Transpose")


def _answer(job: Dict[str, Any]) -> Dict[str, Any]:
    try:
        found = verify(job)
        if "refused" not in found and job.get("quantize"):
            found["variant"] = variant(job)
        return found
    except Exception as error:  # ONNX Runtime's have no class in common
        traceback.print_exc()
        return {"refused": f"ONNX Runtime: {first_line(error)}"}


def session_of(path: str) -> Any:
    """Return a session that uses the cores that this process may use, and no others."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def verify(job: Dict[str, Any]) -> Dict[str, Any]:
    """Return the largest difference and what the model takes and gives, or a refusal."""
    session = session_of(job["onnx"])
    largest, name = compare(session.run, job["reference"])
    exact = None if largest <= job["within"] else to_exact(session.run, job["reference"])
    # TensorFlow 2.15 adds up in half precision: what it answers may be further off than the export
    is_nearer = exact is not None and exact[0] <= min(job["within"], exact[1])
    if not largest <= job["within"] and not is_nearer:
        model = onnx.load(job["onnx"], load_external_data=False)
        by = made_by(model.graph, name, job["layers"])
        return {
            "refused": "ONNX Runtime answers otherwise than the model. Output {!r}, of {}, differs "
            "by {:.1e}; at most {:.0e} is allowed.".format(name, by, largest, job["within"])
        }
    return {
        "largest": largest,
        "exact": exact,
        "bytes": size_of(job["onnx"]),
        "inputs": [_described(one) for one in session.get_inputs()],
        "outputs": [_described(one) for one in session.get_outputs()],
    }


def made_by(graph: Any, output: str, layers: Sequence[str]) -> str:
    """Return the operation and layer that an output comes from."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _THROUGH and node.input[0] in makers:
        node = makers[node.input[0]]
    return "an input" if node is None else shown(node.op_type, node.name, layers)


def size_of(path: str) -> int:
    """Return the bytes of a model, its weights included."""
    return sum(os.path.getsize(one) for one in (path, path + ".data") if os.path.exists(one))


def _described(one: Any) -> Dict[str, Any]:
    return {"name": one.name, "type": one.type, "shape": list(one.shape)}


def variant(job: Dict[str, Any]) -> Dict[str, Any]:
    """Write a quantised variant, and say whether it is worth keeping; else it is removed."""
    path, whole = job["variant"], job["onnx"]
    external = os.path.exists(whole + ".data")
    try:
        quantize(whole, path, job["quantize"], external)
        largest, _ = compare(session_of(path).run, job["reference"])
    except Exception as error:
        traceback.print_exc()
        remove(path)
        return {"kept": False, "why": f"it cannot be made: {first_line(error)}"}
    before, after = size_of(whole), size_of(path)
    times = seconds(whole, path, job["reference"])
    found = {
        "largest": largest,
        "bytes": after,
        "bytes_before": before,
        "seconds": times[1],
        "seconds_before": times[0],
    }
    better = after < before or times[1] * _FASTER < times[0]
    if not largest <= job["variant_within"]:
        why = "it differs by {:.1e}, and at most {:.0e} is allowed".format(
            largest,
            job["variant_within"],
        )
    elif not better:
        why = "it is neither smaller nor faster"
    else:
        return {"kept": True, "why": "", **found}
    remove(path)
    return {"kept": False, "why": why, **found}


def remove(path: str) -> None:
    """Remove a model and its weights, as far as they are there."""
    for one in (path, path + ".data"):
        if os.path.exists(one):
            os.unlink(one)


def quantize(whole: str, path: str, kind: str, external: bool) -> None:
    """Write a variant: weights of 8 bits (dynamic quantisation), or all in half precision."""
    if kind == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            whole, path, weight_type=QuantType.QInt8, use_external_data_format=external
        )
    else:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        # By its path: shapes of more than 2 GB are inferred from file to file alone.
        model = convert_float_to_float16(whole, keep_io_types=True)
        more = {"location": os.path.basename(path) + ".data"} if external else {}
        onnx.save(model, path, save_as_external_data=external, **more)
    for one in (path, path + ".data"):
        if os.path.exists(one):
            shutil.copymode(whole, one)


def seconds(one: str, other: str, reference: str) -> List[float]:
    """Return the shortest time of two models for the largest batch, run in turn."""
    sessions = [session_of(one), session_of(other)]
    inputs, *_ = questions(reference)[-1]
    best = [float("inf"), float("inf")]
    for _ in range(_ROUNDS):
        for index, session in enumerate(sessions):
            begin = time.perf_counter()
            session.run(None, inputs)
            best[index] = min(best[index], time.perf_counter() - begin)
    return best


if __name__ == "__main__":
    answer_request(_answer)
