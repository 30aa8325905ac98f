"""The console's arithmetic for a model of these tests beside what vLLM's log says it measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from console.core.fit import FitSummary
from tests.gpu import models, smi
from tests.gpu.world import Run, World

__all__ = ["logged", "predict"]

LOGGED = {
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "load_seconds": r"Model loading took [\d.]+ GiB (?:memory )?and ([\d.]+) seconds",
    "kv_gib": r"Available KV cache memory: ([\d.]+) GiB",
    "kv_tokens": r"KV cache size: ([\d,]+) tokens",
    "graphs_seconds": r"Graph capturing finished in ([\d.]+) secs",
    "graphs_gib": r"Graph capturing finished in [\d.]+ secs, took ([\d.]+) GiB",
    "peak_activation_gib": r"([\d.]+) GiB for peak activation",
    "not_torch_gib": r"([\d.]+) GiB for non-torch",
    "concurrency": r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x",
}
"""Figure → where vLLM's log says it."""


def logged(log: str) -> dict[str, float]:
    """Figures that vLLM's log tells."""
    found = {name: re.search(pattern, log) for name, pattern in LOGGED.items()}
    return {name: float(match[1].replace(",", "")) for name, match in found.items() if match}


def predict(world: World, run: Run, shape: str, row: dict[str, Any]) -> None:
    """Put both into `row`, with the error of each prediction in percent."""
    from console.io import profiles

    shape = "tiny" if world.cpu else shape
    profile = profiles.load(run.profile).profile
    total = smi.number((smi.query("memory.total") or [{}])[0].get("memory.total"))
    predicted = fitted(profile, shape, None if total is None else total / 1024, run.info.get("engine_version"))
    row["predicted"], row["log"] = msgspec.to_builtins(predicted), logged(run.log())
    row["fit_command"] = world.console("profiles", "fit", run.profile).out[-4000:]
    row["table"] = {}
    per_token = None
    if {"kv_gib", "kv_tokens"} <= row["log"].keys():
        per_token = row["log"]["kv_gib"] * 2**30 / row["log"]["kv_tokens"]
    for name, ours, theirs in (
        ("weights, GiB", predicted.weights_gib_per_gpu, row["log"].get("weights_gib")),
        ("KV cache, GiB", predicted.kv_gib_per_gpu, row["log"].get("kv_gib")),
        ("KV cache, tokens", predicted.kv_tokens, row["log"].get("kv_tokens")),
        ("KV bytes per printed token", predicted_per_token(predicted), per_token),
    ):
        error = None if not ours or not theirs else round(100 * (ours - theirs) / theirs, 1)
        row["table"][name] = {"predicted": ours, "measured": theirs, "error_percent": error}
    row["says"] = " · ".join(
        f"{name}: {rounded(each['predicted'])} / {rounded(each['measured'])} ({each['error_percent']} %)"
        for name, each in row["table"].items()
    )


def predicted_per_token(predicted: FitSummary) -> float | None:
    """As vLLM prints tokens: the cache over what it holds of requests of full length, their fixed part included."""
    if not predicted.kv_gib_per_gpu or not predicted.kv_tokens:
        return None
    return predicted.kv_gib_per_gpu * 2**30 / predicted.kv_tokens


def rounded(value: float | None) -> str:
    """To two places."""
    return "–" if value is None else f"{value:,.2f}".removesuffix(".00")


def fitted(profile: Any, shape: str, gpu_memory_gib: float | None, version: str | None) -> Any:
    """The console's answer for this shape: read from its `config.json` where the console can do that."""
    from console.core import fit as arithmetic

    host = 64.0
    try:
        from console.core.fit.config import architecture_from_config  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        if shape in models.ARCHITECTURES:
            architecture = arithmetic.gqa(*models.ARCHITECTURES[shape], shape)
        else:
            ratios = models.V4_COMPRESS_RATIOS
            architecture = arithmetic.v4(ratios.count(4), ratios.count(128), shape)
        arithmetic.ARCHITECTURES[shape] = architecture
        named = msgspec.structs.replace(profile.model, architecture=shape)
        return arithmetic.fit(msgspec.structs.replace(profile, model=named), gpu_memory_gib, host)
    config = json.loads((Path(profile.model.id) / "config.json").read_text(encoding="utf-8"))
    known = architecture_from_config(config)
    return arithmetic.fit(profile, gpu_memory_gib, host, architecture=known, engine_version=version)
