"""Checks of the host: memory, shared memory, disk, files, the engine."""

from __future__ import annotations

from console.core.command import GENERATED, is_local_model
from console.core.fit import CPU_PROCESSES_GIB, GIB
from console.core.nodes import gpus_per_node
from console.core.preflight.facts import EngineFacts, Facts, Limits, Memory, Space, Weights
from console.core.preflight.rule import Finding, Rule, any_profile, blocked, everywhere, info, ok, unknown, warn
from console.core.profile import EngineKind, Profile
from console.core.units import bytes_text

__all__ = ["ENGRAM_BYTES", "MACHINE", "OPEN_FILES", "SHM_BYTES", "host_need"]

OPEN_FILES = 65_535
"""vLLM raises its soft limit to this where the hard limit lets it (`set_ulimit`)."""
OPEN_FILES_CPU = 4_096
"""With fewer files even the CPU build with a few clients may run out. A round figure: the hard limit of old systems."""
SHM_BYTES = 1 * 1024**3
"""With several GPUs NCCL and vLLM's message queues live there; Docker's 64 MiB are too few. A round, safe figure."""
WORKER_BYTES = 4 * 1024**3
"""Host memory of one GPU worker with PyTorch and CUDA loaded. An estimate, unverified."""
ENGRAM_BYTES = 189 * 1024**3
"""Pinned host memory of V4.1-Flash's Engram tables, vLLM's default for it since 0.30."""
GATED_OWNERS = ("meta-llama/",)
"""Owners whose repositories ask for a licence to be accepted first."""
MISSING_SHOWN = 3
DISK_TIGHT = 1.05
"""A download that leaves less than a twentieth of its size is called tight."""
RESUMES = "The download stops with “No space left on device”; what came so far stays and fills the disk."


def _memory(facts: Facts, profile: Profile | None) -> Finding:
    memory = facts.memory
    assert isinstance(memory, Memory)  # noqa: S101 - the table asks only rules whose needs are met
    where = "of the container's limit" if memory.limited else "of"
    text = f"{bytes_text(memory.available_bytes)} {where} {bytes_text(memory.total_bytes)} available"
    if profile is None:
        return ok(text)
    need, made_of = host_need(profile)
    line = f"{text}, about {bytes_text(need)} needed ({made_of})"
    if _engram(profile) and memory.total_bytes < ENGRAM_BYTES:
        return blocked(
            line,
            remedy="Use a machine with more memory, or keep the tables on the GPUs: "
            "--set 'serve.extra.engram_config={cpu_offload=false}'",
            consequence="The tables are pinned in host memory: the kernel kills the server while it loads.",
        )
    if memory.available_bytes < need:
        return warn(line, remedy="End other programs, or use a machine with more memory.")
    return ok(line)


def host_need(profile: Profile) -> tuple[float, str]:
    """Bytes of host memory that a server takes on one machine, and what they are made of."""
    if profile.engine.kind is EngineKind.CPU:
        try:
            cache = float(profile.env.get("VLLM_CPU_KVCACHE_SPACE", "0"))
        except ValueError:
            cache = 0.0
        weights = (profile.model.weights_gb or 0.0) * 1e9
        return weights + (cache + CPU_PROCESSES_GIB) * GIB, "weights, KV cache and processes"
    need, parts = float(gpus_per_node(profile) * WORKER_BYTES), f"{gpus_per_node(profile)} GPU workers, estimated"
    if _engram(profile):
        return need + ENGRAM_BYTES, f"{parts}; Engram tables"
    return need, parts


def _engram(profile: Profile) -> bool:
    """Whether V4.1's tables go to host memory: vLLM's default, unless the profile configures them."""
    configured = any(key.replace("-", "_").startswith("engram_config") for key in profile.serve.extra)
    return (profile.model.architecture or "").startswith("deepseek-v4.1") and not configured


def _shm(facts: Facts, profile: Profile | None) -> Finding:
    shm = facts.shm
    assert isinstance(shm, Space)  # noqa: S101 - the table asks only rules whose needs are met
    text = f"{bytes_text(shm.free_bytes)} of {bytes_text(shm.total_bytes)} free in {shm.path}"
    remedy = "In a container: --ipc=host, or --shm-size=16g. Else, as root: mount -o remount,size=16G /dev/shm"
    if profile is None:
        return ok(text) if shm.free_bytes >= SHM_BYTES else info(f"{text}: little for several GPUs", remedy=remedy)
    data = profile.serve.data_parallel_size or 1
    if _engram(profile) and data > 1 and shm.free_bytes < ENGRAM_BYTES:
        return warn(
            f"{text}; with data parallelism the Engram tables ({bytes_text(ENGRAM_BYTES)}) are shared there",
            remedy=remedy,
        )
    if gpus_per_node(profile) > 1 and shm.free_bytes < SHM_BYTES:
        return warn(f"{text}; with several GPUs NCCL needs about {bytes_text(SHM_BYTES)}", remedy=remedy)
    return ok(text)


