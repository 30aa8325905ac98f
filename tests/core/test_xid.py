from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.models import Level
from console.core.xid import DETAIL_MAX, XIDS, KernelXid, XidSeen, bus_id, meaning, parse_kernel, xid_text

BUS = (0, 0x3B, 0)


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (
            "NVRM: Xid (PCI:0000:3b:00): 79, pid=4242, name=VLLM::Worker, GPU has fallen off the bus.",
            KernelXid(BUS, 79, "pid=4242, name=VLLM::Worker, GPU has fallen off the bus."),
        ),
        ("[  51.02] NVRM: Xid (PCI:0000:3B:00): 13, Graphics", KernelXid(BUS, 13, "Graphics")),
        ("Nov 23 host kernel: NVRM: Xid (0000:3b:00): 31, Ch 0b", KernelXid(BUS, 31, "Ch 0b")),
        ("NVRM: Xid (PCI:0000:3b:00.0): 48", KernelXid(BUS, 48, "")),
        ("NVRM: Xid (PCI:0001:c1:1f): 119, pid=1", KernelXid((1, 0xC1, 0x1F), 119, "pid=1")),
        ("NVRM: Xid (PCI:0000:3b:00): 99999, odd", None),
        ("NVRM: Xid (PCI:3b:00): 79", None),
        ("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal", None),
        ("somebody said Xid 79", None),
        ("", None),
    ],
)
def test_lines_of_the_kernel_log(line: str, seen: KernelXid | None) -> None:
    assert parse_kernel(line) == seen


def test_a_long_detail_is_cut() -> None:
    seen = parse_kernel("NVRM: Xid (PCI:0000:3b:00): 61, " + "0badf00d " * 200)
    assert seen is not None
    assert len(seen.detail) <= DETAIL_MAX


@given(st.text())
def test_any_text_is_a_line_or_none(text: str) -> None:
    seen = parse_kernel(f"NVRM: Xid (PCI:0000:3b:00): 79,{text}")
    assert seen is None or seen.number == 79
    assert parse_kernel(text) is None or "NVRM: Xid" in text


def test_bus_ids_of_nvml() -> None:
    assert bus_id("00000000:3B:00.0") == bus_id("0000:3b:00") == BUS
    assert bus_id("GPU-1") is None


@pytest.mark.parametrize("number", XIDS)
def test_each_number_has_words_and_a_remedy(number: int) -> None:
    known = XIDS[number]
    assert known.words
    assert known.words[0].islower() or known.words.split()[0].isupper() or known.words.startswith(("GPU", "NVLink"))
    assert known.remedy.endswith(".")
    assert known.level in {Level.BAD, Level.WARN}
    assert f"Xid {number}: {known.words}" in xid_text(XidSeen(number, 0.0, 3))


def test_the_well_known_numbers_are_there_and_an_unknown_one_says_where_to_look() -> None:
    assert {13, 31, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95, 119, 120} <= set(XIDS)
    assert {number for number, known in XIDS.items() if known.level is Level.WARN} >= {43, 45}
    assert "docs.nvidia.com" in xid_text(XidSeen(777, 0.0))
    assert meaning(777).level is Level.BAD
    assert xid_text(XidSeen(79, 0.0, 2, "pid=1")).startswith("GPU 2: Xid 79: the GPU has fallen off the bus [pid=1].")
