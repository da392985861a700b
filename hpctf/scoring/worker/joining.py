"""Joining the parts to one output in the order of the input, a part in memory at a time.

The output has a row for each row of the input, in its order. Rows of parts that could not be scored
have no values: NaN, an empty field, null. A NumPy array of whole numbers or bools becomes one of
float64 then, since these have no NaN; text is empty. ``rows.json`` names the rows.
"""

import contextlib
import csv
import json
import os
import re
import shutil
from functools import partial
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from .errors import Fatal
from .parts import part_file, read_part

ROWS = "rows.json"
"""File of the output: which rows are of which file, and which could not be scored."""

_NAME = "predictions"

_LONGEST = 200
"""Bytes of an output's name in a file's name, which has 255 at most."""


class Output(NamedTuple):
    """An output of the model over all parts: its rows' shape and their type."""

    name: str
    tail: Tuple[int, ...]
    dtype: Any


def join(
    folder: str, definition: Dict[str, Any], plan: Dict[str, Any], failed: Dict[str, str]
) -> Dict[str, Any]:
    """Write the output, and return how many rows it has.

    Parameters
    ----------
    failed
        Why parts could not be scored, by their numbers.

    Raises
    ------
    Fatal
        It cannot be written, or the parts do not fit together.
    """
    out = definition["out"]
    rows = sum(plan["rows"])
    if not _is_of(out, [definition["run"]]):
        hidden = os.path.join(
            os.path.dirname(out), ".{}.{}".format(os.path.basename(out), definition["run"])
        )
        shutil.rmtree(hidden, ignore_errors=True)  # of an attempt that was cut short
        os.mkdir(hidden)
        try:
            _write(hidden, folder, definition, plan, {int(number) for number in failed})
            _write_rows(hidden, definition, plan, failed)
            _put(hidden, out, definition["resumed"])
        except OSError as error:
            raise Fatal(f"Cannot write {out}: {error.strerror or error}.") from None
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    if not failed:  # else a run that goes on with this one needs them
        for number in range(len(plan["parts"])):
            with contextlib.suppress(OSError):
                os.unlink(part_file(folder, number))
    return {"rows": rows}


def _is_of(out: str, runs: List[str]) -> bool:
    """Whether the output of one of these runs is there already: who joined it died before that was
    on record, or it lacks what this run has scored."""
    try:
        with open(os.path.join(out, ROWS), encoding="utf-8") as stream:
            return json.load(stream)["run"] in runs
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _put(hidden: str, out: str, resumed: List[str]) -> None:
    """Give the output its name; that of a run that this one goes on with makes way."""
    before = hidden + ".before"
    makes_way = _is_of(out, resumed)
    if makes_way:
        os.rename(out, before)
    try:
        os.rename(hidden, out)
    except OSError:
        if makes_way:
            os.rename(before, out)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _write_rows(
    place: str, definition: Dict[str, Any], plan: Dict[str, Any], failed: Dict[str, str]
) -> None:
    files, first = [], 0
    for path, rows in zip(definition["files"], plan["rows"]):
        files.append({"file": path, "first": first, "rows": rows})
        first += rows
    missing = []
    for number, reason in sorted(failed.items(), key=lambda pair: int(pair[0])):
        file, begin, rows, _ = plan["parts"][int(number)]
        row = files[file]["first"] + begin
        missing.append(
            {
                "file": definition["files"][file],
                "first_in_file": begin,
                "first": row,
                "rows": rows,
                "reason": reason,
            }
        )
    about = {"run": definition["run"], "model": definition["model"]["id"]}
    with open(os.path.join(place, ROWS), "w", encoding="utf-8") as stream:
        json.dump({**about, "files": files, "failed": missing}, stream, indent=2)
        stream.write("\n")


def _write(
    place: str, folder: str, definition: Dict[str, Any], plan: Dict[str, Any], failed: Any
) -> None:
    counts = [part[2] for part in plan["parts"]]
    numbers = range(len(counts))
    outputs = _outputs(folder, [number for number in numbers if number not in failed])

    def parts() -> Iterator[Tuple[int, Any]]:
        for number in numbers:
            found = None if number in failed else read_part(folder, number)
            yield counts[number], found

    npy = partial(_write_npy, is_whole=not failed)
    writers: Dict[str, Any] = {"npy": npy, "csv": _write_csv, "parquet": _write_parquet}
    writers[definition["format"]](place, outputs, parts, sum(counts))


