"""The table of failures and what is read from failing logs with it."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.diagnosis import BLOCKS_MAX, EXITS, Diagnoser, diagnose
from console.core.failures import FAILURES, Failure, FailureLevel, Stage
from console.core.logparse import PROCESSES_MAX, LineParser, LineSplitter, parse_line
from console.core.models import Diagnosis
from console.core.profile import Profile

SECTIONS: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Profile)}
LOGS = Path(__file__).parent.parent / "data" / "logs"


def recorded(name: str) -> list[str]:
    splitter = LineSplitter()
    name = name.replace("cpu/", "cpu-0.32.0/").replace("h100/", "h100-0.26.0/").replace("h200/", "h200-0.26.0/")
    return splitter.feed((LOGS / name).read_bytes()) + splitter.flush()


def as_error(message: str) -> str:
    return f"(Worker_TP0 pid=7) ERROR 11-23 10:39:28 [core.py:1510] {message}"


def test_ids_are_unique() -> None:
    assert len({row.id for row in FAILURES}) == len(FAILURES)
    assert len({row.code for row in EXITS}) == len(EXITS)


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.id)
def test_row(row: Failure) -> None:
    assert row.title
    assert not row.title.endswith(".")
    assert row.remedy.endswith(".")
    assert not row.why or row.why.endswith(".")
    message = parse_line(row.example).message
    found = row.pattern.search(message)
    assert found is not None
    first = next(
        other
        for other in FAILURES
        if (other is row or not other.after)
        and any(needle in message for needle in other.needles)
        and other.pattern.search(message)
    )
    assert first is row
    for text in (row.title, row.why):
        assert {name for _, name, _, _ in string.Formatter().parse(text) if name} <= set(row.pattern.groupindex)
    if row.change is not None:
        for change in row.change(found, {}):
            section, _, key = change.key.partition(".")
            assert section in SECTIONS
            assert section == "env" or key.partition(".")[0] in SECTIONS[section].__struct_fields__


@pytest.mark.parametrize(
    "row", [row for row in FAILURES if row.level is not FailureLevel.NOISE], ids=lambda row: row.id
)
def test_row_is_found_in_a_log(row: Failure) -> None:
    lines = [row.after] if row.after else []
    lines += [as_error(row.example) if parse_line(row.example).level is None else row.example] * row.repeats
    diagnosis = diagnose(lines)
    assert diagnosis is not None
    assert diagnosis.cause == row.id
    assert "{" not in diagnosis.title + diagnosis.why
    assert diagnosis.line == len(lines)


@pytest.mark.parametrize(
    ("name", "exit_code", "cause", "begins", "change"),
    [
        ("cpu/fail-context-above-memory.log", 1, "context-above-memory", "(EngineCore",
         ("serve.max_model_len", 1024, 96)),
        ("cpu/fail-context-above-model.log", 1, "context-above-model", "  Value error",
         ("serve.max_model_len", 999999, 131072)),
        ("cpu/fail-dtype.log", 2, "argument-choice", "vllm serve: error: argument --dtype",
         ("serve.dtype", "fp8", None)),
        ("cpu/fail-model-dir.log", 1, "model-id-invalid", "  Value error", None),
        ("cpu/fail-model-offline.log", 1, "model-offline", "huggingface_hub.errors.LocalEntry", None),
        ("cpu/fail-no-weights.log", 1, "weights-missing", "(Worker", None),
        ("cpu/fail-port-taken.log", 1, "port-in-use", "OSError: [Errno 98]",
         ("serve.port", 8462, 8463)),
        ("cpu/fail-tensor-parallel.log", 1, "heads-not-divisible", "  Value error",
         ("serve.tensor_parallel_size", 3, 2)),
        ("cpu/fail-threads-binding.log", 1, "threads-binding", "(EngineCore",
         ("env.VLLM_CPU_OMP_THREADS_BIND", None, "0|1")),
        ("cpu/fail-tool-parser.log", 1, "tool-parser-unknown", "KeyError",
         (("serve.tool_call_parser", "nope", None), ("serve.enable_auto_tool_choice", True, None))),
        ("cpu/fail-no-weights-json.log", 1, "weights-missing", '{"asctime"', None),
        ("cpu/fail-unknown-flag.log", 2, "argument-unknown", "vllm: error",
         ("serve.extra.no_such_flag", "3", None)),
        ("cpu/fail-tool-choice.log", 1, "tool-parser-missing", "TypeError",
         ("serve.enable_auto_tool_choice", True, None)),
        ("cpu/ready-then-dies-on-first-request.log", 0, "triton-missing", "(Worker", None),
        ("cpu/fail-architecture.log", 1, "architecture-unknown", "  Value error", None),
        ("cpu/fail-chat-template.log", 1, "template-missing", "vllm.exceptions.VLLMValidationError",
         ("serve.extra.chat_template", "./no-such-template.jinja", None)),
        ("cpu/fail-config-json.log", 1, "config-unreadable", "OSError: It looks like", None),
        ("cpu/fail-kv-space-huge.log", 1, "cpu-kv-space", "(Worker",
         ("env.VLLM_CPU_KVCACHE_SPACE", "4000.0", "6")),
        ("cpu/fail-memory-utilization.log", 1, "cpu-memory-taken", "(VllmWorker-0",
         ("serve.gpu_memory_utilization", 0.99, 0.86)),
        ("cpu/fail-model-type.log", 1, "architecture-unknown", "(APIServer", None),
        ("cpu/fail-no-kv-memory.log", 1, "cpu-no-kv-memory", "(Worker",
         ("serve.gpu_memory_utilization", 0.01, None)),
        ("cpu/fail-open-files.log", 1, "too-many-files", "(Worker", None),
        ("cpu/fail-quantization-mismatch.log", 1, "quantization-mismatch", "  Value error",
         ("serve.quantization", "awq", None)),
        ("cpu/fail-reasoning-parser.log", 1, "reasoning-parser-unknown", "KeyError",
         ("serve.reasoning_parser", "nope", None)),
        ("cpu/two-workers-one-killed.log", 0, "worker-killed", "(EngineCore", None),
        ("h100/fail-dtype-fp8.log", 2, "argument-choice", "main.py serve: error", ("serve.dtype", "fp8", None)),
        ("h100/fail-model-path.log", 1, "model-id-invalid", "(APIServer", None),
        ("h100/fail-world-size.log", 1, "world-above-gpus", "(APIServer", None),
        ("h100/fail-context-above-memory.log", 1, "context-above-memory", "(EngineCore",
         ("serve.max_model_len", 131072, 32768)),
        ("h100/fail-weights-too-large.log", 1, "weights-out-of-memory", "(EngineCore", None),
        ("h100/fail-memory-taken.log", 1, "memory-taken", "(EngineCore", None),
        ("h100/fail-module-missing.log", 1, "module-missing", "(EngineCore", None),
        ("h200/fail-v4-tp2-module-missing.log", 1, "module-missing", "(Worker_TP1", None),
        ("h100/engine-killed.log", 0, "output-handler", "(APIServer", None),
    ],
)  # fmt: skip
def test_recorded_failures(name: str, exit_code: int, cause: str, begins: str, change: tuple[Any, ...] | None) -> None:
    lines = recorded(name)
    for code in (exit_code, None):
        diagnosis = diagnose(lines, code)
        assert diagnosis is not None
        assert diagnosis.cause == cause
        assert diagnosis.text.startswith(begins)
        assert diagnosis.line is not None
        assert lines[diagnosis.line - 1] == diagnosis.text
        expected = () if change is None else change if isinstance(change[0], tuple) else (change,)
        assert tuple((item.key, item.before, item.after) for item in diagnosis.change) == expected


@pytest.mark.parametrize(
    "name",
    [
        "cpu/startup-ready-stop.log",
        "cpu/healthy-two-workers.log",
        "h100/startup-until-graphs.log",
        "h100/startup-ready.log",
        "h100/startup-v4-kernels.log",
        "h200/startup-v4-ready.log",
        "h200/startup-v4-dep2-kernels.log",
        "h200/serving-v4-flash-tp2.log",
    ],
)
def test_a_healthy_log_has_no_diagnosis(name: str) -> None:
    assert diagnose(recorded(name)) is None
    assert diagnose(recorded(name), 0) is None


def test_an_unknown_failure_shows_its_block_to_the_end() -> None:
    diagnosis = diagnose(recorded("h100/fail-v4-dummy-weights.log"), 1)
    assert diagnosis is not None
    assert diagnosis.cause is None
    assert diagnosis.title == "EngineCore: AssertionError"
    assert "assert self.hc_attn_fn_broadcast is not None" in diagnosis.text


def test_every_recording_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert {path.name for path in LOGS.glob("*/*.log") if f"/{path.name}" not in text} == set()


def test_the_recordings_show_many_ways_to_fail() -> None:
    causes = set()
    for path in LOGS.glob("cpu-*/*.log"):
        found = diagnose(recorded(f"cpu/{path.name}"), 1)
        causes.add(found.cause if found is not None else None)
    assert len(causes - {None}) >= 14


def unknown_crash() -> list[str]:
    return [line.replace("Disabling Triton", "…") for line in recorded("cpu/ready-then-dies-on-first-request.log")]


def test_an_unknown_failure_is_the_first_error_of_the_engine() -> None:
    diagnosis = diagnose(unknown_crash(), 0)
    assert diagnosis is not None
    assert diagnosis.cause is None
    assert diagnosis.title == "Worker: TypeError: 'function' object is not subscriptable"
    assert diagnosis.line == 107
    text = diagnosis.text.splitlines()
    assert text[:2] == ["WorkerProc hit an exception.", "…"]
    assert text[-1].endswith("TypeError: 'function' object is not subscriptable")
    assert len(text) < 20


def test_an_unknown_uncaught_exception_is_found() -> None:
    diagnosis = diagnose(
        [
            "(APIServer pid=1) INFO 11-23 10:39:28 [a.py:1] non-default args: {}",
            "(APIServer pid=1) ERROR 11-23 10:39:28 [b.py:1] could not do a minor thing",
            "Traceback (most recent call last):",
            '  File "x.py", line 1, in f',
            "    g()",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
            "  Value error, something new [type=value_error]",
        ],
        1,
    )
    assert diagnosis is not None
    assert diagnosis.title.endswith(
        "ValidationError: 1 validation error for ModelConfig: Value error, something new [type=value_error]"
    )
    assert diagnosis.line == 3


def test_an_unknown_argument_error_is_shown() -> None:
    diagnosis = diagnose(["usage: vllm serve", "vllm serve: error: argument --port: expected one argument"], 2)
    assert diagnosis is not None
    assert diagnosis.title == "argument --port: expected one argument"
    assert diagnosis.line == 2


def test_json_log() -> None:
    def line(message: str) -> str:
        return json.dumps({"levelname": "ERROR", "message": message, "process": 7, "vllm_process_name": "EngineCore"})

    trace = "EngineCore failed to start.\nTraceback (most recent call last):\n  File\n"
    known = diagnose([line(trace + "ValueError: No available memory for the cache blocks. Try")])
    assert known is not None
    assert known.cause == "no-kv-memory"
    unknown = diagnose([line(trace + "ValueError: quite new")])
    assert unknown is not None
    assert unknown.title == "EngineCore: ValueError: quite new"


def test_an_earlier_cause_wins_over_later_reports() -> None:
    cause = next(row for row in FAILURES if row.id == "gpu-out-of-memory")
    reports = [as_error(row.example) for row in FAILURES if row.level is FailureLevel.WRAPPER]
    other = next(row for row in FAILURES if row.id == "nccl-error")
    diagnosis = diagnose([*reports, as_error(cause.example), *reports, as_error(other.example)])
    assert diagnosis is not None
    assert diagnosis.cause == cause.id


def test_what_a_start_survived_is_no_cause() -> None:
    lines = [as_error("CUDA out of memory"), "INFO:     Application startup complete."]
    assert diagnose(lines) is None
    assert diagnose([*lines, as_error("RuntimeError: new")], 0) is not None


def test_a_second_start_in_the_same_file_counts_alone() -> None:
    start = "(APIServer pid=9) INFO 11-23 10:39:28 [api_utils.py:286] non-default args: {}"
    lines = [*recorded("cpu/fail-no-weights.log"), start]
    assert diagnose(lines) is None
    again = diagnose([*lines, as_error("ValueError: No available memory for the cache blocks.")])
    assert again is not None
    assert again.cause == "no-kv-memory"


def test_a_request_does_not_blame_the_download() -> None:
    up = "INFO:     Application startup complete."
    bad = "(APIServer pid=1) ERROR 11-23 10:39:28 [serving.py:1] 403 Client Error: for url http://pictures"
    crash = as_error("RuntimeError: CUDA error: an illegal memory access was encountered")
    diagnosis = diagnose([up, bad, crash])
    assert diagnosis is not None
    assert diagnosis.cause == "illegal-access"


def test_the_error_of_one_request_is_no_failure_of_the_server() -> None:
    up = "INFO:     Application startup complete."
    logged = "(APIServer pid=1) ERROR 11-23 10:39:28 [serving.py:1] RuntimeError: one prompt was odd"
    uvicorn = [
        "ERROR:    Exception in ASGI application",
        "Traceback (most recent call last):",
        "  File",
        "KeyError: 'x'",
    ]
    assert diagnose([up, logged, *uvicorn]) is None
    assert diagnose([up, logged, *uvicorn], 0) is None
    ended = diagnose([up, logged], 1)
    assert ended is not None
    assert ended.line == 2
    crashed = diagnose([up, logged, *uvicorn[1:3], "SystemError: the server itself"])
    assert crashed is not None
    assert "the server itself" in crashed.title
    starting = diagnose([logged])
    assert starting is not None
    assert starting.line == 1


def test_errors_after_a_wanted_stop_are_none() -> None:
    stop = "(APIServer pid=1) INFO 11-23 11:58:28 [launcher.py:254] [shutdown] API server: shutdown triggered"
    assert diagnose([stop, as_error("CUDA out of memory"), as_error("something unknown")], 0) is None
    cleanup = "(EngineCore pid=1) INFO 11-23 13:10:26 [m.py:479] [shutdown] Executor: waiting for worker exit count=0"
    assert diagnose([cleanup, as_error("CUDA out of memory")], 1) is not None


@pytest.mark.parametrize("row", EXITS, ids=lambda row: str(row.code))
def test_exit_status_counts_where_the_log_is_silent(row: Any) -> None:
    lines = ["(APIServer pid=1) INFO 11-23 10:39:28 [a.py:1] serving happily"]
    codes = [row.code, 128 - row.code] if row.code < 0 else [row.code]
    for code in codes:
        diagnosis = diagnose(lines, code)
        assert diagnosis is not None
        assert diagnosis.title == row.title
        assert diagnosis.text == lines[0]
    known = diagnose([as_error("CUDA out of memory")], row.code)
    assert known is not None
    assert known.cause == "gpu-out-of-memory"


def test_an_unexplained_exit_says_so() -> None:
    diagnosis = diagnose(["INFO:     fine"], 7)
    assert diagnosis is not None
    assert "7" in diagnosis.title
    assert diagnose([], 1) is not None
    assert diagnose([], 0) is None
    assert diagnose([]) is None


def test_a_slow_rank_is_named_only_when_it_repeats() -> None:
    row = next(row for row in FAILURES if row.id == "rank-hangs")
    line = f"(EngineCore pid=1) INFO 11-23 10:39:28 [shm_broadcast.py:1] {row.example}"
    assert diagnose([line] * (row.repeats - 1)) is None
    diagnosis = diagnose([line] * row.repeats)
    assert diagnosis is not None
    assert diagnosis.cause == row.id


def test_memory_stays_bounded() -> None:
    parser, diagnoser = LineParser(), Diagnoser()
    for number in range(1, 20_000):
        diagnoser.feed(
            number, parser.parse(f"(Worker pid={number % 300}) ERROR 11-23 10:39:28 [a.py:{number}] new {number}")
        )
    diagnosis = diagnoser.result()
    assert diagnosis is not None
    assert diagnosis.line == 1
    assert sum(len(blocks) for blocks in diagnoser._blocks.values()) <= 2 * BLOCKS_MAX
    assert len(diagnoser._open) <= PROCESSES_MAX


@given(
    st.lists(st.one_of(st.text(), st.sampled_from([as_error(row.example) for row in FAILURES]))),
    st.integers(-20, 300),
)
def test_any_log_can_be_diagnosed(lines: list[str], code: int) -> None:
    found = diagnose(lines, code)
    assert found is None or isinstance(found, Diagnosis)
    if found is not None:
        assert found.title
        assert found.remedy
        assert found.line is None or 1 <= found.line <= len(lines)


def test_stages_are_used() -> None:
    assert {row.stage for row in FAILURES} == set(Stage)


def test_an_engine_in_one_process_is_not_blamed_on_its_dump() -> None:
    lines = [line for line in unknown_crash() if not line.startswith("(Worker")]
    own = [line.replace("Worker failed with error", "quite new") for line in lines]
    diagnosis = diagnose(own)
    assert diagnosis is not None
    assert diagnosis.title.startswith("EngineCore: RuntimeError: quite new")
    assert "fatal error" in diagnosis.text
