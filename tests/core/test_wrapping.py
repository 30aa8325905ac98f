"""Logs that somebody else's tool has put its own words in front of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from console.core.diagnosis import Diagnoser
from console.core.logparse import LineSplitter
from console.core.models import Diagnosis
from console.core.wrapping import AnyLogParser, unwrap

LOGS = Path(__file__).parent.parent / "data" / "logs"
PREFIXES = {
    "docker logs -t": "2026-11-23T11:58:03.123456789Z ",
    "kubelet": "2026-11-23T11:58:03.123456789Z stderr F ",
    "kubectl --prefix --timestamps": "[pod/vllm-0/vllm] 2026-11-23T11:58:03.123456789+00:00 ",
    "docker compose -t": "vllm-1  | 2026-11-23T11:58:03.123Z ",
    "docker compose": "serving  | ",
    "journalctl": "Nov 23 11:58:03 gpu-1 vllm[4711]: ",
    "journalctl, one digit": "Nov  3 11:58:03 gpu-1.example.org python3[71]: ",
    "journalctl -o short-iso": "2026-11-23T11:58:03+0000 gpu-1 vllm[4711]: ",
}
FAILED = ("fail-context-above-memory.log", "fail-no-weights.log", "fail-port-taken.log", "fail-no-weights-json.log")


def read(data: bytes) -> Diagnosis | None:
    splitter, parser, diagnoser = LineSplitter(), AnyLogParser(), Diagnoser()
    for number, text in enumerate([*splitter.feed(data), *splitter.flush()], start=1):
        diagnoser.feed(number, parser.parse(text))
    return diagnoser.result()


def recorded(name: str) -> list[str]:
    splitter = LineSplitter()
    return splitter.feed((LOGS / "cpu-0.32.0" / name).read_bytes()) + splitter.flush()


def docker_json(line: str) -> str:
    return json.dumps({"log": f"{line}\n", "stream": "stderr", "time": "2026-11-23T11:58:03.123456789Z"})


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("line", ["(EngineCore pid=7) ERROR 11-23 10:39:28 [core.py:1] ValueError: x", "  File x", ""])
def test_a_prefix_is_taken_off(prefix: str, line: str) -> None:
    assert unwrap(prefix + line) == line


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-23 11:42:58,159 - INFO - autotuner.py:651 - flashinfer.jit: tuned",
        "Loading safetensors checkpoint shards:  67% Completed | 2/3 [00:01<00:00]",
        "INFO:     Application startup complete.",
        "  File | x",
        '{"log": 3}',
        '{"log":"unfinished',
        "",
    ],
)
def test_what_nobody_wrapped_stays(line: str) -> None:
    assert unwrap(line) == line


@pytest.mark.parametrize("name", FAILED)
@pytest.mark.parametrize("prefix", [*PREFIXES.values(), None], ids=[*PREFIXES, "docker's own file"])
def test_a_wrapped_log_has_the_same_diagnosis(name: str, prefix: str | None) -> None:
    lines = recorded(name)
    plain = read("\n".join(lines).encode())
    wrapped = [docker_json(line) if prefix is None else prefix + line for line in lines]
    found = read("\r\n".join(wrapped).encode())
    assert plain is not None
    assert found is not None
    assert (found.cause, found.line, found.title, found.change) == (plain.cause, plain.line, plain.title, plain.change)
    if prefix is not None:
        assert found.line is not None
        assert found.text == wrapped[found.line - 1]


def test_colours_and_a_ray_prefix() -> None:
    place = b"\x1b[36m(EngineCore pid=7, ip=10.0.0.3)\x1b[0m"
    found = read(place + b" \x1b[31mERROR\x1b[0m 11-23 10:39:28 [core.py:1] CUDA out of memory")
    assert found is not None
    assert found.cause == "gpu-out-of-memory"
    assert "\x1b" not in found.text


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_a_wrapped_healthy_log_has_no_diagnosis(prefix: str) -> None:
    assert read("\n".join(prefix + line for line in recorded("startup-ready-stop.log")).encode()) is None
