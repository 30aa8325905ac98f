"""What the GPU table says in words, at the widths that screens give it."""

from __future__ import annotations

import pytest

from console.core.models import GpuReading, Throttle
from console.tui.paint import line_width, plain
from console.tui.widgets.gpu_table import gpu_lines, traffic_line, trouble_lines
from tests.fakes.backend import gpu, gpus

SICK = (
    gpu(0, throttle=(Throttle.POWER_CAP,), sm_clock_mhz=1605.0),
    gpu(1, row_remap_pending=True),
    gpu(2, ecc_uncorrected=2, xid=94),
    gpu(3, pcie_width=8),
    gpu(4, throttle=(Throttle.HW_THERMAL,)),
)


@pytest.mark.parametrize("width", [76, 78, 98, 156])
def test_words_have_room_where_the_clock_has(width: int) -> None:
    rows = [plain(row) for row in gpu_lines(SICK, width, 8)]
    assert all(line_width(row) <= width for row in gpu_lines(SICK, width, 8))
    assert "clock" in rows[0]
    for row, words in zip(
        rows[1:], ("1605 MHz capped", "▲ remap pending", "▲ Xid 94", "▲ PCIe x8/16", "▲ thermal"), strict=True
    ):
        assert row.endswith(words)


def test_a_narrow_cell_has_a_mark_for_what_is_wrong_and_none_for_a_power_cap() -> None:
    text = [plain(row) for row in gpu_lines(SICK, 60, 2)]
    assert sum(row.count("▲") for row in text) == 4


def test_lines_in_full_one_per_gpu_gravest_first() -> None:
    rows = [plain(row).rstrip() for row in trouble_lines(SICK, 76)]
    assert rows == [
        "▲ GPU 2  Xid 94, 2 ECC errors",
        "▲ GPU 1  a faulty row of its memory waits for a reset to be replaced",
        "▲ and 2 more GPUs: 6 shows each",
    ]
    assert trouble_lines(gpus(4), 76) == []


def test_traffic_is_summed_and_unknown_is_no_zero() -> None:
    assert plain(traffic_line((gpu(0), gpu(1)))) == (
        "in/out  PCIe 401/181 MiB/s   NVLink 34/34 GiB/s   memory busy 38%  72 °C"
    )
    half = GpuReading(index=0, pcie_rx_bytes_per_s=2048.0)
    assert plain(traffic_line((half,))).strip() == "in/out  PCIe 2.0/– KiB/s"
    assert traffic_line((GpuReading(index=0),)) == ()
