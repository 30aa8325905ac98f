"""Published speed of the compared models, the projections that went before it, and where a measurement stands beside.

Figures of different engines, checkpoints and loads are not comparable: each row names all three. A projection was
computed before the model was there and is never a result.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

__all__ = ["SPEEDS", "Kind", "Measurement", "Speed", "measured_beside"]


class Kind(StrEnum):
    """What a row is."""

    PUBLISHED = "published"
    PROJECTION = "projection"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the rows here."""


class Speed(Row, frozen=True, kw_only=True):
    """One figure of somebody else's."""

    hardware: str
    """`8 × H100`, as a profile's hardware is written."""
    model: str
    architecture: str
    """As in profiles; empty for a model that was never released."""
    kind: Kind
    engine: str
    load: str
    tokens_per_s: float | None = None
    """Output of the whole server unless `note` says otherwise."""
    ttft_ms: float | None = None
    note: str = ""
    source: str = ""


class Measurement(Row, frozen=True, kw_only=True):
    """What a run on this machine reached."""

    hardware: str
    architecture: str
    profile: str
    engine: str
    tokens_per_s: float
    """Output of the whole server, the best minute."""
    run: str
    date: str


_LAMBDA = "https://lambda.ai/inference-models/deepseek-ai"
_SGLANG = "https://github.com/sgl-project/sglang"
_GUIDE = "the deployment guide of April 2026, for the 1T model that was never released"

SPEEDS: tuple[Speed, ...] = (
    Speed(
        hardware="8 × B200",
        model="V4-Pro",
        architecture="deepseek-v4-pro",
        kind=Kind.PUBLISHED,
        engine="vLLM",
        load="8192 in, 2048 out, 32 at once",
        tokens_per_s=855,
        ttft_ms=3656,
        note="27 tok/s per user, 4,273 tok/s with input, 36 ms between tokens",
        source=f"{_LAMBDA}/deepseek-v4-pro",
    ),
    Speed(
        hardware="8 × B200",
        model="V4-Flash",
        architecture="deepseek-v4-flash",
        kind=Kind.PUBLISHED,
        engine="vLLM",
        load="8192 in, 1024 out, 32 at once",
        tokens_per_s=1222,
        ttft_ms=1701,
        note="66 ms between tokens; another row of the source: 1,469 tok/s, 1,452 ms, 20 ms",
        source=f"{_LAMBDA}/deepseek-v4-flash",
    ),
    Speed(
        hardware="8 × H100",
        model="V4-Flash, FP8 build",
        architecture="deepseek-v4-flash",
        kind=Kind.PUBLISHED,
        engine="SGLang with EAGLE",
        load="8192 in, 1024 out, 32 at once",
        tokens_per_s=1262,
        ttft_ms=2463,
        note="60 ms between tokens",
        source=f"{_LAMBDA}/deepseek-v4-flash",
    ),
    *(
        Speed(
            hardware="4 × H200",
            model="V4-Flash-0731",
            architecture="deepseek-v4-flash",
            kind=Kind.PUBLISHED,
            engine="SGLang",
            load=f"{at_once} at once",
            ttft_ms=ttft_ms,
            note=f"{per_gpu:,} tok/s per GPU with input, {tpot_ms:g} ms per output token",
            source=f"{_SGLANG}/pull/33109",
        )
        for at_once, ttft_ms, tpot_ms, per_gpu in (
            (1, 308, 1.72, 606),
            (16, 662, 8.39, 2538),
            (64, 1618, 38, 2994),
            (256, 1932, 104.5, 4872),
        )
    ),
    Speed(
        hardware="H200",
        model="V4-Flash, FP8 build",
        architecture="deepseek-v4-flash",
        kind=Kind.PUBLISHED,
        engine="SGLang",
        load="1024 at once",
        note="3,975 tok/s per GPU",
        source=f"{_SGLANG}/issues/31363",
    ),
    Speed(
        hardware="8 × B200",
        model="V4-Flash-0731",
        architecture="deepseek-v4-flash",
        kind=Kind.PUBLISHED,
        engine="vLLM",
        load="1M in",
        ttft_ms=65_000,
        note="about; data parallel over 8 is 3.4 times as fast as tensor parallel at 8 at once",
        source="https://github.com/vllm-project/vllm/issues/51454",
    ),
    Speed(
        hardware="MI355X",
        model="V4-Pro",
        architecture="deepseek-v4-pro",
        kind=Kind.PUBLISHED,
        engine="SGLang",
        load="8K in, 1K out",
        note="2,256 tok/s per GPU at 9.4 tok/s per user",
        source="https://github.com/SemiAnalysisAI/InferenceX",
    ),
    Speed(
        hardware="2 × GH200",
        model="V4-Flash",
        architecture="deepseek-v4-flash",
        kind=Kind.PUBLISHED,
        engine="vLLM",
        load="1 at once",
        tokens_per_s=106,
        note="193 with the W4A16 build and three draft tokens",
        source="https://huggingface.co/canada-quant/DeepSeek-V4-Flash-W4A16-FP8-MTP",
    ),
    *(
        Speed(
            hardware=hardware,
            model=f"V4 1T, {precision}",
            architecture="",
            kind=Kind.PROJECTION,
            engine="vLLM",
            load="load not given",
            tokens_per_s=tokens_per_s,
            note=f"{seconds} s for 512 tokens",
            source=_GUIDE,
        )
        for hardware, precision, tokens_per_s, seconds in (
            ("8 × H100", "FP8", 1800, 18),
            ("4 × H200", "FP8", 1400, 22),
            ("8 × A100", "INT4", 600, 52),
        )
    ),
)
"""Published by others; no figure of vLLM was found for V4-Pro on 8 × H200 or V4-Flash on 8 × H100."""


def measured_beside(speed: Speed, measured: Iterable[Measurement]) -> Measurement | None:
    """The best measurement on the hardware of `speed`: of its model, or of any for a model that never was."""
    fitting = [
        row for row in measured if row.hardware == speed.hardware and speed.architecture in ("", row.architecture)
    ]
    return max(fitting, key=lambda row: row.tokens_per_s, default=None)