def _outputs(folder: str, numbers: List[int]) -> List[Output]:
    """Return the outputs of all parts: of text, each type as long as the longest."""
    found: Dict[str, Output] = {}
    for number in numbers:
        for name, array in read_part(folder, number).items():
            one = found.setdefault(name, Output(name, array.shape[1:], array.dtype))
            if one.tail != array.shape[1:]:
                raise Fatal(
                    f"The rows of the model's output {name!r} have the shape {one.tail} in one "
                    f"part and {array.shape[1:]} in another: they cannot be joined."
                )
            found[name] = one._replace(dtype=np.promote_types(one.dtype, array.dtype))
    return list(found.values())


def npy_files(names: Sequence[str]) -> List[str]:
    """Return the files that outputs are written to: letters and digits of any script stay, and
    names that are alike then are numbered."""
    if len(names) == 1:
        return [f"{_NAME}.npy"]
    found: List[str] = []
    for name in names:
        words = re.sub(r"[^\w.-]", "_", name).encode()[:_LONGEST].decode(errors="ignore")
        file, count = f"{_NAME}-{words}.npy", 1
        while file in found:
            count += 1
            file = f"{_NAME}-{words}-{count}.npy"
        found.append(file)
    return found


def _write_npy(place: str, outputs: List[Output], parts: Any, rows: int, is_whole: bool) -> None:
    if not is_whole:
        outputs = [one._replace(dtype=_with_nan(one.dtype)) for one in outputs]
    with contextlib.ExitStack() as stack:
        streams = []
        for one, file in zip(outputs, npy_files([one.name for one in outputs])):
            streams.append(stack.enter_context(open(os.path.join(place, file), "xb")))
            head = np.lib.format.header_data_from_array_1_0(np.empty((0, *one.tail), one.dtype))
            np.lib.format.write_array_header_2_0(streams[-1], {**head, "shape": (rows, *one.tail)})
        for count, found in parts():
            for one, stream in zip(outputs, streams):
                array = _nothing(one, count) if found is None else found[one.name]
                stream.write(np.ascontiguousarray(array, dtype=one.dtype).tobytes())


def _with_nan(dtype: Any) -> Any:
    """Return a type that has the values of another, and NaN."""
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype


def _nothing(one: Output, rows: int) -> Any:
    """Return rows without values."""
    value = np.nan if one.dtype.kind in "fc" else ""
    return np.full((rows, *one.tail), value, one.dtype)


def _write_csv(place: str, outputs: List[Output], parts: Any, rows: int) -> None:
    names: List[str] = []
    for one in outputs:
        size = int(np.prod(one.tail, dtype=np.int64))
        names += [f"{one.name}_{n}" for n in range(size)] if one.tail else [one.name]
    path = os.path.join(place, f"{_NAME}.csv")
    with open(path, "x", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for count, found in parts():
            if found is None:
                writer.writerows([[""] * len(names)] * count)
                continue
            columns = [found[one.name].reshape(count, -1).tolist() for one in outputs]
            for cells in zip(*columns):
                writer.writerow([value for part in cells for value in part])


def _write_parquet(place: str, outputs: List[Output], parts: Any, rows: int) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    fields = []
    for one in outputs:
        text = one.dtype.kind == "U"
        kind = pyarrow.string() if text else pyarrow.from_numpy_dtype(one.dtype)
        if one.tail:
            kind = pyarrow.list_(kind, int(np.prod(one.tail, dtype=np.int64)))
        fields.append(pyarrow.field(one.name, kind))
    schema = pyarrow.schema(fields)
    with parquet.ParquetWriter(os.path.join(place, f"{_NAME}.parquet"), schema) as writer:
        for count, found in parts():
            arrays = []
            for one, field in zip(outputs, fields):
                if found is None:
                    arrays.append(pyarrow.nulls(count, field.type))
                    continue
                array = found[one.name]
                flat = pyarrow.array(array.reshape(-1))
                if one.tail:
                    flat = pyarrow.FixedSizeListArray.from_arrays(flat, field.type.list_size)
                arrays.append(flat.cast(field.type))
            writer.write_table(pyarrow.table(arrays, schema=schema))
