"""Every command of the command line as its own process, on the scripted server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.e2e.world import free_port, wait_for
from tests.process.fake_world import ENGINE, FakeWorld, pipe

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeWorld]:
    """A world with a server that is ready, left as it is by those who use it."""
    world = FakeWorld(tmp_path_factory.mktemp("live"))
    world.fake(reasoning="well now", answer="forty two", log_storm=500)
    world.detached("--set", "serve.max_num_seqs=4", "--set", "supervise.drain_timeout_s=7")
    wait_for("figures", lambda: (world.status()["snapshot"] or {}).get("engine"))
    yield world
    world.close()


def error_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The error that a command with `--json` printed, its only output."""
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.returncode
    assert error["title"] in done.stderr
    return error


def test_several_settings_reach_the_server(live: FakeWorld) -> None:
    argv = live.status()["run"]["argv"]
    assert argv[argv.index("--max-num-seqs") + 1] == "4"
    assert argv[argv.index("--shutdown-timeout") + 1] == "7"
    assert argv[argv.index("--port") + 1] == str(live.port)


def test_status_of_a_live_server(live: FakeWorld) -> None:
    done = live.run("status")
    assert done.returncode == 0
    assert done.stdout.startswith("● READY  cpu-smoke  tiny  vLLM 0.32.0+cpu")
    assert live.url in done.stdout
    assert "running 0" in done.stdout
    document = live.json("status", "cpu-smoke")
    assert (document["state"], document["supervised"], document["others"]) == ("ready", True, [])
    assert document["run"]["id"] == live.json("status", document["run"]["id"])["run"]["id"]
    before = json.loads(live.run("--json", "status").stdout)
    assert before["state"] == "ready", "--json may stand before the command"


