"""Checks of what the profile asks for: fit, parallelism, flags, port and who may reach it."""

from __future__ import annotations

import difflib
import ipaddress

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from console.core.command import FLAGS, GATES
from console.core.fit import GIB, UTILIZATION_DEFAULT, FitSummary, fit
from console.core.fit.architecture import ARCHITECTURES
from console.core.nodes import gpus_per_node, ports
from console.core.preflight.facts import EngineFacts, Facts, GpuFacts, Memory, NoAnswer, PortFacts, Weights
from console.core.preflight.report import Override
from console.core.preflight.rule import (
    Finding,
    Rule,
    any_profile,
    blocked,
    cuda,
    everywhere,
    gpus_for,
    info,
    ok,
    unknown,
    visible,
    warn,
)
from console.core.profile import EngineKind, Profile

__all__ = ["OPEN_ROUTES", "SERVING", "is_loopback"]

GUARDED = "/v1, /v2, /inference and /cohere"
"""What the key guards: `GUARDED_PREFIX` in vLLM 0.32's `entrypoints/serve/middleware/authenticate.py`."""
OPEN_ROUTES = (
    "/health, /ping, /version, /load, /metrics",
    "/tokenize, /detokenize, /invocations, /generative_scoring, /scale_elastic_ep, /docs",
)
"""Routes that answer without the key, vLLM 0.32."""


BLOCK = 128
"""Width of a quantization block of the official FP8 weights."""


def _fit(facts: Facts, profile: Profile | None) -> Finding:
    assert profile is not None  # noqa: S101 - it applies with a profile alone
    weights = facts.weights
    if profile.model.weights_gb is None and isinstance(weights, Weights) and weights.local and weights.bytes_present:
        model = msgspec.structs.replace(profile.model, weights_gb=weights.bytes_present / 1e9)
        profile = msgspec.structs.replace(profile, model=model)
    memory = facts.memory
    found = fit(
        profile,
        gpu_memory_gib=_gpu_gib(facts, profile),
        host_memory_gib=memory.total_bytes / GIB if isinstance(memory, Memory) else None,
    )
    text = _fit_text(found)
    if found.verdict == "unknown":
        return unknown(_missing(found, memory if profile.engine.kind is EngineKind.CPU else None))
    if found.verdict in ("fits", "tight"):
        return ok(f"{found.verdict}: {text}") if found.verdict == "fits" else info(f"tight: {text}", *found.basis)
    share = profile.serve.gpu_memory_utilization or UTILIZATION_DEFAULT
    limit = (found.total_gib_per_gpu or 0) * (1 if profile.engine.kind is EngineKind.CPU else share)
    if found.weights_gib_per_gpu and found.weights_gib_per_gpu > limit:
        return blocked(
            f"the weights alone do not fit: {text}",
            *found.basis,
            remedy="Take more GPUs, larger ones, or a smaller checkpoint: dsv4-console profiles list",
            consequence="vLLM runs out of memory while it loads the weights.",
        )
    return warn(
        f"it does not fit by arithmetic: {text}",
        *found.basis,
        remedy="Lower serve.max_model_len or serve.max_num_seqs, or take more GPUs.",
    )


def _gpu_gib(facts: Facts, profile: Profile) -> float | None:
    if not isinstance(facts.gpu, GpuFacts):
        return None
    sizes = [each.memory_total_bytes for each in gpus_for(facts, facts.gpu, profile) if each.memory_total_bytes]
    return min(sizes) / GIB if sizes else None


def _fit_text(found: FitSummary) -> str:
    parts = [
        f"{name} {value:.1f} GiB"
        for name, value in (
            ("weights", found.weights_gib_per_gpu),
            ("KV cache", found.kv_gib_per_gpu),
            ("reserve", found.reserve_gib_per_gpu),
            ("of", found.total_gib_per_gpu),
        )
        if value is not None
    ]
    tokens = [] if found.kv_tokens is None else [f"{found.kv_tokens:,} tokens"]
    return ", ".join([*parts, *tokens])


def _missing(found: FitSummary, memory: object) -> str:
    if isinstance(memory, NoAnswer):
        return f"host memory: {memory.reason}"
    lacking = [line for line in found.basis if "unknown" in line]
    # What it does not know at all says more than which sum then lacks a figure.
    return next((line for line in lacking if "architecture" in line), lacking[0] if lacking else "a figure is missing")


