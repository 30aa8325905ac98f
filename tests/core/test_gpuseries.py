"""The past of each GPU: means, peaks, gaps, and that it stays small."""

from __future__ import annotations

import pytest

from console.core.gpuseries import GPU_FIGURES, GPUS_MAX, ROWS_MAX, GpuSeries
from console.core.models import GpuReading

GIB = 1024**3
SPANS = (300.0, 3_600.0, 86_400.0)


def gpu(index: int, util: float | None, **changes: object) -> GpuReading:
    return GpuReading(index=index, util_percent=util, **changes)


def test_each_gpu_has_its_own_figures() -> None:
    series = GpuSeries(SPANS)
    for second in range(300):
        series.add(
            float(second),
            [
                gpu(0, 10.0, power_w=100.0, temperature_c=40.0),
                gpu(1, 90.0, memory_used_bytes=40 * GIB, memory_total_bytes=80 * GIB),
            ],
        )
    assert series.columns("util", 0, 300.0, 299.0, 10) == [10.0] * 10
    assert series.columns("util", 1, 300.0, 299.0, 10) == [90.0] * 10
    assert series.columns("memory", 1, 300.0, 299.0, 3) == [50.0] * 3
    assert series.columns("power", 0, 300.0, 299.0, 3) == [100.0] * 3
    assert series.columns("power", 1, 300.0, 299.0, 3) == [None] * 3
    assert series.columns("util", 7, 300.0, 299.0, 3) == [None] * 3


def test_gaps_stay_gaps_in_every_range() -> None:
    series = GpuSeries(SPANS)
    for second in range(0, 86_400, 10):
        missing = 40_000 <= second < 50_000
        series.add(float(second), None if missing else [gpu(0, 50.0), *([gpu(1, 60.0)] if second > 43_200 else [])])
    day = series.columns("util", 0, 86_400.0, 86_399.0, 24)
    assert day[12] is None
    assert day[0] == pytest.approx(50.0)
    assert series.columns("util", 1, 86_400.0, 86_399.0, 24)[:11] == [None] * 11, "it was not there yet"
    assert series.columns("util", 0, 300.0, 86_399.0, 10) == [50.0] * 10


def test_heat_keeps_its_peak_and_utilization_its_mean() -> None:
    series = GpuSeries(SPANS)
    for second in range(86_400):
        series.add(
            float(second), [gpu(0, 0.0 if second % 2 else 100.0, temperature_c=88.0 if second == 9_000 else 40.0)]
        )
    assert series.columns("temperature", 0, 86_400.0, 86_399.0, 24)[2] == 88.0
    assert series.columns("util", 0, 86_400.0, 86_399.0, 24)[2] == pytest.approx(50.0, abs=1.0)


def test_unknown_beside_known_in_one_stretch_is_not_averaged_in() -> None:
    series = GpuSeries((86_400.0,))
    for second, value in enumerate((None, 80.0, None, 40.0)):
        series.add(float(second), [gpu(0, value)])
    assert series.columns("util", 0, 86_400.0, 10.0, 1) == [pytest.approx(60.0)]


def test_it_is_bounded_and_forgets() -> None:
    series = GpuSeries(SPANS)
    for second in range(5 * ROWS_MAX):
        series.add(float(second), [gpu(i, 1.0) for i in range(16)] + [gpu(GPUS_MAX + 5, 1.0), gpu(-1, 1.0)])
    for rows in series._rows:
        assert len(rows) <= ROWS_MAX
        assert all(len(row.values) == 16 * len(GPU_FIGURES) for row in rows)
    series.clear()
    assert series.columns("util", 0, 300.0, 2000.0, 3) == [None] * 3
