"""What a profile's settings mean together: the mistakes that types cannot see.

A table of checks. Each row looks at a well-typed profile and says what is wrong and what to write instead; an
error keeps the profile from being used, a warning does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from console.core.command import FLAGS, GENERATED
from console.core.nodes import THREADS_BIND, gpus_used, layout_flags, unplaced
from console.core.profile import EngineKind, Evidence, Profile
from console.core.text import is_secret_name

__all__ = ["CHECKS", "COMPUTE_8", "Check", "Finding", "is_v4", "judge"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    run: Callable[[Profile], Iterator[Finding]]
    reads: tuple[str, ...]
    """The keys, or tables, that it looks at: where one of them is not well-typed, it cannot judge."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong."""

    key: str
    found: Any = None
    text: str
    """What is allowed, or what to write instead."""
    warning: bool = False


Findings = Iterator[Finding]

DTYPES = ("auto", "bfloat16", "float", "float16", "float32", "half")
"""Choices of vLLM's `--dtype`, 0.14 to 0.33."""
NEVER_RELEASED: dict[str, str] = {
    "deepseek-ai/DeepSeek-V4": "deepseek-ai/DeepSeek-V4-Flash-0731 or deepseek-ai/DeepSeek-V4-Pro-0813",
    "deepseek-ai/DeepSeek-V4-Base": "deepseek-ai/DeepSeek-V4-Flash-Base or deepseek-ai/DeepSeek-V4-Pro-Base",
    "deepseek-ai/DeepSeek-V4.1": "deepseek-ai/DeepSeek-V4.1-Flash",
    "deepseek-ai/DeepSeek-V4.1-Pro": "deepseek-ai/DeepSeek-V4-Pro-0813 or deepseek-ai/DeepSeek-V4.1-Flash",
    "deepseek-ai/DeepSeek-V4.1-Base": "deepseek-ai/DeepSeek-V4.1-Flash",
}
"""Names that go round, and the repositories that exist."""
WITHOUT_MTP = ("-0731", "-0813", "-DSpark", "V4.1-Flash")
"""Official checkpoints whose draft module is DSpark: method mtp finds no usable head."""
COMPUTE_8 = frozenset({"A10", "A30", "A40", "A100", "A800", "A6000", "L4", "L40", "L40S", "T4", "V100"})
"""GPUs below compute capability 9.0, for which vLLM 0.33 has no V4 attention backend."""
RESERVED: dict[str, str] = {
    "model": "write model.id",
    "served-model-name": "write model.served_name",
    "revision": "write model.revision",
    "shutdown-timeout": "write supervise.drain_timeout_s",
    "api-key": "keys do not belong in a profile: set VLLM_API_KEY in the environment of dsv4-console",
    "hf-token": "keys do not belong in a profile: set HF_TOKEN in the environment of dsv4-console",
    "uds": "the console reaches the server over serve.host and serve.port",
    "grpc": "the console needs the HTTP server",
    "headless": "the console needs the HTTP server",
    "ssl-keyfile": "the console speaks plain HTTP to the server: put TLS into a proxy before it",
    "ssl-certfile": "the console speaks plain HTTP to the server: put TLS into a proxy before it",
}
"""Flags that `[serve.extra]` may not set, and why."""
HANG_TIMEOUT_MIN_S = 10.0
CANARY_MIN_S = 5.0
IDLE_MIN_S = 5.0
ALIASES: dict[str, str] = {
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "ep": "enable_expert_parallel",
    "q": "quantization",
    "sc": "speculative_config",
    "cc": "compilation_config",
    "device-memory-utilization": "gpu_memory_utilization",
} | {flag.removeprefix("--"): field for field, flag in FLAGS.items()}
"""Every spelling of a `[serve]` field's flag that vLLM takes."""

GUARDED = ("api-key", "hf-token", "host", "port")
"""Flags that vLLM must not come to by a shortened name: it takes the beginning of a flag for the whole, and a key
would then stand in its arguments, or another address take the place of `serve.host`."""

_EXTRA_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION_ONLY = re.compile(r"\d+(\.\d+)*")


def judge(profile: Profile, broken: Collection[str] = ()) -> tuple[Finding, ...]:
    """All findings of all checks, in the order of the table.

    Args:
        broken: dotted keys whose values are not the profile's own; checks that read them are left out.
    """
    return tuple(
        finding
        for check in CHECKS
        if not any(key == read or key.startswith(f"{read}.") for key in broken for read in check.reads)
        for finding in check.run(profile)
    )


def is_v4(profile: Profile) -> bool:
    """Whether the profile serves a model of the DeepSeek V4 family."""
    names = f"{profile.model.architecture or ''} {profile.model.id}".lower()
    return "deepseek-v4" in names


def _model_id(profile: Profile) -> Findings:
    model = profile.model.id
    instead = next((write for name, write in NEVER_RELEASED.items() if name.lower() == model.lower()), "")
    if instead:
        yield Finding(key="model.id", found=model, text=f"there is no such repository; write {instead}")
    if model.startswith("-") or model != model.strip() or model == GENERATED:
        yield Finding(key="model.id", found=model, text="allowed: OWNER/NAME, a directory, or generated:NAME")


