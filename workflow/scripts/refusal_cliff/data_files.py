"""Read tables that users bring, as they are written: every value is text or missing, and nothing is guessed.

Numbers and truth values of JSON and Parquet become the text that JSON writes for them. Lists and objects stay what they
are: who needs text says what is to become of them.
"""

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.hashes import file_sha256

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
DELIMITER_NAMES = {",": "a comma", "\t": "a tab"}
COMPRESSED = ".gz"
UNWRITABLE = re.compile("[\\x00\\ud800-\\udfff]")
"""NUL and halves of surrogate pairs, which JSON can escape and no file of text can hold."""
TRUTH_VALUES = {True: "true", False: "false"}

# A jailbreak of many shots is longer than the 131,072 characters that the module allows a cell by default.
csv.field_size_limit(2**31 - 1)


@cache
def checksum(path: str) -> str:
    """SHA-256 of a file, in hexadecimal digits; read once in a process."""
    return file_sha256(path)


def suffix_of(path: str | Path) -> str:
    """The suffix that says how to read a file, one of `SUFFIXES` if it can be read; "a.csv.gz" is a csv file."""
    return Path(Path(path).name.removesuffix(COMPRESSED)).suffix


def read_file(path: str | Path, rows: int | None = None) -> pd.DataFrame:
    """Read a table by its suffix: csv, tsv, json or jsonl (an array of objects or one a line, either way) or parquet.

    All but Parquet may be compressed with gzip.

    Args:
        rows: read only so many rows, where the format allows it.

    Returns:
        Cells are text, None, or a list or object of JSON or Parquet. The index, called `line` or `row`, says where in
        the file a row begins, from 1.

    Raises:
        UserError: no such file, unknown suffix, or content that is not in the format; names the line.
    """
    path, suffix = Path(path), suffix_of(path)
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: cannot read {path.suffix!r} files; use one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; download it, or set data_dir in the config to the folder that holds it")
    if suffix in DELIMITERS:
        return read_delimited(path, DELIMITERS[suffix], rows=rows)
    return _read_parquet(path, rows) if suffix == ".parquet" else _read_json(path, rows)


def read_delimited(path: str | Path, delimiter: str, quoted: bool = True, rows: int | None = None) -> pd.DataFrame:
    """A table of delimited text under a header. Blank lines, and empty fields beyond the header, are left out.

    Args:
        quoted: whether a cell may stand in double quotes, to hold delimiters, line breaks and doubled quotes; else
            quotes are characters like others.
        rows: read only so many.

    Returns:
        All cells are text; the index `line` is the line at which a row begins.

    Raises:
        UserError: another count of fields than in the header, a stray quote, a header that names a column twice, no
            header, or no UTF-8; names the line.
    """
    lines: dict[int, list[str]] = {}
    with _text(path) as file:
        records = _records(file, path, delimiter, quoted)
        header = next((cells for _, cells in records), [])
        while header and not header[-1]:
            header.pop()
        if not header:
            raise UserError(f"{path}: empty; its first line has to name the columns")
        if twice := [name for name, count in Counter(filter(None, header)).items() if count > 1]:
            raise UserError(f"{path}: column {twice[0]!r} occurs twice in the header; rename or delete one of the two")
        for line, cells in islice(records, rows):
            if len(cells) < len(header) or any(cells[len(header) :]):
                wrap = ", and put a cell that holds a comma or a line break in double quotes" if quoted else ""
                raise UserError(
                    f"{path}, line {line}: {len(cells)} instead of {len(header)} fields, as the header has; separate "
                    f"all of them by {DELIMITER_NAMES[delimiter]}, empty ones too{wrap}"
                )
            lines[line] = cells[: len(header)]
    index = pd.Index(list(lines), name="line", dtype=int)
    return pd.DataFrame(list(lines.values()), index=index, columns=header, dtype=object)


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for JSON readers, which by themselves keep the last of two equal keys.

    Raises:
        UserError: a key occurs twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise UserError(f"key {twice!r} occurs twice in one object; rename or delete one of the two")
    return found


def _text(path: str | Path) -> TextIO:
    """The file as text without its byte order mark, line breaks as they are."""
    opened = gzip.open if str(path).endswith(COMPRESSED) else open
    try:
        return opened(path, "rt", encoding="utf-8-sig", newline="")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _damage(path: str | Path, error: Exception) -> UserError:
    """What to say of a file whose bytes are not the text that they should be."""
    if not isinstance(error, UnicodeDecodeError):
        return UserError(f"{path}: not readable as gzip ({error}); download it again")
    # The error counts from the start of a block; the whole says the line.
    content, line = Path(path).read_bytes(), ""
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as whole:
        if not str(path).endswith(COMPRESSED):
            line = f", line {content.count(bytes([10]), 0, whole.start) + 1}"
    return UserError(f"{path}{line}: not UTF-8 ({error.reason}); save the file in this encoding")


