"""What no log may do: be blamed while it is healthy, hide a cause, or send commands to the operator's terminal."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.core.diagnosis import Diagnoser, diagnose, quoted
from console.core.failures import FAILURES, FailureLevel, Stage
from console.core.logparse import LineSplitter, parse_line
from console.core.models import Diagnosis, RunInfo, ServerState, ServerStatus, Snapshot
from console.core.wrapping import AnyLogParser
from console.headless.failure import failure_lines
from console.tui.model import RunModel
from console.tui.paint import plain
from console.tui.widgets.failure import Failure

LOGS = Path(__file__).parent.parent / "data" / "logs"


def lines_of(path: Path) -> list[str]:
    splitter = LineSplitter()
    return splitter.feed(path.read_bytes()) + splitter.flush()


HEALTHY = {
    path.name: lines_of(path) for path in sorted(LOGS.glob("*/*.log")) if path.name.startswith(("start", "healthy"))
}
SERVING = lines_of(LOGS / "cpu-0.32.0" / "startup-ready-stop.log")
UP = next(number for number, line in enumerate(SERVING) if "Application startup complete." in line)
STOP = next(number for number, line in enumerate(SERVING) if "[shutdown]" in line)
NOISE = [row.example for row in FAILURES if row.level is FailureLevel.NOISE]
CAUSES = [
    row for row in FAILURES if row.level is FailureLevel.CAUSE and not row.after and row.stage is not Stage.REQUEST
]
WRAPPERS = [row for row in FAILURES if row.level is FailureLevel.WRAPPER and not row.at_info]
NOT_NEW_START = "non-default args:"
"""A line with this begins another attempt, and what came before no longer counts."""


def as_error(message: str) -> str:
    """The message in the words of a worker, if it has no words of its own."""
    own = parse_line(message).level is not None
    return message if own else f"(Worker_TP0 pid=7) ERROR 11-23 10:39:28 [core.py:1510] {message}"


def test_there_are_healthy_logs() -> None:
    assert len(HEALTHY) >= 2


@settings(deadline=None)
@given(st.data())
def test_healthy_logs_never_have_a_diagnosis(data: st.DataObject) -> None:
    """In any order of their processes, with noise anywhere, cut off anywhere."""
    one, other = (data.draw(st.sampled_from(list(HEALTHY.values()))) for _ in range(2))
    picks = data.draw(st.lists(st.booleans(), min_size=1, max_size=80))
    left, right, mixed = iter(one), iter(other), []
    for number in range(len(one) + len(other)):
        line = next(left if picks[number % len(picks)] else right, None)
        if line is not None:
            mixed.append(line)
    for example in data.draw(st.lists(st.sampled_from(NOISE), max_size=4)):
        mixed.insert(data.draw(st.integers(0, len(mixed))), as_error(example))
    cut = data.draw(st.integers(0, len(mixed)))
    assert diagnose(mixed[:cut]) is None
    assert diagnose(mixed[:cut], 0) is None


@settings(deadline=None)
@given(st.sampled_from(CAUSES), st.integers(0, UP - 1), st.lists(st.sampled_from(WRAPPERS), max_size=3))
def test_a_cause_in_a_start_is_found_at_its_line(row, at: int, wrappers) -> None:
    begin = next(number for number, line in enumerate(SERVING) if NOT_NEW_START in line) + 1
    at = max(at, begin)
    before = [as_error(wrapper.example) for wrapper in wrappers]
    lines = [*SERVING[:at], *before, as_error(row.example), *before, *SERVING[at:UP]]
    found = diagnose(lines, 1)
    assert found is not None
    assert (found.cause, found.line) == (row.id, at + len(before) + 1)


@settings(deadline=None)
@given(
    st.sampled_from([row for row in CAUSES if row.stage not in (Stage.ARGUMENTS, Stage.CONFIG, Stage.DOWNLOAD)]),
    st.integers(UP + 1, STOP),
)
def test_a_cause_while_it_serves_is_found_at_its_line(row, at: int) -> None:
    lines = [*SERVING[:at], as_error(row.example), *SERVING[at:STOP]]
    found = diagnose(lines)
    assert found is not None
    assert (found.cause, found.line) == (row.id, at + 1)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_logs_one_by_one(name: str) -> None:
    assert diagnose(HEALTHY[name]) is None
    assert diagnose(HEALTHY[name], 0) is None


HOSTILE = st.sampled_from(
    [
        "\x1b]52;c;aGFja2Vk\x07", "\x1b]0;title\x1b\\", "\x1bP+q544e\x1b\\", "\x1b[2J\x1b[H", "\x1b[31m", "\x1b",
        "\x1b[", "\x9b2J", "\x9d52;c;aGk=\x9c", "\x90q\x9c", "\x85", "\x84", "\x80", "\x7f", "\x00", "\x07", "\r",
        "\x08", "\u202e", "\u202a", "\u2066", "\u2069", "\u200f", "\u200b", "\u2028", "\u2029", "\ufeff", "\ud800",
        "\udfff", "\udc9b", "\U000e0041", "\t", "\\u001b]52;c;aGk=\\u0007", "{title.__class__}", "%s", "[/bold]",
    ]
)  # fmt: skip
PIECES = st.lists(st.one_of(HOSTILE, st.text(max_size=8), st.characters()), max_size=6).map("".join)
TEXTS = [row.example for row in FAILURES] + [row.after for row in FAILURES if row.after] + ["RuntimeError: quite new"]


@st.composite
def hostile_lines(draw: st.DrawFn) -> str:
    """A known or unknown error with hostile text anywhere in it, in one of the log formats."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES) + text[at:]
    kind = draw(st.sampled_from(["bare", "worker", "json", "json-long", "docker", "docker-json", "proc"]))
    if kind == "worker":
        return f"(Worker_TP0 pid=7) ERROR 11-23 10:39:28 [core.py:1510] {text}"
    if kind == "proc":
        return f"({text[:40]} pid=7) ERROR 11-23 10:39:28 [{text[:40]}] {text}"
    if kind == "docker":
        return f"2026-11-23T11:58:03.123456789Z {text}"
    if kind == "docker-json":
        return json.dumps({"log": text + "\n", "stream": "stderr", "time": "2026"})
    if kind.startswith("json"):
        trace = "Traceback (most recent call last):\n  x\n" + "y" * (6000 if "long" in kind else 10) + f"\n{text}"
        fields = {
            "levelname": "ERROR",
            "message": text,
            "process": 7,
            "vllm_process_name": text[:30],
            "exc_info": trace,
        }
        return json.dumps(fields, ensure_ascii=draw(st.booleans()))
    return text


