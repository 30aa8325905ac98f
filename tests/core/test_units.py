from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core import units
from console.core.units import FORMATS, UNKNOWN, Unit

DAY_S = 86_400


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        (Unit.BYTES, 0, "0 B"),
        (Unit.BYTES, 1023, "1023 B"),
        (Unit.BYTES, 1024, "1.0 KiB"),
        (Unit.BYTES, 78.4 * 2**30, "78.4 GiB"),
        (Unit.BYTES, 999.96 * 2**30, "1000 GiB"),
        (Unit.BYTES, 1.5 * 2**40, "1.5 TiB"),
        (Unit.RATE, 0, "0/s"),
        (Unit.RATE, 0.34, "0.3/s"),
        (Unit.RATE, 42.4, "42/s"),
        (Unit.RATE, 2076.5, "2.1k/s"),
        (Unit.RATE, 999.7, "1.0k/s"),
        (Unit.LATENCY, 0.0004, "0.4 ms"),
        (Unit.LATENCY, 0.018, "18 ms"),
        (Unit.LATENCY, 0.9999, "1.0 s"),
        (Unit.LATENCY, 1.84, "1.8 s"),
        (Unit.LATENCY, 75, "75 s"),
        (Unit.LATENCY, 125, "2m05s"),
        (Unit.ELAPSED, 42.9, "42s"),
        (Unit.ELAPSED, 65, "1m05s"),
        (Unit.ELAPSED, 6120, "1h42m"),
        (Unit.ELAPSED, 3 * DAY_S + 4 * 3600, "3d04h"),
        (Unit.ELAPSED, 120 * DAY_S, "120d"),
        (Unit.ELAPSED, -5, "0s"),
        (Unit.PERCENT, 99.6, "100%"),
        (Unit.RATIO, 0.423, "42%"),
        (Unit.COUNT, 2_097_152, "2,097,152"),
        (Unit.SHORT_COUNT, 131_072, "131k"),
        (Unit.SHORT_COUNT, 7, "7"),
        (Unit.WATTS, 411.6, "412 W"),
        (Unit.CELSIUS, 63, "63 °C"),
        (Unit.USD, 0.418, "$0.42"),
        (Unit.USD, 1204.3, "$1,204"),
    ],
)
def test_text(unit: Unit, value: float, expected: str) -> None:
    assert units.text(value, unit) == expected


@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_unknown_is_a_dash_and_never_zero(unit: Unit, value: float | None) -> None:
    assert units.text(value, unit) == UNKNOWN


def test_every_unit_has_a_format() -> None:
    assert set(FORMATS) == set(Unit)


@given(st.sampled_from(list(Unit)), st.floats(0, 1))
def test_no_text_is_wider_than_its_column(unit: Unit, share: float) -> None:
    row = FORMATS[unit]
    # Powers spread the samples over all magnitudes.
    for value in (share * row.value_max, (row.value_max + 1) ** share - 1):
        assert len(units.padded(value, unit)) == row.width, units.text(value, unit)
    assert len(units.padded(None, unit)) == row.width