def _lines(file: TextIO, path: str | Path) -> Iterator[str]:
    try:
        yield from file
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damage(path, error) from None


def _records(file: TextIO, path: str | Path, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """The line at which each record begins, and its cells; blank ones are left out."""
    raw: list[str] = []

    def remembered() -> Iterator[str]:
        for line in _lines(file, path):
            raw.append(line)
            yield line

    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(remembered(), delimiter=delimiter, quoting=quoting, strict=True)
    fields = 0
    while True:
        line = reader.line_num + 1
        raw.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{path}, line {line}: the quotes of the row that begins here do not match ({error}); a cell in double "
                "quotes has to end with one, and a quote within it is written twice"
            ) from None
        if cells is None:
            return
        fields = fields or len(cells)
        # Prose has commas of its own, but hardly ever the tabs of a row in each of its lines.
        several = len(raw) > 1 and fields > 1
        if several and delimiter == "\t" and all(text.count("\t") == fields - 1 for text in raw):
            raise UserError(
                f"{path}, line {line}: a double quote swallows {len(raw)} whole rows from here on; write a quote that "
                'opens a cell as """, and end the cell with one'
            )
        if any(cell.strip() for cell in cells):
            yield line, cells


def _read_json(path: Path, rows: int | None) -> pd.DataFrame:
    with _text(path) as file:
        lines = _lines(file, path)
        first = next((line for line in lines if line.strip()), "")
        file.seek(0)
        if first.lstrip().startswith("["):
            found = _parse("".join(_lines(file, path)), path)
            objects, place = dict(enumerate(found[:rows], 1)), "row"
        else:
            numbered = ((number, line) for number, line in enumerate(_lines(file, path), 1) if line.strip())
            objects = {number: _parse(line.rstrip(), path, number) for number, line in islice(numbered, rows)}
            place = "line"
    if not objects:
        raise UserError(f"{path}: empty; write one array of objects, or one object on each line")
    for number, entry in objects.items():
        if not isinstance(entry, dict):
            raise UserError(f"{path}, {place} {number}: no object; each row has to be written as {{column: value, …}}")
    # By name and not by object, of which there may be many.
    for name in {name for entry in objects.values() for name in entry}:
        if UNWRITABLE.search(name):
            raise UserError(f"{path}: column {name!a} has a character in its name that is no text; rename it")
    return _table(objects, place)


def _parse(text: str, path: Path, line: int | None = None) -> Any:
    """The JSON value that a file, or one line of it, is; with numbers as the text that stands there."""
    where = f"{path}, line {line}" if line else str(path)
    try:
        return json.loads(
            text, parse_int=str, parse_float=str, parse_constant=_no_number, object_pairs_hook=unique_keys
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {line or error.lineno}: not JSON ({error.msg}, column {error.colno}); write one array of "
            "objects, or one object on each line"
        ) from None
    except RecursionError:
        raise UserError(f"{where}: lists or objects too deep in each other to be read") from None


def _no_number(name: str) -> Any:
    raise UserError(f"{name} is not JSON; write null")


def _read_parquet(path: Path, rows: int | None) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            batches = [next(file.iter_batches(rows), None)] if rows else file.iter_batches()
            schema = file.schema_arrow
            table = pa.Table.from_batches([batch for batch in batches if batch is not None], schema)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not readable as parquet ({reason}); download or write it again") from None
    if len(set(table.column_names)) < len(table.column_names):
        raise UserError(f"{path}: two columns have the same name; rename one of them")
    columns = {name: _cells(table[name]) for name in table.column_names}
    index = pd.RangeIndex(1, len(table) + 1, name="row")
    return pd.DataFrame(columns, index=index, dtype=object)


def _cells(column: Any) -> list[Any]:
    """The cells of an Arrow column as text, or as they are where they have no text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(column.type):
        return column.to_pylist()
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        return column.cast(pa.string()).to_pylist()
    except (ValueError, NotImplementedError):
        # Bytes, such as images: only who asks for this column is told.
        return column.to_pylist()


def _table(objects: Mapping[int, Mapping[str, Any]], place: str) -> pd.DataFrame:
    """Objects of JSON as rows; a key that one lacks is missing."""
    names: Iterable[str] = dict.fromkeys(name for entry in objects.values() for name in entry)
    columns = {name: [_json_text(entry.get(name)) for entry in objects.values()] for name in names}
    return pd.DataFrame(columns, index=pd.Index(list(objects), name=place, dtype=int), dtype=object)


def _json_text(value: Any) -> Any:
    return TRUTH_VALUES[value] if isinstance(value, bool) else value
