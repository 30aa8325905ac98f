"""`export`: what was sampled comes back from CSV, JSON lines and Parquet, and every mistake is named."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from console.cli import main
from console.core.flat import column_name, columns_of
from console.core.models import EngineReading, GpuProcess, GpuReading, RunInfo, Sample, ServerState, Throttle
from console.core.sampling import flatten, from_rows
from console.io import runs
from tests.io.day import full_sample

Capture = pytest.CaptureFixture[str]
START_S = 1_795_000_000.0


def make(count: int = 700) -> runs.RunDir:
    """A run whose last sample knows everything."""
    run = runs.create_run("p")
    run.write_info(RunInfo(id=run.id, profile_name="p", state="stopped"))
    run.append_samples(
        [
            Sample(
                time_s=START_S + second,
                state=ServerState.READY,
                gpus=(
                    GpuReading(
                        index=0,
                        util_percent=second % 100 + 0.5,
                        throttle=(Throttle.POWER_CAP, Throttle.SW_THERMAL),
                        mig=False,
                        processes=(GpuProcess(pid=7, name='evil\x1b[2J,"name"'),),
                    ),
                ),
                engine=EngineReading(running=second) if second % 2 else None,
            )
            for second in range(count - 1)
        ]
    )
    run.append_samples([full_sample(START_S + count - 1)])
    return run


def test_names_of_columns() -> None:
    names = {
        "time_s": "time_s",
        "gpus.#0.util_percent": "gpu0_util_percent",
        "gpus.#11.processes.#2.memory_bytes": "gpu11_process2_memory_bytes",
        "engine.running": "engine_running",
        "engine.ttft.p50_s": "engine_ttft_p50_s",
        "engine.finished_by_reason.stop": "engine_finished_by_reason_stop",
        "engine.by_engine.#1.running": "engine_share1_running",
        "host.cpu_percent": "host_cpu_percent",
    }
    assert {path: column_name(path) for path in names} == names
    wanted = columns_of([from_rows([flatten(full_sample(1.0))])])
    assert list(wanted)[:4] == ["time_s", "state", "count", "span_s"]
    assert len({column_name(path) for path in wanted}) == len(wanted), "no two columns share a name"
    order = [path.split(".")[1] for path in wanted if path.startswith("gpus.")]
    assert order == sorted(order, key=lambda part: int(part[1:]))


def test_csv_round_trip(capsys: Capture) -> None:
    make()
    assert main(["export", "last"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 700
    assert [float(row["time_s"]) for row in rows] == [START_S + second for second in range(700)]
    assert rows[3]["gpu0_util_percent"] == "3.5"
    assert rows[3]["engine_running"] == "3"
    assert rows[4]["engine_running"] == "", "unknown is no zero"
    assert rows[3]["gpu0_throttle"] == "power cap|thermal slowdown"
    assert rows[3]["gpu0_mig"] == "false"
    assert rows[3]["count"] == "1"
    assert rows[-1]["gpu7_process0_pid"] == "4249"


def test_json_lines(capsys: Capture) -> None:
    make()
    assert main(["export", "p", "--json", "--since", "9s"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["time_s"] - START_S for row in rows] == [690.0 + at for at in range(10)]
    assert [row.get("engine_running") for row in rows[:3]] == [None, 691, None], "unknown is left out"
    assert rows[0]["state"] == "ready"


def test_files(tmp_path: Path, capsys: Capture) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    make()
    target = tmp_path / "r.parquet"
    assert main(["export", "last", "--parquet", "-o", str(target)]) == 0
    table = pq.read_table(target)
    assert table.num_rows == 700
    assert table.column("engine_running").to_pylist()[:4] == [None, 1, None, 3]
    assert table.column("gpu0_mig").to_pylist()[0] is False
    assert table.column("gpu0_util_percent").to_pylist()[5] == 5.5
    assert list(tmp_path.iterdir()) == [target], "nothing half made is left"
    assert main(["export", "last", "--parquet", "-o", str(target)]) == 2
    assert "there already" in capsys.readouterr().err
    assert main(["export", "last", "--json", "-o", str(tmp_path / "r.jsonl")]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 700
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 700
    assert main(["export", "last", "--csv", "-o", str(tmp_path / "none" / "r.csv")]) == 3
    assert "Cannot write the file" in capsys.readouterr().err


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    make()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["export", "last", "--parquet", "-o", str(tmp_path / "r.parquet")]) == 3
    assert "dsv4-console[parquet]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["last", "--parquet"], 2, "-o is missing"),
        (["last", "--json", "--csv"], 2, "Two formats"),
        (["last", "--since", "yesterday"], 2, "90m"),
        (["nobody"], 5, "no such run"),
    ],
)
def test_mistakes_are_named(words: list[str], code: int, text: str, capsys: Capture) -> None:
    make(10)
    assert main(["export", *words]) == code
    assert text in capsys.readouterr().err


def test_a_time_to_begin_at(capsys: Capture) -> None:
    make()
    assert main(["export", "last", "--since", "2100-01-01T00:00"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1, "the names alone"


def test_a_run_without_samples(capsys: Capture) -> None:
    run = runs.create_run("p")
    run.write_info(RunInfo(id=run.id, profile_name="p", state="failed"))
    assert main(["export", "last"]) == 5
    assert "no samples" in capsys.readouterr().err
