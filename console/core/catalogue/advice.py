"""What to weigh when choosing a profile: precision, parallel shape, on demand or spot. One row per case.

The texts stand where the choice is made: in `profiles show` and beside the profile list.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from console.core.profile import Profile

__all__ = ["ADVICE", "Advice", "advice"]

HOPPER = ("H100", "H200", "H20", "H800")


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to weigh."""

    topic: str
    """`Precision`, `Parallel` or `Price`: of each topic the first row that applies is shown."""
    id: str
    applies: Callable[[Profile], bool]
    text: str


def _precision(*words: str) -> Callable[[Profile], bool]:
    return lambda profile: any(word in profile.model.precision for word in words)


def _native_on_hopper(profile: Profile) -> bool:
    return "FP4 experts" in profile.model.precision and profile.hardware.gpu in HOPPER


def _shape(profile: Profile) -> tuple[bool, bool, bool]:
    """Whether it has tensor, data and expert parallelism."""
    serve = profile.serve
    return (
        (serve.tensor_parallel_size or 1) > 1,
        (serve.data_parallel_size or 1) > 1,
        bool(serve.enable_expert_parallel),
    )


def _shaped(tensor: bool, data: bool, *, expert: bool | None = None) -> Callable[[Profile], bool]:
    def applies(profile: Profile) -> bool:
        has_tensor, has_data, has_expert = _shape(profile)
        return (has_tensor, has_data) == (tensor, data) and expert in (None, has_expert)

    return applies


def _on_gpus(profile: Profile) -> bool:
    return profile.hardware.count > 0


ADVICE: tuple[Advice, ...] = (
    Advice(
        topic="Precision",
        id="nvfp4",
        applies=_precision("NVFP4"),
        text="NVFP4 runs on Blackwell only. The native checkpoint is newer and needs no conversion.",
    ),
    Advice(
        topic="Precision",
        id="native-hopper",
        applies=_native_on_hopper,
        text="As released: nothing is lost. On Hopper FP4 experts save memory, not arithmetic.",
    ),
    Advice(
        topic="Precision",
        id="native",
        applies=_precision("FP4 experts"),
        text="As released: nothing is lost. The first choice on these GPUs.",
    ),
    Advice(
        topic="Precision",
        id="int4",
        applies=_precision("INT4"),
        text="INT4 is for GPUs without FP8 (A100), or for a model without a 4-bit release; answers may lose a little.",
    ),
    Advice(
        topic="Precision",
        id="bf16",
        applies=_precision("BF16"),
        text="BF16 is for comparing and fine-tuning: the most memory, and nothing that a model released in less lacks.",
    ),
    Advice(
        topic="Precision",
        id="fp8",
        applies=_precision("FP8"),
        text="FP8 is for models released in it (DeepSeek V3, Llama 4). V4's native checkpoint is half the size.",
    ),
    Advice(
        topic="Parallel",
        id="tep",
        applies=_shaped(True, False, expert=True),
        text="Tensor + expert parallel: the balance, and where to start. DeepSeek's KV cache is then the same on every "
        "GPU; for many long contexts take data parallel.",
    ),
    Advice(
        topic="Parallel",
        id="tp",
        applies=_shaped(True, False, expert=False),
        text="Tensor parallel alone: the least time per token for a few users, fewer tokens per second in all.",
    ),
    Advice(
        topic="Parallel",
        id="dp",
        applies=_shaped(False, True),
        text="Data parallel: each GPU has its own requests and KV cache, so the most users and long contexts fit; a "
        "single request is slower.",
    ),
    Advice(
        topic="Parallel",
        id="tp-dp",
        applies=_shaped(True, True),
        text="Groups of tensor parallel GPUs, each with a KV cache of its own: between the latency of tensor and the "
        "capacity of data parallel.",
    ),
    Advice(
        topic="Price",
        id="spot",
        applies=_on_gpus,
        text="Spot costs less and may be taken away at any time; then the weights load anew. On demand for users who "
        "wait, spot for batches and trials.",
    ),
)
"""First match per topic."""


def advice(profile: Profile) -> tuple[Advice, ...]:
    """What to weigh about this profile, at most one row per topic."""
    found: dict[str, Advice] = {}
    for row in ADVICE:
        if row.topic not in found and row.applies(profile):
            found[row.topic] = row
    return tuple(found.values())
