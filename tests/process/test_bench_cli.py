"""`dsv4-console bench` as its own process: the scripted server, and a `bench serve` that is scripted too."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.world import wait_for
from tests.fakes.bench import scripted
from tests.process.fake_world import ENGINE, FakeWorld

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    vllm = tmp_path / "data" / "dsv4-console" / "engines" / ENGINE / "bin" / "vllm"
    first, rest = vllm.read_text().split("\n", 1)
    bench = scripted(tmp_path / "scripted")
    vllm.write_text(f'{first}\nif [ "$1" = bench ]; then exec "{bench}" "$@"; fi\n{rest}')
    world.env |= {"FAKE_PIDS": str(tmp_path / "pids"), "FAKE_CALLS": str(tmp_path / "calls")}
    yield world
    world.close()


def calls(world: FakeWorld) -> list[dict[str, str]]:
    lines = Path(world.env["FAKE_CALLS"]).read_text().splitlines()
    return [dict(zip(told[2::2], told[3::2], strict=False)) for told in (json.loads(line)["argv"] for line in lines)]


def rows(world: FakeWorld, *arguments: str) -> Any:
    done = world.run("bench", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_running_server_is_measured_listed_and_compared(world: FakeWorld) -> None:
    run = world.detached("--set", "cost.usd_per_hour=3.6")["run"]["id"]
    done = world.run("bench", "--shape", "chat", "--concurrency", "2,8", "--requests", "12")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "504 in, 504 out" in lines[0]
    assert lines[1].split()[:3] == ["conc", "tok/s", "req/s"]
    assert [line.split()[0] for line in lines[2:4]] == ["2", "8"]
    assert "–" in lines[2]
    assert any(line.startswith("The server takes 1,024 tokens in all, so chat is") for line in lines)
    assert any(line.startswith("No GPU figures") for line in lines)
    assert "warming up" in done.stderr
    told = calls(world)
    assert [call["--max-concurrency"] for call in told] == ["8", "2", "8"]
    assert len({call["--seed"] for call in told}) == 3
    assert {call["--base-url"] for call in told} == {world.url}
    assert {call["--model"] for call in told} == {"tiny"}
    assert world.status()["state"] == "ready"

    second = rows(world, "--concurrency", "2,8", "--repeats", "3", "--requests", "12")
    assert [point["concurrency"] for point in second["points"]] == [2, 8, 2, 8, 2, 8]
    assert second["points"][0]["usd_per_million_tokens"] > 0
    assert (second["run_id"], second["machine"].startswith("CPU")) == (run, True)
    listed = world.json("bench", "list", run)["results"]
    assert listed[0]["id"] == second["id"]
    assert len(listed) == 2
    kept = world.runs / run / "bench" / f"{second['id']}.json"
    assert json.loads(kept.read_text()) == second
    assert kept.stat().st_mode & 0o777 == 0o600

    compared = world.json("bench", "compare", listed[1]["id"], "last")
    assert [row["concurrency"] for row in compared["comparison"]["rows"]] == [2, 8]
    assert compared["comparison"]["overall"]["verdict"] == "too few repeats to tell"
    text = world.run("bench", "compare", listed[1]["id"], "last").stdout
    assert "chat, 2 at once, 1 and 3 repeats" in text
    assert "output tok/s  1.00" in text


def test_a_profile_is_launched_for_it_and_stopped_again(world: FakeWorld) -> None:
    port = ("--set", f"serve.port={world.port}")
    result = rows(world, "--profile", "cpu-smoke", *port, "--concurrency", "4", "--requests", "4", "--shape", "random")
    assert [point["completed"] for point in result["points"]] == [4]
    assert result["change"]
    assert not world.engine_processes()
    done = world.run("bench")
    assert done.returncode == 5
    assert "Nothing is running" in done.stderr
    assert "bench --profile NAME" in done.stderr


def test_a_second_server_is_not_launched(world: FakeWorld) -> None:
    world.detached()
    done = world.run("bench", "--profile", "cpu-smoke")
    assert done.returncode == 2
    assert "A server is running already" in done.stderr


@pytest.mark.parametrize("launched", [False, True])
def test_ctrl_c_leaves_nothing_of_the_benchmark_and_keeps_its_rows(world: FakeWorld, launched: bool) -> None:
    world.env["FAKE_BENCH_AT"] = "3"
    if launched:
        more = ["--profile", "cpu-smoke", "--set", f"serve.port={world.port}"]
    else:
        world.detached()
        more = []
    child = world.spawn(["bench", *more, "--concurrency", "1,2,4", "--requests", "8"])
    pids = Path(world.env["FAKE_PIDS"])
    wait_for("the benchmark to hang", lambda: pids.exists() and len(pids.read_text().split()) == 2, 60.0)
    child.send_signal(signal.SIGINT)
    out, said = child.communicate(timeout=60.0)
    assert child.returncode == 130, said
    assert [line.split()[0] for line in out.decode().splitlines()[2:]] == ["1"]
    assert "1 of 3 rows are kept as" in said.decode()
    (result,) = world.json("bench", "list")["results"]
    assert (len(result["points"]), result["ended"]) == (1, "asked to stop")
    wait_for("its processes to end", lambda: not any(map(psutil.pid_exists, map(int, pids.read_text().split()))))
    assert bool(world.engine_processes()) is not launched


@pytest.mark.parametrize(
    ("mode", "code", "text"),
    [("exit", 1, "The benchmark failed"), ("module", 3, "Install pandas"), ("unknown-model", 2, "does not serve")],
)
def test_what_goes_wrong_is_named(world: FakeWorld, mode: str, code: int, text: str) -> None:
    world.detached()
    world.env["FAKE_BENCH"] = mode
    done = world.run("bench", "--concurrency", "1")
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert "nothing was measured" in done.stderr
    assert world.json("bench", "list")["results"] == []


def test_a_server_that_dies_in_the_middle_is_named(world: FakeWorld) -> None:
    run = world.detached()["run"]["id"]
    world.env["FAKE_BENCH_AT"] = "3"
    child = world.spawn(["bench", "--concurrency", "1,2,4", "--requests", "8"])
    pids = Path(world.env["FAKE_PIDS"])
    wait_for("the benchmark to hang", lambda: pids.exists() and len(pids.read_text().split()) == 2, 60.0)
    for process in world.engine_processes():
        process.kill()
    _, said = child.communicate(timeout=60.0)
    assert child.returncode == 1, said
    assert "The server failed during the benchmark" in said.decode()
    assert f"diagnose {run}" in said.decode()
    assert "1 of 3 rows are kept" in said.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--concurrency", "0"),
        ("--concurrency", "1,x"),
        ("--shape", "other"),
        ("--repeats", "0"),
        ("compare", "a"),
        ("compare", "a", "b"),
        ("list", "a", "b"),
        ("one", "two"),
        ("run", "--profile", "cpu-smoke"),
    ],
)
def test_mistakes_on_the_command_line(world: FakeWorld, arguments: tuple[str, ...]) -> None:
    done = world.run("bench", *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
