"""Lines, their parts, and the phases of recorded starts."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.logparse import LineParser, LineSplitter, LogLevel, parse_line
from console.core.models import PHASES, Phase
from console.core.phases import KEY_CHARS, PHASE_ROWS, PhaseRow, PhaseTracker, StartFacts
from console.core.text import LINE_CHARS_MAX

LOGS = Path(__file__).parent.parent / "data" / "logs"


def split(data: bytes) -> list[str]:
    splitter = LineSplitter()
    return splitter.feed(data) + splitter.flush()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\r\r\n\r\nc", ["a", "b", "", "c"]),
        (b"\rload 1%\rload 2%\rload 100%\nnext\n", ["load 100%", "next"]),
        (b"(EngineCore pid=7) \rload 1%\rload 100%\n", ["(EngineCore pid=7) load 100%"]),
        (b"bar 1%\rbar 2%\r         \rdone\n", ["done"]),
        (b"bar 1%\rbar 2%\r         \n", ["bar 2%"]),
        (b"\xff\xfebad\n", ["\ufffd\ufffdbad"]),
        (b"\x1b[31mred\x1b[0m\n", ["red"]),
        (b"", []),
    ],
)
def test_lines(data: bytes, lines: list[str]) -> None:
    assert split(data) == lines


@given(
    st.lists(
        st.sampled_from([b"ab", b"\r", b"\n", b"\r\n", b"  ", b"(W pid=1) ", "é█".encode(), b"\xff"]), max_size=20
    ),
    st.integers(1, 7),
)
def test_lines_do_not_depend_on_the_pieces(parts: list[bytes], step: int) -> None:
    data = b"".join(parts)
    splitter = LineSplitter()
    lines = list(itertools.chain.from_iterable(splitter.feed(data[i : i + step]) for i in range(0, len(data), step)))
    assert lines + splitter.flush() == split(data)


def test_a_bar_is_seen_before_it_ends() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"(Worker_TP0 pid=7) \rLoading 1%\rLoading 7%") == []
    assert splitter.partial == "(Worker_TP0 pid=7) Loading 7%"
    for number in range(20_000):
        splitter.feed(b"\rLoading %d%%" % number)
    assert splitter.partial == "(Worker_TP0 pid=7) Loading 19999%"
    assert splitter.feed(b"\n") == ["(Worker_TP0 pid=7) Loading 19999%"]
    assert splitter.partial == ""


@pytest.mark.parametrize("step", [1_000, 65_536, 2_000_000])
def test_a_long_line_is_cut_and_says_so(step: int) -> None:
    data = b"x" * 1_000_000 + b"\nnext\n"
    splitter = LineSplitter()
    lines: list[str] = []
    for start in range(0, len(data), step):
        lines += splitter.feed(data[start : start + step])
        assert len(splitter.partial) < LINE_CHARS_MAX + 40
    assert lines == ["x" * LINE_CHARS_MAX + f" … [{1_000_000 - LINE_CHARS_MAX:,} cut]", "next"]


@pytest.mark.parametrize(
    ("text", "proc", "pid", "level", "time", "source", "message"),
    [
        (
            "(APIServer pid=15258) INFO 11-23 10:39:28 [model.py:733] Resolved architecture: X",
            "APIServer", 15258, "INFO", "11-23 10:39:28", "model.py:733", "Resolved architecture: X",
        ),
        (
            "(Worker_DP0_TP1 pid=9) ERROR 11-23 10:39:28 [multiproc_executor.py:1063]   File \"x\"",
            "Worker_DP0_TP1", 9, "ERROR", "11-23 10:39:28", "multiproc_executor.py:1063", "  File \"x\"",
        ),
        (
            "(VllmWorker TP0 pid=9) WARNING 11-23 10:39:28 [v1/worker/.../x/y.py:1] w",
            "VllmWorker TP0", 9, "WARNING", "11-23 10:39:28", "v1/worker/.../x/y.py:1", "w",
        ),
        ("INFO 11-23 10:39:28 [a.py:1] m", None, None, "INFO", "11-23 10:39:28", "a.py:1", "m"),
        ("INFO:     Started server process [9]", None, None, "INFO", None, None, "Started server process [9]"),
        ("ERROR:    [Errno 98] in use", None, None, "ERROR", None, None, "[Errno 98] in use"),
        (
            "(EngineCore pid=7) 2026-11-23 11:42:58,159 - INFO - autotuner.py:651 - flashinfer.jit: go",
            "EngineCore", 7, "INFO", "2026-11-23 11:42:58", "autotuner.py:651", "flashinfer.jit: go",
        ),
        (
            "[W1123 11:42:26.010902537 socket.cpp:207] [c10d] no name",
            None, None, "WARNING", "1123 11:42:26", "socket.cpp:207", "[c10d] no name",
        ),
        (
            "[rank3]:[E1123 11:42:26.010902537 ProcessGroupNCCL.cpp:632] [Rank 3] Watchdog caught",
            None, None, "ERROR", "1123 11:42:26", "ProcessGroupNCCL.cpp:632", "[Rank 3] Watchdog caught",
        ),
        (
            "node1:71:105 [2] include/shm.h:43 NCCL WARN Error while creating shared memory segment",
            None, None, "WARNING", None, None, "Error while creating shared memory segment",
        ),
        ("x/dispatcher.py:138: FutureWarning: old", None, None, "WARNING", None, "x/dispatcher.py:138", "old"),
        ("main.py serve: error: argument --dtype: bad", None, None, "ERROR", None, None, "argument --dtype: bad"),
        ("vllm: error: unrecognized arguments: --x", None, None, "ERROR", None, None, "unrecognized arguments: --x"),
        ("(APIServer pid=7) a.b.SomeError: text", "APIServer", 7, "ERROR", None, None, "a.b.SomeError: text"),
        ("plain words", None, None, None, None, None, "plain words"),
        ("", None, None, None, None, None, ""),
    ],
)  # fmt: skip
def test_parts(
    text: str,
    proc: str | None,
    pid: int | None,
    level: str | None,
    time: str | None,
    source: str | None,
    message: str,
) -> None:
    line = parse_line(text)
    assert (line.proc, line.pid, line.level, line.time, line.source, line.message) == (
        proc, pid, level, time, source, message,
    )  # fmt: skip
    assert line.text == text


def test_json_lines() -> None:
    text = json.dumps(
        {
            "asctime": "2026-11-23 10:39:28,123",
            "levelname": "ERROR",
            "name": "vllm.v1.engine.core",
            "processName": "EngineCore",
            "process": 77,
            "message": "EngineCore failed to start.\nTraceback\x1b[31m",
            "vllm_process_name": "EngineCore_DP0",
        }
    )
    line = parse_line(text)
    assert (line.proc, line.pid, line.level, line.source) == ("EngineCore_DP0", 77, "ERROR", "vllm.v1.engine.core")
    assert line.message == "EngineCore failed to start. Traceback"
    assert line.text == text
    broken = parse_line('{"levelname": "INFO", "message": ')
    assert broken.level is None


def test_a_long_json_line_keeps_its_exception() -> None:
    trace = "Traceback (most recent call last):\n" + '  File "x.py", line 1, in f\n    g()\n' * 400 + "ValueError: new"
    fields = {"levelname": "ERROR", "message": "EngineCore failed to start.", "process": 7, "exc_info": trace}
    (text,) = split(json.dumps(fields).encode() + b"\n")
    assert len(text) <= LINE_CHARS_MAX
    line = parse_line(text)
    assert line.level is LogLevel.ERROR
    assert line.message.startswith("EngineCore failed to start. Traceback (most recent call last):")
    assert line.message.endswith("ValueError: new")
    assert " cut]" in line.message


def test_json_lines_drive_phases() -> None:
    tracker = PhaseTracker()
    text = json.dumps({"levelname": "INFO", "message": "Available KV cache memory: 65.14 GiB", "process": 7})
    tracker.feed(parse_line(text))
    assert tracker.facts.kv_available_gib == 65.14


def test_tracebacks_inherit_their_level_per_process() -> None:
    parser = LineParser()
    levels = [
        parser.parse(text).level
        for text in (
            "(APIServer pid=1) Traceback (most recent call last):",
            '(APIServer pid=1)   File "a.py", line 1, in f',
            "(EngineCore pid=2) just a line",
            "(APIServer pid=1)     f()",
            "(APIServer pid=1) pydantic.ValidationError: 1 validation error for ModelConfig",
            "(APIServer pid=1)   Value error, User-specified max_model_len",
            "(APIServer pid=1) ",
            "(APIServer pid=1) The above exception was the direct cause of the following exception:",
            "(APIServer pid=1) after the end",
            "(APIServer pid=1) INFO 11-23 10:39:28 [a.py:1] fine",
            "(APIServer pid=1)  indented later",
        )
    ]
    error = LogLevel.ERROR
    assert levels == [error, error, None, error, error, error, error, error, None, LogLevel.INFO, None]


@given(st.text())
def test_any_text_is_a_line(text: str) -> None:
    parser, tracker = LineParser(), PhaseTracker()
    line = parser.parse(text)
    assert line.text == text
    tracker.feed(line)


@pytest.mark.parametrize("row", PHASE_ROWS, ids=lambda row: f"{row.phase}-{row.start[:20]}")
def test_every_phase_row_matches_its_example_and_no_earlier_row_does(row: PhaseRow) -> None:
    message = row.example.lstrip()
    assert len(row.start) >= KEY_CHARS
    assert next(other for other in PHASE_ROWS if other.pattern.match(message)) is row
    update = PhaseTracker().feed(parse_line(f"(Worker_TP0 pid=7) INFO 11-23 10:39:28 [a.py:1] {row.example}"))
    assert update is not None
    assert update.phase == row.phase
    assert update.detail
    assert "{" not in update.detail
    assert set(row.pattern.groupindex) <= {*StartFacts.__struct_fields__, "percent", "done", "total", "part"}


def follow(name: str) -> tuple[PhaseTracker, list[Phase]]:
    parser, tracker = LineParser(), PhaseTracker()
    seen: list[Phase] = []
    for text in split((LOGS / name).read_bytes()):
        update = tracker.feed(parser.parse(text))
        if update is not None and (not seen or seen[-1] != update.phase):
            seen.append(update.phase)
    return tracker, seen


def test_phases_of_the_cpu_start() -> None:
    tracker, seen = follow("cpu-0.32.0/startup-ready-stop.log")
    assert seen == [Phase.CONFIG, Phase.WEIGHTS, Phase.MEMORY, Phase.GRAPHS, Phase.SERVER]
    assert tracker.facts == StartFacts(
        engine_version="0.32.0",
        architecture="LlamaForCausalLM",
        kv_available_gib=1.0,
        kv_cache_tokens=2_097_152,
        max_concurrency=2048.0,
        max_model_len=1024,
        init_engine_s=2.39,
        server_url="http://127.0.0.1:8123",
    )
    assert tracker.current is not None
    assert tracker.current.detail == "started"


def test_phases_of_the_h100_start() -> None:
    tracker, seen = follow("h100-0.26.0/startup-until-graphs.log")
    assert seen == [Phase.CONFIG, Phase.WEIGHTS, Phase.COMPILE, Phase.MEMORY, Phase.GRAPHS]
    assert tracker.facts == StartFacts(
        engine_version="0.26.0",
        architecture="LlamaForCausalLM",
        weights_gib=6.55,
        load_s=4.960412,
        kv_available_gib=65.14,
        kv_cache_tokens=1_067_264,
        max_concurrency=130.28,
        max_model_len=8192,
        compile_s=22.12,
        graph_capture_s=2.0,
        graph_capture_gib=0.18,
    )


def test_kernels_of_deepseek_v4_are_warmed_up_before_the_graphs() -> None:
    tracker, seen = follow("h100-0.26.0/startup-v4-kernels.log")
    assert seen == [Phase.CONFIG, Phase.WEIGHTS, Phase.MEMORY, Phase.GRAPHS]
    assert tracker.current is not None
    assert tracker.current.detail == "kernel mhc_pre_big_fuse_with_norm_tilelang"
    assert (tracker.facts.kv_cache_tokens, tracker.facts.kv_available_gib) == (1_681_250, 28.81)


def test_deepseek_v4_to_its_readiness() -> None:
    """One H200: 62 of the 107 s are kernels, compiled for each shape on the first start."""
    tracker, seen = follow("h200-0.26.0/startup-v4-ready.log")
    assert seen == [Phase.CONFIG, Phase.WEIGHTS, Phase.MEMORY, Phase.GRAPHS, Phase.SERVER]
    assert (tracker.facts.weights_gib, tracker.facts.kv_available_gib) == (39.63, 83.37)
    assert (tracker.facts.kv_cache_tokens, tracker.facts.max_concurrency) == (4_865_499, 148.48)


def test_each_data_parallel_engine_says_its_own_cache() -> None:
    """V4-Flash whole on two H200: the smallest one counts."""
    tracker, _ = follow("h200-0.26.0/startup-v4-dep2-kernels.log")
    assert (tracker.facts.weights_gib, tracker.facts.kv_cache_tokens) == (82.97, 832_707)


def test_progress_of_bars() -> None:
    tracker = PhaseTracker()
    update = tracker.feed(parse_line("Loading safetensors checkpoint shards:   7% Completed | 3/46 [00:04<01:01]"))
    assert update is not None
    assert (update.phase, update.detail) == (Phase.WEIGHTS, "shard 3/46")
    assert update.progress == pytest.approx(3 / 46)
    update = tracker.feed(parse_line("(EngineCore pid=1) Capturing CUDA graphs (FULL):  45%|██▌  | 5/11 [00:00<00:00]"))
    assert update is not None
    assert (update.phase, update.detail, update.progress) == (Phase.GRAPHS, "FULL 5/11", 5 / 11)


@given(st.lists(st.sampled_from(PHASE_ROWS), max_size=30))
def test_phases_never_go_back(rows: list[PhaseRow]) -> None:
    tracker = PhaseTracker()
    before = -1
    for row in rows:
        tracker.feed(parse_line(row.example))
        assert tracker.current is not None
        now = PHASES.index(tracker.current.phase)
        assert now >= before
        assert now >= PHASES.index(row.phase)
        before = now


def test_capacity_is_the_smallest_engine_and_cost_the_largest_worker() -> None:
    tracker = PhaseTracker()
    for message in (
        "GPU KV cache size: 2,000 tokens, Maximum concurrency for 100 tokens per request: 20.00x",
        "GPU KV cache size: 1,000 tokens, Maximum concurrency for 100 tokens per request: 10.00x",
        "Model loading took 20.5 GiB memory and 9.0 seconds",
        "Model loading took 21.5 GiB memory and 8.0 seconds",
    ):
        tracker.feed(parse_line(message))
    assert tracker.facts == StartFacts(
        kv_cache_tokens=1000, max_concurrency=10.0, max_model_len=100, weights_gib=21.5, load_s=9.0
    )
