"""The supervisor's metrics: a table that Prometheus' own parser reads, and a dashboard that names nothing else."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from console.core.gauges import FAMILIES, PREFIX, Kind, View
from console.core.models import (
    EngineReading,
    GpuReading,
    Hint,
    HintState,
    Level,
    Money,
    RunInfo,
    ServerState,
    ServerStatus,
    Snapshot,
    SourceStatus,
    Spend,
)
from console.io.exposition import exposition
from tests.io.day import GPUS, full_sample

RUN = RunInfo(id="r", profile_name='odd "name"\\\n', model="m", engine_version="0.32.0", usd_per_hour=30.0)
FULL = full_sample(1_000.0)
SNAPSHOT = Snapshot(
    seq=1,
    time_s=1_000.0,
    status=ServerStatus(state=ServerState.READY, ready_s=400.0, restart=2),
    gpus=tuple(msgspec.structs.replace(gpu, xid=79) for gpu in FULL.gpus or ()),
    host=FULL.host,
    engine=msgspec.structs.replace(FULL.engine, spec_acceptance_rate=0.7) if FULL.engine else None,
    sources=(SourceStatus(name="gpu", age_s=0.4), SourceStatus(name="metrics", ok=False, error="x")),
    hints=(
        Hint(id="kv-bound", title="t", level=Level.WARN),
        Hint(id="other", title="t", state=HintState.UNJUDGED, missing="m"),
    ),
    money=Money(
        usd_per_hour=30.0,
        seconds={Spend.SERVING: 1_500.0, Spend.LOADING: 60.0},
        usd={Spend.SERVING: 12.5, Spend.LOADING: 0.5},
        output_tokens=9_000_000,
        usd_per_million=1.44,
        usd_per_million_now=0.9,
        idle_s=4.0,
        idle_stop_in_s=296.0,
    ),
    log_bytes=4_096,
)
VIEW = View(RUN, SNAPSHOT, starts=3, clients=2, records_lost=5)


def series(view: View) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(exposition(view).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(view: View, name: str, **labels: str) -> float:
    return series(view)[(PREFIX + name, tuple(sorted(labels.items())))]


def test_the_parser_reads_every_family_of_the_table() -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition(VIEW).decode())}
    expected = {PREFIX + row.name.removesuffix("_total"): row for row in FAMILIES}
    assert set(families) == set(expected), "with everything known, nothing is left out"
    for name, row in expected.items():
        assert families[name].documentation == row.help
        assert families[name].type == row.kind.value


def test_the_table_keeps_the_rules() -> None:
    names = [row.name for row in FAMILIES]
    assert len(set(names)) == len(names)
    for row in FAMILIES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", row.name)
        assert row.name.endswith("_total") == (row.kind is Kind.COUNTER)
        assert row.help.endswith(".")
        assert not re.search(r"(_ms|_percent|_mhz|_gib|_s)$", row.name), "base units"
        assert all(len(point.labels) == len(row.labels) for point in row.read(VIEW))


def test_figures_and_units() -> None:
    assert value(VIEW, "gpu_utilization_ratio", gpu="3") == 0.97
    assert value(VIEW, "gpu_sm_clock_hertz", gpu="0") == 1_785e6
    assert value(VIEW, "gpu_throttled", gpu="0", reason="power cap") == 1
    assert value(VIEW, "gpu_throttled", gpu="0", reason="thermal slowdown") == 0
    assert value(VIEW, "time_to_first_token_seconds", quantile="0.95") == 0.0913
    assert value(VIEW, "server_state", state="ready") == 1
    assert value(VIEW, "server_state", state="crashed") == 0
    assert value(VIEW, "server_uptime_seconds") == 600
    assert value(VIEW, "hints_firing") == 1
    assert value(VIEW, "hint_firing", hint="kv-bound", level="warn") == 1
    assert value(VIEW, "cost_usd_total", state="serving") == 12.5
    assert value(VIEW, "spent_seconds_total", state="loading") == 60.0
    assert value(VIEW, "run_output_tokens_total") == 9_000_000
    assert value(VIEW, "idle_stop_in_seconds") == 296.0
    assert value(VIEW, "source_up", source="metrics") == 0
    assert value(VIEW, "run_info", run="r", profile='odd "name"\\\n', model="m", engine_version="0.32.0") == 1
    assert len([key for key in series(VIEW) if key[0] == PREFIX + "gpu_power_watts"]) == GPUS


@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(seq=1, time_s=1.0, status=ServerStatus()),
        Snapshot(seq=1, time_s=1.0, status=ServerStatus(), gpus=(GpuReading(index=0),), engine=EngineReading()),
    ],
)
def test_what_is_unknown_has_no_series(snapshot: Snapshot) -> None:
    names = {name.removeprefix(PREFIX) for name, _ in series(View(RunInfo(id="r", profile_name="p"), snapshot))}
    assert names == {
        "run_info", "server_state", "server_starts_total", "server_restart_planned", "hints_firing", "log_bytes",
        "front_ends", "records_lost_total", "snapshot_time_seconds",
    }  # fmt: skip


def test_the_dashboard_names_metrics_that_exist() -> None:
    text = resources.files("console").joinpath("_grafana", "dsv4-console.json").read_text(encoding="utf-8")
    dashboard: dict[str, Any] = json.loads(text)
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [v["query"]["query"] for v in dashboard["templating"]["list"] if isinstance(v["query"], dict)]
    named = {name for each in expressions for name in re.findall(rf"{PREFIX}\w+", each)}
    labels = {row.name: set(row.labels) for row in FAMILIES}
    assert named <= {PREFIX + name for name in labels}
    assert len(named) > 30
    assert all(re.search(rf"{PREFIX}\w+", each) for each in expressions)
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            known = set().union(*(labels[name] for name in re.findall(rf"{PREFIX}(\w+)", target["expr"])))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= known, panel["title"]
    boxes = [panel["gridPos"] for panel in dashboard["panels"]]
    assert len({(box["x"], box["y"]) for box in boxes}) == len(boxes)
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(boxes)
