"""The chart of a run: scales, and gaps where nothing is known."""

from __future__ import annotations

import re

import pytest

from tests.gpu.chart import ROWS, draw, round_up


def row(time_s: float, power_w: str, running: str = "") -> dict[str, str]:
    known = {"time_s": str(time_s), "power_w": power_w, "running": running}
    return {each.column: known.get(each.column, "") for each in ROWS} | known


def test_a_gap_stays_one_and_a_scale_is_round() -> None:
    svg = draw([row(0, "100"), row(1, "650"), row(2, ""), row(3, "650", "2")], "a run")
    assert "power, W · top 1,000, most 650" in svg
    paths = re.findall(r'<path d="([^"]*)"', svg)
    assert len(paths) == len(ROWS)
    assert (paths[1].count("M"), paths[1].count("L")) == (2, 1)
    assert paths[0] == ""


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="empty"):
        draw([], "a run")


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.7, 1), (6.4, 10), (128, 200), (650, 1000), (13_530, 20_000)])
def test_round_up(value: float, top: float) -> None:
    assert round_up(value) == pytest.approx(top)
