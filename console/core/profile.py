"""The profile: what a TOML file may say, as types. Field = type, bounds, vLLM flag and help in one place.

`[serve]` fields carry the vLLM flag they become; everything else that vLLM takes goes through `[serve.extra]` by
its own name, so a new vLLM flag never waits for a release of this program.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from console.core.liveness import HANG_TIMEOUT_S

__all__ = [
    "CostSection",
    "EngineKind",
    "EngineSection",
    "Evidence",
    "HardwareSection",
    "ModelSection",
    "NetworkSection",
    "Profile",
    "ProfileSection",
    "RestartPolicy",
    "ServeSection",
    "SuperviseSection",
    "TargetsSection",
    "with_metrics_port",
]

PositiveInt = Annotated[int, Meta(ge=1)]
Ratio = Annotated[float, Meta(gt=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class Section(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all profile tables: an unknown key is an error."""


class Evidence(StrEnum):
    """Where a profile's claim to work comes from."""

    MEASURED = "measured"
    """Seen on this hardware by this program."""
    RECIPE = "recipe"
    """vLLM's own recipe for this hardware."""
    REPORTED = "reported"
    """Somebody else's report, named in `sources`."""
    DERIVED = "derived"
    """By arithmetic from published figures."""
    UNVERIFIED = "unverified"
    """Nobody is known to have run it."""


class RestartPolicy(StrEnum):
    """What happens after a crash."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class EngineKind(StrEnum):
    """Which build of vLLM."""

    CUDA = "cuda"
    CPU = "cpu"
    ROCM = "rocm"
    """For AMD GPUs. It comes as a container image of vLLM's, so this program finds one but installs none."""


def says(help_text: str) -> Any:
    """Metadata of one field: its help, from which the JSON Schema and the reference page are made."""
    return Meta(description=help_text)


class ProfileSection(Section, frozen=True, kw_only=True):
    """`[profile]`: what it is and how far to trust it."""

    title: Annotated[str, says("name for people")]
    description: Annotated[str, says("what is known of it, in a few sentences")] = ""
    evidence: Annotated[Evidence, says("where the claim that it works comes from")] = Evidence.UNVERIFIED
    sources: Annotated[tuple[str, ...], says("addresses that back the evidence")] = ()
    prefer: Annotated[str | None, says("name of a profile that serves the same need better")] = None
    use: Annotated[str, says("when to choose this one, in one sentence")] = ""


class HardwareSection(Section, frozen=True, kw_only=True):
    """`[hardware]`: the machine it is for."""

    gpu: Annotated[
        str, says("as the driver names it, without the vendor: H100, H200, RTX PRO 6000; none for the CPU build")
    ] = "none"
    count: Annotated[int, Meta(ge=0, le=64), says("GPUs that it uses, of each machine")] = 0
    nodes: Annotated[int, Meta(ge=1, le=64), says("machines that one server spans, each with so many GPUs")] = 1
    memory_gib: Annotated[
        Annotated[float, Meta(gt=0)] | None, says("memory of one GPU in GiB, where the program does not know it")
    ] = None

    @property
    def text(self) -> str:
        """`8 × H100`, `2 × 8 × H100` for two machines, or `CPU`."""
        one = f"{self.count} × {self.gpu}" if self.count and self.gpu.lower() != "none" else "CPU"
        return one if self.nodes == 1 else f"{self.nodes} × {one}"


class NetworkSection(Section, frozen=True, kw_only=True):
    """`[network]`: how the machines of one server reach each other, where `hardware.nodes` is above 1."""

    address: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        says("address of the first machine, which the others connect to"),
    ] = None
    interface: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        says("network interface between the machines, as `ip link` names it (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME)"),
    ] = None
    master_port: Annotated[
        int, Meta(ge=1, le=65535), says("of the first machine: where one engine over all machines meets")
    ] = 29501
    rpc_port: Annotated[
        int, Meta(ge=1, le=65535), says("of the first machine: where data parallel engines of the others report")
    ] = 29550
    """Both as vLLM has them (`master_port`, `data_parallel_rpc_port` in config/parallel.py, 0.32)."""


