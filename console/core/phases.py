"""What the log says about a start: which phase it is in, how far, and figures worth keeping.

Separate from `logparse`, which knows the formats: here stand the sentences of vLLM 0.26 to 0.33, one row each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from console.core.logparse import LogLine
from console.core.models import PHASES, Phase

__all__ = ["KEY_CHARS", "PHASE_ROWS", "PhaseRow", "PhaseTracker", "PhaseUpdate", "StartFacts"]

KEY_CHARS: Final = 5
"""Rows are found by the first characters of a message, so that most lines cost one look-up."""


class StartFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Figures from the log of a start. With several workers or engines: the largest cost, the smallest capacity."""

    engine_version: str | None = None
    architecture: str | None = None
    weights_gib: float | None = None
    """Memory that the model takes on one worker."""
    load_s: float | None = None
    download_s: float | None = None
    kv_available_gib: float | None = None
    """Memory left for the KV cache on one worker."""
    kv_cache_tokens: int | None = None
    """Size of one engine's KV cache."""
    max_concurrency: float | None = None
    """Requests of full length that one engine's KV cache holds."""
    max_model_len: int | None = None
    step_tokens: int | None = None
    """Tokens of one scheduler step, where speculation leaves fewer than `max_num_batched_tokens`."""
    compile_s: float | None = None
    graph_capture_s: float | None = None
    graph_capture_gib: float | None = None
    init_engine_s: float | None = None
    """Profiling, KV cache and warm-up together."""
    server_url: str | None = None


def _first(before: Any, after: Any) -> Any:
    return after if before is None else before


def _last(_before: Any, after: Any) -> Any:
    return after


def _most(before: Any, after: Any) -> Any:
    return after if before is None else max(before, after)


def _least(before: Any, after: Any) -> Any:
    return after if before is None else min(before, after)


def _count(text: str) -> int:
    return int(text.replace(",", ""))


_FIELDS: Final[dict[str, tuple[Callable[[str], Any], Callable[[Any, Any], Any]]]] = {
    "engine_version": (str, _first),
    "architecture": (str, _first),
    "weights_gib": (float, _most),
    "load_s": (float, _most),
    "download_s": (float, _most),
    "kv_available_gib": (float, _least),
    "kv_cache_tokens": (_count, _least),
    "max_concurrency": (float, _least),
    "max_model_len": (_count, _last),
    "step_tokens": (_count, _least),
    "compile_s": (float, _most),
    "graph_capture_s": (float, _most),
    "graph_capture_gib": (float, _most),
    "init_engine_s": (float, _most),
    "server_url": (str, _first),
}
"""How a fact is read, and what counts when it comes more than once."""


class PhaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of the log."""

    phase: Phase
    start: str
    """How the message begins, without leading blanks."""
    pattern: re.Pattern[str]
    """For the message from there on. Named groups are facts, except `percent`, `done`, `total` and `part`."""
    detail: str
    """Shown inside the phase; a format string over the groups."""
    example: str


def _row(phase: Phase, start: str, rest: str, detail: str, example: str) -> PhaseRow:
    return PhaseRow(
        phase=phase, start=start, pattern=re.compile(re.escape(start) + rest), detail=detail, example=example
    )


_BAR = r"\s*(?P<percent>\d{1,3})%"
_N = r"[\d,]+"
_F = r"\d+(?:\.\d+)?"

PHASE_ROWS: Final[tuple[PhaseRow, ...]] = (
    _row(
        Phase.CONFIG,
        "▄▄ ▄█",
        r".* version (?P<engine_version>\S+)",
        "vLLM {engine_version}",
        " ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.32.0",
    ),
    _row(
        Phase.CONFIG,
        "vLLM server version ",
        r"(?P<engine_version>[^\s,]+)",
        "vLLM {engine_version}",
        "vLLM server version 0.32.0, serving model m",
    ),
    _row(Phase.CONFIG, "non-default args:", "", "reading arguments", "non-default args: {'port': 8000}"),
    _row(
        Phase.CONFIG,
        "Resolved architecture: ",
        r"(?P<architecture>\w+)",
        "{architecture}",
        "Resolved architecture: DeepseekV4ForCausalLM",
    ),
    _row(
        Phase.CONFIG,
        "Using max model len ",
        rf"(?P<max_model_len>{_N})",
        "context {max_model_len} tokens",
        "Using max model len 8192",
    ),
    _row(
        Phase.CONFIG,
        "max_num_scheduled_tokens is set to ",
        r"(?P<step_tokens>\d+) based on the speculative decoding settings",
        "steps of {step_tokens} tokens",
        "max_num_scheduled_tokens is set to 2048 based on the speculative decoding settings. This may lead to …",
    ),
    _row(
        Phase.CONFIG,
        "Initializing a V1 LLM engine (v",
        r"(?P<engine_version>[^)]+)\)",
        "starting engine",
        "Initializing a V1 LLM engine (v0.33.0) with config: model='m'",
    ),
    _row(
        Phase.CONFIG,
        "world_size=",
        r"(?P<total>\d+) rank=\d+",
        "connecting {total} workers",
        "world_size=8 rank=0 local_rank=0 distributed_init_method=tcp://127.0.0.1:4 backend=nccl",
    ),
    _row(
        Phase.DOWNLOAD,
        "Fetching ",
        rf"\d+ files:{_BAR}\|.*?\|\s*(?P<done>\d+)/(?P<total>\d+)",
        "file {done}/{total}",
        "Fetching 46 files:  50%|█████     | 23/46 [01:10<01:10,  3.05s/it]",
    ),
    _row(
        Phase.DOWNLOAD,
        "Time spent downloading weights for ",
        rf".*?: (?P<download_s>{_F}) seconds",
        "downloaded in {download_s} s",
        "Time spent downloading weights for m/x: 812.123456 seconds",
    ),
    _row(Phase.WEIGHTS, "Starting to load model ", "", "loading", "Starting to load model models/tiny..."),
    _row(Phase.WEIGHTS, "Loading model from scratch", "", "loading", "Loading model from scratch..."),
    _row(
        Phase.WEIGHTS,
        "Loading ",
        rf"(?:[\w-]+ ){{1,3}}checkpoint shards:{_BAR} Completed \| (?P<done>\d+)/(?P<total>\d+)",
        "shard {done}/{total}",
        "Loading safetensors checkpoint shards:   7% Completed | 3/46 [00:04<01:01,  1.43s/it]",
    ),
    _row(
        Phase.WEIGHTS, "Loading weights took ", rf"{_F} seconds", "weights read", "Loading weights took 61.20 seconds"
    ),
    _row(
        Phase.WEIGHTS,
        "Model loading took ",
        rf"(?P<weights_gib>{_F}) GiB (?:memory )?and (?P<load_s>{_F}) seconds",
        "{weights_gib} GiB loaded",
        "Model loading took 6.55 GiB and 4.960412 seconds",
    ),
    _row(
        Phase.COMPILE,
        "Using cache directory: ",
        r".* for vLLM's torch\.compile",
        "tracing",
        "Using cache directory: ~/.cache/vllm/x for vLLM's torch.compile",
    ),
    _row(
        Phase.COMPILE,
        "Dynamo bytecode transform time: ",
        _F,
        "compiling graphs",
        "Dynamo bytecode transform time: 6.26 s",
    ),
    _row(
        Phase.COMPILE,
        "Compiling a graph for compile range ",
        r"(?P<part>\([^)]*\)) takes",
        "graph {part}",
        "Compiling a graph for compile range (1, 8192) takes 12.71 s",
    ),
    _row(
        Phase.COMPILE,
        "torch.compile took ",
        rf"(?P<compile_s>{_F}) s in total",
        "took {compile_s} s",
        "torch.compile took 22.12 s in total",
    ),
    _row(
        Phase.COMPILE,
        "DeepGEMM warmup:",
        _BAR,
        "DeepGEMM warm-up {percent}%",
        "DeepGEMM warmup:  40%|████      | 2/5",
    ),
    _row(
        Phase.MEMORY,
        "Initial profiling/warmup run took ",
        _F,
        "profiling",
        "Initial profiling/warmup run took 0.57 s",
    ),
    _row(
        Phase.MEMORY,
        "Available KV cache memory: ",
        rf"(?P<kv_available_gib>{_F}) GiB",
        "{kv_available_gib} GiB for the KV cache",
        "Available KV cache memory: 65.14 GiB",
    ),
    _row(
        Phase.MEMORY,
        "Explicitly set (",
        rf"(?P<kv_available_gib>{_F})/{_F}\) GiB for KV cache",
        "{kv_available_gib} GiB for the KV cache",
        "Explicitly set (1.0/19.84) GiB for KV cache on node 0.",
    ),
    _row(
        Phase.MEMORY,
        "Auto-fit max_model_len: reduced from ",
        rf"{_N} to (?P<max_model_len>{_N})",
        "context reduced to {max_model_len} tokens",
        "Auto-fit max_model_len: reduced from 1048576 to 400000 to fit in available GPU memory",
    ),
    *(
        _row(
            Phase.MEMORY,
            f"{device} KV cache size: ",
            rf"(?P<kv_cache_tokens>{_N}) tokens"
            rf"(?:, Maximum concurrency for (?P<max_model_len>{_N}) tokens per request: (?P<max_concurrency>{_F})x)?",
            "{kv_cache_tokens} tokens of KV cache",
            f"{device} KV cache size: 2,097,152 tokens, Maximum concurrency for 1,024 tokens per request: 2048.00x",
        )
        for device in ("GPU", "CPU")
    ),
    _row(
        Phase.MEMORY,
        "Maximum concurrency for ",
        rf"(?P<max_model_len>{_N}) tokens per request: (?P<max_concurrency>{_F})x",
        "{max_concurrency} requests of full length",
        "Maximum concurrency for 8,192 tokens per request: 130.28x",
    ),
    # DeepSeek V4's kernels are compiled here on the first start, which takes minutes; graphs come after them.
    _row(
        Phase.GRAPHS,
        "Warming up ",
        r"(?P<part>.*?)(?: kernels)?\.*$",
        "kernels: {part}",
        "Warming up DeepSeek V4 sparse MLA attention for mixed tokens=16.",
    ),
    _row(
        Phase.GRAPHS,
        "TileLang begins to compile kernel ",
        r"`(?P<part>\w+)`",
        "kernel {part}",
        "TileLang begins to compile kernel `mhc_fused_tilelang` with `out_idx=None`",
    ),
    _row(
        Phase.GRAPHS,
        "Capturing CUDA graphs",
        rf"(?: \((?P<part>[^)]*)\))?:{_BAR}\|.*?\|\s*(?P<done>\d+)/(?P<total>\d+)",
        "{part} {done}/{total}",
        "Capturing CUDA graphs (FULL):  45%|████▌     | 5/11 [00:00<00:00, 46.15it/s]",
    ),
    _row(
        Phase.GRAPHS,
        "Graph capturing finished in ",
        rf"(?P<graph_capture_s>{_F}) secs, took (?P<graph_capture_gib>{_F}) GiB",
        "captured, {graph_capture_gib} GiB",
        "Graph capturing finished in 2 secs, took 0.18 GiB",
    ),
    _row(
        Phase.GRAPHS,
        "init engine (profile, create kv cache, warmup model) took ",
        rf"(?P<init_engine_s>{_F}) s",
        "engine ready",
        "init engine (profile, create kv cache, warmup model) took 2.39 s",
    ),
    _row(Phase.SERVER, "Supported tasks: ", "", "engine ready", "Supported tasks: ['generate']"),
    _row(
        Phase.SERVER,
        "Starting vLLM server on ",
        r"(?P<server_url>\S+)",
        "{server_url}",
        "Starting vLLM server on http://127.0.0.1:8123",
    ),
    _row(Phase.SERVER, "Waiting for application startup.", "", "starting", "Waiting for application startup."),
    _row(Phase.SERVER, "Application startup complete.", "", "started", "Application startup complete."),
)


def _index() -> dict[str, tuple[PhaseRow, ...]]:
    index: dict[str, tuple[PhaseRow, ...]] = {}
    for row in PHASE_ROWS:
        index[row.start[:KEY_CHARS]] = (*index.get(row.start[:KEY_CHARS], ()), row)
    return index


_INDEX: Final = _index()
_ORDER: Final = {phase: number for number, phase in enumerate(PHASES)}


class PhaseUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a start is."""

    phase: Phase
    detail: str = ""
    progress: float | None = None
    """0 to 1 inside the phase, where the log tells."""


