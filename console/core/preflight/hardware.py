"""Checks of the GPUs and what holds them."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.version import InvalidVersion, Version

from console.core.fit import UTILIZATION_DEFAULT
from console.core.nodes import gpus_per_node
from console.core.preflight.facts import Facts, Gpu, GpuFacts, GpuHolder, VllmProcess
from console.core.preflight.rule import (
    Finding,
    Rule,
    blocked,
    cuda_or_machine,
    gpus_for,
    info,
    ok,
    unknown,
    visible,
    warn,
)
from console.core.profile import Profile
from console.core.profile_checks import is_v4
from console.core.suitability import same_gpu
from console.core.units import bytes_text

__all__ = ["DRIVER_MIN", "END_ORPHANS", "HARDWARE", "V4_MAJORS"]

V4_MAJORS = frozenset({9, 10, 12})
"""Major compute capabilities with a DeepSeek V4 attention backend: vLLM 0.33's flashmla_sparse (9, 10) and
flashinfer_sparse (10, 12)."""
CAPABILITY_MIN = (8, 0)
"""Below it current vLLM wheels lack kernels, or run without the attention backends that they are tuned for."""
DRIVER_MIN: dict[int, int] = {11: 450, 12: 525, 13: 580}
"""CUDA's major version to the oldest driver that runs it (NVIDIA, CUDA Compatibility, minor version compatibility)."""
CONTEXT_BYTES = 1024**3
"""A CUDA context takes about half of it before vLLM looks at what is free: nearer to the limit than this is tight."""
HOLDERS_MAX = 6
END_ORPHANS = "dsv4-console doctor --end-orphans"
WITHOUT_GPU = "vLLM's CUDA build ends at once without a GPU."


def _driver_facts(facts: Facts) -> GpuFacts:
    assert isinstance(facts.gpu, GpuFacts)  # noqa: S101 - the table asks only rules whose needs are met
    return facts.gpu


def _present(facts: Facts, profile: Profile | None) -> Finding:
    gpu = _driver_facts(facts)
    if profile is None:
        if gpu.absent:
            return info(f"{gpu.absent}: CPU profiles only", remedy=gpu.absent_remedy)
        return ok(_names(gpu.gpus)) if gpu.gpus else info("none: CPU profiles only")
    wanted = f"{profile.hardware.count} × {profile.hardware.gpu}"
    if gpu.absent:
        return blocked(f"{gpu.absent}; the profile needs {wanted}", remedy=gpu.absent_remedy, consequence=WITHOUT_GPU)
    seen = visible(facts, gpu, profile)
    hidden = f" ({len(gpu.gpus)} in the machine, CUDA_VISIBLE_DEVICES)" if len(seen) != len(gpu.gpus) else ""
    found = f"{_names(seen) or 'none'}{hidden}"
    if len(seen) < gpus_per_node(profile):
        return blocked(
            f"the profile uses {gpus_per_node(profile)} GPUs, found {found}",
            remedy="Choose a profile for this machine (dsv4-console profiles list), or lower the parallel sizes.",
            consequence="vLLM ends during the start: there are fewer GPUs than ranks.",
        )
    others = [each for each in seen[: gpus_per_node(profile)] if not same_gpu(profile.hardware.gpu, each.name or "")]
    if others:
        return warn(
            f"made for {wanted}, found {found}: nobody is known to have tried it",
            remedy="See the fit below, and what suits this machine: dsv4-console profiles list",
        )
    return ok(found)


def _names(gpus: Sequence[Gpu]) -> str:
    counts: dict[str, int] = {}
    for each in gpus:
        name = each.name or "unknown GPU"
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} × {name}" for name, count in counts.items())


def _capability(facts: Facts, profile: Profile | None) -> Finding | None:
    gpus = gpus_for(facts, _driver_facts(facts), profile)
    if not gpus:
        return None
    if any(each.capability is None for each in gpus):
        return unknown("the driver does not tell it", "Run: nvidia-smi --query-gpu=compute_cap --format=csv")
    found = sorted({each.capability for each in gpus if each.capability})
    text = ", ".join(f"{major}.{minor}" for major, minor in found)
    lacking = [each for each in found if each[0] not in V4_MAJORS]
    if profile is None:
        if lacking:
            return info(f"{text}: no DeepSeek V4 on it; DeepSeek V3 INT4 needs 8.0")
        return ok(f"{text}: DeepSeek V4 has an attention backend")
    if is_v4(profile):
        if any(each < (9, 0) for each in lacking):
            return blocked(
                f"{text}; DeepSeek V4 needs 9.0, 10.x or 12.x",
                remedy="On A100 serve DeepSeek V3: dsv4-console --profile 8xa100-int4-v3",
                consequence="vLLM ends with “No valid attention backend found” after it has read the weights.",
            )
        if lacking:
            return warn(
                f"{text}; DeepSeek V4 backends are known for 9.0, 10.x and 12.x",
                remedy="See the release notes of this vLLM for this GPU.",
            )
    elif any(each < CAPABILITY_MIN for each in found):
        return warn(f"{text}, below 8.0", remedy="See which GPUs this vLLM's wheel has kernels for.")
    return ok(text)


