"""Rules about GPUs that are breaking: memory errors, Xid events, repairs that wait for a reset, lost NVLinks.

What an Xid means is NVIDIA's catalogue (`addresses.XID`); those of `DRAIN_XIDS` leave a GPU that cannot be trusted
before it is reset, the others end or disturb one application.
"""

from __future__ import annotations

from console.core.hints import addresses
from console.core.hints.phrases import on_gpus
from console.core.hints.rule import Finding, Rule
from console.core.hints.rules_clocks import names_of
from console.core.hints.setting import Setting
from console.core.hints.window import Window
from console.core.hints.words import duration
from console.core.models import GpuReading, Level

__all__ = ["DRAIN_XIDS", "GPU_FAULT", "GPU_REPAIR_PENDING", "GPU_XID", "NVLINK_DOWN", "OTHER_XIDS"]

DRAIN_XIDS: dict[int, str] = {
    46: "the GPU stopped processing",
    48: "a double-bit ECC error",
    62: "its microcontroller halted",
    64: "a row could not be remapped",
    74: "an NVLink error",
    79: "the GPU fell off the bus",
    95: "an uncontained memory error",
    119: "its system processor (GSP) does not answer",
    120: "an error of its system processor (GSP)",
    140: "an unrecovered ECC error",
}
OTHER_XIDS: dict[int, str] = {
    13: "an exception of a kernel",
    31: "a memory fault of a program",
    43: "a program's channel was reset",
    45: "a program's channels were removed",
    63: "a row was marked for remapping",
    92: "many corrected ECC errors",
    94: "a contained memory error",
}
XID_AGE_MAX_S = 3600.0
"""An event is told for so long."""


def recent_xid(gpu: GpuReading, now_s: float) -> int | None:
    """The GPU's last Xid, unless it is old."""
    if gpu.xid is None or (gpu.xid_s is not None and now_s - gpu.xid_s > XID_AGE_MAX_S):
        return None
    return gpu.xid


def xid_words(gpu: GpuReading, now_s: float) -> str:
    """`GPU 3: Xid 79, 12 min ago (the GPU fell off the bus).`"""
    number = gpu.xid or 0
    ago = "" if gpu.xid_s is None else f", {duration(now_s - gpu.xid_s)} ago"
    what = (DRAIN_XIDS | OTHER_XIDS).get(number, "")
    return f"GPU {gpu.index}: Xid {number}{ago}{f' ({what})' if what else ''}."


def faults(gpu: GpuReading, now_s: float) -> tuple[str, ...]:
    """What makes this GPU one to leave."""
    found = []
    if recent_xid(gpu, now_s) in DRAIN_XIDS:
        found.append(xid_words(gpu, now_s))
    if gpu.ecc_uncorrected:
        found.append(f"GPU {gpu.index}: {gpu.ecc_uncorrected} uncorrected ECC errors since the driver was loaded.")
    if gpu.row_remap_failed:
        found.append(f"GPU {gpu.index}: a row of its memory could not be remapped.")
    return tuple(found)


