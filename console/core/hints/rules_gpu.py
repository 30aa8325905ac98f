"""Rules about the GPUs themselves: unused, unevenly busy, hot, or without recorded graphs."""

from __future__ import annotations

from console.core.hints import addresses
from console.core.hints.phrases import on_gpus, queue_words, throughput_words, utilization_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import Setting
from console.core.hints.window import TEMPERATURE, UTILIZATION, Window
from console.core.hints.words import plural
from console.core.models import Level

__all__ = ["EAGER_MODE", "GPUS_UNEVEN", "GPUS_UNUSED", "GPU_HOT"]

HOT_C = 85.0
"""An H100 reports 87 °C as its maximum operating temperature and slows down from 89 °C (`nvidia-smi -q`:
58 °C below the limit at 29 °C)."""
UNEVEN_POINTS = 30.0
UNUSED_UTILIZATION = 5.0


def judge_unused(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Some GPUs of the machine hold nothing and do nothing."""
    gpus, used = window.gpus, window.gpus_in_use
    idle = [gpu for gpu in gpus if gpu not in used]
    if not idle:
        return None
    means = gpu_means(window)
    if any(means.get(gpu.index, UNUSED_UTILIZATION) >= UNUSED_UTILIZATION for gpu in idle):
        return None
    names = ", ".join(str(gpu.index) for gpu in idle)
    price = setting.usd_per_hour
    share = (price or 0.0) / setting.profile.hardware.nodes * len(idle) / len(gpus)  # a price is of all machines
    cost = f" That share of the machine costs ${share:.2f} an hour." if price else ""
    return Finding(
        evidence=(f"{len(idle)} of {plural(len(gpus), 'GPU')} hold no model and do no work (index {names}).{cost}",),
        gain="A larger data_parallel_size (more requests) or tensor_parallel_size (more room, faster tokens) would "
        "use them; or a smaller machine would do.",
        risk="tensor_parallel_size must divide the model's attention heads.",
    )


def gpu_means(window: Window) -> dict[int, float]:
    """Mean utilization of each GPU over the window, in percent."""
    return window.per_gpu(UTILIZATION, in_use=False)


def judge_uneven(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """GPUs that share the work do very different amounts of it."""
    running = window.mean(lambda point: point.running)
    if not running or running < 1 or len(window.gpus_in_use) < 2:
        return None
    used = {gpu.index for gpu in window.gpus_in_use}
    means = {index: mean for index, mean in gpu_means(window).items() if index in used}
    if len(means) < 2:
        return None
    low, high = min(means, key=lambda index: means[index]), max(means, key=lambda index: means[index])
    if means[high] - means[low] < UNEVEN_POINTS:
        return None
    split = setting.serve.data_parallel_size or 1
    why = (
        "With data parallelism the load may be spread unevenly over the engines."
        if split > 1
        else "With tensor parallelism all wait for the slowest: see its temperature, power, clocks and links."
    )
    return Finding(
        evidence=(
            f"GPU {low} is at {means[low]:.0f}% and GPU {high} at {means[high]:.0f}%.",
            queue_words(window),
        ),
        gain=f"No change of the profile. {why}",
        risk="",
    )


def judge_hot(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """A GPU is near the temperature at which it slows itself down."""
    hottest = window.mean(lambda point: point.temperature_max_c)
    if hottest is None or hottest < HOT_C:
        return None
    means = window.per_gpu(TEMPERATURE, in_use=False)
    over = sorted(index for index, mean in means.items() if mean >= HOT_C)
    if not over:
        return None
    rest = [mean for index, mean in means.items() if index not in over]
    others = f" The others are at {sum(rest) / len(rest):.0f} °C." if rest else ""
    figures = ", ".join(f"GPU {index} at {means[index]:.0f} °C" for index in over)
    return Finding(
        evidence=(f"{figures}.{others}",),
        gain="Better cooling or a lower power limit keeps clocks steady; data-centre cards slow down near 89 °C.",
        risk="Left alone, clocks drop, and in a tensor-parallel group all GPUs wait for the slow one.",
    )


def judge_eager(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Tokens are made without CUDA graphs."""
    running = window.mean(lambda point: point.running)
    rate = throughput_words(window)
    if not running or running < 0.5:
        return None
    return Finding(
        evidence=(
            "enforce_eager = true: no compilation and no CUDA graphs.",
            utilization_words(window, setting),
            *((f"Output {rate}.",) if rate else ()),
        ),
        change=setting.change("enforce_eager", None),
        gain="Kernels are launched from recorded graphs, which takes launch overhead out of each decode step; it "
        "matters most with few requests at a time.",
        risk="The start takes longer (compilation, graph capture), and graphs take some memory from the KV cache.",
    )


GPUS_UNUSED = Rule(
    id="gpus-unused",
    title="GPUs of this machine are unused",
    level=Level.INFO,
    topic="gpus-unused",
    needs=("gpus", "gpu-memory"),
    window_s=30.0,
    hold_s=60.0,
    clear_s=30.0,
    judge=judge_unused,
    applies=on_gpus,
    looks_at="GPUs with less than a tenth of their memory in use and under 5% utilization while others serve.",
    proposes="Nothing by itself: more parallelism, or a smaller machine.",
    gain="The idle GPUs' share of the price.",
    risk="",
    doc=addresses.DATA_PARALLEL,
)

GPUS_UNEVEN = Rule(
    id="gpus-uneven",
    title="GPUs are unevenly busy",
    level=Level.INFO,
    topic="gpus-uneven",
    needs=("gpus", "queue"),
    window_s=30.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_uneven,
    applies=on_gpus,
    looks_at="Mean utilization of two GPUs that serve differs by 30 points or more while requests run.",
    proposes="Nothing in the profile: it names the GPUs.",
    gain="Steps that do not wait for one GPU, once the cause is gone.",
    risk="",
    doc=addresses.CLOCKS,
)

GPU_HOT = Rule(
    id="gpu-hot",
    title="GPU near its slowdown temperature",
    level=Level.WARN,
    topic="gpu-hot",
    needs=("gpu-temperature",),
    window_s=30.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_hot,
    applies=on_gpus,
    looks_at="Mean temperature of a GPU of 85 °C or more over 30 s.",
    proposes="Nothing in the profile: cooling or power limit.",
    gain="Steady clocks.",
    risk="",
    doc=addresses.CLOCKS,
)

EAGER_MODE = Rule(
    id="eager-mode",
    title="Eager mode",
    level=Level.INFO,
    topic="eager-mode",
    needs=("queue",),
    window_s=10.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_eager,
    applies=lambda setting: on_gpus(setting) and setting.serve.enforce_eager is True,
    looks_at="enforce_eager = true on GPUs while requests run.",
    proposes="enforce_eager unset, so that vLLM compiles and records CUDA graphs.",
    gain="Faster decode steps.",
    risk="A longer start, a little less KV cache.",
    doc=addresses.CUDA_GRAPHS,
)