def test_targets_of_the_profile_are_judged(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = FakeWorld(tmp_path_factory.mktemp("targets"))
    try:
        world.detached("--set", "targets.ttft_s=60")

        def engine() -> dict[str, Any]:
            # On a starved machine `status` may give up on the supervisor once.
            found = world.status() or {}
            return (found.get("snapshot") or {}).get("engine") or {}

        wait_for("figures", engine)
        assert "goodput" not in world.run("status").stdout
        assert world.run("chat", "hello").returncode == 0
        goodput = wait_for("an answer that counts", lambda: engine().get("goodput"))
        assert (goodput["share_max"], goodput["ttft_share"]) == (1, 1)

        def words() -> str:
            said = world.run("status").stdout
            # Percentiles and how requests ended may come with different scrapes.
            return said if "TTFT p95" in said and "stop 1" in said else ""

        said = wait_for("figures in words", words)
        assert "(met 60 s)" in said
        assert "goodput" in said
        run = wait_for("the run", world.status)["run"]
        assert (run["ttft_target_s"], run.get("tpot_target_s")) == (60, None)
    finally:
        world.close()


def test_logs_whole_last_and_as_json(live: FakeWorld) -> None:
    whole = live.run("logs").stdout.splitlines()
    assert "Application startup complete." in "\n".join(whole)
    assert len(live.run("logs", "-n", "3").stdout.splitlines()) == 3
    lines = [json.loads(line) for line in live.run("logs", "-n", "2", "--json").stdout.splitlines()]
    assert [line["line"] for line in lines] == [lines[0]["line"], lines[0]["line"] + 1]
    assert lines[0]["line"] >= len(whole) - 1


@pytest.mark.parametrize("arguments", [("logs",), ("logs", "-f"), ("logs", "--json"), ("--help",)])
def test_a_reader_that_leaves_ends_it_quietly(live: FakeWorld, arguments: tuple[str, ...]) -> None:
    code, got, said = pipe(live, *arguments, reads=10)
    assert (code, said) == (0, "")
    assert len(got) == 10


def test_closed_streams_are_no_reason_to_fail(live: FakeWorld) -> None:
    for command in ("logs", "status --json", "profiles list"):
        shell = f"exec {' '.join(live.command())} {command} >&-"
        done = subprocess.run(["sh", "-c", shell], env=live.env, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr.replace("* your own\n", "")) == (0, ""), command
    for command, code in (("", 2), ("chat", 2)):
        shell = f"exec {' '.join(live.command())} {command} <&- 2>&1"
        done = subprocess.run(["sh", "-c", shell], env=live.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout
        assert "Traceback" not in done.stdout


def test_a_full_disk_under_the_output_is_told(live: FakeWorld) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            live.command("logs"), env=live.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert "Cannot write the output" in done.stderr
    assert "No space left" in done.stderr


def test_chat_with_an_argument_and_from_stdin(live: FakeWorld) -> None:
    done = live.run("chat", "six times seven", "--max-tokens", "8", "--system", "short")
    assert (done.returncode, done.stdout) == (0, "forty two \n"), "the answer and nothing else is on stdout"
    assert done.stderr.startswith("well now \n\n[4 tokens, TTFT ")
    document = live.json("chat", "six times seven")
    assert (document["text"], document["reasoning"]) == ("forty two ", "well now ")
    assert document["finish_reason"] == "stop"
    assert document["completion_tokens"] == 4
    piped = subprocess.run(
        live.command("chat"), env=live.env, input=b"caf\xe9 \xff", capture_output=True, timeout=30, check=False
    )
    assert (piped.returncode, piped.stdout) == (0, b"forty two \n")
    empty = live.run("chat")
    assert empty.returncode == 2
    assert "There is no prompt" in empty.stderr


def test_an_answer_in_a_terminal_without_unicode(live: FakeWorld) -> None:
    env = {**live.env, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    for command in (("status",), ("profiles", "list"), ("profiles", "show", "cpu-smoke", "--json")):
        done = subprocess.run(live.command(*command), env=env, capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
    assert "–" in json.dumps(json.loads(done.stdout.decode()), ensure_ascii=False) or done.stdout


def test_an_engine_in_use_is_not_removed(live: FakeWorld) -> None:
    for command in (("remove", ENGINE, "--yes"), ("install", "0.32.0", "--cpu", "--force")):
        error = error_of(live.run("engine", *command, "--json"))
        assert error["title"] == "The engine is in use"
        assert error["exit_code"] == 2
    assert [engine["name"] for engine in live.json("engine", "list")["engines"]] == [ENGINE]


def test_a_taken_port_names_its_holder_and_a_free_one(live: FakeWorld) -> None:
    pid = live.status()["run"]["server_pid"]
    runs = sorted(live.runs.iterdir())
    done = live.run("--profile", "cpu-smoke", "--force", "--set", f"serve.port={live.port}", "--json")
    told, last = (json.loads(line) for line in done.stdout.splitlines())
    assert (told["type"], told["blocked"], told["overridden"]) == ("preflight", ["port"], [])
    assert last["error"]["exit_code"] == done.returncode == 6
    assert last["error"]["title"] == "Not launched: Port"
    assert f"Port {live.port} is taken" in last["error"]["message"]
    assert f"pid {pid}" in last["error"]["message"]
    assert "--set serve.port=" in last["error"]["fix"]
    assert "--force" not in last["error"]["fix"]
    assert sorted(live.runs.iterdir()) == runs, "nothing was made for a launch that did not happen"


def test_two_servers_are_not_confused_and_a_stop_needs_no_supervisor(world: FakeWorld) -> None:
    first = world.detached()["run"]
    world.port = free_port()
    second = world.detached()["run"]
    document = world.json("status")
    assert (document["run"]["id"], document["others"]) == (second["id"], [first["id"]])
    done = world.run("stop")
    assert done.returncode == 2
    assert first["id"] in done.stderr
    assert second["id"] in done.stderr
    psutil.Process(first["supervisor_pid"]).kill()
    psutil.Process(first["supervisor_pid"]).wait(10.0)
    assert world.json("stop", first["id"], "--drain-timeout", "0")["state"] == "stopped"
    assert world.json("stop")["run"] == second["id"]
    assert not world.engine_processes()


def test_detached_followed_stopped(world: FakeWorld) -> None:
    never = world.run("status")
    assert never.returncode == 5
    assert "Nothing has been launched yet" in never.stderr
    assert error_of(world.run("stop", "--json"))["exit_code"] == 5

    done = world.run("--profile", "cpu-smoke", "--set", f"serve.port={world.port}", "--detach")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"ready: {world.url}/v1  model tiny" in done.stderr
    assert "dsv4-console stop" in done.stderr.splitlines()[-1]

    following = world.spawn(["logs", "-f"])
    stopped = world.run("stop")
    assert stopped.returncode == 0
    assert stopped.stdout.endswith(": stopped\n")
    out, _ = following.communicate(timeout=30.0)
    assert following.returncode == 0
    assert b"Application shutdown complete." in out, "its last words count"
    assert not world.engine_processes()

    over = world.run("status")
    assert (over.returncode, over.stdout.split(":")[1].split()[0]) == (5, "stopped")
    document = world.json("status")
    assert (document["state"], document["serving"], document["snapshot"]) == ("stopped", False, None)
    assert world.run("stop").returncode == 5
    assert error_of(world.run("chat", "hello", "--json"))["exit_code"] == 5
    assert world.run("logs", "-n", "1").stdout == "INFO:     Application shutdown complete.\n"
    assert world.run("logs", "-f").returncode == 0


def kill_all(*pids: int) -> None:
    """SIGKILL to all of these, so fast that none can react to the end of another."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)


def test_a_supervisor_that_was_lost(world: FakeWorld) -> None:
    run = world.detached()["run"]
    kill_all(run["guardian_pid"], run["supervisor_pid"])
    done = world.run("status")
    assert done.returncode == 0
    assert f"{run['id']} had lost its supervisor and has a new one; it went on serving" in done.stderr
    assert "READY" in done.stdout
    again = world.status()
    assert (again["state"], again["supervised"], again["run"]["server_pid"]) == ("ready", True, run["server_pid"])
    assert world.run("chat", "hello").returncode == 0
    assert error_of(world.run("engine", "remove", ENGINE, "--yes", "--json"))["exit_code"] == 2

    run = again["run"]
    engine = [process.pid for process in world.engine_processes()]
    kill_all(run["guardian_pid"], run["supervisor_pid"], *engine)
    wait_for("the server to be gone", lambda: not world.engine_processes())
    lost = world.run("status")
    assert (lost.returncode, world.status()["state"]) == (5, "crashed")
    assert "was ready when server and supervisor ended" in lost.stdout
    assert world.run("stop").returncode == 5


@pytest.mark.parametrize(("verb", "state"), [("restart", "ready"), ("stop", "stopped")])
def test_a_planned_restart_is_had_now_or_given_up(world: FakeWorld, verb: str, state: str) -> None:
    info = world.detached("--set", "supervise.restart=on-failure")["run"]

    (directory,) = world.runs.iterdir()

    def record() -> Any:
        return json.loads((directory / "run.json").read_text(encoding="utf-8"))

    def serves_anew(old: int) -> Any:
        now = record()
        return now.get("state") == "ready" and now.get("server_pid") not in (None, old) and now

    for number in (1, 2, 3):
        server = info["server_pid"]
        os.kill(server, signal.SIGKILL)
        wait_for("a planned restart", lambda count=number: record().get("reason", "").endswith(f"restart {count} of 5"))
        if number < 3:
            info = wait_for("ready", lambda old=server: serves_anew(old))
    done = world.run(verb)
    assert done.returncode == 0, done.stderr
    assert f"{info['id']}: {state}" in done.stdout
    after = world.status()
    assert after["state"] == state
    assert after["serving"] is (verb == "restart")
    if verb == "stop":
        assert "not restarted, as it was asked to stop" in after["run"]["reason"]


def test_answers_that_break_off(world: FakeWorld) -> None:
    world.fake(tokens_per_s=10)
    run = world.detached()["run"]
    chat = world.spawn(["chat", "count", "--max-tokens", "500"])
    world.in_flight()
    assert chat.stdout is not None
    os.read(chat.stdout.fileno(), 100)
    chat.send_signal(signal.SIGINT)
    _, said = chat.communicate(timeout=30.0)
    assert (chat.returncode, said) == (130, b"[stopped]\n")
    assert world.run("status").returncode == 0, "the server goes on"

    chat = world.spawn(["chat", "count", "--max-tokens", "500"])
    world.in_flight()
    assert chat.stdout is not None
    begun = os.read(chat.stdout.fileno(), 100)
    psutil.Process(run["server_pid"]).kill()
    rest, said = chat.communicate(timeout=30.0)
    assert chat.returncode == 1
    assert (begun + rest).startswith(b"word0 "), "what had come stays"
    assert b"The answer broke off" in said
    assert b"connection lost" in said
    wait_for("the crash to be noticed", lambda: world.status()["run"]["state"] == "crashed")


def test_no_answer_before_it_is_ready(world: FakeWorld) -> None:
    world.fake(hang_at="weights")
    headless = world.headless()
    wait_for("loading", lambda: headless.of("phase"))
    error = error_of(world.run("chat", "hello", "--json"))
    assert error["title"] == "The server is not ready yet"
    assert error["exit_code"] == 4
    done = world.run("status")
    assert done.stdout.startswith("● LOADING")
    assert "weights" in done.stdout
    headless.interrupt(signal.SIGTERM)
    assert headless.wait_end() == 143


def test_stop_waits_for_requests_as_long_as_it_is_told(world: FakeWorld) -> None:
    world.fake(tokens_per_s=10)
    world.detached()
    chat = world.spawn(["chat", "count", "--max-tokens", "30"])
    world.in_flight()
    stopped = world.run("stop", "--drain-timeout", "20")
    assert stopped.returncode == 0
    assert "waiting for 1 request in flight" in stopped.stderr
    chat.communicate(timeout=30.0)
    assert chat.returncode == 0, "the request in flight was answered to its end"
    assert not world.engine_processes()


SECRET = "sk-planted-7f3a9c51d2e8"


def test_the_api_key_comes_from_the_environment_and_is_written_nowhere(world: FakeWorld) -> None:
    world.env["VLLM_API_KEY"] = SECRET
    world.env["HF_TOKEN"] = f"hf_{SECRET}"
    said = []
    document = world.detached()
    said.append(json.dumps(document))
    answered = world.run("chat", "hello", "--max-tokens", "2")
    assert (answered.returncode, answered.stdout) == (0, "word0 word1 \n")
    settings = ("--set", f"env.VLLM_API_KEY={SECRET}")
    for command in (
        ("status", "--json"),
        ("logs",),
        ("profiles", "show", "cpu-smoke", "--json"),
        ("--profile", "cpu-smoke", "--dry-run", "--json"),
        ("--profile", "cpu-smoke", "--dry-run", *settings),
        ("--profile", "cpu-smoke", *settings),
    ):
        done = world.run(*command)
        said += [done.stdout, done.stderr]
    for process in world.processes():
        said.append(" ".join(process.cmdline()))
    world.env.pop("VLLM_API_KEY")
    refused = world.run("chat", "hello")
    said.append(refused.stderr)
    assert refused.returncode == 1
    assert "Set VLLM_API_KEY" in refused.stderr
    assert world.run("stop").returncode == 0
    assert not [text for text in said if SECRET in text]
    kept = [path for path in world.home.rglob("*") if path.is_file()]
    assert {"run.json", "launch.json", "events.jsonl", "server.log"} <= {path.name for path in kept}
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
