"""What is asked of each GPU: a table of questions, those of every reading and those that change seldom.

A row names the fields that it fills, the NVML functions that may answer (the first one that does counts, since older
drivers know other names), and how their answer becomes the fields' values. Limits and states are asked every
`SLOW_S`; which of them is due at a reading is spread over the GPUs, so that no reading is much longer than another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from console.core.models import Throttle
from console.io.gpu.nvml_calls import Field, Nvml, Value
from console.io.gpu.nvml_errors import NOT_SUPPORTED, UNKNOWN_CODE
from console.io.gpu.nvml_rates import RATE_FIELDS

__all__ = ["FAST", "SLOW", "SLOW_S", "THROTTLES", "Question", "as_text", "mig_mode", "read_fast", "read_slow"]

SLOW_S: Final = 30.0
"""On an H100 (driver 580) these calls take 5 ms of CPU together, most of it two of them."""
MILLIWATTS: Final = 1000.0
LINKS_MAX: Final = 36
"""`NVML_NVLINK_MAX_LINKS`."""

THROTTLES: Final[dict[int, Throttle]] = {
    0x001: Throttle.IDLE,
    0x002: Throttle.APPLICATION_CLOCKS,
    0x004: Throttle.POWER_CAP,
    0x008: Throttle.HW_SLOWDOWN,
    0x010: Throttle.SYNC_BOOST,
    0x020: Throttle.SW_THERMAL,
    0x040: Throttle.HW_THERMAL,
    0x080: Throttle.POWER_BRAKE,
    0x100: Throttle.DISPLAY_CLOCKS,
}
"""Bits of `nvmlClocksEventReason…` in `nvml.h`."""


class Question(NamedTuple):
    """One row: what is asked and what the answer fills."""

    fields: tuple[str, ...]
    calls: tuple[tuple[str, ...], ...]
    """Function and names of pynvml's constants that are its arguments; the first that answers counts."""
    values: Callable[[Any], tuple[Any, ...]]
    """The fields' values, out of the answer."""