def _parallel(facts: Facts, profile: Profile | None) -> Finding:
    assert profile is not None  # noqa: S101 - it applies with a profile alone
    serve = profile.serve
    tensor = serve.tensor_parallel_size or 1
    sizes = ((tensor, "TP"), (serve.pipeline_parallel_size or 1, "PP"), (serve.data_parallel_size or 1, "DP"))
    text = " × ".join(f"{name}{size}" for size, name in sizes if size > 1) or "one GPU"
    shape = ARCHITECTURES.get(profile.model.architecture or "")
    read = facts.weights.attention_heads if isinstance(facts.weights, Weights) else None
    heads = read or (shape.heads if shape else None)
    if heads and heads % tensor:
        fitting = ", ".join(str(size) for size in range(1, tensor + 1) if heads % size == 0)
        return blocked(
            f"{heads} attention heads cannot be divided by TP{tensor}",
            remedy=f"serve.tensor_parallel_size: {fitting}",
            consequence="vLLM ends with “Total number of attention heads must be divisible by tensor parallel size”.",
        )
    if isinstance(facts.gpu, GpuFacts) and facts.gpu.gpus:
        have = len(visible(facts, facts.gpu, profile))
        if gpus_per_node(profile) > have:
            return blocked(
                f"{text} takes {gpus_per_node(profile)} GPUs, there are {have}",
                remedy="Make tensor × pipeline × data parallel size at most the number of GPUs.",
                consequence="vLLM ends during the start: there are fewer GPUs than ranks.",
            )
    if shape and shape.groups and shape.groups % tensor:
        return warn(
            f"{shape.groups} output groups cannot be divided by TP{tensor} (derived from config.json)",
            remedy=f"serve.tensor_parallel_size up to {shape.groups}; more GPUs by data or pipeline parallelism.",
        )
    if shape and shape.expert_width and shape.expert_width % (tensor * BLOCK) and not serve.enable_expert_parallel:
        return warn(
            f"experts of width {shape.expert_width} / TP{tensor} are no whole blocks of {BLOCK}: FP8 weights fail",
            remedy="Lower serve.tensor_parallel_size, or set serve.enable_expert_parallel = true.",
        )
    if heads is None:
        return unknown(f"{text}; attention heads of this model are not known (model.architecture)")
    return ok(f"{text}; {heads} attention heads")


def _flags(facts: Facts, profile: Profile | None) -> Finding:
    assert profile is not None  # noqa: S101 - it applies with a profile alone
    engine = facts.engine
    assert isinstance(engine, EngineFacts)  # noqa: S101 - the table asks only rules whose needs are met
    if engine.name is None or engine.version is None:
        return info("no engine yet to check them against")
    try:
        version = Version(engine.version)
    except InvalidVersion:
        return unknown(f"{engine.version!r} is no version")
    barred = [
        f"{gate.text}: known in vLLM {gate.versions}"
        for gate in GATES
        if gate.applies(profile) and not SpecifierSet(gate.versions).contains(version, prereleases=True)
    ]
    if barred:
        return blocked(
            f"vLLM {engine.version} does not know what the profile asks for",
            *barred,
            remedy="Install an engine of those versions: dsv4-console engine install VERSION",
            consequence="vLLM ends while it reads its arguments, or refuses the model.",
        )
    if engine.flags is None:
        return unknown(f"the flags of {engine.name} could not be read from its source")
    strange = [_strange(name, engine.flags) for name in _used(profile) if not _knows(name, engine.flags)]
    if strange:
        return warn(
            f"vLLM {engine.version} does not seem to know {len(strange)} of them",
            *strange,
            remedy="Take them out of serve.extra, or correct their names.",
        )
    return ok(f"{len(_used(profile))} of the profile, all known to vLLM {engine.version}")


def _used(profile: Profile) -> list[str]:
    """Flags that the profile sets, without dashes."""
    typed = [flag.removeprefix("--") for field, flag in FLAGS.items() if getattr(profile.serve, field) is not None]
    return [*typed, *(key.partition(".")[0].replace("_", "-") for key in profile.serve.extra)]


def _knows(name: str, flags: frozenset[str]) -> bool:
    """As argparse reads it: whole, negated, or the beginning of one flag alone."""
    name = name.lower()
    if name in flags or name.removeprefix("no-") in flags:
        return True
    return sum(flag.startswith(name) for flag in flags) == 1


