"""All that a driver tells of one GPU, in words: label, text and how much it matters.

Separate from `gpuhealth`, which finds what is wrong: here also stands what is right, and what is not known.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from console.core.models import GpuReading, Level, Throttle
from console.core.units import BYTE_UNITS, UNKNOWN, bytes_text, celsius_text, elapsed_text, percent_text
from console.core.xid import meaning

__all__ = ["THROTTLE_WORDS", "Fact", "gpu_facts", "pair_text", "process_facts"]

PROCESSES_MAX: Final = 8
"""Named one by one, those that hold most first."""

THROTTLE_WORDS: Final[dict[Throttle, str]] = {
    Throttle.IDLE: "idle, so it clocks down",
    Throttle.APPLICATION_CLOCKS: "application clocks are set lower (nvidia-smi -ac)",
    Throttle.POWER_CAP: "at its power cap, usual under full load",
    Throttle.HW_SLOWDOWN: "hardware slowdown: too hot, or a power fault",
    Throttle.SYNC_BOOST: "waits for GPUs in its sync boost group",
    Throttle.SW_THERMAL: "too hot: the driver slows it down",
    Throttle.HW_THERMAL: "much too hot: the hardware slows it down",
    Throttle.POWER_BRAKE: "power brake: the power supply slows it down",
    Throttle.DISPLAY_CLOCKS: "display clocks are set lower",
}
"""NVML's reasons for lower clocks, as one would say them."""
_HARMLESS: Final = frozenset({Throttle.IDLE, Throttle.POWER_CAP})


class Fact(NamedTuple):
    """One line about a GPU."""

    label: str
    text: str
    level: Level = Level.OK


