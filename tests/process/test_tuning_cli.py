"""`dsv4-console apply` and `tune` from the shell, over a scripted engine whose `bench serve` is scripted too.

The scripted benchmark gives 100 tok/s for each sequence that the server it was started for may run, up to 16.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import wait_for
from tests.process.fake_world import ENGINE, FAKE, VERSION, FakeWorld

LOAD = ("--concurrency", "16", "--requests", "4")

SCRIPT = """#!{python}
import json, os, sys, time
words = sys.argv[1:]
notes = {notes!r}
if words[:1] == ["bench"]:
    options = dict(zip(words, words[1:]))
    cap = int(open(notes).read())
    if os.path.exists(notes + ".hold"):
        time.sleep(300)
    rate = 100.0 * min(cap, 16) * (1 + 0.001 * int(options["--seed"]))
    number = int(options["--num-prompts"])
    data = {{"duration": 1.0, "completed": number, "failed": 0, "request_throughput": 1.0,
            "output_throughput": rate, "total_token_throughput": rate}}
    for name in ("ttft", "tpot", "itl", "e2el"):
        for which in ("mean", "median", "p99"):
            data[f"{{which}}_{{name}}_ms"] = 10.0
    with open(os.path.join(options["--result-dir"], options["--result-filename"]), "w") as file:
        json.dump(data, file)
    sys.exit(0)
if words[:1] == ["serve"]:
    with open(notes, "w") as file:
        file.write(words[words.index("--max-num-seqs") + 1])
os.environ["FAKE_VLLM_VERSION"] = {version!r}
os.execv(sys.executable, [sys.executable, "-I", {fake!r}, *words])
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    vllm = tmp_path / "data" / "dsv4-console" / "engines" / ENGINE / "bin" / "vllm"
    vllm.write_text(
        SCRIPT.format(python=sys.executable, notes=str(tmp_path / "cap"), version=VERSION, fake=str(FAKE)),
        encoding="utf-8",
    )
    try:
        yield world
    finally:
        world.close()


def two_at_a_time(world: FakeWorld) -> None:
    world.detached("--set", "serve.max_num_seqs=2")


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def profile(world: FakeWorld) -> Path:
    return world.home / "config" / "dsv4-console" / "profiles" / "cpu-smoke.toml"


def test_apply_keeps_what_won_and_states_the_measurement(world: FakeWorld) -> None:
    two_at_a_time(world)
    done = world.run("apply", "--set", "serve.max_num_seqs=16", "--auto", "--json", *LOAD)
    assert done.returncode == 0, done.stderr
    report = lines_of(done.stdout)[-1]
    assert report["type"] == "result"
    assert report["kept"] is True
    assert round(report["gain"]["ratio"], 2) == 8
    line = next(line for line in profile(world).read_text().splitlines() if line.startswith("max_num_seqs"))
    assert line.startswith("max_num_seqs = 16 # 20")
    assert "2 → 16: 8× output tok/s (8 to 8, 3 repeats), chat at 16" in line
    assert world.status()["run"]["max_num_seqs"] == 16
    run = next(world.runs.iterdir())
    text = (run / "tune" / f"{report['id']}.md").read_text()
    assert "max_num_seqs 2 → 16" in text
    again = world.run("apply", "--set", "serve.max_num_seqs=32", "--auto", *LOAD)
    assert again.returncode == 0, again.stderr
    assert "inside the noise" in again.stdout
    assert world.status()["run"]["max_num_seqs"] == 16
    assert "max_num_seqs = 16" in profile(world).read_text()


def test_tune_finds_the_best_and_stops(world: FakeWorld) -> None:
    two_at_a_time(world)
    done = world.run(
        "tune", "cpu-smoke", "--save", "--json", "--parameters", "max_num_seqs,max_num_batched_tokens", *LOAD
    )
    assert done.returncode == 0, done.stderr
    report = lines_of(done.stdout)[-1]
    assert report["attempts"][0]["verdict"] == "won"
    assert report["winner"] == [{"key": "serve.max_num_seqs", "before": 2, "after": 16}]
    assert report["kept"] is True
    assert "inside the noise" in report["why"]
    assert world.status()["run"]["max_num_seqs"] == 16


def test_tune_launches_what_does_not_run_and_stops_it_again(world: FakeWorld) -> None:
    made = world.run(
        "profiles", "new", "mine", "--from", "cpu-smoke", "--set", f"serve.port={world.port}",
        "--set", "serve.max_num_seqs=4",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    done = world.run("tune", "mine", "--parameters", "max_num_seqs", *LOAD)
    assert done.returncode == 0, done.stderr
    assert "max_num_seqs 4 → 16" in done.stdout
    assert "What served before serves again" in done.stdout
    assert "stopped again" in done.stderr
    wait_for("the server to stop", lambda: not world.engine_processes(), 30.0)
    written = world.home / "config" / "dsv4-console" / "profiles" / "mine.toml"
    assert "max_num_seqs = 4" in written.read_text(), "only --save writes it"


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("apply", signal.SIGKILL, -9),
        ("apply", signal.SIGINT, 130),
        ("apply", signal.SIGTERM, 143),
        ("tune", signal.SIGKILL, -9),
    ],
)
def test_a_command_that_ends_in_the_middle_leaves_the_old_settings(
    world: FakeWorld, command: str, number: signal.Signals, code: int
) -> None:
    two_at_a_time(world)
    words = (
        ["apply", "--set", "serve.max_num_seqs=16", "--auto"]
        if command == "apply"
        else ["tune", "cpu-smoke", "--parameters", "max_num_seqs", "--save"]
    )
    child = world.spawn([*words, "--json", *LOAD])
    assert child.stdout is not None
    for raw in child.stdout:
        line = json.loads(raw)
        if line.get("kind") == "restart":
            (world.home / "cap.hold").touch()  # the measurement of what is tried does not end
        if line.get("kind") == "measure" and "16" in line["text"]:
            break
    assert world.status()["run"]["max_num_seqs"] == 16
    child.send_signal(number)
    assert child.wait(30.0) == code

    def back() -> bool:
        status = world.status()
        return bool(
            status and status["state"] == "ready" and status["snapshot"].get("trial", {}).get("phase") == "reverted"
        )

    wait_for("the old settings", back, 60.0)
    assert world.status()["run"]["max_num_seqs"] == 2
    assert not profile(world).exists()


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing named": (("apply",), "What is to be tried?"),
    "no such hint": (("apply", "raise-it", "--auto"), "does not fire"),
    "no change": (("apply", "--set", "serve.max_num_seqs=2", "--auto"), "Nothing would change"),
    "nobody to ask": (("apply", "--set", "serve.max_num_seqs=4", "--yes"), "Add --auto"),
    "another port": (("apply", "--set", "serve.port=1024", "--auto"), "may not change where the server listens"),
    "unknown parameter": (("tune", "cpu-smoke", "--parameters", "max_num_sqs"), "not a parameter"),
    "no price": (("tune", "cpu-smoke", "--dollars", "5"), "needs a price"),
}


def test_nothing_runs(world: FakeWorld) -> None:
    assert world.run("apply", "--set", "serve.max_num_seqs=4", "--auto").returncode == 5


def test_what_cannot_be_done_is_said_with_a_remedy(world: FakeWorld) -> None:
    two_at_a_time(world)
    before = world.status()["run"]["server_pid"]
    for case, (words, said) in REFUSED.items():
        done = world.run(*words, timeout_s=60.0)
        assert done.returncode == 2, f"{case}: {done.stderr}"
        assert said in done.stderr, f"{case}: {done.stderr}"
    assert world.status()["run"]["server_pid"] == before
