"""Writes samples as CSV, JSON lines or Parquet, block by block: a month of them needs no more memory than an hour.

Parquet needs `pyarrow`, which comes with the extra `parquet` alone and is imported here alone.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from console.core.errors import EngineError, StateError, UsageError
from console.core.flat import Kind, column_name, flat_rows
from console.core.sampling import Columns

__all__ = [
    "PARQUET_EXTRA",
    "csv_pieces",
    "json_objects",
    "json_pieces",
    "write_file",
    "write_parquet",
    "write_text",
]

PARQUET_EXTRA: Final = "Install it with its extra: uv tool install 'dsv4-console[parquet]' – or use --csv or --json."

Blocks = Callable[[], Iterable[Columns]]


def csv_pieces(blocks: Blocks, wanted: Mapping[str, Kind]) -> Iterator[str]:
    """The text of a CSV file (RFC 4180 with plain newlines), its names first; an unknown value is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(column_name, wanted))
    for block in blocks():
        for row in flat_rows(block, wanted):
            writer.writerow([str(value).lower() if isinstance(value, bool) else value for value in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def json_objects(blocks: Blocks, wanted: Mapping[str, Kind]) -> Iterator[dict[str, Any]]:
    """One flat object per sample; what is unknown is left out."""
    names = [column_name(path) for path in wanted]
    for block in blocks():
        for row in flat_rows(block, wanted):
            yield {name: value for name, value in zip(names, row, strict=True) if value is not None}


def write_parquet(path: Path, blocks: Blocks, wanted: Mapping[str, Kind]) -> None:
    """Write a Parquet file, a row group per block.

    Raises:
        EngineError: `pyarrow` is not installed.
        OSError: it cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise EngineError("Parquet cannot be written", f"pyarrow is not installed ({error})", PARQUET_EXTRA) from error
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    schema = pa.schema([(column_name(name), types[kind]) for name, kind in wanted.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks():
            rows = list(flat_rows(block, wanted))
            columns = [[row[at] for row in rows] for at in range(len(wanted))]
            if rows:
                writer.write_table(pa.table(columns, schema=schema))


def write_file(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file beside the target, and put it in place once it is whole.

    Raises:
        UsageError: the file is there already.
        StateError: it cannot be written.
    """
    if target.exists():
        raise UsageError("The file is there already", str(target), "Name another one with -o FILE.")
    part: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        part = Path(name)
        write(part)
        part.replace(target)
    except OSError as error:
        raise StateError(
            "Cannot write the file", f"{target}: {error.strerror or error}", "Name another place: -o FILE."
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Write pieces of text as UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for piece in pieces:
            file.write(piece)


def json_pieces(blocks: Blocks, wanted: Mapping[str, Kind]) -> Iterator[str]:
    """The text of a file of JSON lines."""
    for each in json_objects(blocks, wanted):
        yield msgspec.json.encode(each).decode() + "\n"
