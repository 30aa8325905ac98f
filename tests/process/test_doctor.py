"""`doctor`, and preflight in front of a headless launch, as their own processes on the scripted server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from console.cli import main
from console.cli.output import Output
from console.core.errors import ConsoleError
from console.core.preflight.report import MARKS
from tests.e2e.world import wait_for
from tests.process.fake_world import FakeWorld

pytestmark = pytest.mark.timeout(90)
PUBLIC = ("--set", "serve.host=0.0.0.0")


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path_factory.mktemp("world"))
    world.env["CUDA_VISIBLE_DEVICES"] = ""
    yield world
    world.close()


@pytest.fixture
def orphan(world: FakeWorld) -> Iterator[psutil.Process]:
    """A process that calls itself vLLM's engine, whose creator is gone."""
    script = "(exec -a VLLM::EngineCore sleep 300) & echo $!; wait"
    creator = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert creator.stdout is not None
    with creator:
        engine = psutil.Process(int(creator.stdout.readline()))
        wait_for("its title", lambda: engine.cmdline()[:1] == ["VLLM::EngineCore"])
        creator.kill()
    yield engine
    with suppress(psutil.Error):
        engine.kill()


def checks(document: dict[str, object]) -> dict[str, dict[str, object]]:
    listed = document["checks"]
    assert isinstance(listed, list)
    return {each["id"]: each for each in listed}


def test_the_machine_as_a_table(world: FakeWorld) -> None:
    done = world.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1].startswith("this machine: ")
    heads = [line for line in lines[:-1] if line and not line.startswith(" ")]
    assert {head[0] for head in heads} <= set(MARKS.values())
    assert any(head.startswith(("✓ Engine", "· Engine")) for head in heads)


def test_the_machine_as_json(world: FakeWorld) -> None:
    document = world.json("doctor")
    assert document["profile"] is None
    assert document["ended"] == []
    assert document["elapsed_s"] < 10
    found = checks(document)
    assert {"gpus", "orphans", "engine", "disk", "memory", "shm", "open-files", "port"} <= set(found)
    assert found["engine"]["verdict"] == "ok"
    assert all(each["text"] for each in found.values())


def test_a_profile_that_fits_and_one_that_does_not(world: FakeWorld) -> None:
    good = world.run("doctor", "cpu-smoke", "--set", f"serve.port={world.port}", "--json")
    assert good.returncode == 0
    document = json.loads(good.stdout)
    assert document["profile"] == "cpu-smoke"
    assert {each["verdict"] for each in checks(document).values() if each["id"] != "orphans"} == {"ok"}
    bad = world.run("doctor", "4xh200-fp8-v4-flash")
    assert bad.returncode == 6
    assert "✖ GPUs" in bad.stdout
    assert "1 blocks" in bad.stdout or " block" in bad.stdout.splitlines()[-1]
    wrong = world.run("doctor", "no-such-profile")
    assert wrong.returncode == 2
    assert world.run("doctor", "--set", "serve.port=1").returncode == 2