def _driver(facts: Facts, profile: Profile | None) -> Finding | None:
    gpu = _driver_facts(facts)
    if gpu.absent:
        return None
    if gpu.driver_version is None:
        return unknown("the driver does not tell its version", "Run: nvidia-smi")
    has = f"driver {gpu.driver_version}"
    if gpu.cuda_version:
        has += f" (CUDA {gpu.cuda_version[0]}.{gpu.cuda_version[1]})"
    engine = facts.engine
    needs = getattr(engine, "cuda_version", None)
    if needs is None:
        why = getattr(engine, "reason", "") or (
            "no CUDA engine is installed" if getattr(engine, "name", None) is None else "its CUDA version is not known"
        )
        return info(f"{has}; {why}") if profile is None else unknown(f"{has}; {why}")
    name, major = f"{getattr(engine, 'name', 'the engine')} has CUDA {needs[0]}.{needs[1]}", needs[0]
    least = DRIVER_MIN.get(major)
    version = _version(gpu.driver_version)
    if least is None or version is None:
        return unknown(f"{has}; {name}: it is not known which driver that needs")
    if version.major >= least:
        return ok(f"{has}; {name}, which needs {least}")
    text = f"{has}; {name}, which needs {least} or newer"
    remedy = f"Update the driver to {least} or newer, or install an older engine: dsv4-console engine install VERSION"
    if facts.environment.cuda_compat:
        return warn(f"{text}; CUDA's forward compatibility libraries may bridge it", remedy=remedy)
    return blocked(
        text, remedy=remedy, consequence="PyTorch refuses the GPU: “The NVIDIA driver on your system is too old”."
    )


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _memory(facts: Facts, profile: Profile | None) -> Finding | None:
    gpu = _driver_facts(facts)
    gpus = gpus_for(facts, gpu, profile)
    if not gpus:
        return None
    if any(each.memory_free_bytes is None or each.memory_total_bytes is None for each in gpus):
        return unknown("the driver does not tell it", "Run: nvidia-smi")
    share = (profile.serve.gpu_memory_utilization if profile else None) or UTILIZATION_DEFAULT
    end = _end(gpus, gpu.holders, facts.processes)
    least = min(gpus, key=lambda each: _spare(each, share))
    spare = _spare(least, share)
    free, total = least.memory_free_bytes or 0, least.memory_total_bytes or 0
    figures = _holders(gpus, gpu.holders, facts.processes)
    short = f"{bytes_text(free)} of {bytes_text(total)} free on GPU {least.index}"
    if profile is None:
        return info(short, *figures, remedy=end) if figures else ok(short)
    need = f"{bytes_text(share * total)} needed (gpu_memory_utilization {share:g})"
    if spare >= CONTEXT_BYTES:
        return ok(f"{short}, {need}", *figures)
    lower = int(max(0.0, (free - CONTEXT_BYTES) / total) * 100) / 100 if total else 0.0
    change = f"--set serve.gpu_memory_utilization={lower:g}"
    if spare >= 0:
        return warn(f"{short}, {need}: the CUDA context still comes off", *figures, remedy=f"Lower it: {change}")
    return blocked(
        f"{short}, {need}",
        *(figures or ("held by processes that cannot be seen from here (another container or user)",)),
        remedy=end or f"End what holds it, or take less: {change}",
        consequence="vLLM ends with “Free memory on device … is less than desired GPU memory utilization”.",
    )


def _spare(gpu: Gpu, share: float) -> float:
    return (gpu.memory_free_bytes or 0) - share * (gpu.memory_total_bytes or 0)


def _end(gpus: Sequence[Gpu], holders: Sequence[GpuHolder], processes: object) -> str:
    """How to end what this program knows of those that hold memory of these GPUs."""
    indices = {each.index for each in gpus}
    pids = {each.pid for each in holders if each.gpu in indices}
    ours = [each for each in processes if each.pid in pids] if isinstance(processes, tuple) else []
    if any(each.orphan for each in ours):
        return f"Orphans of vLLM hold it; end them: {END_ORPHANS}"
    runs = sorted({each.run_id for each in ours if each.run_id})
    return f"Runs of this console hold it; stop them: dsv4-console stop {runs[0]}" if runs else ""


