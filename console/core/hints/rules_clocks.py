"""Rules about GPUs that run slower than they could: by heat, by a power brake, by their power limit.

Reasons are NVML's own (`nvmlClocksEventReasons`). A power cap at full load is how data-centre GPUs are built to run,
so it is told only where it takes a fair part of the clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from console.core.hints import addresses
from console.core.hints.phrases import on_gpus
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import Setting
from console.core.hints.window import CLOCK, POWER, TEMPERATURE, GpuFigure, Window
from console.core.models import GpuReading, Level, Throttle

__all__ = ["GPU_POWER_BRAKE", "GPU_POWER_CAP", "GPU_THERMAL", "names_of"]

THERMAL = frozenset({Throttle.SW_THERMAL, Throttle.HW_THERMAL})
BRAKE = frozenset({Throttle.POWER_BRAKE, Throttle.HW_SLOWDOWN})
CAP = frozenset({Throttle.POWER_CAP})
SLOWED_SHARE = 0.5
"""Share of samples with the reason set: it comes and goes within a second."""
CLOCK_LOST = 0.15
"""Share of the highest clock that a power cap must take before it is told."""


def slowed_by(reasons: frozenset[Throttle]) -> GpuFigure:
    """1 where one of these reasons is set, else 0."""
    return lambda gpu: None if gpu.throttle is None else float(not reasons.isdisjoint(gpu.throttle))


SLOWED_BY: dict[frozenset[Throttle], GpuFigure] = {reasons: slowed_by(reasons) for reasons in (THERMAL, BRAKE, CAP)}


def names_of(indices: Sequence[int]) -> str:
    """`GPU 3`, `GPUs 0, 3`."""
    return f"GPU{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices))}"


def slowed(window: Window, reasons: frozenset[Throttle]) -> list[int]:
    """GPUs in use that one of these reasons slows down for most of the window."""
    if window.share(lambda point: not reasons.isdisjoint(point.throttle)) < SLOWED_SHARE:
        return []
    shares = window.per_gpu(SLOWED_BY[reasons])
    return sorted(index for index, share in shares.items() if share >= SLOWED_SHARE)


def clock_words(window: Window, indices: Sequence[int]) -> str:
    """Mean and highest clock of these GPUs, empty where they are unknown."""
    means = window.per_gpu(CLOCK)
    highest = {gpu.index: gpu.sm_clock_max_mhz for gpu in window.gpus_in_use if gpu.sm_clock_max_mhz}
    words = [
        f"{'GPU ' if place == 0 else ''}{index} at {means[index]:.0f} of {highest[index]:.0f} MHz"
        for place, index in enumerate(index for index in indices if index in means and index in highest)
    ]
    return f"{', '.join(words)}." if words else ""


def clocks_lost(window: Window) -> dict[int, float]:
    """Share of its highest clock that each GPU does without, in the mean; GPUs without the figures are left out."""
    means = window.per_gpu(CLOCK)
    highest = {gpu.index: gpu.sm_clock_max_mhz for gpu in window.gpus_in_use if gpu.sm_clock_max_mhz}
    return {index: 1 - means[index] / highest[index] for index in means if index in highest}


def judge_thermal(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """A GPU is slowed down because it is too hot."""
    hot = slowed(window, THERMAL)
    if not hot:
        return None
    means = window.per_gpu(TEMPERATURE)
    degrees = ", ".join(f"GPU {index} at {means[index]:.0f} °C" for index in hot if index in means)
    clocks = clock_words(window, hot)
    return Finding(
        evidence=tuple(
            filter(None, (f"The driver slows {names_of(hot)} down for heat.", degrees and f"{degrees}.", clocks))
        ),
        gain="With the heat gone the clocks come back: look at fans, air flow and neighbours; until then a lower power "
        "limit (nvidia-smi -pl) keeps the clocks steady.",
        risk="Left alone, all GPUs of a tensor-parallel group wait for the slow one.",
    )


def judge_brake(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The hardware halves the clock: an external power brake, or a fast protection."""
    braked = slowed(window, BRAKE)
    hot = slowed(window, THERMAL) if braked else []
    braked = [index for index in braked if index not in hot]
    if not braked:
        return None
    clocks = clock_words(window, braked)
    return Finding(
        evidence=tuple(filter(None, (f"The hardware brakes {names_of(braked)} (power brake or slowdown).", clocks))),
        gain="The clocks come back once the cause is gone: power supply, cabling or the rack's power management. It "
        "is no setting of this machine.",
        risk="A brake halves the clock or worse; a machine that goes on like this is worth exchanging.",
    )


