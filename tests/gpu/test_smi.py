"""Reading `nvidia-smi`, and putting its figures beside the console's, without a GPU."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from console.core.models import GpuReading, Throttle
from console.io.gpu.fake import idle_gpus
from tests.fakes.nvml import FakeNvml
from tests.gpu import models, part_machine, smi
from tests.gpu.fields import ROWS, Row, compare_fields, links_up, same
from tests.gpu.predict import logged
from tests.gpu.report import Report, Skip, summary
from tests.gpu.watchcost import watch_cost

Q = """
==============NVSMI LOG==============

Timestamp                                              : Mon Nov 23 12:00:00 2026
Driver Version                                         : 580.159.04
CUDA Version                                           : 13.0

Attached GPUs                                          : 1
GPU 00000000:00:05.0
    Product Name                                       : NVIDIA H100 80GB HBM3
    MIG Mode
        Current                                        : Disabled
        Pending                                        : Disabled
    FB Memory Usage
        Total                                          : 81559 MiB
        Used                                           : 0 MiB
    Temperature
        GPU Current Temp                               : 31 C
    Processes                                          : None
"""


def test_q_is_read_by_section() -> None:
    (gpu,) = smi.parse_q(Q)
    assert gpu["Driver Version"] == "580.159.04"
    assert gpu["MIG Mode/Current"] == "Disabled"
    assert gpu["FB Memory Usage/Total"] == "81559 MiB"
    assert gpu["Temperature/GPU Current Temp"] == "31 C"
    assert gpu["Processes"] == "None"
    assert smi.parse_q("") == []


@pytest.mark.parametrize(("text", "value"), [("81559 MiB", 81559.0), ("31", 31.0), ("[N/A]", None), ("", None)])
def test_a_number_with_its_unit(text: str, value: float | None) -> None:
    assert smi.number(text) == value


def test_series_are_compared_at_the_same_time(tmp_path: Path) -> None:
    recorder = smi.Recorder(tmp_path)
    recorder.stop()
    recorder.query_path.write_text(
        "2026/11/23 12:00:00.100, 0, 90, 70000, 600.00, 50, 1980\n"
        "2026/11/23 12:00:01.100, 0, 94, 70000, [N/A], 51, 1980\n2026/11/23 12:0"
    )
    rows = recorder.rows()
    assert [row.get("power.draw") for row in rows] == [600.0, None]
    second = datetime(2026, 11, 23, 12, 0, 0).timestamp()
    gpu = {"util_percent": 92.0, "memory_used_bytes": 70_000 * 2**20, "power_w": 610.0, "temperature_c": 50.0}
    samples = [{"time_s": second + late, "gpus": [gpu]} for late in (0.0, 1.0, 60.0)]
    found = {each.figure: each for each in smi.compare_series(samples, rows)}
    assert found["utilization, %"] == smi.Compared("utilization, %", 2, 92.0, 92.0, 2.0, 2.0)
    assert found["memory used, MiB"].difference_max == 0.0
    assert (found["power, W"].pairs, found["power, W"].difference_mean) == (1, 10.0)


def test_figures_are_the_same_within_what_moves() -> None:
    assert same("memory total, MiB", 81559.0, 81559.0) is True
    assert same("power draw, W", 110.0, 120.0) is True
    assert same("power limit set, W", 700.0, 650.0) is False
    assert same("driver", "580.159.04", "580.159.05") is False
    assert same("utilization, %", None, 3.0) is None


RESTING = replace(
    idle_gpus(1)[0], memory_free_bytes=81_079 * 2**20, temperature_limit_c=89.0, temperature_c=29.0, sm_clock_mhz=345.0
)
"""What a console says of the H100 whose `nvidia-smi -q` was recorded."""


def test_each_field_has_its_line_in_a_recorded_q() -> None:
    (q,) = smi.parse_q((Path(__file__).parents[1] / "data/gpu/nvidia-smi-q-h100.txt").read_text(encoding="utf-8"))
    found = {figure: (ours, theirs) for figure, ours, theirs in compare_fields(RESTING, q)}
    assert found.pop("pages pending") == (None, None)
    assert {figure for figure, (ours, theirs) in found.items() if same(figure, ours, theirs) is not True} == set()
    assert found["throttle reasons"] == ([Throttle.IDLE], [Throttle.IDLE])
    assert found["slowdown temperature, °C"] == (89.0, 89.0)
    assert found["row remap failed"] == (False, False)


def test_the_whole_comparison_over_scripted_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(1))
    recorded = (Path(__file__).parents[1] / "data/gpu/nvidia-smi-q-h100.txt").read_text(encoding="utf-8")
    links = "GPU 0: NVIDIA H100\n" + "\t Link 0: 26.562 GB/s\n" * 18
    monkeypatch.setattr(
        smi, "said", lambda *arguments: {"-q": recorded, "nvlink": links}.get(arguments[0] if arguments else "", "")
    )
    monkeypatch.setattr(part_machine, "APART_S", 0.0)
    table = {each["figure"]: each["same"] for each in part_machine.compare()}
    assert {row.figure for row in ROWS} < set(table)
    assert (table["NVLink links up"], table["SM clock at most, MHz"], table["driver, -q"]) == (True, True, True)
    assert table["SM clock, MHz"] is False, "1755 MHz scripted, 345 MHz recorded"
    assert table["PCIe lanes"] is False
    assert table["pages pending"] is None


@pytest.mark.parametrize("row", ROWS, ids=[row.figure for row in ROWS])
def test_a_row_tells_a_difference_and_an_unknown_apart(row: Row) -> None:
    assert (row.ours(GpuReading(index=0)), row.theirs({})) in {(None, None), (None, False)}
    assert same(row.figure, None, row.theirs({})) is None


def test_links_of_the_first_gpu() -> None:
    said = "GPU 0: NVIDIA H100\n\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>\nGPU 1: NVIDIA H100\n\t Link 0: 26 GB/s\n"
    assert links_up(said) == 1
    assert links_up("") is None
    assert same("MIG", True, False) is False
    assert same("throttle reasons", ["idle"], []) is False


def test_what_watching_costs_is_counted_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(2))
    monkeypatch.setattr("tests.gpu.watchcost.PAUSE_S", 0.0)
    cost = watch_cost()
    assert cost["gpus"] == 2
    assert cost["percent_for_16"] == pytest.approx(8 * cost["percent_of_a_core"], rel=0.1, abs=0.1)
    assert cost["calls"]["UtilizationRates"]["per_s"] == 2
    assert cost["calls"]["RemappedRows"]["per_s"] < 1


def test_a_real_log_gives_its_figures() -> None:
    log = (Path(__file__).parents[1] / "data/logs/h100-0.26.0/startup-until-graphs.log").read_text(encoding="utf-8")
    found = logged(log)
    assert (found["weights_gib"], found["kv_gib"], found["kv_tokens"]) == (6.55, 65.14, 1_067_264)
    assert (found["graphs_gib"], found["peak_activation_gib"], found["not_torch_gib"]) == (0.18, 0.92, 0.22)


def test_a_large_model_has_a_text_for_every_token(tmp_path: Path) -> None:
    directory = models.make("llama-8b", tmp_path)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    vocabulary = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(config["vocab_size"]))
    assert (models.weights_bytes("llama-8b") or 0) / 1e9 == pytest.approx(16.06, abs=0.01)


def test_a_report_is_on_disk_after_each_step(tmp_path: Path) -> None:
    report = Report(tmp_path, 1, "one")
    with report.step("works") as row:
        assert json.loads((tmp_path / "part1.json").read_text())["steps"][0]["result"] == "running"
        row["says"] = "so | so"
    with report.step("breaks"):
        raise ValueError("why")
    with report.step("cannot"):
        raise Skip("no GPU")
    report.close()
    steps = json.loads((tmp_path / "part1.json").read_text())["steps"]
    assert [step["result"] for step in steps] == ["done", "failed", "skipped"]
    assert "| 1 | works | done |" in summary(tmp_path)
    assert "so / so" in summary(tmp_path)
    assert "ValueError: why" in summary(tmp_path)
