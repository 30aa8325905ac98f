"""The models compared: size, context, licence, what each is best for, and the hardware that cannot serve one.

Figures come from the models' repositories and vLLM's recipes as of November 2026. `derived` marks arithmetic, `unknown`
stands where nobody has said.
"""

from __future__ import annotations

import msgspec

from console.core.profile import Evidence

__all__ = ["MODELS", "NOT_SERVED", "Model", "NotServed", "Size"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the rows here."""


class Size(Row, frozen=True, kw_only=True):
    """One build of a model on disk."""

    gb: float
    """10⁹ bytes."""
    build: str
    evidence: Evidence = Evidence.REPORTED


class Model(Row, frozen=True, kw_only=True):
    """One model."""

    name: str
    architectures: tuple[str, ...]
    """`model.architecture` of its profiles."""
    total: str
    active: str
    """Parameters, in all and per token."""
    context: int
    """Tokens."""
    disk: tuple[Size, ...]
    licence: str
    best_for: str
    source: str


class NotServed(Row, frozen=True, kw_only=True):
    """A model on hardware that cannot serve it, and what does."""

    model: str
    hardware: str
    reason: str
    instead: str
    """A profile, or empty."""
    source: str


MODELS: tuple[Model, ...] = (
    Model(
        name="DeepSeek V4-Pro",
        architectures=("deepseek-v4-pro",),
        total="1.6T",
        active="49B",
        context=1_048_576,
        disk=(
            Size(gb=893, build="native, 0813"),
            Size(gb=865, build="native, preview"),
            Size(gb=913, build="NVFP4"),
        ),
        licence="MIT",
        best_for="the hardest coding, agent and reasoning tasks; needs 8 × H200 or Blackwell",
        source="https://huggingface.co/deepseek-ai/DeepSeek-V4-Pro-0813",
    ),
    Model(
        name="DeepSeek V4-Flash",
        architectures=("deepseek-v4-flash",),
        total="284B",
        active="13B",
        context=1_048_576,
        disk=(
            Size(gb=167, build="native, 0731"),
            Size(gb=160, build="native, preview"),
            Size(gb=292, build="FP8", evidence=Evidence.DERIVED),
            Size(gb=568, build="BF16", evidence=Evidence.DERIVED),
        ),
        licence="MIT",
        best_for="most uses: long contexts and many users on half a node",
        source="https://huggingface.co/deepseek-ai/DeepSeek-V4-Flash-0731",
    ),
    Model(
        name="DeepSeek V4.1-Flash",
        architectures=("deepseek-v4.1-flash",),
        total="552B + 197B Engram",
        active="8B in, 16B out",
        context=1_048_576,
        disk=(Size(gb=511, build="native, 189 GiB of it Engram for host memory"),),
        licence="MIT",
        best_for="very long prompts (890 bytes of KV cache per token) and images; much host memory",
        source="https://huggingface.co/deepseek-ai/DeepSeek-V4.1-Flash",
    ),
    Model(
        name="DeepSeek V3",
        architectures=("deepseek-v3",),
        total="671B",
        active="37B",
        context=163_840,
        disk=(
            Size(gb=689, build="FP8"),
            Size(gb=400, build="INT4 (AWQ), at most"),
        ),
        licence="MIT from V3-0324 on; the first V3: DeepSeek's model licence",
        best_for="A100, where V4 does not run, and comparisons",
        source="https://huggingface.co/deepseek-ai/DeepSeek-V3-0324",
    ),
    Model(
        name="Llama 4 Maverick",
        architectures=("llama-4-maverick",),
        total="400B",
        active="17B",
        context=1_048_576,
        disk=(Size(gb=400, build="FP8", evidence=Evidence.DERIVED),),
        licence="Llama 4 Community, gated",
        best_for="text and images under Meta's licence; 430,000 tokens of context on 8 × H100",
        source="https://huggingface.co/meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
    ),
)

_ISSUES = "https://github.com/vllm-project/vllm/issues"
_PRO_RECIPE = "https://github.com/vllm-project/recipes/blob/main/models/deepseek-ai/DeepSeek-V4-Pro.yaml"
_FLASH_RECIPE = "https://github.com/vllm-project/recipes/blob/main/models/deepseek-ai/DeepSeek-V4-Flash.yaml"

NOT_SERVED: tuple[NotServed, ...] = (
    NotServed(
        model="DeepSeek V4, 1T",
        hardware="any",
        reason="this model was never released: there is no repository deepseek-ai/DeepSeek-V4",
        instead="4xh200-fp8-v4-flash",
        source="https://huggingface.co/deepseek-ai",
    ),
    NotServed(
        model="any V4",
        hardware="A100, A800",
        reason="vLLM has no DeepSeek V4 attention backend below compute capability 9.0; only forks do",
        instead="8xa100-int4-v3",
        source=f"{_ISSUES}/40851",
    ),
    NotServed(
        model="V4-Pro",
        hardware="8 × H100",
        reason="893 GB of weights, 640 GB of memory; two such machines hold it",
        instead="2x8xh100-native-v4-pro",
        source=_PRO_RECIPE,
    ),
    NotServed(
        model="V4-Pro, tensor parallel over 16 or data parallel over 16",
        hardware="2 × 8 × H100",
        reason="3072 / 16 is no whole quantization block of 128; DP16 has all attention weights on every GPU",
        instead="2x8xh100-native-v4-pro",
        source=f"{_ISSUES}/40955",
    ),
    NotServed(
        model="V3 in BF16",
        hardware="2 × 8 × H100",
        reason="1,342 GB of weights (671B parameters), 1,280 GB of memory; as released it is FP8",
        instead="8xh200-fp8-v3",
        source="https://huggingface.co/deepseek-ai/DeepSeek-V3-0324",
    ),
    NotServed(
        model="V4-Pro",
        hardware="GB200 NVL4",
        reason="needs two trays, which are two hosts, and there is no profile for them yet",
        instead="4xgb200-native-v4-flash",
        source=_PRO_RECIPE,
    ),
    NotServed(
        model="V4-Flash, tensor parallel over 8",
        hardware="8 × H100",
        reason="failed at start with vLLM 0.20 and was not reported again: use two groups of four",
        instead="8xh100-native-v4-flash",
        source=f"{_ISSUES}/41027",
    ),
    NotServed(
        model="V4-Flash",
        hardware="2 × H100, 1 × H200",
        reason="167 GB of weights, 160 and 141 GB of memory",
        instead="4xh100-native-v4-flash",
        source=_FLASH_RECIPE,
    ),
    NotServed(
        model="V4-Flash",
        hardware="2 × DGX Spark",
        reason="needs two hosts and an image of the community's",
        instead="",
        source=_FLASH_RECIPE,
    ),
    NotServed(
        model="V4-Pro, V4-Flash",
        hardware="MI300X, MI325X",
        reason="unsupported in vLLM's recipes; MI355X is supported",
        instead="4xmi355x-native-v4-flash",
        source=_FLASH_RECIPE,
    ),
)
