"""Rules between the machines of a group: one that is slow, machines that differ, and the network between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from console.core.hints import addresses
from console.core.hints.phrases import on_gpus, queue_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.rules_pcie import traffic
from console.core.hints.setting import Setting
from console.core.hints.window import CLOCK, UTILIZATION, GpuFigure, Window
from console.core.hints.words import percent
from console.core.models import GpuReading, Level, NodeFigures

__all__ = ["NETWORK_BOUND", "NODES_UNEQUAL", "NODE_SLOW"]

SLOW_CLOCK_RATIO = 0.9
"""A power cap that holds one GPU a little lower than another is usual; a tenth for a minute is not."""
SLOW_POINTS = 30.0
WORK_SHARE = 0.9
LOW_UTILIZATION = 50.0
QUIET_SHARE = 0.3
"""Of what PCIe can carry."""
NVLINK_QUIET_BYTES_PER_S = 90e9
"""Of one GPU in one direction: 30% of the 300 GB/s of an A100, the slowest that is met here (an H100 has 450)."""
NETWORK_FULL_SHARE = 0.7
"""Ethernet's and TCP's headers take about 6%, and bursts do not fill every second."""
UNEQUAL_RATIO = 0.02
"""Memory and caps that differ by less are told differently by the driver and are the same."""
BITS = 8


def means(window: Window, reading: GpuFigure) -> dict[str, float]:
    """Mean of a figure over the GPUs of each machine that is heard now and told it, over the window."""
    found: dict[str, list[float]] = {node.host: [] for node in window.last.nodes}
    for point in window.points:
        for node in point.nodes:
            if node.host in found:
                found[node.host] += [value for gpu in node.gpus or () if (value := reading(gpu)) is not None]
    return {host: fmean(values) for host, values in found.items() if values}


def works(window: Window) -> bool:
    """Requests run nearly all the time."""
    return window.share(lambda point: bool(point.running)) >= WORK_SHARE


def judge_slow(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """One machine's GPUs run slower, or work less, than those of every other."""
    if not works(window):
        return None
    said: list[str] = []
    clocks, busy = means(window, CLOCK), means(window, UTILIZATION)
    for host, clock in clocks.items():
        others = [value for other, value in clocks.items() if other != host]
        if others and clock < SLOW_CLOCK_RATIO * min(others):
            said.append(f"{host}: SM clocks {clock:.0f} MHz, {min(others):.0f} MHz or more on the others.")
    for host, used in busy.items():
        others = [value for other, value in busy.items() if other != host]
        if others and used <= min(others) - SLOW_POINTS:
            said.append(f"{host}: GPUs {percent(used / 100)} busy, {percent(min(others) / 100)} or more on the others.")
    if not said:
        return None
    why = "Every step ends with the slowest machine. A GPU that waits for another counts as busy while it does."
    return Finding(
        evidence=(*said, queue_words(window)),
        basis=(why,),
        gain="No change of the profile. Look there at heat, power caps, other processes and the PCIe and NVLink of its "
        "GPUs; with pipeline stages, at how many layers each machine has.",
        risk="Left alone: all machines are as fast as that one.",
    )


def alike(values: Sequence[object]) -> bool:
    """Whether all that is known is the same."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, (int, float)) for value in known):
        numbers = [float(value) for value in known if isinstance(value, (int, float))]
        return max(numbers) - min(numbers) <= UNEQUAL_RATIO * max(numbers)
    return len(set(known)) <= 1


def _counts_ecc(gpu: GpuReading) -> bool | None:
    return None if gpu.uuid is None and gpu.ecc_uncorrected is None else gpu.ecc_uncorrected is not None


FACTS: tuple[tuple[str, Callable[[GpuReading], object], Callable[[object], str]], ...] = (
    ("model", lambda gpu: gpu.name, str),
    ("memory", lambda gpu: gpu.memory_total_bytes, lambda value: f"{float(str(value)) / 2**30:.0f} GiB"),
    ("power cap", lambda gpu: gpu.power_limit_w, lambda value: f"{float(str(value)):.0f} W"),
    ("highest SM clock", lambda gpu: gpu.sm_clock_max_mhz, lambda value: f"{float(str(value)):.0f} MHz"),
    ("ECC", _counts_ecc, lambda value: "counts errors" if value else "counts none"),
)
"""What must be the same: its name, how it is read, and how it is written."""


def judge_unequal(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """GPUs of two machines differ in what they are or may do."""
    nodes = [node for node in window.last.nodes if node.gpus]
    if len(nodes) < 2:
        return None
    said = [words for title, read, write in FACTS if (words := _difference(nodes, title, read, write))]
    counts = [len(node.gpus or ()) for node in nodes]
    if len(set(counts)) > 1:
        said.append("GPUs: " + ", ".join(f"{count} on {node.host}" for node, count in zip(nodes, counts, strict=True)))
    if not said:
        return None
    return Finding(
        evidence=tuple(f"{text}." for text in said),
        gain="No change of the profile. Make them alike: nvidia-smi -pl sets the cap, -e ECC (after a reset), -lgc the "
        "clocks; a machine of another kind is best exchanged.",
        risk="Left alone: each step waits for the weakest GPU, and the KV cache has the size of the smallest.",
    )


def _difference(
    nodes: Sequence[NodeFigures], title: str, read: Callable[[GpuReading], object], write: Callable[[object], str]
) -> str:
    """A fact that differs between machines, with each one's; empty if it does not, or only within them."""
    told = {node.host: [value for gpu in node.gpus or () if (value := read(gpu)) is not None] for node in nodes}
    known = {host: values for host, values in told.items() if values}
    if len(known) < 2 or alike([value for values in known.values() for value in values]):
        return ""
    texts = {host: "/".join(dict.fromkeys(map(write, values))) for host, values in known.items()}
    if len(set(texts.values())) == 1:
        return ""
    return f"{title}: " + ", ".join(f"{text} on {host}" for host, text in texts.items())


