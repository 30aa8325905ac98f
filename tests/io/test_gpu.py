from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from console.core.errors import ExitCode, HardwareError
from console.io.gpu.base import GpuBackend
from console.io.gpu.fake import FakeGpuBackend, idle_gpus
from console.io.gpu.nvml import ERRORS, NvmlBackend

NO_PERMISSION, NOT_SUPPORTED, LOST = 4, 3, 15
HAS_DRIVER = Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists()


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class StubNvml(ModuleType):
    """`pynvml` with `count` healthy H100; `fail[(function, index)]` is the error code of one call."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    nvmlMemory_v2 = 0x02000028

    def __init__(self, count: int = 2) -> None:
        super().__init__("pynvml")
        self.count = count
        self.fail: dict[tuple[str, int | None], int] = {}
        self.as_bytes = False
        self.opened = 0

    def __getattr__(self, function: str) -> Callable[..., Any]:
        answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": self.count_open,
            "nvmlShutdown": self.count_close,
            "nvmlDeviceGetCount": lambda: self.count,
            "nvmlSystemGetDriverVersion": lambda: self.text("580.159.04"),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda index: self.text("NVIDIA H100 80GB HBM3"),
            "nvmlDeviceGetUUID": lambda index: self.text(f"GPU-{index}"),
            "nvmlDeviceGetUtilizationRates": lambda index: SimpleNamespace(gpu=42, memory=7),
            "nvmlDeviceGetMemoryInfo": self.memory,
            "nvmlDeviceGetPowerUsage": lambda index: 412_600,
            "nvmlDeviceGetEnforcedPowerLimit": lambda index: 700_000,
            "nvmlDeviceGetTemperature": lambda index, sensor: 63,
            "nvmlDeviceGetCudaComputeCapability": lambda index: [9, 0],
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 13_020,
            "nvmlDeviceGetMigMode": lambda index: [0, 1],
            "nvmlDeviceGetComputeRunningProcesses": lambda index: [
                SimpleNamespace(pid=77, usedGpuMemory=1000),
                SimpleNamespace(pid=78 + index, usedGpuMemory=None),
            ],
        }
        if function not in answers:
            raise AttributeError(function)

        def call(*args: Any) -> Any:
            for key in ((function, args[0] if args else None), (function, None)):
                if key in self.fail:
                    raise NVMLError(self.fail[key])
            return answers[function](*args)

        return call

    def count_open(self) -> None:
        self.opened += 1

    def count_close(self) -> None:
        self.opened -= 1

    def text(self, value: str) -> str | bytes:
        return value.encode() if self.as_bytes else value

    def memory(self, index: int, version: int | None = None) -> Any:
        return SimpleNamespace(total=81_559, used=100 if version else 580)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubNvml:
    module = StubNvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


@pytest.fixture(params=["fake", "nvml"])
def backend(request: pytest.FixtureRequest, stub: StubNvml) -> GpuBackend:
    return NvmlBackend() if request.param == "nvml" else FakeGpuBackend([idle_gpus(2)], used_by_pid={77: 2000})


class TestContract:
    """What every source of GPU figures does."""

    def test_it_must_be_open(self, backend: GpuBackend) -> None:
        calls: list[Callable[[], object]] = [
            backend.read_all,
            backend.driver_version,
            backend.compute_capabilities,
            backend.memory_used_by_pid,
            backend.cuda_driver_version,
            backend.mig_modes,
            backend.holders,
        ]
        for call in calls:
            with pytest.raises(HardwareError, match="not open"):
                call()
        backend.open()
        backend.close()
        backend.close()
        for call in calls:
            with pytest.raises(HardwareError, match="not open"):
                call()

    def test_readings(self, backend: GpuBackend) -> None:
        backend.open()
        for _ in range(2):
            readings = backend.read_all()
            assert [reading.index for reading in readings] == [0, 1]
            assert len({reading.uuid for reading in readings}) == 2
            for reading in readings:
                assert reading.name == "NVIDIA H100 80GB HBM3"
                assert reading.util_percent is not None
                assert 0 <= reading.util_percent <= 100
                assert reading.memory_total_bytes
        assert backend.driver_version() == "580.159.04"
        assert backend.compute_capabilities() == ((9, 0), (9, 0))
        assert backend.memory_used_by_pid() == {77: 2000}
        major, minor = backend.cuda_driver_version() or (0, 0)
        assert (major, minor >= 0) == (13, True)
        assert backend.mig_modes() == (False, False)
        assert 77 in {pid for _, pid, _ in backend.holders()}
        assert {index for index, _, _ in backend.holders()} <= {0, 1}
        backend.close()

    def test_opening_again(self, backend: GpuBackend) -> None:
        backend.open()
        backend.open()
        backend.close()
        backend.open()
        assert len(backend.read_all()) == 2
        assert backend.name
        backend.close()


def test_nvml_units_and_balance(stub: StubNvml) -> None:
    backend = NvmlBackend()
    backend.open()
    backend.open()
    first, _ = backend.read_all()
    assert (first.power_w, first.power_limit_w) == (412.6, 700.0)
    assert (first.util_percent, first.temperature_c) == (42.0, 63.0)
    assert (first.memory_used_bytes, first.memory_total_bytes) == (100, 81_559)
    assert stub.opened == 1
    backend.close()
    assert stub.opened == 0


def test_what_preflight_asks_of_nvml(stub: StubNvml) -> None:
    backend = NvmlBackend()
    backend.open()
    assert backend.cuda_driver_version() == (13, 2)
    assert backend.holders() == ((0, 77, 1000), (0, 78, None), (1, 77, 1000), (1, 79, None))
    stub.fail["nvmlDeviceGetMigMode", 0] = NOT_SUPPORTED
    stub.fail["nvmlDeviceGetMigMode", 1] = NO_PERMISSION
    assert backend.mig_modes() == (False, None)
    stub.fail["nvmlSystemGetCudaDriverVersion_v2", None] = NOT_SUPPORTED
    assert backend.cuda_driver_version() is None


def test_names_as_bytes(stub: StubNvml) -> None:
    stub.as_bytes = True
    backend = NvmlBackend()
    backend.open()
    assert backend.read_all()[0].name == "NVIDIA H100 80GB HBM3"
    assert backend.driver_version() == "580.159.04"


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetUtilizationRates", "util_percent"),
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetEnforcedPowerLimit", "power_limit_w"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetMemoryInfo", "memory_used_bytes"),
        ("nvmlDeviceGetName", "name"),
        ("nvmlDeviceGetUUID", "uuid"),
    ],
)
def test_a_call_that_fails_is_one_unknown_figure(stub: StubNvml, function: str, field: str) -> None:
    stub.fail[function, 1] = NOT_SUPPORTED
    backend = NvmlBackend()
    backend.open()
    healthy, lacking = backend.read_all()
    assert getattr(healthy, field) is not None
    assert getattr(lacking, field) is None
    others = {"util_percent", "power_w", "temperature_c", "memory_used_bytes"} - {field}
    assert all(getattr(lacking, other) is not None for other in others)


def test_memory_of_an_old_driver(stub: StubNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def old(index: int, version: int | None = None) -> Any:
        if version is not None:
            raise NVMLError(13)
        return SimpleNamespace(total=81_559, used=580)

    monkeypatch.setattr(stub, "memory", old)
    backend = NvmlBackend()
    backend.open()
    assert backend.read_all()[0].memory_used_bytes == 580


def test_one_lost_gpu_of_two(stub: StubNvml) -> None:
    backend = NvmlBackend()
    backend.open()
    for function in ("UtilizationRates", "MemoryInfo", "PowerUsage", "EnforcedPowerLimit", "Temperature"):
        stub.fail[f"nvmlDeviceGet{function}", 1] = LOST
    healthy, lost = backend.read_all()
    assert healthy.util_percent == 42.0
    assert (lost.index, lost.uuid, lost.util_percent, lost.memory_total_bytes) == (1, "GPU-1", None, None)


def test_a_gpu_without_a_handle_keeps_its_place(stub: StubNvml) -> None:
    stub.fail["nvmlDeviceGetHandleByIndex", 0] = LOST
    backend = NvmlBackend()
    backend.open()
    assert [reading.util_percent for reading in backend.read_all()] == [None, 42.0]


def test_all_gpus_lost_is_an_error(stub: StubNvml) -> None:
    backend = NvmlBackend()
    backend.open()
    for function in ("UtilizationRates", "MemoryInfo", "PowerUsage", "EnforcedPowerLimit", "Temperature"):
        stub.fail[f"nvmlDeviceGet{function}", None] = LOST
    with pytest.raises(HardwareError, match="GPU lost"):
        backend.read_all()


def test_a_driver_without_gpus(stub: StubNvml) -> None:
    stub.count = 0
    backend = NvmlBackend()
    backend.open()
    assert backend.read_all() == ()


@pytest.mark.parametrize("code", [*ERRORS, 999])
@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount"])
def test_opening_fails_with_a_remedy(stub: StubNvml, function: str, code: int) -> None:
    stub.fail[function, None] = code
    backend = NvmlBackend()
    with pytest.raises(HardwareError) as caught:
        backend.open()
    error = caught.value
    assert error.title
    assert error.message
    assert error.fix
    assert error.exit_code is ExitCode.ENVIRONMENT
    assert stub.opened == 0
    with pytest.raises(HardwareError, match="not open"):
        backend.read_all()


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(HardwareError, match="nvidia-ml-py"):
        NvmlBackend().open()


@pytest.mark.skipif(HAS_DRIVER, reason="this machine has an NVIDIA driver")
def test_the_real_library_on_a_machine_without_a_driver() -> None:
    with pytest.raises(HardwareError) as caught:
        NvmlBackend().open()
    assert caught.value.title == "No NVIDIA driver found"
    assert "cpu-smoke" in caught.value.fix


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_DRIVER, reason="this machine has no NVIDIA driver")
def test_the_real_library_on_a_machine_with_gpus() -> None:
    backend = NvmlBackend()
    backend.open()
    readings = backend.read_all()
    assert readings
    assert all(reading.name and reading.memory_total_bytes for reading in readings)
    assert len(backend.compute_capabilities()) == len(readings)
    assert backend.driver_version()
    backend.close()


def test_a_script_of_sixteen_gpus_with_errors() -> None:
    gone = HardwareError("GPU lost")
    backend = FakeGpuBackend(
        [idle_gpus(16), gone, idle_gpus(15)], open_errors=[HardwareError("No NVIDIA driver found")]
    )
    with pytest.raises(HardwareError, match="No NVIDIA"):
        backend.open()
    backend.open()
    assert len(backend.read_all()) == 16
    with pytest.raises(HardwareError, match="GPU lost"):
        backend.read_all()
    assert len(backend.read_all()) == 15
    assert len(backend.read_all()) == 15


def test_a_script_needs_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        FakeGpuBackend([])
