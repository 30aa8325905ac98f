"""The fake vLLM keeps the promises that other tests build on."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

FAKE = Path(__file__).with_name("fake_vllm.py")
DEADLINE_S = 15.0


def wait_for(what: Callable[[], Any], description: str) -> Any:
    """The first true value of `what`."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {DEADLINE_S:.0f} s: {description}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Run:
    """One fake server in a session of its own, its output in a file."""

    def __init__(self, tmp_path: Path, *flags: str, **variables: Any) -> None:
        self.port = free_port()
        self.connections: list[http.client.HTTPConnection] = []
        self.log_path = tmp_path / "server.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FAKE_VLLM_")}
        steering = {f"FAKE_VLLM_{name.upper()}": str(value) for name, value in variables.items()}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(FAKE), "serve", "some/model", f"--port={self.port}", *flags],
                env=clean | steering, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self.log_path.read_bytes().decode(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def post(self, path: str, body: dict[str, Any], timeout_s: float = 5) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        self.connections.append(connection)
        connection.request("POST", path, json.dumps(body))
        return connection.getresponse()

    def chat(self, **more: Any) -> http.client.HTTPResponse:
        return self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], **more})

    def healthy(self) -> bool:
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def ready(self) -> Run:
        wait_for(self.healthy, "ready")
        return self

    def metric(self, name: str) -> float:
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == name:
                    return sample.value
        raise AssertionError(f"no {name}")

    def members(self) -> dict[str, int]:
        """Live processes of its session, by the first word of their command line."""
        found: dict[str, int] = {}
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.cmdline()[0]] = process.pid
            except (psutil.Error, OSError, IndexError):
                continue
        return found

    def end(self) -> None:
        for connection in self.connections:
            connection.close()
        for pid in self.members().values():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.kill()
        self.process.wait()
        wait_for(lambda: not self.members(), "session empty")


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts fakes and ends whatever is left of them."""
    runs: list[Run] = []

    def begin(*flags: str, **variables: Any) -> Run:
        directory = tmp_path / str(len(runs))
        directory.mkdir()
        runs.append(Run(directory, *flags, **{"load_s": 0.05} | variables))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


def test_version() -> None:
    output = subprocess.run([sys.executable, str(FAKE), "--version"], capture_output=True, text=True, check=True)
    assert output.stdout == "0.33.0\n"


@pytest.mark.parametrize("variables", [{"crush_at": "memory"}, {"crash_at": "lunch"}, {"error": "nothing"}])
def test_a_misspelt_variable_is_an_error(start: Start, variables: dict[str, str]) -> None:
    run = start(**variables)
    assert run.process.wait(DEADLINE_S) == 1
    assert "fake_vllm:" in run.log


IN_ORDER = (
    "version 0.33.0",
    "Resolved architecture",
    "checkpoint shards: 100%",
    "torch.compile took",
    "KV cache size",
    "Graph capturing",
    "Available routes",
    "startup complete",
)


def test_start_answer_stop(start: Start) -> None:
    run = start("--served-model-name", "tiny", "--max-model-len", "1024").ready()
    places = [run.log.index(text) for text in IN_ORDER]
    assert places == sorted(places)
    assert {"VLLM::EngineCore", "VLLM::Worker_TP0"} < set(run.members())
    model = json.loads(run.get("/v1/models")[1])["data"][0]
    assert (model["id"], model["max_model_len"]) == ("tiny", 1024)
    run.process.terminate()
    assert run.process.wait(DEADLINE_S) == 0
    wait_for(lambda: not run.members(), "nothing left")


def test_the_port_is_taken_early_and_answers_late(start: Start) -> None:
    run = start(hang_at="weights")
    wait_for(lambda: "checkpoint shards: 100%" in run.log, "weights")
    with pytest.raises(ConnectionRefusedError):
        run.get("/health")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", run.port))


def test_a_taken_port_ends_the_start(start: Start) -> None:
    first = start().ready()
    command = [sys.executable, str(FAKE), "serve", "m", "--port", str(first.port)]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    assert output.returncode == 1
    assert "[Errno 98] Address already in use" in output.stderr


@pytest.mark.parametrize(
    ("phase", "error", "code", "text"),
    [
        ("arguments", "arguments", 2, "invalid choice: 'fp8'"),
        ("config", "heads", 1, "must be divisible by tensor parallel size"),
        ("download", "gated", 1, "GatedRepoError"),
        ("weights", "oom", 1, "CUDA out of memory"),
        ("memory", "context-too-long", 1, "estimated maximum model length"),
        ("graphs", "unknown", 1, "flux capacitor"),
    ],
)
def test_a_start_that_fails(start: Start, phase: str, error: str, code: int, text: str) -> None:
    run = start(crash_at=phase, error=error)
    assert run.process.wait(DEADLINE_S) == code
    assert text in run.log
    wait_for(lambda: not run.members(), "nothing left")


def test_a_failed_start_with_exit_0(start: Start) -> None:
    assert start(crash_at="memory", exit=0).process.wait(DEADLINE_S) == 0


def test_ends_unasked(start: Start) -> None:
    run = start(exit_after_s=0.1)
    assert run.process.wait(DEADLINE_S) == 0
    assert "shutdown triggered" not in run.log


def test_ignores_as_many_terms_as_asked(start: Start) -> None:
    run = start(hang_at="compile", ignore_term=1)
    wait_for(lambda: "Dynamo bytecode" in run.log, "compile")
    run.process.terminate()
    time.sleep(0.2)
    assert run.process.poll() is None
    run.process.terminate()
    assert run.process.wait(DEADLINE_S) == 0


def test_children_outlive_a_killed_server_and_free_its_port(start: Start) -> None:
    run = start().ready()
    run.process.kill()
    run.process.wait()
    left = run.members()
    assert set(left) == {"VLLM::EngineCore", "VLLM::Worker_TP0"}
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", run.port))
    os.kill(left["VLLM::EngineCore"], signal.SIGKILL)
    wait_for(lambda: not run.members(), "worker gone after its engine")


def test_stubborn_children_stay(start: Start) -> None:
    run = start(stubborn=1).ready()
    run.process.terminate()
    assert run.process.wait(DEADLINE_S) == 0
    assert "VLLM::EngineCore" in run.members()


@pytest.mark.parametrize("victim", ["VLLM::EngineCore", "VLLM::Worker_TP0"])
def test_a_killed_engine_ends_the_server_with_0(start: Start, victim: str) -> None:
    run = start().ready()
    os.kill(run.members()[victim], signal.SIGKILL)
    assert run.process.wait(DEADLINE_S) == 0
    assert "EngineDeadError" in run.log


def test_chat_streams_with_reasoning_and_usage(start: Start) -> None:
    run = start(answer="[bold]red[/] roses", reasoning="let me think").ready()
    text = run.chat(stream=True, stream_options={"include_usage": True}).read().decode()
    events = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == "let me think "
    assert "".join(delta.get("content", "") for delta in deltas) == "[bold]red[/] roses "
    assert events[-1]["usage"] == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
    assert text.endswith("data: [DONE]\n\n")
    wait_for(lambda: run.metric("vllm:request_success_total") == 1, "counted")
    assert run.metric("vllm:generation_tokens_total") == 5
    assert run.metric("vllm:time_to_first_token_seconds_count") == 1
    assert run.metric("vllm:request_generation_tokens_sum") == 5


def test_the_first_request_kills_the_engine(start: Start) -> None:
    run = start(crash_at="request", error="illegal-access").ready()
    assert run.chat().status == 500
    assert run.process.wait(DEADLINE_S) == 0
    assert "illegal memory access" in run.log


def test_hangs_with_health_answering(start: Start) -> None:
    run = start(hang_after_s=0.0).ready()
    wait_for(lambda: run.get("/health")[0] == 200, "health")
    with pytest.raises(TimeoutError):
        run.post("/v1/chat/completions", {"messages": [], "max_tokens": 1000}, timeout_s=0.5).read()
    assert run.metric("vllm:num_requests_running") == 1
    assert run.healthy()


def test_drains(start: Start) -> None:
    run = start("--shutdown-timeout", "10", tokens_per_s=20).ready()
    answer = run.chat(max_tokens=10)
    run.process.terminate()
    assert answer.read().decode().endswith("[DONE]\n\n")
    assert run.process.wait(DEADLINE_S) == 0
    assert "mode=drain timeout=10s" in run.log


def test_a_client_that_goes_away_is_counted_as_aborted(start: Start) -> None:
    run = start(tokens_per_s=100).ready()
    run.chat(max_tokens=1000).close()
    run.connections.pop().close()
    wait_for(lambda: run.metric("vllm:num_requests_running") == 0, "request over")
    assert 'finished_reason="abort"} 1.0' in run.get("/metrics")[1]


def test_pretended_load_and_changes_at_run_time(start: Start) -> None:
    run = start(load="2,14,0.5,1000").ready()
    assert run.metric("vllm:num_requests_waiting") == 14
    assert run.metric("vllm:kv_cache_usage_perc") == 0.5
    wait_for(lambda: run.metric("vllm:generation_tokens_total") > 0, "tokens")
    run.post("/fake", {"unhealthy": True, "preemptions": 7})
    assert run.get("/health")[0] == 503
    assert run.metric("vllm:num_preemptions_total") == 7
    run.post("/fake", {"crash": "nccl"})
    assert run.process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(("kind", "status"), [("off", 404), ("broken", 200)])
def test_metrics_faults(start: Start, kind: str, status: int) -> None:
    found, text = start(metrics=kind).ready().get("/metrics")
    assert found == status
    assert "vllm:" not in text


def test_noise_and_storm(start: Start) -> None:
    run = start(noise="ansi,long,invalid,markup,nul", log_storm=500).ready()
    raw = run.log_path.read_bytes()
    for piece in (b"\x1b[2J", b"L" * 200_000, b"\xff\xfe", b"[bold]", b"\x00"):
        assert piece in raw
    before, began = run.log.count("\n"), time.monotonic()
    wait_for(lambda: run.log.count("\n") - before >= 250, "storm")
    assert 0.2 < time.monotonic() - began < 5
