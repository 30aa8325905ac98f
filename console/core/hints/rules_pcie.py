"""Rules about PCIe: a link below what it can be, or one that is near what it can carry."""

from __future__ import annotations

from console.core.hints import addresses
from console.core.hints.phrases import on_gpus, queue_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import Setting
from console.core.hints.window import UTILIZATION, Window
from console.core.hints.words import percent
from console.core.models import GpuReading, Level

__all__ = ["LANE_BYTES_PER_S", "PCIE_BOUND", "PCIE_LINK"]

LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
"""What one lane carries in one direction after its line code, by generation (PCI-SIG: 2.5, 5, 8, 16, 32, 64 GT/s)."""
BOUND_SHARE = 0.7
"""Packet headers take 10 to 20%: from here on a link is as good as full."""
AWAKE_UTILIZATION = 30.0
"""An idle GPU lowers its generation to save power; above this mean utilization it has no reason to."""


def narrowed(gpu: GpuReading) -> str:
    """What is below its best, as `x8 of x16`, `generation 3 of 5`; empty if nothing is."""
    parts = []
    if gpu.pcie_width and gpu.pcie_width_max and gpu.pcie_width < gpu.pcie_width_max:
        parts.append(f"x{gpu.pcie_width} of x{gpu.pcie_width_max}")
    if gpu.pcie_generation and gpu.pcie_generation_max and gpu.pcie_generation < gpu.pcie_generation_max:
        parts.append(f"generation {gpu.pcie_generation} of {gpu.pcie_generation_max}")
    return ", ".join(parts)


def judge_link(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """A link that did not come up as it should, seen while the GPU works."""
    candidates = [gpu for gpu in window.gpus_in_use if narrowed(gpu)]
    if not candidates:
        return None
    means = window.per_gpu(UTILIZATION)
    below = [gpu for gpu in candidates if means.get(gpu.index, 0.0) >= AWAKE_UTILIZATION]
    if not below:
        return None
    return Finding(
        evidence=(f"{'; '.join(f'GPU {gpu.index}: {narrowed(gpu)}' for gpu in below)}, while it works.",),
        gain="No change of the profile. Reseat the card or riser, look at the BIOS and at who shares the lanes; a "
        "machine in the cloud is best exchanged.",
        risk="Left alone: slower loads, slower KV offload, and without NVLink slower parallel steps.",
    )


def traffic(gpu: GpuReading) -> float | None:
    """The busier direction's share of what the link can carry."""
    lane = LANE_BYTES_PER_S.get(gpu.pcie_generation or 0)
    seen = [rate for rate in (gpu.pcie_rx_bytes_per_s, gpu.pcie_tx_bytes_per_s) if rate is not None]
    if lane is None or not gpu.pcie_width or not seen:
        return None
    return max(seen) / (lane * gpu.pcie_width)


def judge_bound(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The link is near what it can carry."""
    if all((traffic(gpu) or 0.0) < BOUND_SHARE / 2 for gpu in window.gpus_in_use):
        return None  # now and then this misses one tick of a full link, and spares the look back at every other
    means = window.per_gpu(traffic)
    full = sorted(index for index, share in means.items() if share >= BOUND_SHARE)
    running = window.mean(lambda point: point.running)
    if not full or not running:
        return None
    linked = any(gpu.nvlink_active for gpu in window.gpus_in_use)
    why = (
        "KV offload and host copies use it: less of them, or a wider link."
        if linked or setting.tensor_parallel == 1
        else "Without NVLink tensor parallelism sends each layer's results over it: a smaller tensor_parallel_size "
        "with a larger data_parallel_size or pipeline_parallel_size sends less."
    )
    return Finding(
        evidence=(
            f"PCIe carries {', '.join(f'{percent(means[index])} of what it can at GPU {index}' for index in full)}.",
            queue_words(window),
        ),
        gain=why,
        risk="Each way to send less has its price in memory or latency: measure it.",
    )


PCIE_LINK = Rule(
    id="pcie-link",
    title="A PCIe link is below its best",
    level=Level.WARN,
    topic="pcie",
    needs=("pcie-link", "utilization"),
    window_s=30.0,
    hold_s=30.0,
    clear_s=60.0,
    judge=judge_link,
    applies=on_gpus,
    looks_at="Width or generation of a link below the highest of GPU and slot, at a mean utilization of 30% or more.",
    proposes="Nothing in the profile: the machine.",
    gain="The link's full rate.",
    risk="",
    doc=addresses.NVML_QUERIES,
)

PCIE_BOUND = Rule(
    id="pcie-bound",
    title="PCIe is the limit",
    level=Level.WARN,
    topic="pcie",
    needs=("pcie-traffic", "queue"),
    window_s=20.0,
    hold_s=20.0,
    clear_s=30.0,
    judge=judge_bound,
    applies=on_gpus,
    looks_at="70% or more of what a link carries in one direction, over 20 s, while requests run.",
    proposes="Nothing by itself: less tensor parallelism without NVLink, less offload, or another machine.",
    gain="Steps that do not wait for the bus.",
    risk="",
    doc=addresses.OPTIMIZATION,
)
