"""The console's fields of one GPU beside the lines of `nvidia-smi -q`: one row each. Pure, so it is tested anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from console.core.models import GpuReading, Throttle
from tests.gpu.smi import number

__all__ = ["ROWS", "TOLERANCE", "Row", "compare_fields", "links_up", "same"]

MIB = 2**20
Q = Mapping[str, str]
REASONS = {
    "Idle": Throttle.IDLE,
    "Applications Clocks Setting": Throttle.APPLICATION_CLOCKS,
    "SW Power Cap": Throttle.POWER_CAP,
    "HW Slowdown": Throttle.HW_SLOWDOWN,
    "HW Thermal Slowdown": Throttle.HW_THERMAL,
    "HW Power Brake Slowdown": Throttle.POWER_BRAKE,
    "Sync Boost": Throttle.SYNC_BOOST,
    "SW Thermal Slowdown": Throttle.SW_THERMAL,
    "Display Clock Setting": Throttle.DISPLAY_CLOCKS,
}
WORDS = {"Yes": True, "No": False, "Enabled": True, "Disabled": False}


class Row(NamedTuple):
    """One figure: the console's, and how to read it from `-q`."""

    figure: str
    ours: Callable[[GpuReading], Any]
    theirs: Callable[[Q], Any]


TOLERANCE = {
    "power draw, W": 15.0,
    "temperature, °C": 2.0,
    "utilization, %": 10.0,
    "memory used, MiB": 32.0,
    "memory free, MiB": 32.0,
    "memory utilization, %": 10.0,
    "memory temperature, °C": 2.0,
    "slowdown temperature, °C": 2.0,
    "SM clock, MHz": 150.0,
    "PCIe in, KB/s": 50_000.0,
    "PCIe out, KB/s": 50_000.0,
}
"""Figures that move between two readings."""


def _number(*keys: str) -> Callable[[Q], float | None]:
    """The first of these lines that has a number."""

    def read(q: Q) -> float | None:
        found = (re.match(r"-?[\d.]+", q.get(key, "")) for key in keys)
        return next((float(each[0]) for each in found if each), None)

    return read


def _sum(section: str, *names: str) -> Callable[[Q], float | None]:
    """All of these lines of a section that have a number, together."""

    def read(q: Q) -> float | None:
        known = [value for name in names if (value := number(q.get(f"{section}/{name}"))) is not None]
        return sum(known) if known else None

    return read


def _word(key: str, absent: bool | None = None) -> Callable[[Q], bool | None]:
    return lambda q: WORDS.get(q.get(key, ""), absent)


def _reasons(q: Q) -> list[str] | None:
    for section in ("Clocks Event Reasons", "Clocks Throttle Reasons"):
        if f"{section}/Idle" in q:
            return sorted(word for name, word in REASONS.items() if q.get(f"{section}/{name}") == "Active")
    return None


def _slowdown(q: Q) -> float | None:
    """From the distance to the limit, as newer drivers tell it, else the threshold itself."""
    now = number(q.get("Temperature/GPU Current Temp"))
    left = number(q.get("Temperature/GPU T.Limit Temp"))
    slowdown = number(q.get("Temperature/GPU Slowdown T.Limit Temp"))
    if now is None or left is None or slowdown is None:
        return number(q.get("Temperature/GPU Slowdown Temp"))
    return now + left - slowdown


def _scaled(size: float | None, unit: float) -> float | None:
    return None if size is None else size // unit


LINK = "PCI/GPU Link Info"
ECC = "ECC Errors/Volatile"
ROWS: tuple[Row, ...] = (
    Row("memory free, MiB", lambda g: _scaled(g.memory_free_bytes, MIB), _number("FB Memory Usage/Free")),
    Row("memory utilization, %", lambda g: g.memory_util_percent, _number("Utilization/Memory")),
    Row("memory temperature, °C", lambda g: g.memory_temperature_c, _number("Temperature/Memory Current Temp")),
    Row("slowdown temperature, °C", lambda g: g.temperature_limit_c, _slowdown),
    Row("SM clock, MHz", lambda g: g.sm_clock_mhz, _number("Clocks/SM")),
    Row("SM clock at most, MHz", lambda g: g.sm_clock_max_mhz, _number("Max Clocks/SM")),
    Row("memory clock, MHz", lambda g: g.memory_clock_mhz, _number("Clocks/Memory")),
    Row("throttle reasons", lambda g: None if g.throttle is None else sorted(g.throttle), _reasons),
    Row("ECC corrected", lambda g: g.ecc_corrected, _sum(ECC, "SRAM Correctable", "DRAM Correctable")),
    Row(
        "ECC uncorrected",
        lambda g: g.ecc_uncorrected,
        _sum(
            ECC,
            "SRAM Uncorrectable",
            "SRAM Uncorrectable Parity",
            "SRAM Uncorrectable SEC-DED",
            "DRAM Uncorrectable",
        ),
    ),
    Row("rows remapped", lambda g: g.rows_remapped, _sum("Remapped Rows", "Correctable Error", "Uncorrectable Error")),
    Row("row remap pending", lambda g: g.row_remap_pending, _word("Remapped Rows/Pending")),
    Row("row remap failed", lambda g: g.row_remap_failed, _word("Remapped Rows/Remapping Failure Occurred")),
    Row("pages pending", lambda g: g.pages_pending, _word("Retired Pages/Pending Page Blacklist")),
    Row("PCIe in, KB/s", lambda g: _scaled(g.pcie_rx_bytes_per_s, 1000), _number("PCI/Rx Throughput")),
    Row("PCIe out, KB/s", lambda g: _scaled(g.pcie_tx_bytes_per_s, 1000), _number("PCI/Tx Throughput")),
    Row("PCIe generation", lambda g: g.pcie_generation, _number(f"{LINK}/PCIe Generation/Current")),
    Row("PCIe generation at most", lambda g: g.pcie_generation_max, _number(f"{LINK}/PCIe Generation/Max")),
    Row("PCIe lanes", lambda g: g.pcie_width, _number(f"{LINK}/Link Width/Current")),
    Row("PCIe lanes at most", lambda g: g.pcie_width_max, _number(f"{LINK}/Link Width/Max")),
    Row("MIG", lambda g: g.mig, _word("MIG Mode/Current", absent=False)),
)


def links_up(said: str) -> int | None:
    """Links of the first GPU that are up, out of `nvidia-smi nvlink --status`; `None` if it tells of none."""
    first = re.split(r"^GPU 1:", said, flags=re.MULTILINE)[0]
    states = re.findall(r"Link \d+:\s*(\S+)", first)
    return sum(state != "<inactive>" for state in states) if states else None


def same(figure: str, ours: Any, theirs: Any) -> bool | None:
    """`None` where one of them does not know."""
    if ours is None or theirs is None:
        return None
    if isinstance(ours, (dict, list, bool)):
        return bool(ours == theirs)
    ours_number, theirs_number = number(str(ours)), number(str(theirs))
    if ours_number is None or theirs_number is None or figure.startswith("driver"):
        return bool(ours == theirs)
    return abs(ours_number - theirs_number) <= TOLERANCE.get(figure, 0.51)


def compare_fields(gpu: GpuReading, q: Q) -> list[tuple[str, Any, Any]]:
    """Figure, the console's value and `nvidia-smi`'s."""
    return [(row.figure, row.ours(gpu), row.theirs(q)) for row in ROWS]
