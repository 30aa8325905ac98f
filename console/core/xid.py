"""Xid errors: what NVIDIA's driver says of a GPU's faults, out of the kernel log, and what each number means.

Pure: where the kernel log comes from is `console.io.gpu.xid`'s business. Numbers and their meaning:
https://docs.nvidia.com/deploy/xid-errors/ (what an operator should do follows its "Resolution Bucket").
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from console.core.models import Level

__all__ = [
    "DOC",
    "XIDS",
    "BusId",
    "KernelXid",
    "XidMeaning",
    "XidSeen",
    "bus_id",
    "meaning",
    "parse_kernel",
    "xid_text",
]

DOC: Final = "https://docs.nvidia.com/deploy/xid-errors/"
DETAIL_MAX: Final = 200
"""Characters of a kernel line that are kept: some go on with register dumps."""
NUMBER_MAX: Final = 9_999

BusId = tuple[int, int, int]
"""PCI domain, bus and device. The function of a GPU is always 0."""


class KernelXid(NamedTuple):
    """One Xid line of the kernel log."""

    bus: BusId
    number: int
    detail: str
    """What stands after the number, for example `pid=4242, name=VLLM::Worker, GPU has fallen off the bus.`"""


class XidSeen(NamedTuple):
    """One Xid error of one GPU."""

    number: int
    time_s: float
    """Wall-clock time (Unix) at which it was seen."""
    gpu: int | None = None
    """Index of the GPU; `None` if the bus id belongs to none that NVML shows."""
    detail: str = ""


class XidMeaning(NamedTuple):
    """What an Xid number says."""

    words: str
    remedy: str
    level: Level = Level.BAD


APP: Final = "Usually the program's own fault: restart the server; if it comes back with other programs, test the GPU."
RESET: Final = (
    "Drain the server and reset the GPU (nvidia-smi --gpu-reset) or reboot; if it comes back, replace the GPU."
)
WATCH: Final = "The driver has dealt with it; a planned reset of the GPU makes it whole."
REBOOT: Final = "Drain the node and reboot it; if it comes back, check power, riser and seating, or replace the GPU."

XIDS: Final[dict[int, XidMeaning]] = {
    8: XidMeaning("the GPU stopped processing", APP),
    13: XidMeaning("graphics engine exception, mostly an illegal access or instruction of a kernel", APP),
    31: XidMeaning("GPU memory page fault (MMU fault)", APP),
    32: XidMeaning("invalid or corrupted push buffer stream", RESET),
    38: XidMeaning("driver firmware error", RESET),
    43: XidMeaning("the GPU stopped processing one program's work", APP, Level.WARN),
    45: XidMeaning(
        "one program's work was torn down, after another error or because it was killed",
        "Look for the Xid before it; alone it follows a killed process and means nothing.",
        Level.WARN,
    ),
    48: XidMeaning("double bit ECC error: memory cannot be corrected", RESET),
    61: XidMeaning("internal microcontroller breakpoint or warning", RESET),
    62: XidMeaning("internal microcontroller halt", RESET),
    63: XidMeaning("a row of memory was replaced, or a page retired, after ECC errors", WATCH, Level.WARN),
    64: XidMeaning("a row of memory could not be replaced, or a page not retired", RESET),
    69: XidMeaning("graphics engine class error", APP),
    74: XidMeaning(
        "NVLink error",
        "Drain the server and reset the GPUs; if it comes back, check bridge or NVSwitch (dmesg: SXid) and links.",
    ),
    79: XidMeaning("the GPU has fallen off the bus", REBOOT),
    92: XidMeaning("high rate of single bit ECC errors", "Plan a replacement; run a field diagnostic.", Level.WARN),
    94: XidMeaning(
        "contained ECC error: only the program that used the memory is lost",
        "Restart the server; reset the GPU when there is time.",
    ),
    95: XidMeaning("uncontained ECC error: any program on the GPU may have wrong data", RESET),
    109: XidMeaning("context switch timeout", APP),
    119: XidMeaning("the GPU's system processor (GSP) does not answer", RESET),
    120: XidMeaning("error of the GPU's system processor (GSP)", RESET),
    121: XidMeaning("corrected error on the chip-to-chip link (C2C)", WATCH, Level.WARN),
    137: XidMeaning("NVLink fault: a peer's memory was accessed wrongly", APP),
    140: XidMeaning("ECC error that could not be corrected and is not contained", RESET),
    143: XidMeaning("the GPU failed to initialize", REBOOT),
    144: XidMeaning("NVLink error (SAW)", RESET),
    145: XidMeaning("NVLink error (RLW)", RESET),
    146: XidMeaning("NVLink error (TLW)", RESET),
    147: XidMeaning("NVLink error (TREX)", RESET),
    148: XidMeaning("NVLink error (NVLPW_CTRL)", RESET),
    149: XidMeaning("NVLink error (NETIR)", RESET),
    150: XidMeaning("NVLink error (MSE)", RESET),
    154: XidMeaning(
        "the driver changed what it wants done to recover the GPU", "See GPU Recovery Action: nvidia-smi -q."
    ),
}
"""Xid number → its meaning. `Level.BAD` where the server or the GPU is in danger."""

_UNKNOWN: Final = XidMeaning("an error that this program does not know", f"Look it up: {DOC}")

# `NVRM: Xid (PCI:0000:3b:00): 79, pid=…`; older drivers leave out `PCI:`, some write the function `.0`.
_LINE: Final = re.compile(
    r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.\d)?\): (\d{1,5})(?:,\s*(.*))?"
)
_BUS: Final = re.compile(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.\d)?")


def parse_kernel(line: str) -> KernelXid | None:
    """The Xid error of a kernel message, with or without what `dmesg` or journald put before it."""
    found = _LINE.search(line)
    if found is None or int(found[4]) > NUMBER_MAX:
        return None
    bus = (int(found[1], 16), int(found[2], 16), int(found[3], 16))
    return KernelXid(bus, int(found[4]), (found[5] or "").strip()[:DETAIL_MAX])


def bus_id(text: str) -> BusId | None:
    """NVML's `00000000:3B:00.0` as numbers; `None` if it is none."""
    found = _BUS.fullmatch(text.strip())
    return (int(found[1], 16), int(found[2], 16), int(found[3], 16)) if found else None


def meaning(number: int) -> XidMeaning:
    """What the number says; of an unknown one, where to look."""
    return XIDS.get(number, _UNKNOWN)


def xid_text(seen: XidSeen) -> str:
    """One sentence for the operator and what to do."""
    where = "a GPU that NVML does not show" if seen.gpu is None else f"GPU {seen.gpu}"
    known = meaning(seen.number)
    detail = f" [{seen.detail}]" if seen.detail else ""
    return f"{where}: Xid {seen.number}: {known.words}{detail}. {known.remedy}"
