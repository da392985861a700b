"""Files of rows: .npy and .npz, which hold arrays; .csv and .parquet, which hold columns.

A row is one along an array's first axis, or one of a table. A file is cut into parts without being
read: but a .csv, whose lines must be counted.
"""

import csv
import os
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from .errors import Wrong

Part = Tuple[int, int, int]
"""First row, rows, and where these begin in the file, in bytes, if that matters."""

_CELL = re.compile(r" at row (\d+), column (\d+)\.?$")


class Source:
    """A file of rows. ``arrays`` has the shapes of rows and the types of its arrays by name, or
    ``columns`` the names of its columns."""

    arrays: Optional[Dict[str, Tuple[Tuple[int, ...], Any]]] = None
    columns: Optional[List[str]] = None
    holds_lists = False
    """Whether a column may hold a list in each row."""

    def __init__(self, path: str) -> None:
        self.path = path

    def cut(self, each: int) -> Iterator[Part]:
        """Yield parts of so many rows, the last of fewer."""
        rows = self.rows()
        for first in range(0, rows, each):
            yield first, min(each, rows - first), 0

    def rows(self) -> int:
        """Return how many rows there are."""
        raise NotImplementedError

    def array(self, name: str, first: int, rows: int) -> Any:
        """Return rows of an array."""
        raise NotImplementedError

    def matrix(self, names: List[str], first: int, rows: int, offset: int, dtype: Any) -> Any:
        """Return rows of columns, as an array of rows × columns, or of more axes if the one column
        holds lists."""
        raise NotImplementedError


class Npy(Source):
    """One array, which is not read before its rows are."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not self._array.ndim:
            raise Wrong("it holds a number, not rows")
        self.arrays = {"": (self._array.shape[1:], self._array.dtype)}

    def rows(self) -> int:
        return int(self._array.shape[0])

    def array(self, name: str, first: int, rows: int) -> Any:
        return np.array(self._array[first : first + rows])


class Npz(Source):
    """Arrays by name. An archive can be read from its beginning alone: it is held in memory."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        with np.load(path, allow_pickle=False) as archive:
            self._arrays = {name: archive[name] for name in archive.files}
        if not self._arrays:
            raise Wrong("it holds no arrays")
        lengths = {name: array.shape[:1] for name, array in self._arrays.items()}
        if len(set(lengths.values())) > 1 or () in lengths.values():
            words = ", ".join(f"{name} {self._arrays[name].shape}" for name in lengths)
            raise Wrong(f"its arrays differ in their rows: {words}")
        self.arrays = {name: (array.shape[1:], array.dtype) for name, array in self._arrays.items()}

    def rows(self) -> int:
        return len(next(iter(self._arrays.values())))

    def array(self, name: str, first: int, rows: int) -> Any:
        return self._arrays[name][first : first + rows]