def _dtype(profile: Profile) -> Findings:
    dtype = profile.serve.dtype
    if dtype is None or dtype in DTYPES:
        return
    advice = "leave dtype out: the checkpoint says its precision" if dtype.startswith("fp8") else ""
    yield Finding(
        key="serve.dtype", found=dtype, text="; ".join(filter(None, (f"allowed: {', '.join(DTYPES)}", advice)))
    )


def _kv_cache_dtype(profile: Profile) -> Findings:
    found = profile.serve.kv_cache_dtype
    if found is None:
        return
    if found == "fp8_e5m2" and is_v4(profile):
        yield Finding(
            key="serve.kv_cache_dtype",
            found=found,
            text='write "fp8": DeepSeek V4 has its own FP8 layout (fp8_ds_mla), e5m2 would be ignored',
        )
    elif found == "fp8_e5m2" and (profile.serve.quantization == "fp8" or "FP8" in profile.model.precision.upper()):
        yield Finding(key="serve.kv_cache_dtype", found=found, text='write "fp8": vLLM refuses e5m2 with FP8 weights')
    elif not found.startswith(("fp8", "auto")) and is_v4(profile):
        yield Finding(key="serve.kv_cache_dtype", found=found, text='write "fp8": DeepSeek V4 has no other layout')


def _speculation(profile: Profile) -> Findings:
    method = (profile.serve.speculative_config or {}).get("method")
    if method == "mtp" and profile.model.id.endswith(WITHOUT_MTP):
        yield Finding(
            key="serve.speculative_config.method",
            found=method,
            text='write "dspark": this checkpoint has no usable MTP head',
        )


def _hardware(profile: Profile) -> Findings:
    gpu, count = profile.hardware.gpu, profile.hardware.count
    if gpu == "none" and count:
        yield Finding(key="hardware.count", found=count, text='write 0, or name the GPU in hardware.gpu ("H100")')
    if gpu != "none" and not count:
        yield Finding(key="hardware.count", found=count, text=f"how many {gpu}: 1 or more")
    if profile.engine.kind is EngineKind.CPU and gpu != "none":
        yield Finding(key="hardware.gpu", found=gpu, text='write "none": the CPU build uses no GPU')
    if profile.engine.kind is EngineKind.CUDA and gpu == "none":
        yield Finding(key="hardware.gpu", found=gpu, text='name the GPU ("H100"), or write engine.kind = "cpu"')


def _parallel(profile: Profile) -> Findings:
    count = profile.hardware.count
    used = gpus_used(profile)
    if profile.hardware.nodes > 1 or not count or used == count:
        return
    text = f"tensor × pipeline × data parallel size is {used}, hardware.count is {count}"
    if used > count:
        yield Finding(key="serve.tensor_parallel_size", text=f"{text}; make them equal")
    else:
        yield Finding(key="serve.tensor_parallel_size", text=f"{text}: {count - used} idle", warning=True)


def _nodes(profile: Profile) -> Findings:
    """The layout over several machines; that of one machine is `_parallel`'s."""
    nodes = profile.hardware.nodes
    if nodes == 1:
        return
    why = unplaced(profile)
    if why:
        yield Finding(key="hardware.nodes", found=nodes, text=why)
    # Only here: the table of architectures is not needed to read a profile of one machine.
    from console.core.fit.architecture import ARCHITECTURES

    known = ARCHITECTURES.get(profile.model.architecture or "")
    tensor = profile.serve.tensor_parallel_size or 1
    if known and known.heads and known.heads % tensor:
        fitting = ", ".join(str(size) for size in range(1, tensor + 1) if known.heads % size == 0)
        text = f"{known.heads} attention heads cannot be divided by it; allowed: {fitting}"
        yield Finding(key="serve.tensor_parallel_size", found=tensor, text=text)
    if known and known.layers < (profile.serve.pipeline_parallel_size or 1):
        text = f"the model has {known.layers} layers; allowed: at most so many"
        yield Finding(key="serve.pipeline_parallel_size", found=profile.serve.pipeline_parallel_size, text=text)
    taken = layout_flags(profile)
    for key, value in profile.serve.extra.items():
        if key.replace("_", "-").lower() in taken:
            text = "hardware.nodes and [network] say it for each machine: take it out"
            yield Finding(key=f"serve.extra.{key}", found=value, text=text)
    lists = profile.env.get(THREADS_BIND, "").split("|")
    if len(lists) not in (1, gpus_used(profile)):
        text = f"allowed: one list of cores for each of {gpus_used(profile)} ranks, with | between them"
        yield Finding(key=f"env.{THREADS_BIND}", found=profile.env[THREADS_BIND], text=text)


def _v4_hardware(profile: Profile) -> Findings:
    if is_v4(profile) and profile.hardware.gpu.upper() in COMPUTE_8:
        yield Finding(
            key="hardware.gpu",
            found=profile.hardware.gpu,
            text="vLLM has no DeepSeek V4 attention backend below compute capability 9.0; "
            "the profile 8xa100-int4-v3 serves DeepSeek V3 there",
        )


