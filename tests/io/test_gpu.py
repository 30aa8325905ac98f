from __future__ import annotations

import sys
from pathlib import Path

import pytest

from console.core.errors import ExitCode, HardwareError
from console.core.models import Throttle
from console.io.gpu.fake import FakeGpuBackend, idle_gpus
from console.io.gpu.nvml import NvmlBackend
from console.io.gpu.nvml_errors import ERRORS
from tests.fakes.nvml import LOST, NO_PERMISSION, NOT_SUPPORTED, FakeNvml

HAS_DRIVER = Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists()
MIB = 1024**2


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    module = FakeNvml()
    module.processes = {index: [(77, 1000), (78 + index, None)] for index in range(2)}
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def test_nvml_units_and_balance(stub: FakeNvml) -> None:
    backend = NvmlBackend()
    backend.open()
    backend.open()
    first, _ = backend.read_all()
    assert (first.power_w, first.power_limit_w) == (412.6, 700.0)
    assert (first.util_percent, first.temperature_c) == (42.0, 63.0)
    assert (first.memory_used_bytes, first.memory_total_bytes) == (2100 * MIB, 81_559 * MIB)
    assert stub.opened == 1
    backend.close()
    assert stub.opened == 0


def test_what_preflight_asks_of_nvml(stub: FakeNvml) -> None:
    backend = NvmlBackend()
    backend.open()
    assert backend.cuda_driver_version() == (13, 2)
    assert backend.holders() == ((0, 77, 1000), (0, 78, None), (1, 77, 1000), (1, 79, None))
    stub.fail["nvmlDeviceGetMigMode", 0] = NOT_SUPPORTED
    stub.fail["nvmlDeviceGetMigMode", 1] = NO_PERMISSION
    assert backend.mig_modes() == (False, None)
    stub.fail["nvmlSystemGetCudaDriverVersion_v2", None] = NOT_SUPPORTED
    assert backend.cuda_driver_version() is None


def test_names_as_bytes(stub: FakeNvml) -> None:
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
def test_a_call_that_fails_is_one_unknown_figure(stub: FakeNvml, function: str, field: str) -> None:
    stub.fail[function, 1] = NOT_SUPPORTED
    backend = NvmlBackend()
    backend.open()
    healthy, lacking = backend.read_all()
    assert getattr(healthy, field) is not None
    assert getattr(lacking, field) is None
    others = {"util_percent", "power_w", "temperature_c", "memory_used_bytes"} - {field}
    assert all(getattr(lacking, other) is not None for other in others)


def test_an_old_driver_knows_other_names(stub: FakeNvml) -> None:
    stub.old, stub.throttle = True, 0x24
    backend = NvmlBackend()
    backend.open()
    reading = backend.read_all()[0]
    assert reading.memory_used_bytes == 2580 * MIB
    assert reading.throttle == (Throttle.POWER_CAP, Throttle.SW_THERMAL)
    backend.close()


def test_one_lost_gpu_of_two(stub: FakeNvml) -> None:
    backend = NvmlBackend()
    backend.open()
    for function in ("UtilizationRates", "MemoryInfo", "PowerUsage", "EnforcedPowerLimit", "Temperature"):
        stub.fail[f"nvmlDeviceGet{function}", 1] = LOST
    healthy, lost = backend.read_all()
    assert healthy.util_percent == 42.0
    assert (lost.index, lost.uuid, lost.util_percent, lost.memory_total_bytes) == (1, "GPU-1", None, None)


def test_a_gpu_without_a_handle_keeps_its_place(stub: FakeNvml) -> None:
    stub.fail["nvmlDeviceGetHandleByIndex", 0] = LOST
    backend = NvmlBackend()
    backend.open()
    assert [reading.util_percent for reading in backend.read_all()] == [None, 42.0]


def test_all_gpus_lost_is_an_error(stub: FakeNvml) -> None:
    backend = NvmlBackend()
    backend.open()
    for function in ("UtilizationRates", "MemoryInfo", "PowerUsage", "EnforcedPowerLimit", "Temperature"):
        stub.fail[f"nvmlDeviceGet{function}", None] = LOST
    with pytest.raises(HardwareError, match="GPU lost"):
        backend.read_all()


def test_a_driver_without_gpus(stub: FakeNvml) -> None:
    stub.count = 0
    backend = NvmlBackend()
    backend.open()
    assert backend.read_all() == ()


@pytest.mark.parametrize("code", [*ERRORS, 999])
@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount"])
def test_opening_fails_with_a_remedy(stub: FakeNvml, function: str, code: int) -> None:
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