def texts_of(diagnosis: Diagnosis) -> list[str]:
    """Every text in it that comes from the log."""
    values = [value for change in diagnosis.change for value in (change.key, change.before, change.after)]
    return [diagnosis.title, diagnosis.why, diagnosis.remedy, *diagnosis.text.split("\n"), *map(str, values)]


def harmless(text: str) -> bool:
    """Nothing in it that a terminal or a reader's eye would obey."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


def card(diagnosis: Diagnosis, width: int) -> list[str]:
    """The card of the terminal UI, as it would be painted."""
    status = ServerStatus(state=ServerState.FAILED, over=True, diagnosis=diagnosis)
    model = RunModel(_Session())
    model.snapshot = Snapshot(seq=1, time_s=0.0, status=status)
    panel = Failure()
    panel.model = model
    return [plain(line) for line in panel.paint(width, 40)]


class _Session:
    run = RunInfo(id="r", profile_name="p")

    def log(self) -> None:
        """No log: the card shows what the diagnosis holds."""

    def snoozes(self) -> tuple[()]:
        """Nothing is put aside."""
        return ()


def check(diagnosis: Diagnosis | None) -> None:
    if diagnosis is None:
        return
    shown = [*texts_of(diagnosis), *quoted(diagnosis), *failure_lines(diagnosis, "/runs/r/server.log", command="x")]
    for text in shown:
        assert harmless(text), ascii(text)
    for width in (80, 160):
        for text in card(diagnosis, width):
            assert text.isprintable(), ascii(text)


@settings(deadline=None, max_examples=300)
@given(st.lists(hostile_lines(), min_size=1, max_size=4))
def test_nothing_from_a_log_commands_the_terminal(lines: list[str]) -> None:
    check(diagnose(lines, 1))
    # As a file, through the reader of logs from elsewhere.
    splitter, parser, diagnoser = LineSplitter(), AnyLogParser(), Diagnoser()
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    for number, text in enumerate([*splitter.feed(data), *splitter.flush()], start=1):
        diagnoser.feed(number, parser.parse(text))
    check(diagnoser.result(1))


@given(st.binary(max_size=400), st.sampled_from(TEXTS))
def test_any_bytes_are_read(data: bytes, text: str) -> None:
    splitter = LineSplitter()
    lines = splitter.feed(data + text.encode() + data) + splitter.flush()
    check(diagnose(lines, 1))
