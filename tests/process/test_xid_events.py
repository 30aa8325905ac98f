"""An Xid error on its way from the GPUs to the run's events, also while the driver hangs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from msgspec.structs import replace

from console.cli.runs import _figures
from console.core.lifecycle import Timing
from console.core.models import EventRecord, GpuReading, Level, RunInfo, ServerStatus, Snapshot, Throttle
from console.core.profile import EngineKind, EngineSection, ModelSection, Profile, ProfileSection
from console.core.xid import XidSeen
from console.headless.narrator import Narrator
from console.io.gpu.fake import FakeGpuBackend, idle_gpus
from console.io.http import HttpClient
from console.io.runs import LaunchSpec, RunDir
from console.supervisor.service import Supervisor

LIMIT_S = 20.0
LOST = XidSeen(79, 1e9, 1, "pid=7, GPU has fallen off the bus.")
TORN_DOWN = XidSeen(45, 1e9, 0, "pid=7")


class Hanging(FakeGpuBackend):
    """Never comes back from its first reading, and knows of an error all the same."""

    def __init__(self) -> None:
        super().__init__([idle_gpus(2)])
        self.driver = threading.Event()
        self.news = (LOST,)

    def read_all(self) -> tuple[GpuReading, ...]:
        self.driver.wait(LIMIT_S)
        return super().read_all()

    def take_xids(self) -> tuple[XidSeen, ...]:
        news, self.news = self.news, ()
        return news


async def told(gpus: FakeGpuBackend, tmp_path: Path, count: int) -> list[EventRecord]:
    """The events of a supervisor that samples these GPUs."""
    run = RunDir(tmp_path)
    profile = Profile(
        profile=ProfileSection(title="fake"), model=ModelSection(id="m"), engine=EngineSection(kind=EngineKind.CPU)
    )
    spec = LaunchSpec(
        argv=("true",), env={}, cwd=str(tmp_path), url="http://127.0.0.1:9", timing=Timing(), profile=profile, model="m"
    )
    http = HttpClient()
    supervisor = Supervisor(run, spec, RunInfo(id="r", profile_name="p"), gpus, http)
    await supervisor._sampler.start()
    try:
        async with asyncio.timeout(LIMIT_S):
            while len(found := [event for event in run.events() if event.kind == "xid"]) < count:
                supervisor._tell()
                await asyncio.sleep(0.02)
    finally:
        await supervisor._sampler.stop()
        await http.close()
    return found


async def test_an_error_becomes_an_event(tmp_path: Path) -> None:
    gpus = FakeGpuBackend([idle_gpus(2)], xids=[(LOST, TORN_DOWN)])
    lost, torn = await told(gpus, tmp_path, 2)
    assert (lost.level, lost.data) == (Level.BAD, {"gpu": 1, "xid": 79})
    assert lost.text.startswith("GPU 1: Xid 79: the GPU has fallen off the bus [pid=7")
    assert "reboot" in lost.text
    assert (torn.level, torn.data["xid"]) == (Level.WARN, 45)


async def test_a_driver_that_hangs_does_not_hold_it_back(tmp_path: Path) -> None:
    gpus = Hanging()
    try:
        (event,) = await told(gpus, tmp_path, 1)
    finally:
        gpus.driver.set()
    assert event.data == {"gpu": 1, "xid": 79}


def test_status_says_what_is_wrong_with_a_gpu_and_a_power_cap_quietly() -> None:
    well, sick, capped = idle_gpus(3)
    gpus = (
        well,
        replace(sick, ecc_uncorrected=1, nvlink_active=17),
        replace(capped, throttle=(Throttle.POWER_CAP,)),
    )
    lines = _figures(Snapshot(seq=1, time_s=0.0, status=ServerStatus(), gpus=gpus), RunInfo(id="r", profile_name="p"))
    assert lines == [
        f"GPU 0  0%  {well.name}",
        f"GPU 1  0%  {well.name}",
        "  ▲ GPU 1: 1 uncorrected ECC error since the driver was loaded",
        "  ▲ GPU 1: 17 NVLink links are up, 18 on other GPUs",
        f"GPU 2  0%  {well.name}  power cap",
    ]


def test_the_narrator_says_it() -> None:
    said: list[str] = []
    narrator = Narrator(RunInfo(id="r", profile_name="p"), "log", say=said.append, emit=None, interval_s=60.0)
    narrator.event(EventRecord(time_s=1.0, kind="xid", text="GPU 1: Xid 79", level=Level.BAD))
    assert any("Xid 79" in line for line in said)
