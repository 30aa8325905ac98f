"""Weights per GPU: which part of a checkpoint each kind of parallelism divides.

    experts       / (TP × DP × PP)   with and without expert parallelism: without it vLLM flattens TP across DP
    sharded parts / (TP × PP)        attention projections, shared experts and dense layers: every DP rank has them
    replicated    / PP               down-projections, indexers, compressors, routers: every GPU has them
    embedding     / TP               first and last pipeline stage have one each

Source: `FusedMoEParallelConfig.make` and the V4 layers of vLLM 0.32. Pipeline stages are not equal: the largest counts.
"""

from __future__ import annotations

import msgspec

from console.core.fit.architecture import Architecture, Parts
from console.core.fit.plan import stage_ranges
from console.core.fit.summary import GIB

__all__ = ["Parallel", "Weights", "divide"]

SIXTEEN_BITS_FROM = 1.5
"""From so many bytes per parameter on, a build has all its weights in 16 bits."""
DRAFT_LAYERS_MAX = 3


class Parallel(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is spread."""

    tp: int = 1
    dp: int = 1
    pp: int = 1
    ep: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of all engines."""
        return self.tp * self.dp * self.pp


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """What one GPU and the host hold."""

    gib_per_gpu: float
    host_gib: float
    basis: tuple[str, ...]


def divide(
    architecture: Architecture,
    size_bytes: float,
    parallel: Parallel,
    *,
    speculates: bool,
    tables_on_host: bool = True,
) -> Weights:
    """Spread a checkpoint of `size_bytes` over GPUs.

    Args:
        size_bytes: on disk, draft layers and tables for the host included.
        tables_on_host: Engram's tables are in host memory, as vLLM has them unless told otherwise.
        speculates: draft layers are read; without speculation vLLM leaves those of a native checkpoint on disk.
    """
    parts, basis = _in_precision(architecture.parts, size_bytes)
    if parts.host and not tables_on_host:
        parts = msgspec.structs.replace(parts, sharded=parts.sharded + parts.host, host=0.0)
        basis.append("weights: Engram tables are on the GPUs (engram_config), counted as divided by TP")
    unread, line = _drafts(parts, size_bytes, speculates)
    rest = size_bytes - unread - parts.host
    if not architecture.moe:
        parts = msgspec.structs.replace(parts, sharded=rest - parts.replicated - parts.embedding)
    experts = max(0.0, rest - parts.sharded - parts.replicated - parts.embedding) if architecture.moe else 0.0
    tp, dp, pp = parallel.tp, parallel.dp, parallel.pp
    share = max(len(stage) for stage in stage_ranges(architecture.layers, pp)) / architecture.layers
    pieces = {
        f"experts {experts / GIB:.1f}/{tp * dp}": experts / (tp * dp) * share,
        f"attention and dense {parts.sharded / GIB:.1f}/{tp}": parts.sharded / tp * share,
        f"on every GPU {parts.replicated / GIB:.1f}": parts.replicated * share,
        f"embedding {parts.embedding / GIB:.1f}/{tp}": parts.embedding / tp / (2 if pp > 1 else 1),
    }
    gib = sum(pieces.values()) / GIB
    total = " + ".join(text for text, value in pieces.items() if value > 0)
    stage = f", × {share:.2f} in the largest of {pp} pipeline stages" if pp > 1 else ""
    basis.insert(
        0, f"weights: {size_bytes / 1e9:g} GB = {size_bytes / GIB:.1f} GiB; {total}{stage} = {gib:.1f} GiB per GPU"
    )
    if line:
        basis.append(line)
    if dp > 1:
        basis.append(
            f"weights: all but experts are held by each of {dp} data parallel engines; experts are spread over all"
        )
    if parts.host:
        host = f"host: {parts.host / GIB:.0f} GiB of Engram tables in pinned host memory, not on the GPU"
        # vLLM 0.30 and later: `dp_shared_memory` (`--engram-config`).
        basis.append(f"{host}; with data parallelism they lie in /dev/shm, which must be as large" if dp > 1 else host)
    return Weights(gib_per_gpu=gib, host_gib=parts.host / GIB, basis=tuple(basis))


def _in_precision(parts: Parts, size_bytes: float) -> tuple[Parts, list[str]]:
    """The parts as this build holds them: in 16 bits the dense parts are larger than natively, too."""
    if not parts.parameters or size_bytes - parts.host < SIXTEEN_BITS_FROM * parts.parameters:
        return parts, []
    dense = parts.sharded * 2 / parts.dense_element
    return msgspec.structs.replace(parts, sharded=dense), ["weights: by its size, a build with all weights in 16 bits"]


def _drafts(parts: Parts, size_bytes: float, speculates: bool) -> tuple[float, str]:
    """Bytes of draft layers that stay on disk. Told from the native size; of any other build all is counted."""
    if not parts.draft or not parts.experts:
        return 0.0, ""
    layers = round((size_bytes - parts.backbone) / parts.draft)
    if not 1 <= layers <= DRAFT_LAYERS_MAX:
        return 0.0, ""
    size = layers * parts.draft
    if speculates:
        return 0.0, f"weights: {layers} draft layers of together {size / GIB:.1f} GiB are counted"
    return size, f"weights: {layers} draft layers of together {size / GIB:.1f} GiB are not read without speculation"