def test_an_orphan_is_named_and_ended_when_told_so(world: FakeWorld, orphan: psutil.Process) -> None:
    found = world.json("doctor")
    assert orphan.pid in {each["pid"] for each in found["orphans"]}
    assert checks(found)["orphans"]["verdict"] == "warn"
    shown = world.run("doctor").stdout
    assert f"VLLM::EngineCore (pid {orphan.pid})" in shown
    assert "--end-orphans" in shown

    unasked = world.run("doctor", "--end-orphans", str(orphan.pid))
    assert unasked.returncode == 2
    assert f"pid {orphan.pid}  for " in unasked.stderr
    assert "Add --yes" in unasked.stderr
    assert orphan.is_running()

    other = world.run("doctor", "--end-orphans", str(os.getpid()), "--yes")
    assert other.returncode == 2
    assert "No such orphan" in other.stderr

    done = world.run("doctor", "--yes", "--json", "--end-orphans", str(orphan.pid))
    (ended,) = json.loads(done.stdout)["ended"]
    assert (ended["pid"], ended["how"], ended["gone"]) == (orphan.pid, "SIGTERM", True)
    assert f"ended: VLLM::EngineCore (pid {orphan.pid}): SIGTERM" in done.stderr
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("agreed", [False, True])
def test_who_is_asked_sees_what_would_end(
    orphan: psutil.Process, agreed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def ask(self: Output, question: str, *, default: bool, otherwise: ConsoleError) -> bool:
        asked.append(question)
        assert default is False
        return agreed

    monkeypatch.setattr(Output, "ask", ask)
    code = main(["doctor", "--end-orphans", str(orphan.pid)])
    assert code == 0
    assert asked == ["End this process? What is still in work there is lost."]
    said = capsys.readouterr().err
    assert f"VLLM::EngineCore  pid {orphan.pid}  for " in said
    assert "of memory" in said
    gone = not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert gone is agreed
    assert ("left alone" in said) is not agreed


def launch(world: FakeWorld, *more: str) -> subprocess.CompletedProcess[str]:
    return world.run("--profile", "cpu-smoke", "--set", f"serve.port={world.port}", "--detach", *more)


def test_a_good_launch_says_nothing_of_it(world: FakeWorld) -> None:
    done = launch(world, "--json")
    assert done.returncode == 0, done.stderr
    told = [line for line in map(json.loads, done.stdout.splitlines()) if line["type"] == "preflight"]
    assert [each["id"] for line in told for each in line["checks"] if each["id"] != "orphans"] == []


def test_a_public_address_needs_a_key_or_the_whole_option(world: FakeWorld) -> None:
    refused = launch(world, *PUBLIC)
    assert refused.returncode == 6
    assert "Not launched: Address" in refused.stderr
    assert "Set VLLM_API_KEY" in refused.stderr
    forced = launch(world, *PUBLIC, "--force", "--json")
    assert forced.returncode == 6, "--force does not cover it"
    last = json.loads(forced.stdout.splitlines()[-1])
    assert last["error"]["exit_code"] == 6
    assert "--allow-public-without-key" in last["error"]["fix"]
    assert not world.runs.exists() or not list(world.runs.iterdir())

    allowed = launch(world, *PUBLIC, "--allow-public-without-key")
    assert allowed.returncode == 0, allowed.stderr
    assert "▲ Address: 0.0.0.0: other machines reach it, without a key" in allowed.stderr
    assert world.run("stop").returncode == 0


def test_an_address_that_is_not_ours(world: FakeWorld) -> None:
    done = launch(world, "--set", "serve.host=203.0.113.7", "--allow-public-without-key", "--force")
    assert done.returncode == 6
    assert "Not launched: Port" in done.stderr
    assert f"Cannot listen on 203.0.113.7:{world.port}" in done.stderr


def test_with_a_key_the_open_routes_are_said(world: FakeWorld) -> None:
    world.env["VLLM_API_KEY"] = "sk-planted-5f2e81"
    done = launch(world, *PUBLIC)
    assert done.returncode == 0, done.stderr
    assert "· Address: 0.0.0.0: other machines reach it; VLLM_API_KEY guards /v1" in done.stderr
    assert "/metrics" in done.stderr
    assert "/tokenize" in done.stderr
    assert "sk-planted" not in done.stderr
    assert world.run("stop").returncode == 0


def test_force_says_what_it_overrides(world: FakeWorld) -> None:
    model = ("--set", f"model.id={world.home}/no-model")
    refused = launch(world, *model)
    assert refused.returncode == 6
    assert "Not launched: Model" in refused.stderr
    assert "To launch all the same: --force" in refused.stderr
    forced = launch(world, *model, "--force")
    assert "✖ Model: " in forced.stderr
    assert "--force overrides this: vLLM ends when it reads the model." in forced.stderr
    assert "run " in forced.stderr, "it went on"
    world.run("stop", "--drain-timeout", "0")


@pytest.mark.parametrize("key", ["api-key", "api_key", "api-k", "API-KEY", "hf-t"])
def test_a_key_among_the_arguments_is_refused(world: FakeWorld, key: str) -> None:
    done = launch(world, "--set", f"serve.extra.{key}=sk-planted-5f2e81", "--force")
    assert done.returncode == 2
    assert "in the environment of dsv4-console" in done.stderr
    assert "sk-planted" not in done.stdout + done.stderr


def test_another_address_cannot_come_in_by_a_shortened_flag(world: FakeWorld) -> None:
    done = launch(world, "--set", "serve.extra.hos=0.0.0.0")
    assert done.returncode == 2
    assert "vLLM may take it for --host: write serve.host" in done.stderr