def _extra(profile: Profile) -> Findings:
    seen: dict[str, str] = {}
    for key, value in profile.serve.extra.items():
        dotted = f"serve.extra.{key}"
        if not _EXTRA_KEY.fullmatch(key):
            near = key.lstrip("-")
            text = f"write {near}" if _EXTRA_KEY.fullmatch(near) else "allowed: a flag's name without dashes before it"
            yield Finding(key=dotted, found=value, text=text)
            continue
        flag, dot, _ = key.partition(".")
        name = flag.replace("_", "-").lower()
        field = ALIASES.get(name) or ALIASES.get(name.removeprefix("no-"))
        short = next((whole for whole in GUARDED if len(name) > 1 and whole != name and whole.startswith(name)), "")
        if name in RESERVED:
            yield Finding(key=dotted, text=RESERVED[name])
        elif short:
            # The value may be a key: it is not shown.
            yield Finding(
                key=dotted, text=f"vLLM may take it for --{short}: {RESERVED.get(short, f'write serve.{short}')}"
            )
        elif field and (not dot or getattr(profile.serve, field) is not None):
            yield Finding(key=dotted, found=value, text=f"write serve.{field}")
        if seen.setdefault(key.replace("_", "-").lower(), key) != key:
            yield Finding(key=dotted, found=value, text=f"the same flag as serve.extra.{seen[name]}")
        if value == []:
            yield Finding(key=dotted, found=value, text="allowed: a list with at least one value")


def _environment(profile: Profile) -> Findings:
    for name in profile.env:
        if not _VARIABLE.fullmatch(name):
            yield Finding(key=f"env.{name}", text="allowed in a name: letters, digits and _")
        elif is_secret_name(name):
            yield Finding(
                key=f"env.{name}",
                text=f"keys do not belong in a profile: set {name} in the environment of dsv4-console",
            )


def _supervision(profile: Profile) -> Findings:
    watch = profile.supervise
    for key, found, least, why in (
        ("hang_timeout_s", watch.hang_timeout_s, HANG_TIMEOUT_MIN_S, "one step of a long prefill takes seconds"),
        ("canary_s", watch.canary_s, CANARY_MIN_S, "each one is a request"),
        ("idle_warn_s", watch.idle_warn_s, IDLE_MIN_S, "a pause between two requests is not idleness"),
        ("idle_stop_s", watch.idle_stop_s, IDLE_MIN_S, "a pause between two requests is not idleness"),
    ):
        if 0 < found < least:
            text = f"allowed: 0 (off) or {least:g} and more; {why}"
            yield Finding(key=f"supervise.{key}", found=found, text=text)
    if 0 < watch.idle_stop_s <= watch.idle_warn_s:
        text = f"allowed: less than supervise.idle_stop_s, which is {watch.idle_stop_s:g}; the warning comes first"
        yield Finding(key="supervise.idle_warn_s", found=watch.idle_warn_s, text=text)


def _versions(profile: Profile) -> Findings:
    found = profile.engine.vllm
    try:
        SpecifierSet(found)
    except InvalidSpecifier:
        example = f"=={found}.*" if _VERSION_ONLY.fullmatch(found) else ">=0.25,<0.34"
        yield Finding(key="engine.vllm", found=found, text=f"allowed: a version range such as {example}")


def _sources(profile: Profile) -> Findings:
    claim = profile.profile.evidence
    if claim in (Evidence.RECIPE, Evidence.REPORTED) and not profile.profile.sources:
        yield Finding(key="profile.evidence", found=claim.value, text="name where in profile.sources", warning=True)


_PARALLEL = ("serve.tensor_parallel_size", "serve.pipeline_parallel_size", "serve.data_parallel_size")
_WHICH_MODEL = ("model.id", "model.architecture")

CHECKS: tuple[Check, ...] = (
    Check(run=_model_id, reads=("model.id",)),
    Check(run=_dtype, reads=("serve.dtype",)),
    Check(run=_kv_cache_dtype, reads=("serve.kv_cache_dtype", *_WHICH_MODEL)),
    Check(run=_speculation, reads=("serve.speculative_config", "model.id")),
    Check(run=_hardware, reads=("hardware.gpu", "hardware.count", "engine.kind")),
    Check(run=_parallel, reads=("hardware.count", "hardware.nodes", *_PARALLEL)),
    Check(
        run=_nodes,
        reads=("hardware.count", "hardware.nodes", "model.architecture", "serve.extra", "env", *_PARALLEL),
    ),
    Check(run=_v4_hardware, reads=("hardware.gpu", *_WHICH_MODEL)),
    Check(run=_extra, reads=("serve.extra",)),
    Check(run=_environment, reads=("env",)),
    Check(
        run=_supervision,
        reads=tuple(f"supervise.{key}" for key in ("hang_timeout_s", "canary_s", "idle_warn_s", "idle_stop_s")),
    ),
    Check(run=_versions, reads=("engine.vllm",)),
    Check(run=_sources, reads=("profile.evidence", "profile.sources")),
)
