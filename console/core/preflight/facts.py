"""What the probes found, one struct per question. A question without an answer is a `NoAnswer` with the reason."""

from __future__ import annotations

import msgspec

from console.core.models import Data

__all__ = [
    "EngineFacts",
    "Environment",
    "Facts",
    "Gpu",
    "GpuFacts",
    "GpuHolder",
    "Limits",
    "Memory",
    "NoAnswer",
    "PortFacts",
    "Space",
    "VllmProcess",
    "Weights",
]


class NoAnswer(Data, frozen=True, kw_only=True):
    """The question was not answered."""

    reason: str


class Gpu(Data, frozen=True, kw_only=True):
    """One GPU, at rest or not."""

    index: int
    name: str | None = None
    uuid: str | None = None
    capability: tuple[int, int] | None = None
    """Compute capability: (9, 0) for an H100."""
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    mig: bool | None = None
    """Whether it is cut into instances."""


class GpuHolder(Data, frozen=True, kw_only=True):
    """A process that holds memory of a GPU."""

    gpu: int
    pid: int
    name: str = ""
    """Its title or command; empty where it cannot be seen, as from inside a container."""
    memory_bytes: int | None = None


class GpuFacts(Data, frozen=True, kw_only=True):
    """What the driver tells."""

    gpus: tuple[Gpu, ...] = ()
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None
    """The newest CUDA that the driver supports."""
    holders: tuple[GpuHolder, ...] = ()
    absent: str = ""
    """Why there is none, where that is certain: no driver installed or loaded."""
    absent_remedy: str = ""


class VllmProcess(Data, frozen=True, kw_only=True):
    """A process of vLLM on this machine."""

    pid: int
    start_s: float
    """Since boot: with the pid it names the process for good."""
    title: str
    """As it calls itself: `VLLM::EngineCore`, `vllm serve …`."""
    age_s: float | None = None
    memory_bytes: int | None = None
    """Resident."""
    gpu_memory_bytes: int | None = None
    run_id: str = ""
    """Of this user's runs, the one that it belongs to."""
    supervised: bool = False
    """That run has a live supervisor."""
    orphan: bool = False
    """Whoever started it is gone, so that nobody will ever end it."""
    user: str = ""


class Memory(Data, frozen=True, kw_only=True):
    """Main memory."""

    total_bytes: int
    """Of the machine, or of the container where its limit is lower."""
    available_bytes: int
    limited: bool = False
    """The container's limit is what counts."""


class Space(Data, frozen=True, kw_only=True):
    """A file system."""

    path: str
    total_bytes: int
    free_bytes: int


class Limits(Data, frozen=True, kw_only=True):
    """Open files per process; `None` is unlimited."""

    soft: int | None
    hard: int | None


class PortFacts(Data, frozen=True, kw_only=True):
    """Whether the address can be listened on."""

    free: bool
    title: str = ""
    """What keeps it from being listened on."""
    text: str = ""
    remedy: str = ""


class EngineFacts(Data, frozen=True, kw_only=True):
    """The vLLM that would be started."""

    name: str | None = None
    """`None` if none is installed that fits."""
    version: str | None = None
    offer: str = ""
    """The command that installs one."""
    cuda_version: tuple[int, int] | None = None
    """Of the CUDA runtime in its environment."""
    flags: frozenset[str] | None = None
    """Flags of its `serve` command, as its source names them; `None` where that was not found."""


class Weights(Data, frozen=True, kw_only=True):
    """The checkpoint on disk."""

    path: str
    """Its directory, or the cache where a download would go."""
    local: bool = False
    """`model.id` is a directory."""
    exists: bool = True
    """Of a directory: it is there. Of a download: a snapshot is there."""
    bytes_present: int = 0
    free_bytes: int | None = None
    """On the file system of `path`."""
    has_config: bool = True
    weight_files: int = 0
    missing_files: tuple[str, ...] = ()
    """Named by the checkpoint's index, and not there."""
    attention_heads: int | None = None
    """From `config.json`, where it is there."""


class Environment(Data, frozen=True, kw_only=True):
    """What the server's environment says. No secret is in it, only whether there is one."""

    api_key: bool = False
    hf_token: bool = False
    hf_offline: bool = False
    dev_mode: bool = False
    """`VLLM_SERVER_DEV_MODE`."""
    visible_gpus: str | None = None
    """`CUDA_VISIBLE_DEVICES`."""
    cuda_compat: bool = False
    """NVIDIA's forward compatibility libraries are in use."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The answers to all questions."""

    environment: Environment = Environment()
    gpu: GpuFacts | NoAnswer = NoAnswer(reason="not asked")
    processes: tuple[VllmProcess, ...] | NoAnswer = NoAnswer(reason="not asked")
    memory: Memory | NoAnswer = NoAnswer(reason="not asked")
    shm: Space | NoAnswer = NoAnswer(reason="not asked")
    limits: Limits | NoAnswer = NoAnswer(reason="not asked")
    weights: Weights | NoAnswer = NoAnswer(reason="not asked")
    port: PortFacts | NoAnswer = NoAnswer(reason="not asked")
    engine: EngineFacts | NoAnswer = NoAnswer(reason="not asked")
    allow_public: bool = False
    """`--allow-public-without-key` was given."""