class PhaseTracker:
    """Follows one start. Phases only move forward: workers and engines reach them at different times."""

    def __init__(self) -> None:
        self._update: PhaseUpdate | None = None
        self._facts = StartFacts()

    @property
    def current(self) -> PhaseUpdate | None:
        """The latest, `None` before the log said anything."""
        return self._update

    @property
    def facts(self) -> StartFacts:
        """What is known so far."""
        return self._facts

    def feed(self, line: LogLine) -> PhaseUpdate | None:
        """Take the next line (or a progress bar that has not ended). What is new, or `None`."""
        message = line.message
        rows = _INDEX.get(message[:KEY_CHARS])
        if rows is None:
            if message[:1] != " ":
                return None
            message = message.lstrip(" ")
            rows = _INDEX.get(message[:KEY_CHARS], ())
        for row in rows:
            found = row.pattern.match(message)
            if found is not None:
                return self._take(row, found.groupdict())
        return None

    def _take(self, row: PhaseRow, groups: dict[str, str | None]) -> PhaseUpdate | None:
        self._note(groups)
        before = self._update
        if before is not None and _ORDER[row.phase] < _ORDER[before.phase]:
            return None
        percent, done, total = groups.get("percent"), groups.get("done"), groups.get("total")
        progress: float | None = None
        if done is not None and total is not None and int(total) > 0:
            progress = min(1.0, int(done) / int(total))
        elif percent is not None:
            progress = min(1.0, int(percent) / 100)
        detail = row.detail.format_map({name: value or "" for name, value in groups.items()}).strip()
        update = PhaseUpdate(phase=row.phase, detail=detail, progress=progress)
        if update == before:
            return None
        self._update = update
        return update

    def _note(self, groups: dict[str, str | None]) -> None:
        facts: dict[str, Any] = {}
        for name, text in groups.items():
            if text is not None and name in _FIELDS:
                read, combine = _FIELDS[name]
                facts[name] = combine(getattr(self._facts, name), read(text))
        if facts:
            self._facts = msgspec.structs.replace(self._facts, **facts)
