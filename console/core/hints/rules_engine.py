"""Rules about the engine itself: its version, and the CUDA graphs that it records."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from console.core import versions
from console.core.catalogue.parsers import PARSED_BY
from console.core.hints import addresses
from console.core.hints.phrases import on_gpus, queue_words, throughput_words, utilization_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.rules_concurrency import next_power_of_two
from console.core.hints.setting import Setting
from console.core.hints.window import Window
from console.core.hints.words import plural
from console.core.models import Level

__all__ = ["ENGINE_OLD", "GRAPHS_OFF", "GRAPHS_TOO_SMALL", "newest_allowed"]

CAPTURE_MAX = 8192
"""vLLM's recipes record no larger ones."""
BEHIND_MIN = 2
"""Minor releases behind the newest that the profile is known for, from which it is worth a word."""


@lru_cache(maxsize=8)
def newest_allowed(allowed: str) -> str | None:
    """The newest version known to this program that a profile's range allows."""
    return next((known for known in versions.newest_first(PARSED_BY) if versions.satisfies(known, allowed)), None)


def minor(version: str) -> tuple[int, int]:
    """Major and minor number."""
    release = versions.sort_key(version)[1].release
    return release[0], release[1] if len(release) > 1 else 0


@lru_cache(maxsize=8)
def is_behind(version: str, newest: str, allowed: str) -> bool:
    """Whether a version is below the range, or by enough releases below the newest of it."""
    if versions.sort_key(version) >= versions.sort_key(newest):
        return False
    ours, theirs = minor(version), minor(newest)
    return not versions.satisfies(version, allowed) or ours[0] != theirs[0] or theirs[1] - ours[1] >= BEHIND_MIN


def judge_version(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The engine is older than what the profile was written for, or by releases behind it."""
    version, allowed = setting.limits.engine_version, setting.profile.engine.vllm
    newest = newest_allowed(allowed)
    if version is None or newest is None or not is_behind(version, newest, allowed):
        return None
    inside = versions.satisfies(version, allowed)
    named = setting.profile.engine.name
    then = f"once [engine] name is not {named} any more" if named else "and the next start takes it"
    what = "the newest checked for this profile" if inside else f"and the profile asks for {allowed}; checked"
    return Finding(
        evidence=(f"vLLM {version} runs, {what} is {newest}.",),
        gain=f"dsv4-console engine install {newest} puts it beside this one, {then}: newer "
        "releases bring kernels and fixes for new models.",
        risk="Figures change with the version: compare before you keep it. The old one stays installed.",
    )


def graph_mode(setting: Setting) -> str:
    """`cudagraph_mode` as the profile sets it, in capital letters."""
    return str((setting.serve.compilation_config or {}).get("cudagraph_mode", "")).upper()


def judge_no_graphs(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Tokens are made without CUDA graphs because the profile says so."""
    running = window.mean(lambda point: point.running)
    if not running or running < 0.5:
        return None
    config = {key: value for key, value in (setting.serve.compilation_config or {}).items() if key != "cudagraph_mode"}
    rate = throughput_words(window)
    return Finding(
        evidence=(
            "cudagraph_mode = NONE: no CUDA graphs.",
            utilization_words(window, setting),
            *((f"Output {rate}.",) if rate else ()),
        ),
        change=setting.change("compilation_config", config or None),
        gain="Kernels are launched from recorded graphs, which takes launch overhead out of each decode step.",
        risk="The start takes longer, and graphs take some memory from the KV cache.",
    )


def capture_size(setting: Setting) -> int | None:
    """The largest batch in tokens that graphs are recorded for, as the profile sets it."""
    value: Any = setting.flag("max-cudagraph-capture-size")[1]
    if value is None:
        value = (setting.serve.compilation_config or {}).get("max_cudagraph_capture_size")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def judge_small_graphs(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """More tokens per decode step than the recorded graphs cover."""
    busy, size = window.busy, capture_size(setting)
    running = busy.mean(lambda point: point.running) if busy else None
    engine = window.engine
    if busy is None or size is None or running is None or engine is None:
        return None
    step = running / max(1, engine.engines) * (1 + setting.drafts)
    after = min(CAPTURE_MAX, next_power_of_two(step), setting.batched_tokens_limit(window.gpus_in_use) or CAPTURE_MAX)
    if step <= size or after <= size:
        return None
    drafts = f", each with {plural(setting.drafts, 'draft')}" if setting.drafts else ""
    in_extra = setting.flag("max-cudagraph-capture-size")[1] is not None
    config = dict(setting.serve.compilation_config or {}) | {"max_cudagraph_capture_size": after}
    return Finding(
        evidence=(
            queue_words(busy, window),
            f"{step:.0f} tokens per decode step{drafts}, and graphs cover {size}: larger steps run without.",
        ),
        basis=(f"The power of two above: {size} → {after}.",),
        change=(
            setting.change_extra("max-cudagraph-capture-size", after)
            if in_extra
            else setting.change("compilation_config", config)
        ),
        gain="Full batches run from recorded graphs too, without launch overhead.",
        risk="The start takes longer; graphs take memory from the KV cache (a lower gpu_memory_utilization may be "
        "needed).",
    )


def sized_graphs(setting: Setting) -> bool:
    """Whether the profile sets the largest graph, and does not list each of them."""
    listed = (setting.serve.compilation_config or {}).get("cudagraph_capture_sizes")
    return (
        on_gpus(setting)
        and capture_size(setting) is not None
        and not listed
        and setting.serve.enforce_eager is not True
    )


ENGINE_OLD = Rule(
    id="engine-old",
    title="The engine is older than it could be",
    level=Level.INFO,
    topic="engine-version",
    needs=("engine-version",),
    window_s=10.0,
    hold_s=120.0,
    clear_s=30.0,
    judge=judge_version,
    applies=on_gpus,
    looks_at=(
        "vLLM's version below the profile's range ([engine] vllm), or two and more minor releases behind the newest in "
        "it that this program has checked."
    ),
    proposes="Nothing in the profile: an installed newer engine is taken by itself.",
    gain="Kernels and fixes; unknown until measured.",
    risk="Other figures; a restart.",
    doc=addresses.RECIPES,
)

GRAPHS_OFF = Rule(
    id="graphs-off",
    title="CUDA graphs are off",
    level=Level.INFO,
    topic="graphs",
    needs=("queue",),
    window_s=10.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_no_graphs,
    applies=lambda setting: (
        on_gpus(setting) and graph_mode(setting) == "NONE" and setting.serve.enforce_eager is not True
    ),
    looks_at='compilation_config with cudagraph_mode = "NONE" on GPUs while requests run.',
    proposes="cudagraph_mode left out, so that vLLM chooses.",
    gain="Faster decode steps.",
    risk="A longer start, a little less KV cache.",
    doc=addresses.CUDA_GRAPHS,
)

GRAPHS_TOO_SMALL = Rule(
    id="graphs-too-small",
    title="CUDA graphs do not cover the batch",
    level=Level.WARN,
    topic="graphs",
    needs=("queue",),
    window_s=30.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_small_graphs,
    applies=sized_graphs,
    looks_at=(
        "max_cudagraph_capture_size set, and running requests per engine, each with its drafts and one token, are "
        "more than that."
    ),
    proposes="max_cudagraph_capture_size at the power of two above, to at most 8,192 and max_num_batched_tokens.",
    gain="Faster decode steps at full batches.",
    risk="A longer start, less KV cache.",
    doc=addresses.CUDA_GRAPHS,
)