class ModelSection(Section, frozen=True, kw_only=True):
    """`[model]`: the checkpoint."""

    id: Annotated[
        str,
        Meta(min_length=1),
        says("Hugging Face repository, local directory, or generated:NAME for a model made by this program"),
    ]
    served_name: Annotated[str | None, says("name by which clients ask for it")] = None
    revision: Annotated[str | None, says("branch, tag or commit of the repository")] = None
    precision: Annotated[str, says("in words: FP4 experts + FP8")] = ""
    weights_gb: Annotated[Annotated[float, Meta(gt=0)] | None, says("size on disk, 10⁹ bytes")] = None
    architecture: Annotated[
        str | None, says("which of the known architectures the fit arithmetic uses, for example deepseek-v4-flash")
    ] = None


def flag(name: str, help_text: str) -> Any:
    """Metadata of one `[serve]` field: its vLLM flag and its help."""
    return Meta(extra={"flag": name}, description=help_text)


class ServeSection(Section, frozen=True, kw_only=True):
    """`[serve]`: settings of vLLM. What is not set is left to vLLM."""

    host: Annotated[str, flag("--host", "address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535), flag("--port", "port to listen on")] = 8000
    tensor_parallel_size: Annotated[
        PositiveInt | None, flag("--tensor-parallel-size", "GPUs that share each layer")
    ] = None
    pipeline_parallel_size: Annotated[
        PositiveInt | None, flag("--pipeline-parallel-size", "groups of layers on different GPUs")
    ] = None
    data_parallel_size: Annotated[
        PositiveInt | None, flag("--data-parallel-size", "independent engines, each with its own KV cache")
    ] = None
    enable_expert_parallel: Annotated[
        bool | None, flag("--enable-expert-parallel", "whole experts per GPU instead of slices of each")
    ] = None
    max_model_len: Annotated[
        PositiveInt | str | None, flag("--max-model-len", "longest context in tokens; also 32k, auto")
    ] = None
    max_num_seqs: Annotated[PositiveInt | None, flag("--max-num-seqs", "requests that may run at the same time")] = None
    max_num_batched_tokens: Annotated[
        PositiveInt | None, flag("--max-num-batched-tokens", "tokens of one scheduler step")
    ] = None
    gpu_memory_utilization: Annotated[
        Ratio | None, flag("--gpu-memory-utilization", "share of each GPU's memory that vLLM may take")
    ] = None
    num_gpu_blocks_override: Annotated[
        PositiveInt | None, flag("--num-gpu-blocks-override", "KV cache blocks, in place of profiling")
    ] = None
    kv_cache_dtype: Annotated[str | None, flag("--kv-cache-dtype", "type of KV cache entries")] = None
    block_size: Annotated[PositiveInt | None, flag("--block-size", "tokens per KV cache block")] = None
    dtype: Annotated[str | None, flag("--dtype", "type of activations; leave unset")] = None
    quantization: Annotated[str | None, flag("--quantization", "quantization method of the checkpoint")] = None
    load_format: Annotated[str | None, flag("--load-format", "how weights are read; dummy for none")] = None
    enforce_eager: Annotated[bool | None, flag("--enforce-eager", "no compilation, no CUDA graphs")] = None
    trust_remote_code: Annotated[bool | None, flag("--trust-remote-code", "run Python code of the checkpoint")] = None
    enable_prefix_caching: Annotated[
        bool | None, flag("--enable-prefix-caching", "reuse KV cache of equal prompt starts")
    ] = None
    tokenizer_mode: Annotated[str | None, flag("--tokenizer-mode", "tokenizer implementation")] = None
    reasoning_parser: Annotated[str | None, flag("--reasoning-parser", "splits reasoning from the answer")] = None
    tool_call_parser: Annotated[str | None, flag("--tool-call-parser", "reads tool calls")] = None
    enable_auto_tool_choice: Annotated[bool | None, flag("--enable-auto-tool-choice", "let the model choose tools")] = (
        None
    )
    speculative_config: Annotated[dict[str, Any] | None, flag("--speculative-config", "draft method and length")] = None
    compilation_config: Annotated[
        dict[str, Any] | None, flag("--compilation-config", "torch.compile and CUDA graph settings")
    ] = None
    extra: Annotated[dict[str, Any], says("any other `vllm serve` flag by its own name, with _ or -")] = {}


class EngineSection(Section, frozen=True, kw_only=True):
    """`[engine]`: which vLLM."""

    kind: Annotated[EngineKind, says("which build of vLLM")] = EngineKind.CUDA
    vllm: Annotated[str, says("versions it is for, as in a Python requirement: >=0.25,<0.34")] = ">=0.25"
    name: Annotated[str | None, says("an installed engine to use, in place of the newest that fits")] = None


class SuperviseSection(Section, frozen=True, kw_only=True):
    """`[supervise]`: how the server is watched."""

    ready_timeout_s: Annotated[Seconds, says("a start that takes longer has failed")] = 3600.0
    drain_timeout_s: Annotated[Seconds, says("how long requests may finish when the server is stopped")] = 30.0
    stop_timeout_s: Annotated[Seconds, says("between SIGTERM and SIGKILL")] = 30.0
    restart: Annotated[RestartPolicy, says("what happens after a crash")] = RestartPolicy.NEVER
    """`on-failure`: after a crash, a hang, or a failure that may pass; `always`: also after an exit with code 0."""
    hang_timeout_s: Annotated[
        Seconds, says("requests running and nothing moving for so long is a hang; 0 looks for none")
    ] = HANG_TIMEOUT_S
    """See `console.core.liveness`."""
    canary_s: Annotated[Seconds, says("while idle, ask for one token this often; 0 never asks")] = 0.0
    idle_warn_s: Annotated[Seconds, says("idle for so long, it warns of the money spent; 0 never warns")] = 0.0
    idle_stop_s: Annotated[Seconds, says("idle for so long, the server is stopped; 0 never stops it")] = 0.0
    """See `console.core.idle`."""
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        says("the supervisor's own metrics for Prometheus on this port of 127.0.0.1; 0 is off; default: config.toml's"),
    ] = None


class TargetsSection(Section, frozen=True, kw_only=True):
    """`[targets]`: how fast an answer should be. Latencies are shown beside them, and goodput is measured by them."""

    ttft_s: Annotated[
        Annotated[float, Meta(gt=0, le=86_400)] | None,
        says("the first token of an answer should come within this many seconds"),
    ] = None
    tpot_s: Annotated[
        Annotated[float, Meta(gt=0, le=86_400)] | None,
        says("seconds that each further token of an answer may take, on its average: 0.05 is 20 tokens per second"),
    ] = None


class CostSection(Section, frozen=True, kw_only=True):
    """`[cost]`: what the machine costs. A price in the user's `config.toml` stands in where this says none."""

    usd_per_hour: Annotated[
        Annotated[float, Meta(ge=0)] | None, says("of the whole machine, of all where there are several, on demand")
    ] = None
    spot_usd_per_hour: Annotated[
        Annotated[float, Meta(ge=0)] | None, says("of the whole machine, where it may be taken away at any time")
    ] = None
    source: Annotated[str, says("where the price is from")] = ""
    date: Annotated[str, says("when it was read: 2026-11-01")] = ""


class Profile(Section, frozen=True, kw_only=True):
    """A whole profile, as one TOML file holds it."""

    profile: ProfileSection
    model: ModelSection
    hardware: HardwareSection = HardwareSection()
    network: NetworkSection = NetworkSection()
    serve: ServeSection = ServeSection()
    env: Annotated[dict[str, str], says("environment variables of the server, always text; no keys or tokens")] = {}
    engine: EngineSection = EngineSection()
    supervise: SuperviseSection = SuperviseSection()
    targets: TargetsSection = TargetsSection()
    cost: CostSection = CostSection()


def with_metrics_port(profile: Profile, port: int | None) -> Profile:
    """The profile with the user's port for metrics where it says none itself."""
    if port is None or profile.supervise.metrics_port is not None:
        return profile
    supervise = msgspec.structs.replace(profile.supervise, metrics_port=port)
    return msgspec.structs.replace(profile, supervise=supervise)