class Csv(Source):
    """Text, with the columns' names in its first line (RFC 4180; UTF-8)."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        with open(path, "rb") as stream:
            head, self._begin = next(_records(stream, 0), (b"", 0))
        text = head.decode("utf-8-sig")
        self.columns = next(csv.reader([text]), [])
        if not self.columns:
            raise Wrong("its first line does not name columns")
        separator = next((one for one in ";\t" if one in text), None)
        if len(self.columns) == 1 and separator is not None:
            raise Wrong(f"its first line has {separator!r} between columns, where commas belong")
        # Columns without names are called 0, 1, 2 ... by pandas.
        counted = [str(number) for number in range(len(self.columns))]
        if self.columns != counted and all(map(_is_number, self.columns)):
            raise Wrong("its first line holds numbers, where the columns' names belong")

    def rows(self) -> int:
        return sum(rows for _, rows, _ in self.cut(1 << 20))

    def cut(self, each: int) -> Iterator[Part]:
        first = rows = 0
        begin = end = self._begin
        with open(self.path, "rb") as stream:
            for record, after in _records(stream, self._begin):
                end = after
                if not record.strip():
                    continue
                if rows == each:
                    yield first, rows, begin
                    first, rows, begin = first + rows, 0, end - len(record)
                rows += 1
        if rows:
            yield first, rows, begin

    def matrix(self, names: List[str], first: int, rows: int, offset: int, dtype: Any) -> Any:
        assert self.columns is not None
        lines: List[str] = []
        with open(self.path, "rb") as stream:
            for record, _ in _records(stream, offset):
                if record.strip():
                    lines.append(record.decode("utf-8").rstrip("\r\n"))
                    if len(lines) == rows:
                        break
        use = [self.columns.index(name) for name in names]
        kind = np.dtype(dtype)
        read = np.dtype(str) if kind.kind in "OSU" else kind
        read = np.dtype(np.int64) if kind.kind == "b" else read
        try:
            found = np.loadtxt(
                lines,
                read,
                delimiter=",",
                usecols=use,
                ndmin=2,
                comments=None,
                quotechar='"',
            )
        except ValueError as error:
            raise Wrong(self._told(str(error), first)) from None
        return found.astype(kind) if kind.kind == "b" else found

    def _told(self, words: str, first: int) -> str:
        """Return numpy's words, which count rows from the part's first, 0, and columns from 1."""
        assert self.columns is not None
        found = _CELL.search(words)
        if found is None or int(found[2]) > len(self.columns):
            return words
        where = f"row {first + int(found[1])}, column {self.columns[int(found[2]) - 1]!r}"
        return f"{where}: {words[: found.start()]}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _records(stream: Any, offset: int) -> Iterator[Tuple[bytes, int]]:
    """Yield the records of a CSV file from an offset on, each with where the next one begins. A
    quoted line break does not end a record."""
    stream.seek(offset)
    record, quotes = b"", 0
    for line in stream:
        offset += len(line)
        record = record + line if record else line
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            yield record, offset
            record, quotes = b"", 0
    if record:
        yield record, offset


class Parquet(Source):
    """Columns, of which those that are wanted are read, a group of rows at a time."""

    holds_lists = True

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise Wrong(
                "the environment that scores it has no pyarrow, which reads Parquet; use .npy or "
                ".csv, or export the model to ONNX"
            ) from None
        self._file: Any = parquet.ParquetFile(path)
        self.columns = list(self._file.schema_arrow.names)
        self._kept: Tuple[Any, Any] = (None, None)

    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    def matrix(self, names: List[str], first: int, rows: int, offset: int, dtype: Any) -> Any:
        import pyarrow

        tables, begin = [], 0
        for group in range(self._file.metadata.num_row_groups):
            end = begin + self._file.metadata.row_group(group).num_rows
            if begin < first + rows and first < end:
                low = max(first, begin)
                part = self._group(group, names)
                tables.append(part.slice(low - begin, min(first + rows, end) - low))
            begin = end
        table = pyarrow.concat_tables(tables).combine_chunks()
        arrays = [_numbers(table.column(name), name) for name in names]
        return arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)

    def _group(self, group: int, names: List[str]) -> Any:
        if self._kept[0] != (group, names):
            self._kept = (group, list(names)), self._file.read_row_group(group, columns=names)
        return self._kept[1]


def _numbers(column: Any, name: str) -> Any:
    """Return a column as an array: one of lists, which must be of one length, as rows × length."""
    import pyarrow.compute as compute
    import pyarrow.types as types

    rows = len(column)
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    is_nested = False
    while any(is_one(column.type) for is_one in lists):
        lengths = compute.min_max(compute.list_value_length(column)).as_py()
        if column.null_count or lengths["min"] != lengths["max"]:
            raise Wrong(f"column {name!r} holds lists of different lengths")
        column, is_nested = compute.list_flatten(column), True
    if column.null_count and not types.is_floating(column.type):
        raise Wrong(f"column {name!r} has {column.null_count} rows without a value")
    array = column.to_numpy()
    return array.reshape(rows, -1) if is_nested else array


_KINDS = {".npy": Npy, ".npz": Npz, ".csv": Csv, ".parquet": Parquet}


def open_source(path: str) -> Source:
    """Return a file of rows, by the ending of its name.

    Raises
    ------
    Wrong
        It cannot be read.
    """
    try:
        return _KINDS[os.path.splitext(path)[1].lower()](path)
    except Wrong:
        raise
    except ValueError as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise Wrong("it is not a NumPy file, or holds objects of Python") from None
        raise Wrong(f"it cannot be read: {error}") from None
    except Exception as error:
        first = str(error).strip().split("\n")[0].rstrip(".")
        raise Wrong(f"it cannot be read: {first}") from None