def judge_power(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The power limit takes a fair part of the clock."""
    capped = slowed(window, CAP)
    lost = clocks_lost(window) if capped else {}
    lost = {index: lost[index] for index in capped if lost.get(index, 0.0) >= CLOCK_LOST}
    if not lost:
        return None
    watts = window.per_gpu(POWER)
    words = [power_words(gpu, watts) for gpu in window.gpus_in_use if gpu.index in lost]
    return Finding(
        evidence=(
            f"The power limit holds {names_of(sorted(lost))} at {1 - max(lost.values()):.0%} of the highest clock.",
            *((f"{', '.join(filter(None, words))}.",) if any(words) else ()),
        ),
        gain="Where the limit was lowered (nvidia-smi -q -d POWER tells the default), raising it gives the clock back; "
        "prefill gains most, decode waits for memory.",
        risk="More heat and power. At the default limit there is nothing to gain.",
    )


def power_words(gpu: GpuReading, watts: dict[int, float]) -> str:
    """`GPU 3 at 548 of 550 W`, empty if a figure is unknown."""
    if gpu.index not in watts or gpu.power_limit_w is None:
        return ""
    return f"GPU {gpu.index} at {watts[gpu.index]:.0f} of {gpu.power_limit_w:.0f} W"


GPU_THERMAL = Rule(
    id="gpu-thermal",
    title="A GPU is slowed down by heat",
    level=Level.BAD,
    topic="gpu-hot",
    needs=("gpu-throttle",),
    window_s=20.0,
    hold_s=10.0,
    clear_s=30.0,
    judge=judge_thermal,
    applies=on_gpus,
    looks_at="NVML names a thermal slowdown (software or hardware) for a GPU in half of the samples of 20 s.",
    proposes="Nothing in the profile: cooling, or a lower power limit.",
    gain="The full clock.",
    risk="Left alone, the whole group waits for the slow GPU.",
    doc=addresses.CLOCKS,
)

GPU_POWER_BRAKE = Rule(
    id="gpu-power-brake",
    title="The hardware brakes a GPU",
    level=Level.WARN,
    topic="gpu-power",
    needs=("gpu-throttle",),
    window_s=20.0,
    hold_s=10.0,
    clear_s=30.0,
    judge=judge_brake,
    applies=on_gpus,
    looks_at="NVML names a power brake or a hardware slowdown without heat for a GPU in half of the samples of 20 s.",
    proposes="Nothing in the profile: power supply, or another machine.",
    gain="Twice the clock or more.",
    risk="",
    doc=addresses.CLOCKS,
)

GPU_POWER_CAP = Rule(
    id="gpu-power-cap",
    title="The power limit holds the clocks down",
    level=Level.INFO,
    topic="gpu-power",
    needs=("gpu-throttle",),
    window_s=30.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_power,
    applies=on_gpus,
    looks_at="NVML names the power cap in half of the samples of 30 s, and the mean clock is 15% below the highest.",
    proposes="Nothing in the profile: the GPU's power limit, where it is below the default.",
    gain="Up to the part of the clock that is lost, in prefill.",
    risk="Heat and power.",
    doc=addresses.CLOCKS,
)
