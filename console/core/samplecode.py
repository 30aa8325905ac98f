"""Columns of samples as bytes, and back: what never changes is said once, what changes as differences.

Figures keep six significant digits of the largest in their block, times their milliseconds. Separate from the store,
which frames such blocks and knows files; pure, so that it is tested with generated columns.
"""

from __future__ import annotations

import math
import sys
import zlib
from array import array
from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate
from operator import sub
from typing import Any, Final

import msgspec

from console.core.sampling import BASIC, Columns

__all__ = ["DIGITS", "PAYLOAD_BYTES_MAX", "CodeError", "decode", "encode"]

DIGITS: Final = 6
"""Significant digits of the largest value of a column."""
DECIMALS_MAX: Final = 9
"""Nothing smaller than 10⁻⁹ is kept."""
DECIMALS: Final = {"time_s": 3, "span_s": 3, "xid_s": 3}
PAYLOAD_BYTES_MAX: Final = 64 * 1024 * 1024
"""A block that unpacks to more is damaged."""
LEVEL: Final = 3

TYPES: Final = (("b", 7), ("h", 15), ("i", 31), ("q", 63))


class Kind(IntEnum):
    """How a column is written."""

    SAME = 0
    """One value."""
    WHOLE = 1
    """Integers, each as the difference to the one before."""
    FRACTION = 2
    """Decimal fractions, as integers of their last decimal."""
    SPARSE = 3
    """With holes: where there is a value, and those values as a column."""
    PLAIN = 4
    """Anything else."""


class CodeError(ValueError):
    """The bytes are no columns."""


def encode(columns: Columns) -> bytes:
    """Pack and compress."""
    packed = {path: _encode(path, column) for path, column in columns.data.items()}
    return zlib.compress(msgspec.msgpack.encode((columns.rows, packed)), LEVEL)


def decode(data: bytes, only: Sequence[str] | None = None) -> Columns:
    """Unpack.

    Args:
        data: of `encode`.
        only: paths, or beginnings of them, that are wanted; time, state, count and span always are.

    Raises:
        CodeError: it is damaged.
    """
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, PAYLOAD_BYTES_MAX)
        if not unpacker.eof:
            raise CodeError("cut off")
        rows, packed = msgspec.msgpack.decode(text)
        wanted = None if only is None else (*BASIC, *only)
        return Columns(
            rows,
            {
                path: _decode(column, rows)
                for path, column in packed.items()
                if wanted is None or path.startswith(tuple(wanted))
            },
        )
    except (zlib.error, msgspec.DecodeError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise CodeError(str(error)) from error


def _encode(path: str, column: list[Any]) -> tuple[Any, ...]:
    first = column[0]
    same = not isinstance(first, list | dict) and column.count(first) == len(column)
    if same and len(set(map(type, column))) == 1:  # 1, 1.0 and True are equal and yet not the same
        return Kind.SAME, first
    if None in column:
        known = [value for value in column if value is not None]
        return Kind.SPARSE, bytes(value is not None for value in column), _encode(path, known)
    kinds = set(map(type, column))
    if kinds == {int}:
        return _packed(column, Kind.WHOLE, 0) or (Kind.PLAIN, column)
    if kinds <= {int, float}:
        return _fraction(path, column) or (Kind.PLAIN, column)
    return Kind.PLAIN, column


def _fraction(path: str, column: list[Any]) -> tuple[Any, ...] | None:
    largest = max(map(abs, column))
    if not math.isfinite(largest) or not math.isfinite(sum(column)):
        return None
    decimals = DECIMALS.get(path.rpartition(".")[2])
    if decimals is None:
        decimals = DIGITS - 1 - math.floor(math.log10(largest)) if largest else 0
        decimals = min(max(decimals, 0), DECIMALS_MAX)
    scale = 10**decimals
    whole = [round(value * scale) for value in column]
    while decimals and not any(value % 10 for value in whole):
        whole = [value // 10 for value in whole]
        decimals -= 1
    return _packed(whole, Kind.FRACTION, decimals)


def _packed(values: list[int], kind: int, decimals: int) -> tuple[Any, ...] | None:
    steps = [values[0], *map(sub, values[1:], values)]
    bits = max(*steps, -min(steps)).bit_length()
    code = next((code for code, most in TYPES if bits <= most), None)
    if code is None:
        return None
    packed = array(code, steps)
    if sys.byteorder == "big":
        packed.byteswap()
    return kind, decimals, code, packed.tobytes()


def _decode(column: Sequence[Any], rows: int) -> list[Any]:
    match column[0]:
        case Kind.SAME:
            return [column[1]] * rows
        case Kind.PLAIN:
            values = list(column[1])
        case Kind.SPARSE:
            known = iter(_decode(column[2], sum(column[1])))
            values = [next(known) if there else None for there in column[1]]
        case Kind.WHOLE | Kind.FRACTION:
            _, decimals, code, data = column
            packed = array(code)
            packed.frombytes(data)
            if sys.byteorder == "big":
                packed.byteswap()
            values = list(accumulate(packed))
            if column[0] == Kind.FRACTION:
                scale = 10**decimals
                values = [value / scale for value in values]
        case kind:
            raise CodeError(f"unknown kind of column: {kind}")
    if len(values) != rows:
        raise CodeError(f"{len(values)} values for {rows} samples")
    return values