def _limits(facts: Facts, profile: Profile | None) -> Finding:
    limits = facts.limits
    assert isinstance(limits, Limits)  # noqa: S101 - the table asks only rules whose needs are met
    soft, hard = (("unlimited" if each is None else f"{each:,}") for each in (limits.soft, limits.hard))
    if limits.soft is None or limits.soft >= OPEN_FILES:
        return ok(f"{soft}")
    if limits.hard is None or limits.hard >= OPEN_FILES:
        return ok(f"{soft}; vLLM raises it to {OPEN_FILES:,} itself (hard limit {hard})")
    if profile is not None and profile.engine.kind is EngineKind.CPU and limits.hard >= OPEN_FILES_CPU:
        return ok(f"{hard}; enough for the CPU build (recommended for many clients: {OPEN_FILES:,})")
    return warn(
        f"at most {hard}, recommended {OPEN_FILES:,}: many connections at a time end in “Too many open files”",
        remedy=f"ulimit -Hn {OPEN_FILES} as root, LimitNOFILE={OPEN_FILES} in a unit, or --ulimit nofile={OPEN_FILES}",
    )


def _engine(facts: Facts, profile: Profile | None) -> Finding:
    engine = facts.engine
    assert isinstance(engine, EngineFacts)  # noqa: S101 - the table asks only rules whose needs are met
    if engine.name is None:
        return info("none installed that fits" if profile else "none installed", remedy=f"Run: {engine.offer}")
    return ok(f"{engine.name} (vLLM {engine.version})")


def _model(facts: Facts, profile: Profile | None) -> Finding:
    weights = facts.weights
    assert profile is not None  # noqa: S101 - it applies with a profile alone
    assert isinstance(weights, Weights)  # noqa: S101 - the table asks only rules whose needs are met
    name = profile.model.id
    if name.startswith(GENERATED):
        return ok(f"{name}, made by this program")
    if weights.local:
        return _directory(weights, profile)
    if facts.environment.hf_offline and not weights.exists:
        return blocked(
            f"{name} is not in {weights.path}, and HF_HUB_OFFLINE is set",
            remedy=f"Unset HF_HUB_OFFLINE, or download it first: hf download {name}",
            consequence="vLLM ends with “Cannot find an appropriate cached snapshot folder”.",
        )
    if name.startswith(GATED_OWNERS) and not weights.exists and not facts.environment.hf_token:
        return warn(
            f"{name} is gated and there is no Hugging Face token",
            remedy=f"Accept the licence at https://huggingface.co/{name}, and set HF_TOKEN for the console.",
        )
    return ok(f"{name}, {'already here' if weights.exists else 'downloaded at the start'}")


def _directory(weights: Weights, profile: Profile) -> Finding:
    trouble = ""
    if not weights.exists:
        trouble = f"{weights.path} is not there"
    elif not weights.has_config:
        trouble = f"{weights.path} has no config.json"
    elif profile.serve.load_format != "dummy":
        if weights.missing_files:
            shown = ", ".join(weights.missing_files[:MISSING_SHOWN])
            trouble = f"{weights.path} lacks {len(weights.missing_files)} files of its index: {shown}"
        elif not weights.weight_files:
            trouble = f"{weights.path} has no weights (*.safetensors, *.bin, *.pt, *.gguf)"
    if trouble:
        return blocked(
            trouble,
            remedy="Correct model.id (a relative path counts from where you start the console), or copy it again.",
            consequence="vLLM ends when it reads the model.",
        )
    return ok(f"{weights.path}, {weights.weight_files} files, {bytes_text(weights.bytes_present)}")


def _disk(facts: Facts, profile: Profile | None) -> Finding:
    weights = facts.weights
    assert isinstance(weights, Weights)  # noqa: S101 - the table asks only rules whose needs are met
    if weights.free_bytes is None:
        return unknown(f"free space of {weights.path} is not known")
    free = f"{bytes_text(weights.free_bytes)} free in {weights.path}"
    if profile is None:
        return ok(free)
    if is_local_model(profile.model.id):
        return ok("nothing to download")
    if profile.model.weights_gb is None:
        return unknown(f"{free}; the size of {profile.model.id} is not known (model.weights_gb)")
    total = profile.model.weights_gb * 1e9
    missing = max(0.0, total - weights.bytes_present)
    if weights.exists and missing < total / 50:  # sizes are given in whole gigabytes
        return ok(f"{bytes_text(weights.bytes_present)} are already in {weights.path}")
    here = f", {bytes_text(weights.bytes_present)} are there" if weights.bytes_present else ""
    text = f"{free}; {bytes_text(missing)} to download{here}"
    remedy = "Free some space, or put the cache on a larger disk: HF_HOME=/large/disk where you start the console."
    if missing > weights.free_bytes:
        return blocked(text, remedy=remedy, consequence=RESUMES)
    if missing * DISK_TIGHT > weights.free_bytes:
        return warn(text, remedy=remedy)
    return ok(text)


MACHINE: tuple[Rule, ...] = (
    Rule(id="engine", title="Engine", needs=("engine",), applies=everywhere, judge=_engine),
    Rule(id="model", title="Model", needs=("weights",), applies=any_profile, judge=_model),
    Rule(id="disk", title="Disk", needs=("weights",), applies=everywhere, judge=_disk),
    Rule(id="memory", title="Host memory", needs=("memory",), applies=everywhere, judge=_memory),
    Rule(id="shm", title="Shared memory", needs=("shm",), applies=everywhere, judge=_shm),
    Rule(id="open-files", title="Open files", needs=("limits",), applies=everywhere, judge=_limits),
)