def _holders(gpus: Sequence[Gpu], holders: Sequence[GpuHolder], processes: object) -> tuple[str, ...]:
    """One line per process that holds memory of these GPUs, the largest first, bounded."""
    titles = {each.pid: each.title for each in processes} if isinstance(processes, tuple) else {}
    indices = {each.index for each in gpus}
    rows = sorted(
        (each for each in holders if each.gpu in indices), key=lambda each: each.memory_bytes or 0, reverse=True
    )
    lines = []
    for each in rows[:HOLDERS_MAX]:
        name = titles.get(each.pid) or each.name or "a process that cannot be seen from here"
        lines.append(f"GPU {each.gpu}: {bytes_text(each.memory_bytes)} by {name[:60]} (pid {each.pid})")
    if len(rows) > HOLDERS_MAX:
        lines.append(f"and {len(rows) - HOLDERS_MAX} more")
    return tuple(lines)


def _mig(facts: Facts, profile: Profile | None) -> Finding | None:
    gpus = gpus_for(facts, _driver_facts(facts), profile)
    cut = [each.index for each in gpus if each.mig]
    if not cut:
        return ok("off") if gpus else None
    text = f"on: GPU {', '.join(map(str, cut))}"
    remedy = "Turn it off as root: nvidia-smi -mig 0 (then reset the GPU)"
    if profile is None:
        return info(text, remedy=remedy)
    if gpus_per_node(profile) > 1:
        return blocked(
            f"{text}; instances cannot work together",
            remedy=remedy,
            consequence="NCCL has no path between MIG instances; the start fails or hangs.",
        )
    return warn(f"{text}; the profile's figures are for a whole GPU", remedy=remedy)


def _orphans(facts: Facts, profile: Profile | None) -> Finding:
    assert isinstance(facts.processes, tuple)  # noqa: S101 - the table asks only rules whose needs are met
    lost = [each for each in facts.processes if each.orphan]
    if lost:
        whose = {each.user for each in lost if each.user}
        return warn(
            f"{len(lost)} left by servers that are gone",
            *(_process_line(each) for each in lost[:HOLDERS_MAX]),
            *((f"and {len(lost) - HOLDERS_MAX} more",) if len(lost) > HOLDERS_MAX else ()),
            remedy=f"End them: {END_ORPHANS}" + (f" (as {' or '.join(sorted(whose))})" if whose else ""),
        )
    unheld = [each for each in facts.processes if each.run_id and not each.supervised and _serves(each)]
    if unheld:
        names = ", ".join(sorted({each.run_id for each in unheld}))
        return info(f"none; {names} serves without its supervisor", remedy="Take it over with: dsv4-console")
    others = [each for each in facts.processes if not each.run_id and _serves(each)]
    if others:
        return info(
            f"none; other vLLM servers run here: {len(others)}", *(_process_line(each) for each in others[:HOLDERS_MAX])
        )
    return ok("none")


def _serves(process: VllmProcess) -> bool:
    return "serve" in process.title


def _process_line(process: VllmProcess) -> str:
    held = [] if process.memory_bytes is None else [bytes_text(process.memory_bytes)]
    if process.gpu_memory_bytes:
        held.append(f"{bytes_text(process.gpu_memory_bytes)} on GPUs")
    owner = [f"of {process.user}"] if process.user else []
    run = [f"run {process.run_id}"] if process.run_id else []
    return f"{process.title[:60]} (pid {process.pid})  {', '.join([*held, *owner, *run])}".rstrip()


HARDWARE: tuple[Rule, ...] = (
    Rule(id="gpus", title="GPUs", needs=("gpu",), applies=cuda_or_machine, judge=_present),
    Rule(id="capability", title="Capability", needs=("gpu",), applies=cuda_or_machine, judge=_capability),
    Rule(id="driver", title="Driver", needs=("gpu",), applies=cuda_or_machine, judge=_driver),
    Rule(id="gpu-memory", title="GPU memory", needs=("gpu",), applies=cuda_or_machine, judge=_memory),
    Rule(id="mig", title="MIG", needs=("gpu",), applies=cuda_or_machine, judge=_mig),
    Rule(id="orphans", title="Orphans", needs=("processes",), applies=lambda profile: True, judge=_orphans),
)