def _strange(name: str, flags: frozenset[str]) -> str:
    near = difflib.get_close_matches(name, flags, n=1)
    return f"--{name}" + (f"; the nearest is --{near[0]}" if near else "")


def _port(facts: Facts, profile: Profile | None) -> Finding:
    port = facts.port
    assert isinstance(port, PortFacts)  # noqa: S101 - the table asks only rules whose needs are met
    if port.free:
        return ok(port.text)
    if profile is None:
        return info(f"{port.title}: {port.text}")
    return blocked(
        f"{port.title}: {port.text}",
        remedy=port.remedy,
        consequence="The launch is refused: the server could not be reached there.",
        override=Override.NONE,
    )


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    if host.lower() in ("localhost", "localhost.localdomain", "ip6-localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _address(facts: Facts, profile: Profile | None) -> Finding:
    assert profile is not None  # noqa: S101 - it applies with a profile alone
    host = profile.serve.host
    if is_loopback(host):
        return ok(f"{host}: this machine alone")
    stays = ("Open to everyone who reaches the port:", *OPEN_ROUTES)
    where = f"{host or 'every address'}: other machines reach it"
    if facts.environment.api_key:
        return info(
            f"{where}; VLLM_API_KEY guards {GUARDED} alone",
            *stays,
            remedy="Put a proxy or a firewall before the port if those routes must not be open.",
            told=True,
        )
    if facts.allow_public:
        return warn(f"{where}, without a key, as {Override.PUBLIC} allows", remedy="Set VLLM_API_KEY to guard /v1.")
    return blocked(
        f"{where}, and there is no key",
        remedy="Set VLLM_API_KEY where you start the console, or keep serve.host = 127.0.0.1 and use an SSH tunnel. "
        f"To serve without a key all the same, start with {Override.PUBLIC}.",
        consequence="Anyone who reaches the port can use the model, and read what it measures.",
        override=Override.PUBLIC,
    )


def _dev_mode(facts: Facts, profile: Profile | None) -> Finding:
    assert profile is not None  # noqa: S101 - it applies with a profile alone
    on = facts.environment.dev_mode
    if "VLLM_SERVER_DEV_MODE" in profile.env:
        on = profile.env["VLLM_SERVER_DEV_MODE"] not in ("", "0")
    if not on:
        return ok("off")
    if is_loopback(profile.serve.host):
        return info("on (VLLM_SERVER_DEV_MODE), for this machine alone")
    return blocked(
        f"on (VLLM_SERVER_DEV_MODE), and {profile.serve.host or 'every address'} is reached by other machines",
        remedy="Unset VLLM_SERVER_DEV_MODE, or serve on 127.0.0.1.",
        consequence="Anyone who reaches the port can pause the server and call into its workers; no key guards that.",
    )


def _several(profile: Profile | None) -> bool:
    return profile is not None and profile.hardware.nodes > 1


def _machines(facts: Facts, profile: Profile | None) -> Finding:
    assert profile is not None  # noqa: S101 - it applies with a profile alone
    nodes, first = profile.hardware.nodes, profile.network.address
    wanted = ", ".join(str(port) for port in ports(profile))
    figures = (
        f"the others must reach port {wanted} of the first, and vLLM opens more on free ports",
        "each needs the same version of vLLM and the same settings; a launch here starts none of them",
    )
    if first:
        return ok(f"{nodes}, the first at {first}; what is judged here is this one", *figures)
    return info(
        f"{nodes}, and nobody has said the first one's address; what is judged here is this one",
        *figures,
        remedy="Name it: --set network.address=10.0.0.1",
        told=True,
    )


SERVING: tuple[Rule, ...] = (
    Rule(id="machines", title="Machines", needs=(), applies=_several, judge=_machines),
    Rule(id="fit", title="Fit", needs=(), applies=any_profile, judge=_fit),
    Rule(id="parallel", title="Parallelism", needs=(), applies=cuda, judge=_parallel),
    Rule(id="flags", title="Flags", needs=("engine",), applies=any_profile, judge=_flags),
    Rule(id="port", title="Port", needs=("port",), applies=everywhere, judge=_port),
    Rule(id="address", title="Address", needs=(), applies=any_profile, judge=_address),
    Rule(id="dev-mode", title="Dev routes", needs=(), applies=any_profile, judge=_dev_mode),
)
