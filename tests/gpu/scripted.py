"""Several H200 on paper, to rehearse the steps of a real machine: NVML, `nvidia-smi` and the fake engine.

Separate from the rehearsal on the CPU, which has a real engine and no GPU: here the shipped profiles themselves start.
No figure of such a run means anything.
"""

from __future__ import annotations

import os
import sys

from tests.gpu.world import ROOT, World

__all__ = ["ENGINE", "prepare"]

ENGINE = ROOT / "tests" / "fakes" / "fake_vllm.py"
VERSION = "0.26.0"
NVML = """
import sys, time
if "console" in sys.orig_argv or "console.supervisor" in sys.orig_argv:
    from collections import deque
    from types import SimpleNamespace
    from tests.fakes.nvml import MIB, FakeNvml

    class Scripted(FakeNvml):
        def _nvmlDeviceGetName(self, index):
            return "NVIDIA H200"

        def _nvmlDeviceGetMemoryInfo(self, index, version=None):
            return SimpleNamespace(total=143_771 * MIB, used=500 * MIB, free=143_271 * MIB)

        def _nvmlDeviceGetUtilizationRates(self, index):
            return SimpleNamespace(gpu=90 - index, memory=40)

        def _nvmlDeviceGetFieldValues(self, index, wanted):
            for name in ("NVLINK_THROUGHPUT_DATA_RX", "NVLINK_THROUGHPUT_DATA_TX"):
                self.fields[name] = (self.fields[name][0], int(time.time() * 1e6))
            return super()._nvmlDeviceGetFieldValues(index, wanted)

    nvml = Scripted({gpus})
    nvml.calls = deque(maxlen=1)
    sys.modules["pynvml"] = nvml
"""
"""As `sitecustomize`: the console's processes, and no others, see the GPUs."""
SMI = """#!{python}
import sys
known = {{"name": "NVIDIA H200", "memory.total": "143771", "memory.used": "500"}}
asked = [text.partition("=")[2] for text in sys.argv if text.startswith("--query-gpu=")]
for index in range({gpus} if asked else 0):
    print(", ".join(known.get(field, str(index) if field == "index" else "[N/A]") for field in asked[0].split(",")))
"""


def prepare(world: World, gpus: int) -> None:
    """Let this process and those of `world` find so many."""
    folder = world.home / "scripted"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(NVML.replace("{gpus}", str(gpus)), encoding="utf-8")
    command = folder / "nvidia-smi"
    command.write_text(SMI.format(python=sys.executable, gpus=gpus), encoding="utf-8")
    command.chmod(0o755)
    search = os.pathsep.join((str(folder), os.environ.get("PATH", os.defpath)))
    os.environ["PATH"] = search
    world.env |= {
        "PATH": search,
        "PYTHONPATH": os.pathsep.join((str(folder), world.env["PYTHONPATH"])),
        "FAKE_VLLM_VERSION": VERSION,
        "FAKE_VLLM_WORKERS": str(gpus),
        "FAKE_VLLM_LOAD": "32,4,0.4,1900",
    }
    world.memory_before_mib = 500.0
