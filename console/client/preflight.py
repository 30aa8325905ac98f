"""Preflight of this machine: asks all probes at a time and has the core judge what they found."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from console.client.api import LaunchPlan
from console.client.launch import check_port
from console.core.errors import HardwareError
from console.core.preflight import EngineFacts, Facts, GpuFacts, PortFacts, Preflight, VllmProcess
from console.core.preflight.table import judge
from console.core.profile import EngineKind, EngineSection, ModelSection, Profile, ProfileSection
from console.io import engines
from console.io import preflight as probes
from console.io.engines import Engine
from console.io.gpu.nvml import NvmlBackend

__all__ = ["run"]

ANY_PROFILE = Profile(profile=ProfileSection(title="any"), model=ModelSection(id="any"))
"""Stands for a profile that sets nothing: its address is the one that most profiles have."""


def run(
    plan: LaunchPlan | None = None,
    *,
    allow_public: bool = False,
    timeout_s: float = probes.ANSWER_TIMEOUT_S,
) -> Preflight:
    """Check a plan, or without one the machine. Blocks for `timeout_s` seconds at most."""
    profile = plan.profile if plan else None
    questions: dict[str, Callable[[], object]] = {
        "processes": probes.find_vllm,
        "memory": probes.read_memory,
        "shm": probes.read_shm,
        "limits": probes.read_limits,
        "weights": lambda: probes.read_weights(profile),
        "port": lambda: _port(profile or ANY_PROFILE, plan.node_rank if plan else 0),
        "engine": lambda: _engine(plan),
    }
    if profile is None or profile.engine.kind is EngineKind.CUDA:
        questions["gpu"] = lambda: probes.read_gpus(NvmlBackend())
    began = time.monotonic()
    answers: dict[str, Any] = probes.ask_all(questions, timeout_s)
    elapsed_s = time.monotonic() - began
    answers["processes"] = _with_gpu_memory(answers["processes"], answers.get("gpu"))
    facts = Facts(
        environment=probes.read_environment(profile.env if profile else {}), allow_public=allow_public, **answers
    )
    return judge(facts, profile, plan.profile_name if plan else None, elapsed_s)


def _port(profile: Profile, rank: int) -> PortFacts:
    if rank:
        return PortFacts(free=True, text=f"machine {rank} has no HTTP server")
    address = f"{profile.serve.host}:{profile.serve.port}"
    try:
        check_port(profile)
    except HardwareError as error:
        return PortFacts(free=False, title=error.title, text=error.message, remedy=error.fix)
    return PortFacts(free=True, text=f"{address} is free")


def _engine(plan: LaunchPlan | None) -> EngineFacts:
    if plan is None:
        found = engines.list_engines()
        chosen = next((each for each in found if each.kind is EngineKind.CUDA), None) or next(iter(found), None)
        return probes.read_engine_facts(chosen) if chosen else EngineFacts(offer=engines.offer(EngineSection()))
    if plan.engine_name is None or plan.engine_version is None:
        return EngineFacts(offer=plan.install_offer)
    return probes.read_engine_facts(
        Engine(
            name=plan.engine_name,
            kind=plan.profile.engine.kind,
            version=plan.engine_version,
            executable=Path(plan.argv[0]),
        )
    )


def _with_gpu_memory(processes: object, gpu: object) -> object:
    """The processes, with what each holds on the GPUs, where the driver tells."""
    if not isinstance(processes, tuple) or not isinstance(gpu, GpuFacts):
        return processes
    held: dict[int, int] = {}
    for holder in gpu.holders:
        if holder.memory_bytes is not None:
            held[holder.pid] = held.get(holder.pid, 0) + holder.memory_bytes
    return tuple(
        msgspec.structs.replace(each, gpu_memory_bytes=held.get(each.pid)) if isinstance(each, VllmProcess) else each
        for each in processes
    )