def judge_fault(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """A GPU whose results or life cannot be relied on."""
    now_s = window.last.time_s
    evidence = tuple(text for gpu in window.gpus for text in faults(gpu, now_s))
    if not evidence:
        return None
    return Finding(
        evidence=evidence,
        gain="Drain now (dsv4-console stop lets requests finish), reset the GPU or have the machine exchanged, and "
        "start again: a crash in the middle of requests is spared.",
        risk="Left alone, the next error ends the server, and answers since the error may be wrong.",
    )


def judge_xid(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The driver reported an event that the GPU survives."""
    now_s = window.last.time_s
    seen = [gpu for gpu in window.gpus if recent_xid(gpu, now_s) not in (None, *DRAIN_XIDS)]
    if not seen:
        return None
    return Finding(
        evidence=tuple(xid_words(gpu, now_s) for gpu in seen),
        gain="No change of the profile. Look at the kernel log (dmesg) and the catalogue; if it comes again, drain and "
        "test the GPU.",
        risk="Some of these come before a failure.",
    )


def judge_repair(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Memory was found bad, and its replacement waits for a reset."""
    waiting = [gpu.index for gpu in window.gpus if gpu.row_remap_pending or gpu.pages_pending]
    if not waiting:
        return None
    return Finding(
        evidence=(f"{names_of(waiting)}: memory repairs wait for a reset of the GPU.",),
        gain="At the next quiet hour: stop the server, nvidia-smi --gpu-reset (or reboot), start again. Until then the "
        "driver keeps the bad memory out of use.",
        risk="None for now; more errors of the same GPU are a reason to exchange it.",
    )


def judge_nvlink(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """GPUs of one model with different numbers of NVLinks up."""
    links = {gpu.index: gpu.nvlink_active for gpu in window.gpus_in_use if gpu.nvlink_active is not None}
    most = max(links.values(), default=0)
    down = sorted(index for index, count in links.items() if count < most)
    if not down:
        return None
    counts = ", ".join(f"GPU {index} {links[index]}" for index in down)
    return Finding(
        evidence=(f"NVLinks up: {counts}, the others {most}.",),
        gain="No change of the profile. Reset the GPUs (nvidia-smi --gpu-reset) or restart the fabric manager; if the "
        "links stay down, have the machine exchanged.",
        risk="Left alone, tensor and expert parallelism wait for the slowest link.",
    )


GPU_FAULT = Rule(
    id="gpu-fault",
    title="A GPU is failing: drain now",
    level=Level.BAD,
    topic="gpu-fault",
    needs=("gpu-errors",),
    window_s=10.0,
    hold_s=3.0,
    clear_s=30.0,
    judge=judge_fault,
    applies=on_gpus,
    looks_at=(
        "Uncorrected ECC errors since the driver was loaded, a row remap that failed, or in the last hour one of the "
        f"Xids {', '.join(map(str, DRAIN_XIDS))}."
    ),
    proposes="Nothing in the profile: drain, reset the GPU, or leave the machine.",
    gain="No crash in the middle of requests.",
    risk="Left alone: a crash, or wrong answers.",
    doc=addresses.XID,
)

GPU_XID = Rule(
    id="gpu-xid",
    title="The driver reported an Xid",
    level=Level.WARN,
    topic="gpu-fault",
    needs=("gpus",),
    window_s=10.0,
    hold_s=3.0,
    clear_s=30.0,
    judge=judge_xid,
    applies=on_gpus,
    looks_at="In the last hour any other Xid: an error of a program, or one that the GPU survives.",
    proposes="Nothing in the profile: it names GPU and event.",
    gain="Warning before a failure.",
    risk="",
    doc=addresses.XID,
)

GPU_REPAIR_PENDING = Rule(
    id="gpu-repair-pending",
    title="GPU memory repairs wait for a reset",
    level=Level.WARN,
    topic="gpu-repair",
    needs=("gpu-repairs",),
    window_s=10.0,
    hold_s=10.0,
    clear_s=30.0,
    judge=judge_repair,
    applies=on_gpus,
    looks_at="Row remaps pending, or pages that wait to be retired.",
    proposes="Nothing in the profile: reset the GPU at the next stop.",
    gain="The bad memory is replaced for good.",
    risk="",
    doc=addresses.ECC,
)

NVLINK_DOWN = Rule(
    id="nvlink-down",
    title="NVLinks are down",
    level=Level.WARN,
    topic="nvlink",
    needs=("nvlink",),
    window_s=10.0,
    hold_s=10.0,
    clear_s=30.0,
    judge=judge_nvlink,
    applies=lambda setting: on_gpus(setting) and setting.profile.hardware.count > 1,
    looks_at="A GPU in use with fewer NVLinks up than the others.",
    proposes="Nothing in the profile: reset, fabric manager, or another machine.",
    gain="Faster steps in tensor and expert parallelism.",
    risk="",
    doc=addresses.NVML_QUERIES,
)