def _one(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda answer: (convert(answer),)


def _throttles(mask: int) -> tuple[Throttle, ...]:
    return tuple(reason for bit, reason in THROTTLES.items() if mask & bit)


def _watts(milliwatts: int) -> float:
    return milliwatts / MILLIWATTS


def _number(call: str, field: str, *arguments: str, convert: Callable[[Any], Any] = int) -> Question:
    """A question with one number for an answer."""
    return Question((field,), ((call, *arguments),), _one(convert))


FAST: Final[tuple[Question, ...]] = (
    Question(
        ("util_percent", "memory_util_percent"),
        (("nvmlDeviceGetUtilizationRates",),),
        lambda rates: (float(rates.gpu), float(rates.memory)),
    ),
    Question(
        ("memory_used_bytes", "memory_total_bytes", "memory_free_bytes"),
        # Version 2 leaves out what the driver reserves, as nvidia-smi does; old drivers have version 1 alone.
        (("nvmlDeviceGetMemoryInfo", "nvmlMemory_v2"), ("nvmlDeviceGetMemoryInfo",)),
        lambda memory: (int(memory.used), int(memory.total), int(memory.free)),
    ),
    _number("nvmlDeviceGetPowerUsage", "power_w", convert=_watts),
    _number("nvmlDeviceGetTemperature", "temperature_c", "NVML_TEMPERATURE_GPU", convert=float),
    _number("nvmlDeviceGetClockInfo", "sm_clock_mhz", "NVML_CLOCK_SM", convert=float),
    _number("nvmlDeviceGetClockInfo", "memory_clock_mhz", "NVML_CLOCK_MEM", convert=float),
    Question(
        ("throttle",),
        (("nvmlDeviceGetCurrentClocksEventReasons",), ("nvmlDeviceGetCurrentClocksThrottleReasons",)),
        _one(_throttles),
    ),
)

_VOLATILE: Final = "NVML_VOLATILE_ECC"
SLOW: Final[tuple[Question, ...]] = (
    _number("nvmlDeviceGetEnforcedPowerLimit", "power_limit_w", convert=_watts),
    _number("nvmlDeviceGetMaxClockInfo", "sm_clock_max_mhz", "NVML_CLOCK_SM", convert=float),
    _number("nvmlDeviceGetTotalEccErrors", "ecc_corrected", "NVML_MEMORY_ERROR_TYPE_CORRECTED", _VOLATILE),
    _number("nvmlDeviceGetTotalEccErrors", "ecc_uncorrected", "NVML_MEMORY_ERROR_TYPE_UNCORRECTED", _VOLATILE),
    Question(
        ("rows_remapped", "row_remap_pending", "row_remap_failed"),
        (("nvmlDeviceGetRemappedRows",),),
        lambda rows: (int(rows[0]) + int(rows[1]), bool(rows[2]), bool(rows[3])),
    ),
    _number("nvmlDeviceGetRetiredPagesPendingStatus", "pages_pending", convert=bool),
    _number("nvmlDeviceGetCurrPcieLinkGeneration", "pcie_generation"),
    _number("nvmlDeviceGetMaxPcieLinkGeneration", "pcie_generation_max"),
    _number("nvmlDeviceGetCurrPcieLinkWidth", "pcie_width"),
    _number("nvmlDeviceGetMaxPcieLinkWidth", "pcie_width_max"),
)

MEMORY_TEMPERATURE: Final[Field] = ("MEMORY_TEMP", 0)
LINK_COUNT: Final[Field] = ("NVLINK_LINK_COUNT", 0)
SLOWDOWN_MARGIN: Final[Field] = ("TEMPERATURE_SLOWDOWN_TLIMIT", 0)
FAST_FIELDS: Final[tuple[Field, ...]] = (MEMORY_TEMPERATURE, *RATE_FIELDS)


def _answers(nvml: Nvml, index: int, handle: Any, questions: tuple[Question, ...], now_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for question in questions:
        for function, *names in question.calls:
            arguments = [nvml.constant(name) for name in names]
            if None in arguments:
                continue
            answer = nvml.ask_device(index, now_s, function, handle, *arguments)
            if answer is None:
                continue
            # An answer of another shape than this version of pynvml is known for leaves its own fields unknown.
            with contextlib.suppress(AttributeError, IndexError, TypeError, ValueError):
                found.update(zip(question.fields, question.values(answer), strict=True))
            break
    return found


def read_fast(nvml: Nvml, index: int, handle: Any, now_s: float) -> tuple[dict[str, Any], dict[Field, Value]]:
    """The figures of every reading, and the counters behind the rates."""
    found = _answers(nvml, index, handle, FAST, now_s)
    fields = nvml.fields(index, now_s, handle, FAST_FIELDS)
    if MEMORY_TEMPERATURE in fields:
        found["memory_temperature_c"] = float(fields[MEMORY_TEMPERATURE][0])
    return found, fields


def read_slow(nvml: Nvml, index: int, handle: Any, now_s: float) -> dict[str, Any]:
    """Limits, states and counts that change seldom."""
    found = _answers(nvml, index, handle, SLOW, now_s)
    found["mig"] = mig_mode(nvml, handle)
    fields = nvml.fields(index, now_s, handle, (LINK_COUNT, SLOWDOWN_MARGIN))
    limit = _temperature_limit(nvml, index, handle, now_s, fields.get(SLOWDOWN_MARGIN))
    if limit is not None:
        found["temperature_limit_c"] = limit
    if LINK_COUNT in fields:
        count = min(int(fields[LINK_COUNT][0]), LINKS_MAX)
        found["nvlink_count"] = count
        found["nvlink_active"] = _links_up(nvml, index, handle, now_s, count)
    return found


def _temperature_limit(nvml: Nvml, index: int, handle: Any, now_s: float, slowdown: Value | None) -> float | None:
    """Where the hardware slows down, in °C.

    Newer GPUs tell how far they are from their limit and, in the same measure, where they slow down (`nvidia-smi -q`:
    58 °C to the limit at 29 °C, slowdown at -2: 89 °C). Older ones tell the threshold itself.
    """
    if slowdown is not None:
        margin = nvml.ask_device(index, now_s, "nvmlDeviceGetMarginTemperature", handle)
        now_c = nvml.ask_device(index, now_s, "nvmlDeviceGetTemperature", handle, nvml.constant("NVML_TEMPERATURE_GPU"))
        if margin is not None and now_c is not None:
            return float(now_c + int(margin) - slowdown[0])
    which = nvml.constant("NVML_TEMPERATURE_THRESHOLD_SLOWDOWN")
    threshold = nvml.ask_device(index, now_s, "nvmlDeviceGetTemperatureThreshold", handle, which)
    return None if threshold is None else float(threshold)


def _links_up(nvml: Nvml, index: int, handle: Any, now_s: float, count: int) -> int | None:
    """NVLink links that are active; `None` if not one of them tells."""
    states = [nvml.ask_device(index, now_s, "nvmlDeviceGetNvLinkState", handle, link) for link in range(count)]
    known = [state for state in states if state is not None]
    return sum(int(state) == 1 for state in known) if known or not count else None


def mig_mode(nvml: Nvml, handle: Any) -> bool | None:
    """Whether the GPU is cut into instances; one that has no such mode is not, and `None` is unknown."""
    nvml.last_code = UNKNOWN_CODE
    modes = nvml.ask("nvmlDeviceGetMigMode", handle)
    if modes is None:
        return False if nvml.last_code == NOT_SUPPORTED else None
    return bool(modes[0])


def as_text(value: str | bytes | None) -> str | None:
    """Text that older versions of pynvml give as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
