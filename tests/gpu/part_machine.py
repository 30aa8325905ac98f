"""Part 1: what the console says of the machine, field by field beside `nvidia-smi`."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from console.core.errors import HardwareError
from console.io.gpu.nvml import NvmlBackend
from console.io.gpu.xid import KMSG
from tests.gpu import part_profile, smi
from tests.gpu.fields import compare_fields, links_up, same
from tests.gpu.report import Report, Skip
from tests.gpu.watchcost import watch_cost
from tests.gpu.world import World

TITLE = "the machine: doctor and NVML beside nvidia-smi"

MIB = 2**20
QUERIED = (
    "name", "uuid", "driver_version", "compute_cap", "memory.total", "memory.used", "power.draw", "power.limit",
    "enforced.power.limit", "temperature.gpu", "utilization.gpu", "clocks.sm", "clocks.mem", "ecc.mode.current",
    "mig.mode.current",
)  # fmt: skip
APART_S = 1.2
"""Between the two readings out of which rates are made."""
CORE_PERCENT_MAX = 3.0
"""Of a core, for 16 GPUs at 1 Hz."""


def run(world: World, report: Report) -> None:
    """All of it takes seconds."""
    with report.step("doctor") as row:
        plain, as_json = world.console("doctor", timeout_s=120.0), world.console("doctor", "--json", timeout_s=120.0)
        if plain.code == 2 and "doctor" in plain.err and not plain.out:
            raise Skip("this console has no `doctor`")
        (world.folder / "doctor.txt").write_text(plain.out + plain.err, encoding="utf-8")
        (world.folder / "doctor.json").write_text(as_json.out, encoding="utf-8")
        row["exit"], row["seconds_plain"] = plain.code, round(plain.seconds, 1)
        row["document"] = as_json.document()
        row["says"] = f"exit {plain.code}: " + " / ".join(line.strip() for line in plain.out.splitlines())[:500]
    with report.step("doctor of a profile") as row:
        name = part_profile.write(world)
        done = world.console("doctor", name, timeout_s=120.0)
        if done.code == 2:
            raise Skip("this console has no `doctor`")
        (world.folder / "doctor-profile.txt").write_text(done.out + done.err, encoding="utf-8")
        row["says"] = f"exit {done.code}: " + " / ".join(line.strip() for line in done.out.splitlines())[:500]
        if done.code:
            row["wrong"] = "it would not launch a profile made for this machine"
    with report.step("profiles that suit") as row:
        done = world.console("profiles", "list", "--json")
        (world.folder / "profiles.json").write_text(done.out, encoding="utf-8")
        plain = world.console("profiles", "list")
        row["says"] = f"exit {done.code}: " + " / ".join(plain.out.splitlines()[:4])[:400]
    with report.step("raw nvidia-smi") as row:
        for name, arguments in {"nvidia-smi-q": ("-q",), "nvidia-smi": (), "nvidia-smi-topo": ("topo", "-m")}.items():
            (world.folder / f"{name}.txt").write_text(smi.said(*arguments), encoding="utf-8")
        row["unanswered"] = [name for name in QUERIED if not smi.query(name)]
        row["says"] = f"fields not answered: {', '.join(row['unanswered']) or 'none'}"
    with report.step("NVML beside nvidia-smi") as row:
        row["table"] = table = compare()
        apart = [each["figure"] for each in table if each["same"] is False]
        lines = ["| figure | console | nvidia-smi | same |", "|---|---|---|---|"]
        lines += [f"| {each['figure']} | {each['console']} | {each['smi']} | {each['same']} |" for each in table]
        (world.folder / "nvml.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        row["says"] = f"{sum(each['same'] is True for each in table)} of {len(table)} the same"
        if apart:
            row["wrong"] = f"differ: {', '.join(apart)}"
    with report.step("what NVML does not answer") as row:
        row["unknown"] = unanswered()
        row["says"] = f"{len(row['unknown'])} fields: {', '.join(row['unknown']) or 'none'}"
    with report.step("Xid: who tells") as row:
        row["kernel_log"], row["events"] = os.access(KMSG, os.R_OK), xid_events()
        row["says"] = f"kernel log readable: {row['kernel_log']}; NVML's events supported: {row['events']}"
    with report.step("cost of watching") as row:
        row["cost"] = cost = watch_cost()
        slowest = "; ".join(f"{name} {call['busy_us']} µs" for name, call in list(cost["calls"].items())[:4])
        row["says"] = (
            f"{cost['gpus']} GPU at 1 Hz: {cost['percent_of_a_core']} % of a core, 16 would take "
            f"{cost['percent_for_16']} %; longest reading {cost['longest_reading_ms']} ms; most: {slowest}"
        )
        if cost["percent_for_16"] > CORE_PERCENT_MAX:
            row["wrong"] = f"more than {CORE_PERCENT_MAX:.0f} % of a core for 16 GPUs"
    with report.step("versions") as row:
        row["console"] = world.console("--version").out.strip()
        engine = world.run([world.vllm, "--version"], 120.0)
        row["vllm"], row["vllm_seconds"] = engine.out.strip()[-40:], round(engine.seconds, 1)
        row["says"] = f"{row['console']}, vLLM {row['vllm']} (told in {row['vllm_seconds']} s)"


def compare() -> list[dict[str, Any]]:
    """Each figure of GPU 0 as the console reads it, and as `nvidia-smi` prints it."""
    nvml = NvmlBackend()
    try:
        nvml.open()
        nvml.read_all()
        time.sleep(APART_S)
        gpu = nvml.read_all()[0]
        driver, capability, by_pid = nvml.driver_version(), nvml.compute_capabilities()[0], nvml.memory_used_by_pid()
    except (HardwareError, IndexError) as error:
        raise Skip(f"no GPU: {error}") from error
    finally:
        nvml.close()
    theirs = {name: (smi.query(name) or [{}])[0].get(name) for name in QUERIED}
    full = (smi.parse_q(smi.said("-q")) or [{}])[0]
    rows: list[tuple[str, Any, Any]] = [
        ("name", gpu.name, theirs["name"]),
        ("uuid", gpu.uuid, theirs["uuid"]),
        ("driver", driver, theirs["driver_version"]),
        ("driver, -q", driver, full.get("Driver Version")),
        ("compute capability", ".".join(map(str, capability)) if capability else None, theirs["compute_cap"]),
        ("memory total, MiB", scaled(gpu.memory_total_bytes), smi.number(theirs["memory.total"])),
        ("memory total, -q, MiB", scaled(gpu.memory_total_bytes), smi.number(full.get("FB Memory Usage/Total"))),
        ("memory used, MiB", scaled(gpu.memory_used_bytes), smi.number(theirs["memory.used"])),
        ("power draw, W", gpu.power_w, smi.number(theirs["power.draw"])),
        ("power limit enforced, W", gpu.power_limit_w, smi.number(theirs["enforced.power.limit"])),
        ("power limit set, W", gpu.power_limit_w, smi.number(theirs["power.limit"])),
        ("temperature, °C", gpu.temperature_c, smi.number(theirs["temperature.gpu"])),
        ("utilization, %", gpu.util_percent, smi.number(theirs["utilization.gpu"])),
        ("processes, pid: MiB", {pid: scaled(used) for pid, used in by_pid.items()}, smi.by_pid()),
        *compare_fields(gpu, full),
        ("NVLink links up", gpu.nvlink_active, links_up(smi.said("nvlink", "--status"))),
        (
            "process names, pid: name",
            {each.pid: each.name for each in gpu.processes or () if each.name},
            {
                pid: name
                for pid, name in smi.names_by_pid().items()
                if pid in {each.pid for each in gpu.processes or ()}
            },
        ),
        *((f"{name} (read by NVML alone)", value, theirs[name]) for name, value in raw().items()),
    ]
    return [{"figure": each[0], "console": each[1], "smi": each[2], "same": same(*each)} for each in rows]


def unanswered() -> list[str]:
    """Fields of the console's reading of GPU 0 that stay unknown, Xid left out."""
    nvml = NvmlBackend()
    try:
        nvml.open()
        nvml.read_all()
        time.sleep(APART_S)
        gpu = nvml.read_all()[0]
    except (HardwareError, IndexError) as error:
        raise Skip(f"no GPU: {error}") from error
    finally:
        nvml.close()
    names = (field.name for field in msgspec.structs.fields(gpu))
    return [name for name in names if getattr(gpu, name) is None and not name.startswith("xid")]


def xid_events() -> bool:
    """Whether NVML tells of Xid errors of GPU 0."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Skip(f"no GPU: {error}") from error
    try:
        kinds = pynvml.nvmlDeviceGetSupportedEventTypes(pynvml.nvmlDeviceGetHandleByIndex(0))
        return bool(kinds & pynvml.nvmlEventTypeXidCriticalError)
    except pynvml.NVMLError:
        return False
    finally:
        pynvml.nvmlShutdown()


def scaled(size: int | None) -> float | None:
    """Bytes as MiB."""
    return None if size is None else size // MIB


def raw() -> dict[str, Any]:
    """What NVML tells beyond the console's readings, in the words of `nvidia-smi`."""
    import pynvml

    words = {0: "Disabled", 1: "Enabled"}
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        asked = {
            "ecc.mode.current": lambda: words.get(pynvml.nvmlDeviceGetEccMode(handle)[0]),
        }
        found: dict[str, Any] = {}
        for name, ask in asked.items():
            try:
                found[name] = ask()
            except pynvml.NVMLError as error:
                found[name] = str(error)
        return found
    finally:
        pynvml.nvmlShutdown()
