"""What `nvidia-smi` says, for comparison with what the console says. Without it every reading is empty."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import statistics
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "Compared",
    "Recorder",
    "by_pid",
    "compare_series",
    "memory_used_mib",
    "names_by_pid",
    "number",
    "parse_q",
    "query",
    "said",
]

TIMEOUT_S = 30.0
PERIOD_MS = 500
FIELDS = ("timestamp", "index", "utilization.gpu", "memory.used", "power.draw", "temperature.gpu", "clocks.sm",
          "utilization.memory", "temperature.memory")  # fmt: skip
NEAREST_S = 0.6
"""Readings of both programs that lie further apart are not compared."""


def said(*arguments: str) -> str:
    """Output of `nvidia-smi ARGUMENTS`; empty where it is missing or fails."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        return done.stdout if done.returncode == 0 else ""
    return ""


def query(*fields: str) -> list[dict[str, str]]:
    """`--query-gpu` of these fields: a dict per GPU."""
    text = said(f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits")
    return [dict(zip(fields, row, strict=False)) for row in csv.reader(text.splitlines(), skipinitialspace=True)]


def number(text: str | None) -> float | None:
    """The number at the start of `81559 MiB`; `None` for `N/A`."""
    with contextlib.suppress(ValueError, IndexError, AttributeError):
        return float((text or "").split()[0])
    return None


def memory_used_mib() -> list[float]:
    """Memory in use on each GPU."""
    return [number(each["memory.used"]) or 0.0 for each in query("memory.used")]


def by_pid() -> dict[int, float]:
    """MiB that each process holds, where the driver tells."""
    rows = csv.reader(
        said("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits").splitlines(),
        skipinitialspace=True,
    )
    return {int(row[0]): number(row[1]) or 0.0 for row in rows if len(row) == 2 and row[0].isdigit()}


def names_by_pid() -> dict[int, str]:
    """Name of each process that computes, without its directory."""
    rows = csv.reader(
        said("--query-compute-apps=pid,process_name", "--format=csv,noheader").splitlines(), skipinitialspace=True
    )
    return {int(row[0]): Path(row[1]).name for row in rows if len(row) == 2 and row[0].isdigit()}


def parse_q(text: str) -> list[dict[str, str]]:
    """`nvidia-smi -q` as a dict per GPU, keys as `FB Memory Usage/Total`; what stands before the GPUs is in each."""
    common: dict[str, str] = {}
    gpus: list[dict[str, str]] = []
    sections: list[tuple[int, str]] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("="):
            continue
        depth = len(line) - len(line.lstrip())
        while sections and sections[-1][0] >= depth:
            sections.pop()
        key, colon, value = line.strip().partition(" : ")
        if depth == 0 and key.startswith("GPU ") and not colon:
            gpus.append(dict(common))
            sections = []
        elif not colon:
            sections.append((depth, key))
        else:
            path = "/".join([*(name for _, name in sections), key.strip()])
            (gpus[-1] if gpus else common)[path] = value.strip()
    return gpus


class Recorder:
    """`nvidia-smi` in a loop, and `nvidia-smi dmon`, into two files."""

    def __init__(self, folder: Path) -> None:
        self.query_path = folder / "nvidia-smi.csv"
        self.dmon_path = folder / "nvidia-smi-dmon.txt"
        self._children: list[subprocess.Popen[bytes]] = []
        if shutil.which("nvidia-smi"):
            loop = [f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", f"--loop-ms={PERIOD_MS}"]
            self._start(self.query_path, *loop)
            self._start(self.dmon_path, "dmon", "-s", "pucm", "-d", "1", "-o", "DT")

    def _start(self, path: Path, *arguments: str) -> None:
        with path.open("wb") as file:
            self._children.append(
                subprocess.Popen(
                    ["nvidia-smi", *arguments], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                    start_new_session=True,
                )
            )  # fmt: skip

    def stop(self) -> None:
        """End both."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(5)
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(5)
        self._children = []

    def rows(self) -> list[dict[str, float]]:
        """Readings of GPU 0 with `time_s`."""
        if not self.query_path.exists():
            return []
        found = []
        with self.query_path.open(encoding="utf-8", errors="replace") as file:
            for line in csv.reader(file, skipinitialspace=True):
                with contextlib.suppress(ValueError, IndexError):
                    if int(line[1]) == 0:
                        figures = {name: number(text) for name, text in zip(FIELDS[2:], line[2:], strict=False)}
                        time_s = datetime.strptime(line[0], "%Y/%m/%d %H:%M:%S.%f").timestamp()
                        found.append({"time_s": time_s, **{k: v for k, v in figures.items() if v is not None}})
        return found


class Compared(NamedTuple):
    """One figure as two programs saw it over the same time."""

    figure: str
    pairs: int
    console_mean: float
    smi_mean: float
    difference_mean: float
    difference_max: float


SERIES = {
    "utilization, %": ("util_percent", "utilization.gpu", 1.0),
    "memory used, MiB": ("memory_used_bytes", "memory.used", 1 / 2**20),
    "power, W": ("power_w", "power.draw", 1.0),
    "temperature, °C": ("temperature_c", "temperature.gpu", 1.0),
    "SM clock, MHz": ("sm_clock_mhz", "clocks.sm", 1.0),
    "memory utilization, %": ("memory_util_percent", "utilization.memory", 1.0),
    "memory temperature, °C": ("memory_temperature_c", "temperature.memory", 1.0),
}
"""Title → field of the console's sample, field of nvidia-smi, factor from the one to the other."""


def compare_series(samples: list[dict[str, Any]], rows: list[dict[str, float]]) -> list[Compared]:
    """Each sample of GPU 0 beside the reading of `nvidia-smi` nearest in time."""
    found = []
    for title, (ours, theirs, factor) in SERIES.items():
        pairs = []
        for sample in samples:
            value = (sample.get("gpus") or [{}])[0].get(ours)
            near = min(rows, key=lambda row: abs(row["time_s"] - sample["time_s"]), default=None)
            if value is None or near is None or theirs not in near:
                continue
            if abs(near["time_s"] - sample["time_s"]) <= NEAREST_S:
                pairs.append((value * factor, near[theirs]))
        if pairs:
            apart = [abs(a - b) for a, b in pairs]
            means = [statistics.fmean(side) for side in zip(*pairs, strict=True)]
            figures = (*means, statistics.fmean(apart), max(apart))
            found.append(Compared(title, len(pairs), *(round(figure, 2) for figure in figures)))
    return found


def wait_free(baseline_mib: float, timeout_s: float, slack_mib: float = 64.0) -> tuple[float | None, float]:
    """Wait until no GPU holds more than before. Gives the seconds that took (`None`: it did not) and the MiB held."""
    began = time.monotonic()
    while True:
        used = max(memory_used_mib(), default=0.0)
        if used <= baseline_mib + slack_mib:
            return round(time.monotonic() - began, 1), used
        if time.monotonic() - began > timeout_s:
            return None, used
        time.sleep(0.5)