def _whole(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def _of(value: float | None, most: float | None) -> str:
    """`1980/1980`: a figure and the most that it can be."""
    now = UNKNOWN if value is None else f"{value:.0f}"
    return now if most is None else f"{now}/{most:.0f}"


def pair_text(first: float | None, second: float | None, unit: str = "") -> str:
    """Two amounts of bytes in the unit of the larger one: `801/362 MiB`."""
    step = 0
    largest = max(first or 0.0, second or 0.0)
    while largest >= 1000 and step + 1 < len(BYTE_UNITS):
        largest, step = largest / 1024, step + 1
    values = [None if each is None else each / 1024**step for each in (first, second)]
    texts = [UNKNOWN if value is None else f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" for value in values]
    return f"{'/'.join(texts)} {BYTE_UNITS[step]}{unit}"


def _rates(rx: float | None, tx: float | None) -> str:
    """In and out."""
    return "" if rx is None and tx is None else f"  {pair_text(rx, tx, '/s')}"


def _memory(gpu: GpuReading) -> Fact:
    if gpu.memory_used_bytes is None and gpu.memory_total_bytes is None:
        return Fact("memory", UNKNOWN)
    free = f", {bytes_text(gpu.memory_free_bytes)} free" if gpu.memory_free_bytes is not None else ""
    return Fact("memory", pair_text(gpu.memory_used_bytes, gpu.memory_total_bytes) + free)


def _heat(gpu: GpuReading) -> Fact:
    memory = f", memory {gpu.memory_temperature_c:.0f}" if gpu.memory_temperature_c is not None else ""
    limit = f", limit {gpu.temperature_limit_c:.0f}" if gpu.temperature_limit_c is not None else ""
    known = gpu.temperature_c is not None and gpu.temperature_limit_c is not None
    hot = known and (gpu.temperature_c or 0.0) >= (gpu.temperature_limit_c or 0.0) - 2.0
    return Fact("heat", f"{celsius_text(gpu.temperature_c)}{memory}{limit}", Level.WARN if hot else Level.OK)


def _held_back(gpu: GpuReading) -> Fact:
    if gpu.throttle is None:
        return Fact("slowed by", UNKNOWN)
    if not gpu.throttle:
        return Fact("slowed by", "nothing")
    level = Level.OK if set(gpu.throttle) <= _HARMLESS else Level.WARN
    return Fact("slowed by", "; ".join(THROTTLE_WORDS[reason] for reason in gpu.throttle), level)


def _ecc(gpu: GpuReading) -> Fact:
    if gpu.ecc_corrected is None and gpu.ecc_uncorrected is None:
        return Fact("ECC", UNKNOWN)
    text = f"{_whole(gpu.ecc_uncorrected)} uncorrected, {_whole(gpu.ecc_corrected)} corrected"
    return Fact("ECC", text, Level.BAD if gpu.ecc_uncorrected else Level.OK)


def _rows(gpu: GpuReading) -> Fact:
    if gpu.rows_remapped is None and gpu.row_remap_pending is None and gpu.pages_pending is None:
        return Fact("remapped", UNKNOWN)
    parts = [f"{_whole(gpu.rows_remapped)} rows"]
    level = Level.OK
    if gpu.row_remap_failed:
        parts, level = [*parts, "one failed: replace the GPU"], Level.BAD
    elif gpu.row_remap_pending or gpu.pages_pending:
        what = "a row waits" if gpu.row_remap_pending else "pages wait"
        parts, level = [f"{what} for a reset"], Level.WARN
    elif gpu.row_remap_pending is False:
        parts.append("none pending")
    return Fact("remapped", ", ".join(parts), level)


def _pcie(gpu: GpuReading) -> Fact:
    width, width_max = gpu.pcie_width, gpu.pcie_width_max
    lanes = f"x{_of(width, width_max)}"
    narrow = width is not None and width_max is not None and width < width_max
    known = gpu.pcie_generation is not None or width is not None
    text = f"gen {_of(gpu.pcie_generation, gpu.pcie_generation_max)} {lanes}" if known else UNKNOWN
    return Fact(
        "PCIe",
        text + _rates(gpu.pcie_rx_bytes_per_s, gpu.pcie_tx_bytes_per_s),
        Level.WARN if narrow else Level.OK,
    )


def _nvlink(gpu: GpuReading) -> Fact:
    if gpu.nvlink_active is None and gpu.nvlink_rx_bytes_per_s is None:
        return Fact("NVLink", "none, or not told")
    links = f"{_of(gpu.nvlink_active, gpu.nvlink_count)} up"
    return Fact("NVLink", links + _rates(gpu.nvlink_rx_bytes_per_s, gpu.nvlink_tx_bytes_per_s))


def _xid(gpu: GpuReading, now_s: float) -> Fact:
    if gpu.xid is None:
        return Fact("Xid", "none seen")
    known = meaning(gpu.xid)
    ago = f", {elapsed_text(now_s - gpu.xid_s)} ago" if gpu.xid_s is not None else ""
    return Fact("Xid", f"{gpu.xid}{ago}", known.level)


def gpu_facts(gpu: GpuReading, now_s: float) -> tuple[Fact, ...]:
    """Everything but the processes, most asked for first. What the driver does not answer says so.

    Args:
        gpu: its newest reading.
        now_s: wall-clock time of that.
    """
    cap = f" of {gpu.power_limit_w:.0f} W cap" if gpu.power_limit_w is not None else ""
    power = UNKNOWN if gpu.power_w is None else f"{gpu.power_w:.0f} W"
    clocks = f"{_of(gpu.sm_clock_mhz, gpu.sm_clock_max_mhz)} MHz, memory {_of(gpu.memory_clock_mhz, None)}"
    mig = {None: UNKNOWN, True: "on: figures are those of the whole GPU", False: "off"}[gpu.mig]
    return (
        Fact("busy", f"{percent_text(gpu.util_percent)}, memory {percent_text(gpu.memory_util_percent)}"),
        _memory(gpu),
        Fact("power", f"{power}{cap}"),
        _heat(gpu),
        Fact("clocks", clocks if gpu.sm_clock_mhz is not None or gpu.memory_clock_mhz is not None else UNKNOWN),
        _held_back(gpu),
        _pcie(gpu),
        _nvlink(gpu),
        _ecc(gpu),
        _rows(gpu),
        _xid(gpu, now_s),
        Fact("MIG", mig),
        Fact("UUID", gpu.uuid or UNKNOWN),
    )


def process_facts(gpu: GpuReading) -> tuple[Fact, ...]:
    """Who holds its memory, those that hold most first."""
    if gpu.processes is None:
        return (Fact("held by", "not told by the driver"),)
    if not gpu.processes:
        return (Fact("held by", "no process"),)
    known = sorted(gpu.processes, key=lambda each: -(each.memory_bytes or 0))
    out = []
    for place, each in enumerate(known[:PROCESSES_MAX]):
        whose = "this server" if each.own else "not this server"
        text = f"{bytes_text(each.memory_bytes)}  pid {each.pid}  {each.name or 'name not told'}  ({whose})"
        out.append(Fact("held by" if place == 0 else "", text, Level.OK if each.own else Level.WARN))
    if len(known) > PROCESSES_MAX:
        out.append(Fact("", f"and {len(known) - PROCESSES_MAX} more: nvidia-smi"))
    return tuple(out)
