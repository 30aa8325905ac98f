"""What a group costs, and that it is measured as a whole: over a real `sshd` in two network namespaces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from console.client.api import Backend
from console.client.deferred import DeferredBackend
from console.core.bench import BenchPlan, BenchResult, Shape
from console.group.backend import with_groups
from console.group.launch import draft
from tests.e2e.world import wait_for
from tests.fakes.bench import scripted
from tests.netns import Machine
from tests.process.test_groups import LIMIT_S, Groups, groups, ready  # noqa: F401 - groups is a fixture

pytestmark = pytest.mark.timeout(400)
PRICES = {"node-a": 3.0, "node-b": 5.0}
HOURLY = sum(PRICES.values())


def configure(root: Path, usd_per_hour: float) -> None:
    """What a machine without GPUs costs, in the `config.toml` of a home."""
    folder = root / "config" / "dsv4-console"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'[price."0xnone"]\nusd_per_hour = {usd_per_hour}\n', encoding="utf-8")


def with_benchmark(machine: Machine) -> None:
    """Give its scripted engine a `bench serve`."""
    (vllm,) = (machine.root / "data" / "dsv4-console" / "engines").glob("*/bin/vllm")
    first, rest = vllm.read_text(encoding="utf-8").split("\n", 1)
    bench = scripted(machine.root / "scripted")
    vllm.write_text(f'{first}\nif [ "$1" = bench ]; then exec "{bench}" "$@"; fi\n{rest}', encoding="utf-8")


async def on_the_screen(told: Callable[[BenchResult], None]) -> BenchResult:
    """Measure the group as pane `4` does, by the id that its run has here."""
    backend = with_groups(cast("Backend", DeferredBackend()))
    (run,) = await backend.runs()
    plan = BenchPlan(shape=Shape.CHAT, concurrency=(2,), repeats=1, requests=4)
    return await backend.bench(run.id, plan, None, told)


def test_the_sum_over_its_machines_is_what_it_costs_everywhere(
    groups: Groups,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Machines of two prices, each in its own configuration; then one start more, and a benchmark from the head."""
    for machine in groups.machines.all:
        configure(machine.root, PRICES[machine.name])
    with_benchmark(groups.head)
    headless = ready(groups)

    def money() -> dict[str, float]:
        found: dict[str, float] = groups.group()["money"] or {}
        return found

    wait_for("what it costs", lambda: money().get("usd_per_hour") == HOURLY and money()["total_usd"] > 0, LIMIT_S)
    spent = money()
    assert spent["total_usd"] == pytest.approx(spent["total_s"] * HOURLY / 3600)
    assert f"${HOURLY:.2f}/h" in groups.run("status").stdout
    assert groups.info(groups.head)["usd_per_hour"] == HOURLY
    assert groups.info(groups.member).get("usd_per_hour") is None, "the head counts it, and nobody twice"
    (row,) = groups.json("fleet")["rows"]
    assert (row["usd_per_hour"], row["state"]) == (HOURLY, "ready")
    there = ("--ssh-config", str(groups.machines.config))
    found = groups.json("fleet", "--host", "node-a", "--host", "node-b", *there)
    assert [each["id"] for each in found["rows"]] == [row["id"]], "its machines' own runs are part of it"
    assert found["totals"]["usd_per_hour"] == HOURLY
    told = groups.run("--host", "node-b", *there, "status")
    assert "counted by the head, node-a" in told.stdout

    measured = groups.json("bench", "--shape", "chat", "--concurrency", "2", "--requests", "4", "--repeats", "1")
    assert measured["run_id"] == groups.info(groups.head)["id"]
    assert measured["points"][0]["output_tokens_per_s"] > 0
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, groups.env[name])
    rows: list[BenchResult] = []
    done = asyncio.run(on_the_screen(rows.append))
    assert (done.run_id, len(done.points)) == (measured["run_id"], 1)
    assert rows[-1].points == done.points, "each row is told as it comes"
    for words in (("apply", "--set", "serve.max_num_seqs=4", "--auto"), ("tune", "cpu-smoke-2nodes")):
        refused = groups.run(*words)
        assert refused.returncode == 2, refused.stderr
        assert "No setting is tried on a group of machines" in refused.stderr
        assert "--hosts node-a,node-b" in refused.stderr
    refused = groups.run("--host", "node-a", *there, "apply", "--set", "serve.max_num_seqs=4", "--auto")
    assert refused.returncode == 2, refused.stderr
    assert "this one spans node-a, node-b" in refused.stderr

    before = money()["total_s"]
    assert groups.run("restart").returncode == 0
    wait_for("both starts to be counted", lambda: money()["total_s"] > before, LIMIT_S)
    headless.interrupt()
    headless.wait_end()
    summary = headless.of("summary")[-1]
    assert summary["money"]["usd_per_hour"] == HOURLY
    assert summary["money"]["total_s"] > before
    assert summary["money"]["total_usd"] == pytest.approx(summary["money"]["total_s"] * HOURLY / 3600)
    assert "this group: " in headless.said
    wait_for("all to be gone", groups.nothing_runs, LIMIT_S)


def test_the_operators_price_goes_with_the_orders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the list of profiles shows here is what is counted there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    configure(tmp_path, 7.0)
    spec, profile = draft(
        "cpu-smoke-2nodes",
        {"network.address": "10.0.0.1", "serve.host": "10.0.0.1"},
        ("a", "b"),
        engine=None,
        allow_public=True,
        force=False,
        ssh_config=None,
        ssh_commands=("dsv4-console", "dsv4-console"),
    )
    assert spec.usd_per_hour == profile.cost.usd_per_hour == 14.0
    assert spec.overrides["cost.usd_per_hour"] == 14.0
    assert json.loads(json.dumps(spec.overrides)) == spec.overrides
