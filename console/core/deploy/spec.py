"""What all exports share: names, image, command, times and memory of a profile that runs elsewhere."""

from __future__ import annotations

import math
import re

import msgspec

from console.core import versions
from console.core.catalogue.parsers import PARSED_BY
from console.core.command import Command, build_command, is_local_model
from console.core.nodes import Node
from console.core.profile import EngineKind, Profile

__all__ = [
    "CACHE",
    "DeploySpec",
    "cache_gib",
    "command_of",
    "engine_version",
    "image_of",
    "start_budget",
    "stop_s",
    "with_host",
]

NAME_CHARS_MAX = 48
"""A Kubernetes name has at most 63, and LeaderWorkerSet and Deployment add to it."""
CACHE = "/cache"
"""In a container: Hugging Face's cache and vLLM's compile cache lie below."""
DOWNLOAD_BYTES_PER_S = 250e6
"""A first start downloads the weights. A cautious figure for a machine in a data centre, not measured."""
CACHE_SPARE = 1.1
CACHE_SPARE_GIB = 20
STOP_SPARE_S = 15
"""Beyond drain and stop, until what is left is killed."""
IMAGES: dict[EngineKind, str] = {
    EngineKind.CUDA: "vllm/vllm-openai:v{version}",
    EngineKind.ROCM: "vllm/vllm-openai-rocm:v{version}",
    EngineKind.CPU: "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v{version}",
}
"""vLLM's own images (https://docs.vllm.ai/en/stable/deployment/docker/)."""


class DeploySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A profile to run elsewhere."""

    profile_name: str
    profile: Profile
    version: str
    """Of vLLM."""
    image: str
    model_path: str | None = None
    """Directory of a local model, the same on every machine."""
    expected_ready_s: float | None = None
    """How long starts took here, by the ledger: the median of the newest."""
    hosts: tuple[str, ...] = ()
    """Addresses of the machines, the first machine's first."""

    @property
    def name(self) -> str:
        """A name that Kubernetes (DNS-1035) and Compose take."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.profile_name.lower()).strip("-")
        return f"dsv4-{slug or 'profile'}"[:NAME_CHARS_MAX].rstrip("-")

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.profile.hardware.nodes

    def node(self, rank: int, address: str = "") -> Node:
        """One of the machines."""
        own = self.hosts[rank] if rank < len(self.hosts) else ""
        return Node(rank=rank, address=address or (self.hosts[0] if self.hosts else ""), own_address=own)


def engine_version(profile: Profile) -> str:
    """The newest vLLM of the profile's range whose parser has read the shipped profiles, else one the range names.

    Raises:
        ValueError: the range names none.
    """
    inside = [version for version in PARSED_BY if versions.satisfies(version, profile.engine.vllm)]
    found = inside[-1] if inside else versions.suggest(profile.engine.vllm, PARSED_BY[-1])
    if found is None:
        raise ValueError(f"no version of vLLM is known in {profile.engine.vllm}")
    return found


def image_of(profile: Profile, version: str) -> str:
    """vLLM's image of that version for the profile's build."""
    return IMAGES[profile.engine.kind].format(version=version)


def with_host(profile: Profile, host: str) -> Profile:
    """The profile listening on another address: in a container of its own, loopback is reached by nobody."""
    return msgspec.structs.replace(profile, serve=msgspec.structs.replace(profile.serve, host=host))


def command_of(spec: DeploySpec, profile: Profile, node: Node, executable: str = "vllm") -> Command:
    """The command of one machine."""
    return build_command(profile, executable, spec.model_path, spec.version, node)


def start_budget(spec: DeploySpec, *, elsewhere: bool = False) -> tuple[int, str]:
    """Seconds that a start may take, and how they come about.

    Args:
        elsewhere: on other machines than this, so that what was measured here says nothing.
    """
    limit = spec.profile.supervise.ready_timeout_s
    if spec.expected_ready_s is not None and not elsewhere:
        start = min(limit, 2 * spec.expected_ready_s)
        text = f"twice the {spec.expected_ready_s:.0f} s that starts took here = {start:.0f} s"
    else:
        start, text = limit, f"supervise.ready_timeout_s = {limit:g} s"
    gigabytes = spec.profile.model.weights_gb
    if gigabytes is None or is_local_model(spec.profile.model.id):
        return math.ceil(start), text
    download = gigabytes * 1e9 / DOWNLOAD_BYTES_PER_S
    text += f" + first download of {gigabytes:g} GB at {DOWNLOAD_BYTES_PER_S / 1e6:.0f} MB/s = {download:.0f} s"
    return math.ceil(start + download), text


def stop_s(profile: Profile) -> int:
    """Seconds from SIGTERM until what is left is killed."""
    watch = profile.supervise
    return math.ceil(watch.drain_timeout_s + watch.stop_timeout_s) + STOP_SPARE_S


def cache_gib(profile: Profile) -> int:
    """Room for the weights and vLLM's compile cache, GiB."""
    weights = (profile.model.weights_gb or 0.0) * 1e9 / 2**30
    return math.ceil(weights * CACHE_SPARE) + CACHE_SPARE_GIB
