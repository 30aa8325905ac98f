from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from console.core.gpuhealth import gpu_troubles
from console.core.models import GpuProcess, GpuReading, Level, Throttle
from console.io.gpu.fake import idle_gpus

FINE = replace(idle_gpus(1)[0], util_percent=90.0)

GIB = 2**30
OWN = GpuProcess(pid=7, name="VLLM::Worker_TP0", memory_bytes=60 * GIB, own=True)
OTHER = GpuProcess(pid=8, name="python", memory_bytes=12 * GIB)

CASES: list[tuple[dict[str, Any], Level, str, str]] = [
    ({"util_percent": None, "memory_used_bytes": None}, Level.WARN, "no answer", "tells neither"),
    ({"xid": 79}, Level.BAD, "Xid 79", "fallen off the bus"),
    ({"xid": 45}, Level.INFO, "Xid 45", "torn down"),
    ({"ecc_uncorrected": 1}, Level.BAD, "1 ECC error", "1 uncorrected ECC error since"),
    ({"ecc_uncorrected": 12_000}, Level.BAD, "ECC errors", "12,000 uncorrected"),
    ({"row_remap_failed": True}, Level.BAD, "remap failed", "replace the GPU"),
    ({"row_remap_pending": True}, Level.WARN, "remap pending", "waits for a reset"),
    ({"pages_pending": True}, Level.WARN, "pages pending", "waits|wait for a reset"),
    ({"throttle": (Throttle.SW_THERMAL,), "temperature_c": 85.0}, Level.WARN, "thermal", "85 °C: thermal slowdown"),
    ({"throttle": (Throttle.HW_SLOWDOWN, Throttle.HW_THERMAL)}, Level.WARN, "thermal", "hardware thermal"),
    ({"throttle": (Throttle.HW_SLOWDOWN, Throttle.POWER_BRAKE)}, Level.WARN, "power brake", "brake signal"),
    ({"throttle": (Throttle.HW_SLOWDOWN,)}, Level.WARN, "hw slowdown", "by its hardware"),
    ({"temperature_c": 87.0}, Level.WARN, "hot", "87 °C, slowdown from 89 °C"),
    ({"temperature_c": 87.0, "temperature_limit_c": None}, Level.WARN, "hot", "87 °C"),
    ({"pcie_width": 8}, Level.WARN, "PCIe x8/16", "8 of 16 lanes"),
    ({"pcie_generation": 3}, Level.WARN, "PCIe gen 3/5", "generation 3 of 5"),
    ({"nvlink_active": 17}, Level.WARN, "NVLink 17/18", "17 NVLink links are up, 18 on other GPUs"),
    ({"processes": (OWN, OTHER)}, Level.INFO, "12 GiB other", "12.0 GiB are held by others than the server: python"),
    ({"throttle": (Throttle.POWER_CAP,)}, Level.INFO, "power cap", "of 700 W"),
]


@pytest.mark.parametrize(("changes", "level", "short", "text"), CASES, ids=[case[2] + str(case[0]) for case in CASES])
def test_each_trouble_has_its_words(changes: dict[str, Any], level: Level, short: str, text: str) -> None:
    sick = replace(FINE, **changes)
    (trouble,) = gpu_troubles(sick, (FINE, sick))
    assert (trouble.level, trouble.short) == (level, short)
    assert any(part in trouble.text for part in text.split("|"))
    assert len(trouble.short) <= 13


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ecc_corrected": 900, "rows_remapped": 2},
        {"temperature_c": 86.9},
        {"pcie_generation": 1, "util_percent": 0.0},
        {"throttle": (Throttle.IDLE, Throttle.APPLICATION_CLOCKS, Throttle.SYNC_BOOST)},
        {"nvlink_active": 18, "nvlink_count": 24},
        {"processes": (OTHER,)},
        {"processes": (OWN, GpuProcess(pid=9, memory_bytes=12 * GIB), replace(OTHER, memory_bytes=GIB // 2))},
        {"name": "another", "nvlink_active": 12},
    ],
)
def test_what_is_usual_says_nothing(changes: dict[str, Any]) -> None:
    assert gpu_troubles(replace(FINE, **changes), (FINE,)) == ()


def test_what_is_unknown_says_nothing_more() -> None:
    assert [trouble.short for trouble in gpu_troubles(GpuReading(index=0))] == ["no answer"]


def test_the_gravest_comes_first() -> None:
    sick = replace(FINE, throttle=(Throttle.POWER_CAP,), pcie_width=8, ecc_uncorrected=1, row_remap_failed=True)
    assert [t.short for t in gpu_troubles(sick)] == ["remap failed", "1 ECC error", "PCIe x8/16", "power cap"]