def judge_network(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """No GPU is busy, work waits, and nothing inside a machine is full."""
    if not works(window) or window.share(lambda point: bool(point.waiting)) < WORK_SHARE:
        return None
    busy = means(window, UTILIZATION)
    nodes = window.last.nodes
    if len(busy) < len(nodes) or len(nodes) < 2 or max(busy.values()) >= LOW_UTILIZATION:
        return None
    links = means(window, traffic)
    if links and max(links.values()) >= QUIET_SHARE:
        return None
    nvlink = means(window, nvlink_bytes_per_s)
    if nvlink and max(nvlink.values()) >= NVLINK_QUIET_BYTES_PER_S:
        return None
    network = [words for node in nodes if (words := network_words(node))]
    full = any(network_share(node) >= NETWORK_FULL_SHARE for node in nodes)
    seen = ", ".join(f"{percent(value / 100)} on {host}" for host, value in busy.items())
    inside = [f"PCIe carries at most {percent(max(links.values()))} of what it can."] if links else []
    if nvlink:
        inside.append(f"NVLink carries at most {max(nvlink.values()) / 1e9:.0f} GB/s of a GPU in one direction.")
    basis = (
        "An interface is near what its link can carry."
        if full
        else "That it is the network follows from what is not full: the kernel does not count RDMA (InfiniBand, RoCE), "
        "and the latency of small messages fills no link."
    )
    told = " ".join(network) or "No machine tells what its network moves."
    return Finding(
        evidence=(f"GPUs are {seen} busy.", queue_words(window), *inside, told),
        basis=(basis,),
        gain="Look at NCCL's choice first (NCCL_DEBUG=INFO tells the interface and whether it uses RDMA) and at "
        "network.interface of the profile. Pipeline stages send less between machines than experts or tensor "
        "parallelism.",
        risk="Another layout has its price in latency: measure it.",
    )


def nvlink_bytes_per_s(gpu: GpuReading) -> float | None:
    """The busier direction of a GPU's NVLinks."""
    seen = [rate for rate in (gpu.nvlink_rx_bytes_per_s, gpu.nvlink_tx_bytes_per_s) if rate is not None]
    return max(seen, default=None)


def network_share(node: NodeFigures) -> float:
    """Of what its busiest interface can carry in one direction, 0 where that is unknown."""
    host = node.reading
    if host is None or not host.network_speed_bytes_per_s:
        return 0.0
    return max(host.network_rx_bytes_per_s or 0.0, host.network_tx_bytes_per_s or 0.0) / host.network_speed_bytes_per_s


def network_words(node: NodeFigures) -> str:
    """What its busiest interface moves, beside what it can; empty where that is unknown."""
    host = node.reading
    if host is None or host.network_rx_bytes_per_s is None or host.network_tx_bytes_per_s is None:
        return ""
    moved = max(host.network_rx_bytes_per_s, host.network_tx_bytes_per_s)
    speed = host.network_speed_bytes_per_s
    of = f" of {gigabits(speed)}" if speed else ", its speed is not known"
    return f"{node.host}: {host.network_interface} moves {gigabits(moved)}{of}."


def gigabits(bytes_per_s: float) -> str:
    """A rate as networks are sold: `0.42 Gbit/s`, `25 Gbit/s`."""
    value = bytes_per_s * BITS / 1e9
    return f"{value:.0f} Gbit/s" if value >= 10 else f"{value:.2g} Gbit/s"


NODE_SLOW = Rule(
    id="node-slow",
    title="One machine of the group is slower than the others",
    level=Level.WARN,
    topic="nodes",
    needs=("node-gpus", "queue"),
    window_s=60.0,
    hold_s=60.0,
    clear_s=60.0,
    judge=judge_slow,
    applies=on_gpus,
    looks_at="Mean SM clock of a machine's GPUs more than 10% below that of every other machine, or their mean "
    "utilization 30 points or more below, over a minute in which requests run 90% of the time.",
    proposes="Nothing in the profile: it names the machine.",
    gain="Steps that do not wait for one machine.",
    risk="",
    doc=addresses.CLOCKS,
)

NODES_UNEQUAL = Rule(
    id="nodes-unequal",
    title="The machines' GPUs are not alike",
    level=Level.WARN,
    topic="nodes-unequal",
    needs=("node-gpus",),
    window_s=10.0,
    hold_s=30.0,
    clear_s=10.0,
    judge=judge_unequal,
    applies=on_gpus,
    looks_at="Model, memory, power cap and highest SM clock of the GPUs (by more than 2%), whether ECC counts, and how "
    "many there are, between machines.",
    proposes="Nothing in the profile: it names what differs.",
    gain="The speed and the KV cache of the better ones.",
    risk="",
    doc=addresses.NVML_QUERIES,
)

NETWORK_BOUND = Rule(
    id="network-bound",
    title="The network between the machines may be the limit",
    level=Level.WARN,
    topic="network",
    needs=("node-gpus", "queue"),
    window_s=60.0,
    hold_s=60.0,
    clear_s=30.0,
    judge=judge_network,
    applies=on_gpus,
    looks_at="Mean utilization below 50% on every machine, PCIe below 30% of what it can carry and NVLink below "
    "90 GB/s of a GPU, over a minute in which requests run and wait 90% of the time; beside it what the busiest "
    "interface of each machine moves.",
    proposes="Nothing in the profile: where to look.",
    gain="GPUs that do not wait for another machine.",
    risk="",
    doc=addresses.DATA_PARALLEL,
)
